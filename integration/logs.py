"""How logs keep up with what processes write: the measurements, for tests and for `python -m integration.logs`.

That is the full size: 10,000 lines a second for a minute, and a line of a gigabyte; byte for byte, with every daemon
in little memory. Two numbers after it make it smaller: see `main`.
"""

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from integration.box import Box, box
from integration.memory import MIB, Memory

MIB_MAX = 256  # what a server and a node may hold
LINES_PER_S = 10_000
TIMEOUT_S = 300.0

# for any awk: every line is written by itself, every seventh ends as progress bars do; a little faster than it must be
LINES = r"""
BEGIN {
    while (length(text) < 200) text = text "0123456789abcdef\377"
    for (n = 1; n <= lines; n++) {
        printf "%d %s%s", n, substr(text, 1, (n * 7919) % 120), n % 7 ? "\n" : "\r"
        fflush()
        if (n % 500 == 0) system("sleep 0.04")
    }
}
"""
LINE = "dd if=/dev/zero bs=1048576 count={mib} 2> /dev/null | tr '\\0' x"

_LINE = re.compile(rb"[^\r\n]*[\r\n]|[^\r\n]+")
_PREFIX = re.compile(rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \[(?:worker (\d+)|daemon|prepare)\] (?!Worker \d)")
_PREFIX_BYTES_MAX = 60
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def lines_of(count: int) -> Iterator[bytes]:
    """Yield what LINES prints."""
    text = b"0123456789abcdef\xff" * 12
    for n in range(1, count + 1):
        yield b"%d %s%s" % (n, text[: (n * 7919) % 120], b"\n" if n % 7 else b"\r")


def digest(parts: Iterable[bytes]) -> str:
    """Return what tells texts apart."""
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    return found.hexdigest()


def parts_of(path: Path) -> Iterator[bytes]:
    """Yield a file, a little at a time."""
    with path.open("rb") as file:
        while part := file.read(MIB):
            yield part


def without_prefixes(path: Path, worker: int) -> Iterator[bytes]:
    """Yield what a process wrote, out of the log of its job."""
    rest, inside, mine = b"", False, False
    for part in parts_of(path):
        text, rest = rest + part, b""
        for found in _LINE.finditer(text):
            line = found[0]
            is_ended = line.endswith((b"\r", b"\n"))
            if not inside and not is_ended and len(line) < _PREFIX_BYTES_MAX:
                rest = line
                break
            if not inside:
                prefix = _PREFIX.match(line)
                mine = prefix is not None and prefix[1] == b"%d" % worker
                line = line[prefix.end() :] if prefix is not None else b""
            if mine:
                yield line
            inside = not is_ended


def cpu_s(pid: int) -> float:
    """Return how long a process has run on a processor."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def submit(made: Box, name: str, command: str, *more: str) -> Path:
    """Submit a job with that command, and `more` lines in its spec; return the directory of its log."""
    (made.data / "home/demo/lines.awk").write_text(LINES)
    lines = [f"command: {command}", *more]
    (made.root / "job.yaml").write_text("".join(f"{line}\n" for line in lines))
    done = made.sh(f"cp {made.root}/job.yaml jobs/{name}.yaml")
    assert done.returncode == 0, done.stderr
    return made.data / "jobs" / os.readlink(made.dc / "jobs" / name) / "logs"


def ended(made: Box, name: str) -> str:
    """Wait for the end of a job; return its exit code."""
    return made.sh(f"cat jobs/{name}/wait", timeout_s=TIMEOUT_S).stdout.strip()


def printing(lines: int | str) -> str:
    """Return a command that prints that many lines, or as many as a shell makes of it, 10,000 and more in a second."""
    return f"LC_ALL=C awk -v lines={lines} -f $USER_DIR/lines.awk"


def is_whole(logs: Path, wrote: Iterable[bytes], *, worker: int = 0, end: bytes = b"") -> bool:
    """Tell whether a process's file and the job's log hold what it wrote.

    Args:
        end: what ends its last line in the job's log, where it did not.
    """
    expected = hashlib.sha256()
    for part in wrote:
        expected.update(part)
    is_kept = digest(parts_of(logs / f"worker-{worker}.log")) == expected.hexdigest()
    expected.update(end)
    return is_kept and digest(without_prefixes(logs / "job.log", worker)) == expected.hexdigest()


def ones(mib: int) -> Iterator[bytes]:
    """Yield what LINE prints."""
    return (b"x" * MIB for _ in range(mib))


def measure(made: Box, name: str, command: str, wrote: Iterable[bytes], *, amount: float, unit: str) -> bool:
    """Run a job and print how that went; tell whether all came and little was held."""
    pids = {who: made.processes[who].pid for who in ("server", "n0")}
    before_s = {who: cpu_s(pid) for who, pid in pids.items()}
    began_s = time.monotonic()
    logs = submit(made, name, command)
    code = ended(made, name)
    took_s = time.monotonic() - began_s
    whole = is_whole(logs, wrote, end=b"\n" if unit == "MiB" else b"")
    print(f"{name}: {amount:.0f} {unit} in {took_s:.1f} s, {amount / took_s:.0f} a second; exit code {code}")
    print(f"  {'byte for byte' if whole else 'NOT WHAT WAS WRITTEN'}")
    held = []
    for who, pid in pids.items():
        memory, busy_s = Memory.of(pid), cpu_s(pid) - before_s[who]
        held.append(memory.most < MIB_MAX)
        too_much = "" if held[-1] else f", and may hold {MIB_MAX}"
        print(f"  {who}: {memory}{too_much}; {busy_s:.1f} s of a processor ({100 * busy_s / took_s:.0f} %)", flush=True)
    return whole and code == "0" and all(held)


def main(seconds: int = 60, mib: int = 1024) -> None:
    """Measure, and print; fail where something is missing or too much was held.

    Args:
        seconds: for which lines are printed.
        mib: of one line.
    """
    lines = LINES_PER_S * seconds
    with box() as made:
        made.start_server()
        made.start_node()
        made.mount()
        well = [
            measure(made, "lines", printing(lines), lines_of(lines), amount=lines, unit="lines"),
            measure(made, "line", LINE.format(mib=mib), ones(mib), amount=mib, unit="MiB"),
        ]
    if not all(well):
        sys.exit("logs do not keep up; see above")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
