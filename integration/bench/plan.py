"""How long the scheduler takes to decide, on 1,000 nodes with 8 GPUs each, with ever more jobs that wait.

The nodes are filled from the queue. Then, again and again, one running job ends, a new one is submitted, and `plan` is
asked what starts: the first column says how long that takes, the second how long for each job that started, which
are fewer where large ones of higher priority wait. After that nothing can start, and `plan` is asked again, and why
the youngest job waits. The jobs are drawn from 20 shapes (single
GPUs, whole nodes, gangs of nodes, processes without GPUs; with and without time limits), 50 users and 4 priorities.
"""

import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from jobd.scheduling.model import DOCKER, SANDBOX, Gpu, Need, NodeView, Pending
from jobd.scheduling.scheduler import Scheduler

NODES, GPUS = 1_000, 8
WAITING = (1_000, 10_000, 100_000)
ROUNDS, WARMING = 500, 50
COLUMNS = ("a plan with starts", "one placement", "nothing starts", "why of one job", "submit and kill")
PLAN, PLACEMENT, NOTHING, WHY, ADD = COLUMNS
SEED = 4
NOW_S = 1_800_000_000.0
GIB = 2**30

T = TypeVar("T")

A, B = "gtx1070", "gtx1080"
# how often, what, and for how long at most
SHAPES: Sequence[tuple[int, tuple[Need, ...], float | None]] = (
    (20, (Need(gpus=((1, A),)),), None),
    (12, (Need(gpus=((1, A),)),), 3600.0),
    (10, (Need(gpus=((1, B),)),), 7200.0),
    (8, (Need(gpus=((2, A),)),), 14400.0),
    (6, (Need(gpus=((2, B),)),), None),
    (6, (Need(gpus=((1, None),)),), 1800.0),
    (5, (Need(gpus=((4, A),)),), 86400.0),
    (5, (Need(gpus=((4, B),)),), 28800.0),
    (4, (Need(gpus=((8, A),)),), 86400.0),
    (3, (Need(gpus=((8, B),)),), None),
    (3, (Need(2, gpus=((8, A),)),), 86400.0),
    (2, (Need(4, gpus=((8, B),)),), 172800.0),
    (1, (Need(16, gpus=((8, A),)),), 86400.0),
    (2, (Need(4, gpus=((1, A),)),), 7200.0),
    (3, (Need(gpus=((1, A),), cpus=4.0, memory_bytes=16 * GIB, image="x"),), 14400.0),
    (2, (Need(gpus=((4, B),), cpus=16.0, memory_bytes=64 * GIB, image="x"),), 43200.0),
    (3, (Need(cpus=8.0, memory_bytes=32 * GIB, image="x"),), 3600.0),
    (2, (Need(cpus=2.0, memory_bytes=4 * GIB, image="x"),), None),
    (2, (Need(),), 600.0),
    (1, (Need(2, gpus=((4, A),)), Need(1, cpus=4.0, memory_bytes=8 * GIB, image="x")), 14400.0),
)
PRIORITIES = (10, 50, 50, 50, 50, 50, 60, 80)


class Draw:
    """Draws jobs, the same ones each time."""

    def __init__(self) -> None:
        self._dice = random.Random(SEED)
        self._number = 0

    def job(self) -> Pending:
        """Return the next job."""
        self._number += 1
        _, needs, max_duration_s = self._dice.choices(SHAPES, [often for often, _, _ in SHAPES])[0]
        user = f"user{int(self._dice.paretovariate(1)) % 50}"
        return Pending(
            self._number,
            user,
            self._dice.choice(PRIORITIES),
            float(self._number),
            needs,
            max_duration_s=max_duration_s,
        )

    def one_of(self, jobs: list[int]) -> int:
        """Take a job out of a list."""
        index = self._dice.randrange(len(jobs))
        jobs[index], jobs[-1] = jobs[-1], jobs[index]
        return jobs.pop()


def nodes() -> list[NodeView]:
    """Return the cluster: half of the nodes have one model, half the other, all in one swarm."""
    return [
        NodeView(
            f"n{number}",
            f"n{number}",
            online=True,
            runtimes=frozenset({DOCKER, SANDBOX}),
            cpus=64.0,
            memory_bytes=512 * GIB,
            attrs={"address": f"10.0.{number // 256}.{number % 256}"},
            gpus=tuple(Gpu(f"GPU-{number}-{index}", A if number % 2 else B) for index in range(GPUS)),
            swarm="swarm",
        )
        for number in range(NODES)
    ]


class Bench:
    """A full cluster with so many jobs waiting, in which jobs come and go."""

    def __init__(self, waiting: int) -> None:
        self.now_s = NOW_S
        self.waiting = waiting
        self.took_ms: dict[str, list[float]] = {column: [] for column in COLUMNS}
        self._draw = Draw()
        self._scheduler = Scheduler()
        self._running: list[int] = []
        self._waiting: dict[int, None] = {}
        for view in nodes():
            self._scheduler.node(view)
        while (missing := waiting - len(self._waiting)) > 0:
            for _ in range(missing):
                self._add(self._draw.job())
            self._start()

    def measure(self) -> None:
        """Go through one round."""
        self.now_s += 1.0
        ended, job = self._draw.one_of(self._running), self._draw.job()
        starts = self._time(PLAN, lambda: self._turn(ended, job))
        took_ms = self.took_ms[PLAN][-1]
        if starts:
            self.took_ms[PLACEMENT].append(took_ms / starts)
        else:
            self.took_ms[PLAN].pop()
        self._time(NOTHING, self._start)
        last = next(reversed(self._waiting))
        self._scheduler.usage("nobody", self.now_s)  # so that nothing is known from before
        self._time(WHY, lambda: self._scheduler.why(last, self.now_s))
        more = self._draw.job()
        self._time(ADD, lambda: self._add_and_remove(more))

    def _turn(self, ended: int, job: Pending) -> int:
        self._scheduler.ended(ended)
        self._add(job)
        return self._start()

    def _add(self, job: Pending) -> None:
        self._waiting[job.job_id] = None
        self._scheduler.add(job)

    def _start(self) -> int:
        starts = self._scheduler.plan(self.now_s)
        for start in starts:
            self._running.append(start.job_id)
            del self._waiting[start.job_id]
        return len(starts)

    def _add_and_remove(self, job: Pending) -> None:
        self._scheduler.add(job)
        self._scheduler.remove(job.job_id)

    def _time(self, column: str, work: Callable[[], T]) -> T:
        begun = time.perf_counter()
        found = work()
        self.took_ms[column].append((time.perf_counter() - begun) * 1e3)
        return found


def main() -> None:
    """Measure and print."""
    print(f"{NODES:,} nodes with {GPUS} GPUs each, {ROUNDS} rounds; milliseconds, median and maximum")
    print(f"{'waiting jobs':<14}" + "".join(f"{column:>22}" for column in COLUMNS))
    for waiting in WAITING:
        bench = Bench(waiting)
        gc.collect()
        gc.freeze()
        for number in range(WARMING + ROUNDS):
            if number == WARMING:
                bench.took_ms = {column: [] for column in COLUMNS}
            bench.measure()
        gc.unfreeze()
        found = [f"{statistics.median(ms):.3f} {max(ms):8.3f}" for ms in bench.took_ms.values()]
        print(f"{waiting:<14,}" + "".join(f"{each:>22}" for each in found), flush=True)


if __name__ == "__main__":
    main()
