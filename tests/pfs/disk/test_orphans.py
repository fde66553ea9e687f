"""Open files whose names go: they keep a hidden one as long as somebody has them, or may come back for them."""

import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from pfs.api import Changes, Closing, NodeType, RenameMode
from pfs.disk.domains import Disk, DiskDomain
from pfs.disk.file import DiskFile, open_or_make
from pfs.disk.orphans import KEPT_NS, NAME_LOCKS, ORPHANS
from pfs.errors import Kind, PfsError
from tests.pfs.world import NEW, READ, WRITE, World, contents, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]
SOON_NS = 10**9


def orphans(world: World) -> list[str]:
    """All hidden names, as paths."""
    top = world.path / ORPHANS
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


@contextmanager
def restarted(world: World) -> Iterator[DiskDomain]:
    """Another server over the same data root; the first one has lost everything it knew."""
    disk = Disk(str(world.path))
    yield disk.domain("home/ann", None)
    disk.close()


async def cut(file: DiskFile) -> None:
    """The connection under an open file goes."""
    await file.flush(Closing.DYING)
    await file.release()


@pytest.mark.parametrize("way", ["unlink", "rename over"])
def test_an_open_file_without_names_is_kept_until_it_is_released(
    run: Run, world: World, home: Path, ann: DiskDomain, way: str
) -> None:
    async def main() -> None:
        file, other = await ann.open("x", NEW, 0o644), await ann.open("x", READ, 0)
        await file.write(0, b"12345")
        if way == "unlink":
            await ann.unlink("x")
        else:
            (home / "y").write_bytes(b"other")
            await ann.rename("y", "x", RenameMode.REPLACE)
        assert len(orphans(world)) == 1
        assert (await file.getattr()).nlink == 0
        assert (await file.setattr(Changes(size=3))).nlink == 0
        await file.release()
        assert len(orphans(world)) == 1  # the other has it still
        assert await contents(other) == b"123"
        await other.release()
        assert orphans(world) == []

    run(main)


def test_a_file_that_nobody_has_open_goes_at_once(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    (home / "y").touch()

    async def main() -> None:
        await (await ann.open("x", READ, 0)).release()
        await ann.rename("y", "x", RenameMode.REPLACE)
        await ann.unlink("x")
        assert not (world.path / ORPHANS).exists()

    run(main)


def test_a_file_with_another_name_is_not_hidden(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        await ann.link("x", "y")
        await ann.unlink("x")
        assert (await file.getattr()).nlink == (await ann.getattr("y")).nlink == 1
        assert orphans(world) == []
        await ann.unlink("y")
        assert ((await file.getattr()).nlink, len(orphans(world))) == (0, 1)
        await file.release()

    run(main)


def test_what_is_refused_or_changes_nothing_hides_nothing(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    (home / "d").mkdir()
    (home / "z").touch()

    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        await ann.rename("x", "x", RenameMode.REPLACE)
        assert await kind_of(ann.rename("d", "x", RenameMode.REPLACE)) is Kind.NOT_DIR
        assert await kind_of(ann.rename("missing", "x", RenameMode.REPLACE)) is Kind.NOT_FOUND
        assert await kind_of(ann.rename("z", "x", RenameMode.NO_REPLACE)) is Kind.EXISTS
        await ann.rename("z", "x", RenameMode.EXCHANGE)
        assert orphans(world) == []
        assert (await file.getattr()).nlink == 1
        await file.release()

    run(main)


def test_hidden_names_are_for_the_server_alone(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        file = await ann.open("x", NEW, 0o666)
        await ann.unlink("x")
        assert (world.path / ORPHANS).stat().st_mode & 0o777 == 0o700
        assert [each.stat().st_mode & 0o777 for each in (world.path / ORPHANS).iterdir()] == [0o700]
        assert [path.name for path in world.path.iterdir() if path.name in os.listdir(home)] == []
        assert ORPHANS not in [entry.name for entry in await world.fs().listdir("")]
        assert await kind_of(world.fs().getattr(ORPHANS)) is Kind.NOT_FOUND
        await file.release()

    run(main)


def test_domains_do_not_see_each_others(run: Run, world: World, ann: DiskDomain) -> None:
    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        await ann.unlink("x")
        number = file.attr.node_id
        assert await kind_of(world.disk.domain("home/bob", None).reopen("x", number, READ)) is Kind.STALE
        assert await kind_of(world.disk.domain("shared", None).reopen("x", number, READ)) is Kind.STALE
        again = await ann.reopen("x", number, READ)
        await again.release()
        await file.release()

    run(main)


# ---- coming back


@pytest.mark.parametrize("way", ["unlink", "rename over", "nothing", "moved to another"])
def test_after_a_restart_the_very_node_is_found(run: Run, world: World, home: Path, ann: DiskDomain, way: str) -> None:
    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        await file.write(0, b"12345")
        if way == "unlink":
            await ann.unlink("x")
        elif way == "rename over":
            (home / "y").write_bytes(b"other")
            await ann.rename("y", "x", RenameMode.REPLACE)
        elif way == "moved to another":
            await ann.rename("x", "moved", RenameMode.REPLACE)
        with restarted(world) as domain:
            if way == "moved to another":  # its name is the client's to know
                assert await kind_of(domain.reopen("x", file.attr.node_id, WRITE)) is Kind.STALE
                again = await domain.reopen("moved", file.attr.node_id, WRITE)
            else:
                again = await domain.reopen("x", file.attr.node_id, WRITE)
            assert again.attr.node_id == file.attr.node_id
            assert again.attr.nlink == (0 if way in ("unlink", "rename over") else 1)
            await again.write(5, b"6")
            assert await contents(again) == b"123456"
            await again.release()
            assert orphans(world) == []
            kind = await kind_of(domain.reopen("x", file.attr.node_id, WRITE))
            assert kind is (None if way == "nothing" else Kind.STALE)

    run(main)


def test_another_node_at_the_path_is_never_taken_for_it(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        os.rename(home / "x", home / "elsewhere")  # on the server's disk, unseen by the service
        for make in (
            lambda: (home / "x").write_bytes(b"other"),
            lambda: (home / "x").symlink_to("elsewhere"),
            lambda: os.mkfifo(home / "x"),
            (home / "x").mkdir,
        ):
            make()
            assert await kind_of(ann.reopen("x", file.attr.node_id, READ)) is Kind.STALE
            if (home / "x").is_dir() and not (home / "x").is_symlink():
                (home / "x").rmdir()
            else:
                (home / "x").unlink()
        await file.release()

    run(main)


def test_what_was_open_when_a_connection_went_counts_as_open(
    run: Run, world: World, home: Path, ann: DiskDomain
) -> None:
    async def main() -> None:
        file, other = await ann.open("x", NEW, 0o644), await ann.open("x", READ, 0)
        number = file.attr.node_id
        await cut(file)
        await other.release()  # does not speak for the one that was cut
        await ann.unlink("x")
        assert len(orphans(world)) == 1
        file = await ann.reopen("x", number, WRITE)
        assert (await file.getattr()).nlink == 0
        await cut(file)  # and once more
        assert len(orphans(world)) == 1
        file = await ann.reopen("x", number, WRITE)
        await file.release()
        assert orphans(world) == []

    run(main)


# ---- what nobody comes back for


def test_orphans_of_an_earlier_server_are_kept_for_a_while(run: Run, world: World, ann: DiskDomain) -> None:
    async def main() -> None:
        kept, gone = await ann.open("x", NEW, 0o644), await ann.open("y", NEW, 0o644)
        await ann.unlink("x")
        await ann.unlink("y")
        assert len(orphans(world)) == 2
        disk = Disk(str(world.path))
        domain = disk.domain("home/ann", None)
        await disk.sweep_orphans(5)
        await disk.sweep_orphans(5 + KEPT_NS - 1)
        assert len(orphans(world)) == 2
        again = await domain.reopen("x", kept.attr.node_id, READ)
        await disk.sweep_orphans(5 + KEPT_NS)
        assert len(orphans(world)) == 1
        assert await kind_of(domain.reopen("y", gone.attr.node_id, READ)) is Kind.STALE
        await disk.sweep_orphans(5 + 9 * KEPT_NS)
        assert len(orphans(world)) == 1  # as long as it is open
        await again.release()
        assert orphans(world) == []
        disk.close()

    run(main)


def test_what_was_lost_with_a_connection_is_kept_for_a_while(run: Run, world: World, ann: DiskDomain) -> None:
    async def main() -> None:
        file, named = await ann.open("x", NEW, 0o644), await ann.open("y", NEW, 0o644)
        await ann.unlink("x")
        await cut(file)
        await cut(named)
        await world.disk.sweep_orphans(5)
        await world.disk.sweep_orphans(5 + KEPT_NS - 1)
        assert len(orphans(world)) == 1
        await world.disk.sweep_orphans(5 + KEPT_NS)
        assert orphans(world) == []
        await ann.unlink("y")
        assert orphans(world) == []  # it does not count as open any more

    run(main)


def test_a_new_loss_begins_a_new_while(run: Run, world: World, ann: DiskDomain) -> None:
    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        await ann.unlink("x")
        await cut(file)
        await world.disk.sweep_orphans(0)
        file = await ann.reopen("x", file.attr.node_id, READ)
        await world.disk.sweep_orphans(KEPT_NS)
        await cut(file)
        await world.disk.sweep_orphans(KEPT_NS + SOON_NS)
        await world.disk.sweep_orphans(2 * KEPT_NS)
        assert len(orphans(world)) == 1
        await world.disk.sweep_orphans(2 * KEPT_NS + SOON_NS)
        assert orphans(world) == []

    run(main)


def test_a_sweep_where_nothing_ever_was_open_makes_nothing(run: Run, world: World) -> None:
    run(lambda: world.disk.sweep_orphans(0))
    assert not (world.path / ORPHANS).exists()


# ---- what must not go wrong


def test_a_file_can_be_removed_even_where_it_cannot_be_kept(
    run: Run, world: World, home: Path, ann: DiskDomain, caplog: pytest.LogCaptureFixture
) -> None:
    (world.path / ORPHANS).write_bytes(b"in the way")

    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        await file.write(0, b"12345")
        await ann.unlink("x")
        assert not (home / "x").exists()
        assert ((await file.getattr()).nlink, await contents(file)) == (0, b"12345")
        await file.release()

    run(main)
    assert "will not outlive a restart" in caplog.text


def test_a_link_in_the_place_of_the_hidden_folder_is_not_followed(
    run: Run, world: World, ann: DiskDomain, tmp_path: Path
) -> None:
    (tmp_path / "outside").mkdir()
    (world.path / ORPHANS).symlink_to(tmp_path / "outside")

    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        await ann.unlink("x")
        await file.release()

    run(main)
    assert [path for path in (tmp_path / "outside").rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("in_threads")
@pytest.mark.parametrize("way", ["unlink", "rename over", "move, then unlink"])
def test_a_name_is_not_taken_away_between_being_opened_and_being_known_as_open(
    run: Run, world: World, home: Path, ann: DiskDomain, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    (home / "x").touch()
    (home / "y").touch()
    begun, go_on = threading.Event(), threading.Event()

    def slow(*how: Any) -> tuple[int, bool]:
        opened = open_or_make(*how)
        begun.set()
        assert go_on.wait(20)
        return opened

    monkeypatch.setattr("pfs.disk.domains.open_or_make", slow)

    async def main() -> None:
        removed = trio.Event()

        async def remove() -> None:
            match way:
                case "unlink":
                    await ann.unlink("x")
                case "rename over":
                    await ann.rename("y", "x", RenameMode.REPLACE)
                case _:
                    await ann.rename("x", "z", RenameMode.REPLACE)
                    await ann.unlink("z")
            removed.set()

        async def let_go() -> None:
            await trio.to_thread.run_sync(begun.wait, 20)
            nursery.start_soon(remove)
            with trio.move_on_after(0.2):  # enough for who does not wait for the name
                await removed.wait()
            go_on.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(let_go)
            file = await ann.open("x", READ, 0)
            await removed.wait()
            assert ((await file.getattr()).nlink, len(orphans(world))) == (0, 1)
        await file.release()
        assert orphans(world) == []

    run(main)


@pytest.mark.usefixtures("in_threads")
def test_whoever_opens_and_removes_at_once_loses_nothing_and_leaves_nothing(
    run: Run, world: World, home: Path, ann: DiskDomain
) -> None:
    """At any moment a file that is open has a name, its own or a hidden one: a restart could come at that moment."""
    bare: list[bool] = []
    kinds: set[Kind] = set()

    async def main() -> None:
        async def open_it() -> None:
            for _ in range(60):
                try:
                    file = await ann.open("x", READ, 0)
                except PfsError as error:
                    kinds.add(error.kind)
                    continue
                bare.append(await file._run(lambda fd: os.fstat(fd).st_nlink == 0))
                await file.release()

        async def remove(way: int) -> None:
            for number in range(60):
                if way:
                    await ann.mknod(f"n{number}", NodeType.FILE, 0o644)
                    await ann.rename(f"n{number}", "x", RenameMode.REPLACE)
                else:
                    assert await kind_of(ann.unlink("x")) in (None, Kind.NOT_FOUND)

        async with trio.open_nursery() as nursery:
            for task in (open_it, open_it, open_it):
                nursery.start_soon(task)
            for way in (0, 1):
                nursery.start_soon(remove, way)

    run(main)
    assert not any(bare)
    assert bare  # there was something to be lost
    assert kinds <= {Kind.NOT_FOUND}
    assert orphans(world) == []


def test_names_are_held_in_one_order_whatever_they_are(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or renames across one another would wait for each other for ever."""
    held: list[int] = []

    @contextmanager
    def lock(number: int) -> Iterator[None]:
        held.append(number)
        yield

    class Locks:
        def __getitem__(self, number: int) -> object:
            return lock(number)

    monkeypatch.setattr(world.disk.nodes, "_names", Locks())
    for number in range(4 * NAME_LOCKS):
        with world.disk.nodes.holding_both("x", str(number)):
            assert held == sorted(set(held))
            assert len(held) in (1, 2)
        held.clear()
