"""A mount of a server that means harm: its programs get an errno in time, and the other datacenter notices nothing."""

import contextlib
import errno
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.box import BIN, free_port, is_mounted, wait_until
from integration.rogue import BIG, WAYS

ROOT = Path(__file__).parent.parent
CALLS_TIMEOUT_S = 200  # for all calls together; each has its deadline, and some ask more than once
RSS_BYTES_MAX = 300 << 20
RSS_ENDLESS_BYTES_MAX = 512 << 20  # a listing of a million names is the most that is taken, and one at a time goes on
# what programs are told: no sense, moved, unreachable, and what a server that behaves well would say
ERRNOS = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOENT, errno.ENODATA, errno.EEXIST}
BREAKING = {"oversize", "half", "deep", "text", "bytes", "hangs up", "trickle"}  # each question costs the connection
# there any errno may be told: it is the server's own, or that of another type
ORDINARY = {"refusals", "types", *BREAKING}
SLOW = {"endless", *BREAKING}  # each question takes as long as it may: all are asked at once
CALLS = """
import errno, json, os, sys, threading
os.chdir(sys.argv[1])
def read(name, size=-1):
    with open(name, "rb", buffering=0) as file:
        return len(file.read(size))
def write(name):
    with open(name, "wb", buffering=0) as file:
        file.write(b"x" * 300_000)
calls = {
    "list": lambda: len(os.listdir(".")),
    "list below": lambda: os.listdir("dir"),
    "stat": lambda: os.stat("good").st_size,
    "stat nothing": lambda: os.stat("nothing").st_size,
    "read": lambda: read("good", 10),
    "read below": lambda: [read(f"dir/{name}", 10) for name in "abc"],
    "read big": lambda: read("big", 1 << 21),
    "write": lambda: write("new"),
    "mkdir": lambda: os.mkdir("newdir"),
    "rename": lambda: os.rename("newdir", "otherdir"),
    "rmdir": lambda: os.rmdir("otherdir"),
    "symlink": lambda: os.symlink("a", "link"),
    "readlink": lambda: os.readlink("link"),
    "unlink": lambda: [os.unlink(name) for name in ("link", "new")],
    "chmod": lambda: os.chmod("good", 0o600),
    "truncate": lambda: os.truncate("good", 3),
    "xattr": lambda: os.getxattr("good", "user.x"),
    "listxattr": lambda: os.listxattr("good"),
    "statfs": lambda: os.statvfs(".").f_blocks,
}
def run(name):
    try:
        calls[name]()
    except OSError as error:
        os.write(1, json.dumps([name, error.errno]).encode() + bytes([10]))  # in one piece, whoever else writes
if sys.argv[2] == "at once":  # but for those for which the kernel lets the others wait
    alone = {"mkdir", "rename", "rmdir", "symlink", "readlink", "unlink"}
    threads = [threading.Thread(target=run, args=[name]) for name in calls if name not in alone]
    for thread in threads:
        thread.start()
else:
    for name in calls:
        run(name)
"""


class Server:
    """A rogue, which behaves well until it is told otherwise."""

    def __init__(self) -> None:
        self.port = free_port()
        command = [sys.executable, "-m", "integration.rogue", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._hear("well")

    def be(self, way: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(way.encode() + b"\n")
        self.process.stdin.flush()
        self._hear(way)

    def _hear(self, way: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip().decode() == way

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


@dataclass
class Mounted:
    """A mount of a rogue, `bad`, and of a server that behaves well, `fine`."""

    rogue: Server
    point: Path
    process: subprocess.Popen[bytes]
    log: Path

    def calls(self, how: str) -> list[tuple[str, int]]:
        """Do everything that a program may do with the rogue's files; return what failed, and how."""
        command = [sys.executable, "-c", CALLS, str(self.point / "bad"), how]
        done = subprocess.run(command, capture_output=True, text=True, timeout=CALLS_TIMEOUT_S, check=True)
        return [tuple(json.loads(line)) for line in done.stdout.splitlines()]

    def forget_memory(self) -> None:
        """Count anew how much memory the mount needs at most."""
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def memory_bytes(self) -> int:
        """How much memory the mount has needed at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024

    def is_well(self) -> bool:
        """Tell whether the rogue's files are seen as they are."""
        with contextlib.suppress(OSError):
            names = set(os.listdir(self.point / "bad"))
            return {"good", "big", "dir"} <= names and (self.point / "bad/dir/a").read_bytes() == b"a"
        return False


@pytest.fixture(scope="module")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    where = tmp_path_factory.mktemp("rogue")
    point, log = where / "pfs", where / "log"
    point.mkdir()
    servers = {"bad": Server(), "fine": Server()}
    text = "".join(
        f"{name}:\n  username: demo\n  token: pfs1.x\n  endpoint: http://127.0.0.1:{server.port}\n"
        for name, server in servers.items()
    )
    (where / "config").write_text(text)
    (where / "config").chmod(0o600)
    env = {**os.environ, "PADDLE_CONFIG": str(where / "config"), "HOME": str(where), "XDG_STATE_HOME": str(where)}
    with open(log, "wb") as file:
        process = subprocess.Popen([BIN / "paddle", "mount", "-f", point], env=env, stdout=file, stderr=file)
    try:
        wait_until(lambda: is_mounted(point) or process.poll() is not None)
        assert process.poll() is None, log.read_text()
        yield Mounted(servers["bad"], point, process, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
            for server in servers.values():
                server.end()


# all of them take six minutes; where there is little time some stand for the others
FEW = {"names", "numbers", "types", "words", "half", "refusals", "recalls", "bulk rubbish"}
TRIED = WAYS if "PFS_HOSTILE_ALL" in os.environ else [way for way in WAYS if way in FEW]


@pytest.mark.parametrize("way", [way for way in TRIED if way != "well"])
def test_whatever_the_server_does_programs_get_an_errno_and_the_mount_goes_on(mounted: Mounted, way: str) -> None:
    mounted.rogue.be("well")
    wait_until(mounted.is_well, timeout_s=60)
    mounted.forget_memory()
    mounted.rogue.be(way)
    failed = mounted.calls("at once" if way in SLOW else "one by one")
    assert (mounted.point / "fine/good").read_bytes() == b"good\n"
    assert (mounted.point / "fine/big").read_bytes() == BIG
    mounted.rogue.be("well")
    wait_until(mounted.is_well, timeout_s=60)
    assert {met for _, met in failed} <= ERRNOS if way not in ORDINARY else True, failed
    assert mounted.process.poll() is None
    text = mounted.log.read_text()
    assert "Traceback" not in text, text[-3000:]
    assert len(text) < 1 << 20
    assert mounted.memory_bytes() < (RSS_ENDLESS_BYTES_MAX if way == "endless" else RSS_BYTES_MAX)
