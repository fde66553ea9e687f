"""The scheduler: what holds for every cluster, queue and history; single plans are pinned in scripts/scheduler."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.scheduling.model import SANDBOX, Gpu, IllGpu, Need, NodeView, Pending, Running, Use
from jobd.scheduling.scheduler import Scheduler, plan
from tests.jobd.scheduling.worlds import (
    ALIASES,
    World,
    alone,
    check_limits,
    check_room,
    check_start,
    clusters,
    is_there,
    jobs,
    limits,
    node,
    queues,
)

NODE_NAMES = ("n0", "n1", "n2", "n3")

# jobs of few kinds, of which many are equal, and of all kinds
equal = jobs(st.sampled_from([(Need(gpus=((1, "A"),)),), (Need(2, gpus=((2, None),)),)])).map(
    lambda job: replace(job, groups=frozenset(), max_duration_s=None)
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("add"), jobs()),
        st.tuples(st.just("add"), equal),
        st.tuples(st.just("node"), st.sampled_from(NODE_NAMES).flatmap(node)),
        st.tuples(st.just("forget"), st.sampled_from(NODE_NAMES)),
        st.tuples(st.just("remove"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("end"), st.integers(0, 9)),
        st.tuples(st.just("extend"), st.integers(0, 9)),
        st.tuples(st.just("usage"), st.integers(0, 4)),
        st.tuples(st.just("limits"), limits()),
        st.tuples(st.just("plan"), st.integers(0, 100)),
        st.tuples(st.just("plan"), st.integers(0, 100)),
    ),
    max_size=40,
)


def other_than_before(old: NodeView, new: NodeView) -> NodeView:
    """Return a node that has the same GPUs as before; other ones of them are well."""
    ill = {each.gpu.uuid for each in new.ill}
    gpus = old.at_its_best().gpus
    return replace(
        old,
        online=new.online,
        closed=new.closed,
        groups=new.groups,
        owner=new.owner,
        gpus=tuple(gpu for gpu in gpus if gpu.uuid not in ill),
        ill=tuple(IllGpu(gpu, "it is lost") for gpu in gpus if gpu.uuid in ill),
    )


def do(world: World, word: str, what: object) -> None:
    match word, what:
        case "add", Pending():
            world.add(what)
        case "node", NodeView():
            # a node that loses GPUs or room under a running job is no plan of the scheduler's
            old = world.nodes.get(what.node_id)
            world.set_node(what if old is None else other_than_before(old, what))
        case "forget", str() if not any(
            use.node_id == f"id-{what}" for job in world.running.values() for use in job.uses
        ):
            world.forget_node(f"id-{what}")
        case "remove", int() if world.pending:
            world.remove(sorted(world.pending)[what % len(world.pending)])
        case "end", int() if world.running:
            world.end(sorted(world.running)[what % len(world.running)])
        case "extend", int() if world.running:
            world.extend(sorted(world.running)[what % len(world.running)], [None, 300.0, 50.0][what % 3])
        case "limits", (dict() as limits, dict() as members):
            world.set_limits(limits, members)
        case "usage", int():
            world.set_usage(("ann", "bob")[what % 2], what * 10_000.0)


@settings(max_examples=30)
@given(clusters(), steps)
def test_whatever_happened_a_plan_gives_away_only_what_is_there_and_forgets_nothing(
    cluster: list[NodeView], steps: list[tuple[str, object]]
) -> None:
    world, now_s = World(), 0.0
    for view in cluster:
        world.set_node(view)
    for word, what in [*steps, ("plan", 1)]:
        if word != "plan":
            do(world, word, what)
            continue
        assert isinstance(what, int)
        now_s += what
        fresh, waited = world.fresh(), dict(world.pending)
        starts = world.plan(now_s)
        assert starts == fresh.plan(now_s)
        for start in starts:
            check_start(waited[start.job_id], start, world.nodes)
        check_room(world.nodes, world.running.values())
        check_limits(world, {start.job_id for start in starts})
        assert world.scheduler.queue(now_s) == fresh.queue(now_s)
        assert sorted(world.scheduler.queue(now_s)) == sorted(world.pending)
        for place, job_id in enumerate(world.scheduler.queue(now_s), 1):
            why = world.scheduler.why(job_id, now_s)
            assert why == fresh.why(job_id, now_s)
            assert why.place == place
            assert why.text
            assert why.earliest_start_s is None or why.earliest_start_s >= now_s
        assert world.scheduler.lost(now_s) == fresh.lost(now_s)
        for job in world.pending.values():
            assert world.scheduler.refuse(job) == fresh.refuse(job)


@given(queues(), clusters())
def test_an_array_has_no_more_tasks_at_once_than_it_may(queue: list[Pending], cluster: list[NodeView]) -> None:
    made = plan(queue, cluster, [], 0.0, aliases=ALIASES)
    arrays = {job.job_id: job.array for job in queue}
    started = [arrays[start.job_id] for start in made.starts]
    assert all(array[1] is None or started.count(array) <= array[1] for array in started if array is not None)


@given(jobs(), clusters())
def test_what_starts_anywhere_was_never_refused(job: Pending, cluster: list[NodeView]) -> None:
    scheduler = Scheduler()
    scheduler.aliases(ALIASES)
    for view in cluster:
        scheduler.node(view)
    scheduler.add(job)
    refused = scheduler.refuse(job)
    if scheduler.plan(0.0):
        assert refused is None
    else:
        assert scheduler.why(job.job_id, 0.0).earliest_start_s is None
        if refused is not None:
            assert refused in scheduler.why(job.job_id, 0.0).text


@given(jobs(), clusters())
def test_what_is_not_refused_starts_once_all_nodes_are_there_and_idle(job: Pending, cluster: list[NodeView]) -> None:
    scheduler = Scheduler()
    scheduler.aliases(ALIASES)
    for view in cluster:
        scheduler.node(view)
    if scheduler.refuse(job) is None:
        for view in cluster:
            scheduler.node(view.at_its_best())
        scheduler.add(job)
        able = [
            view
            for view in cluster
            if is_there(view, job) and all(("docker" if n.image else "sandbox") in view.runtimes for n in job.needs)
        ]
        assert scheduler.plan(0.0) or not able


@settings(max_examples=30)
@given(queues(st.lists(alone, min_size=1, max_size=1).map(tuple)), clusters(), st.integers(0, 7))
def test_who_is_behind_keeps_nobody_waiting_longer(queue: list[Pending], cluster: list[NodeView], count: int) -> None:
    """The first that waits would start no later if nobody were behind it."""
    first, others = queue[:count], queue[count:]
    before = plan(first, cluster, [], 0.0, aliases=ALIASES)
    world = World()
    for view in cluster:
        world.set_node(view)
    for job in first:
        world.add(job)
    world.plan(0.0)
    # each has a priority of its own: whose turn it is does not change with what starts
    ranked = [replace(job, priority=100 - place, array=None) for place, job in enumerate(others)]
    assert [start.job_id for start in before.starts] == [*world.running]
    running = list(world.running.values())
    all_made = plan(ranked, cluster, running, 10.0, aliases=ALIASES)
    head = next((job for job in ranked if job.job_id in all_made.reasons), None)
    if head is None:
        return
    ahead = [job for job in ranked if job.priority >= head.priority]
    without = plan(ahead, cluster, running, 10.0, aliases=ALIASES).reasons[head.job_id]
    assert without.earliest_start_s is None or all_made.reasons[head.job_id].earliest_start_s is not None
    if without.earliest_start_s is not None:
        assert (all_made.reasons[head.job_id].earliest_start_s or 0) <= without.earliest_start_s


def one_node(**changes: object) -> NodeView:
    gpus = tuple(Gpu(f"g{index}", "A") for index in range(4))
    view = NodeView("n", "n", online=True, runtimes=frozenset({SANDBOX}), cpus=4, memory_bytes=2**30, gpus=gpus)
    return replace(view, **changes)  # type: ignore[arg-type]


def waiting(job_id: int, gpus: int = 1, **changes: object) -> Pending:
    job = Pending(job_id, "ann", 50, float(job_id), (Need(gpus=((gpus, "A"),)),))
    return replace(job, **changes)  # type: ignore[arg-type]


def test_a_plan_counts_as_carried_out_until_it_is_said_to_be_over() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node())
    scheduler.add(waiting(1, 4))
    assert [start.job_id for start in scheduler.plan(0.0)] == [1]
    scheduler.add(waiting(2, 4))
    assert scheduler.plan(1.0) == []
    scheduler.ended(1)
    assert [start.job_id for start in scheduler.plan(2.0)] == [2]


def test_an_extended_time_limit_moves_the_earliest_start() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node())
    run = Running(1, "ann", (Use("n", gpus=("g0",)),), 100.0)
    scheduler.started(run)
    scheduler.add(waiting(2, 4))
    assert scheduler.plan(0.0) == []
    assert scheduler.why(2, 0.0).earliest_start_s == 100.0
    scheduler.started(replace(run, ends_at_s=500.0))
    assert scheduler.why(2, 0.0).earliest_start_s == 500.0


def test_a_reason_does_not_change_with_the_clock_alone() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node())
    scheduler.started(Running(1, "ann", (Use("n", gpus=("g0",)),), 100.0))
    scheduler.add(waiting(2, 4))
    scheduler.add(waiting(3))
    assert [scheduler.why(job_id, 0.0).text for job_id in (2, 3)] == [
        scheduler.why(job_id, 7.0).text for job_id in (2, 3)
    ]


def test_a_changed_job_is_another_one_at_its_old_place() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node(online=False))
    for number in (1, 2, 3):
        scheduler.add(waiting(number))
    scheduler.add(waiting(3, priority=60))
    assert scheduler.queue(0.0) == [3, 1, 2]
    scheduler.add(waiting(3))
    assert scheduler.queue(0.0) == [1, 2, 3]
    scheduler.remove(2)
    assert scheduler.queue(0.0) == [1, 3]
    with pytest.raises(KeyError):
        scheduler.why(2, 0.0)


def test_what_runs_on_a_node_that_was_forgotten_holds_its_places_when_it_is_back() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node())
    scheduler.started(Running(1, "ann", (Use("n", gpus=("g0", "g1")), Use("n", gpus=("g2",)))))
    scheduler.forget_node("n")
    scheduler.node(one_node())
    scheduler.add(waiting(2, 2))
    scheduler.add(waiting(3, 1, max_duration_s=5.0))
    assert [start.job_id for start in scheduler.plan(0.0)] == [3]


def test_a_task_of_an_array_that_ends_lets_the_next_one_start() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node())
    for number in (1, 2, 3):
        scheduler.add(waiting(number, array=(9, 1)))
    assert [start.job_id for start in scheduler.plan(0.0)] == [1]
    assert scheduler.plan(1.0) == []
    scheduler.ended(1)
    assert [start.job_id for start in scheduler.plan(2.0)] == [2]


def test_a_new_alias_makes_startable_what_named_it() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node())
    scheduler.add(Pending(1, "ann", 50, 0.0, (Need(gpus=((1, "gtx"),)),)))
    assert scheduler.plan(0.0) == []
    assert scheduler.refuse(Pending(2, "ann", 50, 0.0, (Need(gpus=((1, "gtx"),)),))) is not None
    scheduler.aliases({"gtx": "A"})
    assert [start.job_id for start in scheduler.plan(0.0)] == [1]


def test_a_node_that_has_more_than_before_counts_as_it_is_now() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node())
    scheduler.add(waiting(1, 5))
    assert scheduler.plan(0.0) == []
    assert scheduler.refuse(waiting(2, 5)) is not None
    scheduler.node(one_node(gpus=tuple(Gpu(f"g{index}", "A") for index in range(8))))
    assert scheduler.refuse(waiting(2, 5)) is None
    assert [start.job_id for start in scheduler.plan(1.0)] == [1]
    scheduler.add(waiting(2))
    scheduler.forget_node("n")
    assert scheduler.why(2, 1.0).text.startswith("no node is registered yet")


def test_who_waits_for_a_job_that_should_be_over_already_is_told_when_that_should_have_been() -> None:
    scheduler = Scheduler()
    scheduler.node(one_node())
    scheduler.started(Running(1, "ann", (Use("n", gpus=("g0",)),), 100.0))
    scheduler.add(waiting(2, 4))
    assert [scheduler.why(2, now_s).earliest_start_s for now_s in (90.0, 130.0, 140.0)] == [100.0] * 3
