"""A mount point as the commands see it: asked within a bounded time, held by one process, with its files beside it.

Whoever touches a mount whose process hangs may hang with it, and cannot even be killed. So a child does the touching:
it holds nothing that anybody waits for, and is left behind if it does not come back.
"""

import errno
import fcntl
import os
import select
import signal
import time
from pathlib import Path
from typing import IO

from fuseclient.mountpoints import FILESYSTEM_TYPE, mounted, mounted_type
from fuseclient.status import ATTRIBUTE, Status
from pfs.errors import Kind, PfsError

ANSWER_S = 5.0
_ANSWER, _REFUSAL = b"+", b"-"
DEAD = (errno.ENOTCONN, errno.ECONNABORTED)


def is_mounted(point: str) -> bool:
    """Tell whether one of ours is mounted at a canonical path."""
    return mounted_type(point) == FILESYSTEM_TYPE


def not_mounted(point: str) -> str:
    """Say that none of ours is mounted at a canonical path, and where the one is that it is in."""
    around = [each for each in mounted() if point.startswith(f"{each}/")]
    return f"{point}: no pfs is mounted here" + (f", but at {around[-1]}" if around else "")


def is_dead(point: str) -> bool:
    """Tell whether the process behind a mount is gone."""
    try:
        ask(point)
    except OSError as error:
        return error.errno in DEAD
    return False


def status_of(point: str) -> Status:
    """Return what a mount says of itself.

    Raises:
        PfsError: it says nothing, and why; TIMED_OUT when it does not answer.
    """
    try:
        return Status.decode(ask(point))
    except TimeoutError:
        hint = f"`paddle umount --lazy {point}` takes it away"
        raise PfsError(Kind.TIMED_OUT, f"{point}: the mount has not answered for {ANSWER_S:.0f} s; {hint}") from None
    except OSError as error:
        reasons = {
            **dict.fromkeys(DEAD, f"its process is gone; `paddle umount {point}` clears that away"),
            errno.EACCES: "it is another user's, who has not mounted it with allow_other",
            errno.ENODATA: "it is served by a version that does not tell its status",
        }
        reason = reasons.get(error.errno or 0, error.strerror)
        raise PfsError(Kind.IO, f"{point}: {reason}") from None
    except PfsError as error:
        raise PfsError(error.kind, f"{point}: {error}") from None


def ask(point: str) -> bytes:
    """Return the status of the mount at a canonical path.

    Raises:
        OSError: what the mount says instead, or TimeoutError.
    """
    heard, said = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(point, said)
    os.close(said)
    data = b""
    try:
        data = _hear(heard)
    finally:
        os.close(heard)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0 if data else os.WNOHANG)  # one that hangs is left to init
    if data.startswith(_REFUSAL):
        code = int(data.removeprefix(_REFUSAL))
        raise OSError(code, os.strerror(code), point)
    if not data.startswith(_ANSWER):
        raise TimeoutError(errno.ETIMEDOUT, "the mount does not answer", point)
    return data.removeprefix(_ANSWER)


def take_lock(point: str) -> IO[str] | None:
    """Take the lock of a mount point; None while somebody has it."""
    file = open_for_appending(state_file(point, "lock"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def open_for_appending(path: Path) -> IO[str]:
    """Open a file that only its owner can read.

    Raises:
        PfsError: DENIED, and why.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a")
    except OSError as error:
        raise PfsError(Kind.DENIED, f"cannot write {path}: {error.strerror}") from None


def state_file(point: str, kind: str) -> Path:
    """Return where something that belongs to a mount point is kept."""
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = point.strip("/").replace("%", "%25").replace("-", "%2D").replace("/", "-")
    return state / "pfs" / f"mount-{name}.{kind}"


def _answer(point: str, said: int) -> None:
    """Ask the mount, in the child. It does not return."""
    try:
        os.dup2(said, 0)
        os.closerange(1, 1 << 16)
        try:
            data = _ANSWER + os.getxattr(point, ATTRIBUTE, follow_symlinks=False)
        except OSError as error:
            data = _REFUSAL + str(error.errno).encode()
        os.write(0, data)
    finally:
        os._exit(0)


def _hear(heard: int) -> bytes:
    end, data = time.monotonic() + ANSWER_S, b""
    while select.select([heard], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = os.read(heard, 1 << 16)
        if not piece:
            return data
        data += piece
    return b""
