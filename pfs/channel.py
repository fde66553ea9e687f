"""A channel: questions and answers in both directions over one WebSocket.

The same object serves both ends; only how messages travel differs (`Transport`). Questions overlap freely: a read
that waits for a log to grow holds nobody up. A caller that is cancelled takes its question back on the other side.
The nursery of the channel's owner runs everything; when `run` returns, every open question has failed.
"""

import itertools
import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from pfs.errors import Kind, PfsError
from pfs.wire import Answer, Ask, Cancel, Json, decode_frame, encode_frame

log = logging.getLogger(__name__)

ASKS_AT_ONCE_MAX = 8192
SEND_TIMEOUT_S = 30.0

Handler = Callable[[str, Json, bytes], Awaitable[tuple[Json, bytes]]]


class Transport(Protocol):
    """Carries whole messages, in order."""

    async def send(self, message: bytes) -> None: ...

    async def receive(self) -> bytes | None:
        """Return the next message; None when the other side is gone."""

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
                try:
                    while (message := await self._transport.receive()) is not None:
                        self._take(decode_frame(message), nursery)
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

    def _take(self, frame: Ask | Answer | Cancel, nursery: trio.Nursery) -> None:
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
                nursery.start_soon(self._serve, frame, scope)

    async def _serve(self, ask: Ask, scope: trio.CancelScope) -> None:
        message: bytes | None = None
        try:
            with scope:
                message = await self._answer(ask)
        finally:
            del self._serving[ask.number]
        if message is not None:
            await self._send(message)

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

    async def _send(self, message: bytes) -> None:
        """Send whole or not at all: a message cut by a cancellation would spoil all that follow."""
        sent = False
        try:
            async with self._sending:
                if self.closed.is_set():
                    raise ChannelClosed
                with trio.CancelScope(shield=True), trio.move_on_after(SEND_TIMEOUT_S):
                    await self._transport.send(message)
                    sent = True
        except (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            sent = False
        if not sent:
            self._end()
            raise ChannelClosed from None

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
