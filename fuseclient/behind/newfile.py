"""An open file that the server does not know yet: it is made there when its bytes come, with them, in one message.

    opened ──▶ unmade: its bytes are here ──make──▶ made: a file as any other, opened at the server when it is needed

It is made with its first bytes, so that whoever writes hears what goes wrong; or, where its file system says so
(`--write-behind`), when it is closed. A file that is opened and nothing done with, that grows large, or that anybody
looks at through the server, is made before. Who could not make it because the server was away may try again.
"""

import logging
from dataclasses import replace
from typing import Protocol

import trio

from fuseclient.behind.queue import Version
from fuseclient.cache.file import CachedFile, Copied
from pfs.api import Attr, Changes, Closing, OpenFile, OpenFlags
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

AWAY = (Kind.TIMED_OUT, Kind.UNREACHABLE)
_KEPT = ("mode", "atime_ns", "mtime_ns")
NO_CHANGES = Changes()
HERE = OpenFlags.READ | OpenFlags.WRITE | OpenFlags.APPEND  # what opening it again at the server means


class Making(Copied, Protocol):
    """What a new file needs of its file system."""

    def now_ns(self) -> int: ...

    def holds(self, size_bytes: int) -> bool:
        """Tell whether a file of that size is still held here."""

    def waits(self) -> bool:
        """Tell whether a file is made only when it is closed."""

    def held_again(self, file: "NewFile") -> bytes | None:
        """Return all bytes of a file that was made, where it may be held here once more to be given others."""

    async def make(self, file: "NewFile") -> None:
        """Have a file made."""


class NewFile(CachedFile):
    """One open file that was not there before.

    Args:
        attr: as it is here; the server will give it another number.

    Attributes:
        path: where it stands.
        attr: as it is now.
        asked: how it was opened.
        changes: of its attributes, to be made with it.
        content: all its bytes; None when it is made.
        since_s: when it was opened.
        before: what it is to be in place of; None where nothing stands.
    """

    def __init__(
        self,
        filesystem: Making,
        path: str,
        flags: OpenFlags,
        attr: Attr,
        since_s: float,
        *,
        before: Version | None = None,
    ) -> None:
        super().__init__(filesystem, path, flags & HERE, attr, None)
        self._making = filesystem
        self._under_way: trio.Event | None = None
        self._first_bytes_sent = False
        self.path = path
        self.asked = flags
        self.changes = NO_CHANGES
        self.content: bytearray | None = bytearray()
        self.since_s = since_s
        self.before = before

    @property
    def unmade(self) -> bool:
        """True while the server does not know it."""
        return self.content is not None

    @property
    def dirty(self) -> bool:
        """True while the server does not have all that was written."""
        return self.unmade or super().dirty

    @property
    def dirty_bytes(self) -> int:
        """How much of what was written the server does not have."""
        return (len(self.content) if self.content is not None else 0) + super().dirty_bytes

    # ---- being made

    async def make(self) -> None:
        """Have it made, unless it is.

        Raises:
            PfsError: it could not be; where the server was away, it may be tried again.
        """
        while self._under_way is not None:
            await self._under_way.wait()
        if self.content is None:
            return
        done = self._under_way = trio.Event()
        try:
            await self._making.make(self)
        except PfsError as error:
            if error.kind not in AWAY:
                self.made(self.attr)
                self._lost = error
            raise
        finally:
            self._under_way = None
            done.set()

    async def make_quietly(self) -> None:
        """Have it made; what goes wrong is said to whoever uses it next."""
        try:
            await self.make()
        except PfsError as error:
            log.debug("%s: %s", self.path, error)

    def fail(self, error: PfsError) -> None:
        """Tell whoever uses it next, and flushes or closes it, what has become of it."""
        self._lost = error

    def made(self, attr: Attr, opened: OpenFile | None = None) -> None:
        """Note that it is made, and perhaps open at the server; an empty one has still to send its first bytes."""
        self.attr = attr
        self._inner = opened
        self._first_bytes_sent = bool(self.content)
        self.content = None

    async def open_quietly(self) -> None:
        """Open it at the server; what goes wrong is said when it is next used."""
        await self.make_quietly()
        await super().open_quietly()

    async def _opened(self) -> OpenFile:
        await self.make()
        return await super()._opened()

    # ---- being used

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return up to `size` bytes."""
        if self.content is not None:
            return bytes(self.content[offset : offset + size])
        return await super().read(offset, size, wait=wait)

    async def write(self, offset: int, data: bytes) -> int:
        """Take all of `data`."""
        if self.content is None and self._inner is None and self._lost is None:
            self._hold_again()  # a shell closes one descriptor before it writes to the other
        if self.content is None or self._under_way is not None or not self._lay(offset, data):
            await self.make()
            return await self._write_on(offset, data)
        if not self._making.waits():
            await self.make()
        return len(data)

    def _hold_again(self) -> None:
        content = self._making.held_again(self)
        if content is not None:
            self.before = Version(self.node_id, self.attr.size, self.attr.mtime_ns)
            self.content = bytearray(content)

    async def _write_on(self, offset: int, data: bytes) -> int:
        if self._lost is not None:
            raise self._lost
        await self._fs.settle_others(self)  # whoever made a file may open it: that can wait for the bytes
        self._fs.copies.wrote(self.node_id, offset + len(data))
        if self._first_bytes_sent:
            self._writer.begin()
        await self._writer.add(offset, data)
        return len(data)

    def _lay(self, offset: int, data: bytes) -> bool:
        """Add bytes to those that are here; return False when that would be too many."""
        content = self.content
        if content is None:
            return False
        if OpenFlags.APPEND in self.asked:
            offset = len(content)
        if not self._making.holds(max(len(content), offset + len(data))):
            return False
        if offset > len(content):
            content.extend(bytes(offset - len(content)))
        content[offset : offset + len(data)] = data
        self._changed()
        return True

    async def setattr(self, changes: Changes) -> Attr:
        """Change attributes of what is open."""
        content, size = self.content, changes.size
        here = changes.uid is None and changes.gid is None and not (changes.mode or 0) & 0o6000
        here = here and self._under_way is None and (size is None or self._making.holds(size))
        if content is None or not here:
            await self.make()
            return await super().setattr(changes)
        if size is not None and size != len(content):
            del content[size:]
            content.extend(bytes(size - len(content)))
            self._changed()
        asked = {name: value for name in _KEPT if (value := getattr(changes, name)) is not None}
        self.changes = replace(self.changes, **asked)
        self.attr = replace(self.attr, ctime_ns=self._making.now_ns(), **asked)
        self._fs.copies.relearn(self.attr)
        return self.attr

    def _changed(self) -> None:
        """Note that its bytes have changed; a time that was set before holds no more."""
        now_ns, size = self._making.now_ns(), len(self.content or b"")
        if self.changes.mtime_ns is not None:
            self.changes = replace(self.changes, mtime_ns=None)
        self.attr = replace(self.attr, size=size, blocks=-(-size // 512), mtime_ns=now_ns, ctime_ns=now_ns)
        self._fs.copies.relearn(self.attr)

    async def getattr(self) -> Attr:
        """Tell what is open."""
        return self.attr if self.unmade else await super().getattr()

    def flush_at_once(self) -> bool:
        return self.content is None and self._lost is None and "_writer" not in vars(self)

    async def flush(self, closing: Closing) -> None:
        """A descriptor was closed."""
        await self.make()
        if self._lost is not None:
            raise self._lost
        await super().flush(closing)

    async def settle(self) -> None:
        """Return when the server has everything that was written; its writer will hear of what went wrong."""
        await self.make_quietly()
        await super().settle()

    async def release(self) -> None:
        """The last descriptor is gone."""
        try:
            await self.make()
        except PfsError as error:
            log.error("%s: it could not be made: %s", self.path, error)
        self.content = None
        await super().release()
