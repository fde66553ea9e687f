"""Looking at every node below a directory, whatever stands there and whatever moves meanwhile."""

import logging
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pfs.disk import scan as scanning
from pfs.disk.scan import scan


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A directory with one of each kind, and links out of it."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").touch()
    made = tmp_path / "top"
    (made / "a/b").mkdir(parents=True)
    (made / "a/b/file").write_bytes(b"12345")
    (made / "out").symlink_to("../secret")
    os.mkfifo(made / "a/fifo")
    return made


@contextmanager
def opened(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_PATH)
    try:
        yield fd
    finally:
        os.close(fd)


def found(top: Path) -> list[str]:
    infos: list[os.stat_result] = []
    with opened(top) as fd:
        assert scan(fd, infos.append)
    return sorted(
        stat.filemode(info.st_mode)[0] + str(info.st_size) for info in infos if not stat.S_ISDIR(info.st_mode)
    )


def test_every_node_is_met_and_no_link_followed(top: Path) -> None:
    infos: list[os.stat_result] = []
    with opened(top) as fd:
        scan(fd, infos.append)
    assert len({info.st_ino for info in infos}) == len(infos) == 5
    assert found(top) == ["-5", "l9", "p0"]


def test_what_is_removed_or_replaced_meanwhile_harms_nothing(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanning, "NAMES_AT_ONCE", 1)
    infos: list[os.stat_result] = []

    def look(info: os.stat_result) -> None:
        infos.append(info)
        if (top / "a").is_dir() and info.st_ino == (top / "a").stat().st_ino:
            os.rename(top / "a", top.parent / "moved")
            (top / "a").symlink_to("../secret")

    with opened(top) as fd:
        assert scan(fd, look)
    assert len(infos) == 2  # what was moved out of sight, and the link that was there before


def test_another_file_system_is_met_and_not_entered() -> None:
    dev, shm = os.stat("/dev").st_dev, os.stat("/dev/shm")
    if shm.st_dev == dev:
        pytest.skip("there is no file system in another one here")
    infos: list[os.stat_result] = []
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as file, opened(Path("/dev")) as fd:
        inside = os.fstat(file.fileno())
        scan(fd, infos.append)
    met = {(info.st_dev, info.st_ino) for info in infos}
    assert (shm.st_dev, shm.st_ino) in met
    assert (inside.st_dev, inside.st_ino) not in met


def test_it_is_ended_between_a_few_names(top: Path) -> None:
    for number in range(200):
        (top / f"f{number}").touch()
    infos: list[os.stat_result] = []
    with opened(top) as fd:
        assert not scan(fd, infos.append, going_on=lambda: not infos)
    assert len(infos) == scanning.NAMES_AT_ONCE


def test_a_path_too_long_is_told_and_the_rest_is_met(top: Path, caplog: pytest.LogCaptureFixture) -> None:
    above = os.open(top / "a", os.O_PATH)
    for _ in range(17):
        os.mkdir("d" * 250, dir_fd=above)
        below = os.open("d" * 250, os.O_PATH, dir_fd=above)
        os.close(above)
        above = below
    os.close(above)
    with caplog.at_level(logging.INFO, logger="pfs.disk.scan"):
        assert found(top) == ["-5", "l9", "p0"]
    assert "cannot be looked into" in caplog.text
