"""`ctl`: the input is what is written to the `ctl` file of a node; shows the commands, or why none is done."""

from jobd.nodectl import parse_ctl
from tests.golden import Handler, Step


def start() -> Handler:
    def handle(step: Step) -> str:
        assert step.words == ("ctl",)
        return "\n".join(str(command) for command in parse_ctl(step.text.encode()))

    return handle
