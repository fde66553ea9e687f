"""Shipping one task's output to the server, in batches, each after the one before was acknowledged.

What comes first leaves at once, and what comes while that is under way leaves together once it is acknowledged. So a
line is on its way no longer than it must be, and a program that prints without a break costs a question for each time
that the server takes to answer one, however many lines they are: the more there is to do there, the fewer are asked.
What is in memory is bounded: a few chunks for each task, a batch for each of `BATCHES_AT_ONCE` tasks; the rest stays
in the runtime's file.
"""

import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from math import inf

import trio

from jobd.logformat import Splitter
from jobd.node.runtime import Runtime
from pfs.errors import PfsError
from pfs.protocol.channel import Channel

BATCH_BYTES = 256 * 1024
BATCHES_AT_ONCE = 16
READER_TURNS = 4  # of the event loop, in which the next chunk is read if there is one
SILENCE_S = 0.1
AGAIN_S = 1.0

Piece = tuple[int, bytes]

_turns: trio.lowlevel.RunVar[trio.CapacityLimiter] = trio.lowlevel.RunVar("turns")


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
    arrived, chunks = trio.open_memory_channel[Piece](0)
    failure: PfsError | None = None
    complete = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_read, runtime.output(task_id, offset), arrived, clock)
        try:
            batches = _Batches(chunks)
            while await batches.wait():
                async with _limiter():
                    data, pieces = await batches.take()
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


def _limiter() -> trio.CapacityLimiter:
    """Return what lets a few tasks at once have a batch in memory."""
    try:
        return _turns.get()
    except LookupError:
        _turns.set(trio.CapacityLimiter(BATCHES_AT_ONCE))
        return _turns.get()


async def _read(
    output: AsyncGenerator[bytes, None], arrived: trio.MemorySendChannel[Piece], clock: Callable[[], int]
) -> None:
    """Stamp what comes; in a task of its own, so that waiting for more can end without ending the output."""
    async with arrived, aclosing(output) as chunks:
        async for chunk in chunks:
            await arrived.send((clock(), chunk))


class _Batches:
    """Makes batches of what comes from a task."""

    def __init__(self, chunks: trio.MemoryReceiveChannel[Piece]) -> None:
        self._chunks = chunks
        self._splitter = Splitter()
        self._pieces: list[Piece] = []
        self._size = 0
        self._over = False

    async def wait(self) -> bool:
        """Return once there is something to send; False when there is nothing any more."""
        while not self._pieces and not self._over:
            await self._receive(SILENCE_S if self._splitter.pending else inf)
        return bool(self._pieces)

    async def take(self) -> tuple[bytes, list[list[int]]]:
        """Return the bytes of a batch, and the time and length of each of its pieces."""
        turns = 0
        while self._size < BATCH_BYTES and turns < READER_TURNS and not self._over:
            try:
                self._add(self._chunks.receive_nowait())
                turns = 0
            except trio.WouldBlock:
                await trio.lowlevel.checkpoint()
                turns += 1
            except trio.EndOfChannel:
                self._over = True
                self._keep(self._splitter.flush())
        pieces, self._pieces, self._size = self._pieces, [], 0
        return b"".join(data for _, data in pieces), [[time_ns, len(data)] for time_ns, data in pieces]

    async def _receive(self, patience_s: float) -> None:
        with trio.move_on_after(patience_s) as silence:
            try:
                self._add(await self._chunks.receive())
            except trio.EndOfChannel:
                self._over = True
        if self._over or silence.cancelled_caught:
            self._keep(self._splitter.flush())

    def _add(self, chunk: Piece) -> None:
        time_ns, data = chunk
        self._keep(self._splitter.feed(data, time_ns))

    def _keep(self, pieces: list[Piece]) -> None:
        self._pieces += pieces
        self._size += sum(len(data) for _, data in pieces)
