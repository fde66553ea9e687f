"""The tree over the network: what a mount sees, what it is told when it cannot connect, and how losses heal."""

import math
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
import trustme
from starlette.applications import Starlette
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, Event, Request, TextMessage

from pfs.api import Attr, Awaited, Changes, Closing, Entry, NodeType, Owner, RenameMode, XattrCall, XattrMode, XattrVerb
from pfs.client import connection, filesystem, openfile
from pfs.client.authority import StrangerError
from pfs.client.connection import connect_channel
from pfs.client.filesystem import SEEN_MAX, TAGGED_MAX, RemoteFileSystem, open_filesystem
from pfs.errors import Kind, PfsError
from pfs.protocol import nearby, websocket
from pfs.protocol.channel import Channel
from pfs.protocol.listing import pack_entry
from pfs.protocol.wire import Ask, Json, encode_attr, encode_frame
from pfs.server.guard import Tls
from pfs.server.session import LOOK_BYTES_MAX, SMALL_BYTES, FileSession
from pfs.tree.texts import SETTLED_VALID_S
from tests.pfs.served import answering, datacenter, listening, machine, served
from tests.pfs.world import ANN, NEW, READ, WRITE, World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]
AN_ATTR = encode_attr(Attr(NodeType.FILE, 1, 0o644))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for a server that comes back at once."""
    monkeypatch.setattr(connection, "RETRY_FIRST_S", 0.002)
    monkeypatch.setattr(connection, "RETRY_MOST_S", 0.01)


async def nothing(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
    raise PfsError(Kind.UNSUPPORTED, f"no {op}")


async def refusal(url: str, token: str = "ann-token", ca: str | None = None) -> PfsError:
    """Try to see the tree; return why not."""
    with pytest.raises(PfsError) as caught:
        async with open_filesystem(url, token, ca):
            pass
    return caught.value


@asynccontextmanager
async def remote(world: World, **how: Any) -> Any:
    async with datacenter(world, **how) as server, open_filesystem(server.url, "ann-token") as fs:
        yield fs


# ---- what a mount sees


async def what_else_there_is(fs: RemoteFileSystem) -> None:
    """With the file `home/ann/d/y`, which stays."""
    made = await fs.mknod("home/ann/d/z", NodeType.SOCKET, 0o600)
    assert (made.type, made.mode) == (NodeType.SOCKET, 0o600)
    await fs.unlink("home/ann/d/z")
    assert (await fs.link("home/ann/d/y", "home/ann/d/z")).nlink == 2
    await fs.setxattr("home/ann/d/y", "user.\udce9", b"\0" * 3000, XattrMode.CREATE)
    assert await kind_of(fs.setxattr("home/ann/d/y", "user.\udce9", b"", XattrMode.CREATE)) is Kind.EXISTS
    assert await fs.listxattr("home/ann/d/z") == ["user.\udce9"]
    assert await fs.getxattr("home/ann/d/z", "user.\udce9") == b"\0" * 3000
    await fs.removexattr("home/ann/d/y", "user.\udce9")
    assert await kind_of(fs.getxattr("home/ann/d/y", "user.\udce9")) is Kind.NO_DATA
    await fs.fsyncdir("home/ann/d")
    file = await fs.open("home/ann/d/z", READ, 0)
    await file.xattr(XattrCall(XattrVerb.SET, "user.\udce9", b"\0value", XattrMode.CREATE))
    assert await file.xattr(XattrCall(XattrVerb.LIST)) == b"user.\xe9\0"
    assert await fs.getxattr("home/ann/d/y", "user.\udce9") == b"\0value"
    await file.xattr(XattrCall(XattrVerb.REMOVE, "user.\udce9"))
    assert await kind_of(file.xattr(XattrCall(XattrVerb.GET, "user.\udce9"))) is Kind.NO_DATA
    await file.release()
    await fs.unlink("home/ann/d/z")
    for mine in (
        fs.mkdir("home/ann/d/o", 0o755, Owner(0, 0)),
        fs.symlink("home/ann/d/o", "x", Owner(0, 0)),
        fs.mknod("home/ann/d/o", NodeType.FILE, 0o644, Owner(0, 0)),
        fs.open("home/ann/d/o", NEW, 0o644, Owner(0, 0)),
        fs.setattr("home/ann/d/y", Changes(uid=0)),
    ):
        assert await kind_of(mine) is Kind.FORBIDDEN
    found = await fs.contents("home/ann/d", ["missing", "y", "l"], 100)
    assert [(each.name, each.attr, each.data) for each in found] == [("y", await fs.getattr("home/ann/d/y"), b"\0\0he")]


def test_all_of_a_file_system_is_there(run: Run, world: World) -> None:
    async def main() -> None:
        async with remote(world) as fs:
            assert (await fs.mkdir("home/ann/d", 0o750)).mode == 0o750
            assert (await fs.symlink("home/ann/d/l", "../x")).type is NodeType.SYMLINK
            assert await fs.readlink("home/ann/d/l") == "../x"
            file = await fs.open("home/ann/d/x\udce9", NEW, 0o640)
            assert (file.attr.type, file.attr.mode) == (NodeType.FILE, 0o640)
            assert await file.write(2, b"hello") == 5
            assert await file.read(0, 100) == b"\0\0hello"
            assert (await file.setattr(Changes(size=4))).size == 4
            await file.flush(Closing.LAST)
            await file.fsync()
            await fs.rename("home/ann/d/x\udce9", "home/ann/d/y", RenameMode.NO_REPLACE)
            assert (await file.getattr()).size == 4
            await file.release()
            assert await kind_of(file.getattr()) is Kind.BAD_HANDLE
            assert (await fs.setattr("home/ann/d/y", Changes(mtime_ns=5))).mtime_ns == 5
            assert [entry.name for entry in await fs.listdir("home/ann/d")] == ["l", "y"]
            assert (await fs.getattr("home/ann/d/y")).size == 4
            assert (await fs.statfs("home/ann")).bytes_total > 0
            assert await kind_of(fs.rmdir("home/ann/d")) is Kind.NOT_EMPTY
            await what_else_there_is(fs)
            await fs.unlink("home/ann/d/y")
            await fs.unlink("home/ann/d/l")
            await fs.rmdir("home/ann/d")
            with pytest.raises(PfsError) as caught:
                await fs.listdir("README.txt")
            assert (caught.value.kind, caught.value.path) == (Kind.NOT_DIR, "README.txt")

    run(main)
    assert os.listdir(world.path / "home/ann") == []


def test_a_long_directory_comes_whole(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfs.server.session.PAGE_BYTES_MAX", 2000)
    names = [f"{number:03}" for number in range(50)]
    for name in names:
        (world.path / "home/ann" / name).touch()

    async def main() -> None:
        async with remote(world) as fs:
            assert [entry.name for entry in await fs.listdir("home/ann")] == names
            assert await fs.listdir("shared") == []

    run(main)


def test_a_token_shows_its_owners_tree(run: Run, world: World) -> None:
    (world.path / "home/bob/x").touch()

    async def main() -> None:
        async with datacenter(world) as server:
            for token, kind in (("ann-token", Kind.NOT_FOUND), ("bob-token", None), ("admin-token", None)):
                async with open_filesystem(server.url, token) as fs:
                    assert await kind_of(fs.getattr("home/bob/x")) is kind

    run(main)


def test_large_pieces_travel_both_ways(run: Run, world: World) -> None:
    data = os.urandom(1024 * 1024 + 1)

    async def main() -> None:
        async with remote(world) as fs:
            file = await fs.open("home/ann/x", NEW, 0o644)
            assert await file.write(0, data) == len(data)
            assert await file.read(0, len(data)) == data
            await file.release()

    run(main)


def test_more_than_a_message_holds_is_refused_and_nothing_else_fails(run: Run, world: World) -> None:
    async def main() -> None:
        async with remote(world) as fs:
            file = await fs.open("home/ann/x", NEW, 0o644)
            assert await kind_of(file.write(0, bytes(17 * 1024 * 1024))) is Kind.TOO_LARGE
            assert await file.write(0, b"less") == 4
            await file.release()

    run(main)


def test_whoever_leaves_has_released_everything(run: Run, world: World, open_files: Callable[[], set[str]]) -> None:
    before = open_files()

    async def main() -> None:
        async with datacenter(world) as server:
            async with open_filesystem(server.url, "ann-token") as fs:
                await fs.open("home/ann/x", NEW, 0o644)
                drop = await fs.open("drops/x.yaml", NEW, 0o644)
                await drop.write(0, b"half")
                await fs.open("job/log", READ, 0)
            await server.until(ended=1)
            assert world.drops.closings == [("x.yaml", Closing.DYING)]
            assert world.log.opened == 0
            assert {path for path in open_files() - before if "home/ann" in path} == set()

    run(main)


# ---- streams


def test_a_read_of_a_stream_waits_longer_than_anything_else(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = trio.Event()

    async def main() -> None:
        async with datacenter(world) as server, open_filesystem(server.url, "ann-token") as fs:
            log = await fs.open("job/log", READ, 0)
            got: list[bytes] = []

            async def read() -> None:
                got.append(await log.read(0, 100))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await world.log.until(waiting=1)
                with monkeypatch.context() as patch:
                    patch.setattr(connection, "DEADLINE_S", 0.05)
                    patch.setattr(fs._connection._channel, "ask", held(fs._connection._channel, "getattr", never))
                    for _ in range(2):  # twice the time that anything else gets
                        assert await kind_of(fs.getattr("")) is Kind.TIMED_OUT
                assert world.log.waiting == 1
                world.log.change(b"line\n")
            assert got == [b"line\n"]
            assert await kind_of(log.read(5, 100, wait=False)) is Kind.WOULD_BLOCK

    run(main)


def test_who_waits_for_another_text_waits_longer_than_anything_else(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = trio.Event()

    async def main() -> None:
        async with datacenter(world) as server, open_filesystem(server.url, "ann-token") as fs:
            state = await fs.open("job/state", READ, 0)
            assert isinstance(state, Awaited)
            assert await state.read(0, 100) == b"one\n"
            assert await kind_of(state.changed(wait=False)) is Kind.WOULD_BLOCK
            async with trio.open_nursery() as nursery:
                nursery.start_soon(state.changed)
                with monkeypatch.context() as patch:
                    patch.setattr(connection, "DEADLINE_S", 0.05)
                    patch.setattr(fs._connection._channel, "ask", held(fs._connection._channel, "getattr", never))
                    for _ in range(2):  # twice the time that anything else gets
                        assert await kind_of(fs.getattr("")) is Kind.TIMED_OUT
                world.change(b"two\n")
            assert await state.read(0, 100) == b"two\n"

    run(main)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Json]:
    """What sessions are asked to read."""
    found: list[Json] = []
    real = FileSession._read

    async def read(self: FileSession, args: Json, body: bytes) -> tuple[Json, bytes]:
        found.append(args)
        return await real(self, args, body)

    monkeypatch.setattr(FileSession, "_read", read)
    return found


def test_who_was_woken_by_another_text_reads_it_without_asking_and_waits_for_the_next(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch, reads: list[Json]
) -> None:
    monkeypatch.setattr(openfile, "NEWS_S", 60.0)

    async def main() -> None:
        async with remote(world) as fs:
            state = await fs.open("job/state", READ, 0)
            assert await state.read(0, 100) == b"one\n"
            for text in (b"two\n", b"three\n"):
                world.change(text)
                await state.changed()
                assert [await state.read(0, 2), await state.read(2, 100)] == [text[:2], text[2:]]
                assert await kind_of(state.changed(wait=False)) is Kind.WOULD_BLOCK
            assert reads == []
            world.change(b"four\n")
            await state.changed()
            world.change(b"five\n")
            assert await state.read(0, 100) == b"four\n"
            await state.changed(wait=False)  # what was read is not what there is
            assert await state.read(0, 100) == b"five\n"
            assert await state.read(0, 100) == b"five\n"
            assert len(reads) == 1, "who was not woken asks"
            world.change(b"four\n")
            await state.changed(wait=False)

    run(main)


def test_news_that_were_not_read_soon_are_none(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openfile, "NEWS_S", 0.0)

    async def main() -> None:
        async with remote(world) as fs:
            state = await fs.open("job/state", READ, 0)
            assert await state.read(0, 100) == b"one\n"
            world.change(b"two\n")
            await state.changed()
            await state.changed(wait=False)  # it was not read by that
            world.change(b"three\n")
            assert await state.read(0, 100) == b"three\n"
            assert await kind_of(state.changed(wait=False)) is Kind.WOULD_BLOCK

    run(main)


def test_a_small_text_comes_with_its_opening_and_anew_when_it_is_read_from_its_beginning(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch, reads: list[Json]
) -> None:
    monkeypatch.setattr(openfile, "NEWS_S", 0.0)

    async def main() -> None:
        async with remote(world) as fs:
            state = await fs.open("job/state", READ, 0)
            await state.changed()  # nothing of it was read yet
            assert [await state.read(0, 2), await state.read(2, 100), await state.read(4, 100)] == [b"on", b"e\n", b""]
            assert await kind_of(state.changed(wait=False)) is Kind.WOULD_BLOCK
            world.change(b"two\n")
            await state.changed()
            assert not reads
            assert await state.read(3, 100) == b"\n"  # of what was opened
            assert await state.read(0, 100) == b"two\n"
            assert len(reads) == 1
            world.change(b"x" * (SMALL_BYTES + 1))
            assert (await (await fs.open("job/state", READ, 0)).read(SMALL_BYTES, 10)) == b"x"
            assert len(reads) == 2

    run(main)


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of every session, but for looks."""
    ops: list[str] = []
    real = FileSession.handle

    async def handle(self: FileSession, op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        ops.extend([op] * (op != "getattr"))
        return await real(self, op, args, body)

    monkeypatch.setattr(FileSession, "handle", handle)
    monkeypatch.setattr(filesystem, "NEWS_S", 60.0)
    return ops


def test_a_text_that_was_looked_at_is_opened_without_asking_once(run: Run, world: World, heard: list[str]) -> None:
    async def main() -> None:
        async with remote(world) as fs:
            attr = await fs.getattr("job/state")
            state = await fs.open("job/state", READ, 0)
            assert [await state.read(0, 2), await state.read(2, 100), await state.read(4, 100)] == [b"on", b"e\n", b""]
            assert state.attr == attr
            await state.release()
            assert heard == []
            await (await fs.open("job/state", READ, 0)).release()
            assert heard == ["open", "release"]

    run(main)


def test_a_text_that_was_looked_at_is_read_anew_from_its_beginning(run: Run, world: World, heard: list[str]) -> None:
    async def main() -> None:
        async with remote(world) as fs:
            await fs.getattr("job/state")
            state = await fs.open("job/state", READ, 0)
            assert await state.read(0, 100) == b"one\n"
            world.change(b"two\n")
            assert await state.read(3, 100) == b"\n"  # of what was looked at
            assert await state.read(0, 100) == b"two\n"
            world.change(b"three\n")
            assert await state.read(0, 100) == b"three\n"
            assert (await state.getattr()).size == 6
            await state.release()
            assert heard == ["reopen", "read", "read", "fgetattr", "release"]

    run(main)


@pytest.mark.parametrize("moved_on", [False, True])
def test_who_looked_at_a_text_is_told_of_another_one(
    run: Run, world: World, heard: list[str], *, moved_on: bool
) -> None:
    async def main() -> None:
        async with remote(world) as fs:
            await fs.getattr("job/state")
            state = await fs.open("job/state", READ, 0)
            await state.changed(wait=False)  # nothing of it was read yet
            assert heard == []
            assert await state.read(0, 100) == b"one\n"
            if moved_on:
                world.change(b"two\n")
            else:
                assert await kind_of(state.changed(wait=False)) is Kind.WOULD_BLOCK
                world.change(b"two\n")
            for _ in range(2):  # it was not read by that
                await state.changed()
            assert await state.read(0, 100) == b"two\n"
            assert await kind_of(state.changed(wait=False)) is Kind.WOULD_BLOCK
            world.change(b"three\n")
            await state.changed()
            assert await state.read(0, 100) == b"three\n"

    run(main)


def test_what_is_no_small_text_of_a_moment_ago_is_opened_by_asking(
    run: Run, world: World, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with remote(world) as fs:
            await fs.open("home/ann/x", NEW, 0o644)
            heard.clear()
            world.change(b"x" * (LOOK_BYTES_MAX + 1))
            for path in ("home/ann/x", "job/log", "job/ctl", "job/state"):
                await fs.getattr(path)
                await fs.open(path, READ, 0)
            world.change(b"short\n")
            await fs.getattr("job/state")
            assert await kind_of(fs.open("job/state", WRITE, 0)) is Kind.DENIED
            monkeypatch.setattr(filesystem, "SEEN_BYTES_MAX", 3)  # whatever the server says
            await fs.getattr("job/state")
            await fs.open("job/state", READ, 0)
            monkeypatch.setattr(filesystem, "SEEN_BYTES_MAX", LOOK_BYTES_MAX)
            monkeypatch.setattr(filesystem, "NEWS_S", 0.0)
            await fs.getattr("job/state")
            await fs.open("job/state", READ, 0)
            assert heard == ["open"] * 7

    run(main)


def test_a_text_that_is_never_another_one_comes_from_the_server_like_other_texts(
    run: Run, world: World, heard: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def elsewhere(*_: object) -> int:
        raise AssertionError("it is on no disk")

    monkeypatch.setattr(nearby, "descriptor", elsewhere)

    async def main() -> None:
        async with remote(world) as fs:
            attr = await fs.getattr("job/spec.yaml")
            assert (attr.settled, attr.leased, attr.valid_s, attr.blocks) == (True, False, SETTLED_VALID_S, 1)
            for asked in ([], ["open"]):  # what was looked at is opened without asking, once
                spec = await fs.open("job/spec.yaml", READ, 0)
                assert (await spec.read(0, 100), spec.attr) == (b"one\n", attr)
                assert heard == asked
            assert await spec.read(0, 100) == b"one\n"
            assert heard == ["open", "read"]

    run(main)


def test_only_so_many_texts_that_were_looked_at_are_kept(run: Run, world: World, heard: list[str]) -> None:
    async def main() -> None:
        async with remote(world) as fs:
            attr, body = await fs.getattr("job/state"), b"one\n"
            for number in range(SEEN_MAX):
                fs._see(str(number), filesystem._Seen(attr, body, math.inf))
            assert list(fs._seen) == [str(number) for number in range(SEEN_MAX)]

    run(main)


def held(channel: Channel, which: str, until: trio.Event) -> Any:
    """Ask like `channel`, but let one kind of question wait."""
    real = channel.ask

    async def ask(op: str, args: Json, body: bytes = b"", *, deadline: float = math.inf) -> tuple[Json, bytes]:
        if op == which:
            with trio.fail_at(deadline):
                await until.wait()
        return await real(op, args, body, deadline=deadline)

    return ask


def test_a_reader_who_is_cancelled_is_cancelled_on_the_server(run: Run, world: World) -> None:
    async def main() -> None:
        async with remote(world) as fs:
            log = await fs.open("job/log", READ, 0)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(log.read, 0, 100)
                await world.log.until(waiting=1)
                nursery.cancel_scope.cancel()
            await world.log.until(waiting=0)
            world.log.change(b"line\n")
            assert await log.read(0, 100) == b"line\n"
            await log.release()
            assert world.log.opened == 0

    run(main)


# ---- no connection at first


def test_no_server_is_said_at_once(run: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"

        async def main() -> None:
            with trio.fail_after(20):
                error = await refusal(url)
            assert error.kind is Kind.UNREACHABLE
            assert url in str(error)
            assert "refused" in str(error)

        run(main)


def test_a_host_that_is_none_is_said(run: Run) -> None:
    async def main() -> None:
        for host in ("no-such-host.invalid", "x" * 64 + ".invalid"):
            assert (await refusal(f"http://{host}:1")).kind is Kind.UNREACHABLE

    run(main)


@pytest.mark.parametrize(
    "url", ["", "localhost:8470", "ftp://h", "http://", "https:///x", "http://[::1", "http://h:port", "http://h:99999"]
)
def test_what_is_no_address_is_said(run: Run, url: str) -> None:
    async def main() -> None:
        error = await refusal(url)
        assert error.kind is Kind.INVALID
        assert repr(url) in str(error)

    run(main)


@pytest.mark.parametrize("token", ["wrong", "", "line\n", "tökén"])
def test_a_wrong_token_is_said(run: Run, world: World, token: str) -> None:
    async def main() -> None:
        async with datacenter(world) as server:
            error = await refusal(server.url, token)
        assert error.kind is Kind.UNAUTHENTICATED
        assert "token" in str(error)

    run(main)


def test_another_web_server_is_said(run: Run) -> None:
    async def main() -> None:
        async with served(Starlette()) as server:
            error = await refusal(server.url)
        assert error.kind is Kind.UNREACHABLE
        assert "is not a pfs server (status 404)" in str(error)

    run(main)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello", "is not a pfs server (status 200)"),
        (b"HTTP/1.1 302 Found\r\nlocation: /login\r\n\r\n", "is not a pfs server (status 302)"),
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 99999999999\r\n\r\n<html>", "is not a pfs server (status 404)"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "is not a pfs server"),
        (b"\0" * 100, "is not a pfs server"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", "is not a pfs server"),
        (b"", "hung up"),
    ],
)
def test_another_kind_of_server_is_said(run: Run, said: bytes, told: str) -> None:
    async def converse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(said)
        await stream.aclose()

    async def main() -> None:
        async with listening(converse) as url:
            error = await refusal(url)
        assert error.kind is Kind.UNREACHABLE
        assert told in str(error)

    run(main)


def test_a_server_that_says_nothing_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.05)
    heard: list[bytes] = []

    async def converse(stream: trio.SocketStream) -> None:
        heard.append(b"".join([piece async for piece in stream]))

    async def main() -> None:
        async with listening(converse) as url:
            error = await refusal(url)
            assert error.kind is Kind.UNREACHABLE
            assert "does not answer" in str(error)
            await trio.testing.wait_all_tasks_blocked(0.01)
        assert heard  # the connection was closed

    run(main)


# ---- TLS


@pytest.fixture
def authority(tmp_path: Path) -> tuple[Tls, str]:
    made = trustme.CA()
    issued = made.issue_cert("127.0.0.1")
    for name, data in (("ca", made.cert_pem), ("cert", issued.cert_chain_pems[0]), ("key", issued.private_key_pem)):
        data.write_to_path(str(tmp_path / name))
    return Tls(str(tmp_path / "cert"), str(tmp_path / "key")), str(tmp_path / "ca")


def test_a_server_that_is_not_there_or_speaks_no_tls_is_told_in_plain_words(run: Run, world: World) -> None:
    async def main() -> None:
        async with datacenter(world) as server:
            error = await refusal(server.url.replace("http", "https"))
            assert str(error).endswith("it does not speak TLS; without TLS an address begins with http://")
        assert str(await refusal(server.url)).endswith(f"{server.url}: Connection refused")

    run(main)


def test_over_tls_the_server_is_asked_who_it_is(run: Run, world: World, authority: tuple[Tls, str]) -> None:
    tls, ca = authority

    async def main() -> None:
        async with datacenter(world, tls=tls) as server:
            async with open_filesystem(server.url, "ann-token", ca) as fs:
                assert (await fs.getattr("")).type is NodeType.DIRECTORY
            error = await refusal(server.url)
            assert isinstance(error, StrangerError)
            assert "its certificate is not trusted: unable to get local issuer certificate; `ca` names" in str(error)
            plain = await refusal(server.url.replace("https", "http"))
            assert plain.kind is Kind.UNREACHABLE

    run(main)


def test_tls_to_a_server_without_is_said(run: Run, world: World) -> None:
    async def main() -> None:
        async with datacenter(world) as server:
            assert (await refusal(server.url.replace("http", "https"))).kind is Kind.UNREACHABLE

    run(main)


def test_an_authority_that_cannot_be_read_is_said(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()

    async def main() -> None:
        for name in ("missing", "empty"):
            error = await refusal("https://127.0.0.1:1", ca=str(tmp_path / name))
            assert error.kind is Kind.INVALID
            assert name in str(error)

    run(main)


# ---- losses


def test_after_a_restart_all_goes_on_but_what_was_open(run: Run, world: World) -> None:
    async def main() -> None:
        async with machine(world) as server, open_filesystem(await server.start(), "ann-token") as fs:
            file = await fs.open("home/ann/x", NEW, 0o644)
            await file.write(0, b"12345")
            for _ in range(2):
                await server.kill()
                await server.start()
                assert (await fs.getattr("home/ann/x")).size == 5
                for lost in (file.read(0, 10), file.write(0, b"6"), file.flush(Closing.LAST), file.getattr()):
                    assert await kind_of(lost) is Kind.BAD_HANDLE
            await file.release()
            again = await fs.open("home/ann/x", WRITE, 0)
            assert await again.read(0, 10) == b"12345"

    run(main)


def test_who_asks_while_the_server_is_away_waits_for_it(run: Run, world: World) -> None:
    async def main() -> None:
        async with machine(world) as server, open_filesystem(await server.start(), "ann-token") as fs:
            await server.kill()
            got: list[NodeType] = []

            async def ask() -> None:
                got.append((await fs.getattr("home/ann")).type)

            async with trio.open_nursery() as nursery:
                for _ in range(10):
                    nursery.start_soon(ask)
                await trio.testing.wait_all_tasks_blocked()
                assert got == []
                await server.start()
            assert got == [NodeType.DIRECTORY] * 10

    run(main)


def test_a_held_read_of_a_stream_ends_when_the_server_forgot_it(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    never = trio.Event()

    async def main() -> None:
        async with machine(world) as server, open_filesystem(await server.start(), "ann-token") as fs:
            log = await fs.open("job/log", READ, 0)

            async def read() -> None:
                assert await kind_of(log.read(0, 100)) is Kind.BAD_HANDLE

            async with trio.open_nursery() as nursery:
                nursery.start_soon(read)
                await world.log.until(waiting=1)
                with monkeypatch.context() as patch:
                    patch.setattr(connection, "DEADLINE_S", 0.05)
                    patch.setattr(fs._connection._channel, "ask", held(fs._connection._channel, "getattr", never))
                    assert await kind_of(fs.getattr("")) is Kind.TIMED_OUT  # the time of a question is over
                await server.kill()
                await server.start()

    run(main)


def test_what_was_open_outlives_the_server_and_its_own_name(run: Run, world: World) -> None:
    async def main() -> None:
        async with machine(world) as server, open_filesystem(await server.start(), "ann-token") as fs:
            named, nameless = await fs.open("home/ann/x", NEW, 0o644), await fs.open("home/ann/y", NEW, 0o644)
            await named.write(0, b"12345")
            await nameless.write(0, b"67890")
            await fs.unlink("home/ann/y")
            await server.kill()
            await server.start()
            assert await kind_of(named.read(0, 9)) is Kind.BAD_HANDLE
            named = await fs.reopen("home/ann/x", named.attr.node_id, WRITE)
            nameless = await fs.reopen("home/ann/y", nameless.attr.node_id, WRITE)
            assert (await named.read(0, 9), await nameless.read(0, 9)) == (b"12345", b"67890")
            assert (await nameless.setattr(Changes(size=2))).nlink == 0
            await nameless.release()
            assert await kind_of(fs.reopen("home/ann/y", nameless.attr.node_id, READ)) is Kind.STALE
            await named.release()

    run(main)


class Losing:
    """Loses the connection on the first question of each kind, after doing what is asked; then answers."""

    def __init__(self, world: World) -> None:
        self._session = FileSession(world.fs(ANN))
        self.asked: list[str] = []

    @asynccontextmanager
    async def __call__(self, identity: object, channel: Callable[[], Channel]) -> Any:
        async def handle(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            self.asked.append(op)
            result = await self._session.handle(op, args, body)
            if self.asked.count(op) == 1:
                await channel().close()
            return result

        yield handle


def test_what_changes_nothing_is_asked_again_and_nothing_else_is(run: Run, world: World) -> None:
    (world.path / "home/ann/x").write_bytes(b"12345")
    (world.path / "home/ann/y").touch()
    (world.path / "home/ann/l").symlink_to("x")
    os.setxattr(world.path / "home/ann/x", "user.a", b"0")
    losing = Losing(world)

    async def main() -> None:
        async with remote(world, conversation=losing) as fs:
            assert (await fs.getattr("home/ann/x")).size == 5
            assert len(await fs.listdir("home/ann")) == 3
            assert await fs.readlink("home/ann/l") == "x"
            assert (await fs.statfs("home/ann")).bytes_total > 0
            assert (await fs.setattr("home/ann/x", Changes(size=3))).size == 3
            file = await fs.open("home/ann/x", READ, 0)
            await fs.setxattr("home/ann/x", "user.a", b"1", XattrMode.REPLACE)
            assert await fs.getxattr("home/ann/x", "user.a") == b"1"
            assert await fs.listxattr("home/ann/x") == ["user.a"]
            assert len(await fs.contents("home/ann", ["x"], 5)) == 1
            reopened = await fs.reopen("home/ann/x", file.attr.node_id, READ)
            again = ["getattr", "listdir", "readlink", "statfs", "setattr", "open"]
            again += ["setxattr", "getxattr", "listxattr", "contents", "reopen"]
            assert losing.asked == [op for op in again for _ in range(2)]
            losing.asked.clear()
            for unsure in (
                fs.mkdir("home/ann/d", 0o755),
                fs.symlink("home/ann/s", "x"),
                fs.mknod("home/ann/p", NodeType.FIFO, 0o644),
                fs.link("home/ann/x", "home/ann/k"),
                fs.removexattr("home/ann/x", "user.a"),
                fs.rename("home/ann/y", "home/ann/z", RenameMode.REPLACE),
                fs.unlink("home/ann/z"),
                fs.rmdir("home/ann/d"),
                fs.open("home/ann/new", NEW, 0o644),
                fs.setxattr("home/ann/x", "user.b", b"1", XattrMode.CREATE),
            ):
                assert await kind_of(unsure) is Kind.UNREACHABLE
            assert losing.asked == (
                ["mkdir", "symlink", "mknod", "link", "removexattr", "rename", "unlink", "rmdir", "open", "setxattr"]
            )
            for each in (file, reopened):
                await each.release()

    run(main)


def test_in_time_there_is_an_answer_or_none(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    left = trio.Event()

    async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        try:
            await trio.sleep_forever()
        finally:
            left.set()
        raise AssertionError

    async def main() -> None:
        async with (
            machine(world, answering(hold)) as server,
            open_filesystem(await server.start(), "ann-token") as fs,
        ):
            monkeypatch.setattr(connection, "DEADLINE_S", 0.05)
            for _ in range(2):
                with trio.fail_after(20), pytest.raises(PfsError, match="did not answer") as caught:
                    await fs.mkdir("home/ann/d", 0o755)
                assert caught.value.kind is Kind.TIMED_OUT
            await left.wait()  # and the server was told that nobody waits
            await server.kill()
            with trio.fail_after(20):
                assert await kind_of(fs.getattr("")) is Kind.TIMED_OUT

    run(main)


def test_to_be_without_connection_is_bounded_for_streams_too(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:

    async def main() -> None:
        async with machine(world) as server, open_filesystem(await server.start(), "ann-token") as fs:
            log = await fs.open("job/log", READ, 0)

            async def read() -> None:
                assert await kind_of(log.read(0, 100)) is Kind.TIMED_OUT

            with trio.fail_after(20):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(read)
                    await world.log.until(waiting=1)
                    monkeypatch.setattr(connection, "DEADLINE_S", 0.05)
                    await server.kill()
                await log.release()

    run(main)


def test_a_server_that_falls_silent_is_left(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "SILENCE_MAX_S", 0.05)

    async def main() -> None:
        async with datacenter(world) as server, open_filesystem(server.url, "ann-token") as fs:
            await server.until(ended=2)
            monkeypatch.setattr(websocket, "SILENCE_MAX_S", 60)
            assert (await fs.getattr("")).type is NodeType.DIRECTORY

    run(main)


def test_pings_keep_a_connection(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "PING_EVERY_S", 0.02)
    monkeypatch.setattr(websocket, "SILENCE_MAX_S", 1)
    monkeypatch.setattr(connection, "DEADLINE_S", 1.5)
    never = trio.Event()

    async def main() -> None:
        async with datacenter(world) as server, open_filesystem(server.url, "ann-token") as fs:
            monkeypatch.setattr(fs._connection._channel, "ask", held(fs._connection._channel, "getattr", never))
            assert await kind_of(fs.getattr("")) is Kind.TIMED_OUT  # longer than silence is borne
            assert (server.began, server.ended) == (1, 0)

    run(main)


def test_whoever_holds_a_tree_gets_its_own_errors_back(run: Run, world: World) -> None:
    async def main() -> None:
        async with datacenter(world) as server:
            with pytest.raises(PfsError, match="mine") as caught:
                async with open_filesystem(server.url, "ann-token"):
                    raise PfsError(Kind.BUSY, "mine")
            assert caught.value.kind is Kind.BUSY

    run(main)


# ---- a server that means harm


@pytest.mark.parametrize(
    ("ask", "result"),
    [
        (lambda fs: fs.getattr("x"), AN_ATTR | {"size": -1}),
        (lambda fs: fs.getattr("x"), AN_ATTR | {"mode": 0o104755}),
        (lambda fs: fs.getattr("x"), {}),
        (lambda fs: fs.readlink("x"), {}),
        (lambda fs: fs.readlink("x"), {"target": "a\0b"}),
        (lambda fs: fs.statfs("x"), {"bytes_free": -1}),
        (lambda fs: fs.listxattr("x"), {}),
        (lambda fs: fs.listxattr("x"), {"names": "user.a"}),
        (lambda fs: fs.listxattr("x"), {"names": ["security.capability"]}),
        (lambda fs: fs.listxattr("x"), {"names": ["user.a\0"]}),
        (lambda fs: fs.listxattr("x"), {"names": [5]}),
        (lambda fs: fs.mknod("x", NodeType.FIFO, 0), {}),
        (lambda fs: fs.link("x", "y"), AN_ATTR | {"uid": -1}),
        (lambda fs: fs.reopen("x", 5, READ), {"attr": AN_ATTR}),
        (lambda fs: fs.open("x", READ, 0), {"attr": AN_ATTR}),
        (lambda fs: fs.open("x", READ, 0), {"handle": "x", "attr": AN_ATTR}),
        (lambda fs: fs.open("x", READ, 0), {"handle": 1}),
        (lambda fs: fs.open("x", READ, 0), {"handle": 1, "attr": AN_ATTR | {"node_id": 0}}),
    ],
)
def test_a_hostile_answer_is_refused(
    run: Run, ask: Callable[[RemoteFileSystem], Awaitable[object]], result: Json
) -> None:
    class Connection:
        async def ask(self, op: str, args: Json, body: bytes = b"", **_: bool) -> tuple[Json, bytes]:
            return result, b""

    connection: Any = Connection()

    async def main() -> None:
        assert await kind_of(ask(RemoteFileSystem(connection))) is Kind.IO

    run(main)


# ---- channels


def speaking(*events: Event) -> Callable[[trio.SocketStream], Awaitable[None]]:
    """A server that says all of this in one piece with its handshake, and then listens."""

    async def converse(stream: trio.SocketStream) -> None:
        ws = WSConnection(ConnectionType.SERVER)
        while not any(isinstance(event, Request) for event in ws.events()):
            ws.receive_data(await stream.receive_some())
        await stream.send_all(b"".join(ws.send(event) for event in (AcceptConnection(), *events)))
        while await stream.receive_some():
            pass

    return converse


def test_a_question_that_comes_with_the_handshake_is_heard(run: Run) -> None:
    """A node is asked as soon as it is there; its answer must not wait for the next ping."""
    heard: list[str] = []

    async def main() -> None:
        asked = trio.Event()

        async def hear(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            heard.append(op)
            if len(heard) == 2:
                asked.set()
            return {}, b""

        said = [BytesMessage(encode_frame(Ask(number, f"q{number}", {}))) for number in (1, 2)]
        async with listening(speaking(*said)) as url, connect_channel(url, "node-key", hear):
            with trio.fail_after(20):
                await asked.wait()
        assert sorted(heard) == ["q1", "q2"]

    run(main)


@pytest.mark.parametrize(
    "event",
    [TextMessage("hello"), BytesMessage(b"rubbish"), BytesMessage(b"\0\0\0\2{}")],
    ids=["text", "bytes", "frame"],
)
def test_a_message_that_is_no_frame_ends_the_channel(run: Run, event: Event) -> None:
    async def main() -> None:
        async with listening(speaking(event)) as url, connect_channel(url, "node-key", nothing) as channel:
            with trio.fail_after(20):
                await channel.closed.wait()

    run(main)


def test_a_message_in_parts_is_one_and_a_part_is_none(run: Run) -> None:
    heard: list[str] = []

    async def main() -> None:
        asked = trio.Event()

        async def hear(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            heard.append(op)
            asked.set()
            return {}, b""

        frame = encode_frame(Ask(1, "whole", {}))
        parts = [BytesMessage(frame[:9], message_finished=False), BytesMessage(frame[9:])]
        async with listening(speaking(*parts)) as url, connect_channel(url, "node-key", hear):
            await asked.wait()
        assert heard == ["whole"]

    run(main)


def test_a_message_without_end_ends_the_channel(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(websocket, "FRAME_BYTES_MAX", 1000)

    async def main() -> None:
        endless = [BytesMessage(bytes(600), message_finished=False)] * 2
        async with listening(speaking(*endless)) as url, connect_channel(url, "node-key", nothing) as channel:
            with trio.fail_after(20):
                await channel.closed.wait()

    run(main)


def test_no_socket_is_left_by_connections_that_fail(run: Run, world: World, authority: tuple[Tls, str]) -> None:
    async def main() -> None:
        async with datacenter(world, tls=authority[0]) as server:
            await refusal(server.url)
            await refusal(server.url, "wrong", authority[1])
            with trio.move_on_after(0.02):
                await refusal(server.url, "wrong", authority[1])

    before = set(os.listdir("/proc/self/fd"))
    run(main)
    assert set(os.listdir("/proc/self/fd")) == before


class Pages:
    """A connection to a server whose directories have several pages, of one name each, and that answers when told."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answering = trio.Event()

    async def ask(self, op: str, args: Json, *, again: bool) -> tuple[Json, bytes]:
        self.asked.append((args["path"], args["after"]))
        await self.answering.wait()
        name = chr(ord(args["after"] or "`") + 1)
        return {"more": name < "d"}, pack_entry(Entry(name, Attr(NodeType.FILE, 1, 0o644)))


class Lister:
    """A server's side of `listdir`: lists of one entry each, under the tags that the test gives it."""

    def __init__(self) -> None:
        self.tag: str | None = None
        self.known: list[object] = []

    async def ask(self, op: str, args: Json, *, again: bool) -> tuple[Json, bytes]:
        self.known.append(args.get("known"))
        if self.tag is not None and args.get("known") == self.tag:
            return {"same": True, "tag": self.tag}, b""
        page = pack_entry(Entry("a", Attr(NodeType.FILE, len(self.known), 0o644)))
        return {"more": False} if self.tag is None else {"more": False, "tag": self.tag}, page


def test_a_listing_that_is_the_same_at_the_server_is_asked_for_by_its_tag_and_shown_again() -> None:
    async def main() -> None:
        server: Any = Lister()
        filesystem = RemoteFileSystem(server)

        async def listed(path: str = "x") -> int:
            return (await filesystem.listdir(path))[0].attr.node_id

        assert [await listed(), await listed()] == [1, 2]
        server.tag = "t"
        first = await filesystem.listdir("x")
        again = await filesystem.listdir("x")
        assert again[0] is first[0]
        assert again is not first
        server.tag = "u"
        assert [await listed(), await listed(), await listed("y")] == [5, 5, 7]
        server.tag = None
        assert [await listed(), await listed()] == [8, 9]
        assert server.known == [None, None, None, "t", "t", "u", None, "u", None]

    trio.run(main)


def test_so_many_listings_are_kept_to_be_shown_again() -> None:
    async def main() -> None:
        server: Any = Lister()
        server.tag = "t"
        filesystem = RemoteFileSystem(server)
        for number in range(TAGGED_MAX + 1):
            await filesystem.listdir(f"d{number}")
        await filesystem.listdir("d1")
        await filesystem.listdir("d0")
        assert server.known[-2:] == ["t", None]

    trio.run(main)


def test_a_server_that_calls_the_same_what_nobody_has_is_not_believed() -> None:
    async def main() -> None:
        server: Any = Lister()

        async def same(op: str, args: Json, *, again: bool) -> tuple[Json, bytes]:
            return {"same": True, "tag": "t"}, b""

        server.ask = same
        assert await RemoteFileSystem(server).listdir("x") == []

    trio.run(main)


def test_of_listings_that_are_long_together_one_goes_on_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfs.client.filesystem.LISTED_MAX", 0)
    listed: list[list[str]] = []

    async def main() -> None:
        pages: Any = Pages()
        filesystem = RemoteFileSystem(pages)

        async def listing(path: str) -> None:
            listed.append([entry.name for entry in await filesystem.listdir(path)])

        async with trio.open_nursery() as nursery:
            for path in ("x", "y", "z"):
                nursery.start_soon(listing, path)
            await trio.testing.wait_all_tasks_blocked()
            assert len(pages.asked) == 3
            pages.answering.set()
        assert len([*groupby(path for path, after in pages.asked if after)]) == 3

    trio.run(main)
    assert listed == [["a", "b", "c", "d"]] * 3


def test_a_long_listing_that_fails_lets_the_next_one_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pfs.client.filesystem.LISTED_MAX", 1)

    async def main() -> None:
        pages: Any = Pages()
        filesystem, answer = RemoteFileSystem(pages), pages.ask
        pages.answering.set()

        async def fail(op: str, args: Json, *, again: bool) -> tuple[Json, bytes]:
            if args["after"] == "b":
                raise PfsError(Kind.IO, "the disk failed")
            return await answer(op, args, again=again)

        pages.ask = fail
        assert await kind_of(filesystem.listdir("x")) is Kind.IO
        pages.ask = answer
        assert len(await filesystem.listdir("x")) == 4

    trio.run(main)
