"""What happened on nodes, one thing a line, and which of them is a black hole then:

SECONDS NODE failed USER NAME [going=SECONDS+SECONDS]    a process failed fast; others there run since then
SECONDS NODE well                                        a process did well there
SECONDS NODE resumed                                     somebody has looked after it
"""

from jobd.engine.blackholes import Rows, Tried
from tests.golden import Handler, Step


def start() -> Handler:
    def handle(step: Step) -> str:
        rows, found = Rows(), []
        for line in step.text.splitlines():
            time_s, node, word, *rest = line.split()
            match word, rest:
                case "failed", [user, name, *going]:
                    since = [int(float(s) * 1e9) for each in going for s in each.removeprefix("going=").split("+")]
                    if rows.failed(node, Tried(user, name), int(float(time_s) * 1e9), since):
                        found.append(f"{time_s} {node}")
                case "well", []:
                    rows.did_well(node)
                case "resumed", []:
                    rows.forget(node)
                case _:
                    raise AssertionError(line)
        return "\n".join(found) or "none"

    return handle
