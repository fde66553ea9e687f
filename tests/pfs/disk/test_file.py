"""An open file: what is read and written through it, and that its descriptor lives exactly as long as it is used."""

import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from pfs.api import Changes, RenameMode
from pfs.disk.domains import DiskDomain
from pfs.disk.file import READ_BYTES_MAX
from pfs.errors import Kind
from tests.pfs.world import APPEND, NEW, READ, TRUNCATE, WRITE, contents, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]


def test_truncate_and_append_do_as_they_say(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"12345")

    async def main() -> None:
        file = await ann.open("x", WRITE | APPEND, 0)
        await file.write(0, b"67")
        assert await contents(file) == b"1234567"  # what is open for writing can be read
        await file.release()
        file = await ann.open("x", WRITE | TRUNCATE, 0)
        assert (file.attr.size, await contents(file)) == (0, b"")
        await file.release()

    run(main)


def test_what_is_open_for_reading_is_not_written(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"12345")

    async def main() -> None:
        file = await ann.open("x", READ, 0)
        assert await kind_of(file.write(0, b"y")) is not None
        assert await kind_of(file.setattr(Changes(size=0))) is not None
        await file.release()
        assert (home / "x").read_bytes() == b"12345"

    run(main)


def test_an_open_file_outlives_its_name(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"old")

    async def main() -> None:
        removed = await ann.open("x", WRITE, 0)
        await ann.unlink("x")
        replaced = await ann.open("x", NEW, 0o644)
        (home / "y").write_bytes(b"new")
        await ann.rename("y", "x", RenameMode.REPLACE)
        await removed.write(3, b"er")
        assert await contents(removed) == b"older"
        assert (await removed.getattr()).nlink == 0
        assert await contents(replaced) == b""
        for file in (removed, replaced):
            await file.release()
        assert (home / "x").read_bytes() == b"new"

    run(main)


def test_one_read_has_a_most(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    os.truncate(home / "x", READ_BYTES_MAX + 10)

    async def main() -> None:
        file = await ann.open("x", READ, 0)
        assert len(await file.read(0, 2**40)) == READ_BYTES_MAX
        await file.release()

    run(main)


@pytest.mark.usefixtures("in_threads")
def test_a_descriptor_is_not_closed_while_a_call_uses_it(
    run: Run, home: Path, ann: DiskDomain, monkeypatch: pytest.MonkeyPatch, open_files: Callable[[], set[str]]
) -> None:
    """Or its number would be another file's: one user would read, or overwrite, what is another's."""
    (home / "mine").write_bytes(b"mine")
    (home / "other").write_bytes(b"other")
    before, pread = open_files(), os.pread
    begun, go_on = threading.Event(), threading.Event()

    def slow_pread(fd: int, size: int, offset: int) -> bytes:
        begun.set()
        assert go_on.wait(5)
        return pread(fd, size, offset)

    async def main() -> None:
        got: list[bytes] = []
        file = await ann.open("mine", READ, 0)

        async def read() -> None:
            got.append(await file.read(0, 10))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.to_thread.run_sync(begun.wait, 5)
            await file.release()
            others = [await ann.open("other", READ, 0) for _ in range(3)]
            go_on.set()
        assert got == [b"mine"]
        for each in (file, *others):
            await each.release()  # more than once is harmless
        assert open_files() == before
        assert await kind_of(file.read(0, 10)) is Kind.BAD_HANDLE

    monkeypatch.setattr(os, "pread", slow_pread)
    run(main)


def test_a_node_keeps_its_number(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    (home / "y").touch()

    async def main() -> None:
        number = (await ann.getattr("x")).node_id
        assert 0 < number < 2**63
        assert number != (await ann.getattr("y")).node_id
        await ann.rename("x", "z", RenameMode.REPLACE)
        assert (await ann.getattr("z")).node_id == number

    run(main)
