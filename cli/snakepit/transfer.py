"""Bytes between files here and in the pit: from where they were cut, with a bar on a terminal.

A file that is fetched goes on at the byte where the connection was cut. One that is sent is written in place, piece by
piece over a connection of its own, so that what arrived before somebody gave up need not be sent again.
"""

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from cli.resuming import resumed
from cli.snakepit.entities import named

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit

PIECE_BYTES = 4 * 1024 * 1024
BAR_BYTES_MIN = 4 * 1024 * 1024  # less is there before anybody has seen how far it is
BAR_COLUMNS = 30
BAR_EVERY_S = 0.1


class Transfer:
    """How far one file is; on a terminal a bar shows it where that takes a while.

    Args:
        name: as it is shown.
        size: in bytes, None where that is not known.
        done: bytes that are there already.
    """

    def __init__(self, name: str, size: int | None, done: int = 0) -> None:
        self._name = name.rpartition("/")[2]
        self.size = size
        self.done = done
        self._shown_s = 0.0
        self._shows = sys.stderr.isatty() and (size is None or size - done >= BAR_BYTES_MIN)

    def __enter__(self) -> "Transfer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._shows and self._shown_s:
            self._show()
            sys.stderr.write("\n")

    def moved(self, count: int) -> None:
        """Count bytes."""
        self.done += count
        if self._shows and time.monotonic() - self._shown_s >= BAR_EVERY_S:
            self._show()

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        sys.stderr.write(f"\r{bar(self._name, self.done, self.size)}")
        sys.stderr.flush()


def bar(name: str, done: int, size: int | None) -> str:
    """Return how far something is, as one line."""
    text = f"{name[:30]:<30} {done / 2**20:.1f}"
    if not size:
        return f"{text} MiB"
    filled = min(BAR_COLUMNS, BAR_COLUMNS * done // size)
    return f"{text} of {size / 2**20:.1f} MiB [{'#' * filled:<{BAR_COLUMNS}}] {100 * done // size:3}%"


def copy(
    client: "Pit", path: str, out: BinaryIO, transfer: Transfer, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Append what is in a file of the tree, from where the transfer is, to `out`."""
    for fresh in resumed(lambda start: client.stream(path, start), transfer.done, transfer.size, sleep):
        out.write(fresh)
        out.flush()
        transfer.moved(len(fresh))


def send(client: "Pit", path: str, source: BinaryIO, transfer: Transfer) -> None:
    """Write what is left in `source` to a file of the tree, from where the transfer is; what was behind it is cut."""
    import trio

    from cli.errors import only_error

    async def main() -> None:
        await _send(client, path, source, transfer)

    try:
        trio.run(main)
    except BaseExceptionGroup as group:
        raise only_error(group) from None


async def _send(client: "Pit", path: str, source: BinaryIO, transfer: Transfer) -> None:
    import trio

    from pfs.api import Closing, OpenFlags
    from pfs.client.filesystem import open_filesystem

    async with open_filesystem(client.where.endpoint, client.who.token, client.where.ca) as tree:
        flags = OpenFlags.WRITE | OpenFlags.CREATE
        target = named(path, client.who.name)
        file = await tree.open(target, flags if transfer.done else flags | OpenFlags.TRUNCATE, 0o644)
        try:
            while piece := await trio.to_thread.run_sync(source.read, PIECE_BYTES):
                await file.write(transfer.done, piece)
                transfer.moved(len(piece))
            await file.flush(Closing.LAST)
        finally:
            with trio.CancelScope(shield=True):
                await file.release()
