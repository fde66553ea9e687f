"""The whole README of Snakepit's client, typed at a terminal: what it prints, line by line.

`pit/readme.txt` is the session as it was recorded, in the manner of `tests/golden.py`: below a command stands what is
typed where it asks. All of it is typed into one shell, in a project, by somebody who is not known yet; what `jobd` is
told an administrator types elsewhere. A comment above a step says in what it differs from that README, and why. Times,
hashes and UUIDs are masked; lines of processes that run side by side come in the order of their workers.

What the driver tells of a GPU in /proc is in the project here, by UUID: a process prints what it has of that.
"""

import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from integration.box import BIN, WAIT_S, Box, box
from integration.stubnvml import MEMORY_BYTES, changing_gpus, stub_gpus, uuids
from tests.cli.repository import ENV, Repository
from tests.golden import Step, check

SESSION = Path(__file__).with_name("pit") / "readme.txt"
PROMPT = "(a shell) "
ASKS = r"[?:] $"
OLD, NEW = "GeForce GTX 1070", "GeForce GTX 1060"
NODES = {"n0": [OLD] * 2, "n1": [OLD] * 4 + [NEW] * 8}
ALIASES = {"gtx1070": OLD, "gtx1060": NEW}
BUSY = ("util 50", f"process 1 {MEMORY_BYTES // 4}")
URL = "https://github.com/tilman/digits.git"

INFORMATION = """\
Model: \t\t {model}
IRQ:   \t\t {irq}
GPU UUID: \t {uuid}
Video BIOS: \t 86.04.26.00.80
Bus Type: \t PCIe
DMA Size: \t 47 bits
DMA Mask: \t 0x7fffffffffff
Bus Location: \t 0000:0{bus}:00.0
Device Minor: \t {minor}
Blacklisted:\t No
Binary: ""
"""
# the first process that ends ends its fellows, so none goes before all have said what they have to say
TOGETHER = """\
: > "$JOB_DIR/keep/said.$GROUP_INDEX.$PROCESS_INDEX"
count=0
for group in $(seq 0 $((NUM_GROUPS - 1))); do count=$((count + $(printenv NUM_PROCESSES_GROUP$group))); done
until [ "$(ls "$JOB_DIR"/keep/said.* | wc -l)" -ge $count ]; do sleep 0.05; done
"""
PROGRAMS = {
    "gpus": 'for gpu in $(echo "$NVIDIA_VISIBLE_DEVICES" | tr , " "); do cat proc/$gpu; done\n. ./together\n',
    "ping": 'getent hosts "$1" > /dev/null && echo "PING $1"\n. ./together\n',
    "together": TOGETHER,
}
MASKS = {
    r"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\]": "[<time>]",
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ": "<time>",
    r"\b\d\dd \d\d:\d\d:\d\d\b": "<since>     ",
    r"\b[0-9a-f]{40}\b": "<hash>",
    r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}": "<uuid>",
}


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        for alias, model in ALIASES.items():
            assert made.run("jobd", "alias", "--data-root", str(made.data), alias, model).returncode == 0
        assert made.run("jobd", "registration", "--data-root", str(made.data), "open").returncode == 0
        made.start_server()
        with changing_gpus(NODES["n0"], "n0") as (first, gpus), stub_gpus(NODES["n1"], "n1") as second:
            gpus.are(dict.fromkeys((0, 1), BUSY))
            made.start_node("n0", env=first)
            made.start_node("n1", env=second)
            yield made


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a clone whose branch is pushed, with what the driver would tell of all GPUs that there are."""
    made = Repository(tmp_path_factory.mktemp("project") / "digits")
    (made.path / "proc").mkdir()
    for name, models in NODES.items():
        for number, (model, uuid) in enumerate(zip(models, uuids(models, name), strict=True)):
            told = INFORMATION.format(model=model, irq=139 + 3 * number, uuid=uuid, bus=number + 1, minor=number)
            (made.path / "proc" / uuid).write_text(told)
    for name, script in PROGRAMS.items():
        (made.path / name).write_text(f"#!/bin/sh -e\n{script}")
        (made.path / name).chmod(0o755)
    made.commit()
    made.track(url=URL)
    return made.path


@pytest.fixture(scope="module")
def shell(world: Box, project: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator["pexpect.spawn[str]"]:
    """Give the shell of somebody new, who has nothing but the file with the pit's address."""
    home = tmp_path_factory.mktemp("home")
    (home / ".pitconnect.txt").write_text(f"{world.url}\n")
    env = {**world.env, **ENV, "HOME": str(home), "PATH": f"{BIN}:{world.env['PATH']}", "PS1": PROMPT, "TERM": "dumb"}
    del env["PIT_CONFIG_DIR"]
    words = ["--norc", "--noprofile", "--noediting"]
    with pexpect.spawn(
        "bash", words, cwd=project, env=env, encoding="utf-8", timeout=WAIT_S, dimensions=(24, 80)
    ) as made:
        made.expect_exact(PROMPT)
        yield made


def typed(shell: "pexpect.spawn[str]", line: str, answers: list[str]) -> str:
    """Type a command, and what it asks for; return what the terminal shows below the command."""
    shell.sendline(line)
    shell.expect_exact(f"{line}\r\n")
    shown = ""
    for answer in answers:
        shell.expect(ASKS)
        shown += shell.before + shell.after
        shell.sendline(answer)
    shell.expect_exact(PROMPT)
    return str(shown + shell.before).replace("\r\n", "\n")


def masked(text: str) -> str:
    for pattern, mask in MASKS.items():
        text = re.sub(pattern, mask, text)
    return text


def in_order(text: str) -> str:
    """Return a log with the lines of each worker together: those of several come as they happen."""
    lines = text.splitlines(keepends=True)
    return "".join(sorted(lines, key=turn))


def turn(line: str) -> tuple[int, str]:
    source = re.match(r"\[<time>\] \[(worker \d+|daemon)\]", line)
    if source is None:
        return 0, ""
    ends = "requested stop" in line
    return (2, line) if ends else (1, "" if source[1] == "daemon" else source[1])


def test_the_readme_of_snakepits_client_typed_at_a_terminal(
    world: Box, project: Path, shell: "pexpect.spawn[str]", request: pytest.FixtureRequest
) -> None:
    def handler(step: Step) -> str:
        line = " ".join(step.words)
        if step.words[0] == "jobd":
            ran = world.run("jobd", *step.words[1:], "--data-root", str(world.data))
            assert ran.returncode == 0, ran.stderr
            return ran.stdout
        return in_order(masked(typed(shell, line, step.text.splitlines())))

    check(SESSION, handler, request.config.getoption("rewrite"))
    assert stat.S_IMODE((project / ".pituser.txt").stat().st_mode) == 0o600
