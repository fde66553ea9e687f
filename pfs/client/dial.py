"""The asking end of a connection: TCP, TLS where the address says so, and a WebSocket that carries messages."""

import ssl
from urllib.parse import urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, RejectConnection, Request
from wsproto.utilities import RemoteProtocolError

from pfs.client.authority import (
    StrangerError,
    about_hanging_up,
    authorization,
    is_known,
    is_strange,
    trust,
    why_unreachable,
)
from pfs.client.reasons import why_of
from pfs.errors import Kind, PfsError
from pfs.keys import Pair, address_of
from pfs.protocol.websocket import WebSocketTransport
from pfs.protocol.wire import CHANNEL_PATH

RECEIVE_BYTES = 64 * 1024
HEAD_END, HEAD_BYTES_MAX = b"\r\n\r\n", 64 * 1024


async def dial(url: str, token: str, ca: str | None, own: Pair | None = None) -> WebSocketTransport:
    """Connect to the server at `url`, show who we are, and return what carries messages.

    Raises:
        PfsError: UNREACHABLE, UNAUTHENTICATED or INVALID, with a sentence for people.
    """
    address, headers = address_of(url), authorization(token, own)
    context = await trusted(url, token, ca, own)
    try:
        stream: trio.abc.Stream = await trio.open_tcp_stream(address.host, address.port)
    except (OSError, UnicodeError) as error:
        raise PfsError(Kind.UNREACHABLE, f"no connection to the server at {url}: {why_of(error)}") from None
    try:
        if context is not None:
            stream = trio.SSLStream(stream, context, server_hostname=address.host, https_compatible=True)
            await stream.do_handshake()
        early = await _handshake(stream, urlsplit(url).netloc.rpartition("@")[2], headers, url, own)
    except BaseException as error:
        await trio.aclose_forcefully(stream)
        if isinstance(error, OSError | trio.BrokenResourceError):
            why = await trio.to_thread.run_sync(why_unreachable, url, token, ca, error, abandon_on_cancel=True)
            text = f"no connection to the server at {url}: {why}"
            raise (StrangerError(text) if is_strange(error) else PfsError(Kind.UNREACHABLE, text)) from None
        raise
    return WebSocketTransport(stream, dialled=True, early=early)


async def trusted(url: str, token: str, ca: str | None, own: Pair | None = None) -> ssl.SSLContext | None:
    """Return what `pfs.client.authority.trust` does; the server may have to be asked first."""
    if is_known(token):
        return trust(url, token, ca, own)
    return await trio.to_thread.run_sync(trust, url, token, ca, own, abandon_on_cancel=True)


async def _handshake(
    stream: trio.abc.Stream, host: str, headers: list[tuple[str, str]], url: str, own: Pair | None
) -> bytes:
    """Ask for a WebSocket; return what came behind the server's agreement."""
    ws = WSConnection(ConnectionType.CLIENT)
    more = [(name.encode(), value.encode()) for name, value in headers]
    request = Request(host=host, target=CHANNEL_PATH, extra_headers=more)
    await stream.send_all(ws.send(request))
    head, early = await _head(stream, url, own)
    try:
        ws.receive_data(head)
        for event in ws.events():
            if isinstance(event, AcceptConnection):
                return early
            if isinstance(event, RejectConnection):
                raise _rejection(event.status_code, url, "token" if headers else "certificate")
    except RemoteProtocolError:
        pass
    raise PfsError(Kind.UNREACHABLE, f"what answers at {url} is not a pfs server")


async def _head(stream: trio.abc.Stream, url: str, own: Pair | None) -> tuple[bytes, bytes]:
    """Return the head of the server's answer, and what came behind it."""
    came = b""
    while HEAD_END not in came and len(came) < HEAD_BYTES_MAX:
        data = await stream.receive_some(RECEIVE_BYTES)
        if not data:
            hung_up = f"the server at {url} hung up{about_hanging_up(own)}"
            why = f"what answers at {url} is not a pfs server" if came else hung_up
            raise PfsError(Kind.UNREACHABLE, why)
        came += bytes(data)
    head, end, early = came.partition(HEAD_END)
    return head + end, early


def _rejection(status: int, url: str, shown: str) -> PfsError:
    if status == 401:
        return PfsError(Kind.UNAUTHENTICATED, f"the server at {url} does not accept the {shown}")
    return PfsError(Kind.UNREACHABLE, f"what answers at {url} is not a pfs server (status {status})")
