"""Questions, and from where their answers come; what is secret shows as asterisks.

Answers are lines of standard input: of whoever sits at the terminal, or of a pipe. Only the bytes of such a line are
taken; those behind it are left for whoever reads there next. Where a command sends its standard input on as data, by
`push` without a file or by `exec`, and that is no terminal, answers come from the terminal of the process, `/dev/tty`;
where it has none, nobody is asked, and the command ends before anything is sent.

Questions go to stderr, or to that terminal: what a command prints may go into a pipe itself.
"""

import codecs
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pfs.errors import Kind, PfsError

TERMINAL = "/dev/tty"
_ENDS = ("\r", "\n")
_BACK = ("\x7f", "\b")
_INTERRUPT, _EOF = "\x03", "\x04"
_kept: list[None] = []  # one for each block in which standard input is data: the process has only one


class UnansweredError(PfsError):
    """A question without an answer: it is about nothing that was named."""

    def __init__(self, message: str) -> None:
        super().__init__(Kind.INVALID, message)


def say(text: str) -> None:
    """Tell something."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


@contextmanager
def stdin_is_data() -> Iterator[None]:
    """Take no answer out of standard input in the block, unless that is a terminal."""
    _kept.append(None)
    try:
        yield
    finally:
        _kept.pop()


def ask(question: str, *, hidden: bool = False) -> str:
    """Ask, and return the answer without the end of its line.

    Raises:
        UnansweredError: nobody answers, or with what is no text.
    """
    if not _kept or (sys.stdin is not None and sys.stdin.isatty()):
        answer = _asked(question, _descriptor(), None, hidden=hidden)
    else:
        with _terminal(question) as fd:
            answer = _asked(question, fd, fd, hidden=hidden)
    if not answer:
        say("")
        raise UnansweredError(f"nobody answers {question.strip()!r}: the input has ended")
    return answer.rstrip("\r\n")


def _descriptor() -> int | None:
    """Return that of standard input; None where it is not one of a file, or closed."""
    with suppress(io.UnsupportedOperation, AttributeError):
        return sys.stdin.fileno()
    return None


@contextmanager
def _terminal(question: str) -> Iterator[int]:
    try:
        fd = os.open(TERMINAL, os.O_RDWR | os.O_NOCTTY)
    except OSError:
        reason = f"standard input is what is sent, and there is no terminal to ask {question.strip()!r} at"
        raise UnansweredError(f"{reason}; first answer it by: pit show me") from None
    try:
        yield fd
    finally:
        os.close(fd)


def _asked(question: str, source: int | None, screen: int | None, *, hidden: bool) -> str:
    """Ask, and return the line that answers; "" at the end of the input.

    Args:
        source: a descriptor; None is standard input that has none.
        screen: the descriptor to which the question goes; None is stderr.
    """
    _show(question, screen)
    if source is None:
        return "" if sys.stdin is None else sys.stdin.readline()
    try:
        return _masked(source, screen) if hidden and os.isatty(source) else _line(source)
    except UnicodeDecodeError:
        raise UnansweredError(f"the answer to {question.strip()!r} is no text in UTF-8") from None


def _show(text: str, screen: int | None) -> None:
    if screen is None:
        sys.stderr.write(text)
        sys.stderr.flush()
    else:
        os.write(screen, text.encode())


def _line(fd: int) -> str:
    """Return a line with its end; byte by byte, since what is behind it may be somebody else's."""
    line = bytearray()
    while not line.endswith(b"\n") and (byte := _byte(fd)):
        line += byte
    return line.decode()


def _byte(fd: int) -> bytes:
    """Return the next byte, b"" at the end of the input; others may have it so that it does not wait."""
    while True:
        try:
            return os.read(fd, 1)
        except BlockingIOError:
            select.select([fd], [], [])


def _masked(fd: int, screen: int | None) -> str:
    """Return a line that is typed, of which only asterisks are seen; "" at the end of the input."""
    import termios
    import tty

    before = termios.tcgetattr(fd)
    decoder = codecs.getincrementaldecoder("utf-8")()
    typed: list[str] = []
    try:
        tty.setcbreak(fd)
        mode = termios.tcgetattr(fd)
        mode[3] &= ~termios.ISIG
        termios.tcsetattr(fd, termios.TCSADRAIN, mode)
        while byte := _byte(fd):
            sign = decoder.decode(byte)
            if sign in _ENDS:
                break
            if sign == _INTERRUPT:
                raise KeyboardInterrupt
            if sign == _EOF and not typed:
                return ""
            if sign in _BACK:
                shown = "\b \b" if typed else ""
                typed = typed[:-1]
            elif sign and sign.isprintable():
                typed.append(sign)
                shown = "*"
            else:
                continue
            _show(shown, screen)
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        _show("\n", screen)
    return "".join(typed) + "\n"
