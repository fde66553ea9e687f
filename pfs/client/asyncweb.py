"""The tree over plain HTTP for programs with an event loop: asyncio's or trio's, many requests at the same time."""

import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TypeVar

import httpx
from anyio import to_thread

from pfs.client.asking import TIMEOUT_S, Asking
from pfs.client.authority import authorization, trust
from pfs.client.http11 import Body, HttpError, HungUpError, Request, Told
from pfs.keys import Pair

T = TypeVar("T")


@asynccontextmanager
async def open_web(
    endpoint: str, token: str, ca: str | None = None, *, own: Pair | None = None
) -> AsyncIterator[Asking]:
    """Give what the owner of a token may see of the server at `endpoint`, while the block runs.

    Args:
        ca: file with the certificate authority to trust instead of the system's.
        own: a certificate that tells who we are, beside a token or instead of one.

    Raises:
        PfsError: INVALID or UNAUTHENTICATED for an address, an authority or a token that cannot be one.
    """
    headers = {"accept-encoding": "identity", **dict(authorization(token, own))}
    context = await to_thread.run_sync(lambda: trust(endpoint, token, ca, own))
    # what a machine has set for its web browsers, such as proxies, does not count, as in `pfs.client.http11`
    async with httpx.AsyncClient(
        base_url=endpoint,
        headers=headers,
        verify=context or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        trust_env=False,
    ) as client:
        yield Asking(endpoint, (token, ca), own, _Loop(client))


class _Loop:
    """Carries requests over an event loop."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    @asynccontextmanager
    async def asking(self, request: Request) -> AsyncIterator["_Heard"]:
        headers, content = _body(request.body)
        built = self._client.build_request(
            request.method,
            request.target,
            headers={**request.headers, **headers},
            content=content,
            timeout=httpx.Timeout(TIMEOUT_S, read=request.answer_s),
        )
        with _heard():
            response = await self._client.send(built, stream=True)
        try:
            yield _Heard(response)
        finally:
            await response.aclose()

    async def aside(self, work: Callable[[], T]) -> T:
        return await to_thread.run_sync(work)


class _Heard:
    """An answer whose head has come."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.content_type = response.headers.get("content-type", "")
        self._response = response

    async def read(self) -> bytes:
        with _heard():
            return await self._response.aread()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        pieces = self._response.aiter_raw()
        try:
            while True:
                with _heard():
                    piece = await anext(pieces, None)
                if piece is None:
                    return
                yield piece
        finally:
            # httpx leaves generators of its own where they are: they end when they find the connection closed
            await self._response.aclose()
            with suppress(httpx.HTTPError, httpx.StreamError, StopAsyncIteration):
                while True:
                    await anext(pieces)


def _body(body: Body | None) -> tuple[dict[str, str], bytes | AsyncGenerator[bytes, None] | None]:
    """Return the headers that a body needs, and it as httpx takes it."""
    if body is None or isinstance(body, bytes):
        return {}, body
    if isinstance(body, Told):
        return {"content-length": str(body.size)}, _read_aside(body.pieces)
    return {}, _read_aside(body)


async def _read_aside(pieces: Iterable[bytes]) -> AsyncGenerator[bytes, None]:
    """Give pieces whose making may block, such as those of a file."""
    left = iter(pieces)
    while (piece := await to_thread.run_sync(next, left, None)) is not None:
        yield piece


@contextmanager
def _heard() -> Iterator[None]:
    """Tell what goes wrong while an answer is awaited."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        raise HttpError("no connection", hung_up=False) from _reason(error)
    except httpx.TimeoutException:
        raise HttpError("it says nothing", hung_up=False) from TimeoutError("timed out")
    except (httpx.NetworkError, httpx.RemoteProtocolError):
        raise HungUpError("it hung up", hung_up=True) from None
    except httpx.TransportError as error:
        raise HttpError("the connection failed", hung_up=True) from _reason(error)


def _reason(error: BaseException) -> BaseException:
    """Return what the system said, which httpx and what it stands on hide."""
    inner = error.__cause__ or error.__context__
    if inner is None or isinstance(error, ssl.SSLError | ConnectionError):
        return error
    return _reason(inner)
