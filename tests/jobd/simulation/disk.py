"""What is on disk, in memory: it survives every crash of the server, and it checks whatever is written into it.

`Disk` is what there is; an engine sees it through a `Door`, `Logs` and `Workshop` of its own. Every call takes a while,
and when the server dies, in the middle of a call too, nothing that it does afterwards reaches the disk.
"""

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, NoReturn, TypeVar

import trio

from jobd.gpuuse import GpuUse
from jobd.identity import Cluster
from jobd.job import Job
from jobd.life.events import Event
from jobd.life.life import Life, decode_life, encode_life
from jobd.nodestate import Closed
from jobd.spec.model import JobSpec
from jobd.store.jobs import Listed
from jobd.store.logs import Note
from jobd.store.nodes import Policy
from jobd.store.tables import DraftRow, NodeRow
from pfs.errors import Kind, PfsError
from tests.jobd.simulation.clock import Signal, sleep

T = TypeVar("T")
CLUSTER = Cluster("cl1", "", "cluster", is_default=True)


class Dead(BaseException):
    """The server was killed: what one of its tasks meets when it goes on."""


@dataclass
class Line:
    """The life of one server: whether it was killed, and when it will be.

    Attributes:
        calls_left: it is killed in the middle of that call of the disk, counted from now; None for never.
        after: whether it is killed after that call has written, or before.
    """

    dead: bool = False
    calls_left: int | None = None
    after: bool = False

    def meets_end(self) -> bool:
        """Tell whether the server dies in this call of the disk."""
        if self.calls_left is None:
            return False
        self.calls_left -= 1
        return self.calls_left < 0


class Disk:
    """Everything that is kept.

    Args:
        committed: told of every change of a job: what it was (None for a new one), the events, what it is.
    """

    def __init__(self, committed: Callable[[Job | None, Sequence[Event], Job], None]) -> None:
        self.jobs: dict[int, Job] = {}
        self.histories: dict[int, list[Event]] = {}
        self.keys: dict[tuple[str, str], int] = {}
        self.nodes: dict[str, NodeRow] = {}
        self.networks: dict[str, str] = {}
        self.usage: dict[str, float] = {}
        self.policy = Policy()
        self.clusters = [CLUSTER]
        self.closed: dict[str, Closed] = {}
        self.changed = Signal()
        self._committed = committed

    def submit(
        self, user: str, spec: JobSpec, events: Sequence[Event], life: Life, key: str | None, tasks: Sequence[Any]
    ) -> tuple[list[Job], bool]:
        """Make a job and the tasks of its array."""
        if key is not None and (user, key) in self.keys:
            first = self.keys[user, key]
            return [self.jobs[first], *self.tasks(first).values()], False
        job_id = len(self.jobs) + 1
        if key is not None:
            self.keys[user, key] = job_id
        self._add(Job(job_id, user, spec, life), events)
        spec = replace(spec, array=None, depends_on=())
        for number, (index, happened, task_life) in enumerate(tasks, start=1):
            self._add(Job(job_id + number, user, spec, task_life, job_id, index), happened)
        return [self.jobs[number] for number in range(job_id, len(self.jobs) + 1)], True

    def _add(self, job: Job, events: Sequence[Event]) -> None:
        self.jobs[job.id] = job
        self.histories[job.id] = list(events)
        self._committed(None, events, job)
        self._tell()

    def record(self, job_id: int, events: Sequence[Event], life: Life) -> None:
        """Append to what happened to a job."""
        before = self.jobs[job_id]
        self.histories[job_id].extend(events)
        self.jobs[job_id] = replace(before, life=life)
        self._committed(before, events, self.jobs[job_id])
        self._tell()

    def tasks(self, array_id: int) -> dict[int, Job]:
        """Return the tasks of an array by their index."""
        return {job.array_index or 0: job for job in self.jobs.values() if job.array_id == array_id}

    def active(self) -> list[Job]:
        """Return what is not over, as it was written."""
        return [_read_back(job) for job in self.jobs.values() if not job.life.state.over]

    def _tell(self) -> None:
        self.changed.set()
        self.changed = Signal()


def _read_back(job: Job) -> Job:
    return replace(job, life=decode_life(json.loads(json.dumps(encode_life(job.life)))))


class Door:
    """The disk as one server sees it, in the words of `jobd.store.db.JobStore`."""

    def __init__(self, disk: Disk, line: Line, dice: Random, dies: Callable[[], None]) -> None:
        self._disk = disk
        self._line = line
        self._dice = dice
        self._dies = dies

    async def _do(self, work: Callable[[], T]) -> T:
        await self._wait()
        doomed = self._line.meets_end()
        if doomed and not self._line.after:
            self._die()
        result = work()
        if doomed:
            self._die()
        if self._dice.random() < 0.5:
            await self._wait()
        return result

    async def _wait(self) -> None:
        if self._dice.random() < 0.2:
            await sleep(self._dice.random() * 0.05)
        else:
            await trio.lowlevel.checkpoint()
        if self._line.dead:
            raise Dead

    def _die(self) -> NoReturn:
        self._dies()
        raise Dead

    # ---- jobs

    async def submit(
        self,
        draft: DraftRow,
        names: Sequence[str],
        *,
        spec: JobSpec,
        events: Sequence[Event],
        life: Life,
        key: str | None,
        tasks: Sequence[Any] = (),
    ) -> tuple[list[Job], bool]:
        return await self._do(lambda: self._disk.submit(draft.user, spec, events, life, key, tasks))

    async def job_of_key(self, user: str, key: str) -> int | None:
        return await self._do(lambda: self._disk.keys.get((user, key)))

    async def record(
        self, job_id: int, events: Sequence[Event], life: Life, usage: Any = None, use: Any = None
    ) -> None:
        def work() -> None:
            self._disk.record(job_id, events, life)
            if usage is not None:
                self._disk.usage[usage.user] = self._disk.usage.get(usage.user, 0.0) + usage.amount

        await self._do(work)

    async def keep_gpu_uses(self, uses: Mapping[int, GpuUse]) -> None:
        raise AssertionError(uses)

    async def active(self) -> list[Job]:
        return await self._do(self._disk.active)

    async def job(self, job_id: int) -> Job | None:
        return await self._do(lambda: self._disk.jobs.get(job_id))

    async def jobs(self, job_ids: Collection[int]) -> dict[int, Job]:
        return await self._do(lambda: {n: self._disk.jobs[n] for n in job_ids if n in self._disk.jobs})

    async def tasks(self, array_id: int) -> dict[int, Job]:
        return await self._do(lambda: self._disk.tasks(array_id))

    async def listed(self, user: str | None, now_ns: int, groups: Collection[str] = ()) -> list[Listed]:
        return await self._do(list)

    async def share(self, job_id: int, groups: Collection[str]) -> None:
        raise AssertionError(job_id)

    async def history(self, job_id: int) -> list[Event]:
        return await self._do(lambda: list(self._disk.histories[job_id]))

    async def sweep_drafts(self, before_ns: int) -> None:
        await self._do(lambda: None)

    # ---- nodes

    async def nodes(self) -> list[NodeRow]:
        return await self._do(lambda: list(self._disk.nodes.values()))

    async def save_node(self, node: NodeRow) -> None:
        await self.save_nodes([node])

    async def save_nodes(self, nodes: Sequence[NodeRow], made: Cluster | None = None) -> None:
        assert made is None
        await self._do(lambda: self._disk.nodes.update({node.id: node for node in nodes}))

    async def closed(self) -> dict[str, Closed]:
        return await self._do(lambda: dict(self._disk.closed))

    async def close_nodes(self, node_ids: Iterable[str], closed: Closed) -> None:
        await self._do(lambda: self._disk.closed.update(dict.fromkeys(node_ids, closed)))

    async def open_nodes(self, node_ids: Iterable[str]) -> None:
        def work() -> None:
            for node_id in node_ids:
                self._disk.closed.pop(node_id, None)

        await self._do(work)

    async def clusters(self) -> list[Cluster]:
        return await self._do(lambda: list(self._disk.clusters))

    async def rename_cluster(self, cluster_id: str, name: str) -> None:
        raise NotImplementedError("clusters stay as they are here")

    async def make_default(self, cluster_id: str) -> None:
        raise NotImplementedError("clusters stay as they are here")

    async def usages(self) -> dict[str, float]:
        return await self._do(lambda: dict(self._disk.usage))

    async def policy(self) -> Policy:
        return await self._do(lambda: self._disk.policy)

    async def networks(self) -> list[tuple[str, str]]:
        return await self._do(lambda: list(self._disk.networks.items()))

    async def keep_network(self, name: str, swarm: str) -> None:
        await self._do(lambda: self._disk.networks.__setitem__(name, swarm))

    async def forget_network(self, name: str) -> None:
        await self._do(lambda: self._disk.networks.pop(name, None))


class Logs:
    """Logs that take everything and keep how much there is, in the words of `jobd.store.logs.LogStore`."""

    def __init__(self, offsets: dict[tuple[int, int, int], int], line: Line, dice: Random) -> None:
        self._offsets = offsets
        self._line = line
        self._dice = dice

    async def notes(self, job_id: int, notes: Sequence[Note]) -> None:
        await self._wait()

    async def save(self, job_id: int) -> None:
        await self._wait()

    async def end(self, job_id: int) -> None:
        await self._wait()

    async def open(self, job_id: int) -> NoReturn:
        raise NotImplementedError("nobody reads logs here")

    async def find(self, job_id: int) -> NoReturn:
        raise NotImplementedError("nobody reads logs here")

    async def read(self, log: Any, worker: int | None, offset: int, size: int) -> NoReturn:
        raise NotImplementedError("nobody reads logs here")

    async def offset_of(self, job_id: int, attempt: int, worker: int) -> int:
        await self._wait()
        return self._offsets.get((job_id, attempt, worker), 0)

    async def append(self, job_id: int, attempt: int, worker: int, offset: int, *, pieces: Any, data: bytes) -> int:
        await self._wait()
        there = self._offsets.get((job_id, attempt, worker), 0)
        if offset == there:
            self._offsets[job_id, attempt, worker] = there + len(data)
        return self._offsets.get((job_id, attempt, worker), 0)

    async def _wait(self) -> None:
        if self._dice.random() < 0.3:
            await sleep(self._dice.random() * 0.05)
        if self._line.dead:
            raise Dead


class Workshop:
    """Prepares jobs by waiting, sometimes in vain, in the words of `jobd.engine.ports.Workshop`."""

    def __init__(self, dice: Random, line: Line) -> None:
        self._dice = dice
        self._line = line

    async def check(self, spec: JobSpec, subject: Any) -> None:
        await self._wait(0.0)

    async def make(self, job: Job) -> None:
        await self._wait(0.05 if self._dice.random() < 0.2 else 0.0)

    async def fill(self, job: Job) -> str:
        await self._wait(3.0)
        if self._dice.random() < 0.1:
            raise PfsError(Kind.NOT_FOUND, "src: there is no such folder")
        return "Copied 3 files"

    async def train_list(self, job: Job) -> None:
        await self._wait(0.0)

    async def read_result(self, job: Job, group: int, process: int) -> str:
        await self._wait(0.5 if self._dice.random() < 0.1 else 0.0)
        return ""

    async def tidy(self, job: Job) -> None:
        await self._wait(0.5)

    async def origin(self, job: Job) -> None:
        await self._wait(0.0)

    async def _wait(self, most_s: float) -> None:
        await sleep(self._dice.random() * most_s)
        if self._line.dead:
            raise Dead
