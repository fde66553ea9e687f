"""The queue: keeps the scheduler told of what waits, what runs, on what, and for whom.

`follow` is called after every change of a job and finds out what the scheduler has to be told; so it does not matter
which event it was, and being called twice does no harm.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from jobd.engine.demands import elastic_of, pending_of, running_of, weight_of
from jobd.engine.fleet import Fleet
from jobd.engine.ports import Clock
from jobd.engine.waitingroom import WaitingRoom
from jobd.identity import meant
from jobd.job import Job
from jobd.life.life import ON_NODES, State
from jobd.scheduling.model import Elastic, Fill, Leave, Pending, Running, Start, Use, Why
from jobd.scheduling.quotas import JobUse
from jobd.scheduling.scheduler import Scheduler
from jobd.scheduling.shares import Shares, amount
from jobd.store.nodes import Policy

# what somebody's running jobs add to their share is told anew this often, when there is something to plan
SHARES_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class _Run:
    """A job that counts as running, and what its owner is charged for it."""

    running: Running
    user: str
    weight: float
    start_s: float


class Queue:
    """All jobs that wait or run, as the scheduler knows them.

    Args:
        at_once: tells how many tasks of an array may run at once; None for all.

    Attributes:
        waiting_room: who has how many jobs that wait.
    """

    def __init__(self, fleet: Fleet, clock: Clock, at_once: Callable[[int], int | None]) -> None:
        self._scheduler = Scheduler()
        self._shares = Shares()
        self._fleet = fleet
        self._clock = clock
        self._at_once = at_once
        self._waiting: dict[int, Pending] = {}
        self._running: dict[int, _Run] = {}
        self._taken: set[int] = set()  # started by the scheduler; the ledger does not know it yet
        self._elastic: dict[int, Elastic] = {}
        self._filling: dict[int, dict[int, Use]] = {}  # by job and worker: filled, and the ledger does not know it yet
        self._told_s: dict[str, float] = {}
        self.waiting_room = WaitingRoom()

    def follow(self, job: Job) -> None:
        """Tell the scheduler how a job stands now."""
        life = job.life
        self.waiting_room.follow(job)
        if life.state in ON_NODES and life.processes:
            self._run(job)
            self._stretch(job)
            return
        self._forget(job.id)
        self._stop(job)
        if life.state is State.WAITING and not life.held_by:
            self._wait(job)
        elif self._waiting.pop(job.id, None) is not None:
            self._scheduler.remove(job.id)
        if life.state.over and job.id in self._taken:  # it ended before it was placed
            self._taken.discard(job.id)
            self._scheduler.ended(job.id)

    def _wait(self, job: Job) -> None:
        pending = self.pending(job)
        if self._waiting.get(job.id) != pending and job.id not in self._taken:
            self._waiting[job.id] = pending
            self._scheduler.add(pending)

    def _run(self, job: Job) -> None:
        running = running_of(job)
        filling = self._filling.get(job.id, {})
        for worker in [worker for worker in filling if not job.life.processes[worker].is_open]:
            del filling[worker]
        running = replace(running, uses=(*running.uses, *filling.values()))
        before = self._running.get(job.id)
        if before is not None and before.running == running:
            return
        self._taken.discard(job.id)
        self._waiting.pop(job.id, None)
        self._scheduler.started(running)
        if before is None:
            start_s = (job.life.placed_at_ns or 0) / 1e9
            self._running[job.id] = run = _Run(running, job.user, weight_of(job.spec), start_s)
            self._shares.started(run.user, run.weight, run.start_s)
        else:
            self._running[job.id] = _Run(running, before.user, before.weight, before.start_s)

    def _stretch(self, job: Job) -> None:
        """Tell the scheduler what a running job could have more, or do without."""
        groups = self._fleet.policy.members.get(job.user, frozenset())
        found = elastic_of(job, groups, self._cluster(job))
        if found is not None and job.id in self._filling:
            filling = self._filling[job.id]
            left = tuple(each for each in found.openings if each.worker not in filling)
            found = replace(found, openings=left, now=found.now + len(found.openings) - len(left))
        if found is None:
            self._forget(job.id)
        elif self._elastic.get(job.id) != found:
            self._elastic[job.id] = found
            self._scheduler.elastic(job.id, found)

    def _forget(self, job_id: int) -> None:
        self._filling.pop(job_id, None)
        if self._elastic.pop(job_id, None) is not None:
            self._scheduler.elastic(job_id, None)

    def not_changed(self, job: Job, workers: Iterable[int]) -> None:
        """What the scheduler wanted to become of workers did not: it was not so any more in that moment."""
        for worker in workers:
            self._filling.get(job.id, {}).pop(worker, None)
        self._elastic.pop(job.id, None)
        self.follow(job)

    def _stop(self, job: Job) -> None:
        run = self._running.pop(job.id, None)
        if run is not None:
            self._scheduler.ended(job.id)
            had = amount(run.weight, run.start_s, job.life.changed_at_ns / 1e9)
            self._shares.ended(run.user, run.weight, run.start_s, had)
            self._tell_share(run.user, self._now_s())

    def not_started(self, job: Job) -> None:
        """What the scheduler started did not start: it was held or ended in that moment."""
        if job.id in self._taken:
            self._taken.discard(job.id)
            self._scheduler.ended(job.id)
        self.follow(job)

    def pending(self, job: Job) -> Pending:
        """Return what a job needs, with the rights that its owner has now."""
        at_once = None if job.array_id is None else self._at_once(job.array_id)
        groups = self._fleet.policy.members.get(job.user, frozenset())
        return pending_of(job, groups, at_once, self._cluster(job))

    def _cluster(self, job: Job) -> str:
        wanted = job.spec.cluster
        return "" if wanted is None else meant(self._fleet.clusters, job.user, wanted)

    def decide(self) -> list[Start | Fill | Leave]:
        """Decide what becomes now of jobs that run and of those that wait; what gets places counts as having them."""
        fills = self._scheduler.repair()
        starts = self.plan()
        changes = self._scheduler.adjust(self._now_s())
        for fill in (*fills, *changes):
            if isinstance(fill, Fill):
                self._filling.setdefault(fill.job_id, {})[fill.worker] = fill.use
        return [*fills, *starts, *changes]

    def plan(self) -> list[Start]:
        """Decide what starts now; it counts as started until it is followed."""
        now_s = self._now_s()
        for user in self._shares.running():
            if now_s - self._told_s.get(user, 0.0) >= SHARES_EVERY_S:
                self._tell_share(user, now_s)
        starts = self._scheduler.plan(now_s)
        for start in starts:
            self._taken.add(start.job_id)
            self._waiting.pop(start.job_id, None)
        return starts

    def lost(self) -> dict[int, str]:
        """Return the jobs that can never run any more for want of rights, with the reason."""
        return dict(self._scheduler.lost(self._now_s()))

    def refuse(self, job: Job) -> str | None:
        """Say why a job could never run here; None when it could."""
        return self._scheduler.refuse(self.pending(job))

    def forbidden(self, job: Job) -> str | None:
        """Say which quota a job would pass even if nothing else ran; None for none."""
        return self._scheduler.forbidden(self.pending(job))

    def used(self, holder: str) -> JobUse:
        """Return what the running jobs of a user, or of the members of a group, have."""
        return self._scheduler.used(holder)

    def why(self, job_id: int) -> Why | None:
        """Say why a job waits; None where it does not, or is just being started."""
        now_s = float(int(self._now_s()))  # who asks for many within a second is answered from one look ahead
        return self._scheduler.why(job_id, now_s) if job_id in self._waiting else None

    def order(self) -> list[int]:
        """Return the numbers of the jobs that wait, in the order of their turns."""
        return list(self._scheduler.queue(self._now_s()))

    # ---- nodes and people

    def see(self, node_id: str) -> None:
        """A node is there, is other than before, or is registered no more."""
        if self._fleet.row(node_id) is None:
            self._scheduler.forget_node(node_id)
        else:
            self._scheduler.node(self._fleet.view(node_id))

    def adopt(self, policy: Policy) -> None:
        """Administrators decided anew."""
        self._fleet.policy = policy
        self._scheduler.aliases(policy.aliases)
        self._scheduler.limits(policy.quotas, policy.members)
        self.waiting_room.adopt(policy.quotas, policy.members)
        for view in self._fleet.views():
            self._scheduler.node(view)
        for job_id, pending in self._waiting.items():
            groups = policy.members.get(pending.user, frozenset())
            if groups != pending.groups:
                self._waiting[job_id] = replace(pending, groups=groups)
                self._scheduler.add(self._waiting[job_id])
        for job_id, elastic in self._elastic.items():
            self._elastic[job_id] = replace(elastic, groups=policy.members.get(elastic.user, frozenset()))
            self._scheduler.elastic(job_id, self._elastic[job_id])

    def adopt_clusters(self, jobs: Iterable[Job]) -> None:
        """Clusters are other than before: what they are called, and which these jobs mean."""
        self._scheduler.clusters({cluster.id: cluster.name for cluster in self._fleet.clusters})
        for job in jobs:
            if job.spec.cluster is not None:
                self.follow(job)

    def load_share(self, user: str, past: float) -> None:
        """Take up what was kept of a user's share."""
        self._shares.load(user, past)
        self._tell_share(user, self._now_s())

    def _tell_share(self, user: str, now_s: float) -> None:
        self._told_s[user] = now_s
        self._scheduler.usage(user, self._shares.value(user, now_s))

    def _now_s(self) -> float:
        return self._clock() / 1e9
