"""The top of the tree: what is there for whom, and homes that are hidden or gone."""

import os
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pfs.accounts.store import Accounts
from pfs.api import Changes, NodeType
from pfs.disk.domains import Disk
from pfs.names import FIRST_GID
from pfs.perm import Subject
from pfs.sql import Database
from pfs.tree.service import TreeFileSystem
from pfs.tree.texts import Text
from pfs.tree.top import DOMAIN_DIRECTORIES, make_home_now, top
from pfs.tree.virtual import StaticDirectory
from tests.pfs.world import NEW, OPERATIONS, READ, WRITE, make_tables, outcome

Run = Callable[[Callable[[], Awaitable[None]]], None]
View = Callable[[str], TreeFileSystem]

MADE_AT_NS = 1_700_000_000_000_000_000


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    """Gives the tree as an account sees it: ann, bob and zoe the administrator; ann and eve are in the group ml."""
    database = Database(f"sqlite:///{tmp_path}/pfs.sqlite")
    make_tables(database)
    accounts = Accounts(database, numbered=os.geteuid() == 0)
    for name in DOMAIN_DIRECTORIES:
        (tmp_path / name).mkdir()
    disk = Disk(str(tmp_path))
    subjects: dict[str, Subject] = {}
    for name in ("ann", "bob", "zoe"):
        subjects[name] = accounts.add_user_now(name, admin=name == "zoe")
        make_home_now(disk, subjects[name])
    gid = accounts.join_now("ml", "ann")
    disk.make_group_directory_now("groups/ml", gid)
    subjects["ann"] = replace(subjects["ann"], groups=frozenset({"ml"}))
    subjects["eve"] = Subject("eve", groups=frozenset({"ml"}), uid=subjects["bob"].uid)

    async def text() -> bytes:
        return b"more\n"

    root = top(accounts, disk, b"read me\n", {"more": Text(("more",), text)}, MADE_AT_NS)
    yield lambda name: TreeFileSystem(root, disk, subjects[name])
    disk.close()
    database.close()


def test_the_top_is_the_same_for_all_but_what_is_for_administrators(run: Run, view: View) -> None:
    async def main() -> None:
        for name in ("ann", "zoe"):
            listed = {entry.name: entry.attr.type for entry in await view(name).listdir("")}
            assert (listed.pop("audit", None) is NodeType.FILE) == (name == "zoe")
            assert listed == {
                "README.txt": NodeType.FILE,
                "groups": NodeType.DIRECTORY,
                "home": NodeType.DIRECTORY,
                "more": NodeType.FILE,
                "public": NodeType.SYMLINK,
                "shared": NodeType.DIRECTORY,
            }

    run(main)


def test_one_sees_ones_own_home_and_an_admin_all(run: Run, view: View) -> None:
    async def main() -> None:
        assert [entry.name for entry in await view("ann").listdir("home")] == ["me", "ann"]
        assert [entry.name for entry in await view("zoe").listdir("home")] == ["me", "ann", "bob", "zoe"]

    run(main)


def test_me_and_a_tilde_lead_to_ones_own_home(run: Run, view: View) -> None:
    async def main() -> None:
        for name in ("ann", "zoe"):
            for own in ("me", "~"):
                assert await view(name).readlink(f"home/{own}") == name
                assert await view(name).follow(f"home/{own}/x/y") == f"home/{name}/x/y"

    run(main)


def test_a_home_is_ones_own(run: Run, view: View, tmp_path: Path) -> None:
    async def main() -> None:
        file = await view("ann").open("home/ann/x", NEW, 0o644)
        await file.write(0, b"mine")
        await file.release()

    run(main)
    assert (tmp_path / "home/ann/x").read_bytes() == b"mine"
    assert (tmp_path / "home/ann").stat().st_mode & 0o7777 == 0o700


def test_a_foreign_home_and_one_of_nobody_are_the_same(run: Run, view: View) -> None:
    async def main() -> None:
        fs = view("ann")
        for below in ("", "/x", "/d/x"):
            for name, ask in OPERATIONS.items():
                met = await outcome(ask(fs, f"home/bob{below}"), f"home/bob{below}")
                assert met is not None
                assert (name, met) == (name, await outcome(ask(fs, f"home/nobody{below}"), f"home/nobody{below}"))

    run(main)


def test_one_home_that_is_gone_does_not_hide_the_others(run: Run, view: View, tmp_path: Path) -> None:
    (tmp_path / "home/ann").rmdir()

    async def main() -> None:
        assert [entry.name for entry in await view("zoe").listdir("home")] == ["me", "bob", "zoe"]
        assert [entry.name for entry in await view("ann").listdir("home")] == ["me"]

    run(main)


def test_a_group_is_there_for_its_members_and_admins(run: Run, view: View) -> None:
    async def main() -> None:
        for name, seen in (("ann", ["ml"]), ("eve", ["ml"]), ("zoe", ["ml"]), ("bob", [])):
            assert [entry.name for entry in await view(name).listdir("groups")] == seen

    run(main)


def test_a_foreign_group_and_one_that_nobody_is_in_are_the_same(run: Run, view: View) -> None:
    async def main() -> None:
        for below in ("", "/x", "/d/x"):
            for name, ask in OPERATIONS.items():
                met = await outcome(ask(view("bob"), f"groups/ml{below}"), f"groups/ml{below}")
                assert met is not None
                none = await outcome(ask(view("bob"), f"groups/none{below}"), f"groups/none{below}")
                assert (name, met) == (name, none)

    run(main)


def test_what_a_member_writes_is_for_all_members_to_write(run: Run, view: View) -> None:
    async def main() -> None:
        await view("ann").mkdir("groups/ml/d", 0o700)
        await (await view("ann").open("groups/ml/d/x", NEW, 0o600)).release()
        await (await view("eve").open("groups/ml/d/x", WRITE, 0)).release()
        assert (await view("eve").setattr("groups/ml/d/x", Changes(mode=0o755))).mode == 0o775
        assert (await view("eve").setattr("groups/ml/d/x", Changes(mode=0o400))).mode == 0o440  # as its maker may
        await view("eve").unlink("groups/ml/d/x")
        await view("eve").rmdir("groups/ml/d")

    run(main)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_a_member_writes_is_theirs_and_the_groups_on_the_disk(run: Run, view: View, tmp_path: Path) -> None:
    async def main() -> None:
        await view("ann").mkdir("groups/ml/d", 0o755)
        await (await view("eve").open("groups/ml/d/x", NEW, 0o644)).release()

    run(main)
    home, directory, file = ((tmp_path / "groups/ml" / name).stat() for name in ("", "d", "d/x"))
    assert (home.st_uid, home.st_gid, home.st_mode & 0o7777) == (0, FIRST_GID + 1, 0o2770)
    assert directory.st_uid != file.st_uid
    assert (directory.st_gid, directory.st_mode & 0o7770) == (FIRST_GID + 1, 0o2770)
    assert (file.st_gid, file.st_mode & 0o7770) == (FIRST_GID + 1, 0o660)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is somebody else")
def test_what_a_member_makes_on_the_disk_itself_is_for_all_members(view: View, tmp_path: Path) -> None:
    def as_member(uid: int, script: str) -> None:
        who = {"user": uid, "group": uid, "extra_groups": [FIRST_GID + 1], "umask": 0o077}
        subprocess.run(["sh", "-ec", script], check=True, cwd=folder, timeout=30, **who)

    for parent in (tmp_path, *tmp_path.parents):
        if not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    folder = tmp_path / "groups/ml"
    as_member(7001, "mkdir -p d/e; echo mine > d/e/x")
    as_member(7002, "echo more >> d/e/x; mv d/e/x d/y; rmdir d/e")
    assert (folder / "d/y").read_text() == "mine\nmore\n"
    with pytest.raises(subprocess.CalledProcessError):
        subprocess.run(["ls", str(folder)], user=7001, group=7001, extra_groups=[], check=True, capture_output=True)


def test_the_text_at_the_top_can_be_read(run: Run, view: View) -> None:
    async def main() -> None:
        file = await view("ann").open("README.txt", READ, 0)
        assert await file.read(0, 100) == b"read me\n"

    run(main)


def test_what_never_changes_has_the_time_at_which_it_was_made(tmp_path, run):
    async def main():
        root = StaticDirectory("", {"sub": StaticDirectory("sub", {}, MADE_AT_NS)}, MADE_AT_NS)
        assert (await root.attr(Subject("ann"))).mtime_ns == MADE_AT_NS
        assert [entry.attr.mtime_ns for entry in await root.entries(Subject("ann"))] == [MADE_AT_NS]

    run(main)
