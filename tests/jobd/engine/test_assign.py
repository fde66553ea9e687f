"""Tasks of jobs, and the program that fetches a repository."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from jobd.engine.assign import Machine, Place, assignment, fetch_argv, task_of, worker_of
from jobd.imagelists import Side
from jobd.job import Job
from jobd.life import events as happened
from jobd.life.actions import FETCH
from jobd.life.life import fold
from jobd.spec.model import Git, GroupSpec, JobSpec, Mount, Paddle
from jobd.wire import Credential
from pfs.errors import PfsError
from pfs.perm import Subject

PLACE = Place("dc1", "0123456789abcdef")
ANN = Subject("ann", groups=frozenset({"lab"}), uid=200_001)
MACHINES = {
    "n0": Machine(frozenset({"sandbox", "docker"}), "10.0.0.1"),
    "n1": Machine(frozenset({"docker"}), "10.0.0.2"),
}


def job_of(*nodes: str, image: str | None = None, number: int = 17, **fields: object) -> Job:
    group = GroupSpec("w", len(nodes), ("true",), image=image)
    spec = JobSpec("j", "j", (group,), **fields)
    terms = happened.Terms(services=(False,) * len(nodes), fetches=spec.git is not None)
    places = tuple(happened.Place(node) for node in nodes)
    happenings = [
        happened.Submitted(time_ns=0, terms=terms),
        happened.Prepared(time_ns=0),
        happened.Placed(time_ns=0, places=places),
    ]
    return Job(number, "ann", spec, fold(happenings))


def task(job: Job, worker: int = 0, owner: Subject = ANN):
    return assignment(job, worker, owner, PLACE, MACHINES)


def test_a_process_has_the_image_that_its_fellows_had_in_any_attempt():
    digest = f"reg:5000/x@sha256:{'a' * 64}"
    job = job_of("n0", "n0", image="reg:5000/x:1")
    assert task(job, 1).pinned is None
    for known, pinned in (
        (digest, digest),
        ("", None),
        (f"sha256:{'b' * 64}", None),  # no registry has it
        (f"reg:5000/other@sha256:{'a' * 64}", None),
    ):
        known_job = replace(job, life=replace(job.life, images=(known,)))
        assert [task(known_job, worker).pinned for worker in (0, 1)] == [pinned, pinned]


def test_only_processes_with_fellows_of_the_same_image_ask_for_it():
    assert [task(job_of("n0", "n0", image="x"), worker).shares_image for worker in (0, 1)] == [True, True]
    assert not task(job_of("n0", image="x")).shares_image
    assert not task(job_of("n0", "n0")).shares_image
    assert not task(job_of("n0", "n0", image="x", git=Git("u")), FETCH).shares_image


def test_secrets_are_for_processes_and_not_for_what_fetches_files():
    job = job_of("n0", git=Git("u"))

    def given(worker: int) -> object:
        return assignment(job, worker, ANN, PLACE, MACHINES, secrets={"x": b"token"}).secrets

    assert (given(0), given(FETCH)) == ({"x": b"token"}, {})


def test_a_credential_goes_along_for_its_own_registry_and_into_no_sandbox():
    credential = Credential("reg:5000", "ann", "secret")

    def given(job: Job, worker: int = 0) -> Credential | None:
        return assignment(job, worker, ANN, PLACE, MACHINES, credential=credential).credential

    assert given(job_of("n0", image="reg:5000/x")) == credential
    assert given(job_of("n0", image="busybox")) is None
    assert given(job_of("n0")) is None
    assert given(job_of("n0", image="reg:5000/x", git=Git("u")), FETCH) is None
    assert given(job_of("n1", image="reg:5000/x", git=Git("u")), FETCH) == credential


def test_a_process_of_a_job_of_paddlecloud_keeps_what_its_image_says_of_lists():
    job = job_of("n0", "n0", image="x")
    trainers = GroupSpec("trainer", 1, ("true",), image="x")
    servers = replace(trainers, name="pserver", service=True)
    fields = {"entry": "true", "topology": "", "cpu": "1", "gpu": "0", "passes": "1"}
    posted = replace(job, spec=replace(job.spec, groups=(trainers, servers), paddle=Paddle(None, fields)))
    lists = {"PYTHONPATH": Side.BEFORE, "LD_LIBRARY_PATH": Side.BEHIND}
    assert [task(posted, worker).extended for worker in (0, 1)] == [lists] * 2
    assert task(job).extended == {}


def test_files_at_the_top_are_for_processes_but_where_a_spec_mounts_something():
    mounts = (Mount("data", "/train.list", True), Mount("data", "/trainer_id/of", True))
    job, mounting = job_of("n0", git=Git("u")), job_of("n0", mounts=mounts)

    def given(job: Job, worker: int = 0) -> object:
        files = {"train.list": b"", "trainer_id": b"0\n", "trainer_count": b"1\n"}
        return assignment(job, worker, ANN, PLACE, MACHINES, files=files).files

    assert (list(given(job)), given(job, FETCH)) == (["train.list", "trainer_id", "trainer_count"], {})
    assert given(mounting) == {"trainer_count": b"1\n"}


def test_a_task_is_found_again_by_its_id():
    job = job_of("n0", "n0", "n1", git=Git("u"))
    for worker in (0, 1, 2, FETCH):
        assert worker_of(job, task_of(job, worker)) == worker


@pytest.mark.parametrize("text", ["17.2.0.0", "18.1.0.0", "17.1.0.3", "17.1.1.0", "17.1.9.0"])
def test_what_is_no_task_of_the_attempt_is_nobodys(text):
    assert worker_of(job_of("n0", "n0", "n1"), text) is None


def test_a_job_without_fellows_has_no_network_and_no_hosts():
    one = task(job_of("n0", image="busybox"))
    assert (one.network, one.overlay, one.hosts) == (None, False, ())


def test_a_gang_of_containers_has_a_network_of_its_own_in_each_attempt_and_an_overlay_across_machines():
    assert (task(job_of("n0", "n0", image="i")).network, task(job_of("n0", "n0", image="i")).overlay) == (
        "pfs-01234567-17-1",
        False,
    )
    assert task(job_of("n0", "n1", image="i")).overlay is True


def test_no_two_gangs_of_sandboxes_share_a_loopback_address():
    seen = {address for number in range(500) for _, address in task(job_of("n0", "n0", "n0", number=number)).hosts}
    assert len(seen) == 1500


def test_a_job_sees_the_groups_of_its_owner_and_what_its_spec_mounts():
    job = job_of(
        "n0", mounts=(Mount("data", "/data", read_only=False), Mount("/pfs/dc1/shared/x", "/x", read_only=False))
    )
    seen = {volume.target: (volume.source, volume.read_only) for volume in task(job).volumes}
    assert seen["/pfs/dc1/groups/lab"] == ("groups/lab", False)
    assert seen["/data"] == ("home/ann/data", False)
    assert seen["/x"] == ("shared/x", True)
    assert task(job).env["LAB_GROUP_DIR"] == "/pfs/dc1/groups/lab"


def test_a_process_in_an_image_has_the_places_that_users_of_gradient_node_know():
    job = job_of("n0", image="i", mounts=(Mount("data", "/artifacts", read_only=True),))
    seen = {volume.target: (volume.source, volume.read_only) for volume in task(job).volumes}
    assert seen["/paperspace"] == ("jobs/17/data/src", False)
    assert seen["/storage"] == ("home/ann", False)
    # what the spec mounts stays
    assert seen["/artifacts"] == ("home/ann/data", True)
    assert len(seen) == len(task(job).volumes)
    assert (task(job).env["HOME"], task(job).workdir) == ("/paperspace", "/pfs/dc1/jobs/17/src")
    plain = task(job_of("n0"))
    assert plain.env["HOME"] == "/pfs/dc1/home/ann"
    assert not {"/paperspace", "/artifacts", "/storage"} & {volume.target for volume in plain.volumes}


def test_a_mount_that_the_owner_may_not_read_any_more_is_told():
    job = job_of("n0", mounts=(Mount("/pfs/dc1/groups/lab", "/lab", read_only=True),))
    assert task(job)
    with pytest.raises(PfsError):
        task(job, owner=replace(ANN, groups=frozenset()))


def test_files_are_fetched_in_a_sandbox_where_there_is_one_and_else_in_the_jobs_image():
    assert task(job_of("n0", image="i", git=Git("u")), FETCH).runtime == "sandbox"
    fetch = task(job_of("n1", image="i", git=Git("u")), FETCH)
    assert (fetch.runtime, fetch.image, fetch.task_id) == ("docker", "i", "17.1.1.0")
    assert fetch.workdir == "/pfs/dc1/jobs/17/src"


# ---- the program that fetches


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Make a repository with two commits, a branch and a tag."""
    path = tmp_path / "origin"
    path.mkdir()
    for command in (
        "init -q -b main",
        "commit -q --allow-empty -m one",
        "tag v1",
        "commit -q --allow-empty -m two",
        "branch side HEAD~1",
    ):
        git(path, *command.split())
    return path


def git(path: Path, *words: str) -> str:
    own = {"GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(path)}
    who = ("-c", "user.name=a", "-c", "user.email=a@b")
    done = subprocess.run(
        ["git", *who, *words], cwd=path, env=os.environ | own, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def fetch(repository: Path, target: Path, ref: str | None) -> subprocess.CompletedProcess[str]:
    target.mkdir(exist_ok=True)
    argv = fetch_argv(Git(str(repository), ref))
    own = {"GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(target)}
    return subprocess.run(argv, cwd=target, env=os.environ | own, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("ref", "at"), [(None, "main"), ("main", "main"), ("side", "side"), ("v1", "v1")])
def test_a_branch_a_tag_and_nothing_are_fetched(repository, tmp_path, ref, at):
    done = fetch(repository, tmp_path / "src", ref)
    assert done.returncode == 0, done.stderr
    assert git(tmp_path / "src", "rev-parse", "HEAD") == git(repository, "rev-parse", f"{at}^{{commit}}")


def test_a_commit_is_fetched_and_a_second_attempt_brings_the_tree_back(repository, tmp_path):
    first = git(repository, "rev-parse", "HEAD~1")
    for _ in range(2):
        assert fetch(repository, tmp_path / "src", first).returncode == 0
        assert git(tmp_path / "src", "rev-parse", "HEAD") == first
        fetch(repository, tmp_path / "src", "main")


def test_a_ref_that_is_not_there_fails_and_says_so(repository, tmp_path):
    done = fetch(repository, tmp_path / "src", "absent")
    assert done.returncode != 0
    assert "absent" in done.stderr


@pytest.mark.parametrize("ref", ["--upload-pack=touch hit", "$(touch hit)", "; touch hit", "-"])
def test_no_ref_is_an_option_or_a_program(repository, tmp_path, ref):
    assert fetch(repository, tmp_path / "src", ref).returncode != 0
    assert not (tmp_path / "src/hit").exists()


@pytest.mark.parametrize("url", ["--upload-pack=touch hit", "$(touch hit)", "ext::sh -c touch% hit"])
def test_no_url_is_an_option_or_a_program(tmp_path, url):
    assert fetch(Path(url), tmp_path / "src", None).returncode != 0
    assert not (tmp_path / "src/hit").exists()
