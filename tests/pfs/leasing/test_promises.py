"""A server's note of whom it has promised something, for the one after it."""

import errno
import json
import os
import re
from pathlib import Path

import pytest

from pfs.errors import Kind, PfsError
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


def full(monkeypatch: pytest.MonkeyPatch, *endings: str, code: int = errno.ENOSPC) -> None:
    """Let the disk have no room for files with these endings."""
    write = promises._write_file

    def attempt(path: str, flags: int, data: bytes, *, durably: bool) -> None:
        if path.endswith(endings):
            raise OSError(code, os.strerror(code))
        write(path, flags, data, durably=durably)

    monkeypatch.setattr(promises, "_write_file", attempt)


def test_on_a_full_disk_mounts_come_and_go_as_ever(note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Promises(note)
    allocated = os.stat(note).st_blocks
    full(monkeypatch, ".part")
    for number in range(300):
        server.add(f"{number:032x}")
    server.discard(f"{0:032x}")
    assert Promises(note).earlier == [f"{number:032x}" for number in range(1, 300)]
    assert os.stat(note).st_blocks == allocated  # it has needed no room


def test_a_full_disk_lets_a_server_start_where_there_was_one(note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(note).write_text(json.dumps({"boot": "", "ended": True, "mounts": []}))
    full(monkeypatch, ".part")
    assert Promises(note).earlier == []
    os.unlink(note)
    with pytest.raises(PfsError, match=r"mounts cannot be written: No space left on device") as caught:
        Promises(note)
    assert caught.value.kind is Kind.NO_SPACE


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EROFS])
def test_what_cannot_be_noted_is_not_promised_and_what_can_be_is_as_it_was(
    note: str, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    server = Promises(note)
    server.add("ann")
    with monkeypatch.context() as patch:
        full(patch, ".part", "mounts", code=code)
        with pytest.raises(OSError, match=re.escape(os.strerror(code))):
            server.add("bob")
        server.discard("ann")
        server.end([])
    assert Promises(note).earlier == ["ann"]
