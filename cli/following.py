"""What commands do with a job that they have submitted: show its log until it is over, and tell how it ended."""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from pfs.client.web import WebClient

INTERRUPTED = 130
TRIES = 8  # without a byte between
PAUSE_S = 0.5  # before the second try; doubled for each that follows


def submit(client: "WebClient", name: str, text: bytes, key: str, sleep: Callable[[float], None] = time.sleep) -> str:
    """Submit a spec and return the path of its job, such as `jobs/17`.

    Args:
        name: of the file in `jobs/`.
        key: the same key again gives the same job, so a cut connection does no harm.
    """
    for tried in range(TRIES):
        try:
            return str(client.put(f"jobs/{name}", text, key))
        except PfsError as error:
            if error.kind is not Kind.UNREACHABLE or tried == TRIES - 1:
                raise
        sleep(PAUSE_S * 2**tried)
    raise AssertionError


def copy_stream(client: "WebClient", path: str, sleep: Callable[[float], None] = time.sleep) -> None:
    """Copy a stream of the tree to stdout until its writer is done; a cut connection is taken up where it was cut."""
    out, copied, tried = sys.stdout.buffer, 0, 0
    while True:
        try:
            skip = copied
            with client.stream(path) as pieces:
                for piece in pieces:
                    fresh, skip = piece[skip:], max(0, skip - len(piece))
                    out.write(fresh)
                    out.flush()
                    copied += len(fresh)
                    tried = 0
            return
        except PfsError as error:
            tried += 1
            if error.kind is not Kind.UNREACHABLE or tried >= TRIES:
                raise
        sleep(PAUSE_S * 2 ** (tried - 1))


def follow(client: "WebClient", job: str, hint: str) -> bool:
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


def exit_code(client: "WebClient", job: str) -> int:
    """Return the exit code of a job, once it is over."""
    with client.stream(f"{job}/wait") as pieces:
        return int(b"".join(pieces))
