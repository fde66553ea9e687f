"""A server that is away: what can be read, who waits and for how long, and that nothing is lost or made up.

The world is a network of its own. One mount talks to the server directly; the other one through a relay whose port can
be cut off: packets are dropped, as by a cable that is pulled, and nobody is told.
"""

import contextlib
import ctypes
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest

from fuseclient.kernel.identity import Ids
from integration.box import Box, box, free_port, is_mounted, wait_until
from integration.submitting import job_numbers, submit
from integration.test_mount_fs import Mount, waits
from integration.test_two_mounts import signal_mount
from pfs.errors import Kind
from pfs.leasing.hub import LEASE_S
from tests.functional.posix import errno_of

CLONE_NEWNET = 0x40000000
DEADLINE_S = 30
SHORT_CUT_S, LONG_CUT_S = 4, 40
WAIT_S = 60  # for a machine that does much else
LARGE = os.urandom(1 << 20) * 3
HELD = "command: 'true'\nhold: true\n"

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("iptables") is None, reason="only root, with iptables, can cut a network"
)

RELAY = """
import socket, sys, threading
def carry(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
    except OSError:
        pass
    for end in (source, target):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=100)
print("ready", flush=True)
while True:
    client = listener.accept()[0]
    try:
        server = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    except OSError:
        client.close()
        continue
    for ends in ((client, server), (server, client)):
        threading.Thread(target=carry, args=ends, daemon=True).start()
"""


CUTTER = """
while read -r words; do iptables $words && echo done; done
"""

# closes when it is told to; its exit status is what close said
CLOSER = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, sys.argv[2].encode())
print("written", flush=True)
sys.stdin.read()
try:
    os.close(file)
except OSError as error:
    sys.exit(error.errno)
"""

PROGRAM = """
import os, sys
names = {"os": os}
for line in sys.stdin:
    try:
        print(repr(eval(line, names)), flush=True)
    except OSError as error:
        print(-error.errno, flush=True)
"""


@contextlib.contextmanager
def own_network() -> Iterator[None]:
    """Put this thread, and what it starts, into a network with nothing but loopback."""
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(CLONE_NEWNET) != 0:
            pytest.skip("this machine gives nobody a network of his own")
        try:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
            yield
        finally:
            assert libc.setns(before, CLONE_NEWNET) == 0
    finally:
        os.close(before)


class Program:
    """A process that is told by lines what to do, and says what came of it.

    Who has a file of a mount open and starts a program closes it in the child, and that waits for the server: so the
    tests themselves have none open.
    """

    def __init__(self, *command: str) -> None:
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self, line: str) -> None:
        """Let it do something."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def result(self) -> str:
        """Return what came of the first thing that nobody has asked for yet."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def do(self, line: str) -> str:
        self.start(line)
        return self.result()

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def program() -> Iterator[Program]:
    """A program that evaluates expressions; what fails is the negative errno."""
    made = Program(sys.executable, "-c", PROGRAM)
    yield made
    made.end()


@dataclass
class World:
    """A datacenter, and the home of its user on the server's disk and in two mounts.

    Attributes:
        cutter: changes what packets may pass.
        here: in the mount that is never cut off.
        there: in the one that can be.
    """

    box: Box
    cutter: Program
    relay_port: int
    disk: Path
    here: Path
    there: Path

    @property
    def jobs(self) -> Path:
        """The directory `jobs/` in the mount that can be cut off."""
        return self.box.root / "far/dc1/jobs"

    def cut(self, *ends: str) -> None:
        """Let no packet through between the relay and the second mount, or none of those that bear its port there."""
        for which in ends or ("--dport", "--sport"):
            assert self.cutter.do(f"-A INPUT -p tcp {which} {self.relay_port} -j DROP") == "done"

    def heal(self) -> None:
        """Let everything through again."""
        assert self.cutter.do("-F INPUT") == "done"

    def log(self) -> str:
        """Return what the second mount has logged."""
        logs = (self.box.root / "state/pfs").glob("*far*.log")
        return "".join(path.read_text() for path in logs)


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with own_network(), box() as made:
        made.start_server()
        port = free_port()
        relay = Program(sys.executable, "-c", RELAY, str(port), str(made.port))
        assert relay.result() == "ready"
        cutter = Program("sh", "-c", CUTTER)
        config = made.root / "far-config"
        config.write_text((made.root / "paddle-config").read_text().replace(f":{made.port}", f":{port}"))
        point = made.root / "far"
        point.mkdir()
        made.mount()
        env = {**made.env, "PADDLE_CONFIG": str(config)}
        mounted = made.run("paddle", "mount", "--no-shortcut", str(point), env=env)
        assert mounted.returncode == 0, mounted.stderr
        try:
            yield World(made, cutter, port, made.data / "home/demo", made.dc / "home/demo", point / "dc1/home/demo")
        finally:
            cutter.do("-F INPUT")
            made.run("paddle", "umount", "--lazy", str(point))
            if is_mounted(point):
                subprocess.run(["umount", "-l", str(point)], check=False)
            relay.end()
            cutter.end()


@pytest.fixture
def place(world: World, request: pytest.FixtureRequest) -> Iterator[World]:
    """A directory of the test's own, that both mounts have looked at; the network is whole, and a server runs."""
    name = request.node.name.partition("[")[0]
    (world.here / name).mkdir()
    wait_until((world.there / name).is_dir, WAIT_S)  # it may have been cut off until now
    assert os.listdir(world.there / name) == []
    disk, here, there = (each / name for each in (world.disk, world.here, world.there))
    yield World(world.box, world.cutter, world.relay_port, disk, here, there)
    world.heal()
    if "server" not in world.box.processes:
        world.box.start_server()


# ---- cut off


def test_over_a_short_cut_everything_just_waits(place: World, program: Program) -> None:
    (place.here / "known").write_text("known")
    (place.here / "new").write_text("new")
    assert (place.there / "known").read_text() == "known"
    program.do(f"(f := os.open({str(place.there / 'written')!r}, os.O_WRONLY | os.O_CREAT))")
    program.do("os.write(f, b'before ')")
    place.cut()
    copying = subprocess.Popen(["sh", "-c", "cat new > copy && sync copy"], cwd=place.there)
    assert (place.there / "known").read_text() == "known"
    assert program.do("os.write(f, b'and after')") == "9"
    program.start("os.fsync(f)")
    time.sleep(SHORT_CUT_S)
    assert not (place.disk / "copy").exists()
    place.heal()
    assert program.result() == "None"
    assert (place.disk / "written").read_bytes() == b"before and after"
    assert copying.wait(timeout=WAIT_S) == 0
    assert (place.disk / "copy").read_text() == "new"


def test_over_a_long_cut_and_a_restart_what_is_known_is_read_and_the_rest_fails_in_time(
    place: World, program: Program
) -> None:
    for number in range(20):
        (place.here / f"f{number}").write_text(f"text {number}")
    (place.here / "large").write_bytes(LARGE)
    (place.here / "unknown").mkdir()
    (place.here / "unknown/x").touch()
    for number in range(20):
        (place.there / f"f{number}").read_text()
    assert (place.there / "large").read_bytes() == LARGE
    program.do(f"(held := os.open({str(place.there / 'large')!r}, os.O_RDONLY))")
    program.do(f"(f := os.open({str(place.there / 'w')!r}, os.O_WRONLY | os.O_CREAT))")
    program.do("os.write(f, b'begun ')")
    assert program.do("os.fsync(f)") == "None"
    os.listdir(place.there)
    held = submit(place.box, "held-over-a-cut", HELD)
    job, jobs = place.jobs / held, job_numbers(place.box)
    program.do(f"(s := os.open({str(job / 'state')!r}, os.O_RDONLY))")
    assert program.do("os.pread(s, 64, 0)") == repr(b"WAITING\n")
    reader = subprocess.Popen(["cat", str(job / "log")], stderr=subprocess.DEVNULL)
    wait_until(lambda: waits(reader), WAIT_S)
    told = place.log().count("shown as it was then")
    place.cut()
    cut_s = time.monotonic()
    program.do("os.write(f, b'waiting')")
    place.box.end("server", signal.SIGKILL)
    restarted_s = time.monotonic()
    place.box.start_server()
    (place.here / "f0").write_text("changed meanwhile")
    assert time.monotonic() - restarted_s >= LEASE_S  # until then the other mount has trusted its copy
    (place.here / "f19").unlink()

    assert (place.there / "f0").read_text() == "text 0"  # nobody can know better
    assert {"large", "w", *(f"f{number}" for number in range(20))} <= set(os.listdir(place.there))
    assert (place.there / "w").stat().st_size == len(b"begun waiting")
    assert subprocess.run(["ls", "-l", place.there], capture_output=True, timeout=WAIT_S, check=True).stdout
    assert errno_of((place.there / "not there").stat) == errno.ENOENT
    assert program.do("len(os.pread(held, 1 << 20, 1 << 20))") == str(1 << 20)
    assert (place.there / "large").read_bytes() == LARGE
    assert place.log().count("shown as it was then") == told + 1

    program.start("os.fsync(f)")
    assert errno_of(lambda: os.listdir(place.there / "unknown")) == errno.ETIMEDOUT
    assert time.monotonic() - cut_s >= DEADLINE_S  # there was hope
    for number in range(100):  # and none any more: a hundred deadlines are more than this test has
        assert errno_of((place.there / f"unknown/{number}").stat) == errno.ETIMEDOUT
    assert errno_of((place.there / "new").mkdir) == errno.ETIMEDOUT
    assert reader.wait(timeout=WAIT_S) == 1
    assert errno_of((job / "state").read_bytes) == errno.ETIMEDOUT  # what may change any moment is not known
    assert errno_of(lambda: (job / "ctl").write_text("kill\n")) == errno.ETIMEDOUT
    assert errno_of(lambda: (place.jobs / "unheard.yaml").write_text(HELD)) == errno.ETIMEDOUT
    assert program.result() == str(-errno.ETIMEDOUT)
    assert (place.there / "f1").read_text() == "text 1"
    time.sleep(max(0.0, cut_s + LONG_CUT_S - time.monotonic()))
    place.heal()

    wait_until(lambda: program.do("os.fsync(f)") == "None", WAIT_S)
    assert (place.disk / "w").read_bytes() == b"begun waiting"
    assert (place.there / "f0").read_text() == "changed meanwhile"
    assert not (place.there / "f19").exists()
    assert os.listdir(place.there / "unknown") == ["x"]
    assert program.do("os.pread(held, 100, 1 << 20)") == repr(LARGE[:100])
    assert program.do("os.write(f, b', going on')") == "10"
    assert program.do("os.close(f)") == "None"
    assert (place.disk / "w").read_bytes() == b"begun waiting, going on"
    assert program.do("os.pread(s, 64, 0)") == repr(b"WAITING\n")
    assert ((job / "state").read_text(), job_numbers(place.box)) == ("WAITING\n", jobs)


def test_a_spec_that_is_closed_during_a_short_cut_is_one_job(place: World, tmp_path: Path) -> None:
    (tmp_path / "cut.yaml").write_text(HELD)
    before = job_numbers(place.box)
    os.listdir(place.jobs)
    place.cut()
    with subprocess.Popen(["cp", str(tmp_path / "cut.yaml"), str(place.jobs)]) as copying:
        wait_until(lambda: waits(copying), WAIT_S)
        assert job_numbers(place.box) == before
        place.heal()
        assert copying.wait(timeout=WAIT_S) == 0
    assert len(job_numbers(place.box) - before) == 1


def test_a_spec_whose_acknowledgement_is_lost_with_the_server_is_one_job(place: World) -> None:
    before = job_numbers(place.box)
    os.listdir(place.jobs)
    with subprocess.Popen(
        [sys.executable, "-c", CLOSER, str(place.jobs / "lost.yaml"), HELD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdin is not None
        assert writer.stdout.readline() == b"written\n"
        place.cut("--sport")  # the server hears, and is heard no more
        writer.stdin.close()
        wait_until(lambda: job_numbers(place.box) != before, WAIT_S)
        place.box.end("server", signal.SIGKILL)
        place.box.start_server()
        place.heal()
        assert writer.wait(timeout=WAIT_S) in (0, errno.ESTALE)
    assert len(job_numbers(place.box) - before) == 1


# ---- restarted


SYNCER = """
import os, sys
with open(sys.argv[1], "wb", buffering=0) as file:
    for number in range(100_000):
        file.write(b"%06d\\n" % number)
        try:
            os.fsync(file.fileno())
        except OSError as error:
            print(-1, flush=True)
            continue
        print(number, flush=True)
"""


def test_what_fsync_has_returned_for_is_there_when_the_server_is_killed(place: World) -> None:
    command = [sys.executable, "-c", SYNCER, str(place.there / "log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as syncer:
        assert syncer.stdout is not None
        for _ in range(2):
            heard = [int(syncer.stdout.readline()) for _ in range(20)]
            place.box.end("server", signal.SIGKILL)
            found = (place.disk / "log").read_text().split()
            assert found[: max(heard) + 1] == [f"{number:06d}" for number in range(max(heard) + 1)]
            place.box.start_server()
        last = int(syncer.stdout.readline())
        syncer.kill()
    found = (place.disk / "log").read_text().split()
    assert found[: last + 1] == [f"{number:06d}" for number in range(last + 1)]


def test_a_killed_server_leaves_what_was_read_and_what_is_open(place: World, program: Program) -> None:
    (place.here / "f").write_text("text")
    (place.here / "large").write_bytes(LARGE)
    assert (place.there / "f").read_text() == "text"
    program.do(f"(held := os.open({str(place.there / 'large')!r}, os.O_RDONLY))")
    program.do(f"(f := os.open({str(place.there / 'w')!r}, os.O_WRONLY | os.O_CREAT))")
    assert program.do("os.read(held, 1000)") == repr(LARGE[:1000])
    program.do("os.write(f, b'1')")
    place.box.end("server", signal.SIGKILL)
    assert (place.there / "f").read_text() == "text"
    assert program.do("os.read(held, 1000)") == repr(LARGE[1000:2000])
    program.do("os.write(f, b'2')")
    program.start("os.fsync(f)")
    place.box.start_server()
    assert program.result() == "None"
    assert (place.disk / "w").read_bytes() == b"12"
    assert program.do("os.pread(held, 1000, 2 << 20)") == repr(LARGE[:1000])


def test_a_server_that_is_told_to_end_takes_its_promises_back(place: World) -> None:
    (place.here / "f").write_text("text")
    assert (place.there / "f").read_text() == "text"
    note = place.box.data / "server/mounts"
    assert len(json.loads(note.read_text())["mounts"]) == 2
    assert place.box.end("server") == 0
    said = json.loads(note.read_text())
    assert (said["ended"], said["mounts"]) == (True, [])
    place.box.start_server()
    (place.here / "f").write_text("other")
    # before the other mount has heard of the server again, it shows what it remembers
    wait_until(lambda: (place.there / "f").read_text() == "other")


def test_what_was_written_is_waited_for_by_umount(place: World, program: Program) -> None:
    point = place.box.root / "leaving"
    point.mkdir()
    assert place.box.run("paddle", "mount", "--no-shortcut", str(point)).returncode == 0
    server = place.box.processes["server"]
    path = point / "dc1/home/demo" / place.here.name / "f"
    program.do(f"(f := os.open({str(path)!r}, os.O_WRONLY | os.O_CREAT))")
    program.do("os.write(f, b'1' * 4096)")
    server.send_signal(signal.SIGSTOP)
    try:
        program.do("os.write(f, b'2' * 4096)")
        program.start("os.close(f)")
        umount = subprocess.Popen(["umount", "-l", str(point)])
        time.sleep(1)
    finally:
        server.send_signal(signal.SIGCONT)
    assert program.result() == "None"
    assert umount.wait(timeout=WAIT_S) == 0
    assert (place.disk / "f").read_bytes() == b"1" * 4096 + b"2" * 4096


def test_a_mount_that_was_killed_says_so_and_is_mounted_again(place: World, program: Program) -> None:
    point = place.box.root / "killed"
    point.mkdir()
    home = point / "dc1/home/demo"
    assert place.box.run("paddle", "mount", str(point)).returncode == 0
    program.do(f"(f := os.open({str(home / place.here.name / 'f')!r}, os.O_WRONLY | os.O_CREAT))")
    program.do("os.write(f, b'1')")
    signal_mount(point, signal.SIGKILL)
    wait_until(lambda: errno_of(home.stat) == errno.ENOTCONN, WAIT_S)
    assert program.do("os.write(f, b'2')") == str(-errno.ENOTCONN)
    assert place.box.run("paddle", "mount", str(point)).returncode == 0
    assert (home / place.here.name / "f").read_text() == "1"
    assert program.do("os.write(f, b'2')") == str(-errno.ENOTCONN)
    assert place.box.run("paddle", "umount", str(point)).returncode == 0


# ---- errors


@pytest.fixture(scope="module")
def bad(world: World) -> Iterator[tuple[Mount, Path]]:
    """A disk that fails when it shall, in the home of the user; and where it is in the mounts."""
    point = world.disk / "bad"
    point.mkdir(mode=0o777)
    disk = Mount(point, Ids.NUMERIC, "allow_other")
    yield disk, Path("bad/dc1")
    disk.end()


def written(path: Path, size_bytes: int, *, sync: bool) -> list[int | None]:
    """Write a file in pieces; return the errors of the writes, of fsync and of close."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
    errors = []
    piece = bytes(65536)
    for _ in range(-(-size_bytes // len(piece))):
        errors.append(errno_of(lambda: os.write(fd, piece)))
    if sync:
        errors.append(errno_of(lambda: os.fsync(fd)))
    errors.append(errno_of(lambda: os.close(fd)))
    return [each for each in errors if each is not None]


ERRORS = {Kind.IO: errno.EIO, Kind.NO_SPACE: errno.ENOSPC, Kind.QUOTA: errno.EDQUOT, Kind.READ_ONLY: errno.EROFS}


@pytest.mark.parametrize("size_bytes", [1, 5 << 20])
@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_of_the_servers_disk_is_told_to_who_writes(
    world: World, bad: tuple[Mount, Path], kind: Kind, size_bytes: int
) -> None:
    disk, where = bad
    for mount in (world.here, world.there):
        path = mount / where / "f"
        assert written(path, size_bytes, sync=False) == []
        disk.ask("fail", "write", *[kind] * 3)
        told = written(path, size_bytes, sync=False)
        disk.set("failures", {})
        assert set(told) == {ERRORS[kind]}
        assert written(path, size_bytes, sync=True) == []  # and once only


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_of_the_servers_disk_is_told_to_who_asks_for_fsync(
    world: World, bad: tuple[Mount, Path], kind: Kind
) -> None:
    disk, where = bad
    disk.ask("fail", "fsync", kind)
    assert written(world.there / where / "f", 65536, sync=True) == [ERRORS[kind]]


def test_a_full_disk_is_told_and_what_was_there_stays(world: World, tmp_path: Path) -> None:
    full = world.disk / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=777", "none", str(full)], check=True)
    try:
        for mount in (world.here, world.there):
            (mount / "full/old").write_text("old")
            assert set(written(mount / "full/new", 8 << 20, sync=True)) == {errno.ENOSPC}
            assert errno_of(partial((mount / "full/more").write_bytes, bytes(65536))) == errno.ENOSPC
            assert (mount / "full/old").read_text() == "old"
            (mount / "full/new").unlink()
            assert written(mount / "full/new", 1 << 20, sync=True) == []
            (mount / "full/new").unlink()
    finally:
        subprocess.run(["umount", "-l", str(full)], check=True)


@pytest.mark.parametrize("error", [MemoryError("none left"), RecursionError("deep"), RuntimeError("a defect")])
def test_what_nobody_expects_costs_one_call(bad: tuple[Mount, Path], error: Exception) -> None:
    disk, _ = bad
    path = disk.point / "dc1/f"
    path.write_text("text")
    disk.set("failures", {"open": [error]})
    assert errno_of(path.read_text) == errno.EIO
    assert path.read_text() == "text"
