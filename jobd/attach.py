"""What is said where somebody is let into a running process: a program beside it, or a connection to one of its ports.

The same words are used on both legs, between a client and the server and between the server and a node; the server
hands them on. One program or one connection is a *session*. Who asks for it gives it a name: on the first leg the
client, unique on its connection; on the second the server.

Asked towards the task:

    attach.exec    {session, …, argv, env, tty, columns, lines} → {}   the program has begun; argv has at least one word
    attach.dial    {session, …, port}                           → {}   a connection to that port of the process's own
                                                                       loopback stands
    attach.send    {session, eof}      body: the bytes          → {}   the next hop took them; `eof`: no more come
    attach.resize  {session, columns, lines}                    → {}   of a terminal
    attach.signal  {session, signal}                            → {}   its number, for the program and its children
    attach.end     {session}                                    → {}   the asker is gone: kill it, close it
    attach.check   {job, process}                               → {}   asked of the server alone, before anything is
                                                                       begun: it refuses what cannot be entered now

Told by the task's side:

    attach.came    {session, stream}   body: the bytes          → {}   the next hop took them; an empty body: no more
                                                                       come of this stream
    attach.over    {session, code, reason}                      → {}   the last that is told, after all `came` were
                                                                       answered: the exit code, 128 + n for a signal n;
                                                                       of a connection 0, or 1 with a reason

For `…` a client says {job, process}, a number and "<group>.<process>", or a number that counts the processes of all
groups, or null for the first one; the server says {task}. `stream` is 1 (stdout) or 2 (stderr); a terminal and a
connection have only 1. `columns` and `lines` are 0 where there is no terminal. `env` is added to what the process has.

Flow control: a piece has at most `PIECE_BYTES_MAX` bytes, and whoever sends one sends the next one of that stream when
it was answered. Who answers only when it could hand the piece on, so slows the writer and nobody else.

A program that cannot be begun is refused: NOT_FOUND or DENIED with a sentence where argv[0] is not there or no program,
NOT_FOUND where there is no such task, BUSY where it does not run now. A port that nobody listens on is refused with
UNREACHABLE. `attach.send` to a program that reads no more is refused with BUSY, and the session goes on. `attach.end`
and `attach.over` of a session that is not known (any more) are answered with {}, all else with NOT_FOUND. A question
may be taken back, and `attach.end` may come, before `attach.exec` is answered: then, too, nothing stays.

Whoever loses its connection ends its sessions on the other leg. A session does not end by time, but with its task.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pfs.errors import Kind, PfsError

Json = dict[str, Any]

PREFIX = "attach."
EXEC, DIAL, SEND = "attach.exec", "attach.dial", "attach.send"
RESIZE, SIGNAL, END = "attach.resize", "attach.signal", "attach.end"
CHECK = "attach.check"
CAME, OVER = "attach.came", "attach.over"

PIECE_BYTES_MAX = 64 * 1024
STDOUT, STDERR = 1, 2
ARGV_CHARACTERS_MAX = 128 * 1024  # the kernel takes one word of so many bytes, and some more in all
SIDE_MAX = 0xFFFF  # of a terminal, in characters
SIGNAL_MAX = 64
SESSION_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True)
class Terminal:
    """How large a terminal is, in characters."""

    columns: int
    lines: int


@dataclass(frozen=True, slots=True)
class Program:
    """A program that shall run beside a process.

    Attributes:
        env: added to what the process has.
        terminal: the terminal that it shall have; None for three pipes.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    terminal: Terminal | None = None


@dataclass(frozen=True, slots=True)
class Port:
    """A port of the process's own loopback."""

    number: int


def encode_program(program: Program) -> Json:
    """Return the program in JSON, as the arguments of `attach.exec` have it."""
    size = program.terminal or Terminal(0, 0)
    return {
        "argv": list(program.argv),
        "env": dict(program.env),
        "tty": program.terminal is not None,
        "columns": size.columns,
        "lines": size.lines,
    }


def decode_program(args: Json) -> Program:
    """Return the program in the arguments of `attach.exec`.

    Raises:
        PfsError: INVALID when there is none.
    """
    try:
        argv = tuple(_word(word) for word in _listed(args["argv"]))
        env = {_word(name): _word(text) for name, text in args["env"].items()}
        if not argv or not argv[0]:
            raise ValueError("argv: no program is named")
        if sum(map(len, [*argv, *env, *env.values()])) > ARGV_CHARACTERS_MAX:
            raise ValueError(f"argv: more than {ARGV_CHARACTERS_MAX} characters")
        if any("=" in name or not name for name in env):
            raise ValueError("env: a name that is none")
        return Program(argv, env, decode_terminal(args) if args["tty"] is True else None)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper program: {error}") from None


def decode_terminal(args: Json) -> Terminal:
    """Return how large a terminal is by the arguments of `attach.exec` and `attach.resize`.

    Raises:
        PfsError: INVALID when they do not say.
    """
    return Terminal(_ranged(args, "columns", 0, SIDE_MAX), _ranged(args, "lines", 0, SIDE_MAX))


def decode_port(args: Json) -> Port:
    """Return the port in the arguments of `attach.dial`.

    Raises:
        PfsError: INVALID when it is none.
    """
    return Port(_ranged(args, "port", 1, 65535))


def decode_signal(args: Json) -> int:
    """Return the number of a signal.

    Raises:
        PfsError: INVALID when it is none.
    """
    return _ranged(args, "signal", 1, SIGNAL_MAX)


def decode_stream(args: Json) -> int:
    """Return where bytes came from, `STDOUT` or `STDERR`.

    Raises:
        PfsError: INVALID when it is neither.
    """
    return _ranged(args, "stream", STDOUT, STDERR)


def decode_over(args: Json) -> tuple[int, str]:
    """Return the exit code of a session that is over, and the reason.

    Raises:
        PfsError: INVALID when they are not told.
    """
    return _ranged(args, "code", 0, 255), str(args.get("reason", ""))


def session_of(args: Json) -> str:
    """Return which session is meant.

    Raises:
        PfsError: INVALID when none is named.
    """
    session = args.get("session")
    if not isinstance(session, str) or not 0 < len(session) <= SESSION_CHARACTERS_MAX:
        raise PfsError(Kind.INVALID, f"{str(session)[:SESSION_CHARACTERS_MAX]!r} is no session")
    return session


def checked_piece(body: bytes) -> bytes:
    """Return a piece that is not too long.

    Raises:
        PfsError: TOO_LARGE.
    """
    if len(body) > PIECE_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"a piece has {PIECE_BYTES_MAX} bytes at most")
    return body


def _word(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise ValueError("a word that is none")
    return value


def _listed(value: object) -> list[object]:
    if not isinstance(value, list):
        raise TypeError("argv: no list")
    return value


def _ranged(args: Json, name: str, least: int, most: int) -> int:
    value = args.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise PfsError(Kind.INVALID, f"{name} is a number from {least} to {most}, and not {str(value)[:20]!r}")
    return value
