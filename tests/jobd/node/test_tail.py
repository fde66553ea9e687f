"""Following a file: everything, as it comes, and an end."""

import os
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path

import pytest
import trio

from jobd.node.tail import CHUNK_BYTES, follow

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def collect(file: Path, offset: int, is_over: Callable[[], bool], into: bytearray) -> None:
    async with aclosing(follow(file, offset, is_over)) as chunks:
        async for chunk in chunks:
            into += chunk


def test_what_is_there_comes_at_once_from_any_offset(run: Run, tmp_path: Path) -> None:
    data = os.urandom(CHUNK_BYTES * 2 + 10)
    (tmp_path / "output").write_bytes(data)

    async def main() -> None:
        for offset in (0, 1, CHUNK_BYTES, len(data) - 1, len(data), len(data) + 5):
            found = bytearray()
            await collect(tmp_path / "output", offset, lambda: True, found)
            assert found == data[offset:]

    run(main)


def test_what_is_added_comes_as_it_is_added(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        over = False
        (tmp_path / "output").touch()
        writer = os.open(tmp_path / "output", os.O_WRONLY)
        async with aclosing(follow(tmp_path / "output", 0, lambda: over)) as chunks:
            for part in (b"one", b"two", b"three"):
                os.write(writer, part)
                assert await anext(chunks) == part
            over = True
            (tmp_path / "exit.new").touch()
            (tmp_path / "exit.new").rename(tmp_path / "exit")
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
        os.close(writer)

    run(main)


def test_what_was_written_just_before_the_end_comes(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "output"
    file.write_bytes(b"first")

    def is_over() -> bool:
        if file.read_bytes() == b"first":
            file.write_bytes(b"first, last")
        return True

    async def main() -> None:
        found = bytearray()
        await collect(file, 0, is_over, found)
        assert found == b"first, last"

    run(main)


def test_an_end_that_shows_a_moment_after_its_event_is_seen(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        over = False
        writer = os.open(tmp_path / "output", os.O_WRONLY | os.O_CREAT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(collect, tmp_path / "output", 0, lambda: over, bytearray())
            await trio.testing.wait_all_tasks_blocked()
            os.close(writer)
            await trio.sleep(0.001)
            over = True

    run(main)


def test_a_quiet_file_wakes_nobody(run: Run, tmp_path: Path) -> None:
    asked = 0

    def is_over() -> bool:
        nonlocal asked
        asked += 1
        return False

    async def main() -> None:
        (tmp_path / "output").touch()
        with trio.move_on_after(3600):
            await collect(tmp_path / "output", 0, is_over, bytearray())

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0.02))
    assert asked < 20
