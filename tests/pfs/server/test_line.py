"""Requests with large bodies on a connection of their own, the server's side."""

import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import h11
import pytest
import trio
import trio.testing

from pfs.errors import Kind, PfsError
from pfs.protocol.sockets import Deadlines
from pfs.protocol.wire import RANGE_BYTES_MAX
from pfs.server.line import BODY_RATE_MIN, BODY_SILENCE_S, KEEP_ALIVE_S, LOOP_PIECE_BYTES, PIECE_BYTES, GoneError, Line
from pfs.server.takeover import Taken

MEMORY_BYTES = 64 * 1024
KEPT = ("connection", "pfs-bulk")


def request(method: str = "PUT", size: int | None = 0, *headers: tuple[str, str]) -> h11.Request:
    told = [("host", "x"), *headers] + ([] if size is None else [("content-length", str(size))])
    return h11.Request(method=method, target="/x", headers=told)


def with_line(
    act: Callable[[Line, socket.socket], Awaitable[None]],
    first: h11.Request | None = None,
    early: bytes = b"",
) -> None:
    """Let `act` have a line, and the client's end of it."""

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            async with trio.SocketStream(trio.socket.from_stdlib_socket(ours)) as stream:
                with Line(Taken(stream, first or request(), early, {}, Deadlines())) as line:
                    assert line.direct
                    line.first()
                    with trio.fail_after(60):
                        await act(line, theirs)

    trio.run(main)


def in_memory(act: Callable[[Line, trio.abc.Stream, Deadlines], Awaitable[None]], first: h11.Request) -> None:
    """The same on a stream that is no socket, with a clock that does not wait."""

    async def main() -> None:
        ours, theirs = trio.testing.memory_stream_pair()
        deadlines = Deadlines()
        with Line(Taken(ours, first, b"", {}, deadlines)) as line:  # type: ignore[arg-type]
            assert not line.direct
            line.first()
            await act(line, theirs, deadlines)

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


@pytest.fixture
def fd(tmp_path: Path) -> int:
    return os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)


@pytest.mark.parametrize("offset", [0, 7, MEMORY_BYTES - 1])
@pytest.mark.parametrize("early", [0, 5, MEMORY_BYTES + 3])
def test_a_body_goes_to_the_file(fd: int, offset: int, early: int) -> None:
    body = os.urandom(3 * MEMORY_BYTES + 11)

    async def act(line: Line, theirs: socket.socket) -> None:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * len(body))
        theirs.sendall(body[early:] + b"PUT")
        assert line.receive_into_file(fd, offset, bytearray(MEMORY_BYTES)) == len(body)
        assert line.body_bytes == 0
        assert os.pread(fd, offset + len(body) + 1, 0) == bytes(offset) + body

    with_line(act, request("PUT", len(body)), body[:early])


def test_a_client_who_pauses_holds_no_thread(fd: int) -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        theirs.sendall(b"0123")
        assert line.receive_into_file(fd, 0, bytearray(MEMORY_BYTES)) == 4
        assert line.receive_into_file(fd, 4, bytearray(MEMORY_BYTES)) == 0
        theirs.sendall(b"456789")
        assert await line.receive(6) == b"456789"
        assert (os.pread(fd, 10, 0), line.body_bytes) == (b"0123", 0)

    with_line(act, request("PUT", 10))


def test_a_client_who_leaves_in_a_body_is_gone(fd: int) -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        theirs.sendall(b"0123")
        theirs.shutdown(socket.SHUT_WR)
        line.receive_into_file(fd, 0, bytearray(MEMORY_BYTES))
        with pytest.raises(GoneError):
            line.receive_into_file(fd, 4, bytearray(MEMORY_BYTES))
        with pytest.raises(GoneError):
            await line.receive(6)

    with_line(act, request("PUT", 10))


def test_what_the_file_refuses_with_is_raised(tmp_path: Path) -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        (tmp_path / "file").write_bytes(b"")
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        with pytest.raises(OSError, match="descriptor"):
            line.receive_into_file(fd, 0, bytearray(MEMORY_BYTES))
        os.close(fd)

    with_line(act, request("PUT", 4), b"0123")


def test_bytes_of_a_file_are_sent(fd: int) -> None:
    os.pwrite(fd, b"0123456789", 0)

    async def act(line: Line, theirs: socket.socket) -> None:
        assert line.send_from_file(b"head,", fd, 2, 5) == 5
        assert theirs.recv(100) == b"head,23456"
        assert line.send_from_file(b"head", fd, 0, 0) == 0
        assert theirs.recv(100) == b"head"
        assert line.begun

    with_line(act, request("GET"))


def test_a_file_that_is_shorter_by_now_is_sent_as_far_as_it_goes(fd: int) -> None:
    os.pwrite(fd, b"0123456789", 0)

    async def act(line: Line, theirs: socket.socket) -> None:
        assert line.send_from_file(b"", fd, 2, PIECE_BYTES + 5) == 8

    with_line(act, request("GET"))


def test_a_reader_who_is_slow_holds_no_thread(fd: int) -> None:
    size = 8 * PIECE_BYTES
    os.pwrite(fd, os.urandom(size), 0)

    async def act(line: Line, theirs: socket.socket) -> None:
        sent = line.send_from_file(b"", fd, 0, size)
        assert 0 < sent < size
        heard = bytearray()
        while len(heard) < sent:
            heard += theirs.recv(sent - len(heard))
        assert heard == os.pread(fd, sent, 0)

    with_line(act, request("GET"))


def test_a_reader_who_leaves_is_gone(fd: int) -> None:
    os.pwrite(fd, b"0123456789", 0)

    async def act(line: Line, theirs: socket.socket) -> None:
        theirs.close()
        with pytest.raises(GoneError):
            line.send_from_file(b"head", fd, 0, 10)
        with pytest.raises(GoneError):
            await line.send(b"x")

    with_line(act, request("GET"))


@pytest.mark.parametrize(
    ("first", "kept"),
    [
        (request("PUT", 3, KEPT), True),
        (request("PUT", RANGE_BYTES_MAX, ("connection", "Keep-Alive, PFS-Bulk")), True),
        (request("GET", None, KEPT), True),
        (request("PUT", 3), False),
        (request("PUT", 3, ("connection", "keep-alive")), False),
        (request("GET", 3, KEPT), False),
        (request("PUT", RANGE_BYTES_MAX + 1, KEPT), False),
        (request("PUT", None, KEPT, ("transfer-encoding", "chunked")), False),
    ],
)
def test_only_a_line_for_nothing_else_is_kept(first: h11.Request, *, kept: bool) -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        assert line.kept is kept
        assert (b"connection: close\r\n" in line.head(200, [])) is not kept

    with_line(act, first)


def test_requests_follow_one_another() -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        assert await line.receive(3) == b"abc"
        theirs.sendall(b"PUT /2 HTTP/1.1\r\nhost: x\r\nconnection: pfs-bulk\r\ncontent-length: 2\r\n\r\ndeGE")
        second = await line.next()
        assert second is not None
        assert (second.target, line.kept, await line.receive(2)) == (b"/2", True, b"de")
        theirs.sendall(b"T /3 HTTP/1.1\r\nhost: x\r\n\r\n")
        third = await line.next()
        assert third is not None
        assert (third.target, line.kept) == (b"/3", False)
        theirs.close()
        assert await line.next() is None

    with_line(act, request("PUT", 3, KEPT), b"abc")


def test_requests_follow_one_another_where_bodies_travel_through_the_event_loop() -> None:
    async def act(line: Line, theirs: trio.abc.Stream, deadlines: Deadlines) -> None:
        head = b"PUT /%d HTTP/1.1\r\nhost: x\r\nconnection: pfs-bulk\r\ncontent-length: 2\r\n\r\n"
        await theirs.send_all(b"ab" + head % 2 + b"cd" + head % 3 + b"ef")
        assert await line.receive(2) == b"ab"
        for number, body in ((2, b"cd"), (3, b"ef")):
            found = await line.next()
            assert found is not None
            assert (found.target, await line.receive(2)) == (b"/%d" % number, body)

    in_memory(act, request("PUT", 2, KEPT))


@pytest.mark.parametrize("came", [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", b"GET /" + bytes(20_000), b"GET / HTTP/1.1\r\n\r\n"])
def test_what_is_no_request_ends_the_line(came: bytes) -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        theirs.sendall(came)
        with pytest.raises(PfsError) as caught:
            await line.next()
        assert (caught.value.kind, line.kept) == (Kind.INVALID, False)

    with_line(act, request("PUT", 0, KEPT))


def test_a_line_is_not_kept_for_ever() -> None:
    async def act(line: Line, theirs: trio.abc.Stream, deadlines: Deadlines) -> None:
        began = trio.current_time()
        assert await line.next() is None
        assert trio.current_time() == began + KEEP_ALIVE_S

    in_memory(act, request("PUT", 0, KEPT))


def test_a_server_that_ends_waits_for_no_request() -> None:
    async def act(line: Line, theirs: trio.abc.Stream, deadlines: Deadlines) -> None:
        deadlines.end()
        with trio.fail_after(KEEP_ALIVE_S / 2):
            assert await line.next() is None

    in_memory(act, request("PUT", 0, KEPT))


@pytest.mark.parametrize(
    ("size", "waited_s"),
    [
        (100 * BODY_RATE_MIN, 3 * (BODY_SILENCE_S - 1) + BODY_SILENCE_S),  # nothing more comes
        (10 * BODY_RATE_MIN, BODY_SILENCE_S + 10),  # it only drips
    ],
    ids=["silent", "drips"],
)
def test_a_body_that_falls_silent_or_drips_is_given_up(size: int, waited_s: float) -> None:
    async def act(line: Line, theirs: trio.abc.Stream, deadlines: Deadlines) -> None:
        async with trio.open_nursery() as nursery:

            async def dribble() -> None:
                for _ in range(3):
                    await trio.sleep(BODY_SILENCE_S - 1)
                    await theirs.send_all(b"x")

            nursery.start_soon(dribble)
            began = trio.current_time()
            with pytest.raises(PfsError) as caught:
                await line.receive(size)
            assert caught.value.kind is Kind.TIMED_OUT
            assert trio.current_time() == began + waited_s
            assert not line.kept

    in_memory(act, request("PUT", size, KEPT))


def test_an_answer_lets_the_rest_of_the_body_pass() -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(line.answer, 507, [(b"content-length", b"2")], b"no")
            await trio.testing.wait_all_tasks_blocked()
            assert theirs.recv(1000).startswith(b"HTTP/1.1 507")
            theirs.setblocking(False)
            async with trio.SocketStream(trio.socket.from_stdlib_socket(theirs.dup())) as client:
                await client.send_all(bytes(2 * LOOP_PIECE_BYTES) + b"GET /2 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert line.kept
        found = await line.next()
        assert found is not None
        assert found.target == b"/2"

    with_line(act, request("PUT", 2 * LOOP_PIECE_BYTES, KEPT))


def test_a_body_that_does_not_come_ends_the_line_after_its_answer() -> None:
    async def act(line: Line, theirs: trio.abc.Stream, deadlines: Deadlines) -> None:
        await line.answer(507, [(b"content-length", b"2")], b"no")
        assert not line.kept

    in_memory(act, request("PUT", 10, KEPT))


def test_who_waits_to_be_asked_for_a_body_is_asked() -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        await line.invite()
        await line.invite()
        assert theirs.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert not line.begun

    with_line(act, request("PUT", 3, KEPT, ("expect", "100-continue")))


def test_who_was_not_asked_for_a_body_is_not_waited_for() -> None:
    async def act(line: Line, theirs: socket.socket) -> None:
        await line.answer(403, [(b"content-length", b"2")], b"no")
        assert theirs.recv(1000).startswith(b"HTTP/1.1 403")
        assert not line.kept

    with_line(act, request("PUT", 3, KEPT, ("expect", "100-continue")))
