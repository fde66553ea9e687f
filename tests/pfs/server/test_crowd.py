"""How many connections there may be, and who makes room."""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pfs.server.crowd import Crowd, Guest, guest_in, lone_guest, told_of


class Door:
    """Lets guests in by number, and notes who was told to leave, and whether in the middle of something."""

    def __init__(self, most: int = 3, most_of_address: int = 2) -> None:
        self.crowd = Crowd(most, most_of_address)
        self.told: list[int] = []
        self.cut: list[int] = []
        self._number = 0

    def enter(self, address: str | None = "a") -> Guest | None:
        self._number += 1
        number = self._number

        def leave(works: bool) -> None:
            self.told.append(number)
            self.cut += [number] * works

        return self.crowd.enter(address, leave)

    def let_in(self, address: str | None = "a") -> Guest:
        guest = self.enter(address)
        assert guest is not None
        return guest

    def let_work(self, address: str | None = "a", *, known: bool = False) -> Guest:
        """Let somebody in of whom something is asked, with a key where they are known."""
        guest = self.let_in(address)
        guest.works()
        if known:
            guest.proves()
        return guest

    def let_rest(self, address: str | None = "a") -> Guest:
        """Let somebody in who has shown a key, and rests."""
        guest = self.let_work(address, known=True)
        guest.rests()
        return guest


def test_who_has_rested_longest_makes_room() -> None:
    door = Door()
    first, _ = door.let_in(), door.let_in()
    first.works()
    first.rests()
    door.let_in()
    assert door.told == [2]


def test_where_nobody_rests_the_stranger_makes_room_who_has_worked_longest() -> None:
    door = Door()
    door.let_work()
    again = door.let_work()
    again.rests()
    again.works()
    door.let_in("b").works()
    for address, told in (("a", [1]), ("b", [1, 2]), ("c", [1, 2, 3])):
        door.let_work(address)
        assert (door.told, door.cut) == (told, told)


def test_an_address_makes_room_for_itself() -> None:
    door = Door(most=4)
    for address in ("b", "a", "a", "a"):
        door.let_work(address)
    assert door.told == [2]


def test_who_is_known_is_not_displaced_in_the_middle_of_something() -> None:
    door = Door()
    for _ in range(3):
        door.let_work(known=True)
    assert door.enter() is None
    assert door.enter(None) is None
    assert door.told == []


def test_a_key_is_good_for_what_it_was_shown_with() -> None:
    door = Door()
    first, again, _ = (door.let_work(known=True) for _ in range(3))
    again.rests()
    again.works()
    door.let_work(known=True)
    assert door.told == [2]
    assert door.enter() is None
    first.rests()
    first.works()
    first.proves()
    assert door.enter() is None


def test_strangers_make_room_before_who_is_known_and_rests() -> None:
    door = Door(most=3, most_of_address=9)
    door.let_rest()
    door.let_in()
    door.let_work()
    for told in ([2], [2, 3], [2, 3, 4]):
        door.let_work()
        assert door.told == told


def test_some_strangers_work_in_peace_where_others_rest() -> None:
    door = Door(most=24, most_of_address=99)
    for _ in range(24):
        door.let_rest()
    for _ in range(9):
        door.let_work()
    assert door.told == [1, 2, 3, 4, 25, 26, 27, 28, 29]


def test_a_house_full_of_bodies_that_never_come_is_open() -> None:
    door = Door(most=16, most_of_address=2)
    known = door.let_work("k", known=True)
    for number in range(100):
        door.let_work(str(number % 8))
    assert known.crowd is not None
    assert door.crowd._all.count == 16
    user = door.let_work("u")
    user.proves()
    for number in range(100):
        door.let_work(str(number % 8))
    assert user.crowd is not None
    assert 1 not in door.told


def test_the_room_of_one_who_left_is_free() -> None:
    door = Door()
    guests = [door.let_work(known=True) for _ in range(3)]
    guests[0].is_gone()
    guests[0].is_gone()
    door.let_work(known=True)
    assert door.enter() is None
    assert door.told == []


def test_who_has_shown_whose_they_are_counts_with_all_and_not_with_their_address() -> None:
    door = Door()
    for _ in range(3):
        guest = door.let_work(known=True)
    assert door.enter() is None
    assert door.enter("b") is None
    guest.rests()
    assert door.enter() is not None
    assert (door.told, door.cut) == ([3], [])


@pytest.mark.parametrize("address", ["b", None])
def test_of_all_who_has_rested_longest_makes_room(address: str | None) -> None:
    door = Door()
    for each in ("a", "b", None):
        door.let_in(each)
    door.let_in(address)
    assert door.told == [1]


def test_programs_on_this_machine_are_not_counted_by_address() -> None:
    door = Door(most=9)
    for _ in range(9):
        door.let_in(None)
    assert door.told == []
    door.let_in(None)
    assert door.told == [1]


def test_who_was_displaced_can_say_what_it_likes() -> None:
    door = Door()
    displaced = door.let_in()
    door.let_in()
    door.let_in().works()
    assert door.told == [1]
    for say in (displaced.works, displaced.rests, displaced.proves, displaced.is_gone):
        say()
    door.let_in().works()
    assert door.told == [1, 2]
    assert door.crowd._all.count == 2


def test_an_address_of_which_nobody_is_left_is_forgotten() -> None:
    door = Door()
    for number in range(9):
        door.let_in(str(number)).is_gone()
    assert door.crowd._addresses == {}


def test_one_alone_may_do_anything() -> None:
    guest = lone_guest()
    for say in (guest.works, guest.rests, guest.proves, guest.is_gone):
        say()


def test_an_application_finds_whose_connection_a_request_came_on() -> None:
    guest = Door().let_in()
    assert guest_in({"tls": {}, **told_of(guest)}) is guest
    assert guest_in({}).crowd is None


class Crowded(RuleBasedStateMachine):
    """Anybody comes, works, rests, shows a key and goes, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.crowd = Crowd(5, 3)
        self.here: dict[Guest, tuple[bool, bool]] = {}  # works, and has shown a key for that
        self.fault = ""

    def among(self, data: Any) -> Guest:
        found: Guest = data.draw(st.sampled_from(list(self.here)))
        return found

    @rule(address=st.sampled_from(["a", "b", "c", None]))
    def come(self, address: str | None) -> None:
        made: list[Guest] = []

        def leave(works: bool) -> None:
            is_working, shown = self.here.pop(made[0])
            if shown or is_working is not works:
                self.fault = "who showed a key was cut"

        guest = self.crowd.enter(address, leave)
        if guest is not None:
            made.append(guest)
            self.here[guest] = (False, False)
        elif not all(shown for _, shown in self.here.values()):
            self.fault = "somebody was turned away though a stranger was there, or somebody rested"

    @precondition(lambda self: self.here)
    @rule(data=st.data(), how=st.sampled_from(["works", "rests", "proves", "is_gone"]))
    def go_on(self, data: Any, how: str) -> None:
        guest = self.among(data)
        works, _ = self.here.pop(guest)
        if how == "proves" and not works:
            guest.works()
        getattr(guest, how)()
        if how != "is_gone":
            self.here[guest] = {"works": (True, False), "rests": (False, False), "proves": (True, True)}[how]

    @invariant()
    def all_is_well(self) -> None:
        assert self.fault == ""
        assert self.crowd._all.count == len(self.here) <= 5
        strangers = [guest.address for guest in self.here if guest.address is not None]
        counted = {address: group.count for address, group in self.crowd._addresses.items()}
        assert counted == {address: strangers.count(address) for address in set(strangers)}
        assert max(counted.values(), default=0) <= 3


Crowded.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestCrowded = Crowded.TestCase
