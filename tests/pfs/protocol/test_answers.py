"""Answers of a server that make no sense are its own fault, and are never believed."""

from collections.abc import Callable

import pytest

from pfs.api import Attr, Content, Entry, NodeType
from pfs.errors import Kind, PfsError
from pfs.protocol import answers
from pfs.protocol.answers import (
    decode_break,
    decode_contents,
    decode_opening,
    decode_page,
    decode_piece,
    decode_secret,
    decode_space,
    decode_target,
    decode_xattrs,
)
from pfs.protocol.listing import pack_contents, pack_entry
from pfs.protocol.wire import Json, encode_attr

ATTR = Attr(NodeType.FILE, 7, 0o644)


def page(*names: str) -> bytes:
    return b"".join(pack_entry(Entry(name, ATTR)) for name in names)


def kind(decode: Callable[[], object]) -> Kind | None:
    try:
        decode()
    except PfsError as error:
        return error.kind
    return None


def test_a_page_is_what_comes_behind_the_one_before() -> None:
    entries, more = decode_page({"more": True}, page("b", "c"), "a", 5)
    assert ([entry.name for entry in entries], more) == (["b", "c"], True)
    assert decode_page({"more": True}, b"", "a", 5) == ([], False)


@pytest.mark.parametrize("names", [["b", "a"], ["b", "b"], ["a"], ["A"]])
def test_a_page_without_order_could_go_on_for_ever(names: list[str]) -> None:
    assert kind(lambda: decode_page({"more": True}, page(*names), "a", 0)) is Kind.IO


def test_a_directory_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "ENTRIES_MAX", 3)
    assert kind(lambda: decode_page({}, page("a", "b", "c"), "", 0)) is None
    assert kind(lambda: decode_page({}, page("c"), "b", 3)) is Kind.IO


@pytest.mark.parametrize("handle", [None, "1", -1, 2**63, True, 1.0, float("inf")])
def test_a_handle_is_a_number(handle: object) -> None:
    assert kind(lambda: decode_opening({"handle": handle, "attr": encode_attr(ATTR)})) is Kind.IO


@pytest.mark.parametrize("body", [b"rubbish", pack_contents([Content("x", ATTR, b"abc")], 1000)[:-1]])
def test_a_file_is_no_longer_than_what_came(body: bytes) -> None:
    assert kind(lambda: decode_contents(body)) is Kind.IO


def test_nobody_is_given_more_than_was_asked_for() -> None:
    assert decode_piece(b"abc", 3) == b"abc"
    assert kind(lambda: decode_piece(b"abcd", 3)) is Kind.IO


@pytest.mark.parametrize("result", [{}, {"target": 5}, {"target": ""}, {"target": "a\0"}, {"target": "x" * 5000}])
def test_a_link_leads_somewhere(result: Json) -> None:
    assert kind(lambda: decode_target(result)) is Kind.IO


@pytest.mark.parametrize("result", [{}, {"names": 5}, {"names": [5]}, {"names": ["security.x"]}])
def test_attributes_have_names_of_users(result: Json) -> None:
    assert kind(lambda: decode_xattrs(result)) is Kind.IO


@pytest.mark.parametrize("result", [{}, {"bytes_free": -1}, {"x": 1}])
def test_room_is_told_whole(result: Json) -> None:
    assert kind(lambda: decode_space(result)) is Kind.IO


def test_leases_are_taken_back_by_number_and_name() -> None:
    assert decode_break({"nodes": [1], "names": [[2, "a"]]}) == ([1], [(2, "a")])


@pytest.mark.parametrize(
    ("nodes", "names"),
    [
        (None, []),
        (5, []),
        ("12", []),
        ([float("inf")], []),
        ([True], []),
        ([[1]], []),
        ([1], None),
        ([1], [1]),
        ([1], [[1]]),
        ([1], [["a", 1]]),
        ([1], [[1, "a", 2]]),
        ([1], [[float("nan"), "a"]]),
    ],
)
def test_a_question_about_leases_without_sense_is_invalid(nodes: object, names: object) -> None:
    assert kind(lambda: decode_break({"nodes": nodes, "names": names})) is Kind.INVALID


@pytest.mark.parametrize("secret", [None, 5, "", "x" * 32, "a" * 31, "a" * 33, "../../etc", "a" * 32 + "\r\nX: y"])
def test_a_secret_that_could_be_anything_else_is_none(secret: object) -> None:
    assert decode_secret({"bulk": secret}) == ""
    assert decode_secret({"bulk": "0123456789abcdef" * 2}) == "0123456789abcdef" * 2
