"""The suite's calls without a kernel: what that does by itself is done here.

It walks paths, follows links, knows positions of appended bytes, and asks the handlers of a mount for the rest.
"""

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pyfuse3

from fuseclient.kernel.inodes import ROOT
from tests.functional.posix import Local, Posix, Stat
from tests.functional.stack import Stack

LINKS_MAX = 40
FIELDS = ("mode", "uid", "gid", "size", "atime", "mtime", "ctime")


@contextmanager
def directory(place: Stack | Path, name: str) -> Iterator[Posix]:
    """Make an empty directory, in a mount without a kernel or below a path, and call there without a umask."""
    before = os.umask(0)
    try:
        if isinstance(place, Path):
            (place / name).mkdir()
            yield Local(place / name)
        else:
            InProcess(place, "dc1/home/ann").mkdir(name)
            yield InProcess(place, f"dc1/home/ann/{name}")
    finally:
        os.umask(before)


class Open:
    """An open file."""

    def __init__(self, fh: int, inode: int, flags: int) -> None:
        self.fh, self.inode, self.flags = fh, inode, flags


class InProcess:
    """`Posix` without a kernel.

    Args:
        root: the directory of a test, as a path from the root of the mount.
    """

    def __init__(self, stack: Stack, root: str) -> None:
        self._ask = stack.call
        self._do = stack.operations
        self._root = root
        self._open: dict[int, Open] = {}
        self._next = 1000
        self._context = SimpleNamespace(pid=os.getpid(), uid=os.getuid(), gid=os.getgid(), umask=0)

    # ---- paths

    def _lookup(self, parent: int, name: str) -> pyfuse3.EntryAttributes:
        return self._ask(self._do.lookup, parent, os.fsencode(name), self._context)

    def _getattr(self, inode: int) -> pyfuse3.EntryAttributes:
        return self._ask(self._do.getattr, inode, self._context)

    def _walk(self, path: str, *, follow: bool = True, from_: int | None = None) -> pyfuse3.EntryAttributes:
        """Look every part of a path up, following links as the kernel does."""
        way = [self._getattr(ROOT)] if from_ is None else [self._getattr(from_)]
        left = [name for name in (f"{self._root}/{path}" if from_ is None else path).split("/") if name]
        links = 0
        while left:
            name = left.pop(0)
            if not stat.S_ISDIR(way[-1].st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if name == ".":
                continue
            if name == "..":
                way = way[:-1] if len(way) > 1 else way
                continue
            found = self._lookup(way[-1].st_ino, name)
            if stat.S_ISLNK(found.st_mode) and (left or follow):
                links += 1
                if links > LINKS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                target = os.fsdecode(self._ask(self._do.readlink, found.st_ino, self._context))
                left = target.split("/") + left
                continue
            way.append(found)
        return way[-1]

    def _parent(self, path: str) -> tuple[int, bytes]:
        parent, _, name = path.rpartition("/")
        found = self._walk(parent)
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return found.st_ino, os.fsencode(name)

    # ---- open files

    def open(self, path: str, flags: int, mode: int = 0o666) -> int:
        parent, name = self._parent(path)
        exclusive = flags & os.O_CREAT and flags & os.O_EXCL
        try:
            found = self._walk(path, follow=not (flags & os.O_NOFOLLOW or exclusive))
        except OSError as error:
            if error.errno != errno.ENOENT or not flags & os.O_CREAT:
                raise
            info, made = self._ask(self._do.create, parent, name, stat.S_IFREG | mode, flags, self._context)
            return self._add(info.fh, made.st_ino, flags)
        if exclusive:
            raise OSError(errno.EEXIST, os.strerror(errno.EEXIST))
        if stat.S_ISLNK(found.st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        return self._add(self._ask(self._do.open, found.st_ino, flags, self._context).fh, found.st_ino, flags)

    def _add(self, fh: int, inode: int, flags: int) -> int:
        self._next += 1
        self._open[self._next] = Open(fh, inode, flags)
        return self._next

    def _file(self, fd: int, access: tuple[int, ...] = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)) -> Open:
        file = self._open.get(fd)
        if file is None or file.flags & os.O_ACCMODE not in access:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return file

    def close(self, fd: int) -> None:
        file = self._open.pop(fd)
        try:
            self._ask(self._do.flush, file.fh)
        finally:
            self._ask(self._do.release, file.fh)

    def pread(self, fd: int, size: int, offset: int) -> bytes:
        file = self._file(fd, (os.O_RDONLY, os.O_RDWR))
        return bytes(self._ask(self._do.read, file.fh, offset, size))

    def pwrite(self, fd: int, data: bytes, offset: int) -> int:
        return self._ask(self._do.write, self._file(fd, (os.O_WRONLY, os.O_RDWR)).fh, offset, data)

    def append(self, fd: int, data: bytes) -> int:
        return self.pwrite(fd, data, self.fstat(fd).size)

    def fsync(self, fd: int) -> None:
        self._ask(self._do.fsync, self._file(fd).fh, False)

    def fstat(self, fd: int) -> Stat:
        return _stat(self._getattr(self._file(fd).inode))

    def _setattr(self, inode: int, fh: int | None = None, **changes: int) -> None:
        wanted = pyfuse3.EntryAttributes()
        for name, value in changes.items():
            setattr(wanted, f"st_{name}_ns" if name.endswith("time") else f"st_{name}", value)
        fields = SimpleNamespace(**{f"update_{name}": name in changes for name in FIELDS})
        self._ask(self._do.setattr, inode, wanted, fields, fh, self._context)

    def ftruncate(self, fd: int, size: int) -> None:
        try:
            file = self._file(fd, (os.O_WRONLY, os.O_RDWR))
        except OSError:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL)) from None
        self._setattr(file.inode, file.fh, size=size)

    def fchmod(self, fd: int, mode: int) -> None:
        self._setattr(self._file(fd).inode, mode=mode)

    def fgetxattr(self, fd: int, name: str) -> bytes:
        return self._ask(self._do.getxattr, self._file(fd).inode, name.encode(), self._context)

    def fsetxattr(self, fd: int, name: str, value: bytes) -> None:
        self._ask(self._do.setxattr, self._file(fd).inode, name.encode(), value, self._context)

    def flistxattr(self, fd: int) -> list[str]:
        return [each.decode() for each in self._ask(self._do.listxattr, self._file(fd).inode, self._context)]

    def fremovexattr(self, fd: int, name: str) -> None:
        self._ask(self._do.removexattr, self._file(fd).inode, name.encode(), self._context)

    # ---- attributes

    def stat(self, path: str) -> Stat:
        return _stat(self._getattr(self._walk(path).st_ino))

    def lstat(self, path: str) -> Stat:
        return _stat(self._walk(path, follow=False))

    def chmod(self, path: str, mode: int) -> None:
        self._setattr(self._walk(path).st_ino, mode=mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        named = {name: value for name, value in (("uid", uid), ("gid", gid)) if value != -1}
        self._setattr(self._walk(path).st_ino, **named)

    def utime(self, path: str, atime_ns: int, mtime_ns: int) -> None:
        self._setattr(self._walk(path, follow=False).st_ino, atime=atime_ns, mtime=mtime_ns)

    def truncate(self, path: str, size: int) -> None:
        found = self._walk(path)
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        self._setattr(found.st_ino, size=size)

    # ---- names

    def mkdir(self, path: str, mode: int = 0o777) -> None:
        self._ask(self._do.mkdir, *self._parent(path), stat.S_IFDIR | mode, self._context)

    def rmdir(self, path: str) -> None:
        self._ask(self._do.rmdir, *self._parent(path), self._context)

    def unlink(self, path: str) -> None:
        self._ask(self._do.unlink, *self._parent(path), self._context)

    def rename(self, source: str, target: str, flags: int = 0) -> None:
        self._ask(self._do.rename, *self._parent(source), *self._parent(target), flags, self._context)

    def link(self, source: str, target: str) -> None:
        found = self._walk(source, follow=False)
        if stat.S_ISDIR(found.st_mode):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        self._ask(self._do.link, found.st_ino, *self._parent(target), self._context)

    def symlink(self, target: str, path: str) -> None:
        self._ask(self._do.symlink, *self._parent(path), os.fsencode(target), self._context)

    def readlink(self, path: str) -> str:
        found = self._walk(path, follow=False)
        if not stat.S_ISLNK(found.st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return os.fsdecode(self._ask(self._do.readlink, found.st_ino, self._context))

    def mknod(self, path: str, mode: int, device: int = 0) -> None:
        self._ask(self._do.mknod, *self._parent(path), mode, device, self._context)

    def listdir(self, path: str) -> list[str]:
        return list(self.scan(path))

    def scan(self, path: str) -> Iterator[str]:
        found = self._walk(path)
        if not stat.S_ISDIR(found.st_mode):
            raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        fh, offset = self._ask(self._do.opendir, found.st_ino, self._context), 0
        while True:
            piece: list[tuple[bytes, int]] = []
            self._ask(self._do.readdir, fh, offset, piece)
            if not piece:
                break
            offset = piece[-1][1]
            yield from (os.fsdecode(name) for name, _ in piece if name not in (b".", b".."))
        self._ask(self._do.releasedir, fh)

    def fsyncdir(self, path: str) -> None:
        fh = self._ask(self._do.opendir, self._walk(path).st_ino, self._context)
        try:
            self._ask(self._do.fsyncdir, fh, False)
        finally:
            self._ask(self._do.releasedir, fh)

    # ---- extended attributes

    def getxattr(self, path: str, name: str) -> bytes:
        return self._ask(self._do.getxattr, self._walk(path).st_ino, name.encode(), self._context)

    def setxattr(self, path: str, name: str, value: bytes, flags: int = 0) -> None:
        if flags:  # as pyfuse3 does
            there = name in self.listxattr(path)
            code = {(os.XATTR_CREATE, True): errno.EEXIST, (os.XATTR_REPLACE, False): errno.ENODATA}.get((flags, there))
            if code is not None:
                raise OSError(code, os.strerror(code))
        self._ask(self._do.setxattr, self._walk(path).st_ino, name.encode(), value, self._context)

    def listxattr(self, path: str) -> list[str]:
        return [each.decode() for each in self._ask(self._do.listxattr, self._walk(path).st_ino, self._context)]

    def removexattr(self, path: str, name: str) -> None:
        self._ask(self._do.removexattr, self._walk(path).st_ino, name.encode(), self._context)

    def free(self) -> tuple[int, int, int]:
        found = self._ask(self._do.statfs, self._context)
        return found.f_frsize * found.f_blocks, found.f_frsize * found.f_bavail, found.f_namemax


def _stat(found: pyfuse3.EntryAttributes) -> Stat:
    names = ("mode", "ino", "nlink", "uid", "gid", "size", "blocks", "atime_ns", "mtime_ns", "ctime_ns", "rdev")
    return Stat(*(getattr(found, f"st_{name}") for name in names))
