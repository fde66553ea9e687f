"""An open ordinary file of a `CachedFileSystem`: read from copies, written in gathered pieces.

The server's file is opened when it is first needed. One that the server knows no more, because it was restarted, is
opened again, the same node wherever it is by now, and the call is repeated: bytes that were not confirmed are
simply written again. Only what is added at an end cannot be: if the file has grown meanwhile, nobody can tell
by whom.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import cached_property, partial
from typing import Protocol, TypeVar

import trio

from fuseclient.cache.blockfetch import BlockFetcher
from fuseclient.cache.blockindex import BLOCK_BYTES, Key
from fuseclient.cache.blocks import BlockCache
from fuseclient.cache.copies import Copies
from fuseclient.cache.reader import Reader
from fuseclient.cache.scatter import Scatter
from fuseclient.cache.writer import Writer
from fuseclient.counters import Counters
from fuseclient.prompt import PromptFile
from pfs.api import Attr, Changes, Closing, InParts, LeasingFileSystem, OpenFile, OpenFlags, XattrCall
from pfs.errors import Kind, PfsError
from pfs.parts import Part

log = logging.getLogger(__name__)

AT_ONCE_BYTES_MAX = 64 * 1024  # read from the local disk's memory without a thread
ROOM_TIMEOUT_S = 10.0
DIRECT_READS = 3  # of a file that is being changed, before it is asked whether that is over
TRIES = 5  # a server may go away again and again
_ONCE = OpenFlags.CREATE | OpenFlags.EXCLUSIVE | OpenFlags.TRUNCATE
T = TypeVar("T")


class Copied(Protocol):
    """What an open file needs of its file system."""

    inner: LeasingFileSystem
    nursery: trio.Nursery
    copies: Copies
    counters: Counters
    datacenter: str
    blocks: BlockCache | None
    block_places: trio.CapacityLimiter

    async def look_out(self) -> None: ...

    def known(self, node_id: int) -> Attr | None: ...

    def content(self, node_id: int) -> bytes | None: ...

    def is_dirty(self, node_id: int) -> bool: ...

    def closed(self, file: "CachedFile") -> None: ...

    async def asked(self, file: OpenFile) -> Attr: ...

    async def settle(self, node_id: int | None) -> None: ...

    async def settle_others(self, file: "CachedFile") -> None: ...

    async def changed(self, node_id: int | None, ask: Callable[[], Awaitable[Attr]]) -> Attr: ...


class CachedFile(PromptFile):
    """One open file.

    Args:
        path: where it stood when it was opened.
        attr: what was opened.
        inner: the server's open file; None as long as it was not needed.
    """

    def __init__(self, filesystem: Copied, path: str, flags: OpenFlags, attr: Attr, inner: OpenFile | None) -> None:
        self._fs = filesystem
        self._path = path
        self._flags = flags
        self._inner = inner
        self._lost: PfsError | None = None
        self._ended = False
        self._version: tuple[int, int, int] | None = None
        self._direct_reads = 0
        self._end: int | None = None
        self.attr = attr

    # what most openings of small files do without is made when it is needed

    @cached_property
    def _opening(self) -> trio.Lock:
        return trio.Lock()

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self._fetch, self._fs.nursery, self._lone)

    @cached_property
    def _scatter(self) -> Scatter:
        blocks = self._fs.blocks
        return Scatter(0 if blocks is None else blocks.statistics().limit_bytes)

    @cached_property
    def _blocks_wanted(self) -> BlockFetcher:
        return BlockFetcher(self._fetch_blocks, self._fs.nursery, self._fs.block_places)

    @cached_property
    def _writer(self) -> Writer:
        return Writer(self._deliver, self._fs.nursery, in_order=OpenFlags.APPEND in self._flags)

    @property
    def node_id(self) -> int:
        """What is open."""
        return self.attr.node_id

    @property
    def lazy(self) -> bool:
        """True while the server does not know that it is open."""
        return self._inner is None and self._lost is None

    @property
    def dirty(self) -> bool:
        """True while the server does not have all that was written."""
        return "_writer" in vars(self) and self._writer.dirty

    @property
    def dirty_bytes(self) -> int:
        """How much of what was written the server does not have."""
        return self._writer.dirty_bytes if "_writer" in vars(self) else 0

    async def open_quietly(self) -> None:
        """Open it at the server; what goes wrong is said when it is next used."""
        try:
            await self._opened()
        except PfsError as error:
            self._lost = error

    async def _opened(self) -> OpenFile:
        if self._inner is not None:
            return self._inner
        async with self._opening:
            if self._inner is None:
                if self._lost is not None:
                    raise self._lost
                file = await self._fs.inner.open(self._path, self._flags, 0)
                if file.attr.node_id != self.node_id or self._ended:
                    await file.release()
                    raise PfsError(Kind.STALE, "another file stands there by now", self._path)
                self._inner = file
            return self._inner

    async def _ask(self, ask: Callable[[OpenFile], Awaitable[T]]) -> T:
        """Ask the server's file; one that it knows no more is opened again first."""
        for _ in range(TRIES):
            file = await self._opened()
            try:
                return await ask(file)
            except PfsError as error:
                if error.kind is not Kind.BAD_HANDLE:
                    raise
            async with self._opening:
                if self._inner is file:
                    self._inner = await self._fs.inner.reopen(self._path, self.node_id, self._flags & ~_ONCE)
                    await self._check_end(self._inner)
        raise PfsError(Kind.TIMED_OUT, "the server comes and goes", self._path)

    async def _check_end(self, file: OpenFile) -> None:
        if OpenFlags.APPEND in self._flags and self._end is not None and (await file.getattr()).size != self._end:
            # the answer may have been lost, not the question: better an error than the same bytes twice
            raise PfsError(Kind.STALE, "nobody knows whether this was appended before the server went", self._path)

    # ---- reading

    def read_at_once(self, offset: int, size: int) -> bytes | None:
        content = self._fs.content(self.node_id)
        return self._block_at_once(offset, size) if content is None else content[offset : offset + size]

    def _block_at_once(self, offset: int, size: int) -> bytes | None:
        blocks, inner = self._fs.blocks, self._fs.inner
        if blocks is None or size > AT_ONCE_BYTES_MAX or inner.is_near() or not inner.trusted():
            return None
        attr = self._fs.known(self.node_id)
        if attr is None or not attr.leased or self._fs.is_dirty(self.node_id):
            return None
        number, start = divmod(offset, BLOCK_BYTES)
        key = Key(self._fs.datacenter, self.node_id, attr.size, attr.mtime_ns, attr.ctime_ns)
        end = min(start + size, key.block_size(number))
        if not start < end or start + size > BLOCK_BYTES:
            return None
        data = blocks.get_at_once(key, number, start, end)
        if data is not None:
            self._scatter.hit()
        return data

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return up to `size` bytes."""
        near = self._fs.inner.is_near() and self._inner is not None  # then the server need not be there
        if not near:
            await self._fs.look_out()
        content = self._fs.content(self.node_id)
        if content is not None:
            return content[offset : offset + size]
        await self._fs.settle(self.node_id)
        if near or (self._fs.inner.is_near() and not self._fs.inner.is_away()):
            return await self._ask(partial(self._read, offset, size))
        attr = self._fs.known(self.node_id)
        if attr is None or not attr.leased:
            self._direct_reads += 1
            if self._direct_reads <= DIRECT_READS:
                return await self._ask(partial(self._read, offset, size))
            attr = await self._ask(self._fs.asked)
        if attr.leased:
            self._direct_reads = 0
        version = attr.size, attr.mtime_ns, attr.ctime_ns
        if version != self._version:
            self._version = version
            self._reader.clear()
            self._stop_blocks()
        return await self._reader.read(offset, size, attr.size)

    async def _read(self, offset: int, size: int, file: OpenFile) -> bytes:
        data = await file.read(offset, size)
        self._fs.counters.fetched_bytes += len(data)
        return data

    async def _fetch(self, offset: int, size: int) -> bytes:
        """Fetch a piece; whole blocks of it from the local disk, or to be kept there."""
        blocks, version = self._fs.blocks, self._version
        if blocks is None or version is None:
            return await self._fetch_from_server(offset, size)
        key = Key(self._fs.datacenter, self.node_id, *version)
        numbers = range(offset // BLOCK_BYTES, -(-(offset + size) // BLOCK_BYTES))
        before, whole_end = offset % BLOCK_BYTES, min(numbers.stop * BLOCK_BYTES, version[0])
        whole = before == 0 and offset + size == whole_end
        if whole or self._fs.inner.is_away() or all(blocks.holds(key, number) for number in numbers):
            kept = await trio.to_thread.run_sync(_kept, blocks, key, numbers, offset, size)
            if kept is not None:
                return kept
        data = await self._fetch_from_server(offset, size)
        if whole and self._is_still(version):
            _put(blocks, key, numbers, data, wanted=False)
        return data

    def _is_still(self, version: tuple[int, int, int]) -> bool:
        """Tell whether what was asked for before now is known to be of this version."""
        attr = self._fs.known(self.node_id)
        return attr is not None and attr.leased and (attr.size, attr.mtime_ns, attr.ctime_ns) == version

    def _lone(self, offset: int, size: int, file_size: int) -> None:
        if self._fs.blocks is not None and self._fs.inner.trusted():
            numbers = self._scatter.read(offset, size, file_size)
            if numbers:
                self._blocks_wanted.want(numbers)

    async def _fetch_blocks(self, numbers: Sequence[int]) -> bool:
        """Bring blocks that follow one another from the server to the local disk, if it is known what they are of."""
        blocks, version = self._fs.blocks, self._version
        if blocks is None or version is None or not self._is_still(version) or self._fs.inner.is_near():
            return False
        key = Key(self._fs.datacenter, self.node_id, *version)
        missing = [number for number in numbers if not blocks.holds(key, number)]
        if not missing:
            return True
        if not await trio.to_thread.run_sync(blocks.wait_for_room, ROOM_TIMEOUT_S, abandon_on_cancel=True):
            return False
        numbers = range(missing[0], missing[-1] + 1)
        try:
            data = await self._fetch_from_server(numbers[0] * BLOCK_BYTES, sum(map(key.block_size, numbers)))
        except PfsError as error:  # whoever reads there hears of it
            log.debug("fetching blocks: %s", error)
            return False
        if not self._is_still(version):
            return False
        _put(blocks, key, numbers, data, wanted=True)
        return True

    def _stop_blocks(self) -> None:
        if "_blocks_wanted" in vars(self):
            self._blocks_wanted.stop()

    async def _fetch_from_server(self, offset: int, size: int) -> bytes:
        pieces: list[bytes] = []
        read = 0
        while read < size:  # an answer holds only so much
            piece = await self._ask(partial(self._read, offset + read, size - read))
            if not piece:
                break
            pieces.append(piece)
            read += len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    # ---- writing

    async def write(self, offset: int, data: bytes) -> int:
        """Take all of `data`; the server has it when `flush` returns."""
        await self._opened()
        await self._fs.settle_others(self)
        self._fs.copies.wrote(self.node_id, offset + len(data))
        await self._writer.add(offset, data)
        return len(data)

    async def _deliver(self, offset: int, parts: Sequence[Part]) -> None:
        self._end = offset
        try:
            await self._ask(partial(_write, offset, parts))
            self._fs.counters.sent_bytes += sum(map(len, parts))
        finally:
            self._fs.copies.touch(self.node_id)

    async def settle(self) -> None:
        """Return when the server has everything that was written; its writer will hear of what went wrong."""
        if "_writer" in vars(self):
            await self._writer.drain()

    async def setattr(self, changes: Changes) -> Attr:
        """Change attributes of what is open, also when its name is gone."""
        await self._fs.settle(self.node_id)
        return await self._fs.changed(self.node_id, lambda: self._ask(lambda file: file.setattr(changes)))

    async def getattr(self) -> Attr:
        """Tell what is open."""
        await self._fs.look_out()
        if not self._fs.inner.is_away():
            await self._fs.settle(self.node_id)
        attr = self._fs.known(self.node_id)
        if attr is not None:
            return attr
        return await self._ask(self._fs.asked)

    async def xattr(self, call: XattrCall) -> bytes:
        """Answer about the extended attributes of what is open."""
        try:
            return await self._ask(lambda file: file.xattr(call))
        finally:
            if call.changes:
                self._fs.copies.touch(self.node_id)

    async def flush(self, closing: Closing) -> None:
        """A descriptor was closed: the server has everything when this returns.

        Also what was written through other openings: the kernel gives pages of a mapping to any of them.
        """
        await self._fs.settle_others(self)
        await self._writer.flush()

    async def fsync(self) -> None:
        """Return when the server's disk has it."""
        await self._fs.settle_others(self)
        await self._writer.flush()
        await self._ask(lambda file: file.fsync())

    def release_at_once(self) -> bool:
        if self._inner is not None or self.dirty:
            return False
        self._ended = True
        self._stop_blocks()
        self._fs.closed(self)
        return True

    async def release(self) -> None:
        """The last descriptor is gone."""
        self._stop_blocks()
        await self.settle()
        if self._writer.dirty:
            log.error("%s: what was written last is lost, the server was away for too long", self._path)
        self._ended = True
        self._fs.closed(self)
        if self._inner is not None:
            await self._inner.release()


async def _write(offset: int, parts: Sequence[Part], file: OpenFile) -> None:
    if isinstance(file, InParts):
        await file.write_parts(offset, parts)
    else:
        await file.write(offset, b"".join(parts))


def _put(blocks: BlockCache, key: Key, numbers: Sequence[int], data: bytes, *, wanted: bool) -> None:
    """Keep blocks that follow one another on the local disk."""
    view = memoryview(data)
    for place, number in enumerate(numbers):
        blocks.put(key, number, view[place * BLOCK_BYTES : (place + 1) * BLOCK_BYTES], wanted=wanted)


def _kept(blocks: BlockCache, key: Key, numbers: range, offset: int, size: int) -> bytes | None:
    """Return bytes of a file if all blocks in which they are are on the local disk. Runs in a thread."""
    found = []
    for number in numbers:
        begin = number * BLOCK_BYTES
        data = blocks.get(key, number, max(0, offset - begin), min(BLOCK_BYTES, offset + size - begin))
        if data is None:
            return None
        found.append(data)
    return found[0] if len(found) == 1 else b"".join(found)
