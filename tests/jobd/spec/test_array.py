"""The tasks of an array: properties; what each text means is pinned in scripts/spec/array.txt."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.spec.array import TASKS_MAX, ArrayError, parse_array
from pfs.errors import Kind

NUMBERS = st.integers(0, 200)
ITEMS = st.one_of(
    NUMBERS.map(lambda number: (str(number), {number})),
    st.tuples(NUMBERS, NUMBERS)
    .map(sorted)
    .map(lambda ends: (f"{ends[0]}-{ends[1]}", set(range(ends[0], ends[1] + 1)))),
    st.tuples(NUMBERS, st.integers(0, 50), st.integers(1, 9)).map(
        lambda part: (f"{part[0]}-{part[0] + part[1]}:{part[2]}", set(range(part[0], part[0] + part[1] + 1, part[2])))
    ),
)


@given(st.lists(ITEMS, min_size=1, max_size=4), st.none() | st.integers(1, 99))
def test_the_tasks_are_the_union_of_all_items_in_order(items: list[tuple[str, set[int]]], at_once: int | None) -> None:
    text = ",".join(item for item, _ in items) + ("" if at_once is None else f"%{at_once}")
    array = parse_array(text)
    assert array.indices == tuple(sorted(set().union(*(numbers for _, numbers in items))))
    assert array.at_once == at_once


@given(st.text("0129,-:% x", max_size=20))
def test_any_text_parses_or_is_refused_at_a_column_of_it(text: str) -> None:
    column, kind = 1, Kind.INVALID
    try:
        assert 1 <= len(parse_array(text).indices) <= TASKS_MAX
    except ArrayError as error:
        column, kind = error.column, error.kind
    assert 1 <= column <= len(text) + 1
    assert kind is Kind.INVALID


@pytest.mark.parametrize("text", ["0-9999," * 100_000 + "1", "9" * 1_000_000, "0-" + "9" * 1_000_000, "1," * 500_000])
def test_what_asks_for_far_too_much_is_refused_at_once(text: str) -> None:
    with pytest.raises(ArrayError, match=r"at most|too large"):
        parse_array(text)
