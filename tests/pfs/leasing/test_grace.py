"""After a start nothing changes before earlier promises are over."""

from pfs.leasing.grace import Grace


def test_everything_may_change_when_all_mounts_are_back() -> None:
    grace = Grace(["ann", "bob"], 10.0)
    grace.back("ann")
    grace.back("somebody new")
    assert not grace.over(5.0)
    grace.back("bob")
    assert grace.over(5.0)


def test_a_mount_that_does_not_come_back_is_waited_for_no_longer_than_it_trusts() -> None:
    grace = Grace(["ann"], 10.0)
    assert not grace.over(9.9)
    assert grace.over(10.0)


def test_where_nobody_was_promised_anything_nobody_is_waited_for() -> None:
    assert Grace([], 10.0).over(0.0)


def test_where_it_is_not_known_who_was_promised_something_it_is_waited_out() -> None:
    grace = Grace(None, 10.0)
    grace.back("ann")
    assert not grace.over(9.9)
    assert grace.over(10.0)
