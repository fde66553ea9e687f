"""The faces of the SDK, asked in one way, and a datacenter on loopback that tells what a `Cloud` knows."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from cli.sdk import AsyncClient, Client
from pfs.errors import Kind, PfsError
from pfs.protocol.wire import BELOW_PATH, CONTENTS_PATH
from pfs.server.rest import REST
from pfs.server.routes import error_response
from tests.cli.cloud.clouds import Cloud
from tests.pfs.served import served

TOKEN = "pfs1.secret"
ENDLESS = "home/ann/endless"  # a file that goes on behind its first line
METHODS = ["GET", "PUT", "POST", "DELETE"]

Ask = Callable[..., Any]


class Datacenter(Cloud):
    """A cloud whose `jobs/` takes specs.

    Attributes:
        keys: that came with what was put.
    """

    def __init__(self) -> None:
        super().__init__()
        self.keys: list[str] = []

    def put(self, path: str, data: bytes, key: str) -> str | None:
        super().put(path, data, key)
        self.keys.append(key)
        return "jobs/20" if path.startswith("jobs/") else None

    def call(self, method: str, url: str, content: bytes, key: str | None = None) -> Any:
        if key is not None:
            self.keys.append(key)
        return super().call(method, url, content, key)


@asynccontextmanager
async def datacenter(cloud: Cloud) -> AsyncIterator[str]:
    """Let a cloud answer over HTTP; give its URL."""

    async def files(request: Request) -> Response:
        path, query = request.path_params["path"], request.query_params
        if request.headers["authorization"] != f"Bearer {TOKEN}":
            return error_response(PfsError(Kind.UNAUTHENTICATED, "the server does not know this token"))
        try:
            return await answer(request, path, query)
        except PfsError as error:
            return error_response(error)

    async def endless() -> AsyncIterator[bytes]:
        yield b"first\n"
        await trio.sleep_forever()

    async def answer(request: Request, path: str, query: Any) -> Response:
        match request.method, query.get("op"):
            case "GET", _ if path == ENDLESS:
                return StreamingResponse(endless(), media_type="application/octet-stream")
            case "GET", _:
                if cloud.is_directory(path):
                    return JSONResponse({"entries": cloud.list(path, query.get("each"))})
                return Response(cloud.read(path), media_type="application/octet-stream")
            case "PUT", _:
                key = request.headers.get("idempotency-key")
                if key is None:
                    cloud.write(path, await request.body())
                elif (made := cloud.put(path, await request.body(), key)) is not None:
                    return JSONResponse({"path": made}, 201)
            case "POST", "mkdir":
                cloud.mkdir(path)
            case "POST", _:
                cloud.rename(path, query["to"])
            case _:
                cloud.remove(path)
        return Response(status_code=204)

    async def rest(request: Request) -> Response:
        try:
            key = request.headers.get("idempotency-key")
            return JSONResponse(cloud.call(request.method, str(request.url), await request.body(), key))
        except PfsError as error:
            return error_response(error, REST)

    async def below(request: Request) -> Response:
        url = str(request.url)
        if request.method == "POST":
            return JSONResponse(cloud.take(request.path_params["path"], [await request.body()]))
        try:
            with cloud.answered("GET", url) as pieces:
                return Response(b"".join(pieces))
        except PfsError as error:
            return error_response(error)

    async def contents(_: Request) -> Response:
        return Response(b"")  # it gives none by this door, and each by its own

    routes = [
        Route(f"{CONTENTS_PATH}/{{path:path}}", contents, methods=METHODS),
        Route("/api/v1/fs/{path:path}", files, methods=METHODS),
        Route(f"{BELOW_PATH}/{{path:path}}", below, methods=METHODS),
        Route("/api/v1/{what}", rest, methods=METHODS),
        Route("/api/v1/specs/{name}", rest, methods=METHODS),
    ]
    async with served(Starlette(routes=routes)) as server:
        yield server.url


async def _of_async_client(url: str, token: str, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    async with AsyncClient(endpoint=url, token=token) as client:
        told = getattr(client, name)(*arguments, **named)
        return [piece async for piece in told] if hasattr(told, "__aiter__") else await told


def _of_client(url: str, token: str, name: str, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    with Client(endpoint=url, token=token) as client:
        told = getattr(client, name)(*arguments, **named)
        return list(told) if hasattr(told, "__next__") else told


def face(kind: str, url: str, token: str = TOKEN) -> Ask:
    """Return what asks one face for one service: its name and its arguments. What comes in pieces is a list."""

    async def ask(name: str, /, *arguments: Any, **named: Any) -> Any:
        match kind:
            case "trio":
                return await _of_async_client(url, token, name, arguments, named)
            case "asyncio":
                return await trio.to_thread.run_sync(
                    lambda: asyncio.run(_of_async_client(url, token, name, arguments, named))
                )
        return await trio.to_thread.run_sync(_of_client, url, token, name, arguments, named)

    return ask


FACES = ["sync", "trio", "asyncio"]
