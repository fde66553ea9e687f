"""Names of users and groups."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.errors import Kind, PfsError
from pfs.names import check_group_name, check_user_name
from pfs.path import check_name


@pytest.mark.parametrize("name", ["a", "ann", "ann.b", "ann_b-c", "ann@example.org", "a" * 64, "a1", "met", "m"])
def test_what_a_user_can_be_called(name: str) -> None:
    assert check_user_name(name) == name


@pytest.mark.parametrize(
    "name",
    ["", "Ann", "1ann", ".ann", "-ann", "@a", "a/b", "..", "a b", "ann\n", "änn", "a" * 65, "a\0", "a:b", "me", "~"],
)
def test_what_no_user_can_be_called(name: str) -> None:
    with pytest.raises(PfsError, match="cannot be a user name") as caught:
        check_user_name(name)
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize("name", ["a", "research", "a-b", "a_b", "g1", "a" * 32])
def test_what_a_group_can_be_called(name: str) -> None:
    assert check_group_name(name) == name


@pytest.mark.parametrize("name", ["", "A", "1", "-a", "a.b", "a@b", "a" * 33, "a b", "a\n", "a/b", "ä"])
def test_what_no_group_can_be_called(name: str) -> None:
    with pytest.raises(PfsError, match="cannot be a group") as caught:
        check_group_name(name)
    assert caught.value.kind is Kind.INVALID


@given(st.text(max_size=70))
def test_whatever_can_be_a_name_is_one_part_of_a_path_and_one_word(text: str) -> None:
    for check in (check_user_name, check_group_name):
        with suppress(PfsError):
            name = check(text)
            assert check_name(name) == name
            assert name.split() == [name]
