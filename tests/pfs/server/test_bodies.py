"""Files in bodies of HTTP, on loopback: ranges and streams, uploads whole or not at all, and nothing left open."""

import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import trio
import trio.testing
from starlette.requests import Request
from starlette.types import Message

from pfs.errors import Kind, PfsError
from pfs.server import bodies
from pfs.server.bodies import BODY_SILENCE_S, WHOLE_BYTES_MAX
from tests.pfs.served import request, told, web
from tests.pfs.world import World

Run = Callable[[Callable[[], Awaitable[None]]], None]


RANGES = [
    ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
    ("bytes=4-", 206, b"456789", "bytes 4-9/10"),
    ("bytes=9-9", 206, b"9", "bytes 9-9/10"),
    ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
    ("bytes=-3", 206, b"789", "bytes 7-9/10"),
    ("bytes=-30", 206, b"0123456789", "bytes 0-9/10"),
    ("bytes=10-", 416, b"", "bytes */10"),
    ("bytes=9999999999999999999-", 416, b"", "bytes */10"),
    ("bytes=5-2", 416, b"", "bytes */10"),
    ("bytes=-0", 416, b"", "bytes */10"),
    ("bytes=-", 200, b"0123456789", None),
    ("bytes=a-b", 200, b"0123456789", None),
    ("lines=1-2", 200, b"0123456789", None),
    ("bytes=0-1,3-4", 200, b"0123456789", None),
    ("bytes=0-" + "9" * 5000, 200, b"0123456789", None),
]


def test_a_file_is_given_whole(run: Run, world: World) -> None:
    data = os.urandom(3 * bodies.CHUNK_BYTES + 1)
    (world.path / "home/ann/x").write_bytes(data)

    async def main() -> None:
        async with web(world) as site:
            response = await site.ask("GET", "home/ann/x")
            assert response.content == data
            assert response.headers["content-type"] == "application/octet-stream"
            assert response.headers["content-length"] == str(len(data))
            assert response.headers["accept-ranges"] == "bytes"
            for answer in (response, await site.ask("GET", "home/ann"), await site.ask("GET", "home/nobody/x")):
                assert answer.headers["x-content-type-options"] == "nosniff"
                assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
            assert response.headers["content-disposition"] == "attachment"

    run(main)


def test_a_part_of_a_file_is_given(run: Run, world: World) -> None:
    (world.path / "home/ann/x").write_bytes(b"0123456789")

    async def main() -> None:
        async with web(world) as site:
            for wanted, *expected in RANGES:
                response = await site.ask("GET", "home/ann/x", headers={"range": wanted})
                met = [response.status_code, response.content, response.headers.get("content-range")]
                assert (wanted, met) == (wanted, expected)

    run(main)


def test_of_an_empty_file_there_is_no_part(run: Run, world: World) -> None:
    (world.path / "home/ann/x").touch()

    async def main() -> None:
        async with web(world) as site:
            assert (await site.ask("GET", "home/ann/x")).content == b""
            for wanted in ("bytes=0-", "bytes=-1"):
                response = await site.ask("GET", "home/ann/x", headers={"range": wanted})
                assert (response.status_code, response.headers["content-range"]) == (416, "bytes */0")

    run(main)


def test_head_says_what_get_would(run: Run, world: World) -> None:
    (world.path / "home/ann/x").write_bytes(b"12345")

    async def main() -> None:
        async with web(world) as site:
            for path in ("home/ann/x", "README.txt"):
                head, get = await site.ask("HEAD", path), await site.ask("GET", path)
                assert (head.status_code, head.content) == (200, b"")
                for name in ("content-length", "content-type", "accept-ranges"):
                    assert head.headers[name] == get.headers[name]
            stream = await site.ask("HEAD", "job/log")
            assert "content-length" not in stream.headers
            assert (await site.ask("HEAD", "home/ann/missing")).status_code == 404
            assert world.log.opened == 0

    run(main)


def test_a_stream_is_given_as_it_grows_and_ends_with_its_writer(run: Run, world: World) -> None:
    world.log.change(b"first\n")

    async def main() -> None:
        async with web(world) as site:
            async with site.hear("job/log") as stream:
                assert await stream.receive_some() == b"first\n"
                await world.log.until(waiting=1)
                world.log.change(b"second\n")
                assert await stream.receive_some() == b"second\n"
                await world.log.until(waiting=1)
                world.log.change(b"last\n", done=True)
                assert b"".join([piece async for piece in stream]) == b"last\n"
                await world.log.until(opened=0)
            response = await site.ask("GET", "job/log")
            assert response.content == b"first\nsecond\nlast\n"
            assert "content-length" not in response.headers
            assert response.headers["accept-ranges"] == "none"

    run(main)


@pytest.mark.parametrize("text", [b"", b"so far\n"])
def test_of_a_stream_one_may_have_what_there_is(run: Run, world: World, text: bytes) -> None:
    world.log.change(text)

    async def main() -> None:
        async with web(world) as site:
            response = await site.ask("GET", "job/log?wait=0")
            assert (response.status_code, response.content) == (200, text)
            await world.log.until(opened=0)

    run(main)


def test_a_reader_who_leaves_is_noticed_while_the_stream_is_silent(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world) as site:
            async with site.hear("job/log"):
                await world.log.until(waiting=1, opened=1)
            await world.log.until(waiting=0, opened=0)

    run(main)


def test_a_reader_who_leaves_in_the_middle_leaves_no_descriptor(
    run: Run, world: World, open_files: Callable[[], set[str]]
) -> None:
    with (world.path / "home/ann/x").open("wb") as file:
        file.truncate(1 << 30)
    before = open_files()

    async def main() -> None:
        async with web(world) as site:
            for number in range(3):
                async with site.hear("home/ann/x") as stream:
                    await stream.receive_some()
                await site.server.until(ended=number + 1)
            for wanted in ("bytes=5-2", "bytes=0-" + "9" * 5000, "bytes=0-0"):
                async with site.hear("home/ann/x", f"range: {wanted}"):
                    pass
            await site.server.until(ended=6)
            assert {path for path in open_files() - before if "home/ann" in path} == set()

    run(main)


def test_a_list_tells_one_file_of_each_directory(run: Run, world: World) -> None:
    home = world.path / "home/ann"
    for name in ("a", "b", "c", "d", "e"):
        (home / name).mkdir()
    (home / "a/state").write_bytes(b"RUNNING\n")
    (home / "b/state").write_bytes(b"\xff" * (bodies.EACH_BYTES_MAX + 1))
    (home / "c/state").mkdir()
    (home / "d/state").symlink_to("../a/state")
    (home / "file").touch()

    async def main() -> None:
        async with web(world) as site:
            rows = (await site.ask("GET", "home/ann?each=state")).json()["entries"]
            assert {row["name"]: row.get("each", "none") for row in rows} == {
                "a": "RUNNING\n",
                "b": "\ufffd" * bodies.EACH_BYTES_MAX,
                "c": None,
                "d": None,
                "e": None,
                "file": "none",
            }
            rows = {row["name"]: row for row in (await site.ask("GET", "?each=log")).json()["entries"]}
            assert (rows["job"]["each"], rows["home"]["each"]) == ("", None)
            assert world.log.opened == 0
            assert told(await site.ask("GET", "home/ann?each=../x")) == (400, "invalid")

    run(main)


def test_a_file_is_put_and_replaced_in_one_step(run: Run, world: World) -> None:
    data = os.urandom(3_000_000)
    home = world.path / "home/ann"

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(data), 100_000):
            yield data[start : start + 100_000]

    async def main() -> None:
        async with web(world) as site:
            assert (await site.ask("PUT", "home/ann/x", content=data)).status_code == 204
            assert (home / "x").read_bytes() == data
            old = (home / "x").open("rb")
            assert (await site.ask("PUT", "home/ann/x", content=b"new")).status_code == 204
            assert (home / "x").read_bytes() == b"new"
            assert old.read() == data  # who reads goes on reading what it was
            old.close()
            assert (await site.ask("PUT", "home/ann/x", content=chunks())).status_code == 204
            assert (home / "x").read_bytes() == data
            assert (await site.ask("PUT", "home/ann/empty")).status_code == 204
            assert (await site.ask("PUT", "home/ann/caf%E9", content=b"1")).status_code == 204

    run(main)
    assert sorted(os.listdir(os.fsencode(home))) == [b"caf\xe9", b"empty", b"x"]


@pytest.mark.parametrize("length", ["content-length: 1000", "transfer-encoding: chunked"])
@pytest.mark.parametrize("path", ["home/ann/x", "drops/x.yaml"])
def test_an_upload_that_is_cut_leaves_and_makes_nothing(run: Run, world: World, path: str, length: str) -> None:
    (world.path / "home/ann/x").write_bytes(b"old")

    async def main() -> None:
        async with web(world) as site:
            stream = await trio.open_tcp_stream("127.0.0.1", site.server.port)
            await stream.send_all(request("PUT", path, length).replace(b"1.0", b"1.1") + b"5\r\n12345\r\n")
            await site.server.until(began=1)
            await stream.aclose()
            await site.server.until(ended=1)

    run(main)
    assert os.listdir(world.path / "home/ann") == ["x"]
    assert (world.path / "home/ann/x").read_bytes() == b"old"
    assert world.drops.texts == {}


@pytest.mark.parametrize("path", ["home/ann/x", "drops/x.yaml"])
def test_an_upload_that_falls_silent_is_given_up(
    run: Run, world: World, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SILENCE_S", 0.05)

    async def main() -> None:
        async with web(world) as site, await trio.open_tcp_stream("127.0.0.1", site.server.port) as stream:
            await stream.send_all(request("PUT", path, "content-length: 1000") + b"12345")
            answer = b"".join([piece async for piece in stream])
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b"timed-out" in answer

    run(main)
    assert os.listdir(world.path / "home/ann") == []
    assert world.drops.texts == {}


def come(pieces: list[tuple[float, int]], bytes_max: int = 10**9) -> tuple[int, Kind | None]:
    """How much of a body is taken whose pieces come so many seconds after one another, and what is said of it."""
    left = iter([*pieces, (0, 0)])

    async def receive() -> Message:
        after_s, size = next(left)
        await trio.sleep(after_s)
        return {"type": "http.request", "body": bytes(size), "more_body": size > 0}

    async def main() -> tuple[int, Kind | None]:
        taken = 0
        scope = {"type": "http", "method": "PUT", "path": "/", "headers": [], bodies.BYTES_MAX: bytes_max}
        try:
            async for chunk in bodies.body_of(Request(scope, receive)):
                taken += len(chunk)
                await trio.sleep(60)  # how long we take is not theirs
        except PfsError as error:
            return taken, error.kind
        return taken, None

    return trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_body_may_be_slow_but_neither_silent_nor_drip() -> None:
    assert come([(20, 100_000)] * 9) == (900_000, None)
    assert come([(20, 100_000), (BODY_SILENCE_S + 1, 100_000)]) == (100_000, Kind.TIMED_OUT)
    assert come([(10, 10)] * 9) == (30, Kind.TIMED_OUT)
    assert come([(2 * BODY_SILENCE_S, 1)]) == (0, Kind.TIMED_OUT)


def test_a_body_of_no_told_length_is_counted() -> None:
    assert come([(0, 100)] * 9, bytes_max=900) == (900, None)
    assert come([(0, 100)] * 9, bytes_max=899) == (800, Kind.TOO_LARGE)


def test_an_answer_before_the_body_has_come_says_that_the_connection_ends(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world) as site, await trio.open_tcp_stream("127.0.0.1", site.server.port) as stream:
            length = f"content-length: {2 * WHOLE_BYTES_MAX}"
            await stream.send_all(request("PUT", "drops/x.yaml", length) + bytes(100))
            head, _, _ = b"".join([piece async for piece in stream]).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 413 ")
            assert b"connection: close" in head.lower()

    run(main)


def test_a_text_of_no_or_too_great_length_is_not_taken(run: Run, world: World) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"command: true\n"

    async def main() -> None:
        async with web(world) as site:
            assert told(await site.ask("PUT", "drops/x.yaml", content=chunks())) == (400, "invalid")
            large = bytes(WHOLE_BYTES_MAX + 1)
            assert told(await site.ask("PUT", "drops/x.yaml", content=large)) == (413, "too-large")
            assert (await site.ask("PUT", "drops/x.yaml", content=large[1:])).status_code == 201

    run(main)
