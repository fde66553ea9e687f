"""Following a file that grows, without polling: inotify tells when to look again.

One `Watch` per follower and no shared reader: a machine allows 128 inotify instances to a user, twice what a node runs.
"""

import ctypes
import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import TracebackType

import trio

CHUNK_BYTES = 256 * 1024
CLOSING_S, QUIET_S = 0.005, 1.0

_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_MOVED_TO = 0x80
_IN_DELETE_SELF = 0x400
_EVENTS = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE_SELF
_EVENT_BYTES = 64 * 1024

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Tells when a file of a directory was written, closed by its writer, or renamed into it.

    What happens after the watch was made is never missed, so: make the watch, look, then wait.

    Raises:
        OSError: the directory is not there, or the machine has no inotify instance left.
    """

    def __init__(self, directory: Path) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), directory)
        try:
            _checked(_libc.inotify_add_watch(self._fd, os.fsencode(directory), _EVENTS), directory)
        except OSError:
            os.close(self._fd)
            raise

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        trio.lowlevel.notify_closing(self._fd)
        os.close(self._fd)

    async def changed(self) -> None:
        """Return once something happened since the last call."""
        await trio.lowlevel.wait_readable(self._fd)
        os.read(self._fd, _EVENT_BYTES)


def _checked(result: int, directory: Path) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(directory))
    return result


async def follow(file: Path, offset: int, is_over: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    """Yield what is in `file` from byte `offset` on, as it grows.

    Args:
        is_over: True once nothing more will be written. It is asked whenever a file of the same directory was
            written, closed or renamed, and again a little later: what closes a file may still hold its lock.
    """
    with Watch(file.parent) as watch:
        source = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            pause_s = CLOSING_S
            while True:
                over = is_over()
                while chunk := os.pread(source, CHUNK_BYTES, offset):
                    offset += len(chunk)
                    await trio.lowlevel.checkpoint()
                    yield chunk
                if over:
                    return
                with trio.move_on_after(pause_s) as silence:
                    await watch.changed()
                if not silence.cancelled_caught:
                    pause_s = CLOSING_S
                else:
                    pause_s = pause_s * 2 if pause_s < QUIET_S else float("inf")
        finally:
            os.close(source)
