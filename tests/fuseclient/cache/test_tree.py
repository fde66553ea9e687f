"""What is answered while the server is away, and what is not any more when it has returned."""

import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from fuseclient.cache.blocks import BlockCache
from fuseclient.cache.filesystem import CachedFileSystem
from pfs.api import Changes, Closing, Entry, OpenFlags, RenameMode
from pfs.errors import Kind
from tests.fuseclient.cache.test_coherence import read
from tests.fuseclient.cache.test_filesystem import Server, scenario
from tests.pfs.world import kind_of

READ, WRITE = OpenFlags.READ, OpenFlags.WRITE
LARGE = bytes(range(256)) * 32768


def go_away(server: Server, fs: CachedFileSystem) -> None:
    """Let the server be missed for so long that it is taken for away; whatever it is asked fails."""
    server.heard, server.away = False, True
    fs.lapsed()
    for operation in ("getattr", "listdir", "contents", "open", "read", "readlink", "fgetattr"):
        server.fail(operation, *[Kind.TIMED_OUT] * 20)
    server.asked.clear()


def come_back(server: Server, fs: CachedFileSystem) -> None:
    server.failures.clear()
    fs.returned()
    server.heard, server.away = True, False


async def look_at_all(fs: CachedFileSystem) -> None:
    await fs.listdir("")
    await fs.listdir("d")


@scenario
async def test_what_was_looked_at_is_shown_as_it_was_and_not_for_the_kernel_to_keep(
    server: Server, fs: CachedFileSystem
) -> None:
    await look_at_all(fs)
    size = (await fs.getattr("d/f000")).size
    go_away(server, fs)
    attr = await fs.getattr("d/f000")
    assert (attr.size, attr.valid_s) == (size, 0.0)
    entries = await fs.listdir("d")
    assert len(entries) == 300
    assert {entry.attr.valid_s for entry in entries} == {0.0}
    assert await kind_of(fs.getattr("d/missing")) is Kind.NOT_FOUND
    assert not server.asked


@scenario
async def test_small_files_that_were_read_are_opened_and_read(server: Server, fs: CachedFileSystem) -> None:
    await look_at_all(fs)
    assert await read(fs, "d/f000") == b"text 0"
    go_away(server, fs)
    assert await read(fs, "d/f000") == b"text 0"
    assert not server.asked


@scenario
async def test_what_an_open_file_holds_is_read_and_the_rest_is_asked_for(server: Server, fs: CachedFileSystem) -> None:
    server.put("large", LARGE)
    await fs.listdir("")
    file = await fs.open("large", READ, 0)
    assert await file.read(0, 4096) == LARGE[:4096]
    go_away(server, fs)
    assert (await file.getattr()).size == len(LARGE)
    assert await file.read(0, 4096) == LARGE[:4096]
    assert await kind_of(file.read(len(LARGE) - 4096, 4096)) is Kind.TIMED_OUT


def test_blocks_on_the_local_disk_are_read_wherever_one_begins(tmp_path: Path) -> None:
    async def main(server: Server, fs: CachedFileSystem) -> None:
        with contextlib.closing(BlockCache(str(tmp_path / "cache"), 1 << 30)) as blocks:
            fs.blocks = blocks
            server.put("large", LARGE[: 3 << 20])
            await fs.listdir("")
            file = await fs.open("large", READ, 0)
            for offset in range(0, 3 << 20, 1 << 17):
                await file.read(offset, 1 << 17)
            await file.release()
            await trio.testing.wait_all_tasks_blocked()
            while len(list((tmp_path / "cache").rglob("*,*"))) < 3:
                await trio.to_thread.run_sync(time.sleep, 0.001)
            go_away(server, fs)
            file = await fs.open("large", READ, 0)
            for offset, size in ((1_234_567, 4096), ((1 << 20) - 5, 10), ((3 << 20) - 7, 100)):
                assert await file.read(offset, size) == LARGE[offset : min(offset + size, 3 << 20)]

    scenario(main)()


@scenario
async def test_links_that_were_followed_lead_on(server: Server, fs: CachedFileSystem) -> None:
    await fs.symlink("link", "d/f000")
    await fs.listdir("")
    assert await fs.readlink("link") == "d/f000"
    go_away(server, fs)
    assert await fs.readlink("link") == "d/f000"


@scenario
async def test_what_was_never_looked_at_is_asked_for(server: Server, fs: CachedFileSystem) -> None:
    server.put("e/f", b"text")
    await look_at_all(fs)
    go_away(server, fs)
    for asked in (fs.getattr("e/f"), fs.listdir("e"), read(fs, "d/f299")):
        assert await kind_of(asked) is Kind.TIMED_OUT


@scenario
async def test_what_this_mount_has_changed_is_shown_as_it_has_made_it(server: Server, fs: CachedFileSystem) -> None:
    await look_at_all(fs)
    file = await fs.open("d/f000", WRITE, 0)
    await file.write(0, b"longer than before")
    await file.flush(Closing.LAST)
    await fs.unlink("d/f001")
    go_away(server, fs)
    await file.write(18, b", and longer")
    assert (await fs.getattr("d/f000")).size == (await file.getattr()).size == 30
    assert await kind_of(fs.getattr("d/f001")) is Kind.NOT_FOUND
    assert len(await fs.listdir("d")) == 299
    assert await kind_of(read(fs, "d/f000")) is Kind.TIMED_OUT


@scenario
async def test_what_was_asked_for_before_the_server_went_and_came_later_is_not_kept(
    server: Server, fs: CachedFileSystem
) -> None:
    await look_at_all(fs)
    server.put("e/f", b"text")
    with fs.copies.question() as question:
        attr = await server.getattr("e/f")
        fs.lapsed()
        fs.copies.learn(question, attr, trio.current_time())
    assert fs.copies.last_attr(attr.node_id) is None


@scenario
async def test_when_the_server_returns_everything_is_seen_as_it_is(server: Server, fs: CachedFileSystem) -> None:
    await look_at_all(fs)
    file = await fs.open("d/f000", READ, 0)
    assert await file.read(0, 100) == b"text 0"
    go_away(server, fs)
    assert await file.read(0, 100) == b"text 0"
    server.find("d").children.pop("f001")
    server.append("d/f000", b"!")
    come_back(server, fs)
    assert await file.read(0, 100) == b"text 0!"
    assert (await fs.getattr("d/f000")).size == 7
    assert len(await fs.listdir("d")) == 299
    await fs.setattr("d/f000", Changes(mode=0o600))
    assert (await fs.getattr("d/f000")).mode == 0o600


@scenario
async def test_it_is_logged_once_that_memories_are_told(server: Server, fs: CachedFileSystem) -> None:
    await look_at_all(fs)
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("fuseclient.cache.tree").addHandler(handler)
    try:
        for _ in range(2):
            go_away(server, fs)
            for number in range(5):
                await fs.getattr(f"d/f{number:03d}")
            come_back(server, fs)
            await look_at_all(fs)
    finally:
        logging.getLogger("fuseclient.cache.tree").removeHandler(handler)
    assert len(said) == 2


class Undecided(Server):
    """A server of which it is not known for a while whether it is there or away."""

    def __init__(self) -> None:
        super().__init__()
        self.decided = trio.Event()

    async def look_out(self) -> None:
        await self.decided.wait()


LOOKS: dict[str, Callable[[CachedFileSystem], Awaitable[Any]]] = {
    "getattr": lambda fs: fs.getattr("d/f000"),
    "listdir": lambda fs: fs.listdir("d"),
    "open and read": lambda fs: read(fs, "d/f000"),
}


@pytest.mark.parametrize("look", LOOKS)
def test_before_it_is_known_whether_the_server_is_away_nothing_is_shown(look: str) -> None:
    async def main(_: Server, fs: CachedFileSystem) -> None:
        server = Undecided()
        server.put("d/f000", b"text")
        fs.inner = server
        await look_at_all(fs)
        await read(fs, "d/f000")
        go_away(server, fs)
        server.away = False
        async with trio.open_nursery() as nursery:
            done = []

            async def ask() -> None:
                done.append(await LOOKS[look](fs))

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            assert not done
            server.away = True
            server.decided.set()
        assert done

    main.__name__ = look
    scenario(main)()


def test_an_open_file_waits_too() -> None:
    async def main(_: Server, fs: CachedFileSystem) -> None:
        server = Undecided()
        server.put("d/f000", b"text")
        fs.inner = server
        await look_at_all(fs)
        file = await fs.open("d/f000", READ, 0)
        assert await file.read(0, 10) == b"text"
        go_away(server, fs)
        server.away = False
        with trio.move_on_after(1) as scope:
            await file.read(0, 10)
        assert scope.cancelled_caught
        server.away = True
        server.decided.set()
        assert await file.read(0, 10) == b"text"

    scenario(main)()


@scenario
async def test_a_change_that_cannot_be_made_costs_no_memory(server: Server, fs: CachedFileSystem) -> None:
    await look_at_all(fs)
    go_away(server, fs)
    for operation, change in (
        ("mkdir", fs.mkdir("d/new", 0o755)),
        ("open", fs.open("d/new", WRITE | OpenFlags.CREATE, 0o644)),
        ("unlink", fs.unlink("d/f000")),
        ("rename", fs.rename("d/f001", "d/f002", RenameMode.REPLACE)),
    ):
        server.fail(operation, Kind.TIMED_OUT)
        assert await kind_of(change) is Kind.TIMED_OUT
    assert len(await fs.listdir("d")) == 300


def test_a_defect_in_listing_ahead_is_logged_and_ends_nothing(caplog: pytest.LogCaptureFixture) -> None:
    @scenario
    async def go(server: Server, fs: CachedFileSystem) -> None:
        for number in range(4):
            server.put(f"p{number}/f")
        go_on = fs.inner.listdir

        async def listdir(path: str) -> Sequence[Entry]:
            if path >= "p2":
                raise RuntimeError("a defect")
            return await go_on(path)

        fs.inner.listdir = listdir  # type: ignore[method-assign]
        for path in ("", "p0", "p1"):
            await fs.listdir(path)
        await trio.testing.wait_all_tasks_blocked()
        assert [entry.name for entry in await fs.listdir("p0")] == ["f"]

    with caplog.at_level(logging.ERROR, logger="fuseclient.cache.tree"):
        go()
    assert "listing ahead" in caplog.text
