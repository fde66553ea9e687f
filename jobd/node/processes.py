"""Processes of this machine: which are a task's, and a signal that can only reach the one that was meant.

A process is known by its id *and* its start time, since ids are used again. Signals go through a pidfd whose
identity was checked after it was opened: the kernel never hands it to a successor.
"""

import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

LOOKS_MAX = 16


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc tells it.

    Attributes:
        start_ticks: clock ticks between the machine's start and the process's.
        is_dead: it has ended, and whoever started it does not know yet.
        depth: generations below the process that was asked for.
        group, session: each by the process that began it.
    """

    pid: int
    start_ticks: int
    parent: int
    name: str
    is_dead: bool = False
    depth: int = 0
    group: int = 0
    session: int = 0


def find(pid: int) -> Process | None:
    """Return the process `pid`, or None where there is none. One that ended and waits for its parent still is."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # the name may hold blanks and brackets itself
    front, _, rest = text.rpartition(")")
    fields = rest.split()
    return Process(
        pid,
        start_ticks=int(fields[19]),
        parent=int(fields[1]),
        name=front.partition("(")[2],
        is_dead=fields[0] in ("Z", "X"),
        group=int(fields[2]),
        session=int(fields[3]),
    )


def children(pid: int) -> Sequence[int]:
    """Return the ids of the children of a process that has one thread; costs much less than `descendants`."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        # it is gone, or the kernel was built without this
        process = find(pid)
        return [] if process is None else [each.pid for each in descendants(process) if each.depth == 1]


def descendants(ancestor: Process) -> Sequence[Process]:
    """Return all processes below `ancestor` that live now, parents before children."""
    return _below(ancestor, _all())


def of_session(leader: int) -> Sequence[Process]:
    """Return all processes that live of the session that a process began, and below it; not what left both."""
    every = _all()
    below = {process.pid for first in every if first.pid == leader for process in _below(first, every)}
    return [each for each in every if (leader in (each.pid, each.session) or each.pid in below) and not each.is_dead]


def _all() -> Sequence[Process]:
    numbers = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [process for process in map(find, numbers) if process is not None]


def _below(ancestor: Process, every: Sequence[Process]) -> Sequence[Process]:
    children: dict[int, list[Process]] = {}
    for process in every:
        children.setdefault(process.parent, []).append(process)
    found: list[Process] = []
    generation, depth = [ancestor], 0
    while generation:
        depth += 1
        generation = [child for parent in generation for child in children.pop(parent.pid, [])]
        generation = [replace(process, depth=depth) for process in generation]
        found += generation
    return found


def open_pidfd(process: Process) -> int | None:
    """Return a descriptor that becomes readable when the process ends; None when it is gone already."""
    try:
        descriptor = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    now = find(process.pid)
    if now is None or now.start_ticks != process.start_ticks:
        os.close(descriptor)
        return None
    return descriptor


def send(process: Process, number: int) -> bool:
    """Send a signal; False when the process was gone.

    Raises:
        PermissionError: the process is somebody else's.
    """
    descriptor = open_pidfd(process)
    if descriptor is None:
        return False
    try:
        signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return False
    finally:
        os.close(descriptor)
    return True


def send_to_all_below(ancestor: Process, number: int, least_depth: int) -> int:
    """Send a signal once to every process at least `least_depth` generations below `ancestor`.

    Looks again until no new one is found, so that a child forked meanwhile gets it too; a fork bomb outruns that.

    Returns:
        how many were reached.

    Raises:
        PermissionError: one of them is somebody else's.
    """
    reached: set[tuple[int, int]] = set()
    for _ in range(LOOKS_MAX):
        fresh = [
            process
            for process in descendants(ancestor)
            if process.depth >= least_depth and (process.pid, process.start_ticks) not in reached
        ]
        if not fresh:
            break
        for process in fresh:
            reached.add((process.pid, process.start_ticks))
            send(process, number)
    return len(reached)


def end_session(leader: int, container: str = "") -> None:
    """Kill all that `of_session` finds, until nothing new is found.

    Args:
        leader: a process that nobody else can be by now, or else
        container: where they all are.

    Raises:
        PermissionError: one of them is somebody else's.
    """
    for _ in range(LOOKS_MAX):
        found = [each for each in of_session(leader) if belongs_to(each.pid, container)]
        if not found:
            break
        for process in found:
            send(process, signal.SIGKILL)


def send_to_group(leader: int, number: int, container: str) -> None:
    """Send a signal to the processes of a group that are in a container.

    Raises:
        PermissionError: one of them is somebody else's.
    """
    for process in _all():
        if process.group == leader and belongs_to(process.pid, container):
            send(process, number)


def send_to_container(first: int, container: str, number: int) -> bool:
    """Send a signal to all processes of a container but its first; False when that is its engine's to do.

    The engine knows the first process only, which passes a signal on to its child and to nobody below.
    """
    init = find(first)
    if init is None or not belongs_to(init.pid, container):
        return False
    try:
        return send_to_all_below(init, number, 1) > 0
    except PermissionError:
        return False


def belongs_to(pid: int, container: str) -> bool:
    """Tell whether a process of *this* machine is the container's: an engine may be elsewhere."""
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False
