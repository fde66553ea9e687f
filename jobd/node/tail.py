"""Following a file that grows, without polling: a `Watch` tells when to look again."""

import os
from collections.abc import AsyncGenerator, Callable
from pathlib import Path

import trio

from jobd.node.watch import Watch

CHUNK_BYTES = 64 * 1024
CLOSING_S, QUIET_S = 0.005, 1.0


async def follow(file: Path, offset: int, is_over: Callable[[], bool]) -> AsyncGenerator[bytes, None]:
    """Yield what is in `file` from byte `offset` on, as it grows.

    Args:
        is_over: True once nothing more will be written. It is asked when everything was read, again whenever a file
            of the same directory was written, closed or renamed, and a little later: what closes a file may still
            hold its lock.
    """
    with Watch(file.parent) as watch:
        source = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            over, pause_s = False, CLOSING_S
            while True:
                while chunk := os.pread(source, CHUNK_BYTES, offset):
                    offset += len(chunk)
                    await trio.lowlevel.checkpoint()
                    yield chunk
                if over:
                    return
                over = is_over()
                if over:
                    continue  # something may have come just before
                with trio.move_on_after(pause_s) as silence:
                    await watch.changed()
                if not silence.cancelled_caught:
                    pause_s = CLOSING_S
                else:
                    pause_s = pause_s * 2 if pause_s < QUIET_S else float("inf")
        finally:
            os.close(source)
