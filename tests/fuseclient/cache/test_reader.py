"""Reads through a window: every piece is fetched once, and what fails is fetched again."""

from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from fuseclient.cache.reader import Reader
from pfs.errors import Kind, PfsError

MIB = 1 << 20
DATA = bytes(range(256)) * (8 * MIB // 256)


class Server:
    """A file that is fetched from."""

    def __init__(self) -> None:
        self.data = DATA
        self.fetched: list[tuple[int, int]] = []
        self.fails: list[Exception] = []
        self.held = trio.Event()
        self.held.set()

    async def fetch(self, offset: int, size: int) -> bytes:
        self.fetched.append((offset, size))
        await self.held.wait()
        if self.fails:
            raise self.fails.pop(0)
        return self.data[offset : offset + size]


def scenario(test: Callable[[Server, Reader], Awaitable[None]]) -> None:
    async def main() -> None:
        server = Server()
        async with trio.open_nursery() as nursery:
            await test(server, Reader(server.fetch, nursery))

    trio.run(main)


def test_a_scan_fetches_every_byte_once() -> None:
    async def test(server: Server, reader: Reader) -> None:
        for offset in range(0, len(DATA), 131072):
            assert await reader.read(offset, 131072, len(DATA)) == DATA[offset : offset + 131072]
        assert sum(size for _, size in server.fetched) == len(DATA)
        assert len(server.fetched) <= 16

    scenario(test)


def test_nothing_is_read_beyond_the_end() -> None:
    async def test(server: Server, reader: Reader) -> None:
        assert await reader.read(len(DATA) - 10, 100, len(DATA)) == DATA[-10:]
        assert await reader.read(len(DATA), 100, len(DATA)) == b""

    scenario(test)


def test_a_file_that_is_shorter_than_it_was_known_to_be_ends_where_it_ends() -> None:
    async def test(server: Server, reader: Reader) -> None:
        server.data = DATA[:5000]
        assert await reader.read(4000, 10_000, len(DATA)) == DATA[4000:5000]

    scenario(test)


@pytest.mark.parametrize(
    ("failure", "kind"), [(PfsError(Kind.TIMED_OUT), Kind.TIMED_OUT), (RuntimeError("a defect"), Kind.INTERNAL)]
)
def test_what_could_not_be_fetched_is_fetched_again(failure: Exception, kind: Kind) -> None:
    async def test(server: Server, reader: Reader) -> None:
        server.fails.append(failure)
        with pytest.raises(PfsError) as caught:
            await reader.read(0, 100, len(DATA))
        assert caught.value.kind is kind
        assert await reader.read(0, 100, len(DATA)) == DATA[:100]

    scenario(test)


def test_other_content_is_fetched_anew() -> None:
    async def test(server: Server, reader: Reader) -> None:
        await reader.read(0, 100, len(DATA))
        server.data = b"x" * len(DATA)
        reader.clear()
        assert await reader.read(0, 100, len(DATA)) == b"x" * 100

    scenario(test)


def test_two_who_read_the_same_fetch_it_once() -> None:
    async def test(server: Server, reader: Reader) -> None:
        async def read() -> None:
            assert await reader.read(0, 100, MIB) == DATA[:100]

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            nursery.start_soon(read)
        assert len(server.fetched) == 1

    scenario(test)


def test_who_is_cancelled_takes_nothing_from_others_who_read_the_same() -> None:
    async def test(server: Server, reader: Reader) -> None:
        server.held = trio.Event()
        found: list[bytes] = []

        async def other() -> None:
            found.append(await reader.read(10, 100, len(DATA)))

        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as first:
                    first.start_soon(reader.read, 0, 100, len(DATA))
                    await trio.testing.wait_all_tasks_blocked()
                    nursery.start_soon(other)
                    await trio.testing.wait_all_tasks_blocked()
                    scope.cancel()
            server.held.set()
        assert found == [DATA[10:110]]

    scenario(test)


def test_of_reads_that_go_on_with_nothing_somebody_is_told() -> None:
    async def main() -> None:
        server, told = Server(), list[tuple[int, int, int]]()
        async with trio.open_nursery() as nursery:
            reader = Reader(server.fetch, nursery, lambda *lone: told.append(lone))
            for offset in (0, 4096, 5 * MIB, 5 * MIB, 3 * MIB, 3 * MIB + 4096):
                assert await reader.read(offset, 4096, len(DATA)) == DATA[offset : offset + 4096]
        assert told == [(5 * MIB, 4096, len(DATA)), (3 * MIB, 4096, len(DATA))]

    trio.run(main)
