"""Copies of nodes: what is listed from them again as it is, and what ends that."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from fuseclient.cache.copies import Copies
from pfs.api import Attr, Content, Entry, NodeType

DIRECTORY, FILES = 10, (11, 12, 13)
HOME = 1 << 63 | 5  # the server makes it
NOW_S = 100.0


def attr(node_id: int, type_: NodeType = NodeType.FILE, *, size: int = 0, leased: bool = True) -> Attr:
    return Attr(type_, node_id, 0o644, size=size, valid_s=10.0, leased=leased)


def filled(copies: Copies, directory: Attr | None = None) -> Copies:
    """Let a directory of three files be known."""
    above = directory or attr(DIRECTORY, NodeType.DIRECTORY)
    entries = [Entry(f"f{number}", attr(number)) for number in FILES]
    with copies.question() as question:
        copies.learn(question, above, NOW_S)
        copies.learn_listing(question, above.node_id, entries, NOW_S)
    return copies


def learn(copies: Copies, known: Attr) -> None:
    with copies.question() as question:
        copies.learn(question, known, NOW_S)


def learn_content(copies: Copies) -> None:
    with copies.question() as question:
        copies.learn_content(question, Content("f11", attr(11, size=1), b"x"), NOW_S)


def list_again(copies: Copies) -> None:
    with copies.question() as question:
        copies.learn_listing(question, DIRECTORY, [Entry("f11", attr(11))], NOW_S)


CHANGES: dict[str, tuple[Callable[[Copies], None], list[tuple[str, int]] | None]] = {
    "others have changed a file, and it was asked for": (lambda it: learn(it, attr(12, size=7)), [("f12", 7)]),
    "this mount has changed a file": (lambda it: it.relearn(attr(12, size=7)), [("f12", 7)]),
    "a file is read": (learn_content, [("f11", 1)]),
    "it is listed again": (list_again, [("f11", 0)]),
    "a name leads elsewhere": (lambda it: it.set_name(DIRECTORY, "f13", 12), [("f13", 0)]),
    "the moment of a guess": (lambda it: it.guess(12, attr(12, size=7), NOW_S + 1), [("f12", 7)]),
    "the server has made a file": (lambda it: it.adopt(12, attr(12, size=7)), [("f12", 7)]),
    "a file has to be asked for": (lambda it: it.touch(12), None),
    "a file is written": (lambda it: it.wrote(12, 5), None),
    "the lease of a file ends": (lambda it: it.broken([12]), None),
    "the lease of the directory ends": (lambda it: it.broken([DIRECTORY]), None),
    "the names have to be asked for": (lambda it: it.forget_names(DIRECTORY), None),
    "nothing is known any more": (lambda it: it.forget_all(), None),
}


def test_what_was_listed_is_given_as_it_is_while_nothing_changes() -> None:
    copies = filled(Copies())
    listed = copies.listing(DIRECTORY, NOW_S)
    learn(copies, attr(99))  # what was not known before is no change
    assert copies.listing(DIRECTORY, NOW_S) is listed


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_seen_in_the_next_listing(change: str) -> None:
    copies = filled(Copies())
    copies.listing(DIRECTORY, NOW_S)
    do, seen = CHANGES[change]
    do(copies)
    listed = copies.listing(DIRECTORY, NOW_S)
    if seen is None:
        assert listed is None
    else:
        assert listed is not None
        assert set(seen) <= {(entry.name, entry.attr.size) for entry in listed}


def test_a_directory_that_was_emptied_by_this_mount_is_listed_empty() -> None:
    copies = filled(Copies())
    copies.listing(DIRECTORY, NOW_S)
    with copies.question() as question:
        copies.learn_empty(question, DIRECTORY)
    assert copies.listing(DIRECTORY, NOW_S) == []


def test_what_is_dropped_for_room_is_not_listed() -> None:
    copies = filled(Copies(copies_max=4))
    assert copies.listing(DIRECTORY, NOW_S) is not None
    learn(copies, attr(99))
    assert copies.listing(DIRECTORY, NOW_S) is None


def test_the_names_of_a_directory_that_the_server_makes_hold_for_their_time() -> None:
    copies = filled(Copies(), attr(HOME, NodeType.DIRECTORY, leased=False))
    assert copies.listing(HOME, NOW_S + 9) is not None
    assert copies.listing(HOME, NOW_S + 10) is None


def test_the_names_of_a_volatile_directory_are_never_kept() -> None:
    jobs = replace(attr(HOME, NodeType.DIRECTORY, leased=False), volatile=True)
    copies = filled(Copies(), jobs)
    assert copies.names(HOME, NOW_S) is None
    assert copies.attr(HOME, NOW_S) is None


def test_what_holds_for_a_moment_is_listed_for_that_moment() -> None:
    copies = filled(Copies())
    copies.guess(12, attr(12, size=7), NOW_S + 1)
    assert copies.listing(DIRECTORY, NOW_S) is not None
    assert copies.listing(DIRECTORY, NOW_S + 1) is None


def test_only_so_many_entries_are_kept_as_they_were_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuseclient.cache.copies.LISTED_MAX", 2)
    copies = filled(Copies())
    listed = copies.listing(DIRECTORY, NOW_S)
    again = copies.listing(DIRECTORY, NOW_S)
    assert again == listed
    assert again is not listed
