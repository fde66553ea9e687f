"""Whether a task that was started sees what was planned: its volumes as the kernel tells them, against what was judged.

What is mounted into a task is named to an engine, or to bubblewrap, by a path, and somebody may have led that elsewhere
in between. So each source is opened before the start, and after it each place is opened as the task sees it, below the
root of one of its processes: it has to be the same file (device and inode), and its mount has to keep what the source's
keeps (`ro`, `nosuid`, `nodev`). That holds for an engine with mounts of its own too, as long as its processes are of
this machine: what it finds at a path may be another directory than the one that was judged, and is told then. Of an
engine elsewhere nothing can be compared, nor by a daemon that may not look into the task's processes.
"""

import ctypes
import errno
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobd.node import processes
from jobd.node.processes import Process
from jobd.node.runtime import Volume

NO_RIGHTS = frozenset(("nosuid", "nodev"))

_KEPT = NO_RIGHTS | {"ro"}
_SYS_OPENAT2 = 437
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10
# a process that is gone, not a place that cannot be looked at
_GONE = (errno.ENOENT, errno.ESRCH, errno.EACCES)
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("flags", "mode", "resolve"))


@dataclass(frozen=True, slots=True)
class Planned:
    """What a task has to see at a place.

    Attributes:
        target: the place, as the task calls it.
        file: device and inode.
        options: what its mount keeps, at the least.
    """

    target: str
    file: tuple[int, int]
    options: frozenset[str]


def plan(volumes: Iterable[Volume], judged: Mapping[str, int], least: frozenset[str]) -> tuple[Planned, ...]:
    """Return what a task has to see, looked at before it is started.

    Args:
        volumes: what a runtime is told; a source is a path of this process.
        judged: descriptors of what was judged, by target; the others are what their paths lead to now.
        least: what every mount keeps besides what that of its source does, and what it is told.

    Raises:
        OSError: a source is not there.
    """
    options = _options_by_mount("/proc/self/mountinfo")
    return tuple(_planned(volume, judged.get(volume.target), options, least) for volume in volumes)


def _planned(
    volume: Volume, judged: int | None, options: Mapping[int, frozenset[str]], least: frozenset[str]
) -> Planned:
    source = os.open(volume.source, os.O_PATH | os.O_CLOEXEC)
    try:
        told = {"ro"} if volume.read_only else set()
        kept = options.get(_mount_of(source), frozenset())
        return Planned(volume.target, _file(source if judged is None else judged), kept | least | told)
    finally:
        os.close(source)


def difference(pid: int, planned: Sequence[Planned]) -> str:
    """Say what a task sees otherwise than planned; "" where it does not, or is over.

    Args:
        pid: a process of the task.

    Raises:
        PermissionError: this daemon may not look into it.
        OSError: something cannot be looked at now.
    """
    process = processes.find(pid)
    if process is None or not planned:
        return ""
    try:
        root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in _GONE and _is_gone(process):
            return ""
        raise
    try:
        options = _options_by_mount(f"/proc/{pid}/mountinfo")
        found = next(filter(None, (_differs(root, each, options) for each in planned)), "")
    except OSError:
        if _is_gone(process):
            return ""
        raise
    finally:
        os.close(root)
    return "" if _is_gone(process) or _has_lost_its_root(pid) else found


def _has_lost_its_root(pid: int) -> bool:
    """Tell whether a process is ending: it lets go of its root, then of its mounts, and only then it is dead."""
    try:
        os.readlink(f"/proc/{pid}/root")
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ESRCH)  # a task that lives cannot bring these about
    return False


def _differs(root: int, planned: Planned, options: Mapping[int, frozenset[str]]) -> str:
    try:
        place = _open_below(root, planned.target)
    except OSError as error:
        if error.errno not in _NO_PLACE:
            raise
        return f"nothing is mounted at {planned.target}"
    try:
        if _file(place) != planned.file:
            return f"something else is mounted at {planned.target} than was looked at before the start"
        missing = planned.options - options.get(_mount_of(place), frozenset())
    finally:
        os.close(place)
    return f"what is mounted at {planned.target} is not {', '.join(sorted(missing))}" if missing else ""


def _is_gone(process: Process) -> bool:
    now = processes.find(process.pid)
    return now is None or now.is_dead or now.start_ticks != process.start_ticks


def _file(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino


def _mount_of(descriptor: int) -> int:
    """Return the number of the mount that a descriptor is in; the kernel has one for each mount of the machine."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("mnt_id:"))


def _options_by_mount(path: str) -> dict[int, frozenset[str]]:
    with open(path, "rb") as file:
        fields = (line.split(b" ", 6) for line in file)
        return {int(each[0]): _KEPT & set(each[5].decode("ascii", "replace").split(",")) for each in fields}


def _open_below(root: int, target: str) -> int:
    """Open a place as who has that root sees it; what links there lead to stays below it."""
    how = _OpenHow(os.O_PATH | os.O_CLOEXEC, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    descriptor: int = _libc.syscall(_SYS_OPENAT2, root, os.fsencode(target), ctypes.byref(how), size)
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), target)
    return descriptor
