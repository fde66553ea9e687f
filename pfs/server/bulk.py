"""Bulk bytes beside a channel: large ranges of files that a mount has open, over plain HTTP/1.1.

    GET /api/v1/open/<session>/<handle>             with `Range: bytes=a-b`: 206 and these bytes, fewer only at the
                                                    file's end; 416 without a body when `a` is there or behind it
    PUT /api/v1/open/<session>/<handle>?offset=n    the body is written there: 200 and {"size": <bytes>}

A WebSocket message is copied and masked several times on its way, and a large one holds up the small ones behind
it; a range over HTTP is not. `<session>` is the random secret that the channel's owner was told; whoever asks shows it
and a token of the same account, each time: one that is taken back ends what goes on for it, as everywhere
(`pfs.server.visits`). What is asked for passes through the session's own open files, so that whatever
watches over them (rights, leases) watches over this as well.

The connections of these requests are handed over whole (`pfs.server.takeover`), and served as `pfs.server.line` says.
When a file shrinks or fails while it is sent, the answer is cut short of its Content-Length: the client asks again from
there, and is told then.
"""

import logging
import os
import re
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Protocol, TypeVar, runtime_checkable
from urllib.parse import parse_qs

import h11
import trio

from pfs.accounts.store import FILE_KINDS, Identity
from pfs.api import OpenFile
from pfs.disk.file import Runner
from pfs.disk.system import start_writing, translate
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.protocol.defects import told_defect
from pfs.protocol.nearby import name_of
from pfs.protocol.wire import OPEN_PATH, RANGE_BYTES_MAX
from pfs.server.doors import error_response, method_response
from pfs.server.line import LOOP_PIECE_BYTES, PIECE_BYTES, GoneError, Line
from pfs.server.routes import shown_by
from pfs.server.takeover import Taken, Taker

AT_ONCE_MAX = 8  # requests of one session
THREADS_MAX = 16  # of a server; each has PIECE_BYTES of memory
OFFSET_MAX = 2**63 - 1

log = logging.getLogger(__name__)

Lookup = Callable[[int], OpenFile | None]
Identify = Callable[[dict[str, str], dict[str, Any]], Awaitable[Identity]]
During = Callable[[str, Identity], AbstractContextManager[trio.CancelScope]]
T = TypeVar("T")


@runtime_checkable
class OnDisk(Protocol):
    """What an open file of a data domain offers besides `pfs.api.OpenFile`."""

    async def on_descriptor(
        self, work: Callable[[int], T], threads: Runner, *, writes: tuple[int, int] | None
    ) -> T | None:
        """Run `work` with the file's descriptor in one of `threads`; None where the file has no descriptor.

        Args:
            writes: from where on it writes, and how many bytes at most; None when it only reads.
        """


@dataclass(slots=True)
class _Session:
    """A mount's open files, and how often they may be asked for at once."""

    subject: Subject
    files: Lookup
    places: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(AT_ONCE_MAX))


class BulkSessions:
    """The mounts whose open files can be read and written in bulk, by their secrets."""

    def __init__(self) -> None:
        self._sessions: dict[str, _Session] = {}
        self._secrets: dict[bytes, str] = {}  # by the names that may be told to anybody

    def register(self, subject: Subject, files: Lookup) -> str:
        """Let `subject` reach its open files; return the secret, 128 random bits in hexadecimal.

        Args:
            files: gives the open file of a handle, or None. One opened with APPEND may be read but not written: a
                body is written in pieces, and must not be cut in two by somebody else's.
        """
        secret = secrets.token_hex(16)
        self._sessions[secret] = _Session(subject, files)
        self._secrets[name_of(secret)] = secret
        return secret

    def unregister(self, secret: str) -> None:
        """The mount is gone: nothing of it is found any more. What is being answered goes on."""
        self._sessions.pop(secret, None)
        self._secrets.pop(name_of(secret), None)

    def named(self, name: bytes) -> tuple[str, Lookup] | None:
        """Return secret and open files of the mount with that name (`pfs.protocol.nearby.name_of`)."""
        secret = self._secrets.get(name)
        return None if secret is None else (secret, self._sessions[secret].files)

    def taker(self, identify: Identify, during: During) -> Taker:
        """Return what answers the requests of this module's docstring.

        Args:
            identify: tells whom a request's headers (small letters) and the extensions of its connection prove; raises
                UNAUTHENTICATED. It is asked for each piece, and must cost less than one.
            during: cancels its block once a key is not what it was when it proved somebody.
        """
        return _OpenFiles(self._sessions, identify, during)


class Workers:
    """Threads that move bytes between files and sockets, apart from those for the disk's small questions."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(THREADS_MAX)
        self._memory: list[bytearray] = []

    async def run(self, work: Callable[[], T], *, long: bool = True) -> T:
        """Run `work` in a worker thread; its OSErrors come out as `PfsError`."""
        try:
            return await trio.to_thread.run_sync(work, limiter=self._limiter)
        except OSError as error:
            raise translate(error) from None

    def with_memory(self, work: Callable[[bytearray], T]) -> T:
        """Run `work` with PIECE_BYTES of memory, which is used again. For a worker thread."""
        try:
            memory = self._memory.pop()
        except IndexError:
            memory = bytearray(PIECE_BYTES)
        try:
            return work(memory)
        finally:
            self._memory.append(memory)


class LineDoor:
    """Answers the requests of connections that were handed over, one after the other."""

    def __init__(self, identify: Identify, during: During) -> None:
        self._identify = identify
        self._during = during
        self.workers = Workers()

    async def serve(self, identity: Identity, request: h11.Request, line: Line, headers: dict[str, str]) -> None:
        """Answer a request; what is raised before something was said becomes the answer."""
        raise NotImplementedError

    async def __call__(self, taken: Taken) -> None:
        with Line(taken) as line:
            try:
                request: h11.Request | None = line.first()
                while request is not None:
                    await self._answer_or_refuse(request, line)
                    request = await self._next(line)
            except GoneError:
                log.debug("a client left in the middle of something")

    async def _next(self, line: Line) -> h11.Request | None:
        if not line.kept:
            return None
        try:
            return await line.next()
        except PfsError as error:
            await _refuse(line, error)
            return None

    async def _answer_or_refuse(self, request: h11.Request, line: Line) -> None:
        try:
            await self._answer(request, line)
            return
        except PfsError as error:
            failure = error
        except GoneError:
            raise
        except Exception:
            failure = told_defect(log, f"answering a bulk {request.method.decode()}")
        if line.begun:
            log.info("an answer is cut: %s", failure)
            raise GoneError
        await _refuse(line, failure)

    async def _answer(self, request: h11.Request, line: Line) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in request.headers}
        identity = await self._identify(headers, line.extensions)
        with self._during(shown_by(headers, line.extensions), identity) as stay:
            if identity.kind not in FILE_KINDS:
                raise PfsError(Kind.UNAUTHENTICATED, f"this is a {identity.kind}'s key; files are for users' tokens")
            await self.serve(identity, request, line, headers)
        if stay.cancelled_caught:
            line.kept = False  # how much of a body was taken is not known
            raise PfsError(Kind.UNAUTHENTICATED, "this token is good no more, or for something else")


class _OpenFiles(LineDoor):
    """Answers requests for ranges of open files."""

    def __init__(self, sessions: dict[str, _Session], identify: Identify, during: During) -> None:
        super().__init__(identify, during)
        self._sessions = sessions

    async def serve(self, identity: Identity, request: h11.Request, line: Line, headers: dict[str, str]) -> None:
        """Answer a request."""
        path, _, query = request.target.decode("ascii").partition("?")
        secret, _, handle = path.removeprefix(f"{OPEN_PATH}/").partition("/")
        session = self._session(secret, identity)
        line.proven()
        file = session.files(number_in(handle, "handle"))
        if file is None:
            raise PfsError(Kind.BAD_HANDLE, "this file is not open here (any more)")
        if request.method == b"PUT":
            offset = number_in(parse_qs(query).get("offset", [""])[0], "offset")
            size = _length(headers)
            async with session.places:
                await line.invite()
                await self._take(file, offset, size, line)
            await say(line, HTTPStatus.OK, b'{"size":%d}' % size)
        elif request.method == b"GET":
            start, size = _wanted(headers.get("range", ""))
            if file.attr.stream:
                raise PfsError(Kind.UNSUPPORTED, "a stream has no ranges; read it over the channel")
            async with session.places:
                await self._give(file, start, size, line)
        else:
            await refuse_method(line)

    def _session(self, secret: str, identity: Identity) -> _Session:
        session = self._sessions.get(secret)
        # somebody else's session looks as if there were none
        if session is None or _who(identity.subject) != _who(session.subject):
            raise PfsError(Kind.BAD_HANDLE, "there is no such session (any more)")
        return session

    async def _take(self, file: OpenFile, offset: int, size: int, line: Line) -> None:
        """Write a request's body.

        Raises:
            PfsError: what the file refuses with; TIMED_OUT when the body falls silent.
            GoneError: the client left before all of it had come. What had come may be written.
        """

        def work(fd: int) -> int:
            done = self.workers.with_memory(lambda memory: line.receive_into_file(fd, offset, memory))
            if done >= PIECE_BYTES:
                start_writing(fd, offset, done)
            return done

        done = 0
        if line.direct and size and isinstance(file, OnDisk):
            done = await file.on_descriptor(work, self.workers, writes=(offset, size)) or 0
        while done < size:
            data = await line.receive(min(size - done, LOOP_PIECE_BYTES))
            await file.write(offset + done, data)
            done += len(data)

    async def _give(self, file: OpenFile, start: int, size: int, line: Line) -> None:
        """Answer with a range.

        Raises:
            PfsError: what the file refuses with, or that it became shorter; once the answer has begun, it stays cut.
        """

        def work(fd: int) -> tuple[int, int]:
            there = max(0, min(size, os.fstat(fd).st_size - start))
            return there, line.send_from_file(_head(line, start, there), fd, start, there)

        moved = None
        if line.direct and isinstance(file, OnDisk):
            moved = await file.on_descriptor(work, self.workers, writes=None)
        there, sent = moved or await _begin(file, start, size, line)
        while sent < there:
            wanted = min(LOOP_PIECE_BYTES, there - sent)
            piece = await exactly(file, start + sent, wanted)
            if len(piece) < wanted:
                raise PfsError(Kind.STALE, "the file became shorter while it was read")
            sent += wanted
            await line.send(piece)
        await line.send(b"")


async def _begin(file: OpenFile, start: int, size: int, line: Line) -> tuple[int, int]:
    """Send the head of an answer with the first piece; return how many bytes it will have, and has."""
    piece = await exactly(file, start, min(size, LOOP_PIECE_BYTES))
    if len(piece) == LOOP_PIECE_BYTES < size:
        size = max(LOOP_PIECE_BYTES, min(size, (await file.getattr()).size - start))
    else:
        size = len(piece)
    await line.send(_head(line, start, size) + piece)
    return size, len(piece)


def _who(subject: Subject) -> tuple[str, int | None]:
    return subject.user, subject.job


def _head(line: Line, start: int, size: int) -> bytes:
    """Return the head of an answer with so many bytes; none means that the file ends before them."""
    which = b"bytes %d-%d/*" % (start, start + size - 1) if size else b"bytes */*"
    headers = [(b"content-type", b"application/octet-stream"), (b"content-range", which)]
    status = HTTPStatus.PARTIAL_CONTENT if size else HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    return line.head(status, [*headers, (b"content-length", b"%d" % size)])


async def say(line: Line, status: int, body: bytes) -> None:
    """Answer with JSON."""
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await line.answer(status, headers, body)


async def refuse_method(line: Line) -> None:
    """Tell that a request is neither to give nor to take."""
    refusal = method_response(["GET", "PUT"])
    await line.answer(refusal.status_code, refusal.raw_headers, bytes(refusal.body))


async def _refuse(line: Line, error: PfsError) -> None:
    response = error_response(error)
    await line.answer(response.status_code, response.raw_headers, bytes(response.body))


async def exactly(file: OpenFile, offset: int, size: int) -> bytes:
    """Return `size` bytes, fewer only at the end."""
    data = await file.read(offset, size)
    while data and len(data) < size:
        more = await file.read(offset + len(data), size - len(data))
        if not more:
            break
        data += more
    return data


def _length(headers: dict[str, str]) -> int:
    """Return the size of a body, which must be told before it comes."""
    told = headers.get("content-length", "")
    if not re.fullmatch(r"[0-9]{1,19}", told):
        raise PfsError(Kind.INVALID, "a Content-Length is needed here, so that a cut upload is noticed")
    if int(told) > RANGE_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"at most {RANGE_BYTES_MAX} bytes are taken at once")
    return int(told)


def _wanted(header: str) -> tuple[int, int]:
    """Return offset and size of what a Range header asks for."""
    found = re.fullmatch(r"bytes=([0-9]{1,19})-([0-9]{1,19})", header)
    if found is None:
        raise PfsError(Kind.INVALID, "one range is needed here, with both ends: Range: bytes=0-4095")
    first, last = map(int, found.groups())
    if not first <= last <= OFFSET_MAX:
        raise PfsError(Kind.INVALID, f"the range {first}-{last} is none")
    if last - first >= RANGE_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"at most {RANGE_BYTES_MAX} bytes are given at once")
    return first, last - first + 1


def number_in(text: str, name: str) -> int:
    """Return a number that a client says; raises INVALID for what is none."""
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > OFFSET_MAX:
        raise PfsError(Kind.INVALID, f"the {name} is missing or wrong: {text[:80]!r}")
    return int(text)
