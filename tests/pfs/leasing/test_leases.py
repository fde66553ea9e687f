"""Leases: nobody keeps a copy of what has changed."""

import itertools

from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from pfs.leasing.leases import Leases

ANN, BOB = 1, 2


def made(**limits: int) -> Leases:
    leases = Leases(**limits)
    leases.join(ANN)
    leases.join(BOB)
    return leases


def test_a_change_says_who_has_to_be_told_of_what() -> None:
    leases = made()
    assert leases.grant(ANN, [7, 8], leases.now) == {7, 8}
    assert leases.begin(BOB, [7, 9]) == {ANN: {7}}
    leases.given_back(ANN, [7])
    assert leases.begin(BOB, [7]) == {}
    assert leases.count(ANN) == 1


def test_a_lease_that_was_not_given_back_yet_is_one_for_every_other_change() -> None:
    leases = made()
    leases.grant(ANN, [7], leases.now)
    assert leases.begin(BOB, [7]) == {ANN: {7}}
    assert leases.begin(BOB, [7]) == {ANN: {7}}
    leases.end([7])
    leases.end([7])
    assert leases.begin(BOB, [7]) == {ANN: {7}}


def test_who_changes_keeps_its_own_lease() -> None:
    leases = made()
    leases.grant(ANN, [7], leases.now)
    assert leases.begin(ANN, [7]) == {}
    assert leases.count(ANN) == 1


def test_nothing_is_leased_while_it_changes() -> None:
    leases = made()
    leases.begin(BOB, [7])
    assert leases.grant(ANN, [7, 8], leases.now) == {8}
    leases.end([7])
    assert leases.grant(ANN, [7], leases.now) == {7}


def test_what_was_read_before_a_change_is_not_leased_after_it() -> None:
    leases = made()
    since = leases.now
    leases.begin(BOB, [7])
    leases.end([7])
    assert leases.grant(ANN, [7, 8], since) == {8}


def test_overlapping_changes_both_have_to_end() -> None:
    leases = made()
    leases.begin(BOB, [7])
    leases.begin(BOB, [7])
    leases.end([7])
    assert leases.grant(ANN, [7], leases.now) == set()
    leases.end([7])
    assert leases.grant(ANN, [7], leases.now) == {7}


def test_a_change_of_anything_stops_all_others() -> None:
    leases = made()
    since = leases.now
    with leases.anything(BOB):
        assert leases.grant(ANN, [7], leases.now) == set()
        assert leases.grant(BOB, [7], leases.now) == {7}
    assert leases.grant(ANN, [7], since) == set()
    assert leases.grant(ANN, [7], leases.now) == {7}


def test_a_reader_that_was_too_slow_is_granted_nothing() -> None:
    leases = made(remembered_max=2)
    since = leases.now
    for node in (1, 2, 3):
        leases.begin(BOB, [node])
        leases.end([node])
    assert leases.grant(ANN, [9], since) == set()
    assert leases.grant(ANN, [9], leases.now) == {9}


def test_who_has_too_many_is_asked_for_the_oldest() -> None:
    leases = made(held_max=8)
    leases.grant(ANN, range(8), leases.now)
    assert leases.recall(ANN) == set()
    leases.grant(ANN, [0, 8], leases.now)
    assert leases.recall(ANN) == {1, 2}
    assert leases.recall(BOB) == set()
    leases.recalled(ANN, given_back=True)
    assert leases.count(ANN) == 7
    assert leases.begin(BOB, [1, 2, 3]) == {ANN: {3}}


def test_what_is_on_its_way_back_is_not_granted_again_and_still_told_of() -> None:
    leases = made(held_max=8)
    leases.grant(ANN, range(9), leases.now)
    assert leases.recall(ANN) == {0, 1}
    assert leases.recall(ANN) == set()
    assert leases.grant(ANN, [0, 9], leases.now) == {9}
    assert leases.begin(BOB, [0]) == {ANN: {0}}
    leases.given_back(ANN, [0])
    leases.end([0])
    assert leases.grant(ANN, [0], leases.now) == set()
    leases.recalled(ANN, given_back=True)
    assert leases.grant(ANN, [0, 1], leases.now) == {0, 1}


def test_what_is_not_given_back_goes_on() -> None:
    leases = made(held_max=8)
    leases.grant(ANN, range(9), leases.now)
    leases.recall(ANN)
    leases.recalled(ANN, given_back=False)
    assert leases.count(ANN) == 9
    assert leases.recall(ANN) == {0, 1}


def test_who_leaves_while_it_is_asked_has_none() -> None:
    leases = made(held_max=8)
    leases.grant(ANN, range(9), leases.now)
    leases.recall(ANN)
    leases.leave(ANN)
    leases.recalled(ANN, given_back=True)
    leases.join(ANN)
    assert leases.grant(ANN, [0], leases.now) == {0}


def test_who_has_left_has_none_and_is_granted_none() -> None:
    leases = made()
    leases.grant(ANN, [7], leases.now)
    leases.leave(ANN)
    assert leases.begin(BOB, [7]) == {}
    assert leases.grant(ANN, [8], leases.now) == set()


def test_others_are_known() -> None:
    leases = made()
    leases.grant(ANN, [7], leases.now)
    assert not leases.others(ANN)
    assert leases.others(BOB)
    assert leases.others(None)


class Coherent(RuleBasedStateMachine):
    """Readers and changers of three nodes in any order: what somebody may answer from is what is there."""

    readings = Bundle("readings")
    changes = Bundle("changes")

    def __init__(self) -> None:
        super().__init__()
        self.leases = made(remembered_max=2)
        self.versions = dict.fromkeys(range(3), 0)
        self.numbers = itertools.count(1)
        self.copies: dict[tuple[int, int], int] = {}

    @rule(target=readings, node=st.integers(0, 2), holder=st.sampled_from([ANN, BOB]))
    def read(self, node: int, holder: int) -> tuple[int, int, int, int]:
        return holder, node, self.leases.now, self.versions[node]

    @rule(reading=consumes(readings))
    def grant(self, reading: tuple[int, int, int, int]) -> None:
        holder, node, since, version = reading
        if self.leases.grant(holder, [node], since):
            self.copies[holder, node] = version

    @rule(target=changes, nodes=st.sets(st.integers(0, 2), min_size=1), made_early=st.booleans())
    def begin(self, nodes: set[int], made_early: bool) -> tuple[frozenset[int], bool]:
        for holder, lost in self.leases.begin(None, nodes).items():
            for node in lost:
                self.copies.pop((holder, node), None)  # it may have been told of another change of it
            self.leases.given_back(holder, lost)
        if made_early:
            self.make(nodes)
        return frozenset(nodes), made_early

    @rule(change=consumes(changes))
    def end(self, change: tuple[frozenset[int], bool]) -> None:
        nodes, made_early = change
        if not made_early:
            self.make(nodes)
        self.leases.end(nodes)

    def make(self, nodes: set[int] | frozenset[int]) -> None:
        for node in nodes:
            self.versions[node] = next(self.numbers)

    @invariant()
    def copies_are_right(self) -> None:
        for (_, node), version in self.copies.items():
            assert self.versions[node] == version


TestCoherent = Coherent.TestCase
