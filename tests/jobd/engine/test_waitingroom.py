"""Who has how many jobs that wait, and who may submit more."""

import pytest

from jobd.engine.waitingroom import WaitingRoom
from jobd.scheduling.quotas import JobLimits
from pfs.errors import Kind, PfsError
from tests.jobd.engine.worlds import over, placed, started, waiting

TEAM = {"ann": frozenset({"ml"}), "bob": frozenset({"ml"})}


@pytest.fixture
def room() -> WaitingRoom:
    made = WaitingRoom()
    made.adopt({"ann": JobLimits(waiting=2), "groups/ml": JobLimits(waiting=3)}, TEAM)
    return made


def refused(room: WaitingRoom, user: str, count: int = 1) -> str:
    with pytest.raises(PfsError) as caught, room.entering(user, count):
        raise AssertionError("it was let in")
    assert caught.value.kind is Kind.QUOTA
    return caught.value.message


def test_a_job_counts_once_until_it_has_its_places_and_again_when_it_waits_once_more(room: WaitingRoom) -> None:
    job = waiting(1)
    room.follow(job)
    room.follow(job)
    assert (room.waiting("ann"), room.waiting("groups/ml"), room.waiting("bob")) == (1, 1, 0)
    runs = placed(job, "n0")
    room.follow(runs)
    assert room.waiting("ann") == 0
    room.follow(job)
    room.follow(over(started(runs)))
    room.follow(over(started(runs)))
    assert (room.waiting("ann"), room.waiting("groups/ml")) == (0, 0)


def test_what_is_being_submitted_counts_and_what_came_to_nothing_does_not(room: WaitingRoom) -> None:
    with room.entering("ann", 2):
        assert "ann's quota has 2 of 2 jobs waiting" in refused(room, "ann")
        assert "the quota of group ml has 2 of 3 jobs waiting, and this makes 2 more" in refused(room, "bob", 2)
        with room.entering("bob", 1), room.entering("eve", 1000):
            pass
    with pytest.raises(ZeroDivisionError), room.entering("ann", 2):
        raise ZeroDivisionError
    assert room.waiting("ann") == 0


def test_more_at_once_than_may_ever_wait_is_said_so(room: WaitingRoom) -> None:
    assert refused(room, "ann", 1000) == "1,000 jobs would wait, but ann's quota is 2 waiting at once"
    room.adopt({"ann": JobLimits(waiting=0)}, {})
    assert refused(room, "ann") == "1 job would wait, but ann's quota is 0 waiting at once"


def test_a_limit_that_is_lowered_or_lifted_changes_who_is_let_in_and_nothing_else(room: WaitingRoom) -> None:
    for number in range(2):
        room.follow(waiting(number))
    room.adopt({"ann": JobLimits(waiting=1)}, TEAM)
    assert "ann's quota has 2 of 1 jobs waiting" in refused(room, "ann")
    assert room.waiting("ann") == 2
    room.adopt({}, TEAM)
    with room.entering("ann", 10):
        pass
