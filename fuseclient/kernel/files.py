"""Open files: opening, reading, writing, and saying how a writer ended.

A server that was restarted knows no open file. What is safe to continue is opened again, the very same node,
wherever it stands by now and also without any name, and the call is repeated once: plain files, and streams, whose
bytes never change. A text that is being handed in (`Attr.commits`) is not: that gets ESTALE. One that is made for this
one opening (`Attr.volatile`) is where it is read from its beginning, or polled; elsewhere that is ESTALE, too.

Closing a file that `commits` is a command, or is one once it is renamed; so the server is told how its writer ended:

    nothing written since the server last heard        it is not asked
    a write was lost, or the opener, a holder or a
    child of the opener is being ended by a signal      DYING, from then on: the text is cut
    somebody still holds it for writing                 SHARED, and the next closing is told again
    else                                                LAST
"""

import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

import trio

from fuseclient.behind.newfile import NewFile
from fuseclient.kernel import procs
from fuseclient.kernel.asked import READING, Asked
from fuseclient.kernel.closing import how_it_closes
from fuseclient.kernel.fresh import DEADLINE_S, Fresh
from fuseclient.kernel.handles import FileHandle
from fuseclient.kernel.held import HeldReads
from fuseclient.kernel.inodes import Node
from fuseclient.kernel.polls import Polls, Wake
from fuseclient.kernel.tree import Place, Tree
from pfs.api import Attr, Changes, Closing, OpenFile, OpenFlags, Owner, XattrCall
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

_ONCE = OpenFlags.CREATE | OpenFlags.EXCLUSIVE | OpenFlags.TRUNCATE
T = TypeVar("T")


@dataclass(slots=True)
class Opened:
    """What the kernel is told of an open file.

    Attributes:
        fh: its number.
        direct: every read and write comes to us; nothing is kept in the kernel.
        outdated: what the kernel was told of the inode holds no more.
        keep: the pages that the kernel has of it are those of what was opened.
        unread: the kernel has never had a page of it.
    """

    fh: int
    direct: bool
    outdated: bool
    keep: bool = False
    unread: bool = False


class Files:
    """The open files of a mount."""

    def __init__(self, tree: Tree, held: HeldReads, polls: Polls) -> None:
        self._tree = tree
        self._polls = polls
        self._fresh = Fresh(held, polls, self.call)
        self._writers: dict[int, procs.Process] = {}
        self._leaving: dict[int, tuple[int, trio.Event]] = {}

    async def open(self, number: int, os_flags: int, opener: int) -> Opened:
        """Open what the kernel knows by that number.

        Args:
            os_flags: as open(2) has them.
            opener: the thread that asks.

        Raises:
            PfsError: STALE when another node stands there: the kernel then looks the path up again.
        """
        asked = Asked.of(os_flags & ~(os.O_CREAT | os.O_EXCL), opener)
        inode, places = self._tree.inodes.get(number), self._tree.places(number)
        # by which of several names it is opened is not told: what stands at another one must not be emptied
        later = asked.flags & OpenFlags.TRUNCATE if len(places) > 1 else OpenFlags(0)
        flags = asked.flags & ~later | OpenFlags.WRITE if later else asked.flags
        last = PfsError(Kind.STALE, "another file stands there by now", places[0].path)
        for place in places:
            try:
                file = await place.filesystem.open(place.path, flags, 0)
            except PfsError as error:
                last = stale_if_gone(error)
                if last.kind is not Kind.STALE:
                    raise
                continue
            try:
                if file.attr.node_id == inode.node_id:
                    if later:
                        await file.setattr(Changes(size=0))
                    return self._add(number, place.in_mount, file, asked)
            except BaseException:
                await _release(file)
                raise
            await _release(file)
        raise last

    def open_at_once(self, number: int, os_flags: int, opener: int) -> Opened | None:
        """Open a file for reading, if what stands there is known."""
        asked = Asked.of(os_flags, opener)
        if asked.flags is not READING:
            return None
        inode = self._tree.inodes.get(number)
        known = self._tree.known_at_once(inode)
        if known is None:
            return None
        path, attr = known
        file = self._tree.prompt[inode.datacenter].open_at_once(path, attr, inode.pages)
        if file is None:
            return None
        in_mount = f"{inode.datacenter}/{path}"
        return self._add(number, in_mount, file, asked)

    def create_at_once(
        self, parent: int, name: str, mode: int, os_flags: int, opener: int
    ) -> tuple[Opened, Node] | None:
        """Open a file that is made later, if it is known that nothing stands there."""
        prompt = self._tree.prompt.get(self._tree.inodes.get(parent).datacenter)
        if prompt is None:
            return None
        place, asked = self._tree.below(parent, name), Asked.of(os_flags | os.O_CREAT, opener)
        file = prompt.create_at_once(place.path, asked.flags, mode)
        return None if file is None else self._created(parent, name, place, file, asked)

    async def create(
        self, parent: int, name: str, mode: int, os_flags: int, opener: int, *, owner: Owner | None = None
    ) -> tuple[Opened, Node]:
        """Open a file that may have to be made first; `mode` and `owner` count only then."""
        asked = Asked.of(os_flags | os.O_CREAT, opener)

        async def make(place: Place) -> tuple[Place, OpenFile]:
            return place, await place.filesystem.open(place.path, asked.flags, mode, owner)

        place, file = await self._tree.ask_below(parent, name, make)
        return self._created(parent, name, place, file, asked)

    def _created(self, parent: int, name: str, place: Place, file: OpenFile, asked: Asked) -> tuple[Opened, Node]:
        node = self._tree.enter(parent, name, file.attr)
        opened = self._add(node.number, place.in_mount, file, asked)
        self._tree.handles.file(opened.fh).unflushed = isinstance(file, NewFile)  # closing it may make it
        self._tree.inodes.touch(parent)
        self._tree.handles.doubt(parent, name)
        return opened, node

    async def read(self, fh: int, offset: int, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end; of what the server makes see `Fresh.read`."""
        handle = self._tree.handles.file(fh)
        if handle.attr.stream or handle.attr.volatile:
            return await self._fresh.read(handle, offset, size)
        with trio.fail_after(DEADLINE_S):
            return await self._read_whole(handle, offset, size)

    async def poll(self, fh: int, wake: Wake | None) -> int:
        """Tell what can be done with an open file without waiting; see `Fresh.poll`."""
        return await self._fresh.poll(self._tree.handles.file(fh), wake)

    def read_at_once(self, fh: int, offset: int, size: int) -> bytes | None:
        """Return what `read` does, if it is at hand."""
        handle = self._tree.handles.file(fh)
        prompt = handle.prompt
        data = None if prompt is None else prompt.read_at_once(offset, size)
        if data is None or (len(data) < size and offset + len(data) < self._tree.inodes.get(handle.number).size):
            return None
        return data

    def content(self, fh: int) -> bytes | None:
        """Return all bytes of an open file, if they are at hand."""
        handle = self._tree.handles.file(fh)
        if not handle.attr.size:
            return None
        data = self.read_at_once(fh, 0, handle.attr.size) if handle.prompt is not None else None
        return data if data is not None and len(data) == handle.attr.size else None

    async def write(self, fh: int, offset: int, data: bytes) -> int:
        """Write all of `data`; return its length."""
        handle = self._tree.handles.file(fh)
        for each in self._tree.handles.files_of(handle.number):  # pages of a mapping come through any of them
            each.unflushed |= each is handle or each.may_have_mapped
        self._tree.inodes.touch(handle.number)
        try:
            written = await self._write(handle, offset, data)
        except BaseException:
            handle.cut = handle.attr.commits
            raise
        inode = self._tree.inodes.get(handle.number)
        inode.size = max(inode.size, offset + written)
        self._tree.inodes.touch(handle.number)  # an answer of meanwhile may not have seen these bytes
        return written

    async def setattr(self, number: int, changes: Changes, fh: int | None = None) -> Attr | None:
        """Change attributes through an open file: that is sure to be the right node, also when it has no name.

        Args:
            fh: the open file through which it is asked. Without, any plain file that is open will do.

        Returns:
            None when none is open that can.
        """
        if fh is not None:
            return await self.call(self._tree.handles.file(fh), lambda file: file.setattr(changes))
        for handle in self._tree.handles.files_of(number):
            if handle.is_plain and (changes.size is None or OpenFlags.WRITE in handle.flags):
                try:
                    return await self.call(handle, lambda file: file.setattr(changes))
                except PfsError as error:
                    if error.kind not in (Kind.STALE, Kind.BAD_HANDLE):
                        raise
        return None

    async def xattr(self, number: int, call: XattrCall) -> bytes:
        """Answer about extended attributes through an open file: of one that has no name any more.

        Raises:
            PfsError: STALE when none is open that can.
        """
        for handle in self._tree.handles.files_of(number):
            if handle.is_plain:
                return await self.call(handle, lambda file: file.xattr(call))
        raise PfsError(Kind.STALE, "this name leads to something else by now")

    async def flush(self, fh: int) -> None:
        """A descriptor of the file was closed; what is raised is what close(2) says."""
        handle = self._tree.handles.file(fh)
        if not handle.unflushed:
            return
        handle.unflushed = False
        closing = await self._closing(handle) if handle.attr.commits else Closing.LAST
        handle.cut = handle.cut or closing is Closing.DYING
        handle.unflushed = handle.unflushed or closing is Closing.SHARED
        await self.call(handle, lambda file: file.flush(closing))

    def flush_at_once(self, fh: int) -> bool:
        """Tell whether there is nothing to flush."""
        handle = self._tree.handles.file(fh)
        if handle.unflushed and not handle.attr.commits:
            prompt = handle.prompt
            handle.unflushed = prompt is None or not prompt.flush_at_once()
        return not handle.unflushed

    async def fsync(self, fh: int) -> None:
        """Everything written is on the server's disk when this returns."""
        await self.call(self._tree.handles.file(fh), lambda file: file.fsync())

    async def release(self, fh: int) -> None:
        """The last descriptor is gone. Nobody hears of an error."""
        handle = self._tree.handles.pop_file(fh)
        self._polls.let_go(fh)
        self._writers.pop(fh, None)
        self._tree.inodes.closed(handle.number)
        _, gone = self._leaving[fh] = handle.number, trio.Event()
        try:
            if handle.cut:
                try:
                    await handle.file.flush(Closing.DYING)
                except PfsError as error:
                    log.info("%s: closing: %s", handle.path, error)
            await _release(handle.file)
        finally:
            del self._leaving[fh]
            gone.set()

    async def left(self, number: int) -> None:
        """Return when nobody is just leaving a file: the kernel lets close(2) return before that is over."""
        for gone in [gone for each, gone in self._leaving.values() if each == number]:
            await gone.wait()

    def release_at_once(self, fh: int) -> bool:
        """End an open file that nobody but this mount knows of; False leaves it as it is."""
        handle = self._tree.handles.file(fh)
        prompt = handle.prompt
        if prompt is None or handle.cut or not prompt.release_at_once():
            return False
        self._tree.handles.pop_file(fh)
        self._tree.inodes.closed(handle.number)
        return True

    async def release_all(self) -> None:
        """End what is still open when the mount ends. A text that is still being written is cut."""
        for handle in self._tree.handles.files():
            handle.cut = handle.cut or (handle.attr.commits and handle.unflushed)
            await self.release(handle.fh)

    async def call(self, handle: FileHandle, ask: Callable[[OpenFile], Awaitable[T]], *, at_start: bool = False) -> T:
        """Ask the open file, and once more after opening it again if the server knows it no more.

        Args:
            at_start: what was read of it before does not count.
        """
        file = handle.file
        try:
            return await ask(file)
        except PfsError as error:
            if error.kind is not Kind.BAD_HANDLE:
                raise
        await self._open_again(handle, file, at_start=at_start)
        return await ask(handle.file)

    async def _write(self, handle: FileHandle, offset: int, data: bytes) -> int:
        file = handle.file
        try:
            return await file.write(offset, data)
        except PfsError as error:
            if error.kind is not Kind.BAD_HANDLE:
                raise
        await self._open_again(handle, file)
        if OpenFlags.APPEND in handle.flags and (await handle.file.getattr()).size != offset:
            # the answer may have been lost, not the question: better an error than the same bytes twice
            raise PfsError(Kind.STALE, "nobody knows whether this was appended before the server went", handle.path)
        return await handle.file.write(offset, data)

    async def _open_again(self, handle: FileHandle, lost: OpenFile, *, at_start: bool = False) -> None:
        if handle.file is not lost:
            return  # somebody else has done it
        attr, inode = handle.attr, self._tree.inodes.get(handle.number)
        if attr.commits or (attr.volatile and not attr.stream and not at_start):
            raise PfsError(Kind.STALE, "the server was restarted meanwhile; open the file again", handle.path)
        filesystem = self._tree.filesystems[inode.datacenter]
        last = PfsError(Kind.STALE, "the server was restarted meanwhile, and the file is gone", handle.path)
        paths = [path for _, path in self._tree.inodes.places(handle.number)]
        for path in paths or [handle.path.partition("/")[2]]:
            try:
                file = await filesystem.reopen(path, attr.node_id, handle.flags & ~_ONCE)
            except PfsError as error:
                last = stale_if_gone(error)
                if last.kind is not Kind.STALE:
                    raise
                continue
            if handle.file is not lost:
                await _release(file)
            else:
                handle.file = file
            return
        raise last

    async def _read_whole(self, handle: FileHandle, offset: int, size: int) -> bytes:
        # The kernel takes a short answer for the end of the file.
        inode = self._tree.inodes.get(handle.number)
        pieces = [await self._piece(handle, offset, size)]
        read = len(pieces[0])
        while pieces[-1] and read < size and offset + read < inode.size:
            pieces.append(await self._piece(handle, offset + read, size - read))
            read += len(pieces[-1])
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _piece(self, handle: FileHandle, offset: int, size: int) -> bytes:
        return await self.call(handle, lambda file: file.read(offset, size))

    def _add(self, number: int, path: str, file: OpenFile, asked: Asked) -> Opened:
        attr, inode = file.attr, self._tree.inodes.get(number)
        if not self._tree.handles.is_open(number):
            inode.size = attr.size
        fh = self._tree.handles.next_number()
        handle = FileHandle(fh, number, path, file, asked.flags, attr, asked.opener, asked.nonblocking)
        self._tree.handles.add_file(handle)
        self._tree.inodes.opened(number)
        truncates = asked.flags is not READING and OpenFlags.TRUNCATE in asked.flags
        commits = attr.commits and OpenFlags.WRITE in asked.flags
        if commits and (process := procs.identify(asked.opener)) is not None:
            self._writers[fh] = process
        told = inode.told
        was = None if told is None else (told.attr.stream, told.attr.size, told.attr.mtime_ns)
        outdated = was != (attr.stream, attr.size, attr.mtime_ns)  # a stream is shown without its size
        if truncates:
            self._tree.inodes.touch(number)
        content = (attr.size, attr.mtime_ns, attr.ctime_ns)
        lasts = attr.leased or attr.settled
        keep = lasts and inode.pages == content
        inode.pages = content if lasts and not truncates else None
        unread, inode.unread = inode.unread, False
        return Opened(fh, attr.volatile or attr.stream or commits, outdated, keep, unread)

    async def _closing(self, handle: FileHandle) -> Closing:
        if handle.cut:
            return Closing.DYING
        places = self._tree.inodes.places(handle.number)
        path = "/".join(places[0]) if places else handle.path
        return await trio.to_thread.run_sync(how_it_closes, handle.number, path, self._writers.get(handle.fh))


def stale_if_gone(error: PfsError) -> PfsError:
    """Return what to say when there is nothing where an inode stood: the kernel shall look its path up again."""
    return PfsError(Kind.STALE, error.message, error.path) if error.kind is Kind.NOT_FOUND else error


async def _release(file: OpenFile) -> None:
    try:
        await file.release()
    except PfsError as error:
        log.info("releasing a file: %s", error)
