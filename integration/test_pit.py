"""The session of Snakepit's README, step by step, with GPUs that a stub of NVIDIA's library tells of.

A process sees of its GPUs what a container would: their UUIDs, in NVIDIA_VISIBLE_DEVICES.
"""

import os
import re
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from integration.box import BIN, Box, box
from integration.stubnvml import stub_gpus

MODEL = "GeForce GTX 1070"
SHOW = 'for gpu in $(echo "$NVIDIA_VISIBLE_DEVICES" | tr , " "); do echo "GPU UUID: $gpu"; done'
STAMP = r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]"


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made, stub_gpus([MODEL, MODEL]) as env:
        aliased = made.run("jobd", "alias", "--data-root", str(made.data), "gtx1070", MODEL)
        assert aliased.returncode == 0, aliased.stderr
        assert made.run("jobd", "registration", "--data-root", str(made.data), "open").returncode == 0
        made.start_server()
        made.start_node(env=env)
        made.mount()
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


def test_status_and_me_are_told(world: Box, project: Path):
    assert pit(world, project, "status").splitlines()[0].split() == [
        *("JOB", "S", "SINCE", "UC%", "UM%", "USER", "TITLE", "RESOURCE"),
    ]
    assert told(pit(world, project, "show", "me"), "Username") == "demo"


def test_nodes_tell_their_gpus(world: Box, project: Path):
    assert pit(world, project, "show", "nodes") == "n0\n"
    assert pit(world, project, "show", "node:n0").splitlines() == [
        "Node name: n0",
        "State:     ONLINE",
        *[line for line in pit(world, project, "show", "node:n0").splitlines() if line.startswith("Since:")],
        "Resources: ",
        f'  0: "{MODEL}" aka "gtx1070" (cuda 0)',
        f'  1: "{MODEL}" aka "gtx1070" (cuda 1)',
    ]


def test_first_light_is_one_process_with_two_gpus(world: Box, project: Path):
    facts, log = run(world, project, "First light", "[2:gtx1070]", "-d", SHOW)
    assert facts["Resources"] == '"[2:gtx1070]"'
    assert facts["Diff LoC"] == "0"
    assert re.fullmatch("[0-9a-f]{40}", facts["Hash"])
    gpus = [line for line in log if "GPU UUID" in line]
    assert len(set(gpus)) == 2
    assert all(line.startswith("[worker 0] GPU UUID: GPU-") for line in gpus)
    assert [line for line in log if line not in gpus and not line.startswith("[prepare]")] == [
        "[daemon] Pit daemon started",
        "[worker 0] Worker 0 started",
        "[worker 0] Worker 0 ended with exit code 0",
        "[daemon] Worker 0 requested stop. Stopping pit...",
    ]


def test_second_light_is_two_processes_with_one_gpu_each(world: Box, project: Path):
    # the first that ends would end the other before it has begun
    _, log = run(world, project, "Second light", "2:[gtx1070]", "-d", f"{SHOW}; sleep 1")
    gpus = sorted(line for line in log if "GPU UUID" in line)
    assert [line[: len("[worker 0]")] for line in gpus] == ["[worker 0]", "[worker 1]"]
    assert len({line.split()[-1] for line in gpus}) == 2
    for worker in (0, 1):
        assert f"[worker {worker}] Worker {worker} started" in log
        assert f"[worker {worker}] Worker {worker} ended with exit code 0" in log
        assert f"[daemon] Worker {worker} requested stop. Stopping pit..." in log


def test_what_the_cluster_can_never_give_is_refused(world: Box, project: Path):
    command = [str(BIN / "pit"), "run", "Strange job", "2:[],4:[gtx1070,2:gtx1060]", "-d", 'echo "Strange!"']
    ran = subprocess.run(command, cwd=project, env=world.env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "gtx1060" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_processes_without_gpus_come_beside_those_with_some(world: Box, project: Path):
    _, log = run(world, project, "Strange job", "2:[],2:[gtx1070]", "-d", f'echo "Strange!"; {SHOW}; sleep 1')
    assert sorted(line for line in log if "Strange!" in line) == [f"[worker {n}] Strange!" for n in range(4)]
    assert sorted(line[:10] for line in log if "GPU UUID: GPU-" in line) == ["[worker 2]", "[worker 3]"]


def test_two_processes_find_one_another(world: Box, project: Path):
    both = "echo me is $PROCESS_INDEX, other is $(getent hosts $HOST_GROUP0_PROCESS$((1 - PROCESS_INDEX)))"
    _, log = run(world, project, "Ping", "2:[]", "-d", f"{both}; sleep 1")
    said = sorted(line for line in log if "other is" in line)
    assert [re.sub(r" [0-9.]+ .*", "", line) for line in said] == [f"[worker {n}] me is {n}, other is" for n in (0, 1)]


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


# ---- first use


def test_who_is_new_registers_at_a_terminal_and_goes_on(world: Box, tmp_path: Path) -> None:
    (tmp_path / ".pitconnect.txt").write_text(f"{world.url}\n")
    env = {**world.env, "HOME": str(tmp_path), "COLUMNS": "80"}
    del env["PIT_CONFIG_DIR"]
    program = str(BIN / "pit")
    with pexpect.spawn(program, ["show", "me"], cwd=tmp_path, env=env, encoding="utf-8", timeout=60) as typed:
        typed.expect_exact(
            "No user info found. Seems like a new user or first time login from this machine.\r\n"
            "Please enter an existing or new username: "
        )
        typed.sendline("tilman")
        typed.expect_exact("tilman\r\nFound no user of that name.\r\nDo you want to register this usename (yes|no)? ")
        typed.sendline("yes")
        for question, answer in (("Full name: ", "Tilman Kamp"), ("E-Mail address: ", "tilman@example.org")):
            typed.expect_exact(question)
            typed.sendline(answer)
        password = "correct horse battery"
        for question in ("New password: ", "Reinput a same one to confirm it: "):
            typed.expect_exact(question)
            typed.sendline(password)
            typed.expect_exact(f"{'*' * len(password)}\r\n")
        typed.expect_exact("Username:         tilman\r\n")
        typed.expect(pexpect.EOF)
    assert typed.exitstatus == 0
    assert (tmp_path / ".pituser.txt").stat().st_mode & 0o777 == 0o600
    assert password not in (tmp_path / ".pituser.txt").read_text()


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
