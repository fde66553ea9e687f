"""A small datacenter that answers on loopback, and servers that are none."""

import functools
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import trio
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from pfs.accounts.store import Identity, KeyKind
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.leasing.hub import LeaseHub
from pfs.protocol.channel import Channel, Handler
from pfs.protocol.wire import CHANNEL_PATH, FILES_PATH, Json
from pfs.server import guard
from pfs.server.guard import Tls
from pfs.server.routes import Conversation, Gate
from pfs.server.session import FileSession
from pfs.server.takeover import Taken, Taker
from tests.pfs.world import ADMIN, ANN, BOB, World

TOKENS = {
    "ann-token": Identity(KeyKind.USER, ANN),
    "ann-other": Identity(KeyKind.USER, ANN),
    "bob-token": Identity(KeyKind.USER, BOB),
    "admin-token": Identity(KeyKind.USER, ADMIN),
    "node-key": Identity(KeyKind.NODE, ADMIN),
}
DEFECT = "defect-token"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all: httpx takes long to make its own


async def identify(token: str) -> Identity:
    if token == DEFECT:
        raise RuntimeError("the reason")
    try:
        return TOKENS[token]
    except KeyError:
        raise PfsError(Kind.UNAUTHENTICATED, "the server does not know this token") from None


def mounts(world: World) -> Conversation:
    """What is said to a mount."""

    @asynccontextmanager
    async def conversation(identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        session = FileSession(world.fs(identity.subject))
        try:
            yield session.handle
        finally:
            await session.end()

    return conversation


def answering(handler: Handler) -> Conversation:
    """Say to everybody what `handler` says."""

    @asynccontextmanager
    async def conversation(identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        yield handler

    return conversation


class Served:
    """A running server, and how many calls of its application have begun and ended."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self.url = ""
        self.port = 0
        self.began = self.ended = 0
        self._changed = trio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        self.began += 1
        self._tell()
        try:
            await self._app(scope, receive, send)
        finally:
            self.ended += 1
            self._tell()

    def counted(self, taker: Taker) -> Taker:
        """Count what `taker` takes among the calls of the application."""

        async def taking(taken: Taken) -> None:
            self.began += 1
            self._tell()
            try:
                await taker(taken)
            finally:
                self.ended += 1
                self._tell()

        return taking

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def until(self, *, began: int = 0, ended: int = 0) -> None:
        """Wait until so many calls have begun and ended."""
        while self.began < began or self.ended < ended:
            await self._changed.wait()


def greeting(conversation: Conversation) -> Conversation:
    """Answer what every mount says before and beside its questions: there are no leases here, and no bulk."""

    @asynccontextmanager
    async def greeted(identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        async with conversation(identity, channel) as handler:

            async def handle(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
                return ({}, b"") if op in {"hello", "alive", "bye"} else await handler(op, args, body)

            yield handle

    return greeted


@asynccontextmanager
async def served(
    app: ASGIApp, port: int = 0, tls: Tls | None = None, takers: Mapping[str, Taker] | None = None
) -> AsyncIterator[Served]:
    """Serve `app`; at the end of the block it is gone at once, as a killed one is."""
    made = Served(app)
    counted = {start: made.counted(taker) for start, taker in (takers or {}).items()}
    listen = functools.partial(guard.serve, made, host="127.0.0.1", port=port, tls=tls, takers=counted)
    serve = functools.partial(listen, shutdown=trio.sleep_forever)
    async with trio.open_nursery() as nursery:
        made.url = (await nursery.start(serve))[0]
        made.port = int(made.url.rpartition(":")[2])
        yield made
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def datacenter(
    world: World, conversation: Conversation | None = None, port: int = 0, tls: Tls | None = None
) -> AsyncIterator[Served]:
    """Serve the tree of `world`."""
    talk = greeting(conversation or mounts(world))
    hub = LeaseHub()
    gate = Gate(
        identify, lambda identity: LeasedTree(world.fs(identity.subject), hub), {KeyKind.USER: talk, KeyKind.NODE: talk}
    )
    async with served(Starlette(routes=gate.routes()), port, tls, {CHANNEL_PATH: gate.channel}) as made:
        yield made


class Machine:
    """A server that can be killed, and started again on its port."""

    def __init__(self, world: World, conversation: Conversation | None, nursery: trio.Nursery) -> None:
        self._what = (world, conversation)
        self._nursery = nursery
        self._port = 0

    async def start(self) -> str:
        """Return the URL, the same each time."""
        url: str = await self._nursery.start(self._run)
        return url

    async def _run(self, task_status: trio.TaskStatus[str]) -> None:
        self._gone = trio.Event()
        with trio.CancelScope() as self._life:
            async with datacenter(*self._what, port=self._port) as server:
                self._port = server.port
                task_status.started(server.url)
                await trio.sleep_forever()
        self._gone.set()

    async def kill(self) -> None:
        """Return when it is gone."""
        self._life.cancel()
        await self._gone.wait()


@asynccontextmanager
async def machine(world: World, conversation: Conversation | None = None) -> AsyncIterator[Machine]:
    """Give a server that is not running yet."""
    async with trio.open_nursery() as nursery:
        yield Machine(world, conversation, nursery)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def listening(converse: Callable[[trio.SocketStream], Awaitable[None]]) -> AsyncIterator[str]:
    """Let `converse` talk to everybody who connects; yields the URL."""
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(functools.partial(trio.serve_listeners, converse, listeners))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


@dataclass
class Web:
    """A server, and somebody who asks it."""

    server: Served
    client: httpx.AsyncClient

    @asynccontextmanager
    async def hear(self, path: str, *headers: str) -> AsyncIterator[trio.SocketStream]:
        """Ask for a file, and hear what comes as it comes; who leaves the block has hung up."""
        async with await trio.open_tcp_stream("127.0.0.1", self.server.port) as stream:
            await stream.send_all(request("GET", path, *headers))
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await stream.receive_some(1)
            yield stream

    async def ask(self, method: str, path: str, **how: object) -> httpx.Response:
        return await self.client.request(method, f"{FILES_PATH}/{path}", **how)  # type: ignore[arg-type]


def request(method: str, path: str, *headers: str) -> bytes:
    """A request in HTTP/1.0: what is answered to that has no frames, and ends with the connection."""
    lines = (f"{method} {FILES_PATH}/{path} HTTP/1.0", "host: x", "authorization: Bearer ann-token", *headers, "", "")
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def web(world: World, token: str | None = "ann-token") -> AsyncIterator[Web]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with (
        datacenter(world) as server,
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=20, verify=NO_TLS, trust_env=False) as client,
    ):
        yield Web(server, client)


def told(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["kind"]
