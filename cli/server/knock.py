"""How a command of the administrator tells the running server that it changed something: it knocks.

    command ── commit ── knock ──▶ <data root>/server/knock ──▶ the server reads anew what administrators decide
                  └── mark ──▶ <data root>/server/changed   ──▶ it asks anew whose a key is

A knock says nothing and is answered by nobody; several at one moment are one. Where no server runs there is nobody to
tell: a server reads everything when it starts. The folder lets in only whoever may change the database as well.
"""

import contextlib
import os
import socket
from collections.abc import Awaitable, Callable

import trio

from pfs.protocol.nearby import reachable

NAME = "knock"
MARK = "changed"


def knock(folder: str) -> None:
    """Tell the server, if one runs, that something was changed."""
    part = os.path.join(folder, f".{MARK}.{os.getpid()}")
    with open(part, "wb"):
        os.replace(part, os.path.join(folder, MARK))
    with reachable(os.path.join(folder, NAME)) as address, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        # nobody there; or so many knocks wait already that one more says nothing new
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError, BlockingIOError):
            sock.sendto(b"!", address)


def last_change(folder: str) -> object:
    """Return what is another thing after each `knock`, from the moment on at which that returns."""
    try:
        mark = os.stat(os.path.join(folder, MARK))
    except FileNotFoundError:
        return None
    return mark.st_ino, mark.st_mtime_ns


async def listen(
    folder: str, heard: Callable[[], Awaitable[None]], task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Call `heard` after each knock, until cancelled."""
    path = os.path.join(folder, NAME)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # of a server that was killed; only one runs at a time
    with trio.socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        with reachable(path) as address:
            await sock.bind(address)
        task_status.started()
        while True:
            await sock.recv(1)
            await heard()
