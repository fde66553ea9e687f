"""Clients that mean harm, with a good token: the server's memory stays small, and other clients notice nothing."""

import itertools
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from integration.box import Box, box
from integration.memory import MIB, Memory
from pfs.api import OpenFlags
from pfs.client.connection import connect_channel
from pfs.client.dial import dial
from pfs.client.filesystem import RemoteFileSystem, open_filesystem
from pfs.errors import Kind
from pfs.protocol.frames import Opcode, encode_message
from pfs.protocol.websocket import WebSocketTransport
from pfs.protocol.wire import Answer, Ask, Cancel, Json, decode_frame, encode_frame
from tests.pfs.world import kind_of

SERVER_MIB_MAX = 350  # it is under 300 as long as nobody means harm; without bounds these make it gigabytes
ASKED = 10_000
PUSH_S = 4.0  # for so long a client goes on where it is not listened to
OTHERS_TIMEOUT_S = 60
LARGE, TARGET = "home/demo/large", "home/demo/target"
MASK = b"\0\0\0\0"
Attack = Callable[[WebSocketTransport], Awaitable[None]]


@pytest.fixture(scope="module")
def made() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        owner = os.stat(made.data / "home/demo")
        for path in (made.data / LARGE, made.data / TARGET):
            path.write_bytes(bytes(4 * MIB))
            os.chown(path, owner.st_uid, owner.st_gid)
        yield made


async def push(line: WebSocketTransport, messages: Iterator[bytes]) -> None:
    """Send without ever listening, as far as the server takes it."""
    with trio.move_on_after(PUSH_S):
        try:
            for message in messages:
                await line.send_rest(line.frame(message))
        except (trio.BrokenResourceError, OSError):
            return  # it has had enough


def asks(op: str, args: Json, body: bytes = b"", start: int = 10) -> Iterator[bytes]:
    return (encode_frame(Ask(number, op, args, body)) for number in itertools.count(start))


async def opened(line: WebSocketTransport, path: str, flag: str) -> int:
    """Open a file; return its handle."""
    await line.send_rest(line.frame(encode_frame(Ask(1, "open", {"path": path, "flags": [flag], "mode": 0}))))
    while (message := await line.receive()) is not None:
        frame = decode_frame(message)
        if isinstance(frame, Answer):
            return int(frame.result["handle"])
    raise AssertionError("the server hung up")


async def many_questions(line: WebSocketTransport) -> None:
    await push(line, itertools.islice(asks("getattr", {"path": "home/demo"}), ASKED))


async def answers_that_nobody_takes(line: WebSocketTransport) -> None:
    handle = await opened(line, LARGE, "read")
    await push(line, asks("read", {"handle": handle, "offset": 0, "size": 4 * MIB, "wait": True}))


async def listings_that_nobody_takes(line: WebSocketTransport) -> None:
    await push(line, asks("contents", {"path": "home/demo", "names": ["large"] * 1000, "size_max": 8 * MIB}))


async def large_bodies(line: WebSocketTransport) -> None:
    handle = await opened(line, TARGET, "write")
    await push(line, asks("write", {"handle": handle, "offset": 0}, bytes(15 * MIB)))


async def bodies_that_nobody_wants(line: WebSocketTransport) -> None:
    handle = await opened(line, LARGE, "read")
    await push(line, asks("read", {"handle": handle, "offset": 1 << 40, "size": 1, "wait": True}, bytes(15 * MIB)))


async def large_arguments(line: WebSocketTransport) -> None:
    args = {"path": "home/demo", "rubbish": [[] for _ in range(1_000_000)]}
    await push(line, asks("getattr", args))


async def cancelled_questions(line: WebSocketTransport) -> None:
    questions = asks("listdir", {"path": "home/demo", "after": ""})
    await push(line, (each for number, ask in enumerate(questions, 10) for each in (ask, encode_frame(Cancel(number)))))


async def open_files(line: WebSocketTransport) -> None:
    await push(line, itertools.islice(asks("open", {"path": LARGE, "flags": ["read"], "mode": 0}), ASKED))


async def deep_arguments(line: WebSocketTransport) -> None:
    text = b'{"ask":5,"op":"getattr","args":' + b"[" * 1_000_000
    await push(line, itertools.repeat(len(text).to_bytes(4, "big") + text, 20))


async def empty_parts(line: WebSocketTransport) -> None:
    """A message in very many parts, which are empty: counting them all at each costs minutes."""
    parts = encode_message(Opcode.CONTINUATION, b"", MASK)
    piece = bytes([parts[0] & 0x7F]) + parts[1:]
    first = encode_message(Opcode.BINARY, b"", MASK)
    with trio.move_on_after(PUSH_S):
        try:
            await line.send_rest(bytes([first[0] & 0x7F]) + first[1:])
            await line.send_rest(piece * 400_000)
        except (trio.BrokenResourceError, OSError):
            return


async def wild_numbers(line: WebSocketTransport) -> None:
    wild = ["x", -1, 2**70, 1.5, None, [], {}, True, float("inf")]
    found = [
        encode_frame(Ask(number, op, {"handle": value, "offset": value, "size": value, "wait": value, "path": value}))
        for number, (op, value) in enumerate(itertools.product(("read", "release", "open", "listdir", "bye"), wild), 10)
    ]
    await push(line, iter(found))


async def many_names(line: WebSocketTransport) -> None:
    messages = (encode_frame(Ask(10 + number, "hello", {"mount": f"{number:0>50000}"})) for number in range(200))
    await push(line, messages)


ATTACKS: list[Attack] = [
    many_questions,
    answers_that_nobody_takes,
    listings_that_nobody_takes,
    large_bodies,
    bodies_that_nobody_wants,
    large_arguments,
    cancelled_questions,
    open_files,
    deep_arguments,
    empty_parts,
    wild_numbers,
    many_names,
]


@asynccontextmanager
async def bystander(made: Box) -> AsyncIterator[RemoteFileSystem]:
    """Another client; its questions are answered all the time."""
    async with open_filesystem(made.url, made.token, shortcut=False) as fs, trio.open_nursery() as nursery:

        async def ask() -> None:
            while True:
                with trio.fail_after(OTHERS_TIMEOUT_S):
                    assert (await fs.getattr(LARGE)).size == 4 * MIB
                await trio.sleep(0.05)

        nursery.start_soon(ask)
        yield fs
        with trio.fail_after(OTHERS_TIMEOUT_S):
            assert (await fs.getattr(LARGE)).size == 4 * MIB
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_a_client_that_means_harm_harms_itself_at_most(made: Box, attack: Attack) -> None:
    pid = made.processes["server"].pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")

    async def main() -> None:
        async with bystander(made):
            line = await dial(made.url, made.token, None)
            try:
                await attack(line)
            finally:
                await line.close()

    trio.run(main)
    memory = Memory.of(pid)
    print(attack.__name__, memory)
    assert memory.most < SERVER_MIB_MAX
    assert "Traceback" not in made.log_of("server")
    assert made.processes["server"].poll() is None


def test_nobody_reaches_what_another_one_holds_open_and_nothing_is_released_twice(made: Box) -> None:
    async def silent(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        return {}, b""

    async def main() -> None:
        connect = connect_channel
        async with connect(made.url, made.token, silent) as one, connect(made.url, made.token, silent) as other:
            result, _ = await one.ask("open", {"path": LARGE, "flags": ["read"], "mode": 0})
            handle = {"handle": result["handle"]}
            read = {**handle, "offset": 0, "size": 10, "wait": True}
            assert await kind_of(other.ask("read", read)) is Kind.BAD_HANDLE
            assert await kind_of(other.ask("release", handle)) is Kind.BAD_HANDLE
            assert await kind_of(one.ask("read", read)) is None
            assert await kind_of(one.ask("release", handle)) is None
            assert await kind_of(one.ask("release", handle)) is Kind.BAD_HANDLE

    trio.run(main)


BULK = {
    "no range": b"GET %(path)s HTTP/1.1\r\n%(head)s\r\n",
    "range of nothing": b"GET %(path)s HTTP/1.1\r\n%(head)sRange: bytes=10-5\r\n\r\n",
    "range without end": b"GET %(path)s HTTP/1.1\r\n%(head)sRange: bytes=0-\r\n\r\n",
    "huge range": b"GET %(path)s HTTP/1.1\r\n%(head)sRange: bytes=0-9223372036854775807\r\n\r\n",
    "many ranges": b"GET %(path)s HTTP/1.1\r\n%(head)sRange: bytes=0-1,2-3\r\n\r\n",
    "no length": b"PUT %(path)s?offset=0 HTTP/1.1\r\n%(head)s\r\n",
    "huge length": b"PUT %(path)s?offset=0 HTTP/1.1\r\n%(head)sContent-Length: 99999999999999999999\r\n\r\n",
    "more than was said": b"PUT %(path)s?offset=0 HTTP/1.1\r\n%(head)sContent-Length: 3\r\n\r\nabcdefgh",
    "no offset": b"PUT %(path)s HTTP/1.1\r\n%(head)sContent-Length: 3\r\n\r\nabc",
    "offset below": b"PUT %(path)s?offset=-5 HTTP/1.1\r\n%(head)sContent-Length: 3\r\n\r\nabc",
    "offset beyond": b"PUT %(path)s?offset=99999999999999999999 HTTP/1.1\r\n%(head)sContent-Length: 3\r\n\r\nabc",
    "not open for writing": b"PUT %(path)s?offset=0 HTTP/1.1\r\n%(head)sContent-Length: 3\r\n\r\nabc",
}


@pytest.mark.parametrize("name", BULK)
def test_a_wrong_range_is_refused_and_nothing_is_written(made: Box, name: str) -> None:
    async def main() -> bytes:
        async with open_filesystem(made.url, made.token, shortcut=False) as fs:
            file = await fs.open(LARGE, OpenFlags.READ, 0)
            secret, handle = fs._connection.secret, file._handle  # type: ignore[attr-defined]
            head = f"Host: x\r\nConnection: close\r\nAuthorization: Bearer {made.token}\r\n".encode()
            request = BULK[name] % {b"path": f"/api/v1/open/{secret}/{handle}".encode(), b"head": head}
            return await trio.to_thread.run_sync(heard, made.port, request)

    answer = trio.run(main)
    assert answer.startswith(b"HTTP/1.1 4")
    assert (made.data / LARGE).read_bytes() == bytes(4 * MIB)


def heard(port: int, request: bytes) -> bytes:
    """Return the head of what is answered to a request."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as sock:
        sock.sendall(request)
        return sock.recv(65536)
