"""HTTP/1.1 for commands that look once and end: requests over kept connections, by what Python brings along.

Such a command is over in a fraction of a second; a library that does more takes longer than that to be loaded. What a
machine has set for its web browsers, such as proxies, does not count, as it does not for mounts.
"""

import http.client
import select
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pfs.keys import address_of

PIECE_BYTES = 256 * 1024


class Told(NamedTuple):
    """A body in pieces that together have so many bytes, which is told before they come."""

    size: int
    pieces: Iterable[bytes]


Body = bytes | Iterable[bytes] | Told

# is told of each request when the head of its answer has come: method, target, status, and how long that took, in
# seconds; never a header, where tokens are
watcher: Callable[[str, str, int, float], None] | None = None


class HttpError(Exception):
    """There is no answer, or only a part of one; the cause, else the text, says why.

    Attributes:
        hung_up: the connection was there.
    """

    def __init__(self, text: str, *, hung_up: bool) -> None:
        super().__init__(text)
        self.hung_up = hung_up


class HungUpError(HttpError):
    """The other side ended the connection; before the head of an answer had come, it has said nothing."""


class Request(NamedTuple):
    """What is asked.

    Attributes:
        body: None for a request without one; pieces are sent as they come.
        answer_s: how long the other side may be silent; None for as long as it likes.
    """

    method: str
    target: str
    headers: Mapping[str, str]
    body: Body | None
    answer_s: float | None


class Answer:
    """What came; its body is read when it is asked for."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status = response.status
        self.content_type = response.getheader("content-type", "")

    def read(self) -> bytes:
        """Return the whole body, or what is left of it."""
        with _heard():
            return self._response.read()

    def pieces(self) -> Iterator[bytes]:
        """Yield the body as it comes; one whose length is told comes without a break, and in large pieces."""
        read = self._response.read1 if self._response.length is None else self._response.read
        while True:
            with _heard():
                piece = read(PIECE_BYTES)
            if not piece:
                break
            yield piece
        if self._response.length:  # a body that was cut is taken for a whole one
            raise HttpError("it hung up", hung_up=True)


class Http:
    """Asks the server at `endpoint`; threads may ask at the same time.

    Args:
        headers: of every request.
        context: for TLS; None where there is none.
        timeout_s: how long connecting may take, and the other side may take nothing of what is sent.
    """

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], context: ssl.SSLContext | None, timeout_s: float
    ) -> None:
        self._address = address_of(endpoint)
        self._top = urlsplit(endpoint).path.rstrip("/")
        self._headers = headers
        self._context = context
        self._timeout_s = timeout_s
        self._idle: list[http.client.HTTPConnection] = []

    def close(self) -> None:
        """Close the connections."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def asking(self, request: Request) -> Iterator[Answer]:
        """Give the answer to a request.

        Raises:
            HttpError: there is none.
        """
        connection = self._connection()
        is_whole = False
        try:
            with self._begin(connection, request) as response:
                yield Answer(response)
                is_whole = response.isclosed() and connection.sock is not None
        finally:
            if is_whole:
                self._idle.append(connection)
            else:
                connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        while self._idle:
            connection = self._idle.pop()
            if not _has_news(connection):
                connection.sock.settimeout(self._timeout_s)
                return connection
            connection.close()
        host, port, wait_s = self._address.host, self._address.port, self._timeout_s
        if self._context is None:
            connection = http.client.HTTPConnection(host, port, timeout=wait_s)
        else:
            connection = http.client.HTTPSConnection(host, port, timeout=wait_s, context=self._context)
        try:
            connection.connect()
        except (OSError, UnicodeError) as error:
            raise HttpError("no connection", hung_up=False) from error
        return connection

    def _begin(self, connection: http.client.HTTPConnection, request: Request) -> http.client.HTTPResponse:
        """Ask; return an answer whose head has come."""
        begun_s = time.monotonic()
        self._send(connection, request)
        with _heard():
            if connection.sock is not None:
                connection.sock.settimeout(request.answer_s)
            response = connection.getresponse()
        if watcher is not None:
            watcher(request.method, request.target, response.status, time.monotonic() - begun_s)
        return response

    def _send(self, connection: http.client.HTTPConnection, request: Request) -> None:
        body = request.body
        connection.putrequest(request.method, f"{self._top}{request.target}", skip_accept_encoding=True)
        for name, value in {**self._headers, **request.headers}.items():
            connection.putheader(name, value)
        if body is None or isinstance(body, bytes):
            if body is not None:
                connection.putheader("content-length", str(len(body)))
            _taken(connection.endheaders, body)
            return
        if isinstance(body, Told):
            connection.putheader("content-length", str(body.size))
            _send_each(connection, body.pieces)
            return
        connection.putheader("transfer-encoding", "chunked")
        framed = (b"%x\r\n%b\r\n" % (len(piece), piece) for piece in body if piece)
        if _send_each(connection, framed):
            _taken(connection.send, b"0\r\n\r\n")


def _send_each(connection: http.client.HTTPConnection, pieces: Iterable[bytes]) -> bool:
    """End the head, and send a body; tells whether the other side took all of it."""
    return _taken(connection.endheaders, None) and all(_taken(connection.send, piece) for piece in pieces)


def _has_news(connection: http.client.HTTPConnection) -> bool:
    """Tell whether something came on a connection on which nothing was asked: mostly that it is over."""
    poll = select.poll()
    poll.register(connection.sock, select.POLLIN)
    return bool(poll.poll(0))


def _taken(send: Callable[[Any], None], data: bytes | None) -> bool:
    """Send; tells whether the other side takes it: where it does not, it may have answered why."""
    try:
        send(data)
    except TimeoutError as error:
        raise HttpError("it takes nothing", hung_up=False) from error
    except OSError:
        return False
    return True


@contextmanager
def _heard() -> Iterator[None]:
    """Tell what goes wrong while an answer is awaited."""
    try:
        yield
    except TimeoutError as error:
        raise HttpError("it says nothing", hung_up=False) from error
    except (ConnectionError, http.client.IncompleteRead):
        raise HungUpError("it hung up", hung_up=True) from None
    except OSError as error:
        raise HttpError("the connection failed", hung_up=True) from error
    except http.client.HTTPException:
        raise HttpError("it does not speak HTTP", hung_up=True) from None
