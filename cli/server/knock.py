"""How a command of the administrator tells the running server that it changed something: it knocks.

    command ── commit ── knock ──▶ <data root>/server/knock ──▶ the server reads anew what administrators decide
                  └── mark ──▶ <data root>/server/changed   ──▶ it asks anew whose a key is

A knock says nothing, and several at one moment are one. Whoever knocks can wait until the server has taken up what it
knows of now: what was decided holds from the moment on at which the command is done. Where no server runs there is
nobody to tell: a server reads everything when it starts. The folder lets in only who may change the database as well.
"""

import contextlib
import math
import os
import socket
import threading
from collections.abc import Awaitable, Callable

import trio

from pfs.protocol.nearby import reachable

NAME = "knock"
MARK = "changed"
PATIENCE_S = 10.0  # of a command, with a server that is busy
WAITING_MAX = 128


def knock(folder: str, patience_s: float = 0.0) -> bool:
    """Tell the server, if one runs, that something was changed.

    Args:
        patience_s: how long to wait until it has taken that up.

    Returns:
        Whether nobody goes by what was before any more.
    """
    part = os.path.join(folder, f".{MARK}.{os.getpid()}.{threading.get_native_id()}")
    with open(part, "wb"):
        os.replace(part, os.path.join(folder, MARK))
    with reachable(os.path.join(folder, NAME)) as address, socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(patience_s)
        try:
            sock.connect(address)
            sock.recv(1)  # nothing is ever sent: it hangs up when it is done
        except (FileNotFoundError, ConnectionError):
            return True
        except (BlockingIOError, TimeoutError):  # so many wait already that one more says nothing new; or not done yet
            return False
    return True


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
    with trio.socket.socket(socket.AF_UNIX) as sock:
        with reachable(path) as address:
            await sock.bind(address)
        sock.listen(WAITING_MAX)
        task_status.started()
        knocks, waiting = trio.open_memory_channel[trio.socket.SocketType](math.inf)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_accept, sock, knocks)
            async for first in waiting:
                with contextlib.ExitStack() as knocked:
                    knocked.enter_context(first)
                    with contextlib.suppress(trio.WouldBlock):
                        while True:
                            knocked.enter_context(waiting.receive_nowait())
                    await heard()


async def _accept(sock: trio.socket.SocketType, knocks: trio.MemorySendChannel[trio.socket.SocketType]) -> None:
    while True:
        knocks.send_nowait((await sock.accept())[0])
