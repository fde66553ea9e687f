"""Descriptors from the server on the same machine, the client's side: what is no server, and what is not from it."""

import os
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pfs.protocol import nearby
from pfs.protocol.nearby import QUESTION, TIMEOUT_S, name_of, proof

SECRET = "5ec" * 10 + "00"
HANDLE = 77

# given the nonce of a question, what is answered: bytes and descriptors
Answer = Callable[[bytes], tuple[bytes, list[int]]]


@pytest.fixture(autouse=True)
def _no_leak() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd"))
    yield
    assert len(os.listdir("/proc/self/fd")) == before


@asynccontextmanager
async def answering(path: Path, answer: Answer, heard: list[bytes]) -> AsyncIterator[None]:
    """Listen at `path` and answer every question so."""

    async def converse(stream: trio.SocketStream) -> None:
        async with stream:
            question = await stream.receive_some(QUESTION.size)
            heard.append(bytes(question))
            data, fds = answer(QUESTION.unpack(question)[2])
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{len(fds)}i", *fds))
            await stream.socket.sendmsg([data], [rights] if fds else [])
            for fd in fds:
                os.close(fd)

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
        async with trio.open_nursery() as nursery:
            listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
            nursery.start_soon(trio.serve_listeners, converse, [listener])
            yield
            nursery.cancel_scope.cancel()


def given(path: Path, answer: Answer, heard: list[bytes] | None = None) -> int | None:
    async def main() -> int | None:
        async with answering(path / "s", answer, [] if heard is None else heard):
            return await nearby.descriptor(str(path / "s"), SECRET, HANDLE)

    return trio.run(main)


def opened(path: Path, flags: int = os.O_RDONLY) -> int:
    file = path / "data"
    file.touch()
    return os.open(file, flags | os.O_CLOEXEC)


def right(nonce: bytes) -> bytes:
    return proof("give", SECRET, HANDLE, nonce)


def test_a_descriptor_with_the_right_proof_is_taken(tmp_path: Path) -> None:
    fd = given(tmp_path, lambda nonce: (right(nonce), [opened(tmp_path)]))
    assert fd is not None
    os.close(fd)


@pytest.mark.parametrize(
    "forged",
    [
        lambda nonce: bytes(32),
        lambda nonce: b"",
        lambda nonce: right(nonce)[:-1],
        lambda nonce: right(bytes(16)),  # that of another question
        lambda nonce: proof("give", "0" * 32, HANDLE, nonce),
        lambda nonce: proof("give", SECRET, HANDLE + 1, nonce),
        lambda nonce: proof("ask", SECRET, HANDLE, nonce),  # our own, sent back
    ],
)
def test_a_descriptor_without_the_right_proof_is_thrown_away(tmp_path: Path, forged: Callable[[bytes], bytes]) -> None:
    assert given(tmp_path, lambda nonce: (forged(nonce) or b"x", [opened(tmp_path)])) is None


def test_the_right_proof_without_a_descriptor_is_nothing(tmp_path: Path) -> None:
    assert given(tmp_path, lambda nonce: (right(nonce), [])) is None


def test_more_than_one_descriptor_is_nothing(tmp_path: Path) -> None:
    assert given(tmp_path, lambda nonce: (right(nonce), [opened(tmp_path), opened(tmp_path)])) is None
    assert given_many(tmp_path) is None


def given_many(path: Path) -> int | None:
    (path / "s").unlink()
    return given(path, lambda nonce: (right(nonce), [opened(path) for _ in range(20)]))


@pytest.mark.parametrize(
    "lend",
    [
        lambda path: opened(path, os.O_RDWR),
        lambda path: opened(path, os.O_PATH),
        lambda path: os.open(path, os.O_RDONLY | os.O_CLOEXEC),
        lambda path: os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC),
    ],
)
def test_what_is_no_ordinary_file_for_reading_is_thrown_away(tmp_path: Path, lend: Callable[[Path], int]) -> None:
    assert given(tmp_path, lambda nonce: (right(nonce), [lend(tmp_path)])) is None


def test_the_secret_is_not_sent(tmp_path: Path) -> None:
    heard: list[bytes] = []
    assert given(tmp_path, lambda nonce: (b"x", []), heard) is None
    (question,) = heard
    assert len(question) == QUESTION.size
    assert SECRET.encode() not in question
    assert bytes.fromhex(SECRET.replace("s", "a")) not in question
    assert question.startswith(name_of(SECRET))


def test_no_two_questions_are_the_same(tmp_path: Path) -> None:
    heard: list[bytes] = []

    async def main() -> None:
        async with answering(tmp_path / "s", lambda nonce: (b"x", []), heard):
            for _ in range(2):
                assert await nearby.descriptor(str(tmp_path / "s"), SECRET, HANDLE) is None

    trio.run(main)
    assert len(set(heard)) == 2


def left_behind(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path / "old"))
    return str(path / "old")


def a_file(path: Path) -> str:
    (path / "file").touch()
    return str(path / "file")


@pytest.mark.parametrize(
    "where",
    [
        lambda path: str(path / "none"),
        lambda path: str(path / "none/deep/s"),
        lambda path: str(path / "x" / ("y" * 300)),
        str,
        lambda path: f"{a_file(path)}/s",
        lambda path: f"{path}/\0",
        lambda path: "",
        a_file,
        left_behind,
    ],
)
def test_where_nobody_listens_is_nothing(tmp_path: Path, where: Callable[[Path], str]) -> None:
    assert trio.run(nearby.descriptor, where(tmp_path), SECRET, HANDLE) is None


@pytest.mark.parametrize("accepting", [True, False])
def test_whoever_does_not_answer_is_not_waited_for(tmp_path: Path, accepting: bool) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "s"))
            sock.listen(0)
            began = trio.current_time()
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    if accepting:
                        nursery.start_soon(_accept_and_wait, sock)
                    assert await nearby.descriptor(str(tmp_path / "s"), SECRET, HANDLE) is None
                    assert trio.current_time() - began == TIMEOUT_S
                    scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.2))


async def _accept_and_wait(sock: socket.socket) -> None:
    listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
    async with await listener.accept():
        await trio.sleep_forever()


def test_a_caller_who_is_cancelled_leaves_nothing_open(tmp_path: Path) -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind(str(tmp_path / "s"))
            sock.listen()
            with trio.move_on_after(1) as scope:
                await nearby.descriptor(str(tmp_path / "s"), SECRET, HANDLE)
            assert scope.cancelled_caught

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.2))


def test_names_tell_sessions_apart_and_roles_tell_proofs_apart() -> None:
    nonce = bytes(16)
    assert name_of(SECRET) != name_of("0" * 32)
    assert len(name_of(SECRET)) == 16
    proofs = {proof(role, SECRET, handle, nonce) for role in ("ask", "give") for handle in (1, 2)}
    assert len(proofs) == 4
