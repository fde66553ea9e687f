"""`forward`: ports of a process of a job, on this machine, for a browser or any other program here.

Each connection here is one there, to the process's own loopback; many at once, each half of it closed for itself. Only
this machine is let in. Nothing is forwarded before all ports are there and the process can be entered.

When the connection to the server is lost, so are those that went by it; the ports stay. Who connects meanwhile waits
until the server is back, for half a minute at most.
"""

import errno
import re
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

import click
import trio

from cli.attach.line import Line, Lost, Server, Session, Target, run
from jobd.attach import PIECE_BYTES_MAX, Port
from pfs.errors import Kind, PfsError

HERE = "127.0.0.1"
PORT_MAX = 65535
AWAY_S = 30.0  # as the tree has it
RETRY_FIRST_S, RETRY_MOST_S = 0.2, 5.0
LOST = "the connection to the server was lost, and what went by it is closed; trying again"
BACK = "the server is back"
_PORTS = re.compile(r"([0-9]{1,5})(?::([0-9]{1,5}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Pair:
    """A port here, 0 for any that is free, and the port there."""

    local: int
    remote: int


def parse_ports(words: Sequence[str]) -> list[Pair]:
    """Return what is to be forwarded: `8080:80` is port 80 there as port 8080 here, `8080` the same on both sides.

    Raises:
        PfsError: INVALID.
    """
    if not words:
        raise PfsError(Kind.INVALID, "no port is named; 8080:80 forwards port 80 of the job to port 8080 here")
    pairs = [_pair(word) for word in words]
    locals_ = [pair.local for pair in pairs if pair.local]
    for port in locals_:
        if locals_.count(port) > 1:
            raise PfsError(Kind.INVALID, f"port {port} of this machine is named twice; take two")
    return pairs


def _pair(word: str) -> Pair:
    found = _PORTS.fullmatch(word)
    if found is not None:
        local, remote = int(found[1]), int(found[2] or found[1])
        if local <= PORT_MAX and 1 <= remote <= PORT_MAX:
            return Pair(local, remote)
    raise PfsError(Kind.INVALID, f"{word!r} is no port: say 8080:80, or 8080 for both; they go from 1 to {PORT_MAX}")


def forward_ports(server: Server, target: Target, pairs: Sequence[Pair], *, quiet: bool = False) -> int:
    """Forward ports until Ctrl-C.

    Args:
        quiet: do not tell which ports are forwarded.

    Raises:
        PfsError: a port is in use, or the process cannot be entered; then nothing was forwarded. Later on, that the
            server does not let us in any more.
    """
    return run(_forward, server, target, pairs, quiet)


async def _forward(server: Server, target: Target, pairs: Sequence[Pair], quiet: bool) -> int:
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(await _listener(pair.local)) for pair in pairs]
        first = await stack.enter_async_context(Line.to(server))
        await first.check(target)
        with trio.open_signal_receiver(signal.SIGINT) as interrupts:
            async with trio.open_nursery() as nursery:
                told = _Told()
                way = _Way(server, told)
                nursery.start_soon(way.keep, first)
                for pair, listener in zip(pairs, listeners, strict=True):
                    serve = partial(_Connection.serve, way, target, pair.remote, told)
                    nursery.start_soon(partial(trio.serve_listeners, serve, [listener]))
                    here = listener.socket.getsockname()[1]
                    if not quiet:
                        told(f"{HERE}:{here} is port {pair.remote} of job {target.job}; Ctrl-C ends that")
                async for _ in interrupts:
                    break
                nursery.cancel_scope.cancel()
    return 0


async def _listener(port: int) -> trio.SocketListener:
    try:
        return (await trio.open_tcp_listeners(port, host=HERE))[0]
    except OSError as error:
        why = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be had: {error.strerror}"
        raise PfsError(Kind.BUSY, f"port {port} of this machine {why}; take another one, as in 8081:80") from None


class _Told:
    """What was said on stderr last: the same again, for every picture of a page, tells nobody anything."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, text: str) -> None:
        if text != self._last:
            self._last = text
            click.echo(text, err=True)


class _Way:
    """The present line to the server; another one when it is lost."""

    def __init__(self, server: Server, told: _Told) -> None:
        self._server = server
        self._told = told
        self._line: Line | None = None
        self._there = trio.Event()

    async def line(self) -> Line | None:
        """Return the line, waiting for it; None when that takes too long."""
        with trio.move_on_after(AWAY_S):
            while self._line is None:
                await self._there.wait()
        return self._line

    async def keep(self, first: Line) -> None:
        """Be there by this line, and by others after it, until cancelled.

        Raises:
            PfsError: the server is there, and does not let us in.
        """
        await self._by(first)
        pause_s = RETRY_FIRST_S
        while True:
            try:
                async with Line.to(self._server) as line:
                    self._told(BACK)
                    pause_s = RETRY_FIRST_S
                    await self._by(line)
            except PfsError as error:
                if error.kind is not Kind.UNREACHABLE:
                    raise
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_MOST_S)

    async def _by(self, line: Line) -> None:
        self._line = line
        self._there.set()
        await line.closed()
        self._line, self._there = None, trio.Event()
        self._told(LOST)


class _Connection:
    """One connection, here and there."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._over = trio.Event()
        self._is_over_there = False
        self._reason = ""

    @classmethod
    async def serve(cls, way: _Way, target: Target, port: int, told: _Told, stream: trio.SocketStream) -> None:
        """Carry a connection until both ends of it are done."""
        connection = cls(stream)
        line = await way.line()
        if line is None:
            return
        try:
            session = await line.start(target, Port(port), connection)
        except PfsError as error:
            told(f"port {port}: {error}")
            return
        except Lost:
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(connection._send, session)
                nursery.start_soon(connection._end_with, line)
                await connection._over.wait()
                nursery.cancel_scope.cancel()
        finally:
            if not connection._is_over_there:
                await session.end()
        if connection._reason:
            told(f"port {port}: {connection._reason}")

    async def _send(self, session: Session) -> None:
        try:
            while await session.send(data := await self._stream.receive_some(PIECE_BYTES_MAX)):
                if not data:
                    return
        except (trio.BrokenResourceError, Lost, PfsError):
            self._over.set()

    async def _end_with(self, line: Line) -> None:
        await line.closed()
        self._over.set()

    async def came(self, stream: int, data: bytes) -> None:
        """Hand on what came from there."""
        try:
            await (self._stream.send_all(data) if data else self._stream.send_eof())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._over.set()  # whoever was connected here is gone
            raise PfsError(Kind.IO, "nobody is connected here any more") from None

    async def over(self, code: int, reason: str) -> None:
        """Note the end."""
        self._is_over_there, self._reason = True, reason
        self._over.set()
