"""The whole tree over a real mount: every file is one of the reference, and its rules hold for ordinary programs."""

import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.bench.finished import fill
from integration.box import WAIT_S, Box, box, wait_until
from integration.stubnvml import stub_gpus
from pfs.api import Attr, NodeType
from pfs.tree.virtual import How
from tests.jobd.files.reference import kind_of

GANG = "groups: [{name: a, count: 2, command: sleep 600}, {name: b, command: sleep 600}]"
NODE_TYPES = {stat.S_IFDIR: NodeType.DIRECTORY, stat.S_IFREG: NodeType.FILE, stat.S_IFLNK: NodeType.SYMLINK}


def submit(world: Box, name: str, *lines: str) -> str:
    """Submit a job; return its number."""
    (world.dc / f"jobs/{name}.yaml").write_text("".join(f"{line}\n" for line in lines))
    return os.readlink(world.dc / "jobs" / name)


def read(world: Box, path: str) -> str:
    return (world.dc / path).read_text()


def finish(world: Box, number: str) -> str:
    """Wait for a job's end; return its exit code."""
    return world.sh(f"cat jobs/{number}/wait").stdout.strip()


def runs(world: Box, number: str) -> None:
    wait_until(lambda: read(world, f"jobs/{number}/state") == "RUNNING\n")


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    """A datacenter with jobs in several states, a node with GPUs, and all that people put there.

    Job 1 is over, 2 has failed, 3 is a gang that runs, 4 an array, and the last one is held.
    """
    with box() as made, stub_gpus(["GeForce GTX 1070"]) as env:
        for words in (["alias", "gtx1070", "GeForce GTX 1070"], ["group", "add", "lab", "demo"]):
            assert made.run("jobd", *words, "--data-root", str(made.data)).returncode == 0
        made.start_server()
        made.start_node(env=env)
        made.mount()
        (made.dc / "secrets/token").write_text("hush")
        over = submit(made, "over", "command: 'echo hello > $RESULT_FILE; echo hello'")
        failed = submit(made, "bad", "command: exit 3")
        gang = submit(made, "gang", GANG)
        array = submit(made, "sweep", "command: echo hello", "array: 0-1")
        assert (over, failed, gang, array) == ("1", "2", "3", "4")
        submit(made, "held", "command: x", "hold: true")
        assert [finish(made, number) for number in (over, failed, array)] == ["0", "3", "0"]
        runs(made, gang)
        made.sh("echo 'comand: x' > jobs/wrong.yaml; echo x > jobs/notes~")
        yield made


def walked(world: Box) -> dict[str, Attr]:
    """Return all paths of the tree with what the kernel tells of them, but for what is in folders of ordinary files."""
    found = {}
    waiting = [world.dc]
    while waiting:
        for entry in os.scandir(waiting.pop()):
            status = entry.stat(follow_symlinks=False)
            path, type_ = str(Path(entry.path).relative_to(world.dc)), NODE_TYPES[stat.S_IFMT(status.st_mode)]
            found[path] = Attr(type_, status.st_ino, stat.S_IMODE(status.st_mode), status.st_size)
            kind = kind_of(path, found[path])
            if type_ is NodeType.DIRECTORY and (kind is None or kind.how is not How.FILES):
                waiting.append(Path(entry.path))
    return found


def test_the_reference_names_every_file_of_a_mounted_tree(world: Box) -> None:
    found = walked(world)
    assert len(found) > 200
    assert [path for path, attr in found.items() if kind_of(path, attr) is None] == []


def test_the_readme_at_the_top_can_be_followed(world: Box) -> None:
    text = read(world, "README.txt")
    lines = [re.split(r" {2,}", line.strip())[0] for line in text.splitlines() if line.startswith("    ")]
    submits, *shows, kills = lines
    assert world.sh(submits).returncode == 0
    said = {line: world.sh(line) for line in shows}  # the first of them returns when the job is over
    assert {line: done.returncode for line, done in said.items()} == dict.fromkeys(shows, 0)
    log, code, *_ = (done.stdout for done in said.values())
    assert ("] hello from hello\n" in log, code) == (True, "0\n")
    assert world.sh(kills).stderr.endswith(": Device or resource busy\n")  # it is a command, and comes too late
    assert len(text.splitlines()) <= 10
    assert "jobs/<name>.yaml.error" in text


def test_shared_is_public_and_read_only(world: Box) -> None:
    (world.data / "shared/model").write_text("for everybody\n")
    assert os.readlink(world.dc / "public") == "shared"
    assert read(world, "public/model") == "for everybody\n"
    for command in ("echo x > shared/model", "rm shared/model", "mkdir public/new", "touch public/new"):
        done = world.sh(command)
        assert done.returncode != 0, command
    assert (world.data / "shared/model").read_text() == "for everybody\n"
    assert os.listdir(world.data / "shared") == ["model"]


def test_a_secret_is_written_and_removed_and_never_read(world: Box) -> None:
    assert world.sh("echo hushed > secrets/wandb").returncode == 0
    assert "wandb" in os.listdir(world.dc / "secrets")
    for reads in ("cat secrets/wandb", "cp secrets/wandb home/demo/wandb", "grep -r hush secrets"):
        done = world.sh(reads)
        assert (done.returncode != 0, done.stdout) == (True, ""), reads
        assert "Permission denied" in done.stderr, done.stderr
    assert world.sh("rm secrets/wandb").returncode == 0
    assert "wandb" not in os.listdir(world.dc / "secrets")


def test_a_job_is_found_by_the_name_of_its_file_and_by_that_of_its_spec(world: Box) -> None:
    links = world.dc / "jobs"
    first = submit(world, "stem", "command: x", "hold: true", "name: called")
    assert [os.readlink(links / name) for name in ("stem", "called")] == [first, first]
    second = submit(world, "other", "command: x", "hold: true", "name: called")
    assert [os.readlink(links / name) for name in ("stem", "other", "called")] == [first, second, second]
    third = submit(world, "stem", "command: x", "hold: true")
    assert [os.readlink(links / name) for name in ("stem", "other", "called")] == [third, second, second]
    assert int(first) < int(second) < int(third)


def test_no_text_contains_a_running_clock(world: Box) -> None:
    kinds = {path: kind_of(path, attr) for path, attr in walked(world).items() if attr.type is NodeType.FILE}
    texts = [path for path, kind in kinds.items() if kind is not None and kind.how is How.TEXT]
    before, read_at = {path: read(world, path) for path in texts}, time.time()
    wait_until(lambda: int(time.time()) > int(read_at))
    assert [path for path in texts if read(world, path) != before[path]] == []


def test_views_and_names_that_the_server_gives_are_neither_made_nor_removed(world: Box) -> None:
    for command in (
        "echo x > jobs/17",
        "mkdir jobs/17",
        "ln -s x jobs/by-week",
        "mkdir jobs/by-week",
        "echo x > jobs/x.error",
        "mv jobs/notes~ jobs/by-week",
        "rmdir jobs/by-state",
        "rm jobs/by-state/RUNNING/3",
        "ln -s x jobs/by-state/RUNNING/x",
    ):
        done = world.sh(command)
        assert done.returncode != 0, command
        assert "Operation not permitted" in done.stderr, (command, done.stderr)


def test_a_job_is_found_by_its_state_its_user_and_its_node(world: Box) -> None:
    number = submit(world, "moves", "command: sleep 600")
    runs(world, number)
    for view in ("by-state/RUNNING", "by-user/demo", "by-node/n0"):
        assert os.readlink(world.dc / f"jobs/{view}/{number}") == f"../../{number}"
        assert read(world, f"jobs/{view}/{number}/spec.yaml") == "command: sleep 600\n"
    assert number in os.listdir(world.dc / "jobs/by-state/RUNNING")
    assert world.sh(f"echo kill > jobs/by-user/demo/{number}/ctl; cat jobs/{number}/wait").stdout == "143\n"
    assert number not in os.listdir(world.dc / "jobs/by-state/RUNNING")
    assert number in os.listdir(world.dc / "jobs/by-state/CANCELLED")
    assert (world.dc / f"jobs/by-state/CANCELLED/{number}/exit_code").exists()
    assert world.sh("cat jobs/by-state/FAILED/*/exit_code").stdout == "3\n"


def test_what_happens_is_followed_by_tail(world: Box) -> None:
    command = ["timeout", str(WAIT_S), "tail", "-n", "+1", "-s", "0.1", "-f", "events"]
    with subprocess.Popen(command, cwd=world.dc, stdout=subprocess.PIPE, text=True) as tail:
        assert tail.stdout is not None
        assert "events begin here" in tail.stdout.readline()
        assert re.fullmatch(r"\S+Z SERVER started\n", tail.stdout.readline())
        number = submit(world, "told", "title: Told", "command: sleep 600")
        runs(world, number)
        world.sh(f"echo kill > jobs/{number}/ctl")
        told = [""]
        while "CANCELLED" not in told[-1]:
            line = tail.stdout.readline()
            assert line, told
            told += [line.partition(" ")[2]] if f" job={number} " in line else []
        tail.terminate()
    states = ("STARTING", "RUNNING", "STOPPING", "CANCELLED")
    assert told[-4:] == [f"{state} job={number} user=demo on=n0[] title=Told\n" for state in states]
    assert " ONLINE node=n0\n" in read(world, "events")


def test_of_very_many_jobs_the_newest_10_000_are_listed_and_every_number_can_be_entered() -> None:
    with box() as made:
        fill(made.data, 10_300, recent=10_200)
        made.start_server()
        made.mount()
        for view in ("", "by-state/SUCCEEDED", "by-user/demo"):
            listed = sorted(int(name) for name in os.listdir(made.dc / "jobs" / view) if name.isdigit())
            assert (len(listed), listed[0], listed[-1]) == (10_000, 301, 10_300), view
            assert read(made, f"jobs/{view}/9/state") == "SUCCEEDED\n"
        assert os.listdir(made.dc / "jobs/by-state/FAILED") == []
        for number in (1, 300, 10_300):
            assert read(made, f"jobs/{number}/exit_code") == "0\n"
        made.umount()  # else each of them would be looked at when all ends
