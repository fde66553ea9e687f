"""Jobs of PaddleCloud's kind: what its options say, and where a package is brought."""

from pathlib import Path
from typing import Any

import pytest

from cli.submit import paddlecloud
from cli.submit.paddlecloud import check_free, fields_of, is_meant, text_of
from jobd.spec.spec import parse_spec
from pfs.errors import Kind, PfsError

GIVEN = {"entry": "python train.py", "parallelism": 2}


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
        check_free([job(18, "", "RUNNING"), job(17, package, "RUNNING")], "emb", "ann")
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
    check_free([other], "emb", "ann")


def test_a_number_is_posted_without_a_fraction_that_says_nothing(package: Path) -> None:
    fields = fields_of(package, "emb", {**GIVEN, "cpu": 2.0, "pscpu": 0.5, "faulttolerant": True})
    assert [repr(fields[name]) for name in ("cpu", "pscpu", "faulttolerant")] == ["2", "0.5", "True"]
