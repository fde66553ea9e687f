"""The index of nodes: it says at any time what an index made just now would say."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from jobd.scheduling.cluster import Cluster
from jobd.scheduling.model import Need, NodeView, Running, Use
from jobd.scheduling.room import ask_of
from jobd.scheduling.shelf import Bundle, Enough, Shelf
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
    other = Shelf(cluster, Bundle(((ask_of(Need(image="x"), frozenset(), {}), 1),)), lambda view: "")
    for event in events:
        happen(cluster, event)
        other.refresh()
        if data.draw(st.booleans()):
            kept.refresh()
            kept.enough(data.draw(st.integers(1, 4)))
            kept.meets(other)
    kept.refresh()
    made = Shelf(cluster, Bundle(parts), lambda view: view.swarm or None)
    made.refresh()
    assert kept.spots == made.spots
    assert kept.totals == made.totals
    assert kept.gains() == made.gains() == sorted(kept.gains())
    for count in (1, 2, 3, 4):
        assert _told(kept.enough(count)) == _told(made.enough(count))
        assert kept.holds(count) == any(
            spot.copies >= count or (spot.domain is not None and kept.totals.get(spot.domain, 0) >= count)
            for spot in kept.spots.values()
        )
    assert kept.meets(other) == bool(kept.spots.keys() & other.spots.keys())
    for domain in (None, "s", "t"):
        assert list(kept.roomiest(domain, {})) == list(made.roomiest(domain, {}))
        for least in (1, 2):
            fitting = [spot.fullness for spot in made.spots.values() if spot.domain == domain and spot.copies >= least]
            assert kept.fullest(domain, least, {}) == min(fitting, default=None)


def _told(enough: Enough | None) -> object:
    return None if enough is None else (enough.until, enough.nodes)


@given(events, alone, st.integers(1, 2))
def test_what_will_fit_is_counted_as_it_is_once_jobs_are_over(events: list[object], need: Need, count: int) -> None:
    bundle = Bundle(((ask_of(need, frozenset({"ml"}), ALIASES), count),))
    cluster = Cluster()
    for event in events:
        happen(cluster, event)
    for node_id in cluster.views:
        later = [(time_s, bundle.copies(room)) for time_s, room in cluster.rooms_later(node_id)]
        assert list(bundle.copies_later(cluster, node_id)) == later


def test_when_enough_will_fit_is_remembered_while_nothing_changes_that_comes_before() -> None:
    cluster = Cluster()
    shelf = Shelf(cluster, Bundle(((ask_of(Need(), frozenset(), {}), 1),)), lambda view: "")
    for name, ends_at_s in (("a", 10.0), ("b", 20.0), ("c", 30.0)):
        cluster.set_node(NodeView(name, name, True, frozenset({"sandbox"}), 4, 2**30, max_processes=1))
        cluster.start(Running(ord(name), "ann", (Use(name),), ends_at_s))
    shelf.refresh()
    two = shelf.enough(2)
    assert two is not None
    assert _told(two) == ((20.0, "b", 1), {"a", "b"})
    cluster.start(Running(ord("c"), "ann", (Use("c"),), 25.0))
    shelf.refresh()
    assert shelf.enough(2) is two
    cluster.start(Running(ord("c"), "ann", (Use("c"),), 15.0))
    shelf.refresh()
    assert _told(shelf.enough(2)) == ((15.0, "c", 1), {"a", "c"})
    assert shelf.enough(4) is None
    cluster.set_node(NodeView("d", "d", True, frozenset({"sandbox"}), 4, 2**30, max_processes=1))
    shelf.refresh()
    assert _told(shelf.enough(4)) == ((20.0, "b", 1), {"a", "b", "c"})


def test_nobody_is_told_any_more_once_a_shelf_is_closed() -> None:
    cluster = Cluster()
    shelf = Shelf(cluster, Bundle(((ask_of(Need(), frozenset(), {}), 1),)), lambda view: "")
    shelf.close()
    assert not cluster._watches


def test_shelves_meet_as_soon_as_a_node_comes_onto_the_other_one() -> None:
    cluster = Cluster()
    images, plain = (
        Shelf(cluster, Bundle(((ask_of(Need(image=image), frozenset(), {}), 1),)), lambda view: "")
        for image in ("x", "")
    )
    view = NodeView("n", "n", True, frozenset({"docker"}), 4, 2**30)
    for runtimes, meets in (({"docker"}, False), ({"docker", "sandbox"}, True), ({"docker"}, False)):
        cluster.set_node(replace(view, runtimes=frozenset(runtimes)))
        images.refresh()
        plain.refresh()
        assert images.meets(plain) is meets


def test_that_enough_fits_now_is_not_remembered() -> None:
    cluster = Cluster()
    shelf = Shelf(cluster, Bundle(((ask_of(Need(), frozenset(), {}), 1),)), lambda view: "")
    cluster.set_node(NodeView("a", "a", True, frozenset({"sandbox"}), 4, 2**30, max_processes=1))
    shelf.refresh()
    assert (shelf.holds(1), shelf.enough(1)) == (True, None)
    cluster.start(Running(1, "ann", (Use("a"),), 10.0))
    shelf.refresh()
    assert _told(shelf.enough(1)) == ((10.0, "a", 1), {"a"})
