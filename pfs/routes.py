"""The tree over HTTP, for programs without a mount, and the door to channels.

    GET    /api/v1/fs/<path>            a file (ranges; a stream runs until its writer is done; ?wait=0: what there is)
                                        a directory: JSON; ?each=<name> adds the text of that file in each subdirectory
    PUT    /api/v1/fs/<path>            a whole file; in jobs/ this submits: 201 and the job's address
    DELETE /api/v1/fs/<path>            a file, or an empty directory
    POST   /api/v1/fs/<path>?op=mkdir   a directory
    WS     /api/v1/channel              everything else (`pfs.session`), one connection for all

Who comes in shows a token: `Authorization: Bearer <token>`. Errors are `{"error": {"kind", "message", "path"}}`
with the status of `STATUS_OF_KIND`.
"""

import json
import logging
import re
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, aclosing, suppress
from urllib.parse import quote, unquote

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from pfs.accounts import Identity, KeyKind
from pfs.api import Attr, Closing, NodeType, OpenFile, OpenFlags, RenameMode
from pfs.channel import Channel
from pfs.errors import Kind, PfsError
from pfs.path import join, parent_and_name
from pfs.service import TreeFileSystem
from pfs.wire import CHANNEL_PATH, FILES_PATH, Json, encode_attr, encode_error

log = logging.getLogger(__name__)

CHUNK_BYTES = 1024 * 1024
WHOLE_BYTES_MAX = 1024 * 1024
BODY_SILENCE_S = 30.0
EACH_BYTES_MAX = 64 * 1024
NO_TEXT = (Kind.NOT_FOUND, Kind.NOT_DIR, Kind.IS_DIR, Kind.LOOP, Kind.UNSUPPORTED)

STATUS_OF_KIND = {
    Kind.NOT_FOUND: 404,
    Kind.EXISTS: 409,
    Kind.DENIED: 403,
    Kind.FORBIDDEN: 403,
    Kind.NOT_DIR: 409,
    Kind.IS_DIR: 409,
    Kind.NOT_EMPTY: 409,
    Kind.INVALID: 400,
    Kind.BUSY: 409,
    Kind.STALE: 409,
    Kind.BAD_HANDLE: 409,
    Kind.NAME_TOO_LONG: 400,
    Kind.TOO_LARGE: 413,
    Kind.NO_SPACE: 507,
    Kind.QUOTA: 507,
    Kind.CROSS_DOMAIN: 409,
    Kind.READ_ONLY: 403,
    Kind.LOOP: 400,
    Kind.UNSUPPORTED: 501,
    Kind.UNAUTHENTICATED: 401,
    Kind.TIMED_OUT: 408,
    Kind.UNREACHABLE: 503,
    Kind.WOULD_BLOCK: 409,
    Kind.TOO_MANY: 429,
    Kind.IO: 500,
    Kind.INTERNAL: 500,
}

Identify = Callable[[str], Awaitable[Identity]]
Handler = Callable[[str, Json, bytes], Awaitable[tuple[Json, bytes]]]
# given a function that hands over the channel, a conversation yields what answers the other side
Conversation = Callable[[Identity, Callable[[], Channel]], AbstractAsyncContextManager[Handler]]


class Gate:
    """Turns requests into what their sender may see.

    Args:
        identify: tells whose a token is.
        filesystem: gives a subject its view of the tree.
        conversations: what to say over a channel to each kind of peer.
    """

    def __init__(
        self,
        identify: Identify,
        filesystem: Callable[[Identity], TreeFileSystem],
        conversations: dict[KeyKind, Conversation],
    ) -> None:
        self._identify = identify
        self._filesystem = filesystem
        self._conversations = conversations
        self._channels: set[Channel] = set()

    async def hang_up(self) -> None:
        """End every channel: whoever is at the other end looks for the server again."""
        for channel in list(self._channels):
            await channel.close()

    async def identity(self, headers: "dict[str, str]") -> Identity:
        """Return whom the request's token proves."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() not in ("bearer", "token") or not token:
            raise PfsError(Kind.UNAUTHENTICATED, "a token is needed: Authorization: Bearer <token>")
        return await self._identify(token.strip())

    async def filesystem(self, request: Request) -> TreeFileSystem:
        """Return the view of whoever sent `request`; nodes have none."""
        identity = await self.identity(dict(request.headers))
        if identity.kind is not KeyKind.USER:
            raise PfsError(Kind.UNAUTHENTICATED, "this is a node's key; files are for users' tokens")
        return self._filesystem(identity)

    def routes(self) -> list[BaseRoute]:
        """Return the routes of this module's docstring."""
        files = FILES_PATH + "/{path:path}"
        return [
            Route(files, self._guarded(self._get), methods=["GET"]),
            Route(files, self._guarded(self._put), methods=["PUT"]),
            Route(files, self._guarded(self._delete), methods=["DELETE"]),
            Route(files, self._guarded(self._post), methods=["POST"]),
            WebSocketRoute(CHANNEL_PATH, self._channel),
        ]

    def _guarded(
        self, answer: Callable[[Request, TreeFileSystem, str], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                filesystem = await self.filesystem(request)
                return await answer(request, filesystem, _path(request))
            except PfsError as error:
                return error_response(error)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception:
                log.exception("defect while answering %s %s", request.method, request.url.path)
                return error_response(PfsError(Kind.INTERNAL, "a defect of the server; its log has more"))

        return endpoint

    async def _get(self, request: Request, fs: TreeFileSystem, path: str) -> Response:
        path = await fs.follow(path)
        attr = await fs.getattr(path)
        if attr.type is NodeType.DIRECTORY:
            return _json(await _listing(fs, path, request.query_params.get("each")))
        if attr.type is NodeType.SYMLINK:
            raise PfsError(Kind.LOOP, "a symbolic link of a user is not followed by the server", path)
        if request.method == "HEAD":
            return _Head(attr)
        return _content(await fs.open(path, OpenFlags.READ, 0), request)

    async def _put(self, request: Request, fs: TreeFileSystem, path: str) -> Response:
        path = await _own_links_followed(fs, path)
        if not await fs.in_domain(path):
            made = await fs.put(path, await _whole_body(request), request.headers.get("idempotency-key"))
            if made is None:
                return Response(status_code=204)
            location = f"{FILES_PATH}/{quote(made, errors='surrogateescape')}"
            return _json({"path": made}, 201, {"location": location})
        await _upload(request, fs, path)
        return Response(status_code=204)

    async def _delete(self, request: Request, fs: TreeFileSystem, path: str) -> Response:
        path = await _own_links_followed(fs, path)
        attr = await fs.getattr(path)
        await (fs.rmdir(path) if attr.type is NodeType.DIRECTORY else fs.unlink(path))
        return Response(status_code=204)

    async def _post(self, request: Request, fs: TreeFileSystem, path: str) -> Response:
        op = request.query_params.get("op")
        if op != "mkdir":
            raise PfsError(Kind.INVALID, f"op={op} is not known; there is op=mkdir")
        return _json(encode_attr(await fs.mkdir(await _own_links_followed(fs, path), 0o755)), 201)

    async def _channel(self, websocket: WebSocket) -> None:
        try:
            identity = await self.identity(dict(websocket.headers))
        except PfsError as error:
            await websocket.send_denial_response(error_response(error))
            return
        await websocket.accept()
        channel: Channel | None = None

        def talk() -> Channel:
            assert channel is not None
            return channel

        async with self._conversations[identity.kind](identity, talk) as handler:
            channel = Channel(_ServerTransport(websocket), handler)
            self._channels.add(channel)
            try:
                await channel.run()
            finally:
                self._channels.discard(channel)


def error_response(error: PfsError) -> Response:
    """Return `error` as an answer."""
    headers = {"www-authenticate": "Bearer"} if error.kind is Kind.UNAUTHENTICATED else None
    return _json({"error": encode_error(error)}, STATUS_OF_KIND[error.kind], headers)


def _json(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer in ASCII: names need not be UTF-8, and escaped they come through."""
    return Response(json.dumps(value, separators=(",", ":")), status, headers, "application/json")


def _path(request: Request) -> str:
    """Return the path that is asked for, with bytes that are no UTF-8 as they are everywhere in the tree."""
    raw: bytes = request.scope["raw_path"]
    return unquote(raw.decode("ascii"), errors="surrogateescape").removeprefix(f"{FILES_PATH}/").rstrip("/")


async def _own_links_followed(fs: TreeFileSystem, path: str) -> str:
    """Follow the tree's own links on the way to `path`, not one at its end."""
    parent, name = parent_and_name(path)
    return join(await fs.follow(parent), name)


class _ServerTransport:
    """Carries messages over an accepted WebSocket."""

    def __init__(self, websocket: WebSocket) -> None:
        self._websocket = websocket

    async def send(self, message: bytes) -> None:
        try:
            await self._websocket.send_bytes(message)
        except (WebSocketDisconnect, RuntimeError):
            raise trio.BrokenResourceError from None

    async def receive(self) -> bytes | None:
        try:
            return await self._websocket.receive_bytes()
        except (WebSocketDisconnect, RuntimeError, KeyError):
            return None

    async def close(self) -> None:
        try:
            await self._websocket.close()
        except (WebSocketDisconnect, RuntimeError):
            return


async def _listing(fs: TreeFileSystem, path: str, each: str | None) -> Json:
    entries = []
    for entry in await fs.listdir(path):
        row: Json = {"name": entry.name, **encode_attr(entry.attr)}
        if each is not None and entry.attr.type is NodeType.DIRECTORY:
            row["each"] = await _text(fs, join(join(path, entry.name), each))
        entries.append(row)
    return {"path": path, "entries": entries}


async def _text(fs: TreeFileSystem, path: str) -> str | None:
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
        "x-content-type-options": "nosniff",
        "accept-ranges": "none" if attr.stream else "bytes",
    }
    if not attr.stream:
        headers["content-length"] = str(attr.size)
    return headers


class _Head(Response):
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


def _content(file: OpenFile, request: Request) -> Response:
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


async def _body(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the request's body; one that falls silent is given up."""
    async with aclosing(request.stream()) as stream:
        while True:
            with trio.move_on_after(BODY_SILENCE_S) as scope:
                try:
                    chunk = await anext(stream)
                except StopAsyncIteration:
                    return
            if scope.cancelled_caught:
                raise PfsError(Kind.TIMED_OUT, f"the upload was silent for {BODY_SILENCE_S:.0f} s")
            yield chunk


async def _whole_body(request: Request) -> bytes:
    length = request.headers.get("content-length", "")
    if not length.isdigit():
        raise PfsError(Kind.INVALID, "a Content-Length is needed here, so that a cut upload is noticed")
    if int(length) > WHOLE_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"at most {WHOLE_BYTES_MAX} bytes are taken here")
    body = b"".join([chunk async for chunk in _body(request)])
    if len(body) != int(length):
        raise PfsError(Kind.INVALID, f"{length} bytes were announced and {len(body)} came")
    return body


async def _upload(request: Request, fs: TreeFileSystem, path: str) -> None:
    """Write beside the target and rename, so that nobody ever sees half a file."""
    parent, _ = parent_and_name(path)
    part = join(parent, f".pfs-upload-{secrets.token_hex(8)}")
    file = await fs.open(part, OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE, 0o644)
    try:
        try:
            offset = 0
            async with aclosing(_body(request)) as body:
                async for chunk in body:
                    offset += await file.write(offset, chunk)
            length = request.headers.get("content-length", "")
            if length.isdigit() and int(length) != offset:
                raise PfsError(Kind.INVALID, f"{length} bytes were announced and {offset} came")
            await file.flush(Closing.LAST)
        finally:
            with trio.CancelScope(shield=True):
                await file.release()
        await fs.rename(part, path, RenameMode.REPLACE)
    except BaseException:
        with trio.CancelScope(shield=True), suppress(PfsError):  # what went wrong first is what counts
            await fs.unlink(part)
        raise
