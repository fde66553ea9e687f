"""From an assignment to a launch: volumes lie under the data root, whatever their names say."""

import os
from dataclasses import fields, replace
from pathlib import Path

import pytest

from jobd.node.dataroot import DataRoot
from jobd.node.runtime import Launch, RuntimeFailure, Volume
from jobd.wire import Assignment, TaskVolume
from pfs.errors import Kind, PfsError

ASSIGNMENT = Assignment(
    "17.1.0.0",
    ("sh", "-c", "true"),
    {"A": "1"},
    "/pfs/dc1/jobs/17/src",
    "host0",
    image="i",
    uid=7,
    gid=8,
    volumes=(TaskVolume("home/ann", "/pfs/dc1/home/ann", True),),
    cpus=0.5,
    memory_bytes=1 << 30,
    gpus=("GPU-1",),
    hosts=(("host0", ""), ("host1", "")),
    network="pfs-17-1",
    overlay=True,
    shm_bytes=1 << 20,
)

NO_PATHS = ["..", "../x", "home/../..", "/etc", "home//ann", "home/ann/", ".", "home/./ann", "home/a\0b"]
NO_PLAIN_DIRECTORIES = ["home/ann/out", "home/ann/in", "home/ann/out/ssl", "home/file", "home/eve"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "home/ann/data").mkdir(parents=True)
    (tmp_path / ".pfs-id").write_text("mark\n")
    (tmp_path / "home/file").touch()
    (tmp_path / "home/ann/out").symlink_to("/etc")
    (tmp_path / "home/ann/in").symlink_to("data")
    return tmp_path


def test_every_field_is_passed_on_and_sources_become_paths(root: Path) -> None:
    launch = DataRoot(root).launch(ASSIGNMENT)
    assert launch.volumes == (Volume(f"{root}/home/ann", "/pfs/dc1/home/ann", True),)
    for name in {field.name for field in fields(Launch)} - {"volumes", "env", "processes", "disk_bytes", "ulimits"}:
        assert getattr(launch, name) == getattr(ASSIGNMENT, name)


def test_programs_find_their_user_and_home_unless_told_otherwise(root: Path) -> None:
    env = {"A": "1", "PFS_USER": "ann", "USER_DIR": "/pfs/dc1/home/ann"}
    launch = DataRoot(root).launch(replace(ASSIGNMENT, env=env))
    assert launch.env == {**env, "HOME": "/pfs/dc1/home/ann", "USER": "ann", "LOGNAME": "ann"}
    launch = DataRoot(root).launch(replace(ASSIGNMENT, env={**env, "HOME": "/tmp"}))
    assert launch.env["HOME"] == "/tmp"


@pytest.mark.parametrize("source", [*NO_PATHS, *NO_PLAIN_DIRECTORIES])
def test_a_source_that_is_no_plain_directory_below_is_refused(root: Path, source: str) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(RuntimeFailure, match="the volume"):
        DataRoot(root).launch(replace(ASSIGNMENT, volumes=(TaskVolume(source, "/x", False),)))
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user's tasks are that user's anyway")
def test_tasks_of_nobody_in_particular_belong_to_the_owner_of_the_tree(root: Path) -> None:
    os.chown(root, 1234, 1235)
    launch = DataRoot(root).launch(replace(ASSIGNMENT, uid=None, gid=None))
    assert (launch.uid, launch.gid) == (1234, 1235)


def test_a_directory_without_a_mark_is_no_data_root(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(PfsError, match="is no data root") as caught:
            DataRoot(path)
        assert caught.value.kind is Kind.INVALID
