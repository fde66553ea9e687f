"""What every runtime promises, as checks that run on the fake (unit tests) and on the real ones (integration).

A program is a text for `sh -c` with what it does written again for the fake machine; `HOME` is a volume that the
task may write, `SHARED` one that it may only read.
"""

import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import trio

from jobd.node.runtime import Exit, Launch, Runtime, RuntimeFailure, Volume
from tests.jobd.node.fake import FakeProcess, Program
from tests.jobd.node.server import eventually

HOME = "/pfs/dc1/home/ann"
SHARED = "/pfs/dc1/shared"
TASK = "17.1.0.0"

PROGRAMS: dict[str, Program] = {}
CHECKS: list[Callable[["Bench"], Awaitable[None]]] = []


@dataclass(frozen=True)
class Bench:
    """A kind of runtime under test.

    Attributes:
        open: gives a runtime; each call stands for a daemon that starts again on the same machine.
        home, shared: directories of this machine, `home` writable for `uid`.
    """

    open: Callable[[], AbstractAsyncContextManager[Runtime]]
    home: Path
    shared: Path
    uid: int | None
    image: str | None

    def launch(self, *argv: str, task_id: str = TASK) -> Launch:
        return Launch(
            task_id,
            argv,
            env={"GREETING": 'it\'s "mine"\n$HOME', "EMPTY": "", "HOME": HOME},
            workdir=HOME,
            hostname="digits-worker-0",
            image=self.image,
            uid=self.uid,
            gid=self.uid,
            volumes=(Volume(str(self.home), HOME, False), Volume(str(self.shared), SHARED, True)),
        )


def check(function: Callable[[Bench], Awaitable[None]]) -> Callable[[Bench], Awaitable[None]]:
    CHECKS.append(function)
    return function


def program(text: str) -> Callable[[Program], Sequence[str]]:
    def remember(does: Program) -> Sequence[str]:
        PROGRAMS[text] = does
        return ("sh", "-c", text)

    return remember


async def read(runtime: Runtime, task_id: str = TASK, offset: int = 0) -> bytes:
    async with aclosing(runtime.output(task_id, offset)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def read_until(runtime: Runtime, part: bytes, task_id: str = TASK) -> bytes:
    output = b""
    async with aclosing(runtime.output(task_id, 0)) as chunks:
        async for chunk in chunks:
            output += chunk
            if part in output:
                return output
    raise AssertionError(f"the task ended without {part!r}: {output!r}")


async def _file_appears(process: FakeProcess, name: str) -> None:
    await eventually(process.real(f"{HOME}/{name}").exists)


@program("echo one; echo two")
async def says_two_lines(process: FakeProcess) -> int:
    process.write(b"one\n")
    process.write(b"two\n")
    return 0


@program("echo failing; exit 7")
async def fails(process: FakeProcess) -> int:
    process.write(b"failing\n")
    return 7


@program("kill -9 $$")
async def kills_itself(process: FakeProcess) -> int:
    return 128 + 9


@program("printf '\\000\\377\\376\\r\\033[1m no \\303 newline'")
async def says_binary(process: FakeProcess) -> int:
    process.write(b"\0\xff\xfe\r\33[1m no \xc3 newline")
    return 0


@program("exec 2>&1; i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done")
async def says_much(process: FakeProcess) -> int:
    for number in range(3000):
        process.write(f"line {number + 1}\n".encode())
    return 0


@program("i=0; while [ $i -lt 500 ]; do i=$((i+1)); echo out $i; echo err $i >&2; done")
async def says_on_both_streams(process: FakeProcess) -> int:
    for number in range(500):
        process.write(f"out {number + 1}\n".encode())
        process.write(f"err {number + 1}\n".encode())
    return 0


@program("printf '50%%\\r'; while [ ! -e go ]; do sleep 0.02; done; printf '100%%\\n'; echo done; exit 3")
async def waits_in_a_line(process: FakeProcess) -> int:
    process.write(b"50%\r")
    await _file_appears(process, "go")
    process.write(b"100%\ndone\n")
    return 3


@program("echo first; while [ ! -e go ]; do sleep 0.02; done; printf 'last words'")
async def has_last_words(process: FakeProcess) -> int:
    process.write(b"first\n")
    await _file_appears(process, "go")
    process.write(b"last words")
    return 0


@program("echo ran >> runs")
async def leaves_a_mark(process: FakeProcess) -> int:
    runs = process.real(f"{HOME}/runs", writing=True)
    async with await trio.open_file(runs, "a") as file:
        await file.write("ran\n")
    return 0


@program(
    "trap : TERM; setsid sh -c \"trap 'echo child; exit' TERM; echo up; while :; do sleep 0.02; done\" & child=$!;"
    "wait $child; wait $child; echo gone; exit 5"
)
async def waits_for_a_child_in_a_session_of_its_own(process: FakeProcess) -> int:
    process.ignored.add(signal.SIGTERM)
    process.write(b"up\n")
    await process.signalled()
    process.write(b"child\ngone\n")
    return 5


@program("sleep 1000 & echo parent")
async def leaves_a_child_behind(process: FakeProcess) -> int:
    process.write(b"parent\n")
    return 0


@program("sleep 1000")
async def sleeps(process: FakeProcess) -> int:
    await trio.sleep_forever()
    return 0


@program("echo out > /dev/stdout; echo err > /dev/stderr; ls -l /nowhere > /dev/null 2>&1 || echo end")
async def opens_its_streams_by_name(process: FakeProcess) -> int:
    process.write(b"out\nerr\nend\n")
    return 0


@program("trap 'echo not me' TERM; echo up; while :; do sleep 0.02; done")
async def ignores_term(process: FakeProcess) -> int:
    process.ignored.add(signal.SIGTERM)
    process.write(b"up\n")
    while True:
        await process.signalled()
        process.write(b"not me\n")


@program('id -u; hostname; pwd; printf %s "$GREETING"; echo "[${EMPTY-unset}]"')
async def says_who_it_is(process: FakeProcess) -> int:
    launch = process.launch
    text = f"{launch.uid}\n{launch.hostname}\n{launch.workdir}\n{launch.env['GREETING']}[{launch.env['EMPTY']}]\n"
    process.write(text.encode())
    return 0


@program(f"cat {SHARED}/data; echo new > {HOME}/model && echo written; echo x 2>/dev/null > {SHARED}/data || echo no")
async def reads_and_writes(process: FakeProcess) -> int:
    process.write(process.real(f"{SHARED}/data").read_bytes())
    process.real(f"{HOME}/model", writing=True).write_text("new\n")
    process.write(b"written\n")
    try:
        process.real(f"{SHARED}/data", writing=True).write_text("x\n")
    except OSError:
        process.write(b"no\n")
    return 0


@program("ls /tmp; echo secret > /tmp/mine; echo up; while [ ! -e go ]; do sleep 0.02; done")
async def keeps_a_secret_in_tmp(process: FakeProcess) -> int:
    process.write("".join(name + "\n" for name in process.tmp).encode())
    process.tmp["mine"] = b"secret\n"
    process.write(b"up\n")
    await _file_appears(process, "go")
    return 0


@check
async def output_ends_with_the_task_and_its_exit_is_told(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*says_two_lines))
        assert await read(runtime) == b"one\ntwo\n"
        assert await runtime.wait(TASK) == Exit(0)


@check
async def an_exit_is_told_again_and_after_a_restart(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*fails))
        assert await runtime.wait(TASK) == Exit(7)
        assert await runtime.wait(TASK) == Exit(7)
    async with bench.open() as runtime:
        assert await runtime.wait(TASK) == Exit(7)
        assert await read(runtime) == b"failing\n"


@check
async def a_death_by_signal_is_128_and_its_number(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*kills_itself))
        assert await runtime.wait(TASK) == Exit(128 + signal.SIGKILL, "killed by SIGKILL")


@check
async def a_program_that_is_not_there_ends_with_127_and_says_so(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch("no-such-program"))
        assert await runtime.wait(TASK) == Exit(127, "a program was not found")
        assert b"no-such-program" in await read(runtime)


@check
async def every_byte_passes_unchanged(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*says_binary))
        assert await read(runtime) == b"\0\xff\xfe\r\33[1m no \xc3 newline"


@check
async def output_can_be_had_from_every_offset(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*says_two_lines))
        for offset in range(9):
            assert await read(runtime, offset=offset) == b"one\ntwo\n"[offset:]


@check
async def much_output_has_no_gap_and_no_line_twice(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*says_much))
        assert await read(runtime) == "".join(f"line {n + 1}\n" for n in range(3000)).encode()


@check
async def two_streams_are_the_same_at_each_reading(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*says_on_both_streams))
        first = await read(runtime)
        for stream in ("out", "err"):
            lines = [line for line in first.decode().splitlines() if line.startswith(stream)]
            assert lines == [f"{stream} {n + 1}" for n in range(500)]
        assert await read(runtime) == first
    async with bench.open() as runtime:
        assert await read(runtime) == first
        assert await read(runtime, offset=1234) == first[1234:]


@check
async def a_line_without_an_end_arrives_while_the_task_runs(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*waits_in_a_line))
        assert await read_until(runtime, b"50%\r") == b"50%\r"
        (bench.home / "go").touch()
        assert await read(runtime) == b"50%\r100%\ndone\n"
        assert await runtime.wait(TASK) == Exit(3)


@check
async def a_started_task_is_not_started_again(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*leaves_a_mark))
        await runtime.start(bench.launch(*leaves_a_mark))
        assert await runtime.wait(TASK) == Exit(0)
        await runtime.start(bench.launch(*leaves_a_mark))
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*leaves_a_mark))
        assert await runtime.wait(TASK) == Exit(0)
        for other in ("17.1.0.1", "17.1.0.2"):  # long enough for a second run to show
            await runtime.start(bench.launch(*says_two_lines, task_id=other))
            await runtime.wait(other)
    assert (bench.home / "runs").read_text() == "ran\n"


@check
async def a_running_task_outlives_the_daemon(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*waits_in_a_line))
        await read_until(runtime, b"50%")
    async with bench.open() as runtime:
        assert await runtime.tasks() == [TASK]
        (bench.home / "go").touch()
        assert await read(runtime) == b"50%\r100%\ndone\n"
        assert await runtime.wait(TASK) == Exit(3)


@check
async def last_words_without_a_newline_are_not_lost_after_a_restart(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*has_last_words))
        await read_until(runtime, b"first")
    async with bench.open() as runtime:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read, runtime)
            await trio.sleep(0.05)
            (bench.home / "go").touch()
        assert await read(runtime) == b"first\nlast words"


@check
async def a_task_that_ends_while_the_daemon_is_away_is_told_truthfully(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*waits_in_a_line))
        await read_until(runtime, b"50%")
    (bench.home / "go").touch()
    async with bench.open() as runtime:
        assert await runtime.wait(TASK) == Exit(3)
        assert await read(runtime, offset=4) == b"100%\ndone\n"


@check
async def term_ends_a_task_that_does_nothing_about_it(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*sleeps))
        await runtime.signal(TASK, signal.SIGTERM)
        assert await runtime.wait(TASK) == Exit(128 + signal.SIGTERM, "killed by SIGTERM")


@check
async def term_reaches_every_process_of_the_task(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*waits_for_a_child_in_a_session_of_its_own))
        await read_until(runtime, b"up\n")
        await runtime.signal(TASK, signal.SIGTERM)
        assert await runtime.wait(TASK) == Exit(5)
        # a shell may also say that its `sleep` was terminated
        assert {b"up", b"child", b"gone"} <= set((await read(runtime)).splitlines())


@check
async def what_a_task_leaves_running_ends_with_it(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*leaves_a_child_behind))
        assert await runtime.wait(TASK) == Exit(0)
        assert await read(runtime) == b"parent\n"


@check
async def standard_streams_can_be_opened_by_name(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*opens_its_streams_by_name))
        assert sorted((await read(runtime)).split()) == [b"end", b"err", b"out"]


@check
async def term_may_be_ignored_and_kill_may_not(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*ignores_term))
        await read_until(runtime, b"up\n")
        await runtime.signal(TASK, signal.SIGTERM)
        await read_until(runtime, b"not me\n")
        await runtime.signal(TASK, signal.SIGKILL)
        assert await runtime.wait(TASK) == Exit(128 + signal.SIGKILL, "killed by SIGKILL")


@check
async def a_signal_for_a_task_that_is_over_or_unknown_is_no_error(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*fails))
        await runtime.wait(TASK)
        for number in (signal.SIGTERM, signal.SIGKILL):
            await runtime.signal(TASK, number)
            await runtime.signal("99.1.0.0", number)
        assert await runtime.wait(TASK) == Exit(7)


@check
async def a_removed_task_has_ended_and_is_forgotten(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*ignores_term))
        await read_until(runtime, b"up\n")
        await runtime.remove(TASK)
        assert await runtime.tasks() == []
        await runtime.remove(TASK)
        await runtime.start(bench.launch(*says_two_lines))
        assert await read(runtime) == b"one\ntwo\n"


@check
async def tasks_are_those_that_were_started_and_not_removed(bench: Bench) -> None:
    async with bench.open() as runtime:
        assert await runtime.tasks() == []
        await runtime.start(bench.launch(*fails, task_id="17.1.0.0"))
        await runtime.start(bench.launch(*fails, task_id="17.1.0.1"))
        await runtime.wait("17.1.0.0")
        assert await runtime.tasks() == ["17.1.0.0", "17.1.0.1"]
        await runtime.remove("17.1.0.0")
        assert await runtime.tasks() == ["17.1.0.1"]


@check
async def a_task_sees_its_variables_directory_person_and_host_name(bench: Bench) -> None:
    async with bench.open() as runtime:
        launch = bench.launch(*says_who_it_is)
        await runtime.start(launch)
        expected = f'{launch.uid}\ndigits-worker-0\n{HOME}\nit\'s "mine"\n$HOME[]\n'
        assert (await read(runtime)).decode() == expected


@check
async def volumes_are_readable_and_writable_as_was_said(bench: Bench) -> None:
    (bench.shared / "data").write_text("input\n")
    (bench.shared / "data").chmod(0o666)
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*reads_and_writes))
        assert await read(runtime) == b"input\nwritten\nno\n"
    assert (bench.home / "model").read_text() == "new\n"
    assert (bench.shared / "data").read_text() == "input\n"


@check
async def each_task_has_a_tmp_of_its_own(bench: Bench) -> None:
    async with bench.open() as runtime:
        await runtime.start(bench.launch(*keeps_a_secret_in_tmp, task_id="17.1.0.0"))
        await read_until(runtime, b"up\n", "17.1.0.0")
        await runtime.start(bench.launch(*keeps_a_secret_in_tmp, task_id="17.1.0.1"))
        assert await read_until(runtime, b"up\n", "17.1.0.1") == b"up\n"
        (bench.home / "go").touch()
        assert await runtime.wait("17.1.0.1") == Exit(0)


@check
async def a_volume_that_is_not_there_fails_the_start_and_leaves_nothing(bench: Bench) -> None:
    missing = (Volume(str(bench.home / "nowhere"), "/data", True),)
    async with bench.open() as runtime:
        with pytest.raises(RuntimeFailure, match="nowhere"):
            await runtime.start(replace(bench.launch(*says_two_lines), volumes=missing, workdir="/"))
        assert await runtime.tasks() == []
        await runtime.start(bench.launch(*says_two_lines))
        assert await read(runtime) == b"one\ntwo\n"
