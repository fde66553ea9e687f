"""The way of written bytes to the server: gathered, several at once, and nothing lost in silence."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
import trio.testing

from fuseclient.cache.gather import PIECE_BYTES
from fuseclient.cache.writer import Writer
from pfs.errors import Kind, PfsError
from pfs.parts import Part


class Server:
    """A file that is written to; writing waits until it may go on."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.sent: list[tuple[int, int]] = []
        self.fails: list[Exception] = []
        self.going = trio.Event()
        self.going.set()
        self.at_once = self.most_at_once = 0

    async def write(self, offset: int, parts: Sequence[Part]) -> None:
        data = b"".join(parts)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await trio.lowlevel.checkpoint()
            await self.going.wait()
            if self.fails:
                raise self.fails.pop(0)
            self.sent.append((offset, len(data)))
            self.content.extend(bytes(max(0, offset + len(data) - len(self.content))))
            self.content[offset : offset + len(data)] = data
        finally:
            self.at_once -= 1


def scenario(test: Callable[[Server, Writer], Awaitable[None]], *, in_order: bool = False) -> None:
    async def main() -> None:
        server = Server()
        async with trio.open_nursery() as nursery:
            await test(server, Writer(server.write, nursery, in_order=in_order))

    trio.run(main)


def test_the_first_bytes_go_at_once_and_the_others_together() -> None:
    async def test(server: Server, writer: Writer) -> None:
        for number in range(5):
            await writer.add(number, b"%d" % number)
        assert server.sent == [(0, 1)]
        await writer.flush()
        assert server.sent == [(0, 1), (1, 4)]
        assert server.content == b"01234"
        assert not writer.dirty

    scenario(test)


def test_full_pieces_travel_side_by_side_while_the_program_goes_on() -> None:
    async def test(server: Server, writer: Writer) -> None:
        await writer.add(0, b"x")
        server.going = trio.Event()
        for number in range(3):
            await writer.add(number * PIECE_BYTES, bytes(PIECE_BYTES))
        await trio.testing.wait_all_tasks_blocked()
        assert server.most_at_once == 3
        server.going.set()
        await writer.flush()
        assert len(server.content) == 3 * PIECE_BYTES

    scenario(test)


def test_what_is_written_over_what_is_under_way_arrives_after_it() -> None:
    async def test(server: Server, writer: Writer) -> None:
        await writer.add(0, b"x")
        server.going = trio.Event()
        await writer.add(0, b"a" * PIECE_BYTES)
        await writer.add(0, b"b" * PIECE_BYTES)
        await trio.testing.wait_all_tasks_blocked()
        assert server.at_once == 1
        server.going.set()
        await writer.flush()
        assert server.content == b"b" * PIECE_BYTES

    scenario(test)


def test_what_is_added_at_an_end_goes_one_after_the_other() -> None:
    async def test(server: Server, writer: Writer) -> None:
        for number in range(4):
            await writer.add(number * PIECE_BYTES, bytes(PIECE_BYTES))
        await writer.flush()
        assert server.most_at_once == 1
        assert server.sent == sorted(server.sent)

    scenario(test, in_order=True)


@pytest.mark.parametrize(
    ("failure", "kind"), [(PfsError(Kind.NO_SPACE), Kind.NO_SPACE), (RuntimeError("a defect"), Kind.INTERNAL)]
)
def test_an_error_is_told_once(failure: Exception, kind: Kind) -> None:
    async def test(server: Server, writer: Writer) -> None:
        await writer.add(0, b"x")
        server.fails.append(failure)
        await writer.add(1, b"y")
        await writer.drain()
        with pytest.raises(PfsError) as caught:
            await writer.add(2, b"z")
        assert caught.value.kind is kind
        await writer.flush()

    scenario(test)


def test_what_the_server_was_away_for_is_sent_again_before_what_overlaps_it() -> None:
    async def test(server: Server, writer: Writer) -> None:
        await writer.add(0, b"0123")
        server.fails.append(PfsError(Kind.UNREACHABLE))
        await writer.add(0, b"abcd")
        with pytest.raises(PfsError):
            await writer.flush()
        assert writer.dirty
        await writer.add(2, b"XY")
        await writer.flush()
        assert server.content == b"abXY"

    scenario(test)


def test_who_writes_on_without_looking_at_errors_does_not_fill_the_memory() -> None:
    async def test(server: Server, writer: Writer) -> None:
        await writer.add(0, b"0")
        server.fails += [PfsError(Kind.TIMED_OUT)] * 10_000
        refused = 0
        for number in range(100):
            try:
                await writer.add(1 + number * PIECE_BYTES, bytes(PIECE_BYTES))
            except PfsError:
                refused += 1
        assert refused > 80
        assert writer.dirty_bytes < 20 * PIECE_BYTES
        server.fails.clear()
        await writer.flush()
        assert not writer.dirty

    scenario(test)


def test_what_may_be_at_the_end_already_is_not_sent_again() -> None:
    async def test(server: Server, writer: Writer) -> None:
        await writer.add(0, b"0123")
        server.fails.append(PfsError(Kind.TIMED_OUT))
        await writer.add(4, b"abcd")
        with pytest.raises(PfsError):
            await writer.flush()
        await writer.flush()
        assert server.content == b"0123"

    scenario(test, in_order=True)
