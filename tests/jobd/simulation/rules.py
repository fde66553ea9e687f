"""What must hold of what the server decides, whatever the machines do: whose turn it is, what a job waits for, its end.

The rules are said once more here, in few words and of what is on disk, rather than asked of the engine that is tested.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from jobd.job import Job
from jobd.life.events import Event, Filled, Placed, RequeueRequested, TimeLimitReached
from jobd.life.life import ON_NODES, Life, State
from jobd.spec.model import AFTER_ANY, AFTER_OK, Dependency, JobSpec
from jobd.wire import parse_task_id
from tests.jobd.simulation.disk import Disk

# what was decided so long ago is known to whoever decides: no call of the disk takes as long
KNOWN_AFTER_NS = 1_000_000_000


class Seen(Protocol):
    """A world."""

    disk: Disk
    decided_at_ns: int | None

    def fail(self, text: str) -> None: ...

    def now_ns(self) -> int: ...


class Rules:
    """Looks at each change of a job.

    Args:
        seen: what it looks at, and tells of what must not be.
        code_of: returns what a process of a job really ended with; None where it did not.
    """

    def __init__(self, seen: Seen, code_of: Callable[[Job, int], int | None]) -> None:
        self._seen = seen
        self._disk = seen.disk
        self._fail = seen.fail
        self._code_of = code_of
        self._changed_ns: dict[int, int] = {}
        self._overtaken: dict[int, tuple[int, int]] = {}  # by whom, and when

    def committed(self, before: Job | None, events: Sequence[Event], after: Job) -> None:
        """Look at a change of a job, just after it was written."""
        if before is not None:
            for event in events:
                if isinstance(event, Placed):
                    self._may_start(before, after)
                elif isinstance(event, Filled):
                    self._may_use(before, event.place.node)
                elif isinstance(event, TimeLimitReached):
                    self._is_late(before, event)
            self._may_go_on(before.life, after)
        if after.life.state is State.SUCCEEDED:
            self._did_succeed(after)
        self._overtaken.pop(after.id, None)
        self._changed_ns[after.id] = self._seen.now_ns()
        self._nobody_waits()

    def server_died(self) -> None:
        """Whoever was about to start did not."""
        self._overtaken.clear()

    def asked(self, task_id: str, known: Life | None) -> None:
        """Look at a task that a server asks a machine to start, and what it knows of the job."""
        job_id, attempt, group, process = parse_task_id(task_id)
        is_on = known is not None and known.state in (State.STARTING, State.RUNNING)
        if known is None or not is_on or attempt_of(self._disk.jobs[job_id].spec, known, group, process) != attempt:
            self._fail(f"{task_id} is to start, and the server knows better: {known}")

    # ---- may it start?

    def _may_start(self, job: Job, after: Job) -> None:
        if after.life.kill_requested is not None:
            self._fail(f"job {job.id} was killed, and is placed")
        whole = job if job.array_id is None else self._disk.jobs[job.array_id]
        for dependency in whole.spec.depends_on:
            if not _is_met(dependency, self._disk.jobs[dependency.job_id].life):
                self._fail(f"job {job.id} is placed before it may: {dependency}")
        if whole.spec.array is not None and whole.spec.array.at_once is not None:
            running = [each for each in self._disk.tasks(whole.id).values() if each.life.state in ON_NODES]
            if len(running) > whole.spec.array.at_once:
                self._fail(f"job {job.id}: more tasks of its array run than may at once")
        for node_id in after.life.nodes:
            self._may_use(job, node_id)
        self._is_within_limits(job)
        self._look_who_waits(job)

    def _may_use(self, job: Job, node_id: str) -> None:
        now_ns, closed = self._seen.now_ns(), self._disk.closed.get(node_id)
        if closed is not None and now_ns - closed.since_ns > KNOWN_AFTER_NS:
            self._fail(f"job {job.id} is placed on {node_id}, which is {closed.text}")
        policy, decided_ns = self._disk.policy, self._seen.decided_at_ns
        if decided_ns is not None and now_ns - decided_ns > KNOWN_AFTER_NS:
            groups = policy.node_groups.get(node_id)
            if groups and groups.isdisjoint(policy.members.get(job.user, ())):
                self._fail(f"job {job.id} is placed on {node_id}, which is kept for {set(groups)}")

    def _is_within_limits(self, job: Job) -> None:
        """Who starts a job has no more than they may, with what runs already."""
        policy, decided_ns = self._disk.policy, self._seen.decided_at_ns
        if decided_ns is None or self._seen.now_ns() - decided_ns <= KNOWN_AFTER_NS:
            return
        for holder, most in policy.quotas.items():
            users = [user for user, groups in policy.members.items() if holder in {f"groups/{name}" for name in groups}]
            if job.user not in (holder, *users):
                continue
            running = [
                each for each in self._disk.jobs.values() if each.user in (holder, *users) and each.life.processes
            ]
            running = [each for each in running if each.life.state in ON_NODES]
            gpus = {each.id: sum(len(p.gpus) for p in each.life.processes if not p.is_open) for each in running}
            if most.running is not None and len(running) > most.running:
                self._fail(f"job {job.id} is placed: more jobs of {holder} run than may at once")
            if most.gpus is not None and gpus[job.id] and sum(gpus.values()) > most.gpus:
                self._fail(f"job {job.id} is placed: {holder} has more GPUs than they may")

    def _look_who_waits(self, job: Job) -> None:
        """Of a user's jobs that need the same, the one of higher priority starts first, and then the earlier one.

        One of the same priority that waits for longer may have nodes kept for it, and keeps them.
        """
        now_ns, changed_ns = self._seen.now_ns(), self._changed_ns
        known_ns = now_ns - KNOWN_AFTER_NS
        if _is_limited(job, self._disk) or changed_ns[job.id] > known_ns:
            return
        for other in self._disk.jobs.values():
            if (
                other.life.state is State.WAITING
                and not other.life.held_by
                and _turn(other) < _turn(job)
                and _needs(other) == _needs(job)
                and not _is_limited(other, self._disk)
            ):
                is_above = other.life.priority > job.life.priority
                since_ns = known_ns if is_above else changed_ns[job.id] - KNOWN_AFTER_NS
                if changed_ns[other.id] <= since_ns:
                    self._overtaken.setdefault(other.id, (job.id, now_ns))

    def _nobody_waits(self) -> None:
        """Who was planned in the same moment was written down a moment later."""
        for job_id, (by, at_ns) in list(self._overtaken.items()):
            if self._seen.now_ns() - at_ns > KNOWN_AFTER_NS:
                del self._overtaken[job_id]
                self._fail(f"job {by} was placed before job {job_id}, which needs the same and came first")

    # ---- may it go on, or end?

    def _is_late(self, job: Job, event: TimeLimitReached) -> None:
        life = job.life
        if life.max_duration_s is None or life.started_at_ns is None:
            return self._fail(f"job {job.id} reached a time limit that it does not have")
        if event.time_ns < life.started_at_ns + int(life.max_duration_s * 1e9):
            self._fail(f"job {job.id} reached its time limit too early: {life}")

    def _may_go_on(self, before: Life, after: Job) -> None:
        life = after.life
        if life.attempt == before.attempt:
            return
        if before.kill_requested is not None:
            self._fail(f"job {after.id} was killed, and begins anew")
        asked = sum(isinstance(event, RequeueRequested) for event in self._disk.histories[after.id])
        # one that replaces what fails begins anew as well when nothing is left of it
        if life.attempt - 1 > life.terms.retries + asked and not life.terms.replaces:
            self._fail(f"job {after.id} begins attempt {life.attempt}, with {life.terms.retries} retries")

    def _did_succeed(self, job: Job) -> None:
        """A job whose only process ends by itself does as well as that."""
        if job.spec.process_count == 1 and job.spec.array is None and (code := self._code_of(job, 0)) != 0:
            self._fail(f"job {job.id} succeeded, and its process ended with {code}")


def attempt_of(spec: JobSpec, life: Life, group: int, process: int) -> int:
    """Return the attempt of a task that is the present one: of the task that brings files, that of the job."""
    return life.attempt if group == len(spec.groups) else life.run(spec.workers().index((group, process)))


def _is_met(dependency: Dependency, life: Life) -> bool:
    if not life.state.over:
        return False
    return dependency.kind == AFTER_ANY or (life.state is State.SUCCEEDED) == (dependency.kind == AFTER_OK)


def _is_limited(job: Job, disk: Disk) -> bool:
    """Tell whether a job may have to wait for other tasks of its array."""
    array = None if job.array_id is None else disk.jobs[job.array_id].spec.array
    return array is not None and array.at_once is not None


def _needs(job: Job) -> object:
    groups = [(group.count, group.gpus, group.image, group.nodes) for group in job.spec.groups]
    return job.user, job.life.max_duration_s, job.spec.grace_s, groups


def _turn(job: Job) -> tuple[int, int, int]:
    return -job.life.priority, job.life.submitted_at_ns, job.id
