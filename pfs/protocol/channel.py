"""A channel: questions and answers in both directions over one WebSocket.

The same object serves both ends; only how messages travel differs (`Transport`). Questions overlap freely: a read
that waits for a log to grow holds nobody up. A caller that is cancelled takes its question back on the other side.
The nursery of the channel's owner runs everything; when `run` returns, every open question has failed.

The other side cannot fill our memory: while its unanswered questions hold too much nothing more is read from it, and
whoever is about to make a large answer waits while earlier ones are not taken (`drained`).
"""

import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from pfs.errors import Kind, PfsError
from pfs.protocol.wire import Answer, Ask, Cancel, Json, decode_frame, encode_frame

log = logging.getLogger(__name__)

ASKS_AT_ONCE_MAX = 8192
SEND_TIMEOUT_S = 30.0
HELD_BYTES_MAX = 32 * 1024 * 1024  # of questions that are being answered
HEADER_WEIGHT = 30  # what a byte of JSON may come to in memory
HELD_TIMEOUT_S = 30.0
UNSENT_BYTES_MAX = 16 * 1024 * 1024  # of answers that the other side does not take

Handler = Callable[[str, Json, bytes], Awaitable[tuple[Json, bytes]]]


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
        self._nursery: trio.Nursery | None = None
        self.closed = trio.Event()

    async def ask(self, op: str, args: Json, body: bytes = b"") -> tuple[Json, bytes]:
        """Ask the other side and return its result and bytes.

        Raises:
            PfsError: what the other side refused with; `ChannelClosed` when the connection goes; TOO_LARGE for
                more than a message holds.
        """
        if self.closed.is_set():
            raise ChannelClosed
        number = next(self._numbers)
        message = encode_frame(Ask(number, op, args, body))
        question = self._waiting[number] = _Question()
        try:
            await self._send(message)
            await question.done.wait()
        except trio.Cancelled:
            if self._nursery is not None and not self.closed.is_set():
                self._nursery.start_soon(self._take_back, number)
            raise
        finally:
            del self._waiting[number]
        answer = question.answer
        if answer is None:
            raise ChannelClosed
        if answer.error is not None:
            raise answer.error
        return answer.result, answer.body

    async def run(self) -> None:
        """Carry messages until the other side is gone or `close` is called."""
        try:
            async with trio.open_nursery() as nursery:
                self._nursery = nursery
                nursery.start_soon(self._keep)
                try:
                    while (message := await self._transport.receive()) is not None:
                        self._take(decode_frame(message), len(message), nursery)
                        if self._held_bytes > HELD_BYTES_MAX:
                            await self._have_room()
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

    def _take(self, frame: Ask | Answer | Cancel, size: int, nursery: trio.Nursery) -> None:
        match frame:
            case Answer(number):
                question = self._waiting.get(number)
                if question is not None:
                    question.answer = frame
                    question.done.set()
            case Cancel(number):
                scope = self._serving.get(number)
                if scope is not None:
                    scope.cancel()
            case Ask(number):
                if number in self._serving or len(self._serving) >= ASKS_AT_ONCE_MAX:
                    raise PfsError(Kind.INVALID, "a question's number is in use")
                scope = self._serving[number] = trio.CancelScope()
                weight = (size - len(frame.body)) * HEADER_WEIGHT + len(frame.body)
                self._held_bytes += weight
                nursery.start_soon(self._serve, frame, weight, scope)

    async def _serve(self, ask: Ask, weight: int, scope: trio.CancelScope) -> None:
        message: bytes | None = None
        try:
            with scope:
                message = await self._answer(ask)
            if message is not None:
                await self._send_answer(message)
        finally:
            del self._serving[ask.number]
            self._held_bytes -= weight
            if not self._lighter.is_set():
                self._lighter.set()

    async def _send_answer(self, message: bytes) -> None:
        self._unsent_bytes += len(message)
        try:
            await self._send(message)
        finally:
            self._unsent_bytes -= len(message)
            if self._unsent_bytes <= UNSENT_BYTES_MAX // 2 and not self._drained.is_set():
                self._drained.set()

    async def _answer(self, ask: Ask) -> bytes:
        try:
            result, body = await self._handler(ask.op, ask.args, ask.body)
            return encode_frame(Answer(ask.number, result, body))
        except PfsError as error:
            return encode_frame(Answer(ask.number, {}, error=error))
        except Exception:
            log.exception("defect while answering %.80s", ask.op)
            defect = PfsError(Kind.INTERNAL, f"a defect of the server while doing {ask.op[:80]!r}; its log has more")
            return encode_frame(Answer(ask.number, {}, error=defect))

    async def _keep(self) -> None:
        while (data := await self._transport.pulse()) is not None:
            await self._send_framed(data)
        await self.close()

    async def _send(self, message: bytes) -> None:
        await self._send_framed(self._transport.frame(message))

    async def _send_framed(self, data: bytes) -> None:
        """Send whole or not at all: a message cut by a cancellation would spoil all that follow."""
        try:
            if self._sending.locked():
                await self._sending.acquire()
            else:
                self._sending.acquire_nowait()
            try:
                await self._send_in_turn(data)
            finally:
                self._sending.release()
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            self._end()
            raise ChannelClosed from None

    async def _send_in_turn(self, data: bytes) -> None:
        if self.closed.is_set():
            raise ChannelClosed
        done = self._transport.send_now(data)
        if done == len(data):
            return
        with trio.CancelScope(deadline=trio.current_time() + SEND_TIMEOUT_S, shield=True) as scope:
            await self._transport.send_rest(data[done:])
        if scope.cancelled_caught:
            raise trio.BrokenResourceError

    async def _take_back(self, number: int) -> None:
        try:
            await self._send(encode_frame(Cancel(number)))
        except ChannelClosed:
            return


class _Question:
    """A question on its way, until it is answered or the channel ends."""

    __slots__ = ("answer", "done")

    def __init__(self) -> None:
        self.answer: Answer | None = None
        self.done = trio.Event()
