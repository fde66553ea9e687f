"""A channel: questions overlap, go both ways and are taken back; what is wrong with one harms no other."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from pfs.errors import Kind, PfsError
from pfs.protocol.channel import SEND_TIMEOUT_S, Channel, ChannelClosed, Handler
from pfs.protocol.wire import FRAME_BYTES_MAX, Ask, Json, encode_frame
from tests.pfs.plain import PlainTransport

Run = Callable[[Callable[[], Awaitable[None]]], None]


class Line(PlainTransport):
    """One end of a line in memory; whole messages, or pieces that a cancellation could cut."""

    def __init__(self, out: trio.MemorySendChannel[bytes], come: trio.MemoryReceiveChannel[bytes]) -> None:
        self.out, self.come = out, come
        self.begun = 0
        self.sent: list[bytes] = []
        self.pieces = 1
        self.sending = trio.Event()
        self.stuck = self.quick = False
        self.closed = False

    def send_now(self, data: bytes) -> int:
        if not self.quick:
            return 0
        self.out.send_nowait(data)
        return len(data)

    async def send_rest(self, message: bytes) -> None:
        self.sending.set()
        self.begun += 1
        if self.stuck:
            await trio.sleep_forever()
        for _ in range(self.pieces - 1):
            await trio.lowlevel.checkpoint()
        self.sent.append(message)
        await self.out.send(message)

    async def receive(self) -> bytes | None:
        try:
            return await self.come.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError):
            return None

    async def close(self) -> None:
        self.closed = True
        await self.out.aclose()
        await self.come.aclose()


def lines() -> tuple[Line, Line]:
    there, back = trio.open_memory_channel[bytes](100), trio.open_memory_channel[bytes](100)
    return Line(there[0], back[1]), Line(back[0], there[1])


async def nothing(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
    raise PfsError(Kind.UNSUPPORTED, f"no {op}")


class Ends:
    """Two channels that talk to one another, and their lines."""

    def __init__(self, ours: Handler, theirs: Handler) -> None:
        self.line, self.far_line = lines()
        self.channel, self.far = Channel(self.line, ours), Channel(self.far_line, theirs)
        self.ended: list[Channel] = []

    async def run(self, channel: Channel) -> None:
        await channel.run()
        self.ended.append(channel)


@asynccontextmanager
async def talk(theirs: Handler = nothing, ours: Handler = nothing) -> AsyncIterator[Ends]:
    ends = Ends(ours, theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.run, ends.channel)
        nursery.start_soon(ends.run, ends.far)
        yield ends
        await ends.channel.close()


def timeless(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_question_gets_its_result_and_bytes(run: Run) -> None:
    async def echo(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        return {"op": op, "args": args}, body[::-1]

    async def main() -> None:
        async with talk(echo) as ends:
            answer = await ends.channel.ask("read", {"path": "a\udcff"}, b"abc")
        assert answer == ({"op": "read", "args": {"path": "a\udcff"}}, b"cba")

    run(main)


def test_answers_come_as_they_are_ready_not_as_they_were_asked(run: Run) -> None:
    async def main() -> None:
        ready = {name: trio.Event() for name in "abc"}
        order: list[str] = []

        async def wait(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            await ready[op].wait()
            return {"for": op}, b""

        async with talk(wait) as ends:

            async def ask(name: str) -> None:
                assert (await ends.channel.ask(name, {}))[0] == {"for": name}
                order.append(name)
                following = {"c": "a", "a": "b"}.get(name)
                if following:
                    ready[following].set()

            async with trio.open_nursery() as nursery:
                for name in "abc":
                    nursery.start_soon(ask, name)
                await trio.testing.wait_all_tasks_blocked()
                ready["c"].set()
        assert order == ["c", "a", "b"]

    run(main)


def test_both_ends_ask_and_an_answer_may_need_a_question(run: Run) -> None:
    async def main() -> None:
        async def ask_back(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            return (await ends.far.ask("name", {}))[0], b""

        async def name(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            return {"name": "node1"}, b""

        async with talk(ask_back, name) as ends:
            assert (await ends.channel.ask("who", {}))[0] == {"name": "node1"}

    run(main)


def test_a_cancelled_asker_takes_the_question_back(run: Run) -> None:
    async def main() -> None:
        came, left = trio.Event(), trio.Event()

        async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            if op == "ping":
                return {}, b""
            try:
                came.set()
                await trio.sleep_forever()
            finally:
                left.set()
            return {}, b""

        async with talk(hold) as ends:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ends.channel.ask, "read", {})
                await came.wait()
                nursery.cancel_scope.cancel()
            await left.wait()
            await ends.channel.ask("ping", {})
            assert len(ends.far_line.sent) == 1  # a question that was taken back is not answered

    run(main)


def test_an_asker_is_cancelled_at_once_even_when_nothing_can_be_sent() -> None:
    async def main() -> None:
        async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            await trio.sleep_forever()
            raise AssertionError

        async with talk(hold) as ends:
            with trio.move_on_after(1) as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(ends.channel.ask, "read", {})
                    await ends.line.sending.wait()
                    ends.line.stuck = True
            assert scope.cancelled_caught
            assert trio.current_time() - scope.deadline < 0.1

    timeless(main)


def test_a_lost_connection_fails_every_open_question(run: Run) -> None:
    async def main() -> None:
        failed: list[int] = []

        async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            await trio.sleep_forever()
            raise AssertionError

        async with talk(hold) as ends:

            async def ask(number: int) -> None:
                with pytest.raises(ChannelClosed) as caught:
                    await ends.channel.ask("read", {})
                assert caught.value.kind is Kind.UNREACHABLE
                failed.append(number)

            async with trio.open_nursery() as nursery:
                for number in range(20):
                    nursery.start_soon(ask, number)
                await trio.testing.wait_all_tasks_blocked()
                await ends.far_line.close()
            assert sorted(failed) == list(range(20))
            with pytest.raises(ChannelClosed):
                await ends.channel.ask("read", {})
            await trio.testing.wait_all_tasks_blocked()
            assert ends.line.closed

    run(main)


def test_what_is_being_answered_ends_with_the_connection(run: Run) -> None:
    async def main() -> None:
        came, left = trio.Event(), trio.Event()

        async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            came.set()
            try:
                await trio.sleep_forever()
            finally:
                left.set()
            raise AssertionError

        async with talk(hold) as ends, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ChannelClosed):
                    await ends.channel.ask("read", {})

            nursery.start_soon(ask)
            await came.wait()
            await ends.channel.close()
            await left.wait()

    run(main)


def test_a_refusal_arrives_as_it_was_raised(run: Run) -> None:
    async def refuse(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        raise PfsError(Kind.NOT_EMPTY, "there are files in it", "home/ann")

    async def main() -> None:
        async with talk(refuse) as ends:
            with pytest.raises(PfsError) as caught:
                await ends.channel.ask("rmdir", {})
        error = caught.value
        assert (error.kind, error.message, error.path) == (Kind.NOT_EMPTY, "there are files in it", "home/ann")

    run(main)


@pytest.mark.parametrize("result", [{"not": {"json"}}, None], ids=["answer that is no JSON", "exception"])
def test_a_defect_is_told_and_logged_and_the_channel_lives(
    run: Run, caplog: pytest.LogCaptureFixture, result: Json | None
) -> None:
    async def broken(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        if op == "ping":
            return {}, b""
        if result is None:
            raise RuntimeError("the reason")
        return result, b""

    async def main() -> None:
        async with talk(broken) as ends:
            with pytest.raises(PfsError, match="a defect of the server; tell its administrator the number") as caught:
                await ends.channel.ask("read", {})
            assert caught.value.kind is Kind.INTERNAL
            assert "reason" not in str(caught.value)
            await ends.channel.ask("ping", {})

    run(main)
    assert [record.exc_info is not None for record in caplog.records if record.levelno >= logging.ERROR] == [True]


def test_an_answer_that_is_too_large_is_an_error_and_the_channel_lives(run: Run) -> None:
    async def big(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        return {}, bytes(FRAME_BYTES_MAX if op == "read" else 0)

    async def main() -> None:
        async with talk(big) as ends:
            with pytest.raises(PfsError) as caught:
                await ends.channel.ask("read", {})
            assert caught.value.kind is Kind.TOO_LARGE
            await ends.channel.ask("ping", {})

    run(main)


def test_a_question_that_is_too_large_is_not_sent(run: Run) -> None:
    async def main() -> None:
        async with talk() as ends:
            with pytest.raises(PfsError) as caught:
                await ends.channel.ask("write", {}, bytes(FRAME_BYTES_MAX))
            assert caught.value.kind is Kind.TOO_LARGE
            assert ends.line.sent == []

    run(main)


@pytest.mark.parametrize("message", [b"rubbish", b"", b"\0\0\0\2{}"])
def test_a_bad_frame_ends_its_channel_and_nothing_else(
    run: Run, caplog: pytest.LogCaptureFixture, message: bytes
) -> None:
    async def main() -> None:
        async with talk() as ends:
            await ends.line.send_rest(message)
            await ends.channel.closed.wait()
            await trio.testing.wait_all_tasks_blocked()
            assert ends.far_line.closed
            assert ends.far in ends.ended

    run(main)
    assert "bad frame" in caplog.text


def test_a_number_that_is_in_use_ends_the_channel(run: Run) -> None:
    async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        await trio.sleep_forever()
        raise AssertionError

    async def main() -> None:
        async with talk(hold) as ends:
            for _ in range(2):
                await ends.line.send_rest(encode_frame(Ask(7, "read", {})))
            await ends.channel.closed.wait()

    run(main)


def test_answers_and_cancels_without_a_question_are_let_pass(run: Run) -> None:
    async def echo(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        return {}, body

    async def main() -> None:
        async with talk(echo) as ends:
            await ends.line.send_rest(b'\0\0\0\x1b{"answer":999,"result":{}}\n')
            await ends.line.send_rest(b'\0\0\0\x0e{"cancel":999}')
            assert (await ends.channel.ask("x", {}, b"body"))[1] == b"body"

    run(main)


@pytest.mark.parametrize("steps", range(6))
def test_a_cancellation_cuts_no_message(run: Run, steps: int) -> None:
    async def echo(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        return {}, body

    async def main() -> None:
        async with talk(echo) as ends:
            ends.line.pieces = 4
            async with trio.open_nursery() as nursery:
                nursery.start_soon(ends.channel.ask, "first", {}, b"x" * 1000)
                for _ in range(steps):
                    await trio.lowlevel.checkpoint()
                nursery.cancel_scope.cancel()
            assert (await ends.channel.ask("second", {}, b"body"))[1] == b"body"
            await trio.testing.wait_all_tasks_blocked()
            assert ends.line.begun == len(ends.line.sent)

    run(main)


def test_a_peer_that_takes_nothing_is_given_up(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with talk() as ends:
            ends.line.stuck = True

            async def ask() -> None:
                with pytest.raises(ChannelClosed):
                    await ends.channel.ask("read", {})

            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(5):
                    nursery.start_soon(ask)
            # the first waits out its time, and the others do not each wait for theirs
            assert trio.current_time() - began == pytest.approx(SEND_TIMEOUT_S)

    timeless(main)


def test_a_peer_that_leaves_before_it_is_answered_sent_no_bad_frame(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        go = trio.Event()

        async def slow(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            await go.wait()
            return {}, b""

        async with talk(slow) as ends:
            await ends.line.send_rest(encode_frame(Ask(1, "read", {})))
            await trio.testing.wait_all_tasks_blocked()
            await ends.line.come.aclose()
            go.set()
            await ends.far.closed.wait()

    run(main)
    assert "bad frame" not in caplog.text


def test_who_reads_a_question_answers_it_until_an_answer_has_to_wait(run: Run) -> None:
    async def main() -> None:
        tasks: dict[str, trio.lowlevel.Task] = {}
        go = trio.Event()

        async def note(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            tasks[op] = trio.lowlevel.current_task()
            if op == "slow":
                await go.wait()
            return {}, b""

        async with talk(note) as ends, trio.open_nursery() as nursery:
            ends.far_line.quick = True
            await ends.channel.ask("first", {})
            await ends.channel.ask("second", {})
            nursery.start_soon(ends.channel.ask, "slow", {})
            await trio.testing.wait_all_tasks_blocked()
            await ends.channel.ask("third", {})
            go.set()
        assert tasks["first"] is tasks["second"] is tasks["slow"]
        assert tasks["third"] is not tasks["slow"]

    run(main)


def test_each_question_is_given_up_at_its_own_deadline() -> None:
    async def main() -> None:
        given_up: list[float] = []
        taken_back: list[float] = []

        async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            if op == "ping":
                return {}, b""
            try:
                await trio.sleep_forever()
            finally:
                taken_back.append(args["after_s"])
            raise AssertionError

        async with talk(hold) as ends:
            began_s = trio.current_time()

            async def ask(after_s: float) -> None:
                with pytest.raises(trio.TooSlowError):
                    await ends.channel.ask("read", {"after_s": after_s}, deadline=began_s + after_s)
                given_up.append(trio.current_time() - began_s)

            async with trio.open_nursery() as nursery:
                for after_s in (9.0, 3.0, 30.0, 3.0, 0.0):
                    nursery.start_soon(ask, after_s)
                    await trio.testing.wait_all_tasks_blocked()
            assert given_up == pytest.approx([0, 3, 3, 9, 30])
            await ends.channel.ask("ping", {}, deadline=trio.current_time() + 1)
            await trio.testing.wait_all_tasks_blocked()
            assert taken_back == [0, 3, 3, 9, 30]

    timeless(main)


def test_a_question_that_cannot_be_sent_is_given_up_at_its_deadline() -> None:
    async def main() -> None:
        async with talk() as ends:
            ends.line.stuck = True
            began_s = trio.current_time()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_closed, ends.channel)
                await ends.line.sending.wait()
                with pytest.raises(trio.TooSlowError):
                    await ends.channel.ask("read", {}, deadline=began_s + 2)
                assert trio.current_time() - began_s == pytest.approx(2)

    timeless(main)


async def _until_closed(channel: Channel) -> None:
    with pytest.raises(ChannelClosed):
        await channel.ask("first", {})
