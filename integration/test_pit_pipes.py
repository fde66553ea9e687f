"""`pit` between pipes and terminals: what is sent arrives whole, whatever is asked meanwhile, and nothing is mixed."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from integration.box import BIN, WAIT_S, Box, box

PASSWORD = "four words that nobody has"
ASKED = "Please enter password: "
BIG_BYTES = 5 * 1024 * 1024


@pytest.fixture(scope="module")
def world() -> Iterator[Box]:
    with box() as made:
        made.start_server()
        made.start_node()
        words = ["user:demo2", "fullname=Demo", "email=d@example.org", f"password={PASSWORD}"]
        assert made.run("pit", "add", *words).returncode == 0
        yield made


@pytest.fixture
def folder(world: Box, tmp_path: Path) -> Path:
    """Give a folder of somebody whose token is good no more."""
    (tmp_path / ".pitconnect.txt").write_text(f"{world.url}\n")
    (tmp_path / ".pituser.txt").write_text("demo2\npfs1.a.old\n")
    return tmp_path


def spawned(world: Box, folder: Path, line: str) -> "pexpect.spawn[str]":
    env = {**world.env, "PATH": f"{BIN}:{world.env['PATH']}", "TERM": "dumb"}
    del env["PIT_CONFIG_DIR"]
    return pexpect.spawn(
        "sh", ["-c", line], cwd=folder, env=env, encoding="utf-8", timeout=WAIT_S, dimensions=(24, 80), echo=False
    )


def at_terminal(world: Box, folder: Path, line: str, *, answers: bool = False) -> str:
    """Type a line for the shell, and the password where that is asked for; return what the terminal shows."""
    with spawned(world, folder, line) as here:
        if answers:
            here.expect_exact(ASKED)
            here.sendline(PASSWORD)
        here.expect(pexpect.EOF)
        return str(here.before).replace("\r\n", "\n")


def test_what_is_pushed_or_run_from_a_pipe_arrives_whole_though_a_password_is_asked_for(
    world: Box, folder: Path
) -> None:
    user = (folder / ".pituser.txt").read_text()
    at_terminal(world, folder, "printf 'hello\\nworld\\n' | pit push home x", answers=True)
    assert at_terminal(world, folder, "pit cat home x") == "hello\nworld\n"
    number = at_terminal(world, folder, "pit run -a x [] -d 'sleep 600' | sed -n 's/Job number: //p'").split()[-1]
    at_terminal(world, folder, f"until pit get {number} state | grep RUN; do sleep 0.1; done")
    (folder / ".pituser.txt").write_text(user)
    line = f"printf 'hello\\nworld\\n' | pit exec {number} cat"
    assert at_terminal(world, folder, line, answers=True).endswith("\nhello\nworld\n")
    at_terminal(world, folder, f"pit stop {number}")


def test_nothing_is_sent_where_a_password_is_missing_and_there_is_no_terminal(world: Box, folder: Path) -> None:
    env = {**world.env, "PIT_CONFIG_DIR": str(folder)}
    ran = subprocess.run(
        [str(BIN / "pit"), "push", "home", "nothing"],
        input=f"{PASSWORD}\nhello\n",
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=True,
    )
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert "first answer it by: pit show me" in ran.stderr
    assert "nothing" not in at_terminal(world, folder, "pit ls home", answers=True)


def test_a_file_that_is_printed_has_no_bar_among_its_lines(world: Box, folder: Path) -> None:
    (folder / "big").write_text("0123456\n" * (BIG_BYTES // 8))
    at_terminal(world, folder, f"pit push home big {shlex.quote(str(folder / 'big'))}", answers=True)
    for line in ("pit cat home big", "pit pull home big /dev/stdout"):
        assert set(at_terminal(world, folder, line).split()) == {"0123456"}
    assert "of 5.0 MiB [" in at_terminal(world, folder, "pit pull home big > there")
