"""What stands before a command of `paddle` and holds for whichever it is, as the design of PaddleCloud's files has it.

`--profile` says what PADDLE_DATACENTER does; `--debug` tells of each request; `--only-show-errors` is the `-q` of all
that do something.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import click


@dataclass(frozen=True, slots=True)
class Manner:
    """How a command is to talk.

    Attributes:
        only_errors: of what it has done it tells nothing when all goes well.
    """

    only_errors: bool = False


def only_errors() -> bool:
    """Tell whether the command that runs is only to tell what went wrong."""
    manner = click.get_current_context().find_root().obj
    return isinstance(manner, Manner) and manner.only_errors


@contextmanager
def as_current(datacenter: str) -> Iterator[None]:
    """Let a datacenter be the current one in the block, and in what is started there."""
    from cli.config import CURRENT

    before = os.environ.get(CURRENT)
    os.environ[CURRENT] = datacenter
    try:
        yield
    finally:
        if before is None:
            del os.environ[CURRENT]
        else:
            os.environ[CURRENT] = before


@contextmanager
def telling_requests() -> Iterator[None]:
    """Tell on stderr of each request of the block what is asked, the status that answers it, and after which time."""
    from cli.output import printable
    from pfs.client import http11

    def tell(method: str, target: str, status: int, took_s: float) -> None:
        click.echo(f"[DEBUG] {method} {printable(target)}: {status} after {took_s * 1000:.0f} ms", err=True)

    before, http11.watcher = http11.watcher, tell
    try:
        yield
    finally:
        http11.watcher = before
