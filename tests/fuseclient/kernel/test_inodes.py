"""The inode table: single rules, and a long walk beside a model of plain dictionaries."""

import itertools
from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fuseclient.kernel.inodes import NUMBER_MAX, ROOT, Base, Inode, Inodes, Node
from pfs.api import Attr, NodeType
from pfs.errors import Kind, PfsError

DC1, DC2 = ROOT + 1, ROOT + 2


def table() -> Inodes:
    return Inodes(["dc1", "dc2"])


def test_the_root_leads_to_the_datacenters() -> None:
    inodes = table()
    assert [inodes.child(ROOT, name) for name in ("dc1", "dc3")] == [inodes.get(DC1), None]
    assert (inodes.places(DC1), inodes.places(ROOT)) == ([("dc1", "")], [])


def test_the_fixed_inodes_are_never_forgotten() -> None:
    inodes = table()
    for number in (ROOT, DC1, DC2):
        inodes.forget(number, 100)
    assert len(inodes) == 3


def test_the_root_may_be_a_folder_and_is_known_as_its_node() -> None:
    inodes = Inodes(["dc1"], Base("dc1", "home/ann", 77))
    assert (inodes.places(ROOT), inodes.of_node("dc1", 77)) == ([("dc1", "home/ann")], ROOT)
    assert not inodes.get(ROOT).fixed
    deep = inodes.enter(inodes.enter(ROOT, "sub", 5, sole=True).number, "a", 6, sole=True)
    assert inodes.places(deep.number) == [("dc1", "home/ann/sub/a")]
    inodes.forget(ROOT, 100)
    inodes.rename(ROOT, "sub", ROOT, "other")
    assert inodes.path(deep) == "home/ann/other/a"


def test_the_root_may_be_a_whole_datacenter() -> None:
    inodes = Inodes(["dc1"], Base("dc1", "", None))
    assert (inodes.places(ROOT), inodes.get(ROOT).fixed, len(inodes)) == ([("dc1", "")], True, 1)
    assert inodes.path(inodes.enter(ROOT, "jobs", 5, sole=True)) == "jobs"


def test_the_same_node_is_the_same_inode() -> None:
    inodes = table()
    first = inodes.enter(DC1, "a", 1000, sole=True)
    assert inodes.enter(DC1, "a", 1000, sole=True) is first
    assert (first.lookups, first.number) == (2, 1000)


def test_the_same_number_in_two_datacenters_is_two_inodes() -> None:
    inodes = table()
    first, second = inodes.enter(DC1, "a", 1000, sole=True), inodes.enter(DC2, "a", 1000, sole=True)
    assert first.number != second.number
    assert inodes.places(second.number) == [("dc2", "a")]


@pytest.mark.parametrize("node_id", [0, ROOT, DC1, NUMBER_MAX + 1])
def test_a_number_that_means_something_else_to_the_kernel_is_not_given_out(node_id: int) -> None:
    inodes = table()
    number = inodes.enter(DC1, "a", node_id, sole=True).number
    assert DC2 < number <= NUMBER_MAX
    assert number != node_id


def test_a_number_is_never_given_to_another_node_with_the_same_generation() -> None:
    inodes, seen = table(), set()
    for datacenter, node_id in itertools.product((DC1, DC2), (3, 4, 5, 1000, 1000, 4)):
        inode = inodes.enter(datacenter, "a", node_id, sole=True)
        seen.add((inode.number, inode.generation, datacenter, node_id))
        inodes.forget(inode.number, 1)
    assert len({(number, generation) for number, generation, _, _ in seen}) == len(
        {(number, generation, datacenter, node_id) for number, generation, datacenter, node_id in seen}
    )


def test_a_name_that_leads_to_another_node_is_another_inode() -> None:
    inodes = table()
    old = inodes.enter(DC1, "a", 1000, sole=True)
    new = inodes.enter(DC1, "a", 1001, sole=True)
    assert (inodes.places(old.number), inodes.places(new.number)) == ([], [("dc1", "a")])


def test_a_node_that_can_have_one_name_has_moved_when_it_turns_up_elsewhere() -> None:
    inodes = table()
    inode = inodes.enter(DC1, "a", 1000, sole=True)
    inodes.enter(DC1, "b", 1000, sole=True)
    assert inodes.places(inode.number) == [("dc1", "b")]
    assert inodes.child(DC1, "a") is None


def test_a_hard_link_has_all_its_names_the_newest_first() -> None:
    inodes = table()
    inode = inodes.enter(DC1, "a", 1000, sole=False)
    inodes.enter(DC1, "b", 1000, sole=False)
    assert inodes.places(inode.number) == [("dc1", "b"), ("dc1", "a")]
    inodes.rename(DC1, "a", DC1, "b")
    assert inodes.places(inode.number) == [("dc1", "b"), ("dc1", "a")]
    inodes.unlink(DC1, "b")
    assert inodes.places(inode.number) == [("dc1", "a")]


def test_renaming_a_directory_moves_all_below_it() -> None:
    inodes = table()
    a = inodes.enter(DC1, "a", 1000, sole=True)
    b = inodes.enter(a.number, "b", 1001, sole=True)
    f = inodes.enter(b.number, "f", 1002, sole=True)
    d = inodes.enter(DC1, "d", 1003, sole=True)
    inodes.rename(DC1, "a", d.number, "z")
    assert inodes.places(f.number) == [("dc1", "d/z/b/f")]


def test_what_stood_below_a_lost_directory_has_no_place() -> None:
    inodes = table()
    a = inodes.enter(DC1, "a", 1000, sole=True)
    f = inodes.enter(a.number, "f", 1001, sole=True)
    inodes.unlink(DC1, "a")
    assert inodes.places(f.number) == []
    inodes.enter(DC1, "b", 1000, sole=True)
    assert inodes.places(f.number) == [("dc1", "b/f")]


def test_two_names_change_places() -> None:
    inodes = table()
    a, b = inodes.enter(DC1, "a", 1000, sole=True), inodes.enter(DC1, "b", 1001, sole=True)
    inodes.exchange(DC1, "a", DC1, "b")
    assert (inodes.places(a.number), inodes.places(b.number)) == ([("dc1", "b")], [("dc1", "a")])


def test_an_unlinked_file_stays_while_it_is_open() -> None:
    inodes = table()
    number = inodes.enter(DC1, "a", 1000, sole=True).number
    inodes.opened(number)
    inodes.unlink(DC1, "a")
    inodes.forget(number, 1)
    assert inodes.places(number) == []
    inodes.closed(number)
    with pytest.raises(PfsError) as caught:
        inodes.get(number)
    assert caught.value.kind is Kind.STALE


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_new_node_with_the_id_of_a_directory_that_was_removed_here_is_another_inode(how: str) -> None:
    inodes = table()
    dead = inodes.enter(DC1, "a", 1000, sole=True)
    dead.directory = True
    if how == "removed":
        inodes.unlink(DC1, "a")
    else:
        inodes.enter(DC1, "b", 1001, sole=True)
        inodes.rename(DC1, "b", DC1, "a")
    new = inodes.enter(DC1, "c", 1000, sole=True)
    assert new.number != dead.number
    assert (inodes.of_node("dc1", 1000), inodes.places(dead.number)) == (new.number, [])
    inodes.forget(dead.number, 1)
    assert inodes.enter(DC1, "c", 1000, sole=True) is new


def test_a_directory_stays_as_long_as_something_below_it() -> None:
    inodes = table()
    a = inodes.enter(DC1, "a", 1000, sole=True)
    f = inodes.enter(a.number, "f", 1001, sole=True)
    inodes.forget(a.number, 1)
    assert inodes.places(f.number) == [("dc1", "a/f")]
    inodes.forget(f.number, 1)
    assert len(inodes) == 3


def test_a_directory_that_seems_to_stand_below_itself_has_no_name() -> None:
    inodes = table()
    a = inodes.enter(DC1, "a", 1000, sole=True)
    b = inodes.enter(a.number, "b", 1001, sole=True)
    inodes.enter(b.number, "a", 1000, sole=True)
    assert (inodes.places(a.number), inodes.places(b.number)) == ([], [])


def test_a_change_is_noted_with_its_turn() -> None:
    inodes = table()
    inode = inodes.enter(DC1, "a", 1000, sole=True)
    inode.told = Node(inode.number, 0, Attr(NodeType.FILE, 1000, 0o644))
    before = inodes.changes
    inodes.touch(inode.number)
    inodes.touch(4711)
    assert inode.changed > before
    assert not inode.told


def test_what_others_may_change_is_counted_also_where_the_kernel_does_not_know_it() -> None:
    inodes = table()
    inode = inodes.enter(DC1, "a", 1000, sole=True)
    for number in (inode.number, None):
        inodes.broken(number)
    assert (inodes.breaks, inode.changed) == (2, inodes.changes)


def test_a_name_that_leads_where_it_did_is_another_lookup_and_nothing_else() -> None:
    inodes = table()
    inode = inodes.enter(DC1, "a", 1000, sole=True)
    assert inodes.enter(DC1, "a", 1000, sole=True) is inode
    assert (inode.lookups, inodes.path(inode)) == (2, "a")


class Walk(RuleBasedStateMachine):
    """Everything that can be done with the table, and the same with dictionaries."""

    NODES = tuple(range(1000, 1008))
    NAMES = ("x", "y")

    def __init__(self) -> None:
        super().__init__()
        self.inodes = table()
        self.entries: dict[tuple[int, str], int] = {}  # in the order of making
        self.lookups: Counter[int] = Counter()
        self.opens: Counter[int] = Counter()

    # the model

    def known(self) -> list[int]:
        return [node for node in self.NODES if node in self.inodes]

    def directories(self) -> list[int]:
        return [DC1, *(node for node in self.known() if node % 2 == 0)]

    def model_places(self, number: int) -> list[str]:
        if number == DC1:
            return [""]
        names = [key for key, node in reversed(self.entries.items()) if node == number]
        above = [(self.model_places(parent)[:1], name) for parent, name in names]
        return [f"{place[0]}/{name}".lstrip("/") for place, name in above if place]

    def is_above(self, number: int, directory: int) -> bool:
        while directory != number:
            parents = [parent for (parent, _), node in reversed(self.entries.items()) if node == directory]
            if not parents:
                return False
            directory = parents[0]
        return True

    def model_link(self, parent: int, name: str, node: int) -> None:
        if not self.is_above(node, parent):
            self.entries[parent, name] = node

    def prune(self) -> None:
        while True:
            parents = {parent for parent, _ in self.entries}
            idle = {node for node in self.entries.values() if not (self.lookups[node] or self.opens[node])} - parents
            if not idle:
                return
            self.entries = {key: node for key, node in self.entries.items() if node not in idle}

    def alive(self) -> set[int]:
        counted = {node for node in self.NODES if self.lookups[node] or self.opens[node]}
        return counted | {parent for parent, _ in self.entries if parent != DC1} | set(self.entries.values())

    # what can happen

    @rule(data=st.data(), name=st.sampled_from(NAMES), node=st.sampled_from(NODES))
    def enter(self, data: st.DataObject, name: str, node: int) -> None:
        parent = data.draw(st.sampled_from(self.directories()))
        sole = node % 2 == 0 or node < 1004
        inode = self.inodes.enter(parent, name, node, sole=sole)
        assert inode.number == node
        self.lookups[node] += 1
        self.entries.pop((parent, name), None)
        if sole:
            self.entries = {key: each for key, each in self.entries.items() if each != node}
        self.model_link(parent, name, node)
        self.prune()

    @rule(data=st.data(), name=st.sampled_from(NAMES))
    def unlink(self, data: st.DataObject, name: str) -> None:
        parent = data.draw(st.sampled_from(self.directories()))
        self.inodes.unlink(parent, name)
        self.entries.pop((parent, name), None)
        self.prune()

    @rule(data=st.data(), name=st.sampled_from(NAMES), new_name=st.sampled_from(NAMES), exchange=st.booleans())
    def rename(self, data: st.DataObject, name: str, new_name: str, exchange: bool) -> None:
        parent, new_parent = (data.draw(st.sampled_from(self.directories())) for _ in range(2))
        source, target = (parent, name), (new_parent, new_name)
        moved, replaced = self.entries.get(source), self.entries.get(target)
        if moved is not None and moved == replaced and not exchange:
            self.inodes.rename(*source, *target)
            return
        (self.inodes.exchange if exchange else self.inodes.rename)(*source, *target)
        for key in (source, target):
            self.entries.pop(key, None)
        if exchange and replaced is not None:
            self.model_link(*source, replaced)
        if moved is not None:
            self.model_link(*target, moved)
        self.prune()

    @precondition(lambda self: self.known())
    @rule(data=st.data(), count=st.integers(1, 3))
    def forget(self, data: st.DataObject, count: int) -> None:
        node = data.draw(st.sampled_from(self.known()))
        self.inodes.forget(node, count)
        self.lookups[node] = max(0, self.lookups[node] - count)
        self.prune()

    @precondition(lambda self: self.known())
    @rule(data=st.data())
    def open(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(self.known()))
        self.inodes.opened(node)
        self.opens[node] += 1

    @precondition(lambda self: +self.opens)
    @rule(data=st.data())
    def close(self, data: st.DataObject) -> None:
        node = data.draw(st.sampled_from(sorted(+self.opens)))
        self.inodes.closed(node)
        self.opens[node] -= 1
        self.prune()

    # what must hold

    @invariant()
    def the_same_are_known(self) -> None:
        assert set(self.known()) == self.alive()

    @invariant()
    def they_stand_at_the_same_places(self) -> None:
        for node in self.known():
            assert self.inodes.places(node) == [("dc1", path) for path in self.model_places(node)]

    @invariant()
    def names_and_children_agree(self) -> None:
        inodes: list[Inode] = [self.inodes.get(number) for number in (DC1, *self.known())]
        down = {(inode.number, name, child.number) for inode in inodes for name, child in inode.children.items()}
        up = {(parent, name, inode.number) for inode in inodes for parent, name in inode.names if parent != ROOT}
        assert down == up


TestWalk = Walk.TestCase
TestWalk.settings = settings(max_examples=10)
