"""Asking a mount within a bounded time, its lock and its files. No mount is needed: any directory is asked alike."""

import errno
import os
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from cli.mount import point as mountpoint
from pfs.errors import Kind, PfsError
from tests.scripts.mount.verbs import STATUS


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def answer(monkeypatch: pytest.MonkeyPatch, data: bytes | int) -> None:
    """Let every mount answer this; an errno is what it says instead."""

    def getxattr(point: str, name: str, *, follow_symlinks: bool) -> bytes:
        assert (name, follow_symlinks) == ("user.pfs.status", False)
        if isinstance(data, int):
            raise OSError(data, os.strerror(data))
        return data

    monkeypatch.setattr(os, "getxattr", getxattr)


def refusal(point: Path) -> PfsError:
    with pytest.raises(PfsError) as caught:
        mountpoint.status_of(str(point))
    assert str(caught.value).startswith(f"{point}: ")
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_status_comes_back_as_it_was_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, STATUS.encode())
    assert asdict(mountpoint.status_of(str(tmp_path))) == asdict(STATUS)
    assert not mountpoint.is_dead(str(tmp_path))


@pytest.mark.parametrize(
    ("code", "says", "dead"),
    [
        (errno.ENOTCONN, "its process is gone; `paddle umount", True),
        (errno.ECONNABORTED, "its process is gone", True),
        (errno.EACCES, "another user's", False),
        (errno.ENODATA, "does not tell its status", False),
        (errno.EIO, "Input/output error", False),
    ],
)
def test_why_there_is_no_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, says: str, dead: bool
) -> None:
    answer(monkeypatch, code)
    assert says in str(refusal(tmp_path))
    assert mountpoint.is_dead(str(tmp_path)) is dead


def test_nonsense_is_told_as_another_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, b"[]")
    assert "another version" in str(refusal(tmp_path))


def test_a_mount_that_hangs_is_left_and_nothing_of_us_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs, ours = os.pipe()
    os.set_inheritable(ours, True)
    monkeypatch.setattr(mountpoint, "ANSWER_S", 0.05)
    monkeypatch.setattr(os, "kill", lambda pid, number: None)  # as one that cannot be killed
    monkeypatch.setattr(os, "getxattr", lambda *_, **__: time.sleep(1.0))
    error = refusal(tmp_path)
    assert error.kind is Kind.TIMED_OUT
    assert "`paddle umount --lazy" in str(error)
    os.close(ours)
    assert os.read(theirs, 1) == b""  # the child that is left behind has nothing of ours open
    os.close(theirs)


def test_a_plain_directory_is_no_mount(tmp_path: Path) -> None:
    assert not mountpoint.is_mounted(str(tmp_path))
    assert not mountpoint.is_dead(str(tmp_path))
    assert not mountpoint.is_dead(str(tmp_path / "missing"))


def test_one_process_holds_a_mount_point(tmp_path: Path) -> None:
    first = mountpoint.take_lock("/a")
    assert first is not None
    assert mountpoint.take_lock("/a") is None
    other = mountpoint.take_lock("/b")
    assert other is not None
    first.close()
    again = mountpoint.take_lock("/a")
    assert again is not None
    for file in (again, other):
        file.close()


def test_two_mount_points_never_share_a_file(state: Path) -> None:
    names = {mountpoint.state_file(point, "log").name for point in ("/a/b", "/a-b", "/a%2Db", "/a%b", "/a%25b")}
    assert len(names) == 5
    assert mountpoint.state_file("/a/b", "log").parent == state / "pfs"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(PfsError, match="cannot write") as caught:
        mountpoint.open_for_appending(tmp_path / "file" / "log")
    assert caught.value.kind is Kind.DENIED
