"""Ordinary files: every operation, what the kernel promises of them, and no way out of a domain by any path or link."""

import contextlib
import ctypes
import errno
import os
import stat
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
import trio

from pfs.api import (
    Attr,
    Changes,
    Closing,
    Content,
    NodeType,
    OpenFlags,
    Owner,
    RenameMode,
    XattrCall,
    XattrMode,
    XattrVerb,
)
from pfs.disk.attr import Powers
from pfs.disk.domains import Disk, DiskDomain
from pfs.disk.file import DiskFile
from pfs.errors import Kind, PfsError
from tests.pfs.world import APPEND, CREATE, NEW, READ, TRUNCATE, WRITE, World, contents, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]
T = TypeVar("T")
RACES = 700
NOBODY = 65_534
ADMIN = Powers(admin=True)


# ---- every operation


def test_a_file_is_made_written_read_and_told_of(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        file = await ann.open("x", NEW, 0o640)
        assert file.attr.size == 0
        assert await file.write(0, b"hello") == 5
        assert await file.write(7, b"!") == 1
        assert await file.read(0, 100) == b"hello\0\0!"
        assert await file.read(6, 1) == b"\0"
        assert await file.read(8, 10) == b""
        assert (await file.getattr()).size == 8
        await file.flush(Closing.LAST)
        await file.fsync()
        await file.release()
        attr = await ann.getattr("x")
        info = (home / "x").stat()
        assert (attr.type, attr.size, attr.mode, attr.nlink) == (NodeType.FILE, 8, 0o640, 1)
        assert (attr.mtime_ns, attr.ctime_ns, attr.atime_ns) == (info.st_mtime_ns, info.st_ctime_ns, info.st_atime_ns)
        assert (attr.volatile, attr.stream, attr.commits) == (False, False, False)

    run(main)


def test_a_file_is_made_whole(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        made = await ann.make_file("x", 0o4755, b"text", Changes(mtime_ns=5, mode=0o600))
        info = (home / "x").stat()
        assert (made.size, made.mtime_ns, made.mode) == (4, 5, 0o600)
        assert (info.st_size, info.st_mtime_ns, stat.S_IMODE(info.st_mode)) == (4, 5, 0o600)
        assert made == await ann.getattr("x")
        assert (home / "x").read_bytes() == b"text"
        assert await kind_of(ann.make_file("x", 0o600, b"other", Changes())) is Kind.EXISTS
        (home / "l").symlink_to("y")
        assert await kind_of(ann.make_file("l", 0o600, b"other", Changes())) is Kind.EXISTS
        assert await kind_of(ann.make_file("none/x", 0o600, b"", Changes())) is Kind.NOT_FOUND
        assert await kind_of(ann.make_file("z", 0o600, b"", Changes(uid=1))) is Kind.FORBIDDEN
        assert sorted(os.listdir(home)) == ["l", "x"]

    run(main)


def test_a_file_for_which_there_is_no_room_is_not_made(
    run: Run, home: Path, ann: DiskDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(fd: int, data: bytes, offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async def main() -> None:
        monkeypatch.setattr(os, "pwrite", full)
        assert await kind_of(ann.make_file("x", 0o600, b"text", Changes())) is Kind.NO_SPACE
        assert os.listdir(home) == []

    run(main)


def test_directories_are_made_listed_and_removed(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        made = await ann.mkdir("d", 0o750)
        assert (made.type, made.mode) == (NodeType.DIRECTORY, 0o750)
        await ann.mkdir("d/e", 0o755)
        await ann.symlink("d/l", "../x")
        (home / "d" / os.fsdecode(b"caf\xe9")).write_bytes(b"1234")
        listed = await ann.listdir("d")
        assert [(entry.name, entry.attr.type, entry.attr.size) for entry in listed if entry.name != "e"] == [
            (os.fsdecode(b"caf\xe9"), NodeType.FILE, 4),
            ("l", NodeType.SYMLINK, 4),
        ]
        assert [entry.attr for entry in listed] == [await ann.getattr(f"d/{entry.name}") for entry in listed]
        assert await kind_of(ann.rmdir("d")) is Kind.NOT_EMPTY
        await ann.rmdir("d/e")
        assert {entry.name for entry in await ann.listdir("")} == {"d"}

    run(main)


def test_links_are_kept_as_they_are(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        assert (await ann.symlink("l", "/etc/passwd")).type is NodeType.SYMLINK
        assert await ann.readlink("l") == "/etc/passwd"
        assert os.readlink(home / "l") == "/etc/passwd"
        assert await kind_of(ann.readlink("missing")) is Kind.NOT_FOUND
        (home / "x").touch()
        assert await kind_of(ann.readlink("x")) is Kind.INVALID

    run(main)


def test_all_of_a_nodes_names_are_one_node(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"12345")
    (home / "d").mkdir()

    async def main() -> None:
        first = await ann.getattr("x")
        second = await ann.link("x", "d/y")
        assert (second.node_id, second.nlink) == (first.node_id, 2)
        file = await ann.open("d/y", WRITE, 0)
        await file.write(0, b"6")
        await file.release()
        assert (home / "x").read_bytes() == b"62345"
        await ann.unlink("x")
        assert (await ann.getattr("d/y")).nlink == 1

    run(main)


def test_a_link_gets_a_second_name_and_not_what_it_leads_to(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    (home / "l").symlink_to("x")

    async def main() -> None:
        assert (await ann.link("l", "m")).type is NodeType.SYMLINK
        assert os.readlink(home / "m") == "x"
        assert (home / "x").stat().st_nlink == 1
        assert await kind_of(ann.link("x", "l")) is Kind.EXISTS

    run(main)


def test_files_pipes_and_sockets_are_made_without_being_opened(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        for type_, form in (
            (NodeType.FILE, stat.S_IFREG),
            (NodeType.FIFO, stat.S_IFIFO),
            (NodeType.SOCKET, stat.S_IFSOCK),
        ):
            made = await ann.mknod(type_.value, type_, 0o640)
            assert (made.type, made.mode, made.size) == (type_, 0o640, 0)
            assert stat.S_IFMT((home / type_.value).lstat().st_mode) == form
            assert (await ann.getattr(type_.value)).type is type_
            assert await kind_of(ann.mknod(type_.value, type_, 0o640)) is Kind.EXISTS
        for type_ in (NodeType.DIRECTORY, NodeType.SYMLINK):
            assert await kind_of(ann.mknod("y", type_, 0o640)) is Kind.INVALID

    run(main)


def test_owner_group_and_room_are_told(run: Run, home: Path, ann: DiskDomain) -> None:
    with (home / "sparse").open("wb") as file:
        file.truncate(1 << 30)
        file.write(b"x" * 5000)

    async def main() -> None:
        attr, info = await ann.getattr("sparse"), (home / "sparse").stat()
        assert (attr.uid, attr.gid, attr.blocks) == (info.st_uid, info.st_gid, info.st_blocks)
        assert 0 < attr.blocks * 512 < 1 << 20

    run(main)


def test_small_files_of_a_directory_come_at_once(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "d").mkdir()
    (home / "d/a").write_bytes(b"1234")
    (home / "d/b").write_bytes(b"")
    (home / "d/large").write_bytes(b"12345")
    (home / "d/l").symlink_to("a")
    (home / "d/sub").mkdir()
    os.mkfifo(home / "d/pipe")

    async def main() -> None:
        found = await ann.contents("d", ["l", "b", "missing", "large", "pipe", "sub", "a"], 4)
        assert [(each.name, each.data) for each in found] == [("b", b""), ("a", b"1234")]
        assert [each.attr for each in found] == [await ann.getattr(f"d/{each.name}") for each in found]
        assert await kind_of(ann.contents("d", ["../d/a"], 4)) is Kind.INVALID

    run(main)


def test_small_files_come_no_more_than_a_message_holds(
    run: Run, home: Path, ann: DiskDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pfs.disk.file.WHOLE_BYTES_MAX", 10)
    for name in "abc":
        (home / name).write_bytes(b"1234")

    async def main() -> None:
        assert [each.name for each in await ann.contents("", ["a", "b", "c"], 100)] == ["a", "b"]

    run(main)


def test_extended_attributes_are_kept(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    (home / "d").mkdir()

    async def main() -> None:
        for path in ("x", "d"):
            assert await kind_of(ann.getxattr(path, "user.a")) is Kind.NO_DATA
            assert await kind_of(ann.setxattr(path, "user.a", b"1", XattrMode.REPLACE)) is Kind.NO_DATA
            await ann.setxattr(path, "user.a", b"1\0", XattrMode.CREATE)
            assert await kind_of(ann.setxattr(path, "user.a", b"2", XattrMode.CREATE)) is Kind.EXISTS
            await ann.setxattr(path, "user.a", b"", XattrMode.REPLACE)
            await ann.setxattr(path, "user.\udcff", b"2", XattrMode.EITHER)
            assert await ann.getxattr(path, "user.a") == b""
            assert os.getxattr(home / path, "user.\udcff") == b"2"
            assert sorted(await ann.listxattr(path)) == ["user.a", "user.\udcff"]
            await ann.removexattr(path, "user.a")
            assert await kind_of(ann.removexattr(path, "user.a")) is Kind.NO_DATA
            assert await ann.listxattr(path) == ["user.\udcff"]

    run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root sets others than those of users")
def test_extended_attributes_of_others_than_users_do_not_exist(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    os.setxattr(home / "x", "trusted.a", b"secret")

    async def main() -> None:
        assert await ann.listxattr("x") == []
        assert await kind_of(ann.getxattr("x", "trusted.a")) is Kind.UNSUPPORTED
        assert await kind_of(ann.setxattr("x", "security.a", b"", XattrMode.EITHER)) is Kind.UNSUPPORTED
        assert await kind_of(ann.removexattr("x", "trusted.a")) is Kind.UNSUPPORTED

    run(main)
    assert os.getxattr(home / "x", "trusted.a") == b"secret"


def test_a_link_has_no_extended_attributes_and_shows_none(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    os.setxattr(home / "x", "user.a", b"1")
    (home / "l").symlink_to("x")

    async def main() -> None:
        assert await ann.listxattr("l") == []
        assert await kind_of(ann.getxattr("l", "user.a")) is Kind.NO_DATA
        assert await kind_of(ann.setxattr("l", "user.a", b"2", XattrMode.EITHER)) is Kind.FORBIDDEN

    run(main)
    assert os.getxattr(home / "x", "user.a") == b"1"


def test_an_open_file_has_its_extended_attributes_also_without_a_name(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        file = await ann.open("x", NEW, 0o644)
        await ann.setxattr("x", "user.a", b"1", XattrMode.CREATE)
        await ann.unlink("x")
        assert await file.xattr(XattrCall(XattrVerb.GET, "user.a")) == b"1"
        await file.xattr(XattrCall(XattrVerb.SET, "user.\udcff", b"2", XattrMode.CREATE))
        again = XattrCall(XattrVerb.SET, "user.\udcff", b"3", XattrMode.CREATE)
        assert await kind_of(file.xattr(again)) is Kind.EXISTS
        await file.xattr(XattrCall(XattrVerb.REMOVE, "user.a"))
        assert await file.xattr(XattrCall(XattrVerb.LIST)) == b"user.\xff\0"
        assert await kind_of(file.xattr(XattrCall(XattrVerb.GET, "user.a"))) is Kind.NO_DATA
        assert await kind_of(file.xattr(XattrCall(XattrVerb.GET, "trusted.a"))) is Kind.UNSUPPORTED
        await file.release()

    run(main)


def test_who_may_only_look_changes_no_extended_attributes(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    os.setxattr(home / "x", "user.a", b"1")

    async def main() -> None:
        file = await ann.acting(Powers(changes=False)).open("x", READ, 0)
        assert await file.xattr(XattrCall(XattrVerb.GET, "user.a")) == b"1"
        for call in (XattrCall(XattrVerb.SET, "user.a", b"2"), XattrCall(XattrVerb.REMOVE, "user.a")):
            assert await kind_of(file.xattr(call)) is Kind.DENIED
        await file.release()

    run(main)
    assert os.getxattr(home / "x", "user.a") == b"1"


def test_the_names_in_a_directory_are_synced(
    run: Run, home: Path, ann: DiskDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    (home / "d").mkdir()
    (home / "d/x").touch()
    (home / "l").symlink_to("d")

    async def main() -> None:
        await ann.fsyncdir("d")
        await ann.fsyncdir("")
        assert synced == [str(home / "d"), str(home)]
        for path, kind in (("d/x", Kind.NOT_DIR), ("none", Kind.NOT_FOUND), ("l", Kind.LOOP)):
            assert await kind_of(ann.fsyncdir(path)) is kind

    run(main)


def test_reading_moves_no_time_of_access(run: Run, home: Path, ann: DiskDomain) -> None:
    for name in ("x", "y"):
        (home / name).write_bytes(b"text")
        os.utime(home / name, ns=(5, 10**18))  # so old that any reading of a mount with `relatime` moves it

    async def main() -> None:
        file = await ann.open("x", READ, 0)
        assert await file.read(0, 10) == b"text"
        fd = await file.descriptor()
        assert fd is not None
        assert os.read(fd, 10) == b"text"
        os.close(fd)
        await file.release()
        assert [each.data for each in await ann.contents("", ["y"], 10)] == [b"text"]

    run(main)
    assert [(home / name).stat().st_atime_ns for name in ("x", "y")] == [5, 5]


def test_unlink_takes_names_and_no_directories(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()
    (home / "d").mkdir()
    (home / "l").symlink_to("x")

    async def main() -> None:
        await ann.unlink("l")
        assert (home / "x").exists()
        await ann.unlink("x")
        assert await kind_of(ann.unlink("x")) is Kind.NOT_FOUND
        assert await kind_of(ann.unlink("d")) in (Kind.IS_DIR, Kind.FORBIDDEN)
        assert await kind_of(ann.rmdir("l")) is Kind.NOT_FOUND

    run(main)


CANNOT_BE: list[tuple[Kind, Callable[[DiskDomain], Awaitable[object]]]] = [
    (Kind.NOT_FOUND, lambda d: d.getattr("missing")),
    (Kind.NOT_DIR, lambda d: d.getattr("file/x")),
    (Kind.NOT_DIR, lambda d: d.listdir("file")),
    (Kind.EXISTS, lambda d: d.mkdir("dir", 0o755)),
    (Kind.NOT_FOUND, lambda d: d.mkdir("missing/x", 0o755)),
    (Kind.EXISTS, lambda d: d.symlink("file", "x")),
    (Kind.NOT_DIR, lambda d: d.rmdir("file")),
    (Kind.NOT_FOUND, lambda d: d.open("missing", READ, 0)),
    (Kind.NOT_FOUND, lambda d: d.open("missing/x", NEW, 0o644)),
    (Kind.EXISTS, lambda d: d.open("file", NEW, 0o644)),
    (Kind.IS_DIR, lambda d: d.open("dir", READ, 0)),
    (Kind.IS_DIR, lambda d: d.open("dir", WRITE, 0)),
    (Kind.IS_DIR, lambda d: d.open("dir", WRITE | CREATE, 0o644)),
    (Kind.NAME_TOO_LONG, lambda d: d.open("x" * 256, NEW, 0o644)),
    (Kind.INVALID, lambda d: d.rename("dir", "dir/sub", RenameMode.REPLACE)),
    (Kind.IS_DIR, lambda d: d.rename("file", "dir", RenameMode.REPLACE)),
    (Kind.NOT_DIR, lambda d: d.rename("dir", "file", RenameMode.REPLACE)),
    (Kind.IS_DIR, lambda d: d.setattr("dir", Changes(size=0))),
    (Kind.FORBIDDEN, lambda d: d.setattr("", Changes(mode=0o777))),
    (Kind.FORBIDDEN, lambda d: d.setxattr("", "user.a", b"", XattrMode.EITHER)),
    (Kind.FORBIDDEN, lambda d: d.removexattr("", "user.a")),
    (Kind.FORBIDDEN, lambda d: d.link("dir", "x")),
    (Kind.NOT_FOUND, lambda d: d.link("missing", "x")),
    (Kind.EXISTS, lambda d: d.link("file", "dir")),
    (Kind.NAME_TOO_LONG, lambda d: d.link("file", "x" * 256)),
    (Kind.NAME_TOO_LONG, lambda d: d.mknod("x" * 256, NodeType.FIFO, 0o644)),
    (Kind.NAME_TOO_LONG, lambda d: d.mkdir("é" * 128, 0o755)),
    (Kind.NAME_TOO_LONG, lambda d: d.symlink("x" * 256, "x")),
    (Kind.NAME_TOO_LONG, lambda d: d.rename("file", "x" * 256, RenameMode.REPLACE)),
    (Kind.NOT_FOUND, lambda d: d.getxattr("missing", "user.a")),
    (Kind.TOO_LARGE, lambda d: d.setxattr("file", "user.a", bytes(64 * 1024 + 1), XattrMode.EITHER)),
    (Kind.NAME_TOO_LONG, lambda d: d.setxattr("file", "user." + "x" * 251, b"", XattrMode.EITHER)),
    (Kind.INVALID, lambda d: d.setxattr("file", "user.", b"", XattrMode.EITHER)),
    (Kind.FORBIDDEN, lambda d: d.setattr("file", Changes(uid=os.getuid()))),
]


def test_what_cannot_be_is_told_in_the_terms_of_the_tree(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "file").touch()
    (home / "dir").mkdir()

    async def main() -> None:
        met = [await kind_of(operation(ann)) for _, operation in CANNOT_BE]
        assert met == [kind for kind, _ in CANNOT_BE]

    run(main)


def test_room_is_that_of_the_file_system(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        space, info = await ann.statfs(), os.statvfs(home)
        assert space.bytes_total == info.f_blocks * info.f_frsize
        assert 0 < space.bytes_free <= space.bytes_total
        assert space.files_total == info.f_files

    run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_is_made_belongs_to_the_domains_owner(run: Run, world: World, home: Path) -> None:
    domain = world.disk.domain("home/ann", 200_001)
    (home / "there").touch()

    async def main() -> None:
        await domain.mkdir("d", 0o755)
        await domain.symlink("l", "/etc/passwd")
        for name in ("x", "there"):
            await (await domain.open(name, WRITE | CREATE, 0o644)).release()
        owners = {name: (home / name).lstat() for name in ("d", "l", "x", "there")}
        assert {name: (info.st_uid, info.st_gid) for name, info in owners.items()} == {
            "d": (200_001, 200_001),
            "l": (200_001, 200_001),
            "x": (200_001, 200_001),
            "there": (0, 0),  # was not made here
        }
        assert os.stat("/etc/passwd").st_uid == 0

    run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_a_setgid_directory_gives_its_group(run: Run, world: World, home: Path) -> None:
    (home / "g").mkdir()
    os.chown(home / "g", 5, 50)
    (home / "g").chmod(0o2770)
    admin = world.disk.domain("home/ann", None).acting(ADMIN)
    owned = world.disk.domain("home/ann", 200_001)

    async def main() -> None:
        await admin.mkdir("g/d", 0o755, Owner(7, 70))
        await admin.mkdir("g/d/e", 0o755, Owner(7, 70))
        await admin.symlink("g/l", "x", Owner(7, 70))
        await (await admin.open("g/x", NEW, 0o644, Owner(7, 70))).release()
        await owned.mkdir("g/f", 0o755)
        infos = {name: (home / "g" / name).lstat() for name in ("d", "d/e", "l", "x", "f")}
        assert {name: (info.st_uid, info.st_gid) for name, info in infos.items()} == {
            "d": (7, 50),
            "d/e": (7, 50),
            "l": (7, 50),
            "x": (7, 50),
            "f": (200_001, 50),
        }
        assert stat.S_IMODE(infos["d/e"].st_mode) == 0o2755  # and so do the directories in it
        assert (await owned.setattr("g/d", Changes(mode=0o700))).mode == 0o2700  # who cannot set it keeps it
        assert (await admin.setattr("g/d", Changes(mode=0o700))).mode == 0o700

    run(main)


# ---- how files are opened


def test_modes_have_no_bits_beyond_permissions_and_the_sticky_one(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        await (await ann.open("x", NEW, 0o7755)).release()
        await ann.mkdir("d", 0o7755)
        assert stat.S_IMODE((home / "x").stat().st_mode) == 0o1755
        assert (await ann.setattr("x", Changes(mode=0o6711))).mode == 0o711
        assert stat.S_IMODE((home / "x").stat().st_mode) == 0o711
        assert stat.S_IMODE((home / "d").stat().st_mode) == 0o1755

    run(main)


def test_an_admins_modes_have_all_bits(run: Run, world: World, home: Path) -> None:
    admin = world.disk.domain("home/ann", None).acting(ADMIN)

    async def main() -> None:
        file = await admin.open("x", NEW, 0o6755)
        assert file.attr.mode == 0o6755
        await file.write(0, b"as its maker wants it")
        assert (await file.setattr(Changes(mode=0o4711))).mode == 0o4711
        await file.release()
        assert (await admin.mkdir("d", 0o3755)).mode == 0o3755
        assert (await admin.mknod("y", NodeType.FILE, 0o2755)).mode == 0o2755
        assert (await admin.setattr("y", Changes(mode=0o7000))).mode == 0o7000

    run(main)


@pytest.mark.parametrize("way", ["open to write", "open to cut", "write", "resize", "resize by handle"])
def test_what_another_changes_runs_as_nobody_special_any_more(run: Run, home: Path, ann: DiskDomain, way: str) -> None:
    (home / "x").write_bytes(b"12345")

    async def main() -> None:
        file = await ann.open("x", WRITE, 0)
        (home / "x").chmod(0o6755)
        match way:
            case "open to write":
                await (await ann.open("x", WRITE, 0)).release()
            case "open to cut":
                await (await ann.open("x", READ | TRUNCATE, 0)).release()
            case "write":
                await file.write(0, b"evil")
            case "resize":
                await ann.setattr("x", Changes(size=1))
            case _:
                await file.setattr(Changes(size=1))
        await file.release()
        assert stat.S_IMODE((home / "x").stat().st_mode) == 0o755

    run(main)


def test_one_of_many_makes_a_file_exclusively(run: Run, ann: DiskDomain) -> None:
    async def main() -> None:
        outcomes: list[Kind | None] = []

        async def make() -> None:
            try:
                await (await ann.open("lock", NEW, 0o644)).release()
                outcomes.append(None)
            except PfsError as error:
                outcomes.append(error.kind)

        for _ in range(20):
            async with trio.open_nursery() as nursery:
                for _ in range(8):
                    nursery.start_soon(make)
            assert (outcomes.count(None), outcomes.count(Kind.EXISTS)) == (1, 7)
            outcomes.clear()
            await ann.unlink("lock")

    run(main)


def test_making_or_opening_never_fails_because_others_make_and_remove(run: Run, ann: DiskDomain) -> None:
    async def main() -> None:
        async def make() -> None:
            for _ in range(50):
                await (await ann.open("x", WRITE | CREATE, 0o644)).release()

        async def remove() -> None:
            for _ in range(50):
                assert await kind_of(ann.unlink("x")) in (None, Kind.NOT_FOUND)

        async with trio.open_nursery() as nursery:
            for task in (make, make, remove, remove):
                nursery.start_soon(task)

    run(main)


def test_appended_pieces_are_all_there_and_whole(run: Run, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        async def append(letter: bytes) -> None:
            file = await ann.open("log", WRITE | CREATE | APPEND, 0o644)
            for _ in range(50):
                await file.write(0, letter * 100)
            await file.release()

        async with trio.open_nursery() as nursery:
            for letter in (b"a", b"b", b"c"):
                nursery.start_soon(append, letter)
        data = (home / "log").read_bytes()
        pieces = [data[start : start + 100] for start in range(0, len(data), 100)]
        assert sorted(pieces) == [letter * 100 for letter in (b"a", b"b", b"c") for _ in range(50)]

    run(main)


@pytest.mark.parametrize("flags", [READ, WRITE, WRITE | TRUNCATE, WRITE | CREATE])
@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_pipes_and_sockets_are_refused_and_hold_nobody_up(
    run: Run, home: Path, ann: DiskDomain, kind: int, flags: OpenFlags
) -> None:
    os.mknod(home / "x", 0o666 | kind)

    async def main() -> None:
        with trio.fail_after(20):
            assert await kind_of(ann.open("x", flags, 0o644)) is Kind.UNSUPPORTED
            assert await kind_of(ann.setattr("x", Changes(size=0))) is Kind.INVALID
            assert (await ann.setattr("x", Changes(mode=0o600))).mode == 0o600

    run(main)


# ---- changes


def test_a_size_is_cut_and_extended_by_name_and_by_handle(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"12345")

    async def main() -> None:
        assert (await ann.setattr("x", Changes(size=3))).size == 3
        file = await ann.open("x", WRITE, 0)
        assert (await file.setattr(Changes(size=5))).size == 5
        assert await contents(file) == b"123\0\0"
        await file.release()

    run(main)


def test_times_are_set_to_the_nanosecond_one_by_one(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").touch()

    async def main() -> None:
        await ann.setattr("x", Changes(atime_ns=1_000_000_001, mtime_ns=2_000_000_002))
        attr = await ann.setattr("x", Changes(mtime_ns=3_000_000_003))
        assert (attr.atime_ns, attr.mtime_ns) == (1_000_000_001, 3_000_000_003)
        attr = await ann.setattr("x", Changes(atime_ns=-1_000_000_001))
        assert (attr.atime_ns, attr.mtime_ns) == (-1_000_000_001, 3_000_000_003)
        assert (home / "x").stat().st_mtime_ns == 3_000_000_003

    run(main)


def test_a_link_takes_times_and_nothing_beyond_it_changes(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"12345")
    before = (home / "x").stat()
    (home / "l").symlink_to("x")

    async def main() -> None:
        attr = await ann.setattr("l", Changes(mode=0o600, mtime_ns=5))
        assert (attr.type, attr.mtime_ns) == (NodeType.SYMLINK, 5)
        after = (home / "x").stat()
        assert (after.st_mode, after.st_mtime_ns, after.st_size) == (before.st_mode, before.st_mtime_ns, 5)

    run(main)


@contextlib.contextmanager
def as_nobody(*paths: Path) -> Iterator[None]:
    """Act as somebody who is not root, whose the paths are."""
    if os.geteuid() != 0:
        yield
        return
    for path in paths:
        os.chown(path, NOBODY, NOBODY)
    os.seteuid(NOBODY)
    ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE: changing ids took the right to one's own /proc away
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_its_owner_may_not_read_can_be_given_back(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"12345")

    async def main() -> None:
        await ann.setattr("x", Changes(mode=0))
        assert await kind_of(ann.open("x", READ, 0)) is Kind.DENIED
        assert await kind_of(ann.setattr("x", Changes(size=0))) is Kind.DENIED
        assert (await ann.setattr("x", Changes(mtime_ns=5))).mtime_ns == 5
        assert (await ann.setattr("x", Changes(mode=0o600))).mode == 0o600
        file = await ann.open("x", READ, 0)
        assert await contents(file) == b"12345"
        await file.release()

    with as_nobody(home, home / "x"):
        run(main)


# ---- renames


def test_a_rename_replaces(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"new")
    (home / "d").mkdir()
    (home / "d/y").write_bytes(b"old")

    async def main() -> None:
        await ann.rename("x", "d/y", RenameMode.REPLACE)
        assert not (home / "x").exists()
        assert (home / "d/y").read_bytes() == b"new"
        (home / "e").mkdir()
        assert await kind_of(ann.rename("e", "d", RenameMode.REPLACE)) is Kind.NOT_EMPTY
        await ann.rename("d", "e", RenameMode.REPLACE)
        assert (home / "e/y").exists()

    run(main)


def test_a_rename_can_leave_what_is_there(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"new")
    (home / "y").write_bytes(b"old")

    async def main() -> None:
        assert await kind_of(ann.rename("x", "y", RenameMode.NO_REPLACE)) is Kind.EXISTS
        assert (home / "y").read_bytes() == b"old"
        await ann.rename("x", "z", RenameMode.NO_REPLACE)
        assert (home / "z").read_bytes() == b"new"

    run(main)


def test_a_rename_can_exchange(run: Run, home: Path, ann: DiskDomain) -> None:
    (home / "x").write_bytes(b"1")
    (home / "d").mkdir()

    async def main() -> None:
        await ann.rename("x", "d", RenameMode.EXCHANGE)
        assert (home / "x").is_dir()
        assert (home / "d").read_bytes() == b"1"
        assert await kind_of(ann.rename("x", "missing", RenameMode.EXCHANGE)) is Kind.NOT_FOUND

    run(main)


# ---- no way out


def ways(path: str) -> list[Callable[[DiskDomain], Awaitable[object]]]:
    return [
        lambda d: d.getattr(path),
        lambda d: d.listdir(path),
        lambda d: d.readlink(path),
        lambda d: d.mkdir(path, 0o755),
        lambda d: d.symlink(path, "x"),
        lambda d: d.unlink(path),
        lambda d: d.rmdir(path),
        lambda d: d.rename(path, "here", RenameMode.REPLACE),
        lambda d: d.rename("mine", path, RenameMode.REPLACE),
        lambda d: d.setattr(path, Changes(mode=0o777, mtime_ns=1)),
        lambda d: d.setattr(path, Changes(size=0)),
        lambda d: d.acting(ADMIN).setattr(path, Changes(uid=NOBODY)),
        lambda d: d.contents(path, ["secret", "passwd"], 1 << 20),
        lambda d: d.mknod(path, NodeType.FIFO, 0o644),
        lambda d: d.link(path, "linked"),
        lambda d: d.link("mine", path),
        lambda d: d.getxattr(path, "user.secret"),
        lambda d: d.setxattr(path, "user.evil", b"", XattrMode.EITHER),
        lambda d: d.removexattr(path, "user.secret"),
        lambda d: d.open(path, READ, 0),
        lambda d: d.open(path, WRITE | TRUNCATE, 0),
        lambda d: d.open(path, WRITE | CREATE, 0o644),
    ]


def picture(path: Path) -> dict[str, tuple[object, ...]]:
    """Everything about everything below `path`, but when it was read."""
    found = {}
    for each in sorted([path, *path.rglob("*")]):
        info = each.lstat()
        data = each.read_bytes() if each.is_file() and not each.is_symlink() else b""
        xattrs = sorted(os.listxattr(each, follow_symlinks=False))
        owner = (info.st_uid, info.st_gid, info.st_nlink, xattrs)
        found[str(each)] = (info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, data, owner)
    return found


WAYS_OUT = """
    .. ../bob ../bob/secret ../../../etc d/.. d/../../bob/secret . d/. / /etc/passwd /etc
    dir-out dir-out/secret dir-up/bob/secret file-out d/loop d/loop/x proc/secret
"""


@pytest.mark.parametrize("path", [*WAYS_OUT.split(), "", "bad\0"])
def test_no_path_leads_out(run: Run, world: World, home: Path, ann: DiskDomain, path: str) -> None:
    bob = world.path / "home/bob"
    (bob / "secret").write_bytes(b"secret")
    os.setxattr(bob / "secret", "user.secret", b"secret")
    (home / "mine").write_bytes(b"mine")
    (home / "d").mkdir()
    for name, target in (
        ("dir-out", str(bob)),
        ("dir-up", ".."),
        ("file-out", str(bob / "secret")),
        ("d/loop", "loop"),
        ("proc", f"/proc/{os.getpid()}/root{bob}"),
    ):
        (home / name).symlink_to(target)
    before = picture(bob)
    etc = (os.stat("/etc/passwd").st_mtime_ns, Path("/etc/passwd").read_bytes()[:100])

    async def main() -> None:
        for way in ways(path):
            try:
                got = await way(ann)
            except PfsError:
                continue
            assert got != b"secret"
            if isinstance(got, list):
                assert not any(isinstance(each, Content) and each.data in (b"secret", etc[1]) for each in got)
            if isinstance(got, DiskFile):
                data = await contents(got)
                await got.release()
                assert data not in (b"secret", etc[1])
            if isinstance(got, Attr):
                assert got.node_id not in (
                    (await world.disk.domain("home/bob", None).getattr("")).node_id,
                    (await world.disk.domain("home", None).getattr("")).node_id,
                )

    run(main)
    assert picture(bob) == before
    assert os.stat("/etc/passwd").st_mtime_ns == etc[0]


def test_a_domain_behind_a_link_is_none(run: Run, world: World) -> None:
    (world.path / "home/eve").symlink_to(world.path / "home/bob")

    async def main() -> None:
        assert await kind_of(world.disk.domain("home/eve", None).getattr("")) is not None
        assert await kind_of(world.disk.domain("home/eve", None).open("x", NEW, 0o644)) is not None

    run(main)
    assert not (world.path / "home/bob/x").exists()


@contextlib.contextmanager
def swapping(one: Path, other: Path) -> Iterator[None]:
    """Exchange two names as fast as can be, in a thread of its own."""
    libc, stop = ctypes.CDLL(None, use_errno=True), threading.Event()

    def work() -> None:
        while not stop.is_set():
            assert libc.renameat2(-100, os.fsencode(one), -100, os.fsencode(other), 2) == 0

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(5)


@pytest.mark.parametrize("victim", ["d/secret", "f"], ids=["in the middle", "at the end"])
def test_a_link_that_is_swapped_in_leads_nowhere(
    run: Run, world: World, home: Path, victim: str, tmp_path: Path
) -> None:
    disk, outside = Disk(str(world.path)), tmp_path / "outside"
    ann = disk.domain("home/ann", None)
    outside.mkdir()
    (outside / "secret").write_bytes(b"secret")
    (home / "d").mkdir()
    (home / "d/secret").write_bytes(b"mine")
    (home / "f").write_bytes(b"mine")
    (home / "d.evil").symlink_to(outside)
    (home / "f.evil").symlink_to(outside / "secret")
    before = picture(outside)
    name = victim.partition("/")[0]
    met: set[Kind | None] = set()

    async def look(round_: int) -> None:
        match round_ % 6:
            case 4:
                await ann.setxattr(victim, "user.a", b"", XattrMode.EITHER)
                return
            case 5:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(home / "linked")
                await ann.link(victim, "linked")
                return
            case 0:
                file = await ann.open(victim, READ, 0)
            case 1:
                file = await ann.open(victim, WRITE | CREATE, 0o644)
            case 2:
                await ann.setattr(victim, Changes(mode=0o600, atime_ns=1, mtime_ns=1))
                return
            case _:
                await ann.setattr(victim, Changes(size=4))
                return
        data = await contents(file)
        await file.release()
        assert data == b"mine"

    async def main() -> None:
        for round_ in range(RACES):
            met.add(await kind_of(look(round_)))

    with swapping(home / name, home / f"{name}.evil"):
        run(main)
    disk.close()
    assert picture(outside) == before
    assert None in met  # the race was on: sometimes the one stood there, sometimes the other
    assert Kind.LOOP in met


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("how", ["linked", "moved", "moved directory", "another's"])
def test_what_is_put_in_the_place_of_a_new_node_is_not_given_away(
    run: Run, world: World, home: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Somebody works on the same disk, and is quick: between the making and the giving away."""
    victim = home / "victim"
    victim.mkdir() if how == "moved directory" else victim.write_text("of the server's owner")
    if how == "another's":
        os.chown(victim, NOBODY, NOBODY)
    else:
        os.utime(victim, ns=(1, 1))
    mknod = os.mknod

    def swapped(path: str, mode: int, *, dir_fd: int) -> None:
        mknod(path, mode, dir_fd=dir_fd)
        os.unlink(path, dir_fd=dir_fd)
        (os.link if how == "linked" else os.rename)(victim, home / path)

    monkeypatch.setattr(os, "mknod", swapped)
    disk = Disk(str(world.path))
    ann = disk.domain("home/ann", NOBODY - 1)

    async def main() -> None:
        assert await kind_of(ann.mknod("new", NodeType.FILE, 0o644)) is Kind.BUSY

    run(main)
    disk.close()
    assert (home / "new").stat().st_uid == (NOBODY if how == "another's" else os.getuid())


# ---- descriptors


def test_cancelled_callers_leave_no_descriptor(
    run: Run, home: Path, ann: DiskDomain, open_files: Callable[[], set[str]]
) -> None:
    (home / "x").write_bytes(b"12345")
    before = open_files()

    async def use() -> None:
        file = await ann.open("x", WRITE, 0)
        try:
            await file.read(0, 10)
            await file.write(0, b"12345")
            await ann.listdir("")
            await ann.setattr("x", Changes(mode=0o600))
            await ann.rename("x", "x", RenameMode.REPLACE)
        finally:
            await file.release()

    async def main() -> None:
        for steps in range(30):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(use)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
        assert open_files() == before

    run(main)
