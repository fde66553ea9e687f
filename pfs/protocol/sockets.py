"""The server's sockets: made, asked who is at the other end, written to within a time, and dropped.

Sockets and certificate are made here so that a mistake in them is one clear sentence: Hypercorn would make them
inside its nursery, where an address in use becomes a nest of exception groups.
"""

import contextlib
import errno
import logging
import os
import socket
import ssl
import stat
import struct
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from math import inf
from typing import Any

import trio

from pfs.errors import Kind, PfsError

BACKLOG = 1024
WRITE_PIECE_BYTES = 256 * 1024
WRITE_TIMEOUT_S = 30.0  # for one piece: a reader slower than 9 KB/s is taken for gone
GRACE_S = 3.0  # what is running when the server is told to end has so long
# of TLS 1.2 only what keeps its secrets when a key is stolen later, and is authenticated as a whole; 1.3 has no other
CIPHERS_OF_TLS_1_2 = "ECDHE+AESGCM:ECDHE+CHACHA20"
_PEER_FORM = "=iII"  # struct ucred

Stream = trio.SSLStream[trio.SocketStream] | trio.SocketStream

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Tls:
    """The server's certificate and key (PEM files), and whose client certificates count.

    With `client_ca` (PEM file) a client may show a certificate of that authority; one of another ends the handshake.
    """

    certfile: str
    keyfile: str
    client_ca: str | None = None


@contextlib.asynccontextmanager
async def listening(
    host: str, port: int, unix_path: str | None
) -> AsyncIterator[tuple[socket.socket, list[socket.socket]]]:
    """Listen on the port, and on the Unix socket where one is named; yields the one and a list with the other.

    Raises:
        PfsError: BUSY, DENIED or INVALID when that cannot be.
    """
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(await _listen_tcp(host, port))
        local: list[socket.socket] = []
        if unix_path is not None:
            local.append(stack.enter_context(_listen_unix(unix_path)))
            stack.callback(_remove_own, unix_path, os.stat(unix_path))
        yield tcp, local


async def _listen_tcp(host: str, port: int) -> socket.socket:
    try:
        found = await trio.socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # "localhost" is both, and most clients try the older first
        family, _, _, _, (number, _, *more) = min(found, key=lambda item: item[0] != socket.AF_INET)
        sock = socket.socket(family, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _listen_error(f"{host}:{port}", error) from None
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # accepted connections inherit these: the end of a host that says nothing more is noticed in a minute
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
        sock.bind((number, port, *more))  # the resolver takes a port of more than 16 bits for another
        sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        raise _listen_error(f"{host}:{port}", error) from None
    return sock


def _listen_unix(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(path)
        sock.bind(path)
        os.chmod(path, 0o666)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        raise _listen_error(path, error) from None
    return sock


def _remove_stale(path: str) -> None:
    """Remove the socket that a killed server left; one that answers is in use, anything else is not ours."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "something that is no socket stands there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _remove_own(path: str, made: os.stat_result) -> None:
    with contextlib.suppress(FileNotFoundError):
        if os.path.samestat(os.stat(path), made):
            os.unlink(path)


def _listen_error(where: str, error: Exception) -> PfsError:
    kinds = {errno.EADDRINUSE: Kind.BUSY, errno.EACCES: Kind.DENIED, errno.EPERM: Kind.DENIED}
    kind = kinds.get(getattr(error, "errno", None) or 0, Kind.INVALID)
    reason = getattr(error, "strerror", None) or str(error)
    return PfsError(kind, f"cannot listen on {where}: {reason}; choose another address")


def tls_context(tls: Tls) -> ssl.SSLContext:
    """Return the server's side of TLS: 1.2 or newer, HTTP/1.1 only.

    A certificate that was renewed is shown to whoever connects from then on, without a restart.

    Raises:
        PfsError: INVALID when the files are no good.
    """
    context = _context(tls)
    newest, seen = context, _stamp(tls)

    def renew(connection: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
        nonlocal newest, seen
        stamp = _stamp(tls)
        if stamp != seen:
            seen = stamp
            try:
                newest = _context(tls)
            except PfsError as error:  # two files are not renewed at one moment: the next change is looked at again
                log.warning("the certificate of before is used on: %s", error)
        connection.context = newest

    context.sni_callback = renew  # called for each handshake, with a name or without
    return context


def _stamp(tls: Tls) -> object:
    """Return something else after each change of certificate or key."""
    try:
        return [(found.st_ino, found.st_mtime_ns) for found in map(os.stat, (tls.certfile, tls.keyfile))]
    except OSError:
        return None


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS_OF_TLS_1_2)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(tls.certfile, tls.keyfile)
        if tls.client_ca is not None:
            context.load_verify_locations(tls.client_ca)
            context.verify_mode = ssl.CERT_OPTIONAL
    except OSError as error:  # ssl.SSLError is one
        names = ", ".join(dict.fromkeys(name for name in (tls.certfile, tls.keyfile, tls.client_ca) if name))
        message = f"cannot use the TLS files {names}: {error.strerror or error}; give PEM files that belong together"
        raise PfsError(Kind.INVALID, message) from None
    return context


def transport_of(stream: Stream) -> trio.SocketStream:
    """Return what carries a stream: itself, or what is below TLS."""
    return stream.transport_stream if isinstance(stream, trio.SSLStream) else stream


async def drop(stream: Stream) -> None:
    """Close at once, with all that the kernel still holds for a peer that does not take it."""
    with contextlib.suppress(OSError):
        transport_of(stream).socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    await trio.aclose_forcefully(stream)


def extensions_of(stream: Stream) -> dict[str, dict[str, Any]]:
    """Return what every scope of this connection tells the application: the certificate, the local user.

    The handshake must be done.
    """
    certificate = stream.getpeercert(binary_form=True) if isinstance(stream, trio.SSLStream) else None
    extensions: dict[str, dict[str, Any]] = {"tls": {"client_cert_der": certificate}}
    sock = transport_of(stream).socket
    if sock.family == socket.AF_UNIX:
        told = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_PEER_FORM))
        pid, uid, gid = struct.unpack(_PEER_FORM, told)
        extensions["peer"] = {"pid": pid, "uid": uid, "gid": gid}
    return extensions


class Deadlines:
    """Until when a write may take: its own time, and once the server ends, that end."""

    def __init__(self) -> None:
        self._last = inf
        self._writes: set[trio.CancelScope] = set()
        self._idle: set[trio.CancelScope] = set()

    def end(self) -> None:
        """The server ends: no write goes beyond the grace from now on, and nobody waits for the next request."""
        self._last = trio.current_time() + GRACE_S
        for scope in self._idle:
            scope.cancel()
        for scope in self._writes:
            scope.deadline = min(scope.deadline, self._last)

    @contextlib.contextmanager
    def idle(self, timeout_s: float) -> Iterator[None]:
        """Wait in the block for a client to ask for something, no longer than that and than the server runs."""
        ended = self._last < inf
        with trio.CancelScope(deadline=-inf if ended else trio.current_time() + timeout_s) as scope:
            self._idle.add(scope)
            try:
                yield
            finally:
                self._idle.discard(scope)

    async def send(self, stream: Stream, data: bytes) -> None:
        """Send all; a reader may be slow, but each piece has its deadline.

        Raises:
            trio.TooSlowError: the reader stalls; how much of `data` is out is not known.
            trio.BrokenResourceError, trio.ClosedResourceError: as `stream` does.
        """
        view = memoryview(data)
        for start in range(0, len(view), WRITE_PIECE_BYTES):
            with trio.CancelScope(deadline=min(trio.current_time() + WRITE_TIMEOUT_S, self._last)) as scope:
                self._writes.add(scope)
                try:
                    await stream.send_all(view[start : start + WRITE_PIECE_BYTES])
                finally:
                    self._writes.discard(scope)
            if scope.cancelled_caught:
                raise trio.TooSlowError
