"""Shipping one task's output to the server, in batches, each after the one before was acknowledged."""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import trio

from jobd.logformat import Splitter
from jobd.node.runtime import Runtime
from pfs.errors import PfsError
from pfs.protocol.channel import Channel

BATCH_BYTES = 256 * 1024
CHUNKS_AHEAD = 4
SILENCE_S = 0.1
AGAIN_S = 1.0

Piece = tuple[int, bytes]


async def ship(
    channel: Channel, runtime: Runtime, task_id: str, offset: int, clock: Callable[[], int] = time.time_ns
) -> int:
    """Ship everything from byte `offset` on until the task is over; return how much there was in all.

    Args:
        clock: nanoseconds since the epoch.

    Raises:
        PfsError: what the server refused with, or that it is gone.
    """
    while True:
        offset, complete = await _ship(channel, runtime, task_id, offset, clock)
        if complete:
            return offset
        # the server has something else than was thought: on from there
        await trio.sleep(AGAIN_S)


async def _ship(
    channel: Channel, runtime: Runtime, task_id: str, offset: int, clock: Callable[[], int]
) -> tuple[int, bool]:
    arrived, chunks = trio.open_memory_channel[Piece](CHUNKS_AHEAD)
    failure: PfsError | None = None
    complete = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read, runtime.output(task_id, offset), arrived, clock)
        try:
            async with aclosing(_batches(chunks)) as batches:
                async for batch in batches:
                    data = b"".join(data for _, data in batch)
                    pieces = [[time_ns, len(data)] for time_ns, data in batch]
                    args = {"task": task_id, "offset": offset, "pieces": pieces}
                    result, _ = await channel.ask("task.output", args, data)
                    expected, offset = offset + len(data), int(result["offset"])
                    if offset != expected:
                        complete = False
                        break
        except PfsError as error:
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return offset, complete


async def _read(
    output: AsyncGenerator[bytes, None], arrived: trio.MemorySendChannel[Piece], clock: Callable[[], int]
) -> None:
    """Stamp what comes; in a task of its own, so that waiting for more can end without ending the output."""
    async with arrived, aclosing(output) as chunks:
        async for chunk in chunks:
            await arrived.send((clock(), chunk))


async def _batches(chunks: trio.MemoryReceiveChannel[Piece]) -> AsyncGenerator[list[Piece], None]:
    """Yield pieces as they become whole, as many as there are, up to about `BATCH_BYTES`."""
    splitter = Splitter()
    while True:
        pieces: list[Piece] = []
        with trio.move_on_after(SILENCE_S if splitter.pending else float("inf")) as silence:
            try:
                time_ns, chunk = await chunks.receive()
            except trio.EndOfChannel:
                break
            pieces += splitter.feed(chunk, time_ns)
        if silence.cancelled_caught:
            pieces += splitter.flush()
        while sum(len(data) for _, data in pieces) < BATCH_BYTES:
            try:
                time_ns, chunk = chunks.receive_nowait()
            except (trio.WouldBlock, trio.EndOfChannel):
                break
            pieces += splitter.feed(chunk, time_ns)
        if pieces:
            yield _joined(pieces)
    if rest := splitter.flush():
        yield rest


def _joined(pieces: list[Piece]) -> list[Piece]:
    """Make one of the pieces that came in the same moment: the server finds the lines in them again."""
    joined: list[tuple[int, list[bytes]]] = []
    for time_ns, data in pieces:
        if not joined or joined[-1][0] != time_ns:
            joined.append((time_ns, []))
        joined[-1][1].append(data)
    return [(time_ns, b"".join(parts)) for time_ns, parts in joined]
