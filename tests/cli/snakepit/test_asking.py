"""Questions, by programs as they run: whose bytes an answer is, and what is seen of it."""

import io
import os
import pty
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from cli.snakepit.asking import ask, stdin_is_data
from pfs.errors import PfsError
from tests.cli.snakepit.doorkeeper import PASSWORD, Server, doorkeeper

PIT = str(Path(sys.executable).with_name("pit"))
QUESTION = "Please enter password: "
NO_TERMINAL = (
    "Command failed: standard input is what is sent, and there is no terminal to ask 'Please enter password:' at; "
    "first answer it by: pit show me\n"
)
ASKING = f"""\
import sys
from cli.snakepit.asking import ask, stdin_is_data
with stdin_is_data():
    print(ask({QUESTION!r}, hidden=True))
print(sys.stdin.buffer.read())
"""


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that takes no more the token of the user whose files lie here."""
    with doorkeeper() as made:
        (tmp_path / ".pitconnect.txt").write_text(f"{made.url}\n")
        (tmp_path / ".pituser.txt").write_text("ann\npfs1.a.old\n")
        monkeypatch.chdir(tmp_path)
        yield made


def run(*words: str, typed: str) -> tuple[int, str, str]:
    """Run a program that has a pipe and no terminal; return its status, and what it writes to stdout and stderr."""
    done = subprocess.run(
        words, input=typed.encode(), capture_output=True, timeout=60, check=False, start_new_session=True
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def test_what_is_behind_an_answer_is_left_for_the_next_that_reads(server: Server) -> None:
    answered = run("sh", "-c", f"{PIT} log 17; cat", typed=f"{PASSWORD}\nhello\nworld\n")
    assert answered == (0, "name somebody\nhello\nworld\n", QUESTION)


def test_an_answer_that_is_the_last_line_needs_no_end(server: Server) -> None:
    assert run(PIT, "log", "17", typed=PASSWORD)[:2] == (0, "name somebody\n")


@pytest.mark.parametrize("words", ["push home x", "push home x /dev/stdin", "exec 2 cat", "exec 2"])
def test_no_password_is_taken_out_of_data_where_there_is_no_terminal(words: str, server: Server) -> None:
    assert run(PIT, *words.split(), typed=f"{PASSWORD}\nhello\n") == (1, "", NO_TERMINAL)
    assert server.asked == []
    assert Path(".pituser.txt").read_text() == "ann\npfs1.a.old\n"


def test_where_a_file_is_pushed_a_password_may_come_by_a_pipe(server: Server) -> None:
    Path("data").write_text("1\n")
    run(PIT, "push", "home", "x", "data", typed=f"{PASSWORD}\n")  # the server has no files, but takes the password
    assert [asked["password"] for _, asked in server.asked] == [PASSWORD]


def test_the_terminal_is_asked_where_data_comes_by_a_pipe() -> None:
    line = f"printf 'hello\\nworld\\n' | {shlex.quote(sys.executable)} -c {shlex.quote(ASKING)} 2> /dev/null"
    with pexpect.spawn("sh", ["-c", line], timeout=30, encoding="utf-8") as here:
        here.expect_exact(QUESTION)
        here.sendline("paß")
        here.expect_exact("***\r\npaß\r\n" + repr(b"hello\nworld\n"))
        here.expect(pexpect.EOF)


def test_who_sits_at_a_terminal_is_asked_there_whatever_the_command_does_with_it() -> None:
    with pexpect.spawn(sys.executable, ["-c", ASKING], timeout=30, encoding="utf-8") as here:
        here.expect_exact(QUESTION)
        here.sendline("paxß\x7f\x7fß")
        here.expect_exact("****\b \b\b \b*\r\npaß\r\n")
        here.send("hello\n\4")
        here.expect_exact(repr(b"hello\n"))


def test_the_end_of_an_answer_is_not_waited_for_where_others_have_stdin_so(monkeypatch: pytest.MonkeyPatch) -> None:
    near, far = pty.openpty()
    os.set_blocking(far, False)
    with os.fdopen(far) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(near, b"tilman\n")
        assert ask("Who? ") == "tilman"
    os.close(near)


def test_an_answer_that_is_no_text_is_told_and_closed_input_is_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    read, write = os.pipe()
    os.write(write, b"\xff\n")
    os.close(write)
    with os.fdopen(read) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        with pytest.raises(PfsError, match=r"^the answer to 'Who\?' is no text in UTF-8$"):
            ask("Who? ")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(PfsError, match=r"^nobody answers 'Who\?'"):
        ask("Who? ")


def test_data_is_kept_only_while_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.snakepit.asking.TERMINAL", "/nowhere")
    monkeypatch.setattr(sys, "stdin", io.StringIO("data\nbob\n"))
    with stdin_is_data(), pytest.raises(PfsError, match="first answer it by: pit show me"):
        ask("Who? ")
    assert ask("Who? ") == "data"
