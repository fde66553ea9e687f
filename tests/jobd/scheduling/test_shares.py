"""What users had lately."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.scheduling.shares import HALF_LIFE_S, Shares, amount

NOW_S = 1_780_000_000.0


def had(weight: float, start_s: float, end_s: float, now_s: float) -> float:
    """Return what a job that is over counts for now."""
    shares = Shares()
    shares.load("ann", amount(weight, start_s, end_s))
    return shares.value("ann", now_s)


def test_a_gpu_second_counts_one_when_it_is_over_and_half_a_week_later():
    assert had(4, NOW_S - 100, NOW_S, NOW_S) == pytest.approx(400, rel=1e-3)
    assert had(4, NOW_S - 100, NOW_S, NOW_S + HALF_LIFE_S) == pytest.approx(200, rel=1e-3)


def test_who_had_nothing_has_nothing():
    assert Shares().value("ann", NOW_S) == 0


@given(
    st.lists(
        st.tuples(st.floats(0.1, 64), st.floats(0, 3e6), st.floats(0, 3e6)).map(
            lambda job: (job[0], NOW_S + min(job[1:]), NOW_S + max(job[1:]))
        ),
        min_size=1,
        max_size=6,
    ),
    st.floats(0, 3e6),
)
def test_a_job_counts_the_same_whether_it_runs_or_was_over_in_that_moment(jobs, look_s):
    at_s = NOW_S + look_s
    shares, expected = Shares(), 0.0
    for weight, start_s, end_s in jobs:
        if start_s > at_s:
            continue
        shares.started("ann", weight, start_s)
        if end_s <= at_s:
            shares.ended("ann", weight, start_s, amount(weight, start_s, end_s))
        expected += had(weight, start_s, min(end_s, at_s), at_s)
    assert shares.value("ann", at_s) == pytest.approx(expected, rel=1e-6, abs=1e-3)


def test_running_names_the_users_of_whom_something_runs():
    shares = Shares()
    shares.started("ann", 1, NOW_S)
    shares.started("bob", 1, NOW_S)
    shares.ended("bob", 1, NOW_S, 0.0)
    assert shares.running() == ["ann"]


@pytest.mark.parametrize("year_s", [1_735_689_600.0, 2_208_988_800.0])
def test_the_numbers_hold_for_decades(year_s):
    assert had(1, year_s, year_s + 3600, year_s + 3600) == pytest.approx(3600, rel=1e-2)
