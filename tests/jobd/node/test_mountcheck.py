"""What a task sees against what was planned: the same file, with what its mount keeps, or words for what differs.

This very process stands in for a task: it sees every path where it is.
"""

import errno
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from jobd.node.mountcheck import NO_RIGHTS, Planned, difference, plan
from jobd.node.runtime import Volume


def planned(path: Path, least: frozenset[str] = frozenset(), *, read_only: bool = False) -> tuple[Planned, ...]:
    path.mkdir(exist_ok=True)
    return plan([Volume(str(path), str(path), read_only)], {}, least)


def test_what_is_there_as_planned_is_well(tmp_path: Path) -> None:
    assert difference(os.getpid(), planned(tmp_path / "data")) == ""
    assert difference(os.getpid(), ()) == ""


@pytest.mark.parametrize("lead_elsewhere", [Path.mkdir, lambda path: path.symlink_to("/etc")])
def test_another_directory_at_the_same_path_is_told(tmp_path: Path, lead_elsewhere: Callable[[Path], None]) -> None:
    volumes = planned(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "away")
    lead_elsewhere(tmp_path / "data")
    told = difference(os.getpid(), volumes)
    assert told == f"something else is mounted at {tmp_path}/data than was looked at before the start"


def test_the_same_directory_by_another_path_is_well(tmp_path: Path) -> None:
    volumes = planned(tmp_path / "data")
    (tmp_path / "data").rename(tmp_path / "away")
    (tmp_path / "data").symlink_to("away")
    assert difference(os.getpid(), volumes) == ""


def test_what_was_judged_counts_and_not_what_its_path_leads_to_by_now(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    judged = os.open(tmp_path / "data", os.O_PATH)
    try:
        (tmp_path / "data").rename(tmp_path / "away")
        (tmp_path / "data").mkdir()
        volumes = plan([Volume(str(tmp_path / "data"), "/data", False)], {"/data": judged}, frozenset())
        assert volumes[0].file == (os.stat(tmp_path).st_dev, (tmp_path / "away").stat().st_ino)
    finally:
        os.close(judged)


@pytest.mark.parametrize("inside", [False, True])
def test_a_place_that_is_not_there_is_told(tmp_path: Path, inside: bool) -> None:
    volumes = planned(tmp_path / "data")
    (tmp_path / "data").rmdir()
    if inside:  # of a file
        volumes = (Planned(f"{tmp_path}/data/below", volumes[0].file, frozenset()),)
        (tmp_path / "data").touch()
    assert difference(os.getpid(), volumes) == f"nothing is mounted at {volumes[0].target}"


def test_a_mount_that_keeps_less_than_planned_is_told(tmp_path: Path) -> None:
    if {"nosuid", "nodev", "ro"} & _options(tmp_path):
        pytest.skip("the directory for tests is restricted itself")
    told = difference(os.getpid(), planned(tmp_path / "data", NO_RIGHTS))
    assert told == f"what is mounted at {tmp_path}/data is not nodev, nosuid"
    told = difference(os.getpid(), planned(tmp_path / "data", read_only=True))
    assert told == f"what is mounted at {tmp_path}/data is not ro"


def _options(path: Path) -> set[str]:
    flags = {os.ST_NOSUID: "nosuid", 4: "nodev", os.ST_RDONLY: "ro"}
    return {name for flag, name in flags.items() if os.statvfs(path).f_flag & flag}


def test_a_task_that_is_over_sees_nothing_else(tmp_path: Path) -> None:
    volumes = planned(tmp_path / "data")
    (tmp_path / "data").rmdir()
    with subprocess.Popen(["true"]) as process:
        # over, and not yet buried
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert difference(process.pid, volumes) == ""
    assert difference(process.pid, volumes) == ""


@pytest.mark.parametrize(("refusal", "ends"), [(errno.ENOENT, True), (errno.ESRCH, True), (errno.EACCES, False)])
def test_a_task_that_is_just_losing_its_mounts_sees_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusal: int, *, ends: bool
) -> None:
    volumes, real = planned(tmp_path / "data"), os.readlink
    (tmp_path / "data").rename(tmp_path / "away")
    (tmp_path / "data").mkdir()
    assert difference(os.getpid(), volumes) != ""

    def readlink(path: str) -> str:
        if path == f"/proc/{os.getpid()}/root":
            raise OSError(refusal, "no root")
        return real(path)

    monkeypatch.setattr(os, "readlink", readlink)
    assert (difference(os.getpid(), volumes) == "") == ends
