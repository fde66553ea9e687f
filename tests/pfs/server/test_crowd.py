"""How many connections there may be, and who makes room."""

import pytest

from pfs.server.crowd import Crowd, Guest, lone_guest


class Door:
    """Lets guests in by number, and notes who was told to leave."""

    def __init__(self, most: int = 3, most_of_address: int = 2) -> None:
        self.crowd = Crowd(most, most_of_address)
        self.told: list[int] = []
        self._number = 0

    def enter(self, address: str | None = "a") -> Guest | None:
        self._number += 1
        number = self._number
        return self.crowd.enter(address, lambda: self.told.append(number))

    def let_in(self, address: str | None = "a") -> Guest:
        guest = self.enter(address)
        assert guest is not None
        return guest


def test_who_has_rested_longest_makes_room() -> None:
    door = Door()
    first, _ = door.let_in(), door.let_in()
    first.works()
    first.rests()
    door.let_in()
    assert door.told == [2]


def test_nobody_is_displaced_in_the_middle_of_something() -> None:
    door = Door()
    for guest in (door.let_in(), door.let_in()):
        guest.works()
    assert door.enter() is None
    assert door.told == []
    assert door.enter("b") is not None


def test_the_room_of_one_who_left_is_free() -> None:
    door = Door()
    guests = [door.let_in(), door.let_in()]
    for guest in guests:
        guest.works()
    guests[0].is_gone()
    guests[0].is_gone()
    door.let_in().works()
    assert door.enter() is None


def test_who_has_shown_whose_they_are_counts_with_all_and_not_with_their_address() -> None:
    door = Door()
    for _ in range(3):
        guest = door.let_in()
        guest.works()
        guest.proves()
    assert door.enter() is None
    assert door.enter("b") is None
    guest.rests()
    assert door.enter() is not None
    assert door.told == [3]


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
        door.let_in(None).works()
    assert door.enter(None) is None


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
    assert door.enter() is None


def test_an_address_of_which_nobody_is_left_is_forgotten() -> None:
    door = Door()
    for number in range(9):
        door.let_in(str(number)).is_gone()
    assert door.crowd._addresses == {}


def test_one_alone_may_do_anything() -> None:
    guest = lone_guest()
    for say in (guest.works, guest.rests, guest.proves, guest.is_gone):
        say()
