"""What a row costs: the CPU of the processes behind a file system, and the kernel's requests to its mount.

CPU is read from /proc, before and after. Requests, and what the mount sends, are recorded by the kernel (tracefs): that
costs less than a microsecond each. On a kernel that cannot do that they are left out.
"""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

TRACING = Path("/sys/kernel/tracing")
INSTANCE = TRACING / f"instances/pfs-bench-{os.getpid()}"
REQUESTS = "fuse/fuse_request_send"
SENDS = ("syscalls/sys_enter_sendto", "syscalls/sys_enter_write")  # a socket may be written to as a file
BUFFER_KIB = 16384  # for each processor; a record takes about 50 bytes
_REQUEST = re.compile(r" fuse_request_send: .* \(FUSE_(\w+)\) ")
_SEND = re.compile(r" sys_(?:sendto|write)\(")


@dataclass
class Cost:
    """What one row cost."""

    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)  # by process
    requests: Counter[str] = field(default_factory=Counter)  # by what they ask for
    sends: int = 0  # what the mount writes to its sockets: each is about one message


@contextmanager
def counting() -> Iterator[bool]:
    """Have the kernel ready for counting; tells whether it can."""
    mounted = not (TRACING / "events").exists()
    if mounted:
        subprocess.run(["mount", "-t", "tracefs", "tracefs", str(TRACING)], check=False, capture_output=True)
    able = (TRACING / "events" / REQUESTS).exists()
    if able:
        INSTANCE.mkdir(exist_ok=True)
        (INSTANCE / "buffer_size_kb").write_text(str(BUFFER_KIB))
    try:
        yield able
    finally:
        if able:
            INSTANCE.rmdir()
        if mounted:
            subprocess.run(["umount", str(TRACING)], check=False, capture_output=True)


@contextmanager
def measured(processes: Mapping[str, int], device: int | None, *, counted: bool) -> Iterator[Cost]:
    """Find out what the block costs.

    Args:
        processes: those whose CPU counts, with all their children; of `mount`, also what it sends.
        device: the minor number of the mount's device, None where there is none.
        counted: the kernel is ready for counting.
    """
    cost = Cost()
    before = {name: _cpu_s(pid) for name, pid in processes.items()}
    if counted and device is not None:
        (INSTANCE / "trace").write_text("")
        with ExitStack() as recorded:
            recorded.enter_context(_recorded(REQUESTS, f"connection == {device}"))
            for event in SENDS:
                recorded.enter_context(_recorded(event, f"common_pid == {processes['mount']}"))
            yield cost
        trace = (INSTANCE / "trace").read_text()
        cost.requests.update(name.lower() for name in _REQUEST.findall(trace))
        cost.sends = len(_SEND.findall(trace))
    else:
        yield cost
    cost.cpu_s = {name: _cpu_s(pid) - before[name] for name, pid in processes.items()}


def device_of(point: Path) -> int | None:
    """Return the minor number of the device that is mounted there, without touching the mount."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        words = line.split(" ")
        if words[4] == str(point):
            return int(words[2].partition(":")[2])
    return None


@contextmanager
def _recorded(event: str, condition: str) -> Iterator[None]:
    directory = INSTANCE / "events" / event
    (directory / "filter").write_text(condition)
    (directory / "enable").write_text("1")
    try:
        yield
    finally:
        (directory / "enable").write_text("0")


def _cpu_s(pid: int) -> float:
    """Return what a process and all its children have used so far."""
    used_ns = 0
    for process in [pid, *_descendants(pid)]:
        for task in _listed(Path(f"/proc/{process}/task")):
            try:
                used_ns += int((task / "schedstat").read_text().split()[0])
            except OSError:  # it ended meanwhile
                continue
    return used_ns / 1e9


def _descendants(pid: int) -> list[int]:
    parents: dict[int, list[int]] = {}
    for process in _listed(Path("/proc")):
        if process.name.isdigit():
            try:
                parent = (process / "stat").read_text().rpartition(")")[2].split()[1]
            except OSError:
                continue
            parents.setdefault(int(parent), []).append(int(process.name))
    found = list(parents.get(pid, ()))
    for child in found:
        found += parents.get(child, ())
    return found


def _listed(directory: Path) -> list[Path]:
    try:
        return [directory / name for name in os.listdir(directory)]
    except OSError:
        return []
