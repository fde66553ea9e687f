"""What commands do with a job that they have submitted: show its log until it is over, and tell how it ended."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol, cast

import click

from cli.sdk import operations
from cli.sdk.way import Blocking, Straight
from pfs.client.immediate import each, now

INTERRUPTED = 130


class Server(Protocol):
    """Who has the jobs (`pfs.client.web.WebClient`)."""

    def put(self, path: str, data: bytes, key: str) -> str | None: ...

    def stream(self, path: str, start: int = 0) -> AbstractContextManager[Iterator[bytes]]: ...


def _way(client: Server, sleep: Callable[[float], None] = time.sleep) -> Straight:
    return Straight(cast("Blocking", client), sleep)


def submit(client: Server, name: str, text: bytes, key: str, sleep: Callable[[float], None] = time.sleep) -> str:
    """Submit a spec and return the path of its job, such as `jobs/17`.

    Args:
        name: of the file in `jobs/`.
        key: the same key again gives the same job, so a cut connection does no harm.
    """
    return now(operations.put(_way(client, sleep), name, text, key))


def copy_stream(client: Server, path: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Copy a stream of the tree to stdout until its writer is done; a cut connection is taken up where it was cut."""
    for fresh in each(operations.stream(_way(client, sleep), path)):
        sys.stdout.buffer.write(fresh)
        sys.stdout.buffer.flush()


def follow(client: Server, job: str, hint: str) -> bool:
    """Show the log of a job until it is over; tells whether it was seen to its end.

    Args:
        hint: what to type to look at it, or to end it; for who stops looking by Ctrl-C.
    """
    try:
        copy_stream(client, f"{job}/log")
    except KeyboardInterrupt:
        click.echo(f"\njob {job.removeprefix('jobs/')} goes on; {hint}", err=True)
        return False
    return True


def exit_code(client: Server, job: str) -> int:
    """Return the exit code of a job, once it is over."""
    return now(operations.exit_code(_way(client), job.removeprefix("jobs/")))
