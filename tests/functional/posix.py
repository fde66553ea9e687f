"""The file system calls that the suite makes, and how a directory of this machine answers them.

Paths are relative to a directory of the test's own. What is refused raises `OSError` with its errno.
"""

import ctypes
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

NO_REPLACE, EXCHANGE = 1, 2  # renameat2(2)
AT_FDCWD = -100
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Stat:
    """What stat(2) tells; times are nanoseconds, blocks 512 bytes."""

    mode: int
    ino: int
    nlink: int
    uid: int
    gid: int
    size: int
    blocks: int
    atime_ns: int
    mtime_ns: int
    ctime_ns: int
    rdev: int


class Posix(Protocol):
    """A file system as programs call it."""

    def open(self, path: str, flags: int, mode: int = 0o666) -> int: ...
    def close(self, fd: int) -> None: ...
    def pread(self, fd: int, size: int, offset: int) -> bytes: ...
    def pwrite(self, fd: int, data: bytes, offset: int) -> int: ...
    def append(self, fd: int, data: bytes) -> int:
        """Write to what was opened with O_APPEND."""

    def fsync(self, fd: int) -> None: ...
    def fstat(self, fd: int) -> Stat: ...
    def ftruncate(self, fd: int, size: int) -> None: ...
    def fchmod(self, fd: int, mode: int) -> None: ...
    def fgetxattr(self, fd: int, name: str) -> bytes: ...
    def fsetxattr(self, fd: int, name: str, value: bytes) -> None: ...
    def flistxattr(self, fd: int) -> list[str]: ...
    def fremovexattr(self, fd: int, name: str) -> None: ...
    def stat(self, path: str) -> Stat: ...
    def lstat(self, path: str) -> Stat: ...
    def chmod(self, path: str, mode: int) -> None: ...
    def chown(self, path: str, uid: int, gid: int) -> None: ...
    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None: ...
    def truncate(self, path: str, size: int) -> None: ...
    def mkdir(self, path: str, mode: int = 0o777) -> None: ...
    def rmdir(self, path: str) -> None: ...
    def unlink(self, path: str) -> None: ...
    def rename(self, source: str, target: str, flags: int = 0) -> None: ...
    def link(self, source: str, target: str) -> None:
        """Of a symbolic link it is the link itself."""

    def symlink(self, target: str, path: str) -> None: ...
    def readlink(self, path: str) -> str: ...
    def mknod(self, path: str, mode: int, device: int = 0) -> None: ...
    def listdir(self, path: str) -> list[str]: ...
    def scan(self, path: str) -> Iterator[str]:
        """Tell the names one by one, asking for more as they are taken."""

    def fsyncdir(self, path: str) -> None: ...
    def getxattr(self, path: str, name: str) -> bytes: ...
    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None: ...
    def listxattr(self, path: str) -> list[str]: ...
    def removexattr(self, path: str, name: str) -> None: ...
    def free(self) -> tuple[int, int, int]:
        """Return the room in bytes, all and free, and the longest name."""


# ---- what the suite says with them


def errno_of(call: Callable[..., object], *arguments: object) -> int | None:
    """Return the errno with which a call fails."""
    try:
        call(*arguments)
    except OSError as error:
        return error.errno
    return None


def put(fs: Posix, path: str, data: bytes = b"", mode: int = 0o644) -> None:
    """Make a file, or replace what it holds."""
    fd = fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    try:
        if data:
            assert fs.pwrite(fd, data, 0) == len(data)
    finally:
        fs.close(fd)


def get(fs: Posix, path: str) -> bytes:
    """Return all that a file holds."""
    fd = fs.open(path, os.O_RDONLY)
    try:
        data = b""
        while piece := fs.pread(fd, 1 << 20, len(data)):
            data += piece
        return data
    finally:
        fs.close(fd)


# ---- a directory of this machine


class Local:
    """A directory of this machine, which may be one of a mount."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def _at(self, path: str) -> str:
        return f"{self.root}/{path}" if path else str(self.root)

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        return os.open(self._at(path), flags, mode)

    def close(self, fd: int) -> None:
        os.close(fd)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        return os.pread(fd, size, offset)

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return os.pwrite(fd, data, offset)

    def append(self, fd: int, data: bytes) -> int:
        return os.write(fd, data)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def fstat(self, fd: int) -> Stat:
        return _stat(os.fstat(fd))

    def ftruncate(self, fd: int, size: int) -> None:
        os.ftruncate(fd, size)

    def fchmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def fgetxattr(self, fd: int, name: str) -> bytes:
        return os.getxattr(fd, name)

    def fsetxattr(self, fd: int, name: str, value: bytes) -> None:
        os.setxattr(fd, name, value)

    def flistxattr(self, fd: int) -> list[str]:
        return os.listxattr(fd)

    def fremovexattr(self, fd: int, name: str) -> None:
        os.removexattr(fd, name)

    def stat(self, path: str) -> Stat:
        return _stat(os.stat(self._at(path)))

    def lstat(self, path: str) -> Stat:
        return _stat(os.lstat(self._at(path)))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid)

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        os.utime(self._at(path), ns=(atime_ns, mtime_ns), follow_symlinks=False)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def rename(self, source: str, target: str, flags: int = 0) -> None:
        paths = [os.fsencode(self._at(path)) for path in (source, target)]
        if _libc.renameat2(AT_FDCWD, paths[0], AT_FDCWD, paths[1], ctypes.c_uint(flags)) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), source)

    def link(self, source: str, target: str) -> None:
        os.link(self._at(source), self._at(target), follow_symlinks=False)

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self._at(path))

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def mknod(self, path: str, mode: int, device: int = 0) -> None:
        os.mknod(self._at(path), mode, device)

    def listdir(self, path: str) -> list[str]:
        return os.listdir(self._at(path))

    def scan(self, path: str) -> Iterator[str]:
        with os.scandir(self._at(path)) as entries:
            for entry in entries:
                yield entry.name

    def fsyncdir(self, path: str) -> None:
        fd = os.open(self._at(path), os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), name)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        os.setxattr(self._at(path), name, value, flags)

    def listxattr(self, path: str) -> list[str]:
        return os.listxattr(self._at(path))

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), name)

    def free(self) -> tuple[int, int, int]:
        found = os.statvfs(self.root)
        return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail, found.f_namemax


def _stat(found: os.stat_result) -> Stat:
    return Stat(
        found.st_mode,
        found.st_ino,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_blocks,
        found.st_atime_ns,
        found.st_mtime_ns,
        found.st_ctime_ns,
        found.st_rdev,
    )
