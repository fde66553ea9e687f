"""Jobs of PaddleCloud's kind: what its options say, where a package is brought, and how a job is handed in."""

import json
from pathlib import Path
from typing import Any

import pytest

from cli.submit import paddlecloud
from cli.submit.paddlecloud import check_free, fields_of, is_meant, post, text_of
from jobd.spec.spec import parse_spec
from pfs.errors import Kind, PfsError

GIVEN = {"entry": "python train.py", "parallelism": 2}


class Server:
    """Tells of jobs, and takes one after it was cut off some times."""

    def __init__(self, jobs: list[dict[str, Any]] | None = None, cuts: int = 0) -> None:
        self.jobs = jobs or []
        self.cuts = cuts
        self.taken: list[tuple[object, str | None]] = []

    def call(self, method: str, url: str, content: bytes, key: str | None = None) -> Any:
        assert url == "/api/v1/jobs"
        if method == "GET":
            return {"msg": self.jobs}
        self.taken.append((json.loads(content), key))
        if len(self.taken) <= self.cuts:
            raise PfsError(Kind.UNREACHABLE, "no answer from the server")
        return {"msg": "OK", "id": 17, "name": "emb"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    made = tmp_path / "package"
    made.mkdir()
    (made / "train.py").write_text("pass\n")
    return made


@pytest.mark.parametrize("field", paddlecloud.FIELDS)
def test_each_of_paddleclouds_options_makes_a_job_of_its_kind(field: str) -> None:
    assert is_meant({field: 1, "image": "x"})


def test_what_both_kinds_have_does_not() -> None:
    assert not is_meant({"image": "x", "registry": "corp", "command": "x", "resources": "[]"})


def test_a_folder_here_is_posted_without_its_path_under_paddleclouds_own_name(package: Path) -> None:
    assert fields_of(package, None, GIVEN) == {"name": "paddle-cluster-job", **GIVEN}
    assert fields_of(package, "emb", GIVEN) == {"name": "emb", **GIVEN}


def test_a_folder_of_the_datacenter_is_posted_as_it_is_also_one_that_is_mounted_here() -> None:
    fields = fields_of(Path("/pfs/dc1/home/ann/package"), "emb", GIVEN)
    assert fields == {"name": "emb", "job_package": "/pfs/dc1/home/ann/package", **GIVEN}


def test_a_package_may_lie_beside_the_folder_that_one_is_in(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (package.parent / "here").mkdir()
    monkeypatch.chdir(package.parent / "here")
    assert fields_of(Path("../package"), None, GIVEN)["name"] == "paddle-cluster-job"


def test_the_spec_is_the_one_that_the_server_makes(package: Path) -> None:
    spec = parse_spec(text_of(fields_of(package, "emb", GIVEN), "ann", "dc1"), "x")
    assert (spec.name, [group.count for group in spec.groups]) == ("emb", [2, 2])
    assert spec.paddle is not None
    assert spec.paddle.package == "/pfs/dc1/home/ann/jobs/emb"


def test_what_is_wrong_is_told_by_its_option(package: Path) -> None:
    with pytest.raises(PfsError) as caught:
        text_of(fields_of(package, "emb", {**GIVEN, "memory": "much"}), "ann", "dc1")
    assert str(caught.value).startswith("memory: ")


def job(number: int, package: str, state: str) -> dict[str, Any]:
    return {"id": number, "job_package": package, "state": state}


@pytest.mark.parametrize("package", ["/pfs/dc1/home/ann/jobs/emb", "jobs/emb"])
def test_no_package_is_brought_to_where_a_job_runs(package: str) -> None:
    with pytest.raises(PfsError, match=r"job 17 runs in the folder jobs/emb") as caught:
        check_free(Server([job(18, "", "RUNNING"), job(17, package, "RUNNING")]), "emb", "ann")
    assert caught.value.kind is Kind.BUSY


@pytest.mark.parametrize(
    "other",
    [
        job(17, "/pfs/dc1/home/ann/jobs/emb", "FAILED"),
        job(17, "/pfs/dc1/home/ann/jobs/embryo", "RUNNING"),
        job(17, "/pfs/dc1/home/ann/jobs/emb/inner", "RUNNING"),
        job(17, "/pfs/dc1/home/ann/otherjobs/emb", "RUNNING"),
        job(17, "/pfs/dc1/home/ann/old/jobs/emb", "RUNNING"),
        job(17, "/pfs/dc1/home/bob/jobs/emb", "RUNNING"),
        job(17, "/pfs/dc1/groups/vision/jobs/emb", "RUNNING"),
        job(17, "old/jobs/emb", "RUNNING"),
        job(17, "home/ann/jobs/emb", "RUNNING"),
        job(17, "", "RUNNING"),
    ],
    ids=lambda row: f"{row['job_package']} {row['state']}",
)
def test_other_jobs_keep_no_folder(other: dict[str, Any]) -> None:
    check_free(Server([other]), "emb", "ann")


def test_a_job_is_handed_in_once_however_often_the_way_is_cut() -> None:
    server = Server(cuts=2)
    assert post(server, {"name": "emb"}, "key", lambda _: None) == "17"
    assert server.taken == [({"name": "emb"}, "key")] * 3
