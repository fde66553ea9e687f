"""Waiting for jobs without a loop, by poll(2) and its kin, and many who read one log at once: on a real mount."""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fuseclient.kernel.fresh import ALWAYS, BYTES
from integration.bench.streams import mount, until_settled, waits
from integration.box import WAIT_S, Box, box, wait_until

PROGRAMS = Path(__file__).parent / "programs"
README = Path(__file__).parent.parent / "README.md"
READERS = 200
WAYS = ("poll", "select", "epoll", "selectors", "asyncio", "edges")


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.start_node()
        made.mount()
        yield made


def submit(world: Box, name: str, command: str) -> Path:
    """Drop a job; return its directory."""
    (world.dc / "jobs" / f"{name}.yaml").write_text(f"command: {command!r}\n")
    return world.dc / "jobs" / os.readlink(world.dc / "jobs" / name)


def held(world: Box, name: str, command: str = "true") -> Path:
    """Drop a job that waits until it is released."""
    (world.dc / "jobs" / f"{name}.yaml").write_text(f"command: {command!r}\nhold: true\n")
    return world.dc / "jobs" / os.readlink(world.dc / "jobs" / name)


def tell(job: Path, word: str) -> None:
    """Write to its `ctl`."""
    (job / "ctl").write_text(f"{word}\n")


def ready(file: int, wanted: int = ALWAYS | select.POLLPRI, limit_s: float = 0.0) -> int:
    """Return what poll(2) says of an open file."""
    poll = select.poll()
    poll.register(file, wanted)
    return sum(events for _, events in poll.poll(limit_s * 1000))


def start(*words: object) -> subprocess.Popen[str]:
    return subprocess.Popen([str(word) for word in words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def said(process: subprocess.Popen[str]) -> list[str]:
    """Return what a program said; it has to end well."""
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, err
    return out.split()


def polls(process: subprocess.Popen[str]) -> bool:
    """Tell whether a program sleeps in poll(2) or the like, and not in a call to the mount."""
    where = Path(f"/proc/{process.pid}/wchan").read_text()
    return "poll" in where or "select" in where


@pytest.fixture(scope="module")
def in_c(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    assert compiler is not None, "this test needs a C compiler: install gcc and libc6-dev"
    program = tmp_path_factory.mktemp("programs") / "await_state"
    subprocess.run([compiler, "-Wall", "-Werror", "-o", program, PROGRAMS / "await_state.c"], check=True)
    return program


@pytest.mark.parametrize("way", WAYS)
def test_python_waits_for_a_state_without_a_loop(world: Box, way: str) -> None:
    job = held(world, f"python-{way}")
    waiting = start(sys.executable, PROGRAMS / "await_state.py", way, job / "state", "SUCCEEDED", "FAILED")
    assert waiting.stdout is not None
    assert waiting.stdout.readline().strip() == "WAITING"
    wait_until(lambda: polls(waiting))
    tell(job, "release")
    assert said(waiting)[-1] == "SUCCEEDED"


def test_c_waits_for_a_state_without_a_loop(world: Box, in_c: Path) -> None:
    job = held(world, "c")
    waiting = start(in_c, job / "state", "SUCCEEDED", "FAILED")
    assert waiting.stdout is not None
    assert waiting.stdout.readline().strip() == "WAITING"
    wait_until(lambda: polls(waiting))
    tell(job, "release")
    assert said(waiting)[-1] == "SUCCEEDED"


def test_c_waits_for_a_line_of_a_status_without_a_loop(world: Box, in_c: Path) -> None:
    job = held(world, "c-status")
    waiting = start(in_c, job / "status", "state SUCCEEDED", "state FAILED")
    assert waiting.stdout is not None
    assert "state WAITING\n" in iter(waiting.stdout.readline, "")
    wait_until(lambda: polls(waiting))
    tell(job, "release")
    assert "SUCCEEDED" in said(waiting)


@pytest.mark.parametrize("name", ["state", "status", "why", "events"])
def test_a_text_of_a_job_is_ready_until_this_opening_has_read_it_as_it_is_now(world: Box, name: str) -> None:
    job = held(world, f"text-{name}")
    texts = [os.open(job / name, os.O_RDONLY) for _ in range(2)]
    before = [os.pread(each, 1 << 16, 0) for each in texts]
    assert [ready(each) for each in texts] == [0, 0]
    tell(job, "kill")
    assert (job / "wait").read_text() != ""  # nothing more happens to it
    assert [ready(each, limit_s=WAIT_S) for each in texts] == [BYTES | select.POLLPRI] * 2
    now = os.pread(texts[0], 1 << 16, 0)
    assert now != before[0]
    assert [ready(each) for each in texts] == [0, BYTES | select.POLLPRI]  # each for itself
    assert os.pread(texts[1], 1 << 16, 0) == now
    assert ready(texts[1]) == 0
    for each in texts:
        os.close(each)


def test_two_programs_and_two_threads_wait_for_one_state(world: Box, in_c: Path) -> None:
    job = held(world, "two")
    waiting = [start(in_c, job / "state", "SUCCEEDED") for _ in range(2)]
    shared = os.open(job / "state", os.O_RDONLY)
    assert os.pread(shared, 64, 0) == b"WAITING\n"
    with ThreadPoolExecutor(2) as threads:
        woken = [threads.submit(ready, shared, select.POLLPRI, WAIT_S) for _ in range(2)]
        wait_until(lambda: all(polls(each) for each in waiting))
        tell(job, "release")
        assert [each.result() & select.POLLPRI for each in woken] == [select.POLLPRI] * 2
    assert [said(each)[-1] for each in waiting] == ["SUCCEEDED"] * 2
    os.close(shared)


def test_who_polls_with_a_time_limit_is_let_go_at_it(world: Box) -> None:
    job = held(world, "limit")
    for name, once in (("state", b"WAITING\n"), ("log", None), ("wait", None)):
        file = os.open(job / name, os.O_RDONLY | os.O_NONBLOCK)
        if once is None:
            with contextlib.suppress(BlockingIOError):
                while os.read(file, 1 << 16):
                    pass
        else:
            assert (ready(file), os.read(file, 64)) == (BYTES | select.POLLPRI, once)
        assert (ready(file), ready(file, limit_s=0.1)) == (0, 0)
        os.close(file)
    tell(job, "kill")


def test_a_descriptor_that_waits_is_opened_again_as_one_that_does_not(world: Box) -> None:
    job = held(world, "again")
    waits = os.open(job / "wait", os.O_RDONLY)
    file = os.open(f"/proc/self/fd/{waits}", os.O_RDONLY | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        os.read(file, 64)
    tell(job, "kill")
    assert ready(file, limit_s=WAIT_S) & select.POLLIN
    assert os.read(file, 64) == os.read(waits, 64) != b""
    os.close(file)
    os.close(waits)


def test_an_ordinary_file_is_always_ready(world: Box) -> None:
    file = os.open(world.dc / "home/demo/ordinary", os.O_RDWR | os.O_CREAT)
    assert ready(file) == ALWAYS
    os.write(file, b"x")
    assert ready(file) == ALWAYS
    os.close(file)
    job = held(world, "always")
    for name in ("log.txt", "ctl"):
        with open(job / name, "rb") as text:
            assert ready(text.fileno()) & select.POLLIN
    tell(job, "kill")


def test_a_log_is_read_to_its_end_by_who_never_waits_in_a_read(world: Box) -> None:
    lines = [f"line {number}" for number in range(20)]
    job = held(world, "loop", "for n in $(seq 0 19); do echo line $n; sleep 0.02; done")
    log = os.open(job / "log", os.O_RDONLY | os.O_NONBLOCK)
    tell(job, "release")
    text = b""
    while True:
        assert ready(log, limit_s=WAIT_S) & select.POLLIN
        try:
            piece = os.read(log, 1 << 16)
        except BlockingIOError:
            continue
        if not piece:
            break
        text += piece
    assert ready(log) & select.POLLIN  # its end stays
    os.close(log)
    assert [line for line in lines if line in text.decode()] == lines
    assert text == (job / "log.txt").read_bytes()


def test_the_wait_for_a_job_is_readable_when_it_is_over(world: Box) -> None:
    job = held(world, "over", "exit 3")
    wait = os.open(job / "wait", os.O_RDONLY)
    assert ready(wait) == 0
    tell(job, "release")
    assert ready(wait, limit_s=WAIT_S) & select.POLLIN
    assert os.read(wait, 64) == b"3\n"
    os.close(wait)


def test_a_poller_that_is_killed_leaves_the_mount_as_it_was(world: Box, in_c: Path) -> None:
    job = held(world, "killed")
    waiting = start(in_c, job / "state", "SUCCEEDED")
    assert waiting.stdout is not None
    assert waiting.stdout.readline().strip() == "WAITING"
    wait_until(lambda: polls(waiting))
    waiting.kill()
    waiting.communicate(timeout=WAIT_S)
    assert waiting.returncode == -signal.SIGKILL
    tell(job, "release")
    assert (job / "wait").read_text() == "0\n"


def test_who_polls_goes_on_when_the_server_is_restarted(world: Box, in_c: Path) -> None:
    job = held(world, "restart", "echo done")
    waiting = start(in_c, job / "state", "SUCCEEDED")
    log = os.open(job / "log", os.O_RDONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while os.read(log, 1 << 16):
            pass
    wait_until(lambda: polls(waiting))
    assert ready(log) == 0
    with ThreadPoolExecutor(1) as threads:
        woken = threads.submit(ready, log, select.POLLIN, WAIT_S)
        world.end("server")
        world.start_server()
        assert (job / "state").read_text() == "WAITING\n"
        tell(job, "release")
        assert woken.result() & select.POLLIN
    assert said(waiting)[-1] == "SUCCEEDED"
    os.close(log)


def test_the_example_of_the_readme_waits_for_the_first_of_several_jobs(world: Box) -> None:
    example = README.read_text().partition("**Waiting without a loop.**")[2].partition("```python\n")[2]
    program = example.partition("```")[0]
    jobs = [held(world, f"first-{number}") for number in range(3)]
    waiting = subprocess.Popen(
        [sys.executable, "-c", program], cwd=world.dc, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until(lambda: polls(waiting))
    tell(jobs[1], "release")
    assert said(waiting) == ["first-1", "0"]
    for job in (jobs[0], jobs[2]):
        tell(job, "kill")


def test_hundreds_read_one_log_and_each_is_let_go_by_ctrl_c_alone(world: Box) -> None:
    job = held(world, "many", "echo done")
    with mount(world, "many") as other:

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{other.pid}/fd"))

        log = other.dc / "jobs" / job.name / "log"
        readers = [subprocess.Popen(["cat", str(log)], stdout=subprocess.PIPE) for _ in range(READERS)]
        wait_until(lambda: all(waits(each.pid) for each in readers))
        for each in readers[: READERS // 2]:
            each.send_signal(signal.SIGINT)
            each.communicate(timeout=WAIT_S)
            assert each.returncode == -signal.SIGINT
        assert all(each.poll() is None for each in readers[READERS // 2 :])
        assert descriptors() < 2 * READERS
        assert os.stat(other.dc / "home/demo").st_mode  # others are answered
        tell(job, "release")
        texts = {each.communicate(timeout=WAIT_S)[0] for each in readers[READERS // 2 :]}
        assert texts == {(job / "log.txt").read_bytes()}
        wait_until(lambda: descriptors() < READERS // 4)


def test_who_reads_quiet_logs_asks_the_server_nothing(world: Box) -> None:
    job = held(world, "idle")
    with mount(world, "idle") as other:
        log = other.dc / "jobs" / job.name / "log"
        readers = [subprocess.Popen(["cat", str(log)], stdout=subprocess.DEVNULL) for _ in range(READERS)]
        wait_until(lambda: all(waits(each.pid) for each in readers))
        until_settled([other.pid, world.processes["server"].pid])
        slept = [voluntary(each.pid) for each in readers]
        until_settled([other.pid])
        assert sum(voluntary(each.pid) for each in readers) == sum(slept)  # none was woken
        for each in readers:
            each.kill()
            each.wait(WAIT_S)
    tell(job, "kill")


def voluntary(pid: int) -> int:
    """Return how often a process went to sleep."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("voluntary_ctxt_switches")))


def test_with_nostream_whoever_reads_everything_gets_what_there_is(world: Box, tmp_path: Path) -> None:
    job = submit(world, "backup", "echo begin; sleep 600")
    wait_until(lambda: (job / "log.txt").read_text().endswith("begin\n"))
    point = tmp_path / "mount"
    point.mkdir()
    assert world.run("paddle", "mount", "-o", "nostream", str(point)).returncode == 0
    try:
        backup = subprocess.run(
            ["tar", "c", "-C", point / "dc1/jobs", job.name], stdout=subprocess.PIPE, timeout=WAIT_S, check=True
        ).stdout
        (tmp_path / "there").mkdir()
        subprocess.run(["tar", "x", "-C", tmp_path / "there"], input=backup, check=True)
        kept = tmp_path / "there" / job.name
        assert (kept / "log").read_bytes() == (kept / "log.txt").read_bytes() == (job / "log.txt").read_bytes()
        assert (kept / "wait").read_bytes() == b""
        assert (point / "dc1/jobs" / job.name / "log").stat().st_size == (job / "log.txt").stat().st_size
        tell(job, "kill")
        wait_until((job / "exit_code").exists)
        assert (point / "dc1/jobs" / job.name / "wait").read_text() == (job / "exit_code").read_text()
    finally:
        assert world.run("paddle", "umount", str(point)).returncode == 0
