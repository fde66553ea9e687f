"""Open files with a cache on the local disk: what random reads bring there, and when they bring nothing."""

import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from unittest import mock

import pytest
import trio
import trio.testing

from fuseclient.cache import scatter
from fuseclient.cache.blockindex import BLOCK_BYTES
from fuseclient.cache.blocks import BlockCache
from fuseclient.cache.file import CachedFile
from fuseclient.cache.filesystem import CachedFileSystem
from pfs.api import Closing, OpenFlags
from tests.fuseclient.cache.test_coherence import leasing
from tests.fuseclient.cache.test_filesystem import Server
from tests.memoryfs import MemoryFile

READ, WRITE = OpenFlags.READ, OpenFlags.WRITE
PAGE, BLOCKS = 4096, 12
DATA = random.Random(1).randbytes(BLOCK_BYTES) * BLOCKS
PLACES = [number * BLOCK_BYTES + 7 * PAGE for number in (3, 9, 1, 7, 5, 11, 2, 8, 4, 10, 6, 0)]
PLACES.append(PLACES[0] + BLOCK_BYTES // 2)
Test = Callable[[Server, CachedFileSystem, list[tuple[int, int]]], Awaitable[None]]


@pytest.fixture
def scenario(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[Test], None]:
    """Run a test with a file `big`, a cache, and a list of what the server is asked for: offsets and sizes."""

    def run(test: Test, limit_bytes: int = 100 * BLOCK_BYTES) -> None:
        asked: list[tuple[int, int]] = []
        plainly = MemoryFile.read

        async def read(self: MemoryFile, offset: int, size: int, *, wait: bool = True) -> bytes:
            asked.append((offset, size))
            await trio.lowlevel.checkpoint()
            return await plainly(self, offset, size, wait=wait)

        async def main() -> None:
            server = Server()
            server.put("big", DATA)
            with contextlib.closing(BlockCache(str(tmp_path / "cache"), limit_bytes)) as blocks:
                fs = CachedFileSystem(server, trio.current_time, "dc1", blocks if limit_bytes else None)
                async with trio.open_nursery() as nursery:
                    fs.nursery = nursery
                    await fs.listdir("")
                    await test(server, fs, asked)

        with leasing(), mock.patch.object(MemoryFile, "read", read), mock.patch.object(scatter, "FREE_READS", 0):
            trio.run(main)

    return run


async def opened(fs: CachedFileSystem) -> CachedFile:
    file = await fs.open("big", READ, 0)
    assert isinstance(file, CachedFile)
    return file


async def look(fs: CachedFileSystem, file: CachedFile, offset: int) -> None:
    """Read a page as the kernel's side does, and let everything come to rest."""
    data = file.read_at_once(offset, PAGE) or await file.read(offset, PAGE)
    assert data == DATA[offset : offset + PAGE]
    await settled(fs)


async def settled(fs: CachedFileSystem) -> None:
    assert fs.blocks is not None
    while fs.nursery.child_tasks:
        await trio.lowlevel.checkpoint()
    assert await trio.to_thread.run_sync(fs.blocks.flush, 60.0)


def test_random_reads_bring_the_blocks_around_them(scenario: Callable[..., None]) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        file = await opened(fs)
        await look(fs, file, PLACES[0])
        assert all(size <= 128 * 1024 for _, size in asked), "the first read brings no more than is near to it"
        for place in PLACES[1:]:
            await look(fs, file, place)
        assert any(size >= BLOCK_BYTES for _, size in asked)
        asked.clear()
        for place in PLACES[1:]:
            for offset in (place + 300 * 1024, place - PAGE):
                await look(fs, file, offset)
        assert not asked

    scenario(test)


def test_what_random_reads_brought_serves_other_openings(scenario: Callable[..., None]) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        file = await opened(fs)
        for place in PLACES:
            await look(fs, file, place)
        await file.release()
        file = await opened(fs)
        asked.clear()
        for place in PLACES[1:]:
            assert file.read_at_once(place + PAGE, PAGE) == DATA[place + PAGE : place + 2 * PAGE]
            assert await file.read(place + 2 * PAGE, PAGE) == DATA[place + 2 * PAGE : place + 3 * PAGE]
        assert not asked

    scenario(test)


def test_without_a_cache_only_what_is_asked_for_is_fetched(scenario: Callable[..., None]) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        file = await opened(fs)
        for place in PLACES:
            assert await file.read(place, PAGE) == DATA[place : place + PAGE]
        assert max(size for _, size in asked) <= 128 * 1024

    scenario(test, limit_bytes=0)


def test_a_read_does_not_wait_for_the_block_around_it(scenario: Callable[..., None]) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        file, held = await opened(fs), trio.Event()
        read = MemoryFile.read

        async def slowly(self: MemoryFile, offset: int, size: int, *, wait: bool = True) -> bytes:
            if size >= BLOCK_BYTES:
                await held.wait()
            return await read(self, offset, size, wait=wait)

        with mock.patch.object(MemoryFile, "read", slowly):
            for place in PLACES:
                assert await file.read(place, PAGE) == DATA[place : place + PAGE]
            held.set()
            await settled(fs)

    scenario(test)


def test_what_was_changed_meanwhile_is_not_kept(scenario: Callable[..., None]) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        file, held = await opened(fs), trio.Event()
        read = MemoryFile.read

        async def slowly(self: MemoryFile, offset: int, size: int, *, wait: bool = True) -> bytes:
            data = await read(self, offset, size, wait=wait)
            if size >= BLOCK_BYTES:
                await held.wait()
            return data

        with mock.patch.object(MemoryFile, "read", slowly):
            for place in PLACES[:4]:
                assert await file.read(place, PAGE) == DATA[place : place + PAGE]
            await fs.broken([file.node_id], [])
            held.set()
            await settled(fs)
        assert fs.blocks is not None
        assert fs.blocks.statistics().blocks == 0

    scenario(test)


def test_a_file_that_was_changed_is_not_read_from_its_former_blocks(scenario: Callable[..., None]) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        file = await opened(fs)
        for place in PLACES:
            await look(fs, file, place)
        writer = await fs.open("big", WRITE, 0)
        await writer.write(PLACES[3], b"x" * PAGE)
        assert file.read_at_once(PLACES[3], PAGE) is None
        assert await file.read(PLACES[3], PAGE) == b"x" * PAGE
        await writer.release()
        assert (file.read_at_once(PLACES[3], PAGE) or await file.read(PLACES[3], PAGE)) == b"x" * PAGE

    scenario(test)


def test_nothing_is_read_at_once_while_the_server_is_not_heard(scenario: Callable[..., None]) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        file = await opened(fs)
        for place in PLACES:
            await look(fs, file, place)
        assert file.read_at_once(PLACES[3], PAGE) is not None
        server.heard = False
        assert file.read_at_once(PLACES[3], PAGE) is None

    scenario(test)


def test_closing_the_file_ends_it(scenario: Callable[..., None]) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        file, read = await opened(fs), MemoryFile.read

        async def never(self: MemoryFile, offset: int, size: int, *, wait: bool = True) -> bytes:
            if size >= BLOCK_BYTES:
                await trio.sleep_forever()
            return await read(self, offset, size, wait=wait)

        with mock.patch.object(MemoryFile, "read", never):
            for place in PLACES:
                assert await file.read(place, PAGE) == DATA[place : place + PAGE]
            await file.release()
            await settled(fs)

    scenario(test)


@pytest.mark.parametrize("end", ["flush", "fsync"])
def test_the_end_of_one_opening_gives_the_server_what_came_through_another(
    scenario: Callable[..., None], end: str
) -> None:
    async def test(server: Server, fs: CachedFileSystem, asked: list[tuple[int, int]]) -> None:
        mapped, other = [await fs.open("big", READ | WRITE, 0) for _ in range(2)]
        assert isinstance(other, CachedFile)
        for text in (b"first", b"second"):  # what comes first is sent at once
            await other.write(0, text)
        assert other.dirty
        await (mapped.flush(Closing.LAST) if end == "flush" else mapped.fsync())
        assert not other.dirty
        [content] = await server.contents("", ["big"], len(DATA))
        assert content.data.startswith(b"second")
        for file in (mapped, other):
            await file.release()

    scenario(test)
