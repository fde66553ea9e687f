"""Mounts of this machine, by system calls: a directory is bound by its descriptor, which no link can lead astray.

Python has none of mount(2), umount2(2), open_tree(2), move_mount(2) and mount_setattr(2).
"""

import contextlib
import ctypes
import errno
import os
from pathlib import Path

_MNT_DETACH = 2
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_MOUNT_SETATTR = 428, 429, 442
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_AT_FDCWD, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x1000, 0x8000
_RDONLY, _NOSUID, _NODEV = 1, 2, 4
_libc = ctypes.CDLL(None, use_errno=True)


class _MountAttr(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("attr_set", "attr_clr", "propagation", "userns_fd"))


def _check(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def clone_of(source: int, *, recursive: bool = False) -> int:
    """Return a copy of the mount at a directory that is mounted nowhere yet, as a descriptor.

    Args:
        source: descriptor of the directory.
        recursive: with what is mounted below it.
    """
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    return _check(_libc.syscall(_SYS_OPEN_TREE, source, b"", ctypes.c_uint(flags)))


def restrict(clone: int, *, read_only: bool, recursive: bool = False) -> None:
    """Let nobody gain rights by what is mounted there, and nobody write where that is asked for."""
    told = _MountAttr(attr_set=_NOSUID | _NODEV | (_RDONLY if read_only else 0))
    size = ctypes.c_size_t(ctypes.sizeof(told))
    flags = ctypes.c_uint(_AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0))
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, clone, b"", flags, ctypes.byref(told), size))


def attach(clone: int, target: str) -> None:
    """Mount a copy at the directory `target`."""
    flags = ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)
    _check(_libc.syscall(_SYS_MOVE_MOUNT, clone, b"", _AT_FDCWD, os.fsencode(target), flags))


def detach(target: str) -> None:
    """Take away what is mounted at `target`; nothing there is no error. Who still uses it keeps it."""
    if _libc.umount2(os.fsencode(target), _MNT_DETACH) != 0:
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOENT):
            raise OSError(code, os.strerror(code))


def mounted_at(path: Path) -> bool:
    """Tell whether something is mounted at a path, without touching it: who serves it may be dead."""
    wanted = os.fsencode(str(path))
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", "rb") as file:
        return any(line.split(b" ")[4] == wanted for line in file)
    return False


def mounts_below(path: Path) -> list[str]:
    """Return where something is mounted at or below a path, the innermost first."""
    top = str(path)
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        points = [line.split(" ")[4] for line in file]
    return [point for point in reversed(points) if point == top or point.startswith(f"{top}/")]
