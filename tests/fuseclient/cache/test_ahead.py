"""Directories that are fetched before anybody asks for them."""

from collections.abc import Sequence

from fuseclient.cache.ahead import AHEAD_MAX, PARENTS_MAX, Ahead

NAMES = [f"d{number:02d}" for number in range(30)]


def names() -> Sequence[str]:
    return NAMES


def test_who_goes_through_directories_in_their_order_finds_more_and_more_of_them_fetched() -> None:
    ahead = Ahead()
    fetched = [list(ahead.listed("p", name, names)) for name in NAMES]
    assert fetched[:4] == [[], ["d02"], ["d03", "d04"], ["d05", "d06", "d07"]]
    assert [name for each in fetched for name in each] == NAMES[2:], "each one once"
    assert max(NAMES.index(each[-1]) - place for place, each in enumerate(fetched) if each) == AHEAD_MAX


def test_who_picks_some_directories_gets_no_others() -> None:
    ahead = Ahead()
    assert [name for picked in ("d07", "d03", "d20", "d22") for name in ahead.listed("p", picked, names)] == []


def test_a_walk_goes_on_after_what_is_below_a_directory() -> None:
    ahead = Ahead()
    for name in NAMES[:3]:
        ahead.listed("p", name, names)
        for below in NAMES[:2]:
            ahead.listed(f"p/{name}", below, names)
    assert list(ahead.listed("p", NAMES[3], names)) == ["d05", "d06", "d07"]


def test_a_directory_whose_parent_does_not_name_it_is_none_of_them() -> None:
    ahead = Ahead()
    assert list(ahead.listed("p", "other", names)) == []
    assert list(ahead.listed("p", "d00", names)) == []


def test_only_so_many_ways_are_remembered() -> None:
    ahead = Ahead()
    for number in range(PARENTS_MAX + 1):
        ahead.listed(f"p{number}", "d00", names)
    assert list(ahead.listed("p0", "d01", names)) == [], "forgotten"
    assert list(ahead.listed(f"p{PARENTS_MAX}", "d01", names)) == ["d02"]


def test_what_is_forgotten_begins_anew() -> None:
    ahead = Ahead()
    ahead.listed("p", "d00", names)
    ahead.forget()
    assert list(ahead.listed("p", "d01", names)) == []


def test_the_next_one_is_told_where_somebody_goes_on() -> None:
    ahead = Ahead()
    ahead.listed("p", "d00", names)
    assert ahead.next_after("p", "d00") is None, "nobody knows yet"
    ahead.listed("p", "d01", names)
    assert ahead.next_after("p", "d01") == "d02"
    assert [ahead.next_after("p", NAMES[-1]), ahead.next_after("p", "other"), ahead.next_after("q", "d00")] == [
        None
    ] * 3
