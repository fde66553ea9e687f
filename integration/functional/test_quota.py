"""A home with limits: programs are told when they would pass one, and what was there stays."""

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import is_mounted, wait_until
from integration.functional.places import Places, code_of, descriptor

BLOCK, MIB = 4096, 1 << 20
BYTES_MAX, FILES_MAX = 8 * MIB, 20


@pytest.fixture(scope="module")
def home(places: Places) -> Iterator[Path]:
    """The home of an account of its own, in a mount of its own."""
    box = places.box
    point, config = box.root / "quota", box.root / "quota-config"
    config.write_text(box.run("jobd", "adduser", "--data-root", str(box.data), "ann").stdout.split("\n\n")[-1])
    box.run("jobd", "quota", "--data-root", str(box.data), "ann", "--bytes", "8MiB", "--files", str(FILES_MAX))
    point.mkdir()
    mounted = box.run("paddle", "mount", str(point), env={**box.env, "PADDLE_CONFIG": str(config)})
    assert mounted.returncode == 0, mounted.stderr
    try:
        wait_until(lambda: room(point) == (BYTES_MAX, BYTES_MAX, FILES_MAX, FILES_MAX))
        yield point / "dc1/home/ann"
    finally:
        box.run("paddle", "umount", "--lazy", str(point))
        if is_mounted(point):
            subprocess.run(["umount", "-l", str(point)], check=False)


@pytest.fixture(autouse=True)
def _empty(home: Path) -> Iterator[None]:
    yield
    subprocess.run(f"rm -rf {home}/*", shell=True, check=True, timeout=60)
    assert room(home) == (BYTES_MAX, BYTES_MAX, FILES_MAX, FILES_MAX)


def room(path: Path) -> tuple[int, int, int, int]:
    told = os.statvfs(path)
    return told.f_blocks * told.f_frsize, told.f_bavail * told.f_frsize, told.f_files, told.f_favail


def sh(home: Path, script: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "LC_ALL": "C"}
    command = ["bash", "-c", script]
    return subprocess.run(command, cwd=home, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_df_shows_the_limits_and_what_is_left(home: Path) -> None:
    done = sh(home, "head -c 3M /dev/zero > f && mkdir d && df -B1 --output=size,used,avail,itotal,iavail . ../../..")
    assert done.returncode == 0, done.stderr
    expected = [BYTES_MAX, 3 * MIB, BYTES_MAX - 3 * MIB, FILES_MAX, FILES_MAX - 2]
    assert [[int(word) for word in line.split()] for line in done.stdout.splitlines()[1:]] == [expected, expected]


@pytest.mark.parametrize(
    "command", ["dd if=/dev/zero of=f bs=64k", "cp ../../../../data.bin f", "head -c 9M /dev/zero > f && sync f"]
)
def test_programs_are_told_and_pass_no_limit(places: Places, home: Path, command: str) -> None:
    (places.box.root / "data.bin").write_bytes(bytes(BYTES_MAX + 1))
    (home / "there").write_bytes(b"x" * 1000)
    done = sh(home, command)
    assert (done.returncode, "Disk quota exceeded" in done.stderr) == (1, True)
    assert (home / "f").stat().st_size <= BYTES_MAX - 1000
    assert (home / "there").read_bytes() == b"x" * 1000
    assert room(home)[1] == (BYTES_MAX - 1000 - (home / "f").stat().st_size) // BLOCK * BLOCK


def test_what_is_full_can_be_changed_and_emptied(home: Path) -> None:
    with descriptor(home / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.ftruncate(fd, BYTES_MAX)  # holes count
        assert code_of(lambda: os.ftruncate(fd, BYTES_MAX + 1)) == errno.EDQUOT
        assert os.pwrite(fd, b"new", 5) == 3
        os.fsync(fd)
        for number in range(FILES_MAX - 1):
            (home / f"f{number}").touch()
        for call in (os.mkdir, os.mkfifo, lambda path: os.symlink("f", path)):
            assert code_of(lambda: call(home / "one-more")) == errno.EDQUOT  # noqa: B023
        assert code_of((home / "one-more").touch) == errno.EDQUOT
        assert code_of(lambda: os.rename(home / "f1", home / "f2")) == 0
        os.unlink(home / "f")
        assert room(home)[1:] == (0, FILES_MAX, 1)  # it is open
        assert os.pread(fd, 3, 5) == b"new"
    wait_until(lambda: room(home)[1] == BYTES_MAX)
