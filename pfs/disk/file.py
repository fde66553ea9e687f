"""An open ordinary file: what is read and written through it, and that it lives exactly as long as somebody has it."""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol, TypeVar

import trio

from pfs.api import Attr, Changes, Closing, Content, OpenFlags, XattrCall
from pfs.disk.attr import Powers, answer_xattr, attr_of, change, check_powers, drop_special
from pfs.disk.counting import NOTHING, UNLIMITED, Count
from pfs.disk.orphans import OpenNodes, key_of
from pfs.disk.system import anew
from pfs.errors import Kind, PfsError
from pfs.path import check_name

T = TypeVar("T")

READ_BYTES_MAX = 4 * 1024 * 1024
AT_ONCE_BYTES_MAX = 64 * 1024  # more is moved in a thread
FREED_AT_ONCE_BYTES_MAX = 4 * 1024 * 1024
WHOLE_BYTES_MAX = 8 * 1024 * 1024
NEW = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE  # put together once: for each of many files that counts


class Runner(Protocol):
    """Runs calls that touch a disk."""

    async def run(self, work: Callable[[], T], *, long: bool = False) -> T: ...


class DiskFile:
    """An open ordinary file; it lives on when its name goes.

    Its descriptor is closed with the last call that uses it: a number that is closed earlier may be another
    file's by the time that a call which waited for a thread comes to use it.

    Args:
        nodes: where this opening is counted already; it is counted off with the release.
        fd: its descriptor.
        info: what `fd` stands for.
        powers: what its holder may do with it.
        count: gives what counts its domain now.
        appends: its descriptor writes at the end.
        watched: somebody tells when others change it.
    """

    def __init__(
        self,
        disk: Runner,
        nodes: OpenNodes,
        fd: int,
        info: os.stat_result,
        powers: Powers,
        *,
        count: Callable[[], Count],
        appends: bool,
        watched: bool,
    ) -> None:
        self._disk = disk
        self._nodes = nodes
        self._count = count
        self._appends = appends
        self._fd = fd
        self._key = key_of(info)
        self._powers = powers
        self._watched = watched
        self._users = 1  # the opening itself, until it is released
        self._released = False
        self._lost = False
        self.attr = self._attr_of(info)

    def _attr_of(self, info: os.stat_result) -> Attr:
        return attr_of(info, self._nodes.hidden(self._key), watched=self._watched and info.st_nlink == 1)

    async def on_descriptor(self, work: Callable[[int], T], threads: Runner, *, writes: tuple[int, int] | None) -> T:
        """Run `work` with the descriptor in one of `threads`; see `pfs.server.bulk.OnDisk`."""

        def working(fd: int) -> T:
            with NOTHING if writes is None else self._count().writing(fd, *writes, surely=False):
                try:
                    return work(fd)
                finally:
                    if writes is not None:
                        drop_special(fd, self._powers)

        return await self._run(working, long=True, threads=threads)

    async def _run(self, work: Callable[[int], T], *, long: bool = False, threads: Runner | None = None) -> T:
        if self._released:
            raise PfsError(Kind.BAD_HANDLE, "this file is not open any more")
        self._users += 1
        try:
            return await (threads or self._disk).run(lambda: work(self._fd), long=long)
        finally:
            await self._let_go()

    async def _let_go(self) -> None:
        self._users -= 1
        if self._users == 0:
            # the last one to close a large file that was removed waits until its room is free
            with trio.CancelScope(shield=True):
                await self._disk.run(self._close, long=os.fstat(self._fd).st_size > AT_ONCE_BYTES_MAX)

    def _close(self) -> None:
        self._nodes.released(self._key, lost=self._lost)
        os.close(self._fd)

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return up to `size` bytes."""
        long = size > AT_ONCE_BYTES_MAX
        return await self._run(lambda fd: os.pread(fd, min(size, READ_BYTES_MAX), offset), long=long)

    async def write(self, offset: int, data: bytes) -> int:
        """Write all of `data`; with APPEND the kernel puts it at the end, whatever the offset."""

        def work(fd: int) -> int:
            done = 0
            with self._count().writing(fd, None if self._appends else offset, len(data)):
                while done < len(data):
                    done += os.pwrite(fd, data[done:], offset + done)
            drop_special(fd, self._powers)
            return done

        return await self._run(work, long=len(data) > AT_ONCE_BYTES_MAX)

    async def setattr(self, changes: Changes) -> Attr:
        """Change mode, size, times or owner of what is open."""
        check_powers(changes, self._powers)

        def work(fd: int) -> Attr:
            with self._count().resizing(fd, changes.size):
                return self._attr_of(change(fd, changes, self._powers))

        return await self._run(work, long=changes.size is not None)

    async def getattr(self) -> Attr:
        """Tell what is open."""
        return await self._run(lambda fd: self._attr_of(os.fstat(fd)))

    async def xattr(self, call: XattrCall) -> bytes:
        """Answer about the extended attributes of what is open."""
        if call.changes:
            check_powers(Changes(), self._powers)
        return await self._run(lambda fd: answer_xattr(fd, call))

    async def flush(self, closing: Closing) -> None:
        """Nothing is held back here; but who is cut off may come back for what was open."""
        self._lost = closing is Closing.DYING

    async def fsync(self) -> None:
        """Return when the disk has it."""
        await self._run(os.fsync, long=True)

    async def descriptor(self) -> int | None:
        """Return a descriptor of its own, for reading only; whoever asked closes it."""
        return await self._run(lambda fd: open_silently(anew(fd), os.O_RDONLY | os.O_CLOEXEC))

    async def release(self) -> None:
        """Close, also for a caller who is being cancelled."""
        if not self._released:
            self._released = True
            await self._let_go()


def open_or_make(name: str, parent_fd: int, flags: OpenFlags, mode: int, count: Count = UNLIMITED) -> tuple[int, bool]:
    """Open `name`, making it where the flags say so; tells whether it was made."""
    bits = open_bits(flags)
    new = bits | os.O_CREAT | os.O_EXCL

    def open_there() -> int:
        with count.cutting(parent_fd, name) if OpenFlags.TRUNCATE in flags else NOTHING:
            return open_silently(name, bits, parent_fd)

    if OpenFlags.CREATE not in flags:
        return open_there(), False
    while True:
        try:
            return count.make(parent_fd, name, lambda: open_silently(name, new, parent_fd, mode)), True
        except FileExistsError:
            if OpenFlags.EXCLUSIVE in flags:
                raise
        with contextlib.suppress(FileNotFoundError):  # removed between the two: try to make it again
            return open_there(), False


def make_whole(name: str, parent_fd: int, mode: int, data: bytes, count: Count = UNLIMITED) -> int:
    """Make a file that is not there with all its bytes, and return its descriptor; without room there is none after."""
    fd, _ = open_or_make(name, parent_fd, NEW, mode, count)
    try:
        done = 0
        with count.writing(fd, 0, len(data)):
            while done < len(data):
                done += os.pwrite(fd, data[done:], done)
    except BaseException:
        count.remove(parent_fd, name, lambda: os.unlink(name, dir_fd=parent_fd))
        os.close(fd)
        raise
    return fd


def open_silently(name: str, bits: int, parent_fd: int | None = None, mode: int = 0) -> int:
    """Open so that reading moves no time of access: a copy would not move it either, and the disk has less to write.

    Only who owns a file may ask for that; others are let in as ever.
    """
    try:
        return os.open(name, bits | os.O_NOATIME, mode, dir_fd=parent_fd)
    except PermissionError:
        return os.open(name, bits, mode, dir_fd=parent_fd)


def open_bits(flags: OpenFlags) -> int:
    """Return the flags for open(2); never one that waits, or that follows a link."""
    bits = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    if OpenFlags.WRITE in flags:
        # the kernel of a client may read a page before it changes a part of it
        bits |= os.O_RDWR
    if OpenFlags.TRUNCATE in flags:
        bits |= os.O_TRUNC
    if OpenFlags.APPEND in flags:
        bits |= os.O_APPEND
    return bits


def read_whole(directory_fd: int, names: Sequence[str], size_max: int, *, watched: bool) -> list[Content]:
    """Return what files of a directory hold, up to `WHOLE_BYTES_MAX` in all; what cannot be had whole is left out."""
    found = []
    left = WHOLE_BYTES_MAX
    for name in names:
        check_name(name)
        try:
            content = _whole(directory_fd, name, size_max, watched=watched)
        except OSError:  # whoever opens it is told why
            continue
        if content is None:
            continue
        left -= len(content.data)
        if left < 0:
            break
        found.append(content)
    return found


def _whole(directory_fd: int, name: str, size_max: int, *, watched: bool) -> Content | None:
    if not stat.S_ISREG(os.stat(name, dir_fd=directory_fd, follow_symlinks=False).st_mode):
        return None  # opening it would be noticed by whoever is at the other end of a FIFO
    fd = open_silently(name, open_bits(OpenFlags.READ), directory_fd)
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode) or info.st_size > min(size_max, WHOLE_BYTES_MAX):
            return None
        data = os.pread(fd, info.st_size, 0)
        after = os.fstat(fd)
        if len(data) != after.st_size or (after.st_mtime_ns, after.st_ctime_ns) != (info.st_mtime_ns, info.st_ctime_ns):
            return None  # it is being written
        return Content(name, attr_of(after, watched=watched and after.st_nlink == 1), data)
    finally:
        os.close(fd)


def check_ordinary(fd: int) -> os.stat_result:
    """Return what the operating system tells of an ordinary file; anything else is not opened here."""
    info = os.fstat(fd)
    if stat.S_ISDIR(info.st_mode):
        raise PfsError(Kind.IS_DIR, "this is a directory")
    if not stat.S_ISREG(info.st_mode):
        raise PfsError(Kind.UNSUPPORTED, "only ordinary files can be opened")
    return info


@contextlib.contextmanager
def large_file(parent_fd: int, name: str) -> Iterator[Callable[[], int | None]]:
    """Hold a large file while its name is removed, so that what it takes on the disk is freed in a thread.

    Yields what gives the descriptor away, if there is one; otherwise it is closed when the block ends.
    """
    fds: list[int] = []
    with contextlib.suppress(OSError):  # whoever removes the name is told why that cannot be
        if os.stat(name, dir_fd=parent_fd, follow_symlinks=False).st_size > FREED_AT_ONCE_BYTES_MAX:
            fds.append(os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd))
    try:
        yield lambda: fds.pop() if fds else None
    finally:
        for fd in fds:
            os.close(fd)


@contextlib.contextmanager
def held(parent_fd: int, name: str) -> Iterator[int]:
    """Hold what stands at a name, also a link, as an O_PATH descriptor."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
    try:
        yield fd
    finally:
        os.close(fd)
