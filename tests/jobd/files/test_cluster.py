"""The top of the tree: texts that take a while are made for who reads them, and one that fails hides nothing else."""

from collections.abc import Awaitable, Callable

import pytest
import trio

from jobd.files.cluster import KEPT_S, Overview
from jobd.files.sources import Sources
from pfs.api import NodeType, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.tree.service import TreeFileSystem
from pfs.tree.virtual import StaticDirectory
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import Drive, driving

Run = Callable[[Callable[[], Awaitable[None]]], None]
Test = Callable[[Drive, TreeFileSystem, list[str]], Awaitable[None]]


@pytest.fixture
def top(service: Service, run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[[Test], None]:
    """Run an async test with a drive, a top with one overview, and a note for each time that this was made."""
    monkeypatch.setattr("jobd.files.cluster.KEPT_S", 1e9)

    def within(main: Test) -> None:
        async def outer() -> None:
            made: list[str] = []

            async def make(sources: Sources) -> str:
                await trio.lowlevel.checkpoint()
                made.append("x" * sources.engine.ledger.version[0] + "\n")
                return made[-1]

            async with driving(service) as drive:
                root = StaticDirectory("", {"queue": Overview("queue", service.sources(drive.engine), make)})
                await main(drive, TreeFileSystem(root, service.disk, service.ann), made)

        run(outer)

    return within


async def content(fs: TreeFileSystem, path: str) -> bytes:
    file = await fs.open(path, OpenFlags.READ, 0)
    return await file.read(0, 1 << 20)


def test_a_listing_makes_no_overview_that_was_made_before(top: Callable[[Test], None]) -> None:
    async def main(drive: Drive, fs: TreeFileSystem, made: list[str]) -> None:
        first = (await fs.listdir(""))[0].attr
        await drive.submit()
        assert (await fs.listdir(""))[0].attr == first
        assert len(made) == 1

    top(main)


def test_who_opens_an_overview_is_told_of_every_change(top: Callable[[Test], None]) -> None:
    async def main(drive: Drive, fs: TreeFileSystem, made: list[str]) -> None:
        before = await content(fs, "queue")
        await drive.submit()
        after = await content(fs, "queue")
        assert len(after) > len(before)
        assert (await fs.getattr("queue")).size == (await fs.listdir(""))[0].attr.size == len(after)

    top(main)


def test_the_time_of_an_overview_is_that_of_the_last_change(top: Callable[[Test], None], service: Service) -> None:
    async def main(drive: Drive, fs: TreeFileSystem, made: list[str]) -> None:
        service.now_ns += 10**9
        await drive.submit()
        changed_at_ns = service.now_ns
        service.now_ns += 10**9
        await content(fs, "queue")
        assert (await fs.getattr("queue")).mtime_ns == changed_at_ns

    top(main)


def test_looking_at_the_size_of_an_overview_and_opening_it_makes_it_once(top: Callable[[Test], None]) -> None:
    async def main(drive: Drive, fs: TreeFileSystem, made: list[str]) -> None:
        await content(fs, "queue")
        await drive.submit()
        await fs.getattr("queue")
        await content(fs, "queue")
        assert len(made) == 2

    top(main)


def test_the_size_of_an_overview_is_that_of_now(top: Callable[[Test], None]) -> None:
    async def main(drive: Drive, fs: TreeFileSystem, made: list[str]) -> None:
        await fs.getattr("queue")
        await drive.submit()
        assert (await fs.getattr("queue")).size == drive.engine.ledger.version[0] + 1

    top(main)


def test_what_changes_without_being_told_is_seen_a_moment_later(
    top: Callable[[Test], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main(drive: Drive, fs: TreeFileSystem, made: list[str]) -> None:
        await content(fs, "queue")
        monkeypatch.setattr("jobd.files.cluster.KEPT_S", -1.0)
        await content(fs, "queue")
        assert len(made) == 2

    assert KEPT_S <= 1.0
    top(main)


def test_many_who_open_an_overview_at_the_same_time_have_it_made_once(top: Callable[[Test], None]) -> None:
    async def main(drive: Drive, fs: TreeFileSystem, made: list[str]) -> None:
        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(content, fs, "queue")
        assert len(made) == 1

    top(main)


def test_an_overview_that_fails_fails_alone(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            await drive.submit()
            fs = service.files(drive.engine, service.ann)

            def broken(_job: object) -> None:
                raise RuntimeError("a defect")

            monkeypatch.setattr(drive.engine, "standing", broken)
            listed = {entry.name: entry.attr.type for entry in await fs.listdir("")}
            assert {"jobs", "me", "nodes", "queue", "status"} < set(listed)
            assert listed["queue"] is NodeType.FILE
            assert "'queue'" in caplog.text
            assert "a defect" in caplog.text
            with pytest.raises(RuntimeError):
                await fs.getattr("queue")
            assert b"1 waiting" in await content(fs, "status")

    run(main)


def test_a_file_of_a_job_that_fails_hides_none_of_the_others(
    service: Service, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with driving(service) as drive:
            job = await drive.submit()
            fs = service.files(drive.engine, service.ann)
            whole = [entry.name for entry in await fs.listdir(f"jobs/{job}")]

            async def broken(_job: object) -> None:
                raise PfsError(Kind.IO, "the disk is broken")

            monkeypatch.setattr(drive.engine, "log_of", broken)
            assert [entry.name for entry in await fs.listdir(f"jobs/{job}")] == whole
            with pytest.raises(PfsError) as caught:
                await fs.getattr(f"jobs/{job}/log")
            assert caught.value.kind is Kind.IO

    run(main)
