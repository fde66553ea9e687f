"""Half-written specs on a real mount: whoever dies over one leaves no job, and a whole one is exactly one job.

Which prefixes are tried in each way is drawn at random; PFS_TEST_SEED repeats a draw, and PFS_DROPS_ALL tries each of
them in every way, as `script/slow` does. `tests/jobd/files/test_halves.py` tries all of them on the part that decides.
"""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import TypeVar

import pytest

from fuseclient.status import ATTRIBUTE
from integration.box import Box, free_port, wait_until
from integration.test_away import RELAY
from jobd.spec.spec import SpecError, parse_spec
from pfs.client.web import WebClient
from tests.jobd.spec.realspecs import REAL

EACH = 12  # prefixes in each way
OPEN_MAX = 400  # at once, in one process
WRITERS_MAX = 32  # processes at once
WAIT_S = 120
NUMBERS = count()
T = TypeVar("T")

# what the specs name is there, and belongs to who submits them
SPECS = {name: text.replace(b"home/ann", b"home/demo") for name, text in REAL.items()}
ALL = [(name, size) for name, text in SPECS.items() for size in range(1, len(text))]
Cut = tuple[str, bytes]  # the ending of a file's name; what is written of a spec
SIGNALS = ("TERM", "INT", "HUP", "QUIT", "ABRT", "SEGV", "PIPE", "USR1", "XCPU")
SHELLS = [(shell, name) for shell in ("bash", "dash") for name in ("KILL", "TERM")]


def sample(number: int = EACH) -> list[tuple[str, int]]:
    """Return names of specs and sizes of a part of them."""
    if "PFS_DROPS_ALL" in os.environ:
        return ALL
    seed = int(os.environ.get("PFS_TEST_SEED", "0")) or random.randrange(1 << 30)
    print(f"PFS_TEST_SEED={seed}")
    return random.Random(seed).sample(ALL, number)


def halves(number: int = EACH) -> list[Cut]:
    """Return some halves of specs."""
    return [(Path(name).suffix, SPECS[name][:size]) for name, size in sample(number)]


def batches(things: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield things in groups of a size."""
    return (things[start : start + size] for start in range(0, len(things), size))


@contextmanager
def world_in(root: Path) -> Iterator[Box]:
    """Give a datacenter with a server and a mount, in which each of the specs can be submitted."""
    made = Box(root)
    try:
        made.run("jobd", "alias", "gtx1070", "GeForce GTX 1070", "--data-root", str(made.data))
        made.run("jobd", "alias", "gtx1060", "GeForce GTX 1060", "--data-root", str(made.data))
        made.start_server()
        made.mount()
        for folder in ("digits", "data/imagenet", "job_word_emb", "word_emb", "w"):
            (made.dc / "home/demo" / folder).mkdir(parents=True)
        (made.dc / "secrets/wandb").write_text("hush")
        for _ in range(16):
            (made.dc / "jobs/before.yaml").write_text("command: 'true'\n")
        for name, text in SPECS.items():
            (root / name).write_bytes(text)
        yield made
    finally:
        # before anybody asks for jobs that are not over: those that wait here would be waited for
        made.run("paddle", "umount", "--lazy", str(made.mountpoint))
        made.close()


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with (
        tempfile.TemporaryDirectory(prefix="pfs-box-", ignore_cleanup_errors=True) as directory,
        world_in(Path(directory)) as made,
    ):
        yield made


def jobs(world: Box) -> list[int]:
    """Return the numbers of all jobs, as the server has them."""
    with WebClient(world.url, world.token) as client:
        return sorted(int(entry["name"]) for entry in client.list("jobs") if entry["name"].isdigit())


def is_at_rest(world: Box) -> bool:
    """Tell whether the mount has a connection, and nothing open."""
    status = json.loads(os.getxattr(world.mountpoint, ATTRIBUTE))
    return status["open_files"] == 0 and all(server["connected"] for server in status["servers"].values())


def settled(world: Box) -> None:
    """Wait until the server has heard of everything that was closed: whatever is submitted now comes behind that."""
    wait_until(lambda: is_at_rest(world), WAIT_S)
    drop = fresh(world, ".yaml")
    drop.write_text("command: 'true'\n")
    assert drop.with_suffix("").is_symlink()


def fresh(world: Box, suffix: str) -> Path:
    """Return where a drop of its own goes."""
    return world.dc / f"jobs/d{next(NUMBERS)}{suffix}"


@contextmanager
def no_job(world: Box) -> Iterator[None]:
    """Fail if what is done here makes a job."""
    before = jobs(world)
    yield
    settled(world)
    assert len(jobs(world)) == len(before) + 1  # the one of `settled`


def started(act: Callable[[], None]) -> int:
    """Begin to do something in a process of its own; return its number."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            act()
            code = 0
        finally:
            os._exit(code)
    return pid


def ended(pid: int) -> int:
    """Wait for the end of a process, and return it as os.waitstatus_to_exitcode(3) has it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def child(act: Callable[[], None]) -> int:
    """Do something in a process of its own; return how that ended."""
    return ended(started(act))


def children(acts: Sequence[Callable[[], None]]) -> set[int]:
    """Do all of these, each in a process of its own and many at once; return how those ended."""
    found: set[int] = set()
    for group in batches(acts, WRITERS_MAX):
        found |= {ended(pid) for pid in [started(act) for act in group]}
    return found


def begin(drop: Path, text: bytes) -> int:
    """Open a drop, and write to it."""
    fd = os.open(drop, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    assert os.write(fd, text) == len(text)
    return fd


def die(name: str) -> None:
    """End this process by a signal."""
    number = signal.Signals[f"SIG{name}"]
    if number != signal.SIGKILL:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)


# ---- ways of dying


@pytest.mark.parametrize("name", ["KILL", *SIGNALS])
def test_a_writer_that_a_signal_ends_leaves_no_job(world: Box, name: str) -> None:
    def write(drop: Path, text: bytes) -> None:
        begin(drop, text)
        die(name)

    with no_job(world):
        acts = [partial(write, fresh(world, suffix), text) for suffix, text in halves()]
        assert children(acts) == {-signal.Signals[f"SIG{name}"]}


def test_a_whole_spec_whose_writer_is_killed_before_it_closes_is_no_job(world: Box) -> None:
    with no_job(world):
        for name, text in SPECS.items():
            drop = fresh(world, Path(name).suffix)

            def write(drop: Path = drop, text: bytes = text) -> None:
                os.fsync(begin(drop, text))
                die("KILL")

            assert child(write) == -signal.SIGKILL


def test_a_writer_that_is_killed_leaves_no_job_though_its_child_closes_in_peace(world: Box) -> None:
    def write(drop: Path, text: bytes) -> None:
        fd = begin(drop, text)
        ended, ends = os.pipe()
        if os.fork() == 0:
            os.close(ends)
            os.read(ended, 1)  # until its parent is no more
            os.close(fd)
            os._exit(0)
        os.close(ended)
        die("KILL")

    with no_job(world):
        assert children([partial(write, fresh(world, suffix), text) for suffix, text in halves()]) == {-signal.SIGKILL}


def test_a_writer_that_may_write_no_further_is_killed_and_leaves_no_job(world: Box) -> None:
    """`ulimit -f`: the kernel takes what fits, and ends the process at the next write."""

    def write(drop: Path, text: bytes, size: int) -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        fd = os.open(drop, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(fd, text[os.write(fd, text) :])

    with no_job(world):
        acts = [partial(write, fresh(world, Path(name).suffix), SPECS[name], size) for name, size in sample()]
        assert children(acts) == {-signal.SIGXFSZ}


@pytest.mark.parametrize(("shell", "name"), SHELLS)
def test_a_shell_that_is_killed_within_a_redirection_leaves_no_job(world: Box, shell: str, name: str) -> None:
    script = '{ head -c "$1" "$0"; kill -' + name + ' $$; tail -c "+$(($1 + 1))" "$0"; } > "$2"'
    with no_job(world):
        for group in batches(sample(EACH // 2), WRITERS_MAX):
            commands: list[list[str | Path]] = [
                [shell, "-c", script, world.root / spec, str(size), fresh(world, Path(spec).suffix)]
                for spec, size in group
            ]
            running = [subprocess.Popen(words) for words in commands]
            assert {each.wait(WAIT_S) for each in running} == {-signal.Signals[f"SIG{name}"]}


class Relay:
    """What lies between a mount and the server: may be gone, or say nothing."""

    def __init__(self, port: int, server_port: int) -> None:
        self.port = port
        self._command = [sys.executable, "-c", RELAY, str(port), str(server_port)]
        self.start()

    def start(self) -> None:
        """Carry everything from now on."""
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def tell(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> None:
        """Cut every connection."""
        self._process.kill()
        self._process.communicate()


# ---- ways of being cut off, each with many drops open at once


def groups() -> Iterator[Sequence[Cut]]:
    """Yield halves in groups that can be open at once."""
    return batches(halves(5 * EACH), OPEN_MAX)


class Writer:
    """A process that has many drops open, and closes them in peace when it is told to.

    The tests have none open themselves: whoever they started would close its copies, and wait for the server in that.
    """

    def __init__(self, cuts: Sequence[tuple[Path, bytes]]) -> None:
        ready, tells = os.pipe()
        hears, self._goes = os.pipe()

        def write() -> None:
            os.close(self._goes)
            fds = [begin(drop, text) for drop, text in cuts]
            os.write(tells, b"1")
            os.read(hears, 1)
            assert close_in_peace(fds) == len(fds)

        self._pid = started(write)
        os.close(hears)
        os.close(tells)
        assert os.read(ready, 1) == b"1"
        os.close(ready)

    def closes(self) -> bool:
        """Let it close all; tell whether it heard of each that something is wrong."""
        os.close(self._goes)
        return ended(self._pid) == 0


def close_in_peace(fds: list[int]) -> int:
    """Close descriptors; return how many of them say that something is wrong."""
    failed = 0
    for fd in fds:
        try:
            os.close(fd)
        except OSError:
            failed += 1
    return failed


@contextmanager
def far(world: Box, name: str) -> Iterator[tuple[Path, Relay]]:
    """Give a second mount's jobs/, and what lies between it and the server."""
    relay = Relay(free_port(), world.port)
    config, point = world.root / f"{name}-config", world.root / name
    config.write_text((world.root / "paddle-config").read_text().replace(f":{world.port}", f":{relay.port}"))
    point.mkdir()
    mounted = world.run("paddle", "mount", str(point), env={**world.env, "PADDLE_CONFIG": str(config)})
    assert mounted.returncode == 0, mounted.stderr
    try:
        yield point / "dc1/jobs", relay
    finally:
        world.run("paddle", "umount", "--lazy", str(point))
        relay.end()


def test_when_the_network_is_cut_no_half_is_a_job_and_their_writers_hear_of_it(world: Box) -> None:
    with far(world, "cut") as (folder, relay), no_job(world):
        for batch in groups():
            writer = Writer([(folder / fresh(world, suffix).name, text) for suffix, text in batch])
            relay.end()
            relay.start()
            assert writer.closes()


def test_writers_that_are_killed_while_the_network_says_nothing_leave_no_job(world: Box) -> None:
    with far(world, "silent") as (folder, relay), no_job(world):

        def write(tells: int, drop: Path, text: bytes) -> None:
            begin(drop, text)
            os.write(tells, b"1")
            signal.sigwait([signal.SIGALRM])  # which nobody sends

        for group in batches(halves(), OPEN_MAX):
            ready, tells = os.pipe()
            pids = [started(partial(write, tells, folder / fresh(world, suffix).name, text)) for suffix, text in group]
            for _ in group:
                assert os.read(ready, 1) == b"1"
            relay.tell(signal.SIGSTOP)
            for pid in pids:
                os.kill(pid, signal.SIGKILL)
            relay.tell(signal.SIGCONT)
            assert {ended(pid) for pid in pids} == {-signal.SIGKILL}
            os.close(ready)
            os.close(tells)


def test_when_the_server_is_killed_no_half_is_a_job_and_their_writers_hear_of_it(world: Box) -> None:
    with no_job(world):
        for batch in groups():
            writer = Writer([(fresh(world, suffix), text) for suffix, text in batch])
            world.end("server", signal.SIGKILL)
            world.start_server()
            assert writer.closes()


def test_when_the_mount_is_killed_no_half_is_a_job(world: Box) -> None:
    before = jobs(world)
    for batch in groups():
        writer = Writer([(fresh(world, suffix), text) for suffix, text in batch])
        os.kill(json.loads(os.getxattr(world.mountpoint, ATTRIBUTE))["pid"], signal.SIGKILL)
        writer.closes()
        subprocess.run(["umount", "-l", str(world.mountpoint)], check=True)
        world.mount()
    with no_job(world):
        pass
    assert len(jobs(world)) == len(before) + 1


def fill(path: Path) -> None:
    """Take all the room of a disk."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    with suppress(OSError):
        while True:
            os.write(fd, bytes(4096))
    os.close(fd)


def hand_in(drop: Path, text: bytes) -> bool:
    """Write a drop; tell whether nothing was said to be wrong."""
    try:
        os.close(begin(drop, text))
    except OSError:
        return False
    return True


def test_when_the_servers_disk_is_full_no_half_is_a_job_and_a_whole_is_one_exactly_when_close_says_so() -> None:
    with tempfile.TemporaryDirectory(prefix="pfs-box-", ignore_cleanup_errors=True) as directory:
        data = Path(directory) / "data"
        data.mkdir()
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", data], check=False).returncode:
            pytest.skip("this machine lets nobody make a small disk")
        try:
            with world_in(Path(directory)) as world:
                before, full = len(jobs(world)), False
                fill(data / "home/filler")
                taken = 0
                while not full:  # what the database has reserved lets some more in
                    full = not hand_in(fresh(world, ".yaml"), SPECS["multi-line.yaml"])
                    taken += not full
                halves_taken = [hand_in(fresh(world, suffix), text) for suffix, text in halves() if wrong(text)]
                assert not any(halves_taken)
                taken += sum(hand_in(fresh(world, Path(name).suffix), text) for name, text in SPECS.items())
                (data / "home/filler").unlink()
                settled(world)
                assert len(jobs(world)) == before + taken + 1
                for name, text in SPECS.items():
                    fresh(world, Path(name).suffix).write_bytes(text)
                assert len(jobs(world)) == before + taken + 1 + len(SPECS)
        finally:
            subprocess.run(["umount", "-l", data], check=False)


def wrong(text: bytes) -> bool:
    """Tell whether a text is no spec; else only its writer knows that something is missing."""
    try:
        parse_spec(text, "x")
    except SpecError:
        return True
    return False


# ---- whole ones


def read_back(world: Box, drop: Path) -> bytes:
    """Return the spec of the job of a drop."""
    return (world.dc / "jobs" / os.readlink(drop.with_suffix("")) / "spec.yaml").read_bytes()


def end(world: Box, drop: Path) -> None:
    """End the job of a drop: thousands that wait would be looked at for each that comes."""
    (world.dc / "jobs" / os.readlink(drop.with_suffix("")) / "ctl").write_text("kill\n")


def test_a_whole_spec_is_one_job_wherever_one_process_went_on_for_another(world: Box) -> None:
    before, cuts = jobs(world), sample()
    for name, size in cuts:
        drop, text = fresh(world, Path(name).suffix), SPECS[name]

        def write(drop: Path = drop, text: bytes = text, size: int = size) -> None:
            fd = begin(drop, b"")
            if child(lambda: assert_written(fd, text[:size])) == 0:  # ends, and closes it
                assert_written(fd, text[size:])
                os.close(os.dup(fd))
                os.close(fd)

        assert child(write) == 0
        if not text.endswith((b"\n", b"}")):  # more might have come: it is handed in after close, by the last release
            wait_until(drop.with_suffix("").is_symlink)
        assert read_back(world, drop) == text
        end(world, drop)
    settled(world)
    assert len(jobs(world)) == len(before) + len(cuts) + 1


def assert_written(fd: int, text: bytes) -> None:
    """Write all of a text."""
    assert os.write(fd, text) == len(text)


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_shells_redirection_around_several_commands_makes_one_job(world: Box, shell: str) -> None:
    script = '{ head -c "$1" "$0"; printf ""; tail -c "+$(($1 + 1))" "$0"; } > "$2"'
    before, cuts = jobs(world), sample(EACH // 2)
    for spec, size in cuts:
        drop = fresh(world, Path(spec).suffix)
        subprocess.run([shell, "-c", script, world.root / spec, str(size), drop], timeout=WAIT_S, check=True)
        wait_until(drop.with_suffix("").is_symlink)
        assert read_back(world, drop) == SPECS[spec]
        end(world, drop)
    settled(world)
    assert len(jobs(world)) == len(before) + len(cuts) + 1


def test_who_has_a_child_that_was_killed_and_that_nobody_waited_for_hands_in_a_job(world: Box) -> None:
    pid = started(signal.pause)
    os.kill(pid, signal.SIGKILL)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    try:
        drop, text = fresh(world, ".yaml"), next(iter(SPECS.values()))
        drop.write_bytes(text)
        assert read_back(world, drop) == text
    finally:
        os.waitpid(pid, 0)
    end(world, drop)


# ---- what cannot be told, and its cure


def test_under_another_name_a_half_that_was_closed_in_peace_is_no_job_and_mv_hands_in_the_whole(world: Box) -> None:
    cuts = sample()
    part = world.dc / "jobs/part.tmp"
    with no_job(world):
        for name, size in cuts:
            part.write_bytes(SPECS[name][:size])
    before = jobs(world)
    for name, size in cuts:
        part.write_bytes(SPECS[name][:size])
        with open(part, "ab") as file:
            file.write(SPECS[name][size:])
        drop = fresh(world, Path(name).suffix)
        subprocess.run(["mv", part, drop], check=True, timeout=WAIT_S)
        assert read_back(world, drop) == SPECS[name]
        end(world, drop)
    assert len(jobs(world)) == len(before) + len(cuts)


# ---- renamed, removed and replaced while they are open


def test_a_text_that_is_renamed_to_a_drop_before_it_is_closed_is_one_job(world: Box) -> None:
    before = jobs(world)
    for name, text in SPECS.items():
        drop = fresh(world, Path(name).suffix)
        with open(drop.with_suffix(".tmp"), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, drop)
            assert read_back(world, drop) == text
            end(world, drop)
    settled(world)
    assert len(jobs(world)) == len(before) + len(SPECS) + 1


def test_what_is_written_after_that_rename_and_closed_in_peace_is_another_job(world: Box) -> None:
    before, drop = jobs(world), fresh(world, ".yaml")
    fd = begin(drop.with_suffix(".tmp"), b"command: 'true'\n")
    os.replace(drop.with_suffix(".tmp"), drop)
    end(world, drop)
    assert_written(fd, b"hold: true\n")
    os.close(fd)
    assert read_back(world, drop) == drop.read_bytes() == b"command: 'true'\nhold: true\n"
    end(world, drop)
    settled(world)
    assert len(jobs(world)) == len(before) + 3


@pytest.mark.parametrize("rest", [b"hold: true\n", b"hold: true", b""])
@pytest.mark.parametrize("name", ["KILL", "TERM"])
def test_what_is_written_after_that_rename_by_who_is_ended_by_a_signal_is_no_job(
    world: Box, rest: bytes, name: str
) -> None:
    drop = fresh(world, ".yaml")

    def write() -> None:
        fd = begin(drop.with_suffix(".tmp"), b"command: 'true'\n")
        os.replace(drop.with_suffix(".tmp"), drop)
        if rest:
            assert_written(fd, rest)
        die(name)

    before = jobs(world)
    assert child(write) == -signal.Signals[f"SIG{name}"]
    settled(world)
    assert len(jobs(world)) == len(before) + 2  # that of the rename, which was the writer's own act
    assert read_back(world, drop) == b"command: 'true'\n"
    end(world, drop)


def test_an_open_text_that_is_removed_or_replaced_is_gone(world: Box) -> None:
    text = next(iter(SPECS.values()))
    with no_job(world):
        for suffix in (".yaml", ".tmp"):
            drop = fresh(world, suffix)
            fd = begin(drop, text)
            drop.unlink()
            os.fsync(fd)
            os.close(fd)
            wait_until(lambda: is_at_rest(world), WAIT_S)
            assert drop.name not in os.listdir(drop.parent)
        fd, made = tempfile.mkstemp(dir=world.dc / "jobs", suffix=".yaml")
        assert_written(fd, text)
        os.unlink(made)
        os.close(fd)
        assert not os.path.lexists(made)
        scratch, other = fresh(world, ".tmp"), fresh(world, ".tmp")
        other.write_bytes(b"other")
        fd = begin(scratch, text)
        os.replace(other, scratch)
        os.close(fd)
        wait_until(lambda: is_at_rest(world), WAIT_S)
        assert scratch.read_bytes() == b"other"


def test_a_drop_over_which_another_one_was_renamed_submits_nothing_more(world: Box) -> None:
    before, drop = jobs(world), fresh(world, ".yaml")
    drop.with_suffix(".tmp").write_bytes(b"command: 'true'\n")
    fd = begin(drop, b"command: 'true'\nhold: true\n")
    os.replace(drop.with_suffix(".tmp"), drop)
    os.close(fd)
    settled(world)
    assert len(jobs(world)) == len(before) + 2
    assert read_back(world, drop) == drop.read_bytes() == b"command: 'true'\n"
    end(world, drop)


def test_scratch_is_not_renamed_over_a_jobs_name(world: Box) -> None:
    drop, scratch = fresh(world, ".yaml"), fresh(world, ".tmp")
    drop.write_bytes(b"command: 'true'\n")
    scratch.write_bytes(b"command: 'true'\n")
    for text in (scratch, drop):
        with pytest.raises(PermissionError) as caught:
            os.rename(text, drop.with_suffix(""))
        assert caught.value.errno == errno.EPERM
    assert read_back(world, drop) == scratch.read_bytes()
    end(world, drop)
    scratch.unlink()
