"""One kept connection to a server: HTTP/1.1 requests one after the other, with large bodies, in a thread.

A thread that waits in the kernel until megabytes are sent, or have come, costs little more than the kernel's own
copying. An event loop is woken for every few hundred kilobytes instead, and spends more on that than the bytes cost;
with TLS it would also encrypt while everybody else waits. So what is here blocks, and is called in worker threads; but
for `interrupt` and `close`, by which the owner ends what a thread does here.

h11 writes and reads the heads; a body whose length is told goes straight from the socket into the memory where it is
wanted, without passing through a parser.
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import h11

from pfs.client.reasons import why_of
from pfs.parts import Part
from pfs.protocol.records import Records

SILENCE_MAX_S = 30.0  # without a byte in either direction
SLOWEST_BYTES_PER_S = 32 * 1024  # whoever is slower than this on the whole is taken for gone
TICK_S = 1.0  # how often who waits looks at the clock
HEAD_BYTES = 16 * 1024
ERROR_BYTES_MAX = 64 * 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Question:
    """One request.

    Attributes:
        body: the parts of its body.
        body_bytes_max: how long the body of a 206 may be.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: tuple[Part, ...] = ()
    body_bytes_max: int = 0

    @property
    def size(self) -> int:
        """How many bytes its body has."""
        return sum(map(len, self.body))


@dataclass(frozen=True, slots=True)
class Answer:
    """What came; `cut` says that the connection ended before the body did."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    cut: bool = False


class GoneError(Exception):
    """The connection ended before the first byte of an answer; the argument is the reason."""


class SilentError(Exception):
    """A request takes too long."""


class Patience:
    """How long a request may take: `SILENCE_MAX_S` from the last byte that moved, and by its size in all.

    Args:
        size: bytes that are sent and received, at most.
        now_s: the time, as everywhere here.
    """

    def __init__(self, size: int, now_s: float) -> None:
        self.moved_s = now_s
        self._last_s = now_s + SILENCE_MAX_S + size / SLOWEST_BYTES_PER_S

    def check(self, now_s: float) -> None:
        """Raise SilentError when it has taken too long."""
        if now_s >= min(self.moved_s + SILENCE_MAX_S, self._last_s):
            raise SilentError

    def moved(self, now_s: float) -> None:
        """Note that bytes went one way or the other; raise SilentError when it has taken too long all the same."""
        self.check(now_s)
        self.moved_s = now_s


class Connection:
    """One connection, for one request after the other.

    Args:
        sock: connected, and blocking.
    """

    def __init__(self, sock: socket.socket) -> None:
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            sock.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(TICK_S), int(TICK_S % 1 * 1_000_000)))
        self._sock = sock
        self._in_use = threading.Lock()
        self.reusable = False
        self.used_s = 0.0

    def close(self) -> None:
        """End the connection, also while a thread waits for something here: it finds the other side gone."""
        with contextlib.suppress(OSError):  # it may be gone already
            self._sock.shutdown(socket.SHUT_RDWR)
        with self._in_use:
            self._sock.close()

    def ask(self, question: Question, patience: Patience) -> Answer:
        """Send a request and return what is answered.

        Raises:
            GoneError, SilentError: there is no answer.
            h11.RemoteProtocolError: the answer is no HTTP, or longer than it may be.
        """
        with self._in_use:
            self.reusable = False
            http = h11.Connection(h11.CLIENT)
            headers = question.headers
            if question.method == "PUT":
                headers = [*headers, ("content-length", str(question.size))]
            head = http.send(h11.Request(method=question.method, target=question.target, headers=headers))
            for part in question.body:
                http.send_with_data_passthrough(h11.Data(data=part))  # type: ignore[arg-type]  # it looks at the length
            http.send_with_data_passthrough(h11.EndOfMessage())
            sent = all(self._send(part, patience) for part in (head or b"", *question.body)) and self._finish(patience)
            answer = self._answer(http, question.body_bytes_max, patience)
            self.reusable = sent and not answer.cut and http.our_state is h11.DONE
            return answer

    def _send(self, data: Part, patience: Patience) -> bool:
        """Send all; False when the other side takes no more: it may have answered why."""
        left = memoryview(data)
        try:
            while left:
                left = left[self._some_sent(left, patience) :]
        except OSError:
            return False
        return True

    def _some_sent(self, left: memoryview, patience: Patience) -> int:
        return _moving(patience, self._sock.send, left)

    def _finish(self, patience: Patience) -> bool:
        """Send what is held back, as `_send` does."""
        return True

    def _answer(self, http: h11.Connection, body_bytes_max: int, patience: Patience) -> Answer:
        response = self._head(http, patience)
        headers = {bytes(name): bytes(value) for name, value in response.headers}
        most = body_bytes_max if response.status_code == 206 else ERROR_BYTES_MAX
        if (told := headers.get(b"content-length")) is None or b"transfer-encoding" in headers:
            body = self._parsed(http, most, patience)
            return Answer(response.status_code, headers, body)
        length = int(told)
        if length > most:
            raise h11.RemoteProtocolError("the body is longer than it may be")
        body = self._body(http.trailing_data[0][:length], length, patience)
        return Answer(response.status_code, headers, body, cut=len(body) < length)

    def _head(self, http: h11.Connection, patience: Patience) -> h11.Response:
        heard = False
        while True:
            event = http.next_event()
            if isinstance(event, h11.Response):
                return event
            if event is h11.NEED_DATA:
                try:
                    data = self._some_of_head(patience)
                except OSError as error:
                    raise GoneError(why_of(error)) from None
                if not data and not heard:
                    raise GoneError("it hung up")
                heard = True
                http.receive_data(data)
            elif not isinstance(event, h11.InformationalResponse):
                raise h11.RemoteProtocolError("an answer without a head")

    def _some(self, patience: Patience) -> bytes:
        """Return some of what comes, none at the end."""
        return _moving(patience, self._sock.recv, HEAD_BYTES)

    def _some_of_head(self, patience: Patience) -> bytes:
        """Return some of what comes, but nothing behind the end of a head: a body is wanted in one piece."""
        seen = _moving(patience, self._sock.recv, HEAD_BYTES, socket.MSG_PEEK)
        end = seen.find(b"\r\n\r\n")
        return self._sock.recv(len(seen) if end < 0 else end + 4)

    def _body(self, begun: bytes, length: int, patience: Patience) -> bytes:
        """Return a body of so many bytes, of which some have come; fewer when the connection ends."""
        parts, got = [begun] if begun else [], len(begun)
        with contextlib.suppress(OSError):  # told by the length of what we return
            while got < length and (data := _moving(patience, self._sock.recv, length - got, socket.MSG_WAITALL)):
                parts.append(data)
                got += len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _parsed(self, http: h11.Connection, most: int, patience: Patience) -> bytes:
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
                    http.receive_data(self._some(patience))
                except OSError:
                    http.receive_data(b"")
            else:
                return bytes(body)


class SecureConnection(Connection):
    """The same over TLS.

    Args:
        sock: connected, and blocking.
        context: tells whom to trust.
        host: who has to be at the other end.
    """

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(sock)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._records = Records(sock, context.wrap_bio(incoming, outgoing, server_hostname=host), incoming, outgoing)
        self._memory = bytearray()  # kept: fresh memory for each body costs the kernel more than the copy out of it

    def shake_hands(self, patience: Patience) -> None:
        """Agree on keys; to be called once, before all else.

        Raises:
            OSError: the other side is not who it should be, or no TLS server.
            SilentError: it takes too long.
        """
        with self._in_use:
            _moving(patience, self._records.shake_hands)

    def _some_sent(self, left: memoryview, patience: Patience) -> int:
        return _moving(patience, self._records.send, left)

    def _finish(self, patience: Patience) -> bool:
        try:
            _moving(patience, self._records.flush)
        except OSError:
            return False
        return True

    def _some(self, patience: Patience) -> bytes:
        return _moving(patience, self._records.receive, HEAD_BYTES)

    def _some_of_head(self, patience: Patience) -> bytes:
        return self._some(patience)

    def _body(self, begun: bytes, length: int, patience: Patience) -> bytes:
        if len(self._memory) < length:
            self._memory = bytearray(length)
        got = len(begun)
        with memoryview(self._memory) as view:
            view[:got] = begun
            with contextlib.suppress(OSError):
                while got < length and (count := _moving(patience, self._records.receive_into, view[got:length])):
                    got += count
            return bytes(view[:got])


def _moving(patience: Patience, move: Callable[..., T], *args: object) -> T:
    """Call what moves bytes, until it has moved some or finds that none will come.

    Raises:
        OSError: the connection broke.
    """
    while True:
        try:
            moved = move(*args)
        except BlockingIOError:
            patience.check(time.monotonic())
            continue
        patience.moved(time.monotonic())
        return moved
