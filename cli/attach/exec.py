"""`exec`: a program beside a process of a job, as if it ran here: its input and output, its signals, its exit code.

Where one sits at a terminal, the program has one, of the same size, and every key goes there, Ctrl-C too. Else its
stdin, stdout and stderr are those of this process, byte for byte, and signals are sent on.
"""

import errno
import os
import select
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager

import click
import trio

from cli.attach import tty
from cli.attach.line import Line, Lost, Server, Session, Target, run
from jobd.attach import PIECE_BYTES_MAX, Program
from pfs.errors import Kind, PfsError

SENT_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
ENDING = (signal.SIGTERM, signal.SIGHUP)
TIMES_MOST = 3  # of the same signal, until this end gives up
SHELL = ("sh", "-c", "if command -v bash >/dev/null; then exec bash; else exec sh; fi")


def run_program(server: Server, target: Target, words: Iterable[str], *, wants_tty: bool | None) -> int:
    """Run a program beside a process of a job, and return its exit code.

    Args:
        words: the program with its arguments, behind a `--` or not; none for a shell.
        wants_tty: whether it shall have a terminal; None where one sits at one.

    Raises:
        PfsError: it is refused, with a sentence why.
        Lost: the connection is gone, and with it the program.
    """
    argv = command(words) or SHELL
    has_tty = tty.is_here() if wants_tty is None else wants_tty
    env = {"TERM": os.environ["TERM"]} if has_tty and os.environ.get("TERM") else {}
    program = Program(argv, env, tty.size() if has_tty else None)
    return run(_run, server, target, program)


def command(words: Iterable[str]) -> tuple[str, ...]:
    """Return the program with its arguments, as it was typed behind the job.

    Raises:
        PfsError: INVALID where an option of ours stands there.
    """
    argv = tuple(words)
    if argv[:1] == ("--",):
        return argv[1:]
    if argv and argv[0].startswith("-"):
        raise PfsError(Kind.INVALID, f"{argv[0]} stands behind the job, where the command is; options come before it")
    return argv


async def _run(server: Server, target: Target, program: Program) -> int:
    has_tty = program.terminal is not None
    running = _Running()
    async with Line.to(server) as line:
        session = await line.start(target, program, running)
        with _signals() as signals, tty.raw(wanted=has_tty):
            running.ready.set()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(running.take, _watch, line)
                nursery.start_soon(running.take, _copy_stdin, session)
                nursery.start_soon(running.take, _send_signals_on, signals, session, running, has_tty)
                await running.ended.wait()
                nursery.cancel_scope.cancel()
    return running.result()


async def _watch(line: Line) -> None:
    await line.closed()
    raise Lost


def _signals() -> AbstractContextManager[AsyncIterator[int]]:
    ignored = {number for number in SENT_ON if signal.getsignal(number) is signal.SIG_IGN}  # by nohup, or a shell
    return trio.open_signal_receiver(signal.SIGWINCH, *(number for number in SENT_ON if number not in ignored))


class _Running:
    """A program that runs: what it writes is written here, and how it ends is known at the end.

    Attributes:
        ready: set once what it writes may be written.
        ended: set once nothing is to be waited for any more.
    """

    def __init__(self) -> None:
        self.ready, self.ended = trio.Event(), trio.Event()
        self._code, self._reason = 0, ""
        self._error: BaseException | None = None

    async def came(self, stream: int, data: bytes) -> None:
        """Write what the program wrote; it waits for whoever reads here."""
        await self.ready.wait()
        try:
            await trio.to_thread.run_sync(_write, stream, data, abandon_on_cancel=True)
        except BrokenPipeError:
            self.end(128 + signal.SIGPIPE)
            raise PfsError(Kind.IO, "nobody reads here any more") from None
        except OSError as error:
            self.end(error=error)
            raise PfsError(Kind.IO, "what it writes cannot be written here") from None

    async def over(self, code: int, reason: str) -> None:
        """Note how it ended."""
        self._reason = reason
        self.end(code)

    def end(self, code: int = 0, *, error: BaseException | None = None) -> None:
        """Wait for nothing more; what was said first counts."""
        if not self.ended.is_set():
            self._code, self._error = code, error
            self.ended.set()

    async def take(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        """Do something meanwhile; what goes wrong with it is the end."""
        try:
            await work(*args)
        except (click.ClickException, PfsError, OSError) as error:
            self.end(error=error)

    def result(self) -> int:
        """Return the exit code, having told a reason for it.

        Raises:
            Lost, PfsError, OSError: what ended it here.
        """
        if self._error is not None:
            raise self._error
        if self._reason:
            click.echo(self._reason, err=True)
        return self._code


def _write(fd: int, data: bytes) -> None:
    if (sys.stdout if fd == tty.STDOUT else sys.stderr) is None:  # it was closed, and may be anything by now
        return
    left = memoryview(data)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:  # others have it so
            select.select([], [fd], [])


async def _copy_stdin(session: Session) -> None:
    """Send what is typed, or comes by a pipe or file, until it ends or nobody reads it there."""
    while await session.send(data := await _read_stdin()):
        if not data:
            return


async def _read_stdin() -> bytes:
    """Return what there is of stdin, b"" at its end; it stays as blocking as others have it."""
    if sys.stdin is None:
        return b""
    while True:
        try:
            await trio.lowlevel.wait_readable(tty.STDIN)
        except OSError as error:
            if error.errno != errno.EPERM:  # that is a file, which never keeps anybody waiting
                raise
        try:
            return os.read(tty.STDIN, PIECE_BYTES_MAX)
        except BlockingIOError:
            continue  # somebody else has read it
        except OSError as error:
            if error.errno != errno.EIO:  # the terminal is gone
                raise
            return b""


async def _send_signals_on(signals: AsyncIterator[int], session: Session, running: _Running, has_tty: bool) -> None:
    """Send on what this process is told; who asks it often to end, or has no terminal any more, ends it here."""
    asked: Counter[int] = Counter()
    async for number in signals:
        if number == signal.SIGWINCH:
            if has_tty:
                await session.resize(tty.size())
            continue
        asked[number] += 1
        if asked[number] == TIMES_MOST or (has_tty and number in ENDING):
            running.end(128 + number)
            return
        await session.signal(number)
