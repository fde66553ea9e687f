"""What must hold at every moment of a simulated world: checked at every write to the disk and every start of a task."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from jobd.job import Job
from jobd.life.events import Ended, Event, NodeLost, OfAttempt, Started, StartFailed
from jobd.life.life import ON_NODES, Life, update
from pfs.errors import PfsError
from tests.jobd.simulation.disk import Disk
from tests.jobd.simulation.machines import Machine, Task
from tests.jobd.simulation.rules import Rules, attempt_of

# in what is told of a node that an administrator gave up: whatever runs there counts no more
GIVEN_UP = "will not come back"

# node and UUID of a GPU
Claim = tuple[str, str]


class Seen(Protocol):
    """A world."""

    disk: Disk
    decided_at_ns: int | None

    def fail(self, text: str) -> None: ...

    def now_ns(self) -> int: ...


class Watch:
    """Compares what the server writes with what really happens.

    Args:
        seen: what it looks at, and tells of what must not be.
    """

    def __init__(self, seen: Seen) -> None:
        self.machines: dict[str, Machine] = {}
        self.unfinished = 0
        self.written_off: set[Task] = set()
        self.rules = Rules(seen, self._code)
        self._seen = seen
        self._fail = seen.fail
        self._claims: dict[Claim, int] = {}
        self._placed: dict[str, dict[int, int]] = {}
        self._tasks: dict[str, Task] = {}

    # ---- what the server writes

    def committed(self, before: Job | None, events: Sequence[Event], after: Job) -> None:
        """Look at a change of a job."""
        life = None if before is None else before.life
        for event in events:
            if life is not None:
                self._is_true(after, life, event)
            try:
                life = update(life, event)
            except PfsError as error:
                return self._fail(f"job {after.id}: {error}")
        if life != after.life:
            self._fail(f"job {after.id}: the row is not the fold of its events: {after.life} but {life}")
        if before is not None and before.life.state.over:
            self._fail(f"job {after.id}: it left its end, {before.life.state}")
        if before is None:
            self.unfinished += 1
        if after.life.state.over:
            self.unfinished -= 1
            for task in self._alive(after.id):
                self._fail(f"job {after.id} is {after.life.state}, but {task.id} runs on {task.machine.name}")
        self._count(after)
        self.rules.committed(before, events, after)

    def _count(self, job: Job) -> None:
        """Keep what a job has, and see that nobody else has it."""
        life = job.life
        self._claims = {claim: owner for claim, owner in self._claims.items() if owner != job.id}
        processes = [p for p in life.processes if not p.over] if life.state in ON_NODES else []
        for process in processes:
            for gpu in process.gpus:
                other = self._claims.setdefault((process.node, gpu), job.id)
                if other != job.id:
                    self._fail(f"jobs {other} and {job.id} both have {gpu}")
        if sum(len(p.gpus) for p in processes) != sum(owner == job.id for owner in self._claims.values()):
            self._fail(f"job {job.id} has one GPU twice")
        for node, counts in self._placed.items():
            counts[job.id] = sum(p.node == node for p in processes)
            if sum(counts.values()) > self.machines[node].places:
                self._fail(f"{node} was given {sum(counts.values())} processes: {counts}")

    def _is_true(self, job: Job, life: Life, event: Event) -> None:
        """Compare what the server takes for true of a process with the process."""
        if not isinstance(event, Started | Ended | StartFailed | NodeLost):
            return
        task = self._tasks.get(self._task_id(job, life, event))
        if isinstance(event, NodeLost) and GIVEN_UP in event.text:
            lost = self.machines[life.processes[event.worker].node]
            fetches = len(job.spec.groups)
            self.written_off.update(
                t for t in self._alive(job.id) if t.machine is lost and (t is task or t.group == fetches)
            )
        match event:
            case Started() if task is None or not task.began.is_set():
                self._fail(f"job {job.id}: worker {event.worker} never started")
            case Ended() if task is None or task.alive or task.code != event.code:
                self._fail(f"job {job.id}: worker {event.worker} did not end so: {event}")
            case StartFailed() | NodeLost() if task is not None and task.alive and task not in self.written_off:
                self._fail(f"job {job.id}: worker {event.worker} runs: {event}")

    def _task_id(self, job: Job, life: Life, event: OfAttempt) -> str:
        assert isinstance(event, Started | Ended | StartFailed | NodeLost)
        group, process = job.spec.workers()[event.worker]
        return f"{job.id}.{event.attempt or life.run(event.worker)}.{group}.{process}"

    def _code(self, job: Job, worker: int) -> int | None:
        group, process = job.spec.workers()[worker]
        task = self._tasks.get(f"{job.id}.{job.life.run(worker)}.{group}.{process}")
        return None if task is None or task.alive else task.code

    # ---- what happens on machines

    def add(self, node_id: str, machine: Machine) -> None:
        """Watch a machine."""
        self.machines[node_id] = machine
        self._placed[node_id] = {}

    def welcomed(self, machine: Machine) -> None:
        """A machine is back, and did what the server said of each of its tasks: what runs there counts again."""
        for task in machine.running():
            self.written_off.discard(task)
            job = self._seen.disk.jobs[task.job_id]
            if job.life.state not in ON_NODES or not self._is_present(job, task):
                self._fail(f"{task.id} runs on {machine.name}, which is back, and nobody wants it")

    def began(self, machine: Machine, task: Task) -> None:
        """Look at a task that is being started."""
        job = self._seen.disk.jobs.get(task.job_id)
        if job is None or job.life.state not in ON_NODES or not self._is_present(job, task):
            return self._fail(f"{task.id} starts on {machine.name}, but the job is {job and job.life}")
        if task.group < len(job.spec.groups):
            self._is_its_turn(job, task)
        self._tasks[task.id] = task
        others = [other for other in machine.running() if other is not task and other not in self.written_off]
        if any(set(other.assignment.gpus) & set(task.assignment.gpus) for other in others):
            self._fail(f"{task.id} starts on {machine.name} with GPUs that {[other.id for other in others]} use")
        if not set(task.assignment.gpus) <= {uuid for uuid, _ in machine.gpus}:
            self._fail(f"{task.id} starts on {machine.name}, which does not have {task.assignment.gpus}")
        if len(others) >= machine.places:
            self._fail(f"{task.id} starts on {machine.name}, which is full")
        if older := [other.id for other in self._alive(task.job_id) if not self._is_present(job, other)]:
            self._fail(f"{task.id} starts while {older} run")

    def _is_present(self, job: Job, task: Task) -> bool:
        return attempt_of(job.spec, job.life, task.group, task.process) == task.attempt

    def _is_its_turn(self, job: Job, task: Task) -> None:
        life, services = job.life, job.life.terms.services
        worker = job.spec.workers().index((task.group, task.process))
        before = self._tasks.get(task.id)
        if before is not None and (before.alive or life.processes[worker].started_at_ns is not None):
            self._fail(f"{task.id} starts twice")
        if not life.fetched:
            self._fail(f"{task.id} starts before its files are there")
        first = [process for process, service in zip(life.processes, services, strict=True) if service]
        if not services[worker] and any(not p.over and p.started_at_ns is None and not p.before for p in first):
            self._fail(f"{task.id} starts before the services of its job")

    def _alive(self, job_id: int) -> Iterable[Task]:
        tasks = (task for machine in self.machines.values() for task in machine.tasks.values())
        return [t for t in tasks if t.job_id == job_id and t.alive and t not in self.written_off]
