"""A file system with copies in which a new file costs one message: it is made at the server with its first bytes.

That nothing of that name is there, and that something may be made there, is known where a directory is leased with all
its names. What is asked of the server meanwhile about such a path, or one above it, waits until the file is made: so
nobody sees that it came later. One for which no bytes come is made after a moment.

Until then the file has a number of this mount's own, which nobody else hears of. It is opened with O_EXCL at the server
as ever, since that is how programs exclude one another.
"""

import itertools
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

import trio

from fuseclient.behind.newfile import NO_CHANGES, NewFile
from fuseclient.behind.ordered import OrderedFileSystem
from fuseclient.behind.sending import BehindStatus
from fuseclient.cache.blocks import BlockCache
from fuseclient.cache.copies import Question
from fuseclient.cache.file import CachedFile
from fuseclient.cache.filesystem import CachedFileSystem
from fuseclient.cache.tree import LEASED_VALID_S, SMALL_BYTES_MAX, kept
from pfs.api import (
    Attr,
    Changes,
    Content,
    LeasingFileSystem,
    NodeType,
    OpenFile,
    OpenFlags,
    Owner,
    RenameMode,
    XattrMode,
)
from pfs.errors import Kind, PfsError
from pfs.path import parent_and_name

LINGER_S = 0.05
FIRST_BYTES_MAX = 256 * 1024
_USABLE = 0o300
_PLAIN_MODE = 0o777
_NEW = OpenFlags.CREATE | OpenFlags.WRITE
_NEW_OR_NOT = _NEW | OpenFlags.EXCLUSIVE | OpenFlags.APPEND
_UNCERTAIN = (Kind.EXISTS, Kind.UNREACHABLE)


class MakingFileSystem(CachedFileSystem):
    """`pfs.api.FileSystem` with copies, and with files that are not made yet.

    Args:
        inner: asks the server.

    Attributes:
        server: asks the server without waiting for what has not been made.
        adopted, undone: see `tell`.
    """

    def __init__(
        self,
        inner: LeasingFileSystem,
        clock: Callable[[], float],
        datacenter: str = "",
        blocks: BlockCache | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(OrderedFileSystem(inner, self.reach), clock, datacenter, blocks)
        self.server = inner
        self.now_ns = now_ns
        self.adopted: Callable[[int, int], None] = lambda former, node_id: None
        self.undone: Callable[[int, str], None] = lambda directory, name: None
        self._unmade: dict[str, NewFile] = {}
        self._lingering = False
        self._numbers = itertools.count(secrets.randbits(62) + 1)

    def tell(self, adopted: Callable[[int, int], None], undone: Callable[[int, str], None]) -> None:
        """Say whom to tell of what the kernel should know.

        Args:
            adopted: called with the number that a node had, and the one that the server has given to it.
            undone: called with a directory and a name in it that is not what it was said to be.
        """
        self.adopted, self.undone = adopted, undone

    def behind_status(self) -> BehindStatus | None:
        """Tell what was promised to programs and waits for the server; None where nothing is promised."""
        return None

    # ---- what may be made here without asking

    def usable(self, path: str) -> int | None:
        """Return the id of a directory that is leased with all its names, and in which the user may change some."""
        directory = self.node_if_known(path)
        if directory is None:
            return None
        attr, names = self.copies.last_attr(directory), self.copies.names(directory, self._clock())
        if attr is None or names is None or not attr.leased or attr.type is not NodeType.DIRECTORY:
            return None
        return directory if attr.mode & _USABLE == _USABLE else None

    def free(self, path: str) -> int | None:
        """Return the id of a usable directory where it is known that nothing stands at `path` in it."""
        parent, name = parent_and_name(path)
        directory = self.usable(parent)
        return directory if directory is not None and self.copies.child(directory, name) is None else None

    def own(self, directory: int, type_: NodeType, mode: int, size: int = 0) -> Attr:
        """Return attributes for something new in a directory, with a number of this mount's own."""
        above, now_ns = self.copies.last_attr(directory), self.now_ns()
        return Attr(
            type=type_,
            node_id=next(self._numbers) & (1 << 63) - 1,
            mode=mode,
            size=size,
            nlink=2 if type_ is NodeType.DIRECTORY else 1,
            mtime_ns=now_ns,
            ctime_ns=now_ns,
            atime_ns=now_ns,
            valid_s=LEASED_VALID_S,
            uid=above.uid if above is not None else 0,
            gid=above.gid if above is not None else 0,
            leased=True,
        )

    # ---- files that are not made

    def create_at_once(self, path: str, flags: OpenFlags, mode: int) -> NewFile | None:
        if flags & _NEW_OR_NOT != _NEW or mode & ~_PLAIN_MODE:
            return None
        directory = self.free(path) if self.inner.trusted() else None
        return None if directory is None else self.begin(directory, path, flags, mode)

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        """Open, or with CREATE make, a file."""
        if OpenFlags.CREATE in flags and OpenFlags.EXCLUSIVE not in flags and owner is None and not mode & 0o7000:
            directory = self.free(path)
            if directory is not None and self.inner.trusted():
                return self.begin(directory, path, flags, mode)
        await MakingFileSystem.reach(self, path)  # not what was promised: that may be read here
        return await super().open(path, flags, mode, owner)

    def begin(self, directory: int, path: str, flags: OpenFlags, mode: int) -> NewFile:
        """Open a file where nothing stands; it is made later."""
        attr = self.own(directory, NodeType.FILE, mode)
        with self.copies.question() as question:
            self._made(question, directory, parent_and_name(path)[1], attr)
        return self.hold(NewFile(self, path, flags, attr, self._clock()))

    def hold(self, file: NewFile) -> NewFile:
        """Hold an open file that the server does not have yet."""
        self._unmade[file.path] = file
        self._open.setdefault(file.node_id, set()).add(file)
        if not self._lingering:
            self._lingering = True
            self.nursery.start_soon(self._make_lingering)
        return file

    def closed(self, file: CachedFile) -> None:
        """An open file has ended."""
        if isinstance(file, NewFile) and self._unmade.get(file.path) is file:
            del self._unmade[file.path]
        super().closed(file)

    async def _make_lingering(self) -> None:
        try:
            while self._unmade:
                await trio.sleep(LINGER_S)
                until_s = self._clock() - LINGER_S
                for file in [file for file in self._unmade.values() if file.since_s <= until_s]:
                    await file.make_quietly()
        finally:
            self._lingering = False

    def holds(self, size_bytes: int) -> bool:
        """Tell whether a file of that size is still held here."""
        return size_bytes <= FIRST_BYTES_MAX

    def waits(self) -> bool:
        """Tell whether a file is made only when it is closed."""
        return False

    def held_again(self, file: NewFile) -> bytes | None:
        """Return all bytes of a file that was made, where it may be held here once more to be given others."""
        return None

    async def make(self, file: NewFile) -> None:
        """Have a file made; only the file itself calls this."""
        data = bytes(file.content or b"")
        with self.copies.question() as question:
            opened: OpenFile | None = None
            try:
                if data or file.changes != NO_CHANGES:
                    attr = await self.server.make_file(file.path, file.attr.mode, data, file.changes)
                else:  # its bytes may still come
                    opened = await self._open_and_write(file, data)
                    attr = opened.attr
            except PfsError as error:
                if error.kind not in _UNCERTAIN:
                    self._not_made(file, error)
                    raise
                opened = await self._open_and_write(file, data)
                attr = replace(opened.attr, size=max(opened.attr.size, len(data)), leased=False, valid_s=0.0)
            self.counters.sent_bytes += len(data)
            attr = kept(question, attr)
            former, (parent, name) = file.node_id, parent_and_name(file.path)
            self._unmade.pop(file.path, None)
            file.made(attr, opened)
            self.adopt(question, former, (self.node_if_known(parent), name), attr, data if opened is None else None)

    async def _open_and_write(self, file: NewFile, data: bytes) -> OpenFile:
        """Make or open a file as programs do that do not care whether it is there: somebody may have been sooner."""
        flags = file.asked & ~OpenFlags.EXCLUSIVE | OpenFlags.CREATE | OpenFlags.WRITE
        opened = await self.server.open(file.path, flags, file.attr.mode)
        try:
            if data:
                await opened.write(0, data)
        except BaseException:
            await opened.release()
            raise
        return opened

    def _not_made(self, file: NewFile, error: PfsError) -> None:
        if error.kind is not Kind.TIMED_OUT:
            self._unmade.pop(file.path, None)
            self.doubt(file.path, file.node_id)

    def doubt(self, path: str, node_id: int) -> None:
        """Forget what this mount took to be so about a path and its directory."""
        directory = self.node_if_known(parent_and_name(path)[0])
        self.copies.broken([node_id] if directory is None else [node_id, directory])

    def adopt(
        self, question: Question, former: int, place: tuple[int | None, str], attr: Attr, data: bytes | None = None
    ) -> None:
        """Take what the server has made for what had a number of this mount's own.

        Args:
            place: the directory, where it is known, and the name.
            data: all its bytes, where they are to be kept.
        """
        directory, name = place
        if directory is not None and self.copies.child(directory, name) == former:
            self.copies.set_name(directory, name, attr.node_id)
        self.copies.adopt(former, attr)
        for file in (files := self._open.pop(former, set())):
            file.attr = attr if isinstance(file, NewFile) else replace(file.attr, node_id=attr.node_id)
        if files:
            self._open.setdefault(attr.node_id, set()).update(files)
        if data is not None and attr.leased and len(data) <= SMALL_BYTES_MAX:
            self.copies.learn_content(question, Content(name, attr, data), self._clock())
        self.adopted(former, attr.node_id)

    # ---- what has to wait for them

    async def reach(self, *paths: str) -> None:
        """Return when what was made at these paths, above or below them, is at the server, or could not be."""
        if self._unmade:
            for file in [file for file in self._unmade.values() if is_near(file.path, paths)]:
                await file.make_quietly()

    async def settle(self, node_id: int | None) -> None:
        """Return when the server has everything that this mount has written to a file, or to any."""
        for file in [file for file in self._unmade.values() if node_id in (None, file.node_id)]:
            await file.make_quietly()
        await super().settle(node_id)

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory's."""
        await self.reach(path)
        await super().unlink(path)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Move a name."""
        await self.reach(source, target)
        await super().rename(source, target, mode)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change attributes."""
        await self.reach(path)
        return await super().setattr(path, changes)

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        """Set an extended attribute."""
        await self.reach(path)
        await super().setxattr(path, name, value, mode)

    async def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        await self.reach(path)
        await super().removexattr(path, name)


def is_near(path: str, others: Iterable[str]) -> bool:
    """Tell whether a path is one of the others, or above or below one of them."""
    return any(_is_above(path, other) or _is_above(other, path) for other in others)


def _is_above(path: str, other: str) -> bool:
    return path in ("", other) or other.startswith(path + "/")
