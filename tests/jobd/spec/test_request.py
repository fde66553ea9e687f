"""The cluster request: properties; what each text means is pinned in scripts/request."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.spec.request import GroupRequest, Request, RequestError, format_request, parse_request
from pfs.errors import Kind

counts = st.integers(1, 999_999_999)
names = st.from_regex(re.compile(r"[A-Za-z][A-Za-z0-9]{0,9}", re.ASCII), fullmatch=True)
groups = st.builds(GroupRequest, counts, st.lists(st.tuples(counts, names), max_size=4).map(tuple))
requests = st.lists(groups, min_size=1, max_size=4).map(lambda groups: Request(tuple(groups)))


@given(requests)
def test_what_is_formatted_parses_to_the_same(request: Request) -> None:
    assert parse_request(format_request(request)) == request


@given(requests, st.data())
def test_white_space_between_the_words_changes_nothing(request: Request, data: st.DataObject) -> None:
    words = re.findall(r"[0-9]+(?=:)|[A-Za-z][A-Za-z0-9]*|[][:,]", format_request(request))
    blanks = data.draw(st.lists(st.sampled_from(["", " ", "\t", "\n", "  "]), min_size=len(words), max_size=len(words)))
    assert parse_request("".join(blank + word for blank, word in zip(blanks, words, strict=True)) + " ") == request


@given(st.text("[]:,0129az \té", max_size=20))
def test_any_text_parses_or_is_refused_at_a_column_of_it(text: str) -> None:
    column, kind = 1, Kind.INVALID
    try:
        assert parse_request(text).groups
    except RequestError as error:
        column, kind = error.column, error.kind
    assert 1 <= column <= len(text) + 1
    assert kind is Kind.INVALID


def test_a_number_of_many_digits_is_refused_at_once() -> None:
    with pytest.raises(RequestError, match="too large"):
        parse_request("9" * 100_000 + ":[]")


def test_the_same_gpu_named_twice_in_a_process_is_kept_twice() -> None:
    assert parse_request("[a,a]").groups[0].items == ((1, "a"), (1, "a"))
