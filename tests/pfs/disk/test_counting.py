"""Domains within their limits: every change counts once, none passes a limit, and what was counted is what there is."""

import errno
import os
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from pfs.api import Changes, Closing, NodeType, OpenFile, RenameMode, Space
from pfs.disk import counting, scan
from pfs.disk.counting import NOTHING, UNLIMITED, Counts
from pfs.disk.domains import DiskDomain
from pfs.errors import Kind, PfsError
from pfs.quota import Amount, Limits
from tests.pfs.world import APPEND, CREATE, NEW, READ, TRUNCATE, WRITE, World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]
HOME = "home/ann"
KIB = 1024


def limit(world: World, size_bytes: int | None = None, files: int | None = None) -> Counts:
    """Limit ann's home, and count it."""
    counts = world.disk.counts
    counts.limit({HOME: Limits(size_bytes, files)})
    trio.run(counts.count, HOME)
    return counts


def used(world: World) -> Amount:
    return world.disk.counts.of(HOME).used


def is_right(world: World) -> bool:
    """Tell whether what was counted is what there is."""
    return used(world) == world.disk.counts.count_now(HOME)


def test_without_limits_nothing_is_counted(world: World, ann: DiskDomain) -> None:
    count = world.disk.counts.of(HOME)
    assert count is UNLIMITED
    assert count.writing(-1, 0, 10) is count.resizing(-1, 10) is count.cutting(-1, "x") is NOTHING
    assert count.within(Space(1, 2, 3, 4)) == Space(1, 2, 3, 4)
    limit(world, 10)
    assert world.disk.counts.of(HOME) is not UNLIMITED
    assert world.disk.counts.of("home/bob") is UNLIMITED
    world.disk.counts.limit({HOME: Limits()})
    assert world.disk.counts.of(HOME) is UNLIMITED


def test_what_is_there_is_counted_each_file_once(world: World, home: Path) -> None:
    (home / "d").mkdir()
    (home / "d/file").write_bytes(b"12345")
    os.link(home / "d/file", home / "again")
    (home / "link").symlink_to("/etc/passwd")
    os.mkfifo(home / "fifo")
    with open(home / "hole", "wb") as hole:
        hole.truncate(1 << 40)
    limit(world, 10)
    assert used(world) == Amount((1 << 40) + 5, 5)


OPERATIONS: dict[str, Callable[[DiskDomain], Awaitable[object]]] = {
    "make_file": lambda d: d.make_file("new", 0o644, b"x", Changes()),
    "open": lambda d: d.open("new", NEW, 0o644),
    "open or make": lambda d: d.open("new", WRITE | CREATE, 0o644),
    "mkdir": lambda d: d.mkdir("new", 0o755),
    "symlink": lambda d: d.symlink("new", "x"),
    "mknod": lambda d: d.mknod("new", NodeType.FIFO, 0o644),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_one_more_file_is_refused_and_is_not_there(
    run: Run, world: World, home: Path, ann: DiskDomain, name: str
) -> None:
    (home / "file").write_bytes(b"x")
    limit(world, files=1)

    async def main() -> None:
        assert await kind_of(OPERATIONS[name](ann)) is Kind.QUOTA
        assert os.listdir(home) == ["file"]
        (home / "new").write_bytes(b"")  # what is there is told as ever
        expected = None if name == "open or make" else Kind.EXISTS
        assert await kind_of(OPERATIONS[name](ann)) is expected

    run(main)


def test_more_bytes_are_refused_whole_and_the_rest_goes_on(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    (home / "file").write_bytes(b"12345678")
    limit(world, 10)

    async def main() -> None:
        file, adding = await ann.open("file", WRITE, 0), await ann.open("file", WRITE | APPEND, 0)
        for refused in (
            file.write(8, b"123"),
            file.write(20, b"1"),
            adding.write(0, b"123"),
            file.setattr(Changes(size=11)),
            ann.setattr("file", Changes(size=11)),
            ann.make_file("new", 0o644, b"123", Changes()),
            file.on_descriptor(lambda fd: os.pwrite(fd, b"123", 8), world.disk, writes=(8, 3)),
        ):
            assert await kind_of(refused) is Kind.QUOTA
        assert os.listdir(home) == ["file"]
        assert (home / "file").read_bytes() == b"12345678"
        world.disk.counts.limit({HOME: Limits(4, 0)})
        await file.write(0, b"abcd")
        await file.on_descriptor(lambda fd: os.pwrite(fd, b"efgh", 4), world.disk, writes=(4, 4))
        await ann.rename("file", "moved", RenameMode.REPLACE)
        await ann.link("moved", "other")
        await ann.setattr("moved", Changes(size=6, mode=0o600))
        assert (home / "other").read_bytes() == b"abcdef"
        await (await ann.open("moved", WRITE | CREATE | TRUNCATE, 0)).release()
        await file.write(0, b"1234")  # there is room again
        assert await kind_of(file.write(4, b"5")) is Kind.QUOTA
        for each in (file, adding):
            await each.release()
        await ann.unlink("moved")
        await ann.unlink("other")
        assert used(world) == Amount()

    run(main)


def test_a_removed_file_counts_until_it_is_closed(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    (home / "file").write_bytes(b"12345678")
    limit(world, 10)

    async def main() -> None:
        file = await ann.open("file", WRITE, 0)
        await ann.unlink("file")
        assert used(world) == Amount(8, 1)
        assert await kind_of(ann.make_file("new", 0o644, b"123", Changes())) is Kind.QUOTA
        assert is_right(world)
        await file.release()
        assert used(world) == Amount()
        await ann.make_file("new", 0o644, b"123", Changes())
        file = await ann.open("new", WRITE, 0)  # and so does one whose connection went, until nobody may come back
        await file.flush(Closing.DYING)
        await file.release()
        await ann.unlink("new")
        world.disk.nodes.sweep(0)
        assert used(world) == Amount(3, 1)
        world.disk.nodes.sweep(10**15)
        assert used(world) == Amount()

    run(main)


def test_hard_linked_files_go_with_their_last_name(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    (home / "a").write_bytes(b"12345678")
    (home / "x").write_bytes(b"1")
    limit(world, 9)

    async def main() -> None:
        await ann.link("a", "b")
        await ann.link("a", "c")
        await ann.rename("a", "b", RenameMode.REPLACE)  # two names of one file: nothing happens
        await ann.rename("x", "x", RenameMode.REPLACE)
        await ann.unlink("a")
        await ann.rename("x", "b", RenameMode.REPLACE)
        assert used(world) == Amount(9, 2)
        await ann.unlink("c")
        assert used(world) == Amount(1, 1)
        await ann.mkdir("d", 0o755)
        await ann.mkdir("e", 0o755)
        await ann.rename("d", "e", RenameMode.REPLACE)
        assert await kind_of(ann.rmdir("d")) is Kind.NOT_FOUND
        assert used(world) == Amount(1, 2)
        await ann.rename("b", "e", RenameMode.EXCHANGE)
        await ann.rmdir("b")
        assert used(world) == Amount(1, 1)
        assert is_right(world)

    run(main)


def test_a_write_that_the_disk_cuts_counts_what_was_written(
    run: Run, world: World, home: Path, ann: DiskDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "file").write_bytes(b"12")
    limit(world, 100)
    whole = os.pwrite

    def half(fd: int, data: bytes, offset: int) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return whole(fd, data[: len(data) // 2], offset)

    async def main() -> None:
        file = await ann.open("file", WRITE, 0)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", half)
            assert await kind_of(file.write(2, b"x" * 30)) is Kind.NO_SPACE
            assert used(world) == Amount(17, 1)
            assert await kind_of(ann.make_file("new", 0o644, b"x" * 30, Changes())) is Kind.NO_SPACE
        assert used(world) == Amount(17, 1)
        short = await file.on_descriptor(lambda fd: os.pwrite(fd, b"y", 20), world.disk, writes=(20, 50))
        assert (short, used(world)) == (1, Amount(21, 1))
        await file.release()

    run(main)


def test_two_who_remove_the_last_two_names_of_a_file_count_it_off_once(world: World, home: Path) -> None:
    (home / "a").write_bytes(b"12345678")
    os.link(home / "a", home / "b")
    count = limit(world, 10).of(HOME)

    def remove(name: str) -> None:
        def act() -> None:
            time.sleep(0.05)  # for the other one to come
            os.unlink(home / name)

        count.remove(fd, name, act)

    fd = os.open(home, os.O_PATH)
    threads = [threading.Thread(target=remove, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    os.close(fd)
    assert used(world) == Amount()


@pytest.mark.usefixtures("in_threads")
def test_parallel_writers_never_pass_the_limit(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    (home / "together").touch()
    limit(world, 10 * 100 * KIB + 5, 9)
    data = bytes(100 * KIB)
    outcomes: list[Kind | None] = []

    async def alone(number: int) -> None:
        async def write() -> None:
            file = await ann.open(f"f{number}", NEW, 0o644)
            try:
                await file.write(0, data)
            finally:
                await file.release()

        outcomes.append(await kind_of(write()))

    async def together() -> None:
        file = await ann.open("together", WRITE | APPEND, 0)
        outcomes.append(await kind_of(file.write(0, data)))
        await file.release()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            for number in range(12):
                nursery.start_soon(alone, number)
                nursery.start_soon(together)
        assert outcomes.count(None) == 10
        assert set(outcomes) == {None, Kind.QUOTA}
        assert (
            used(world).size_bytes == sum(os.stat(home / name).st_size for name in os.listdir(home)) == 10 * 100 * KIB
        )
        assert used(world).files == 9
        assert is_right(world)

    run(main)


def test_room_is_told_within_the_limits(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    (home / "file").write_bytes(bytes(700))

    async def main() -> None:
        disk = await ann.statfs()
        world.disk.counts.limit({HOME: Limits(1000, 10)})
        await world.disk.counts.count(HOME)
        assert await ann.statfs() == Space(1000, 300, 10, 9)
        world.disk.counts.limit({HOME: Limits(500)})
        full = await ann.statfs()
        assert (full.bytes_total, full.bytes_free, full.files_total) == (500, 0, disk.files_total)

    run(main)


def test_the_whole_is_counted_at_first_and_when_others_may_have_changed_it(
    run: Run, world: World, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("pfs.quota.DOUBTED_NS", 1)
    (home / "file").write_bytes(b"12345")
    counts = world.disk.counts

    async def until(amount: Amount) -> None:
        while used(world) != amount:  # noqa: ASYNC110
            await trio.sleep(0.01)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(counts.run)
            counts.limit({HOME: Limits(10), "home/gone": Limits(10)})
            await until(Amount(5, 1))
            (home / "file").write_bytes(b"1234567")
            counts.doubt({"home/bob"})
            counts.doubt({HOME})
            await until(Amount(7, 1))
            (home / "file").unlink()
            counts.doubt()
            await until(Amount())
            nursery.cancel_scope.cancel()

    run(main)


def test_who_is_refused_by_a_count_that_is_wrong_is_let_in_after_the_next(
    run: Run, world: World, home: Path, ann: DiskDomain
) -> None:
    (home / "file").write_bytes(b"12345678")
    counts = limit(world, 10)

    async def main() -> None:
        await counts.count(HOME)
        (home / "file").unlink()
        due_ns = counts.of(HOME).due_ns()
        assert await kind_of(ann.make_file("new", 0o644, b"123", Changes())) is Kind.QUOTA
        assert counts.of(HOME).due_ns() < due_ns
        await counts.count(HOME)
        await ann.make_file("new", 0o644, b"123", Changes())

    run(main)


# ---- any sequence of operations, also while somebody counts

NAMES = st.sampled_from(["a", "b", "d", "d/a", "d/b", "e", "e/a"])
SIZES = st.integers(0, 60)
STEPS = st.one_of(
    st.tuples(st.just("make_file"), NAMES, SIZES),
    st.tuples(st.just("open"), NAMES, st.sampled_from([READ, WRITE, WRITE | APPEND, NEW, WRITE | CREATE | TRUNCATE])),
    st.tuples(st.just("write"), SIZES, SIZES),
    st.tuples(st.just("resize"), NAMES, SIZES),
    st.tuples(st.just("release"), st.just(0), st.just(0)),
    st.tuples(st.sampled_from(["mkdir", "symlink", "unlink", "rmdir"]), NAMES, st.just(0)),
    st.tuples(st.sampled_from(["link", "rename", "exchange"]), NAMES, NAMES),
)
Step = tuple[str, Any, Any]
BYTES_MAX, FILES_MAX = 150, 8


class Doer:
    """Does steps in a home, and holds what it opens."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.files: list[OpenFile] = []
        self.moved_directory = False

    async def do(self, step: Step) -> None:
        files, (what, first, second) = self.world.disk.domain(HOME, None), step
        try:
            match what, second:
                case "make_file", int(size):
                    await files.make_file(first, 0o644, bytes(size), Changes())
                case "open", flags:
                    self.files.append(await files.open(first, flags, 0o644))  # type: ignore[arg-type]
                case "write", int(size) if self.files:
                    await self.files[-1].write(int(first), bytes(size))
                case "resize", int(size):
                    await files.setattr(first, Changes(size=size))
                case "release", _ if self.files:
                    await self.files.pop().release()
                case "mkdir", _:
                    await files.mkdir(first, 0o755)
                case "symlink", _:
                    await files.symlink(first, "a")
                case (("unlink" | "rmdir"), _):
                    await getattr(files, what)(first)
                case "link", str(name):
                    await files.link(first, name)
                case (("rename" | "exchange"), str(name)):
                    mode = RenameMode.REPLACE if what == "rename" else RenameMode.EXCHANGE
                    home = self.world.path / HOME
                    directory = any(os.path.isdir(home / each) for each in (first, name))  # noqa: ASYNC240
                    await files.rename(first, name, mode)
                    self.moved_directory = self.moved_directory or directory
        except PfsError:
            pass
        assert used(self.world).files <= FILES_MAX
        assert used(self.world).size_bytes <= BYTES_MAX

    async def end(self) -> None:
        for file in self.files:
            await file.release()


@pytest.fixture
def worlds() -> Iterator[Callable[[], World]]:
    """Gives new datacenters, whose homes are counted a name at a time."""
    made: list[World] = []
    with tempfile.TemporaryDirectory() as path, pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan, "NAMES_AT_ONCE", 1)

        def make() -> World:
            made.append(World(Path(path) / str(len(made))))
            return made[-1]

        yield make
        for each in made:
            each.disk.close()


def test_whatever_is_done_what_was_counted_is_what_there_is(worlds: Callable[[], World]) -> None:
    @settings(max_examples=12)
    @given(before=st.lists(STEPS, max_size=4), meanwhile=st.lists(STEPS, max_size=9), after=st.lists(STEPS, max_size=4))
    def check(
        before: list[Step],
        meanwhile: list[Step],
        after: list[Step],
    ) -> None:
        world = worlds()
        home = world.path / HOME
        for name in ("d", "e"):
            (home / name).mkdir()
        for name in ("a", "d/a", "e/a"):
            (home / name).write_bytes(bytes(10))
        limit(world, BYTES_MAX, FILES_MAX)
        doer = Doer(world)

        async def each(steps: list[Step]) -> None:
            for step in steps:
                await doer.do(step)
                assert is_right(world)

        trio.run(each, before)
        doer.moved_directory = False  # what is below it may be missed, and counting is due again soon

        def going_on() -> bool:
            if meanwhile:
                trio.run(doer.do, meanwhile.pop())
            return True

        world.disk.counts.count_in_thread(HOME, going_on)
        if not doer.moved_directory:
            assert is_right(world)
            trio.run(each, after)
            trio.run(doer.end)
            assert is_right(world)

    check()
