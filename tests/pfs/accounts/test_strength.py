"""Which passwords are good enough."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.accounts.strength import CHARACTERS_MAX, CHARACTERS_MIN, check_password, normal
from pfs.errors import Kind, PfsError


@pytest.mark.parametrize(
    "password",
    [
        "correct horse battery staple",
        "Ein Hund, zwei Katzen!",
        "kdj3-9sls-22mx-p0",
        "wörter mit umlauten",
        "我的密码是很长的一句话没有人知道的",
        "annuity of the lamplighter",
        "x" * (CHARACTERS_MAX - 26) + "correct horse battery 1234",
    ],
)
def test_what_is_long_and_ones_own_is_good(password: str) -> None:
    assert check_password(password, "ann") == normal(password)


@pytest.mark.parametrize(
    ("password", "said"),
    [
        ("", "at least 15 characters"),
        ("Tr0ub4dor&3", "at least 15 characters"),
        ("c" * 129, "at most 128 characters"),
        ("correct horse battery\n", "control characters"),
        ("correct\thorse battery", "control characters"),
        ("aaaaaaaaaaaaaaaa", "first that are tried"),
        ("abcdeabcdeabcdeabcde", "first that are tried"),
        ("ab3de!ab3de!ab3de!", "first that are tried"),
        ("123456789012345", "first that are tried"),
        ("qwertyuiopasdfghjkl", "first that are tried"),
        ("9876543210987654321", "first that are tried"),
        ("Password1234567890", "first that are tried"),
        ("annette-annette-12", "first that are tried"),
        ("iloveyou1234567", "first that are tried"),
    ],
)
def test_what_is_short_or_easy_is_refused_with_what_to_do(password: str, said: str) -> None:
    with pytest.raises(PfsError, match=said) as caught:
        check_password(password, "annette")
    assert caught.value.kind is Kind.INVALID
    assert not password or password not in caught.value.message


def test_an_address_as_a_name_counts_as_a_whole_and_by_its_first_part() -> None:
    for password in ("ann.smith@example.org1", "ann.smithann.smith77"):
        with pytest.raises(PfsError, match="first that are tried"):
            check_password(password, "ann.smith@example.org")


def test_one_password_typed_on_two_systems_is_one() -> None:
    composed, apart = "caf\u00e9 in the morning", "cafe\u0301 in the morning"
    assert check_password(composed, "ann") == check_password(apart, "ann")


@given(st.text(max_size=CHARACTERS_MAX + 5), st.sampled_from(["ann", "a", "ann@example.org"]))
def test_whatever_is_typed_is_taken_or_refused(password: str, user: str) -> None:
    with suppress(PfsError):
        kept = check_password(password, user)
        assert CHARACTERS_MIN <= len(kept) <= CHARACTERS_MAX
        assert check_password(kept, user) == kept
        kept.encode()
