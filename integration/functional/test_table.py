"""README's table of what a mount promises, row by row: each row has its checks, and each check its row.

A check is made here, or names the tests that make it where a server has to be restarted, cut off or break.
"""

import ast
import errno
import fcntl
import mmap
import os
import re
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from integration.functional.places import OK, TEAM, USER, Places, acting_as, code_of, descriptor, punch
from tests.functional.posix import EXCHANGE, NO_REPLACE, Local

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().split("\n## The mount\n", 1)[1].split("\n## ", 1)[0]
ROWS = re.findall(r"^\| (?!---)([^|]+?) \| .* \|$", SECTION, re.MULTILINE)


@dataclass(frozen=True)
class Seen:
    """One directory of the server, in two mounts and on its disk; in the second one owners are the server's numbers."""

    here: Path
    there: Path
    disk: Path
    places: Places


def made_elsewhere(*tests: str) -> Callable[[Seen], None]:
    """Make sure that these tests are there: `file::name`."""

    def check(seen: Seen) -> None:
        for test in tests:
            file, _, name = test.partition("::")
            tree = ast.parse((ROOT / file).read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, test

    return check


def every_kind(seen: Seen) -> None:
    (seen.here / "f").write_text("text")
    os.link(seen.here / "f", seen.here / "hard")
    os.symlink("f", seen.here / "soft")
    os.mkfifo(seen.here / "fifo")
    os.mknod(seen.here / "socket", stat.S_IFSOCK | 0o600)
    one, other = os.stat(seen.there / "f"), os.stat(seen.there / "hard")
    assert (one.st_ino, one.st_nlink) == (other.st_ino, 2)
    assert os.readlink(seen.there / "soft") == "f"
    with subprocess.Popen(["cat", seen.here / "fifo"], stdout=subprocess.PIPE) as reader:
        (seen.here / "fifo").write_text("through")
        assert reader.communicate(timeout=60)[0] == b"through"
    assert stat.S_ISSOCK(os.stat(seen.there / "socket").st_mode)


def no_devices(seen: Seen) -> None:
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        for place in (seen.here, seen.there):
            assert code_of(lambda: os.mknod(place / "null", kind | 0o666, os.makedev(1, 3))) == errno.EPERM  # noqa: B023


def renames(seen: Seen) -> None:
    (seen.here / "a").write_text("a")
    (seen.here / "b").write_text("b")
    assert code_of(lambda: Local(seen.here).rename("a", "b", NO_REPLACE)) == errno.EEXIST
    Local(seen.here).rename("a", "b", EXCHANGE)
    assert ((seen.there / "a").read_text(), (seen.there / "b").read_text()) == ("b", "a")
    outside = seen.places.plain / "outside"
    assert code_of(lambda: os.rename(seen.here / "a", outside)) == errno.EXDEV
    shared = seen.here.parents[2] / "shared/x"
    assert code_of(lambda: os.rename(seen.here / "a", shared)) in {errno.EXDEV, errno.EACCES, errno.EROFS}
    assert subprocess.run(["mv", seen.here / "a", outside], check=False).returncode == 0
    assert outside.read_text() == "b"


def open_files_live_on(seen: Seen) -> None:
    for name, away in (("removed", os.unlink), ("replaced", lambda path: os.rename(seen.there / "new", path))):
        (seen.here / "new").write_text("new")
        (seen.here / name).write_text("old")
        with descriptor(seen.here / name, os.O_RDWR) as fd:
            away(seen.there / name)
            assert os.pread(fd, 10, 0) == b"old"
            os.pwrite(fd, b"er", 3)
            assert (os.pread(fd, 10, 0), os.fstat(fd).st_nlink) == (b"older", 0)
    test = "test_open_files_and_waiting_writes_outlive_a_restart_of_the_server"
    made_elsewhere(f"integration/test_two_mounts.py::{test}")(seen)


def listings(seen: Seen) -> None:
    for number in range(1000):
        (seen.disk / f"stay{number:04}").touch()
    (seen.here / "go").touch()
    told: Counter[str] = Counter()
    for entry in os.scandir(seen.here):
        told[entry.name] += 1
        if len(told) % 300 == 0:
            (seen.here / f"new{len(told)}").touch()
            (seen.there / f"new{len(told)}").rename(seen.there / f"moved{len(told)}")
    assert sum(name.startswith("stay") for name in told) == 1000
    assert set(told.values()) == {1}
    name = "test_a_directory_of_100_000_names_that_changes_while_it_is_listed"
    made_elsewhere(f"integration/functional/test_readdir.py::{name}")(seen)


def exclusive_and_appending(seen: Seen) -> None:
    with descriptor(seen.here / "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY):
        assert code_of(lambda: os.open(seen.there / "x", os.O_CREAT | os.O_EXCL | os.O_WRONLY)) == errno.EEXIST
    fds = [os.open(place / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for place in (seen.here, seen.there)]
    for number in range(40):
        assert os.write(fds[number % 2], b"%02d\n" % number) == 3
    for fd in fds:
        os.close(fd)
    assert sorted((seen.disk / "log").read_bytes().split()) == [b"%02d" % number for number in range(40)]


def maps(seen: Seen) -> None:
    (seen.here / "f").write_bytes(b"x" * 10_000)
    with (
        descriptor(seen.here / "f", os.O_RDWR) as fd,
        mmap.mmap(fd, 0) as shared,
        mmap.mmap(fd, 0, mmap.MAP_PRIVATE) as private,
    ):
        shared[5000:5004] = b"map!"
        private[0:4] = b"mine"
        assert os.pread(fd, 4, 5000) == b"map!"
        os.pwrite(fd, b"call", 6000)
        assert (shared[6000:6004], os.pread(fd, 4, 0)) == (b"call", b"xxxx")
        shared.flush()
    assert (seen.there / "f").read_bytes()[5000:5004] == b"map!"


def holes(seen: Seen) -> None:
    with descriptor(seen.here / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"far", 5 << 30)
        os.fsync(fd)
        assert (os.fstat(fd).st_size, os.lseek(fd, 0, os.SEEK_DATA)) == ((5 << 30) + 3, 0)
        assert os.pread(fd, 3, (5 << 30) - 1) == b"\0fa"
    assert os.stat(seen.there / "f").st_blocks * 512 < 1 << 20
    assert code_of(lambda: punch(seen.here / "f")) == errno.EOPNOTSUPP
    assert code_of(lambda: os.open(seen.here, os.O_TMPFILE | os.O_RDWR)) == errno.EOPNOTSUPP
    (seen.here / "f").unlink()


def closing(seen: Seen) -> None:
    for size in (0, 1, 70_000, 3 << 20):
        (seen.here / "f").write_bytes(b"x" * size)
        assert (seen.disk / "f").stat().st_size == size
        assert len((seen.there / "f").read_bytes()) == size


def syncing(seen: Seen) -> None:
    with descriptor(seen.here / "f", os.O_WRONLY | os.O_CREAT) as fd:
        os.write(fd, b"one")
        os.write(fd, b"two")
        os.fsync(fd)
        assert (seen.disk / "f").read_bytes() == b"onetwo"
    with descriptor(seen.here, os.O_RDONLY | os.O_DIRECTORY) as fd:
        os.fsync(fd)
    made_elsewhere("tests/pfs/disk/test_domains.py::test_the_names_in_a_directory_are_synced")(seen)


def created(path: Path, name: str) -> int:
    """Make an extended attribute that must not be there; return the errno."""
    return code_of(lambda: os.setxattr(path, name, b"", os.XATTR_CREATE))


def attributes(seen: Seen) -> None:
    (seen.here / "f").touch()
    assert code_of(lambda: os.setxattr(seen.here / "f", "user.x", b"1", os.XATTR_REPLACE)) == errno.ENODATA
    os.setxattr(seen.here / "f", "user.x", b"1", os.XATTR_CREATE)
    assert code_of(lambda: os.setxattr(seen.here / "f", "user.x", b"1", os.XATTR_CREATE)) == errno.EEXIST
    assert os.getxattr(seen.there / "f", "user.x") == os.getxattr(seen.disk / "f", "user.x") == b"1"
    with ThreadPoolExecutor(2) as machines:
        for number in range(30):
            make = partial(created, name=f"user.{number}")
            assert sorted(machines.map(make, (seen.here / "f", seen.there / "f"))) == [OK, errno.EEXIST]
    for name in ("trusted.x", "security.x", "system.x", "x"):
        assert code_of(lambda: os.setxattr(seen.here / "f", name, b"1")) == errno.EOPNOTSUPP  # noqa: B023


def owners(seen: Seen) -> None:
    (seen.here / "f").touch()
    assert os.stat(seen.here / "f").st_uid == os.getuid()
    assert code_of(lambda: os.chown(seen.here / "f", USER, TEAM)) == errno.EPERM
    os.chown(seen.there / "f", USER, TEAM)
    found = os.stat(seen.disk / "f")
    assert (found.st_uid, found.st_gid, os.stat(seen.there / "f").st_uid) == (USER, TEAM, USER)
    assert os.stat(seen.here / "f").st_uid == os.getuid()
    point = seen.places.box.root / "job"
    point.mkdir()
    assert seen.places.box.run("paddle", "mount", "-o", "ids=job", str(point)).returncode == 0
    try:
        theirs = point / "dc1/home/demo" / seen.here.name / "f"
        assert code_of(lambda: os.chown(theirs, 7, 8)) == OK
        assert os.stat(theirs).st_uid == os.getuid()
        assert os.stat(seen.disk / "f").st_uid == USER
    finally:
        seen.places.box.run("paddle", "umount", str(point))


def special_bits(seen: Seen) -> None:
    (seen.there / "f").touch()
    os.chmod(seen.there / "f", 0o6777)
    assert stat.filemode(os.stat(seen.there / "f").st_mode) == "-rwsrwsrwx"
    assert stat.filemode(os.stat(seen.here / "f").st_mode) == "-rwxrwxrwx"
    with acting_as(USER), descriptor(seen.there / "f", os.O_WRONLY) as fd:
        os.write(fd, b"x")
    assert stat.filemode(os.stat(seen.there / "f").st_mode) == "-rwxrwxrwx"
    os.chmod(seen.here / "f", 0o7755)
    assert stat.filemode(os.stat(seen.there / "f").st_mode) == "-rwxr-xr-x"
    (seen.there / "team").mkdir()
    os.chown(seen.there / "team", 0, TEAM)
    os.chmod(seen.there / "team", 0o3777)
    (seen.there / "team/d").mkdir()
    (seen.there / "team/f").touch()
    assert stat.filemode(os.stat(seen.there / "team/d").st_mode) == "drwxr-sr-x"
    assert os.stat(seen.there / "team/f").st_gid == TEAM
    with acting_as(USER):
        assert code_of(lambda: os.unlink(seen.there / "team/f")) == errno.EPERM


def times(seen: Seen) -> None:
    (seen.here / "f").write_text("text")
    os.utime(seen.here / "f", ns=(1_234_567_891, 9_876_543_210_123_456_789))
    for place in (seen.there, seen.disk):
        found = os.stat(place / "f")
        assert (found.st_atime_ns, found.st_mtime_ns) == (1_234_567_891, 9_876_543_210_123_456_789)
    for place in (seen.here, seen.there):
        assert (place / "f").read_text() == "text"
        assert os.stat(place / "f").st_atime_ns == os.stat(seen.disk / "f").st_atime_ns == 1_234_567_891


def room(seen: Seen) -> None:
    disk = os.statvfs(seen.disk)
    for place in (seen.here, seen.there):
        found = os.statvfs(place)
        assert found.f_frsize * found.f_blocks == disk.f_frsize * disk.f_blocks
        assert abs(found.f_frsize * found.f_bavail - disk.f_frsize * disk.f_bavail) < 1 << 30
    made_elsewhere(f"{QUOTA}::test_df_shows_the_limits_and_what_is_left")(seen)


def locks(seen: Seen) -> None:
    (seen.here / "f").touch()
    attempt = "import fcntl,sys\nfcntl.flock(open(sys.argv[1]), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
    with descriptor(seen.here / "f", os.O_RDWR) as fd:
        fcntl.flock(fd, fcntl.LOCK_EX)
        for place, had in ((seen.here, False), (seen.there, True)):
            command = [sys.executable, "-c", attempt, str(place / "f")]
            assert (subprocess.run(command, capture_output=True, timeout=60, check=False).returncode == 0) is had


def names_too_long(seen: Seen) -> None:
    longest = "界" * 85
    for place in (seen.here, seen.there):
        (place / longest).touch()
        assert code_of((place / (longest + "x")).touch) == errno.ENAMETOOLONG
        assert code_of(lambda: os.stat(place / (longest + "x"))) == errno.ENAMETOOLONG  # noqa: B023
    deep = seen.here
    above = os.open(deep, os.O_PATH)
    room_left = 4095 - len(f"home/demo/{seen.here.name}")
    for _ in range(room_left // 251):
        os.mkdir("d" * 250, dir_fd=above)
        below = os.open("d" * 250, os.O_PATH, dir_fd=above)
        os.close(above)
        above = below
    try:
        assert code_of(lambda: os.mkdir("d" * 250, dir_fd=above)) == errno.ENAMETOOLONG
        assert code_of(lambda: os.stat(f"{seen.here}/" + "x/" * 2048)) == errno.ENAMETOOLONG
    finally:
        os.close(above)


def watching(seen: Seen) -> None:
    watch = (
        "import ctypes,os,select,sys\n"
        "libc=ctypes.CDLL(None)\n"
        "fd=libc.inotify_init()\n"
        "libc.inotify_add_watch(fd,os.fsencode(sys.argv[1]),0x100)\n"
        "print('watching',flush=True)\n"
        "for wait in (1.0, 20.0):\n"
        "  sys.stdin.readline()\n"
        "  told=select.select([fd],[],[],wait)[0]\n"
        "  print(os.read(fd,4096)[16:].strip(b'\\0').decode() if told else 'nothing',flush=True)\n"
    )
    command = [sys.executable, "-c", watch, str(seen.here)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdin is not None
        assert watcher.stdout is not None
        assert watcher.stdout.readline() == "watching\n"
        for place, told in ((seen.there, "nothing\n"), (seen.here, "mine\n")):
            (place / ("mine" if place is seen.here else "theirs")).touch()
            watcher.stdin.write("\n")
            watcher.stdin.flush()
            assert watcher.stdout.readline() == told


AWAY = "integration/test_away.py"
QUOTA = "integration/functional/test_quota.py"
STREAMS = "integration/test_streams.py"
CHECKS: dict[str, Callable[[Seen], None]] = {
    "hard links, symlinks, FIFOs, sockets": every_kind,
    "devices": no_devices,
    "rename, with `RENAME_NOREPLACE` and `RENAME_EXCHANGE`": renames,
    "an open file that is removed or replaced": open_files_live_on,
    "directories that change while they are listed": listings,
    "`O_EXCL`, `O_APPEND`": exclusive_and_appending,
    "`mmap`": maps,
    "files with holes, files beyond 4 GiB": holes,
    "`close`": closing,
    "`fsync` of files and of directories": syncing,
    "an error of the server (`ENOSPC`, `EDQUOT`, `EIO`)": made_elsewhere(
        f"{AWAY}::test_an_error_of_the_servers_disk_is_told_to_who_writes",
        f"{AWAY}::test_an_error_of_the_servers_disk_is_told_to_who_asks_for_fsync",
        f"{AWAY}::test_a_full_disk_is_told_and_what_was_there_stays",
    ),
    "quotas": made_elsewhere(
        f"{QUOTA}::test_programs_are_told_and_pass_no_limit",
        f"{QUOTA}::test_what_is_full_can_be_changed_and_emptied",
        f"{QUOTA}::test_who_write_at_once_reach_the_limit_and_no_more",
        "tests/pfs/disk/test_counting.py::test_what_is_there_is_counted_each_file_once",
        "tests/pfs/disk/test_counting.py::test_a_removed_file_counts_until_it_is_closed",
    ),
    "extended attributes": attributes,
    "owners": owners,
    "set-user-id, set-group-id and sticky bits": special_bits,
    "times": times,
    "`statfs`": room,
    "`flock`, `fcntl` locks": locks,
    "inotify": watching,
    "`poll`, `select`, `epoll`": made_elsewhere(
        f"{STREAMS}::test_python_waits_for_a_state_without_a_loop",
        f"{STREAMS}::test_a_log_is_read_to_its_end_by_who_never_waits_in_a_read",
    ),
    "names above 255 bytes, paths above 4,095": names_too_long,
    "a server that is away": made_elsewhere(
        f"{AWAY}::test_over_a_long_cut_and_a_restart_what_is_known_is_read_and_the_rest_fails_in_time"
    ),
    "a server that was restarted": made_elsewhere(
        "integration/test_two_mounts.py::test_open_files_and_waiting_writes_outlive_a_restart_of_the_server",
        f"{AWAY}::test_a_killed_server_leaves_what_was_read_and_what_is_open",
    ),
}


def test_each_row_has_checks_and_each_check_its_row() -> None:
    assert list(CHECKS) == ROWS


@pytest.mark.parametrize("row", ROWS)
def test_a_row_of_the_table_holds(places: Places, row: str) -> None:
    name = "table" + "".join(letter if letter.isalnum() else "_" for letter in row)[:40]
    (places.squashed / name).mkdir()
    os.chown(places.numeric / name, 0, 0)
    seen = Seen(places.squashed / name, places.numeric / name, places.box.data / "home/demo" / name, places)
    CHECKS[row](seen)
