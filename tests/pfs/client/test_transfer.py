"""Ranges of open files over HTTP, the client's side, against our server and against others."""

import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
import trustme

from pfs.client import exchange
from pfs.client.exchange import ERROR_BYTES_MAX
from pfs.client.transfer import CONNECTIONS, CUTS_MAX, IDLE_MAX_S, Transfer
from pfs.errors import Kind, PfsError
from pfs.protocol.records import Records
from pfs.protocol.wire import RANGE_BYTES_MAX
from pfs.server.guard import Tls
from pfs.server.line import LOOP_PIECE_BYTES, PIECE_BYTES
from tests.pfs.opened import HANDLE, Held, Opened, Stored, opened, sent_in_parts, taken_slowly
from tests.pfs.served import listening
from tests.pfs.world import kind_of

Act = Callable[[Transfer, Opened], Awaitable[None]]


def talk(file: Held, act: Act, token: str = "ann-token") -> None:
    """Let `act` talk to a server that has `file` open."""

    async def main() -> None:
        async with opened(file) as there, Transfer(there.server.url, token) as transfer:
            with trio.fail_after(100):
                await act(transfer, there)

    trio.run(main)


async def refused(call: Awaitable[object]) -> Kind:
    with pytest.raises(PfsError) as caught:
        await call
    return caught.value.kind


@pytest.mark.parametrize(
    ("offset", "size", "expected"),
    [(0, 10, b"0123456789"), (3, 2, b"34"), (8, 5, b"89"), (10, 1, b""), (2**62, 1, b""), (5, 0, b"")],
)
def test_reads_a_range_and_less_only_at_the_end(offset: int, size: int, expected: bytes) -> None:
    async def act(transfer: Transfer, there: Opened) -> None:
        assert await transfer.read(there.secret, HANDLE, offset, size) == expected

    talk(Held(b"0123456789"), act)


def test_reads_and_writes_more_than_goes_into_one_request() -> None:
    file, data = Held(), os.urandom(RANGE_BYTES_MAX + 12345)

    async def act(transfer: Transfer, there: Opened) -> None:
        assert await transfer.write(there.secret, HANDLE, 7, data) == len(data)
        assert file.content == bytes(7) + data
        assert await transfer.read(there.secret, HANDLE, 7, 2 * RANGE_BYTES_MAX) == data

    talk(file, act)


def test_writes_nothing_without_asking() -> None:
    async def act(transfer: Transfer, there: Opened) -> None:
        assert await transfer.write(there.secret, HANDLE, 7, b"") == 0
        assert there.server.began == 0

    talk(Held(), act)


def test_what_was_read_stays_when_more_is_read() -> None:
    async def act(transfer: Transfer, there: Opened) -> None:
        first = await transfer.read(there.secret, HANDLE, 0, 5)
        second = await transfer.read(there.secret, HANDLE, 5, 5)
        assert (first, second) == (b"01234", b"56789")

    talk(Held(b"0123456789"), act)


@pytest.mark.parametrize("kind", [Kind.NO_SPACE, Kind.QUOTA, Kind.IO, Kind.STALE, Kind.NOT_FOUND])
def test_what_the_file_refuses_with_is_raised(kind: Kind) -> None:
    file = Held(b"0123")
    file.refusal = PfsError(kind, "because")

    async def act(transfer: Transfer, there: Opened) -> None:
        with pytest.raises(PfsError, match="because") as caught:
            await transfer.write(there.secret, HANDLE, 0, b"1")
        assert caught.value.kind is kind
        assert await refused(transfer.read(there.secret, HANDLE, 0, 1)) is kind

    talk(file, act)


def test_what_is_not_open_is_a_bad_handle() -> None:
    async def act(transfer: Transfer, there: Opened) -> None:
        assert await refused(transfer.read(there.secret, 1, 0, 1)) is Kind.BAD_HANDLE
        assert await refused(transfer.write("0" * 32, HANDLE, 0, b"1")) is Kind.BAD_HANDLE

    talk(Held(b"0"), act)


def test_a_large_body_that_is_refused_early_tells_why() -> None:
    async def act(transfer: Transfer, there: Opened) -> None:
        for _ in range(3):
            assert await refused(transfer.write(there.secret, 1, 0, bytes(RANGE_BYTES_MAX))) is Kind.BAD_HANDLE

    talk(Held(), act)


def test_a_wrong_token_is_told() -> None:
    async def act(transfer: Transfer, there: Opened) -> None:
        assert await refused(transfer.read(there.secret, HANDLE, 0, 1)) is Kind.UNAUTHENTICATED

    talk(Held(b"0"), act, token="wrong")


def test_a_file_that_shrinks_while_it_is_read_ends_there() -> None:
    file = Held(os.urandom(3 * LOOP_PIECE_BYTES))
    content = bytes(file.content)

    def shrink(offset: int) -> None:
        if offset:
            del file.content[LOOP_PIECE_BYTES + 5 :]

    file.before_read = shrink

    async def act(transfer: Transfer, there: Opened) -> None:
        assert await transfer.read(there.secret, HANDLE, 0, 3 * LOOP_PIECE_BYTES) == content[: LOOP_PIECE_BYTES + 5]

    talk(file, act)


def test_a_file_that_fails_while_it_is_read_tells_why() -> None:
    file = Held(bytes(3 * LOOP_PIECE_BYTES))

    def fail(offset: int) -> None:
        if offset:
            raise PfsError(Kind.IO, "the disk is broken")

    file.before_read = fail

    async def act(transfer: Transfer, there: Opened) -> None:
        assert await refused(transfer.read(there.secret, HANDLE, 0, 3 * LOOP_PIECE_BYTES)) is Kind.IO

    talk(file, act)


def test_many_at_once_get_each_their_own_over_few_connections() -> None:
    file = Held(os.urandom(100_000))

    async def act(transfer: Transfer, there: Opened) -> None:
        async def one(offset: int) -> None:
            assert await transfer.read(there.secret, HANDLE, offset, 900) == file.content[offset : offset + 900]
            assert await transfer.write(there.secret, HANDLE, 200_000 + offset, b"x" * 1000) == 1000

        async with trio.open_nursery() as nursery:
            for offset in range(0, 100_000, 1000):
                nursery.start_soon(one, offset)
        assert file.content[200_000:] == b"x" * 100_000
        assert len(transfer._idle) <= CONNECTIONS

    talk(file, act)


def test_one_connection_serves_one_request_after_the_other() -> None:
    file = Held(b"0123456789")

    async def act(transfer: Transfer, there: Opened) -> None:
        await transfer.read(there.secret, HANDLE, 0, 1)
        (kept,) = transfer._idle
        await transfer.write(there.secret, HANDLE, 0, bytes(LOOP_PIECE_BYTES))
        await transfer.read(there.secret, HANDLE, 0, LOOP_PIECE_BYTES)
        await transfer.read(there.secret, HANDLE, 2**40, 1)
        assert transfer._idle == [kept]

    talk(file, act)


def test_callers_who_are_cancelled_cost_no_connection() -> None:
    file = Held(b"0123456789")

    async def act(transfer: Transfer, there: Opened) -> None:
        file.held_up = trio.Event()
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for _ in range(3 * CONNECTIONS):  # some of them wait for a connection
                    nursery.start_soon(transfer.read, there.secret, HANDLE, 0, 1)
                await there.server.until(began=CONNECTIONS)
                scope.cancel()
        assert scope.cancelled_caught
        file.held_up.set()
        file.held_up = None
        async with trio.open_nursery() as nursery:
            for _ in range(3 * CONNECTIONS):
                nursery.start_soon(transfer.read, there.secret, HANDLE, 0, 1)
        assert 1 <= len(transfer._idle) <= CONNECTIONS

    talk(file, act)


def test_a_server_that_is_not_there_is_unreachable() -> None:
    async def main() -> None:
        listener = (await trio.open_tcp_listeners(0, host="127.0.0.1"))[0]
        port = listener.socket.getsockname()[1]
        await listener.aclose()
        async with Transfer(f"http://127.0.0.1:{port}", "ann-token") as transfer:
            assert await refused(transfer.read("0" * 32, HANDLE, 0, 1)) is Kind.UNREACHABLE
            assert await refused(transfer.write("0" * 32, HANDLE, 0, b"1")) is Kind.UNREACHABLE

    trio.run(main)


def answering(*answers: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """Answer each connection's requests, which have no bodies, with these bytes, and hang up."""

    async def converse(stream: trio.SocketStream) -> None:
        async with stream:
            for answer in answers:
                heard = b""
                while not heard.endswith(b"\r\n\r\n"):
                    data = await stream.receive_some()
                    if not data:
                        return
                    heard += data
                await stream.send_all(answer)

    return converse


def meets(converse: Callable[[trio.SocketStream], Awaitable[None]], act: Callable[[Transfer], Awaitable[None]]) -> None:
    async def main() -> None:
        async with listening(converse) as url, Transfer(url, "ann-token") as transfer:
            with trio.fail_after(100):
                await act(transfer)

    trio.run(main)


def given(offset: int, body: bytes, length: int | None = None, more: str = "") -> bytes:
    told = len(body) if length is None else length
    head = f"HTTP/1.1 206 X\r\ncontent-length: {told}\r\ncontent-range: bytes {offset}-99/*\r\n{more}\r\n"
    return head.encode() + body


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n01",  # the whole file, for all we know
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 301 X\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 404 X\r\ncontent-length: 5\r\n\r\nno. 4",
        b"HTTP/1.1 404 X\r\ncontent-length: 2\r\n\r\n[]",
        b"HTTP/1.1 502 X\r\ncontent-length: 12\r\n\r\n" + b'{"error": 1}',
        b"HTTP/1.1 206 X\r\ncontent-length: 2\r\n\r\n01",
        given(1, b"01"),
        given(0, b"012"),  # more than was asked for
        given(0, b"", length=2**70),
        b"HTTP/1.1 206 X\r\ncontent-length: -1\r\ncontent-range: bytes 0-1/*\r\n\r\n01",
        b"HTTP/1.1 206 X\r\ntransfer-encoding: chunked\r\ncontent-range: bytes 0-1/*\r\n\r\n5\r\n01234\r\n0\r\n\r\n",
        b"HTTP/1.1 500 X\r\ncontent-length: %d\r\n\r\n" % (ERROR_BYTES_MAX + 1),
        b"HTTP/1.1 206 X\r\n" + b"x: y\r\n" * 100_000,
        b"",
        b"HTTP/1.1 20",
    ],
)
def test_what_is_no_answer_is_no_pfs_server(answer: bytes) -> None:
    async def act(transfer: Transfer) -> None:
        assert await refused(transfer.read("0" * 32, HANDLE, 0, 2)) is Kind.UNREACHABLE

    meets(answering(answer), act)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 206 X\r\ntransfer-encoding: chunked\r\ncontent-range: bytes 0-1/*\r\n\r\n2\r\n01\r\n0\r\n\r\n",
        b"HTTP/1.1 103 X\r\n\r\n" + given(0, b"01"),
        b"HTTP/1.0 206 X\r\ncontent-range: bytes 0-1/*\r\n\r\n01",
        given(0, b"01", more="connection: close\r\n"),
    ],
)
def test_an_answer_that_came_through_a_proxy_is_understood(answer: bytes) -> None:
    async def act(transfer: Transfer) -> None:
        assert await transfer.read("0" * 32, HANDLE, 0, 2) == b"01"

    meets(answering(answer), act)


def test_a_connection_that_is_to_be_closed_is_not_kept() -> None:
    async def act(transfer: Transfer) -> None:
        assert await transfer.read("0" * 32, HANDLE, 0, 2) == b"01"
        assert transfer._idle == []

    meets(answering(given(0, b"01", more="connection: close\r\n"), given(0, b"xx")), act)


def test_a_kept_connection_that_the_server_let_go_of_is_no_error() -> None:
    async def act(transfer: Transfer) -> None:
        for _ in range(3):  # each connection is good for one answer
            assert await transfer.read("0" * 32, HANDLE, 0, 2) == b"01"

    meets(answering(given(0, b"01")), act)


def test_a_kept_write_connection_that_the_server_let_go_of_is_no_error() -> None:
    async def converse(stream: trio.SocketStream) -> None:
        async with stream:
            heard = b""
            while not heard.endswith(b"\r\n\r\nab"):
                heard += await stream.receive_some()
            await stream.send_all(b'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n{"size":2}')

    async def act(transfer: Transfer) -> None:
        for _ in range(3):
            assert await transfer.write("0" * 32, HANDLE, 0, b"ab") == 2

    meets(converse, act)


@pytest.mark.parametrize("body", [b'{"size":1}', b'{"size":3}', b'{"size": ', b"[2]", b"{}"])
def test_a_write_that_is_not_confirmed_is_no_success(body: bytes) -> None:
    async def converse(stream: trio.SocketStream) -> None:
        async with stream:
            heard = b""
            while not heard.endswith(b"\r\n\r\nab"):
                heard += await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async def act(transfer: Transfer) -> None:
        assert await refused(transfer.write("0" * 32, HANDLE, 0, b"ab")) is Kind.UNREACHABLE

    meets(converse, act)


def test_an_answer_that_breaks_off_goes_on_on_another_connection() -> None:
    answers = iter([given(0, b"01", length=4), given(2, b"2", length=2), given(3, b"3")])

    async def converse(stream: trio.SocketStream) -> None:
        await answering(next(answers))(stream)

    async def act(transfer: Transfer) -> None:
        assert await transfer.read("0" * 32, HANDLE, 0, 4) == b"0123"

    meets(converse, act)


def test_answers_that_break_off_again_and_again_are_given_up() -> None:
    offsets = iter(range(1000))

    async def converse(stream: trio.SocketStream) -> None:
        offset = next(offsets)
        await answering(given(offset, b"x", length=1000 - offset))(stream)

    async def act(transfer: Transfer) -> None:
        assert await refused(transfer.read("0" * 32, HANDLE, 0, 1000)) is Kind.UNREACHABLE
        assert next(offsets) == CUTS_MAX + 1

    meets(converse, act)


def test_the_request_shows_the_token_the_secret_and_the_range() -> None:
    heard = bytearray()

    async def converse(stream: trio.SocketStream) -> None:
        heard.extend(await stream.receive_some())
        await stream.send_all(given(7, b"01"))

    async def act(transfer: Transfer) -> None:
        await transfer.read("ab" * 16, HANDLE, 7, 2)

    meets(converse, act)
    first, *headers = heard.decode().split("\r\n")
    assert first == f"GET /api/v1/open/{'ab' * 16}/{HANDLE} HTTP/1.1"
    shown = {name.lower(): value for name, _, value in (header.partition(": ") for header in headers)}
    assert shown["range"] == "bytes=7-8"
    assert shown["authorization"] == "Bearer ann-token"


def test_a_connection_that_was_idle_for_long_is_not_used_again() -> None:
    async def act(transfer: Transfer, there: Opened) -> None:
        await transfer.read(there.secret, HANDLE, 0, 1)
        (old,) = transfer._idle
        old.used_s -= IDLE_MAX_S + 1
        await transfer.read(there.secret, HANDLE, 0, 1)
        assert len(transfer._idle) == 1
        assert transfer._idle != [old]

    talk(Held(b"0"), act)


async def silent(stream: trio.SocketStream) -> None:
    async with stream:
        await trio.sleep_forever()


def test_whoever_waits_for_a_silent_server_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "SILENCE_MAX_S", 0.1)
    monkeypatch.setattr(exchange, "TICK_S", 0.02)
    told = []

    async def one(transfer: Transfer, call: Callable[[], Awaitable[object]]) -> None:
        told.append(await refused(call()))

    async def act(transfer: Transfer) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(CONNECTIONS + 1):  # one of each kind waits for a connection
                nursery.start_soon(one, transfer, lambda: transfer.read("0" * 32, HANDLE, 0, 1))
                nursery.start_soon(one, transfer, lambda: transfer.write("0" * 32, HANDLE, 0, bytes(1 << 20)))
        assert transfer._idle == []

    meets(silent, act)
    assert told == [Kind.TIMED_OUT] * 2 * (CONNECTIONS + 1)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, authority = tmp_path_factory.mktemp("keys"), trustme.CA()
    made = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    return folder


@pytest.mark.parametrize("on_disk", [False, True])
def test_over_tls_as_over_plain_sockets(keys: Path, tmp_path: Path, *, on_disk: bool) -> None:
    file, data = Stored(tmp_path / "file") if on_disk else Held(), os.urandom(2 * PIECE_BYTES + 3)

    async def main() -> None:
        tls = Tls(str(keys / "cert.pem"), str(keys / "key.pem"))
        async with opened(file, tls=tls) as there:
            async with Transfer(there.server.url, "ann-token", str(keys / "ca.pem")) as transfer:
                for _ in range(3):
                    assert await transfer.write(there.secret, HANDLE, 0, data[:9], data[9:]) == len(data)
                    assert await transfer.read(there.secret, HANDLE, 0, len(data)) == data
                assert await transfer.read(there.secret, HANDLE, 2**40, 1) == b""
                assert (len(transfer._idle), there.server.began) == (1, 1)
                assert not isinstance(file, Stored) or file.writes == [(0, len(data)), None] * 3 + [None]  # in threads
                assert await refused(transfer.write(there.secret, 1, 0, bytes(1 << 20))) is Kind.BAD_HANDLE
            async with Transfer(there.server.url, "ann-token") as stranger:  # to whom that authority is nobody
                assert await refused(stranger.read(there.secret, HANDLE, 0, 1)) is Kind.UNREACHABLE

    trio.run(main)


def test_over_tls_what_a_thread_could_not_send_is_sent_after_it(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = os.urandom(200_000)
    file, flush = Stored(tmp_path / "file", data), Records.flush

    def stalling(records: Records) -> None:
        if len(records.unsent) > len(data):  # all of the body, and nothing follows it
            raise BlockingIOError
        flush(records)

    monkeypatch.setattr(Records, "flush", stalling)

    async def main() -> None:
        tls = Tls(str(keys / "cert.pem"), str(keys / "key.pem"))
        async with (
            opened(file, tls=tls) as there,
            Transfer(there.server.url, "ann-token", str(keys / "ca.pem")) as transfer,
        ):
            with trio.fail_after(60):
                for _ in range(3):
                    assert await transfer.read(there.secret, HANDLE, 0, len(data)) == data

    trio.run(main)


@asynccontextmanager
async def over_tls(file: Stored, keys: Path) -> AsyncIterator[tuple[Opened, trio.SSLStream[trio.SocketStream]]]:
    """Open a connection to a server with TLS that has `file` open."""
    context = ssl.create_default_context(cafile=str(keys / "ca.pem"))
    async with opened(file, tls=Tls(str(keys / "cert.pem"), str(keys / "key.pem"))) as there:
        plain = await trio.open_tcp_stream("127.0.0.1", there.server.port)
        async with trio.SSLStream(plain, context, server_hostname="127.0.0.1", https_compatible=True) as stream:
            yield there, stream


def test_over_tls_a_reader_who_takes_his_time_gets_all(keys: Path, tmp_path: Path) -> None:
    data = os.urandom(RANGE_BYTES_MAX)
    file = Stored(tmp_path / "file", data)

    async def main() -> None:
        async with over_tls(file, keys) as (there, stream):
            assert await taken_slowly(there, stream, len(data)) == data

    trio.run(main)


def test_over_tls_an_upload_in_parts_is_whole(keys: Path, tmp_path: Path) -> None:
    data = os.urandom(2 * PIECE_BYTES + 77)
    file = Stored(tmp_path / "file")

    async def main() -> None:
        async with over_tls(file, keys) as (there, stream):
            assert (await sent_in_parts(there, stream, data)).startswith(b"HTTP/1.1 200 ")

    trio.run(main)
    assert file.path.read_bytes() == bytes(5) + data


def test_an_authority_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    async def main() -> None:
        async with Transfer("https://127.0.0.1:1", "ann-token", str(tmp_path / "none.pem")) as transfer:
            assert await kind_of(transfer.read("secret", 1, 0, 1)) is Kind.INVALID

    trio.run(main)
