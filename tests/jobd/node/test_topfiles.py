"""Files at the top of what a task sees: there from its start until it is gone."""

import os
from pathlib import Path

import pytest

from jobd.node.runtime import Launch, RuntimeFailure, Volume
from jobd.node.topfiles import drop, keep_only, with_files

HOME = Volume("/data/home/ann", "/pfs/dc1/home/ann", read_only=False)
LAUNCH = Launch("17.1.0.0", ("true",), {}, "/", "x", volumes=(HOME,))


def test_a_task_sees_each_file_at_the_top_to_read_only(tmp_path: Path) -> None:
    mask = os.umask(0o077)
    try:
        home, *own = with_files(LAUNCH, {"trainer_id": b"1\n", "train.list": b"\xff\n"}, tmp_path).volumes
    finally:
        os.umask(mask)
    assert home == HOME
    assert [(each.target, each.read_only) for each in own] == [("/trainer_id", True), ("/train.list", True)]
    assert [Path(each.source).read_bytes() for each in own] == [b"1\n", b"\xff\n"]
    assert {Path(each.source).stat().st_mode & 0o777 for each in own} == {0o644}  # whoever the task is


def test_a_task_without_files_leaves_nothing(tmp_path: Path) -> None:
    assert with_files(LAUNCH, {}, tmp_path) == LAUNCH
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_is_asked_for_again_keeps_the_files_and_their_places(tmp_path: Path) -> None:
    [_, first] = with_files(LAUNCH, {"trainer_id": b"1000\n"}, tmp_path).volumes
    number = os.stat(first.source).st_ino
    [_, again] = with_files(LAUNCH, {"trainer_id": b"1\n"}, tmp_path).volumes
    assert (again, os.stat(again.source).st_ino) == (first, number)
    assert Path(again.source).read_bytes() == b"1\n"


def test_what_is_gone_leaves_nothing(tmp_path: Path) -> None:
    for task in ("17.1.0.0", "18.1.0.0", "19.1.0.0"):
        with_files(Launch(task, ("true",), {}, "/", "x"), {"trainer_id": b"1\n"}, tmp_path)
    drop(tmp_path, "17.1.0.0")
    drop(tmp_path, "20.1.0.0")
    keep_only(tmp_path, {"18.1.0.0"})
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["18.1.0.0"]


def test_a_state_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "files").write_text("")
    with pytest.raises(RuntimeFailure, match=r"^/trainer_id cannot be made: Not a directory \("):
        with_files(LAUNCH, {"trainer_id": b"1\n"}, tmp_path)
