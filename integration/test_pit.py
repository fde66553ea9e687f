"""What `pit` does beside the session of its README (`test_pit_readme`): refusals, files, mounts, a server that is down.

The GPUs are those that a stub of NVIDIA's library tells of.
"""

import os
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import BIN, Box, box
from integration.stubnvml import stub_gpus

MODEL = "GeForce GTX 1070"
STAMP = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]"


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made, stub_gpus([MODEL, MODEL]) as env:
        aliased = made.run("jobd", "alias", "--data-root", str(made.data), "gtx1070", MODEL)
        assert aliased.returncode == 0, aliased.stderr
        made.start_server()
        made.start_node(env=env)
        yield made


@pytest.fixture(scope="module")
def project(world: Box, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a clone whose branch is pushed, with the two files that pit needs beside it."""
    root = tmp_path_factory.mktemp("project")
    origin, work = root / "origin.git", root / "digits"
    git = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.org", "-c", "init.defaultBranch=master"]
    for command in (["init", "--bare", str(origin)], ["clone", "-q", str(origin), str(work)]):
        subprocess.run([*git, *command], check=True, capture_output=True)
    (work / ".compute").write_text("echo from .compute\n")
    for command in (["add", "."], ["commit", "-qm", "first"], ["push", "-q", "-u", "origin", "HEAD:master"]):
        subprocess.run([*git, *command], cwd=work, check=True, capture_output=True)
    return work


def pit(world: Box, project: Path, *words: str) -> str:
    """Run pit in the project, as its README does, and return what it prints."""
    command = [str(BIN / "pit"), *words]
    ran = subprocess.run(command, cwd=project, env=world.env, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def told(text: str, name: str) -> str:
    """Return the value of a `Name:   value` line."""
    found = re.search(rf"^{re.escape(name)}: +(.*)$", text, re.MULTILINE)
    assert found, text
    return found[1]


def without_stamps(log: str) -> list[str]:
    lines = [line for line in log.splitlines() if line]
    assert all(re.match(STAMP, line) for line in lines), log
    return [re.sub(rf"^{STAMP} ", "", line) for line in lines]


def run(world: Box, project: Path, *words: str) -> tuple[dict[str, str], list[str]]:
    """Run a job with its log; return what pit says of it, and the log without its stamps."""
    head, _, log = pit(world, project, "run", *words, "-l").partition("\n\n")
    facts = {name: told(head, name) for name in ("Job number", "Remote", "Hash", "Diff LoC", "Resources")}
    return facts, without_stamps(log)


def test_what_the_cluster_can_never_give_is_refused(world: Box, project: Path):
    command = [str(BIN / "pit"), "run", "Strange job", "2:[],4:[gtx1070,2:gtx1060]", "-d", 'echo "Strange!"']
    ran = subprocess.run(command, cwd=project, env=world.env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "gtx1060" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_what_is_not_committed_goes_along(world: Box, project: Path):
    (project / ".compute").write_text("cat untracked.txt; echo changed\n")
    (project / "untracked.txt").write_text("as it is here\n")
    facts, log = run(world, project, "My task", "[]")
    assert facts["Diff LoC"] != "0"
    assert "[worker 0] as it is here" in log
    assert "[worker 0] changed" in log
    number = facts["Job number"]
    assert pit(world, project, "log", number).endswith("[daemon] Worker 0 requested stop. Stopping pit...\n")
    pit(world, project, "download", number)
    with tarfile.open(project / f"job{number}.tar.gz") as archive:
        found = archive.extractfile("log.txt")
        assert found is not None
        assert b"[worker 0] as it is here\n" in found.read()


# ---- files, in the project and elsewhere


def test_files_are_sent_and_fetched_and_go_on_where_they_were_cut(world: Box, project: Path) -> None:
    data = os.urandom(5 * 1024 * 1024)
    (project / "big").write_bytes(data)
    pit(world, project, "mkdir", "home", "data")
    pit(world, project, "push", "user:me", "data", "big")
    there = world.data / "home/demo/data/big"
    assert there.read_bytes() == data
    os.truncate(there, 1 << 20)
    pit(world, project, "push", "-c", "home", "data/big", "big")
    assert there.read_bytes() == data
    (project / "got").write_bytes(data[:12345])
    pit(world, project, "pull", "-c", "me", "data/big", "got")
    assert (project / "got").read_bytes() == data
    assert pit(world, project, "ls", "home", "data") == "F big\n"
    pit(world, project, "delete", "home", "data")
    assert not there.parent.exists()


def test_a_home_is_mounted_until_ctrl_c(world: Box, project: Path) -> None:
    point = project / "mnt"
    point.mkdir()
    command = [str(BIN / "pit"), "mount", "home", "mnt"]
    process = subprocess.Popen(command, cwd=project, env=world.env, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "press Ctrl-C to unmount\n"
    (point / "note").write_text("seen\n")
    assert (world.data / "home/demo/note").read_text() == "seen\n"
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (0, "unmounting...\n")
    assert (point.is_symlink(), os.listdir(point)) == (False, [])
    shell = {**world.env, "SHELL": "/bin/sh"}
    ran = subprocess.run(
        [*command[:2], "user:me", "--shell"],
        input="cat note; exit\n",
        cwd=project,
        env=shell,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    place, *read = ran.stdout.splitlines()
    assert (ran.returncode, read) == (0, ["seen"])
    assert not os.path.exists(place)


def test_a_server_that_is_down_is_told_in_one_line(world: Box, tmp_path: Path) -> None:
    (tmp_path / ".pitconnect.txt").write_text("http://127.0.0.1:1\n")
    (tmp_path / ".pituser.txt").write_text("ann\npfs1.a.b\n")
    ran = subprocess.run(
        [str(BIN / "pit"), "status"],
        cwd=tmp_path,
        env=world.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.startswith("Command failed: Unable to reach pit: ")
    assert ran.stderr.count("\n") == 1
