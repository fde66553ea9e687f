"""Bytes between files here and in the pit: from where they were cut.

A file that is fetched goes on at the byte where the connection was cut. One that is sent is written in place, piece by
piece over a connection of its own, so that what arrived before somebody gave up need not be sent again.
"""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from cli.progress import Transfer
from cli.resuming import resumed
from cli.snakepit.entities import named

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit

PIECE_BYTES = 4 * 1024 * 1024


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
