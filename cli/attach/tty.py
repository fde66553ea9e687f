"""The terminal that one sits at: whether there is one, how large it is, and that it is left as it was."""

import os
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from jobd.attach import SIDE_MAX, Terminal

STDIN, STDOUT, STDERR = 0, 1, 2
USUAL = Terminal(80, 24)


def is_here() -> bool:
    """Tell whether somebody types and sees what is written."""
    return os.isatty(STDIN) and os.isatty(STDOUT)


def size() -> Terminal:
    """Return how large the terminal is; the usual size where there is none, or it does not say."""
    for fd in (STDOUT, STDIN):
        with suppress(OSError):
            found = os.get_terminal_size(fd)
            if found.columns and found.lines:
                return Terminal(min(found.columns, SIDE_MAX), min(found.lines, SIDE_MAX))
    return USUAL


@contextmanager
def raw(*, wanted: bool) -> Iterator[None]:
    """Let every key go to the program in the block, as it is; where nobody types, nothing changes."""
    if not wanted or not os.isatty(STDIN):
        yield
        return
    before = termios.tcgetattr(STDIN)
    tty.setraw(STDIN, termios.TCSADRAIN)
    try:
        yield
    finally:
        with suppress(termios.error):  # whose terminal is gone has nothing to restore
            termios.tcsetattr(STDIN, termios.TCSADRAIN, before)
