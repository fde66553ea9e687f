"""One caller's view of the tree: where paths lead, and that what one may not read looks like what is not there."""

import os
from collections.abc import Awaitable, Callable

import pytest

from pfs.api import Changes, NodeType, Owner, RenameMode, Space, XattrMode
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.quota import Limits
from tests.pfs.world import (
    ADMIN,
    ANN,
    BOB,
    CHANGING,
    CREATE,
    EXCLUSIVE,
    NEW,
    OPERATIONS,
    READ,
    TRUNCATE,
    WRITE,
    World,
    kind_of,
    outcome,
)

Run = Callable[[Callable[[], Awaitable[None]]], None]
REPLACE = RenameMode.REPLACE


# ---- rights


@pytest.mark.parametrize(
    ("subject", "foreign", "absent"),
    [
        (ANN, "home/bob/x", "home/nobody/x"),
        (ANN, "home/bob/d/x", "home/nobody/d/x"),
        (ANN, "home/bob/missing", "home/nobody/missing"),
        (BOB, "job/keep/x", "job/nothing/x"),
        (Subject("eve", groups=frozenset({"hr"})), "job/keep/d/x", "job/nothing/d/x"),
    ],
)
def test_below_a_foreign_door_all_is_as_if_there_were_none(
    run: Run, world: World, subject: Subject, foreign: str, absent: str
) -> None:
    for place in ("home/bob", "jobs/17/data"):
        (world.path / place / "d").mkdir()
        for name in ("x", "d/x"):
            (world.path / place / name).write_bytes(b"theirs")
    (world.path / "home/ann/mine").write_bytes(b"mine")
    before = sorted(world.path.rglob("*"))
    fs = world.fs(subject)

    async def main() -> None:
        for name, ask in OPERATIONS.items():
            met = await outcome(ask(fs, foreign), foreign)
            assert (name, met) == (name, await outcome(ask(fs, absent), absent))
            assert met is not None
            assert (name, met[0]) == (name, Kind.NOT_FOUND)

    run(main)
    assert sorted(world.path.rglob("*")) == before
    assert (world.path / "home/bob/x").read_bytes() == b"theirs"


@pytest.mark.parametrize("subject", [ANN, BOB, ADMIN])
def test_shared_is_read_and_not_changed(run: Run, world: World, subject: Subject) -> None:
    (world.path / "shared/x").write_bytes(b"12345")
    (world.path / "home/ann/mine").write_bytes(b"mine")
    fs = world.fs(subject)

    async def main() -> None:
        for path in ("shared/x", "shared/new"):
            for name, change in CHANGING.items():
                # to move something there one has to have it
                foreign = subject is BOB and name in ("rename to", "exchange", "link to")
                met = await kind_of(change(fs, path))
                assert (name, met) == (name, Kind.NOT_FOUND if foreign else Kind.DENIED)
        file = await fs.open("shared/x", READ, 0)
        assert await file.read(0, 10) == b"12345"
        await file.release()

    run(main)
    assert [path.name for path in (world.path / "shared").iterdir()] == ["x"]
    assert (world.path / "shared/x").read_bytes() == b"12345"


def test_what_a_job_keeps_is_read_by_its_owner_and_changed_by_nobody(run: Run, world: World) -> None:
    (world.path / "jobs/17/data/x").write_bytes(b"12345")
    (world.path / "home/ann/mine").touch()

    async def main() -> None:
        for name, change in CHANGING.items():
            assert (name, await kind_of(change(world.fs(ANN), "job/keep/x"))) == (name, Kind.DENIED)
        assert (await world.fs(ANN).getattr("job/keep/x")).size == 5

    run(main)


def test_a_domain_cannot_be_emptied_by_moving_out_of_it(run: Run, world: World) -> None:
    (world.path / "shared/x").touch()

    async def main() -> None:
        assert await kind_of(world.fs(ADMIN).rename("shared/x", "home/ann/x", REPLACE)) is Kind.DENIED

    run(main)


def test_an_admin_does_in_a_home_what_its_owner_does(run: Run, world: World) -> None:
    async def main() -> None:
        for subject in (ANN, ADMIN):
            fs = world.fs(subject)
            file = await fs.open("home/ann/x", NEW, 0o644)
            await file.write(0, b"12345")
            await file.release()
            assert (await fs.setattr("home/ann/x", Changes(size=2))).size == 2
            await fs.mkdir("home/ann/d", 0o755)
            await fs.symlink("home/ann/l", "x")
            assert await fs.readlink("home/ann/l") == "x"
            await fs.rename("home/ann/x", "home/ann/d/y", REPLACE)
            assert [entry.name for entry in await fs.listdir("home/ann")] == ["d", "l"]
            await fs.unlink("home/ann/d/y")
            await fs.unlink("home/ann/l")
            await fs.rmdir("home/ann/d")

    run(main)


@pytest.mark.parametrize("subject", [ANN, ADMIN])
def test_modes_show_what_one_may_do(run: Run, world: World, subject: Subject) -> None:
    (world.path / "shared/x").touch(0o644)
    (world.path / "home/ann/x").touch(0o644)

    async def main() -> None:
        fs = world.fs(subject)
        assert (await fs.getattr("shared/x")).mode == 0o444
        assert [entry.attr.mode for entry in await fs.listdir("shared")] == [0o444]
        assert (await fs.getattr("shared")).mode & 0o222 == 0
        assert (await fs.getattr("home/ann/x")).mode == 0o644
        assert [entry.attr.mode for entry in await fs.listdir("home/ann")] == [0o644]

    run(main)


# ---- where paths lead


def test_the_tree_can_be_walked(run: Run, world: World) -> None:
    async def main() -> None:
        fs = world.fs(ANN)
        assert [entry.name for entry in await fs.listdir("")] == [
            "README.txt",
            "by",
            "drops",
            "home",
            "job",
            "public",
            "shared",
        ]
        assert (await fs.getattr("")).type is NodeType.DIRECTORY
        assert (await fs.getattr("job/log")).stream
        assert (await fs.getattr("home/ann")).type is NodeType.DIRECTORY
        assert await fs.readlink("public") == "shared"
        assert (await fs.getattr("public")).type is NodeType.SYMLINK

    run(main)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("missing/x", Kind.NOT_FOUND),
        ("README.txt/x", Kind.NOT_DIR),
        ("public/x", Kind.NOT_DIR),
        ("/home", Kind.INVALID),
        ("home/", Kind.INVALID),
        ("home/../shared", Kind.INVALID),
        ("home/ann/..", Kind.INVALID),
        ("home/ann/../bob/x", Kind.INVALID),
        ("home/ann/a\0b", Kind.INVALID),
        ("home/ann/\ud800", Kind.INVALID),
        ("home/ann/" + "x" * 256, Kind.NAME_TOO_LONG),
        ("home/ann" + "/x" * 2044, Kind.NAME_TOO_LONG),
    ],
)
def test_paths_that_lead_nowhere(run: Run, world: World, path: str, kind: Kind) -> None:
    (world.path / "home/ann/mine").touch()

    async def main() -> None:
        for name, ask in OPERATIONS.items():
            assert (name, await kind_of(ask(world.fs(ANN), path))) == (name, kind)

    run(main)


@pytest.mark.parametrize(
    "name", ["getattr", "listdir", "readlink", "open", "rename from", "unlink", "rmdir", "setattr"]
)
def test_what_is_missing_is_missing(run: Run, world: World, name: str) -> None:
    async def main() -> None:
        assert await kind_of(OPERATIONS[name](world.fs(ANN), "home/ann/missing")) is Kind.NOT_FOUND

    run(main)


@pytest.mark.parametrize("path", ["", "home", "home/ann", "home/ann/d", "job", "drops"])
def test_a_directory_is_not_opened(run: Run, world: World, path: str) -> None:
    (world.path / "home/ann/d").mkdir()

    async def main() -> None:
        for flags in (READ, WRITE, WRITE | CREATE, READ | TRUNCATE):
            assert await kind_of(world.fs(ANN).open(path, flags, 0o644)) is Kind.IS_DIR

    run(main)


@pytest.mark.parametrize("path", ["README.txt", "job/ctl", "public", "job", "home/ann", "home/ann/mine", "drops/x"])
def test_what_is_there_is_not_made(run: Run, world: World, path: str) -> None:
    (world.path / "home/ann/mine").touch()
    world.drops.texts["x"] = b"1"

    async def main() -> None:
        assert await kind_of(world.fs(ANN).open(path, WRITE | CREATE | EXCLUSIVE, 0o644)) is Kind.EXISTS

    run(main)


@pytest.mark.parametrize("path", ["public", "by/17"])
def test_a_link_is_not_opened_by_the_server(run: Run, world: World, path: str) -> None:
    async def main() -> None:
        assert await kind_of(world.fs(ANN).open(path, READ, 0)) is Kind.LOOP

    run(main)


def test_a_link_that_a_user_made_is_never_followed(run: Run, world: World) -> None:
    (world.path / "home/bob/x").write_bytes(b"theirs")
    (world.path / "home/ann/bob").symlink_to("../bob")
    (world.path / "home/ann/x").symlink_to("../bob/x")

    async def main() -> None:
        fs = world.fs(ANN)
        assert await kind_of(fs.open("home/ann/bob/x", READ, 0)) is Kind.LOOP
        assert await kind_of(fs.open("home/ann/x", READ, 0)) is Kind.LOOP
        assert await kind_of(fs.listdir("home/ann/bob")) in (Kind.LOOP, Kind.NOT_DIR)
        assert (await fs.getattr("home/ann/x")).type is NodeType.SYMLINK
        assert await fs.readlink("home/ann/x") == "../bob/x"
        assert await fs.follow("home/ann/bob/x") == "home/ann/bob/x"

    run(main)


@pytest.mark.parametrize(
    ("target", "kind"), [("", Kind.INVALID), ("a\0", Kind.INVALID), ("x" * 5000, Kind.NAME_TOO_LONG)]
)
def test_a_link_cannot_lead_anywhere_at_all(run: Run, world: World, target: str, kind: Kind) -> None:
    async def main() -> None:
        for path in ("home/ann/l", "drops/l"):
            assert await kind_of(world.fs(ANN).symlink(path, target)) is kind

    run(main)


# ---- nodes that the server makes


def test_in_a_directory_of_the_server_things_happen_as_it_says(run: Run, world: World) -> None:
    async def main() -> None:
        fs = world.fs(ANN)
        file = await fs.open("drops/x.yaml", WRITE | CREATE, 0o644)
        await file.write(0, b"spec\n")
        await file.release()
        assert world.drops.texts == {"x.yaml": b"spec\n"}
        await fs.rename("drops/x.yaml", "drops/y.yaml", REPLACE)
        assert [entry.name for entry in await fs.listdir("drops")] == ["y.yaml"]
        await fs.unlink("drops/y.yaml")
        assert world.drops.texts == {}
        assert await fs.put("drops/z.yaml", b"spec\n", "key") == "jobs/1"
        assert world.drops.keys == ["key"]
        for refused in (
            fs.mkdir("drops/d", 0o755),
            fs.symlink("drops/l", "x"),
            fs.rmdir("drops/d"),
            fs.unlink("job/log"),
        ):
            assert await kind_of(refused) is Kind.FORBIDDEN

    run(main)


@pytest.mark.parametrize("path", ["new", "home/new", "job/new", "by/new"])
def test_files_are_not_made_where_nobody_takes_them(run: Run, world: World, path: str) -> None:
    async def main() -> None:
        assert await kind_of(world.fs(ADMIN).open(path, WRITE | CREATE, 0o644)) is Kind.FORBIDDEN

    run(main)


def test_commands_are_taken_and_refused(run: Run, world: World) -> None:
    async def main() -> None:
        file = await world.fs(ANN).open("job/ctl", WRITE | TRUNCATE, 0)
        await file.write(0, b"kill\n")
        assert await kind_of(file.write(0, b"dance\n")) is Kind.INVALID
        assert world.control.commands == [b"kill\n"]
        assert (await world.fs(ANN).setattr("job/ctl", Changes(mtime_ns=1))).mode == 0o600
        assert await kind_of(world.fs(ANN).setattr("job/state", Changes(size=0))) is Kind.DENIED

    run(main)


def test_a_whole_file_is_put_where_the_server_takes_it_and_nowhere_else(run: Run, world: World) -> None:
    async def main() -> None:
        fs = world.fs(ANN)
        assert await kind_of(fs.put("home/ann/x", b"", None)) is Kind.UNSUPPORTED
        assert await kind_of(fs.put("home/bob/x", b"", None)) is Kind.NOT_FOUND
        assert await kind_of(fs.put("home/ann", b"", None)) is Kind.IS_DIR
        assert await kind_of(fs.put("job/log/x", b"", None)) is Kind.NOT_DIR
        assert await fs.in_domain("home/ann/x")
        assert await fs.in_domain("shared/missing/x")
        for outside in ("home/ann", "drops/x", "new"):
            assert not await fs.in_domain(outside)

    run(main)


# ---- renames


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("home/ann/mine", "home/bob/x"),
        ("home/ann/mine", "drops/x"),
        ("drops/x", "home/ann/y"),
        ("drops/x", "job/y"),
        ("home/ann/mine", "new"),
    ],
)
def test_a_rename_stays_in_its_domain(run: Run, world: World, source: str, target: str) -> None:
    (world.path / "home/ann/mine").write_bytes(b"mine")
    (world.path / "home/bob/x").write_bytes(b"theirs")
    world.drops.texts["x"] = b"1"

    async def main() -> None:
        for mode in RenameMode:
            with pytest.raises(PfsError) as caught:
                await world.fs(ADMIN).rename(source, target, mode)
            assert (caught.value.kind, caught.value.path) == (Kind.CROSS_DOMAIN, target)

    run(main)
    assert (world.path / "home/ann/mine").read_bytes() == b"mine"
    assert (world.path / "home/bob/x").read_bytes() == b"theirs"
    assert world.drops.texts == {"x": b"1"}


def test_a_domain_itself_is_not_renamed(run: Run, world: World) -> None:
    async def main() -> None:
        assert await kind_of(world.fs(ADMIN).rename("home/ann", "home/eve", REPLACE)) is Kind.FORBIDDEN
        assert await kind_of(world.fs(ADMIN).rename("shared", "home/ann/x", REPLACE)) is Kind.CROSS_DOMAIN

    run(main)


# ---- owners


@pytest.mark.parametrize("subject", [ANN, BOB])
def test_only_admins_say_whose_a_file_is(run: Run, world: World, subject: Subject) -> None:
    (world.path / "home/ann/mine").touch()
    (world.path / "home/ann/drop").touch()
    mine = (world.path / "home/ann/mine").stat()
    same = Owner(mine.st_uid, mine.st_gid)  # not even that it is what it is

    async def main() -> None:
        fs = world.fs(subject)
        for path in ("home/ann/x", "drops/x", "home/missing/x"):
            for asked in (
                fs.mkdir(path, 0o755, same),
                fs.symlink(path, "y", same),
                fs.mknod(path, NodeType.FIFO, 0o644, same),
                fs.open(path, WRITE | CREATE, 0o644, same),
            ):
                assert await kind_of(asked) is Kind.FORBIDDEN
        for path in ("home/ann/mine", "job/ctl"):
            for changes in (Changes(uid=same.uid), Changes(gid=same.gid, mode=0o777)):
                expected = Kind.NOT_FOUND if subject is BOB and path.startswith("home") else Kind.FORBIDDEN
                assert await kind_of(fs.setattr(path, changes)) is expected
        if subject is ANN:
            file = await fs.open("home/ann/mine", WRITE, 0)
            assert await kind_of(file.setattr(Changes(uid=same.uid))) is Kind.FORBIDDEN
            await file.release()

    run(main)
    assert (world.path / "home/ann/mine").stat().st_mode == mine.st_mode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_an_admin_says_whose_a_file_is(run: Run, world: World) -> None:
    owner = Owner(7, 8)

    async def main() -> None:
        fs = world.fs(ADMIN)
        made = [
            await fs.mkdir("home/ann/d", 0o755, owner),
            await fs.symlink("home/ann/l", "y", owner),
            await fs.mknod("home/ann/p", NodeType.FIFO, 0o644, owner),
        ]
        file = await fs.open("home/ann/x", WRITE | CREATE, 0o4711, owner)
        made.append(file.attr)
        assert [(attr.uid, attr.gid) for attr in made] == [(7, 8)] * 4
        assert file.attr.mode == 0o4711
        assert (await file.setattr(Changes(gid=9))).gid == 9
        await file.release()
        changed = await fs.setattr("home/ann/x", Changes(uid=5, mode=0o6755))
        assert (changed.uid, changed.gid, changed.mode) == (5, 9, 0o6755)  # the owner first: it takes bits away
        changed = await fs.setattr("home/ann/l", Changes(uid=5))
        assert (changed.type, changed.uid, changed.gid) == (NodeType.SYMLINK, 5, 8)
        drop = await fs.open("drops/x", WRITE | CREATE, 0o644, owner)  # what the server makes has none
        assert drop.attr.uid == 0
        await drop.release()
        assert (await fs.setattr("job/ctl", Changes(uid=5))).uid == 0

    run(main)


def test_what_is_open_for_reading_in_a_foreign_domain_is_not_changed(run: Run, world: World) -> None:
    (world.path / "shared/x").write_bytes(b"12345")
    before = (world.path / "shared/x").stat()

    async def main() -> None:
        for subject in (ANN, ADMIN):
            file = await world.fs(subject).open("shared/x", READ, 0)
            for changes in (Changes(mode=0o777), Changes(mtime_ns=1), Changes(size=0), Changes(uid=5)):
                assert await kind_of(file.setattr(changes)) is Kind.DENIED
            await file.release()

    run(main)
    after = (world.path / "shared/x").stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_size) == (before.st_mode, before.st_mtime_ns, 5)


# ---- links, extended attributes, contents


@pytest.mark.parametrize(
    ("source", "target", "kind"),
    [
        ("home/ann/mine", "home/bob/x", Kind.CROSS_DOMAIN),
        ("home/ann/mine", "drops/x", Kind.CROSS_DOMAIN),
        ("drops/x", "home/ann/y", Kind.CROSS_DOMAIN),
        ("drops/x", "drops/y", Kind.FORBIDDEN),
        ("home/ann", "home/eve", Kind.FORBIDDEN),
        ("home/ann/d", "home/ann/e", Kind.FORBIDDEN),
        ("home/ann/missing", "home/ann/e", Kind.NOT_FOUND),
        ("home/ann/mine", "home/ann/d", Kind.EXISTS),
    ],
)
def test_a_second_name_stays_in_its_domain(run: Run, world: World, source: str, target: str, kind: Kind) -> None:
    (world.path / "home/ann/mine").touch()
    (world.path / "home/ann/d").mkdir()
    world.drops.texts["x"] = b"1"

    async def main() -> None:
        assert await kind_of(world.fs(ADMIN).link(source, target)) is kind

    run(main)
    assert (world.path / "home/ann/mine").stat().st_nlink == 1


def test_an_extended_attribute_is_a_users(run: Run, world: World) -> None:
    (world.path / "home/ann/x").touch()

    async def main() -> None:
        for path in ("home/ann/x", "job/log", "home/missing"):
            for name in ("security.capability", "trusted.x", "system.posix_acl_access", "user", "x"):
                for asked in (
                    world.fs(ADMIN).getxattr(path, name),
                    world.fs(ADMIN).setxattr(path, name, b"1", XattrMode.EITHER),
                    world.fs(ADMIN).removexattr(path, name),
                ):
                    assert await kind_of(asked) is Kind.UNSUPPORTED
        assert await world.fs(ANN).listxattr("job/log") == []
        assert await kind_of(world.fs(ANN).getxattr("job/log", "user.x")) is Kind.NO_DATA

    run(main)


def test_contents_come_with_what_one_may_do(run: Run, world: World) -> None:
    (world.path / "shared/x").write_bytes(b"12345")
    (world.path / "shared/x").chmod(0o644)

    async def main() -> None:
        fs = world.fs(ANN)
        [content] = await fs.contents("shared", ["x"], 5)
        assert (content.name, content.attr, content.data) == ("x", await fs.getattr("shared/x"), b"12345")
        assert content.attr.mode == 0o444
        assert await fs.contents("drops", ["x"], 5) == []
        assert await kind_of(fs.contents("shared/x", ["x"], 5)) is Kind.NOT_DIR

    run(main)


# ---- opening again


def test_what_was_open_is_opened_again_and_nothing_else(run: Run, world: World) -> None:
    (world.path / "home/ann/x").write_bytes(b"12345")
    (world.path / "home/ann/y").write_bytes(b"other")

    async def main() -> None:
        fs = world.fs(ANN)
        number = (await fs.getattr("home/ann/x")).node_id
        file = await fs.reopen("home/ann/x", number, WRITE | CREATE | EXCLUSIVE | TRUNCATE)
        assert await file.read(0, 10) == b"12345"  # neither made nor cut
        await file.release()
        for path in ("home/ann/y", "home/ann/missing", "home/ann/x/y", "home/ann", "home", "missing", ""):
            assert await kind_of(fs.reopen(path, number, READ)) is Kind.STALE
        assert await kind_of(world.fs(BOB).reopen("home/ann/x", number, READ)) is Kind.NOT_FOUND

    run(main)


def test_a_made_file_is_opened_again_unless_closing_it_is_a_command(run: Run, world: World) -> None:
    async def main() -> None:
        fs = world.fs(ANN)
        world.log.change(b"line\n")
        file = await fs.reopen("job/log", (await fs.getattr("job/log")).node_id, READ)
        assert await file.read(0, 10) == b"line\n"
        await file.release()
        assert await kind_of(fs.reopen("job/log", 5, READ)) is Kind.STALE
        world.drops.texts["x"] = b"half"
        assert await kind_of(fs.reopen("drops/x", (await fs.getattr("drops/x")).node_id, WRITE)) is Kind.STALE

    run(main)


# ---- the tree's own links


@pytest.mark.parametrize(
    ("path", "leads"),
    [
        ("", ""),
        ("job/log", "job/log"),
        ("public", "shared"),
        ("public/a/b", "shared/a/b"),
        ("by/17", "job"),
        ("by/17/log", "job/log"),
        ("by/theirs", "by/theirs"),
        ("home/ann/public", "home/ann/public"),
    ],
)
def test_the_trees_own_links_are_followed(run: Run, world: World, path: str, leads: str) -> None:
    async def main() -> None:
        assert await world.fs(ANN).follow(path) == leads

    run(main)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("missing", Kind.NOT_FOUND),
        ("by/loop", Kind.LOOP),
        ("by/loop/x", Kind.LOOP),
        ("by/out", Kind.INVALID),
        ("by/out/passwd", Kind.INVALID),
        ("../x", Kind.INVALID),
    ],
)
def test_links_that_lead_nowhere(run: Run, world: World, path: str, kind: Kind) -> None:
    async def main() -> None:
        assert await kind_of(world.fs(ANN).follow(path)) is kind

    run(main)


def test_room_is_told_everywhere(run: Run, world: World) -> None:
    async def main() -> None:
        for path in ("", "home/ann", "job/log", "shared"):
            assert (await world.fs(ANN).statfs(path)).bytes_total > 0

    run(main)


def test_room_at_the_top_is_that_of_ones_own_home(run: Run, world: World) -> None:
    async def main() -> None:
        whole = await world.fs(ANN).statfs("")
        world.disk.counts.limit({"home/ann": Limits(1000, 10)})
        for path in ("", "home", "home/ann"):
            assert await world.fs(ANN).statfs(path) == Space(1000, 1000, 10, 10)
        for subject, path in ((ANN, "shared"), (BOB, ""), (BOB, "home/bob"), (ADMIN, "")):
            assert (await world.fs(subject).statfs(path)).bytes_total == whole.bytes_total
        assert (await world.fs(ADMIN).statfs("home/ann")).bytes_total == 1000

    run(main)
