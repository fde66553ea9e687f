"""How fast passwords may be tried."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.accounts import throttle
from pfs.accounts.throttle import (
    ADDRESS_FREE,
    DELAY_MAX_S,
    FORGET_S,
    PAIR_FREE,
    SLOWED_MAX_S,
    Throttle,
    source_of,
)
from pfs.errors import Kind, PfsError


def too_early(tried: Throttle, account: str, source: str, now_s: float) -> bool:
    """Try a wrong password."""
    try:
        tried.attempt(account, source, now_s)
    except PfsError:
        return True
    return False


def guesses(tried: Throttle, account: str, source: str, seconds: int, since_s: float = 0.0) -> int:
    """Try a wrong password each second; return how often that was let through."""
    return sum(not too_early(tried, account, source, since_s + second) for second in range(seconds))


def test_a_few_mistakes_cost_nothing() -> None:
    tried = Throttle()
    assert [tried.attempt("ann", "1.2.3.4", 0.0).held_s for _ in range(PAIR_FREE)] == [0.0] * PAIR_FREE


def test_each_further_one_has_to_wait_longer_up_to_minutes() -> None:
    tried, now_s, waits = Throttle(), 0.0, []
    for _ in range(PAIR_FREE):
        tried.attempt("ann", "1.2.3.4", now_s)
    for _ in range(12):
        begun_s = now_s
        while too_early(tried, "ann", "1.2.3.4", now_s):
            now_s += 0.5
        waits.append(now_s - begun_s)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == DELAY_MAX_S


def test_a_day_of_guessing_from_one_address_is_a_few_hundred_guesses() -> None:
    assert guesses(Throttle(), "ann", "1.2.3.4", 86_400) <= 300


def test_who_comes_too_early_is_told_when_and_pays_nothing() -> None:
    tried = Throttle()
    for _ in range(PAIR_FREE):
        tried.attempt("ann", "a", 0.0)
    for _ in range(100):
        with pytest.raises(PfsError, match="try again in 1 s") as caught:
            tried.attempt("ann", "a", 0.5)
        assert caught.value.kind is Kind.TOO_MANY
    tried.attempt("ann", "a", 1.0)


def test_an_attempt_counts_from_its_beginning() -> None:
    tried = Throttle()
    assert sum(not too_early(tried, "ann", "a", 0.0) for _ in range(100)) == PAIR_FREE


def test_a_right_password_makes_mistakes_forgotten() -> None:
    tried = Throttle()
    for _ in range(5):
        for _ in range(PAIR_FREE):
            tried.attempt("ann", "a", 0.0)
        tried.succeeded("ann", "a", 0.0)


def test_an_attempt_that_is_taken_back_has_never_been() -> None:
    tried, untouched = Throttle(), Throttle()
    for number in range(PAIR_FREE + 2):
        for each in (tried, untouched):
            each.attempt("ann", "a", 300.0 * number)
    last_s = 300.0 * (PAIR_FREE + 1)
    for later_s in (10.0, 20.0):
        tried.take_back(tried.attempt("ann", "a", last_s + later_s))
    assert tried._counts == untouched._counts


def test_of_an_attempt_that_is_taken_back_nothing_is_left() -> None:
    tried = Throttle()
    tried.take_back(tried.attempt("ann", "a", 0.0))
    assert tried._counts == {}


def test_one_attempt_is_taken_back_and_others_of_the_same_time_count() -> None:
    tried = Throttle()
    first = tried.attempt("ann", "a", 0.0)
    for _ in range(PAIR_FREE - 1):
        tried.attempt("ann", "a", 1.0)
    assert too_early(tried, "ann", "a", 1.0)
    tried.take_back(first)
    assert not too_early(tried, "ann", "a", 1.0)
    assert too_early(tried, "ann", "a", 1.5)


def test_nobody_is_kept_out_by_wrong_passwords_from_elsewhere() -> None:
    tried = Throttle()
    for number in range(3000):
        too_early(tried, "ann", f"10.0.{number % 200}.1", number / 100)
    assert 0 < tried.attempt("ann", "9.9.9.9", 30.0).held_s <= SLOWED_MAX_S
    tried.succeeded("ann", "9.9.9.9", 30.0)
    assert tried.attempt("ann", "9.9.9.9", 31.0).held_s == 0.0


def test_one_password_on_many_accounts_is_slow_too_but_not_for_who_came_in_from_there() -> None:
    tried = Throttle()
    tried.attempt("ann", "a", 0.0)
    tried.succeeded("ann", "a", 0.0)
    passed = [not too_early(tried, f"user{number}", "a", 1.0) for number in range(100)]
    assert passed.count(True) == ADDRESS_FREE
    assert too_early(tried, "bob", "a", 1.5)
    assert not too_early(tried, "ann", "a", 1.5)
    assert not too_early(tried, "bob", "b", 1.5)


def test_everything_is_forgotten_after_a_while_of_quiet() -> None:
    tried = Throttle()
    guesses(tried, "ann", "a", 1000)
    assert too_early(tried, "ann", "a", 1001.0)
    later_s = 1001.0 + FORGET_S
    assert [tried.attempt("ann", "a", later_s).held_s for _ in range(PAIR_FREE)] == [0.0] * PAIR_FREE


def test_what_is_counted_takes_bounded_room_and_the_busy_ones_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "KEPT_MAX", 100)
    tried = Throttle()
    for number in range(ADDRESS_FREE):
        too_early(tried, f"user{number}", "a", 0.0)
    for number in range(ADDRESS_FREE, 2000):
        assert too_early(tried, f"user{number}", "a", 0.0)
    for number in range(1000):
        too_early(tried, f"user{number}", f"source{number}", 0.0)
    assert len(tried._counts) == 100


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("1.2.3.4", "1.2.3.4"),
        ("::ffff:1.2.3.4", "1.2.3.4"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::9%eth0", "2001:db8:1:2::/64"),
        ("", ""),
        ("here", "here"),
    ],
)
def test_what_counts_as_one_address(address: str, source: str) -> None:
    assert source_of(address) == source


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.floats(0, 400), st.booleans())))
def test_whatever_happens_the_owner_waits_minutes_at_most(events: list[tuple[str, str, float, bool]]) -> None:
    tried, now_s = Throttle(), 0.0
    for account, source, passed_s, right in events:
        now_s += passed_s
        try:
            assert 0.0 <= tried.attempt(account, source, now_s).held_s <= SLOWED_MAX_S
        except PfsError:
            continue
        if right:
            tried.succeeded(account, source, now_s)
    assert tried.attempt("a", "x", now_s + DELAY_MAX_S).held_s <= SLOWED_MAX_S
