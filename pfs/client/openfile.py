"""An open file of a server: read and written over the connection, beside it, or on this machine's own disk."""

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import trio

from pfs.api import Attr, Changes, Closing, OpenFlags, XattrCall
from pfs.client.connection import Connection
from pfs.errors import Kind, PfsError
from pfs.parts import Part
from pfs.protocol import nearby
from pfs.protocol.answers import decode_attr, decode_opening, decode_piece
from pfs.protocol.wire import Json, encode_changes, encode_flags

MESSAGE_BYTES_MAX = 128 * 1024  # larger pieces travel beside the channel
NEWS_S = 0.02  # whoever was woken reads at once, and whoever looked opens; later it may be another text again
NO_HANDLE = -1
_memory = bytearray(1024 * 1024)  # kept: to clear fresh memory costs as much as to read into it


@dataclass(frozen=True, slots=True)
class _News:
    """A text that the server told while somebody waited for another one, its number there, and how long it is new."""

    number: int
    text: bytes
    until_s: float


class RemoteFile:
    """`pfs.api.OpenFile` of a server; after a lost connection every call is BAD_HANDLE."""

    def __init__(
        self, connection: Connection, handle: int, attr: Attr, flags: OpenFlags, whole: bytes | None = None
    ) -> None:
        self._connection = connection
        self._handle = handle
        self._secret = connection.secret
        ordinary = not (attr.volatile or attr.stream or attr.commits or attr.settled)
        self._bulk = ordinary and bool(self._secret)
        self._bulk_writes = self._bulk and OpenFlags.APPEND not in flags  # a range may be sent twice
        self._near = ordinary
        self._descriptor: int | None = None
        self._whole = whole  # all of a text as it was opened, until it is read from its beginning once more
        self._unread = whole is not None
        self._news: _News | None = None
        self._read_news: int | None = None  # what of the news was read, and the server does not know
        self.attr = attr

    async def _ask(self, op: str, args: Json, body: bytes = b"", *, patient: bool = False) -> tuple[Json, bytes]:
        args["handle"] = self._handle
        # safe to repeat: on another connection the handle is unknown, and nothing is done twice
        return await self._connection.ask(op, args, body, again=True, patient=patient)

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        if offset == 0 and self._news is not None:
            self._take_news(self._news)
        if self._whole is not None:
            if offset or self._unread:
                self._unread = False
                return self._whole[offset : offset + size]
            self._whole = self._read_news = None
        if self._near and (fd := await self._own_descriptor()) is not None:
            return await _read_directly(fd, offset, size)
        if self._bulk and size > MESSAGE_BYTES_MAX:
            try:
                return await self._connection.transfer.read(self._secret, self._handle, offset, size)
            except PfsError as error:
                if error.kind is not Kind.UNREACHABLE:
                    raise  # else the channel knows better: it waits for the server
        patient = wait and self.attr.stream
        args = {"offset": offset, "size": size, "wait": wait}
        return decode_piece((await self._ask("read", args, patient=patient))[1], size)

    async def _own_descriptor(self) -> int | None:
        """Return a descriptor of the server's file, where the server is on this machine."""
        if self._descriptor is None:
            socket = self._connection.socket
            self._near = False
            if socket and self._secret:
                self._descriptor = await nearby.descriptor(socket, self._secret, self._handle)
                self._near = self._connection.near = self._descriptor is not None
                if not self._near:
                    self._connection.socket = None  # another machine, or a container without it
        return self._descriptor

    async def write(self, offset: int, data: bytes) -> int:
        await self.write_parts(offset, (data,))
        return len(data)

    async def write_parts(self, offset: int, parts: Sequence[Part]) -> None:
        if self._bulk_writes and sum(map(len, parts)) > MESSAGE_BYTES_MAX:
            try:
                await self._connection.transfer.write(self._secret, self._handle, offset, *parts)
                return
            except PfsError as error:
                if error.kind is not Kind.UNREACHABLE:
                    raise
        await self._ask("write", {"offset": offset}, b"".join(parts))

    async def setattr(self, changes: Changes) -> Attr:
        return decode_attr((await self._ask("fsetattr", {"changes": encode_changes(changes)}))[0])

    async def getattr(self) -> Attr:
        return decode_attr((await self._ask("fgetattr", {}))[0])

    async def xattr(self, call: XattrCall) -> bytes:
        args = {"verb": call.verb.value, "name": call.name, "mode": call.mode.value}
        return (await self._ask("fxattr", args, call.value))[1]

    async def changed(self, *, wait: bool = True) -> bytes | None:
        if self._unread:
            return None
        args: Json = {"wait": wait} if self._read_news is None else {"wait": wait, "read": self._read_news}
        result, text = await self._ask("changed", args, patient=wait)
        number = result.get("news")
        if not isinstance(number, int):
            return None
        self._news = _News(number, text, trio.current_time() + NEWS_S)
        return text

    def _take_news(self, news: _News) -> None:
        """Let who waited for another text read it without asking once more; not if it has grown old."""
        self._news = None
        if trio.current_time() < news.until_s:
            self._whole, self._unread, self._read_news = news.text, True, news.number

    async def flush(self, closing: Closing) -> None:
        await self._ask("flush", {"closing": closing.value})

    async def fsync(self) -> None:
        await self._ask("fsync", {})

    async def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._near, self._descriptor = False, None
        try:
            await self._ask("release", {})
        except PfsError as error:
            if error.kind not in (Kind.BAD_HANDLE, Kind.TIMED_OUT):
                raise


class SeenText(RemoteFile):
    """An open text whose picture was told with its attributes: the server opens it when it is asked for more.

    Args:
        path: where it stands.
        text: all of it.
    """

    def __init__(self, connection: Connection, path: str, attr: Attr, text: bytes) -> None:
        super().__init__(connection, NO_HANDLE, attr, OpenFlags.READ, text)
        self._path = path
        self._text = text
        self._turn = trio.Lock()
        self._moved_on = False  # what the server opened is another text than the one that was seen

    async def _ask(self, op: str, args: Json, body: bytes = b"", *, patient: bool = False) -> tuple[Json, bytes]:
        await self._open()
        return await super()._ask(op, args, body, patient=patient)

    async def _open(self) -> None:
        async with self._turn:
            if self._handle == NO_HANDLE:
                flags = encode_flags(OpenFlags.READ)
                args = {"path": self._path, "node_id": self.attr.node_id, "flags": flags}
                result, text = await self._connection.ask("reopen", args, again=True)
                self._handle, _ = decode_opening(result)
                self._moved_on = result.get("whole") is not True or text != self._text

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        data = await super().read(offset, size, wait=wait)
        if self._handle != NO_HANDLE and offset == 0:
            self._moved_on = False
        return data

    async def changed(self, *, wait: bool = True) -> bytes | None:
        if not self._unread:
            await self._open()
        return None if self._moved_on else await super().changed(wait=wait)

    async def release(self) -> None:
        if self._handle != NO_HANDLE:
            await super().release()


class SoFar(RemoteFile):
    """An open stream of which only is read what there is."""

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        try:
            return await super().read(offset, size, wait=False)
        except PfsError as error:
            if error.kind is not Kind.WOULD_BLOCK:
                raise
            return b""

    async def getattr(self) -> Attr:
        return replace(await super().getattr(), stream=False)


async def _read_directly(fd: int, offset: int, size: int) -> bytes:
    """Read from this machine's own page cache at once, or from its disk in a thread."""
    with memoryview(_memory)[:size] as view, contextlib.suppress(OSError):  # this file system may not be able to tell
        if len(view) == size == os.preadv(fd, [view], offset, os.RWF_NOWAIT):
            return bytes(view)
    try:
        return await trio.to_thread.run_sync(os.pread, fd, size, offset)
    except OSError as error:
        raise PfsError(Kind.IO, f"the file could not be read: {error.strerror}") from None
