"""Whatever somebody does to the tree, somebody else's part of it stays as it was."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from random import Random

from jobd.life.life import State
from pfs.api import Changes, Closing, FileSystem, NodeType, OpenFlags, RenameMode, XattrMode
from pfs.errors import PfsError
from pfs.perm import Subject
from pfs.tree.service import TreeFileSystem
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import Drive, driving

from .test_rights import ML
from .test_tree import all_paths

WRITE = OpenFlags.WRITE | OpenFlags.CREATE
# what is ann's; jobs 1 is shared with a group that bob is in, and job 2 is not
HERS = ("home/ann", "groups/own", "jobs/1", "jobs/2", "secrets", "me")
BELOW = ("", "/x", "/d", "/d/y", "/ctl", "/state", "/log", "/keep", "/keep/z", "/wandb", "/spec.yaml")
BOBS = ("home/bob/x", "home/bob/d", "jobs/a.yaml", "jobs/a", "jobs/mine.yaml", "shared/x", "groups/ml/x")
PATHS = (*(f"{root}{below}" for root in HERS for below in BELOW), *BOBS)
COMMANDS = ("kill", "hold", "share ml", "unshare", "autoshare ml", "command: x")
TEXTS = (*(f"{text}\n".encode() for text in COMMANDS), b"x")
ROUNDS, ROUND = 4, 200


async def write(fs: FileSystem, path: str, other: str, text: bytes) -> None:
    file = await fs.open(path, WRITE, 0o666)
    try:
        await file.write(0, text)
        await file.flush(Closing.LAST)
    finally:
        await file.release()


Action = Callable[[TreeFileSystem, str, str, bytes], Awaitable[object]]
ACTIONS: Sequence[Action] = (
    write,
    lambda fs, path, other, text: fs.put(path, text, None),
    lambda fs, path, other, text: fs.make_file(path, 0o666, text, Changes()),
    lambda fs, path, other, text: fs.unlink(path),
    lambda fs, path, other, text: fs.rmdir(path),
    lambda fs, path, other, text: fs.mkdir(path, 0o777),
    lambda fs, path, other, text: fs.symlink(path, "x"),
    lambda fs, path, other, text: fs.rename(path, other, RenameMode.REPLACE),
    lambda fs, path, other, text: fs.rename(path, other, RenameMode.EXCHANGE),
    lambda fs, path, other, text: fs.link(path, other),
    lambda fs, path, other, text: fs.setattr(path, Changes(mode=0o777, size=1, uid=7)),
    lambda fs, path, other, text: fs.setattr(path, Changes(size=0, mtime_ns=1)),
    lambda fs, path, other, text: fs.setxattr(path, "user.x", text, XattrMode.EITHER),
)


async def state(drive: Drive, fs: TreeFileSystem) -> dict[str, object]:
    """Return all that ann sees of what is hers."""
    found: dict[str, object] = {name: await drive.texts(int(name)) for name in ("1", "2")}
    names = [entry.name for entry in await fs.listdir("jobs")]
    found["jobs"] = names = [name for name in names if not name.isdigit() or name in found]  # bob may share his
    for path in HERS[:-1]:
        async for each, attr in all_paths(fs, path):
            found[each] = (attr.type, attr.mode, attr.size, attr.mtime_ns, attr.uid, attr.gid)
            if attr.type is NodeType.FILE and path != "secrets" and not attr.stream:
                found[f"{each}:"] = await said(fs, each)
    for path in ("me", *(f"jobs/{name}" for name in names if name.endswith(".yaml"))):
        found[path] = await said(fs, path)
    return found | {"standing": [await drive.life(job) for job in (1, 2)]}


async def said(fs: FileSystem, path: str) -> bytes:
    file = await fs.open(path, OpenFlags.READ, 0)
    try:
        return await file.read(0, 1 << 20)
    finally:
        await file.release()


async def furnish(drive: Drive) -> TreeFileSystem:
    """Let ann have what is hers; return the tree as she sees it."""
    service = drive.service
    for group, name in (("ml", "ann"), ("ml", "bob"), ("own", "ann")):
        service.disk.make_group_directory_now(f"groups/{group}", service.accounts.join_now(group, name))
    ann = replace(service.ann, groups=frozenset({"ml", "own"}))
    fs = service.files(drive.engine, ann)
    for path in ("home/ann/d", "groups/own/d"):
        await fs.mkdir(path, 0o755)
    for path in ("home/ann/x", "home/ann/d/y", "groups/own/x", "secrets/wandb"):
        await write(fs, path, "", b"hers")
    await drive.one_runs()
    await drive.submit("{command: x, hold: true}\n", name="b")
    await drive.engine.share(ann, 1, ML)
    await drive.until(1, State.RUNNING)
    return fs


def test_what_bob_does_changes_nothing_of_anns(service: Service, run) -> None:
    dice = Random(7)

    async def main() -> None:
        async with driving(service) as drive:
            hers = await furnish(drive)
            his = service.files(drive.engine, Subject("bob", groups=ML))
            before, done = await state(drive, hers), 0
            assert len(before) > 60
            for _ in range(ROUNDS):
                tried = [[dice.choice(each) for each in (ACTIONS, PATHS, PATHS, TEXTS)] for _ in range(ROUND)]
                for action, path, other, text in tried:
                    with suppress(PfsError):
                        await action(his, path, other, text)
                        done += 1
                await drive.quiet()
                assert await state(drive, hers) == before, tried
            assert done > ROUNDS * ROUND / 50  # some of it is his own

    run(main)
