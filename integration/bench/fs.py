"""File systems side by side: the same work on a plain directory, on sshfs and on the mount, and how they compare.

Each row is done by a process of its own on one target after the other, so that neighbours in the table are neighbours
in time, and each round begins with another target: the machine's speed drifts by more than what is to be seen. A warm
row follows its cold one at once. A row that takes too long ends the run; nothing that was started outlives it.
"""

import argparse
import datetime
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from fuseclient.mountpoints import mounted_type
from integration.bench import fscost, fstable
from integration.bench.fscost import Cost
from integration.bench.fsrows import ROWS, Row, Start
from integration.bench.fstargets import ONLY, TARGETS, Target

ROUNDS = 5
ROW_S = 600.0
REAP_S = 60.0
WORKER = [sys.executable, "-m", "integration.bench.fsrows"]
ROOT = Path(__file__).parent.parent.parent


class Workers:
    """Does rows, each in a process of its own."""

    def __init__(self, big_mib: int, tree_files: int) -> None:
        self._sizes = ["--big", str(big_mib), "--tree", str(tree_files)]
        self._running: list[subprocess.Popen[str]] = []

    def work(self, row: Row, directory: Path) -> tuple[float, float]:
        """Do a row in a directory; return its figure, and the seconds that it took."""
        command = [*WORKER, str(directory), *self._sizes, "--row", row.name]
        worker = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, process_group=0
        )
        self._running.append(worker)
        try:
            said, _ = worker.communicate(timeout=ROW_S)
        except subprocess.TimeoutExpired:
            raise SystemExit(f"{row.title}: not done after {ROW_S:.0f} s in {directory}") from None
        self._running.remove(worker)
        if worker.returncode != 0:
            raise SystemExit(f"{row.title}: failed in {directory}, see above")
        done = json.loads(said)[row.name]
        return done["figure"], done["seconds"]

    def kill(self) -> None:
        """End who still works. One that waits for a mount goes when the mount goes."""
        for worker in self._running:
            worker.kill()

    def reap(self) -> None:
        """Wait for who was killed."""
        for worker in self._running:
            worker.communicate(timeout=REAP_S)


@dataclass
class Measured:
    """What was found on one target: for each row the figures of all rounds, and what the last one cost."""

    values: dict[str, list[float]] = field(default_factory=lambda: {row.name: [] for row in ROWS})
    costs: dict[str, Cost] = field(default_factory=dict)


def chains() -> list[list[Row]]:
    """Return the rows, each together with those that have to follow it at once."""
    found: list[list[Row]] = []
    for row in ROWS:
        if row.start is Start.WARM:
            found[-1].append(row)
        else:
            found.append([row])
    return found


def measure(row: Row, target: Target, workers: Workers, found: Measured, *, counted: bool) -> None:
    """Do one row on one target."""
    if row.start is Start.COLD:
        target.cold()
    elif row.start is Start.SETTLED:
        os.sync()
    device = None if target.mountpoint is None else fscost.device_of(target.mountpoint)
    with fscost.measured(target.processes(), device, counted=counted) as cost:
        figure, cost.seconds = workers.work(row, target.directory)
    found.values[row.name].append(figure)
    found.costs[row.name] = cost


def run(names: Sequence[str], rounds: int, workers: Workers, root: Path, *, counted: bool) -> dict[str, Measured]:
    """Set the targets up below `root`, measure them, and take them away again."""
    found = {name: Measured() for name in names}
    with ExitStack() as stack:
        stack.callback(workers.reap)
        targets: dict[str, Target] = {}
        for place, name in enumerate(names):
            (root / str(place)).mkdir()
            targets[name] = stack.enter_context(TARGETS[name](root / str(place)))
        stack.callback(workers.kill)
        for number in range(rounds):
            order = [*names[number % len(names) :], *names[: number % len(names)]]
            for chain in chains():
                print(f"round {number + 1} of {rounds}: {chain[0].title}", file=sys.stderr)
                for name in order:
                    for row in (row for row in chain if row.name in ONLY.get(name, {row.name})):
                        measure(row, targets[name], workers, found[name], counted=counted)
    return found


def describe(directory: Path) -> dict[str, str]:
    """Return what has to be known of the machine to make something of the numbers."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    place = directory
    while (disk := mounted_type(str(place))) is None and place != place.parent:
        place = place.parent
    return {
        "date": datetime.date.today().isoformat(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory_bytes / 2**30:.0f} GiB",
        "kernel": platform.release(),
        "disk": str(disk),
        "python": platform.python_version(),
        "load before": f"{os.getloadavg()[0]:.1f}",
    }


def cost_table(found: Mapping[str, Measured]) -> str:
    """Return what each row cost in the last round, as Markdown."""
    lines = [["row", "target", "ms", "CPU mount ms", "CPU server ms", "requests", "sends", "requests by kind"]]
    for row in ROWS:
        for name, measured in found.items():
            cost = measured.costs.get(row.name)
            if cost is not None and cost.cpu_s:
                kinds = ", ".join(f"{kind} {count}" for kind, count in cost.requests.most_common(6))
                cpu = [f"{cost.cpu_s[process] * 1000:.0f}" for process in ("mount", "server")]
                spent = [f"{cost.seconds * 1000:.0f}", *cpu]
                lines.append([row.title, name, *spent, str(cost.requests.total()), str(cost.sends), kinds])
    return fstable.markdown(lines, left=2)


def stop(number: int, frame: FrameType | None) -> None:
    """End in an orderly way, which no second signal interrupts."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise SystemExit(128 + number)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="script/bench fs", description="Compare file systems.")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N", help="default: %(default)s")
    parser.add_argument(
        "--big", type=int, default=512, metavar="MIB", help="size of the big file; default: %(default)s"
    )
    parser.add_argument(
        "--tree", type=int, default=1000, metavar="N", help="how many small files; default: %(default)s"
    )
    parser.add_argument("--targets", default=",".join(TARGETS), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--dir", default="/var/tmp", help="on the disk to measure on; default: %(default)s")
    parser.add_argument("--profile", action="store_true", help="also tell what each row costs: CPU, requests")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures of all rounds there")
    options = parser.parse_args()
    options.targets = options.targets.split(",")
    if unknown := set(options.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    return options


def main() -> None:
    """Measure and print."""
    options = arguments()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    workers = Workers(options.big, options.tree)
    with ExitStack() as stack:
        directory = tempfile.TemporaryDirectory(prefix="pfs-bench-", dir=options.dir, ignore_cleanup_errors=True)
        root = Path(stack.enter_context(directory)).resolve()
        machine = describe(root)
        counted = options.profile and stack.enter_context(fscost.counting())
        found = run(options.targets, options.rounds, workers, root, counted=counted)
    values = {name: measured.values for name, measured in found.items()}
    machine |= {"rounds": str(options.rounds), "big": f"{options.big} MiB", "tree": f"{options.tree} files"}
    print(", ".join(f"{name} {text}" for name, text in machine.items()) + "\n")
    print("\n\n".join(fstable.tables(values)))
    print("\n" + "\n".join(["Missed:", *fstable.missed(values)] if fstable.missed(values) else ["No bar is missed."]))
    if options.profile:
        print("\n" + cost_table(found))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "values": values}, indent=1) + "\n")


if __name__ == "__main__":
    main()
