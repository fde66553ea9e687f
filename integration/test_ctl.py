"""`ctl` on a real mount: what a shell hears, whoever it runs as, and what comes of hold, release, extend and kill."""

import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.jobd import jobd
from integration.box import BIN, WAIT_S, Box, box, wait_until
from integration.ordinary import UID, Ordinary, ordinary
from integration.submitting import spec_of, submit

STUBBORN = "trap '' TERM; echo up; while [ ! -e \"$SRC_DIR/enough\" ]; do sleep 0.1; done"
FIRST_LIMIT_S, LONGER_S, GIVEN_S = 4, 5, 2 * 3600


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.start_node()
        made.mount()
        yield made


def read(world: Box, path: str) -> str:
    return (world.dc / path).read_text()


def facts(world: Box, name: str) -> dict[str, str]:
    lines = read(world, f"jobs/{name}/status").splitlines()
    return {key: value for key, _, value in (line.partition(" ") for line in lines)}


def echo(world: Box, words: str, path: str) -> tuple[int, str]:
    """Have bash write a line to a `ctl`; return how that ended, and what it says after the path."""
    done = world.sh(f"echo {words} > {path}/ctl")
    return done.returncode, done.stderr.rpartition(": ")[2].strip()


def runs(world: Box, name: str) -> None:
    wait_until(lambda: read(world, f"jobs/{name}/state") == "RUNNING\n")


def test_a_job_that_is_being_killed_may_be_killed_again_and_one_that_is_over_may_not(world: Box) -> None:
    number = submit(world, "stubborn", spec_of(STUBBORN, grace="1h"))
    wait_until(lambda: "up\n" in read(world, "jobs/stubborn/log.txt"))
    for _ in range(3):
        assert echo(world, "kill", "jobs/stubborn") == (0, "")
        assert read(world, "jobs/stubborn/state") == "STOPPING\n"
    (world.data / f"jobs/{number}/data/src/enough").touch()
    assert read(world, "jobs/stubborn/wait") == "0\n"
    for words in ("kill", "hold", "'priority 20'"):
        assert echo(world, words, "jobs/stubborn") == (1, "Device or resource busy"), words
    assert echo(world, "kil", "jobs/stubborn") == (1, "Invalid argument")


def test_what_does_not_heed_a_kill_is_ended_after_its_grace(world: Box) -> None:
    submit(world, "deaf", spec_of(STUBBORN, grace="1s"))
    wait_until(lambda: "up\n" in read(world, "jobs/deaf/log.txt"))
    assert echo(world, "kill", "jobs/deaf") == (0, "")
    assert read(world, "jobs/deaf/wait") == f"{128 + signal.SIGKILL}\n"
    assert read(world, "jobs/deaf/state") == "CANCELLED\n"


def test_a_job_that_is_given_more_time_outlives_its_first_limit(world: Box) -> None:
    limit = f"{FIRST_LIMIT_S}s"
    submit(world, "ended", spec_of("sleep 600", max_duration="1s"))
    submit(world, "outlives", spec_of(f"sleep {LONGER_S}; echo outlived", max_duration=limit))
    runs(world, "outlives")
    assert facts(world, "outlives")["max_duration_s"] == f"{FIRST_LIMIT_S}"
    assert echo(world, "extend 2h", "jobs/outlives") == (0, "")
    assert facts(world, "outlives")["max_duration_s"] == f"{FIRST_LIMIT_S + GIVEN_S}"
    assert read(world, "jobs/outlives/wait") == "0\n"
    assert "outlived\n" in read(world, "jobs/outlives/log.txt")
    assert read(world, "jobs/ended/wait") == "143\n"
    assert "max_duration" in read(world, "jobs/ended/why")


def test_a_waiting_job_is_held_by_somebody_until_it_is_released(world: Box) -> None:
    assert echo(world, "drain", "nodes/n0") == (0, "")
    submit(world, "parked", spec_of("echo ran"))
    assert echo(world, "release", "jobs/parked") == (1, "Device or resource busy")
    assert echo(world, "hold", "jobs/parked") == (0, "")
    assert read(world, "jobs/parked/why").startswith("held by demo until it is released")
    assert echo(world, "resume", "nodes/n0") == (0, "")
    submit(world, "passes", spec_of("true"))
    assert read(world, "jobs/passes/wait") == "0\n"
    assert read(world, "jobs/parked/state") == "WAITING\n"
    assert echo(world, "release", "jobs/parked") == (0, "")
    assert read(world, "jobs/parked/wait") == "0\n"
    assert "ran\n" in read(world, "jobs/parked/log.txt")


# ---- an ordinary user, whom the kernel holds to the modes


@pytest.fixture
def ann(world: Box, tmp_path: Path) -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """Give what runs a script of bash in the datacenter as an ordinary user, who is a fellow of demo in `ml`."""
    user = ordinary(world, tmp_path / "ann")
    told = world.run("jobd", "adduser", "--data-root", str(world.data), "ann").stdout
    for name in ("ann", "demo"):
        jobd.main(["group", "add", "ml", name, "--data-root", str(world.data)], standalone_mode=False)
    (user.home / "config").write_text(told[told.index("dc1:") :])
    (user.home / "config").chmod(0o644)
    (user.home / "m").mkdir()
    os.chown(user.home / "m", UID, UID)
    with mounted(user) as run:
        yield run


@contextmanager
def mounted(user: Ordinary) -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    env = {**user.env, "PADDLE_CONFIG": str(user.home / "config")}
    words = user.command([str(BIN / "paddle"), "mount", "--foreground", "--log-level", "error", "m"], user.home)
    with subprocess.Popen(words, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stderr is not None

        def run(script: str) -> subprocess.CompletedProcess[str]:
            inside = f"cd {user.home}/m/dc1 && exec bash -c {shlex.quote(script)}"
            return subprocess.run(
                user.beside(process.pid, inside), env=env, capture_output=True, text=True, timeout=WAIT_S, check=False
            )

        try:
            said = process.stderr.readline()
            assert said.endswith(": mounted dc1\n"), said
            yield run
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=2 * WAIT_S)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be an ordinary user, too")
def test_an_ordinary_user_hears_that_a_job_of_a_fellow_and_a_node_are_not_theirs_to_command(
    world: Box, ann: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    number = submit(world, "shared", spec_of("true", hold=True))
    assert echo(world, "share ml", "jobs/shared") == (0, "")
    [cluster] = os.listdir(world.dc / "clusters")
    wait_until(lambda: ann(f"cat jobs/{number}/state").stdout == "WAITING\n")
    for path, word in ((f"jobs/{number}", "kill"), ("nodes/n0", "drain"), (f"clusters/{cluster}", "default")):
        assert ann(f"stat -c %a:%u {path}/ctl").stdout == f"600:{UID}\n", path
        done = ann(f"echo {word} > {path}/ctl")
        assert done.returncode == 1, path
        assert done.stderr.rpartition(": ")[2] == "Operation not permitted\n", done.stderr
        assert ann(f"echo nonsense > {path}/ctl").stderr.endswith(": Invalid argument\n")
    assert (read(world, "jobs/shared/state"), read(world, "nodes/n0/state")) == ("WAITING\n", "ONLINE\n")
    mine = ann('echo "{command: x, hold: true}" > jobs/mine.yaml && echo kill > jobs/mine/ctl && cat jobs/mine/state')
    assert (mine.returncode, mine.stdout) == (0, "CANCELLED\n"), mine.stderr
