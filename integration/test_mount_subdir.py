"""Mounts whose top is one folder: what they show, that others' changes are seen there, and what cannot be mounted."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from integration.box import Box, box, is_mounted

Mount = Callable[..., Path]


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """Give a datacenter with a mount of all of it."""
    with box() as made:
        added = made.run("jobd", "adduser", "ann", "--data-root", str(made.data))
        (made.root / "config-of-ann").write_text(added.stdout.partition(":\n")[2])
        made.start_server()
        made.start_node()
        made.mount()
        yield made


@pytest.fixture
def home(world: Box, tmp_path: Path) -> Path:
    """Make a folder as it is seen in the mount of everything."""
    made = world.dc / "home/demo" / tmp_path.name
    made.mkdir()
    return made


@pytest.fixture
def mount(world: Box, tmp_path: Path) -> Iterator[Mount]:
    points: list[Path] = []

    def make(subdir: str | Path, *options: str) -> Path:
        point = tmp_path / f"point{len(points)}"
        point.mkdir()
        path = subdir if isinstance(subdir, str) else subdir.relative_to(world.mountpoint)
        done = world.run("paddle", "mount", "-o", ",".join((f"subdir={path}", *options)), str(point))
        assert done.returncode == 0, done.stderr
        points.append(point)
        return point

    yield make
    for point in points:
        assert world.run("paddle", "umount", str(point)).returncode == 0
        assert not is_mounted(point)


def facts(path: Path) -> tuple[int, int, int]:
    info = path.stat()
    return info.st_mode, info.st_mtime_ns, info.st_size


def test_the_folder_is_the_top_of_the_mount(home: Path, mount: Mount) -> None:
    (home / "sub").mkdir()
    (home / "sub/a").write_text("1\n")
    home.chmod(0o750)
    os.setxattr(home, "user.kind", b"data")
    point = mount(home)
    assert os.listdir(point) == ["sub"]
    assert (point / "sub/a").read_text() == "1\n"
    assert facts(point) == facts(home)
    assert os.getxattr(point, "user.kind") == b"data"
    assert subprocess.run(["ls", "-a", point], capture_output=True, text=True, check=True).stdout.split() == [
        *(".", "..", "sub")
    ]


def test_what_is_changed_at_its_top_is_seen_by_others_and_theirs_there(home: Path, mount: Mount) -> None:
    point, other = mount(home), mount(home)
    assert not (point / "fresh").exists()
    (home / "fresh").write_text("1\n")
    assert (point / "fresh").read_text() == (other / "fresh").read_text() == "1\n"
    (point / "fresh").write_text("changed\n")
    assert (other / "fresh").read_text() == (home / "fresh").read_text() == "changed\n"
    (home / "fresh").rename(home / "moved")
    assert os.listdir(point) == os.listdir(other) == ["moved"]
    assert not (point / "fresh").exists()
    (point / "moved").unlink()
    (point / "made").mkdir()
    assert os.listdir(home) == os.listdir(other) == ["made"]
    point.chmod(0o700)
    assert facts(home) == facts(other) == facts(point)
    os.link(_written(point / "one"), point / "two")
    assert (other / "two").stat().st_nlink == 2


def _written(path: Path) -> Path:
    path.write_text("x")
    return path


def test_all_of_a_datacenter_is_a_folder_too(world: Box, home: Path, mount: Mount) -> None:
    point = mount("dc1")
    assert sorted(os.listdir(point)) == sorted(os.listdir(world.dc))
    (point / "home/demo" / home.name / "a").write_text("1\n")
    assert (home / "a").read_text() == "1\n"


def test_a_job_can_be_read_and_not_commanded(world: Box, mount: Mount) -> None:
    (world.dc / "jobs/subdir.yaml").write_text("command: echo in here\n")
    assert world.sh("cat jobs/subdir/wait").stdout == "0\n"
    point = mount(f"/dc1/jobs/{(world.dc / 'jobs/subdir/status').read_text().split()[1]}/", "ro")
    assert "[worker 0] in here\n" in (point / "log").read_text()
    with pytest.raises(OSError, match="Read-only file system"):
        (point / "ctl").write_text("kill\n")


def test_a_folder_that_is_removed_is_gone_and_the_mount_ends_well(home: Path, mount: Mount) -> None:
    point = mount(home)
    assert os.listdir(point) == []
    home.rmdir()
    with pytest.raises(OSError, match=r"No such file|Stale"):
        (point / "a").write_text("")


def test_what_is_promised_there_arrives(world: Box, home: Path, mount: Mount, tmp_path: Path) -> None:
    point = mount(home, "write_behind", f"cache_dir={tmp_path / 'cache'}")
    for number in range(50):
        (point / str(number)).write_text(f"{number}\n")
    (point / "0").rename(point / "zero")
    assert world.run("paddle", "umount", str(point)).returncode == 0
    assert sorted(os.listdir(home)) == sorted(["zero", *(str(number) for number in range(1, 50))])
    assert (
        world.run("paddle", "mount", "-o", f"subdir={home.relative_to(world.mountpoint)}", str(point)).returncode == 0
    )
    assert (point / "zero").read_text() == "0\n"


def test_its_status_tells_what_is_mounted(world: Box, home: Path, mount: Mount) -> None:
    point = mount(home)
    said = world.run("paddle", "mount", "--status", str(point)).stdout
    assert f"subdir=dc1/home/demo/{home.name}" in said
    assert "dc1: http" in said


@pytest.mark.parametrize(
    ("subdir", "why"),
    [
        ("dc1/home/nobody", "no such"),
        ("dc1/home/demo/file", "this is no directory"),
        ("dc2/home", "there is no datacenter dc2; there are dc1"),
        ("dc1/../etc", "'..' cannot be a file name"),
    ],
)
def test_what_cannot_be_shown_is_told_before_anything_is_mounted(
    world: Box, tmp_path: Path, subdir: str, why: str
) -> None:
    (world.dc / "home/demo/file").write_text("")
    done = world.run("paddle", "mount", "-o", f"subdir={subdir}", str(tmp_path))
    assert done.returncode != 0
    assert why in done.stderr
    assert (len(done.stderr.splitlines()), is_mounted(tmp_path)) == (1, False)


def test_somebody_elses_folder_cannot_be_mounted(world: Box, tmp_path: Path) -> None:
    options = f"config={world.root / 'config-of-ann'},subdir=dc1/home/demo"
    done = world.run("paddle", "mount", "-o", options, str(tmp_path))
    assert done.returncode != 0, done.stdout
    assert "subdir=dc1/home/demo cannot be mounted: " in done.stderr
    assert (len(done.stderr.splitlines()), is_mounted(tmp_path)) == (1, False)
