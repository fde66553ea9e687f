"""Placement: what holds for every cluster, against trying every way to spread processes over nodes."""

from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.scheduling.cluster import Cluster
from jobd.scheduling.model import DOCKER, Gpu, Need, NodeView, Pending, Place, Use
from jobd.scheduling.placement import Placer, gang_of, uses_of
from tests.jobd.scheduling.worlds import ALIASES, GIB, World, clusters, dockered, fewest_nodes, jobs, queues, sandboxed

equal = st.tuples(sandboxed) | st.tuples(dockered)


def placer_of(nodes: list[NodeView]) -> Placer:
    cluster = Cluster()
    for view in nodes:
        cluster.set_node(view)
    return Placer(cluster)


@settings(max_examples=30)
@given(jobs(equal), queues(size=4), clusters(3))
def test_equal_processes_are_placed_if_there_is_any_way_and_on_as_few_nodes_as_there_can_be(
    job: Pending, queue: list[Pending], cluster: list[NodeView]
) -> None:
    world = World()
    for view in cluster:
        world.set_node(view)
    for each in queue:
        world.add(each)
    world.plan(0.0)
    placer = placer_of(cluster)
    for running in world.running.values():
        placer.cluster.start(running)
    places = placer.place(gang_of(job.needs, job.groups, ALIASES, job.user, job.cluster), {})
    best = fewest_nodes(job, cluster, list(world.running.values()))
    assert (None if places is None else len({place.node_id for place in places})) == best


def gpu_node(name: str, models: str, **changes: object) -> NodeView:
    view = NodeView(
        name,
        name,
        online=True,
        runtimes=frozenset({DOCKER}),
        cpus=8,
        memory_bytes=16 * GIB,
        gpus=tuple(Gpu(f"{name}.{index}", model) for index, model in enumerate(models)),
        swarm="s",
    )
    return replace(view, **changes)  # type: ignore[arg-type]


def image(count: int = 1, *gpus: tuple[int, str | None]) -> Need:
    return Need(count, gpus=gpus, image="x")


def test_what_can_take_any_gpu_leaves_those_that_others_name() -> None:
    placer = placer_of([gpu_node("n", "AB")])
    places = placer.place(gang_of((image(1, (1, None)), image(1, (1, "A"))), frozenset(), {}), {})
    assert places == (Place("n", ("n.1",)), Place("n", ("n.0",)))


def test_every_process_has_its_own_gpus_of_all_items() -> None:
    placer = placer_of([gpu_node("n", "AAABBB")])
    places = placer.place(gang_of((image(2, (1, "A"), (1, "B"), (1, None)),), frozenset(), {}), {})
    assert places is not None
    taken = [uuid for place in places for uuid in place.gpus]
    assert len(taken) == len(set(taken)) == 6


def test_the_domain_with_the_fewest_nodes_is_taken() -> None:
    small = [gpu_node(f"a{index}", "A", swarm="small") for index in range(3)]
    placer = placer_of([*small, gpu_node("b0", "AA", swarm="big"), gpu_node("b1", "AA", swarm="big")])
    places = placer.place(gang_of((image(3, (1, "A")),), frozenset(), {}), {})
    assert places is not None
    assert {place.node_id for place in places} == {"b0", "b1"}


def test_what_a_gang_has_of_each_node_is_summed() -> None:
    placer = placer_of([gpu_node("n0", "AA"), gpu_node("n1", "A")])
    need = Need(3, cpus=0.1, memory_bytes=GIB, gpus=((1, "A"),), image="x")
    gang = gang_of((need,), frozenset(), {})
    places = placer.place(gang, {})
    assert places is not None
    assert uses_of(gang, places) == (
        Use("n0", 0.2, 2 * GIB, ("n0.0", "n0.1"), 2),
        Use("n1", 0.1, GIB, ("n1.0",), 1),
    )


def test_places_stand_by_worker_index_whatever_the_order_of_placing() -> None:
    placer = placer_of([gpu_node("n0", "A"), gpu_node("n1", "")])
    needs = (image(), image(1, (1, "A")), image())
    places = placer.place(gang_of(needs, frozenset(), {}), {})
    assert places is not None
    assert [len(place.gpus) for place in places] == [0, 1, 0]
