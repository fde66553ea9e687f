"""`pit mount` by an ordinary user, through fusermount3: each kind of entity, a shell, Ctrl-C, and nothing left."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.box import BIN, WAIT_S, Box, box
from integration.ordinary import UID, Ordinary, ordinary

FOLDERS = {"home": "home/demo", "group:ml": "groups/ml", "shared": "shared", "job:1": "jobs/1/keep"}
READ_ONLY = ("shared", "job:1")
PIT = str(BIN / "pit")

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can be an ordinary user, too")


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """Give a datacenter with something in every folder."""
    with box() as made:
        assert made.run("jobd", "group", "add", "ml", "demo", "--data-root", str(made.data)).returncode == 0
        made.start_server()
        made.mount()
        (made.dc / "jobs/one.yaml").write_text("command: 'true'\n")
        for entity, folder in FOLDERS.items():
            there = made.data / folder.replace("jobs/1/", "jobs/1/data/")
            there.mkdir(parents=True, exist_ok=True)
            (there / "a").write_text(f"{entity}\n")
        yield made


@pytest.fixture
def user(world: Box, tmp_path: Path) -> Ordinary:
    return ordinary(world, tmp_path / "user")


@contextmanager
def mounted(user: Ordinary, *words: str) -> Iterator[tuple[Callable[[str], tuple[int, str]], str]]:
    """Mount for the block, and end it by Ctrl-C; give what runs a script there as the user, and the mount point."""
    command = user.command([PIT, "mount", *words], user.home)
    with subprocess.Popen(
        command, env=user.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None

        def run(script: str) -> tuple[int, str]:
            words = user.beside(process.pid, script)
            done = subprocess.run(words, env=user.env, capture_output=True, text=True, timeout=WAIT_S, check=False)
            return done.returncode, done.stdout + done.stderr

        said = process.stderr.readline()
        assert said == "press Ctrl-C to unmount\n", said + process.stderr.read()
        point = words[1] if len(words) > 1 else process.stdout.readline().strip()
        # what is left there can only be seen by who is in that namespace
        watch = "read line; cat /proc/self/mounts; find $HOME"
        watcher = subprocess.Popen(
            user.beside(process.pid, watch), env=user.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            yield run, point
        finally:
            process.send_signal(signal.SIGINT)
            out, said = process.communicate(timeout=2 * WAIT_S)
            left, _ = watcher.communicate("\n", timeout=WAIT_S)
    assert (process.returncode, out, said) == (0, "", "unmounting...\n")
    assert "fuse.pfs" not in left
    assert "pit-mount-" not in left


@pytest.mark.parametrize("entity", FOLDERS)
def test_an_ordinary_user_mounts_each_kind_of_entity(world: Box, user: Ordinary, entity: str) -> None:
    below = "keep/" if entity == "job:1" else ""
    with mounted(user, entity) as (run, point):
        assert point.startswith(str(user.home / "pit-mount-"))
        assert run(f"cat {point}/{below}a") == (0, f"{entity}\n")
        assert run(f"stat -c %u {point}/{below}a") == (0, f"{UID}\n")
        code, said = run(f"echo written > {point}/{below}b && cat {point}/{below}b")
        if entity in READ_ONLY:
            assert (code != 0, "Read-only file system" in said) == (True, True)
        else:
            assert (code, said) == (0, "written\n")
            assert (world.data / FOLDERS[entity] / "b").read_text() == "written\n"


def test_an_ordinary_user_mounts_at_a_directory_that_stays(user: Ordinary) -> None:
    point = user.home / "m"
    point.mkdir(mode=0o700)
    os.chown(point, UID, UID)
    with mounted(user, "home", "m") as (run, _):
        assert run("cat ~/m/a") == (0, "home\n")
    assert os.listdir(point) == []


def test_an_ordinary_users_shell_runs_there_and_ends_it(user: Ordinary) -> None:
    done = subprocess.run(
        user.command([PIT, "mount", "--shell", "home"], user.home),
        input="pwd; cat a; exit 3\n",
        env=user.env,
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
    )
    place, *said = done.stdout.splitlines()
    assert (done.returncode, said) == (0, [place, "home"]), done.stderr
    assert 'secondary shell: call "exit" to end and unmount\n' in done.stderr
    assert not os.path.exists(place)
    assert [name for name in os.listdir(user.home) if name.startswith("pit-mount-")] == []
