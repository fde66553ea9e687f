"""Project quotas: what is marked, what the kernel is told, and where there are none."""

import errno
import os
import shutil
import subprocess
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from pfs.disk import project
from pfs.disk.project import Projects, has_project_quotas, mark, project_of
from pfs.errors import Kind, PfsError
from pfs.quota import Limits

Run = Callable[[Callable[[], Awaitable[None]]], None]
ANN, BOB = 200_001, 200_002
KIB = 1024


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


def mounted(tmp_path: Path, options: str) -> Iterator[Path]:
    """Give an XFS of its own, where this machine lets us make one."""
    if os.geteuid() != 0 or shutil.which("mkfs.xfs") is None:
        pytest.skip("an XFS is made by root, with mkfs.xfs")
    image, point = tmp_path / "image", tmp_path / "point"
    image.touch()
    os.truncate(image, 320 << 20)
    point.mkdir()
    subprocess.run(["mkfs.xfs", "-q", str(image)], check=True, timeout=60)
    done = subprocess.run(
        ["mount", "-o", options, str(image), str(point)], check=False, timeout=60, capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"this kernel mounts no XFS with {options}: it has no such quotas, or no loop devices")
    try:
        yield point
    finally:
        subprocess.run(["umount", str(point)], check=True, timeout=60)


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path, "loop")


@pytest.fixture
def with_quotas(tmp_path: Path) -> Iterator[Path]:
    yield from mounted(tmp_path, "loop,prjquota")


def project_at(path: Path) -> int:
    fd = os.open(path, os.O_RDONLY)
    try:
        return project_of(fd)
    finally:
        os.close(fd)


def test_where_there_are_no_project_quotas_none_are_kept(root: int) -> None:
    if has_project_quotas(root):
        pytest.skip("the file system of this machine has project quotas")
    assert not Projects(root).are_kept


def test_what_is_there_and_what_is_made_later_is_marked_and_no_link_is_followed(plain: Path) -> None:
    home, other = plain / "home/ann", plain / "other"
    (home / "d/e").mkdir(parents=True)
    (home / "d/f").write_bytes(b"x")
    os.mkfifo(home / "fifo")
    other.mkdir()
    (other / "secret").write_bytes(b"x")
    (home / "link").symlink_to(other)
    fd = os.open(plain, os.O_RDONLY)
    try:
        mark(fd, "home/ann", ANN)
        mark(fd, "home/ann", ANN)
        with pytest.raises(FileNotFoundError):
            mark(fd, "home/bob", BOB)
    finally:
        os.close(fd)
    (home / "d/e/new").mkdir()
    (home / "d/e/new/f").write_bytes(b"x")
    assert {project_at(path) for path in (home, home / "d/e", home / "d/f", home / "d/e/new/f")} == {ANN}
    assert {project_at(path) for path in (plain / "home", other, other / "secret")} == {0}


def test_a_limit_is_said_once_and_marks_once(run: Run, root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[tuple[int, bytes]] = []
    marked: list[str] = []
    monkeypatch.setattr(project, "_quotactl", lambda fd, command, number, value: said.append((number, bytes(value))))
    monkeypatch.setattr(project, "mark", lambda fd, domain, number, going_on: marked.append(domain))
    projects = Projects(root)
    said.clear()  # the look at what there is
    for limits in (Limits(), Limits(1025, 7), Limits(1025, 7), Limits(0), Limits()):
        projects.limit(ANN, limits, lambda: ["home/ann", "jobs/1/data"])
    assert marked == []  # that may take long, and keeps nobody waiting
    run(projects.mark_waiting)

    def told(blocks: int, files: int) -> tuple[int, bytes]:
        words = [blocks, 0, 0, files, 0, 0, 0, 0, 5]  # struct if_dqblk: hard limits of KiB and of files, and which hold
        return ANN, b"".join(word.to_bytes(8, "little") for word in words)

    # at first sight also that there is none: the kernel may hold one that was taken away while no server ran
    # none at all is 0 to the kernel, and no room is the least that it knows
    assert said == [told(0, 0), told(2, 7), told(1, 0), told(0, 0)]
    assert marked == ["home/ann", "jobs/1/data"]


def test_a_kernel_that_refuses_is_asked_once_and_ends_nothing(root: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def refuse(fd: int, command: int, number: int, value: bytearray) -> None:
        asked.append(number)
        raise OSError(errno.ENOSYS, "not implemented")

    monkeypatch.setattr(project, "_quotactl", refuse)
    projects = Projects(root)
    asked.clear()
    for _ in range(2):
        projects.limit(ANN, Limits(1), lambda: [])
    assert asked == [ANN]


@pytest.fixture
def willing(root: int, monkeypatch: pytest.MonkeyPatch) -> Projects:
    """Projects of a kernel that takes all limits."""
    monkeypatch.setattr(project, "_quotactl", lambda fd, command, number, value: None)
    return Projects(root)


def test_what_cannot_be_marked_leaves_nothing_else_unmarked_and_is_told(
    run: Run, willing: Projects, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    marked: list[tuple[int, str]] = []

    def mark(fd: int, domain: str, number: int, going_on: object) -> None:
        if domain == "home/ann":
            raise OSError(errno.EIO, "bad disk")
        if domain == "jobs/1/data":
            raise FileNotFoundError
        marked.append((number, domain))

    monkeypatch.setattr(project, "mark", mark)
    willing.limit(ANN, Limits(1), lambda: ["home/ann", "jobs/1/data", "jobs/2/data"])
    willing.limit(BOB, Limits(1), lambda: ["home/bob"])
    run(willing.mark_waiting)
    assert marked == [(ANN, "jobs/2/data"), (BOB, "home/bob")]
    assert [record.getMessage() for record in caplog.records] == [
        f"home/ann is not held within the limits of the project {ANN}: bad disk"
    ]


def test_what_cannot_be_told_now_is_marked_later(run: Run, willing: Projects, monkeypatch: pytest.MonkeyPatch) -> None:
    marked: list[str] = []
    monkeypatch.setattr(project, "mark", lambda fd, domain, number, going_on: marked.append(domain))
    answers = iter([PfsError(Kind.BUSY, "the database is locked"), ["home/ann"]])

    def domains() -> list[str]:
        answer = next(answers)
        if isinstance(answer, PfsError):
            raise answer
        return answer

    willing.limit(ANN, Limits(1), domains)
    run(willing.mark_waiting)
    assert marked == []
    run(willing.mark_waiting)
    run(willing.mark_waiting)
    assert marked == ["home/ann"]


def test_who_ends_does_not_wait_for_a_large_tree(
    run: Run, tmp_path: Path, willing: Projects, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def mark(top: int, path: str, number: int) -> list[str]:
        begun.set()
        if not ended.wait(0.001):
            return ["deeper"]
        return []

    def domains() -> Iterator[str]:
        try:
            yield "home"
        finally:
            ended.set()

    (tmp_path / "home").mkdir()
    monkeypatch.setattr(project, "_mark_below", mark)
    monkeypatch.setattr(project, "set_project", lambda fd, number: None)
    willing.limit(ANN, Limits(1), domains)

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(willing.run)
            await trio.to_thread.run_sync(begun.wait)
            nursery.cancel_scope.cancel()

    run(main)
    assert ended.wait(60)


def test_the_kernel_refuses_what_passes_the_limit_of_a_project(run: Run, with_quotas: Path) -> None:
    home = with_quotas / "home"
    home.mkdir()
    (home / "before").write_bytes(bytes(64 * KIB))
    fd = os.open(with_quotas, os.O_RDONLY)
    try:
        projects = Projects(fd)
        assert projects.are_kept
        projects.limit(ANN, Limits(512 * KIB, 4), lambda: ["home"])
        run(projects.mark_waiting)
        (home / "f").write_bytes(bytes(400 * KIB))
        with pytest.raises(OSError, match=r"quota|No space") as caught:
            (home / "g").write_bytes(bytes(200 * KIB))
        assert caught.value.errno in (errno.EDQUOT, errno.ENOSPC)
        (with_quotas / "elsewhere").write_bytes(bytes(1000 * KIB))
        projects.limit(ANN, Limits(), lambda: [])
        (home / "f").write_bytes(bytes(1000 * KIB))
    finally:
        os.close(fd)
