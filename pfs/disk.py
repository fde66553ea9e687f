"""Ordinary files: the data domains under the data root, reached without ever following a link that a user made.

Every path that a user names is walked from its domain's directory by openat2(2) with RESOLVE_BENEATH and
RESOLVE_NO_SYMLINKS, in one step; what is then done at the last name never follows a link either. So neither `..`
nor a link swapped in at the last moment leads out of the domain. Calls are made in worker threads: a slow
disk holds up one caller, not the server.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import trio

from pfs.api import Attr, Changes, Entry, OpenFlags, RenameMode, Space
from pfs.diskfile import DiskFile, attr_of, change, times
from pfs.errors import Kind, PfsError
from pfs.path import check_name, parent_and_name
from pfs.system import RENAME_EXCHANGE, RENAME_NOREPLACE, anew, open_beneath, rename_at, translate

T = TypeVar("T")

THREADS_MAX = 16


class Disk:
    """The data root: runs what touches it in its own worker threads.

    Args:
        root: the directory; domains are directories below it.
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._threads = trio.CapacityLimiter(THREADS_MAX)

    def domain(self, path: str, uid: int | None) -> "DiskDomain":
        """Return the domain whose directory is `path` under the root; new files belong to `uid`."""
        return DiskDomain(self, path, uid)

    async def run(self, work: Callable[[], T]) -> T:
        """Run `work` in a worker thread; its OSErrors come out as `PfsError`."""
        try:
            return await trio.to_thread.run_sync(work, limiter=self._threads)
        except OSError as error:
            raise translate(error) from None

    @contextlib.contextmanager
    def directory(self, path: str) -> Iterator[int]:
        """Hold the directory `path` (of the server's own choosing) open, as a descriptor."""
        fd = open_beneath(self._root_fd, path, os.O_PATH | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def make_directory_now(self, path: str, mode: int, uid: int | None) -> None:
        """Make sure that the directory `path` is there, with this mode and owner."""
        parent, name = parent_and_name(path)
        with self.directory(parent) as fd:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=fd)
            # by its descriptor: whoever may write to the parent could put a link in its place
            with self.directory(path) as made:
                os.chmod(anew(made), mode)
                if uid is not None:
                    os.chown(anew(made), uid, uid)

    def write_file_now(self, directory: str, name: str, data: bytes, uid: int | None) -> None:
        """Write a small file of the server's own choosing, in one step for whoever reads it."""
        part = f".{name}.part"
        with self.directory(directory) as fd:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(part, flags, 0o644, dir_fd=fd)
            with open(file, "wb") as stream:
                stream.write(data)
                if uid is not None:
                    os.fchown(file, uid, uid)
            os.rename(part, name, src_dir_fd=fd, dst_dir_fd=fd)

    def close(self) -> None:
        """Let go of the root."""
        os.close(self._root_fd)


class DiskDomain:
    """One domain's files. Paths are relative to its directory; `""` is the directory itself."""

    def __init__(self, disk: Disk, path: str, uid: int | None) -> None:
        self.path = path
        self._disk = disk
        self._uid = uid

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        parent, name = parent_and_name(path)
        check_name(name)
        with self._disk.directory(self.path) as domain_fd:
            fd = open_beneath(domain_fd, parent, os.O_PATH | os.O_DIRECTORY)
            try:
                yield fd, name
            finally:
                os.close(fd)

    def _stat(self, path: str) -> os.stat_result:
        if path == "":
            with self._disk.directory(self.path) as fd:
                return os.fstat(fd)
        with self._parent(path) as (fd, name):
            return os.stat(name, dir_fd=fd, follow_symlinks=False)

    def _own(self, name: str, fd: int) -> None:
        if self._uid is not None:
            os.chown(name, self._uid, self._uid, dir_fd=fd, follow_symlinks=False)

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        return attr_of(await self._disk.run(lambda: self._stat(path)))

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory, sorted by name."""

        def work() -> list[Entry]:
            with self._disk.directory(self.path) as domain_fd:
                fd = open_beneath(domain_fd, path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                found = []
                for name in os.listdir(fd):
                    with contextlib.suppress(FileNotFoundError):  # removed while we were listing
                        found.append(Entry(name, attr_of(os.stat(name, dir_fd=fd, follow_symlinks=False))))
                return sorted(found, key=lambda entry: entry.name)
            finally:
                os.close(fd)

        return await self._disk.run(work)

    async def readlink(self, path: str) -> str:
        """Return where a link points."""

        def work() -> str:
            with self._parent(path) as (fd, name):
                return os.readlink(name, dir_fd=fd)

        return await self._disk.run(work)

    async def mkdir(self, path: str, mode: int) -> Attr:
        """Make a directory."""

        def work() -> os.stat_result:
            with self._parent(path) as (fd, name):
                os.mkdir(name, mode & 0o777, dir_fd=fd)
                self._own(name, fd)
                return os.stat(name, dir_fd=fd, follow_symlinks=False)

        return attr_of(await self._disk.run(work))

    async def symlink(self, path: str, target: str) -> Attr:
        """Make a symbolic link; the server will never follow it."""

        def work() -> os.stat_result:
            with self._parent(path) as (fd, name):
                os.symlink(target, name, dir_fd=fd)
                self._own(name, fd)
                return os.stat(name, dir_fd=fd, follow_symlinks=False)

        return attr_of(await self._disk.run(work))

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory."""

        def work() -> None:
            with self._parent(path) as (fd, name):
                os.unlink(name, dir_fd=fd)

        await self._disk.run(work)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""

        def work() -> None:
            with self._parent(path) as (fd, name):
                os.rmdir(name, dir_fd=fd)

        await self._disk.run(work)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Rename within the domain, at once for everybody."""
        flags = {
            RenameMode.REPLACE: 0,
            RenameMode.NO_REPLACE: RENAME_NOREPLACE,
            RenameMode.EXCHANGE: RENAME_EXCHANGE,
        }[mode]

        def work() -> None:
            with self._parent(source) as (old_fd, old), self._parent(target) as (new_fd, new):
                rename_at(old_fd, old, new_fd, new, flags)

        await self._disk.run(work)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change mode, times or size of what stands at `path`."""

        def work() -> os.stat_result:
            if path == "":
                raise PfsError(Kind.FORBIDDEN, "a domain's own directory is not changed")
            with self._parent(path) as (fd, name):
                node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
                try:
                    info = os.fstat(node)
                    if not stat.S_ISLNK(info.st_mode):
                        return change(node, info, changes)
                finally:
                    os.close(node)
                if changes.atime_ns is not None or changes.mtime_ns is not None:
                    os.utime(name, ns=times(info, changes), dir_fd=fd, follow_symlinks=False)
                return os.stat(name, dir_fd=fd, follow_symlinks=False)

        return attr_of(await self._disk.run(work))

    async def statfs(self) -> Space:
        """Tell the room on the file system that holds the domain."""

        def work() -> os.statvfs_result:
            with self._disk.directory(self.path) as fd:
                return os.statvfs(fd)

        info = await self._disk.run(work)
        size = info.f_frsize
        return Space(info.f_blocks * size, info.f_bavail * size, info.f_files, info.f_favail)

    async def open(self, path: str, flags: OpenFlags, mode: int) -> DiskFile:
        """Open or make an ordinary file; UNSUPPORTED for what is none."""

        def work() -> tuple[int, os.stat_result]:
            with self._parent(path) as (parent_fd, name):
                fd, made = _open_or_make(name, parent_fd, flags, mode)
                try:
                    info = os.fstat(fd)
                    if stat.S_ISDIR(info.st_mode):
                        raise PfsError(Kind.IS_DIR, "this is a directory")
                    if not stat.S_ISREG(info.st_mode):
                        raise PfsError(Kind.UNSUPPORTED, "only ordinary files can be opened")
                    if made and self._uid is not None:
                        os.fchown(fd, self._uid, self._uid)
                except BaseException:
                    os.close(fd)
                    raise
                return fd, info

        fd, info = await self._disk.run(work)
        return DiskFile(self._disk, fd, attr_of(info))


def _open_or_make(name: str, parent_fd: int, flags: OpenFlags, mode: int) -> tuple[int, bool]:
    """Open `name`, making it where the flags say so; tells whether it was made."""
    bits = _open_bits(flags)
    if OpenFlags.CREATE not in flags:
        return os.open(name, bits, dir_fd=parent_fd), False
    while True:
        try:
            return os.open(name, bits | os.O_CREAT | os.O_EXCL, mode & 0o777, dir_fd=parent_fd), True
        except FileExistsError:
            if OpenFlags.EXCLUSIVE in flags:
                raise
        with contextlib.suppress(FileNotFoundError):  # removed between the two: try to make it again
            return os.open(name, bits, dir_fd=parent_fd), False


def _open_bits(flags: OpenFlags) -> int:
    bits = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    if OpenFlags.WRITE in flags:
        # the kernel of a client may read a page before it changes a part of it
        bits |= os.O_RDWR
    if OpenFlags.TRUNCATE in flags:
        bits |= os.O_TRUNC
    if OpenFlags.APPEND in flags:
        bits |= os.O_APPEND
    return bits
