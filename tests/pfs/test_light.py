"""Values that are made quickly are the same values."""

import copy
import pickle
from dataclasses import dataclass, replace
from typing import Any

import pytest

from pfs.light import light


@light
@dataclass(frozen=True, slots=True)
class Point:
    x: int
    y: int = 2
    name: str = ""


def test_it_is_made_by_place_by_name_and_by_default() -> None:
    assert Point(1) == Point(x=1, y=2, name="") == Point(1, 2)
    assert (Point(1).x, Point(1, name="a").name) == (1, "a")
    make: Any = Point
    for places, names in (((), {}), ((1, 2, "", 4), {}), ((1,), {"z": 3})):
        with pytest.raises(TypeError):
            make(*places, **names)


def test_it_is_compared_hashed_shown_and_copied_as_any_other() -> None:
    point = Point(1, 2, "a")
    assert point != Point(1, 2, "b")
    assert {point: 1}[Point(1, 2, "a")] == 1
    assert repr(point) == "Point(x=1, y=2, name='a')"
    assert replace(point, y=5) == Point(1, 5, "a")
    assert copy.copy(point) == pickle.loads(pickle.dumps(point)) == point


def test_it_has_no_room_for_anything_else() -> None:
    with pytest.raises(AttributeError):
        Point(1).z = 3  # type: ignore[attr-defined]
