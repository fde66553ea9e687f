"""A server that lets everybody into a job where nothing real runs: programs whose name says what they do."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import trio

from jobd.attach import STDERR, STDOUT
from pfs.accounts.store import Identity
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel, ChannelClosed, Handler
from tests.pfs import served
from tests.pfs.world import World

TOKEN = "ann-token"
Args = dict[str, Any]


class Inside:
    """One session: what is sent to it, and what it says."""

    def __init__(self, begun: Args, channel: Channel, nursery: trio.Nursery) -> None:
        self.begun = begun
        self.name = str(begun["session"])
        self.channel = channel
        self.nursery = nursery
        self.answered = 0
        self.said = trio.Event()
        self.is_ended = False
        self.peer: trio.SocketStream | None = None
        self.halves = 0  # of a connection, that are closed

    async def says(self, text: bytes, stream: int = STDOUT) -> None:
        await self.channel.ask("attach.came", {"session": self.name, "stream": stream}, text)
        self.answered += 1
        self.said.set()

    async def ends(self, code: int, reason: str = "") -> None:
        await self.channel.ask("attach.over", {"session": self.name, "code": code, "reason": reason})

    def later(self, work: Callable[..., Any], *args: object) -> None:
        self.nursery.start_soon(quietly, work, *args)


class Fake:
    """The server, in a thread of its own.

    Attributes:
        url: where it is.
        sessions: all that were begun.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self.sessions: list[Inside] = []
        self.url = ""
        self.jobs = {17}
        self._ready, self._over = threading.Event(), trio.Event()
        self._token: trio.lowlevel.TrioToken

    @contextmanager
    def running(self) -> Iterator["Fake"]:
        thread = threading.Thread(target=trio.run, args=(self._serve,))
        thread.start()
        assert self._ready.wait(60)
        try:
            yield self
        finally:
            trio.from_thread.run_sync(self._over.set, trio_token=self._token)
            thread.join()

    def drop(self, session: Inside) -> None:
        """Lose the connection of a session."""
        trio.from_thread.run(session.channel.close, trio_token=self._token)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Be gone for the block, with all connections."""
        trio.from_thread.run(self._machine.kill, trio_token=self._token)
        yield
        trio.from_thread.run(self._machine.start, trio_token=self._token)

    @contextmanager
    def closed_to_all(self) -> Iterator[None]:
        """Know no token for the block."""
        with patch.dict(served.TOKENS, clear=True):
            yield

    async def _serve(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        async with served.machine(self._world, self._conversation) as self._machine:
            self.url = await self._machine.start()
            self._ready.set()
            await self._over.wait()

    @asynccontextmanager
    async def _conversation(self, identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        mine: dict[str, Inside] = {}
        async with trio.open_nursery() as nursery:

            async def handle(op: str, args: Args, body: bytes) -> tuple[Args, bytes]:
                if op in ("attach.exec", "attach.dial", "attach.check") and args["job"] not in self.jobs:
                    raise PfsError(Kind.BUSY, f"job {args['job']} is not running: it waits")
                if op == "attach.check":
                    return {}, b""
                if op in ("attach.exec", "attach.dial"):
                    session = mine[args["session"]] = Inside(args, channel(), nursery)
                    self.sessions.append(session)
                    await (begin if op == "attach.exec" else dial)(session)
                else:
                    await hear(mine[args["session"]], op, args, body)
                return {}, b""

            try:
                yield handle
            finally:
                for session in mine.values():
                    session.is_ended = True
                    if session.peer is not None:
                        session.peer.socket.close()
                nursery.cancel_scope.cancel()


async def quietly(work: Callable[..., Any], *args: object) -> None:
    try:
        await work(*args)
    except (ChannelClosed, trio.BrokenResourceError):
        return
    except PfsError:  # who is there takes no more
        return


# ---- programs


async def begin(session: Inside) -> None:
    match session.begun["argv"]:
        case ["code", code]:
            session.later(session.ends, int(code))
        case ["both"]:
            session.later(both, session)
        case ["reason"]:
            session.later(session.ends, 137, "the job ended")
        case ["size"]:
            size = session.begun
            terminal = session.begun["env"].get("TERM", "none")
            session.later(session.says, f"{size['tty']} {terminal} {size['columns']}x{size['lines']}\r\n".encode())
        case ["signals" | "keys"]:
            session.later(session.says, b"ready\r\n")
        case ["flood", pieces]:
            session.later(flood, session, int(pieces))
        case ["drop"]:
            session.later(session.channel.close)
        case ["echo" | "sh", *_]:
            pass
        case argv:
            raise PfsError(Kind.NOT_FOUND, f"there is no program {argv[0]!r} there")


async def both(session: Inside) -> None:
    await session.says(b"out\n")
    await session.says(b"err\n", STDERR)
    await session.ends(0)


async def end_once_said(session: Inside) -> None:
    await session.said.wait()
    await session.ends(0)


async def flood(session: Inside, pieces: int) -> None:
    for _ in range(pieces):
        await session.says(bytes(range(256)) * 256)
    await session.ends(0)


async def hear(session: Inside, op: str, args: Args, body: bytes) -> None:
    if session.peer is not None:
        await hear_connection(session, op, args, body)
        return
    match session.begun.get("argv"), op:
        case _, "attach.end":
            session.is_ended = True
        case ["echo"], "attach.send" if args["eof"]:
            session.later(session.ends, 0)
        case ["echo"], "attach.send":
            await session.says(body)
        case ["code", _], "attach.send":
            raise PfsError(Kind.BUSY, "nobody reads")
        case ["keys"], "attach.send":
            await session.says(repr(body).encode() + b"\r\n")
            if body == b"q":
                session.later(session.ends, 0)
        case ["signals"], "attach.signal":
            await session.says(f"signal {args['signal']}\n".encode())
            if args["signal"] == 15:
                session.later(session.ends, 143)
        case ["size"], "attach.resize":
            await session.says(f"now {args['columns']}x{args['lines']}\r\n".encode())
        case ["size"], "attach.send":
            session.later(end_once_said, session)


# ---- connections, to real ports of this machine


async def dial(session: Inside) -> None:
    try:
        session.peer = await trio.open_tcp_stream("127.0.0.1", session.begun["port"])
    except OSError:
        raise PfsError(Kind.UNREACHABLE, f"nobody listens on port {session.begun['port']} there") from None
    session.later(carry, session, session.peer)


async def carry(session: Inside, peer: trio.SocketStream) -> None:
    async for data in peer:
        await session.says(bytes(data))
    await session.says(b"")
    await half_closed(session)


async def half_closed(session: Inside) -> None:
    session.halves += 1
    if session.halves == 2:
        await session.ends(0)


async def hear_connection(session: Inside, op: str, args: Args, body: bytes) -> None:
    assert session.peer is not None
    if op == "attach.end":
        session.is_ended = True
        await session.peer.aclose()
    elif op == "attach.send":
        await (session.peer.send_eof() if args["eof"] else session.peer.send_all(body))
        if args["eof"]:
            session.later(half_closed, session)


def config_for(fake: Fake, folder: Path) -> Path:
    """Write a configuration of `paddle` that names the server."""
    path = folder / "paddle-config"
    path.write_text(f"dc1:\n  username: ann\n  token: {TOKEN}\n  endpoint: {fake.url}\n")
    return path
