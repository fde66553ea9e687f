"""What is read from /proc, from a made-up one and from the real one."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuseclient.kernel import procs
from fuseclient.kernel.procs import Holder, Process, Watched

SIGNALED = 0x400
KILLED, EXITED = 9, 3 << 8


class Proc:
    """A made-up /proc."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def process(
        self,
        pid: int,
        *,
        parent: int = 1,
        flags: int = 0,
        exit_code: int = 0,
        pending: int = 0,
        wchan: str = "0",
        state: str = "S",
    ) -> None:
        place = self.root / str(pid)
        for name in ("fd", "fdinfo", f"task/{pid}"):
            (place / name).mkdir(parents=True)
        fields = [state, parent, 0, 0, 0, 0, flags, *[0] * 12, 77, *[0] * 29, exit_code]
        (place / "stat").write_text(f"{pid} (a) S (b) {' '.join(map(str, fields))}\n")
        masks = f"SigPnd:\t{pending:016x}\nShdPnd:\t{0:016x}\nSigBlk:\t{0:016x}\n"
        (place / "status").write_text(f"Name:\tx\nTgid:\t{pid}\n{masks}")
        (place / "wchan").write_text(wchan)

    def descriptor(self, pid: int, number: int, link: str, flags: int, ino: int | None) -> None:
        (self.root / str(pid) / "fd" / str(number)).symlink_to(link)
        text = f"pos:\t0\nflags:\t0{flags:o}\nmnt_id:\t9\n" + (f"ino:\t{ino}\n" if ino is not None else "")
        (self.root / str(pid) / "fdinfo" / str(number)).write_text(text)


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    (tmp_path / "self").mkdir()
    return Proc(tmp_path)


def test_holders_are_known_by_inode_number_whatever_the_path_before_it(proc: Proc) -> None:
    proc.process(10)
    proc.descriptor(10, 3, "/home/ann/pfs/dc1/jobs/a.yaml", os.O_WRONLY, 1000)
    proc.descriptor(10, 4, "/home/ann/pfs/dc1/jobs/a.yaml", os.O_RDONLY, 1000)
    proc.process(11)
    proc.descriptor(11, 3, "/elsewhere/a.yaml", os.O_RDWR, 1001)
    proc.descriptor(11, 4, "/in/a/container/dc1/jobs/a.yaml (deleted)", os.O_RDWR, 1000)
    proc.descriptor(11, 5, "socket:[99]", os.O_RDWR, 1000)
    found = procs.holders({1000: "dc1/jobs/a.yaml", 1002: "dc1/b"}, str(proc))
    assert sorted(found[1000], key=str) == [Holder(10, False), Holder(10, True), Holder(11, True)]
    assert found[1002] == []


def test_holders_are_known_by_their_whole_path_where_the_kernel_is_old(proc: Proc) -> None:
    proc.process(10)
    proc.descriptor(10, 3, "/pfs/dc1/jobs/a.yaml", os.O_WRONLY, None)
    proc.descriptor(10, 4, "/pfs/dc2/jobs/a.yaml", os.O_WRONLY, None)
    assert procs.holders({1000: "dc1/jobs/a.yaml"}, str(proc)) == {1000: [Holder(10, True)]}


@pytest.mark.parametrize(
    ("flags", "exit_code", "pending", "dying"),
    [
        (SIGNALED, KILLED, 0, True),
        (SIGNALED, signal.SIGTERM, 0, True),
        (0, KILLED, 0, False),
        (SIGNALED, 0, 0, False),  # a fellow thread called exit(0)
        (SIGNALED, EXITED, 0, False),
        (0, EXITED, 0, False),
        (0, 0, 1 << (signal.SIGKILL - 1), True),
        (0, 0, 1 << (signal.SIGINT - 1), False),  # it may have a handler
    ],
)
def test_who_is_ended_by_a_signal(proc: Proc, flags: int, exit_code: int, pending: int, dying: bool) -> None:
    proc.process(10, flags=flags, exit_code=exit_code, pending=pending)
    assert procs.is_dying(Process(10, 10, 77), str(proc)) is dying


def test_a_later_process_with_the_same_number_is_somebody_else(proc: Proc) -> None:
    proc.process(10, flags=SIGNALED, exit_code=KILLED)
    assert not procs.is_dying(Process(10, 9, 76), str(proc))
    assert procs.identify(10, str(proc)) == Process(10, 10, 77)
    assert procs.identify(12, str(proc)) is None


@pytest.mark.parametrize(("wchan", "dies"), [("request_wait_answer", True), ("0", True), ("do_wait", False)])
def test_a_dying_descendant_is_found(proc: Proc, wchan: str, dies: bool) -> None:
    proc.process(10)
    proc.process(11, parent=10)
    proc.process(12, parent=11, flags=SIGNALED, exit_code=KILLED, wchan=wchan)
    proc.process(13)
    assert procs.dies_under(Process(10, 10, 77), str(proc)) is dies
    assert not procs.dies_under(Process(13, 13, 77), str(proc))


def test_a_descendant_that_is_dead_closes_nothing_any_more(proc: Proc) -> None:
    proc.process(10)
    proc.process(11, parent=10, flags=SIGNALED, exit_code=KILLED, state="Z")
    assert not procs.dies_under(Process(10, 10, 77), str(proc))


def test_who_waits_for_fuse(proc: Proc) -> None:
    for pid, wchan in ((10, "request_wait_answer"), (11, "do_wait"), (12, "0")):
        proc.process(pid, wchan=wchan)
    assert [procs.waits_for_fuse(pid, str(proc)) for pid in (10, 11, 12, 13)] == [True, False, None, None]


def test_this_process_is_who_it_is() -> None:
    found = procs.identify(threading.get_native_id())
    assert found is not None
    assert (found.tid, found.group) == (threading.get_native_id(), os.getpid())
    assert not procs.is_dying(found)
    assert threading.get_native_id() in procs.threads(os.getpid())


def test_this_process_holds_what_it_opened(tmp_path: Path) -> None:
    with open(tmp_path / "f", "w") as file:
        number = os.fstat(file.fileno()).st_ino
        assert procs.holders({number: "f"})[number] == [Holder(os.getpid(), True)]
    assert procs.holders({number: "f"})[number] == []


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_signal_that_waits_is_seen_unless_it_is_blocked() -> None:
    program = (
        "import signal; signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); print(flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        watched = Watched(process.pid)
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGSTOP)  # a stopped process leaves its signals waiting
        wait_until(lambda: "stopped" in Path(f"/proc/{process.pid}/status").read_text())
        assert not watched.signalled()
        process.send_signal(signal.SIGTERM)
        assert watched.signalled()
        process.kill()
        process.wait(5)
        with pytest.raises(ProcessLookupError):
            watched.signalled()
        watched.close()


def test_nobody_can_be_watched_who_is_not_there() -> None:
    with pytest.raises(OSError, match="No such file"):
        Watched(2**22 + 1)
