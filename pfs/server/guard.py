"""The HTTP server: Hypercorn on trio, with guards against what it lets through.

Hypercorn 0.18.0 as it comes ends the whole process when one connection's handler raises (a dozen malformed
requests do), waits without end for a client that does not read, and keeps for ever a connection whose application
answered before the body had come. Here a connection is a task that fails alone:

    _Connection   one accepted stream. Whatever is raised in it is logged in one line and ends it alone. Every write
                  has a deadline; closing says everything that was written before it says goodbye.
    _Http11       HTTP/1.1 and nothing else: HTTP/2 is ten times slower here and has most defects.
    Tasks         what runs for it (`pfs.server.calls`).
    Porter        lets them in, as many as there may be, by address and of all (`pfs.server.porter`).

WebSockets, and whatever else is not to pass through an application, are handed over whole (`pfs.server.takeover`).

Hypercorn's parts are reached by subclassing and by one replaced name (`_patch`), so the version is pinned. The head of
a request has a time of its own, from the first byte on. What the application must do itself: bound the size and the
duration of a body that it reads (`pfs.server.bodies`). There is no other read timeout here, since a client that waits
for a log to grow is silent for hours.
"""

import contextlib
import importlib.metadata
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping
from http import HTTPStatus
from math import inf
from typing import Any

import h11
import hypercorn.trio.run
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config, Sockets
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import MAX_RECV, TCPServer
from hypercorn.typing import ConnectionState
from hypercorn.utils import LifespanFailureError, LifespanTimeoutError, parse_socket_addr
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp

from pfs.errors import Kind, PfsError
from pfs.protocol.sockets import GRACE_S, Deadlines, Tls, drop, extensions_of, listening, tls_context, transport_of
from pfs.server.calls import Tasks
from pfs.server.crowd import lone_guest, told_of
from pfs.server.porter import Porter
from pfs.server.takeover import Taken, Taker

__all__ = ["Tls", "serve"]

log = logging.getLogger(__name__)
_hypercorn_log = logging.getLogger(f"{__name__}.hypercorn")

HYPERCORN_VERSION = "0.18.0"
LIFESPAN_END_TIMEOUT_S = 10.0
LINGER_S = 2.0  # closing while the client still sends: a reset would take our last words from it
KEEP_ALIVE_S = 75.0
HANDSHAKE_TIMEOUT_S = 10.0
HEAD_TIMEOUT_S = 20.0  # for all of a request's head; on a new connection, from its beginning on

_WORDS = {status.value: status.phrase.encode() for status in HTTPStatus}
_GONE = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)


async def serve(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    tls: Tls | None = None,
    unix_path: str | None = None,
    takers: Mapping[str, Taker] | None = None,
    proxied: bool = False,
    shutdown: Callable[[], Awaitable[None]],
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve `app` until `shutdown()` returns; then end what runs within `GRACE_S`, and the application's lifespan.

    A scope of the application has `extensions["tls"]["client_cert_der"]` (bytes, or None without a certificate), for
    the Unix socket `extensions["peer"]` with `uid`, `gid` and `pid`, and what `pfs.server.crowd.guest_in` finds.

    Args:
        app: an ASGI application; its lifespan is run.
        host: a name or an address; port 0 takes a free one.
        tls: given, the port speaks TLS only. The Unix socket never does.
        unix_path: also listen there; anybody on this machine may connect, the folder's mode narrows that.
        takers: who takes the connections that ask for a path with such a beginning.
        proxied: connections from this machine are a proxy's, who says whom it speaks for (`pfs.server.forwarded`).
        shutdown: returns when the server shall end.
        task_status: gets the URLs that are listened on, the port's first.

    Raises:
        PfsError: the address, the certificate or the application's start is no good.
    """
    _patch()
    context = None if tls is None else tls_context(tls)
    deadlines = Deadlines()
    config = _Settings(deadlines, context, takers or {}, proxied=proxied)

    async def calm_app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await app(scope, receive, send)
        except* ClientDisconnect:
            log.debug("a client left before it was answered")

    async def trigger() -> None:
        try:
            await shutdown()
        finally:  # also when our caller is cancelled
            deadlines.end()

    failures: list[BaseException] = []
    async with listening(host, port, unix_path) as (tcp, local):
        sockets = Sockets([], [tcp, *local], []) if tls is None else Sockets([tcp], local, [])
        try:
            await hypercorn.trio.run.worker_serve(
                ASGIWrapper(calm_app), config, sockets=sockets, shutdown_trigger=trigger, task_status=task_status
            )
        except* (LifespanFailureError, LifespanTimeoutError) as group:
            failures.append(_first(group))
    if failures:
        raise _lifespan_error(failures[0]) from failures[0]


def _patch() -> None:
    """Let Hypercorn's worker make our connections. Doing it again changes nothing."""
    found = importlib.metadata.version("hypercorn")
    if found != HYPERCORN_VERSION:
        message = f"hypercorn {found} is installed, but only {HYPERCORN_VERSION} is safe here; install that version"
        raise PfsError(Kind.UNSUPPORTED, message)
    hypercorn.trio.run.TCPServer = _Connection  # type: ignore[attr-defined]


class _Settings(Config):
    """Hypercorn's settings for one server, and what our connections share."""

    def __init__(
        self, deadlines: Deadlines, context: ssl.SSLContext | None, takers: Mapping[str, Taker], *, proxied: bool
    ) -> None:
        self.deadlines = deadlines
        self.proxied = proxied
        self.porter = Porter(proxied=proxied)
        self._takers = [(start.encode(), taker) for start, taker in takers.items()]
        self._context = context
        _hypercorn_log.setLevel(logging.WARNING)
        self.errorlog = _hypercorn_log
        self.include_server_header = False
        self.graceful_timeout = GRACE_S
        self.shutdown_timeout = LIFESPAN_END_TIMEOUT_S
        self.keep_alive_timeout = KEEP_ALIVE_S

    def taker(self, target: bytes) -> Taker | None:
        """Return who takes connections that ask for `target`."""
        return next((taker for start, taker in self._takers if target.startswith(start)), None)

    def create_ssl_context(self) -> ssl.SSLContext | None:
        return self._context


class _RefusedError(Exception):
    """A well-formed request that this server does not do; its argument is the status that says so."""


class _TakenError(Exception):
    """Somebody takes the connection; its arguments are who, and the request."""


class _Http11(H11Protocol):
    """HTTP/1.1: no HTTP/2 by preface or upgrade, no tunnels; whoever takes a path takes its connection."""

    config: _Settings
    taken: tuple[Taker, h11.Request] | None = None

    async def handle(self, event: Event) -> None:
        try:
            await super().handle(event)
        except _TakenError as taken:
            self.taken = taken.args[0], taken.args[1]
            return
        except _RefusedError as refusal:
            await self._send_error_response(refusal.args[0])
            await self.send(Closed())

    @property
    def hears_a_head(self) -> bool:
        """True while the head of a request has begun to come."""
        http = self.connection
        return http.their_state is h11.IDLE and bool(http.trailing_data[0])

    async def give_up(self) -> None:
        """The head of a request takes too long."""
        if self.hears_a_head:
            await self._send_error_response(408)
        await self.send(Closed())

    async def _check_protocol(self, event: h11.Request) -> None:
        if event.http_version not in {b"1.0", b"1.1"}:
            raise _RefusedError(400)
        if event.method == b"CONNECT":
            raise _RefusedError(405)
        names = {name for name, _ in event.headers}
        chunked = b"transfer-encoding" in names
        if chunked and (b"content-length" in names or event.http_version == b"1.0"):
            # a proxy before us may take the other for the body's end, and what is behind that for the next request
            raise _RefusedError(400)

    async def _send_error_response(self, status_code: int) -> None:
        # what is wrong is wrong with the request, also where h11 hints at 501
        await super()._send_error_response(400 if status_code >= 500 else status_code)

    async def _create_stream(self, request: h11.Request) -> None:
        taker = self.config.taker(request.target)
        if taker is not None:
            raise _TakenError(taker, request)
        # nothing else that this server speaks can be upgraded to: such a wish may be overheard
        kept = [(name, value) for name, value in request.headers if name != b"upgrade"]
        method, target, version = request.method, request.target, request.http_version
        await super()._create_stream(h11.Request(method=method, target=target, headers=kept, http_version=version))

    async def _send_h11_event(self, event: Any) -> None:
        if isinstance(event, h11.Response):
            # what is left of their body is not waited for: who kept the connection for more would find it closed
            leaves = isinstance(self.connection, h11.Connection) and self.connection.their_state is h11.SEND_BODY
            headers: Any = [*event.headers, (b"connection", b"close")] if leaves else event.headers
            # Hypercorn leaves the words out, and PaddleCloud's client takes all but "200 OK" for an error
            words = _WORDS.get(event.status_code, b"")
            event = h11.Response(status_code=event.status_code, headers=headers, reason=words)
        await super()._send_h11_event(event)


# their side has nothing more to say, so closing cannot make the kernel answer with a reset
_HEARD_OUT = (h11.DONE, h11.MUST_CLOSE, h11.CLOSED)


class _Connection(TCPServer):
    """One accepted stream: plain, TLS or Unix."""

    config: _Settings
    protocol: _Http11  # type: ignore[assignment]

    async def run(self) -> None:
        self._reading = trio.CancelScope()
        self._closing = False
        self._head_due_s = trio.current_time() + HEAD_TIMEOUT_S
        self._guest = lone_guest()
        life = trio.CancelScope()
        try:
            guest = self.config.porter.let_in(self.stream, life.cancel)
            if guest is None:
                await drop(self.stream)
                return
            self._guest = guest
            with life:
                await self._converse()
        except* _GONE:
            log.debug("a client left")
        except* Exception as group:
            error = _first(group)
            log.warning("a connection was ended by %s: %.200r", type(error).__name__, str(error))
        finally:
            self._guest.is_gone()

    async def _converse(self) -> None:
        secure = isinstance(self.stream, trio.SSLStream)
        if secure:
            with trio.fail_after(HANDSHAKE_TIMEOUT_S):
                await self.stream.do_handshake()
        sock = transport_of(self.stream).socket
        client = parse_socket_addr(sock.family, sock.getpeername())
        server = parse_socket_addr(sock.family, sock.getsockname())
        async with trio.open_nursery() as timers:
            async with trio.open_nursery() as calls:
                extensions = {**extensions_of(self.stream), **told_of(self._guest)}
                self._task_group = tasks = Tasks(calls, timers, extensions, proxied=self.config.proxied)
                state = ConnectionState(self.state)
                self.protocol = _Http11(
                    self.app, self.config, self.context, tasks, state, secure, client, server, self.protocol_send
                )
                await self.idle_task.restart(tasks, self._idle_timeout)
                await self._read_data()
                tasks.disconnect()
            timers.cancel_scope.cancel()

    async def _read_data(self) -> None:
        with self._reading:
            while (data := await self._receive()) is not None:
                if not self._closing:
                    await self.protocol.handle(RawData(data))
                if not data or self.protocol.taken is not None:
                    break
                if self._head_due_s == inf and self.protocol.hears_a_head:
                    self._head_due_s = trio.current_time() + HEAD_TIMEOUT_S
        if self.protocol.taken is not None:
            await self._hand_over(*self.protocol.taken)
            return
        if self._closing:
            await trio.aclose_forcefully(self.stream)
        await self.protocol.handle(Closed())

    async def _hand_over(self, taker: Taker, request: h11.Request) -> None:
        early = bytes(self.protocol.connection.trailing_data[0])
        config = self.config
        taken = Taken(
            self.stream, request, early, extensions_of(self.stream), config.deadlines, self._guest, config.proxied
        )
        try:
            await taker(taken)
        finally:
            with contextlib.suppress(*_GONE):
                await transport_of(self.stream).send_eof()
            await trio.aclose_forcefully(self.stream)

    async def _receive(self) -> bytes | None:
        """Return what came, b"" at the end, None when the peer is gone or dead."""
        while True:
            with trio.CancelScope(deadline=self._head_due_s) as waiting:
                try:
                    return bytes(await self.stream.receive_some(MAX_RECV))
                except _GONE:
                    return None
            if waiting.cancelled_caught:
                self._head_due_s = inf
                await self.protocol.give_up()

    async def protocol_send(self, event: Event) -> None:
        # whole, whatever becomes of the caller: what is left out here is missing from what the client hears; an
        # application can be cancelled between its messages (`send_whole`)
        with trio.CancelScope(shield=True):
            if isinstance(event, RawData):
                await self._write(event.data)
            elif isinstance(event, Closed):
                await self._finish()
            else:
                if isinstance(event, Updated):
                    self._head_due_s = inf
                    (self._guest.rests if event.idle else self._guest.works)()
                await super().protocol_send(event)

    async def _write(self, data: bytes) -> None:
        try:
            async with self.send_lock:
                if not transport_of(self.stream).socket.did_shutdown_SHUT_WR:
                    await self.config.deadlines.send(self.stream, data)
        except _GONE:
            await self._cut()

    async def _cut(self) -> None:
        """End the connection now, and what the kernel still holds for it."""
        self._closing = True
        self._reading.cancel()
        await drop(self.stream)
        await self.protocol.handle(Closed())

    async def _finish(self) -> None:
        """Everything is said: close, after what the client still sends was let pass for a moment."""
        if not self._closing:
            self._closing = True
            async with self.send_lock:
                with contextlib.suppress(*_GONE):
                    await transport_of(self.stream).send_eof()
            if self.protocol.connection.their_state in _HEARD_OUT:
                self._reading.cancel()
                await trio.aclose_forcefully(self.stream)
            else:
                self._reading.deadline = trio.current_time() + LINGER_S
        await self.protocol.handle(Closed())


def _first(error: BaseException) -> BaseException:
    return _first(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


def _lifespan_error(error: BaseException) -> PfsError:
    cause = error.__context__ or error  # Starlette tells of a failure while it handles that
    if isinstance(cause, PfsError):
        return cause
    return PfsError(Kind.INTERNAL, f"the service could not start or end: {type(cause).__name__}: {cause}")
