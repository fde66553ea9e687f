"""Questions to whoever sits at the terminal, or to the lines that a pipe brings; what is secret shows as asterisks.

Questions go to stderr: what a command prints may go into a pipe itself.
"""

import sys

from pfs.errors import Kind, PfsError

_ENDS = ("\r", "\n")
_BACK = ("\x7f", "\b")
_INTERRUPT, _EOF = "\x03", "\x04"


def say(text: str) -> None:
    """Tell something."""
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def ask(question: str, *, hidden: bool = False) -> str:
    """Ask, and return the answer without the end of its line.

    Raises:
        PfsError: INVALID where nobody answers.
    """
    sys.stderr.write(question)
    sys.stderr.flush()
    answer = _masked() if hidden and sys.stdin.isatty() else sys.stdin.readline()
    if not answer:
        say("")
        raise PfsError(Kind.INVALID, f"nobody answers {question.strip()!r}: the input has ended")
    return answer.rstrip("\r\n")


def _masked() -> str:
    """Return a line that is typed, of which only asterisks are seen; "" at the end of the input."""
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    typed: list[str] = []
    try:
        tty.setcbreak(fd)
        mode = termios.tcgetattr(fd)
        mode[3] &= ~termios.ISIG
        termios.tcsetattr(fd, termios.TCSADRAIN, mode)
        while (sign := sys.stdin.read(1)) not in (*_ENDS, ""):
            if sign == _INTERRUPT:
                raise KeyboardInterrupt
            if sign == _EOF and not typed:
                return ""
            if sign in _BACK:
                shown = "\b \b" if typed else ""
                typed = typed[:-1]
            elif sign.isprintable():
                typed.append(sign)
                shown = "*"
            else:
                continue
            sys.stderr.write(shown)
            sys.stderr.flush()
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        sys.stderr.write("\n")
        sys.stderr.flush()
    return "".join(typed) + "\n"
