"""A user and a group with limits: programs are told when they would pass one, and what was there stays."""

import errno
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.jobd import jobd
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
    for words in (
        ("quota", "ann", "--bytes", "8MiB", "--files", str(FILES_MAX), "--jobs-waiting", "2", "--gpus", "1"),
        ("group", "add", "ml", "ann"),
        ("quota", "groups/ml", "--bytes", "1MiB"),
    ):  # here, and not by processes, whose imports take a second
        jobd.main([*words, "--data-root", str(box.data)], standalone_mode=False)
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


def told(home: Path) -> dict[tuple[str, str], tuple[str, str]]:
    """Return what `quota` says of use and limit, by whom and what it is about."""
    rows = [re.split(" {2,}", line) for line in (home / "../../quota").read_text().splitlines()[1:]]
    return {(of, what): (used, limit) for of, what, used, limit in rows}


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


def test_who_write_at_once_reach_the_limit_and_no_more(home: Path) -> None:
    def write(script: str) -> int:
        """Have five write files, each until it is refused; return how many files were refused."""
        loop = f"for i in 1 2 3 4 5 6 7 8 9; do {script} || {{ echo no; break; }}; done"
        done = sh(home, f"for w in a b c d e; do ( {loop} ) & done; wait")
        assert "Disk quota exceeded" in done.stderr
        return done.stdout.count("no")

    assert write("head -c 512K /dev/zero > $w$i") == 5
    left = BYTES_MAX - sum(path.stat().st_size for path in home.iterdir())  # of what was refused a part may stand
    assert 0 <= left < 512 * 1024
    assert sh(home, f"head -c {left} /dev/zero >> a1").returncode == 0
    assert "Disk quota exceeded" in sh(home, "printf x >> a1").stderr
    assert told(home)["ann", "bytes"] == ("8MiB", "8MiB")
    subprocess.run(f"rm -rf {home}/*", shell=True, check=True, timeout=60)
    assert write("mkdir $w$i") == 5
    assert len(list(home.iterdir())) == FILES_MAX
    assert told(home)["ann", "files"] == (str(FILES_MAX), str(FILES_MAX))
    group = home / "../../groups/ml"
    done = sh(group, "head -c 1M /dev/zero > f; ls -l f; head -c 1 /dev/zero > g")
    assert (done.returncode, "Disk quota exceeded" in done.stderr) == (1, True)
    assert told(home)["groups/ml", "bytes"] == ("1MiB", "1MiB")


def test_jobs_above_a_quota_are_refused_where_they_are_written(places: Places, home: Path) -> None:
    jobs = home / "../../jobs"
    for number in range(2):
        (jobs / f"{number}a.yaml").write_text("command: echo hi\n")
    assert code_of(lambda: (jobs / "more.yaml").write_text("command: echo hi\n")) == errno.EDQUOT
    assert "ann's quota has 2 of 2 jobs waiting" in (jobs / "more.yaml.error").read_text()
    assert told(home)["ann", "jobs waiting"] == ("2", "2")
    env = {**places.box.env, "PADDLE_CONFIG": str(places.box.root / "quota-config")}
    assert places.box.run("paddle", "get", "quota", env=env).stdout == (home / "../../quota").read_text()
    for number in range(2):
        (jobs / f"{number}a/ctl").write_text("kill\n")
    large = "command: echo hi\nresources: '2:[any]'\n"
    assert code_of(lambda: (jobs / "large.yaml").write_text(large)) == errno.EDQUOT
    assert "needs 2 GPUs, but ann's quota is 1 at once" in (jobs / "large.yaml.error").read_text()
