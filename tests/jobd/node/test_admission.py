"""The rules of a node before each start: what a runtime is told, and what it is never told."""

import os
import random
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import trio

from jobd.node.admission import Admitted, Rules
from jobd.node.dataroot import DataRoot
from jobd.node.hostmounts import HostMount
from jobd.node.hostpaths import HostPaths
from jobd.node.policy import Policy
from jobd.node.runtime import Consent, Launch, Runtime, RuntimeFailure, Tell, Volume, granted, untold
from jobd.node.staging import Staging
from tests.jobd.node.fake import FakeMachine, FakeRuntime

LAUNCH = Launch("17.1.0.0", ("sh", "-c", "x"), {}, "/", "h", image="python:3.11")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


def mark_of(volume: Volume) -> str:
    return Path(volume.source, "mark").read_text()


@dataclass
class Recorder:
    """Notes what it is told to start, and what is at the sources at that moment."""

    name: str = "docker"
    started: list[Launch] = field(default_factory=list)
    found: list[list[str]] = field(default_factory=list)
    read_only: list[str] = field(default_factory=list)
    shared: str = ""

    async def start(self, launch: Launch, tell: Tell = untold, consent: Consent = granted) -> None:
        self.started.append(launch)
        self.shared = await consent("x@sha256:" + "a" * 64)
        self.found.append([mark_of(volume) for volume in launch.volumes])
        self.read_only = [volume.target for volume in launch.volumes if os.statvfs(volume.source).f_flag & os.ST_RDONLY]

    async def inside(self, task_id: str) -> int | None:
        return None


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture
def tree(tmp_path: Path) -> DataRoot:
    for name in ("home/ann", "home/ann/data"):
        (tmp_path / "tree" / name).mkdir(parents=True)
        (tmp_path / "tree" / name / "mark").write_text(name)
    (tmp_path / "tree/.pfs-id").write_text("mark")
    return DataRoot(tmp_path / "tree")


def folder(path: Path) -> str:
    path.mkdir()
    (path / "mark").write_text(path.name)
    return str(path)


def start(
    recorder: Recorder, rules: Rules, launch: Launch, staging: Staging | None = None, every: bool = True
) -> Launch:
    admitted = Admitted(recorder, rules, staging, every=every)  # type: ignore[arg-type]
    trio.run(admitted.start, launch)
    return recorder.started[-1]


def test_what_the_policy_refuses_is_not_started_and_its_words_are_the_jobs_reason(recorder: Recorder) -> None:
    rules = Rules("n0", Policy(images=("busybox",)))
    with pytest.raises(
        RuntimeFailure, match=r"^the policy of node n0 does not allow the image docker\.io/library/python"
    ):
        start(recorder, rules, LAUNCH)
    assert recorder.started == []


def test_what_it_allows_is_started_within_its_limits(recorder: Recorder) -> None:
    policy = Policy(images=("python",), cpus=2.0, memory_bytes=1 << 30, processes=99)
    started = start(recorder, Rules("n0", policy), LAUNCH)
    assert (started.cpus, started.memory_bytes, started.processes) == (2.0, 1 << 30, 99)


@pytest.mark.parametrize(("images", "digit"), [(None, "b"), (("x",), "b"), (("x:1",), "a")])
def test_the_image_of_fellows_is_taken_where_the_policy_allows_it_by_its_digest(
    recorder: Recorder, images: tuple[str, ...] | None, digit: str
) -> None:
    async def consent(image: str) -> str:
        return image.replace("a" * 64, "b" * 64)

    admitted = Admitted(recorder, Rules("n0", Policy(images=images)), None, every=True)  # type: ignore[arg-type]
    trio.run(admitted.start, replace(LAUNCH, image="x:1"), untold, consent)
    assert recorder.shared == "x@sha256:" + digit * 64


def test_every_task_gets_the_mounts_of_the_node(recorder: Recorder, tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    rules = Rules("n0", mounts=(HostMount(data, "/data", read_only=True),))
    for launch in (LAUNCH, replace(LAUNCH, image=None)):
        assert start(recorder, rules, launch).volumes == (Volume(data, "/data", True),)


def test_what_the_job_has_mounted_itself_stays_but_for_storage(recorder: Recorder, tmp_path: Path) -> None:
    own, node = folder(tmp_path / "own"), folder(tmp_path / "node")
    launch = replace(LAUNCH, volumes=(Volume(own, "/data", False), Volume(own, "/storage", False)))
    rules = Rules("n0", mounts=(HostMount(node, "/data", False), HostMount(node, "/storage", False)))
    assert start(recorder, rules, launch).volumes == (Volume(own, "/data", False), Volume(node, "/storage", False))


def test_a_mount_is_looked_at_again_before_each_start(recorder: Recorder, tmp_path: Path) -> None:
    data = folder(tmp_path / "data")
    rules = Rules("n0", mounts=(HostMount(data, "/data", False),), paths=HostPaths(allowed=(str(tmp_path),)))
    start(recorder, rules, LAUNCH)
    Path(data).rename(tmp_path / "away")
    with pytest.raises(RuntimeFailure, match=r"the node n0 cannot show what it shall: .*No such file"):
        start(recorder, rules, LAUNCH)
    Path(data).symlink_to("/etc")
    with pytest.raises(RuntimeFailure, match="it is /etc, the machine's settings"):
        start(recorder, rules, LAUNCH)
    assert len(recorder.started) == 1


@as_root
def test_a_runtime_is_given_paths_that_nobody_can_lead_elsewhere(
    recorder: Recorder, tmp_path: Path, tree: DataRoot
) -> None:
    data, staging = folder(tmp_path / "data"), Staging(tmp_path / "staging", "i")
    volumes = (Volume(f"{tree.path}/home/ann", "/home", False), Volume(f"{tree.path}/home/ann/data", "/in", True))
    elsewhere = Volume(folder(tmp_path / "mounted"), "/mounted", False)
    rules = Rules("n0", mounts=(HostMount(data, "/data", True),), tree=tree)
    launch = replace(LAUNCH, volumes=(*volumes, elsewhere))
    started = start(recorder, rules, launch, staging)
    sources = [Path(volume.source).parent for volume in started.volumes]
    assert sources == [tmp_path / "staging"] * 2 + [tmp_path, tmp_path / "staging"]
    assert [volume.target for volume in started.volumes] == ["/home", "/in", "/mounted", "/data"]
    assert recorder.read_only == ["/in", "/data"]
    assert not any(volume.read_only for volume in started.volumes)
    assert os.listdir(tmp_path / "staging") == []
    (volume, *_) = start(recorder, rules, launch, staging, every=False).volumes
    assert volume == volumes[0]
    assert recorder.found == [["home/ann", "home/ann/data", "mounted", "data"]] * 2


@as_root
def test_what_was_led_elsewhere_since_it_was_assigned_is_not_shown(
    recorder: Recorder, tmp_path: Path, tree: DataRoot
) -> None:
    launch = replace(LAUNCH, volumes=(Volume(f"{tree.path}/home/ann/data", "/in", False),))
    (tree.path / "home/ann/data").rename(tree.path / "home/ann/away")
    (tree.path / "home/ann/data").symlink_to("/etc")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RuntimeFailure, match="the volume 'home/ann/data' cannot be had"):
        start(recorder, Rules("n0", tree=tree), launch, Staging(tmp_path / "staging", "i"), every=False)
    assert recorder.started == []
    assert len(os.listdir("/proc/self/fd")) == before


@as_root
def test_a_path_that_is_led_to_and_fro_all_the_time_shows_nothing_that_was_not_looked_at(
    recorder: Recorder, tmp_path: Path
) -> None:
    data, over = folder(tmp_path / "data"), threading.Event()
    path, fresh = tmp_path / "path", tmp_path / "fresh"
    path.symlink_to(data)

    def swap() -> None:
        dice = random.Random(1)
        while not over.wait(dice.random() / 1000):
            fresh.symlink_to(dice.choice(("/etc", data)))
            fresh.replace(path)

    swapping = threading.Thread(target=swap)
    swapping.start()
    rules = Rules("n0", mounts=(HostMount(str(path), "/data", read_only=False),))
    refused = 0
    try:
        for _ in range(60):
            try:
                start(recorder, rules, LAUNCH, Staging(tmp_path / "staging", "i"))
            except RuntimeFailure:
                refused += 1
    finally:
        over.set()
        swapping.join()
    # whoever starts a task finds a mark, which there is none of in /etc
    assert recorder.found == [["data"]] * (60 - refused)
    assert 0 < refused < 60


@pytest.mark.parametrize(
    ("source", "movable"),
    [
        ("home/ann", False),
        ("groups/g", False),
        ("shared", False),
        ("jobs/17/data", False),
        ("home/ann/data", True),
        ("jobs/17/data/src", True),
        ("shared/x", True),
    ],
)
def test_owners_can_move_what_lies_in_their_domains_and_not_these(tree: DataRoot, source: str, movable: bool) -> None:
    assert tree.is_movable(Volume(f"{tree.path}/{source}", "/x", False)) is movable


def test_a_runtime_behind_rules_is_a_runtime() -> None:
    async def says(process: object) -> int:
        process.write(b"hi\n")  # type: ignore[attr-defined]
        return 3

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            runtime: Runtime = Admitted(
                FakeRuntime(FakeMachine(nursery, {"x": says}, ["python:3.11"])), Rules("n0"), None, every=True
            )
            await runtime.start(LAUNCH)
            assert runtime.name == "fake"
            assert await runtime.tasks() == ["17.1.0.0"]
            assert (await runtime.wait("17.1.0.0")).code == 3
            assert [chunk async for chunk in runtime.output("17.1.0.0", 1)] == [b"i\n"]
            await runtime.signal("17.1.0.0", 15)
            assert isinstance(dict(runtime.reach("17.1.0.0")), dict)
            await runtime.remove("17.1.0.0")
            assert await runtime.tasks() == []

    trio.run(main)
