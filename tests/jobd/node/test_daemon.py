"""The daemon: whatever connection, server and daemon do, each task runs once and is told completely and once."""

import json
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from jobd import attach
from jobd.identity import Claim
from jobd.node import daemon as daemon_module
from jobd.node.daemon import Daemon
from jobd.node.dataroot import DataRoot
from jobd.node.gpus import Gpu, Look
from jobd.node.runtime import RuntimeAway
from jobd.node.state import StateDir
from jobd.node.telemetry import GpuWatch, Told
from jobd.node.watchdog import Watchdog
from jobd.wire import CUT_OFF, Assignment, Json, NodeGpu, TaskVolume, Wanted, Welcome, decode_gpus
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel, Handler
from tests.jobd.node.fake import FakeAttached, FakeMachine, FakeProcess, FakeRuntime, Program
from tests.jobd.node.server import MARK, LogServer, MemoryNetwork, Server, eventually

TASK = "17.1.0.0"
ASSIGNMENT = Assignment(
    TASK, ("sh", "-c", "count"), {}, "/", "h", uid=1, gid=1, volumes=(TaskVolume("home/ann", "/home", False),)
)

GPU = Gpu(NodeGpu("GPU-1", 0, "NVIDIA H200", 1 << 37), ("nvidia0",))
LOST = Look(silent={0: "it is lost"})

Run = Callable[[Callable[[], Awaitable[None]]], None]


class Counter:
    """A program that writes the next number each time it is told to, and ends when told so."""

    def __init__(self) -> None:
        self.orders, self._orders = trio.open_memory_channel[str](1000)
        self.written = 0

    async def __call__(self, process: FakeProcess) -> int:
        async for order in self._orders:
            if order.startswith("exit"):
                return int(order.split()[1])
            self.written += 1
            process.write(f"{self.written}\n".encode())
        return 0

    async def count(self, times: int = 1) -> None:
        for _ in range(times):
            await self.orders.send("count")

    async def exit(self, code: int) -> None:
        await self.orders.send(f"exit {code}")


def numbers(count: int) -> bytes:
    return "".join(f"{n + 1}\n" for n in range(count)).encode()


async def stubborn(process: FakeProcess) -> int:
    process.ignored.add(signal.SIGTERM)
    process.write(b"up\n")
    while True:
        await process.signalled()
        process.write(b"no\n")


class FakeOverlays:
    """An engine in a swarm that is not always there."""

    def __init__(self) -> None:
        self.networks: list[str] = []
        self.away = False
        self.own_swarm = "s1"
        self.times_renewed = 0

    async def swarm(self) -> tuple[str, bool]:
        self._knock()
        return self.own_swarm, True

    async def make_network(self, name: str) -> None:
        self._knock()
        self.networks.append(name)

    async def drop_network(self, name: str) -> None:
        self._knock()
        self.networks.remove(name)

    def _knock(self) -> None:
        if self.away:
            raise RuntimeAway("the engine does not answer")


@dataclass
class World:
    """A machine with a data root, and the network to a server; daemons come and go in it."""

    directory: Path
    nursery: trio.Nursery
    server: Server
    network: MemoryNetwork
    machine: FakeMachine
    counter: Counter
    said: list[str]
    welcomes: list[Welcome]
    overlays: "FakeOverlays | None" = None
    beside: "LogServer | None" = None
    spawned: list[Path] = field(default_factory=list)
    look: Look = field(default_factory=lambda: Look((GPU,)))

    def __post_init__(self) -> None:
        self.gpus = GpuWatch(self.said.append, lambda: self.look)

    async def address(self) -> str:
        return "10.0.0.7"

    def spawn(self, state: Path) -> int:
        self.spawned.append(state)
        return 1

    def make(self) -> Daemon:
        beside = self.beside
        self.runtime = FakeRuntime(self.machine, "sandbox")
        return Daemon(
            self.network.connect,
            {"sandbox": self.runtime},
            self.state,
            DataRoot(self.directory / "root"),
            claim=Claim("n0", token="t0"),
            attrs={"cpuCount": 2},
            address=self.address,
            watchdog=Watchdog(self.state.path, self.spawn),
            gpus=self.gpus,
            overlays=self.overlays,
            connect_logs=None if beside is None else MemoryNetwork(beside).connect,
            tell=self.said.append,
            welcomed=self.welcomes.append,
        )

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        with StateDir(self.directory / "state") as self.state:
            await self.gpus.look()
            daemon = self.make()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(daemon.run)
                yield daemon
                nursery.cancel_scope.cancel()


def in_world(
    run: Run, tmp_path: Path, test: Callable[[World], Awaitable[None]], programs: Mapping[str, Program] | None = None
) -> None:
    (tmp_path / "root/home/ann").mkdir(parents=True)
    (tmp_path / "root/.pfs-id").write_text(MARK + "\n")

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            counter, server = Counter(), Server()
            machine = FakeMachine(nursery, {"count": counter, "stubborn": stubborn, **(programs or {})})
            await test(World(tmp_path, nursery, server, MemoryNetwork(server), machine, counter, [], []))
            nursery.cancel_scope.cancel()

    run(main)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "PAUSE_FIRST_S", 0.001)
    monkeypatch.setattr("jobd.node.ship.AGAIN_S", 0.001)
    monkeypatch.setattr("jobd.node.task.AGAIN_S", 0.001)


def test_a_task_is_run_shipped_and_told_and_then_forgotten(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.counter.count(3)
            await world.counter.exit(7)
            end = await world.server.ended(TASK)
            assert (end["code"], end["reason"], end["offset"]) == (7, "", 6)
            seen = world.server.seen(TASK)
            assert (bytes(seen.output), seen.running, len(seen.ends)) == (numbers(3), 1, 1)
            assert all(time_ns > 10**18 for time_ns, _ in seen.pieces)
            await eventually(lambda: not world.machine.tasks)

    in_world(run, tmp_path, test)


def test_hello_tells_who_the_node_is_and_the_welcome_is_passed_on(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.until(lambda: world.server.hellos)
            hello = world.server.hellos[0]
            assert (hello["claim"]["name"], hello["attrs"]["cpuCount"], hello["runtimes"]) == ("n0", 2, ["sandbox"])
            assert hello["tasks"] == []
            assert len(hello["boot_id"]) == 36
            await eventually(lambda: world.welcomes)
            assert world.welcomes[0].node_id == "cm1"

    in_world(run, tmp_path, test)


def test_a_task_asked_for_twice_is_started_once(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.server.start(ASSIGNMENT)
            await world.counter.exit(0)
            await world.server.ended(TASK)
        seen = world.server.seen(TASK)
        assert (world.machine.starts, seen.running, len(seen.ends)) == ([TASK], 1, 1)

    in_world(run, tmp_path, test)


def test_a_lost_connection_costs_no_byte_and_doubles_none(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        seen = world.server.seen(TASK)
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            for hellos in range(2, 7):
                await world.counter.count(10)
                await world.server.until(lambda: len(seen.output) > 0)
                await world.server.cut()
                await world.server.greeted(hellos)
            await world.counter.exit(0)
            await world.server.ended(TASK)
        assert bytes(seen.output) == numbers(50)
        assert world.machine.starts == [TASK]
        assert [hello["tasks"] for hello in world.server.hellos] == [[]] + [[TASK]] * 5

    in_world(run, tmp_path, test)


@pytest.mark.parametrize("op", ["task.output", "task.running", "task.ended"])
def test_an_answer_that_was_lost_doubles_nothing(run: Run, tmp_path: Path, op: str) -> None:
    async def test(world: World) -> None:
        world.server.cut_after = op
        seen = world.server.seen(TASK)
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.counter.count(10)
            await world.counter.exit(0)
            await world.server.until(lambda: len(world.server.hellos) == 2 and seen.ends)
            await eventually(lambda: not world.machine.tasks)
        assert bytes(seen.output) == numbers(10)
        assert {(end["code"], end["offset"]) for end in seen.ends} == {(0, 21)}

    in_world(run, tmp_path, test)


def test_a_daemon_that_ends_says_goodbye_where_it_is_connected(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon() as daemon:
            await world.server.greeted(1)
            await world.server.until(lambda: world.server.gpus or world.server.beats)
            await daemon.leave()
            assert world.server.goodbyes == 1
            world.server.refuse.add("node.bye")  # as one does that is older
            await daemon.leave()
            await world.server.cut()
            await daemon.leave()
        await world.make().leave()
        assert world.server.goodbyes == 1

    in_world(run, tmp_path, test)


def test_heartbeats_go_on_and_tell_what_takes_no_tasks_now(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "BEAT_EVERY_S", 0.001)

    async def test(world: World) -> None:
        server = world.server
        async with world.daemon():
            await server.until(lambda: server.beats > 2)
            assert (server.hellos[0]["troubles"], server.troubles) == ({}, {})
            world.runtime.trouble = "it does not answer"
            await server.until(lambda: server.troubles == {"sandbox": "it does not answer"})
            beats = server.beats
            await server.until(lambda: server.beats > beats + 2)
            await server.cut()
            await server.greeted(2)
            assert server.hellos[1]["troubles"] == {"sandbox": "it does not answer"}
            world.runtime.trouble = ""
            await server.until(lambda: server.troubles == {})

    in_world(run, tmp_path, test)


def test_a_stop_that_finds_the_engine_away_is_kept_and_done_when_it_answers(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World) -> None:
        asked: list[int] = []

        async def away(task_id: str, number: int) -> None:
            asked.append(number)
            raise RuntimeAway("the engine does not answer")

        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.counter.count(1)
            signal_it = world.runtime.signal
            monkeypatch.setattr(world.runtime, "signal", away)
            await world.server.ask("task.stop", task=TASK, grace_s=30.0)
            await eventually(lambda: len(asked) > 2)
            assert not world.server.seen(TASK).ends
            monkeypatch.setattr(world.runtime, "signal", signal_it)
            assert (await world.server.ended(TASK))["reason"] == "killed by SIGTERM"
            assert world.machine.starts == [TASK]

    in_world(run, tmp_path, test)


def test_a_node_whose_engine_came_back_in_another_swarm_tells_who_it_is_again(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "BEAT_EVERY_S", 0.001)

    async def test(world: World) -> None:
        world.overlays = overlays = FakeOverlays()
        server = world.server
        async with world.daemon():
            await server.until(lambda: server.beats > 1)
            overlays.times_renewed = 1  # the same as before
            beats = server.beats
            await server.until(lambda: server.beats > beats + 2)
            assert len(server.hellos) == 1
            overlays.own_swarm, overlays.times_renewed = "s2", 2
            await server.greeted(2)
            assert [hello["attrs"]["swarm"] for hello in server.hellos] == ["s1", "s2"]

    in_world(run, tmp_path, test)


@pytest.mark.parametrize("op", ["task.output", "task.running", "task.ended", "node.beat"])
def test_a_refusal_by_the_server_is_not_the_end(
    run: Run, tmp_path: Path, op: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "BEAT_EVERY_S", 0.001)

    async def test(world: World) -> None:
        world.server.refuse.add(op)
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.counter.count(10)
            await world.counter.exit(3)
            assert (await world.server.ended(TASK))["code"] == 3
            await world.server.until(lambda: not world.server.refuse)
        assert bytes(world.server.seen(TASK).output) == numbers(10)

    in_world(run, tmp_path, test)


def test_a_server_that_has_less_than_was_thought_gets_it_again(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        seen = world.server.seen(TASK)
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.counter.count(5)
            await world.server.until(lambda: len(seen.output) == 10)
            del seen.output[4:]
            await world.counter.count(2)
            await world.counter.exit(0)
            await world.server.ended(TASK)
        assert bytes(seen.output) == numbers(7)

    in_world(run, tmp_path, test)


def test_a_restarted_daemon_goes_on_where_the_server_is(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        seen = world.server.seen(TASK)
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.counter.count(5)
            await world.server.until(lambda: len(seen.output) == 10)
        await world.counter.count(4)
        async with world.daemon():
            await world.counter.exit(9)
            assert (await world.server.ended(TASK))["code"] == 9
        assert bytes(seen.output) == numbers(9)
        assert world.machine.starts == [TASK]

    in_world(run, tmp_path, test)


def test_a_task_that_ended_while_no_daemon_was_there_is_told(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.server.until(lambda: world.server.seen(TASK).running)
        await world.counter.count(3)
        await world.counter.exit(4)
        await world.machine.tasks[TASK].over.wait()
        async with world.daemon():
            assert (await world.server.ended(TASK))["code"] == 4
        assert bytes(world.server.seen(TASK).output) == numbers(3)

    in_world(run, tmp_path, test)


def test_a_part_of_a_line_is_shipped_after_a_silence(run: Run, tmp_path: Path) -> None:
    async def half(process: FakeProcess) -> int:
        process.write(b"50%")
        await trio.sleep_forever()
        return 0

    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, argv=("half",)))
            await world.server.until(lambda: world.server.seen(TASK).output == b"50%")

    in_world(run, tmp_path, test, {"half": half})


def test_much_output_goes_in_large_batches(run: Run, tmp_path: Path) -> None:
    async def much(process: FakeProcess) -> int:
        process.write(b"x" * 79 + b"\n" + bytes(2_000_000) + b"\xff\n" * 50_000)
        return 0

    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, argv=("much",)))
            await world.server.ended(TASK)
        seen = world.server.seen(TASK)
        assert bytes(seen.output) == b"x" * 79 + b"\n" + bytes(2_000_000) + b"\xff\n" * 50_000
        # what came in one moment is one piece: the header of a batch stays small
        assert len(seen.pieces) < 100

    in_world(run, tmp_path, test, {"much": much})


def test_stop_is_term_then_kill_after_the_grace(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, argv=("stubborn",)))
            await world.server.until(lambda: world.server.seen(TASK).output)
            await world.server.ask("task.stop", task=TASK, grace_s=0.05)
            end = await world.server.ended(TASK)
        assert end["code"] == 128 + signal.SIGKILL
        assert bytes(world.server.seen(TASK).output) == b"up\nno\n"

    in_world(run, tmp_path, test)


def test_a_second_stop_may_shorten_the_grace_and_sends_no_second_term(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, argv=("stubborn",)))
            await world.server.until(lambda: world.server.seen(TASK).output)
            await world.server.ask("task.stop", task=TASK, grace_s=3600)
            await world.server.until(lambda: b"no" in world.server.seen(TASK).output)
            await world.server.ask("task.stop", task=TASK, grace_s=3600)
            await world.server.ask("task.stop", task=TASK, grace_s=0.01)
            assert (await world.server.ended(TASK))["code"] == 128 + signal.SIGKILL
        assert bytes(world.server.seen(TASK).output) == b"up\nno\n"

    in_world(run, tmp_path, test)


def test_a_stop_is_finished_by_the_next_daemon_with_what_is_left_of_the_grace(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, argv=("stubborn",)))
            await world.server.until(lambda: world.server.seen(TASK).output)
            await world.server.ask("task.stop", task=TASK, grace_s=0.1)
        assert not world.machine.tasks[TASK].over.is_set()
        world.network.down = PfsError(Kind.UNREACHABLE, "no network")
        async with world.daemon():
            await world.machine.tasks[TASK].over.wait()
            world.network.down = None
            assert (await world.server.ended(TASK))["code"] == 128 + signal.SIGKILL
            await eventually(lambda: not (tmp_path / "state/stops" / TASK).exists())

    in_world(run, tmp_path, test)


def test_a_stop_before_the_start_is_done_ends_the_start(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.machine.held = trio.Event()
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.server.ask("task.stop", task=TASK, grace_s=30.0)
            end = await world.server.ended(TASK)
        assert (end["code"], end["reason"]) == (143, "stopped before it was started")
        assert world.machine.starts == []
        assert world.server.seen(TASK).running == 0

    in_world(run, tmp_path, test)


def test_what_a_start_waits_for_is_told_before_it_is_done_and_again_to_a_new_server(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.machine.held, world.machine.waits_for = trio.Event(), ("pulling x", "pulling x: 1.0 MiB of 2.0 MiB")
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            seen = world.server.seen(TASK)
            await world.server.until(lambda: seen.news == list(world.machine.waits_for))
            assert seen.running == 0
            await world.server.cut()
            await world.server.until(lambda: seen.news == [*world.machine.waits_for, world.machine.waits_for[-1]])
            world.machine.held.set()
            await world.server.until(lambda: seen.running)
            assert len(seen.news) == 3

    in_world(run, tmp_path, test)


def test_the_image_of_a_task_is_told_when_it_runs(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.machine.images = ["x@sha256:aa"]
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, image="x@sha256:aa"))
            await world.server.until(lambda: world.server.seen(TASK).running)
            assert world.server.seen(TASK).image == "x@sha256:aa"

    in_world(run, tmp_path, test)


def test_the_welcome_can_forget_tasks_and_keep_others(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        other = "18.1.0.0"
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.server.start(replace(ASSIGNMENT, task_id=other))
            await world.server.until(lambda: world.server.seen(other).running and world.server.seen(TASK).running)
        world.server.wanted = {other: Wanted.FORGET}
        async with world.daemon():
            await eventually(lambda: list(world.machine.tasks) == [TASK])
        assert world.server.seen(other).ends == []

    in_world(run, tmp_path, test)


def test_what_is_to_be_forgotten_is_before_anything_else_is_waited_for(run: Run, tmp_path: Path) -> None:
    class Silent(LogServer):
        async def handle(self, op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            await trio.sleep_forever()
            raise AssertionError

    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.server.until(lambda: world.server.seen(TASK).running)
        world.server.wanted = {TASK: Wanted.FORGET}
        world.beside = Silent(world.server)
        async with world.daemon():
            await eventually(lambda: world.machine.tasks == {})

    in_world(run, tmp_path, test)


def test_forget_ends_a_task_without_a_word(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.server.until(lambda: world.server.seen(TASK).running)
            await world.server.ask("task.forget", task=TASK)
            await eventually(lambda: not world.machine.tasks)
        assert world.server.seen(TASK).ends == []

    in_world(run, tmp_path, test)


def test_a_signal_reaches_the_task(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, argv=("stubborn",)))
            await world.server.until(lambda: world.server.seen(TASK).output)
            await world.server.ask("task.signal", task=TASK, signal=int(signal.SIGTERM))
            await world.server.until(lambda: world.server.seen(TASK).output == b"up\nno\n")

    in_world(run, tmp_path, test)


def test_a_start_that_fails_is_told_with_125_and_the_reason(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.machine.failure = "the sandbox cannot be set up: no room"
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            end = await world.server.ended(TASK)
        assert (end["code"], end["reason"]) == (125, "the sandbox cannot be set up: no room")
        assert world.server.seen(TASK).running == 0

    in_world(run, tmp_path, test)


def test_a_runtime_that_this_node_has_not_is_refused(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            with pytest.raises(PfsError, match="has no docker runtime") as caught:
                await world.server.start(replace(ASSIGNMENT, image="python:3.11", runtime="docker"))
            assert caught.value.kind is Kind.UNSUPPORTED
        assert world.machine.starts == []

    in_world(run, tmp_path, test)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("home/eve", "'home/eve' cannot be had"),
        ("../etc", "no path of the tree"),
        ("home/link", "'home/link' cannot be had"),
    ],
)
def test_a_folder_that_cannot_be_had_is_told_with_125(run: Run, tmp_path: Path, source: str, words: str) -> None:
    async def test(world: World) -> None:
        (tmp_path / "root/home/link").symlink_to(tmp_path)
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, volumes=(TaskVolume(source, "/home", False),)))
            end = await world.server.ended(TASK)
        assert end["code"] == 125
        assert words in end["reason"]
        assert world.machine.starts == []

    in_world(run, tmp_path, test)


@pytest.mark.parametrize(
    ("op", "args", "kind"),
    [
        ("task.stop", {"task": "99.1.0.0", "grace_s": 1}, Kind.NOT_FOUND),
        ("task.stop", {"task": "99.1.0.0"}, Kind.NOT_FOUND),
        ("task.forget", {}, Kind.INVALID),
        ("task.start", {"assignment": {"task_id": "../x"}}, Kind.INVALID),
        ("task.dance", {}, Kind.UNSUPPORTED),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    run: Run, tmp_path: Path, op: str, args: dict[str, object], kind: Kind
) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            with pytest.raises(PfsError) as caught:
                await world.server.ask(op, **args)
            assert caught.value.kind is kind

    in_world(run, tmp_path, test)


def test_a_hello_tells_of_gpus_address_and_swarm(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.overlays = FakeOverlays()
        async with world.daemon():
            await world.server.greeted(1)
            world.overlays.away = True
            await world.server.cut()
            await world.server.greeted(2)
        first, second = world.server.hellos
        assert decode_gpus(first["gpus"]) == (GPU.told,)
        same = {"cpuCount": 2, "address": "10.0.0.7", "mounts": False}
        assert first["attrs"] == {**same, "swarm": "s1", "swarmManager": True}
        assert second["attrs"] == {**same, "swarm": "", "swarmManager": False}

    in_world(run, tmp_path, test)


def test_a_gpu_that_is_lost_is_told_and_not_given_until_it_is_well_again(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        wanted = replace(ASSIGNMENT, gpus=("GPU-1",))
        async with world.daemon():
            await world.server.until(lambda: world.server.gpus)
            world.look = LOST
            await world.gpus.look()
            await world.server.until(lambda: len(world.server.gpus) == 2)
            with pytest.raises(PfsError, match="GPU 0 of the node is not well: it is lost") as caught:
                await world.server.start(wanted)
            assert caught.value.kind is Kind.BUSY
            world.look = Look((GPU,))
            await world.gpus.look()
            await world.server.until(lambda: len(world.server.gpus) == 3)
            await world.server.start(wanted)
        assert [decode_gpus(told["gpus"])[0].ill for told in world.server.gpus] == ["", "it is lost", ""]

    in_world(run, tmp_path, test)


def test_gpus_that_vanish_in_the_moment_of_the_hello_are_told(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(world: World) -> None:
        welcome = world.server._welcome

        def vanish(tasks: list[str]) -> Welcome:
            world.gpus.told = Told()
            return welcome(tasks)

        monkeypatch.setattr(world.server, "_welcome", vanish)
        async with world.daemon():
            await world.server.until(lambda: world.server.gpus)
        assert world.server.gpus == [{"gpus": [], "readings": {}}]

    in_world(run, tmp_path, test)


def test_a_task_that_runs_keeps_the_gpu_that_is_not_well(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, gpus=("GPU-1",)))
            world.look = LOST
            await world.gpus.look()
            await world.server.start(replace(ASSIGNMENT, gpus=("GPU-1",)))
            await world.counter.exit(3)
            assert (await world.server.ended(TASK))["code"] == 3

    in_world(run, tmp_path, test)


def test_networks_are_made_and_dropped_by_a_node_that_can(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with world.daemon():
            with pytest.raises(PfsError, match="makes no networks") as caught:
                await world.server.ask("network.make", network="pfs-17-1")
            assert caught.value.kind is Kind.UNSUPPORTED
        world.overlays = FakeOverlays()
        async with world.daemon():
            await world.server.ask("network.make", network="pfs-17-1")
            assert world.overlays.networks == ["pfs-17-1"]
            await world.server.ask("network.drop", network="pfs-17-1")
            assert world.overlays.networks == []
            with pytest.raises(PfsError, match="cannot be the name of a network"):
                await world.server.ask("network.make", network="../x")
            world.overlays.away = True
            with pytest.raises(PfsError, match="the engine does not answer"):
                await world.server.ask("network.make", network="pfs-17-1")

    in_world(run, tmp_path, test)


def test_a_task_has_the_image_that_the_server_says_and_waits_for_its_word(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.machine.images, world.server.image = ("x",), "x@sha256:aa"
        world.server.cut_after = "task.image"
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, image="x", shares_image=True))
            seen = world.server.seen(TASK)
            await world.server.until(lambda: seen.running)
            assert (seen.image, seen.found) == ("x@sha256:aa", ["x", "x"])
            await world.server.start(replace(ASSIGNMENT, task_id="18.1.0.0", image="x"))
            alone = world.server.seen("18.1.0.0")
            await world.server.until(lambda: alone.running)
            assert (alone.image, alone.found) == ("x", [])

    in_world(run, tmp_path, test)


def test_a_task_that_is_held_begins_by_the_servers_word_and_again_by_that_of_the_next_connection(
    run: Run, tmp_path: Path
) -> None:
    gate = tmp_path / "state/gates" / TASK / "begin"

    def is_open() -> bool:
        with open(gate, "rb", buffering=0, opener=lambda path, _: os.open(path, os.O_RDONLY | os.O_NONBLOCK)) as file:
            return file.read() is None  # nothing yet, and not the end

    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, held=True))
            await world.server.until(lambda: world.server.seen(TASK).running)
            [task] = world.machine.tasks.values()
            assert task.process.launch.argv == ("sh", "-c", ': <"$0" && exec "$@"', "/run/pfs/begin", *ASSIGNMENT.argv)
            assert not is_open()
            await world.server.ask("task.go", task=TASK)
            assert is_open()
        async with world.daemon():
            await world.server.until(lambda: world.server.seen(TASK).running > 1)
            assert not is_open()
            await world.server.ask("task.go", task=TASK)
            assert is_open()
            await world.counter.exit(0)
            await world.server.ended(TASK)
            await eventually(lambda: not gate.parent.exists())

    in_world(run, tmp_path, test)


def test_what_another_node_may_have_by_now_is_not_started_without_contact(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "BEAT_EVERY_S", 0.001)

    async def test(world: World) -> None:
        world.machine.held = trio.Event()
        world.machine.images = ("x",)
        contact = tmp_path / "state/watchdog/contact"
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, image="x", watchdog_s=60.0))
            world.server.deaf = True
            await trio.sleep(0.02)
            boot, asked_s = contact.read_text().split()
            contact.write_text(f"{boot} {float(asked_s) - 60.0}")
            world.machine.held.set()
            await trio.sleep(0.02)
            assert world.machine.starts == []
            contact.write_text(f"{boot} {asked_s}")
            await eventually(lambda: world.machine.starts)

    in_world(run, tmp_path, test)


def test_what_the_watchdog_ended_is_told_as_that_and_watched_no_more(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ward = tmp_path / "state/watchdog" / TASK
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, watchdog_s=60.0))
            await world.server.until(lambda: world.server.seen(TASK).running)
            assert world.spawned == [tmp_path / "state"]
            ward.write_text(json.dumps({**json.loads(ward.read_text()), "ended": True}))
        async with world.daemon():
            await world.counter.exit(0)
            end = await world.server.ended(TASK)
            assert (end["code"], end["reason"]) == (0, CUT_OFF)
            await eventually(lambda: not ward.exists())

    in_world(run, tmp_path, test)


def test_what_a_killed_daemon_had_watched_and_never_made_is_watched_no_more(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        wards = tmp_path / "state/watchdog"
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, watchdog_s=60.0))
            await world.server.until(lambda: world.server.seen(TASK).running)
            (wards / "99.1.0.0").write_text((wards / TASK).read_text())
        async with world.daemon():
            await eventually(lambda: len(world.welcomes) == 2)
            assert {path.name for path in wards.iterdir()} == {"contact", "lock", TASK}

    in_world(run, tmp_path, test)


def test_contact_is_when_the_server_answered_and_only_then(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "BEAT_EVERY_S", 0.001)

    async def test(world: World) -> None:
        contact = tmp_path / "state/watchdog/contact"
        async with world.daemon():
            await world.server.start(replace(ASSIGNMENT, watchdog_s=60.0))
            first = contact.read_text()
            await eventually(lambda: contact.read_text() != first)
            world.server.deaf = True
            await trio.sleep(0.02)
            last = contact.read_text()
            await trio.sleep(0.02)
            assert contact.read_text() == last

    in_world(run, tmp_path, test)


def test_another_tree_ends_the_daemon_before_it_takes_work(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.server.mark = "another"
        with StateDir(tmp_path / "state") as world.state, pytest.raises(PfsError, match="not the tree of") as caught:
            await world.make().run()
        assert caught.value.kind is Kind.INVALID
        assert world.welcomes == []

    in_world(run, tmp_path, test)


def test_a_bad_key_ends_the_daemon(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.network.down = PfsError(Kind.UNAUTHENTICATED, "no such key")
        with StateDir(tmp_path / "state") as world.state, pytest.raises(PfsError, match="no such key"):
            await world.make().run()

    in_world(run, tmp_path, test)


def test_a_server_that_cannot_be_reached_is_tried_again_and_told_of_once(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.network.down = PfsError(Kind.UNREACHABLE, "no connection")
        async with world.daemon():
            await eventually(lambda: world.network.attempts >= 4)
            assert world.said == ["no connection; trying again"]
            world.network.down = None
            await world.server.until(lambda: world.server.hellos)
            await eventually(lambda: world.welcomes)
            await world.server.cut()
            await eventually(lambda: len(world.welcomes) >= 2)
        assert world.said == ["no connection; trying again", "the server is gone; trying again"]

    in_world(run, tmp_path, test)


def test_a_server_that_stays_away_is_asked_less_and_less_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "PAUSE_FIRST_S", 0.2)
    monkeypatch.setattr(daemon_module.random, "uniform", lambda low, high: high)
    times: list[float] = []

    async def test(world: World) -> None:
        connect, enough = world.network.connect, trio.Event()

        def noted(handler: Handler) -> AbstractAsyncContextManager[Channel]:
            times.append(trio.current_time())
            if len(times) == 10:
                enough.set()
            return connect(handler)

        monkeypatch.setattr(world.network, "connect", noted)
        world.network.down = PfsError(Kind.UNREACHABLE, "no connection")
        async with world.daemon():
            await enough.wait()

    in_world(lambda main: trio.run(main, clock=MockClock(autojump_threshold=0)), tmp_path, test)
    pauses = [round(after - before, 3) for before, after in pairwise(times)]
    assert pauses == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 15.0, 15.0]


def test_a_server_that_answers_no_beat_is_connected_to_anew(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(daemon_module, "BEAT_EVERY_S", 0.001)
    monkeypatch.setattr(daemon_module, "ANSWER_TIMEOUT_S", 0.05)

    async def test(world: World) -> None:
        async with world.daemon():
            await world.server.until(lambda: world.server.beats > 3)
            world.server.deaf = True
            await world.server.until(lambda: len(world.server.hellos) == 2)

    in_world(run, tmp_path, test)


def test_output_goes_its_own_way_where_there_is_one_and_both_ways_are_lost_together(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.beside = LogServer(world.server)
        async with world.daemon():
            await world.server.start(ASSIGNMENT)
            await world.counter.count(2)
            await world.server.until(lambda: world.server.seen(TASK).output == numbers(2))
            assert world.beside.ops == ["node.logs", "task.output"]
            assert world.beside.channel is not None
            await world.beside.channel.close()
            await world.server.greeted(2)
            await world.counter.count(1)
            await world.counter.exit(0)
            assert (await world.server.ended(TASK))["offset"] == len(numbers(3))
            assert world.beside.ops == ["node.logs", "task.output"]
            assert [hello["claim"]["again"] for hello in world.server.hellos] == [False, True]

    in_world(run, tmp_path, test)


def test_what_stays_wrong_is_said_again_now_and_then(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "SAY_AGAIN_S", 0.2)

    async def test(world: World) -> None:
        world.network.down = PfsError(Kind.UNREACHABLE, "no connection")
        async with world.daemon():
            await eventually(lambda: len(world.said) >= 2)
            assert world.network.attempts > len(world.said)
            assert set(world.said) == {"no connection; trying again"}

    in_world(run, tmp_path, test)


def test_a_users_token_is_no_key_of_a_node(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async def files_only(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            raise PfsError(Kind.UNSUPPORTED, f"the server does not know the operation {op!r}")

        world.server.handle = files_only  # type: ignore[method-assign]
        words = "this key is a user's token, and no node's key"
        with StateDir(world.directory / "state") as world.state, pytest.raises(PfsError, match=words) as caught:
            await world.make().run()
        assert caught.value.kind is Kind.UNAUTHENTICATED

    in_world(run, tmp_path, test)


def test_programs_run_beside_tasks_and_end_with_the_connection(run: Run, tmp_path: Path) -> None:
    ended = []

    async def echoes(inside: FakeAttached) -> int:
        try:
            while data := await inside.read():
                await inside.write(data)
            return 7
        finally:
            ended.append(inside)

    async def test(world: World) -> None:
        world.machine.beside = {"it": echoes}
        wish = {"task": TASK, **attach.encode_program(attach.Program(("it",), {}))}
        server = world.server
        async with world.daemon():
            await server.start(ASSIGNMENT)
            await server.until(lambda: server.seen(TASK).running)
            await server.ask("attach.exec", session="a1", **wish)
            await server.send("a1", b"hello", eof=False)
            await server.send("a1", b"", eof=True)
            await server.until(lambda: server.overs)
            assert (bytes(server.came), server.overs) == (b"hello", [{"session": "a1", "code": 7, "reason": ""}])
            await server.ask("attach.exec", session="a2", **wish)
            await server.cut()
            await server.greeted(2)
            await eventually(lambda: len(ended) == 2)
            with pytest.raises(PfsError, match="no such session"):
                await server.send("a2", b"", eof=True)

    in_world(run, tmp_path, test)


def test_nobody_is_let_into_a_task_that_is_not_there_or_does_not_run(run: Run, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.machine.held = trio.Event()
        server = world.server
        async with world.daemon():
            with pytest.raises(PfsError, match="the node has no task") as caught:
                await server.ask("attach.dial", session="a1", task=TASK, port=80)
            assert caught.value.kind is Kind.NOT_FOUND
            await server.start(ASSIGNMENT)
            with pytest.raises(PfsError, match="does not run") as caught:
                await server.ask("attach.dial", session="a1", task=TASK, port=80)
            assert caught.value.kind is Kind.BUSY

    in_world(run, tmp_path, test)
