"""The reference of the tree names every file of a live one, each as what it is, and README shows the reference."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from jobd.engine.workshop import DiskWorkshop
from jobd.files.cluster import tree
from jobd.life.life import State
from pfs.api import Attr, Closing, NodeType, OpenFlags, Pictured
from pfs.errors import PfsError
from pfs.perm import Subject
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import make_home_now, top
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import Drive, driving

from .reference import KINDS, How, Kind, kind_of, reference
from .test_tree import GANG, GPUS

ROOT = Path(__file__).parents[3]
README = re.compile(r"(### Every file\n.*?\n```\n)(.*?)(```\n)", re.DOTALL)
WRITE = OpenFlags.WRITE | OpenFlags.CREATE
TEXTS = {
    "jobs/wrong.yaml": b"nonsense\n",
    "jobs/notes~": b"text\n",
    "secrets/wandb": b"token\n",
}


async def write(fs: TreeFileSystem, path: str, text: bytes) -> None:
    file = await fs.open(path, WRITE, 0o644)
    try:
        await file.write(0, text)
        await file.flush(Closing.LAST)
    except PfsError:
        assert path == "jobs/wrong.yaml"
    finally:
        await file.release()


async def furnish(drive: Drive) -> None:
    """Let there be jobs in all kinds of states, machines, and all that people put there."""
    service = drive.service
    service.disk.make_group_directory_now("groups/ml", service.accounts.join_now("ml", "ann"))
    make_home_now(service.disk, service.ann)
    service.store.alias_now("gtx", "GTX 1070")
    await drive.engine.take_up_policy()
    node = await drive.attach(gpus=GPUS, runtimes=["docker", "sandbox"])
    gang = await drive.submit(GANG, name="gang")
    over = await drive.submit("command: x\n", name="over")
    await drive.submit("command: x\narray: 0-1\n", name="sweep")
    await drive.submit("command: x\nhold: true\n", name="held")
    started = [task.task_id for task in await node.starts(6)]
    await node.runs(*started)
    await drive.attach(id="cmn0.2", gpus=[{**GPUS[0], "uuid": "GPU-9"}])
    await node.ends(f"{gang}.1.0.1", code=7)
    await node.ends(f"{over}.1.0.0")
    await drive.until(over, State.SUCCEEDED)
    tolerant = await drive.submit("entry: x\nimage: paddle\nfaulttolerant: true\n", name="tolerant")
    for task in (f"{tolerant}.1.1.0", f"{tolerant}.1.0.0"):
        await node.heard(lambda link, task=task: task in {each.task_id for each in link.started})
        await node.runs(task)
    await node.ends(f"{tolerant}.1.0.0", code=1)
    for path, text in TEXTS.items():
        await write(whole(drive, service.ann), path, text)


def whole(drive: Drive, subject: Subject) -> TreeFileSystem:
    """Return the tree with all that stands at its top."""
    service: Service = drive.service
    shown = tree(service.sources(drive.engine))
    root = top(service.accounts, service.disk, b"read me\n", shown, service.now_ns)
    return TreeFileSystem(root, service.disk, subject, service.audit.reached)


async def is_pictured(fs: TreeFileSystem, path: str) -> bool:
    """Tell whether an opening of a text is a picture of it, behind whose end nothing comes."""
    file = await fs.open(path, OpenFlags.READ, 0)
    try:
        return isinstance(file, Pictured)
    finally:
        await file.release()


async def walk(fs: TreeFileSystem, pictured: dict[str, bool], path: str = "") -> dict[str, tuple[Attr, Kind | None]]:
    """Return everything at and below a directory, but for what is in folders of ordinary files.

    Args:
        pictured: is told of each text of the server whether an opening of it is a picture.
    """
    found = {}
    for entry in await fs.listdir(path):
        at = f"{path}/{entry.name}".lstrip("/")
        kind = kind_of(at, entry.attr)
        found[at] = entry.attr, kind
        if entry.attr.type is NodeType.DIRECTORY and (kind is None or kind.how is not How.FILES):
            found |= await walk(fs, pictured, at)
        if kind is not None and kind.how in (How.TEXT, How.GROWS):
            pictured[at] = await is_pictured(fs, at)
    return found


@pytest.fixture(scope="module")
def pictured() -> dict[str, bool]:
    """Return of each text of the live tree, once that was walked, whether an opening of it is a picture."""
    return {}


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, pictured: dict[str, bool]) -> dict[str, tuple[Attr, Kind | None]]:
    """Return all of a live tree, as ann and as an administrator see it."""
    service = Service(tmp_path_factory.mktemp("tree"))
    origin = type("Origin", (), {"patch": "x", "remote": "", "url": "", "hash": "", "diff_lines": 1})()

    async def patched(workshop: DiskWorkshop, job: object) -> object:
        return origin

    async def main() -> dict[str, tuple[Attr, Kind | None]]:
        async with driving(service) as drive:
            await furnish(drive)
            ann = replace(service.ann, groups=frozenset({"ml"}))
            # what ann may not command she may only read
            return await walk(whole(drive, ann), pictured) | await walk(whole(drive, service.admin), pictured)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiskWorkshop, "origin", patched)
        patch.setattr(DiskWorkshop, "read_patch", lambda workshop, job: _text())
        found = trio.run(main)
    service.close()
    return found


async def _text() -> bytes:
    return b"diff\n"


def test_the_reference_names_every_file_of_a_live_tree(live: dict[str, tuple[Attr, Kind | None]]) -> None:
    assert len(live) > 250
    assert [path for path, (_, kind) in live.items() if kind is None] == []


def test_everything_of_a_live_tree_has_a_time(live: dict[str, tuple[Attr, Kind | None]]) -> None:
    assert {path for path, (attr, _) in live.items() if attr.mtime_ns == 0 or attr.ctime_ns == 0} == set()


def test_every_kind_of_the_reference_is_in_a_live_tree(live: dict[str, tuple[Attr, Kind | None]]) -> None:
    seen = {kind for _, kind in live.values()}
    assert [kind.path for kind in KINDS if kind not in seen] == []


def test_streams_are_streams_for_as_long_as_they_are_live(
    live: dict[str, tuple[Attr, Kind | None]],
) -> None:
    streams = {path: attr for path, (attr, kind) in live.items() if attr.stream}
    assert {kind.how for path, (_, kind) in live.items() if path in streams and kind} == {How.STREAM}
    assert {"jobs/1/log", "jobs/1/wait"} <= streams.keys()
    assert not {"jobs/2/log", "jobs/2/wait", "jobs/1/log.txt"} & streams.keys()
    assert live["jobs/2/wait"][0].size == len("0\n")


def test_what_grows_is_read_on_behind_its_end_and_every_other_text_is_a_picture(
    live: dict[str, tuple[Attr, Kind | None]], pictured: dict[str, bool]
) -> None:
    hows = {path: kind.how for path, (_, kind) in live.items() if kind is not None}
    assert {path: How.TEXT if each else How.GROWS for path, each in pictured.items()} == {
        path: hows[path] for path in pictured
    }
    assert {hows[path] for path in pictured} == {How.TEXT, How.GROWS}


@pytest.mark.parametrize(
    ("path", "attr"),
    [
        ("jobs/17/new", Attr(NodeType.FILE, 1, 0o444)),
        ("jobs/17/state", Attr(NodeType.FILE, 1, 0o644)),
        ("jobs/17/state", Attr(NodeType.DIRECTORY, 1, 0o755)),
        ("jobs/17/processes/0/state", Attr(NodeType.FILE, 1, 0o444)),
        ("jobs/17/tasks/0/tasks/0/state/x", Attr(NodeType.FILE, 1, 0o444)),
        ("news", Attr(NodeType.FILE, 1, 0o444)),
    ],
)
def test_what_is_no_file_of_the_tree_has_no_kind(path: str, attr: Attr) -> None:
    assert kind_of(path, attr) is None


def test_readme_shows_the_reference(request: pytest.FixtureRequest) -> None:
    path = ROOT / "README.md"
    text = path.read_text()
    found = README.search(text)
    assert found is not None
    if request.config.getoption("--rewrite"):
        path.write_text(text[: found.start(2)] + reference() + text[found.end(2) :])
    else:
        assert found[2] == reference()
