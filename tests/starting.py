"""How the tests of both folders are started: golden scripts can be rewritten, and what runs can be interrupted."""

import signal
from contextlib import suppress

import pytest

pytest.register_assert_rewrite("tests.golden")  # where scripts differ is told


def offer_rewriting(parser: pytest.Parser) -> None:
    """Add the option, unless the other folder has done that."""
    with suppress(ValueError):
        parser.addoption("--rewrite", action="store_true", help="write what golden scripts now give into the scripts")


def let_interrupt() -> None:
    """Let what the tests start be interrupted, also where a shell has started them in the background."""
    for number in (signal.SIGINT, signal.SIGQUIT):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
