"""An open ordinary file, and what the operating system tells of any node, in the terms of the tree."""

import os
import stat
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

import trio

from pfs.api import Attr, Changes, Closing, NodeType
from pfs.errors import Kind, PfsError
from pfs.system import anew

T = TypeVar("T")

VALID_S = 1.0
READ_BYTES_MAX = 4 * 1024 * 1024


class Threads(Protocol):
    """Runs calls that may have to wait for a disk."""

    def run(self, work: Callable[[], T]) -> Awaitable[T]:
        """Run `work` in a worker thread; its OSErrors come out as `PfsError`."""


class DiskFile:
    """An open ordinary file; it lives on when its name goes.

    Its descriptor is closed with the last call that uses it: a number that is closed earlier may be another
    file's by the time that a call which waited for a thread comes to use it.
    """

    def __init__(self, threads: Threads, fd: int, attr: Attr) -> None:
        self._threads = threads
        self._fd = fd
        self._users = 1  # the opening itself, until it is released
        self._released = False
        self.attr = attr

    async def _run(self, work: Callable[[int], T]) -> T:
        if self._released:
            raise PfsError(Kind.BAD_HANDLE, "this file is not open any more")
        self._users += 1
        try:
            return await self._threads.run(lambda: work(self._fd))
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        self._users -= 1
        if self._users == 0:
            with trio.CancelScope(shield=True):
                await self._threads.run(lambda: os.close(self._fd))

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return up to `size` bytes."""
        return await self._run(lambda fd: os.pread(fd, min(size, READ_BYTES_MAX), offset))

    async def write(self, offset: int, data: bytes) -> int:
        """Write all of `data`; with APPEND the kernel puts it at the end, whatever the offset."""

        def work(fd: int) -> int:
            done = 0
            while done < len(data):
                done += os.pwrite(fd, data[done:], offset + done)
            return done

        return await self._run(work)

    async def truncate(self, size: int) -> Attr:
        """Cut or extend."""

        def work(fd: int) -> os.stat_result:
            os.ftruncate(fd, size)
            return os.fstat(fd)

        return attr_of(await self._run(work))

    async def getattr(self) -> Attr:
        """Tell what is open."""
        return attr_of(await self._run(os.fstat))

    async def flush(self, closing: Closing) -> None:
        """Nothing is held back here."""

    async def fsync(self) -> None:
        """Return when the disk has it."""
        await self._run(os.fsync)

    async def release(self) -> None:
        """Close, also for a caller who is being cancelled."""
        if not self._released:
            self._released = True
            await self._let_go()


def change(fd: int, info: os.stat_result, changes: Changes) -> os.stat_result:
    """Change what an O_PATH descriptor stands for. To be its owner is enough; it need not be readable."""
    if changes.mode is not None:
        os.chmod(anew(fd), changes.mode & 0o777)
    if changes.size is not None:
        os.truncate(anew(fd), changes.size)
    if changes.atime_ns is not None or changes.mtime_ns is not None:
        os.utime(anew(fd), ns=times(info, changes))
    return os.fstat(fd)


def times(info: os.stat_result, changes: Changes) -> tuple[int, int]:
    """Return access and modification time as they shall be, in nanoseconds."""
    atime_ns = info.st_atime_ns if changes.atime_ns is None else changes.atime_ns
    mtime_ns = info.st_mtime_ns if changes.mtime_ns is None else changes.mtime_ns
    return atime_ns, mtime_ns


def attr_of(info: os.stat_result) -> Attr:
    """Return what the operating system tells, in the terms of the tree."""
    if stat.S_ISDIR(info.st_mode):
        type_ = NodeType.DIRECTORY
    elif stat.S_ISLNK(info.st_mode):
        type_ = NodeType.SYMLINK
    else:
        type_ = NodeType.FILE
    return Attr(
        type=type_,
        node_id=_node_id(info),
        mode=stat.S_IMODE(info.st_mode) & 0o777,
        size=info.st_size,
        nlink=info.st_nlink,
        mtime_ns=info.st_mtime_ns,
        ctime_ns=info.st_ctime_ns,
        atime_ns=info.st_atime_ns,
        valid_s=VALID_S,
    )


def _node_id(info: os.stat_result) -> int:
    """Fold device and inode into 63 bits: bit 63 is that of nodes which the server makes."""
    return (info.st_ino ^ (info.st_dev & 0x7FFF) << 48) & (1 << 63) - 1 or 1
