"""The tree over plain HTTP: what is asked for each service of it, and what the answers mean.

It is written once, for event loops. `pfs.client.asyncweb` carries it over those, and `pfs.client.web` over connections
that block, where nothing in here ever waits (`pfs.client.immediate`).
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeVar
from urllib.parse import quote, urlencode

from pfs.client.authority import about_hanging_up, why_unreachable
from pfs.client.http11 import Body, HttpError, HungUpError, Request
from pfs.errors import Kind, PfsError
from pfs.keys import Pair
from pfs.protocol.wire import FILES_PATH, decode_error

TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 300.0  # to what takes the server long: its disk has to have what was sent

T = TypeVar("T")


class Heard(Protocol):
    """An answer, whose body is read when it is asked for."""

    @property
    def status(self) -> int: ...

    @property
    def content_type(self) -> str: ...

    async def read(self) -> bytes: ...

    def pieces(self) -> AsyncGenerator[bytes, None]: ...


class Transport(Protocol):
    """Carries requests to a server; what is wrong with the way is an HttpError."""

    def asking(self, request: Request) -> AbstractAsyncContextManager[Heard]: ...

    async def aside(self, work: Callable[[], T]) -> T:
        """Do what may block."""
        ...


class Asking:
    """What the owner of a token may see of the server at `endpoint`.

    Args:
        trusted: the token, and the file with the authority to trust, which tell why a server is not trusted.
        own: a certificate that tells who we are.
    """

    def __init__(self, endpoint: str, trusted: tuple[str, str | None], own: Pair | None, transport: Transport) -> None:
        self._endpoint = endpoint
        self._trusted = trusted
        self._own = own
        self._transport = transport

    async def read(self, path: str) -> bytes:
        """Return a whole file; of a stream, what there is."""
        return (await self._ask("GET", _url(path, {"wait": "0"})))[1]

    @asynccontextmanager
    async def stream(
        self, path: str, start: int = 0, silence_s: float | None = None
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """Give what is in a stream, as it comes, until its writer is done; or in a file from `start` on, in bytes.

        Args:
            silence_s: how long nothing may come; None for as long as the server likes.
        """
        headers = {"range": f"bytes={start}-"} if start else {}
        request = Request("GET", _url(path), headers, None, silence_s)
        async with self._asking(request) as answer, aclosing(answer.pieces()) as pieces:
            yield pieces

    async def list(self, path: str, each: str | None = None) -> list[dict[str, Any]]:
        """Return the entries of a directory, with the text of the file `each` in every subdirectory.

        Raises:
            PfsError: NOT_DIR for a file, whatever is in it.
        """
        request = Request("GET", _url(path, {} if each is None else {"each": each}), {}, None, TIMEOUT_S)
        async with self._asking(request) as answer:
            if answer.content_type.startswith("application/octet-stream"):
                raise PfsError(Kind.NOT_DIR, f"{path} is not a directory")
            entries: list[dict[str, Any]] = self._field(answer.status, await answer.read(), "entries")
        return entries

    async def is_directory(self, path: str) -> bool:
        """Tell whether a directory is there, or a link of the tree's own to one."""
        try:
            async with self._asking(Request("GET", _url(path, {"wait": "0"}), {}, None, TIMEOUT_S)) as answer:
                return answer.content_type.startswith("application/json")
        except PfsError as error:
            if error.kind in (Kind.NOT_FOUND, Kind.NOT_DIR, Kind.LOOP):
                return False
            raise

    async def put(self, path: str, data: bytes, key: str) -> str | None:
        """Put a whole file; return the path of what came of it, where something did.

        Args:
            key: makes a repetition harmless: the same key again gives the same result.
        """
        status, body = await self._ask("PUT", _url(path), data, key=key)
        return str(self._field(status, body, "path")) if status == 201 else None

    async def write(self, path: str, data: Body) -> None:
        """Write a whole file in a data domain, or to one that takes commands, which are sent in one piece."""
        await self._ask("PUT", _url(path), data, answer_s=ANSWER_TIMEOUT_S)

    async def mkdir(self, path: str) -> None:
        """Make a directory."""
        await self._ask("POST", _url(path, {"op": "mkdir"}), b"")

    async def rename(self, source: str, target: str) -> None:
        """Give a file or directory another name, which replaces what had it."""
        await self._ask("POST", _url(source, {"op": "rename", "to": target}), b"")

    async def remove(self, path: str) -> None:
        """Remove a file, an empty directory, or a job that is over."""
        await self._ask("DELETE", _url(path))

    async def call(self, method: str, url: str, content: Body, key: str | None = None) -> Any:
        """Ask for something beside the tree, such as `/api/v1/trees/blobs`; return the answer: JSON, or None for none.

        Args:
            content: what is sent; pieces are sent as they come, without a bound in time.
            key: makes a repetition harmless, as of `put`.
        """
        status, body = await self._ask(method, url, content, key=key, answer_s=ANSWER_TIMEOUT_S)
        return None if status == 204 else self._read(status, body)

    @asynccontextmanager
    async def answered(
        self, method: str, url: str, content: Body | None = None, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[AsyncGenerator[bytes, None]]:
        """Ask for something beside the tree, as `call` does; give the answer in pieces, as it comes."""
        request = Request(method, url, headers or {}, content, ANSWER_TIMEOUT_S)
        async with self._asking(request) as answer, aclosing(answer.pieces()) as pieces:
            yield pieces

    async def _ask(
        self,
        method: str,
        url: str,
        content: Body | None = None,
        *,
        key: str | None = None,
        answer_s: float | None = None,
    ) -> tuple[int, bytes]:
        headers = {} if key is None else {"idempotency-key": key}
        request = Request(method, url, headers, content, TIMEOUT_S if answer_s is None else answer_s)
        async with self._asking(request) as answer:
            return answer.status, await answer.read()

    @asynccontextmanager
    async def _asking(self, request: Request) -> AsyncIterator[Heard]:
        """Give the answer to a request that was not refused."""
        try:
            async with AsyncExitStack() as stack:
                answer = await self._begun(stack, request)
                if not 200 <= answer.status < 300:
                    raise self._refusal(answer.status, await answer.read())
                yield answer
        except HttpError as error:
            why = await self._transport.aside(partial(why_unreachable, self._endpoint, *self._trusted, error))
            why += about_hanging_up(self._own) if error.hung_up else ""
            raise PfsError(Kind.UNREACHABLE, f"no answer from the server at {self._endpoint}: {why}") from None

    async def _begun(self, stack: AsyncExitStack, request: Request) -> Heard:
        """Ask; return an answer whose head has come.

        A server closes a connection that it kept when nothing was asked on it for long, or others need the room, and
        that may be the moment at which we ask. What only looks is asked again then, once.
        """
        try:
            return await stack.enter_async_context(self._transport.asking(request))
        except HungUpError:
            if request.method != "GET":
                raise
        return await stack.enter_async_context(self._transport.asking(request))

    def _refusal(self, status: int, body: bytes) -> PfsError:
        try:
            told = json.loads(body)
            if "msg" in told:  # by a door of REST v1
                return decode_error({"kind": told["kind"], "message": told["msg"]})
            return decode_error(told["error"])
        except (ValueError, KeyError, TypeError):
            return self._stranger(status)

    def _field(self, status: int, body: bytes, name: str) -> Any:
        try:
            return self._read(status, body)[name]
        except (KeyError, TypeError):
            raise self._stranger(status) from None

    def _read(self, status: int, body: bytes) -> Any:
        try:
            return json.loads(body)
        except ValueError:
            raise self._stranger(status) from None

    def _stranger(self, status: int) -> PfsError:
        text = f"what answers at {self._endpoint} is not a pfs server (status {status})"
        return PfsError(Kind.UNREACHABLE, text)


def _url(path: str, params: Mapping[str, str] | None = None) -> str:
    query = f"?{urlencode(params, errors='surrogateescape')}" if params else ""
    return f"{FILES_PATH}/{quote(path, errors='surrogateescape')}{query}"
