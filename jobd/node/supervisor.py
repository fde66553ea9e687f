"""Supervisors of sandboxed tasks, from outside: found by what they wrote down; signals for what is below them."""

import signal
from pathlib import Path

from jobd.node import processes, record
from jobd.node.processes import Process

# generations below the supervisor: bwrap itself, the first process of the sandbox, everything of the task
_BWRAP, _TASK = 1, 3
_OUTPUT_WRITERS = ("tee", "sh")


def supervisor_of(directory: Path) -> Process | None:
    """Return a task's supervisor if it lives, or has died and waits for its parent.

    Args:
        directory: the task's.
    """
    found = record.read(directory)
    if found is None or found.supervisor is None:
        return None
    pid, start_ticks = found.supervisor
    process = processes.find(pid)
    return process if process is not None and process.start_ticks == start_ticks else None


def first_inside(supervisor: Process) -> int | None:
    """Return a process of the task, which sees what the task sees; None where none is left."""
    generation = [supervisor.pid]
    for _ in range(_TASK):
        generation = [child for parent in generation for child in processes.children(parent)]
    return next(iter(generation), None)


def send(supervisor: Process, number: int) -> None:
    """Send a signal to all processes of the task."""
    if number != signal.SIGKILL:
        processes.send_to_all_below(supervisor, number, _TASK)
        return
    # everything in a sandbox ends with its bwrap, in whatever state it is
    for process in processes.descendants(supervisor):
        if process.depth == _BWRAP and process.name not in _OUTPUT_WRITERS:
            processes.send(process, number)
