"""The connection with a real kernel: what is agreed on, how it waits, and how it ends, beside what libfuse does alone.

The mount is that of `tests/fuseclient/tiny.py`, in a process of its own.
"""

import concurrent.futures
import ctypes
import errno
import json
import mmap
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fuseclient.kernel.negotiation import CONGESTION_THRESHOLD, MAX_BACKGROUND
from fuseclient.mountpoints import mounted_type, unmount
from integration.box import FORGET_MOUNTS, wait_until
from tests.functional.posix import errno_of

ROOT = Path(__file__).parent.parent
HANGS_S = 60
NOBODY = 65534
CAP_FSETID = 4
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Tiny:
    """A mount, and its process."""

    def __init__(self, point: Path, before: tuple[str, ...], **wishes: Any) -> None:
        self.point = point
        command = [*before, sys.executable, "-m", "tests.fuseclient.tiny", str(point), json.dumps(wishes)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.kind = self._hear()

    def calls(self) -> dict[str, int]:
        """What was asked since the last time."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        self.process.stdin.flush()
        return dict(self._hear())

    def cpu_ticks(self) -> int:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return int(fields[11]) + int(fields[12])

    def finish(self) -> int:
        """Let the process end by itself, as it does on a signal; return its status."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(HANGS_S)

    def _hear(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline() or "null")


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Tiny]]:
    made: list[Tiny] = []
    watchdogs: list[threading.Timer] = []

    def make(point: str = "tiny", *, before: tuple[str, ...] = (), **wishes: Any) -> Tiny:
        (tmp_path / point).mkdir(exist_ok=True)
        mount = Tiny(tmp_path / point, before, **wishes)
        made.append(mount)
        watchdogs.append(threading.Timer(2 * HANGS_S, mount.process.kill))
        watchdogs[-1].start()
        return mount

    yield make
    for watchdog in watchdogs:
        watchdog.cancel()
    for mount in made:
        mount.process.kill()
        mount.process.wait(HANGS_S)
        for stream in (mount.process.stdin, mount.process.stdout):
            assert stream is not None
            stream.close()
        while mounted_type(str(mount.point)):
            unmount(str(mount.point), lazy=True)


@pytest.fixture
def tuned(make: Callable[..., Tiny]) -> Tiny:
    mount = make()
    assert mount.kind == "Session"
    return mount


def mount_line(point: Path) -> list[str]:
    lines = [line.split(" ") for line in Path("/proc/mounts").read_text().splitlines()]
    return next(line for line in lines if line[1] == str(point))


# -- as libfuse would ------------------------------------------------------------------------------------------------


def test_it_is_listed_as_what_libfuse_mounts(make: Callable[..., Tiny]) -> None:
    tuned, plain = make("tuned"), make("plain", plain=True)
    assert (tuned.kind, plain.kind) == ("Session", "PlainSession")
    (a, b) = (mount_line(mount.point) for mount in (tuned, plain))
    assert a[:1] + a[2:] == b[:1] + b[2:]
    assert (a[0], a[2]) == ("pfs", "fuse.pfs")


@pytest.mark.parametrize("wishes", [{}, {"plain": True}, {"look_first": False}, {"plain": True, "look_first": False}])
def test_files_work_and_unmounting_ends_the_process(make: Callable[..., Tiny], wishes: dict[str, bool]) -> None:
    mount = make(**wishes)
    data = os.urandom(300_000)
    (mount.point / "new").write_bytes(data)
    assert (mount.point / "new").read_bytes() == data
    assert sorted(os.listdir(mount.point)) == ["big", "direct", "empty", "link", "new"]
    unmount(str(mount.point), lazy=False)
    assert mount.process.wait(HANGS_S) == 0
    assert mounted_type(str(mount.point)) is None


@pytest.mark.parametrize("plain", [True, False])
def test_when_the_process_ends_the_mount_is_gone(make: Callable[..., Tiny], plain: bool) -> None:
    mount = make(plain=plain)
    assert (mount.point / "empty").read_bytes() == b""
    assert mount.finish() == 0
    assert mounted_type(str(mount.point)) is None
    assert os.listdir(mount.point) == []


@pytest.mark.parametrize("plain", [True, False])
def test_a_mount_in_use_can_be_taken_away_lazily(make: Callable[..., Tiny], plain: bool) -> None:
    mount = make(plain=plain)
    with open(mount.point / "direct", "rb") as file:
        assert errno_of(lambda: os.rmdir(mount.point)) == errno.EBUSY
        unmount(str(mount.point), lazy=True)
        assert mounted_type(str(mount.point)) is None
        assert len(os.pread(file.fileno(), 4096, 0)) == 4096
        assert mount.process.poll() is None
    assert mount.process.wait(HANGS_S) == 0


@pytest.mark.parametrize("plain", [True, False])
def test_a_killed_process_leaves_a_dead_mount_that_can_be_replaced(make: Callable[..., Tiny], plain: bool) -> None:
    mount = make(plain=plain)
    mount.process.kill()
    wait_until(lambda: errno_of(lambda: os.listdir(mount.point)) == errno.ENOTCONN)
    unmount(str(mount.point), lazy=True)
    again = make(plain=plain)
    assert "big" in os.listdir(again.point)
    assert mount_line(again.point)[2] == "fuse.pfs"


DEVICE_FOR_ALL = """
{forget}
mount -t tmpfs tmpfs {directory} && mknod -m 666 {directory}/fuse c 10 229 && mount --bind {directory}/fuse /dev/fuse &&
exec "$@"
"""


def test_an_ordinary_user_mounts_through_fusermount3(make: Callable[..., Tiny], tmp_path: Path) -> None:
    """In a mount namespace of its own, where everybody may open the device."""
    tools = ("fusermount3", "unshare", "nsenter", "setpriv")
    if os.geteuid() != 0 or not all(shutil.which(tool) for tool in tools):
        pytest.skip(f"needs root, and {', '.join(tools)}")
    device = tmp_path / "device"
    for directory in (tmp_path / "own", device):
        directory.mkdir()
    os.chown(tmp_path / "own", NOBODY, NOBODY)
    for directory in (tmp_path, *tmp_path.parents):
        if not directory.stat().st_mode & 1:
            directory.chmod(directory.stat().st_mode | 0o011)
    before = ("unshare", "-m", "sh", "-c", DEVICE_FOR_ALL.format(forget=FORGET_MOUNTS, directory=device), "sh")
    mount = make("own", before=before, uid=NOBODY)
    assert mount.kind == "Session"
    inside = ["nsenter", "-m", "-t", str(mount.process.pid)]
    user = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    look = [*inside, *user, "cat", str(mount.point / "link"), str(mount.point / "direct")]
    assert len(subprocess.run(look, capture_output=True, check=True, timeout=HANGS_S).stdout) == 1 << 20
    told = [*inside, "sh", "-c", "cat /proc/self/mounts; read line; cat /proc/self/mounts"]
    with subprocess.Popen(told, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watcher:
        assert watcher.stdout is not None
        line = next(line for line in watcher.stdout if str(mount.point) in line)
        assert line.startswith(f"pfs {mount.point} fuse.pfs ")
        assert f"user_id={NOBODY}," in line
        assert mount.finish() == 0
        assert str(mount.point) not in watcher.communicate("\n", timeout=HANGS_S)[0]


# -- what is agreed on -----------------------------------------------------------------------------------------------


def lookups_at_once(mount: Tiny) -> int:
    def look(name: str) -> None:
        assert errno_of(lambda: os.stat(mount.point / name)) == errno.ENOENT

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(look, [f"slow{number}" for number in range(8)]))
    return mount.calls()["lookups_at_once"]


def test_lookups_in_one_directory_do_not_wait_for_each_other(tuned: Tiny) -> None:
    assert lookups_at_once(tuned) > 1


def test_a_slow_lookup_does_not_keep_others_from_listing(tuned: Tiny) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        looking = pool.submit(lambda: errno_of(lambda: os.stat(tuned.point / "slow")))
        wait_until(lambda: tuned.calls().get("lookups_at_once", 0) > 0 or looking.done())
        for _ in range(20):
            assert "big" in os.listdir(tuned.point)
        assert looking.result(HANGS_S) == errno.ENOENT


def write_pieces(path: Path, pieces: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for _ in range(pieces):
            file.write(bytes(4096))


@pytest.mark.parametrize("set_id_bits", [True, False])
def test_the_kernel_asks_before_each_write_only_where_set_id_bits_can_be(
    make: Callable[..., Tiny], set_id_bits: bool
) -> None:
    mount = make(set_id_bits=set_id_bits, valid_s=60)
    write_pieces(mount.point / "new", 50)
    calls = mount.calls()
    assert calls["write"] == 50
    assert (calls["getxattr"] >= 50) if set_id_bits else (calls["getxattr"] <= 2)


def test_where_files_can_have_set_id_bits_a_write_takes_them_away(make: Callable[..., Tiny]) -> None:
    mount = make(set_id_bits=True)
    path = mount.point / "new"
    path.write_bytes(b"x")
    path.chmod(0o6755)
    assert path.stat().st_mode & 0o7777 == 0o6755

    def without_privilege() -> None:
        ctypes.CDLL(None).prctl(24, CAP_FSETID, 0, 0, 0)  # PR_CAPBSET_DROP: the program then starts without it

    command = ["dd", "if=/dev/zero", f"of={path}", "bs=1", "count=1", "conv=notrunc", "status=none"]
    subprocess.run(command, check=True, preexec_fn=without_privilege, timeout=HANGS_S)
    assert path.stat().st_mode & 0o7777 == 0o755


def test_a_file_that_is_not_kept_in_the_kernel_can_be_mapped(tuned: Tiny) -> None:
    with open(tuned.point / "direct", "rb") as file:
        direct = file.read()
        with mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as mapped:
            assert mapped[:] == direct


def test_more_is_under_way_at_once(tuned: Tiny, tmp_path: Path) -> None:
    control, libc = tmp_path / "control", ctypes.CDLL(None)
    control.mkdir()
    if libc.mount(b"none", os.fsencode(control), b"fusectl", 0, None) != 0:
        pytest.skip("fusectl cannot be mounted")
    try:
        connection = control / str(os.minor(os.stat(tuned.point).st_dev))
        assert int((connection / "max_background").read_text()) == MAX_BACKGROUND
        assert int((connection / "congestion_threshold").read_text()) == CONGESTION_THRESHOLD
    finally:
        libc.umount2(os.fsencode(control), 2)


def test_the_kernel_reads_further_ahead(make: Callable[..., Tiny]) -> None:
    if not os.access("/sys/class/bdi", os.W_OK) or os.geteuid() != 0:
        pytest.skip("needs root, and a /sys that can be written to")
    tuned = make("a place\\with signs")
    with open(tuned.point / "big", "rb", buffering=0) as file:
        while file.read(1 << 17):
            pass
    assert tuned.calls()["bytes_at_once"] == 1 << 20


def test_targets_of_links_are_not_kept(tuned: Tiny) -> None:
    for _ in range(3):
        assert os.readlink(tuned.point / "link") == "empty"
    assert tuned.calls()["readlink"] == 3


# -- waiting ---------------------------------------------------------------------------------------------------------


def test_an_idle_mount_uses_no_cpu(tuned: Tiny) -> None:
    for _ in range(2000):  # it has learned that requests follow closely
        errno_of(lambda: os.stat(tuned.point / "missing"))
    time.sleep(0.1)
    before = tuned.cpu_ticks()
    time.sleep(1)
    assert tuned.cpu_ticks() - before <= TICKS_PER_S // 20


def test_timers_go_off_while_programs_ask_without_a_break(make: Callable[..., Tiny]) -> None:
    mount = make(ticking=True)
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            errno_of(lambda: os.stat(mount.point / "missing"))

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        asking = [pool.submit(ask) for _ in range(2)]
        mount.calls()
        time.sleep(0.5)
        calls = mount.calls()  # and standard input is read meanwhile
        stop.set()
        for each in asking:
            each.result(HANGS_S)
    assert calls["ticks"] > 10
    assert calls["lookup"] > 10


def test_requests_are_answered_while_many_others_wait(tuned: Tiny) -> None:
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        slow = [pool.submit(errno_of, lambda n=n: os.stat(tuned.point / f"slow{n}")) for n in range(64)]
        for _ in range(200):
            assert (tuned.point / "empty").stat().st_size == 0
        assert {each.result(HANGS_S) for each in slow} == {errno.ENOENT}
