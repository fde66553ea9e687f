"""The index of nodes: it says at any time what an index made just now would say."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobd.scheduling.cluster import Cluster
from jobd.scheduling.model import Need, NodeView, Running, Use
from jobd.scheduling.room import ask_of
from jobd.scheduling.shelf import Bundle, Shelf
from tests.jobd.scheduling.worlds import ALIASES, alone, node

NAMES = ("n0", "n1", "n2")
events = st.lists(
    st.sampled_from(NAMES).flatmap(node)
    | st.builds(
        Running,
        job_id=st.integers(1, 4),
        user=st.just("ann"),
        uses=st.sampled_from(NAMES).flatmap(
            lambda name: st.builds(
                Use,
                node_id=st.just(f"id-{name}"),
                cpus=st.sampled_from([0.0, 2.5]),
                gpus=st.sampled_from([(), (f"{name}.0",), (f"{name}.1", f"{name}.2")]),
            ).map(lambda use: (use,))
        ),
        ends_at_s=st.sampled_from([None, 10.0, 20.0]),
    )
    | st.integers(1, 4)
    | st.sampled_from(NAMES),
    max_size=12,
)


def happen(cluster: Cluster, event: object) -> None:
    match event:
        case NodeView():
            cluster.set_node(event)
        case Running():
            cluster.start(event)
        case int():
            cluster.end(event)
        case str():
            cluster.forget_node(f"id-{event}")


@given(events, st.lists(st.tuples(alone, st.integers(1, 2)), min_size=1, max_size=2), st.data())
def test_a_shelf_that_was_kept_says_what_a_new_one_says(
    events: list[object], needs: list[tuple[Need, int]], data: st.DataObject
) -> None:
    parts = tuple((ask_of(need, frozenset(), ALIASES), count) for need, count in needs)
    cluster = Cluster()
    kept = Shelf(cluster, Bundle(parts), lambda view: view.swarm or None)
    other = Shelf(cluster, Bundle(((ask_of(Need(image=True), frozenset(), {}), 1),)), lambda view: "")
    for event in events:
        happen(cluster, event)
        other.refresh()
        if data.draw(st.booleans()):
            kept.refresh()
            kept.gains()
            kept.meets(other)
    kept.refresh()
    made = Shelf(cluster, Bundle(parts), lambda view: view.swarm or None)
    made.refresh()
    assert kept.spots == made.spots
    assert kept.totals == made.totals
    assert kept.gains() == made.gains() == sorted(kept.gains())
    assert kept.meets(other) == bool(kept.spots.keys() & other.spots.keys())
    for domain in (None, "s", "t"):
        assert list(kept.roomiest(domain, {})) == list(made.roomiest(domain, {}))
        for least in (1, 2):
            fitting = [spot.fullness for spot in made.spots.values() if spot.domain == domain and spot.copies >= least]
            assert kept.fullest(domain, least, {}) == min(fitting, default=None)


def test_nobody_is_told_any_more_once_a_shelf_is_closed() -> None:
    cluster = Cluster()
    shelf = Shelf(cluster, Bundle(((ask_of(Need(), frozenset(), {}), 1),)), lambda view: "")
    shelf.close()
    assert not cluster._watches


def test_shelves_meet_as_soon_as_a_node_comes_onto_the_other_one() -> None:
    cluster = Cluster()
    images, plain = (
        Shelf(cluster, Bundle(((ask_of(Need(image=image), frozenset(), {}), 1),)), lambda view: "")
        for image in (True, False)
    )
    view = NodeView("n", "n", True, frozenset({"docker"}), 4, 2**30)
    for runtimes, meets in (({"docker"}, False), ({"docker", "sandbox"}, True), ({"docker"}, False)):
        cluster.set_node(replace(view, runtimes=frozenset(runtimes)))
        images.refresh()
        plain.refresh()
        assert images.meets(plain) is meets
