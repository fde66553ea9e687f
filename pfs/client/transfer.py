"""Bulk bytes, the client's side: ranges of open files over a few kept connections (the server's: `pfs.server.bulk`).

Each request runs in a thread (`pfs.client.exchange`). A connection is used by one request at a time and belongs to its
caller meanwhile: one that fails or is cancelled in the middle closes it, since nobody could tell what still comes on
it, and the thread ends with it. Whoever finds all connections in use waits. A request that met the end of a connection
that had been idle is made again on a new one: the server closes those, and a range may be read or written twice.
"""

import json
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, TypeVar, TypeVarTuple
from urllib.parse import urlsplit

import h11
import trio

from pfs.client import exchange
from pfs.client.authority import authorization
from pfs.client.dial import trusted
from pfs.client.exchange import Answer, Connection, GoneError, Patience, Question, SecureConnection, SilentError
from pfs.client.reasons import why_of
from pfs.errors import Kind, PfsError
from pfs.keys import Pair, address_of
from pfs.parts import Part, cut
from pfs.protocol.wire import KEPT_FOR_BULK, OPEN_PATH, RANGE_BYTES_MAX, decode_error

CONNECTIONS = 6
CUTS_MAX = 4
IDLE_MAX_S = 30.0  # well before the server lets go of it

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")


class Transfer:
    """Reads and writes ranges of what a session holds open. Use it as an async context manager.

    Args:
        url: `http://host:port` or `https://…`.
        token: of the account that the session belongs to.
        ca: file with the certificate authority to trust instead of the system's.
        own: a certificate that tells who we are.

    Raises:
        PfsError: INVALID or UNAUTHENTICATED for an address or a token that cannot be one.
    """

    def __init__(self, url: str, token: str, ca: str | None = None, own: Pair | None = None) -> None:
        self._url = url
        self._address = address_of(url)
        self._told = (token, ca, own)
        self._context: ssl.SSLContext | None = None  # whom to trust the server itself may have to say: once it is there
        host = urlsplit(url).netloc.rpartition("@")[2]
        self._headers = [("host", host), *authorization(token, own), ("connection", KEPT_FOR_BULK.decode())]
        self._places = trio.Semaphore(CONNECTIONS)
        self._threads = trio.CapacityLimiter(2 * CONNECTIONS)  # one whose caller was cancelled may not have ended yet
        self._idle: list[Connection] = []
        self._under_way: set[Patience] = set()
        self._moved_s = 0.0
        self._closed = False

    async def __aenter__(self) -> "Transfer":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        self._drop_idle()

    async def read(self, secret: str, handle: int, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, fewer only at the file's end.

        Raises:
            PfsError: what the file refuses with; BAD_HANDLE when the session or the file is not open there any more;
                UNREACHABLE without a connection, TIMED_OUT when nothing moves on it.
        """
        parts: list[bytes] = []
        cuts = 0
        while size > 0:
            wanted = min(size, RANGE_BYTES_MAX)
            answer = await self._range(f"{OPEN_PATH}/{secret}/{handle}", offset, wanted)
            parts.append(answer.body)
            offset += len(answer.body)
            size -= len(answer.body)
            cuts += answer.cut
            if cuts > CUTS_MAX or (answer.cut and not answer.body):
                raise self._unreachable("it breaks off while it answers")
            if len(answer.body) < wanted and not answer.cut:
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def _range(self, target: str, offset: int, size: int) -> Answer:
        wanted = ("range", f"bytes={offset}-{offset + size - 1}")
        answer = await self._ask(Question("GET", target, [*self._headers, wanted], body_bytes_max=size))
        if answer.status == 416:
            return Answer(416, {}, b"")
        if answer.status != 206 or not answer.headers.get(b"content-range", b"").startswith(b"bytes %d-" % offset):
            raise self._refusal(answer)
        return answer

    async def write(self, secret: str, handle: int, offset: int, *parts: Part) -> int:
        """Write all of the parts, one after the other, at `offset`; return their size.

        It may be written in part when this raises, and twice when a connection breaks: not for files that are opened
        with APPEND.

        Raises:
            PfsError: as `read` does.
        """
        done = 0
        for group in cut(parts, RANGE_BYTES_MAX):
            question = Question("PUT", f"{OPEN_PATH}/{secret}/{handle}?offset={offset + done}", self._headers, group)
            answer = await self._ask(question)
            if answer.status != 200 or _json(answer.body).get("size") != question.size:
                raise self._refusal(answer)
            done += question.size
        return done

    async def _ask(self, question: Question) -> Answer:
        await self._place()
        patience = Patience(question.size + question.body_bytes_max, time.monotonic())
        self._under_way.add(patience)
        try:
            return await self._asked(question, patience)
        except h11.RemoteProtocolError:
            raise self._stranger() from None
        except SilentError:
            raise self._timed_out() from None
        finally:
            self._under_way.discard(patience)
            self._moved_s = max(self._moved_s, patience.moved_s)
            self._places.release()

    async def _asked(self, question: Question, patience: Patience) -> Answer:
        while True:
            connection = self._idle_one()
            kept = connection is not None
            try:
                if connection is None:
                    connection = await self._connect(patience)
                connection.reusable = False  # until it has been answered; a thread may begin after we were cancelled
                return await self._in_thread(connection.ask, question, patience)
            except GoneError as gone:
                if not kept:
                    raise self._unreachable(str(gone)) from None
            finally:
                if connection is not None:
                    self._give_back(connection)

    async def _in_thread(self, call: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        return await trio.to_thread.run_sync(call, *arguments, abandon_on_cancel=True, limiter=self._threads)

    async def _place(self) -> None:
        """Wait for a connection's turn, as long as those who have one get on with it."""
        began_s = time.monotonic()
        while True:
            moved_s = max([began_s, self._moved_s, *(each.moved_s for each in self._under_way)])
            left_s = moved_s + exchange.SILENCE_MAX_S - time.monotonic()
            if left_s <= 0:
                raise self._timed_out()
            with trio.move_on_after(left_s):
                await self._places.acquire()
                return

    def _idle_one(self) -> Connection | None:
        if not self._idle:
            return None
        if time.monotonic() - self._idle[-1].used_s > IDLE_MAX_S:  # the others are older still
            self._drop_idle()
            return None
        return self._idle.pop()

    def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _give_back(self, connection: Connection) -> None:
        connection.used_s = time.monotonic()
        if connection.reusable and not self._closed:
            self._idle.append(connection)
        else:
            connection.close()

    async def _connect(self, patience: Patience) -> Connection:
        host, port = self._address.host, self._address.port
        if self._address.secure and self._context is None:
            self._context = await trusted(self._url, *self._told)
        try:
            with trio.fail_after(exchange.SILENCE_MAX_S):
                stream = await trio.open_tcp_stream(host, port)
            sock = socket.socket(fileno=os.dup(stream.socket.fileno()))
            await trio.aclose_forcefully(stream)
            sock.setblocking(True)
            if self._context is None:
                return Connection(sock)
            secure = SecureConnection(sock, self._context, host)
            try:
                await self._in_thread(secure.shake_hands, patience)
            except BaseException:
                secure.close()
                raise
            return secure
        except trio.TooSlowError:
            raise SilentError from None
        except (OSError, UnicodeError) as error:
            raise self._unreachable(why_of(error)) from None

    def _unreachable(self, why: str) -> PfsError:
        return PfsError(Kind.UNREACHABLE, f"no connection to the server at {self._url}: {why}")

    def _timed_out(self) -> PfsError:
        return PfsError(Kind.TIMED_OUT, f"the server at {self._url} does not answer")

    def _stranger(self) -> PfsError:
        return PfsError(Kind.UNREACHABLE, f"what answers at {self._url} is not a pfs server")

    def _refusal(self, answer: "Answer") -> PfsError:
        error = _json(answer.body).get("error")
        return decode_error(error) if answer.status >= 400 and isinstance(error, dict) else self._stranger()


def _json(body: bytes) -> dict[str, Any]:
    """Return the object in a body; none where there is none."""
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
