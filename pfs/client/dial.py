"""The asking end of a connection: TCP, TLS where the address says so, and a WebSocket that carries messages."""

import ssl
from urllib.parse import urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.utilities import RemoteProtocolError

from pfs.client.exchange import why_of
from pfs.errors import Kind, PfsError
from pfs.keys import address_of, bearer
from pfs.protocol.websocket import WebSocketTransport
from pfs.protocol.wire import CHANNEL_PATH

RECEIVE_BYTES = 64 * 1024
HEAD_END, HEAD_BYTES_MAX = b"\r\n\r\n", 64 * 1024


async def dial(url: str, token: str, ca: str | None) -> WebSocketTransport:
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
        early = await _handshake(stream, urlsplit(url).netloc.rpartition("@")[2], header, url)
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, OSError | trio.BrokenResourceError):
            raise PfsError(Kind.UNREACHABLE, f"no connection to the server at {url}: {why_of(error)}") from None
        raise
    return WebSocketTransport(stream, dialled=True, early=early)


def trust(ca: str | None) -> ssl.SSLContext:
    """Return what tells whether a server is the one that it says.

    Raises:
        PfsError: INVALID when the file of the certificate authority cannot be read.
    """
    try:
        return ssl.create_default_context(cafile=ca)
    except OSError as error:
        raise PfsError(Kind.INVALID, f"the certificate authority {ca} cannot be read: {why_of(error)}") from None


async def _handshake(stream: trio.abc.Stream, host: str, header: str, url: str) -> bytes:
    """Ask for a WebSocket; return what came behind the server's agreement."""
    ws = WSConnection(ConnectionType.CLIENT)
    request = Request(host=host, target=CHANNEL_PATH, extra_headers=[(b"authorization", header.encode())])
    await stream.send_all(ws.send(request))
    head, early = await _head(stream, url)
    try:
        ws.receive_data(head)
        for event in ws.events():
            if isinstance(event, AcceptConnection):
                return early
            if isinstance(event, RejectConnection):
                raise _rejection(event.status_code, url)
    except RemoteProtocolError:
        pass
    raise PfsError(Kind.UNREACHABLE, f"what answers at {url} is not a pfs server")


async def _head(stream: trio.abc.Stream, url: str) -> tuple[bytes, bytes]:
    """Return the head of the server's answer, and what came behind it."""
    came = b""
    while HEAD_END not in came and len(came) < HEAD_BYTES_MAX:
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            why = f"what answers at {url} is not a pfs server" if came else f"the server at {url} hung up"
            raise PfsError(Kind.UNREACHABLE, why)
        came += bytes(data)
    head, end, early = came.partition(HEAD_END)
    return head + end, early


def _rejection(status: int, url: str) -> PfsError:
    if status == 401:
        return PfsError(Kind.UNAUTHENTICATED, f"the server at {url} does not accept the token")
    return PfsError(Kind.UNREACHABLE, f"what answers at {url} is not a pfs server (status {status})")
