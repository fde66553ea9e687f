"""PaddleCloud's packages by both faces of the SDK: what is told, what travels when, and what is submitted."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, get_args

import pytest

from cli.resuming import TRIES
from cli.sdk import Progress, packages
from cli.sdk.packages import PackageFields, Step
from cli.submit.paddlecloud import FIELDS
from pfs.client.immediate import now
from pfs.errors import Kind, PfsError
from tests.cli.cloud.clouds import NEW
from tests.cli.sdk.faces import FACES, Ask, Datacenter, datacenter, face

Run = Callable[[Callable[[], Any]], Any]
With = Callable[[Callable[[Ask, Datacenter], Awaitable[None]]], None]
STEPS = get_args(Step)


@pytest.fixture(params=FACES)
def with_face(request: pytest.FixtureRequest, run: Run) -> With:
    """Run what asks one face of the SDK."""

    def work(main: Callable[[Ask, Datacenter], Awaitable[None]]) -> None:
        async def within() -> None:
            cloud = Datacenter()
            async with datacenter(cloud) as url:
                cloud.name = "default"
                await main(face(request.param, url), cloud)

        run(within)

    return work


@pytest.fixture
def package(tmp_path: Path) -> Path:
    made = tmp_path / "package"
    made.mkdir()
    (made / "data").write_bytes(b"123")
    (made / "train.py").write_bytes(b"pass\n")
    return made


def posted(cloud: Datacenter) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix("posted ")) for line in cloud.done if line.startswith("posted ")]


def brought(cloud: Datacenter) -> set[str]:
    """Return which files came, without those that only help copying."""
    words = [line.split(" ") for line in cloud.done if line.startswith("file ")]
    return {f"{path}/{name}" for _, path, name, *_ in words if not name.startswith(".pfs")}


def test_what_may_be_said_of_a_package_is_what_paddleclouds_client_can_be_told() -> None:
    assert set(PackageFields.__annotations__) == {*FIELDS, "image", "registry"}


def test_a_package_is_brought_and_its_job_is_submitted(with_face: With, package: Path) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        (package / "away").symlink_to("nowhere")
        told: list[Progress] = []
        fields = {"entry": "python train.py", "parallelism": 2, "cpu": 2.0, "gpu": None}
        assert await ask("submit_package", package, jobname="emb", progress=told.append, **fields) == NEW
        assert brought(cloud) == {"home/me/jobs/emb/data", "home/me/jobs/emb/train.py"}
        assert posted(cloud) == [{"name": "emb", "entry": "python train.py", "parallelism": 2, "cpu": 2}]
        assert cloud.done[-1].startswith("posted ")
        assert [each.step for each in told if each.over] == list(STEPS)
        assert [each.step for each in told] == sorted((each.step for each in told), key=STEPS.index)
        assert [(each.done, each.size) for each in told if each.size] == [(3, 8), (8, 8)]
        [(name, why)] = next(each.left_out for each in told if each.left_out)
        assert (name, "leads nowhere" in why) == ("away", True)

    with_face(main)


def test_one_of_the_datacenter_is_used_as_it_is_and_by_paddleclouds_own_name(with_face: With) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        there = "/pfs/dc1/home/ann/package"
        assert await ask("submit_package", there, topology="train.py") == NEW
        assert cloud.done == [f"posted {json.dumps(posted(cloud)[0])}"]
        assert posted(cloud) == [{"name": "paddle-cluster-job", "job_package": there, "topology": "train.py"}]

    with_face(main)


@pytest.mark.parametrize(
    ("said", "kind", "why"),
    [
        ({"entry": "x", "gpu": 8}, Kind.QUOTA, "needs 8 GPUs, but .* quota is 4 at once"),
        ({"entry": "x", "image": "never:1"}, Kind.INVALID, "no node may run never:1"),
        ({"entry": "x", "memory": "much"}, Kind.INVALID, "memory: 'much' is no size"),
        ({"entry": "x", "jobname": "digits"}, Kind.BUSY, "job 18 runs in the folder jobs/digits"),
        ({"gpu": 1}, Kind.INVALID, "no topology or entry specified"),
    ],
    ids=lambda said: "-".join(said) if isinstance(said, dict) else "",
)
def test_nothing_travels_for_a_job_that_would_be_refused(
    with_face: With, package: Path, said: dict[str, Any], kind: Kind, why: str
) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        with pytest.raises(PfsError, match=why) as caught:
            await ask("submit_package", package, **said)
        assert caught.value.kind is kind
        assert cloud.done == []

    with_face(main)


def test_a_field_that_there_is_not_is_a_mistake_of_the_program(with_face: With, package: Path) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        with pytest.raises(TypeError, match="unexpected keyword argument 'entri'"):
            await ask("submit_package", package, entri="x")

    with_face(main)


def test_a_folder_that_cannot_be_read_is_told(with_face: With, package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def everything(folder: Path) -> list[str]:
        raise PermissionError(13, "Permission denied", str(folder / "data"))

    async def main(ask: Ask, cloud: Datacenter) -> None:
        with pytest.raises(PfsError, match="package/data cannot be read: Permission denied"):
            await ask("submit_package", package, entry="x")

    monkeypatch.setattr("cli.submit.treewalk.everything", everything)
    with_face(main)


@pytest.mark.parametrize("error", [RuntimeError, BrokenPipeError])
@pytest.mark.parametrize("step", STEPS)
def test_what_hears_how_far_it_is_may_end_it(with_face: With, package: Path, error: type[Exception], step: str) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        def stop(told: Progress) -> None:
            if told.step == step:
                raise error

        with pytest.raises(error):
            await ask("submit_package", package, jobname="emb", entry="x", progress=stop)
        assert posted(cloud) == []
        assert await ask("submit_package", package, jobname="emb", entry="x") == NEW

    with_face(main)


def test_a_package_that_is_not_whole_is_not_submitted(with_face: With, package: Path) -> None:
    async def main(ask: Ask, cloud: Datacenter) -> None:
        refusal = {"kind": "quota", "message": "your home is full", "path": "data"}
        cloud.take = lambda path, content: {"taken": 0, "refused": 1, "failed": [refusal]}  # type: ignore[method-assign]
        with pytest.raises(PfsError, match=r"not whole in jobs/emb: .*data: your home is full") as caught:
            await ask("submit_package", package, jobname="emb", entry="x")
        assert caught.value.kind is Kind.QUOTA
        assert posted(cloud) == []

    with_face(main)


class Cut:
    """A way on which the job is taken, and the answer is lost some times."""

    def __init__(self, cuts: int) -> None:
        self.cuts = cuts
        self.taken: list[tuple[object, str | None]] = []
        self.paused: list[float] = []
        self.tree = self

    async def call(self, method: str, url: str, content: bytes, key: str | None = None) -> Any:
        self.taken.append((json.loads(content), key))
        if len(self.taken) <= self.cuts:
            raise PfsError(Kind.UNREACHABLE, "no answer from the server")
        return {"msg": "OK", "id": 17, "name": "emb"}

    async def pause(self, seconds: float) -> None:
        self.paused.append(seconds)


def test_a_job_is_submitted_once_however_often_the_way_is_cut() -> None:
    way: Any = Cut(cuts=2)
    made = packages.Package("emb", b"", {"name": "emb"}, None)
    assert now(packages.submit_package(way, made)) == 17
    assert [fields for fields, _ in way.taken] == [{"name": "emb"}] * 3
    assert len({key for _, key in way.taken}) == 1
    way = Cut(cuts=TRIES)
    with pytest.raises(PfsError, match="no answer"):
        now(packages.submit_package(way, made))
