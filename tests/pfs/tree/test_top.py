"""The top of the tree: what is there for whom, and homes that are hidden or gone."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from sqlmodel import SQLModel

from pfs.accounts import Accounts, Key, User
from pfs.api import NodeType
from pfs.disk.domains import Disk
from pfs.perm import Subject
from pfs.sql import Database
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import DOMAIN_DIRECTORIES, make_home_now, top
from pfs.tree.virtual import StaticDirectory, Text
from tests.pfs.world import NEW, OPERATIONS, READ, outcome

Run = Callable[[Callable[[], Awaitable[None]]], None]
View = Callable[[str], TreeFileSystem]

MADE_AT_NS = 1_700_000_000_000_000_000


@pytest.fixture
def view(tmp_path: Path) -> Iterator[View]:
    """Gives the tree as an account sees it: ann and bob, and zoe the administrator."""
    database = Database(f"sqlite:///{tmp_path}/pfs.sqlite")
    tables = [SQLModel.metadata.tables[table.__tablename__] for table in (User, Key)]
    database.write_now(lambda session: SQLModel.metadata.create_all(session.connection(), tables=tables))
    accounts = Accounts(database, numbered=False)
    for name in DOMAIN_DIRECTORIES:
        (tmp_path / name).mkdir()
    disk = Disk(str(tmp_path))
    subjects: dict[str, Subject] = {}
    for name in ("ann", "bob", "zoe"):
        subjects[name] = accounts.add_user_now(name, admin=name == "zoe")
        make_home_now(disk, subjects[name])

    async def text() -> bytes:
        return b"more\n"

    root = top(accounts, disk, b"read me\n", {"more": Text(("more",), text)}, MADE_AT_NS)
    yield lambda name: TreeFileSystem(root, disk, subjects[name])
    disk.close()
    database.close()


def test_the_top_is_the_same_for_all(run: Run, view: View) -> None:
    async def main() -> None:
        for name in ("ann", "zoe"):
            listed = {entry.name: entry.attr.type for entry in await view(name).listdir("")}
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
        assert [entry.name for entry in await view("ann").listdir("home")] == ["ann"]
        assert [entry.name for entry in await view("zoe").listdir("home")] == ["ann", "bob", "zoe"]

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
        assert [entry.name for entry in await view("zoe").listdir("home")] == ["bob", "zoe"]
        assert await view("ann").listdir("home") == []

    run(main)


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
