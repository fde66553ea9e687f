"""README's reference names every file of a live tree, each as what its class says that it is."""

from dataclasses import dataclass, replace

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
from pfs.tree.virtual import Directory, How, Node
from tests.jobd.conftest import Service
from tests.jobd.engine.drive import Drive, driving

from .reference import KINDS, README, SHOWN, first, kind_of, reference, shown
from .test_tree import GANG, GPUS

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
    fs, _ = whole(drive, service.ann)
    for path, text in TEXTS.items():
        await write(fs, path, text)
    await fs.symlink("jobs/.#notes", "ann@here")


def whole(drive: Drive, subject: Subject) -> tuple[TreeFileSystem, Directory]:
    """Return the tree with all that stands at its top, and its root."""
    service: Service = drive.service
    root = top(service.accounts, service.disk, b"read me\n", tree(service.sources(drive.engine)), service.now_ns)
    return TreeFileSystem(root, service.disk, subject, service.audit.reached), root


@dataclass(frozen=True, slots=True)
class Found:
    """A file of a live tree.

    Args:
        node: what there is.
        at: its path in the reference.
        is_picture: of a text of the server, whether an opening of it is a picture.
    """

    attr: Attr
    node: Node
    at: str
    is_picture: bool | None

    @property
    def how(self) -> How:
        """Return what one does with it."""
        return self.node.how


async def is_pictured(fs: TreeFileSystem, path: str) -> bool:
    """Tell whether an opening of a text is a picture of it, behind whose end nothing comes."""
    file = await fs.open(path, OpenFlags.READ, 0)
    try:
        return isinstance(file, Pictured)
    finally:
        await file.release()


async def walk(fs: TreeFileSystem, directory: Directory, path: str = "", above: str = "") -> dict[str, Found]:
    """Return everything at and below a directory, but for what is in folders of ordinary files.

    Args:
        above: the path of the directory in the reference.
    """
    found = {}
    for entry in await directory.entries(fs.subject):
        at = f"{path}/{entry.name}".lstrip("/")
        node = await directory.lookup(fs.subject, entry.name)
        where = first(f"{above}/{node.called or entry.name}".lstrip("/"))
        is_picture = await is_pictured(fs, at) if node.how in (How.TEXT, How.GROWS) else None
        found[at] = Found(entry.attr, node, where, is_picture)
        if isinstance(node, Directory):
            found |= await walk(fs, node, at, where)
    return found


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Found]:
    """Return all of a live tree, as ann and as an administrator see it."""
    service = Service(tmp_path_factory.mktemp("tree"))
    origin = type("Origin", (), {"patch": "x", "remote": "", "url": "", "hash": "", "diff_lines": 1})()

    async def patched(workshop: DiskWorkshop, job: object) -> object:
        return origin

    async def main() -> dict[str, Found]:
        async with driving(service) as drive:
            await furnish(drive)
            ann = replace(service.ann, groups=frozenset({"ml"}))
            # what ann may not command she may only read
            return await walk(*whole(drive, ann)) | await walk(*whole(drive, service.admin))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DiskWorkshop, "origin", patched)
        patch.setattr(DiskWorkshop, "read_patch", lambda workshop, job: _text())
        found = trio.run(main)
    service.close()
    return found


async def _text() -> bytes:
    return b"diff\n"


@pytest.fixture
def kinds(live: dict[str, Found]) -> dict[str, set[type[Node]]]:
    """Return the classes of all files of a live tree, by where they are in the reference."""
    kinds: dict[str, set[type[Node]]] = {}
    for each in live.values():
        kinds.setdefault(each.at, set()).add(type(each.node))
    return kinds


def test_the_reference_names_every_file_of_a_live_tree(live: dict[str, Found]) -> None:
    assert len(live) > 250
    assert [path for path, each in live.items() if kind_of(path, each.attr) is None] == []


def test_readme_shows_what_the_classes_of_a_live_tree_say(
    kinds: dict[str, set[type[Node]]], request: pytest.FixtureRequest
) -> None:
    if request.config.getoption("--rewrite"):
        README.write_text(SHOWN.sub(lambda found: found[1] + reference(kinds) + found[3], README.read_text()))
    assert shown() == reference(kinds)


def test_each_kind_of_file_has_a_class_of_its_own_which_says_in_a_sentence_what_it_is(
    kinds: dict[str, set[type[Node]]],
) -> None:
    places: dict[type[Node], list[str]] = {}
    for path, nodes in kinds.items():
        for node in nodes:
            places.setdefault(node, []).append(path)
    assert {node.__name__: paths for node, paths in places.items() if len(paths) > 1} == {}
    texts = {node.__qualname__: (node.__doc__ or "").partition("\n")[0] for node in places}
    assert {name: text for name, text in texts.items() if not text.endswith(".")} == {}
    # two things of one name are a text and a link
    assert {path for path, nodes in kinds.items() if len(nodes) != len({node.how for node in nodes})} == set()


def test_every_kind_of_the_reference_is_found_by_its_path(live: dict[str, Found]) -> None:
    # a link that is scratch looks like any other
    seen = {kind_of(path, each.attr) for path, each in live.items()}
    assert [kind for kind in KINDS if kind not in seen and (kind.path, kind.how) != ("jobs/<other>", How.LINK)] == []


def test_everything_of_a_live_tree_has_a_time(live: dict[str, Found]) -> None:
    assert {path for path, each in live.items() if each.attr.mtime_ns == 0 or each.attr.ctime_ns == 0} == set()


def test_streams_are_streams_for_as_long_as_they_are_live(live: dict[str, Found]) -> None:
    streams = {path: each for path, each in live.items() if each.attr.stream}
    assert {each.how for each in streams.values()} == {How.STREAM}
    assert {"jobs/1/log", "jobs/1/wait"} <= streams.keys()
    assert not {"jobs/2/log", "jobs/2/wait", "jobs/1/log.txt"} & streams.keys()
    assert live["jobs/2/wait"].attr.size == len("0\n")


def test_what_grows_is_read_on_behind_its_end_and_every_other_text_is_a_picture(live: dict[str, Found]) -> None:
    pictured = {path: each for path, each in live.items() if each.is_picture is not None}
    assert {path: each.how for path, each in pictured.items()} == {
        path: How.TEXT if each.is_picture else How.GROWS for path, each in pictured.items()
    }
    assert {each.how for each in pictured.values()} == {How.TEXT, How.GROWS}


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
