"""The tree over HTTP, for programs without a mount, and the door to channels.

    GET    /api/v1/fs/<path>            a file (ranges; a stream runs until its writer is done; ?wait=0: what there is)
                                        a directory: JSON; ?each=<name> adds the text of that file in each subdirectory
    PUT    /api/v1/fs/<path>            a whole file; in jobs/ this submits: 201 and the job's address
    DELETE /api/v1/fs/<path>            a file, or an empty directory
    POST   /api/v1/fs/<path>?op=mkdir   a directory
    POST   /api/v1/fs/<path>?op=rename&to=<path>    another name, which replaces what had it
    WS     /api/v1/channel              everything else (`pfs.server.session`), one connection for all; taken over whole

Who comes in shows a token: `Authorization: Bearer <token>`; each route is a door (`pfs.server.doors`).
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any
from urllib.parse import quote, unquote

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from pfs.accounts.keyring import key_name
from pfs.accounts.store import FILE_KINDS, Identity, KeyKind
from pfs.api import NodeType, OpenFlags, RenameMode
from pfs.audit.origin import acting
from pfs.errors import Kind, PfsError
from pfs.keys import is_token, key_of_certificate
from pfs.leasing.filesystem import LeasedTree
from pfs.path import join, parent_and_name
from pfs.protocol.channel import Channel, Handler
from pfs.protocol.websocket import WebSocketTransport
from pfs.protocol.wire import FILES_PATH, encode_attr
from pfs.server.basic import Basic
from pfs.server.bodies import Head, content, listing, upload, whole_body
from pfs.server.crowd import guest_in
from pfs.server.doors import (
    BYTES,
    JSON,
    NOTHING,
    STATUS_OF_KIND,
    Asks,
    Body,
    Door,
    Face,
    Tells,
    an_object,
    error_response,
    json_response,
    source_of_request,
)
from pfs.server.takeover import Taken, accept_websocket, response_head
from pfs.server.visits import Identify, Visits

__all__ = ["STATUS_OF_KIND", "Conversation", "Gate", "error_response", "json_response", "own_links_followed", "shown"]

FILE_BYTES_MAX = 1 << 40
ASKED_AT_ONCE_MAX = 128  # of one account
CHANNELS_MAX = 1024  # of one account, for files: a crowd of them leaves the others their part

# given a function that hands over the channel, a conversation yields what answers the other side
Conversation = Callable[[Identity, Callable[[], Channel]], AbstractAsyncContextManager[Handler]]


class Gate:
    """Turns requests into what their sender may see.

    Args:
        identify: tells whose a token is.
        filesystem: gives a subject its view of the tree.
        conversations: what to say over a channel to each kind of peer.
        stamp: returns something else after each change of accounts.
    """

    def __init__(
        self,
        identify: Identify,
        filesystem: Callable[[Identity], LeasedTree],
        conversations: dict[KeyKind, Conversation],
        stamp: Callable[[], object] = lambda: None,
    ) -> None:
        self._identify = identify
        self.basic: Basic | None = None  # with which clients of REST v1 may come in by name and password
        self.visits = Visits(identify, stamp)
        self._filesystem = filesystem
        self._conversations = conversations
        self._channels: set[Channel] = set()
        self._asking: Counter[str] = Counter()
        self._talking: Counter[str] = Counter()

    async def hang_up(self) -> None:
        """End every channel: whoever is at the other end looks for the server again."""
        for channel in list(self._channels):
            await channel.close()

    async def identity(self, headers: Mapping[str, str], extensions: Mapping[str, Any]) -> Identity:
        """Return whom the request's token proves, or the certificate of its connection."""
        return await self._identify(shown_by(headers, extensions))

    def files(self, identity: Identity) -> LeasedTree:
        """Return the tree as somebody may see it."""
        return self._filesystem(identity)

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        door = partial(self._door, path=FILES_PATH + "/{path:path}")
        attr = an_object({"type": {"type": "string"}, "size": {"type": "integer"}})
        entries = {"type": "array", "items": an_object({"name": {"type": "string"}, "type": {"type": "string"}})}
        return [
            door(
                "GET",
                answer=self._get,
                about="a file, or what is in a directory",
                tells=[
                    Tells(200, "a file, or a directory", BYTES),
                    Tells(200, "", JSON, an_object({"path": {"type": "string"}, "entries": entries})),
                    Tells(206, "a part of a file", BYTES),
                    Tells(416, "the file has no such part", BYTES),
                ],
                asks=Asks(
                    query={"wait": "0: of a stream what there is", "each": "a file of each subdirectory, told as text"},
                    headers={"range": "bytes=<first>-<last>"},
                ),
            ),
            door(
                "PUT",
                answer=self._put,
                about="a whole file; in jobs/ a spec, which submits a job",
                body=Body(FILE_BYTES_MAX),
                tells=[
                    Tells(201, "what became of it", JSON, an_object({"path": {"type": "string"}})),
                    Tells(204, "it is written"),
                ],
                asks=Asks(headers={"idempotency-key": "the same for each attempt at one thing"}),
            ),
            door("DELETE", answer=self._delete, about="remove a file or empty directory", tells=[Tells(204, "gone")]),
            door(
                "POST",
                answer=self._post,
                about="make a directory, or rename what is there",
                tells=[Tells(201, "it is made", JSON, attr), Tells(204, "it has its new name")],
                asks=Asks(query={"op": "mkdir, or rename", "to": "with op=rename: the path that it has then"}),
            ),
        ]

    def _door(
        self,
        method: str,
        path: str,
        answer: Callable[[Request, LeasedTree, str], Awaitable[Response]],
        *,
        about: str,
        tells: list[Tells],
        body: Body = NOTHING,
        asks: Asks | None = None,
    ) -> Door:
        async def with_files(request: Request, identity: Identity) -> Response:
            return await answer(request, self.files(identity), path_below(request, FILES_PATH))

        return self.door(method, path, with_files, about=about, body=body, tells=tells, asks=asks, kinds=FILE_KINDS)

    def door(
        self,
        method: str,
        path: str,
        answer: Callable[[Request, Identity], Awaitable[Response]],
        *,
        about: str,
        body: Body,
        tells: list[Tells],
        asks: Asks | None = None,
        kinds: Collection[KeyKind] = (KeyKind.USER,),
        face: Face | None = None,
    ) -> Door:
        """Return a door for whoever shows a key of these kinds."""

        async def endpoint(request: Request) -> Response:
            if face is not None and self.basic is not None:
                request = await self.basic.with_token(request)
            token = shown(request)
            identity = await self._identify(token)
            if identity.kind not in kinds:
                raise PfsError(Kind.UNAUTHENTICATED, f"this is a {identity.kind}'s key; this is for users' tokens")
            guest_in(request.scope.get("extensions", {})).proves()
            here = acting_as(identity, source_of_request(request), token)
            with ExitStack() as turn:
                turn.enter_context(self.turn(identity))
                with here, self.visits.during(token, identity):
                    response = await answer(request, identity)
                    if _takes_time(response):
                        return _Visited(response, turn.pop_all(), partial(self.visits.during, token, identity))
                    return response
            raise PfsError(Kind.UNAUTHENTICATED, "this token is good no more, or for something else")

        return Door(method, path, endpoint, about=about, body=body, tells=tells, asks=asks, kinds=kinds, face=face)

    @contextmanager
    def turn(self, identity: Identity) -> Iterator[None]:
        """Count a request of an account while it is answered."""
        user = identity.subject.user
        if self._asking[user] >= ASKED_AT_ONCE_MAX:
            raise PfsError(Kind.TOO_MANY, f"{user} asks for {ASKED_AT_ONCE_MAX} things at once already")
        self._asking[user] += 1
        try:
            yield
        finally:
            self._asking[user] -= 1
            if not self._asking[user]:
                del self._asking[user]

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
        path = await own_links_followed(fs, path)
        if not await fs.in_domain(path):
            made = await fs.put(path, await whole_body(request), request.headers.get("idempotency-key"))
            if made is None:
                return Response(status_code=204)
            location = f"{FILES_PATH}/{quote(made, errors='surrogateescape')}"
            return json_response({"path": made}, 201, {"location": location})
        await upload(request, fs, path)
        return Response(status_code=204)

    async def _delete(self, request: Request, fs: LeasedTree, path: str) -> Response:
        path = await own_links_followed(fs, path)
        attr = await fs.getattr(path)
        await (fs.rmdir(path) if attr.type is NodeType.DIRECTORY else fs.unlink(path))
        return Response(status_code=204)

    async def _post(self, request: Request, fs: LeasedTree, path: str) -> Response:
        op = request.query_params.get("op")
        if op not in {"mkdir", "rename"}:
            raise PfsError(Kind.INVALID, f"op={op} is not known; there are op=mkdir and op=rename")
        path = await own_links_followed(fs, path)
        if op == "mkdir":
            return json_response(encode_attr(await fs.mkdir(path, 0o755)), 201)
        target = await own_links_followed(fs, request.query_params.get("to", "").rstrip("/"))
        await fs.rename(path, target, RenameMode.REPLACE)
        return Response(status_code=204)

    async def channel(self, taken: Taken) -> None:
        """Talk over a WebSocket with whoever its request's token proves."""
        headers = {name.decode(): value.decode("latin-1") for name, value in taken.request.headers}
        stays: ExitStack | None = None
        try:
            identity = await self.identity(headers, taken.extensions)
            if identity.kind not in self._conversations:
                raise PfsError(Kind.UNAUTHENTICATED, f"this is a {identity.kind}'s key; it opens no channel")
            with ExitStack() as stay:
                if identity.kind in FILE_KINDS:
                    stay.enter_context(self._channel_of(identity.subject.user))
                token = shown_by(headers, taken.extensions)
                stay.enter_context(acting_as(identity, taken.source, token))
                # from here on it is cut off when its key is good no more, also while it is only being let in
                stay.enter_context(self.visits.during(token, identity))
                taken.guest.proves()
                await accept_websocket(taken)
                stays = stay.pop_all()
        except PfsError as error:
            response = error_response(error)
            head = response_head(response.status_code, [*response.raw_headers, (b"connection", b"close")])
            await taken.send(head + bytes(response.body))
            return
        if stays is not None:  # its key was not taken back meanwhile
            with stays:
                await self._talk(taken, identity)

    @contextmanager
    def _channel_of(self, user: str) -> Iterator[None]:
        """Count a channel for files of an account.

        Raises:
            PfsError: TOO_MANY when it has as many as it may.
        """
        if self._talking[user] >= CHANNELS_MAX:
            raise PfsError(Kind.TOO_MANY, f"{user} has {CHANNELS_MAX} connections for files already")
        self._talking[user] += 1
        try:
            yield
        finally:
            self._talking[user] -= 1
            if not self._talking[user]:
                del self._talking[user]

    async def _talk(self, taken: Taken, identity: Identity) -> None:
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


class _Visited(Response):
    """An answer that takes a while: it keeps its turn, and is cut when its reader's token is good no more."""

    def __init__(
        self, response: Response, turn: ExitStack, during: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._response = response
        self._turn = turn
        self._during = during

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._turn, self._during():
            await self._response(scope, receive, send)


def _takes_time(response: Response) -> bool:
    return isinstance(response, StreamingResponse)


def acting_as(identity: Identity, source: str, token: str) -> AbstractContextManager[None]:
    """Let whoever a token proves act; the audit log names them with the key that they showed."""
    job = identity.subject.job
    return acting(identity.subject.user, source, key_name(token) if job is None else f"job{job}")


def shown(request: Request) -> str:
    """Do what `shown_by` does."""
    return shown_by(request.headers, request.scope.get("extensions", {}))


def shown_by(headers: Mapping[str, str], extensions: Mapping[str, Any]) -> str:
    """Return what a request shows: its token, or where it has none what stands for the certificate of its connection.

    Raises:
        PfsError: UNAUTHENTICATED when there is neither.
    """
    certificate = extensions.get("tls", {}).get("client_cert_der")
    if certificate is not None and "authorization" not in headers:
        return key_of_certificate(certificate)
    scheme, _, token = headers.get("authorization", "").partition(" ")
    token = token.strip()
    if scheme.lower() not in ("bearer", "token") or not is_token(token):
        raise PfsError(Kind.UNAUTHENTICATED, "a token is needed: Authorization: Bearer <token>")
    return token


def path_below(request: Request, top: str) -> str:
    """Return the path that is asked for below `top`, with bytes that are no UTF-8 as everywhere in the tree."""
    raw: bytes = request.scope["raw_path"]
    return path_of(raw.decode("ascii"), top)


def path_of(target: str, top: str) -> str:
    """Return the path in a target without a query, below `top`, as `path_below` does."""
    return unquote(target, errors="surrogateescape").removeprefix(f"{top}/").rstrip("/")


async def own_links_followed(fs: LeasedTree, path: str) -> str:
    """Follow the tree's own links on the way to `path`, not one at its end."""
    parent, name = parent_and_name(path)
    return join(await fs.follow(parent), name)
