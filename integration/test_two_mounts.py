"""Two mounts of one datacenter, as two machines have them: each sees what the other one has done."""

import contextlib
import errno
import mmap
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from integration.box import Box, box, is_mounted, wait_until
from tests.functional.posix import errno_of


@dataclass
class Two:
    """A datacenter, and the home of its user in each of two mounts."""

    box: Box
    first: Path
    second: Path


@pytest.fixture(scope="module")
def datacenter() -> Iterator[Two]:
    with box() as made:
        made.start_server()
        made.mount()
        point = made.root / "other"
        point.mkdir()
        assert made.run("paddle", "mount", "--no-shortcut", str(point)).returncode == 0
        try:
            yield Two(made, made.dc / "home/demo", point / "dc1/home/demo")
        finally:
            made.run("paddle", "umount", "--lazy", str(point))
            if is_mounted(point):
                subprocess.run(["umount", "-l", str(point)], check=False)


@pytest.fixture
def two(datacenter: Two, request: pytest.FixtureRequest) -> Two:
    """A directory of the test's own, that both mounts have looked at."""
    name = request.node.name
    (datacenter.first / name).mkdir()
    assert os.listdir(datacenter.second / name) == []
    return Two(datacenter.box, datacenter.first / name, datacenter.second / name)


def test_closing_gives_the_server_what_was_written_through_a_mapping(two: Two) -> None:
    # the kernel writes pages through one opening of the file, the one that was mapped last for the first time
    (two.second / "f").write_bytes(bytes(100_000))
    with open(two.second / "f", "r+b") as mapped, open(two.second / "f", "r+b") as other:
        for file in (mapped, other):
            mmap.mmap(file.fileno(), 0).close()
        for turn in range(1, 20):
            with mmap.mmap(mapped.fileno(), 0) as memory:
                memory[70_000] = turn
            os.close(os.dup(mapped.fileno()))
            assert (two.first / "f").read_bytes()[70_000] == turn
            with mmap.mmap(mapped.fileno(), 0) as memory:
                memory[80_000] = turn
            os.fsync(mapped.fileno())
            assert (two.first / "f").read_bytes()[80_000] == turn


def test_what_is_closed_on_one_is_seen_by_open_on_the_other(two: Two) -> None:
    for turn in range(20):
        writer, reader = (two.first, two.second) if turn % 2 else (two.second, two.first)
        text = f"turn {turn} " * (turn + 1)
        (writer / "f").write_text(text)
        assert (reader / "f").read_text() == text
        assert (reader / "f").stat().st_size == len(text)


def test_names_that_come_and_go_are_seen(two: Two) -> None:
    (two.first / "a").write_text("a")
    assert (two.second / "a").exists()
    (two.second / "a").rename(two.second / "b")
    assert [path.name for path in two.first.iterdir()] == ["b"]
    assert errno_of((two.first / "a").read_text) == errno.ENOENT
    (two.first / "b").unlink()
    assert not (two.second / "b").exists()
    assert os.listdir(two.second) == []


def test_what_was_not_there_is_found_when_it_has_come(two: Two) -> None:
    for number in range(10):
        assert not (two.second / f"f{number}").exists()
        (two.first / f"f{number}").touch()
        assert (two.second / f"f{number}").exists()


def test_a_directory_that_is_moved_is_found_where_it_is(two: Two) -> None:
    (two.first / "a/b").mkdir(parents=True)
    (two.first / "a/b/f").write_text("text")
    assert (two.second / "a/b/f").read_text() == "text"
    (two.first / "a").rename(two.first / "c")
    assert (two.second / "c/b/f").read_text() == "text"
    assert errno_of((two.second / "a/b/f").read_text) == errno.ENOENT


def test_a_large_file_is_seen_whole_after_each_change(two: Two) -> None:
    data = bytearray(os.urandom(5 << 20))
    (two.first / "f").write_bytes(data)
    assert (two.second / "f").read_bytes() == data
    for offset in (0, 1 << 20, (5 << 20) - 3):
        with open(two.first / "f", "r+b") as file:
            file.seek(offset)
            file.write(b"new")
        data[offset : offset + 3] = b"new"
        assert (two.second / "f").read_bytes() == data


def test_only_one_makes_a_file_with_o_excl(two: Two) -> None:
    program = (
        "import os, sys\n"
        "won = 0\n"
        "for number in range(100):\n"
        "    try:\n"
        "        os.close(os.open(f'{sys.argv[1]}/{number}', os.O_CREAT | os.O_EXCL | os.O_WRONLY))\n"
        "        won += 1\n"
        "    except FileExistsError:\n"
        "        pass\n"
        "print(won)\n"
    )
    racers = [
        subprocess.Popen([sys.executable, "-c", program, str(place)], stdout=subprocess.PIPE, text=True)
        for place in (two.first, two.second)
    ]
    won = [int(racer.communicate(timeout=60)[0]) for racer in racers]
    assert sum(won) == 100
    assert len(os.listdir(two.first)) == 100


def test_appends_from_both_are_never_lost(two: Two) -> None:
    (two.first / "log").touch()
    program = (
        "import os, sys\n"
        "for number in range(100):\n"
        "    with open(sys.argv[1], 'a') as file:\n"
        "        file.write(f'{sys.argv[2]} {number}\\n')\n"
    )
    writers = [
        subprocess.Popen([sys.executable, "-c", program, str(place / "log"), name])
        for place, name in ((two.first, "first"), (two.second, "second"))
    ]
    assert [writer.wait(timeout=60) for writer in writers] == [0, 0]
    lines = (two.first / "log").read_text().splitlines()
    assert sorted(lines) == sorted(f"{name} {number}" for name in ("first", "second") for number in range(100))
    for name in ("first", "second"):
        own = [line for line in lines if line.startswith(name)]
        assert own == [f"{name} {number}" for number in range(100)]


@pytest.mark.parametrize("size", [10, 3 << 20])
def test_an_open_file_that_the_other_removes_or_replaces_can_be_read_on(two: Two, size: int) -> None:
    (two.first / "removed").write_bytes(b"a" * size)
    (two.first / "replaced").write_bytes(b"b" * size)
    (two.first / "new").write_bytes(b"c" * size)
    with open(two.second / "removed", "rb", buffering=0) as removed, open(two.second / "replaced", "rb") as replaced:
        (two.first / "removed").unlink()
        (two.first / "new").rename(two.first / "replaced")
        assert os.pread(removed.fileno(), size, 0) == b"a" * size
        assert os.fstat(removed.fileno()).st_nlink == 0
        assert replaced.read() == b"b" * size
    assert (two.second / "replaced").read_bytes() == b"c" * size


def test_what_is_changed_on_the_servers_disk_is_seen(two: Two) -> None:
    (two.first / "f").write_text("mount")
    assert (two.second / "f").read_text() == "mount"
    disk = two.box.data / "home/demo" / two.first.name
    (disk / "f").write_text("the disk itself")
    (disk / "g").write_text("new")
    wait_until(lambda: (two.second / "f").read_text() == "the disk itself")
    wait_until(lambda: (two.second / "g").exists() and (two.first / "g").read_text() == "new")
    assert (two.first / "f").stat().st_size == len("the disk itself")
    (disk / "g").unlink()
    wait_until(lambda: not (two.first / "g").exists() and not (two.second / "g").exists())


HOLDER = """
import os, sys
first, second = sys.argv[1:]
read, removed = os.open(f"{first}/read", os.O_RDONLY), os.open(f"{second}/removed", os.O_RDONLY)
written = os.open(f"{second}/written", os.O_WRONLY | os.O_CREAT)
assert os.pread(removed, 1, 0) == b"x"
os.unlink(f"{first}/removed")
os.write(written, b"1" * 4096)
os.write(written, b"2" * 4096)
print("open", flush=True)
sys.stdin.readline()
os.write(written, b"3" * 4096)
assert os.pread(read, 1, 2 << 20) == b"r"
assert os.pread(removed, 1, 2 << 20) == b"x"
os.close(written)
"""


def test_open_files_and_waiting_writes_outlive_a_restart_of_the_server(two: Two) -> None:
    (two.first / "read").write_bytes(b"r" * (3 << 20))
    (two.first / "removed").write_bytes(b"x" * (3 << 20))
    command = [sys.executable, "-c", HOLDER, str(two.first), str(two.second)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "open\n"
        two.box.end("server", signal.SIGKILL)
        two.box.start_server()
        holder.communicate("\n", timeout=60)
        assert holder.returncode == 0
    expected = b"1" * 4096 + b"2" * 4096 + b"3" * 4096
    assert (two.first / "written").read_bytes() == expected
    assert (two.box.data / "home/demo" / two.first.name / "written").read_bytes() == expected


WRITER = """
import os, sys
file = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
os.write(file, b"1" * 4096)
os.write(file, b"2" * 4096)
print("written", flush=True)
sys.stdin.readline()
"""


def test_a_mount_that_is_told_to_end_first_sends_what_was_written(two: Two) -> None:
    point = two.box.root / "fourth"
    point.mkdir()
    assert two.box.run("paddle", "mount", str(point)).returncode == 0
    path = point / "dc1/home/demo" / two.first.name / "f"
    command = [sys.executable, "-c", WRITER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "written\n"
        signal_mount(point, signal.SIGTERM)
        disk = two.box.data / "home/demo" / two.first.name / "f"
        wait_until(lambda: not is_mounted(point) and disk.read_bytes() == b"1" * 4096 + b"2" * 4096)
        writer.communicate("\n", timeout=60)


def signal_mount(point: Path, number: signal.Signals) -> None:
    """Send a signal to the process that serves a mount."""
    found = subprocess.run(["pgrep", "-f", f"mount {point}$"], capture_output=True, text=True, check=True)
    for pid in found.stdout.split():
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), number)


def test_a_mount_that_was_killed_or_is_stopped_is_waited_for_no_longer_than_its_lease(two: Two) -> None:
    points = {signal.SIGKILL: two.box.root / "killed", signal.SIGSTOP: two.box.root / "stopped"}
    stopped = points[signal.SIGSTOP] / "dc1/home/demo" / two.first.name / "f"
    (two.first / "f").write_text("text")
    try:
        for number, point in points.items():
            point.mkdir()
            assert two.box.run("paddle", "mount", str(point)).returncode == 0
            assert (point / "dc1/home/demo" / two.first.name / "f").read_text() == "text"
            signal_mount(point, number)
        (two.first / "f").write_text("another")
        assert (two.second / "f").read_text() == "another"
        signal_mount(points[signal.SIGSTOP], signal.SIGCONT)
        assert stopped.read_text() == "another"
        assert stopped.stat().st_size == len("another")
    finally:
        for point in points.values():
            subprocess.run(["umount", "-l", str(point)], check=False)
        with contextlib.suppress(subprocess.CalledProcessError):  # it has gone already
            signal_mount(points[signal.SIGSTOP], signal.SIGCONT)


# ---- drops


def dropped(path: Path, text: str) -> int:
    """Write a spec whole and close it; return the errno of that, 0 for none."""
    try:
        path.write_text(text)
    except OSError as error:
        return error.errno or -1
    return 0


def taken_away(path: Path, wait_s: float, by: Callable[[Path], object]) -> None:
    """Take a text away some time after it was written."""
    wait_until(lambda: path.exists() and path.stat().st_size > 0)
    time.sleep(wait_s)
    by(path)


def slow_spec(word: str) -> str:
    """Return a spec that takes a while to be submitted, since it is parsed in a thread."""
    return "".join([f"command: echo {word}\nhold: true\nenv:\n", *(f"  A{number}: x\n" for number in range(2000))])


def submitted(jobs: Path, word: str) -> list[str]:
    """Return what was submitted with a word in it, however often."""
    found = [(jobs / name / "spec.yaml").read_text() for name in os.listdir(jobs) if name.isdigit()]
    return [text for text in found if word in text]


@pytest.mark.parametrize("by", ["removed", "renamed"])
def test_a_drop_that_the_other_takes_away_is_at_most_one_job_and_does_not_come_back(datacenter: Two, by: str) -> None:
    first, second = (place.parents[1] / "jobs" for place in (datacenter.first, datacenter.second))
    takes = {"removed": Path.unlink, "renamed": lambda path: path.rename(path.with_suffix(".tmp"))}
    texts = {f"{by}{number}": slow_spec(f"{by} {number}") for number in range(5)}
    with ThreadPoolExecutor(1) as threads:
        for number, (name, text) in enumerate(texts.items()):
            # it is open still, it is being submitted, or that is over
            writing = threads.submit(dropped, first / f"{name}.yaml", text)
            taken_away(second / f"{name}.yaml", number * 0.03, takes[by])
            assert writing.result() == 0
            for jobs in (first, second):
                assert not os.path.lexists(jobs / f"{name}.yaml")
                assert os.path.lexists(jobs / f"{name}.tmp") == (by == "renamed")
    made = submitted(second, by)
    assert set(made) <= set(texts.values())
    assert len(set(made)) == len(made)


def test_of_two_that_write_one_drop_at_once_no_text_is_two_jobs_and_no_job_is_of_both(datacenter: Two) -> None:
    # on one machine a mount takes the writer of the other one for one of its own, and so the last release submits
    places, said = [place.parents[1] / "jobs" for place in (datacenter.first, datacenter.second)], set()
    with ThreadPoolExecutor(2) as threads:
        for number in range(3):
            texts = [slow_spec(f"both {number} {'x' * number * place}") for place in range(2)]
            writing = [
                threads.submit(dropped, jobs / "both.yaml", text) for jobs, text in zip(places, texts, strict=True)
            ]
            said |= {each.result() for each in writing}
            wait_until(lambda texts=texts: set(texts) & set(submitted(places[0], "both")))  # type: ignore[misc]
            made = submitted(places[0], f"both {number} ")
            assert set(made) <= set(texts)
            assert len(set(made)) == len(made)
    assert said <= {0, errno.EBUSY}
