"""What jobs do with their GPUs: how it is counted, kept over a restart, and told at the end."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import trio
from trio.testing import MockClock

from jobd.engine.engine import KEEP_USES_EVERY_S
from jobd.engine.gpumeters import Meters, Rate, rates
from jobd.gpuuse import NO_USE, GpuUse
from jobd.job import Job
from jobd.life.events import Terms
from jobd.life.life import Life, Process, State
from jobd.spec.spec import parse_spec
from jobd.wire import GpuReading, NodeGpu, encode_gpus
from tests.jobd.conftest import SECOND_NS
from tests.jobd.engine.drive import driving

SPEC = parse_spec(b"command: x\n", "a")
GPU = NodeGpu("GPU-0", 0, "X", 8 << 30)
WANTS_ONE = "command: x\nresources: '[X]'\n"


def process(*gpus: str, node: str = "n0", over: bool = False) -> Process:
    return Process(node, gpus, started_at_ns=1, ended_at_ns=2 if over else None)


def job(*processes: Process, state: State = State.RUNNING, attempt: int = 1, use: GpuUse = NO_USE) -> Job:
    life = Life(state, "", 1, 1, Terms(), 0, attempt=attempt, processes=processes)
    return Job(17, "ann", SPEC, life, gpu_use=use)


class World:
    """Meters with a clock that goes on by itself where it is told what happened next, and when."""

    def __init__(self) -> None:
        self.meters = Meters()
        self.now_ns = 0

    def after(self, seconds: float) -> "World":
        self.now_ns += int(seconds * SECOND_NS)
        return self

    def read(self, readings: Mapping[str, Rate], node: str = "n0") -> "World":
        self.meters.read(node, readings, self.now_ns)
        return self

    def follow(self, known: Job) -> "World":
        self.meters.follow(known, self.now_ns)
        return self

    def of(self, known: Job) -> tuple[int | None, int | None]:
        use = self.meters.of(known, self.now_ns)
        return use.util_percent, use.memory_percent


def test_a_reading_counts_for_as_long_as_it_stood() -> None:
    runs = job(process("a"))
    world = World().read({"a": Rate(0.5, 0.1)}).follow(runs)
    world.after(1).read({"a": Rate(1.0, 0.5)}).after(3)
    assert world.of(runs) == (88, 40)


def test_time_of_which_nothing_is_told_is_no_part_of_a_mean() -> None:
    runs = job(process("a"))
    world = World().follow(runs).after(100).read({"a": Rate(0.4)}).after(1)
    assert world.of(runs) == (40, None)
    assert world.read({}).after(100).of(runs) == (40, None)


def test_a_mean_is_over_all_gpus_of_all_processes() -> None:
    runs = job(process("a", "b"), process("c", node="n1"), process())
    world = World().read({"a": Rate(1.0), "b": Rate(0.5), "x": Rate(1.0)}).read({"c": Rate(0.0)}, node="n1")
    assert world.follow(runs).after(2).of(runs) == (50, None)


def test_what_a_gpu_does_after_the_end_of_its_process_is_not_the_jobs() -> None:
    world = World().read({"a": Rate(0.2), "b": Rate(0.2)}).follow(job(process("a"), process("b"))).after(1)
    rest = job(process("a", over=True), process("b"))
    assert world.follow(rest).read({"a": Rate(1.0), "b": Rate(0.4)}).after(1).of(rest) == (27, None)


def test_attempts_of_a_job_count_together() -> None:
    world = World().read({"a": Rate(1.0), "b": Rate(0.0)}).follow(job(process("a"))).after(3)
    world.follow(job(state=State.WAITING)).after(50)
    again = job(process("b"), attempt=2)
    assert world.follow(again).after(1).of(again) == (75, None)


def test_a_job_goes_on_from_what_was_kept_of_it() -> None:
    before = job(process("a"), use=GpuUse(1.0, 1.0))
    world = World().read({"a": Rate(0.0)}).follow(before).after(1)
    assert world.of(before) == (50, None)
    assert World().of(before) == (100, None)


def test_what_is_to_be_kept_is_what_changed_and_nothing_of_jobs_that_are_over() -> None:
    runs = job(process("a"))
    world = World().follow(runs).after(5)
    assert world.meters.to_keep(world.now_ns) == {}
    world.read({"a": Rate(1.0)}).after(2)
    assert world.meters.to_keep(world.now_ns) == {17: GpuUse(2.0, 2.0)}
    assert world.meters.to_keep(world.now_ns) == {}
    world.after(1).follow(job(process("a", over=True), state=State.FAILED)).after(2)
    assert world.meters.to_keep(world.now_ns) == {}


def test_a_clock_that_goes_back_takes_nothing_away() -> None:
    runs = job(process("a"))
    world = World().after(100).read({"a": Rate(1.0)}).follow(runs).after(1).read({"a": Rate(1.0)}).after(-50)
    assert world.meters.of(runs, world.now_ns) == GpuUse(1.0, 1.0)


@pytest.mark.parametrize(
    ("reading", "size", "rate"),
    [
        (GpuReading(37, None, 2 << 30), 8 << 30, Rate(0.37, 0.25)),
        (GpuReading(), 8 << 30, Rate()),
        (GpuReading(10**400, None, 10**400), 8 << 30, Rate(1.0, 1.0)),
        (GpuReading(-5, None, -5), 8 << 30, Rate(0.0, 0.0)),
        (GpuReading(0, None, 5), 0, Rate(0.0, None)),
    ],
)
def test_whatever_a_node_tells_is_a_part_of_the_whole(reading: GpuReading, size: int, rate: Rate) -> None:
    assert rates([replace(GPU, memory_bytes=size)], {"GPU-0": reading}) == {"GPU-0": rate}
    assert rates([GPU], {}) == {"GPU-0": Rate()}


def test_a_jobs_mean_is_kept_with_its_end(service, run):
    async def main():
        async with driving(service) as drive:
            number = await drive.submit(WANTS_ONE)
            node = await drive.attach(gpus=encode_gpus([GPU]))
            await drive.engine.gpus(node.id, [GPU], {"GPU-0": GpuReading(75, None, 4 << 30)})
            (task,) = await node.starts()
            service.now_ns += 5 * SECOND_NS  # it has the GPU, and does not run yet
            await node.runs(task.task_id)
            service.now_ns += 3 * SECOND_NS
            node.leaves()  # what it does then nobody knows
            service.now_ns += 3 * SECOND_NS
            await drive.attach(gpus=encode_gpus([GPU]), tasks=[task.task_id])
            await drive.engine.gpus(node.id, [GPU], {"GPU-0": GpuReading(25, None, 0)})
            service.now_ns += 1 * SECOND_NS
            await node.ends(task.task_id)
            await drive.until(number, State.SUCCEEDED)
            await drive.engine.gpus(node.id, [GPU], {"GPU-0": GpuReading(100, None, 0)})
            service.now_ns += 9 * SECOND_NS
            use = (await service.store.job(number)).gpu_use
            assert (use.util_percent, use.memory_percent) == (62, 38)
            assert use == GpuUse(2.5, 4.0, 1.5, 4.0)
            assert (await drive.job(number)).gpu_use == use

    run(main)


def test_a_server_that_is_killed_loses_a_minute_of_it_at_most(service):
    clock = MockClock(rate=1.0)

    async def main():
        async with driving(service) as drive:
            number = await drive.submit(WANTS_ONE)
            node = await drive.attach(gpus=encode_gpus([GPU]))
            (task,) = await node.starts()
            await node.runs(task.task_id)
            await drive.engine.gpus(node.id, [GPU], {"GPU-0": GpuReading(50, None, None)})
            service.now_ns += 60 * SECOND_NS
            clock.jump(KEEP_USES_EVERY_S)
            await drive.quiet()
            service.now_ns += 60 * SECOND_NS  # of which nothing is kept
        async with driving(service) as drive:
            again = await drive.attach(gpus=encode_gpus([GPU]), tasks=[task.task_id])
            await drive.engine.gpus(again.id, [GPU], {"GPU-0": GpuReading(100, None, None)})
            service.now_ns += 30 * SECOND_NS
            await again.ends(task.task_id)
            await drive.until(number, State.SUCCEEDED)
            assert (await service.store.job(number)).gpu_use == GpuUse(60.0, 90.0)

    trio.run(main, clock=clock)
