"""Connections that leave the application server: some paths are served on the bare stream.

A question over a WebSocket, or a piece of a file, passes half a dozen turns of the event loop between an application
and its socket, and costs more there than its answer. So the guard (`pfs.server.guard`) hands the whole connection over
as soon as a request for such a path has come, with that request and all bytes behind it. It never comes back: whoever
takes it serves what follows on it, and the guard closes it.
"""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import h11
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from pfs.audit.origin import LOCAL
from pfs.errors import Kind, PfsError
from pfs.protocol.sockets import Deadlines, Stream, transport_of
from pfs.server.crowd import Guest, lone_guest
from pfs.server.forwarded import sender


@dataclass(frozen=True, slots=True)
class Taken:
    """A connection that was handed over.

    Attributes:
        stream: plain, TLS (its handshake is done) or Unix.
        request: what was asked for first; its body, or what else comes next, begins with `early`.
        extensions: `tls` and, from a Unix socket, `peer`, as in `pfs.server.guard.serve`.
        guest: is told when the connection has shown whose it is.
        proxied: as of `pfs.server.guard.serve`.
    """

    stream: Stream
    request: h11.Request
    early: bytes
    extensions: dict[str, dict[str, Any]]
    deadlines: Deadlines
    guest: Guest = field(default_factory=lone_guest)
    proxied: bool = False

    @property
    def source(self) -> str:
        """The address of who asks; `local` for a program on this machine, "" when it is gone already."""
        sock = transport_of(self.stream).socket
        try:
            peer = None if sock.family == socket.AF_UNIX else str(sock.getpeername()[0])
        except OSError:
            return ""
        return (sender(peer, self.request.headers) if self.proxied else peer) or LOCAL

    async def send(self, data: bytes) -> None:
        """Send all of `data` to a reader who may be slow but not stall; errors as of `Deadlines.send`."""
        await self.deadlines.send(self.stream, data)

    @contextlib.contextmanager
    def idle(self, timeout_s: float) -> Iterator[None]:
        """Wait in the block for the next request: it is left when that takes too long, or when the server ends."""
        self.guest.rests()
        with self.deadlines.idle(timeout_s):
            yield
        self.guest.works()


Taker = Callable[[Taken], Awaitable[None]]
Headers = Iterable[tuple[bytes, bytes]]


def response_head(status: int, headers: Headers) -> bytes:
    """Return the head of an HTTP/1.1 response; the caller has made sure of Content-Length."""
    lines = [b"HTTP/1.1 %d %s" % (status, HTTPStatus(status).phrase.encode())]
    lines += [b"%s: %s" % header for header in headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"


async def accept_websocket(taken: Taken) -> None:
    """Agree to the WebSocket that the request of a connection asks for.

    Raises:
        PfsError: INVALID when it asks for none, or not properly; nothing is answered yet.
    """
    ws = WSConnection(ConnectionType.SERVER)
    try:
        if taken.request.http_version != b"1.1" or taken.request.method != b"GET":
            raise RemoteProtocolError("")
        ws.initiate_upgrade_connection(list(taken.request.headers), taken.request.target)
        answer = ws.send(AcceptConnection())
    except (RemoteProtocolError, LocalProtocolError, h11.LocalProtocolError, ValueError):
        raise PfsError(Kind.INVALID, "a WebSocket is spoken here, version 13") from None
    await taken.send(answer)
