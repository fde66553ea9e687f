"""`paddle exec`: what is typed, what comes back, and that the terminal is left as it was."""

import fcntl
import hashlib
import os
import pty
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from cli.attach.exec import command
from pfs.errors import PfsError
from tests.cli.attach.conftest import Typed

WAIT_S = 60


def run(typed: Typed, *words: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        typed.words("exec", "17", *words), env=typed.env, input=stdin, capture_output=True, timeout=WAIT_S, check=False
    )


def spawn(typed: Typed, *words: str, rows: int = 30, columns: int = 100) -> pexpect.spawn:
    line = typed.words("exec", "17", *words)
    return pexpect.spawn(line[0], line[1:], env=typed.env, timeout=WAIT_S, dimensions=(rows, columns))


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("words", "argv"),
    [
        (("ls", "-l"), ("ls", "-l")),
        (("--", "ls", "--", "-l"), ("ls", "--", "-l")),
        ((), ()),
        (("--",), ()),
    ],
)
def test_a_command_stands_behind_the_job_with_a_line_between_or_without(
    words: tuple[str, ...], argv: tuple[str, ...]
) -> None:
    assert command(words) == argv


def test_an_option_behind_the_job_is_no_command() -> None:
    with pytest.raises(PfsError, match="options come before it"):
        command(("-p", "1.0", "ls"))


@pytest.mark.parametrize("code", [0, 2, 255])
def test_the_exit_code_is_that_of_the_program(typed: Typed, code: int) -> None:
    done = run(typed, "code", str(code))
    assert (done.returncode, done.stdout, done.stderr) == (code, b"", b"")


def test_stdout_and_stderr_come_apart(typed: Typed) -> None:
    done = run(typed, "both")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"out\n", b"err\n")


def test_a_reason_is_told(typed: Typed) -> None:
    done = run(typed, "reason")
    assert (done.returncode, done.stdout, done.stderr) == (137, b"", b"the job ended\n")


def test_ten_megabytes_go_in_and_come_back_byte_for_byte(typed: Typed, tmp_path: Path) -> None:
    data = bytes(range(256)) * 40_000 + b"end"
    assert hashlib.sha256(run(typed, "echo", stdin=data).stdout).digest() == hashlib.sha256(data).digest()
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as file, open(tmp_path / "out", "wb") as out:
        subprocess.run(typed.words("exec", "17", "echo"), env=typed.env, stdin=file, stdout=out, check=True)
    assert (tmp_path / "out").read_bytes() == data


def test_pipes_that_others_do_not_want_to_wait_for_are_read_and_written_to_their_end(typed: Typed) -> None:
    data = bytes(range(256)) * 4_000
    (ours, theirs), (out, end) = os.pipe(), os.pipe()
    for fd in (ours, end):
        os.set_blocking(fd, False)
    with typed.started("exec", "17", "echo", stdin=ours, stdout=end) as process:
        for fd in (ours, end):
            os.close(fd)
        with open(theirs, "wb") as stdin, open(out, "rb") as stdout:
            for start in range(0, len(data), 32_000):
                piece = data[start : start + 32_000]
                stdin.write(piece)
                stdin.flush()
                assert stdout.read(len(piece)) == piece
            stdin.write(data[:60_000])
            stdin.close()
            assert stdout.read() == data[:60_000]
        assert process.wait(WAIT_S) == 0


def test_what_is_not_read_at_once_is_written_when_it_is(typed: Typed) -> None:
    out, end = os.pipe()
    os.set_blocking(end, False)
    fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, 4096)
    with typed.started("exec", "17", "flood", "10", stdin=subprocess.DEVNULL, stdout=end) as process:
        os.close(end)
        with open(out, "rb") as stdout:
            until(lambda: int.from_bytes(fcntl.ioctl(out, termios.FIONREAD, bytes(4)), sys.byteorder) == 4096)
            assert stdout.read() == bytes(range(256)) * 2560
        assert process.wait(WAIT_S) == 0


def test_nothing_to_read_is_the_end_at_once(typed: Typed) -> None:
    for stdin in (subprocess.DEVNULL, None):
        line = typed.words("exec", "17", "echo")
        line = line if stdin is not None else ["sh", "-c", f"{' '.join(line)} <&-"]
        done = subprocess.run(line, env=typed.env, stdin=stdin, capture_output=True, timeout=WAIT_S, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_what_is_refused_is_told_in_one_line(typed: Typed) -> None:
    done = run(typed, "nosuch")
    assert (done.returncode, done.stderr) == (1, b"paddle: there is no program 'nosuch' there\n")
    line = typed.words("exec", "18", "code", "0")
    done = subprocess.run(line, env=typed.env, capture_output=True, timeout=WAIT_S, check=False)
    assert (done.returncode, done.stderr) == (1, b"paddle: job 18 is not running: it waits\n")


def test_a_lost_connection_is_one_sentence_and_255(typed: Typed) -> None:
    done = run(typed, "drop")
    assert done.returncode == 255
    assert done.stderr == b"paddle: the connection to the server was lost; what was begun by it is ended there\n"


def test_a_reader_who_does_not_read_holds_up_the_program(typed: Typed) -> None:
    with typed.started("exec", "17", "flood", "400", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.read(1) == b"\0"
        session = typed.fake.sessions[-1]
        assert session.answered <= 3  # what the pipe and one piece hold
        assert len(process.stdout.read()) == 400 * 65536 - 1
        assert process.wait(WAIT_S) == 0


def test_who_closes_the_pipe_ends_the_program(typed: Typed) -> None:
    line = " ".join(typed.words("exec", "17", "flood", "1000000"))
    done = subprocess.run(
        ["bash", "-c", f"{line} </dev/null | head -c 5; exit ${{PIPESTATUS[0]}}"],
        env=typed.env,
        capture_output=True,
        timeout=WAIT_S,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (141, b"\0\1\2\3\4", b"")
    until(lambda: typed.fake.sessions[-1].is_ended)


def test_signals_are_sent_on_where_there_is_no_terminal(typed: Typed) -> None:
    with typed.started("exec", "17", "signals", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\r\n"
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
            process.send_signal(number)
            assert process.stdout.readline() == b"signal %d\n" % number
        assert process.wait(WAIT_S) == 143


def test_who_is_killed_ends_the_program(typed: Typed) -> None:
    with typed.started("exec", "17", "signals", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.kill()
    until(lambda: typed.fake.sessions[-1].is_ended)


# ---- at a terminal


def test_a_terminal_has_its_size_there_and_every_change_of_it(typed: Typed) -> None:
    with spawn(typed, "size") as here:
        here.expect_exact("True vt100 100x30\r\n")
        here.setwinsize(40, 120)
        here.expect_exact("now 120x40\r\n")
        here.send("x")
        here.expect(pexpect.EOF)
    assert here.exitstatus == 0


def test_every_key_goes_there_as_it_is_and_the_terminal_is_left_as_it_was(typed: Typed) -> None:
    line = " ".join(typed.words("exec", "17", "keys"))
    with pexpect.spawn(
        "sh", ["-c", f"stty -a; {line}; echo over $?; stty -a"], env=typed.env, timeout=WAIT_S, dimensions=(30, 100)
    ) as here:
        here.expect_exact("ready\r\n")
        before = here.before
        for key in (b"\3", b"\4", b"\x1a", b"\r", "é".encode()):
            here.send(key)
            here.expect_exact(repr(key))
        here.send("q")
        here.expect_exact("over 0\r\n")
        here.expect(pexpect.EOF)
        assert here.before == before


@pytest.mark.parametrize("how", ["TERM", "HUP", "lost"])
def test_a_terminal_is_left_as_it_was_however_it_ends(typed: Typed, how: str) -> None:
    near, far = pty.openpty()
    try:
        before = termios.tcgetattr(far)
        ends = {"stdin": far, "stdout": far, "stderr": far}
        with typed.started("exec", "17", "keys", **ends, start_new_session=True) as here:
            seen = b""
            while b"ready" not in seen:
                seen += os.read(near, 1000)
            assert termios.tcgetattr(far) != before
            if how == "lost":
                typed.fake.drop(typed.fake.sessions[-1])
            else:
                here.send_signal(signal.Signals[f"SIG{how}"])
            assert here.wait(WAIT_S) == (255 if how == "lost" else 128 + signal.Signals[f"SIG{how}"])
        assert termios.tcgetattr(far) == before
    finally:
        os.close(near)
        os.close(far)
    until(lambda: typed.fake.sessions[-1].is_ended)


def test_without_a_command_there_is_a_shell_with_a_terminal(typed: Typed) -> None:
    with spawn(typed) as here:
        until(lambda: typed.fake.sessions and typed.fake.sessions[-1].begun["argv"][0] == "sh")
        here.close(force=True)
    assert typed.fake.sessions[-1].begun["tty"] is True


@pytest.mark.parametrize(("option", "tty"), [("-T", False), ("-t", True)])
def test_whether_there_is_a_terminal_can_be_said(typed: Typed, option: str, tty: bool) -> None:
    words = typed.words("exec", option, "17", "size")
    if tty:
        done = subprocess.run(words, env=typed.env, input=b"x", capture_output=True, timeout=WAIT_S, check=False)
        assert done.stdout == b"True vt100 80x24\r\n"
        return
    with pexpect.spawn(words[0], words[1:], env=typed.env, timeout=WAIT_S) as here:
        here.expect_exact("False none 0x0\r")
        here.close(force=True)
