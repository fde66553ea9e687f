"""Small clusters and queues, and what can be said of a plan without the scheduler: by counting, and by trying all.

Everything here is written for few nodes and jobs, from the plain values of the model, with nothing of the product's
indexes.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, combinations_with_replacement

from hypothesis import strategies as st

from jobd.imagerules import ImageRules
from jobd.scheduling.model import (
    CPUS_OVERCOMMIT,
    DOCKER,
    SANDBOX,
    Gpu,
    IllGpu,
    Need,
    NodeView,
    Pending,
    Running,
    Start,
    Use,
)
from jobd.scheduling.quotas import JobLimits
from jobd.scheduling.scheduler import Scheduler
from pfs.quota import GROUP

GIB = 2**30
ALIASES = {"gtx": "A"}
MODELS: Sequence[str | None] = ("A", "B", "gtx", None)
GROUPS = ("ml", "nlp")
USERS = ("ann", "bob", "eve")
ONLY_X = ImageRules(images=("x",))
groups = st.sets(st.sampled_from(GROUPS), max_size=1).map(frozenset)

items = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(MODELS)), max_size=2).map(tuple)
sandboxed = st.builds(Need, count=st.integers(1, 3), gpus=items)
dockered = st.builds(
    Need,
    count=st.integers(1, 3),
    gpus=items,
    cpus=st.none() | st.sampled_from([0.1, 1.0, 2.5]),
    memory_bytes=st.none() | st.sampled_from([GIB, 3 * GIB]),
    shm_bytes=st.none() | st.just(2 * GIB),
    image=st.sampled_from(["x", "y"]),
)
needs = st.lists(sandboxed, min_size=1, max_size=2).map(tuple) | st.lists(dockered, min_size=1, max_size=2).map(tuple)
alone = st.builds(Need, gpus=items) | st.builds(
    Need,
    gpus=items,
    cpus=st.sampled_from([1.0, 2.5]),
    memory_bytes=st.sampled_from([GIB, 3 * GIB]),
    image=st.sampled_from(["x", "y"]),
)


def jobs(needs: st.SearchStrategy[tuple[Need, ...]] = needs) -> st.SearchStrategy[Pending]:
    return st.builds(
        Pending,
        job_id=st.integers(1, 10_000),
        user=st.sampled_from(USERS),
        priority=st.sampled_from([10, 50, 50, 60]),
        arrived=st.integers(0, 5).map(float),
        needs=needs,
        groups=groups,
        max_duration_s=st.sampled_from([None, None, 50.0, 100.0, 400.0]),
        array=st.none() | st.none() | st.sampled_from([(1, 1), (2, 2), (3, None)]),
        cluster=st.sampled_from(["", "", "", "lab"]),
    ).map(own_array)


def own_array(job: Pending) -> Pending:
    """Return the job with a number of its array that no other user has."""
    if job.array is None:
        return job
    return replace(job, array=(job.array[0] + 10 * USERS.index(job.user), job.array[1]))


def queues(needs: st.SearchStrategy[tuple[Need, ...]] = needs, size: int = 8) -> st.SearchStrategy[list[Pending]]:
    return st.lists(jobs(needs), max_size=size, unique_by=lambda job: job.job_id)


@st.composite
def node(draw: st.DrawFn, name: str) -> NodeView:
    models = draw(st.lists(st.sampled_from(["A", "A", "B"]), max_size=4))
    gpus = [
        Gpu(f"{name}.{index}", model, draw(st.sampled_from([frozenset(), frozenset(), frozenset({"ml"})])))
        for index, model in enumerate(models)
    ]
    ill = draw(st.sampled_from([0, 0, 1]))
    return NodeView(
        node_id=f"id-{name}",
        name=name,
        online=draw(st.sampled_from([True, True, True, False])),
        runtimes=draw(st.sampled_from([{SANDBOX, DOCKER}, {SANDBOX, DOCKER}, {SANDBOX}, {DOCKER}]).map(frozenset)),
        cpus=draw(st.sampled_from([1.0, 4.0])),
        memory_bytes=draw(st.sampled_from([2 * GIB, 8 * GIB])),
        max_processes=draw(st.sampled_from([1, 3, 64])),
        attrs={"address": "10.0.0.1"} if draw(st.booleans()) else {},
        gpus=tuple(gpus[ill:]),
        groups=draw(st.sampled_from([frozenset(), frozenset(), frozenset({"nlp"})])),
        swarm=draw(st.sampled_from(["", "s", "s", "t"])),
        closed=draw(st.sampled_from(["", "", "", "drained by ann"])),
        ill=tuple(IllGpu(gpu, "it is lost") for gpu in gpus[:ill]),
        cluster=draw(st.sampled_from(["", "lab", "lab", "den"])),
        owner=draw(st.sampled_from(["", "", "", "", "ann"])),
        images=draw(st.sampled_from([ImageRules(), ImageRules(), ImageRules(), ONLY_X])),
        most_shm_bytes=draw(st.sampled_from([None, None, 2 * GIB, GIB])),
    )


def clusters(size: int = 4) -> st.SearchStrategy[list[NodeView]]:
    names = st.sampled_from(range(1, size + 1)).map(lambda count: [f"n{number}" for number in range(count)])
    return names.flatmap(lambda names: st.tuples(*map(node, names)).map(list))


@dataclass
class World:
    """All that a scheduler was told, and a scheduler that was told it step by step."""

    scheduler: Scheduler = field(default_factory=Scheduler)
    nodes: dict[str, NodeView] = field(default_factory=dict)
    pending: dict[int, Pending] = field(default_factory=dict)
    running: dict[int, Running] = field(default_factory=dict)
    usage: dict[str, float] = field(default_factory=dict)
    asked: dict[int, Pending] = field(default_factory=dict)
    limits: dict[str, JobLimits] = field(default_factory=dict)
    members: dict[str, frozenset[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.scheduler.aliases(ALIASES)

    def set_node(self, view: NodeView) -> None:
        self.nodes[view.node_id] = view
        self.scheduler.node(view)

    def forget_node(self, node_id: str) -> None:
        self.nodes.pop(node_id, None)
        self.scheduler.forget_node(node_id)

    def add(self, job: Pending) -> None:
        if job.job_id not in self.running:
            self.pending[job.job_id] = self.asked[job.job_id] = job
            self.scheduler.add(job)

    def remove(self, job_id: int) -> None:
        self.pending.pop(job_id, None)
        self.scheduler.remove(job_id)

    def end(self, job_id: int) -> None:
        self.running.pop(job_id, None)
        self.scheduler.ended(job_id)

    def set_usage(self, user: str, value: float) -> None:
        self.usage[user] = value
        self.scheduler.usage(user, value)

    def set_limits(self, limits: dict[str, JobLimits], members: dict[str, frozenset[str]]) -> None:
        self.limits, self.members = limits, members
        self.scheduler.limits(limits, members)

    def extend(self, job_id: int, ends_at_s: float | None) -> None:
        old = self.running[job_id]
        self.running[job_id] = Running(job_id, old.user, old.uses, ends_at_s, old.array)
        self.scheduler.started(self.running[job_id])

    def plan(self, now_s: float) -> list[Start]:
        starts = self.scheduler.plan(now_s)
        for start in starts:
            job = self.pending.pop(start.job_id)
            self.running[start.job_id] = running_of(job, start, now_s)
        return starts

    def fresh(self) -> Scheduler:
        """Return a scheduler that is told the same in another order."""
        made = Scheduler()
        made.limits(self.limits, self.members)
        for job in reversed(self.pending.values()):
            made.add(job)
        for running in reversed(self.running.values()):
            made.started(running)
        for view in reversed(self.nodes.values()):
            made.node(view)
        for user, value in reversed(self.usage.items()):
            made.usage(user, value)
        made.aliases(ALIASES)
        made._queue.reserved = list(self.scheduler._queue.reserved)
        return made


def workers(job: Pending) -> list[Need]:
    """Return what each process needs, by worker index."""
    return [need for need in job.needs for _ in range(need.count)]


def running_of(job: Pending, start: Start, now_s: float) -> Running:
    """Return a job that started, one use for each process."""
    uses = tuple(
        Use(place.node_id, need.cpus or 0.0, need.memory_bytes or 0, place.gpus)
        for need, place in zip(workers(job), start.places, strict=True)
    )
    ends_at_s = None if job.max_duration_s is None else now_s + job.max_duration_s
    return Running(job.job_id, job.user, uses, ends_at_s, None if job.array is None else job.array[0])


def check_start(job: Pending, start: Start, nodes: Mapping[str, NodeView]) -> None:
    """Check that each process is where it may be, with what it asked for."""
    needs = workers(job)
    assert len(start.places) == len(needs)
    for need, place in zip(needs, start.places, strict=True):
        view = nodes[place.node_id]
        assert view.is_open
        assert (DOCKER if need.image else SANDBOX) in view.runtimes
        assert is_there(view, job)
        assert takes(view, need)
        assert not view.groups or view.groups & job.groups
        assert (need.cpus or 0) <= view.cpus
        gpus = {gpu.uuid: gpu for gpu in view.gpus}
        assert all(not gpus[uuid].groups or gpus[uuid].groups & job.groups for uuid in place.gpus)
        got = Counter(gpus[uuid].model for uuid in place.gpus)
        wanted: Counter[str] = Counter()
        for count, model in need.gpus:
            if model is not None:
                wanted[ALIASES.get(model, model)] += count
        assert got >= wanted
        assert got.total() == sum(count for count, _ in need.gpus)
    if len({place.node_id for place in start.places}) > 1:
        views = [nodes[place.node_id] for place in start.places]
        if any(need.image for need in needs):
            assert len({view.swarm for view in views}) == 1
            assert views[0].swarm
        if not all(need.image for need in needs):
            assert all(view.attrs.get("address") for view in views)


def check_room(nodes: Mapping[str, NodeView], running: Iterable[Running]) -> None:
    """Check that no node gives away more than it has, and no GPU twice."""
    uses = list(chain.from_iterable(job.uses for job in running))
    gpus = Counter((use.node_id, uuid) for use in uses for uuid in use.gpus)
    assert all(count == 1 for count in gpus.values())
    for node_id, view in nodes.items():
        here = [use for use in uses if use.node_id == node_id]
        assert round(sum(use.cpus for use in here), 6) <= view.cpus * CPUS_OVERCOMMIT
        assert sum(use.memory_bytes for use in here) <= view.memory_bytes
        assert sum(use.processes for use in here) <= view.max_processes


def limits() -> st.SearchStrategy[tuple[dict[str, JobLimits], dict[str, frozenset[str]]]]:
    """Draw what users and groups may have at once, and who is in which group."""
    most = st.none() | st.integers(0, 3)
    each = st.builds(JobLimits, running=most, gpus=most)
    holders = st.sampled_from([*USERS, *(GROUP + name for name in GROUPS)])
    members = st.dictionaries(st.sampled_from(USERS), st.sets(st.sampled_from(GROUPS)).map(frozenset))
    return st.tuples(st.dictionaries(holders, each, max_size=3), members)


def check_limits(world: World, started: set[int]) -> None:
    """Check that nobody has more than they may by what has just started."""
    for holder, most in world.limits.items():
        group = holder.removeprefix(GROUP)
        mine = [
            job
            for job in world.running.values()
            if job.user == holder or (group != holder and group in world.members.get(job.user, ()))
        ]
        new = [job for job in mine if job.job_id in started]
        if new and most.running is not None:
            assert len(mine) <= most.running
        if most.gpus is not None and any(use.gpus for job in new for use in job.uses):
            assert sum(len(use.gpus) for job in mine for use in job.uses) <= most.gpus


@dataclass
class Left:
    """What is left of a node, counted by hand: GPUs by model."""

    view: NodeView
    cpus: float
    memory_bytes: int
    slots: int
    gpus: Counter[str]

    def fits(self, need: Need) -> bool:
        wanted = Counter[str]()
        for count, model in need.gpus:
            if model is not None:
                wanted[ALIASES.get(model, model)] += count
        return (
            self.slots >= 1
            and (need.cpus or 0) <= min(self.view.cpus, round(self.cpus, 6))
            and (need.memory_bytes or 0) <= self.memory_bytes
            and (need.shm_bytes or 0) <= (self.view.most_shm_bytes or math.inf)
            and self.gpus >= wanted
            and self.gpus.total() >= sum(count for count, _ in need.gpus)
        )

    def take(self, need: Need, got: Counter[str]) -> None:
        self.slots -= 1
        self.cpus -= need.cpus or 0
        self.memory_bytes -= need.memory_bytes or 0
        self.gpus -= got


def left_of(view: NodeView, running: Iterable[Running], groups: frozenset[str], at_s: float = -math.inf) -> Left:
    """Return what members of `groups` find on a node when what ends until `at_s` is over."""
    uses = [
        use
        for job in running
        if (math.inf if job.ends_at_s is None else job.ends_at_s) > at_s
        for use in job.uses
        if use.node_id == view.node_id
    ]
    taken = {uuid for use in uses for uuid in use.gpus}
    allowed = [gpu for gpu in view.gpus if not gpu.groups or gpu.groups & groups]
    return Left(
        view,
        view.cpus * CPUS_OVERCOMMIT - sum(use.cpus for use in uses),
        view.memory_bytes - sum(use.memory_bytes for use in uses),
        view.max_processes - sum(use.processes for use in uses),
        Counter(gpu.model for gpu in allowed if gpu.uuid not in taken),
    )


def is_there(view: NodeView, job: Pending) -> bool:
    """Tell whether there is a node for a job: in its cluster, and nobody else's own."""
    return job.cluster in ("", view.cluster) and view.owner in ("", job.user)


def takes(view: NodeView, need: Need) -> bool:
    """Tell whether the owner of a node lets an image run there."""
    return view.images != ONLY_X or need.image in ("", "x")


def can(view: NodeView, need: Need, job: Pending) -> bool:
    """Tell whether a node may run such a process of a job, whatever its size."""
    runtime = DOCKER if need.image else SANDBOX
    is_allowed = is_there(view, job) and (not view.groups or bool(view.groups & job.groups))
    return view.is_open and runtime in view.runtimes and is_allowed and takes(view, need)


def fewest_nodes(job: Pending, nodes: Iterable[NodeView], running: Sequence[Running]) -> int | None:
    """Return on how few nodes a job of equal processes could start, by trying every way; None for none."""
    (need,) = job.needs
    views = [view for view in nodes if can(view, need, job)]
    best: int | None = None
    for chosen in combinations_with_replacement(range(len(views)), need.count):
        used = {views[index].node_id: views[index] for index in chosen}
        swarms = {view.swarm for view in used.values()}
        apart = (
            not (len(swarms) == 1 and "" not in swarms)
            if need.image
            else not all(view.attrs.get("address") for view in used.values())
        )
        if len(used) > 1 and apart:
            continue
        if all(_holds(view, need, chosen.count(views.index(view)), running, job.groups) for view in used.values()):
            best = len(used) if best is None else min(best, len(used))
    return best


def _holds(view: NodeView, need: Need, count: int, running: Sequence[Running], groups: frozenset[str]) -> bool:
    left = left_of(view, running, groups)
    total = Need(
        gpus=tuple((each * count, model) for each, model in need.gpus),
        memory_bytes=(need.memory_bytes or 0) * count,
        shm_bytes=need.shm_bytes,
    )
    cpus = need.cpus or 0
    return (
        left.fits(total) and left.slots >= count and cpus <= view.cpus and round(left.cpus, 6) >= round(cpus * count, 6)
    )


@dataclass
class Kept:
    """What is kept for a job of one process: its node, and the moment at which it starts there."""

    job: Pending
    view: NodeView
    at_s: float
    pool: set[str]


class NaivePlanner:
    """Plans jobs of one process each, with GPUs by model, as the rules say, looking at everything each time."""

    def __init__(self, nodes: Sequence[NodeView], running: Iterable[Running], usage: Mapping[str, float], now_s: float):
        self.nodes = nodes
        self.running = list(running)
        self.usage = usage
        self.now_s = now_s
        self.kept: list[Kept] = []
        self.reserved: list[int] = []

    def plan(self, pending: Iterable[Pending]) -> list[tuple[int, str]]:
        """Return the jobs that start, each with its node."""
        starts = []
        left = list(pending)
        while left:
            job = min(left, key=self.turn)
            left.remove(job)
            view = self.choose(job)
            if view is None:
                self.keep(job)
                continue
            starts.append((job.job_id, view.node_id))
            free = [gpu for gpu in view.gpus if gpu.uuid not in self.taken(view)]
            gpus = [gpu.uuid for model, n in wanted(job).items() for gpu in [g for g in free if g.model == model][:n]]
            (need,) = job.needs
            use = Use(view.node_id, need.cpus or 0.0, need.memory_bytes or 0, tuple(gpus))
            ends_at_s = None if job.max_duration_s is None else self.now_s + job.max_duration_s
            self.running.append(Running(job.job_id, job.user, (use,), ends_at_s))
        return starts

    def turn(self, job: Pending) -> tuple[float, ...]:
        share = -math.inf if job.job_id in self.reserved else self.share(job.user)
        return (-job.priority, share, job.arrived, job.job_id)

    def share(self, user: str) -> float:
        uses = [use for job in self.running if job.user == user for use in job.uses]
        return self.usage.get(user, 0.0) + 3600 * sum(len(use.gpus) + use.processes / 8 for use in uses)

    def taken(self, view: NodeView) -> set[str]:
        return {uuid for job in self.running for use in job.uses if use.node_id == view.node_id for uuid in use.gpus}

    def able(self, job: Pending) -> list[NodeView]:
        (need,) = job.needs
        return [v for v in self.nodes if can(v, need, job) and left_of(v, [], job.groups).fits(need)]

    def choose(self, job: Pending) -> NodeView | None:
        """Return the fullest node that the job may have now."""
        (need,) = job.needs
        fitting = [view for view in self.able(job) if self.left(view, job).fits(need)]
        return min(fitting, key=lambda view: self.fullness(view, need), default=None)

    def left(self, view: NodeView, job: Pending) -> Left:
        """Return what a job finds on a node, without what is kept there from a time before it is sure to be over."""
        left = left_of(view, self.running, job.groups)
        for kept in self.kept:
            ends_at_s = math.inf if job.max_duration_s is None else self.now_s + job.max_duration_s
            if kept.view is view and (job.max_duration_s is None or ends_at_s > kept.at_s):
                then = left_of(view, self.running, kept.job.groups, kept.at_s)
                then.take(kept.job.needs[0], wanted(kept.job))
                left.cpus, left.memory_bytes = min(left.cpus, then.cpus), min(left.memory_bytes, then.memory_bytes)
                left.slots, left.gpus = min(left.slots, then.slots), left.gpus & then.gpus
        return left

    def fullness(self, view: NodeView, need: Need) -> tuple[object, ...]:
        left = left_of(view, self.running, frozenset(GROUPS))
        if need.gpus:
            return not view.owner, left.gpus.total(), view.name
        if need.cpus or need.memory_bytes:
            cpus, memory = left.cpus if need.cpus else 0, left.memory_bytes if need.memory_bytes else 0
            return not view.owner, bool(view.gpus), left.gpus.total(), round(cpus, 6), memory, view.name
        return not view.owner, bool(view.gpus), view.max_processes - left.slots, view.name

    def keep(self, job: Pending) -> None:
        """Keep the fullest of the nodes that have room first, if nothing is kept of those that the job could use."""
        able = self.able(job)
        pool = {view.node_id for view in able}
        if any(kept.pool & pool for kept in self.kept):
            return
        (need,) = job.needs
        for at_s in sorted({math.inf if job.ends_at_s is None else job.ends_at_s for job in self.running}):
            fitting = [view for view in able if left_of(view, self.running, job.groups, at_s).fits(need)]
            if fitting:
                later = NaivePlanner(self.nodes, (j for j in self.running if (j.ends_at_s or math.inf) > at_s), {}, 0.0)
                view = min(fitting, key=lambda view: later.fullness(view, need))
                self.kept.append(Kept(job, view, at_s, pool))
                return


def wanted(job: Pending) -> Counter[str]:
    """Return the GPUs of a job of one process, by model."""
    found: Counter[str] = Counter()
    for count, model in job.needs[0].gpus:
        assert model is not None
        found[ALIASES.get(model, model)] += count
    return found
