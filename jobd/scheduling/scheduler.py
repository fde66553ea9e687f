"""Which waiting job starts where, and why each of the others waits.

The scheduler is told of every change and asked what follows; it has no clock and does nothing by itself. What it
answers depends on what it was told last of each node, job and user, not on the order of telling, and on one thing that
it remembers: for which jobs the last plan kept nodes. Those stay the first of their priority until they start. Without
that a large job would wait for ever between two users who take turns: each job that starts while it waits makes it the
turn of the other one.

    order       whose turn it is                            placement   where the processes of one job go
    ranks       the same, as people are shown it            backfill    what is kept for the first that cannot start
    tally       what users have had                         feasible    what can never run
    cluster     nodes and what runs on them                 explain     reasons with their numbers
    shelf       nodes by room, for each kind of process     words       how numbers are said
    room        what is left on one node                    shares      what users had lately, for `usage`
    quotas      what users and groups may have at once      elastic     what running jobs get more, and give up

Cost. Jobs that ask for the same are one cohort: `plan` tries each cohort until it fails once, O(cohorts · log cohorts
+ starts · log jobs), and each node that changed is put in its place for every kind of process that waits, O(kinds ·
log nodes). How many jobs wait and how many nodes there are hardly matters; integration/bench/plan.py measures it.
"""

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from weakref import WeakKeyDictionary

from jobd.scheduling.backfill import Outlook, Reservations
from jobd.scheduling.cluster import Cluster
from jobd.scheduling.elastic import Chances, Elastics
from jobd.scheduling.explain import State, explain
from jobd.scheduling.feasible import Feasibility
from jobd.scheduling.model import (
    ANY_IMAGE,
    Elastic,
    Fill,
    Leave,
    NodeView,
    Opening,
    Pending,
    Place,
    Plan,
    Running,
    Start,
    Why,
)
from jobd.scheduling.order import Cohort, Queue
from jobd.scheduling.placement import Gang, Placer, gang_of, uses_of
from jobd.scheduling.quotas import JobLimits, JobUse, gpus_of


class Scheduler:
    """All that waits, runs and could run, and the decisions about it. Times are seconds since the epoch."""

    def __init__(self) -> None:
        self._cluster = Cluster()
        self._placer = Placer(self._cluster)
        self._outlook = Outlook(self._placer)
        self._queue = Queue()
        self._feasibility = Feasibility()
        self._aliases: dict[str, str] = {}
        self._own: Counter[str] = Counter()  # how many nodes whose own are
        self._picky: set[str] = set()  # nodes that take only some images
        self._gangs: WeakKeyDictionary[Cohort, Gang] = WeakKeyDictionary()
        self._elastics = Elastics(self._placer, self._gang_of_opening, self._take)
        self._kept: Reservations | None = None  # until something changes; who reserves does not depend on the time
        self._lacks: dict[Gang, str] = {}  # as long as that is kept

    def node(self, view: NodeView) -> None:
        """A node is registered, or is other than before."""
        self._kept = None
        self._count_own(self._cluster.views.get(view.node_id), view)
        self._note_picky(view.node_id, picky=view.images.are_any)
        self._cluster.set_node(view)
        self._feasibility.set_node(view)

    def forget_node(self, node_id: str) -> None:
        """A node is registered no more; what runs there is known still."""
        self._kept = None
        self._count_own(self._cluster.views.get(node_id), None)
        self._note_picky(node_id, picky=False)
        self._cluster.forget_node(node_id)
        self._feasibility.forget_node(node_id)

    def _count_own(self, old: NodeView | None, new: NodeView | None) -> None:
        before, after = ("" if view is None else view.owner for view in (old, new))
        if before != after:
            self._own[before] -= 1
            self._own[after] += 1
            for user in filter(None, (before, after)):
                self._queue.set_owner(user, has_nodes=self._own[user] > 0)

    def _note_picky(self, node_id: str, *, picky: bool) -> None:
        (self._picky.add if picky else self._picky.discard)(node_id)
        self._queue.set_picky(bool(self._picky))

    def clusters(self, names: Mapping[str, str]) -> None:
        """Set how clusters are called, by their ids."""
        self._kept = None
        self._feasibility.set_clusters(names)

    def aliases(self, models: Mapping[str, str]) -> None:
        """Set all aliases: a short name for each model."""
        self._kept = None
        self._aliases = dict(models)
        self._gangs.clear()
        self._feasibility.set_aliases(self._aliases)

    def limits(self, limits: Mapping[str, JobLimits], members: Mapping[str, frozenset[str]]) -> None:
        """Set what users and groups may have at once, by holder (`quotas`), and the groups that users are in."""
        self._kept = None
        self._queue.set_limits(limits, members)

    def usage(self, user: str, value: float) -> None:
        """Set what a user has used of late, in seconds of GPUs, a process counting as an eighth of one."""
        self._kept = None
        self._queue.set_past(user, value)

    def add(self, job: Pending) -> None:
        """A job waits, or is other than before."""
        self._kept = None
        self._queue.add(job)

    def remove(self, job_id: int) -> None:
        """A job waits no more: it was killed, or is held."""
        self._kept = None
        self._queue.remove(job_id)

    def started(self, job: Running) -> None:
        """A job has its places, or its time limit is other than before."""
        self.ended(job.job_id)
        self._queue.remove(job.job_id)
        self._cluster.start(job)
        self._queue.start(job)

    def ended(self, job_id: int) -> None:
        """A job has let go of its places."""
        self._kept = None
        job = self._cluster.end(job_id)
        if job is not None:
            self._queue.end(job)

    def elastic(self, job_id: int, found: Elastic | None) -> None:
        """Set what a running job could have more, or do without; None for nothing of either."""
        self._kept = None
        if found is None:
            self._elastics.jobs.pop(job_id, None)
        else:
            self._elastics.jobs[job_id] = found

    def plan(self, now_s: float) -> list[Start]:
        """Return what starts now, in order; it counts as started, until `ended` says otherwise."""
        reservations = Reservations(self._outlook)
        starts = self._try_all(now_s, reservations, start=True)
        self._kept = None
        self._queue.reserved = [each.job_id for each in reservations.all]
        return starts

    def repair(self) -> list[Fill]:
        """Return which places of running jobs are filled that these need; to be asked before `plan`."""
        return self._elastics.repair() if self._elastics.jobs else []

    def adjust(self, now_s: float) -> list[Fill | Leave]:
        """Return what running jobs get beside what they need, and what they give up; to be asked after `plan`."""
        if not self._elastics.jobs:
            return []
        waiting = [cohort for cohort in self._queue.cohorts.values() if cohort.next() is not None]
        shelves = {id(shelf): shelf for each in waiting for shelf in self._outlook.shelves(self._gang(each))}
        chances = Chances(
            rests=lambda job: self._reservations(now_s).left(self._cluster.running[job.job_id].ends_at_s),
            wanted=tuple(shelves.values()),
            allows=lambda job, gpus: self._queue.quotas.allows(job.user, gpus),
        )
        changes: list[Fill | Leave] = [*self._elastics.grow(chances)]
        for each in self._reservations(now_s).all:
            changes += self._elastics.shrink(each.job_id, self._gang(self._queue.cohort(each.job_id)))
        return changes

    def _gang_of_opening(self, job: Elastic, opening: Opening) -> Gang:
        picky = opening.need if self._picky or not opening.need.image else replace(opening.need, image=ANY_IMAGE)
        owner = job.user if self._own[job.user] > 0 else ""
        gang = gang_of((picky,), job.groups, self._aliases, owner, job.cluster)
        return gang if not job.is_gang else replace(gang, reach=frozenset(part.ask.runtime for part in gang.parts))

    def _take(self, fill: Fill) -> None:
        running = self._cluster.running[fill.job_id]
        self.started(replace(running, uses=(*running.uses, fill.use)))

    def why(self, job_id: int, now_s: float) -> Why:
        """Say why a job waits.

        Raises:
            KeyError: it does not wait.
        """
        job = self._queue.jobs[job_id]
        kept = self._reservations(now_s)
        gang = self._gang(self._queue.cohort(job_id))
        state = State(now_s, self._outlook, self._queue, self._feasibility, kept, self._lacks)
        return explain(job, gang, state)

    def _reservations(self, now_s: float) -> Reservations:
        """Return what is kept for whom, as things are."""
        if self._kept is None:
            self._kept, self._lacks = Reservations(self._outlook), {}
            self._try_all(now_s, self._kept, start=False)
        return self._kept

    def queue(self, now_s: float) -> list[int]:
        """Return the numbers of all that wait, in the order in which they would start if there were room for each."""
        del now_s  # who had how much is told by `usage`
        return self._queue.ordered()

    def refuse(self, job: Pending) -> str | None:
        """Say why no registered node, on-line or not, could ever run a job; None when some could, or nobody knows."""
        needs = self._queue.needs_of(job)
        return self._feasibility.refusal(needs, job.groups, self._queue.owner_of(job), job.cluster)

    def forbidden(self, job: Pending) -> str | None:
        """Say which limit of its owner's a job would pass even if nothing else ran; None when none."""
        obstacle = self._queue.quotas.forbids(job.user, gpus_of(job.needs))
        return None if obstacle is None else obstacle.refused

    def used(self, holder: str) -> JobUse:
        """Return what the running jobs of a user, or of the members of a group, have."""
        return self._queue.quotas.used(holder)

    def lost(self, now_s: float) -> dict[int, str]:
        """Return the waiting jobs that only members of groups could run in which their owners are no more, and why."""
        del now_s
        found: dict[int, str] = {}
        for cohort in self._queue.cohorts.values():
            reason = self._feasibility.lost(cohort.needs, cohort.groups, cohort.owner, cohort.cluster)
            if reason is not None:
                found |= dict.fromkeys(cohort.job_ids(), reason)
        return dict(sorted(found.items()))

    def _try_all(self, now_s: float, reservations: Reservations, *, start: bool) -> list[Start]:
        """Try each cohort in turn until it fails.

        Args:
            start: whether what can start does; else only the reservations are made.
        """
        starts: list[Start] = []
        cohorts = list(self._queue.cohorts.values())
        heads = [(turn, number) for number, each in enumerate(cohorts) if (turn := each.next()) is not None]
        # those that reserved before come first of their priority, each for itself
        heads += [(turn, -1) for turn in self._queue.reserved_turns()]
        heapq.heapify(heads)
        while heads:
            turn, number = heapq.heappop(heads)
            job_id = turn[-1]
            cohort = cohorts[number] if number >= 0 else self._queue.cohort(job_id)
            if number < 0 and starts and not self._queue.may_start(self._queue.jobs[job_id]):
                continue
            if number >= 0 and starts:
                now = cohort.next()
                if now is None:
                    continue
                if now != turn:  # its user, or its array, had a start since
                    heapq.heappush(heads, (now, number))
                    continue
            gang = self._gang(cohort)
            if self._placer.is_full(gang):
                reservations.reserve(job_id, gang)
                continue
            ends_at_s = None if cohort.max_duration_s is None else now_s + cohort.max_duration_s
            places = self._placer.place(gang, reservations.left(ends_at_s))
            if places is None:
                reservations.reserve(job_id, gang)
            elif start:
                starts.append(self._start(job_id, gang, places, ends_at_s))
                reservations.update({place.node_id for place in places})
                if number >= 0:
                    heapq.heappush(heads, (turn, number))
        return starts

    def _start(self, job_id: int, gang: Gang, places: tuple[Place, ...], ends_at_s: float | None) -> Start:
        job = self._queue.jobs[job_id]
        array = None if job.array is None else job.array[0]
        self.started(Running(job_id, job.user, uses_of(gang, places), ends_at_s, array))
        return Start(job_id, places)

    def _gang(self, cohort: Cohort) -> Gang:
        gang = self._gangs.get(cohort)
        if gang is None:
            gang = self._gangs[cohort] = gang_of(
                cohort.needs, cohort.groups, self._aliases, cohort.owner, cohort.cluster
            )
        return gang


def plan(
    pending: Iterable[Pending],
    nodes: Iterable[NodeView],
    running: Iterable[Running],
    now_s: float,
    *,
    usage: Mapping[str, float] | None = None,
    limits: Mapping[str, JobLimits] | None = None,
    members: Mapping[str, frozenset[str]] | None = None,
    aliases: Mapping[str, str] | None = None,
) -> Plan:
    """Decide once, from nothing but the arguments."""
    scheduler = Scheduler()
    scheduler.aliases(aliases or {})
    for view in nodes:
        scheduler.node(view)
    for job in running:
        scheduler.started(job)
    for user, value in (usage or {}).items():
        scheduler.usage(user, value)
    scheduler.limits(limits or {}, members or {})
    for waiting in pending:
        scheduler.add(waiting)
    starts = scheduler.plan(now_s)
    reasons = {job_id: scheduler.why(job_id, now_s) for job_id in scheduler.queue(now_s)}
    return Plan(tuple(starts), reasons)
