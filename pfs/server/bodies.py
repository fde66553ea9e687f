"""Files in bodies of HTTP: how they are sent, with ranges and streams, and how they are taken, whole or not at all.

A body is bounded in size by the door that it comes through (`pfs.server.doors`), and in time: one that falls silent is
given up, and so is one that only drips. Only waiting counts, not what we do with the bytes.
"""

import json
import re
import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress

import trio
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pfs.api import Attr, Closing, NodeType, OpenFile, OpenFlags, RenameMode
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.path import join, parent_and_name
from pfs.protocol.wire import Json, encode_attr

CHUNK_BYTES = 1024 * 1024
WHOLE_BYTES_MAX = 1024 * 1024
BODY_SILENCE_S = 30.0
BODY_RATE_MIN = 1024  # bytes a second, in the long run
BYTES_MAX = "pfs.body_bytes_max"  # in a scope: what the door takes
EACH_BYTES_MAX = 64 * 1024
NO_TEXT = (Kind.NOT_FOUND, Kind.NOT_DIR, Kind.IS_DIR, Kind.LOOP, Kind.UNSUPPORTED)

# a browser takes an answer for nothing but what it is said to be, and runs nothing of what stands in it
HARMLESS = {"x-content-type-options": "nosniff", "content-security-policy": "default-src 'none'; sandbox"}


async def listing(fs: LeasedTree, path: str, each: str | None) -> Json:
    """Return a directory in JSON; `each` names a file whose text is added for every subdirectory."""
    entries = []
    for entry in await fs.listdir(path):
        row: Json = {"name": entry.name, **encode_attr(entry.attr)}
        if each is not None and entry.attr.type is NodeType.DIRECTORY:
            row["each"] = await _text(fs, join(join(path, entry.name), each))
        entries.append(row)
    return {"path": path, "entries": entries}


async def _text(fs: LeasedTree, path: str) -> str | None:
    try:
        file = await fs.open(path, OpenFlags.READ, 0)
    except PfsError as error:
        if error.kind in NO_TEXT:
            return None
        raise
    try:
        return (await file.read(0, EACH_BYTES_MAX, wait=False)).decode(errors="replace")
    except PfsError as error:
        if error.kind is Kind.WOULD_BLOCK:
            return ""
        raise
    finally:
        await file.release()


def _headers(attr: Attr) -> dict[str, str]:
    headers = {
        "content-type": "application/octet-stream",
        **HARMLESS,
        "content-disposition": "attachment",
        "accept-ranges": "none" if attr.stream else "bytes",
    }
    if not attr.stream:
        headers["content-length"] = str(attr.size)
    return headers


class Head(Response):
    """What GET would say of a file, without its bytes."""

    def __init__(self, attr: Attr) -> None:
        super().__init__(headers=_headers(attr))
        if attr.stream:
            del self.headers["content-length"]  # it is not 0, but not known


class _Content(StreamingResponse):
    """Bytes of an open file, which is released whatever becomes of the answer."""

    def __init__(
        self, file: OpenFile, pieces: AsyncGenerator[bytes, None], status: int, headers: dict[str, str]
    ) -> None:
        self._file, self._pieces = file, pieces
        super().__init__(pieces, status, headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async with aclosing(self._pieces):
                await super().__call__(scope, receive, send)
        finally:
            with trio.CancelScope(shield=True):
                await self._file.release()


def content(file: OpenFile, request: Request) -> Response:
    """Answer with an open file, or the range of it that is asked for; the answer releases it."""
    attr = file.attr
    headers = _headers(attr)
    if attr.stream:
        return _Content(file, _pieces(file, 0, None, request.query_params.get("wait") != "0"), 200, headers)
    if (wanted := _wanted(request.headers.get("range", ""), attr.size)) is None:
        return _Content(file, _pieces(file, 0, attr.size), 200, headers)
    start, end = wanted
    if start >= end:
        return _Content(
            file, _pieces(file, 0, 0), 416, {"content-range": f"bytes */{attr.size}", "content-length": "0"}
        )
    headers["content-range"] = f"bytes {start}-{end - 1}/{attr.size}"
    headers["content-length"] = str(end - start)
    return _Content(file, _pieces(file, start, end), 206, headers)


def framed(file: OpenFile, start: int, end: int, *, before: bytes, after: bytes, media: str) -> Response:
    """Answer with a part of an open file between two texts; the answer releases it, and is cut if the file is shorter.

    Args:
        media: what all of it is.
    """

    async def pieces() -> AsyncGenerator[bytes, None]:
        yield before
        left = end - start
        async with aclosing(_pieces(file, start, end)) as data:
            async for piece in data:
                left -= len(piece)
                yield piece
        if left == 0:
            yield after

    size = len(before) + end - start + len(after)
    return _Content(file, pieces(), 200, {**HARMLESS, "content-type": media, "content-length": str(size)})


def _wanted(header: str, size: int) -> tuple[int, int] | None:
    """Return what a Range header asks for, cut to the file's size; None for all of it."""
    found = re.fullmatch(r"bytes=(?=-?\d)(\d{0,19})-(\d{0,19})", header)
    if found is None:
        return None
    first, last = found.groups()
    if first == "":
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


async def _pieces(file: OpenFile, start: int, end: int | None, wait: bool = True) -> AsyncGenerator[bytes, None]:
    offset = start
    while end is None or offset < end:
        size = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - offset)
        try:
            data = await file.read(offset, size, wait=wait)
        except PfsError as error:
            if error.kind is Kind.WOULD_BLOCK:
                return
            raise
        if not data:
            return
        offset += len(data)
        yield data


async def body_of(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the request's body; what no door takes is no body.

    Raises:
        PfsError: TOO_LARGE for more than the door takes, TIMED_OUT for one that falls silent or drips.
    """
    bytes_max: int = request.scope.get(BYTES_MAX, 0)
    came, patience_s = 0, BODY_SILENCE_S
    async with aclosing(request.stream()) as stream:
        while True:
            began_s = trio.current_time()
            with trio.move_on_after(min(BODY_SILENCE_S, patience_s)) as scope:
                try:
                    chunk = await anext(stream)
                except StopAsyncIteration:
                    return
            if scope.cancelled_caught:
                raise PfsError(Kind.TIMED_OUT, "the upload was silent for too long, or too slow")
            came += len(chunk)
            if came > bytes_max:
                raise PfsError(Kind.TOO_LARGE, f"at most {bytes_max} bytes are taken here")
            patience_s += len(chunk) / BODY_RATE_MIN - (trio.current_time() - began_s)
            yield chunk


async def whole_body(request: Request, bytes_max: int = WHOLE_BYTES_MAX) -> bytes:
    """Return a small body, all of it.

    Raises:
        PfsError: INVALID when it was cut, TOO_LARGE above `bytes_max`.
    """
    length = request.headers.get("content-length", "")
    bytes_max = min(bytes_max, request.scope.get(BYTES_MAX, 0))
    if not length.isdigit():
        raise PfsError(Kind.INVALID, "a Content-Length is needed here, so that a cut upload is noticed")
    if int(length) > bytes_max:
        raise PfsError(Kind.TOO_LARGE, f"at most {bytes_max} bytes are taken here")
    body = b"".join([chunk async for chunk in body_of(request)])
    if len(body) != int(length):
        raise PfsError(Kind.INVALID, f"{length} bytes were announced and {len(body)} came")
    return body


async def whole_object(request: Request, word: str = "") -> Json:
    """Return a body, which is a JSON object.

    Args:
        word: what is told first of one that is none.

    Raises:
        PfsError: INVALID when it is none.
    """
    try:
        found = json.loads(await whole_body(request))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise PfsError(Kind.INVALID, f"{word}the body is no JSON object")
    return found


def text_in(asked: Json, name: str, default: str | None = None) -> str:
    """Return a text that such an object has.

    Raises:
        PfsError: INVALID when there is none, and no default.
    """
    value = asked.get(name, default)
    if not isinstance(value, str):
        raise PfsError(Kind.INVALID, f"the field {name!r} is missing or no text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise PfsError(Kind.INVALID, f"the field {name!r} is no text") from None
    return value


async def upload(request: Request, fs: LeasedTree, path: str) -> None:
    """Let a request's body be the file at `path`."""

    async def body() -> AsyncGenerator[bytes, None]:
        came = 0
        async with aclosing(body_of(request)) as pieces:
            async for piece in pieces:
                came += len(piece)
                yield piece
        length = request.headers.get("content-length", "")
        if length.isdigit() and int(length) != came:
            raise PfsError(Kind.INVALID, f"{length} bytes were announced and {came} came")

    await write_whole(fs, path, body())


async def write_whole(fs: LeasedTree, path: str, pieces: AsyncGenerator[bytes, None]) -> None:
    """Write beside the target and rename, so that nobody ever sees half a file.

    Args:
        pieces: all of the file; what it raises leaves everything as it was.
    """
    parent, _ = parent_and_name(path)
    part = join(parent, f".pfs-upload-{secrets.token_hex(8)}")
    file = await fs.open(part, OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE, 0o644)
    try:
        try:
            offset = 0
            async with aclosing(pieces):
                async for piece in pieces:
                    offset += await file.write(offset, piece)
            await file.flush(Closing.LAST)
        finally:
            with trio.CancelScope(shield=True):
                await file.release()
        await fs.rename(part, path, RenameMode.REPLACE)
    except BaseException:
        with trio.CancelScope(shield=True), suppress(PfsError):  # what went wrong first is what counts
            await fs.unlink(part)
        raise
