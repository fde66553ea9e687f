"""Sessions in tasks: all that is said to them arrives, all that they say is told, and they end with who asked."""

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from jobd import attach
from jobd.attach import PIECE_BYTES_MAX, Json, Program, Terminal, encode_program
from jobd.node.attachments import Attachments
from jobd.node.runtime import Attached, Launch, Runtime, RuntimeAway
from jobd.node.task import DEFECT
from pfs.errors import Kind, PfsError
from tests.jobd.node.fake import Beside, FakeAttached, FakeMachine, FakeProcess, FakeRuntime
from tests.jobd.node.server import eventually

TASK = "17.1.0.1"

Run = Callable[[Callable[[], Awaitable[None]]], None]


class FakeChannel:
    """A server that hears of sessions.

    Attributes:
        told: all that it was told.
        held: answers wait for this, if there is one.
        refusal: what it answers with instead.
    """

    def __init__(self) -> None:
        self.told: list[tuple[str, Json, bytes]] = []
        self.held: trio.Event | None = None
        self.refusal: PfsError | None = None

    async def ask(self, op: str, args: Json, body: bytes = b"") -> tuple[Json, bytes]:
        await trio.lowlevel.checkpoint()
        self.told.append((op, args, body))
        if self.held is not None:
            await self.held.wait()
        if self.refusal is not None:
            raise self.refusal
        return {}, b""

    async def over(self) -> tuple[int, str]:
        await eventually(lambda: self.told and self.told[-1][0] == attach.OVER)
        args = self.told[-1][1]
        return args["code"], args["reason"]

    def said(self, stream: int = attach.STDOUT) -> bytes:
        return b"".join(body for op, args, body in self.told if op == attach.CAME and args["stream"] == stream)


class Desk:
    """A node's end of a connection, with one task that runs.

    Attributes:
        inside: the programs that were begun beside the task.
    """

    def __init__(self, machine: FakeMachine, nursery: trio.Nursery) -> None:
        self.machine = machine
        self.nursery = nursery
        self.runtime: Runtime = FakeRuntime(machine)
        self.channel = FakeChannel()
        self.inside: list[FakeAttached] = []
        self.attachments = Attachments(self.channel, nursery, lambda task: self.runtime)  # type: ignore[arg-type]

    async def ask(self, op: str, session: str = "a1", body: bytes = b"", **args: object) -> None:
        await self.attachments.handle(op, {"session": session, **args}, body)

    async def begin(self, does: Beside, session: str = "a1", terminal: Terminal | None = None) -> None:
        async def noted(inside: FakeAttached) -> int:
            self.inside.append(inside)
            return await does(inside)

        self.machine.beside = {"it": noted}
        await self.ask(attach.EXEC, session, task=TASK, **encode_program(Program(("it",), {}, terminal)))


async def sleeps(process: FakeProcess | FakeAttached) -> int:
    await trio.sleep_forever()
    return 0


@asynccontextmanager
async def desk() -> AsyncIterator[Desk]:
    async with trio.open_nursery() as machines, trio.open_nursery() as nursery:
        machine = FakeMachine(machines, {"sleeps": sleeps})
        found = Desk(machine, nursery)
        await found.runtime.start(Launch(TASK, ("sleeps",), {}, "/", "h"))
        yield found
        nursery.cancel_scope.cancel()
        machines.cancel_scope.cancel()


async def refused(asked: Awaitable[None]) -> tuple[Kind, str]:
    with pytest.raises(PfsError) as caught:
        await asked
    return caught.value.kind, caught.value.message


async def echoes(inside: FakeAttached) -> int:
    while data := await inside.read():
        await inside.write(data)
    return 0


def test_all_that_a_program_says_is_told_and_last_its_end(run: Run) -> None:
    async def says(inside: FakeAttached) -> int:
        await inside.write(b"one")
        await inside.write(b"two", attach.STDERR)
        return 7

    async def main() -> None:
        async with desk() as it:
            await it.begin(says)
            assert await it.channel.over() == (7, "")
            assert it.channel.told[:-1] == [
                (attach.CAME, {"session": "a1", "stream": 1}, b"one"),
                (attach.CAME, {"session": "a1", "stream": 2}, b"two"),
            ]

    run(main)


def test_pieces_are_no_larger_than_agreed(run: Run) -> None:
    async def says(inside: FakeAttached) -> int:
        await inside.write(b"x" * (2 * PIECE_BYTES_MAX + 1))
        return 0

    async def main() -> None:
        async with desk() as it:
            await it.begin(says)
            await it.channel.over()
            assert [len(body) for _, _, body in it.channel.told] == [PIECE_BYTES_MAX, PIECE_BYTES_MAX, 1, 0]

    run(main)


def test_no_more_is_read_of_a_program_before_the_server_has_handed_it_on(run: Run) -> None:
    written = []

    async def says(inside: FakeAttached) -> int:
        for number in range(3):
            await inside.write(b"x")
            written.append(number)
        return 0

    async def main() -> None:
        async with desk() as it:
            it.channel.held = trio.Event()
            await it.begin(says)
            await wait_all_tasks_blocked()
            assert written == [0]
            it.channel.held.set()
            await it.channel.over()
            assert written == [0, 1, 2]

    run(main)


def test_input_arrives_in_order_and_ends(run: Run) -> None:
    ready = trio.Event()

    async def late(inside: FakeAttached) -> int:
        await ready.wait()
        return await echoes(inside)

    async def main() -> None:
        async with desk() as it:
            await it.begin(late)
            async with trio.open_nursery() as nursery:
                for piece in (b"one", b"two", b"three"):
                    nursery.start_soon(partial(it.ask, attach.SEND, body=piece, eof=False))
                    await wait_all_tasks_blocked()
                ready.set()
            await it.ask(attach.SEND, eof=True)
            assert await it.channel.over() == (0, "")
            assert it.channel.said() == b"onetwothree"

    run(main)


def test_a_program_that_reads_no_more_goes_on(run: Run) -> None:
    async def deaf(inside: FakeAttached) -> int:
        inside.close_input()
        return await sleeps(inside)

    async def main() -> None:
        async with desk() as it:
            await it.begin(deaf)
            await wait_all_tasks_blocked()
            assert await refused(it.ask(attach.SEND, body=b"x", eof=False)) == (Kind.BUSY, "the program reads no more")
            assert not it.inside[0].over.is_set()

    run(main)


def test_signals_and_sizes_reach_a_program(run: Run) -> None:
    async def main() -> None:
        async with desk() as it:
            await it.begin(sleeps, terminal=Terminal(80, 24))
            await wait_all_tasks_blocked()
            await it.ask(attach.RESIZE, columns=132, lines=50)
            assert it.inside[0].terminal == Terminal(132, 50)
            await it.ask(attach.SIGNAL, signal=int(signal.SIGTERM))
            assert await it.channel.over() == (143, "")

    run(main)


def test_what_cannot_begin_is_refused_and_its_name_is_free(run: Run) -> None:
    async def main() -> None:
        async with desk() as it:
            wish = encode_program(Program(("nothing",), {}))
            wanted = Kind.NOT_FOUND, "no such program: nothing"
            assert await refused(it.ask(attach.EXEC, task=TASK, **wish)) == wanted
            assert await refused(it.ask(attach.EXEC, task="9.1.0.0", **wish)) == (Kind.BUSY, "the process is over")
            await it.begin(echoes)
            assert it.channel.told == []

    run(main)


def test_words_that_are_no_text_are_refused(run: Run) -> None:
    async def main() -> None:
        async with desk() as it:
            kind, text = await refused(it.ask(attach.EXEC, task=TASK, **encode_program(Program(("\ud800",), {}))))
            assert (kind, text) == (Kind.INVALID, "no proper program: a word that is no text")

    run(main)


def test_a_name_is_one_sessions_until_that_is_over(run: Run) -> None:
    async def main() -> None:
        async with desk() as it:
            await it.begin(sleeps)
            assert await refused(it.begin(sleeps)) == (Kind.INVALID, "there is a session 'a1' already")
            await it.ask(attach.END)
            await it.begin(sleeps)

    run(main)


def test_a_session_that_is_not_there_hears_nothing(run: Run) -> None:
    async def main() -> None:
        async with desk() as it:
            for op, args in (
                (attach.SEND, {"eof": True}),
                (attach.RESIZE, {"columns": 1, "lines": 1}),
                (attach.SIGNAL, {"signal": 15}),
            ):
                kind, _ = await refused(it.ask(op, **args))
                assert kind is Kind.NOT_FOUND
            await it.ask(attach.END)
            assert (await refused(it.ask("attach.no")))[0] is Kind.UNSUPPORTED

    run(main)


def stayer() -> tuple[list[FakeAttached], Beside]:
    """Return a program that stays, and where it is noted when it ends."""
    ended = []

    async def stays(inside: FakeAttached) -> int:
        try:
            return await sleeps(inside)
        finally:
            ended.append(inside)

    return ended, stays


def test_a_program_whose_asker_is_gone_has_ended_when_that_is_answered(run: Run) -> None:
    ended, stays = stayer()

    async def main() -> None:
        async with desk() as it:
            await it.begin(stays)
            await wait_all_tasks_blocked()
            await it.ask(attach.END)
            assert ended == it.inside
            assert it.channel.told == []

    run(main)


def test_programs_end_with_the_connection(run: Run) -> None:
    ended, stays = stayer()

    async def main() -> None:
        async with desk() as it:
            await it.begin(stays)
            await wait_all_tasks_blocked()
            it.nursery.cancel_scope.cancel()
        assert ended == it.inside

    run(main)


def test_a_program_that_the_server_hears_no_more_of_is_ended(run: Run) -> None:
    async def chatters(inside: FakeAttached) -> int:
        while True:
            await inside.write(b"x")

    async def main() -> None:
        async with desk() as it:
            it.channel.refusal = PfsError(Kind.NOT_FOUND, "there is no such session any more")
            await it.begin(chatters)
            await eventually(lambda: not it.attachments._sessions)
            assert [op for op, _, _ in it.channel.told] == [attach.CAME]

    run(main)


class Odd(FakeRuntime):
    """A runtime where something goes wrong with programs: while they begin, or when they are read."""

    def __init__(self, machine: FakeMachine, failure: Exception) -> None:
        super().__init__(machine)
        self.failure = failure
        self.held: trio.Event | None = None

    @asynccontextmanager
    async def attach(self, task_id: str, program: Program) -> AsyncIterator[Attached]:
        if self.held is not None:
            await self.held.wait()
        async with super().attach(task_id, program) as inside:

            async def receive() -> tuple[int, bytes] | None:
                raise self.failure

            inside.receive = receive  # type: ignore[method-assign]
            yield inside


@pytest.mark.parametrize(
    ("failure", "end"),
    [
        (RuntimeAway("the engine does not answer"), (255, "the engine does not answer")),
        (RuntimeError("boom"), (255, DEFECT)),
    ],
)
def test_what_goes_wrong_with_a_program_is_told_as_its_end(run: Run, failure: Exception, end: tuple[int, str]) -> None:
    async def main() -> None:
        async with desk() as it:
            it.runtime = Odd(it.machine, failure)
            await it.begin(sleeps)
            assert await it.channel.over() == end

    run(main)


def test_a_program_can_be_ended_before_it_has_begun(run: Run) -> None:
    answers = []

    async def main() -> None:
        async with desk() as it:
            it.runtime = odd = Odd(it.machine, RuntimeError("never read"))
            odd.held = trio.Event()

            async def begin() -> None:
                answers.append(await refused(it.begin(sleeps)))

            async with trio.open_nursery() as nursery:
                nursery.start_soon(begin)
                await wait_all_tasks_blocked()
                await it.ask(attach.END)
            assert answers == [(Kind.BUSY, "it was ended before it had begun")]

    run(main)


async def echo(stream: trio.abc.HalfCloseableStream) -> None:
    while data := await stream.receive_some(1000):
        await stream.send_all(data)
    await stream.send_eof()


def serve(it: Desk, port: int, how: Callable[[trio.abc.HalfCloseableStream], Awaitable[None]]) -> None:
    it.machine.tasks[TASK].process.ports[port] = how


def test_a_connection_is_over_when_both_sides_have_said_all(run: Run) -> None:
    async def main() -> None:
        async with desk() as it:
            serve(it, 6006, echo)
            await it.ask(attach.DIAL, task=TASK, port=6006)
            await it.ask(attach.SEND, body=b"hello", eof=False)
            await it.ask(attach.SEND, body=b"!", eof=True)
            assert await it.channel.over() == (0, "")
            assert it.channel.said() == b"hello!"
            assert it.channel.told[-2] == (attach.CAME, {"session": "a1", "stream": 1}, b"")

    run(main)


def test_a_side_that_has_said_all_still_hears(run: Run) -> None:
    heard = bytearray()

    async def hears(stream: trio.abc.HalfCloseableStream) -> None:
        await stream.send_eof()
        while data := await stream.receive_some(1000):
            heard.extend(data)

    async def main() -> None:
        async with desk() as it:
            serve(it, 6006, hears)
            await it.ask(attach.DIAL, task=TASK, port=6006)
            await eventually(lambda: it.channel.told)
            await it.ask(attach.SEND, body=b"late", eof=False)
            await wait_all_tasks_blocked()
            assert [op for op, _, _ in it.channel.told] == [attach.CAME]
            await it.ask(attach.SEND, eof=True)
            assert await it.channel.over() == (0, "")
            assert heard == b"late"

    run(main)


def test_a_port_that_nobody_listens_on_is_refused_by_its_number_and_process(run: Run) -> None:
    async def main() -> None:
        async with desk() as it:
            wanted = Kind.UNREACHABLE, "nothing listens on port 6007 of process 0.1"
            assert await refused(it.ask(attach.DIAL, task=TASK, port=6007)) == wanted

    run(main)


def test_a_connection_whose_other_side_has_gone_ends_when_it_is_written_to(run: Run) -> None:
    async def leaves(stream: trio.abc.HalfCloseableStream) -> None:
        await stream.aclose()

    async def main() -> None:
        async with desk() as it:
            serve(it, 6006, leaves)
            await it.ask(attach.DIAL, task=TASK, port=6006)
            await eventually(lambda: it.channel.told)
            kind, _ = await refused(it.ask(attach.SEND, body=b"late", eof=False))
            assert kind is Kind.BUSY
            assert await it.channel.over() == (0, "")

    run(main)


class Resets(trio.abc.HalfCloseableStream):
    """A connection that its other side resets."""

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise trio.BrokenResourceError

    async def send_all(self, data: bytes | bytearray | memoryview) -> None: ...

    async def send_eof(self) -> None: ...

    async def wait_send_all_might_not_block(self) -> None: ...

    async def aclose(self) -> None: ...


def test_a_connection_that_breaks_says_so(run: Run) -> None:
    class Broken(FakeRuntime):
        async def dial(self, task_id: str, port: int) -> trio.abc.HalfCloseableStream:
            return Resets()

    async def main() -> None:
        async with desk() as it:
            it.runtime = Broken(it.machine)
            await it.ask(attach.DIAL, task=TASK, port=6006)
            assert await it.channel.over() == (1, "the connection broke")

    run(main)
