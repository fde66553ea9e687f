"""Bulk bytes beside a channel: large ranges of files that a mount has open, over plain HTTP/1.1.

    GET /api/v1/open/<session>/<handle>             with `Range: bytes=a-b`: 206 and these bytes, fewer only at the
                                                    file's end; 416 without a body when `a` is there or behind it
    PUT /api/v1/open/<session>/<handle>?offset=n    the body is written there: 200 and {"size": <bytes>}

A WebSocket message is copied and masked several times on its way, and a large one holds up the small ones behind
it; a range over HTTP is not. `<session>` is the random secret that the channel's owner was told; whoever asks shows it
and a token of the same account. What is asked for passes through the session's own open files, so that whatever
watches over them (rights, leases) watches over this as well.

A range goes in pieces, so that a slow reader costs the server one piece of memory and not the range. When a file
shrinks or fails while it is sent, the answer is cut short of its Content-Length: the client asks again from there, and
is told then.
"""

import json
import logging
import re
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from math import inf

import trio
from starlette.datastructures import Headers, QueryParams
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Message, Receive, Scope, Send

from pfs.accounts import Identity, KeyKind
from pfs.api import OpenFile
from pfs.errors import Kind, PfsError
from pfs.nearby import name_of
from pfs.perm import Subject
from pfs.routes import error_response
from pfs.transfer import OPEN_PATH, RANGE_BYTES_MAX

PIECE_BYTES = 1024 * 1024
AT_ONCE_MAX = 8  # per session: with PIECE_BYTES, what one mount can make the server hold
BODY_SILENCE_S = 30.0
OFFSET_MAX = 2**63 - 1

log = logging.getLogger(__name__)

Lookup = Callable[[int], OpenFile | None]
Identify = Callable[[dict[str, str]], Awaitable[Identity]]


@dataclass(slots=True)
class _Session:
    """A mount's open files, and how often they may be asked for at once.

    Attributes:
        proven: the `Authorization` that proved the account here. The channel does not ask a second time
            either, and a look into the database for each piece would cost more than the piece.
    """

    subject: Subject
    files: Lookup
    proven: str = ""
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
        """Return secret and open files of the mount with that name (`pfs.nearby.name_of`)."""
        secret = self._secrets.get(name)
        return None if secret is None else (secret, self._sessions[secret].files)

    def routes(self, identify: Identify) -> list[BaseRoute]:
        """Return the routes of this module's docstring.

        Args:
            identify: tells whom a request's headers (small letters) prove; raises UNAUTHENTICATED.
        """
        return [Route(OPEN_PATH + "/{secret}/{handle}", _Door(self._sessions, identify), methods=["GET", "PUT"])]


class _Door:
    """Answers requests. It is ASGI itself: what Starlette's requests and streams would add costs more than it gives."""

    def __init__(self, sessions: dict[str, _Session], identify: Identify) -> None:
        self._sessions = sessions
        self._identify = identify

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._answer(scope, receive, sending)
            return
        except ClientDisconnect:
            return
        except PfsError as error:
            failure = error
        except Exception:
            log.exception("defect while answering a bulk %s", scope["method"])
            failure = PfsError(Kind.INTERNAL, "a defect of the server; its log has more")
        if begun:
            log.info("an answer is cut: %s", failure)
        else:
            await error_response(failure)(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        session = await self._session(scope["path_params"]["secret"], headers)
        file = session.files(_number(scope["path_params"]["handle"], "handle"))
        if file is None:
            raise PfsError(Kind.BAD_HANDLE, "this file is not open here (any more)")
        if scope["method"] == "PUT":
            offset = _number(QueryParams(scope["query_string"]).get("offset", ""), "offset")
            length = _length(headers)
            async with session.places:
                size = await _take(file, offset, length, receive)
            await Response(json.dumps({"size": size}), media_type="application/json")(scope, receive, send)
            return
        start, size = _wanted(headers.get("range", ""))
        if file.attr.stream:
            raise PfsError(Kind.UNSUPPORTED, "a stream has no ranges; read it over the channel")
        async with session.places:
            await _give(file, start, size, send)

    async def _session(self, secret: str, headers: Headers) -> _Session:
        session = self._sessions.get(secret)
        shown = headers.get("authorization", "")
        if session is not None and shown and secrets.compare_digest(session.proven.encode(), shown.encode()):
            return session
        identity = await self._identify(dict(headers))
        if identity.kind is not KeyKind.USER:
            raise PfsError(Kind.UNAUTHENTICATED, "this is a node's key; files are for users' tokens")
        # somebody else's session looks as if there were none
        if session is None or identity.subject.user != session.subject.user:
            raise PfsError(Kind.BAD_HANDLE, "there is no such session (any more)")
        session.proven = shown
        return session


async def _give(file: OpenFile, start: int, size: int, send: Send) -> None:
    """Answer with a range, piece by piece.

    Raises:
        PfsError: what the file refuses with, or that it became shorter; once the answer has begun, it stays cut.
    """
    piece = await _exactly(file, start, min(size, PIECE_BYTES))
    if len(piece) == PIECE_BYTES < size:
        size = max(PIECE_BYTES, min(size, (await file.getattr()).size - start))
    else:
        size = len(piece)
    await send({"type": "http.response.start", "status": 206 if piece else 416, "headers": _told(start, size)})
    sent = len(piece)
    await send({"type": "http.response.body", "body": piece, "more_body": sent < size})
    while sent < size:
        wanted = min(PIECE_BYTES, size - sent)
        piece = await _exactly(file, start + sent, wanted)
        if len(piece) < wanted:
            raise PfsError(Kind.STALE, "the file became shorter while it was read")
        sent += wanted
        await send({"type": "http.response.body", "body": piece, "more_body": sent < size})


def _told(start: int, size: int) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer with so many bytes; none means that the file ends before them."""
    which = b"bytes %d-%d/*" % (start, start + size - 1) if size else b"bytes */*"
    return [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", b"%d" % size),
        (b"content-range", which),
    ]


async def _exactly(file: OpenFile, offset: int, size: int) -> bytes:
    """Return `size` bytes, fewer only at the end."""
    data = await file.read(offset, size)
    while data and len(data) < size:
        more = await file.read(offset + len(data), size - len(data))
        if not more:
            break
        data += more
    return data


async def _take(file: OpenFile, offset: int, length: int, receive: Receive) -> int:
    """Write a request's body piece by piece; return its size.

    Raises:
        PfsError: what the file refuses with; TIMED_OUT when the body falls silent.
        ClientDisconnect: the client left before all of it had come. What had come may be written.
    """
    parts: list[bytes] = []
    held = done = 0
    more = True
    with trio.CancelScope() as silence:
        while more:
            silence.deadline = trio.current_time() + BODY_SILENCE_S
            message = await receive()
            silence.deadline = inf
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            parts.append(message.get("body", b""))
            held += len(parts[-1])
            more = message.get("more_body", False)
            if held >= PIECE_BYTES or (held and not more):
                await file.write(offset + done, b"".join(parts))
                done += held
                parts, held = [], 0
    if silence.cancelled_caught:
        raise PfsError(Kind.TIMED_OUT, f"the upload was silent for {BODY_SILENCE_S:.0f} s")
    if done != length:
        raise PfsError(Kind.INVALID, f"{length} bytes were announced and {done} came")
    return done


def _length(headers: Headers) -> int:
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


def _number(text: str, name: str) -> int:
    if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > OFFSET_MAX:
        raise PfsError(Kind.INVALID, f"the {name} is missing or wrong: {text[:80]!r}")
    return int(text)
