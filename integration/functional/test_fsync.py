"""fsync(2), fdatasync(2), sync_file_range(2), syncfs(2): of files and of directories."""

import errno
import os
from pathlib import Path

import pytest

from integration.functional.places import OK, Both, Case, Places, cases, code_of, descriptor


def synced(path: Path, flags: int, sync: object = os.fsync) -> object:
    with descriptor(path, flags) as fd:
        return sync(fd)  # type: ignore[operator]


@cases(
    Case("a file", OK, lambda root: synced(root / "file", os.O_RDWR)),
    Case("a file that is open for reading", OK, lambda root: synced(root / "file", os.O_RDONLY)),
    Case("the data of a file", OK, lambda root: synced(root / "file", os.O_RDWR, os.fdatasync)),
    Case("a directory", OK, lambda root: synced(root / "dir", os.O_RDONLY)),
    Case("the names in a directory", OK, lambda root: synced(root, os.O_RDONLY | os.O_DIRECTORY, os.fdatasync)),
    Case("a path only", errno.EBADF, lambda root: synced(root / "file", os.O_PATH)),
    Case("a fifo", errno.EINVAL, lambda root: synced(root / "fifo", os.O_RDONLY | os.O_NONBLOCK)),
)
def test_fsync(both: Both, case: Case) -> None:
    both.check(case)


def test_after_fsync_the_servers_disk_has_every_byte(places: Places, both: Both) -> None:
    disk = places.box.data / "home/demo" / both.mount.name / "f"
    with descriptor(both.mount / "f", os.O_RDWR | os.O_CREAT) as fd:
        for number in range(20):
            os.pwrite(fd, b"%02d" % number * 5000, number * 10_000)
            os.fsync(fd)
            assert disk.stat().st_size == (number + 1) * 10_000
        assert disk.read_bytes() == b"".join(b"%02d" % number * 5000 for number in range(20))


def test_a_directory_that_was_removed_is_synced_as_well(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "d").mkdir()
        with descriptor(root / "d", os.O_RDONLY) as fd:
            os.rmdir(root / "d")
            os.fsync(fd)
            return "synced"

    assert both.same(call) == "synced"


def test_a_file_that_was_removed_is_synced_as_well(both: Both) -> None:
    def call(root: Path) -> object:
        with descriptor(root / "f", os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, b"text")
            os.unlink(root / "f")
            os.fsync(fd)
            return os.pread(fd, 10, 0)

    assert both.same(call) == b"text"


@pytest.mark.parametrize("size", [100, 3 << 20])
def test_o_sync_writes_are_on_the_servers_disk_when_they_return(places: Places, both: Both, size: int) -> None:
    disk = places.box.data / "home/demo" / both.mount.name / "f"
    with descriptor(both.mount / "f", os.O_WRONLY | os.O_CREAT | os.O_SYNC) as fd:
        assert os.write(fd, b"x" * size) == size
        assert disk.stat().st_size == size
        assert os.write(fd, b"y" * size) == size
        assert disk.stat().st_size == 2 * size


def test_syncing_everything_does_no_harm(both: Both) -> None:
    (both.mount / "f").write_bytes(b"text")
    assert code_of(os.sync) == OK
    assert (both.mount / "f").read_bytes() == b"text"
