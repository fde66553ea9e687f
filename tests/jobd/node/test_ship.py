"""Shipping: soon, in few questions, in order, and with little in memory."""

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import trio
import trio.testing

from jobd.node.runtime import Runtime
from jobd.node.ship import BATCH_BYTES, BATCHES_AT_ONCE, SILENCE_S, ship
from jobd.node.tail import CHUNK_BYTES
from pfs.protocol.channel import Channel

FLOOD_CHUNKS = 20

Output = Callable[[int], AsyncGenerator[bytes, None]]


@dataclass
class Server:
    """A server that takes everything, and notes when."""

    taken: bytearray = field(default_factory=bytearray)
    times_s: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    open: int = 0
    deaf: bool = False
    answers_after_s: float = 0.0

    async def ask(self, op: str, args: dict[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        assert op == "task.output"
        assert sum(length for _, length in args["pieces"]) == len(body)
        self.times_s.append(trio.current_time())
        self.sizes.append(len(body))
        self.open += 1
        if self.deaf:
            await trio.sleep_forever()
        await trio.sleep(self.answers_after_s)
        assert args["offset"] == len(self.taken)
        self.taken += body
        return {"offset": len(self.taken)}, b""


@dataclass
class Program:
    """A runtime with one task."""

    output_of: Output
    read_bytes: int = 0

    async def output(self, task_id: str, offset: int) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.output_of(offset)) as chunks:
            async for chunk in chunks:
                self.read_bytes += len(chunk)
                yield chunk


async def shipped(server: Server, program: Program, offset: int = 0) -> int:
    return await ship(cast("Channel", server), cast("Runtime", program), "1.1.0.0", offset, lambda: 7)


@pytest.fixture
def run_at_once() -> Callable[[Callable[[], Any]], None]:
    return lambda main: trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def prints_a_line_each_millisecond(offset: int) -> AsyncGenerator[bytes, None]:
    """As from a file that is followed: what was written meanwhile comes in one piece."""
    began_s, read = trio.current_time(), 0
    while read < 1000:
        await trio.sleep_until(began_s + read / 1000)
        written = min(1000, 1 + round((trio.current_time() - began_s) * 1000))
        yield b"line\n" * (written - read)
        read = written


def test_what_is_printed_while_the_server_takes_a_batch_leaves_together(run_at_once) -> None:
    async def main() -> None:
        server = Server(answers_after_s=0.02)
        assert await shipped(server, Program(prints_a_line_each_millisecond)) == 5000
        assert server.taken == b"line\n" * 1000
        assert len(server.times_s) <= 1.0 / server.answers_after_s + 2

    run_at_once(main)


@pytest.mark.parametrize("every_s", [0.001, 1])
def test_a_line_leaves_at_once_when_none_is_under_way(run_at_once, every_s: float) -> None:
    async def prints_now_and_then(offset: int) -> AsyncGenerator[bytes, None]:
        for _ in range(3):
            yield b"line\n"
            await trio.sleep(every_s)

    async def main() -> None:
        server = Server()
        began_s = trio.current_time()
        await shipped(server, Program(prints_now_and_then))
        assert [time_s - began_s for time_s in server.times_s] == pytest.approx([0, every_s, 2 * every_s])

    run_at_once(main)


def test_an_unended_line_leaves_after_a_silence(run_at_once) -> None:
    async def asks(offset: int) -> AsyncGenerator[bytes, None]:
        yield b"Name: "
        await trio.sleep(1)

    async def main() -> None:
        server = Server()
        began_s = trio.current_time()
        await shipped(server, Program(asks))
        assert [time_s - began_s for time_s in server.times_s] == pytest.approx([SILENCE_S])

    run_at_once(main)


def test_the_end_of_a_task_waits_for_no_silence(run_at_once) -> None:
    async def prints_two(offset: int) -> AsyncGenerator[bytes, None]:
        yield b"one\n"
        await trio.sleep(SILENCE_S / 4)
        yield b"two\nunended"

    async def main() -> None:
        server = Server()
        began_s = trio.current_time()
        await shipped(server, Program(prints_two))
        assert server.taken == b"one\ntwo\nunended"
        assert trio.current_time() - began_s == pytest.approx(SILENCE_S / 4)

    run_at_once(main)


async def floods(offset: int) -> AsyncGenerator[bytes, None]:
    for _ in range(FLOOD_CHUNKS):
        yield b"x" * CHUNK_BYTES
        await trio.lowlevel.checkpoint()


def test_a_flood_goes_in_full_batches(run_at_once) -> None:
    async def main() -> None:
        server = Server()
        began_s = trio.current_time()
        assert await shipped(server, Program(floods)) == FLOOD_CHUNKS * CHUNK_BYTES
        assert trio.current_time() == began_s
        assert max(server.sizes) <= BATCH_BYTES + CHUNK_BYTES
        assert len(server.sizes) <= FLOOD_CHUNKS * CHUNK_BYTES / BATCH_BYTES + 2

    run_at_once(main)


def test_while_the_server_does_not_answer_little_is_read(run_at_once) -> None:
    async def main() -> None:
        programs = [Program(floods) for _ in range(3 * BATCHES_AT_ONCE)]
        server = Server(deaf=True)
        async with trio.open_nursery() as nursery:
            for program in programs:
                nursery.start_soon(shipped, server, program)
            await trio.testing.wait_all_tasks_blocked()
            assert server.open == BATCHES_AT_ONCE
            read = sorted(program.read_bytes for program in programs)
            assert read[-1] <= BATCH_BYTES + 2 * CHUNK_BYTES
            assert read[2 * BATCHES_AT_ONCE - 1] <= 3 * CHUNK_BYTES
            nursery.cancel_scope.cancel()

    run_at_once(main)


def test_a_task_whose_server_is_busy_with_others_has_its_turn(run_at_once) -> None:
    async def main() -> None:
        servers = [Server() for _ in range(3 * BATCHES_AT_ONCE)]
        async with trio.open_nursery() as nursery:
            for server in servers:
                nursery.start_soon(shipped, server, Program(floods))
        assert {len(server.taken) for server in servers} == {FLOOD_CHUNKS * CHUNK_BYTES}

    run_at_once(main)
