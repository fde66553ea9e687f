"""Who machines are: what holds whatever they say; what each rule means is in scripts/identity."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobd.identity import (
    CLUSTER_NAME_MAX,
    CLUSTERS_MAX,
    MACHINES_MAX,
    Claim,
    Cluster,
    Instance,
    check_cluster_name,
    labels,
    meant,
    settle,
)
from pfs.errors import Kind, PfsError

OWNERS, TOKENS = ("", "ann"), ("a", "b", "c", "d")
NAMES, CLUSTERS = ("", "n0", "n1"), ("", "lab", "den")
IDS = ("", "cm1", "cm2", "cl1", "cl2")

hellos = st.tuples(
    st.just("hello"),
    st.sampled_from(OWNERS),
    st.builds(
        Claim,
        st.sampled_from(NAMES),
        st.sampled_from(IDS),
        st.sampled_from(CLUSTERS),
        st.sampled_from(IDS),
        st.sampled_from(TOKENS),
        st.booleans(),
    ),
)
changes = st.tuples(st.sampled_from(("away", "work", "idle")), st.sampled_from(OWNERS), st.sampled_from(TOKENS))


class World:
    """What a server keeps."""

    def __init__(self) -> None:
        self.instances: dict[str, Instance] = {}
        self.clusters: dict[str, Cluster] = {}

    def hello(self, owner: str, claim: Claim) -> None:
        nodes = {each.node_id for each in self.instances.values()}
        fresh = {"fresh_node": f"cm{len(nodes) + 1}", "fresh_cluster": f"cl{len(self.clusters) + 1}"}
        before = dict(self.instances)
        try:
            found = settle(claim, owner, before.values(), self.clusters.values(), **fresh)
        except PfsError:
            return
        taken = before.get(found.id)
        if taken is not None and taken.token != claim.token:
            # nobody's place is taken who is here, or has work
            assert not taken.is_here
            assert not taken.has_work or not taken.token
        mine = [each for each in before.values() if (each.token, each.owner) == (claim.token, owner)]
        if any(each.has_work for each in mine):
            assert [each.id for each in mine] == [found.id]
        if found.made is not None:
            self.clusters[found.made.id] = found.made
        if found.left:
            self.instances[found.left] = replace(before[found.left], token="", is_here=False)
        for each in before.values() if found.moved else ():
            if each.node_id == found.node_id:
                self.instances[each.id] = replace(each, name=found.name, cluster_id=found.cluster_id)
        work = taken is not None and taken.has_work
        who = (found.id, found.node_id, found.name, found.cluster_id, owner, claim.token, found.said)
        self.instances[found.id] = Instance(*who, is_here=True, has_work=work)

    def change(self, what: str, owner: str, token: str) -> None:
        for each in list(self.instances.values()):
            if (each.token, each.owner) == (token, owner):
                now = {"away": {"is_here": False}, "work": {"has_work": True}, "idle": {"has_work": False}}[what]
                self.instances[each.id] = replace(each, **now)

    def check(self) -> None:
        instances, clusters = self.instances.values(), self.clusters.values()
        known = [(each.owner, each.token) for each in instances if each.token]
        assert len(known) == len(set(known))
        names = {(each.cluster_id, each.name): each.node_id for each in instances}
        for each in instances:
            assert names[each.cluster_id, each.name] == each.node_id
            assert self.clusters[each.cluster_id].owner == each.owner
            assert each.node_id in self.instances
            assert each.name
        for owner in {cluster.owner for cluster in clusters}:
            own = [cluster for cluster in clusters if cluster.owner == owner]
            assert [cluster.is_default for cluster in own].count(True) == 1
            assert len({cluster.name for cluster in own}) == len(own)
        nodes = {each.node_id: (each.name, each.cluster_id) for each in instances}
        assert len(set(labels(nodes, clusters).values())) == len(nodes)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(hellos, hellos, changes), max_size=30))
def test_machines_names_and_clusters_are_never_mixed_up(steps) -> None:
    world = World()
    for what, owner, rest in steps:
        if what == "hello":
            world.hello(owner, rest)
        else:
            world.change(what, owner, rest)
        world.check()


@given(st.text(max_size=CLUSTER_NAME_MAX + 1))
def test_a_clusters_name_is_one_line_that_can_be_seen(text: str) -> None:
    if 0 < len(text) <= CLUSTER_NAME_MAX and text.isprintable() and text == text.strip():
        assert check_cluster_name(text) == text
    else:
        with pytest.raises(PfsError) as caught:
            check_cluster_name(text)
        assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    ("owner", "text", "id_"),
    [
        ("ann", "lab", "cl2"),
        ("bob", "lab", "cl1"),
        ("bob", "cl2", "cl2?"),
        ("ann", "cl1", "cl1"),
        ("bob", "den", "den"),
    ],
)
def test_a_user_means_one_of_their_own_clusters_first_and_nobody_elses(owner: str, text: str, id_: str) -> None:
    clusters = [Cluster("cl1", "", "lab", is_default=True), Cluster("cl2", "ann", "lab", is_default=True)]
    assert meant(clusters, owner, text) == id_.removesuffix("?")


@pytest.mark.parametrize(("owner", "refused"), [("ann", True), ("bob", False), ("", False)])
def test_a_user_has_so_many_machines_and_takes_the_place_of_one_that_is_away(owner, refused):
    there = [Instance(f"cm{n}", f"cm{n}", f"n{n}", "cl1", "ann", f"t{n}", is_here=n > 0) for n in range(MACHINES_MAX)]
    clusters = [Cluster("cl1", "ann", "lab", True), Cluster("cl2", "", "all", True)]

    def come(name, token="new"):
        claim = Claim(name, token=token)
        return settle(claim, owner, there, clusters, fresh_node="fresh", fresh_cluster="clfresh").id

    if not refused:
        assert come("more") == "fresh"
        return
    for name in ("more", "n1"):  # a node of its own, and one more instance of a node that is here
        with pytest.raises(PfsError, match=f"has {MACHINES_MAX} machines already: give this one the --name") as caught:
            come(name)
        assert caught.value.kind is Kind.DENIED
    assert come("n0") == "cm0"
    assert come("n1", token="t1") == "cm1"


@pytest.mark.parametrize(("owner", "refused"), [("ann", True), ("bob", False), ("", False)])
def test_a_user_has_so_many_clusters(owner, refused):
    clusters = [Cluster(f"cl{n}", "ann", f"c{n}", n == 0) for n in range(CLUSTERS_MAX)]

    def come(cluster):
        claim = Claim("n0", cluster=cluster, token="new")
        return settle(claim, owner, [], clusters, fresh_node="fresh", fresh_cluster="clfresh").cluster_id

    if not refused:
        assert come("more") == "clfresh"
        return
    with pytest.raises(PfsError, match=f"the account of ann has {CLUSTERS_MAX} clusters already") as caught:
        come("more")
    assert caught.value.kind is Kind.DENIED
    assert come("c7") == "cl7"
