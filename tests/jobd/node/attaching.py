"""What every runtime, fake or real, promises of programs beside a task and of connections to its ports.

As in `tests.jobd.node.conformance`, a program is a text for `sh -c` with what it does written again for the fake.
"""

import itertools
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing

import pytest
import trio

from jobd.attach import STDERR, STDOUT, Program, Terminal
from jobd.node.runtime import Attached, Connection, Runtime
from pfs.errors import Kind, PfsError
from tests.jobd.node.conformance import HOME, TASK, Bench, fails, program, sleeps
from tests.jobd.node.fake import Beside, FakeAttached, FakeProcess

MUCH = bytes(itertools.islice(itertools.cycle(range(251)), 10_000_000))
LARGE = Terminal(132, 50)

BESIDE: dict[str, Beside] = {}
ATTACH_CHECKS: list[Callable[[Bench], Awaitable[None]]] = []


def check(function: Callable[[Bench], Awaitable[None]]) -> Callable[[Bench], Awaitable[None]]:
    ATTACH_CHECKS.append(function)
    return function


def beside(text: str) -> Callable[[Beside], Sequence[str]]:
    def remember(does: Beside) -> Sequence[str]:
        BESIDE[text] = does
        return ("sh", "-c", text)

    return remember


def command(argv: Sequence[str], terminal: Terminal | None = None, env: Mapping[str, str] | None = None) -> Program:
    return Program(tuple(argv), {"TERM": "xterm"} if env is None else env, terminal)


async def rest(inside: Attached) -> dict[int, bytes]:
    """Return all that a program says until it is over, by stream."""
    said = {STDOUT: b"", STDERR: b""}
    while (piece := await inside.receive()) is not None:
        said[piece[0]] += piece[1]
    return said


async def said_until(inside: Attached, part: bytes) -> bytes:
    said = b""
    while part not in said:
        piece = await inside.receive()
        assert piece is not None, said
        said += piece[1]
    return said


@beside("exit 7")
async def exits(inside: FakeAttached) -> int:
    return 7


@beside("echo out; echo err >&2")
async def says_on_both(inside: FakeAttached) -> int:
    await inside.write(b"out\n")
    await inside.write(b"err\n", STDERR)
    return 0


@beside("cat; echo end")
async def copies(inside: FakeAttached) -> int:
    while data := await inside.read():
        await inside.write(data)
    await inside.write(b"end\n")
    return 0


@beside("for d in 0 1 2; do [ -t $d ] && echo $d; done; echo end")
async def tells_terminals(inside: FakeAttached) -> int:
    await inside.write(b"0\r\n1\r\n2\r\nend\r\n" if inside.terminal else b"end\n")
    return 0


@beside("while :; do stty size; sleep 0.02; done")
async def tells_sizes(inside: FakeAttached) -> int:
    while True:
        assert inside.terminal is not None
        await inside.write(f"{inside.terminal.lines} {inside.terminal.columns}\r\n".encode())


@beside("echo up; sleep 1000; echo down")
async def stays(inside: FakeAttached) -> int:
    await inside.write(b"up\n")
    await trio.sleep_forever()
    return 0


@beside('id -u; pwd; printf %s "$GREETING"; echo "[$ADDED]"; hostname')
async def says_who_it_is_beside(inside: FakeAttached) -> int:
    launch, added = inside.process.launch, inside.program.env["ADDED"]
    text = f"{launch.uid}\n{launch.workdir}\n{launch.env['GREETING']}[{added}]\n{launch.hostname}\n"
    await inside.write(text.encode())
    return 0


@program("read port < port; exec busybox nc -ll -p $port -e cat")
async def echoes(process: FakeProcess) -> int:
    async def serve(stream: trio.abc.HalfCloseableStream) -> None:
        async with stream:
            while data := await stream.receive_some(1000):
                await stream.send_all(data)

    process.ports[int(process.real(f"{HOME}/port").read_text())] = serve
    await trio.sleep_forever()
    return 0


@check
async def the_exit_code_of_a_program_beside_a_task_is_told(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        async with runtime.attach(TASK, command(exits)) as inside:
            assert await rest(inside) == {STDOUT: b"", STDERR: b""}
            assert await inside.wait() == 7


@check
async def what_goes_wrong_comes_apart_from_what_is_said(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        async with runtime.attach(TASK, command(says_on_both)) as inside:
            assert await rest(inside) == {STDOUT: b"out\n", STDERR: b"err\n"}
            assert await inside.wait() == 0


@check
async def input_ends_and_the_program_says_its_last(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        async with runtime.attach(TASK, command(copies)) as inside:
            await inside.send(b"one\n")
            assert await said_until(inside, b"one\n") == b"one\n"
            await inside.send_eof()
            assert (await rest(inside))[STDOUT] == b"end\n"
            assert await inside.wait() == 0


@check
async def much_goes_both_ways_byte_for_byte(bench: Bench) -> None:
    async def give(inside: Attached) -> None:
        for start in range(0, len(MUCH), 65536):
            await inside.send(MUCH[start : start + 65536])
        await inside.send_eof()

    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        async with runtime.attach(TASK, command(copies)) as inside, trio.open_nursery() as nursery:
            nursery.start_soon(give, inside)
            pieces = []
            while (piece := await inside.receive()) is not None:
                pieces.append(piece[1])
        assert b"".join(pieces) == MUCH + b"end\n"


@check
async def a_terminal_is_one_and_without_one_there_is_none(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        async with runtime.attach(TASK, command(tells_terminals)) as inside:
            assert (await rest(inside))[STDOUT] == b"end\n"
        async with runtime.attach(TASK, command(tells_terminals, Terminal(80, 24))) as inside:
            assert await rest(inside) == {STDOUT: b"0\r\n1\r\n2\r\nend\r\n", STDERR: b""}
            assert await inside.wait() == 0


@check
async def a_terminal_has_the_size_that_it_is_told(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        async with runtime.attach(TASK, command(tells_sizes, Terminal(81, 23))) as inside:
            await said_until(inside, b"23 81\r\n")
            await inside.resize(LARGE)
            await said_until(inside, b"50 132\r\n")


@check
async def a_signal_ends_a_program_beside_a_task_and_not_the_task(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        async with runtime.attach(TASK, command(stays)) as inside:
            await said_until(inside, b"up\n")
            await inside.signal(signal.SIGTERM)
            assert (await rest(inside))[STDOUT] == b""
            assert await inside.wait() == 128 + signal.SIGTERM
            await inside.signal(signal.SIGTERM)
        async with runtime.attach(TASK, command(exits)) as inside:
            assert await inside.wait() == 7


@check
async def a_program_beside_a_task_ends_with_it(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        async with runtime.attach(TASK, command(stays)) as inside:
            await said_until(inside, b"up\n")
            await runtime.signal(TASK, signal.SIGKILL)
            assert (await rest(inside))[STDOUT] == b""
            assert await inside.wait() == 128 + signal.SIGKILL
        await runtime.wait(TASK)


@check
async def a_program_beside_a_task_has_its_person_directory_and_variables(bench: Bench) -> None:
    async with bench.open() as runtime:
        launch = bench.launch(*sleeps)
        await runtime.start(launch)
        async with runtime.attach(TASK, command(says_who_it_is_beside, env={"ADDED": "x y"})) as inside:
            said = (await rest(inside))[STDOUT].decode()
        assert said == f"{launch.uid}\n{HOME}\n{launch.env['GREETING']}[x y]\n{launch.hostname}\n"


@check
async def a_program_that_is_not_there_is_refused_by_its_name(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        with pytest.raises(PfsError, match=r"^no such program: no-such-program$") as caught:
            async with runtime.attach(TASK, command(["no-such-program"])):
                raise AssertionError
        assert caught.value.kind is Kind.NOT_FOUND


@check
async def nobody_is_let_into_a_task_that_is_over_or_unknown(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*fails))
        await runtime.wait(TASK)
        for task_id in (TASK, "99.1.0.0"):
            with pytest.raises(PfsError, match="the process is over") as caught:
                async with runtime.attach(task_id, command(exits)):
                    raise AssertionError
            assert caught.value.kind is Kind.BUSY
            with pytest.raises(PfsError, match="the process is over") as caught:
                await runtime.dial(task_id, 1)
            assert caught.value.kind is Kind.BUSY


@check
async def a_task_that_a_daemon_before_has_started_lets_in_as_any_other(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
    async with bench.open() as runtime, runtime.attach(TASK, command(copies)) as inside:
        await inside.send_eof()
        assert (await rest(inside))[STDOUT] == b"end\n"


async def dialled(runtime: Runtime, port: int) -> Connection:
    """Return a connection, as soon as somebody listens."""
    while True:
        try:
            return await runtime.dial(TASK, port)
        except PfsError as error:
            if error.kind is not Kind.UNREACHABLE:
                raise
        await trio.sleep(0.01)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@check
async def a_port_of_a_task_is_connected_to_and_each_side_ends_by_itself(bench: Bench) -> None:
    port = free_port()
    (bench.home / "port").write_text(f"{port}\n")
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*echoes))
        stream = await dialled(runtime, port)
        async with aclosing(stream):
            await stream.send_all(b"hello")
            assert await stream.receive_some(100) == b"hello"
            await stream.send_all(b"bye")
            await stream.send_eof()
            assert await stream.receive_some(100) == b"bye"
            assert await stream.receive_some(100) == b""


@check
async def a_port_that_nobody_listens_on_is_refused(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        with pytest.raises(PfsError, match="nothing listens there") as caught:
            await runtime.dial(TASK, free_port())
        assert caught.value.kind is Kind.UNREACHABLE
