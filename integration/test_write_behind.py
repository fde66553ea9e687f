"""`paddle mount --write-behind`: what a program was told is done is done, whoever is killed."""

import contextlib
import filecmp
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import BIN, Box, box, is_mounted, wait_until

COUNT = 60


class Behind:
    """A server, and a mount that promises, whose process can be killed."""

    def __init__(self, made: Box) -> None:
        self.box = made
        self.point = made.root / "behind"
        self.cache = made.root / "cache"
        self.point.mkdir()

    @property
    def server(self) -> subprocess.Popen[bytes]:
        return self.box.processes["server"]

    def mount(self) -> None:
        words = ["--write-behind", "--no-shortcut", "--cache-dir", str(self.cache)]
        self.box.spawn("behind", "paddle", "mount", "-f", *words, str(self.point))
        wait_until(lambda: is_mounted(self.point) or self.box.processes["behind"].poll() is not None)
        assert self.box.processes["behind"].poll() is None, self.box.log_of("behind")

    def kill(self) -> None:
        """Kill the mount's process."""
        self.box.end("behind", signal.SIGKILL)

    def umount(self) -> None:
        """Unmount as a user does."""
        said = self.box.run("paddle", "umount", str(self.point))
        assert said.returncode == 0, said.stderr
        self.box.processes.pop("behind").wait(timeout=60)

    def close(self) -> None:
        if is_mounted(self.point):
            self.box.run("paddle", "umount", "--lazy", str(self.point))
        with contextlib.suppress(KeyError):
            self.box.end("behind", signal.SIGKILL)
        if is_mounted(self.point):
            subprocess.run(["umount", "-l", str(self.point)], check=False)


@pytest.fixture(scope="module")
def datacenter() -> Iterator[Behind]:
    with box() as made:
        made.start_server()
        behind = Behind(made)
        behind.mount()
        try:
            yield behind
        finally:
            if "server" in made.processes:
                behind.server.send_signal(signal.SIGCONT)
            behind.close()


class Place:
    """A directory of a test's own: in the mount, and on the server's disk."""

    def __init__(self, behind: Behind, name: str) -> None:
        self.behind = behind
        self.here = behind.point / "dc1/home/demo" / name
        self.there = behind.box.data / "home/demo" / name

    def look(self) -> None:
        """Let the mount learn what there is."""
        for path in reversed([self.here, *list(self.here.parents)[:3]]):
            os.listdir(path)


@pytest.fixture
def place(datacenter: Behind, request: pytest.FixtureRequest) -> Place:
    if "behind" not in datacenter.box.processes:
        datacenter.mount()
    found = Place(datacenter, request.node.name)
    found.here.mkdir()
    fd = os.open(found.here, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    found.look()
    return found


def text(number: int) -> str:
    return f"content of {number}\n" * (number + 1)


@contextlib.contextmanager
def stopped(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Keep a process from doing anything."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        process.send_signal(signal.SIGCONT)


def test_programs_do_not_wait_for_the_server(place: Place) -> None:
    with stopped(place.behind.server):
        for number in range(COUNT):
            (place.here / f"f{number}").write_text(text(number))
        (place.here / "d/e").mkdir(parents=True)
        (place.here / "d/e/f").write_text("below")
        (place.here / "d/l").symlink_to("e/f")
        (place.here / "f0").unlink()
        (place.here / "f1").rename(place.here / "d/g")
        os.utime(place.here / "f2", ns=(1, 2))
        os.chmod(place.here / "f2", 0o600)
        subprocess.run(
            ["sh", "-c", 'echo one > shell; (echo two; echo three) > "$0"', "shell2"], cwd=place.here, check=True
        )
        assert (place.here / "shell").read_text() == "one\n"
        assert (place.here / "shell2").read_text() == "two\nthree\n"
        assert (place.here / "d/l").read_text() == "below"
        assert (place.here / "d/g").read_text() == text(1)
        assert (place.here / "f2").stat().st_mtime_ns == 2
        assert len(os.listdir(place.here)) == COUNT + 1
        assert os.listdir(place.there) == []
    with open(place.here / "d/g") as file:
        os.fsync(file.fileno())
    assert (place.there / "d/g").read_text() == text(1)
    wait_until(lambda: not (place.there / "f0").exists() and (place.there / "f2").exists())
    wait_until(lambda: (place.there / "f2").stat().st_mtime_ns == 2)
    assert (place.there / "f2").stat().st_mode & 0o777 == 0o600
    assert (place.there / "d/l").is_symlink()
    assert (place.there / "shell2").read_text() == "two\nthree\n"


def test_what_was_promised_survives_that_the_mount_is_killed(place: Place) -> None:
    with stopped(place.behind.server):
        for number in range(COUNT):
            (place.here / f"f{number}").write_text(text(number))
        for number in range(0, COUNT, 3):
            (place.here / f"f{number}").rename(place.here / f"g{number}")
        for number in range(1, COUNT, 3):
            (place.here / f"f{number}").unlink()
        place.behind.kill()
        assert os.listdir(place.there) == []
    place.behind.mount()
    expected = {f"g{n}": text(n) for n in range(0, COUNT, 3)} | {f"f{n}": text(n) for n in range(2, COUNT, 3)}
    wait_until(lambda: {path.name for path in place.there.iterdir()} == expected.keys())
    assert {path.name: path.read_text() for path in place.here.iterdir()} == expected
    assert {path.name: path.read_text() for path in place.there.iterdir()} == expected


def test_what_was_promised_survives_that_the_server_is_killed(place: Place) -> None:
    made = place.behind.box
    program = (
        "import os, sys\n"
        "for number in range(400):\n"
        "    with open(f'{sys.argv[1]}/part', 'w') as file:\n"
        "        file.write(f'content of {number}\\n' * (number + 1))\n"
        "    os.rename(f'{sys.argv[1]}/part', f'{sys.argv[1]}/f{number}')\n"
        "    if number == 50: print('on the way', flush=True)\n"
    )
    command = [sys.executable, "-c", program, str(place.here)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "on the way\n"
        made.end("server", signal.SIGKILL)
        made.start_server()
        assert writer.wait(timeout=100) == 0
    wait_until(lambda: len(os.listdir(place.there)) >= 400)
    wait_until(lambda: not (place.there / "part").exists())
    assert {path.name: path.read_text() for path in place.there.iterdir()} == {f"f{n}": text(n) for n in range(400)}
    assert len(os.listdir(place.here)) == 400


def test_umount_waits_for_the_server(place: Place) -> None:
    for number in range(COUNT):
        (place.here / f"f{number}").write_text(text(number))
    place.behind.umount()
    assert {path.name: path.read_text() for path in place.there.iterdir()} == {f"f{n}": text(n) for n in range(COUNT)}


def test_umount_asks_again_where_the_mount_is_slow_to_answer(place: Place) -> None:
    behind = place.behind
    (place.here / "f").write_text("text")
    command = [str(BIN / "paddle"), "umount", str(behind.point)]
    with stopped(behind.box.processes["behind"]):
        umount = subprocess.Popen(command, env=behind.box.env, stderr=subprocess.PIPE, text=True)
        assert umount.stderr is not None
        assert "does not answer; asking again" in umount.stderr.readline()
    assert umount.wait(timeout=100) == 0, umount.stderr.read()
    umount.stderr.close()
    behind.box.processes.pop("behind").wait(timeout=60)
    assert (place.there / "f").read_text() == "text"


def test_fsync_returns_when_the_server_has_it(place: Place) -> None:
    for number in range(10):
        with open(place.here / f"f{number}", "w") as file:
            file.write(text(number))
            file.flush()
            os.fsync(file.fileno())
            assert (place.there / f"f{number}").read_text() == text(number)
    (place.here / "g").write_text("text")
    fd = os.open(place.here, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    assert (place.there / "g").read_text() == "text"


def test_a_job_is_dropped_after_the_data_that_it_may_read(place: Place) -> None:
    jobs = place.behind.point / "dc1/jobs"
    for number in range(10):
        (place.here / f"data{number}").write_text(text(number))
        (jobs / f"behind-{number}.yaml").write_text(f"name: behind-{number}\ncommand: 'true'\n")
        assert (place.there / f"data{number}").read_text() == text(number)


def test_another_mount_changes_a_directory_after_what_was_promised_there(place: Place) -> None:
    made = place.behind.box
    if not is_mounted(made.mountpoint):
        made.mount()
    other = made.dc / "home/demo" / place.here.name
    for number in range(20):
        os.listdir(place.here)
        (place.here / f"ours{number}").write_text(text(number))
        (other / f"theirs{number}").write_text("theirs")
        assert (place.there / f"ours{number}").read_text() == text(number)
    assert len(os.listdir(other)) == len(os.listdir(place.here)) == 40


def test_two_that_make_the_same_file_both_keep_theirs(place: Place) -> None:
    made = place.behind.box
    if not is_mounted(made.mountpoint):
        made.mount()
    other = made.dc / "home/demo" / place.here.name
    for number in range(10):
        os.listdir(place.here), os.listdir(other)
        (place.here / f"f{number}").write_text("ours")
        with contextlib.suppress(FileExistsError), open(other / f"f{number}", "x") as file:
            file.write("theirs")
        os.listdir(place.here)
    wait_until(lambda: sum(path.read_text() == "ours" for path in place.there.iterdir()) == 10)


def test_trees_are_copied_and_removed(place: Place, tmp_path: Path) -> None:
    source = tmp_path / "source"
    for number in range(5):
        (source / f"d{number}/deep/er").mkdir(parents=True)
        for each in range(10):
            (source / f"d{number}/deep/f{each}").write_bytes(os.urandom(each * 30_000))
        (source / f"d{number}/l").symlink_to("deep/f1")
    shutil.copytree(source, place.here / "copy", symlinks=True)
    subprocess.run(f"tar c -C {source} . | tar x -C {place.here}", shell=True, check=True, timeout=60)
    for where in (place.here, place.here / "copy", place.there, place.there / "copy"):
        wait_until(lambda where=where: (where / "d4/deep/f9").exists() and (where / "d4/l").is_symlink())  # type: ignore[misc]
        for number in range(5):
            names = [f"deep/f{each}" for each in range(10)]
            same = filecmp.cmpfiles(source / f"d{number}", where / f"d{number}", names, shallow=False)
            assert same == (names, [], []), where
    shutil.rmtree(place.here / "copy")
    assert not (place.here / "copy").exists()
    wait_until(lambda: not (place.there / "copy").exists())


def test_a_second_mount_with_the_same_journal_is_refused(place: Place) -> None:
    point = place.behind.box.root / "second"
    point.mkdir()
    words = ["mount", "--write-behind", "--cache-dir", str(place.behind.cache), str(point)]
    said = place.behind.box.run("paddle", *words)
    assert said.returncode != 0
    assert "--cache-dir" in said.stderr
