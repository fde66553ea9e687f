"""What a client knows of its server's being there: whom leases may be trusted for, who waits, and for how long."""

from hypothesis import given
from hypothesis import strategies as st

from pfs.client.presence import PATIENCE_S, TRUST_S, Presence
from pfs.leasing.hub import LEASE_S

QUESTION_S = 30.0


def there() -> Presence:
    """Return what is known when the server has answered at 100 what was said then."""
    presence = Presence()
    presence.heard(100.0)
    return presence


def test_leases_are_trusted_for_a_while_after_they_were_asked_for() -> None:
    presence = there()
    assert presence.trusted(100.0 + TRUST_S - 0.1)
    assert not presence.trusted(100.0 + TRUST_S)


def test_a_client_stops_trusting_before_the_server_stops_keeping_its_word() -> None:
    assert TRUST_S < LEASE_S


def test_before_it_was_ever_there_nothing_is_trusted_or_remembered() -> None:
    presence = Presence()
    assert not presence.trusted(0.0)
    assert not presence.away(1e9)


def test_nobody_waits_for_a_server_that_has_not_been_there_yet() -> None:
    presence = Presence()
    presence.not_there(99.0)
    presence.lost(100.0)
    assert (presence.missed, presence.away(100.0), presence.decided_s(101.0)) == (True, True, 101.0)
    assert presence.deadline_s(101.0, QUESTION_S) == 101.0
    presence.heard(150.0)
    presence.lost(160.0)
    assert presence.deadline_s(161.0, QUESTION_S) == 160.0 + QUESTION_S


def test_after_a_lost_connection_it_is_waited_for_before_it_is_away() -> None:
    presence = there()
    presence.lost(101.0)
    assert not presence.trusted(101.0)
    assert not presence.away(101.0 + PATIENCE_S - 0.1)
    assert presence.decided_s(102.0) == 101.0 + PATIENCE_S
    assert presence.away(101.0 + PATIENCE_S)


def test_after_silence_it_is_away_at_once() -> None:
    presence = there()
    presence.silent(108.0)
    assert presence.away(108.0)
    presence.lost(115.0)  # we have hung up
    assert presence.away(115.0)


def test_when_it_is_heard_again_it_is_there() -> None:
    presence = there()
    presence.lost(101.0)
    presence.heard(150.0)
    assert presence.trusted(150.0)
    assert not presence.missed
    assert not presence.away(1000.0)
    assert presence.decided_s(151.0) == 151.0


def test_all_who_ask_while_it_is_away_give_up_at_the_same_time_and_later_ones_at_once() -> None:
    presence = there()
    assert presence.deadline_s(101.0, QUESTION_S) == 131.0
    presence.lost(101.0)
    presence.lost(103.0)  # it was tried again meanwhile
    assert presence.deadline_s(102.0, QUESTION_S) == 131.0
    assert presence.deadline_s(130.0, QUESTION_S) == 131.0
    assert presence.deadline_s(500.0, QUESTION_S) <= 500.0
    presence.heard(501.0)
    assert presence.deadline_s(502.0, QUESTION_S) == 532.0


@given(st.lists(st.tuples(st.sampled_from(["heard", "lost", "silent"]), st.floats(0.0, 20.0))))
def test_what_is_trusted_is_never_a_memory_and_nobody_waits_for_ever(steps: list[tuple[str, float]]) -> None:
    presence, now_s = Presence(), 100.0
    presence.heard(now_s)
    for step, seconds in steps:
        getattr(presence, step)(now_s)
        now_s += seconds
        assert not (presence.trusted(now_s) and presence.away(now_s))
        assert presence.decided_s(now_s) <= now_s + PATIENCE_S
        assert presence.deadline_s(now_s, QUESTION_S) <= now_s + QUESTION_S


def test_for_how_long_it_is_missed_counts_from_when_it_was_first() -> None:
    presence = there()
    assert presence.missed_for(200.0) == 0.0
    presence.silent(108.0)
    presence.lost(110.0)
    assert presence.missed_for(115.0) == 7.0
    presence.heard(116.0)
    assert presence.missed_for(120.0) == 0.0
