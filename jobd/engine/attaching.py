"""Lets users into the processes of their jobs: the server's part of `jobd.attach`.

A session is known here by two names, the one that its client gave it and the one that its node is told, and what is
said of it is handed on between the two. Who may command a job may enter it; it is on record, refused or not.

A hop answers when the next one took what it was given, and a session hands on one piece at a time in each direction:
so a reader who does not read holds up his own writer, with one piece here, and nobody else. What waits is given up
when the session ends. Of one account, and on one node, there are so many sessions at once and no more: all that they
hold together is little beside what a channel may hold.
"""

import itertools
import logging
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Protocol

import trio

from jobd import attach
from jobd.attach import Json
from jobd.engine.assign import node_of, task_of
from jobd.engine.fleet import Fleet
from jobd.engine.jobmounts import Conversation
from jobd.engine.ledger import Ledger
from jobd.engine.ports import NodeLink
from jobd.engine.target import check_runs, meant
from jobd.job import Job
from pfs.accounts.store import Identity
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.protocol.channel import Channel, ChannelClosed, Handler

SESSIONS_OF_USER_MAX = 64
SESSIONS_ON_NODE_MAX = 128
GOODBYE_S = 5.0
LOST = 255  # as what ends with the connection to the machine where it ran

Reply = tuple[Json, bytes]
Ask = Callable[[str, Json, bytes], Awaitable[object]]

log = logging.getLogger(__name__)


class Record(Protocol):
    """Keeps who did what (`pfs.audit.log.AuditLog.about`)."""

    def __call__(self, what: str, on: str, **more: object) -> AbstractAsyncContextManager[None]:
        """Record what comes of the block."""


class Attaching:
    """All sessions in all jobs."""

    def __init__(self, ledger: Ledger, fleet: Fleet) -> None:
        self._ledger = ledger
        self._fleet = fleet
        self._names = itertools.count(1)
        self._sessions: dict[str, _Session] = {}

    def conversation(self, talk: Conversation, record: Record) -> Conversation:
        """Return the conversation with a user: `talk`, and beside it what is said to processes of their jobs."""

        @asynccontextmanager
        async def with_jobs(identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
            async with talk(identity, channel) as handler, trio.open_nursery() as nursery:
                client = _Client(self, identity.subject, channel, record, nursery)

                async def handle(op: str, args: Json, body: bytes) -> Reply:
                    answer = client.handle if op.startswith(attach.PREFIX) else handler
                    return await answer(op, args, body)

                try:
                    yield handle
                finally:
                    await client.leave()
                    nursery.cancel_scope.cancel()

        return with_jobs

    async def told(self, link: NodeLink, op: str, args: Json, body: bytes) -> Reply:
        """Hand on what a node tells of a session.

        Raises:
            PfsError: NOT_FOUND for a session that it does not have (any more), INVALID.
        """
        session = self._sessions.get(attach.session_of(args))
        if session is not None and session.link is not link:
            session = None  # it is of another node
        match op:
            case attach.CAME:
                piece, stream = attach.checked_piece(body), attach.decode_stream(args)
                if session is None:
                    raise _no_session()
                told = {"session": session.own_name, "stream": stream}
                await session.hand_on(session.came[stream], session.client.ask, op, told, piece)
            case attach.OVER:
                code, reason = attach.decode_over(args)
                if session is not None:
                    self.forget(session)
                    await session.client.tell_over(session, code, reason)
            case _:
                raise PfsError(Kind.UNSUPPORTED, f"the server does not know {op!r}")
        return {}, b""

    def lost(self, link: NodeLink) -> None:
        """The connection of a node is gone, and with it all that ran there by it."""
        for session in [session for session in self._sessions.values() if session.link is link]:
            self.forget(session)
            session.client.begin_to_tell(session, LOST, f"the node {session.node_label} is not connected any more")

    async def enter(self, client: "_Client", own_name: str, args: Json) -> tuple["_Session", str]:
        """Return a session with what is meant by `args`, in which nothing was begun yet, and the task there.

        Raises:
            PfsError: NOT_FOUND, FORBIDDEN for somebody else's job, BUSY where it does not run, TOO_MANY.
        """
        job, worker, node = await self._found(client.subject, args)
        link, label = self._fleet.link(node), self._fleet.name(node)
        if link is None:
            raise PfsError(Kind.BUSY, f"the node {label} is not connected; try again when it is back")
        self._check_room(client.subject.user, link, label)
        session = _Session(f"a{next(self._names)}", own_name, client, link, label)
        self._sessions[session.name] = client.sessions[own_name] = session
        return session, task_of(job, worker)

    async def check(self, subject: Subject, args: Json) -> None:
        """Refuse what `enter` refuses, but for what may be otherwise in the next moment."""
        await self._found(subject, args)

    async def _found(self, subject: Subject, args: Json) -> tuple[Job, int, str]:
        """Return the job that is meant, which process of it, and its node."""
        job_id, process = _number(args.get("job")), _text_or_none(args.get("process"))
        try:
            job = (await self._ledger.own(subject, job_id)).job
        except PfsError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            raise PfsError(Kind.NOT_FOUND, f"there is no job {job_id}") from None
        worker = meant(job, process)
        check_runs(job, worker)
        return job, worker, node_of(job, worker)

    def _check_room(self, user: str, link: NodeLink, label: str) -> None:
        """Refuse more sessions than an account, or a node, may have."""
        of_user = Counter(session.client.subject.user for session in self._sessions.values())
        if of_user[user] >= SESSIONS_OF_USER_MAX:
            what = f"{user} has {SESSIONS_OF_USER_MAX} programs and connections in jobs already"
            raise PfsError(Kind.TOO_MANY, f"{what}; end one of them")
        if sum(session.link is link for session in self._sessions.values()) >= SESSIONS_ON_NODE_MAX:
            what = f"the node {label} has {SESSIONS_ON_NODE_MAX} programs and connections in its jobs already"
            raise PfsError(Kind.TOO_MANY, f"{what}; try again later")

    async def end(self, session: "_Session") -> None:
        """End a session from the client's side."""
        self.forget(session)
        await session.say(attach.END, {})

    def forget(self, session: "_Session") -> None:
        """A session is over on both sides, or never began."""
        self._sessions.pop(session.name, None)
        session.client.sessions.pop(session.own_name, None)
        session.end()


class _Session:
    """One program, or one connection, in a process.

    Attributes:
        name: as the node knows it; `own_name` as the client does.
        came: whose turn it is to hand on a piece of a stream.
    """

    def __init__(self, name: str, own_name: str, client: "_Client", link: NodeLink, node_label: str) -> None:
        self.name = name
        self.own_name = own_name
        self.client = client
        self.link = link
        self.node_label = node_label
        self.came = {stream: trio.Lock() for stream in (attach.STDOUT, attach.STDERR)}
        self._sending, self._steering = trio.Lock(), trio.Lock()
        self._waiting: set[trio.CancelScope] = set()
        self._is_over = False

    async def towards(self, op: str, args: Json, body: bytes = b"") -> None:
        """Say something to the node; what waits for its turn, or its answer, is given up when the session ends."""
        turn = self._sending if op == attach.SEND else self._steering
        await self.hand_on(turn, self._ask_node, op, {**args, "session": self.name}, body)

    async def say(self, op: str, args: Json) -> None:
        """Say something to the node, whatever else is being said."""
        await self._ask_node(op, {**args, "session": self.name}, b"")

    async def _ask_node(self, op: str, args: Json, body: bytes) -> None:
        try:
            await self.link.attach(op, args, body)
        except ChannelClosed:
            why = f"the node {self.node_label} is not connected any more"
            raise PfsError(Kind.BUSY, why) from None

    async def hand_on(self, turn: trio.Lock, ask: Ask, op: str, args: Json, body: bytes) -> None:
        """Ask the next hop in turn.

        Raises:
            PfsError: NOT_FOUND when the session is over before it answers, and what it refuses with.
        """
        if self._is_over:
            raise _no_session()
        with trio.CancelScope() as scope:
            self._waiting.add(scope)
            try:
                async with turn:
                    await ask(op, args, body)
                return
            finally:
                self._waiting.discard(scope)
        raise _no_session()

    def end(self) -> None:
        """Give up what waits."""
        self._is_over = True
        for scope in list(self._waiting):
            scope.cancel()


class _Client:
    """One connection of a user.

    Attributes:
        sessions: by the names that the client gave them.
    """

    def __init__(
        self,
        attaching: Attaching,
        subject: Subject,
        channel: Callable[[], Channel],
        record: Record,
        nursery: trio.Nursery,
    ) -> None:
        self._attaching = attaching
        self.subject = subject
        self._channel = channel
        self._record = record
        self._nursery = nursery
        self.sessions: dict[str, _Session] = {}
        self._beginning: set[str] = set()

    async def handle(self, op: str, args: Json, body: bytes) -> Reply:
        """Answer what the client says to a session."""
        if op == attach.CHECK:
            await self._attaching.check(self.subject, args)
            return {}, b""
        name = attach.session_of(args)
        if op in (attach.EXEC, attach.DIAL):
            await self._begin(name, op, args)
            return {}, b""
        session = self.sessions.get(name)
        if session is None:
            if op == attach.END:
                return {}, b""
            raise _no_session()
        match op:
            case attach.SEND:
                piece = attach.checked_piece(body)
                await session.towards(op, {"eof": args.get("eof") is True}, piece)
            case attach.RESIZE:
                size = attach.decode_terminal(args)
                await session.towards(op, {"columns": size.columns, "lines": size.lines})
            case attach.SIGNAL:
                await session.towards(op, {"signal": attach.decode_signal(args)})
            case attach.END:
                await self._attaching.end(session)
            case _:
                raise PfsError(Kind.UNSUPPORTED, f"the server does not know {op!r}")
        return {}, b""

    async def _begin(self, name: str, op: str, args: Json) -> None:
        if name in self.sessions or name in self._beginning:
            raise PfsError(Kind.INVALID, f"there is a session {name!r} on this connection already")
        on, where = f"jobs/{_number(args.get('job'))}", _text_or_none(args.get("process")) or "0.0"
        if op == attach.EXEC:
            program = attach.decode_program(args)
            wish = attach.encode_program(program)
            about = self._record("job.exec", on, process=where, command=" ".join(program.argv))
        else:
            port = attach.decode_port(args)
            wish = {"port": port.number}
            about = self._record("job.dial", on, process=where, port=port.number)
        self._beginning.add(name)
        try:
            session, task = await self._enter(name, args, about)
        finally:
            self._beginning.discard(name)
        try:
            await session.towards(op, {"task": task, **wish})
        except PfsError:
            self._attaching.forget(session)
            raise

    async def _enter(self, name: str, args: Json, about: AbstractAsyncContextManager[None]) -> tuple[_Session, str]:
        """Enter a process; nothing is begun there before it is on record."""
        try:
            async with about:
                return await self._attaching.enter(self, name, args)
        except BaseException:
            if name in self.sessions:
                self._attaching.forget(self.sessions[name])
            raise

    async def ask(self, op: str, args: Json, body: bytes) -> None:
        """Tell the client something of a session.

        Raises:
            PfsError: NOT_FOUND when it is gone, or refuses it.
        """
        try:
            await self._channel().ask(op, args, body)
        except ChannelClosed:
            raise _no_session() from None

    async def tell_over(self, session: _Session, code: int, reason: str) -> None:
        """Tell the client that a session is over; one that is gone does not hear of it."""
        args = {"session": session.own_name, "code": code, "reason": reason}
        try:
            await self.ask(attach.OVER, args, b"")
        except PfsError as error:
            log.debug("nobody hears of the end of a session: %s", error)

    def begin_to_tell(self, session: _Session, code: int, reason: str) -> None:
        """Let the client be told that a session is over."""
        self._nursery.start_soon(self.tell_over, session, code, reason)

    async def leave(self) -> None:
        """The connection is gone: end what there is by it."""
        with trio.move_on_after(GOODBYE_S, shield=True):
            async with trio.open_nursery() as nursery:
                for session in list(self.sessions.values()):
                    nursery.start_soon(partial(self._give_up, session))

    async def _give_up(self, session: _Session) -> None:
        try:
            await self._attaching.end(session)
        except PfsError as error:
            log.debug("a node is not told of the end of a session: %s", error)


def _no_session() -> PfsError:
    return PfsError(Kind.NOT_FOUND, "there is no such session any more")


def _number(job: object) -> int:
    if isinstance(job, bool) or not isinstance(job, int) or job < 0:
        raise PfsError(Kind.INVALID, f"{str(job)[:40]!r} is no job's number")
    return job


def _text_or_none(process: object) -> str | None:
    if process is not None and not isinstance(process, str):
        raise PfsError(Kind.INVALID, f"{str(process)[:40]!r} is no process")
    return process
