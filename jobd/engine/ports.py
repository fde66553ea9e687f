"""What the engine needs of the world: each as small as it can be, with the real one and one in memory behind it.

The engine has no clock, no dice and no threads of its own (but for parsing specs that are long). With other things
behind these it runs in a simulation, where everything happens in an order that can be repeated.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from typing import Protocol

from jobd.gpuuse import NO_USE, GpuUse
from jobd.identity import Cluster
from jobd.job import Job
from jobd.life.events import Event
from jobd.life.life import Life
from jobd.nodestate import Closed
from jobd.scheduling.shares import Usage
from jobd.spec.model import JobSpec
from jobd.store.jobs import Listed, NewTask
from jobd.store.logs import JobLog, Note
from jobd.store.nodes import Policy
from jobd.store.tables import DraftRow, NodeRow
from jobd.wire import Assignment
from pfs.perm import Subject

FindUser = Callable[[str], Awaitable[Subject | None]]
Clock = Callable[[], int]  # nanoseconds since the epoch
Sleep = Callable[[int], Awaitable[None]]  # until that time of the clock


class Store(Protocol):
    """Jobs, their events and nodes, kept: what is written is on disk when the call returns."""

    async def submit(
        self,
        draft: DraftRow,
        names: Sequence[str],
        *,
        spec: JobSpec,
        events: Sequence[Event],
        life: Life,
        key: str | None,
        tasks: Sequence[NewTask] = (),
    ) -> tuple[list[Job], bool]:
        """Make a job and the tasks of its array, or find that of the same key; tells whether they are new."""

    async def job_of_key(self, user: str, key: str) -> int | None:
        """Return the job that a user submitted with a key, if there is one."""

    async def record(
        self, job_id: int, events: Sequence[Event], life: Life, usage: Usage | None = None, use: GpuUse = NO_USE
    ) -> None:
        """Append `events`, whose fold is `life`."""

    async def keep_gpu_uses(self, uses: Mapping[int, GpuUse]) -> None: ...

    async def active(self) -> list[Job]: ...

    async def job(self, job_id: int) -> Job | None: ...

    async def tasks(self, array_id: int) -> dict[int, Job]: ...

    async def listed(self, user: str | None, now_ns: int, groups: Collection[str] = ()) -> list[Listed]: ...

    async def share(self, job_id: int, groups: Collection[str]) -> None: ...

    async def history(self, job_id: int) -> list[Event]: ...

    async def nodes(self) -> list[NodeRow]: ...

    async def node_ids(self) -> set[str]: ...

    async def save_node(self, node: NodeRow) -> None: ...

    async def save_nodes(self, nodes: Sequence[NodeRow], made: Cluster | None = None) -> None: ...

    async def remove_nodes(self, node_ids: Collection[str]) -> None: ...

    async def clusters(self) -> list[Cluster]: ...

    async def rename_cluster(self, cluster_id: str, name: str) -> None: ...

    async def make_default(self, cluster_id: str) -> None: ...

    async def policy(self) -> Policy: ...

    async def closed(self) -> Mapping[str, Closed]: ...

    async def close_nodes(self, node_ids: Iterable[str], closed: Closed) -> None: ...

    async def open_nodes(self, node_ids: Iterable[str]) -> None: ...

    async def usages(self) -> Mapping[str, float]: ...

    async def networks(self) -> list[tuple[str, str]]: ...

    async def keep_network(self, name: str, swarm: str) -> None: ...

    async def forget_network(self, name: str) -> None: ...

    async def sweep_drafts(self, before_ns: int) -> None: ...


class Logs(Protocol):
    """The logs of jobs: what is added while they are not over, and how they are read."""

    async def offset_of(self, job_id: int, attempt: int, worker: int) -> int: ...

    async def append(
        self, job_id: int, attempt: int, worker: int, offset: int, *, pieces: Sequence[tuple[int, int]], data: bytes
    ) -> int: ...

    async def notes(self, job_id: int, notes: Sequence[Note]) -> None: ...

    async def save(self, job_id: int) -> None: ...

    async def end(self, job_id: int) -> None: ...

    async def open(self, job_id: int) -> JobLog: ...

    async def find(self, job_id: int) -> JobLog: ...

    async def read(self, log: JobLog, worker: int | None, offset: int, size: int) -> bytes: ...


class Workshop(Protocol):
    """The directories of a job, and what is in them."""

    async def check(self, spec: JobSpec, subject: Subject) -> None:
        """Raise what keeps a job from getting its files, as far as it is known when it is submitted."""

    async def make(self, job: Job) -> None: ...

    async def fill(self, job: Job) -> str: ...

    async def train_list(self, job: Job) -> bytes | None: ...

    async def read_result(self, job: Job, group: int, process: int) -> str: ...

    async def tidy(self, job: Job) -> None: ...


class NodeLink(Protocol):
    """A node that is connected: what may be asked of it."""

    async def start(self, task: Assignment) -> None: ...

    async def stop(self, task_id: str, grace_s: float) -> None: ...

    async def let_go(self, task_id: str) -> None: ...

    async def signal(self, task_id: str, number: int) -> None: ...

    async def attach(self, op: str, args: Mapping[str, object], body: bytes) -> None: ...

    async def make_network(self, network: str) -> None: ...

    async def drop_network(self, network: str) -> None: ...
