"""The daemon's own directory: one daemon at a time, and what it was asked survives it."""

import errno
import json
import os
from pathlib import Path

import pytest

from jobd.node import state
from jobd.node.state import StateDir, boottime
from pfs.errors import Kind, PfsError


def test_a_second_daemon_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    with StateDir(tmp_path / "state"), pytest.raises(PfsError, match="another gradient-node runs") as caught:
        StateDir(tmp_path / "state")
    assert caught.value.kind is Kind.BUSY
    with StateDir(tmp_path / "state"):
        pass


def test_nobody_else_can_look_into_it(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o755)
    with StateDir(tmp_path / "state"):
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_the_instance_stays_and_differs_between_directories(tmp_path: Path) -> None:
    names = []
    for directory in ("a", "a", "b"):
        with StateDir(tmp_path / directory) as state:
            names.append(state.instance)
    assert names[0] == names[1] != names[2]


def test_a_stop_is_kept_until_it_is_dropped(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        assert state.stop_deadline_s("17.1.0.0") is None
        state.put_stop("17.1.0.0", 12.5)
    with StateDir(tmp_path) as state:
        assert state.stop_deadline_s("17.1.0.0") == 12.5
        state.drop_stop("17.1.0.0")
        state.drop_stop("17.1.0.0")
        assert state.stop_deadline_s("17.1.0.0") is None


def test_after_a_restart_of_the_machine_there_is_no_grace_left(tmp_path: Path) -> None:
    with StateDir(tmp_path) as state:
        stop = {"boot_id": "another", "deadline_s": boottime() + 3600}
        (tmp_path / "stops/17.1.0.0").write_text(json.dumps(stop))
        assert state.stop_deadline_s("17.1.0.0") == 0.0


def test_a_place_that_cannot_hold_it_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PfsError, match="cannot keep the node's state") as caught:
        StateDir(tmp_path / "file/state")
    assert caught.value.kind is Kind.IO


def test_a_full_disk_is_said_and_leaves_no_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(state, "replace_file", full)
        with pytest.raises(PfsError, match=r"cannot keep the node's state in .*: No space left on device"):
            StateDir(tmp_path)
    with StateDir(tmp_path):
        pass
