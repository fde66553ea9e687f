"""A server's note of whom it has promised something, for the one after it."""

import json
from pathlib import Path

import pytest

from pfs.leasing import promises
from pfs.leasing.promises import Promises


@pytest.fixture
def note(tmp_path: Path) -> str:
    return str(tmp_path / "mounts")


def test_the_first_server_is_bound_to_nobody(note: str) -> None:
    assert Promises(note).earlier == []


def test_after_a_kill_the_next_server_knows_who_was_promised_something(note: str) -> None:
    first = Promises(note)
    for name in ("ann", "bob", "ann"):
        first.add(name)
    first.discard("bob")
    first.discard("nobody")
    assert Promises(note).earlier == ["ann"]


def test_a_server_that_has_ended_properly_binds_nobody_but_to_those_it_could_not_reach(note: str) -> None:
    first = Promises(note)
    first.add("ann")
    first.end([])
    second = Promises(note)
    assert second.earlier == []
    second.add("ann")
    second.end(["ann"])
    assert Promises(note).earlier == ["ann"]


def test_a_server_that_is_killed_while_it_waits_leaves_those_it_waited_for_to_the_next(note: str) -> None:
    Promises(note).add("ann")
    second = Promises(note)
    second.add("bob")
    third = Promises(note)
    assert third.earlier == ["ann", "bob"]
    third.settle()
    assert Promises(note).earlier == []


def test_after_the_machine_went_down_nobody_knows(note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Promises(note).add("ann")
    monkeypatch.setattr(promises, "_boot_id", lambda: "another")
    assert Promises(note).earlier is None
    second = Promises(note)
    assert second.earlier is None
    second.settle()
    assert Promises(note).earlier == []


def test_after_a_proper_end_the_machine_may_go_down(note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Promises(note).end([])
    monkeypatch.setattr(promises, "_boot_id", lambda: "another")
    assert Promises(note).earlier == []


def test_where_boots_cannot_be_told_apart_nobody_knows(note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(promises, "_boot_id", lambda: "")
    Promises(note).add("ann")
    assert Promises(note).earlier is None


def test_a_mount_that_comes_or_goes_while_the_server_ends_is_noted(note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ending = Promises(note)
    ending.add("ann")
    ending.end(["ann"])
    ending.discard("ann")
    monkeypatch.setattr(promises, "_boot_id", lambda: "another")
    second = Promises(note)
    assert second.earlier == []
    second.end([])
    second.add("bob")
    assert Promises(note).earlier == ["bob"]


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", json.dumps({"boot": "", "ended": True, "mounts": 5})])
def test_a_note_that_cannot_be_read_leaves_nobody_known(note: str, text: str) -> None:
    Path(note).write_text(text)
    assert Promises(note).earlier is None


def test_a_server_that_ends_while_it_does_not_know_leaves_it_so(note: str) -> None:
    Path(note).write_text("{")
    Promises(note).end([])
    assert Promises(note).earlier is None
