"""Who asks looks for the answer, unless others have something to do, and not where that is in vain."""

import signal
import socket
from collections.abc import Awaitable, Callable, Iterator

import pytest
import trio
import trio.testing

from pfs.errors import Kind, PfsError
from pfs.protocol import lookout
from pfs.protocol.channel import Channel
from pfs.protocol.frames import Opcode, encode_message
from pfs.protocol.lookout import IN_A_ROW, SKIPPED, Lookout
from pfs.protocol.websocket import WebSocketTransport
from pfs.protocol.wire import Answer, Ask, Json, encode_frame

Run = Callable[[Callable[[], Awaitable[None]]], None]


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        yield one, other


def test_one_of_some_questions_waits_by_the_loop_in_any_case(run: Run, ends: tuple[socket.socket, ...]) -> None:
    async def main() -> None:
        looks = Lookout(ends[0].fileno())
        assert [looks.pays(alone=True) for _ in range(2 * IN_A_ROW)].count(False) == 2

    run(main)


def test_who_asks_beside_others_does_not_look_and_nor_do_the_next(run: Run, ends: tuple[socket.socket, ...]) -> None:
    async def main() -> None:
        looks = Lookout(ends[0].fileno())
        assert [looks.pays(alone=False)] + [looks.pays(alone=True) for _ in range(SKIPPED)] == [False] * SKIPPED + [
            True
        ]

    run(main)


def test_after_looking_in_vain_the_next_wait_by_the_loop(run: Run, ends: tuple[socket.socket, ...]) -> None:
    async def main() -> None:
        looks = Lookout(ends[0].fileno())
        assert looks.pays(alone=True)
        assert not looks.sees()
        assert [looks.pays(alone=True) for _ in range(SKIPPED + 1)] == [False] * SKIPPED + [True]

    run(main)


def test_what_comes_is_seen_but_not_while_another_task_could_run(run: Run, ends: tuple[socket.socket, ...]) -> None:
    async def main() -> None:
        looks = Lookout(ends[0].fileno())
        ends[1].send(b"x")
        assert looks.sees()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.checkpoint)
            assert not looks.sees()

    run(main)


def test_what_else_happens_ends_the_look(
    run: Run, ends: tuple[socket.socket, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "LOOK_S", 1e6)

    def hangs(*_: object) -> None:
        raise AssertionError("it looks for ever")

    former = signal.signal(signal.SIGALRM, hangs)
    signal.alarm(30)

    async def main() -> None:
        looks = Lookout(ends[0].fileno())
        await trio.testing.wait_all_tasks_blocked()
        trio.lowlevel.current_trio_token().run_sync_soon(lambda: None)  # as a thread does that has ended
        assert not looks.sees()

    try:
        run(main)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)


def test_another_loop_is_not_looked_at(run: Run, ends: tuple[socket.socket, ...]) -> None:
    assert not Lookout(ends[0].fileno()).pays(alone=True)  # there is none here


async def answered(messages: list[bytes], handled: list[str]) -> Json:
    """Ask a question to which these messages are there already."""
    near, far = socket.socketpair()
    transport = WebSocketTransport(trio.SocketStream(trio.socket.from_stdlib_socket(near)), dialled=True)

    async def handle(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        handled.append(op)
        return {}, b""

    channel = Channel(transport, handle)
    with far:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(channel.run)
            await trio.testing.wait_all_tasks_blocked()
            far.send(b"".join(encode_message(Opcode.BINARY, each, None) for each in messages))
            try:
                result, _ = await channel.ask("question", {})
            except PfsError as error:
                result = {"refused": error.kind}
            finally:
                nursery.cancel_scope.cancel()
    return result


def test_an_answer_that_is_there_is_told(run: Run) -> None:
    async def main() -> None:
        assert await answered([encode_frame(Answer(1, {"is": "there"}))], []) == {"is": "there"}

    run(main)


def test_what_is_pushed_before_an_answer_is_begun_with_before_it_is_told(run: Run) -> None:
    async def main() -> None:
        handled: list[str] = []
        pushed = [encode_frame(Ask(1, "break", {})), encode_frame(Answer(1, {}))]
        assert await answered(pushed, handled) == {}
        assert handled == ["break"]

    run(main)


def test_a_bad_frame_that_is_found_ends_the_channel(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        assert await answered([b"rubbish"], []) == {"refused": Kind.UNREACHABLE}

    run(main)
    assert "bad frame" in caplog.text
