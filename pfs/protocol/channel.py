"""A channel: questions and answers in both directions over one WebSocket.

The same object serves both ends; only how messages travel differs (`Transport`). Questions overlap freely: a read
that waits for a log to grow holds nobody up. A caller that is cancelled takes its question back on the other side.
The nursery of the channel's owner runs everything; when `run` returns, every open question has failed.

Who reads a question answers it, without a task of its own; another task reads on when the answer has to wait for
something. Who asks looks for the answer before it sleeps (`pfs.protocol.lookout`).

The other side cannot fill our memory: while its unanswered questions hold too much nothing more is read from it, and
whoever is about to make a large answer waits while earlier ones are not taken (`drained`).
"""

import itertools
import logging
from collections.abc import Callable, Coroutine
from functools import partial
from math import inf
from typing import Any, Protocol

import trio

from pfs.errors import Kind, PfsError
from pfs.protocol.defects import told_defect
from pfs.protocol.inline import noticing
from pfs.protocol.wire import Answer, Ask, Cancel, Json, decode_frame, encode_frame

log = logging.getLogger(__name__)

ASKS_AT_ONCE_MAX = 8192
SEND_TIMEOUT_S = 30.0
HELD_BYTES_MAX = 32 * 1024 * 1024  # of questions that are being answered
HEADER_WEIGHT = 30  # what a byte of JSON may come to in memory
HELD_TIMEOUT_S = 30.0
UNSENT_BYTES_MAX = 16 * 1024 * 1024  # of answers that the other side does not take

Handler = Callable[[str, Json, bytes], Coroutine[Any, Any, tuple[Json, bytes]]]
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)


class Transport(Protocol):
    """Carries whole messages, in order."""

    def frame(self, message: bytes) -> bytes:
        """Return the bytes that carry `message`."""

    def send_now(self, data: bytes) -> int:
        """Send as much of `data` as goes without waiting; return how many bytes."""

    async def send_rest(self, data: bytes) -> None:
        """Send all of `data`; one caller at a time."""

    async def receive(self) -> bytes | None:
        """Return the next message; None when the other side is gone."""

    def pays_to_look(self, *, alone: bool) -> bool:
        """Tell whether to look for the answer to a question; `alone`: no other waits for one."""

    def look(self) -> list[bytes]:
        """Return the next messages, if any come within a moment; nothing else runs meanwhile."""

    async def pulse(self) -> bytes | None:
        """Return what keeps the line alive, framed, once it is time to send that; None when the line is dead."""

    async def close(self) -> None: ...


class ChannelClosed(PfsError):
    """The channel went down before the answer came; what became of the question is not known."""

    def __init__(self) -> None:
        super().__init__(Kind.UNREACHABLE, "the connection was lost")


class Channel:
    """One end of a connection.

    Args:
        transport: what carries the messages.
        handler: answers the other side's questions: `(op, args, body)` to `(result, body)`; a
            `PfsError` travels back as it is, any other exception is logged and told as INTERNAL.
    """

    def __init__(self, transport: Transport, handler: Handler) -> None:
        self._transport = transport
        self._handler = handler
        self._numbers = itertools.count(1)
        self._waiting: dict[int, _Question] = {}
        self._serving: dict[int, trio.CancelScope] = {}
        self._sending = trio.Lock()
        self._held_bytes = self._unsent_bytes = 0
        self._lighter, self._drained = trio.Event(), trio.Event()
        self._timer = trio.CancelScope()
        self._nursery: trio.Nursery | None = None
        self.closed = trio.Event()

    async def ask(self, op: str, args: Json, body: bytes = b"", *, deadline: float = inf) -> tuple[Json, bytes]:
        """Ask the other side and return its result and bytes; a checkpoint only where that takes a while.

        Args:
            deadline: a time of the event loop; then the question is taken back.

        Raises:
            PfsError: what the other side refused with; `ChannelClosed` when the connection goes; TOO_LARGE for
                more than a message holds.
            trio.TooSlowError: there is no answer at the deadline.
        """
        number = next(self._numbers)
        data = self._transport.frame(encode_frame(Ask(number, op, args, body)))
        question = self._waiting[number] = _Question(deadline)
        self._timer.deadline = min(self._timer.deadline, deadline)
        try:
            done = self._send_now(data)
            if done < len(data):
                with trio.fail_at(deadline):
                    await self._send_rest(data, done)
            elif self._look(question):
                return _told(question)
            await question.done.wait()
            if question.late:
                raise trio.TooSlowError
        except (trio.Cancelled, trio.TooSlowError):
            self._take_back(number)
            raise
        finally:
            del self._waiting[number]
        return _told(question)

    def _look(self, question: "_Question") -> bool:
        """Look whether the answer comes within a moment; what came before it is begun with before it is told."""
        nursery = self._nursery
        if nursery is None or not self._transport.pays_to_look(alone=len(self._waiting) == 1):
            return False
        asked = False
        try:
            while question.answer is None and (messages := self._transport.look()):
                for message in messages:
                    frame = decode_frame(message)
                    if isinstance(frame, Ask):
                        asked = True
                        nursery.start_soon(self._serve, frame, len(message))
                    else:
                        self._take(frame)
        except PfsError as error:
            nursery.start_soon(_fail, error)
            return False
        return question.answer is not None and not asked

    async def _serve(self, ask: Ask, size: int) -> None:
        """Answer a question that came while an answer was looked for."""
        self._check_new(ask)
        weight = _weight(ask, size)
        with trio.CancelScope() as scope:
            self._serving[ask.number] = scope
            self._held_bytes += weight
            try:
                await self._respond(ask)
            finally:
                self._served(ask.number, weight)

    async def run(self) -> None:
        """Carry messages until the other side is gone or `close` is called."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._keep)
                nursery.start_soon(self._watch_time)
                nursery.start_soon(self._read)
                try:
                    await self.closed.wait()
                finally:
                    self._end()
                    nursery.cancel_scope.cancel()
        except* ChannelClosed:
            log.debug("the other side left before it was answered")
        except* PfsError as group:
            log.warning("channel ended by a bad frame: %s", group.exceptions[0])
        finally:
            with trio.CancelScope(shield=True), trio.move_on_after(2):
                await self._transport.close()

    async def _watch_time(self) -> None:
        """Give up what is not answered in time; one timer for all questions, since few of them need one."""
        while True:
            with self._timer:
                await trio.sleep_forever()
            now_s = trio.current_time()
            for question in self._waiting.values():
                if question.deadline <= now_s and not question.done.is_set():
                    question.late = True
                    question.done.set()
            waiting = (each.deadline for each in self._waiting.values() if not each.done.is_set())
            self._timer = trio.CancelScope(deadline=min(waiting, default=inf))

    async def _read(self) -> None:
        """Take what comes, until an answer has to wait for something: then another task does."""
        assert self._nursery is not None
        with trio.CancelScope() as scope:
            while True:
                if self._held_bytes > HELD_BYTES_MAX:
                    await self._have_room()
                message = await self._transport.receive()
                if message is None:
                    break
                frame = decode_frame(message)
                if not isinstance(frame, Ask):
                    self._take(frame)
                    continue
                self._check_new(frame)
                number, weight = frame.number, _weight(frame, len(message))
                del message  # what is held of it for as long as its answer waits is the frame
                try:
                    await noticing(self._respond(frame), partial(self._step_aside, number, weight, scope))
                finally:
                    waited = number in self._serving
                    if waited:
                        self._served(number, weight)
                if waited:
                    return
        if not scope.cancelled_caught:
            self._end()

    def _step_aside(self, number: int, weight: int, scope: trio.CancelScope) -> None:
        """An answer has to wait for something; whoever makes it reads no more."""
        assert self._nursery is not None
        self._serving[number] = scope
        self._held_bytes += weight
        self._nursery.start_soon(self._read)

    def _served(self, number: int, weight: int) -> None:
        del self._serving[number]
        self._held_bytes -= weight
        if not self._lighter.is_set():
            self._lighter.set()

    async def close(self) -> None:
        """End the connection; open questions fail with `ChannelClosed`."""
        self._end()
        await self._transport.close()

    def _end(self) -> None:
        self.closed.set()
        for question in self._waiting.values():
            question.done.set()

    async def drained(self) -> None:
        """Return when the other side has taken most of its answers."""
        while self._unsent_bytes > UNSENT_BYTES_MAX:
            if self._drained.is_set():
                self._drained = trio.Event()
            await self._drained.wait()

    async def _have_room(self) -> None:
        with trio.move_on_after(HELD_TIMEOUT_S) as scope:
            while self._held_bytes > HELD_BYTES_MAX:
                self._lighter = trio.Event()
                await self._lighter.wait()
        if scope.cancelled_caught:
            raise PfsError(Kind.INVALID, "more is asked at once than can be answered")

    def _take(self, frame: Answer | Cancel) -> None:
        if isinstance(frame, Answer):
            question = self._waiting.get(frame.number)
            if question is not None:
                question.answer = frame
                question.done.set()
        else:
            scope = self._serving.get(frame.number)
            if scope is not None:
                scope.cancel()

    def _check_new(self, ask: Ask) -> None:
        if ask.number in self._serving or len(self._serving) >= ASKS_AT_ONCE_MAX:
            raise PfsError(Kind.INVALID, "a question's number is in use")

    async def _respond(self, ask: Ask) -> None:
        data = self._transport.frame(await self._answer(ask))
        done = self._send_now(data)
        if done == len(data):
            return
        self._unsent_bytes += len(data)
        try:
            await self._send_rest(data, done)
        finally:
            self._unsent_bytes -= len(data)
            if self._unsent_bytes <= UNSENT_BYTES_MAX // 2 and not self._drained.is_set():
                self._drained.set()

    async def _answer(self, ask: Ask) -> bytes:
        try:
            result, body = await self._handler(ask.op, ask.args, ask.body)
            return encode_frame(Answer(ask.number, result, body))
        except PfsError as error:
            return encode_frame(Answer(ask.number, {}, error=error))
        except Exception:
            return encode_frame(Answer(ask.number, {}, error=told_defect(log, f"answering {ask.op[:80]!r}")))

    async def _keep(self) -> None:
        while (data := await self._transport.pulse()) is not None:
            await self._send(data)
        await self.close()

    async def _send(self, data: bytes) -> None:
        await self._send_rest(data, self._send_now(data))

    def _send_now(self, data: bytes) -> int:
        """Send what goes without waiting, unless somebody is in the middle of a message; return how many bytes."""
        if self.closed.is_set():
            raise ChannelClosed
        try:
            return 0 if self._sending.locked() else self._transport.send_now(data)
        except _GONE:
            self._end()
            raise ChannelClosed from None

    async def _send_rest(self, data: bytes, done: int) -> None:
        """Send what `_send_now` left. Whole or not at all: a message cut by a cancellation would spoil all others."""
        if done == len(data):
            return
        try:
            if self._sending.locked():
                await self._sending.acquire()
            else:
                self._sending.acquire_nowait()
            try:
                await self._send_in_turn(data[done:])
            finally:
                self._sending.release()
        except _GONE:
            self._end()
            raise ChannelClosed from None

    async def _send_in_turn(self, data: bytes) -> None:
        if self.closed.is_set():
            raise ChannelClosed
        with trio.CancelScope(deadline=trio.current_time() + SEND_TIMEOUT_S, shield=True) as scope:
            await self._transport.send_rest(data)
        if scope.cancelled_caught:
            raise trio.BrokenResourceError

    def _take_back(self, number: int) -> None:
        if self._nursery is not None and not self.closed.is_set():
            self._nursery.start_soon(self._tell_cancelled, number)

    async def _tell_cancelled(self, number: int) -> None:
        try:
            await self._send(self._transport.frame(encode_frame(Cancel(number))))
        except ChannelClosed:
            return


def _weight(ask: Ask, size: int) -> int:
    """Return what a question may take in memory."""
    return (size - len(ask.body)) * HEADER_WEIGHT + len(ask.body)


async def _fail(error: PfsError) -> None:
    raise error


def _told(question: "_Question") -> tuple[Json, bytes]:
    answer = question.answer
    if answer is None:
        raise ChannelClosed
    if answer.error is not None:
        raise answer.error
    return answer.result, answer.body


class _Question:
    """A question on its way, until it is answered or the channel ends."""

    __slots__ = ("answer", "deadline", "done", "late")

    def __init__(self, deadline: float) -> None:
        self.answer: Answer | None = None
        self.deadline = deadline
        self.late = False
        self.done = trio.Event()
