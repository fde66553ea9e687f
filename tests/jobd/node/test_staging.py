"""Mounts of opened paths: they lead to what was opened, whatever happens to the path, and leave nothing behind."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from jobd.node.mounting import attach, clone_of, detach, mounts_below
from jobd.node.staging import Staging, shares_mounts

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts")


@contextmanager
def held(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_PATH)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("mine")
    return tmp_path / "source"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "place"


def test_a_path_leads_to_what_was_opened_whatever_is_put_in_its_place(source: Path, place: Path) -> None:
    staging = Staging(place, "i")
    with held(source) as directory, held(source / "file") as file:
        source.rename(source.with_name("away"))
        source.symlink_to("/etc")
        with staging.shown("17.1.0.0", [(directory, False), (file, False)]) as (at, file_at):
            assert os.listdir(at) == ["file"]
            assert Path(file_at).read_text() == "mine"
            assert {at, file_at} == set(mounts_below(place))
    assert os.listdir(place) == []


def test_neither_devices_nor_rights_of_others_count_there(source: Path, place: Path) -> None:
    with held(source) as directory, Staging(place, "i").shown("17.1.0.0", [(directory, False)]) as (at,):
        flags = os.statvfs(at).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
        assert not flags & os.ST_RDONLY
    with held(source) as directory, Staging(place, "i").shown("17.1.0.0", [(directory, True)]) as (at,):
        assert os.statvfs(at).f_flag & os.ST_RDONLY


def test_what_is_mounted_below_is_shown_too(source: Path, place: Path) -> None:
    with held(source / "file") as file:
        clone = clone_of(file)
        (source / "over").touch()
        attach(clone, str(source / "over"))
        os.close(clone)
    try:
        with held(source) as directory, Staging(place, "i").shown("17.1.0.0", [(directory, False)]) as (at,):
            assert Path(at, "over").read_text() == "mine"
            assert os.statvfs(f"{at}/over").f_flag & os.ST_NOSUID
    finally:
        detach(str(source / "over"))


def test_a_task_gets_the_same_paths_again(source: Path, place: Path) -> None:
    found = []
    for _ in range(2):
        with held(source) as directory, Staging(place, "i").shown("17.1.0.0", [(directory, False)]) as paths:
            found.append(paths)
    assert found[0] == found[1]


def test_what_a_killed_daemon_left_is_taken_away_and_only_its_own(source: Path, place: Path) -> None:
    with held(source) as directory:
        other = Staging(place, "other").shown("1.1.0.0", [(directory, False)])
        left = Staging(place, "i").shown("17.1.0.0", [(directory, False)])
        (kept,) = other.__enter__()
        left.__enter__()
        Staging(place, "i")
        assert mounts_below(place) == [kept]
        left.__exit__(None, None, None)
        other.__exit__(None, None, None)
    assert (source / "file").read_text() == "mine"
    assert os.listdir(place) == []


def test_a_place_that_cannot_be_taken_away_is_told_and_fails_nothing(
    source: Path, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with held(source) as directory, Staging(place, "i").shown("17.1.0.0", [(directory, False)]) as (at,):
        detach(at)
        Path(at, "somebody").touch()
    assert "cannot be taken away: Directory not empty" in caplog.text
    assert os.listdir(source) == ["file"]


def test_who_listens_here_sees_our_mounts_and_who_does_not_listen_does_not(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(tmp_path / "door"))
        door.listen()
        assert shares_mounts(f"unix://{tmp_path}/door")
    assert not shares_mounts(f"unix://{tmp_path}/none")
    assert not shares_mounts("tcp://127.0.0.1:1")
