"""What running jobs get beside what they have, and what they give up: by hand, and what holds for every cluster."""

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.scheduling.model import (
    SANDBOX,
    Elastic,
    Fill,
    Gpu,
    Leave,
    Need,
    NodeView,
    Opening,
    Pending,
    Place,
    Running,
    Spare,
    Start,
    Use,
)
from jobd.scheduling.quotas import JobLimits
from jobd.scheduling.room import ask_of, suits
from jobd.scheduling.scheduler import Scheduler
from tests.jobd.scheduling.worlds import ALIASES, World, alone, check_room, check_start, clusters, queues, workers

ONE = Need(gpus=((1, None),))


def view(name: str, gpus: int) -> NodeView:
    return NodeView(
        f"id-{name}",
        name,
        online=True,
        runtimes=frozenset({SANDBOX}),
        cpus=4.0,
        memory_bytes=1 << 33,
        attrs={"address": "10.0.0.1"},
        gpus=tuple(Gpu(f"{name}.{number}", "A") for number in range(gpus)),
    )


def elastic(job_id: int, places: Sequence[Place], most: int, *, least: int = 1, must: int = 0) -> Elastic:
    """Return a job that has these places, of which the last is the youngest, and could have more."""
    now = len(places)
    return Elastic(
        job_id,
        "ann",
        openings=tuple(Opening(worker, ONE, worker - now < must) for worker in range(now, most)),
        spares=tuple(Spare(worker, use(places[worker])) for worker in reversed(range(least, now))),
        least=least,
        now=now,
        most=most,
        nodes=tuple(dict.fromkeys(place.node_id for place in places)),
        spans=True,
    )


def use(place: Place) -> Use:
    return Use(place.node_id, gpus=place.gpus)


class Small:
    """A cluster in which jobs run that could have more, or less."""

    def __init__(self, *nodes: NodeView) -> None:
        self.scheduler = Scheduler()
        for each in nodes:
            self.scheduler.node(each)

    def runs(self, job_id: int, *gpus: str, most: int, least: int = 1, must: int = 0) -> None:
        places = [Place(f"id-{gpu.partition('.')[0]}", (gpu,)) for gpu in gpus]
        self.scheduler.started(Running(job_id, "ann", tuple(map(use, places))))
        self.scheduler.elastic(job_id, elastic(job_id, places, most, least=least, must=must))

    def waits(self, job_id: int, count: int, user: str = "bob") -> None:
        self.scheduler.add(Pending(job_id, user, 50, 0.0, (Need(count, gpus=((1, None),)),)))

    def grown(self) -> list[tuple[int, int]]:
        return [(fill.job_id, fill.worker) for fill in self.scheduler.adjust(0.0) if isinstance(fill, Fill)]

    def left(self) -> list[tuple[int, int, int]]:
        changes = self.scheduler.adjust(0.0)
        return [(each.job_id, each.worker, each.for_job) for each in changes if isinstance(each, Leave)]


def test_who_has_least_of_what_it_could_have_gets_first() -> None:
    small = Small(view("n0", 6))
    small.runs(1, "n0.0", "n0.1", most=4)
    small.runs(2, "n0.2", most=3)
    assert small.grown() == [(2, 1), (1, 2), (2, 2)]


def test_nobody_gets_more_than_it_could_have() -> None:
    small = Small(view("n0", 6))
    small.runs(1, "n0.0", most=2)
    assert small.grown() == [(1, 1)]
    assert small.grown() == []


def test_nothing_grows_where_somebody_waits_and_does_elsewhere() -> None:
    small = Small(view("n0", 3), view("n1", 1))
    small.runs(1, "n0.0", most=9)
    small.waits(2, 4)
    assert small.grown() == []
    small.scheduler.remove(2)
    assert len(small.grown()) == 3


def test_nothing_grows_either_on_what_is_left_beside_what_is_kept_for_who_waits() -> None:
    small = Small(view("n0", 3))
    small.runs(1, "n0.0", most=3)
    small.scheduler.started(Running(2, "bob", (Use("id-n0", gpus=("n0.1",)),)))
    small.waits(3, 2)
    assert small.grown() == []


def test_a_limit_of_gpus_is_one_of_these_too() -> None:
    small = Small(view("n0", 4))
    small.scheduler.limits({"ann": JobLimits(running=1, gpus=2)}, {})
    small.runs(1, "n0.0", most=4)
    assert small.grown() == [(1, 1)]


def test_what_a_job_needs_is_filled_before_anybody_starts() -> None:
    small = Small(view("n0", 2))
    small.runs(1, "n0.0", most=2, least=2, must=1)
    small.waits(2, 1)
    assert [(fill.worker, fill.place) for fill in small.scheduler.repair()] == [(1, Place("id-n0", ("n0.1",)))]
    assert small.scheduler.plan(0.0) == []


def test_a_process_goes_only_where_its_fellows_can_reach_it() -> None:
    small = Small(view("n0", 1), view("n1", 1))
    small.runs(1, "n0.0", most=2)
    job = elastic(1, [Place("id-n0", ("n0.0",))], 2)
    small.scheduler.elastic(1, replace(job, spans=False))
    assert small.grown() == []
    small.scheduler.elastic(1, replace(job, spans=False, is_gang=False))
    assert small.grown() == [(1, 1)]


def test_who_has_most_of_what_it_could_have_gives_first_and_the_youngest_process() -> None:
    small = Small(view("n0", 5))
    small.runs(1, "n0.0", "n0.1", most=4)
    small.runs(2, "n0.2", "n0.3", "n0.4", most=3)
    small.waits(3, 1)
    assert small.left() == [(2, 2, 3)]
    assert small.left() == [], "it is under way"


def test_nothing_is_given_up_where_that_does_not_help() -> None:
    small = Small(view("n0", 3))
    small.runs(1, "n0.0", "n0.1", "n0.2", most=3)
    small.waits(2, 3)
    assert small.left() == []
    small.waits(3, 2)
    assert small.left() == [], "it is not its turn"
    small.scheduler.remove(2)
    assert small.left() == [(1, 2, 3), (1, 1, 3)]


def test_what_does_not_help_stays() -> None:

    small = Small(view("n0", 2), view("n1", 2))
    small.runs(1, "n0.0", "n0.1", most=2)
    small.runs(2, "n1.0", "n1.1", most=3)
    small.scheduler.add(Pending(3, "bob", 50, 0.0, (Need(gpus=((1, None),), nodes=("n1",)),)))
    assert small.left() == [(2, 1, 3)]


def test_what_turned_out_not_to_help_stays() -> None:
    small = Small(view("n0", 2), view("n1", 3))
    small.runs(1, "n0.0", "n0.1", most=2)
    small.runs(2, "n1.0", "n1.1", "n1.2", most=3)
    small.scheduler.add(Pending(3, "bob", 50, 0.0, (Need(gpus=((2, None),)),)))
    assert small.left() == [(2, 2, 3), (2, 1, 3)]


# ---- what holds for all


@given(clusters(), queues(alone.map(lambda need: (replace(need, count=2),))), queues(), st.booleans(), st.data())
@settings(max_examples=150)
def test_what_is_filled_is_free_and_what_leaves_lets_somebody_start(
    nodes: list[NodeView], first: list[Pending], then: list[Pending], spans: bool, data: st.DataObject
) -> None:
    world = World()
    for each in nodes:
        world.set_node(each)
    for job in first:
        world.add(job)
    jobs = {job.job_id: job for job in first}
    elastics = {}
    for start in world.plan(0.0):
        found = _stretched(jobs[start.job_id], start, spans=spans, must=data.draw(st.integers(0, 1)))
        elastics[start.job_id] = found
        world.scheduler.elastic(start.job_id, found)
    for job in then:
        if job.job_id not in jobs:
            world.add(job)
    fills = world.scheduler.repair()
    _check_fills(world, elastics, jobs, fills)
    world.plan(0.0)
    changes = world.scheduler.adjust(0.0)
    grown = [change for change in changes if isinstance(change, Fill)]
    _check_fills(world, elastics, jobs, grown)
    for fill in grown:
        assert not _is_wanted(world, jobs[fill.job_id])
    _check_leaves(world, elastics, [change for change in changes if isinstance(change, Leave)])
    assert not [change for change in world.scheduler.adjust(0.0) if isinstance(change, Leave)]


def _stretched(job: Pending, start: Start, *, spans: bool, must: int) -> Elastic:
    uses = [Use(p.node_id, need.cpus or 0.0, need.memory_bytes or 0, p.gpus) for need, p in _placed(job, start)]
    need = replace(job.needs[0], count=1)
    return Elastic(
        job.job_id,
        job.user,
        job.groups,
        job.cluster,
        openings=tuple(Opening(2 + number, need, number < must) for number in range(2)),
        spares=(Spare(1, uses[1]),),
        least=1,
        now=2,
        most=4,
        nodes=tuple(dict.fromkeys(use.node_id for use in uses)),
        spans=spans,
    )


def _placed(job: Pending, start: Start) -> list[tuple[Need, Place]]:
    return list(zip(workers(job), start.places, strict=True))


def _check_fills(world: World, elastics: dict[int, Elastic], jobs: dict[int, Pending], fills: Sequence[Fill]) -> None:
    for fill in fills:
        found, job = elastics[fill.job_id], jobs[fill.job_id]
        (opening,) = [each for each in found.openings if each.worker == fill.worker]
        check_start(replace(job, needs=(opening.need,)), Start(fill.job_id, (fill.place,)), world.nodes)
        assert fill.place.node_id in found.nodes or found.spans
        if fill.place.node_id not in found.nodes and opening.need.image:
            assert {world.nodes[each].swarm for each in (*found.nodes, fill.place.node_id)} == {
                world.nodes[fill.place.node_id].swarm
            }
        old = world.running[fill.job_id]
        world.running[fill.job_id] = replace(old, uses=(*old.uses, fill.use))
    assert len({(fill.job_id, fill.worker) for fill in fills}) == len(fills)
    check_room(world.nodes, world.running.values())


def _is_wanted(world: World, job: Pending) -> bool:
    """Tell whether somebody who waits, and may start, could use a node that a job could."""
    waiting = [other for other in world.pending.values() if world.scheduler._queue.may_start(other)]
    mine = ask_of(job.needs[0], job.groups, ALIASES, job.user, job.cluster)
    theirs = [
        ask_of(need, other.groups, ALIASES, other.user, other.cluster) for other in waiting for need in other.needs
    ]
    return any(
        each.is_open and suits(each, mine) and any(suits(each, ask) for ask in theirs) for each in world.nodes.values()
    )


def _check_leaves(world: World, elastics: dict[int, Elastic], leaves: Sequence[Leave]) -> None:
    assert len({(each.job_id, each.worker) for each in leaves}) == len(leaves)
    for waiting in {each.for_job for each in leaves}:
        mine = [each for each in leaves if each.for_job == waiting]
        assert _starts(world, elastics, waiting, mine)
        for each in mine:
            assert not _starts(world, elastics, waiting, [other for other in mine if other is not each])


def _starts(world: World, elastics: dict[int, Elastic], waiting: int, leaves: Sequence[Leave]) -> bool:
    """Tell whether a job would start if these were gone and nobody else waited."""
    scheduler = Scheduler()
    scheduler.aliases(ALIASES)
    for each in world.nodes.values():
        scheduler.node(each)
    for job_id, running in world.running.items():
        uses = list(running.uses)
        for leave in leaves:
            if leave.job_id == job_id:
                (spare,) = [spare for spare in elastics[job_id].spares if spare.worker == leave.worker]
                uses.remove(spare.use)
        scheduler.started(replace(running, uses=tuple(uses)))
    scheduler.add(replace(world.pending[waiting], array=None))
    return bool(scheduler.plan(0.0))
