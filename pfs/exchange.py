"""One kept connection to a server: HTTP/1.1 requests one after the other, with large bodies.

h11 writes and reads the heads; a body whose length is told goes straight between the socket and the memory where it is
wanted, without passing through a parser. httpx spends three to four times the processor on the same bytes, and loses
connections of its pool when callers are cancelled while they wait for one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import h11
import trio

SILENCE_MAX_S = 30.0  # without a byte in either direction
SLOWEST_BYTES_PER_S = 32 * 1024  # whoever is slower than this on the whole is taken for gone
HEAD_BYTES = 16 * 1024
ERROR_BYTES_MAX = 64 * 1024
SEND_BYTES = 1024 * 1024

Stream = trio.SSLStream[trio.SocketStream] | trio.SocketStream


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        body_bytes_max: how long the body of a 206 may be.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    data: bytes = b""
    body_bytes_max: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came; `cut` says that the connection ended before the body did."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    cut: bool = False


class GoneError(Exception):
    """The connection ended before the first byte of an answer; the argument is the reason."""


class Patience:
    """How long a request may take: `SILENCE_MAX_S` from the last byte that moved, and by its size in all."""

    def __init__(self, size: int, note: Callable[[float], None]) -> None:
        now = trio.current_time()
        self._last = now + SILENCE_MAX_S + size / SLOWEST_BYTES_PER_S
        self._note = note
        self.scope = trio.CancelScope(deadline=now + SILENCE_MAX_S)

    def moved(self) -> None:
        now = trio.current_time()
        self._note(now)
        self.scope.deadline = min(now + SILENCE_MAX_S, self._last)


class Connection:
    """One connection, for one request after the other."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._memory = bytearray()  # kept: fresh memory for each body costs the kernel more than the copy out of it
        self.reusable = False
        self._sent = False
        self.used_at = 0.0

    async def close(self) -> None:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(self._stream)

    async def ask(self, question: Question, moved: Callable[[], None]) -> Answer:
        """Send a request and return what is answered; `moved` is called whenever bytes go either way.

        Raises:
            h11.RemoteProtocolError: the answer is no HTTP, or longer than it may be.
        """
        self.reusable = self._sent = False
        http = h11.Connection(h11.CLIENT)
        headers = question.headers
        if question.method == "PUT":
            headers = [*headers, ("content-length", str(len(question.data)))]
        head = http.send(h11.Request(method=question.method, target=question.target, headers=headers))
        http.send_with_data_passthrough(h11.Data(data=question.data))
        http.send_with_data_passthrough(h11.EndOfMessage())
        if not question.data:
            await self._send((head,), moved)
            answer = await self._answer(http, question.body_bytes_max, moved)
        else:
            answer = await self._answer_while_sending((head, question.data), http, moved)
        self.reusable = self._sent and not answer.cut and http.our_state is h11.DONE
        return answer

    async def _answer_while_sending(
        self, parts: tuple[bytes, ...], http: h11.Connection, moved: Callable[[], None]
    ) -> Answer:
        """A server that refuses says so before all is sent, and then takes no more."""
        outcome: Answer | Exception
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._send, parts, moved)
            try:
                outcome = await self._answer(http, 0, moved)
            except (GoneError, h11.RemoteProtocolError) as error:
                outcome = error
            nursery.cancel_scope.cancel()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _send(self, parts: tuple[bytes, ...], moved: Callable[[], None]) -> None:
        try:
            for part in parts:
                view = memoryview(part)
                for start in range(0, len(view), SEND_BYTES):
                    await self._stream.send_all(view[start : start + SEND_BYTES])
                    moved()
        except (OSError, trio.BrokenResourceError):
            return  # there may be an answer all the same: whoever reads finds out
        self._sent = True

    async def _answer(self, http: h11.Connection, body_bytes_max: int, moved: Callable[[], None]) -> Answer:
        response = await self._head(http, moved)
        headers = {bytes(name): bytes(value) for name, value in response.headers}
        most = body_bytes_max if response.status_code == 206 else ERROR_BYTES_MAX
        if (told := headers.get(b"content-length")) is None or b"transfer-encoding" in headers:
            body = await self._parsed(http, most, moved)
            return Answer(response.status_code, headers, body)
        length = int(told)
        if length > most:
            raise h11.RemoteProtocolError("the body is longer than it may be")
        body = await self._body(http.trailing_data[0][:length], length, moved)
        return Answer(response.status_code, headers, body, cut=len(body) < length)

    async def _head(self, http: h11.Connection, moved: Callable[[], None]) -> h11.Response:
        heard = False
        while True:
            event = http.next_event()
            if isinstance(event, h11.Response):
                return event
            if event is h11.NEED_DATA:
                try:
                    data = await self._stream.receive_some(HEAD_BYTES)
                except (OSError, trio.BrokenResourceError) as error:
                    raise GoneError(why_of(error)) from None
                if not data and not heard:
                    raise GoneError("it hung up")
                heard = True
                http.receive_data(bytes(data))
                moved()
            elif not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("an answer without a head")

    async def _body(self, begun: bytes, length: int, moved: Callable[[], None]) -> bytes:
        """Return a body of so many bytes, of which some have come; fewer when the connection ends."""
        if len(self._memory) < length:
            self._memory = bytearray(length)
        got = len(begun)
        with memoryview(self._memory) as view:
            view[:got] = begun
            try:
                while got < length:
                    count = await self._receive_into(view[got:length])
                    if count == 0:
                        break
                    got += count
                    moved()
            except (OSError, trio.BrokenResourceError):
                pass  # told by the length of what we return
            return bytes(view[:got])

    async def _receive_into(self, view: memoryview) -> int:
        if isinstance(self._stream, trio.SocketStream):
            return await self._stream.socket.recv_into(view)
        data = await self._stream.receive_some(len(view))
        view[: len(data)] = data
        return len(data)

    async def _parsed(self, http: h11.Connection, most: int, moved: Callable[[], None]) -> bytes:
        """Return a body whose length was not told; one that breaks off is an error of the protocol."""
        body = bytearray()
        while True:
            event = http.next_event()
            if isinstance(event, h11.Data):
                body += event.data
                if len(body) > most:
                    raise h11.RemoteProtocolError("the body is longer than it may be")
            elif event is h11.NEED_DATA:
                try:
                    http.receive_data(bytes(await self._stream.receive_some(HEAD_BYTES)))
                except (OSError, trio.BrokenResourceError):
                    http.receive_data(b"")
                moved()
            else:
                return bytes(body)


def why_of(error: BaseException) -> str:
    """Return what is at the bottom of a failed connection, for people."""
    while isinstance(error.__cause__, BaseException):
        error = error.__cause__
    if isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)
