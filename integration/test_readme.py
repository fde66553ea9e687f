"""README's tour of the tree, walked in a live one."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.box import Box, box
from integration.stubnvml import stub_gpus

README = (Path(__file__).parent.parent / "README.md").read_text()
TOUR = re.search(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)
assert TOUR is not None
LINES = TOUR[1].splitlines()


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made, stub_gpus(["GeForce GTX 1070"]) as env:
        for words in (["alias", "gtx1070", "GeForce GTX 1070"], ["group", "add", "lab", "demo"]):
            assert made.run("jobd", *words, "--data-root", str(made.data)).returncode == 0
        made.start_server()
        made.start_node(env=env)
        made.mount()
        (made.dc / "jobs/job.yaml").write_text("command: echo hi\n")
        (made.dc / "jobs/sweep.yaml").write_text("command: echo $PFS_TASK_ID\narray: 0-1\n")
        (made.dc / "secrets/job").write_text("hush")
        made.sh("cat jobs/job/log; cp /dev/null x; echo 'comand: x' > jobs/bad.yaml")
        yield made


def test_the_tour_fits_on_a_screen():
    assert 8 <= len(LINES) <= 24


@pytest.mark.parametrize("line", LINES)
def test_every_path_of_the_tour_is_there(world: Box, line: str):
    path = line.split("  ", maxsplit=1)[0].replace("<user>", "demo").replace("<node>", "n0").replace("<id>", "1")
    path = path.replace("<name>.yaml.error", "bad.yaml.error").replace("<name>", "job")
    path = path.replace("<group>", "lab").replace("<state>", "SUCCEEDED")
    path = path.replace("<cluster>", os.listdir(world.dc / "clusters")[0])
    path = path.replace("<i>", "0").replace("<alias>", "gtx1070")
    assert (world.dc / path).exists(), path


def test_readme_names_every_file_of_a_job_and_of_a_node(world: Box):
    section = README.split("## The tree", 1)[1].split("**Submitting.**", 1)[0]
    for directory in ("jobs/1", "nodes/n0"):
        for name in os.listdir(world.dc / directory):
            assert re.search(rf"\b{re.escape(name)}\b", section), f"{directory}/{name}"


def test_a_spec_can_be_put_with_curl(world: Box):
    command = re.search(r"`(curl [^`]*)`", README)
    assert command is not None
    (world.root / "job.yaml").write_text("command: echo by curl\n")
    env = {**world.env, "TOKEN": world.token, "URL": world.url}
    script = command[1] + " -sS --fail -D -"
    done = subprocess.run(
        ["bash", "-c", script], cwd=world.root, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "HTTP/1.1 201" in done.stdout
    assert "by curl" in world.sh("cat jobs/job/log").stdout


def test_the_example_of_the_trees_own_readme_works(world: Box):
    text = (world.dc / "README.txt").read_text()
    example = [line.strip().split("   ")[0] for line in text.splitlines() if line.startswith("    ")]
    done = world.sh("\n".join(example[:3]))
    assert done.returncode == 0, done.stderr
    assert "hello from hello" in done.stdout
    assert done.stdout.endswith("0\n")
