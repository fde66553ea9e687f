"""Secrets of tasks as files in memory: for their owner alone, and gone with the task."""

import shutil
import stat
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from jobd.node import secretfiles
from jobd.node.dataroot import DataRoot
from jobd.node.runtime import RuntimeFailure
from jobd.node.secretfiles import WithSecrets
from jobd.wire import Assignment

ASSIGNMENT = Assignment("17.1.0.0", ("true",), {}, "/", "h", secrets={"wandb": b"token\n", "key": b"\xff"})


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WithSecrets:
    (tmp_path / "root").mkdir()
    (tmp_path / "root/.pfs-id").write_text("mark")
    (tmp_path / "shm").mkdir()
    monkeypatch.setattr(secretfiles, "_is_in_memory", lambda path: path == tmp_path / "shm")
    return again(tmp_path)


def again(tmp_path: Path) -> WithSecrets:
    return of_instance(tmp_path, "i0")


def of_instance(tmp_path: Path, instance: str) -> WithSecrets:
    state = tmp_path / f"state-{instance}"
    state.mkdir(exist_ok=True)
    (state / "instance").write_text(instance)
    return WithSecrets(DataRoot(tmp_path / "root"), instance, state, tmp_path / "shm")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_task_sees_its_secrets_in_files_that_nobody_else_reads(files: WithSecrets) -> None:
    launch = files.launch(ASSIGNMENT)
    [volume] = launch.volumes
    assert (volume.target, volume.read_only) == ("/run/secrets", True)
    place = Path(volume.source)
    assert {path.name: path.read_bytes() for path in place.iterdir()} == ASSIGNMENT.secrets
    assert (mode(place), mode(place.parent)) == (0o500, 0o711)
    assert {mode(path) for path in place.iterdir()} == {0o400}


def test_a_task_without_secrets_has_nothing_there(files: WithSecrets, tmp_path: Path) -> None:
    assert files.launch(replace(ASSIGNMENT, secrets={})).volumes == ()
    assert list((tmp_path / "shm").iterdir()) == []


def test_a_task_that_is_started_again_gets_what_it_is_given_then(files: WithSecrets) -> None:
    files.launch(ASSIGNMENT)
    [volume] = files.launch(replace(ASSIGNMENT, secrets={"wandb": b"new"})).volumes
    assert {path.name: path.read_bytes() for path in Path(volume.source).iterdir()} == {"wandb": b"new"}


def test_they_go_with_the_task_and_with_the_last_one_all(files: WithSecrets, tmp_path: Path) -> None:
    first, second = (files.launch(replace(ASSIGNMENT, task_id=task)).volumes[0] for task in ("17.1.0.0", "18.1.0.0"))
    trio.run(files.leave, "17.1.0.0")
    assert (Path(first.source).exists(), Path(second.source).exists()) == (False, True)
    trio.run(files.leave, "18.1.0.0")
    assert list((tmp_path / "shm").iterdir()) == []


def test_a_new_daemon_keeps_those_of_the_tasks_that_there_are(files: WithSecrets, tmp_path: Path) -> None:
    kept, gone = (files.launch(replace(ASSIGNMENT, task_id=task)).volumes[0] for task in ("17.1.0.0", "18.1.0.0"))
    trio.run(again(tmp_path).take_up, ["17.1.0.0"])
    assert (Path(kept.source).exists(), Path(gone.source).exists()) == (True, False)


@pytest.mark.parametrize("fate", ["gone", "another"])
def test_what_a_daemon_left_that_will_never_be_back_goes_with_the_start_of_any_other(
    files: WithSecrets, tmp_path: Path, fate: str
) -> None:
    other = of_instance(tmp_path, "i1")
    [volume] = files.launch(ASSIGNMENT).volumes
    trio.run(other.take_up, [])
    assert (Path(volume.source) / "wandb").exists()  # it is only away
    if fate == "gone":
        shutil.rmtree(tmp_path / "state-i0")
    else:
        (tmp_path / "state-i0/instance").write_text("i2")
    trio.run(other.take_up, [])
    assert list((tmp_path / "shm").iterdir()) == []


def test_what_a_daemon_has_stays_where_its_own_directory_was_moved(files: WithSecrets, tmp_path: Path) -> None:
    [volume] = files.launch(ASSIGNMENT).volumes
    (tmp_path / "state-i0").rename(tmp_path / "moved")
    moved = WithSecrets(DataRoot(tmp_path / "root"), "i0", tmp_path / "moved", tmp_path / "shm")
    trio.run(moved.take_up, ["17.1.0.0"])
    trio.run(of_instance(tmp_path, "i1").take_up, [])
    assert (Path(volume.source) / "wandb").exists()


def test_without_a_file_system_in_memory_nothing_is_written(files: WithSecrets, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    elsewhere = WithSecrets(DataRoot(tmp_path / "root"), "i0", tmp_path, tmp_path / "disk")
    with pytest.raises(RuntimeFailure, match="no file system in memory"):
        elsewhere.launch(ASSIGNMENT)
    assert list((tmp_path / "disk").iterdir()) == []


def test_a_directory_that_somebody_laid_there_is_not_used(files: WithSecrets, tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir(mode=0o700)
    (tmp_path / "shm/pfs-node-i0").symlink_to(tmp_path / "trap")
    with pytest.raises(RuntimeFailure, match="somebody else's"):
        files.launch(ASSIGNMENT)
    assert list((tmp_path / "trap").iterdir()) == []
    assert mode(tmp_path / "trap") == 0o700
