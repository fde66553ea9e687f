"""What stat tells: modes, times, numbers, room."""

import errno
import os
import stat
from collections.abc import Callable

from tests.functional.posix import Posix, errno_of, get, put

SECOND = 10**9


def test_a_new_node_has_the_mode_that_was_asked_for(fs: Posix) -> None:
    for mode in (0o644, 0o600, 0o755, 0o400, 0o777, 0o000):
        fs.close(fs.open(f"f{mode:o}", os.O_RDWR | os.O_CREAT, mode))
        fs.mkdir(f"d{mode:o}", mode)
        fs.mknod(f"p{mode:o}", stat.S_IFIFO | mode)
        found = [fs.stat(f"{kind}{mode:o}").mode & 0o777 for kind in "fdp"]
        assert found == [mode] * 3


def test_chmod_changes_the_permissions_and_nothing_else(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.mkdir("d")
    for mode in (0o600, 0o755, 0o444, 0o000, 0o777):
        for name in ("f", "d"):
            fs.chmod(name, mode)
            assert fs.stat(name).mode & 0o777 == mode
    assert stat.S_ISREG(fs.stat("f").mode)
    assert stat.S_ISDIR(fs.stat("d").mode)
    assert get(fs, "f") == b"text"


def test_chmod_goes_through_links(fs: Posix) -> None:
    put(fs, "f")
    fs.symlink("f", "l")
    fs.chmod("l", 0o700)
    assert (fs.stat("f").mode & 0o777, fs.lstat("l").mode & 0o777) == (0o700, 0o777)


def test_a_file_that_is_open_can_be_changed_by_descriptor(fs: Posix) -> None:
    put(fs, "f", b"text")
    fd = fs.open("f", os.O_RDONLY)
    fs.fchmod(fd, 0o604)
    assert (fs.fstat(fd).mode & 0o777, fs.stat("f").mode & 0o777) == (0o604, 0o604)
    fs.close(fd)


def test_times_are_kept_to_the_nanosecond(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.mkdir("d")
    for name in ("f", "d"):
        fs.utime(name, 1_234_567_890_123_456_789, 1_600_000_000_000_000_001)
        found = fs.stat(name)
        assert (found.atime_ns, found.mtime_ns) == (1_234_567_890_123_456_789, 1_600_000_000_000_000_001)


def test_times_may_be_long_ago_and_far_ahead(fs: Posix) -> None:
    put(fs, "f")
    for seconds in (-1, -2_000_000_000, 0, 2**31 - 1, 2**31, 2**32, 10_000_000_000):
        fs.utime("f", seconds * SECOND + 1, seconds * SECOND + 999_999_999)
        found = fs.stat("f")
        assert (found.atime_ns, found.mtime_ns) == (seconds * SECOND + 1, seconds * SECOND + 999_999_999)


def test_a_symbolic_link_has_times_of_its_own(fs: Posix) -> None:
    put(fs, "f")
    fs.symlink("f", "l")
    before = fs.stat("f").mtime_ns
    fs.utime("l", 5, 7)
    assert (fs.lstat("l").mtime_ns, fs.stat("f").mtime_ns) == (7, before)


def test_writing_moves_mtime_and_ctime(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.utime("f", 5, 7)
    before = fs.stat("f")
    fd = fs.open("f", os.O_WRONLY)
    fs.pwrite(fd, b"T", 0)
    fs.close(fd)
    after = fs.stat("f")
    assert after.mtime_ns > before.mtime_ns
    assert after.ctime_ns >= before.ctime_ns


def test_truncating_moves_mtime(fs: Posix) -> None:
    put(fs, "f", b"text")
    for size in (2, 10, 0):
        fs.utime("f", 5, 7)
        fs.truncate("f", size)
        assert fs.stat("f").mtime_ns > 7
    put(fs, "f", b"text")
    fs.utime("f", 5, 7)
    fs.close(fs.open("f", os.O_WRONLY | os.O_TRUNC))
    assert fs.stat("f").mtime_ns > 7


def test_reading_and_chmod_leave_mtime(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.utime("f", 5, 7)
    get(fs, "f")
    fs.chmod("f", 0o600)
    assert fs.stat("f").mtime_ns == 7


def test_a_time_that_was_set_while_the_file_is_written_stays(fs: Posix) -> None:
    fd = fs.open("f", os.O_RDWR | os.O_CREAT)
    fs.pwrite(fd, b"x" * 10_000, 0)
    fs.utime("f", 5, 7)
    fs.close(fd)
    assert (fs.stat("f").mtime_ns, fs.stat("f").size) == (7, 10_000)


def test_changes_of_names_move_the_time_of_their_directory(fs: Posix) -> None:
    fs.mkdir("d")
    fs.mkdir("e")
    put(fs, "d/f")
    changes: list[Callable[[], object]] = [
        lambda: put(fs, "d/new"),
        lambda: fs.unlink("d/new"),
        lambda: fs.mkdir("d/sub"),
        lambda: fs.rmdir("d/sub"),
        lambda: fs.symlink("x", "d/l"),
        lambda: fs.link("d/f", "d/g"),
        lambda: fs.rename("d/g", "e/g"),
        lambda: fs.rename("e/g", "d/g"),
    ]
    for change in changes:
        fs.utime("d", 5, 7)
        change()
        assert fs.stat("d").mtime_ns > 7


def test_writing_to_a_file_leaves_the_time_of_its_directory(fs: Posix) -> None:
    fs.mkdir("d")
    put(fs, "d/f", b"text")
    fs.utime("d", 5, 7)
    fd = fs.open("d/f", os.O_RDWR)
    fs.pwrite(fd, b"more", 0)
    fs.close(fd)
    fs.chmod("d/f", 0o600)
    assert fs.stat("d").mtime_ns == 7


def test_a_directory_counts_the_directories_in_it(fs: Posix) -> None:
    fs.mkdir("d")
    assert fs.stat("d").nlink == 2
    for number in range(3):
        fs.mkdir(f"d/{number}")
    put(fs, "d/f")
    assert fs.stat("d").nlink == 5
    fs.rmdir("d/0")
    assert fs.stat("d").nlink == 4


def test_numbers_tell_nodes_apart_and_do_not_change(fs: Posix) -> None:
    names = [f"f{number}" for number in range(10)]
    for name in names:
        put(fs, name)
    numbers = [fs.stat(name).ino for name in names]
    assert len(set(numbers)) == 10
    fs.listdir("")
    for name in names:
        put(fs, name, b"changed")
    assert [fs.stat(name).ino for name in names] == numbers


def test_ordinary_files_take_room_and_are_no_devices(fs: Posix) -> None:
    put(fs, "f", b"x" * 100_000)
    fd = fs.open("f", os.O_RDONLY)
    fs.fsync(fd)
    fs.close(fd)
    assert fs.stat("f").blocks * 512 >= 100_000
    assert fs.stat("f").rdev == 0
    assert fs.stat("f").mode >> 12 == stat.S_IFREG >> 12


def test_everything_belongs_to_one_who_may_keep_it(fs: Posix) -> None:
    put(fs, "f")
    found = fs.stat("f")
    fs.chown("f", found.uid, found.gid)
    fs.chown("f", -1, found.gid)
    fs.chown("f", found.uid, -1)
    assert (fs.stat("f").uid, fs.stat("f").gid) == (found.uid, found.gid)


def test_the_room_is_told(fs: Posix) -> None:
    total, free, longest = fs.free()
    assert 0 < free <= total
    assert longest == 255
    assert errno_of(fs.stat, "x" * (longest + 1)) == errno.ENAMETOOLONG
