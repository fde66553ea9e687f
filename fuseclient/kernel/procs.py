"""What /proc tells of the processes that use the mount.

The kernel tells a FUSE daemon who opens a file, not who reads, writes or closes it, and not that a waiting
reader was sent a signal. What is missing is read here. Only files of /proc are opened, never a path that they
name: that could lie in our own mount, and would wait for ourselves. Of what a process may keep locked while it
waits for us (its memory map: cmdline, environ, maps) nothing is read either. All of it is quick, but not free:
whoever has many to ask about does it in a thread.
"""

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

PROC = "/proc"

_SIGNALED = 0x400  # PF_SIGNALED of the kernel's sched.h: "killed by a signal"
_SIGKILL_BIT = 1 << 8
_WAIT_FOR_FUSE = "request_wait_answer"  # where a thread sleeps while it waits for a FUSE daemon
_DELETED = " (deleted)"
_READ_BYTES = 65536
_NO_SIGNAL = b"\nSigPnd:\t0000000000000000\nShdPnd:\t0000000000000000\n"
_MASKS = re.compile(r"^SigPnd:\s*(\w+)\nShdPnd:\s*(\w+)\nSigBlk:\s*(\w+)$", re.MULTILINE)
_GROUP = re.compile(r"^Tgid:\s*(\d+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Process:
    """One thread of a process, told apart by its start from a later one with the same number."""

    tid: int
    group: int
    started_ticks: int


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has a file open, and whether for writing."""

    pid: int
    writing: bool


@dataclass(frozen=True, slots=True)
class _Stat:
    parent: int
    flags: int
    started_ticks: int
    exit_code: int
    state: str

    @property
    def dead(self) -> bool:
        """Whether it has closed all that it had open, and only waits for whoever asks how it ended."""
        return self.state in ("Z", "X")

    @property
    def dying(self) -> bool:
        # A thread whose fellow called exit() is "signaled" too; the exit code has the signal, or has none.
        return bool(self.flags & _SIGNALED and self.exit_code & 0x7F)


class Watched:
    """The status of one thread, kept open: asking again is cheap and never mistakes another thread for it.

    Raises:
        OSError: there is no such thread.
    """

    def __init__(self, tid: int, proc: str = PROC) -> None:
        self.tid = tid
        self._fd = os.open(f"{proc}/{tid}/status", os.O_RDONLY | os.O_CLOEXEC)

    def signalled(self) -> bool:
        """Tell whether a signal waits for the thread that it has not blocked.

        Raises:
            ProcessLookupError: the thread is gone.
        """
        status = os.pread(self._fd, _READ_BYTES, 0)
        if not status:
            raise ProcessLookupError(self.tid)
        return _shows_signal(status)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def identify(tid: int, proc: str = PROC) -> Process | None:
    """Return who runs under that number now, None when nobody does."""
    stat, status = _stat(f"{proc}/{tid}"), _read(f"{proc}/{tid}/status")
    group = _GROUP.search(status)
    if stat is None or group is None:
        return None
    return Process(tid, int(group[1]), stat.started_ticks)


def is_signalled(tid: int, proc: str = PROC) -> bool:
    """Tell whether a signal waits for a thread that it has not blocked; False when it is gone."""
    return _shows_signal(_read(f"{proc}/{tid}/status").encode())


def is_dying(process: Process, proc: str = PROC) -> bool:
    """Tell whether the thread or its process is being ended by a signal."""
    for number in {process.tid, process.group}:
        stat = _stat(f"{proc}/{number}")
        if stat is None or (number == process.tid and stat.started_ticks != process.started_ticks):
            continue
        if stat.dying or _masks(_read(f"{proc}/{number}/status"))[0] & _SIGKILL_BIT:
            return True
    return False


def dies_under(process: Process, proc: str = PROC) -> bool:
    """Tell whether a descendant of the process is being ended by a signal and waits for a FUSE daemon meanwhile.

    That is how a child looks that writes into a file which its parent opened for it, at the moment when its
    end closes that file: it does not hold the file any more, and is not gone yet.
    """
    stats = {pid: stat for pid in _processes(proc) if (stat := _stat(f"{proc}/{pid}")) is not None}
    return any(
        process.group in _ancestors(pid, stats) and _may_close(thread, proc)
        for pid, stat in stats.items()
        if stat.dying
        for thread in threads(pid, proc)
    )


def _may_close(tid: int, proc: str) -> bool:
    """Tell whether a thread that is being ended may be waiting for a FUSE daemon; the dead wait for nobody."""
    stat = _stat(f"{proc}/{tid}")
    return stat is not None and not stat.dead and waits_for_fuse(tid, proc) is not False


def holders(wanted: Mapping[int, str], proc: str = PROC) -> dict[int, list[Holder]]:
    """Return who has which of some files of a mount open.

    Args:
        wanted: inode number and path of each file, seen from the mount's root.
    """
    found: dict[int, list[Holder]] = {number: [] for number in wanted}
    names = {path.rpartition("/")[2] for path in wanted.values()}
    for pid in _processes(proc):
        descriptors = f"{proc}/{pid}/fd"
        for descriptor in _names(descriptors):
            link = _readlink(f"{descriptors}/{descriptor}")
            if link.rpartition("/")[2] in names:
                info = _fields(_read(f"{proc}/{pid}/fdinfo/{descriptor}"))
                number = _which(wanted, link, info)
                if number is not None:
                    writing = int(info.get("flags", "0"), 8) & os.O_ACCMODE != os.O_RDONLY
                    found[number].append(Holder(pid, writing))
    return found


def threads(pid: int, proc: str = PROC) -> list[int]:
    """Return the threads of a process."""
    return [int(name) for name in _names(f"{proc}/{pid}/task")]


def waits_for_fuse(tid: int, proc: str = PROC) -> bool | None:
    """Tell whether the thread waits for the answer of a FUSE daemon; None where the kernel does not say."""
    where = _read(f"{proc}/{tid}/wchan").strip()
    if where in ("", "0"):
        return None
    return where == _WAIT_FOR_FUSE


def _which(wanted: Mapping[int, str], link: str, info: Mapping[str, str]) -> int | None:
    if "ino" in info:  # since Linux 5.14
        number = int(info["ino"])
        return number if number in wanted else None
    return next((number for number, path in wanted.items() if link.endswith("/" + path)), None)


def _ancestors(pid: int, stats: Mapping[int, _Stat]) -> Iterator[int]:
    seen: set[int] = set()
    while pid in stats and pid not in seen:
        seen.add(pid)
        pid = stats[pid].parent
        yield pid


def _shows_signal(status: bytes) -> bool:
    if _NO_SIGNAL in status:  # of nearly all: thousands may be asked about
        return False
    pending, blocked = _masks(status.decode("ascii", "replace"))
    return bool(pending & ~blocked)


def _masks(status: str) -> tuple[int, int]:
    """Return the signals that wait for a thread, and those that it has blocked."""
    found = _MASKS.search(status)
    if found is None:
        return 0, 0
    own, shared, blocked = (int(mask, 16) for mask in found.groups())
    return own | shared, blocked


def _fields(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


def _stat(process: str) -> _Stat | None:
    text = _read(f"{process}/stat")
    if not text:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold anything
    return _Stat(int(fields[1]), int(fields[6]), int(fields[19]), int(fields[49]), fields[0])


def _processes(proc: str) -> list[int]:
    return [int(name) for name in _names(proc) if name.isdecimal()]


def _names(directory: str) -> list[str]:
    with contextlib.suppress(OSError):
        return os.listdir(directory)
    return []


def _read(path: str) -> str:
    """Return what a file of /proc says, nothing when it is gone or hidden."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _READ_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def _readlink(path: str) -> str:
    try:
        return os.readlink(path).removesuffix(_DELETED)
    except OSError:
        return ""
