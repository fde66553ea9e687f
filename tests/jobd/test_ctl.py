"""The commands of a `ctl` file."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.ctl import HELP, Command, Extend, Hold, Kill, Lost, Priority, Release, Requeue, Signal, parse_ctl
from pfs.errors import Kind, PfsError


@pytest.mark.parametrize(
    ("text", "commands"),
    [
        (b"kill\n", (Kill(),)),
        (b"kill", (Kill(),)),
        (b"\n  kill  \n\n", (Kill(),)),
        (b"signal USR1\n", (Signal(10),)),
        (b"signal SIGUSR1\n", (Signal(10),)),
        (b"signal usr1\n", (Signal(10),)),
        (b"signal 10\n", (Signal(10),)),
        (b"signal 64\n", (Signal(64),)),
        (b"signal SYS\n", (Signal(31),)),
        (b"signal INT\nkill\n", (Signal(2), Kill())),
        (b"hold\npriority 9\nextend 90s\n", (Hold(), Priority(9), Extend(90.0))),
        (b"release\nrequeue\nlost\n", (Release(), Requeue(), Lost())),
    ],
)
def test_commands(text: bytes, commands: tuple[Command, ...]) -> None:
    assert parse_ctl(text) == commands


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "no command"),
        (b"\n", "no command"),
        (b"kil\n", "'kil' is no command; the commands are: kill, signal SIG, hold"),
        (b"KILL\n", "is no command"),
        (b"kill now\n", "kill stands alone"),
        (b"kill -9\n", "write signal"),
        (b"signal\n", "takes one signal"),
        (b"signal 9 9\n", "takes one signal"),
        (b"signal 0\n", "is no signal"),
        (b"signal 65\n", "is no signal"),
        (b"signal SIGSIGUSR1\n", "is no signal"),
        (b"signal NOPE\n", "is no signal"),
        (b"hold on\n", "hold stands alone"),
        (b"priority 101\n", "a number from 0 to 100"),
        (b"extend 2\n", "has no unit"),
        (b"k\xc3\xafll\n", "plain ASCII"),
        (b"kill\n" * 1000, "at most 4096 bytes"),
    ],
)
def test_refused_commands(text: bytes, said: str) -> None:
    with pytest.raises(PfsError, match=said) as raised:
        parse_ctl(text)
    assert raised.value.kind is Kind.INVALID


def test_one_wrong_line_refuses_all_of_them() -> None:
    with pytest.raises(PfsError):
        parse_ctl(b"kill\nnonsense\n")


def test_the_help_names_every_command() -> None:
    with pytest.raises(PfsError) as raised:
        parse_ctl(b"?")
    commands = raised.value.message.partition("the commands are: ")[2].split(", ")
    assert len(commands) == 10
    assert [line.split("  ")[1] for line in HELP.splitlines()[1:]] == commands


@given(st.binary(max_size=60))
def test_any_bytes_are_commands_or_refused(text: bytes) -> None:
    with suppress(PfsError):
        assert parse_ctl(text)
