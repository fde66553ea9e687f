"""Bulk bytes, the client's side: ranges of open files over a few kept connections (the server's side: `pfs.bulk`).

A connection is used by one request at a time and belongs to its caller meanwhile: one that fails or is cancelled in
the middle closes it, since nobody could tell what still comes on it. Whoever finds all connections in use waits.
A request that met the end of a connection that had been idle is made again on a new one: the server closes those, and
a range may be read or written twice.
"""

import json
from typing import Any
from urllib.parse import urlsplit

import h11
import trio

from pfs.dial import trust
from pfs.errors import Kind, PfsError
from pfs.exchange import SILENCE_MAX_S, Answer, Connection, GoneError, Patience, Question, why_of
from pfs.keys import address_of, bearer
from pfs.wire import decode_error

OPEN_PATH = "/api/v1/open"
RANGE_BYTES_MAX = 8 * 1024 * 1024
CONNECTIONS = 6
CUTS_MAX = 4
IDLE_MAX_S = 30.0  # well before the server lets go of it


class Transfer:
    """Reads and writes ranges of what a session holds open. Use it as an async context manager.

    Args:
        url: `http://host:port` or `https://…`.
        token: of the account that the session belongs to.
        ca: file with the certificate authority to trust instead of the system's.

    Raises:
        PfsError: INVALID or UNAUTHENTICATED for an address, an authority or a token that cannot be one.
    """

    def __init__(self, url: str, token: str, ca: str | None = None) -> None:
        self._url = url
        self._address = address_of(url)
        self._context = trust(ca) if self._address.secure else None
        self._headers = [("host", urlsplit(url).netloc.rpartition("@")[2]), ("authorization", bearer(token))]
        self._places = trio.Semaphore(CONNECTIONS)
        self._idle: list[Connection] = []
        self._moved_at = 0.0
        self._closed = False

    async def __aenter__(self) -> "Transfer":
        return self

    async def __aexit__(self, *_: object) -> None:
        self._closed = True
        await self._drop_idle()

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

    async def _range(self, target: str, offset: int, size: int) -> "Answer":
        wanted = ("range", f"bytes={offset}-{offset + size - 1}")
        answer = await self._ask(Question("GET", target, [*self._headers, wanted], body_bytes_max=size))
        if answer.status == 416:
            return Answer(416, {}, b"")
        if answer.status != 206 or not answer.headers.get(b"content-range", b"").startswith(b"bytes %d-" % offset):
            raise self._refusal(answer)
        return answer

    async def write(self, secret: str, handle: int, offset: int, data: bytes) -> int:
        """Write all of `data` at `offset`; return its size.

        It may be written in part when this raises, and twice when a connection breaks: not for files that are opened
        with APPEND.

        Raises:
            PfsError: as `read` does.
        """
        for start in range(0, len(data), RANGE_BYTES_MAX):
            piece = data[start : start + RANGE_BYTES_MAX]
            target = f"{OPEN_PATH}/{secret}/{handle}?offset={offset + start}"
            answer = await self._ask(Question("PUT", target, self._headers, piece))
            if answer.status != 200 or _json(answer.body).get("size") != len(piece):
                raise self._refusal(answer)
        return len(data)

    async def _ask(self, question: "Question") -> "Answer":
        await self._place()
        try:
            patience = Patience(len(question.data) + question.body_bytes_max, self._note)
            with patience.scope:
                return await self._asked(question, patience)
        except h11.RemoteProtocolError:
            raise self._stranger() from None
        finally:
            self._places.release()
        raise self._timed_out()

    async def _asked(self, question: "Question", patience: "Patience") -> "Answer":
        while True:
            connection = await self._idle_one()
            kept = connection is not None
            if connection is None:
                connection = await self._connect()
            try:
                answer = await connection.ask(question, patience.moved)
            except GoneError as gone:
                if not kept:
                    raise self._unreachable(str(gone)) from None
                continue
            finally:
                await self._give_back(connection)
            return answer

    async def _place(self) -> None:
        """Wait for a connection's turn, as long as those who have one get on with it."""
        began = trio.current_time()
        while True:
            with trio.CancelScope(deadline=max(began, self._moved_at) + SILENCE_MAX_S) as scope:
                await self._places.acquire()
            if not scope.cancelled_caught:
                return
            if trio.current_time() - max(began, self._moved_at) >= SILENCE_MAX_S:
                raise self._timed_out()

    def _note(self, now: float) -> None:
        self._moved_at = now

    async def _idle_one(self) -> "Connection | None":
        if not self._idle:
            return None
        if trio.current_time() - self._idle[-1].used_at > IDLE_MAX_S:  # the others are older still
            await self._drop_idle()
            return None
        return self._idle.pop()

    async def _drop_idle(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.close()

    async def _give_back(self, connection: "Connection") -> None:
        connection.used_at = trio.current_time()
        if connection.reusable and not self._closed:
            self._idle.append(connection)
        else:
            await connection.close()

    async def _connect(self) -> Connection:
        host, port = self._address.host, self._address.port
        try:
            transport = await trio.open_tcp_stream(host, port)
            if self._context is None:
                return Connection(transport)
            stream = trio.SSLStream(transport, self._context, server_hostname=host, https_compatible=True)
            try:
                await stream.do_handshake()
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
            return Connection(stream)
        except (OSError, UnicodeError, trio.BrokenResourceError) as error:
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
