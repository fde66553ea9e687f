"""The tree over HTTP, on loopback: files, streams, directories, uploads; who may come in, and what is left behind."""

import itertools
import logging
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx
import pytest
import trio

from pfs import bodies
from pfs.api import Attr, NodeType, OpenFile, OpenFlags
from pfs.bodies import WHOLE_BYTES_MAX
from pfs.errors import Kind
from pfs.perm import Subject
from pfs.routes import STATUS_OF_KIND
from pfs.virtual import File
from tests.pfs.served import DEFECT, Served, datacenter
from tests.pfs.world import World

Run = Callable[[Callable[[], Awaitable[None]]], None]
FILES = "/api/v1/fs"
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # one for all: httpx takes long to make its own


@dataclass
class Web:
    """A server, and somebody who asks it."""

    server: Served
    client: httpx.AsyncClient

    @asynccontextmanager
    async def hear(self, path: str, *headers: str) -> AsyncIterator[trio.SocketStream]:
        """Ask for a file, and hear what comes as it comes; who leaves the block has hung up."""
        async with await trio.open_tcp_stream("127.0.0.1", self.server.port) as stream:
            await stream.send_all(request("GET", path, *headers))
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += await stream.receive_some(1)
            yield stream

    async def ask(self, method: str, path: str, **how: object) -> httpx.Response:
        return await self.client.request(method, f"{FILES}/{path}", **how)  # type: ignore[arg-type]


def request(method: str, path: str, *headers: str) -> bytes:
    """A request in HTTP/1.0: what is answered to that has no frames, and ends with the connection."""
    lines = (f"{method} {FILES}/{path} HTTP/1.0", "host: x", "authorization: Bearer ann-token", *headers, "", "")
    return "\r\n".join(lines).encode()


@asynccontextmanager
async def web(world: World, token: str | None = "ann-token") -> AsyncIterator[Web]:
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    async with (
        datacenter(world) as server,
        httpx.AsyncClient(base_url=server.url, headers=headers, timeout=5, verify=NO_TLS, trust_env=False) as client,
    ):
        yield Web(server, client)


def told(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["kind"]


# ---- who comes in


STRANGERS = ["", "Bearer wrong", "Bearer", "ann-token", "Basic ann-token", "Bearer node-key"]


def test_nobody_comes_in_without_a_users_token(run: Run, world: World) -> None:
    (world.path / "home/ann/x").touch()
    asked = (
        ("GET", "home/ann/x"),
        ("HEAD", "home/ann/x"),
        ("GET", ""),
        ("GET", "missing"),
        ("PUT", "home/ann/y"),
        ("PUT", "drops/y.yaml"),
        ("DELETE", "home/ann/x"),
        ("POST", "home/ann/d?op=mkdir"),
    )

    async def main() -> None:
        async with web(world, None) as site:
            for (method, path), shown in itertools.product(asked, STRANGERS):
                headers = {"authorization": shown} if shown else {}
                response = await site.ask(method, path, headers=headers, content=b"1" if method == "PUT" else None)
                assert (method, path, shown, response.status_code) == (method, path, shown, 401)
                assert response.headers["www-authenticate"] == "Bearer"
                if method != "HEAD":
                    assert told(response) == (401, "unauthenticated")

    run(main)
    assert os.listdir(world.path / "home/ann") == ["x"]
    assert world.drops.texts == {}


def test_a_token_may_be_shown_in_each_usual_way(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world, None) as site:
            for scheme in ("Bearer", "bearer", "Token", "BEARER "):
                headers = {"authorization": f"{scheme} ann-token"}
                assert (await site.ask("GET", "", headers=headers)).status_code == 200

    run(main)


def test_a_foreign_home_looks_like_none(run: Run, world: World) -> None:
    (world.path / "home/bob/x").touch()

    async def main() -> None:
        async with web(world) as site:
            for method, query in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "?op=mkdir")):
                foreign = await site.ask(method, f"home/bob/x{query}")
                absent = await site.ask(method, f"home/nobody/x{query}")
                assert told(foreign) == (404, "not-found")
                assert foreign.json() == absent.json()

    run(main)
    assert (world.path / "home/bob/x").exists()


# ---- files


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
            assert response.headers["x-content-type-options"] == "nosniff"

    run(main)


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


NOT_GIVEN = [
    ("home/ann/missing", 404, "not-found"),
    ("README.txt/x", 409, "not-dir"),
    ("home/ann/%2e%2e/bob", 400, "invalid"),
    ("home/ann/a%00b", 400, "invalid"),
    ("home//ann", 400, "invalid"),
    ("home/ann/" + "x" * 256, 400, "name-too-long"),
    ("home/ann/link", 400, "loop"),
    ("home/ann/link/x", 400, "loop"),
    ("home/ann/fifo", 501, "unsupported"),
]


def test_what_cannot_be_given_is_said(run: Run, world: World) -> None:
    (world.path / "home/ann/link").symlink_to("../bob")
    os.mkfifo(world.path / "home/ann/fifo")

    async def main() -> None:
        async with web(world) as site:
            for path, status, kind in NOT_GIVEN:
                assert (path, *told(await site.ask("GET", path))) == (path, status, kind)

    run(main)


def test_the_trees_own_links_are_followed(run: Run, world: World) -> None:
    (world.path / "shared/d").mkdir()
    for name in ("x", "d/y"):
        (world.path / "shared" / name).write_bytes(b"one\n")

    async def main() -> None:
        async with web(world) as site:
            for path in ("public/x", "public/d/y", "by/17/state", "shared/x"):
                assert (await site.ask("GET", path)).content == b"one\n"

    run(main)


# ---- streams


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


# ---- directories


def test_a_directory_is_a_list(run: Run, world: World) -> None:
    (world.path / "home/ann/d").mkdir()
    (world.path / "home/ann/x").write_bytes(b"12345")
    (world.path / "home/ann" / os.fsdecode(b"caf\xe9")).write_bytes(b"1")

    async def main() -> None:
        async with web(world) as site:
            for path in ("home/ann", "home/ann/"):
                listing = (await site.ask("GET", path)).json()
                assert listing["path"] == "home/ann"
                assert [
                    (row["name"], row["type"], row["size"]) for row in listing["entries"] if row["name"] != "d"
                ] == [
                    ("caf\udce9", "file", 1),
                    ("x", "file", 5),
                ]
            assert next(row["name"] for row in (await site.ask("GET", "")).json()["entries"]) == "README.txt"
            assert (await site.ask("GET", "home/ann/caf%E9")).content == b"1"
            assert (await site.ask("DELETE", "home/ann/caf%E9")).status_code == 204

    run(main)
    assert sorted(os.listdir(world.path / "home/ann")) == ["d", "x"]


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


def test_directories_are_made_and_removed(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world) as site:
            made = await site.ask("POST", "home/ann/d?op=mkdir")
            assert (made.status_code, made.json()["type"]) == (201, "directory")
            assert told(await site.ask("POST", "home/ann/d?op=mkdir")) == (409, "exists")
            assert told(await site.ask("POST", "home/ann/d?op=rmdir")) == (400, "invalid")
            assert told(await site.ask("POST", "home/ann/e")) == (400, "invalid")
            assert told(await site.ask("POST", "public/d?op=mkdir")) == (403, "denied")
            (world.path / "home/ann/d/x").touch()
            assert told(await site.ask("DELETE", "home/ann/d")) == (409, "not-empty")
            for path in ("home/ann/d/x", "home/ann/d"):
                assert (await site.ask("DELETE", path)).status_code == 204
            assert told(await site.ask("DELETE", "home/ann/d")) == (404, "not-found")

    run(main)


def test_what_is_the_servers_is_not_removed(run: Run, world: World) -> None:
    (world.path / "shared/x").touch()

    async def main() -> None:
        async with web(world, "admin-token") as site:
            for path in ("README.txt", "public", "home", "job", "job/log", "home/ann"):
                assert told(await site.ask("DELETE", path)) == (403, "forbidden")
            assert told(await site.ask("DELETE", "public/x")) == (403, "denied")
            assert told(await site.ask("DELETE", "")) == (400, "invalid")

    run(main)


def test_removing_a_link_removes_the_link(run: Run, world: World) -> None:
    (world.path / "home/ann/x").touch()
    (world.path / "home/ann/l").symlink_to("x")

    async def main() -> None:
        async with web(world) as site:
            assert (await site.ask("DELETE", "home/ann/l")).status_code == 204

    run(main)
    assert os.listdir(world.path / "home/ann") == ["x"]


# ---- uploads


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


NOT_PUT = [
    ("home/ann/missing/x", 404, "not-found"),
    ("home/ann/d", 409, "is-dir"),
    ("home/ann", 409, "is-dir"),
    ("home/ann/l/x", 400, "loop"),
    ("shared/x", 403, "denied"),
    ("public/x", 403, "denied"),
    ("home/bob/x", 404, "not-found"),
    ("README.txt", 403, "denied"),
    ("README.txt/x", 409, "not-dir"),
    ("new", 404, "not-found"),
    ("", 400, "invalid"),
    ("home/ann/" + "x" * 256, 400, "name-too-long"),
]


def test_what_cannot_be_put_leaves_nothing(run: Run, world: World) -> None:
    (world.path / "home/ann/d").mkdir()
    (world.path / "home/ann/l").symlink_to("../bob")
    before = sorted(world.path.rglob("*"))

    async def main() -> None:
        async with web(world) as site:
            for path, status, kind in NOT_PUT:
                assert (path, *told(await site.ask("PUT", path, content=b"12345"))) == (path, status, kind)

    run(main)
    assert sorted(world.path.rglob("*")) == before


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


def test_a_text_is_handed_in_and_answered_with_what_came_of_it(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world) as site:
            headers = {"idempotency-key": "k1"}
            response = await site.ask("PUT", "drops/x.yaml", content=b"command: true\n", headers=headers)
            assert (response.status_code, response.json()) == (201, {"path": "jobs/1"})
            assert response.headers["location"] == f"{FILES}/jobs/1"

    run(main)
    assert (world.drops.texts, world.drops.keys) == ({"x.yaml": b"command: true\n"}, ["k1"])


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


def test_commands_are_put(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world) as site:
            assert (await site.ask("PUT", "by/17/ctl", content=b"kill\n")).status_code == 204
            assert told(await site.ask("PUT", "job/ctl", content=b"dance\n")) == (400, "invalid")

    run(main)
    assert world.control.commands == [b"kill\n"]


# ---- what goes wrong


class Broken(File):
    """A defect."""

    async def attr(self, subject: Subject) -> Attr:
        return Attr(NodeType.FILE, 1, 0o444)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        raise RuntimeError("the reason")


def test_a_defect_is_logged_and_told_without_its_reason(
    run: Run, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.root.nodes = {**world.root.nodes, "broken": Broken()}

    async def main() -> None:
        async with web(world) as site:
            for how in ({}, {"headers": {"authorization": f"Bearer {DEFECT}"}}):
                response = await site.ask("GET", "broken", **how)
                assert told(response) == (500, "internal")
                assert "reason" not in response.text
            assert (await site.ask("GET", "README.txt")).status_code == 200

    run(main)
    assert [record.exc_info is not None for record in caplog.records if record.levelno >= logging.ERROR] == [True, True]


def test_an_error_names_its_path_whatever_its_bytes(run: Run, world: World) -> None:
    (world.path / "home/ann" / os.fsdecode(b"caf\xe9")).symlink_to("x")

    async def main() -> None:
        async with web(world) as site:
            response = await site.ask("GET", "home/ann/caf%E9")
            assert told(response) == (400, "loop")
            assert response.json()["error"]["path"] == "home/ann/caf\udce9"

    run(main)


def test_every_kind_has_a_status() -> None:
    assert set(STATUS_OF_KIND) == set(Kind)
    assert all(400 <= status < 600 for status in STATUS_OF_KIND.values())
