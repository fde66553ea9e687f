"""The mount as programs see it: a real kernel mount of file systems in memory, no network.

The mount runs in a process of its own (`tests/fuseclient/mounted.py`). Tests reach behind it, to what a server would
do by itself, through its standard input.
"""

import base64
import contextlib
import errno
import fcntl
import mmap
import os
import pickle
import random
import signal
import socket
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from cli.mount.umount import TELL_EVERY_S
from fuseclient.kernel import procs
from fuseclient.kernel.held import UNKNOWN_READER_S
from fuseclient.kernel.identity import Ids
from fuseclient.mountpoints import mounted_type, unmount, users
from integration.box import wait_until
from pfs.api import Closing, RenameMode
from pfs.errors import Kind, PfsError
from tests.functional.posix import errno_of
from tests.memoryfs import Handed

ROOT = Path(__file__).parent.parent
MOUNTED = [sys.executable, "-m", "tests.fuseclient.mounted"]
TEST_SECONDS_MAX = 120
COMMAND_SECONDS_MAX = 90


class Mount:
    """A mount, its process, and the file systems behind it."""

    def __init__(self, point: Path, *options: str) -> None:
        self.point = point
        command = [*MOUNTED, "serve", str(point), *(options or [Ids.SQUASHED])]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._hear() == b"ready"

    def ask(self, what: str, *args: Any, dc: str = "dc1", **kwargs: Any) -> Any:
        """Call a method of the file system, or return an attribute of it."""
        return self._ask(dc, what, args, kwargs)

    def set(self, name: str, value: Any, dc: str = "dc1") -> None:
        """Set an attribute of the file system."""
        self._ask(dc, "set", (name, value), {})

    def kill(self) -> None:
        """End the process as a crash does, and leave the dead mount."""
        self.process.kill()
        self.process.wait(COMMAND_SECONDS_MAX)

    def end(self) -> None:
        """End the process as the system does at shutdown."""
        self.process.terminate()
        try:
            self.process.wait(COMMAND_SECONDS_MAX)
        finally:
            self.kill()
            for stream in (self.process.stdin, self.process.stdout):
                assert stream is not None
                stream.close()
            if mounted_type(str(self.point)):
                unmount(str(self.point), lazy=True)

    def _ask(self, *question: Any) -> Any:
        assert self.process.stdin is not None
        self.process.stdin.write(base64.b64encode(pickle.dumps(question)) + b"\n")
        self.process.stdin.flush()
        return pickle.loads(self._hear())

    def _hear(self) -> bytes:
        assert self.process.stdout is not None
        return base64.b64decode(self.process.stdout.readline())


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    mounted = Mount(tmp_path_factory.mktemp("mount"))
    yield mounted
    mounted.end()


@pytest.fixture
def here(shared: Mount, request: pytest.FixtureRequest) -> Iterator[Mount]:
    """The mount that most tests share; whoever hangs in it is let go by its end."""
    watchdog = threading.Timer(TEST_SECONDS_MAX, shared.process.kill)
    watchdog.start()
    shared.set("handed", [])
    shared.set("closings", [])
    yield shared
    watchdog.cancel()
    for dc in ("dc1", "dc2"):
        shared.set("delay_s", 0.0, dc=dc)
    assert shared.process.poll() is None, "the mount ended"


@pytest.fixture
def home(here: Mount, request: pytest.FixtureRequest) -> Path:
    """An empty directory in the mount, for one test."""
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)
    (here.point / "dc1" / name).mkdir()
    return here.point / "dc1" / name


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Mount]:
    """A mount for one test that ends it."""
    point = tmp_path / "own"
    point.mkdir()
    mounted = Mount(point)
    watchdog = threading.Timer(TEST_SECONDS_MAX, mounted.process.kill)
    watchdog.start()
    yield mounted
    watchdog.cancel()
    mounted.end()


def sh(text: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = ["sh", "-c", text]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=COMMAND_SECONDS_MAX, check=False)


def cat(path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)


def waits(process: subprocess.Popen[bytes]) -> bool:
    return any(procs.waits_for_fuse(thread) for thread in procs.threads(process.pid))


# -- names -----------------------------------------------------------------------------------------------------------


def test_it_is_listed_as_a_mount_of_its_own_type(here: Mount) -> None:
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if f" {here.point} " in line)
    assert line.startswith(f"pfs {here.point} fuse.pfs ")
    assert {"nosuid", "nodev"} <= set(line.split()[3].split(","))


def test_the_root_shows_one_directory_for_each_datacenter(here: Mount) -> None:
    assert sorted(os.listdir(here.point)) == ["dc1", "dc2"]
    assert sh("ls -la", here.point).returncode == 0
    assert errno_of(lambda: os.stat(here.point / "dc3")) == errno.ENOENT


def test_nothing_can_be_made_or_removed_in_the_root(here: Mount) -> None:
    for call in (
        (here.point / "x").mkdir,
        lambda: (here.point / "x").write_text(""),
        lambda: (here.point / "x").symlink_to("dc1"),
        (here.point / "dc1").rmdir,
        lambda: (here.point / "dc1").rename(here.point / "dc9"),
    ):
        assert errno_of(call) == errno.EPERM


def test_a_datacenter_out_of_reach_does_not_keep_the_root_from_being_listed(here: Mount) -> None:
    here.set("delay_s", 20.0, dc="dc2")
    assert sh("ls -l --color=always", here.point).returncode == 0


def test_files_of_two_datacenters_are_apart(here: Mount) -> None:
    (here.point / "dc1/same").write_text("one")
    (here.point / "dc2/same").write_text("two")
    assert (here.point / "dc1/same").read_text() == "one"
    assert errno_of(lambda: os.rename(here.point / "dc1/same", here.point / "dc2/other")) == errno.EXDEV
    assert sh("mv dc1/same dc2/other && cat dc2/other", here.point).stdout == "one"


def test_a_name_has_at_most_255_bytes(home: Path) -> None:
    (home / ("ä" * 127 + "x")).write_text("long")
    assert os.listdir(home) == ["ä" * 127 + "x"]
    for call in (
        lambda: (home / ("x" * 256)).write_text(""),
        lambda: os.stat(home / ("x" * 256)),
        (home / ("x" * 256)).mkdir,
    ):
        assert errno_of(call) == errno.ENAMETOOLONG


def test_255_bytes_are_enough_for_every_kind_of_name(home: Path) -> None:
    longest, too_long = "界" * 85, "界" * 85 + "x"
    (home / "f").touch()
    makers: list[Callable[[Path], object]] = [
        os.mkfifo,
        lambda path: os.symlink("f", path),
        lambda path: os.link(home / "f", path),
        lambda path: os.rename(home / "f", path),
    ]
    for make in makers:
        assert errno_of(make, home / too_long) == errno.ENAMETOOLONG
        make(home / longest)
        assert longest in os.listdir(home)
        os.unlink(home / longest)


def test_directories_may_be_400_deep(home: Path) -> None:
    above = os.open(home, os.O_PATH)
    for _ in range(400):
        os.mkdir("d", dir_fd=above)
        below = os.open("d", os.O_PATH, dir_fd=above)
        os.close(above)
        above = below
    (Path(f"/proc/self/fd/{above}") / "f").write_text("deep")
    os.close(above)
    assert sh("find . -name f -exec cat {} +", home).stdout == "deep"
    assert sh("rm -r d", home).returncode == 0
    assert os.listdir(home) == []


def test_a_name_may_be_no_text(home: Path) -> None:
    path = os.fsencode(home) + b"/\xff\xfe\n"
    with open(path, "wb") as file:
        file.write(b"x")
    assert os.listdir(os.fsencode(home)) == [b"\xff\xfe\n"]
    os.unlink(path)


def test_everything_belongs_to_whoever_mounted(home: Path) -> None:
    (home / "f").write_text("")
    assert (os.stat(home / "f").st_uid, os.stat(home / "f").st_gid) == (os.getuid(), os.getgid())
    os.chown(home / "f", os.getuid(), os.getgid())
    assert errno_of(lambda: os.chown(home / "f", os.getuid() + 1, -1)) == errno.EPERM
    (home / "f").chmod(0o751)
    assert os.stat(home / "f").st_mode & 0o7777 == 0o751


def test_a_file_is_made_without_being_opened(home: Path) -> None:
    os.mknod(home / "file", 0o640)
    assert stat.filemode(os.stat(home / "file").st_mode) == "-rw-r-----"
    assert os.stat(home / "file").st_size == 0
    assert errno_of(lambda: os.mknod(home / "file", 0o640)) == errno.EEXIST


@pytest.mark.skipif(os.getuid() != 0, reason="only root may try")
def test_there_are_no_devices(home: Path) -> None:
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        assert errno_of(os.mknod, home / "null", kind | 0o666, os.makedev(1, 3)) == errno.EPERM
    assert os.listdir(home) == []


def test_a_fifo_joins_two_processes(home: Path) -> None:
    os.mkfifo(home / "fifo", 0o600)
    assert stat.filemode(os.lstat(home / "fifo").st_mode) == "prw-------"
    reader = cat(home / "fifo")
    assert sh("echo through the pipe > fifo", home).returncode == 0
    assert reader.communicate(timeout=COMMAND_SECONDS_MAX)[0] == b"through the pipe\n"
    assert os.lstat(home / "fifo").st_size == 0


def test_a_socket_is_bound_and_connected_to(home: Path) -> None:
    directory = os.open(home, os.O_PATH)
    name = f"/proc/self/fd/{directory}/socket"  # the whole path may be longer than a socket's name
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(name)
        assert stat.S_ISSOCK(os.lstat(home / "socket").st_mode)
        server.listen()
        client.connect(name)
        connected, _ = server.accept()
        with connected:
            client.sendall(b"hello")
            assert connected.recv(9) == b"hello"
    os.unlink(home / "socket")
    os.close(directory)
    assert os.listdir(home) == []


def test_two_names_of_a_file_are_one_file(home: Path) -> None:
    (home / "d").mkdir()
    (home / "a").write_text("one")
    os.link(home / "a", home / "d/b")
    for name in ("a", "d/b"):
        assert (os.stat(home / name).st_nlink, os.stat(home / name).st_ino) == (2, os.stat(home / "a").st_ino)
    (home / "d/b").write_text("changed by its other name")
    assert (home / "a").read_text() == "changed by its other name"
    (home / "a").chmod(0o600)
    assert os.stat(home / "d/b").st_mode & 0o777 == 0o600
    os.unlink(home / "a")
    assert (os.stat(home / "d/b").st_nlink, (home / "d/b").read_text()) == (1, "changed by its other name")
    assert errno_of(lambda: os.stat(home / "a")) == errno.ENOENT


def test_two_names_of_a_file_may_be_moved_and_replaced(home: Path) -> None:
    for name in ("a", "other"):
        (home / name).write_text(name)
    os.link(home / "a", home / "b")
    os.rename(home / "a", home / "b")  # rename(2): nothing is done
    assert sorted(os.listdir(home)) == ["a", "b", "other"]
    os.rename(home / "b", home / "c")
    assert (os.stat(home / "a").st_nlink, (home / "c").read_text()) == (2, "a")
    os.rename(home / "other", home / "a")
    assert (os.stat(home / "c").st_nlink, (home / "c").read_text(), (home / "a").read_text()) == (1, "a", "other")


def test_what_cannot_be_linked(home: Path) -> None:
    (home / "d").mkdir()
    (home / "f").touch()
    assert errno_of(lambda: os.link(home / "d", home / "new")) == errno.EPERM
    assert errno_of(lambda: os.link(home / "f", home / "d")) == errno.EEXIST
    assert errno_of(lambda: os.link(home / "missing", home / "new")) == errno.ENOENT
    assert errno_of(lambda: os.link(home / "f", home.parent.parent / "dc2/new")) == errno.EXDEV
    os.symlink("f", home / "s")
    os.link(home / "s", home / "t", follow_symlinks=False)
    assert (os.readlink(home / "t"), os.lstat(home / "s").st_nlink, os.stat(home / "f").st_nlink) == ("f", 2, 1)


def test_archives_keep_hard_links(home: Path) -> None:
    (home / "a").mkdir()
    (home / "a/f").write_text("x")
    os.link(home / "a/f", home / "a/g")
    done = sh("set -e; tar cf t.tar a; mkdir out; tar xf t.tar -C out; cp -a a copy; stat -c %h out/a/f copy/g", home)
    assert (done.stdout.split(), done.stderr) == (["2", "2"], "")


def test_symlinks_lead_where_they_say(home: Path) -> None:
    (home / "target").write_text("here")
    (home / "link").symlink_to("target")
    (home / "loop").symlink_to("loop")
    assert os.readlink(home / "link") == "target"
    assert (home / "link").read_text() == "here"
    assert errno_of(lambda: os.stat(home / "loop")) == errno.ELOOP


def test_a_directory_that_is_moved_keeps_what_is_below_it(home: Path) -> None:
    (home / "a/b").mkdir(parents=True)
    (home / "a/b/f").write_text("deep")
    with open(home / "a/b/f", "a") as file:
        (home / "a").rename(home / "z")
        file.write("er")
    assert (home / "z/b/f").read_text() == "deeper"
    assert errno_of(lambda: os.stat(home / "a")) == errno.ENOENT


def test_a_rename_keeps_its_mode(home: Path) -> None:
    for name in ("a", "b"):
        (home / name).write_text(name)
    program = (
        "import ctypes, os, sys; libc = ctypes.CDLL(None, use_errno=True);"
        "code = libc.renameat2(-100, b'a', -100, b'b', int(sys.argv[1])); sys.exit(ctypes.get_errno() if code else 0)"
    )

    def renameat2(flags: int) -> int:
        return subprocess.run(
            [sys.executable, "-c", program, str(flags)], cwd=home, timeout=COMMAND_SECONDS_MAX, check=False
        ).returncode

    numbers = [os.stat(home / name).st_ino for name in ("a", "b")]
    assert renameat2(1) == errno.EEXIST
    assert renameat2(3) == errno.EINVAL
    assert renameat2(2) == 0
    assert [(home / name).read_text() for name in ("a", "b")] == ["b", "a"]
    assert [os.stat(home / name).st_ino for name in ("b", "a")] == numbers
    os.unlink(home / "b")
    assert renameat2(2) == errno.ENOENT
    assert renameat2(1) == 0
    assert os.listdir(home) == ["b"]


def test_what_another_client_does_is_seen(here: Mount, home: Path) -> None:
    (home / "f").write_text("old")
    time.sleep(1.1)  # the kernel may answer for as long as the server allowed: 1 s
    here.ask("put", f"{home.name}/f", b"new and longer")
    assert (home / "f").read_text() == "new and longer"
    here.ask("rename", f"{home.name}/f", f"{home.name}/g", RenameMode.REPLACE)
    here.ask("put", f"{home.name}/f", b"another")
    assert (home / "f").read_text() == "another"
    assert (home / "g").read_text() == "new and longer"
    here.ask("unlink", f"{home.name}/f")
    assert errno_of((home / "f").read_text) == errno.ENOENT


def test_a_file_that_grew_behind_the_kernels_back_is_read_to_its_end(here: Mount, home: Path) -> None:
    (home / "f").write_bytes(b"a" * 10)
    os.stat(home / "f")
    here.ask("put", f"{home.name}/f", b"b" * 5000)  # well within the second that the kernel may answer by itself
    assert (home / "f").read_bytes() == b"b" * 5000


def test_20_000_entries_are_listed_while_they_change(here: Mount, home: Path) -> None:
    names = [f"stay{index}" for index in range(20_000)]
    here.ask("put_many", [f"{home.name}/{name}" for name in names])
    ended = threading.Event()

    def change() -> None:
        for index in range(1_000_000):
            if ended.is_set():
                return
            (home / f"come{index}").write_text("x")
            os.unlink(home / f"come{index}")
            if index < 3000:
                (home / f"go{index}").write_text("x")

    changer = threading.Thread(target=change)
    changer.start()
    try:
        for _ in range(3):
            listed = os.listdir(home)
            assert len(listed) == len(set(listed))
            assert set(names) <= set(listed)
    finally:
        ended.set()
        changer.join()


def test_a_directory_may_be_emptied_while_it_is_read(home: Path) -> None:
    for index in range(1000):
        (home / f"f{index}").touch()
    with os.scandir(home) as entries:
        for entry in entries:
            os.unlink(entry.path)
    assert os.listdir(home) == []


def test_df_works(here: Mount) -> None:
    space = os.statvfs(here.point / "dc1")
    assert space.f_bavail * space.f_frsize == 2 << 39
    assert space.f_namemax == 255


# -- ordinary files ------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_again(home: Path) -> None:
    data = random.Random(1).randbytes(5_000_001)
    (home / "f").write_bytes(data)
    assert os.stat(home / "f").st_size == len(data)
    assert (home / "f").read_bytes() == data
    assert sh("cp f g && cmp f g && mv g h && cmp f h && wc -c < h", home).stdout.strip() == str(len(data))
    with open(home / "f", "rb") as file:
        file.seek(4_000_000)
        assert file.read(100) == data[4_000_000:4_000_100]


def test_bytes_are_changed_in_the_middle(home: Path) -> None:
    (home / "f").write_bytes(b"0123456789" * 1000)
    with open(home / "f", "r+b") as file:
        file.seek(4095)
        file.write(b"abc")
        file.seek(0)
        assert file.read(4100)[4090:] == b"01234abc89"
    with open(home / "f", "r+b") as file:
        file.seek(20_000)
        file.write(b"end")
    assert (home / "f").read_bytes()[9_998:20_003] == b"89" + bytes(10_000) + b"end"


def test_short_answers_of_a_server_do_not_shorten_a_file(here: Mount, home: Path) -> None:
    data = random.Random(2).randbytes(300_000)
    (home / "f").write_bytes(data)
    here.set("read_bytes_max", 7_001)
    try:
        assert (home / "f").read_bytes() == data
    finally:
        here.set("read_bytes_max", 1 << 30)


def test_appending_goes_to_the_end_wherever_that_is(here: Mount, home: Path) -> None:
    assert sh("echo one > f; echo two >> f; cat f", home).stdout == "one\ntwo\n"
    with open(home / "f", "a") as file:
        here.ask("put", f"{home.name}/f", b"from elsewhere\n")
        file.write("mine\n")
    assert (home / "f").read_text() == "from elsewhere\nmine\n"


def test_a_file_is_cut_and_extended(home: Path) -> None:
    (home / "f").write_text("0123456789")
    os.truncate(home / "f", 4)
    assert (home / "f").read_text() == "0123"
    os.truncate(home / "f", 6)
    assert (home / "f").read_bytes() == b"0123\0\0"
    with open(home / "f", "r+b") as file:
        file.truncate(1)
        assert os.fstat(file.fileno()).st_size == 1
        file.truncate(5000)
        assert file.read() == b"0" + bytes(4999)
    (home / "f").write_text("new")
    assert (home / "f").read_text() == "new"


def test_times_are_kept_to_the_nanosecond(home: Path) -> None:
    (home / "f").write_text("")
    os.utime(home / "f", ns=(1_000_000_001, 1_234_567_890_123_456_789))
    found = os.stat(home / "f")
    assert (found.st_atime_ns, found.st_mtime_ns) == (1_000_000_001, 1_234_567_890_123_456_789)


def test_a_file_may_have_holes_and_more_than_4_gib(home: Path) -> None:
    size = (5 << 30) + 1
    with open(home / "f", "w+b", buffering=0) as file:
        os.pwrite(file.fileno(), b"begin", 0)
        os.pwrite(file.fileno(), b"x", size - 1)
        assert os.pread(file.fileno(), 9, (5 << 30) - 3) == b"\0\0\0x"
        assert os.pread(file.fileno(), 9, (4 << 30) - 3) == bytes(9)
        found = os.fstat(file.fileno())
        assert (found.st_size, found.st_blocks * 512 < 1 << 20, found.st_blocks > 0) == (size, True, True)
        assert os.lseek(file.fileno(), 1, os.SEEK_DATA) == 1
        assert os.lseek(file.fileno(), 0, os.SEEK_HOLE) == size  # where holes are is not told
        os.ftruncate(file.fileno(), 5)
        os.ftruncate(file.fileno(), 6 << 30)
        assert os.fstat(file.fileno()).st_size == 6 << 30
        assert os.pread(file.fileno(), 9, 5 << 30) == bytes(9)
    assert os.stat(home / "f").st_blocks * 512 < 1 << 20


def test_an_unlinked_file_is_changed_through_its_descriptor(home: Path) -> None:
    with open(home / "f", "w+b", buffering=0) as file:
        file.write(b"0123456789")
        os.unlink(home / "f")
        os.fchmod(file.fileno(), 0o640)
        os.ftruncate(file.fileno(), 4)
        os.utime(file.fileno(), ns=(1, 2))
        found = os.fstat(file.fileno())
        assert (found.st_mode & 0o777, found.st_size, found.st_atime_ns, found.st_mtime_ns) == (0o640, 4, 1, 2)
        assert os.pread(file.fileno(), 99, 0) == b"0123"


def test_an_unlinked_file_lives_on_while_it_is_open(here: Mount, home: Path) -> None:
    with open(home / "f", "w+b") as file:
        file.write(b"before")
        file.flush()
        os.unlink(home / "f")
        file.write(b", after")
        file.flush()
        file.seek(0)
        assert file.read() == b"before, after"
        found = os.fstat(file.fileno())
        assert (found.st_size, found.st_nlink) == (13, 0)
        file.truncate(6)
        assert os.fstat(file.fileno()).st_size == 6
    assert os.listdir(home) == []


def test_a_file_that_is_renamed_over_lives_on_while_it_is_open(home: Path) -> None:
    (home / "f").write_text("old")
    with open(home / "f") as file:
        (home / "new").write_text("new")
        (home / "new").rename(home / "f")
        assert (home / "f").read_text() == "new"
        assert file.read() == "old"
        assert os.fstat(file.fileno()).st_ino != os.stat(home / "f").st_ino


def test_only_one_can_make_a_file(home: Path) -> None:
    os.close(os.open(home / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    assert errno_of(lambda: os.open(home / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)) == errno.EEXIST


def test_a_file_is_mapped_into_memory(home: Path) -> None:
    (home / "f").write_bytes(b"0123456789" * 1000)
    with open(home / "f", "r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        assert memory[9_990:] == b"0123456789"
        memory[0:4] = b"abcd"
        memory.flush()
    assert (home / "f").read_bytes()[:6] == b"abcd45"


def test_a_shared_mapping_is_the_file_and_a_private_one_is_not(home: Path) -> None:
    (home / "f").write_bytes(b"0" * 10_000)
    with open(home / "f", "r+b") as file, open(home / "f", "r+b") as again:
        shared, other = (mmap.mmap(each.fileno(), 0, mmap.MAP_SHARED) for each in (file, again))
        private = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
        private[0:3] = b"PPP"
        shared[5000:5003] = b"SSS"
        assert (other[0:3], other[5000:5003]) == (b"000", b"SSS")
        shared.flush()
        os.pwrite(again.fileno(), b"W", 9_999)
        assert shared[9_999:] == b"W"
        for each in (shared, other, private):
            each.close()
    data = (home / "f").read_bytes()
    assert (data[:3], data[5000:5003], data[-1:]) == (b"000", b"SSS", b"W")


@pytest.mark.parametrize("seed", range(3))
def test_random_changes_give_what_they_give_on_a_local_file(home: Path, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    paths = [home / "f", tmp_path / "f"]
    for path in paths:
        path.touch()
    for step in range(150):
        what = chance.choice(["write", "append", "read", "truncate", "map", "replace"])
        offset, size, byte = chance.randrange(30_000), chance.randrange(1, 20_000), chance.randrange(1, 256)
        found = [_change(path, what, offset, bytes([byte]) * size) for path in paths]
        assert found[0] == found[1], (step, what, offset, size)
        assert paths[0].stat().st_size == paths[1].stat().st_size
    assert paths[0].read_bytes() == paths[1].read_bytes()


def _change(path: Path, what: str, offset: int, data: bytes) -> bytes | None:
    if what == "replace":
        path.with_suffix(".new").write_bytes(data)
        path.with_suffix(".new").rename(path)
        return None
    with open(path, "ab" if what == "append" else "r+b", buffering=0) as file:
        if what == "truncate":
            os.ftruncate(file.fileno(), offset)
        elif what == "append":
            file.write(data)
        elif what == "map" and os.fstat(file.fileno()).st_size > 0:
            with mmap.mmap(file.fileno(), 0) as memory:
                end = min(len(memory), offset + len(data))
                memory[min(offset, end) : end] = data[: end - min(offset, end)]
                return memory[:]
        elif what == "write":
            os.pwrite(file.fileno(), data, offset)
        return os.pread(file.fileno(), len(data), offset) if what == "read" else None


def test_fsync_and_locks_work(home: Path) -> None:
    with open(home / "f", "w") as file:
        file.write("x")
        file.flush()
        os.fsync(file.fileno())
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    directory = os.open(home, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


@pytest.mark.parametrize("kind", ["file", "directory"])
def test_extended_attributes_are_kept(home: Path, kind: str) -> None:
    path = home / kind
    path.touch() if kind == "file" else path.mkdir()
    assert os.listxattr(path) == []
    assert errno_of(lambda: os.getxattr(path, "user.x")) == errno.ENODATA
    assert errno_of(lambda: os.setxattr(path, "user.x", b"1", os.XATTR_REPLACE)) == errno.ENODATA
    os.setxattr(path, "user.x", b"1", os.XATTR_CREATE)
    assert errno_of(lambda: os.setxattr(path, "user.x", b"2", os.XATTR_CREATE)) == errno.EEXIST
    os.setxattr(path, "user.x", b"\0" * 4000, os.XATTR_REPLACE)
    os.setxattr(path, "user.empty", b"")
    assert (os.getxattr(path, "user.x"), os.getxattr(path, "user.empty")) == (b"\0" * 4000, b"")
    assert sorted(os.listxattr(path)) == ["user.empty", "user.x"]
    os.removexattr(path, "user.x")
    assert errno_of(lambda: os.removexattr(path, "user.x")) == errno.ENODATA
    assert os.listxattr(path) == ["user.empty"]


def test_extended_attributes_are_copied(home: Path) -> None:
    (home / "f").write_text("x")
    os.setxattr(home / "f", "user.note", b"keep me")
    assert sh("cp -a f g && mv g h", home).returncode == 0
    assert os.getxattr(home / "h", "user.note") == b"keep me"


def test_only_extended_attributes_of_users_are_kept(home: Path) -> None:
    (home / "f").write_text("")
    os.symlink("f", home / "s")
    acl = struct.pack("<IHHIHHIHHI", 2, 1, 6, 0, 4, 4, 0, 32, 4, 0)
    for name in ("system.posix_acl_access", "security.selinux", "trusted.x"):
        assert errno_of(os.getxattr, home / "f", name) == errno.EOPNOTSUPP
        assert errno_of(os.setxattr, home / "f", name, acl) == errno.EOPNOTSUPP
    assert errno_of(lambda: os.setxattr(home / "s", "user.x", b"1", follow_symlinks=False)) == errno.EPERM
    assert os.listxattr(home / "f") == []


def test_writing_asks_the_server_for_no_extended_attributes(here: Mount, home: Path) -> None:
    here.set("calls", {})
    with open(home / "f", "wb", buffering=0) as file:
        for _ in range(10):
            file.write(b"x" * 100)
    assert sh("ls -l", home).returncode == 0
    calls = here.ask("calls")
    assert (calls["write"], calls.get("getxattr")) == (2, None)  # the first one at once, the others together


def test_a_script_is_run_from_the_mount(home: Path) -> None:
    (home / "s").write_text("#!/bin/sh\necho ran\n")
    (home / "s").chmod(0o755)
    assert sh("./s", home).stdout == "ran\n"


def test_editors_and_archives_work(home: Path) -> None:
    done = sh(
        "set -e; echo a > f; sed -i s/a/b/ f; cat f; mkdir d; cp -a f d/g; tar cf t.tar d; rm -r d; tar xf t.tar;"
        " cat d/g; dd if=/dev/zero of=z bs=1M count=3 2>/dev/null; wc -c < z; echo x | tee y > /dev/null; install y w;"
        " cat w",
        home,
    )
    assert (done.stdout.split(), done.returncode) == (["b", "b", "3145728", "x"], 0), done.stderr


def test_git_works(home: Path) -> None:
    git = "git -c user.name=a -c user.email=a@b -c init.defaultBranch=main"
    done = sh(
        f"set -e; {git} init -q r; cd r; for i in 1 2 3; do echo $i > $i; done; {git} add .; {git} commit -qm one;"
        f" echo x >> 1; {git} commit -qam two; {git} gc -q; {git} status --porcelain;"
        f" {git} log --format=%s; {git} fsck",
        home,
    )
    assert (done.stdout.split(), done.returncode) == (["two", "one"], 0), done.stderr


# -- errors ----------------------------------------------------------------------------------------------------------


def test_a_defect_costs_one_call_and_not_the_mount(here: Mount, home: Path) -> None:
    (home / "f").write_text("x")
    here.ask("fail", "open", None)
    assert errno_of((home / "f").read_text) == errno.EIO
    assert (home / "f").read_text() == "x"


def test_errors_of_the_server_reach_the_program(here: Mount, home: Path) -> None:
    (home / "f").write_text("x")
    for kind, code in ((Kind.UNREACHABLE, errno.ETIMEDOUT), (Kind.QUOTA, errno.EDQUOT), (Kind.DENIED, errno.EACCES)):
        here.ask("fail", "open", kind)
        assert errno_of((home / "f").read_text) == code


def test_an_error_of_a_write_is_not_lost(here: Mount, home: Path) -> None:
    here.ask("fail", "write", Kind.NO_SPACE)
    assert "I/O error" in sh("echo x > f", home).stderr  # all that dash says of any error
    here.ask("fail", "write", Kind.NO_SPACE)
    assert errno_of(lambda: (home / "f").write_text("x")) == errno.ENOSPC
    here.ask("fail", "write", None, Kind.QUOTA)  # what was taken before the server had it is told by close
    done = sh("head -c 1000000 /dev/zero | tee f > f2 && cp f2 f", home)
    assert (done.returncode, "quota" in done.stderr) == (1, True)


def test_open_files_outlive_a_restart_of_the_server(here: Mount, home: Path) -> None:
    (home / "f").write_text("0123456789")
    with open(home / "f", "r+b", buffering=0) as file:
        here.ask("restart")
        assert os.pread(file.fileno(), 4, 2) == b"2345"
        here.ask("restart")
        file.write(b"ab")
        assert os.fstat(file.fileno()).st_size == 10
    assert (home / "f").read_text() == "ab23456789"


def test_open_files_without_a_name_outlive_a_restart_of_the_server(here: Mount, home: Path) -> None:
    for name in ("unlinked", "replaced", "new"):
        (home / name).write_text(name)
    with open(home / "unlinked", "r+b", buffering=0) as unlinked, open(home / "replaced", "rb") as replaced:
        os.unlink(home / "unlinked")
        os.rename(home / "new", home / "replaced")
        here.ask("restart")
        os.pwrite(unlinked.fileno(), b"UN", 0)
        assert os.pread(unlinked.fileno(), 99, 0) == b"UNlinked"
        assert (os.fstat(unlinked.fileno()).st_nlink, os.fstat(replaced.fileno()).st_nlink) == (0, 0)
        assert os.pread(replaced.fileno(), 99, 0) == b"replaced"
    assert (home / "replaced").read_text() == "new"


# -- streams ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def stream(here: Mount, home: Path) -> Path:
    here.ask("put", f"{home.name}/log", b"begin\n", stream=True)
    return home / "log"


def in_server(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def start_waiting(path: Path) -> subprocess.Popen[bytes]:
    process = cat(path)
    wait_until(lambda: waits(process))
    return process


def test_cat_prints_a_stream_until_its_writer_is_done(here: Mount, stream: Path) -> None:
    process = start_waiting(stream)
    assert process.stdout is not None
    assert os.read(process.stdout.fileno(), 100) == b"begin\n"
    here.ask("append", in_server(stream), b"middle\n")
    assert os.read(process.stdout.fileno(), 100) == b"middle\n"
    here.ask("append", in_server(stream), b"end\n")
    here.ask("finish", in_server(stream))
    assert process.communicate(timeout=COMMAND_SECONDS_MAX)[0] == b"end\n"
    assert process.returncode == 0
    assert stream.read_bytes() == b"begin\nmiddle\nend\n"


def test_a_live_stream_has_no_size(here: Mount, stream: Path) -> None:
    assert os.stat(stream).st_size == 0
    here.ask("finish", in_server(stream))
    assert os.stat(stream).st_size == 6


def check_ended(start: Callable[[], subprocess.Popen[bytes]], number: signal.Signals) -> None:
    """Send a signal to a process that waits in a read; it ends well before the read would be given up."""
    with start() as process:
        wait_until(lambda: waits(process))
        process.send_signal(number)
        process.wait(UNKNOWN_READER_S / 2)
        assert process.returncode == -number


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_waiting_reader_is_ended(stream: Path, number: signal.Signals) -> None:
    check_ended(lambda: cat(stream), number)


def test_a_waiting_reader_that_did_not_open_the_stream_is_ended(stream: Path) -> None:
    with open(stream, "rb", buffering=0) as file:
        check_ended(lambda: subprocess.Popen(["cat"], stdin=file, stdout=subprocess.DEVNULL), signal.SIGKILL)


def test_a_reader_in_a_thread_of_its_own_is_ended(stream: Path) -> None:
    program = (
        "import os, sys, threading\n"
        "fd = os.open(sys.argv[1], os.O_RDONLY); os.read(fd, 99)\n"
        "threading.Thread(target=os.read, args=(fd, 99)).start()"
    )
    check_ended(lambda: subprocess.Popen([sys.executable, "-c", program, str(stream)]), signal.SIGKILL)


def test_a_program_with_a_signal_handler_goes_on_reading(here: Mount, stream: Path) -> None:
    program = (
        "import signal, sys\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('signal', flush=True))\n"
        "for line in open(sys.argv[1]): print(line, end='', flush=True)"
    )
    process = subprocess.Popen([sys.executable, "-c", program, str(stream)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"begin\n"
    wait_until(lambda: waits(process))
    process.send_signal(signal.SIGUSR1)
    assert process.stdout.readline() == b"signal\n"
    here.ask("append", in_server(stream), b"end\n")
    here.ask("finish", in_server(stream))
    assert process.communicate(timeout=COMMAND_SECONDS_MAX)[0] == b"end\n"


def test_a_reader_that_will_not_wait_is_told_to_come_again(here: Mount, stream: Path) -> None:
    descriptor = os.open(stream, os.O_RDONLY | os.O_NONBLOCK)
    assert os.read(descriptor, 100) == b"begin\n"
    assert errno_of(lambda: os.read(descriptor, 100)) == errno.EAGAIN
    here.ask("append", in_server(stream), b"more")
    assert os.read(descriptor, 100) == b"more"
    here.ask("finish", in_server(stream))
    assert os.read(descriptor, 100) == b""
    os.close(descriptor)


def test_200_waiting_readers_keep_nobody_else_waiting(stream: Path) -> None:
    processes = [cat(stream) for _ in range(200)]
    wait_until(lambda: all(waits(process) for process in processes))
    assert sh("ls -l", stream.parent).returncode == 0
    for process in processes:
        process.kill()
    for process in processes:
        process.communicate(timeout=COMMAND_SECONDS_MAX)


def test_a_stream_goes_on_after_a_restart_of_the_server(here: Mount, stream: Path) -> None:
    process = start_waiting(stream)
    here.ask("restart")
    here.ask("append", in_server(stream), b"more\n")
    here.ask("finish", in_server(stream))
    assert process.communicate(timeout=COMMAND_SECONDS_MAX)[0] == b"begin\nmore\n"


# -- files whose closing is a command ------------------------------------------------------------------------------


@pytest.fixture
def drop(here: Mount, request: pytest.FixtureRequest) -> Path:
    """The path of a file in a directory where closing a file hands it in."""
    return here.point / "dc1/drops" / ("".join(letter for letter in request.node.name if letter.isalnum()) + ".yaml")


def handed(here: Mount, drop: Path) -> list[tuple[bytes, Closing | None]]:
    texts: list[Handed] = here.ask("handed")
    return [(text.text, text.closing) for text in texts if text.path == f"drops/{drop.name}"]


def closed(here: Mount) -> bool:
    """True once nothing is open any more: a release comes after close(2)."""
    return bool(here.ask("open_files") == 0)


@pytest.mark.parametrize(
    "command", ["echo text > {}", "cat {}.tmp > {}", "cp {}.tmp {}", "tee {} < {}.tmp", "dd if={}.tmp of={}"]
)
def test_a_text_is_handed_in_once_and_by_the_close(here: Mount, drop: Path, tmp_path: Path, command: str) -> None:
    source = here.point / f"dc1/{drop.name}.tmp"
    source.write_text("text\n")
    words = command.replace("{}.tmp", str(source)).replace("{}", str(drop))
    assert sh(words).returncode == 0
    assert handed(here, drop) == [(b"text\n", Closing.LAST)]
    wait_until(lambda: closed(here))
    assert handed(here, drop) == [(b"text\n", Closing.LAST)]
    *shared, last = here.ask("closings")  # dash holds the file open for cat, and closes after it
    assert (set(shared) <= {Closing.SHARED}, last) == (True, Closing.LAST)


def test_a_text_of_several_programs_is_handed_in_by_the_last(here: Mount, drop: Path, tmp_path: Path) -> None:
    (tmp_path / "b").write_text("b\n")
    assert sh(f"{{ echo a; cat {tmp_path}/b; echo c; cat {tmp_path}/b; }} > {drop}").returncode == 0
    assert handed(here, drop) == [(b"a\nb\nc\nb\n", Closing.LAST)]
    assert here.ask("closings") == [Closing.SHARED, Closing.SHARED, Closing.LAST]


def test_a_parent_hands_in_what_its_child_wrote(here: Mount, drop: Path) -> None:
    with open(drop, "wb", buffering=0) as file:
        subprocess.run(["echo", "child"], stdout=file, check=True, timeout=COMMAND_SECONDS_MAX)
        assert handed(here, drop) == []
    assert handed(here, drop) == [(b"child\n", Closing.LAST)]


def test_a_second_descriptor_of_the_same_process_counts(here: Mount, drop: Path) -> None:
    first = os.open(drop, os.O_CREAT | os.O_WRONLY)
    second = os.dup(first)
    os.write(first, b"text\n")
    os.close(first)
    assert handed(here, drop) == []
    os.close(second)
    assert handed(here, drop) == [(b"text\n", Closing.LAST)]


def test_touching_hands_nothing_in(here: Mount, drop: Path) -> None:
    assert sh(f"touch {drop}; chmod 600 {drop}; : > {drop}; cat {drop}").returncode == 0
    wait_until(lambda: closed(here))
    assert (here.ask("handed"), here.ask("closings")) == ([], [])


def test_a_refusal_reaches_the_close(here: Mount, drop: Path, tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("refuse\n")
    done = sh(f"cp {tmp_path}/bad {drop}")
    assert (done.returncode, "Invalid argument" in done.stderr) == (1, True)
    assert handed(here, drop) == []


WRITER = "import os, signal, sys, time; fd = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(fd, b'half\\n');"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_a_writer_that_is_killed_hands_nothing_in(here: Mount, drop: Path, number: signal.Signals) -> None:
    program = f"{WRITER} os.kill(os.getpid(), {int(number)}); time.sleep(9)"
    assert (
        subprocess.run([sys.executable, "-c", program, str(drop)], timeout=COMMAND_SECONDS_MAX, check=False).returncode
        == -number
    )
    wait_until(lambda: closed(here))
    assert handed(here, drop) == []
    assert set(here.ask("closings")) == {Closing.DYING}


def test_a_child_that_is_killed_cuts_the_text_of_its_parent(here: Mount, drop: Path) -> None:
    die = 'import os; os.write(1, b"half"); os.kill(os.getpid(), 9)'
    sh(f"{{ echo whole; '{sys.executable}' -c '{die}'; }} > {drop}")
    wait_until(lambda: closed(here))
    assert handed(here, drop) == []
    assert here.ask("closings")[0] is Closing.DYING


def test_a_pipeline_that_is_interrupted_hands_nothing_in(here: Mount, drop: Path) -> None:
    process = subprocess.Popen(
        ["bash", "-c", f"{{ echo whole; {{ echo half; exec sleep 9; }}; }} > {drop}"], start_new_session=True
    )
    wait_until(lambda: drop.exists() and drop.read_bytes() == b"whole\nhalf\n")
    os.killpg(process.pid, signal.SIGINT)
    process.wait(COMMAND_SECONDS_MAX)
    wait_until(lambda: closed(here))
    assert handed(here, drop) == []


def test_a_process_that_exits_with_a_text_open_hands_it_in(here: Mount, drop: Path) -> None:
    program = f"{WRITER} os._exit(3)"
    assert (
        subprocess.run([sys.executable, "-c", program, str(drop)], timeout=COMMAND_SECONDS_MAX, check=False).returncode
        == 3
    )
    assert handed(here, drop) == [(b"half\n", Closing.LAST)]


def test_a_thread_that_ends_with_its_process_is_not_taken_for_killed(here: Mount, drop: Path) -> None:
    program = (
        "import os, sys, threading, time\n"
        "def write():\n"
        f"    {WRITER} time.sleep(9)\n"
        "threading.Thread(target=write, daemon=True).start(); time.sleep(0.5); os._exit(0)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program, str(drop)], timeout=COMMAND_SECONDS_MAX, check=False).returncode
        == 0
    )
    assert handed(here, drop) == [(b"half\n", Closing.LAST)]


def test_a_lost_write_cuts_the_text(here: Mount, drop: Path) -> None:
    here.ask("fail", "write", Kind.TIMED_OUT)
    assert "I/O error" in sh(f"{{ echo one; echo two; }} > {drop}").stderr
    wait_until(lambda: closed(here))
    assert handed(here, drop) == []


def test_a_restart_of_the_server_costs_a_half_written_text(here: Mount, drop: Path) -> None:
    with open(drop, "wb", buffering=0) as file:
        file.write(b"one\n")
        here.ask("restart")
        assert errno_of(lambda: file.write(b"two\n")) == errno.ESTALE
        assert errno_of(file.close) == errno.ESTALE
    assert handed(here, drop) == []


# -- owners --------------------------------------------------------------------------------------------------------

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
ANN, BEN, STAFF = 1234, 2345, 3456


@pytest.fixture(scope="module")
def numeric() -> Iterator[Path]:
    """A directory for everybody in a mount that all users share and that shows the server's numbers."""
    with TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        mounted = Mount(Path(name), Ids.NUMERIC, "allow_other")
        place = mounted.point / "dc1/all"
        place.mkdir()
        place.chmod(0o1777)
        yield place
        mounted.end()


def as_user(user: int, text: str, cwd: Path, *groups: int) -> int:
    """Run a shell as somebody else; return its exit status."""
    command = ["sh", "-c", text]
    return subprocess.run(
        command, cwd=cwd, user=user, group=user, extra_groups=groups, timeout=COMMAND_SECONDS_MAX, check=False
    ).returncode


def owner(path: Path) -> tuple[int, int, str]:
    found = os.lstat(path)
    return found.st_uid, found.st_gid, stat.filemode(found.st_mode)


def archive(path: Path) -> None:
    with tarfile.open(path, "w") as tar:
        for name, mode in (("d", 0o40755), ("d/f", 0o4750), ("d/link", 0o777)):
            member = tarfile.TarInfo(name)
            member.uid, member.gid, member.mode = ANN, STAFF, mode & 0o7777
            member.type = {"d": tarfile.DIRTYPE, "d/f": tarfile.REGTYPE, "d/link": tarfile.SYMTYPE}[name]
            member.linkname = "f" if name == "d/link" else ""
            tar.addfile(member)


@as_root
def test_root_in_a_job_unpacks_archives(tmp_path: Path) -> None:
    archive(tmp_path / "t.tar")
    (tmp_path / "mount").mkdir()
    mounted = Mount(tmp_path / "mount", Ids.JOB)
    try:
        home = mounted.point / "dc1"
        done = sh(f"tar xpf {tmp_path}/t.tar --same-owner && chown -R {BEN}:{BEN} d", home)
        assert (done.returncode, done.stderr) == (0, "")
        assert owner(home / "d/f") == (0, 0, "-rwxr-x---")
        assert owner(home / "d/link")[:2] == (0, 0)
        assert (mounted.ask("getattr", "d/f").uid, mounted.ask("getattr", "d/f").mode) == (0, 0o750)
    finally:
        mounted.end()


@as_root
def test_archives_of_others_are_refused_where_everything_is_ones_own(home: Path, tmp_path: Path) -> None:
    archive(tmp_path / "t.tar")
    assert "Operation not permitted" in sh(f"tar xf {tmp_path}/t.tar --same-owner", home).stderr
    assert sh(f"tar xf {tmp_path}/t.tar --no-same-owner", home).returncode == 0


@as_root
def test_numbers_and_modes_are_carried_through(numeric: Path, tmp_path: Path) -> None:
    archive(tmp_path / "t.tar")
    done = sh(f"tar xpf {tmp_path}/t.tar --same-owner", numeric)
    assert (done.returncode, done.stderr) == (0, "")
    assert owner(numeric / "d") == (ANN, STAFF, "drwxr-xr-x")
    assert owner(numeric / "d/f") == (ANN, STAFF, "-rwsr-x---")
    assert owner(numeric / "d/link") == (ANN, STAFF, "lrwxrwxrwx")


@as_root
def test_what_is_made_belongs_to_whoever_makes_it(numeric: Path) -> None:
    text = "umask 027; : > made; mkdir made.d; ln -s made made.s; mkfifo made.p; ln made made.l"
    assert as_user(ANN, text, numeric) == 0
    for name in ("made", "made.d", "made.s", "made.p"):
        assert owner(numeric / name)[:2] == (ANN, ANN)
    assert [owner(numeric / name)[2] for name in ("made", "made.d")] == ["-rw-r-----", "drwxr-x---"]
    assert os.stat(numeric / "made").st_nlink == 2


@as_root
def test_rights_are_those_of_a_local_file_system(numeric: Path) -> None:
    assert as_user(ANN, "echo secret > own; chmod 640 own; mkdir own.d; chmod 700 own.d", numeric) == 0
    for text in ("cat own", "echo x >> own", "ls own.d", "rm -f own", "mv own other", "chmod 666 own", "chown {0} own"):
        assert as_user(BEN, f"{text.format(BEN)} 2> /dev/null", numeric) != 0, text
    os.chown(numeric / "own", -1, STAFF)
    assert as_user(BEN, "cat own > /dev/null", numeric, STAFF) == 0
    assert as_user(ANN, f"chgrp {STAFF} own.d", numeric, STAFF) == 0
    assert as_user(ANN, f"chown {BEN} own 2> /dev/null", numeric) != 0
    assert owner(numeric / "own.d")[:2] == (ANN, STAFF)


@as_root
def test_a_directory_hands_on_its_group(numeric: Path) -> None:
    (numeric / "team").mkdir()
    os.chown(numeric / "team", ANN, STAFF)
    (numeric / "team").chmod(0o2775)
    assert as_user(ANN, "mkdir team/sub; : > team/f; mkdir team/sub/sub", numeric) == 0
    assert owner(numeric / "team/sub/sub") == (ANN, STAFF, "drwxr-sr-x")
    assert owner(numeric / "team/f") == (ANN, STAFF, "-rw-r--r--")


@as_root
def test_a_program_that_changes_hands_or_content_is_no_longer_set_user_id(numeric: Path) -> None:
    for text in ("echo x >> suid", "truncate -s 1 suid", f"chgrp {STAFF} suid", "dd if=suid of=suid conv=notrunc"):
        (numeric / "suid").write_text("program")
        os.chown(numeric / "suid", ANN, ANN)
        (numeric / "suid").chmod(0o6755)
        assert owner(numeric / "suid")[2] == "-rwsr-sr-x"
        assert as_user(ANN, f"{text} 2> /dev/null", numeric, STAFF) == 0
        assert owner(numeric / "suid")[2] == "-rwxr-xr-x", text
        os.unlink(numeric / "suid")


@as_root
def test_set_group_id_is_not_for_those_outside_of_the_group(numeric: Path) -> None:
    (numeric / "foreign").write_text("")
    os.chown(numeric / "foreign", ANN, STAFF)
    assert as_user(ANN, "chmod 2755 foreign", numeric) == 0
    assert owner(numeric / "foreign")[2] == "-rwxr-xr-x"


# -- coming and going -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_unmounts_when_it_is_told_to_end(own: Mount, number: signal.Signals) -> None:
    (own.point / "dc1/f").write_text("x")
    own.process.send_signal(number)
    assert own.process.wait(COMMAND_SECONDS_MAX) == 0
    assert mounted_type(str(own.point)) is None
    assert os.listdir(own.point) == []


def test_it_unmounts_also_while_it_is_in_use(own: Mount) -> None:
    own.ask("put", "log", b"x", stream=True)
    reader = cat(own.point / "dc1/log")
    sitter = subprocess.Popen(["sleep", "60"], cwd=own.point / "dc1")
    descriptor = os.open(own.point / "dc1/f", os.O_CREAT | os.O_WRONLY)
    try:
        wait_until(lambda: waits(reader))
        own.process.terminate()
        assert own.process.wait(COMMAND_SECONDS_MAX) == 0
        assert mounted_type(str(own.point)) is None
        reader.communicate(timeout=COMMAND_SECONDS_MAX)
        assert errno_of(lambda: os.close(descriptor)) == errno.ENOTCONN
    finally:
        sitter.kill()
        sitter.wait()


def test_it_ends_also_while_the_server_does_not_answer(own: Mount) -> None:
    own.set("delay_s", 30.0)
    lister = subprocess.Popen(["ls", own.point / "dc1/x"], stderr=subprocess.DEVNULL)
    wait_until(lambda: waits(lister))
    own.process.terminate()
    wait_until(lambda: mounted_type(str(own.point)) is None)
    own.process.terminate()
    assert own.process.wait(COMMAND_SECONDS_MAX) == 0
    assert lister.wait(COMMAND_SECONDS_MAX) == 2


def test_it_ends_when_somebody_unmounts_it(own: Mount) -> None:
    unmount(str(own.point), lazy=False)
    assert own.process.wait(COMMAND_SECONDS_MAX) == 0


def test_who_uses_it_is_named(own: Mount) -> None:
    sitter = subprocess.Popen(["sleep", "60"], cwd=own.point / "dc1")
    try:
        with pytest.raises(PfsError) as caught:
            unmount(str(own.point), lazy=False)
        assert caught.value.kind is Kind.BUSY
        assert users(str(own.point)) == [f"sleep (process {sitter.pid}) has its working directory there"]
    finally:
        sitter.kill()
        sitter.wait()


def test_after_a_crash_it_is_mounted_again(own: Mount) -> None:
    (own.point / "dc1/f").write_text("x")
    own.kill()
    assert errno_of(lambda: os.listdir(own.point)) == errno.ENOTCONN
    unmount(str(own.point), lazy=True)
    again = Mount(own.point)
    assert sorted(os.listdir(own.point)) == ["dc1", "dc2"]
    again.end()
    assert mounted_type(str(own.point)) is None


def test_two_mounts_do_not_know_of_each_other(own: Mount, tmp_path: Path) -> None:
    point = tmp_path / "other"
    point.mkdir()
    other = Mount(point)
    (own.point / "dc1/f").write_text("own")
    assert os.listdir(point / "dc1") == ["drops"]
    other.end()
    assert (own.point / "dc1/f").read_text() == "own"


# -- the command line ------------------------------------------------------------------------------------------------


class Paddle:
    """The command, with a state directory and a mount point of its own."""

    def __init__(self, tmp_path: Path) -> None:
        self.point = tmp_path / "pfs"
        self.point.mkdir()
        self.environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def start(self, *arguments: str, endpoint: str = "up", token: str = "right") -> subprocess.Popen[str]:
        """Start `paddle mount` or `paddle umount`."""
        verb, *options = arguments
        command = [*MOUNTED, verb, str(self.point), endpoint, token, *options]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env=self.environment, stdout=pipe, stderr=pipe, text=True)

    def __call__(self, *arguments: str, **named: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **named)
        said, complained = process.communicate(timeout=COMMAND_SECONDS_MAX)
        return subprocess.CompletedProcess(arguments, process.returncode, said, complained)

    def refusal(self, *arguments: str, **named: str) -> str:
        """The one line that a failing command says."""
        done = self(*arguments, **named)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("Error: ")
        assert done.stderr.count("\n") == 1
        return done.stderr

    def daemons(self) -> list[int]:
        """The processes that serve this mount point."""
        found = []
        for process in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if process.name.isdecimal() and str(self.point).encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found


@pytest.fixture
def paddle(tmp_path: Path) -> Iterator[Paddle]:
    paddle = Paddle(tmp_path)
    yield paddle
    for pid in paddle.daemons():
        os.kill(pid, signal.SIGKILL)
    while mounted_type(str(paddle.point)):
        unmount(str(paddle.point), lazy=True)


def test_the_command_mounts_in_the_background_and_unmounts(paddle: Paddle) -> None:
    done = paddle("mount")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{paddle.point}: mounted dc1; messages go to ")
    (paddle.point / "dc1/f").write_text("x")
    (daemon,) = paddle.daemons()
    assert (os.getsid(daemon) != os.getsid(0), os.readlink(f"/proc/{daemon}/cwd")) == (True, "/")
    done = paddle("umount")
    assert (done.returncode, done.stdout) == (0, f"{paddle.point}: unmounted\n")
    assert (paddle.daemons(), os.listdir(paddle.point)) == ([], [])
    log = Path(paddle.environment["XDG_STATE_HOME"]) / "pfs"
    assert [path.suffix for path in sorted(log.iterdir())] == [".lock", ".log"]
    assert "has ended" in next(log.glob("*.log")).read_text()


def test_the_command_stays_in_the_foreground(paddle: Paddle) -> None:
    process = paddle.start("mount", "-f")
    assert process.stderr is not None
    assert process.stderr.readline() == f"{paddle.point}: mounted dc1\n"
    assert os.listdir(paddle.point) == ["dc1"]
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=COMMAND_SECONDS_MAX) == ("", "")
    assert process.returncode == 0
    assert mounted_type(str(paddle.point)) is None


def test_what_is_mounted_is_not_mounted_again(paddle: Paddle) -> None:
    assert paddle("mount").returncode == 0
    assert "mounted here already" in paddle.refusal("mount")
    assert "fuse.pfs" in sh(f"grep -c ' {paddle.point} ' /proc/mounts; grep {paddle.point} /proc/mounts").stdout
    assert sh(f"grep -c ' {paddle.point} ' /proc/mounts").stdout == "1\n"
    assert paddle("umount").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has mounts of its own")
def test_who_keeps_a_copy_of_the_mount_is_told_and_waited_for(paddle: Paddle) -> None:
    assert paddle("mount").returncode == 0
    keep = ["unshare", "--mount", "--propagation", "private", "sh", "-c", "echo has them; exec sleep 60"]
    with subprocess.Popen(keep, stdout=subprocess.PIPE, text=True) as keeper:
        assert keeper.stdout is not None
        assert keeper.stdout.readline() == "has them\n"
        threading.Timer(TELL_EVERY_S + 3.0, keeper.kill).start()
        done = paddle("umount")
    told = f"{paddle.point}: unmounted; its process is about to end, with those for whom it is still there: "
    assert done.returncode == 0
    assert done.stderr.startswith(told)
    assert f"sleep (process {keeper.pid}) has it in mounts of its own" in done.stderr


def test_two_commands_at_once_make_one_mount(paddle: Paddle) -> None:
    starting = [paddle.start("mount") for _ in range(3)]
    for process in starting:
        process.communicate(timeout=COMMAND_SECONDS_MAX)
    assert sorted(process.returncode for process in starting) == [0, 1, 1]
    assert sh(f"grep -c ' {paddle.point} ' /proc/mounts").stdout == "1\n"


def test_what_a_killed_process_left_is_cleared_away(paddle: Paddle) -> None:
    assert paddle("mount").returncode == 0
    (daemon,) = paddle.daemons()
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: errno_of(lambda: os.listdir(paddle.point)) == errno.ENOTCONN)
    assert paddle("mount").returncode == 0
    assert os.listdir(paddle.point) == ["dc1"]
    assert sh(f"grep -c ' {paddle.point} ' /proc/mounts").stdout == "1\n"
    (daemon,) = paddle.daemons()
    os.kill(daemon, signal.SIGKILL)
    wait_until(lambda: errno_of(lambda: os.listdir(paddle.point)) == errno.ENOTCONN)
    assert paddle("umount").returncode == 0
    assert mounted_type(str(paddle.point)) is None


def test_a_mount_point_must_be_an_empty_directory(paddle: Paddle) -> None:
    paddle.point.rmdir()
    assert f"mkdir -p {paddle.point}" in paddle.refusal("mount")
    paddle.point.write_text("")
    assert "not a directory" in paddle.refusal("mount")
    paddle.point.unlink()
    paddle.point.mkdir()
    (paddle.point / "f").write_text("")
    assert "not empty" in paddle.refusal("mount")


def test_a_server_that_cannot_be_used_is_named_and_nothing_is_mounted(paddle: Paddle) -> None:
    assert "no connection to the server at down" in paddle.refusal("mount", endpoint="down")
    assert "no connection to the server at down" in paddle.refusal("mount", "-f", endpoint="down")
    assert "does not accept this token" in paddle.refusal("mount", token="wrong")
    assert mounted_type(str(paddle.point)) is None
    assert paddle.daemons() == []


def test_a_command_that_is_given_up_leaves_no_mount(paddle: Paddle) -> None:
    starting = paddle.start("mount", endpoint="slow")
    wait_until(lambda: len(paddle.daemons()) == 2)
    starting.send_signal(signal.SIGINT)
    starting.communicate(timeout=COMMAND_SECONDS_MAX)
    assert starting.returncode != 0
    wait_until(lambda: paddle.daemons() == [])
    assert mounted_type(str(paddle.point)) is None


def test_a_busy_mount_stays_and_its_users_are_named(paddle: Paddle) -> None:
    assert paddle("mount").returncode == 0
    sitter = subprocess.Popen(["sleep", "60"], cwd=paddle.point / "dc1")
    try:
        assert f"sleep (process {sitter.pid}) has its working directory there" in paddle.refusal("umount")
        assert os.listdir(paddle.point) == ["dc1"]
        assert paddle("umount", "--lazy").returncode == 0
        assert mounted_type(str(paddle.point)) is None
    finally:
        sitter.kill()
        sitter.wait()
    wait_until(lambda: paddle.daemons() == [])


def test_only_a_mount_is_unmounted(paddle: Paddle) -> None:
    assert "no pfs is mounted here" in paddle.refusal("umount")
