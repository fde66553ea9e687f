"""Who may do what with every file of the tree, as a table to be read: a file that is new changes it.

Of each file: whether it can be read, and written to; of a directory: whether it is listed, and something made in it.

    r w     yes             !  it is there, and that is refused         -  it is not there for them
"""

from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.engine.jobmounts import JobMounts
from jobd.files.jobview import job_view
from pfs.accounts.store import Identity
from pfs.api import Closing, FileSystem, NodeType, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.perm import Scope, Subject
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import make_home_now
from tests.golden import Step, check
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import Drive, driving

from .test_tree import GPUS, all_paths

SCRIPT = Path(__file__).with_name("rights.txt")
NEW = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.EXCLUSIVE
THERE = {Kind.INVALID, Kind.BUSY, Kind.EXISTS, Kind.WOULD_BLOCK}  # it may be, and cannot be now
ML = frozenset({"ml"})
# for whom, what is not theirs, and what is not there
FOREIGN = (
    ("bob", "jobs/1", "jobs/99"),
    ("mel", "jobs/2", "jobs/99"),
    ("bob", "groups/ml", "groups/none"),
    ("mel", "home/ann", "home/none"),
    ("job", "home/bob", "home/none"),
    ("job", "jobs/2", "jobs/99"),
)
COMMANDS = {"jobs": b"priority 40\n", "nodes": b"resume\n", "clusters": b"rename Laboratory\n"}


async def answer(asked: Awaitable[object]) -> Kind | None:
    try:
        await asked
    except PfsError as error:
        return None if error.kind in THERE else error.kind
    return None


async def look(fs: FileSystem, path: str, type_: NodeType) -> None:
    if type_ is NodeType.DIRECTORY:
        await fs.listdir(path)
    elif type_ is NodeType.SYMLINK:
        await fs.readlink(path)
    else:
        file = await fs.open(path, OpenFlags.READ, 0)
        try:
            await file.read(0, 1 << 20, wait=False)
        finally:
            await file.release()


async def change(fs: FileSystem, path: str, type_: NodeType) -> None:
    if type_ is NodeType.SYMLINK:
        await fs.unlink(path)
        return
    is_directory = type_ is NodeType.DIRECTORY
    file = await fs.open(f"{path}/probe" if is_directory else path, NEW if is_directory else OpenFlags.WRITE, 0o600)
    try:
        await file.write(0, COMMANDS[path.partition("/")[0]] if path.endswith("/ctl") else b"text\n")
        await file.flush(Closing.LAST)
    finally:
        await file.release()
    if is_directory:
        await fs.unlink(f"{path}/probe")


def letter(kind: Kind | None, yes: str) -> str:
    return yes if kind is None else "-" if kind is Kind.NOT_FOUND else "!"


async def views(drive: Drive) -> dict[str, TreeFileSystem]:
    """Return the tree as ann sees it, with her token, with one for reading and through her job 1, and as others do.

    She and mel are in the group ml, with which her job 1 is shared; bob is in none.
    """
    service, engine = drive.service, drive.engine

    async def nobody(key: str) -> Identity:
        raise AssertionError(key)

    mounts = JobMounts(engine.ledger, service.place, service.accounts.user, nobody)
    ann = replace(service.ann, groups=ML)
    job = replace(ann, job=1)
    return {
        "bob": service.files(engine, service.bob),
        "mel": service.files(engine, Subject("mel", groups=ML)),
        "reader": service.files(engine, replace(ann, scopes=frozenset({Scope.READ}))),
        "job": TreeFileSystem(job_view(mounts, service.disk, service.accounts.user, job), service.disk, job),
        "ann": service.files(engine, ann),
        "root": service.files(engine, service.admin),
    }


async def furnish(drive: Drive) -> None:
    """Let ann have a job that runs, a spec, a secret and a file, and the datacenter a node with GPUs and an alias."""
    service = drive.service
    accounts = service.accounts
    make_home_now(service.disk, accounts.add_user_now("mel", admin=False))
    for name in ("ann", "mel"):
        service.disk.make_group_directory_now("groups/ml", accounts.join_now("ml", name))
    accounts.set_autoshare_now("ann", ML)
    service.store.alias_now("gtx", "GTX 1070")
    await drive.engine.take_up_policy()
    node = await drive.attach(gpus=GPUS[:1], attrs={"mounts": True})
    assert await drive.submit("command: x\nresources: '[gtx]'\n") == 1
    (task,) = await node.starts()
    await node.runs(task.task_id)
    assert await drive.submit("command: x\nprivate: true\n", name="p") == 2
    ann = service.files(drive.engine, replace(service.ann, groups=ML))
    texts = {"jobs/wrong.yaml": b"nonsense\n", "secrets/wandb": b"token\n"}
    for path, text in (texts | {"home/ann/x": b"text\n", "groups/ml/x": b"text\n"}).items():
        file = await ann.open(path, NEW, 0o644)
        await answer(file.write(0, text))
        await answer(file.flush(Closing.LAST))
        await file.release()


@pytest.fixture
def furnished(service: Service, run):
    """Run an async test with the views, and return what it returns."""

    def within(main):
        async def outer():
            async with driving(service) as drive:
                await furnish(drive)
                return await main(await views(drive))

        return run(outer)

    return within


async def found(fs: TreeFileSystem) -> list[tuple[str, NodeType]]:
    top = [(entry.name, entry.attr.type) for entry in await fs.listdir("")]
    below = [
        (path, attr.type)
        for name, type_ in top
        if type_ is NodeType.DIRECTORY
        async for path, attr in all_paths(fs, name)
    ]
    return sorted(top + below)


def test_who_may_do_what_with_every_file(furnished, request: pytest.FixtureRequest) -> None:
    async def main(seen: dict[str, TreeFileSystem]) -> str:
        paths = sorted({*await found(seen["ann"]), *await found(seen["root"]), *await found(seen["job"])})
        rows = [["", *seen]]
        for path, type_ in paths:
            name = f"{path}/" if type_ is NodeType.DIRECTORY else path
            looks = [letter(await answer(look(fs, path, type_)), "r") for fs in seen.values()]
            changes = [letter(await answer(change(fs, path, type_)), "w") for fs in seen.values()]
            rows.append([name, *map("".join, zip(looks, changes, strict=True))])
        width = max(len(row[0]) for row in rows)
        return "\n".join(f"{row[0]:{width}}  " + "  ".join(f"{cell:6}" for cell in row[1:]).rstrip() for row in rows)

    def handler(step: Step) -> str:
        assert step.words == ("table",)
        return furnished(main)

    check(SCRIPT, handler, request.config.getoption("rewrite"))


def test_what_is_foreign_looks_as_if_it_were_not_there(furnished) -> None:
    async def refusal(asked: Awaitable[object]) -> tuple[Kind, str] | None:
        try:
            await asked
        except PfsError as error:
            return error.kind, error.message
        return None

    async def main(seen: dict[str, TreeFileSystem]) -> None:
        all_of_it = await found(seen["root"])
        for who, foreign, none in FOREIGN:
            paths = [each for each in all_of_it if each[0] == foreign or each[0].startswith(f"{foreign}/")]
            assert paths, foreign
            for path, type_ in paths:
                for do in (look, change):
                    there = await refusal(do(seen[who], path, type_))
                    assert there is not None
                    assert there == await refusal(do(seen[who], path.replace(foreign, none), type_)), (who, path, do)

    furnished(main)


def test_a_member_reads_a_job_as_its_owner_does_and_commands_it_not(furnished) -> None:
    async def main(seen: dict[str, TreeFileSystem]) -> None:
        for path, type_ in await found(seen["ann"]):
            if path == "jobs/1" or path.startswith("jobs/1/"):
                for who in ("mel", "ann"):
                    assert await answer(look(seen[who], path, type_)) is None, path
        assert await answer(change(seen["mel"], "jobs/1/ctl", NodeType.FILE)) is Kind.FORBIDDEN
        assert await answer(seen["mel"].rmdir("jobs/1")) is Kind.FORBIDDEN
        assert "1" in [entry.name for entry in await seen["mel"].listdir("jobs")]
        assert "1" not in [entry.name for entry in await seen["bob"].listdir("jobs")]

    furnished(main)
