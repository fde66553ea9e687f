"""Rooms: what fits on one node, what is taken, and what attributes must be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.scheduling.model import SANDBOX, Gpu, Need, NodeView, Use
from jobd.scheduling.room import Ask, Room, ask_of, make_room, meets, with_reserved_first
from jobd.spec.model import Requirement
from tests.jobd.scheduling.worlds import ALIASES, alone, node


def view(*models: str, groups: frozenset[str] = frozenset(), **attrs: object) -> NodeView:
    gpus = tuple(Gpu(f"g{index}", model, groups) for index, model in enumerate(models))
    return NodeView("n", "n", True, frozenset({SANDBOX}), 4, 2**30, attrs=attrs, gpus=gpus)


def ask(*gpus: tuple[int, str | None], groups: frozenset[str] = frozenset()) -> Ask:
    return ask_of(Need(gpus=gpus), groups, ALIASES)


@given(node("n"), alone, st.sampled_from([frozenset(), frozenset({"ml"})]))
def test_as_many_copies_fit_as_can_be_taken_one_by_one(there: NodeView, need: Need, groups: frozenset[str]) -> None:
    asked = ask_of(need, groups, ALIASES)
    room = make_room(there)
    copies = room.copies(asked)
    together = room.copy().take(asked, copies)
    assert len({uuid for gpus in together for uuid in gpus}) == copies * asked.gpus
    left = room.copy()
    left.take(asked, copies)
    assert left.copies(asked) == 0
    assert min(left.nano_cpus, left.memory_bytes, left.slots) >= 0


def test_any_gpu_is_of_a_model_that_the_process_does_not_name_and_of_the_rarest() -> None:
    assert make_room(view("A", "A", "B", "B", "B", "C", "C")).take(ask((1, "A"), (1, None)), 1) == [("g0", "g5")]


def test_gpus_for_few_are_taken_first_by_those_who_may() -> None:
    gpus = (Gpu("g0", "A"), Gpu("g1", "A", frozenset({"ml"})))
    there = with_reserved_first(NodeView("n", "n", True, frozenset({SANDBOX}), 4, 2**30, gpus=gpus))
    assert make_room(there).take(ask((1, "A"), groups=frozenset({"ml"})), 1) == [("g1",)]
    assert make_room(there).take(ask((1, "A")), 1) == [("g0",)]


def test_what_was_promised_is_taken_of_what_is_in_use_now() -> None:
    room = make_room(view("A", "A", "A"), first=frozenset({"g2"}))
    assert room.take(ask((2, "A")), 1) == [("g2", "g0")]


def test_what_a_job_gives_back_is_there_again() -> None:
    use = Use("n", 1.5, 2**20, ("g1",), 2)
    room = make_room(view("A", "A"), [use])
    assert room.copies(ask((1, "A"))) == 1
    room.give(use)
    assert room.copies(ask((1, "A"))) == 2
    fresh = make_room(view("A", "A"))
    assert _sizes(room) == _sizes(fresh)


def test_a_node_that_uses_more_than_it_offers_has_room_for_nothing() -> None:
    room = make_room(view("A"), [Use("n", 100.0, 2**40, ("gone",), 100)])
    assert room.copies(ask((1, "A"))) == 0


def _sizes(room: Room) -> tuple[int, int, int]:
    return room.nano_cpus, room.memory_bytes, room.slots


@pytest.mark.parametrize(
    ("told", "operator", "value", "is_met"),
    [
        (4, "=", "4", True),
        (4, "=", "4.0", True),
        ("big", "=", "big", True),
        ("big", "=", "Big", False),
        (True, "=", "true", True),
        (4, ">=", "4", True),
        (4, ">", "4", False),
        (4, "<=", "3.5", False),
        (4, "<", "4.5", True),
        ("16", ">", "9", True),
        ("8156872 kB", ">=", "8000000", True),
        ("8156872 kB", "=", "8156872 kB", True),
        ("big", ">", "1", False),
        (True, "<=", "1", False),
    ],
)
def test_an_attribute_is_equal_as_text_or_number_and_larger_as_a_number(
    told: object, operator: str, value: str, is_met: bool
) -> None:
    assert meets(view(kind=told), Requirement("kind", operator, value)) is is_met


def test_what_a_node_does_not_tell_meets_nothing() -> None:
    assert not meets(view(), Requirement("kind", "=", "None"))
