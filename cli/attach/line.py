"""The connection to a server by which somebody is in jobs (`jobd.attach`): one for all that a command does there.

Who hears of a session takes a piece before the next one of its stream comes. When the connection is lost, so is all
that ran by it; it is not made anew.
"""

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

import click
import trio

from cli.errors import only_error
from jobd import attach
from jobd.attach import Json, Port, Program, Terminal
from pfs.client.connection import connect_channel
from pfs.errors import Kind, PfsError
from pfs.keys import Pair
from pfs.protocol.channel import Channel, ChannelClosed

GOODBYE_S = 2.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where one goes, and how one comes in (`pfs.client.connection.connect_channel`)."""

    endpoint: str
    token: str
    ca: str | None
    own: Pair | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """A process of a job.

    Attributes:
        process: `"<group>.<process>"`, a number that counts the processes of all groups, or None for the first one.
    """

    job: int
    process: str | None = None


class Lost(click.ClickException):
    """The connection was lost, and what ran by it is ended."""

    exit_code = 255

    def __init__(self) -> None:
        super().__init__("the connection to the server was lost; what was begun by it is ended there")


class Hearer(Protocol):
    """Who hears of a session."""

    async def came(self, stream: int, data: bytes) -> None:
        """Take bytes; none at all: no more come of this stream."""

    async def over(self, code: int, reason: str) -> None:
        """Take note of the end."""


class Line:
    """The connection."""

    def __init__(self) -> None:
        self._channel: Channel
        self._names = itertools.count(1)
        self._hearers: dict[str, Hearer] = {}

    async def closed(self) -> None:
        """Wait until the connection is lost."""
        await self._channel.closed.wait()

    async def check(self, target: Target) -> None:
        """Ask whether the process could be entered now.

        Raises:
            PfsError: why not.
        """
        await self.ask(attach.CHECK, _target(target))

    async def start(self, target: Target, wish: Program | Port, hearer: Hearer) -> "Session":
        """Begin a session.

        Raises:
            PfsError: it is refused.
        """
        session = Session(self, str(next(self._names)))
        self._hearers[session.name] = hearer
        op = attach.EXEC if isinstance(wish, Program) else attach.DIAL
        wanted = attach.encode_program(wish) if isinstance(wish, Program) else {"port": wish.number}
        try:
            await self.ask(op, {"session": session.name, **_target(target), **wanted})
        except BaseException:
            self.forget(session)
            raise
        return session

    def forget(self, session: "Session") -> None:
        """Nobody hears of this session any more."""
        self._hearers.pop(session.name, None)

    async def ask(self, op: str, args: Json, body: bytes = b"") -> None:
        """Ask the server.

        Raises:
            Lost: the connection is gone.
            PfsError: it refuses.
        """
        try:
            await self._channel.ask(op, args, body)
        except ChannelClosed:
            raise Lost from None

    async def answer(self, op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        """Answer the server."""
        hearer = self._hearers.get(attach.session_of(args))
        if op == attach.CAME and hearer is not None:
            await hearer.came(attach.decode_stream(args), body)
        elif op == attach.OVER:
            code, reason = attach.decode_over(args)
            if hearer is not None:
                del self._hearers[attach.session_of(args)]
                await hearer.over(code, reason)
        else:
            raise PfsError(Kind.NOT_FOUND, "there is no such session here")
        return {}, b""

    @classmethod
    @asynccontextmanager
    async def to(cls, server: Server) -> "AsyncIterator[Line]":
        """Connect for the block.

        Raises:
            PfsError: UNREACHABLE, UNAUTHENTICATED or INVALID.
        """
        line = cls()
        async with connect_channel(server.endpoint, server.token, line.answer, server.ca, server.own) as channel:
            line._channel = channel
            yield line


class Session:
    """One program that runs, or one connection."""

    def __init__(self, line: Line, name: str) -> None:
        self._line = line
        self.name = name

    async def send(self, data: bytes) -> bool:
        """Send bytes, none at all for their end; tells whether anybody reads them there."""
        try:
            await self._line.ask(attach.SEND, {"session": self.name, "eof": not data}, data)
        except PfsError as error:
            if error.kind in (Kind.BUSY, Kind.NOT_FOUND):
                return False
            raise
        return True

    async def resize(self, size: Terminal) -> None:
        """Tell how large the terminal is now."""
        await self._tell(attach.RESIZE, {"columns": size.columns, "lines": size.lines})

    async def signal(self, number: int) -> None:
        """Send a signal to what runs."""
        await self._tell(attach.SIGNAL, {"signal": number})

    async def end(self) -> None:
        """End it, if it is not over: what runs is killed."""
        self._line.forget(self)
        with trio.move_on_after(GOODBYE_S, shield=True):
            try:
                await self._tell(attach.END, {})
            except Lost:
                return  # so it is ended

    async def _tell(self, op: str, args: Json) -> None:
        try:
            await self._line.ask(op, {"session": self.name, **args})
        except PfsError as error:
            if error.kind is not Kind.NOT_FOUND:  # it is over in this moment
                raise


def run(main: Callable[..., Awaitable[int]], *args: object) -> int:
    """Run a program of ours to its end; an error is raised as it is, whatever nurseries it came through."""
    try:
        return trio.run(main, *args)
    except BaseExceptionGroup as group:
        raise only_error(group) from None


def _target(target: Target) -> Json:
    return {"job": target.job, "process": target.process}
