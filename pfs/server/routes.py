"""The tree over HTTP, for programs without a mount, and the door to channels.

    GET    /api/v1/fs/<path>            a file (ranges; a stream runs until its writer is done; ?wait=0: what there is)
                                        a directory: JSON; ?each=<name> adds the text of that file in each subdirectory
    PUT    /api/v1/fs/<path>            a whole file; in jobs/ this submits: 201 and the job's address
    DELETE /api/v1/fs/<path>            a file, or an empty directory
    POST   /api/v1/fs/<path>?op=mkdir   a directory
    WS     /api/v1/channel              everything else (`pfs.server.session`), one connection for all; taken over whole

Who comes in shows a token: `Authorization: Bearer <token>`. Errors are `{"error": {"kind", "message", "path"}}`
with the status of `STATUS_OF_KIND`.
"""

import json
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from urllib.parse import quote, unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from pfs.accounts import Identity, KeyKind
from pfs.api import NodeType, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.path import join, parent_and_name
from pfs.protocol.channel import Channel, Handler
from pfs.protocol.websocket import WebSocketTransport
from pfs.protocol.wire import FILES_PATH, Json, encode_attr, encode_error
from pfs.server.bodies import Head, content, listing, upload, whole_body
from pfs.server.takeover import Taken, accept_websocket, response_head

log = logging.getLogger(__name__)

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
    Kind.TOO_MANY_LINKS: 409,
    Kind.NO_DATA: 404,
    Kind.IO: 500,
    Kind.INTERNAL: 500,
}

Identify = Callable[[str], Awaitable[Identity]]
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
        filesystem: Callable[[Identity], LeasedTree],
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

    def routes(self) -> list[BaseRoute]:
        """Return the routes of this module's docstring."""
        files = FILES_PATH + "/{path:path}"
        return [
            Route(files, self._guarded(self._get), methods=["GET"]),
            Route(files, self._guarded(self._put), methods=["PUT"]),
            Route(files, self._guarded(self._delete), methods=["DELETE"]),
            Route(files, self._guarded(self._post), methods=["POST"]),
        ]

    def _guarded(
        self, answer: Callable[[Request, LeasedTree, str], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def with_files(request: Request, identity: Identity) -> Response:
            return await answer(request, self._filesystem(identity), _path(request))

        return self.guarded(with_files)

    def guarded(
        self, answer: Callable[[Request, Identity], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return what answers a route: `answer`, for whoever shows a user's token, with errors as documents."""

        async def endpoint(request: Request) -> Response:
            try:
                identity = await self.identity(dict(request.headers))
                if identity.kind is not KeyKind.USER:
                    raise PfsError(Kind.UNAUTHENTICATED, "this is a node's key; files are for users' tokens")
                return await answer(request, identity)
            except PfsError as error:
                return error_response(error)
            except ClientDisconnect:
                return Response(status_code=400)
            except Exception:
                log.exception("defect while answering %s %s", request.method, request.url.path)
                return error_response(PfsError(Kind.INTERNAL, "a defect of the server; its log has more"))

        return endpoint

    async def _get(self, request: Request, fs: LeasedTree, path: str) -> Response:
        path = await fs.follow(path)
        attr = await fs.getattr(path)
        if attr.type is NodeType.DIRECTORY:
            return json_response(await listing(fs, path, request.query_params.get("each")))
        if attr.type is NodeType.SYMLINK:
            raise PfsError(Kind.LOOP, "a symbolic link of a user is not followed by the server", path)
        if request.method == "HEAD":
            return Head(attr)
        return content(await fs.open(path, OpenFlags.READ, 0), request)

    async def _put(self, request: Request, fs: LeasedTree, path: str) -> Response:
        path = await _own_links_followed(fs, path)
        if not await fs.in_domain(path):
            made = await fs.put(path, await whole_body(request), request.headers.get("idempotency-key"))
            if made is None:
                return Response(status_code=204)
            location = f"{FILES_PATH}/{quote(made, errors='surrogateescape')}"
            return json_response({"path": made}, 201, {"location": location})
        await upload(request, fs, path)
        return Response(status_code=204)

    async def _delete(self, request: Request, fs: LeasedTree, path: str) -> Response:
        path = await _own_links_followed(fs, path)
        attr = await fs.getattr(path)
        await (fs.rmdir(path) if attr.type is NodeType.DIRECTORY else fs.unlink(path))
        return Response(status_code=204)

    async def _post(self, request: Request, fs: LeasedTree, path: str) -> Response:
        op = request.query_params.get("op")
        if op != "mkdir":
            raise PfsError(Kind.INVALID, f"op={op} is not known; there is op=mkdir")
        return json_response(encode_attr(await fs.mkdir(await _own_links_followed(fs, path), 0o755)), 201)

    async def channel(self, taken: Taken) -> None:
        """Talk over a WebSocket with whoever its request's token proves."""
        headers = {name.decode(): value.decode("latin-1") for name, value in taken.request.headers}
        try:
            identity = await self.identity(headers)
            await accept_websocket(taken)
        except PfsError as error:
            response = error_response(error)
            head = response_head(response.status_code, [*response.raw_headers, (b"connection", b"close")])
            await taken.send(head + bytes(response.body))
            return
        channel: Channel | None = None

        def talk() -> Channel:
            assert channel is not None
            return channel

        async with self._conversations[identity.kind](identity, talk) as handler:
            channel = Channel(WebSocketTransport(taken.stream, dialled=False, early=taken.early), handler)
            self._channels.add(channel)
            try:
                await channel.run()
            finally:
                self._channels.discard(channel)


def error_response(error: PfsError) -> Response:
    """Return `error` as an answer."""
    headers = {"www-authenticate": "Bearer"} if error.kind is Kind.UNAUTHENTICATED else None
    return json_response({"error": encode_error(error)}, STATUS_OF_KIND[error.kind], headers)


def json_response(value: Json, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Return an answer in ASCII: names need not be UTF-8, and escaped they come through."""
    return Response(json.dumps(value, separators=(",", ":")), status, headers, "application/json")


def _path(request: Request) -> str:
    """Return the path that is asked for, with bytes that are no UTF-8 as they are everywhere in the tree."""
    raw: bytes = request.scope["raw_path"]
    return unquote(raw.decode("ascii"), errors="surrogateescape").removeprefix(f"{FILES_PATH}/").rstrip("/")


async def _own_links_followed(fs: LeasedTree, path: str) -> str:
    """Follow the tree's own links on the way to `path`, not one at its end."""
    parent, name = parent_and_name(path)
    return join(await fs.follow(parent), name)
