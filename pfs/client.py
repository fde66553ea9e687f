"""The tree over the network: `pfs.api.FileSystem` for the mount, and channels for whoever else talks to a server.

A `RemoteFileSystem` keeps one connection and makes it anew when it goes. Whoever asks meanwhile waits, at most
`DEADLINE_S` in all, and then gets TIMED_OUT. Questions that change nothing are asked again after a lost
connection; one that may have changed something is not, since nobody knows whether it did.
"""

import logging
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from pfs.api import Attr, Changes, Closing, Entry, OpenFile, OpenFlags, RenameMode, Space
from pfs.channel import Channel, ChannelClosed, Handler
from pfs.errors import Kind, PfsError
from pfs.keys import address_of, bearer
from pfs.path import check_target
from pfs.wire import (
    CHANNEL_PATH,
    FRAME_BYTES_MAX,
    Json,
    decode_attr,
    decode_entries,
    decode_space,
    encode_changes,
    encode_flags,
)

log = logging.getLogger(__name__)

DEADLINE_S = 30.0
CONNECT_TIMEOUT_S = 10.0
SILENCE_MAX_S = 60.0  # the server pings every 20 s: longer silence is a dead peer
RETRY_FIRST_S, RETRY_MOST_S = 0.05, 2.0
RECEIVE_BYTES = 256 * 1024


@asynccontextmanager
async def connect_channel(url: str, token: str, handler: Handler, ca: str | None = None) -> AsyncIterator[Channel]:
    """Connect to the server at `url` and hold the channel while the block runs.

    Args:
        url: `http://host:port` or `https://…`.
        token: a user's token or a node's key.
        handler: answers the server's questions.
        ca: file with the certificate authority to trust instead of the system's.

    Raises:
        PfsError: UNREACHABLE, UNAUTHENTICATED or INVALID, with a sentence for people.
    """
    with trio.move_on_after(CONNECT_TIMEOUT_S) as scope:
        transport = await _dial(url, token, ca)
    if scope.cancelled_caught:
        raise PfsError(Kind.UNREACHABLE, f"the server at {url} does not answer")
    channel = Channel(transport, handler)
    failure: PfsError | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            try:
                yield channel
            finally:
                nursery.cancel_scope.cancel()
    except* PfsError as group:
        failure = _only(group)
    if failure is not None:
        raise failure


async def _dial(url: str, token: str, ca: str | None) -> "_ClientTransport":
    address, header = address_of(url), bearer(token)
    context = _trust(ca) if address.secure else None
    try:
        stream: trio.abc.Stream = await trio.open_tcp_stream(address.host, address.port)
    except (OSError, UnicodeError) as error:
        raise PfsError(Kind.UNREACHABLE, f"no connection to the server at {url}: {_why(error)}") from None
    try:
        if context is not None:
            stream = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
            await stream.do_handshake()
        transport = _ClientTransport(stream)
        await transport.handshake(urlsplit(url).netloc.rpartition("@")[2], header, url)
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, OSError | trio.BrokenResourceError):
            raise PfsError(Kind.UNREACHABLE, f"no connection to the server at {url}: {_why(error)}") from None
        raise
    return transport


def _trust(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise PfsError(Kind.INVALID, f"the certificate authority {ca} cannot be read: {_why(error)}") from None


def _why(error: BaseException) -> str:
    while isinstance(error.__cause__, BaseException):
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


class _ClientTransport:
    """Carries messages over a WebSocket, the asking side."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._parts: list[bytes] = []
        self._messages: list[bytes] = []
        self._sending = trio.Lock()
        self._over = False

    async def handshake(self, host: str, header: str, url: str) -> None:
        headers = [(b"authorization", header.encode())]
        await self._write(self._ws.send(Request(host=host, target=CHANNEL_PATH, extra_headers=headers)))
        while data := await self._stream.receive_some(RECEIVE_BYTES):
            try:
                self._ws.receive_data(bytes(data))
                for event in self._ws.events():
                    if isinstance(event, AcceptConnection):
                        return
                    if isinstance(event, RejectConnection):
                        raise _rejection(event.status_code, url)
            except RemoteProtocolError:
                raise PfsError(Kind.UNREACHABLE, f"what answers at {url} is not a pfs server") from None
        raise PfsError(Kind.UNREACHABLE, f"the server at {url} hung up")

    async def send(self, message: bytes) -> None:
        try:
            await self._write(self._ws.send(BytesMessage(data=message)))
        except LocalProtocolError:
            raise trio.ClosedResourceError from None

    async def receive(self) -> bytes | None:
        while True:
            try:
                for event in self._ws.events():  # some may have come with the answer to the handshake
                    await self._take(event)
                if self._messages:
                    return self._messages.pop(0)
                if self._over:
                    return None
                with trio.move_on_after(SILENCE_MAX_S) as scope:
                    data = await self._stream.receive_some(RECEIVE_BYTES)
                if scope.cancelled_caught or not data:
                    return None
                self._ws.receive_data(bytes(data))
            except (RemoteProtocolError, LocalProtocolError, trio.BrokenResourceError, trio.ClosedResourceError):
                return None

    async def _take(self, event: object) -> None:
        match event:
            case BytesMessage():
                self._parts.append(bytes(event.data))
                if sum(map(len, self._parts)) > FRAME_BYTES_MAX:
                    self._over = True
                elif event.message_finished:
                    self._messages.append(b"".join(self._parts))
                    self._parts.clear()
            case Ping():
                await self._write(self._ws.send(event.response()))
            case CloseConnection() | TextMessage():
                self._over = True
            case _:
                return

    async def close(self) -> None:
        await trio.aclose_forcefully(self._stream)

    async def _write(self, data: bytes) -> None:
        async with self._sending:
            await self._stream.send_all(data)


def _rejection(status: int, url: str) -> PfsError:
    if status == 401:
        return PfsError(Kind.UNAUTHENTICATED, f"the server at {url} does not accept the token")
    return PfsError(Kind.UNREACHABLE, f"what answers at {url} is not a pfs server (status {status})")


class _Connection:
    """The present channel to a server, made anew when it goes."""

    def __init__(self, url: str, token: str, ca: str | None) -> None:
        self._where = (url, token, ca)
        self._channel: Channel | None = None
        self._changed = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        url, token, ca = self._where
        started = False
        said = ""
        pause_s = RETRY_FIRST_S
        while True:
            try:
                async with connect_channel(url, token, _nothing_to_ask, ca) as channel:
                    self._set(channel)
                    log.info("connected to %s", url)
                    said = ""
                    pause_s = RETRY_FIRST_S
                    if not started:
                        started = True
                        task_status.started()
                    await channel.closed.wait()
                log.warning("lost the connection to %s", url)
            except PfsError as error:
                if not started:
                    raise
                if error.message != said:  # the same again, every two seconds, tells nobody anything
                    said = error.message
                    log.warning("%s", said)
            self._set(None)
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MOST_S)

    def _set(self, channel: Channel | None) -> None:
        self._channel = channel
        self._changed.set()
        self._changed = trio.Event()

    async def ask(
        self, op: str, args: Json, body: bytes = b"", *, again: bool, patient: bool = False
    ) -> tuple[Json, bytes]:
        """Ask, waiting for a connection where there is none.

        Args:
            again: ask again when the connection is lost before the answer came.
            patient: the answer may take as long as it likes; only being without connection is bounded.
        """
        deadline = trio.current_time() + DEADLINE_S
        while True:
            with trio.move_on_at(deadline):
                while self._channel is None or self._channel.closed.is_set():
                    await self._changed.wait()
            channel = self._channel
            if channel is None or trio.current_time() >= deadline:
                raise PfsError(Kind.TIMED_OUT, f"the server did not answer within {DEADLINE_S:.0f} s")
            try:
                with trio.CancelScope(deadline=float("inf") if patient else deadline):
                    return await channel.ask(op, args, body)
            except ChannelClosed:
                if not again:
                    raise
                if patient:
                    deadline = trio.current_time() + DEADLINE_S


async def _nothing_to_ask(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
    raise PfsError(Kind.UNSUPPORTED, f"a client does not answer {op!r}")


@asynccontextmanager
async def open_filesystem(endpoint: str, token: str, ca: str | None = None) -> AsyncIterator["RemoteFileSystem"]:
    """Give the tree of the server at `endpoint` as the owner of `token` may see it, while the block runs.

    Raises:
        PfsError: UNREACHABLE, UNAUTHENTICATED or INVALID at the first contact; later losses are healed.
    """
    connection = _Connection(endpoint, token, ca)
    failure: PfsError | None = None
    try:
        async with trio.open_nursery() as nursery:
            await nursery.start(connection.run)
            try:
                yield RemoteFileSystem(connection)
            finally:
                nursery.cancel_scope.cancel()
    except* PfsError as group:
        failure = _only(group)
    if failure is not None:
        raise failure


def _only(group: BaseExceptionGroup[PfsError]) -> PfsError:
    """Return the error in a group: nurseries wrap even a single one."""
    inner = group.exceptions[0]
    return _only(inner) if isinstance(inner, BaseExceptionGroup) else inner


class RemoteFileSystem:
    """`pfs.api.FileSystem` of a server."""

    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def _ask(self, op: str, args: Json, *, again: bool) -> Json:
        return (await self._connection.ask(op, args, again=again))[0]

    async def getattr(self, path: str) -> Attr:
        return decode_attr(await self._ask("getattr", {"path": path}, again=True))

    async def listdir(self, path: str) -> Sequence[Entry]:
        entries: list[Entry] = []
        more = True
        while more:
            args = {"path": path, "after": entries[-1].name if entries else ""}
            result = await self._ask("listdir", args, again=True)
            page = decode_entries(result)
            entries += page
            more = bool(page) and result.get("more") is True
        return entries

    async def readlink(self, path: str) -> str:
        return check_target(str((await self._ask("readlink", {"path": path}, again=True)).get("target", "")))

    async def mkdir(self, path: str, mode: int) -> Attr:
        return decode_attr(await self._ask("mkdir", {"path": path, "mode": mode}, again=False))

    async def symlink(self, path: str, target: str) -> Attr:
        return decode_attr(await self._ask("symlink", {"path": path, "target": target}, again=False))

    async def unlink(self, path: str) -> None:
        await self._ask("unlink", {"path": path}, again=False)

    async def rmdir(self, path: str) -> None:
        await self._ask("rmdir", {"path": path}, again=False)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        await self._ask("rename", {"path": source, "target": target, "mode": mode.value}, again=False)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        args = {"path": path, "changes": encode_changes(changes)}
        return decode_attr(await self._ask("setattr", args, again=True))

    async def statfs(self, path: str) -> Space:
        return decode_space(await self._ask("statfs", {"path": path}, again=True))

    async def open(self, path: str, flags: OpenFlags, mode: int) -> OpenFile:
        args = {"path": path, "flags": encode_flags(flags), "mode": mode}
        result = await self._ask("open", args, again=OpenFlags.EXCLUSIVE not in flags)
        handle = result.get("handle")
        if not isinstance(handle, int):
            raise PfsError(Kind.INVALID, "an opening without a handle")
        return RemoteFile(self._connection, handle, decode_attr(result.get("attr")))


class RemoteFile:
    """`pfs.api.OpenFile` of a server; after a lost connection every call is BAD_HANDLE."""

    def __init__(self, connection: _Connection, handle: int, attr: Attr) -> None:
        self._connection = connection
        self._handle = handle
        self.attr = attr

    async def _ask(self, op: str, args: Json, body: bytes = b"", *, patient: bool = False) -> tuple[Json, bytes]:
        args["handle"] = self._handle
        # safe to repeat: on another connection the handle is unknown, and nothing is done twice
        return await self._connection.ask(op, args, body, again=True, patient=patient)

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        patient = wait and self.attr.stream
        return (await self._ask("read", {"offset": offset, "size": size, "wait": wait}, patient=patient))[1]

    async def write(self, offset: int, data: bytes) -> int:
        await self._ask("write", {"offset": offset}, data)
        return len(data)

    async def truncate(self, size: int) -> Attr:
        return decode_attr((await self._ask("truncate", {"size": size}))[0])

    async def getattr(self) -> Attr:
        return decode_attr((await self._ask("fgetattr", {}))[0])

    async def flush(self, closing: Closing) -> None:
        await self._ask("flush", {"closing": closing.value})

    async def fsync(self) -> None:
        await self._ask("fsync", {})

    async def release(self) -> None:
        try:
            await self._ask("release", {})
        except PfsError as error:
            if error.kind not in (Kind.BAD_HANDLE, Kind.TIMED_OUT):
                raise
