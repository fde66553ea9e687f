"""`audit` at the top of the tree: a file that grows, for administrators alone."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from pfs.accounts.store import Accounts
from pfs.api import OpenFlags
from pfs.disk.domains import Disk
from pfs.errors import Kind
from pfs.perm import Scope, Subject
from pfs.sql import Database
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import make_home_now, top
from tests.pfs.world import kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]


@pytest.fixture
def accounts(database: Database) -> Accounts:
    return Accounts(database, numbered=False)


@pytest.fixture
def files(tmp_path: Path, accounts: Accounts) -> Callable[[Subject], TreeFileSystem]:
    for name in ("home", "shared", "groups"):
        (tmp_path / "root" / name).mkdir(parents=True)
    disk = Disk(str(tmp_path / "root"))
    for name in ("ann", "root"):
        make_home_now(disk, accounts.add_user_now(name, admin=name == "root"))
    (tmp_path / "root/home/ann/x").write_bytes(b"text")
    seen = top(accounts, disk, b"", {}, 0)
    return lambda subject: TreeFileSystem(seen, disk, subject, accounts.audit.reached)


ROOT = Subject("root", admin=True)


def test_it_is_there_for_administrators_alone(run: Run, files: Callable[[Subject], TreeFileSystem]) -> None:
    async def main() -> None:
        for subject in (Subject("ann"), Subject("root", scopes=frozenset({Scope.READ, Scope.WRITE}))):
            tree = files(subject)
            assert "audit" not in {entry.name for entry in await tree.listdir("")}
            for asked in (tree.getattr("audit"), tree.open("audit", OpenFlags.READ, 0)):
                assert await kind_of(asked) is Kind.NOT_FOUND
        tree = files(ROOT)
        assert "audit" in {entry.name for entry in await tree.listdir("")}
        for flags in (OpenFlags.WRITE, OpenFlags.READ | OpenFlags.APPEND, OpenFlags.WRITE | OpenFlags.TRUNCATE):
            assert await kind_of(tree.open("audit", flags, 0)) is Kind.DENIED
        assert await kind_of(tree.unlink("audit")) is Kind.FORBIDDEN

    run(main)


def test_it_has_its_true_size_and_grows_while_it_is_open(
    run: Run, files: Callable[[Subject], TreeFileSystem], accounts: Accounts
) -> None:
    async def main() -> None:
        tree = files(ROOT)
        file = await tree.open("audit", OpenFlags.READ, 0)
        before = await file.read(0, 1 << 20)
        assert (await tree.getattr("audit")).size == (await file.getattr()).size == len(before)
        accounts.set_admin_now("ann", admin=True)
        attr = await file.getattr()
        more = await file.read(len(before), 1 << 20)
        assert b" user.admin users/ann done admin=yes " in more
        assert (attr.size, attr.mtime_ns > 0) == (len(before) + len(more), True)

    run(main)


def test_an_administrator_who_reaches_into_what_is_anothers_is_recorded_first(
    run: Run, files: Callable[[Subject], TreeFileSystem], accounts: Accounts
) -> None:
    def reached() -> list[str]:
        lines = [line.split(" ") for line in accounts.audit.lines_now()]
        return [words[5] for words in lines if words[4] == "admin.reach"]

    async def main() -> None:
        for subject in (Subject("ann"), ROOT):
            tree = files(subject)
            await tree.listdir("home")
            await tree.getattr(f"home/{subject.user}")
            await tree.listdir(f"home/{subject.user}")
        assert reached() == []
        tree = files(ROOT)
        await tree.getattr("home/ann")
        assert reached() == []
        await (await tree.open("home/ann/x", OpenFlags.READ, 0)).release()
        assert reached() == ["home/ann"]
        await tree.listdir("home/ann")
        assert reached() == ["home/ann"]

    run(main)


@pytest.mark.parametrize("what", ["list", "make", "read small files of"])
def test_names_are_reached_like_files(
    what: str, run: Run, files: Callable[[Subject], TreeFileSystem], accounts: Accounts
) -> None:
    async def main() -> None:
        tree = files(ROOT)
        match what:
            case "list":
                await tree.listdir("home/ann")
            case "make":
                await tree.mkdir("home/ann/new", 0o755)
            case _:
                assert len(await tree.contents("home/ann", ["x"], 1000)) == 1

    run(main)
    assert " admin.reach home/ann done " in list(accounts.audit.lines_now())[-1]
