"""Being told that something happened to a file of a directory, without polling: inotify.

There is one inotify instance for all watches: closing one makes the kernel wait for some milliseconds, in which a
daemon that starts a hundred tasks a second would do nothing else, and a machine allows 128 of them to a user.
"""

import ctypes
import os
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import trio

_IN_MODIFY = 0x2
_IN_CLOSE_WRITE = 0x8
_IN_MOVED_TO = 0x80
_IN_DELETE_SELF = 0x400
_EVENTS = _IN_MODIFY | _IN_CLOSE_WRITE | _IN_MOVED_TO | _IN_DELETE_SELF
_OVERFLOW = -1
_EVENT = struct.Struct("iIII")
_READ_BYTES = 64 * 1024

_Told = Callable[[], None]

_libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """Tells when a file of a directory was written, closed by its writer, or renamed into it.

    What happens after the watch was made is never missed, so: make the watch, look, then wait.

    Raises:
        OSError: the directory is not there, or the machine has no watch left.
    """

    def __init__(self, directory: Path) -> None:
        self._instance = _instance()
        self._happened = trio.Event()
        self._number = self._instance.add(directory, self._happen)

    def _happen(self) -> None:
        self._happened.set()

    def __enter__(self) -> "Watch":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._instance.drop(self._number, self._happen)

    async def changed(self) -> None:
        """Return once something happened since the last call."""
        await self._happened.wait()
        self._happened = trio.Event()


class _Instance:
    """The inotify instance of one run of trio."""

    def __init__(self) -> None:
        self._fd = _checked(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC), "inotify")
        self._told: dict[int, list[_Told]] = {}

    def add(self, directory: Path, told: _Told) -> int:
        """Have `told` called from now on; a directory that is watched already keeps its number."""
        path = os.fsencode(directory)
        number = _checked(_libc.inotify_add_watch(self._fd, path, _EVENTS), str(directory))
        self._told.setdefault(number, []).append(told)
        return number

    def drop(self, number: int, told: _Told) -> None:
        """Call `told` no more."""
        left = self._told[number]
        left.remove(told)
        if not left:
            del self._told[number]
            # of a directory that is gone, the kernel has dropped it itself
            _libc.inotify_rm_watch(self._fd, number)

    async def run(self) -> None:
        """Pass on what the kernel tells, until the run ends."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._fd)
                self._pass_on(os.read(self._fd, _READ_BYTES))
        finally:
            os.close(self._fd)
            self._fd = -1

    def _pass_on(self, events: bytes) -> None:
        numbers = set()
        place = 0
        while place < len(events):
            number, _, _, name_bytes = _EVENT.unpack_from(events, place)
            place += _EVENT.size + name_bytes
            numbers.add(number)
        for number in self._told if _OVERFLOW in numbers else numbers:
            for told in self._told.get(number, ()):
                told()


_running: trio.lowlevel.RunVar[_Instance] = trio.lowlevel.RunVar("inotify")


def _instance() -> _Instance:
    try:
        return _running.get()
    except LookupError:
        made = _Instance()
        _running.set(made)
        trio.lowlevel.spawn_system_task(made.run)
        return made


def _checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result
