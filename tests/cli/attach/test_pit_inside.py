"""`pit exec` and `pit forward`: the same, with workers that are counted over all groups, and in Snakepit's words."""

import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.cli.attach.conftest import PADDLE, Typed
from tests.cli.attach.fake import TOKEN

PIT = str(Path(PADDLE).parent / "pit")
WAIT_S = 60


@pytest.fixture
def pit(typed: Typed, tmp_path: Path) -> dict[str, str]:
    """The environment of somebody who uses `pit`."""
    (tmp_path / ".pitconnect.txt").write_text(f"{typed.fake.url}\n")
    (tmp_path / ".pituser.txt").write_text(f"ann\n{TOKEN}\n")
    return {**typed.env, "PIT_CONFIG_DIR": str(tmp_path)}


def run(env: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([PIT, *words], env=env, capture_output=True, text=True, timeout=WAIT_S, check=False)


@pytest.mark.parametrize(("words", "worker"), [((), "0"), (("-w", "1"), "1")])
@pytest.mark.parametrize("between", [(), ("--",)])
def test_a_worker_is_entered_and_the_status_is_the_commands(
    typed: Typed, pit: dict[str, str], words: tuple[str, ...], worker: str, between: tuple[str, ...]
) -> None:
    done = run(pit, "exec", *words, "17", *between, "code", "2")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")
    assert typed.fake.sessions[-1].begun["process"] == worker


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("exec", "18", "code", "0"), "job 18 is not running: it waits"),
        (("exec", "17", "-w", "1", "ls"), "-w stands behind the job, where the command is; options come before it"),
        (("exec", "x", "ls"), "Wrong job id format"),
        (("forward", "17"), "no port is named; 8080:80 forwards port 80 of the job to port 8080 here"),
        (("forward", "18", "0:80"), "job 18 is not running: it waits"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_status_1(pit: dict[str, str], words: tuple[str, ...], said: str) -> None:
    done = run(pit, *words)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"Command failed: {said}\n")


def test_a_port_is_forwarded_until_ctrl_c(typed: Typed, pit: dict[str, str]) -> None:
    words = [PIT, "forward", "-w", "1", "17", "0:80"]
    with subprocess.Popen(words, env=pit, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert re.fullmatch(r"127\.0\.0\.1:\d+ is port 80 of job 17; Ctrl-C ends that\n", line)
        process.send_signal(signal.SIGINT)
        assert (process.wait(WAIT_S), process.stderr.read()) == (0, "")
