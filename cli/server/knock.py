"""How a command of the administrator tells the running server that it changed something: it knocks.

    command ── commit ── knock ──▶ <data root>/server/knock ──▶ the server reads anew what administrators decide
                  └── mark ──▶ <data root>/server/changed   ──▶ it asks anew whose a key is

A knock says nothing, and several at one moment are one. Whoever knocks can wait until the server has taken up what it
knows of now: what was decided holds from the moment on at which the command is done. Where no server runs there is
nobody to tell: a server reads everything when it starts. The folder lets in only who may change the database as well.
"""

import contextlib
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
    begun, turn = 0, trio.Lock()

    async def answer(knocker: trio.SocketStream) -> None:
        nonlocal begun
        before = begun
        async with turn, knocker:
            if begun == before:  # else whoever had a turn since then has taken up this change, too
                begun += 1
                await heard()

    with trio.socket.socket(socket.AF_UNIX) as sock:
        with reachable(path) as address:
            await sock.bind(address)
        sock.listen(WAITING_MAX)
        task_status.started()
        await trio.serve_listeners(answer, [trio.SocketListener(sock)])
