"""Backfill, against a planner that looks at everything each time; single plans are pinned in scripts/scheduler."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.scheduling.model import Gpu, Need, NodeView, Pending
from jobd.scheduling.scheduler import plan
from tests.jobd.scheduling.worlds import ALIASES, GIB, NaivePlanner, World, clusters, queues

named = st.lists(st.tuples(st.integers(1, 3), st.sampled_from(["A", "B", "gtx"])), max_size=2).map(tuple)
one = st.builds(Need, gpus=named) | st.builds(
    Need,
    gpus=named,
    cpus=st.sampled_from([None, 1.0, 2.5]),
    memory_bytes=st.sampled_from([None, GIB]),
    image=st.sampled_from(["x", "y"]),
)


def for_all(view: NodeView) -> NodeView:
    return replace(view, gpus=tuple(Gpu(gpu.uuid, gpu.model) for gpu in view.gpus))


@settings(max_examples=40)
@given(queues(st.tuples(one), size=14), clusters(), st.sampled_from([0.0, 3000.0]), st.integers(0, 10))
def test_jobs_of_one_process_start_as_the_rules_say(
    queue: list[Pending], cluster: list[NodeView], past: float, count: int
) -> None:
    cluster = [for_all(view) for view in cluster]
    queue = [replace(job, array=None) for job in queue]
    world = World()
    for view in cluster:
        world.set_node(view)
    for job in queue[:count]:
        world.add(job)
    world.plan(0.0)
    for job in queue[count:]:
        world.add(job)
    world.set_usage("ann", past)
    naive = NaivePlanner(cluster, world.running.values(), {"ann": past}, 60.0)
    naive.reserved = list(world.scheduler._queue.reserved)
    expected = naive.plan(world.pending.values())
    assert [(start.job_id, start.places[0].node_id) for start in world.plan(60.0)] == expected
    for kept in naive.kept:
        why = world.scheduler.why(kept.job.job_id, 60.0)
        assert why.earliest_start_s is None or why.earliest_start_s <= max(60.0, kept.at_s)


def test_a_gang_of_different_processes_is_kept_a_place_as_well() -> None:
    view = NodeView(
        "n0", "n0", online=True, runtimes=frozenset({"docker"}), cpus=8, memory_bytes=16 * GIB, swarm="s",
        gpus=(Gpu("a", "A"), Gpu("b", "A")),
    )  # fmt: skip
    nodes = [view, replace(view, node_id="n1", name="n1", gpus=(Gpu("c", "A"), Gpu("d", "A")))]
    first = Pending(1, "ann", 50, 1.0, (Need(gpus=((2, "A"),), image="x"),), max_duration_s=100.0)
    second = replace(first, job_id=2, arrived=2.0, max_duration_s=300.0)
    gang = replace(first, job_id=3, arrived=3.0, needs=(Need(2, gpus=((1, "A"),), image="x"), Need(image="x")))
    gang = replace(gang, needs=(*gang.needs, Need(gpus=((1, "A"),), memory_bytes=GIB, image="x")))
    made = plan([first, second, gang], nodes, [], 0.0, aliases=ALIASES)
    assert [start.job_id for start in made.starts] == [1, 2]
    assert made.reasons[3].earliest_start_s == 300.0


def test_a_large_job_does_not_wait_for_ever_between_two_users_who_take_turns() -> None:
    world = World()
    world.set_node(NodeView("n", "n", True, frozenset({"sandbox"}), 8, GIB, gpus=(Gpu("a", "A"), Gpu("b", "A"))))
    large = Pending(1, "ann", 50, 3.0, (Need(gpus=((2, "A"),)),))
    started: list[int] = []
    for now in range(60):
        for job_id in [job.job_id for job in world.running.values() if job.ends_at_s == now]:
            world.end(job_id)
        if now == 3:
            world.add(large)
        if now % 3 == 0:
            for user, number in (("ann", 100 + now), ("bob", 200 + now)):
                world.add(Pending(number, user, 50, float(now), (Need(gpus=((1, "A"),)),), max_duration_s=7.0))
        started += [start.job_id for start in world.plan(float(now))]
    assert 1 in started


def test_for_whom_nodes_are_kept_is_the_first_of_its_priority_until_it_starts() -> None:
    world = World()
    world.set_node(NodeView("n", "n", True, frozenset({"sandbox"}), 8, GIB, gpus=(Gpu("a", "A"), Gpu("b", "A"))))
    small = Pending(1, "ann", 50, 1.0, (Need(gpus=((1, "A"),)),), max_duration_s=100.0)
    large = replace(small, job_id=2, arrived=2.0, needs=(Need(gpus=((2, "A"),)),))
    world.add(small)
    world.add(large)
    world.plan(0.0)
    world.add(replace(small, job_id=3, user="bob", arrived=3.0))
    assert world.scheduler.queue(1.0) == [2, 3]
    assert world.plan(1.0) == []
    world.add(replace(large, job_id=4, priority=60, arrived=4.0))
    assert world.plan(2.0) == []
    world.end(1)
    assert [start.job_id for start in world.plan(3.0)] == [4]
