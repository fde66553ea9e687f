"""The history of the datacenter: a text to which lines are added, as a file that stays below a size.

When it has grown too long its older half is dropped: then it is another file, as after logrotate, and its first line
says from when on it tells. Whoever has the one before open goes on where they were, and sees it grow still.

What happened stands elsewhere as well (`jobd.store.jobs`), on disk before anybody hears of it. So lines are written
some at a time, and nobody waits for that.
"""

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

import trio

from pfs.errors import Kind, PfsError

SIZE_BYTES_MAX = 16 << 20
LAST_BYTES_MAX = 1 << 16
FIRST = "events begin here"
DROPPED = "events begin here; what was before is not kept"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Extent:
    """How long the text is, at one moment.

    Attributes:
        name: of the file that it is now, for ever: its first line, which is ASCII.
        begin: where it begins, counted in all that was ever written since the server began.
        changed_at_ns: when it was last added to.
    """

    name: str
    begin: int
    size_bytes: int
    changed_at_ns: int


class Gone(Exception):
    """What is to be read was dropped."""


class History:
    """Adds lines, and reads them.

    Args:
        path: of the file; made where it is not there.
        said: a line of a moment, in nanoseconds since the epoch, with a text.
    """

    def __init__(
        self,
        path: str,
        said: Callable[[int, str], str],
        clock: Callable[[], int],
        size_bytes_max: int = SIZE_BYTES_MAX,
    ) -> None:
        self._path = path
        self._said = said
        self._clock = clock
        self._size_bytes_max = size_bytes_max
        self._new: list[str] = []
        self._added = trio.Event()
        self._turn = trio.Lock()
        self._extent = Extent("", 0, 0, 0)
        self.last = ""

    async def open(self) -> None:
        """Open the file, and let `last` be its last line; one that was cut off by a crash is dropped.

        Raises:
            PfsError: IO: the disk does not let us.
        """
        try:
            self._extent, self.last = await trio.to_thread.run_sync(self._open)
        except OSError as error:
            raise PfsError(Kind.IO, f"the datacenter's history {self._path}: {error.strerror}") from None

    def add(self, time_ns: int, text: str) -> None:
        """Add a line, a moment from now."""
        self._new.append(self._said(time_ns, text))
        self._added.set()

    async def run(self) -> None:
        """Write what is added, until cancelled; all that was added until then is written."""
        try:
            while True:
                await self._added.wait()
                self._added = trio.Event()
                await self.settle()
        finally:
            with trio.CancelScope(shield=True):
                await self.settle()

    async def settle(self) -> None:
        """Return when all that was added is in the file, or cannot be."""
        async with self._turn:
            lines, self._new = self._new, []
            if lines:
                try:
                    await trio.to_thread.run_sync(self._write, "".join(f"{line}\n" for line in lines).encode())
                except OSError as error:
                    log.warning("%d lines of the datacenter's history are lost: %s", len(lines), error)

    async def extent(self) -> Extent:
        """Return how long the text is."""
        await self.settle()
        return self._extent

    async def read(self, opened: Extent, offset: int, size_bytes: int) -> bytes:
        """Return a part of the text as it was when it was opened, and of what was added since.

        Raises:
            Gone: it was dropped meanwhile.
            PfsError: IO: the disk does not let us.
        """
        await self.settle()
        async with self._turn:
            here = self._extent
            place = opened.begin + offset - here.begin
            if opened.begin < here.begin and place <= len(here.name):
                raise Gone
            try:
                return await trio.to_thread.run_sync(self._read, place, size_bytes)
            except OSError as error:
                raise PfsError(Kind.IO, f"the datacenter's history cannot be read: {error.strerror}") from None

    # ---- in a thread, one at a time

    def _open(self) -> tuple[Extent, str]:
        with open(self._path, "ab+") as file:
            size_bytes = file.tell()
            file.seek(max(0, size_bytes - LAST_BYTES_MAX))
            whole, _, cut = file.read().rpartition(b"\n")
            file.truncate(size_bytes - len(cut))
            if not whole:
                file.write(f"{self._said(self._clock(), FIRST)}\n".encode())
                file.flush()
            extent = Extent(_first_line(file), 0, file.seek(0, os.SEEK_END), os.fstat(file.fileno()).st_mtime_ns)
        return extent, whole.rpartition(b"\n")[2].decode(errors="replace")

    def _read(self, place: int, size_bytes: int) -> bytes:
        with open(self._path, "rb") as file:
            return os.pread(file.fileno(), size_bytes, place)

    def _write(self, data: bytes) -> None:
        extent = self._extent
        with open(self._path, "rb+") as file:
            file.seek(extent.size_bytes)
            file.write(data)
        size_bytes = extent.size_bytes + len(data)
        self._extent = Extent(extent.name, extent.begin, size_bytes, self._clock())
        if size_bytes > self._size_bytes_max:
            self._drop_half()

    def _drop_half(self) -> None:
        """Let a new file be there with the younger half, and a first line that says so."""
        extent, half = self._extent, self._size_bytes_max // 2
        _, _, kept = self._read(extent.size_bytes - half, half).partition(b"\n")
        since = kept.split(b" ", 1)[0].decode()
        data = f"{since} {DROPPED}\n".encode() + kept
        fresh = f"{self._path}.new"
        with open(fresh, "wb+") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            name = _first_line(file)
        os.rename(fresh, self._path)
        begin = extent.begin + extent.size_bytes - len(data)
        self._extent = Extent(name, begin, len(data), extent.changed_at_ns)


def _first_line(file: BinaryIO) -> str:
    file.seek(0)
    return file.readline().decode("ascii", "replace").rstrip("\n")
