"""Removing whole trees: whatever is in them, and nothing else."""

import os
import stat
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

import pytest

from pfs.disk import removal
from pfs.disk.attr import node_id_of
from pfs.disk.removal import move_aside, remove_tree
from pfs.errors import Kind, PfsError
from tests.pfs.world import World

Run = Callable[[Callable[[], Awaitable[object]]], object]


@pytest.fixture
def trash(world: World) -> Path:
    path = world.path / "trash"
    path.mkdir()
    return path


@pytest.fixture
def remove(run: Run, world: World, trash: Path) -> Callable[[], None]:
    def remove() -> None:
        async def main() -> None:
            await remove_tree(world.disk, "trash", "x")

        run(main)

    return remove


def test_whatever_is_in_a_tree_goes(remove: Callable[[], None], trash: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(removal, "ENTRIES_AT_ONCE", 3)
    for name in ("x/a/b/c", "x/d", "x/a/shut"):
        (trash / name).mkdir(parents=True)
    for n in range(10):
        (trash / f"x/a/b/{n}").write_text("text")
    os.mkfifo(trash / "x/a/fifo")
    os.mknod(trash / "x/socket", 0o666 | stat.S_IFSOCK)
    (trash / "x/a/b/same").mkdir()
    (trash / "x/d/same").mkdir()
    (trash / "x/a/shut").chmod(0)
    (trash / "y").mkdir()
    remove()
    assert os.listdir(trash) == ["y"]


def test_a_tree_deeper_than_there_are_descriptors_goes(remove: Callable[[], None], trash: Path) -> None:
    fd = os.open(trash, os.O_RDONLY)
    for name in ("x", *["d"] * 1500):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    remove()
    assert os.listdir(trash) == []


def test_nothing_is_removed_through_a_link(remove: Callable[[], None], trash: Path, home: Path) -> None:
    (home / "kept").write_text("text")
    (trash / "x").mkdir()
    (trash / "x/away").symlink_to(home)
    remove()
    assert (os.listdir(trash), (home / "kept").read_text()) == ([], "text")
    (trash / "x").symlink_to(home)
    remove()
    assert (os.listdir(trash), (home / "kept").read_text()) == ([], "text")


def test_a_file_and_what_is_not_there_can_be_removed(remove: Callable[[], None], trash: Path) -> None:
    remove()
    (trash / "x").write_text("text")
    remove()
    assert os.listdir(trash) == []


def test_a_directory_is_moved_in_one_step_and_who_looked_is_told(
    run: Run, world: World, trash: Path, home: Path
) -> None:
    (home / "old/part").mkdir(parents=True)
    (home / "old/part/f").write_text("text")
    nodes = {node_id_of(path.stat()) for path in (home, home / "old", home / "old/part")}
    told: set[int] = set()

    async def changed(nodes: Collection[int]) -> None:
        told.update(nodes)

    world.disk.changed = changed

    async def main() -> tuple[bool, bool]:
        first = await move_aside(world.disk, "home/ann/old", "trash/17", ["part", "missing"])
        return first, await move_aside(world.disk, "home/ann/old", "trash/18")

    assert run(main) == (True, False)
    assert (trash / "17/part/f").read_text() == "text"
    assert not (home / "old").exists()
    assert told == nodes


def test_a_directory_is_not_moved_over_one_that_holds_something(
    run: Run, world: World, trash: Path, home: Path
) -> None:
    (home / "old").mkdir()
    (trash / "17/f").mkdir(parents=True)

    async def main() -> None:
        with pytest.raises(PfsError) as caught:
            await move_aside(world.disk, "home/ann/old", "trash/17")
        assert caught.value.kind is Kind.NOT_EMPTY

    run(main)
    assert (home / "old").exists()


def test_no_descriptor_is_left(remove: Callable[[], None], trash: Path, open_files: Callable[[], set[str]]) -> None:
    (trash / "x/a/b").mkdir(parents=True)
    before = open_files()
    remove()
    assert open_files() == before
