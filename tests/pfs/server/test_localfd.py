"""Descriptors of open files for mounts on the same machine, the server's side, over real Unix sockets."""

import fcntl
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trio.testing

from pfs.errors import Kind, PfsError
from pfs.protocol import nearby
from pfs.protocol.nearby import NONCE_BYTES, QUESTION, name_of, proof
from pfs.server import localfd
from pfs.server.localfd import CONNECTIONS_MAX, QUESTION_TIMEOUT_S
from tests.pfs.opened import Held

SECRET = "5ec" * 10 + "00"
HANDLE = 2**62 + 5


class Lent(Held):
    """An open file that lends what `lend` gives."""

    def __init__(self, lend: Callable[[], int | None]) -> None:
        super().__init__()
        self._lend = lend

    async def descriptor(self) -> int | None:
        await trio.lowlevel.checkpoint()
        return self._lend()


class Place:
    """A folder with a socket and a file that a session of one server holds open."""

    def __init__(self, folder: Path) -> None:
        self.socket = str(folder / "files.sock")
        self.path = folder / "data"
        self.path.write_bytes(b"0123456789")
        self.file: Held = Lent(self.for_reading)

    def for_reading(self) -> int:
        return os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)

    def named(self, name: bytes) -> tuple[str, Callable[[int], Held | None]] | None:
        return (SECRET, {HANDLE: self.file}.get) if name == name_of(SECRET) else None


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """What a test leaves open is a leak."""
    before = descriptors()
    yield Place(tmp_path)
    assert descriptors() == before


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@asynccontextmanager
async def serving(place: Place) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(lambda task_status: localfd.serve(place.socket, place.named, task_status=task_status))
        yield
        nursery.cancel_scope.cancel()


def at(place: Place, act: Callable[[], Awaitable[None]], clock: trio.abc.Clock | None = None) -> None:
    async def main() -> None:
        async with serving(place):
            await act()

    trio.run(main, clock=clock)


async def nothing_for(place: Place, secret: str = SECRET, handle: int = HANDLE) -> None:
    assert await nearby.descriptor(place.socket, secret, handle) is None


def test_the_file_is_given_for_reading_alone(place: Place) -> None:
    async def act() -> None:
        fd = await nearby.descriptor(place.socket, SECRET, HANDLE)
        assert fd is not None
        try:
            assert os.pread(fd, 4, 3) == b"3456"
            assert os.path.samestat(os.fstat(fd), os.stat(place.path))
            assert fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
            assert not os.get_inheritable(fd)
        finally:
            os.close(fd)

    at(place, act)


def test_many_descriptors_are_given_at_once_and_none_is_lost(place: Place) -> None:
    async def act() -> None:
        async def one() -> None:
            fd = await nearby.descriptor(place.socket, SECRET, HANDLE)
            assert fd is not None
            os.close(fd)

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(one)

    at(place, act)


def test_a_file_without_a_name_is_given_all_the_same(place: Place) -> None:
    held = place.for_reading()
    place.file = Lent(lambda: os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_CLOEXEC))
    place.path.unlink()

    async def act() -> None:
        fd = await nearby.descriptor(place.socket, SECRET, HANDLE)
        assert fd is not None
        assert os.pread(fd, 10, 0) == b"0123456789"
        os.close(fd)

    try:
        at(place, act)
    finally:
        os.close(held)


@pytest.mark.parametrize(("secret", "handle"), [("0" * 32, HANDLE), (SECRET, 1), (SECRET, 0), (SECRET, 2**63)])
def test_what_is_not_open_is_not_given(place: Place, secret: str, handle: int) -> None:
    at(place, lambda: nothing_for(place, secret, handle))


def test_what_lends_nothing_is_not_given(place: Place) -> None:
    place.file = Held(b"0123")
    at(place, lambda: nothing_for(place))


def test_what_has_nothing_to_lend_is_not_given(place: Place) -> None:
    place.file = Lent(lambda: None)
    at(place, lambda: nothing_for(place))


def test_a_file_that_refuses_is_not_given(place: Place) -> None:
    def refuse() -> int:
        raise PfsError(Kind.BAD_HANDLE, "closed meanwhile")

    place.file = Lent(refuse)
    at(place, lambda: nothing_for(place))


def raising() -> int:
    raise RuntimeError("the reason")


@pytest.mark.parametrize(
    "lend",
    [
        lambda place: os.open(place.path, os.O_RDWR | os.O_CLOEXEC),
        lambda place: os.open(place.path, os.O_WRONLY | os.O_CLOEXEC),
        lambda place: os.open(place.path, os.O_PATH | os.O_CLOEXEC),
        lambda place: os.open(place.path.parent, os.O_RDONLY | os.O_CLOEXEC),
        lambda place: raising(),
    ],
)
def test_a_defect_gives_nothing_away_and_ends_nothing(
    place: Place, lend: Callable[[Place], int], caplog: pytest.LogCaptureFixture
) -> None:
    async def act() -> None:
        place.file = Lent(lambda: lend(place))
        await nothing_for(place)
        await trio.testing.wait_all_tasks_blocked()
        assert "defect" in caplog.text
        place.file = Lent(place.for_reading)
        fd = await nearby.descriptor(place.socket, SECRET, HANDLE)
        assert fd is not None
        os.close(fd)

    at(place, act)


NONCE = bytes(NONCE_BYTES)
RIGHT = (name_of(SECRET), HANDLE, NONCE, proof("ask", SECRET, HANDLE, NONCE))


@pytest.mark.parametrize(
    "question",
    [
        QUESTION.pack(*RIGHT[:3], bytes(32)),
        QUESTION.pack(*RIGHT[:3], proof("ask", "0" * 32, HANDLE, NONCE)),
        QUESTION.pack(*RIGHT[:3], proof("give", SECRET, HANDLE, NONCE)),
        QUESTION.pack(RIGHT[0], HANDLE + 1, *RIGHT[2:]),
        QUESTION.pack(*RIGHT[:2], b"x" * NONCE_BYTES, RIGHT[3]),
        QUESTION.pack(*RIGHT)[:-1],
        b"",
        b"GET / HTTP/1.1\r\n\r\n" * 100,
    ],
)
def test_without_a_proof_the_connection_just_ends(place: Place, question: bytes) -> None:
    async def act() -> None:
        async with await trio.open_unix_socket(place.socket) as stream:
            await stream.send_all(question)
            await stream.send_eof()
            try:
                data, ancillary, _, _ = await stream.socket.recvmsg(100, 100)
            except ConnectionResetError:  # what it did not read is answered with a reset
                return
            assert (data, ancillary) == (b"", [])

    at(place, act)


def test_whoever_asks_nothing_is_not_listened_to_for_ever(place: Place) -> None:
    async def act() -> None:
        async with await trio.open_unix_socket(place.socket) as stream:
            await stream.send_all(QUESTION.pack(*RIGHT)[:-1])
            began = trio.current_time()
            assert await stream.receive_some(1) == b""
            assert trio.current_time() - began >= QUESTION_TIMEOUT_S

    at(place, act, trio.testing.MockClock(autojump_threshold=0.2))


def test_a_crowd_that_asks_nothing_is_sent_away(place: Place) -> None:
    async def act() -> None:
        crowd = [await trio.open_unix_socket(place.socket) for _ in range(CONNECTIONS_MAX)]
        async with await trio.open_unix_socket(place.socket) as stream:
            assert await stream.receive_some(1) == b""
        for each in crowd:
            await each.aclose()

    at(place, act)


def test_everybody_may_connect(place: Place) -> None:
    async def act() -> None:
        info = os.stat(place.socket)
        assert stat.S_ISSOCK(info.st_mode)
        assert stat.S_IMODE(info.st_mode) == 0o666

    at(place, act)


def test_nothing_is_left_behind(place: Place, tmp_path: Path) -> None:
    async def act() -> None:
        assert sorted(os.listdir(tmp_path)) == ["data", "files.sock"]

    at(place, act)
    assert os.listdir(tmp_path) == ["data"]


def test_what_a_killed_server_left_is_replaced(place: Place) -> None:
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(place.socket)

    async def act() -> None:
        fd = await nearby.descriptor(place.socket, SECRET, HANDLE)
        assert fd is not None
        os.close(fd)

    at(place, act)


def test_the_socket_of_a_successor_is_left_alone(place: Place) -> None:
    async def act() -> None:
        os.unlink(place.socket)
        os.mkdir(place.socket)

    at(place, act)
    assert os.path.exists(place.socket)


def test_a_path_longer_than_a_socket_address_will_do(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    place = Place(deep)

    async def act() -> None:
        fd = await nearby.descriptor(place.socket, SECRET, HANDLE)
        assert fd is not None
        os.close(fd)

    at(place, act)


def test_a_folder_that_is_not_there_is_told(place: Place, tmp_path: Path) -> None:
    async def main() -> None:
        with pytest.raises(PfsError, match="none/files") as caught:
            await localfd.serve(str(tmp_path / "none/files.sock"), place.named)
        assert caught.value.kind is Kind.INVALID

    trio.run(main)
