"""The asking end of a connection: TCP, TLS where the address says so, and a WebSocket that carries messages."""

import ssl
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

from pfs.errors import Kind, PfsError
from pfs.exchange import why_of
from pfs.keys import address_of, bearer
from pfs.wire import CHANNEL_PATH, FRAME_BYTES_MAX

SILENCE_MAX_S = 60.0  # the server pings every 20 s: longer silence is a dead peer
RECEIVE_BYTES = 256 * 1024


async def dial(url: str, token: str, ca: str | None) -> "DialledTransport":
    """Connect to the server at `url`, show the token, and return what carries messages.

    Raises:
        PfsError: UNREACHABLE, UNAUTHENTICATED or INVALID, with a sentence for people.
    """
    address, header = address_of(url), bearer(token)
    context = trust(ca) if address.secure else None
    try:
        stream: trio.abc.Stream = await trio.open_tcp_stream(address.host, address.port)
    except (OSError, UnicodeError) as error:
        raise PfsError(Kind.UNREACHABLE, f"no connection to the server at {url}: {why_of(error)}") from None
    try:
        if context is not None:
            stream = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
            await stream.do_handshake()
        transport = DialledTransport(stream)
        await transport.handshake(urlsplit(url).netloc.rpartition("@")[2], header, url)
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, OSError | trio.BrokenResourceError):
            raise PfsError(Kind.UNREACHABLE, f"no connection to the server at {url}: {why_of(error)}") from None
        raise
    return transport


def trust(ca: str | None) -> ssl.SSLContext:
    """Return what tells whether a server is the one that it says.

    Raises:
        PfsError: INVALID when the file of the certificate authority cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise PfsError(Kind.INVALID, f"the certificate authority {ca} cannot be read: {why_of(error)}") from None


class DialledTransport:
    """Carries messages over a WebSocket, the asking side."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._ws = WSConnection(ConnectionType.CLIENT)
        self._parts: list[bytes] = []
        self._messages: list[bytes] = []
        self._sending = trio.Lock()
        self._over = False

    async def handshake(self, host: str, header: str, url: str) -> None:
        """Ask for a WebSocket, and return when the server has agreed."""
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
        """Send a message."""
        try:
            await self._write(self._ws.send(BytesMessage(data=message)))
        except LocalProtocolError:
            raise trio.ClosedResourceError from None

    async def receive(self) -> bytes | None:
        """Return the next message, None when there will be no more."""
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
        """Hang up."""
        await trio.aclose_forcefully(self._stream)

    async def _write(self, data: bytes) -> None:
        async with self._sending:
            await self._stream.send_all(data)


def _rejection(status: int, url: str) -> PfsError:
    if status == 401:
        return PfsError(Kind.UNAUTHENTICATED, f"the server at {url} does not accept the token")
    return PfsError(Kind.UNREACHABLE, f"what answers at {url} is not a pfs server (status {status})")
