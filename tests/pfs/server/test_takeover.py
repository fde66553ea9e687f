"""Connections that were handed over: the handshake of a WebSocket, and the head of an answer."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import h11
import pytest
import trio

from pfs.errors import Kind, PfsError
from pfs.protocol.sockets import Deadlines
from pfs.server.takeover import Taken, accept_websocket, response_head

Run = Callable[[Callable[[], Awaitable[None]]], None]
UPGRADE = [
    (b"Host", b"x"),
    (b"Connection", b"keep-alive, Upgrade"),
    (b"Upgrade", b"websocket"),
    (b"Sec-WebSocket-Version", b"13"),
    (b"Sec-WebSocket-Key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    one, other = trio.socket.socketpair()
    async with trio.SocketStream(one) as near, trio.SocketStream(other) as far:
        yield near, far


def taken(stream: trio.SocketStream, headers: list[tuple[bytes, bytes]], method: bytes, version: bytes) -> Taken:
    request = h11.Request(method=method, target=b"/c", headers=headers, http_version=version)
    return Taken(stream, request, b"", {}, Deadlines())


def test_a_handshake_is_answered_as_the_standard_says(run: Run) -> None:
    async def main() -> None:
        async with pair() as (near, far):
            await accept_websocket(taken(near, UPGRADE, b"GET", b"1.1"))
            answer = bytes(await far.receive_some()).lower()
        assert answer.startswith(b"http/1.1 101 ")
        assert b"sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=" in answer
        assert b"extensions" not in answer

    run(main)


@pytest.mark.parametrize("missing", [b"Connection", b"Upgrade", b"Sec-WebSocket-Version", b"Sec-WebSocket-Key"])
def test_what_asks_for_no_websocket_is_refused(run: Run, missing: bytes) -> None:
    async def main() -> None:
        async with pair() as (near, _):
            with pytest.raises(PfsError) as caught:
                await accept_websocket(taken(near, [each for each in UPGRADE if each[0] != missing], b"GET", b"1.1"))
            assert caught.value.kind is Kind.INVALID

    run(main)


@pytest.mark.parametrize(("method", "version"), [(b"POST", b"1.1"), (b"GET", b"1.0")])
def test_only_a_get_of_http_1_1_is_upgraded(run: Run, method: bytes, version: bytes) -> None:
    async def main() -> None:
        async with pair() as (near, _):
            with pytest.raises(PfsError):
                await accept_websocket(taken(near, UPGRADE, method, version))

    run(main)


@pytest.mark.parametrize("wrong", [(b"Upgrade", b"tea"), (b"Sec-WebSocket-Version", b"7"), (b"Host", b"\xff")])
def test_a_handshake_that_is_not_proper_is_refused(run: Run, wrong: tuple[bytes, bytes]) -> None:
    async def main() -> None:
        async with pair() as (near, _):
            headers = [wrong if each[0] == wrong[0] else each for each in UPGRADE]
            with pytest.raises(PfsError):
                await accept_websocket(taken(near, headers, b"GET", b"1.1"))

    run(main)


def test_the_head_of_an_answer_is_one_that_others_read() -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(response_head(206, [(b"content-length", b"3")]) + b"abc")
    answer, data = connection.next_event(), connection.next_event()
    assert isinstance(answer, h11.Response)
    assert isinstance(data, h11.Data)
    assert (answer.status_code, answer.reason, data.data) == (206, b"Partial Content", b"abc")
