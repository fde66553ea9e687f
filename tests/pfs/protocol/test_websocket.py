"""A WebSocket at either end: the handshake, what it carries, and how it notices that nobody is there."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from pfs.protocol import websocket
from pfs.protocol.frames import FrameReader, Message, Opcode, encode_message
from pfs.protocol.websocket import WebSocketTransport

Run = Callable[[Callable[[], Awaitable[None]]], None]
KEY = b"\0\1\2\3"


@asynccontextmanager
async def pair() -> AsyncIterator[tuple[trio.SocketStream, trio.SocketStream]]:
    one, other = trio.socket.socketpair()
    async with trio.SocketStream(one) as near, trio.SocketStream(other) as far:
        yield near, far


async def send(transport: WebSocketTransport, *messages: bytes) -> None:
    for message in messages:
        data = transport.frame(message)
        await transport.send_rest(data[transport.send_now(data) :])


def test_messages_go_both_ways_also_large_ones(run: Run) -> None:
    async def main() -> None:
        async with pair() as (near, far), trio.open_nursery() as nursery:
            client, server = WebSocketTransport(near, dialled=True), WebSocketTransport(far, dialled=False)
            large = bytes(range(256)) * 8000
            nursery.start_soon(send, client, large)
            assert await server.receive() == large
            nursery.start_soon(send, server, large, b"")
            assert await client.receive() == large
            assert await client.receive() == b""

    run(main)


def test_what_came_with_the_handshake_is_the_first_message(run: Run) -> None:
    async def main() -> None:
        async with pair() as (near, _):
            early = encode_message(Opcode.BINARY, b"one", None) + encode_message(Opcode.BINARY, b"two", None)
            transport = WebSocketTransport(near, dialled=True, early=early)
            assert [await transport.receive(), await transport.receive()] == [b"one", b"two"]

    run(main)


def test_a_ping_is_answered(run: Run) -> None:
    async def main() -> None:
        async with pair() as (near, far), trio.open_nursery() as nursery:
            transport = WebSocketTransport(near, dialled=False)
            nursery.start_soon(transport.receive)
            await far.send_all(encode_message(Opcode.PING, b"you?", KEY))
            data = await transport.pulse()
            assert data is not None
            assert FrameReader(masked=False, bytes_max=10).feed(data) == [Message(Opcode.PONG, b"you?")]
            nursery.cancel_scope.cancel()

    run(main)


def test_the_server_asks_and_takes_long_silence_for_death(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING_EVERY_S", 0.02)
    monkeypatch.setattr(websocket, "SILENCE_MAX_S", 0.5)

    async def main() -> None:
        async with pair() as (near, _):
            transport = WebSocketTransport(near, dialled=False)
            asked = 0
            while (data := await transport.pulse()) is not None:
                assert FrameReader(masked=False, bytes_max=10).feed(data) == [Message(Opcode.PING, b"")]
                asked += 1
            assert asked > 0

    run(main)


def test_whoever_answers_pings_is_not_dead(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING_EVERY_S", 0.01)
    monkeypatch.setattr(websocket, "SILENCE_MAX_S", 5)

    async def main() -> None:
        async with pair() as (near, far), trio.open_nursery() as nursery:
            server, client = WebSocketTransport(near, dialled=False), WebSocketTransport(far, dialled=True)
            nursery.start_soon(client.receive)
            nursery.start_soon(server.receive)
            for _ in range(5):
                ping = await server.pulse()
                assert ping is not None
                await server.send_rest(ping)
                pong = await client.pulse()
                assert pong is not None
                await client.send_rest(pong)
            nursery.cancel_scope.cancel()

    run(main)


@pytest.mark.parametrize(
    ("said", "code"),
    [
        (b"\x82\x01x", websocket.CLOSE_WRONG),
        (encode_message(Opcode.BINARY, bytes(11), KEY), websocket.CLOSE_TOO_LARGE),
        (encode_message(Opcode.TEXT, b"text", KEY), websocket.CLOSE_NORMAL),
        (encode_message(Opcode.CLOSE, b"", KEY), websocket.CLOSE_NORMAL),
    ],
    ids=["no frame", "too large", "text", "goodbye"],
)
def test_what_is_not_to_be_said_ends_it_and_the_other_end_is_told(
    run: Run, monkeypatch: pytest.MonkeyPatch, said: bytes, code: int
) -> None:
    monkeypatch.setattr(websocket, "FRAME_BYTES_MAX", 10)

    async def main() -> None:
        async with pair() as (near, far):
            transport = WebSocketTransport(near, dialled=False)
            await far.send_all(said)
            assert await transport.receive() is None
            await transport.close()
            told = b"".join([bytes(piece) async for piece in far])
            closing = Message(Opcode.CLOSE, code.to_bytes(2, "big"))
            assert FrameReader(masked=False, bytes_max=10).feed(told) == [closing]

    run(main)


def test_a_closed_one_neither_sends_nor_receives(run: Run) -> None:
    async def main() -> None:
        async with pair() as (near, _):
            transport = WebSocketTransport(near, dialled=True)
            await transport.close()
            await transport.close()
            assert await transport.receive() is None
            with pytest.raises(trio.ClosedResourceError):
                transport.send_now(b"x")

    run(main)
