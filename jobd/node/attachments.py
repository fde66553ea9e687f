"""What users have in the tasks of this node: programs beside them, and connections to their ports (`jobd.attach`).

All of it goes by one connection to the server, and ends with that. What a session says is told a piece at a time, and
the next is read when the server has handed it on: so whoever is slow to listen slows the program, and nobody else.
"""

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager

import trio

from jobd import attach
from jobd.attach import PIECE_BYTES_MAX, STDOUT, Json, Program, Terminal
from jobd.node.runtime import Attached, Connection, Runtime, RuntimeAway
from jobd.node.task import DEFECT
from jobd.wire import parse_task_id
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel

log = logging.getLogger(__name__)

# the code of a program whose end nobody could tell, and of a connection that broke
LOST, BROKEN = 255, 1


class _Session:
    """A session that has begun, or is about to.

    Attributes:
        attached: what it is of; None before it has begun.
        turn: whose it is to send.
    """

    def __init__(self) -> None:
        self.attached: Attached | None = None
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.turn = trio.StrictFIFOLock()


class Attachments:
    """All sessions of one connection.

    Args:
        channel: to the server.
        nursery: ends with the connection; sessions run there.
        runtime: finds what runs a task; raises PfsError where none does now.
    """

    def __init__(self, channel: Channel, nursery: trio.Nursery, runtime: Callable[[str], Runtime]) -> None:
        self._channel = channel
        self._nursery = nursery
        self._runtime = runtime
        self._sessions: dict[str, _Session] = {}

    async def handle(self, op: str, args: Json, body: bytes) -> None:
        """Do what the server asks.

        Raises:
            PfsError: as `jobd.attach` says.
            RuntimeAway
        """
        name = attach.session_of(args)
        match op:
            case attach.EXEC:
                await self._begin(name, self._executed(str(args["task"]), _whole(attach.decode_program(args))))
            case attach.DIAL:
                await self._begin(name, self._dialled(str(args["task"]), attach.decode_port(args).number))
            case attach.SEND:
                await self._send(name, attach.checked_piece(body), is_last=args.get("eof") is True)
            case attach.RESIZE:
                await self._begun(name)[1].resize(attach.decode_terminal(args))
            case attach.SIGNAL:
                await self._begun(name)[1].signal(attach.decode_signal(args))
            case attach.END:
                await self._end(name)
            case _:
                raise PfsError(Kind.UNSUPPORTED, f"a node does not know {op!r}")

    def _begun(self, name: str) -> tuple[_Session, Attached]:
        session = self._sessions.get(name)
        if session is None or session.attached is None:
            raise PfsError(Kind.NOT_FOUND, "there is no such session any more")
        return session, session.attached

    async def _send(self, name: str, piece: bytes, *, is_last: bool) -> None:
        session, attached = self._begun(name)
        async with session.turn:
            if piece:
                await attached.send(piece)
            if is_last:
                await attached.send_eof()

    async def _end(self, name: str) -> None:
        session = self._sessions.get(name)
        if session is not None:
            session.scope.cancel()
            await session.over.wait()

    async def _begin(self, name: str, opened: AbstractAsyncContextManager[Attached]) -> None:
        if name in self._sessions:
            raise PfsError(Kind.INVALID, f"there is a session {name!r} already")
        session = self._sessions[name] = _Session()
        await self._nursery.start(self._live, name, session, opened)

    async def _live(
        self,
        name: str,
        session: _Session,
        opened: AbstractAsyncContextManager[Attached],
        task_status: trio.TaskStatus[None],
    ) -> None:
        end: tuple[int, str] | None = None
        try:
            with session.scope:
                async with opened as attached:
                    session.attached = attached
                    task_status.started()
                    end = await self._told(name, attached)
        except Exception:
            if session.attached is None:
                raise
            log.exception("defect in a session")
            end = LOST, DEFECT
        finally:
            del self._sessions[name]
            session.over.set()
        if session.attached is None:
            raise PfsError(Kind.BUSY, "it was ended before it had begun")
        if end is not None:
            await self._ask(attach.OVER, {"session": name, "code": end[0], "reason": end[1]})

    async def _told(self, name: str, attached: Attached) -> tuple[int, str] | None:
        """Tell all that comes; return the end, or None where nobody wants to know of it."""
        while True:
            try:
                piece = await attached.receive()
                if piece is None:
                    return await attached.wait(), ""
            except RuntimeAway as error:
                return LOST, str(error)
            except PfsError as error:
                return BROKEN, str(error)
            stream, data = piece
            for start in range(0, max(len(data), 1), PIECE_BYTES_MAX):
                part = data[start : start + PIECE_BYTES_MAX]
                if not await self._ask(attach.CAME, {"session": name, "stream": stream}, part):
                    return None

    async def _ask(self, op: str, args: Json, body: bytes = b"") -> bool:
        """Tell the server something of a session; return whether it wants to hear more."""
        try:
            await self._channel.ask(op, args, body)
        except PfsError as error:
            log.debug("the server hears no more of a session: %s", error)
            return False
        return True

    @asynccontextmanager
    async def _executed(self, task: str, program: Program) -> AsyncIterator[Attached]:
        async with self._runtime(task).attach(task, program) as attached:
            yield attached

    @asynccontextmanager
    async def _dialled(self, task: str, port: int) -> AsyncIterator[Attached]:
        try:
            stream = await self._runtime(task).dial(task, port)
        except PfsError as error:
            if error.kind is not Kind.UNREACHABLE:
                raise
            _, _, group, process = parse_task_id(task)
            raise PfsError(error.kind, f"nothing listens on port {port} of process {group}.{process}") from None
        async with aclosing(stream):
            yield _Dialled(stream)


def _whole(program: Program) -> Program:
    """Return a program whose words can be a process's.

    Raises:
        PfsError: INVALID.
    """
    try:
        " ".join([*program.argv, *program.env, *program.env.values()]).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise PfsError(Kind.INVALID, "no proper program: a word that is no text") from None
    return program


class _Dialled:
    """A connection to a port; over when both sides have said all."""

    def __init__(self, stream: Connection) -> None:
        self._stream = stream
        self._has_heard_all = False
        self._has_said_all = trio.Event()

    async def send(self, data: bytes) -> None:
        """Give the other side bytes; see `Attached`."""
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._has_said_all.set()
            raise PfsError(Kind.BUSY, "what listened there reads no more") from None

    async def send_eof(self) -> None:
        """Tell the other side that no more comes; see `Attached`."""
        self._has_said_all.set()
        try:
            await self._stream.send_eof()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            log.debug("a connection was closed by its other side")

    async def receive(self) -> tuple[int, bytes] | None:
        """Return what comes next, and once nothing when the other side has said all; see `Attached`."""
        if self._has_heard_all:
            await self._has_said_all.wait()
            return None
        try:
            data = bytes(await self._stream.receive_some(PIECE_BYTES_MAX))
        except trio.BrokenResourceError:
            raise PfsError(Kind.IO, "the connection broke") from None
        self._has_heard_all = not data
        return STDOUT, data

    async def resize(self, terminal: Terminal) -> None:
        """Do nothing: it has no terminal."""

    async def signal(self, number: int) -> None:
        """Do nothing: it is no process."""

    async def wait(self) -> int:
        """Return what a connection ends with that did not break."""
        return 0
