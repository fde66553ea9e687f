"""Copying a tree from one domain into another: what is copied, how much at most, whose it is, and again after a cut."""

import contextlib
import itertools
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator
from pathlib import Path

import pytest
import trio

from pfs.disk import copytree
from pfs.disk.attr import node_id_of
from pfs.disk.copytree import DEPTH_MAX, Copied, Limits, Piece, copy_tree, lay_out
from pfs.errors import Kind, PfsError
from pfs.quota import Amount
from pfs.quota import Limits as FileLimits
from tests.pfs.world import World

Run = Callable[[Callable[[], Awaitable[Copied]]], Copied]
ENOUGH = Limits(1000, 1 << 30)
OWNER = 200_007


@pytest.fixture
def source(world: World) -> Path:
    path = world.path / "home/ann/src"
    path.mkdir()
    return path


@pytest.fixture
def target(world: World) -> Path:
    return world.path / "jobs/17/data"


@pytest.fixture
def copy(run: Run, world: World) -> Callable[..., Copied]:
    def copy(path: str = "src", uid: int | None = None, limits: Limits = ENOUGH) -> Copied:
        async def main() -> Copied:
            return await copy_tree(world.disk, "home/ann", path, "jobs/17/data", uid=uid, limits=limits)

        return run(main)

    return copy


Copy = Callable[..., Copied]


def failure(copy: Copy, **how: object) -> Kind:
    with pytest.raises(PfsError) as caught:
        copy(**how)
    return caught.value.kind


@pytest.mark.parametrize("limits", [ENOUGH, Limits(2, 1 << 30)], ids=["to its end", "refused in the middle"])
def test_who_looked_while_it_grew_is_told(copy: Copy, source: Path, target: Path, world: World, limits: Limits) -> None:
    told: set[int] = set()

    async def changed(nodes: Collection[int]) -> None:
        told.update(nodes)

    world.disk.changed = changed
    (source / "a").mkdir()
    (source / "a/f").write_text("text")
    (source / "g").write_text("text")
    with contextlib.suppress(PfsError):
        copy(limits=limits)
    made = [target, *target.rglob("*")]
    assert len(made) >= 3
    assert told == {node_id_of(path.stat()) for path in made}


def test_files_keep_bytes_mode_and_times(copy: Copy, source: Path, target: Path) -> None:
    (source / "sub/deep").mkdir(parents=True)
    (source / "sub/deep/run.sh").write_bytes(b"#!/bin/sh\n" * 1000)
    (source / "sub/deep/run.sh").chmod(0o750)
    os.utime(source / "sub/deep/run.sh", ns=(1_000_000_001, 2_000_000_002))
    (source / os.fsdecode(b"caf\xe9")).write_bytes(b"")
    assert copy() == Copied(files=4, size_bytes=10_000)
    made = target / "sub/deep/run.sh"
    assert made.read_bytes() == b"#!/bin/sh\n" * 1000
    info = made.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_mtime_ns) == (0o750, 2_000_000_002)
    assert (target / os.fsdecode(b"caf\xe9")).read_bytes() == b""


def test_a_whole_domain_can_be_copied(copy: Copy, source: Path, target: Path) -> None:
    (source / "x").write_bytes(b"1")
    assert copy("").files == 2
    assert (target / "src/x").read_bytes() == b"1"


def test_links_are_copied_as_links(copy: Copy, source: Path, target: Path, tmp_path: Path) -> None:
    for name, there in (
        ("file", str(tmp_path / "secret")),
        ("up", "../../bob"),
        ("broken", "nowhere"),
        ("self", "self"),
    ):
        (source / name).symlink_to(there)
    assert copy() == Copied(files=4)
    assert {name: os.readlink(target / name) for name in os.listdir(target)} == {
        "file": str(tmp_path / "secret"),
        "up": "../../bob",
        "broken": "nowhere",
        "self": "self",
    }


def test_what_is_no_file_is_left_out_and_holds_nobody_up(copy: Copy, source: Path, target: Path) -> None:
    os.mkfifo(source / "fifo")
    os.mknod(source / "socket", 0o666 | stat.S_IFSOCK)
    (source / "x").write_bytes(b"1")
    assert copy() == Copied(1, 1)
    assert os.listdir(target) == ["x"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("missing", Kind.NOT_FOUND),
        ("src/file", Kind.NOT_DIR),
        ("../bob", Kind.CROSS_DOMAIN),
        ("/etc", Kind.CROSS_DOMAIN),
        ("src/link", Kind.LOOP),
        ("src/link/sub", Kind.LOOP),
    ],
)
def test_what_cannot_be_copied(copy: Copy, source: Path, world: World, path: str, kind: Kind) -> None:
    (source / "file").touch()
    (source / "link").symlink_to(world.path / "home/bob")
    assert failure(copy, path=path) is kind


def test_no_more_files_than_allowed(copy: Copy, source: Path) -> None:
    for name in "abc":
        (source / name).touch()
    assert copy(limits=Limits(3, 0)).files == 3
    assert failure(copy, limits=Limits(2, 0)) is Kind.TOO_LARGE


def test_no_more_bytes_than_allowed(copy: Copy, source: Path, target: Path) -> None:
    (source / "a").write_bytes(b"12345")
    (source / "b").write_bytes(b"12345")
    assert copy(limits=Limits(10, 10)).size_bytes == 10
    assert failure(copy, limits=Limits(10, 9)) is Kind.TOO_LARGE


def test_a_tree_that_is_too_deep_is_refused(copy: Copy, source: Path) -> None:
    deep = source
    for _ in range(DEPTH_MAX - 1):
        deep = deep / "d"
    deep.mkdir(parents=True)
    (deep / "x").touch()
    assert copy().files == DEPTH_MAX
    (deep / "d").mkdir()
    assert failure(copy) is Kind.TOO_LARGE


def test_a_copy_that_was_cut_can_begin_again(copy: Copy, source: Path, target: Path, world: World) -> None:
    (source / "sub").mkdir()
    (source / "sub/x").write_bytes(b"12345")
    (source / "sub/x").chmod(0o400)
    (source / "link").symlink_to("sub")
    assert failure(copy, limits=Limits(10, 4)) is Kind.TOO_LARGE
    # as far as it came, and what somebody did to it since
    (target / "sub").mkdir(exist_ok=True)
    (target / "sub/x").symlink_to(world.path / "home/bob/x")
    for _ in range(2):
        assert copy() == Copied(3, 5)
        assert (target / "sub/x").read_bytes() == b"12345"
        assert os.readlink(target / "link") == "sub"
    assert not (world.path / "home/bob/x").exists()


def test_what_an_earlier_copy_left_counts_once(copy: Copy, source: Path, world: World) -> None:
    (source / "sub").mkdir()
    (source / "sub/x").write_bytes(b"12345")
    (source / "link").symlink_to("sub")
    counts = world.disk.counts
    counts.limit({"jobs/17/data": FileLimits(8, 3)})  # no room for all of it twice
    counts.count_in_thread("jobs/17/data", lambda: True)
    for _ in range(3):
        copy()
        assert counts.of("jobs/17/data").used == Amount(5, 3)
    counts.limit({})


def test_a_name_of_the_target_that_shares_a_file_does_not_change_it(copy: Copy, source: Path, target: Path) -> None:
    (source / "x").write_bytes(b"new")
    (target / "x").write_bytes(b"old")
    os.link(target / "x", target / "kept")
    copy()
    assert ((target / "x").read_bytes(), (target / "kept").read_bytes()) == (b"new", b"old")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_copies_are_their_owners(copy: Copy, source: Path, target: Path) -> None:
    (source / "sub").mkdir()
    (source / "sub/x").write_bytes(b"1")
    (source / "link").symlink_to("/etc/passwd")
    copy(uid=OWNER)
    owners = {(info.st_uid, info.st_gid) for info in (each.lstat() for each in target.rglob("*"))}
    assert owners == {(OWNER, OWNER)}
    assert os.stat("/etc/passwd").st_uid == 0


def test_no_descriptor_is_left(copy: Copy, source: Path, open_files: Callable[[], set[str]]) -> None:
    (source / "sub").mkdir()
    (source / "sub/x").write_bytes(b"12345")
    before = open_files()
    copy()
    failure(copy, limits=Limits(10, 4))
    failure(copy, path="missing")
    assert open_files() == before


def test_bytes_are_copied_one_way_or_the_other(
    copy: Copy, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "copy_file_range", unsupported)
    monkeypatch.setattr(copytree, "CHUNK_BYTES", 7)
    (source / "x").write_bytes(bytes(range(256)))
    assert copy().size_bytes == 256
    assert (target / "x").read_bytes() == bytes(range(256))


def test_a_file_that_grows_meanwhile_is_copied_as_far_as_it_was(
    copy: Copy, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "x").write_bytes(b"12345")
    real = os.copy_file_range

    def growing(src: int, dst: int, count: int) -> int:
        with (source / "x").open("ab") as file:
            file.write(b"67890")
        return real(src, dst, count)

    monkeypatch.setattr(os, "copy_file_range", growing)
    assert copy().size_bytes == 5
    assert (target / "x").read_bytes() == b"12345"


def test_a_file_that_goes_meanwhile_is_left_out(
    copy: Copy, source: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (source / "b").touch()
    real = os.listdir
    monkeypatch.setattr(os, "listdir", lambda fd: ["a", *real(fd)])
    assert copy().files == 1
    monkeypatch.undo()
    assert os.listdir(target) == ["b"]


# ---- a listed tree


@pytest.fixture
def contents(tmp_path: Path) -> Path:
    path = tmp_path / "contents"
    path.mkdir()
    (path / "five").write_bytes(b"12345")
    return path


@pytest.fixture
def lay(run: Run, world: World) -> Callable[..., Copied]:
    def lay(*pieces: Piece, uid: int | None = None, limits: Limits = ENOUGH) -> Copied:
        return run(lambda: lay_out(world.disk, pieces, "jobs/17/data", uid=uid, limits=limits))

    return lay


def test_what_is_listed_is_made_with_the_directories_on_the_way(lay: Copy, contents: Path, target: Path) -> None:
    five = (str(contents / "five"), 5)
    pieces = [
        Piece("a/b/run.sh", 0o755, content=five),
        Piece("a/link", link="b/run.sh"),
        Piece(os.fsdecode(b"caf\xe9"), 0o600, content=five),
        Piece("empty", 0o750),
    ]
    assert lay(*pieces).size_bytes == 10
    assert (target / "a/b/run.sh").read_bytes() == b"12345"
    assert stat.S_IMODE((target / "a/b/run.sh").stat().st_mode) == 0o755
    assert os.readlink(target / "a/link") == "b/run.sh"
    assert (target / os.fsdecode(b"caf\xe9")).read_bytes() == b"12345"
    assert (os.listdir(target / "empty"), stat.S_IMODE((target / "empty").stat().st_mode)) == ([], 0o750)
    assert lay(*pieces).size_bytes == 10, "one that was cut may begin again"


def test_nothing_is_made_through_a_link_or_outside(lay: Copy, contents: Path, target: Path, world: World) -> None:
    five = (str(contents / "five"), 5)
    (target / "away").symlink_to(world.path / "home/bob")
    for path, kind in (("away/x", Kind.LOOP), ("../x", Kind.INVALID), ("/x", Kind.INVALID)):
        with pytest.raises(PfsError) as caught:
            lay(Piece(path, content=five))
        assert caught.value.kind is kind
    lay(Piece("away", content=five))
    assert (target / "away").read_bytes() == b"12345"
    assert os.listdir(world.path / "home/bob") == []


def test_a_content_that_was_damaged_and_more_than_allowed_are_refused(lay: Copy, contents: Path, target: Path) -> None:
    for piece, limits, kind in (
        (Piece("x", content=(str(contents / "five"), 6)), ENOUGH, Kind.IO),
        (Piece("x", content=(str(contents / "gone"), 5)), ENOUGH, Kind.NOT_FOUND),
        (Piece("x", content=(str(contents / "five"), 5)), Limits(10, 4), Kind.TOO_LARGE),
        (Piece("a/b/c/d"), Limits(3, 4), Kind.TOO_LARGE),
    ):
        with pytest.raises(PfsError) as caught:
            lay(piece, limits=limits)
        assert caught.value.kind is kind


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_is_listed_is_its_owners(lay: Copy, contents: Path, target: Path) -> None:
    lay(Piece("a/b", content=(str(contents / "five"), 5)), Piece("c", link="a"), Piece("d"), uid=OWNER)
    assert {path.lstat().st_uid for path in target.rglob("*")} == {OWNER}


def test_who_is_cancelled_does_not_wait_for_the_rest(run: Run, world: World, target: Path) -> None:
    started = threading.Event()

    async def main() -> Copied:
        with trio.CancelScope() as scope:

            async def cancel() -> None:
                await trio.to_thread.run_sync(started.wait)
                scope.cancel()

            async with trio.open_nursery() as nursery:
                nursery.start_soon(cancel)
                await lay_out(world.disk, endless(), "jobs/17/data", uid=None, limits=Limits(10**9, 0))
        assert scope.cancelled_caught
        return Copied()

    def endless() -> Iterator[Piece]:
        for n in itertools.count():
            yield Piece(f"d{n % 10}")
            started.set()

    run(main)
