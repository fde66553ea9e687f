"""What is written down of a task in a sandbox: one file of lines, each added by whoever knows, and a lock on it.

    boot <id> <etc>     by the daemon, before anything runs: this start of the machine, the directory used for /etc
    pid <pid> <ticks>   by the supervisor: its id and start time
    started             by the sandbox's shell: the sandbox stands
    exit <code>         by the supervisor, last of all

The lock is held while the supervisor or any of the task lives. A free lock without `exit` is a supervisor that was
killed; its sandbox dies with it. A line without its end is none.
"""

import fcntl
import os
from dataclasses import dataclass
from pathlib import Path

NAME = "record"
_MOST_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Record:
    """What a record says.

    Attributes:
        supervisor: process id and start time; None before it has said them.
        code: None while the task is not over.
    """

    boot: str = ""
    etc: str = ""
    supervisor: tuple[int, int] | None = None
    has_started: bool = False
    code: int | None = None


def parse(text: str) -> Record:
    """Return what the text of a record says."""
    found = {line.split(" ")[0]: line.split(" ")[1:] for line in text.split("\n")[:-1]}
    boot, etc = found.get("boot", ("", ""))
    pid, exit_code = found.get("pid"), found.get("exit")
    return Record(
        boot,
        etc,
        supervisor=None if pid is None else (int(pid[0]), int(pid[1])),
        has_started="started" in found,
        code=None if exit_code is None else int(exit_code[0]),
    )


def read(directory: Path) -> Record | None:
    """Return a task's record; None where there is none."""
    try:
        descriptor = os.open(directory / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return parse(os.read(descriptor, _MOST_BYTES).decode("ascii", "replace"))
    finally:
        os.close(descriptor)


def take(directory: Path) -> int | None:
    """Return a task's record, locked for the supervisor that shall have it; None when one lives."""
    descriptor = os.open(directory / NAME, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def begin(descriptor: int, boot: str, etc: str) -> None:
    """Write the first line; what a daemon wrote that was killed before anything ran goes."""
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"boot {boot} {etc}\n".encode())


def is_over(directory: Path) -> bool:
    """Tell whether neither supervisor nor task lives, or only a supervisor that has nothing left to do."""
    try:
        descriptor = os.open(directory / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        if parse(os.read(descriptor, _MOST_BYTES).decode("ascii", "replace")).code is not None:
            return True
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True
