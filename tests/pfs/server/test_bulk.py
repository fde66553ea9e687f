"""Ranges of open files over HTTP, the server's side."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
import trio.testing

from pfs.errors import Kind, PfsError
from pfs.protocol.nearby import name_of
from pfs.protocol.wire import KEPT_FOR_BULK, RANGE_BYTES_MAX
from pfs.server.bulk import AT_ONCE_MAX
from pfs.server.line import LOOP_PIECE_BYTES, PIECE_BYTES
from tests.pfs.opened import HANDLE, HANG_S, Held, Opened, Stored, opened, sent_in_parts, taken_slowly
from tests.pfs.served import NO_TLS, told
from tests.pfs.world import ANN, BOB

ANN_SHOWS = {"authorization": "Bearer ann-token"}


@asynccontextmanager
async def asking(file: Held) -> AsyncIterator[tuple[Opened, httpx.AsyncClient]]:
    async with (
        opened(file) as there,
        httpx.AsyncClient(
            base_url=there.server.url, headers=ANN_SHOWS, timeout=30, verify=NO_TLS, trust_env=False
        ) as client,
    ):
        yield there, client


def ask(file: Held, method: str, where: Callable[[str], str] = str, **how: object) -> httpx.Response:
    """Ask once; `where` makes of the open file's address what is asked for."""

    async def main() -> httpx.Response:
        async with asking(file) as (there, client):
            return await client.request(method, where(there.path), **how)  # type: ignore[arg-type]

    return trio.run(main)


def ranged(first: int, last: int) -> dict[str, str]:
    return {"range": f"bytes={first}-{last}"}


def test_a_range_is_given_exactly() -> None:
    answer = ask(Held(b"0123456789"), "GET", headers=ranged(2, 5))
    assert (answer.status_code, answer.content) == (206, b"2345")
    assert answer.headers["content-range"] == "bytes 2-5/*"


def test_a_range_over_the_end_ends_there() -> None:
    answer = ask(Held(b"0123456789"), "GET", headers=ranged(8, 99))
    assert (answer.status_code, answer.content) == (206, b"89")


@pytest.mark.parametrize("first", [10, 11, 2**62])
def test_at_the_end_and_behind_it_is_nothing(first: int) -> None:
    answer = ask(Held(b"0123456789"), "GET", headers=ranged(first, first))
    assert (answer.status_code, answer.content) == (416, b"")


@pytest.mark.parametrize("size", [LOOP_PIECE_BYTES - 1, LOOP_PIECE_BYTES, LOOP_PIECE_BYTES + 1, RANGE_BYTES_MAX])
@pytest.mark.parametrize("beyond", [0, 1])
def test_a_range_of_many_pieces_is_whole(size: int, beyond: int) -> None:
    content = os.urandom(size)
    answer = ask(Held(b"x" + content), "GET", headers=ranged(1, min(size + beyond, RANGE_BYTES_MAX)))
    assert (answer.status_code, answer.content == content) == (206, True)


def test_a_file_that_gives_less_at_a_time_is_given_whole() -> None:
    file = Held(os.urandom(2 * LOOP_PIECE_BYTES))
    file.most = LOOP_PIECE_BYTES // 3
    assert ask(file, "GET", headers=ranged(0, len(file.content) - 1)).content == file.content


def test_a_file_that_grows_meanwhile_is_given_as_far_as_was_asked() -> None:
    file = Held(bytes(LOOP_PIECE_BYTES))
    file.before_read = lambda offset: file.content.extend(b"y" * 10)
    assert len(ask(file, "GET", headers=ranged(0, LOOP_PIECE_BYTES + 4)).content) == LOOP_PIECE_BYTES + 5


def read_cut(file: Held) -> None:
    """Ask for three pieces, and expect that the answer ends with the first."""
    told_in = f"received {LOOP_PIECE_BYTES} bytes, expected {3 * LOOP_PIECE_BYTES}"

    async def main() -> None:
        async with asking(file) as (there, client):
            with pytest.raises(httpx.RemoteProtocolError, match=told_in):
                await client.get(there.path, headers=ranged(0, 3 * LOOP_PIECE_BYTES - 1))

    trio.run(main)


def cut_at(file: Held, offset: int) -> None:
    def cut(at: int) -> None:
        if at >= offset:
            del file.content[offset:]

    file.before_read = cut


def test_a_file_that_shrinks_while_it_is_sent_cuts_the_answer() -> None:
    file = Held(bytes(3 * LOOP_PIECE_BYTES))
    cut_at(file, LOOP_PIECE_BYTES)
    read_cut(file)


def test_a_file_that_fails_while_it_is_sent_cuts_the_answer() -> None:
    file = Held(bytes(3 * LOOP_PIECE_BYTES))

    def fail(offset: int) -> None:
        if offset:
            raise PfsError(Kind.IO, "the disk is broken")

    file.before_read = fail
    read_cut(file)


def test_a_body_is_written_where_it_was_said() -> None:
    file = Held(b"0123456789")
    answer = ask(file, "PUT", "{}?offset=8".format, content=b"abcd")
    assert (answer.status_code, answer.json()) == (200, {"size": 4})
    assert file.content == b"01234567abcd"


def test_a_large_body_is_written_whole() -> None:
    file, data = Held(), os.urandom(RANGE_BYTES_MAX)
    assert ask(file, "PUT", "{}?offset=3".format, content=data).json() == {"size": len(data)}
    assert file.content == bytes(3) + data


def test_nothing_is_written_at_once() -> None:
    file = Held(b"0")
    assert ask(file, "PUT", "{}?offset=5".format, content=b"").json() == {"size": 0}
    assert file.content == b"0"


@pytest.mark.parametrize("method", ["GET", "PUT"])
@pytest.mark.parametrize(("kind", "status"), [(Kind.NO_SPACE, 507), (Kind.QUOTA, 507), (Kind.IO, 500)])
def test_what_the_file_refuses_with_is_told(method: str, kind: Kind, status: int) -> None:
    file = Held(b"0")
    file.refusal = PfsError(kind, "because")
    answer = ask(file, method, "{}?offset=0".format, headers=ranged(0, 0), content=b"1")
    assert told(answer) == (status, kind)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_defect_is_told_without_its_text(method: str, caplog: pytest.LogCaptureFixture) -> None:
    file = Held(b"0")
    file.refusal = RuntimeError("the reason")  # type: ignore[assignment]
    answer = ask(file, method, "{}?offset=0".format, headers=ranged(0, 0), content=b"1")
    assert told(answer) == (500, Kind.INTERNAL)
    assert "the reason" not in answer.text
    assert "the reason" in caplog.text


@pytest.mark.parametrize(
    "header", ["", "bytes=0-", "bytes=-1", "bytes=1-0", "bytes=0-1,3-4", "lines=0-1", f"bytes=0-{2**63}", "bytes=٣-٤"]
)
def test_a_range_without_both_ends_is_refused(header: str) -> None:
    answer = ask(Held(b"0123456789"), "GET", headers={"range": header.encode()})
    assert told(answer) == (400, Kind.INVALID)


def test_more_than_the_most_is_not_given() -> None:
    answer = ask(Held(b"0"), "GET", headers=ranged(0, RANGE_BYTES_MAX))
    assert told(answer) == (413, Kind.TOO_LARGE)


def test_more_than_the_most_is_not_taken() -> None:
    file = Held(b"0")
    answer = ask(file, "PUT", "{}?offset=0".format, content=bytes(RANGE_BYTES_MAX + 1))
    assert told(answer) == (413, Kind.TOO_LARGE)
    assert file.content == b"0"


def test_a_body_of_unknown_length_is_not_taken() -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"1"

    answer = ask(Held(b"0"), "PUT", "{}?offset=0".format, content=body())
    assert told(answer) == (400, Kind.INVALID)


@pytest.mark.parametrize("query", ["", "?offset=", "?offset=-1", "?offset=x", f"?offset={2**63}"])
def test_a_body_without_an_offset_is_not_taken(query: str) -> None:
    answer = ask(Held(b"0"), "PUT", ("{}" + query).format, content=b"1")
    assert told(answer) == (400, Kind.INVALID)


def test_a_stream_has_no_ranges() -> None:
    answer = ask(Held(b"0", stream=True), "GET", headers=ranged(0, 0))
    assert told(answer) == (409, Kind.UNSUPPORTED)


def test_another_method_is_told_which_ones_there_are() -> None:
    file = Held(b"0")
    answer = ask(file, "POST", content=b"1")
    assert (*told(answer), answer.headers["allow"]) == (405, Kind.UNSUPPORTED, "GET, PUT")
    assert file.content == b"0"


def other_handle(path: str) -> str:
    return path.replace(str(HANDLE), "7")


def other_session(path: str) -> str:
    return path.replace("/open/", "/open/0")


def no_number(path: str) -> str:
    return path.replace(str(HANDLE), "x7")


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (other_handle, (409, Kind.BAD_HANDLE)),
        (other_session, (409, Kind.BAD_HANDLE)),
        (no_number, (400, Kind.INVALID)),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_what_is_not_open_is_not_there(method: str, where: Callable[[str], str], expected: tuple[int, Kind]) -> None:
    answer = ask(Held(b"0"), method, lambda path: f"{where(path)}?offset=0", headers=ranged(0, 0), content=b"1")
    assert told(answer) == expected


@pytest.mark.parametrize(
    ("token", "expected"),
    [
        ("bob-token", (409, Kind.BAD_HANDLE)),  # as if there were no such session
        ("admin-token", (409, Kind.BAD_HANDLE)),
        ("node-key", (401, Kind.UNAUTHENTICATED)),
        ("wrong", (401, Kind.UNAUTHENTICATED)),
    ],
)
@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_the_secret_alone_opens_nothing(method: str, token: str, expected: tuple[int, Kind]) -> None:
    file = Held(b"0")

    async def main() -> httpx.Response:
        async with asking(file) as (there, client):
            await client.get(there.path, headers=ranged(0, 0))  # its owner was here before
            shown = {**ranged(0, 0), "authorization": f"Bearer {token}"}
            return await client.request(method, f"{there.path}?offset=0", headers=shown, content=b"1")

    assert told(trio.run(main)) == expected
    assert file.content == b"0"


def test_without_a_token_a_session_is_not_even_denied() -> None:
    answer = ask(Held(b"0"), "GET", other_session, headers={**ranged(0, 0), "authorization": ""})
    assert told(answer) == (401, Kind.UNAUTHENTICATED)


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_token_that_was_taken_back_opens_no_session_that_it_opened_before(method: str) -> None:
    file = Held(b"0")

    async def main() -> list[httpx.Response]:
        async with asking(file) as (there, client):

            async def ask_again(token: str) -> httpx.Response:
                shown = {**ranged(0, 0), "authorization": f"Bearer {token}"}
                return await client.request(method, f"{there.path}?offset=0", headers=shown, content=b"0")

            before = await ask_again("ann-token")
            await there.take_back("ann-token")
            return [before, await ask_again("ann-token"), await ask_again("ann-other")]

    before, after, other = trio.run(main)
    assert before.is_success
    assert told(after) == (401, Kind.UNAUTHENTICATED)
    assert other.is_success


def test_a_range_that_is_being_given_is_cut_when_its_token_is_taken_back() -> None:
    file = Held(bytes(3 * LOOP_PIECE_BYTES))

    def hold(offset: int) -> None:
        file.held_up = trio.Event() if offset else None

    file.before_read = hold

    async def main() -> None:
        last = len(file.content) - 1
        async with (
            asking(file) as (there, client),
            client.stream("GET", there.path, headers=ranged(0, last)) as answer,
        ):
            await there.take_back("ann-token")
            with pytest.raises(httpx.RemoteProtocolError), trio.fail_after(HANG_S):
                await answer.aread()

    trio.run(main)


def test_an_upload_whose_token_is_taken_back_is_refused_and_its_connection_ended() -> None:
    file = Held(b"0")

    async def main() -> bytes:
        async with opened(file) as there:
            head = f"PUT {there.path}?offset=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ann-token\r\n"
            head += f"connection: {KEPT_FOR_BULK.decode()}\r\n"
            async with await trio.open_tcp_stream("127.0.0.1", there.server.port) as stream:
                await stream.send_all(f"{head}content-length: 10\r\n\r\n12345".encode())
                await there.server.until(began=1)
                await trio.testing.wait_all_tasks_blocked()
                await there.take_back("ann-token")
                with trio.fail_after(HANG_S):
                    return b"".join([bytes(part) async for part in stream])

    answer = trio.run(main)
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"connection: close" in answer
    assert file.content == b"0"


def test_a_session_that_has_ended_is_not_there() -> None:
    async def main() -> httpx.Response:
        async with asking(Held(b"0")) as (there, client):
            assert (await client.get(there.path, headers=ranged(0, 0))).status_code == 206
            there.sessions.unregister(there.secret)
            there.sessions.unregister(there.secret)
            assert there.sessions.named(name_of(there.secret)) is None
            return await client.get(there.path, headers=ranged(0, 0))

    assert told(trio.run(main)) == (409, Kind.BAD_HANDLE)


def test_every_session_has_its_own_secret_and_files() -> None:
    async def main() -> None:
        async with opened(Held()) as there:
            other = Held()
            secret = there.sessions.register(BOB, {1: other}.get)
            assert len(secret) == 32
            assert secret != there.secret != there.sessions.register(ANN, {}.get)
            found = there.sessions.named(name_of(secret))
            assert found is not None
            assert found[0] == secret
            assert (found[1](1), found[1](HANDLE)) == (other, None)

    trio.run(main)


def test_one_session_is_served_so_much_at_once_and_no_more() -> None:
    file = Held(b"0")

    async def main() -> None:
        async with asking(file) as (there, client):
            file.held_up = trio.Event()
            answers: list[int] = []

            async def one() -> None:
                answers.append((await client.get(there.path, headers=ranged(0, 0))).status_code)

            async with trio.open_nursery() as nursery:
                for _ in range(AT_ONCE_MAX + 3):
                    nursery.start_soon(one)
                await there.server.until(began=AT_ONCE_MAX + 3)
                file.held_up.set()
            assert answers == [206] * (AT_ONCE_MAX + 3)

    trio.run(main)
    assert file.reading_most <= AT_ONCE_MAX


def test_an_upload_that_breaks_off_ends_its_call() -> None:
    file = Held(b"0")

    async def main() -> None:
        async with opened(file) as there:
            stream = await trio.open_tcp_stream("127.0.0.1", there.server.port)
            head = f"PUT {there.path}?offset=0 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ann-token\r\n"
            await stream.send_all(f"{head}content-length: 10\r\n\r\n12345".encode())
            await there.server.until(began=1)
            await stream.aclose()
            with trio.fail_after(60):
                await there.server.until(ended=1)

    trio.run(main)
    assert file.content in (b"0", b"12345")


@pytest.mark.parametrize(
    ("first", "last", "status", "expected"),
    [(2, 5, 206, b"2345"), (8, 99, 206, b"89"), (10, 10, 416, b""), (2**62, 2**62, 416, b"")],
)
def test_a_range_of_the_disk_is_given_exactly(
    tmp_path: Path, first: int, last: int, status: int, expected: bytes
) -> None:
    file = Stored(tmp_path / "file", b"0123456789")
    answer = ask(file, "GET", headers=ranged(first, last))
    assert (answer.status_code, answer.content, file.writes) == (status, expected, [None])


def test_bodies_of_the_disk_are_whole(tmp_path: Path) -> None:
    file, data = Stored(tmp_path / "file"), os.urandom(RANGE_BYTES_MAX - 5)

    async def main() -> None:
        async with asking(file) as (there, client):
            answer = await client.put(f"{there.path}?offset=3", content=data)
            assert (answer.status_code, answer.json()) == (200, {"size": len(data)})
            assert file.path.read_bytes() == bytes(3) + data
            assert (await client.get(there.path, headers=ranged(3, len(data) + 2))).content == data

    trio.run(main)
    assert file.writes == [(3, len(data)), None]


def test_what_the_disk_refuses_with_is_told(tmp_path: Path) -> None:
    file = Stored(tmp_path / "file")
    file.fd = os.open("/dev/full", os.O_RDWR)
    answer = ask(file, "PUT", "{}?offset=0".format, content=bytes(3 * PIECE_BYTES))
    assert told(answer) == (507, Kind.NO_SPACE)


def test_a_reader_who_takes_his_time_gets_all(tmp_path: Path) -> None:
    data = os.urandom(RANGE_BYTES_MAX)
    file = Stored(tmp_path / "file", data)

    async def main() -> None:
        async with opened(file) as there, await trio.open_tcp_stream("127.0.0.1", there.server.port) as stream:
            assert await taken_slowly(there, stream, len(data)) == data

    trio.run(main)


def test_an_upload_in_parts_is_whole(tmp_path: Path) -> None:
    data = os.urandom(2 * PIECE_BYTES + 77)
    file = Stored(tmp_path / "file")

    async def main() -> None:
        async with opened(file) as there, await trio.open_tcp_stream("127.0.0.1", there.server.port) as stream:
            assert (await sent_in_parts(there, stream, data)).startswith(b"HTTP/1.1 200 ")

    trio.run(main)
    assert file.path.read_bytes() == bytes(5) + data
