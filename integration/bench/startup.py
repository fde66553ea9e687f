"""How much of a processor a command takes that only asks for something, against an interpreter that does nothing.

What a command loads counts more than what it does. Rounds alternate; processor time, unlike the clock on the wall,
hardly knows what else the machine does.
"""

import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence

from integration.bench.start import row
from integration.box import BIN, box

ROUNDS = 21
STATUS = "pit status"
BAR_S = 0.25  # for STATUS
NOTHING = "python3 -c pass"
COMMANDS = (NOTHING, "pit --help", STATUS, "pit show nodes", "pit show me", "paddle get nodes")


def cpu_s(words: Sequence[str], env: Mapping[str, str]) -> float:
    """Return how much processor time a program took, of the kernel's too."""
    process = subprocess.Popen([str(BIN / words[0]), *words[1:]], env=env, stdout=subprocess.DEVNULL)
    _, ended, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(ended)
    assert process.returncode == 0, words
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    took: dict[str, list[float]] = {command: [] for command in COMMANDS}
    with box() as made:
        made.start_server()
        made.start_node()
        for number in range(rounds + 1):
            for command, found in took.items():
                used_s = cpu_s(command.split(), made.env)
                if number:  # the first compiles
                    found.append(used_s)
    print(f"{'':<46} {'median':>9} {'min':>9} {'max':>9}   ({rounds} rounds, of a processor)")
    for command, found in took.items():
        print(row(command, found, "s"))
    print(row("ratio", [a / b for a, b in zip(took[STATUS], took[NOTHING], strict=True)], "x"))
    verdict = "ok" if statistics.median(took[STATUS]) <= BAR_S else "MISSED"
    print(f"{STATUS}, of {BAR_S} s: {verdict}")


if __name__ == "__main__":
    main()
