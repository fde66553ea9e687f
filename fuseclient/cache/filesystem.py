"""A datacenter's file system that answers from leased copies, over one that always asks.

    getattr, listdir    from the copies; the second miss in a directory fetches all of it
    open for reading    without asking where the file is leased; the server's file is opened when it is needed
    small files         come whole, and more and more of them at once while a program goes through a directory
    changes             asked, and noted: the copies of what they touch are made anew

The server takes leases back by `broken` before others change something. What is open here and was never opened at the
server is opened then: afterwards it may have no name any more. The answer to that question is the promise that
nothing is used any more that was known before.
"""

import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import replace

import trio

from fuseclient.cache import blockfetch
from fuseclient.cache.blocks import BlockCache
from fuseclient.cache.copies import Question
from fuseclient.cache.file import CachedFile
from fuseclient.cache.tree import SMALL_BYTES_MAX, CachedTree, kept
from fuseclient.cache.writer import AWAY
from fuseclient.prompt import Version
from pfs.api import (
    Attr,
    Changes,
    Content,
    LeasingFileSystem,
    Name,
    NodeType,
    OpenFile,
    OpenFlags,
    Owner,
    RenameMode,
    Space,
    XattrMode,
)
from pfs.errors import PfsError
from pfs.path import parent_and_name

GUESSED_S = 1.0


class CachedFileSystem(CachedTree):
    """`pfs.api.FileSystem` with copies.

    Args:
        datacenter: what the blocks of its files are kept under.
        blocks: where blocks of files are kept on the local disk.

    Attributes:
        nursery: where bytes travel that nobody waits for; given before the first use.
        now_ns: the time of day, for what is guessed.
    """

    nursery: trio.Nursery
    now_ns: Callable[[], int] = staticmethod(time.time_ns)

    def __init__(
        self,
        inner: LeasingFileSystem,
        clock: Callable[[], float],
        datacenter: str = "",
        blocks: BlockCache | None = None,
    ) -> None:
        super().__init__(inner, clock)
        self.datacenter = datacenter
        self.blocks = blocks
        self.block_places = trio.CapacityLimiter(blockfetch.AT_ONCE)
        self._open: dict[int, set[CachedFile]] = {}

    # ---- leases

    async def broken(self, nodes: Collection[int], names: Collection[Name]) -> None:
        """The server wants these leases back; when this returns nothing of them is used any more."""
        moved = [child for parent, name in names if (child := self.copies.child(parent, name)) is not None]
        everything = any(self.copies.is_directory(each) for each in moved)
        self.interrupted(nodes)
        self.copies.broken([*nodes, *moved])
        await self._open_for_real(None if everything else [*nodes, *moved])

    def closed(self, file: CachedFile) -> None:
        """An open file has ended."""
        files = self._open.get(file.node_id, set())
        files.discard(file)
        if not files:
            self._open.pop(file.node_id, None)

    async def _open_for_real(self, nodes: Iterable[int] | None) -> None:
        """Open at the server what is open of these nodes, or of all, only here."""
        found = self._open.values() if nodes is None else [self._open.get(node_id, set()) for node_id in nodes]
        waiting = [file for files in found for file in files if file.lazy]
        if waiting:
            async with trio.open_nursery() as nursery:
                for file in waiting:
                    nursery.start_soon(file.open_quietly)

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        """Return small files of one directory, whole and at once."""
        return await self.inner.contents(path, names, size_max)

    async def getxattr(self, path: str, name: str) -> bytes:
        """Return an extended attribute."""
        return await self.inner.getxattr(path, name)

    async def listxattr(self, path: str) -> Sequence[str]:
        """Return the names of the extended attributes."""
        return await self.inner.listxattr(path)

    async def statfs(self, path: str) -> Space:
        """Tell the room."""
        return await self.inner.statfs(path)

    async def fsyncdir(self, path: str) -> None:
        """Return when the server's disk has the names in a directory."""
        await self.inner.fsyncdir(path)

    # ---- changing

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        """Make a directory."""
        with self.copies.question() as question:
            attr = await self._make(path, lambda: self.inner.mkdir(path, mode, owner))
            self.copies.learn_empty(question, attr.node_id)
        return attr

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr:
        """Make a symbolic link."""
        return await self._make(path, lambda: self.inner.symlink(path, target, owner))

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        """Make a file, FIFO or socket without opening it."""
        return await self._make(path, lambda: self.inner.mknod(path, type_, mode, owner))

    async def make_file(self, path: str, mode: int, data: bytes, changes: Changes) -> Attr:
        """Make an ordinary file with all its bytes."""
        return await self._make(path, lambda: self.inner.make_file(path, mode, data, changes))

    async def link(self, source: str, target: str) -> Attr:
        """Give a node a second name."""
        return await self._make(target, lambda: self.inner.link(source, target))

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory's."""
        await self._remove(path, lambda: self.inner.unlink(path), 0)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await self._remove(path, lambda: self.inner.rmdir(path), -1)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Move a name."""
        ends = [parent_and_name(path) for path in (source, target)]
        directories = [await self._node_to_change(parent) for parent, _ in ends]
        moved = [await self._node_to_change(path) for path in (source, target)]
        known = [each for each in moved if each is not None]
        whole = any(self.copies.is_directory(each) for each in known) or moved[0] is None
        await self._open_for_real(None if whole else known)
        try:
            await self.inner.rename(source, target, mode)
        except BaseException:
            self._doubt(*directories, *known)
            raise
        for node_id in known:
            self.copies.touch(node_id)
        new = (moved[1] if mode is RenameMode.EXCHANGE else None, moved[0])
        if known and moved[0] is not None and moved[0] == moved[1]:
            return  # two names of one file: rename(2) then leaves both
        for directory, (_, name), leads_to in zip(directories, ends, new, strict=True):
            if directory is not None:
                self.copies.set_name(directory, name, leads_to)
                if whole:
                    self.copies.touch(directory)  # a directory that moves counts on its parent
                else:
                    self._guess(directory, None, 0)
        if moved[0] is None and directories[1] is not None:
            self.copies.forget_names(directories[1])  # nobody knows what stands there now
        if mode is RenameMode.EXCHANGE and moved[1] is None and directories[0] is not None:
            self.copies.forget_names(directories[0])
        if mode is RenameMode.REPLACE and moved[1] is not None:
            self.copies.broken([moved[1]])

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change attributes."""
        node_id = self.node_if_known(path)
        await self.settle(node_id)
        return await self.changed(node_id, lambda: self.inner.setattr(path, changes))

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        """Set an extended attribute."""
        node_id = await self._node_to_change(path)
        try:
            await self.inner.setxattr(path, name, value, mode)
        finally:
            self._touch(node_id)

    async def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        node_id = await self._node_to_change(path)
        try:
            await self.inner.removexattr(path, name)
        finally:
            self._touch(node_id)

    async def changed(self, node_id: int | None, ask: Callable[[], Awaitable[Attr]]) -> Attr:
        """Ask for a change of a node whose answer is what the node has become."""
        with self.copies.question() as question:
            try:
                attr = await ask()
            except BaseException:
                if node_id is not None:
                    self.copies.touch(node_id)
                raise
            held = node_id == attr.node_id and self.copies.is_leased(attr.node_id) and question.holds(attr.node_id)
            self.copies.touch(attr.node_id)
            if held:  # our lease has outlived our own change, and nobody else has made one
                attr = kept(question, replace(attr, leased=True))
                self.copies.relearn(attr)
        return attr

    async def _make(self, path: str, make: Callable[[], Awaitable[Attr]]) -> Attr:
        parent, name = parent_and_name(path)
        directory = await self._node_to_change(parent)
        with self.copies.question() as question:
            try:
                attr = kept(question, await make())
            except BaseException:
                self._doubt(directory)
                raise
            self._made(question, directory, name, attr)
        return attr

    def _made(self, question: Question, directory: int | None, name: str, attr: Attr) -> None:
        if not attr.leased:
            self.copies.broken([attr.node_id])
        self.copies.learn(question, attr, self._clock())
        if directory is not None:
            self.copies.set_name(directory, name, attr.node_id)
            self._guess(directory, attr.ctime_ns, 1 if attr.type is NodeType.DIRECTORY else 0)

    async def _remove(self, path: str, remove: Callable[[], Awaitable[None]], links: int) -> None:
        parent, name = parent_and_name(path)
        directory = await self._node_to_change(parent)
        names = None if directory is None else self.copies.names(directory, self._clock())
        node_id = None if names is None else names.get(name)
        if node_id is None:
            node_id = await self._node_to_change(path)
        known = [each for each in (directory, node_id) if each is not None]
        await self._open_for_real(None if node_id is None else [node_id])
        try:
            await remove()
        except BaseException:
            self._doubt(*known)
            raise
        if node_id is not None:
            self.copies.broken([node_id])  # a new node may have this id next
        if directory is not None:
            self.copies.set_name(directory, name, None)
            self._guess(directory, None, links)

    def _doubt(self, *nodes: int | None) -> None:
        """A change has failed, and nobody knows how far it got. While nothing is trusted, what was before is known."""
        if self.inner.trusted():
            self.copies.broken(each for each in nodes if each is not None)

    def _guess(self, directory: int, time_ns: int | None, links: int) -> None:
        """Answer for a moment with what a change of its names has most likely made of a directory."""
        now_s = self._clock()
        leased = self.copies.is_leased(directory)  # then only this mount has changed it since it was asked for
        attr = self.copies.last_attr(directory) if leased else self.copies.attr(directory, now_s)
        self.copies.touch(directory)
        if attr is not None:
            mtime_ns = max(attr.mtime_ns + 1, time_ns or self.now_ns())
            guessed = replace(
                attr, mtime_ns=mtime_ns, ctime_ns=mtime_ns, nlink=max(2, attr.nlink + links), valid_s=GUESSED_S
            )
            self.copies.guess(directory, guessed, now_s + GUESSED_S)

    async def _node_to_change(self, path: str) -> int | None:
        """Return what stands at `path`, None when nothing does.

        Its copy must not outlive the change, also while it cannot be found by its path because something above it is
        not known: so then it is asked for.
        """
        try:
            node_id = self._node(path)
            return (await self.getattr(path)).node_id if node_id is None else node_id
        except PfsError as error:
            if error.kind in AWAY:
                raise
            return None  # whatever is wrong there, the change itself will say it

    def _touch(self, node_id: int | None) -> None:
        if node_id is not None:
            self.copies.touch(node_id)

    # ---- open files

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        """Open, or with CREATE make, a file."""
        if flags == OpenFlags.READ and path not in self.changing:  # that is opened right after it was looked up
            attr = await self.getattr(path)
            if attr.leased and attr.type is NodeType.FILE and self.as_of_s() is not None:
                await self.read_ahead_of(path, attr)
                return self._add(CachedFile(self, path, flags, attr, None))
        parent, name = parent_and_name(path)
        directory = await self._node_to_change(parent) if OpenFlags.CREATE in flags else None
        if OpenFlags.TRUNCATE in flags:
            await self.settle(self.node_if_known(path))
        with self.copies.question() as question:
            try:
                file = await self.inner.open(path, flags, mode, owner)
            except BaseException:
                if OpenFlags.CREATE in flags:
                    self._doubt(directory)
                raise
            attr = kept(question, file.attr)
            if _is_made_by_server(attr):
                return file
            if OpenFlags.CREATE in flags and directory is not None and self.copies.child(directory, name) is None:
                self._made(question, directory, name, attr)
            elif OpenFlags.TRUNCATE in flags:
                self.copies.touch(attr.node_id)
            else:
                self.copies.learn(question, attr, self._clock())
        return self._add(CachedFile(self, path, flags, attr, file))

    def open_at_once(self, path: str, attr: Attr, held: Version | None) -> CachedFile | None:
        if not attr.leased or attr.type is not NodeType.FILE:
            return None
        whole = self.copies.content(attr.node_id) is not None
        if attr.size <= SMALL_BYTES_MAX and not whole and held != (attr.size, attr.mtime_ns, attr.ctime_ns):
            return None  # it is worth waiting for its bytes
        if whole:
            self.counters.contents.asked += 1
            self.goes_on(attr.node_id)
        return self._add(CachedFile(self, path, OpenFlags.READ, attr, None))

    async def reopen(self, path: str, node_id: int, flags: OpenFlags) -> OpenFile:
        """Open the very node that was open before the server was restarted."""
        file = await self.inner.reopen(path, node_id, flags)
        if _is_made_by_server(file.attr):
            return file
        return self._add(CachedFile(self, path, flags, file.attr, file))

    def _add(self, file: CachedFile) -> CachedFile:
        self._open.setdefault(file.node_id, set()).add(file)
        return file

    async def settle(self, node_id: int | None) -> None:
        """Return when the server has everything that this mount has written to a file, or to any."""
        found = list(self._open.values()) if node_id is None else [self._open.get(node_id, set())]
        for file in [file for files in found for file in files if file.dirty]:
            await file.settle()

    def waiting(self) -> tuple[int, int]:
        """Return how many bytes the server has not confirmed, and of how many files."""
        sizes = [file.dirty_bytes for files in self._open.values() for file in files]
        return sum(sizes), sum(size > 0 for size in sizes)

    async def settle_others(self, file: CachedFile) -> None:
        """Return when the server has what was written through other openings of a file: nothing may overtake that."""
        for other in list(self._open.get(file.node_id, ())):
            if other is not file and other.dirty:
                await other.settle()

    def is_dirty(self, node_id: int) -> bool:
        return any(file.dirty for file in self._open.get(node_id, ()))


def _is_made_by_server(attr: Attr) -> bool:
    """Tell whether what is open is the server's text, or a command: nothing of it is kept here, or held back."""
    return attr.volatile or attr.stream or attr.commits or attr.settled
