"""Frames and nouns: what goes in comes out, and whatever else comes in is refused as INVALID and nothing else."""

import json
import math
import struct
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pfs.api import Attr, Changes, NodeType, OpenFlags, Owner, Space
from pfs.errors import Kind, PfsError
from pfs.path import check_name
from pfs.protocol.wire import (
    FRAME_BYTES_MAX,
    HEADER_BYTES_MAX,
    ID_MAX,
    Answer,
    Ask,
    Cancel,
    Frame,
    decode_attr,
    decode_changes,
    decode_error,
    decode_flags,
    decode_frame,
    decode_owner,
    decode_space,
    encode_attr,
    encode_changes,
    encode_error,
    encode_flags,
    encode_frame,
    encode_owner,
    encode_space,
)


def can_be_a_name(text: str) -> bool:
    try:
        check_name(text)
    except PfsError:
        return False
    return True


CHARACTERS = "aZ0 ./\0\n\x7fé€😀\udc80\udcff"  # the last two are bytes that are no UTF-8
TEXT = st.text(CHARACTERS, max_size=20)
ODD_TEXT = st.text(CHARACTERS + "\ud800\udfff", max_size=20)  # halves of surrogate pairs
NAME = TEXT.filter(can_be_a_name)
SIZE = st.integers(0, 2**63 - 1)
TIME = st.integers(-(2**64), 2**64)
NUMBER = st.integers(0, 2**63 - 1)
ID = st.integers(0, ID_MAX)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ODD_TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(ODD_TEXT, inner, max_size=4),
    max_leaves=8,
)
# what compares equal to itself
ARGS = st.dictionaries(TEXT, st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT), max_size=4)
ATTR = st.builds(
    Attr,
    st.sampled_from(NodeType),
    st.integers(1, 2**64 - 1),
    st.integers(0, 0o7777),
    SIZE,
    st.integers(0, 2**31 - 1),
    TIME,
    TIME,
    TIME,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.floats(0, 86_400),
    ID,
    ID,
    SIZE,
    st.booleans(),
)
CHANGES = st.builds(
    Changes,
    st.none() | st.integers(0, 0o7777),
    st.none() | SIZE,
    st.none() | TIME,
    st.none() | TIME,
    st.none() | ID,
    st.none() | ID,
)
ERROR = st.builds(PfsError, st.sampled_from(Kind), TEXT.filter(bool), st.none() | TEXT)
FRAME = (
    st.builds(Ask, NUMBER, TEXT, ARGS, st.binary())
    | st.builds(Answer, NUMBER, ARGS, st.binary(), st.none())
    | st.builds(Cancel, NUMBER)
)
few = settings(max_examples=20)  # of what takes long to make up
AN_ATTR = encode_attr(Attr(NodeType.FILE, 1, 0o644))


def travelled(value: Any) -> Any:
    """What the other side reads of a value."""
    return json.loads(json.dumps(value))


def framed(header: object, body: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack(">I", len(text)) + text + body


def refused(decode: Callable[[Any], object], value: object) -> bool:
    kind = None
    try:
        decode(value)
    except PfsError as error:
        kind = error.kind
    assert kind in (None, Kind.INVALID, Kind.NAME_TOO_LONG)
    return kind is not None


# ---- what goes in comes out


@few
@given(FRAME)
def test_a_frame_comes_out_as_it_went_in(frame: Frame) -> None:
    assert decode_frame(encode_frame(frame)) == frame


@given(NUMBER, ERROR)
def test_a_refusal_comes_out_as_it_went_in(number: int, error: PfsError) -> None:
    match decode_frame(encode_frame(Answer(number, {"left": "out"}, b"left out", error))):
        case Answer(got, {}, b"", PfsError() as told):
            assert (got, told.kind, told.message, told.path) == (number, error.kind, error.message, error.path)
        case other:
            pytest.fail(f"came out as {other}")


@few
@given(ATTR)
def test_attributes_come_out_as_they_went_in(attr: Attr) -> None:
    assert decode_attr(travelled(encode_attr(attr))) == attr


@given(CHANGES)
def test_changes_come_out_as_they_went_in(changes: Changes) -> None:
    assert decode_changes(travelled(encode_changes(changes))) == changes


@given(st.builds(Space, SIZE, SIZE, SIZE, SIZE))
def test_room_comes_out_as_it_went_in(space: Space) -> None:
    assert decode_space(travelled(encode_space(space))) == space


@given(st.none() | st.builds(Owner, ID, ID))
def test_an_owner_comes_out_as_it_went_in(owner: Owner | None) -> None:
    assert decode_owner(travelled(encode_owner(owner))) == owner


def test_flags_come_out_as_they_went_in() -> None:
    for bits in range(1 << len(OpenFlags)):
        assert decode_flags(travelled(encode_flags(OpenFlags(bits)))) == OpenFlags(bits)


# ---- what is no frame


@given(st.binary(max_size=60))
def test_rubbish_is_refused(data: bytes) -> None:
    refused(decode_frame, data)


@few
@given(JSON, st.binary(max_size=4))
def test_any_header_is_a_frame_or_refused(header: object, body: bytes) -> None:
    refused(decode_frame, framed(header, body))


@few
@given(st.dictionaries(st.sampled_from(["ask", "answer", "cancel", "op", "args", "result", "error"]), JSON))
def test_any_values_are_a_frame_or_refused(header: dict[str, object]) -> None:
    refused(decode_frame, framed(header))


@given(FRAME, st.data())
def test_a_damaged_frame_is_another_or_refused(frame: Frame, data: st.DataObject) -> None:
    whole = bytearray(encode_frame(frame))
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(len(whole), start + 4)))
    whole[start:end] = data.draw(st.binary(max_size=4))
    refused(decode_frame, bytes(whole))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0\0\0",
        b"\0\0\0\5{}",
        b"\xff\xff\xff\xff" + b"x" * 10,
        framed(b"\xff\xfe"),
        framed(b"[" * 100_000),
        framed(b'{"cancel": ' + b"9" * 5000 + b"}"),
        framed([]),
        framed({}),
        framed({"ask": 1, "args": {}}),
        framed({"ask": 1, "op": "x", "args": []}),
        framed({"ask": True, "op": "x", "args": {}}),
        framed({"ask": -1, "op": "x", "args": {}}),
        framed({"ask": 2**63, "op": "x", "args": {}}),
        framed({"answer": 1}),
        framed({"answer": 1, "result": "x"}),
        framed({"answer": "1", "result": {}}),
        framed({"cancel": 1.0}),
    ],
)
def test_what_is_no_frame(data: bytes) -> None:
    assert refused(decode_frame, data)


def test_a_header_of_more_than_its_most_is_refused_unread() -> None:
    assert refused(decode_frame, framed(b'{"cancel": 1' + b" " * HEADER_BYTES_MAX + b"}"))


@pytest.mark.parametrize(
    "frame",
    [
        Ask(1, "write", {}, bytes(FRAME_BYTES_MAX)),
        Ask(1, "x", {"path": "a" * HEADER_BYTES_MAX}),
        Answer(1, {}, bytes(FRAME_BYTES_MAX)),
    ],
    ids=["body", "header", "answer"],
)
def test_what_the_other_side_would_not_take_is_not_sent(frame: Frame) -> None:
    with pytest.raises(PfsError) as caught:
        encode_frame(frame)
    assert caught.value.kind is Kind.TOO_LARGE


# ---- what is no noun


@few
@given(JSON)
def test_any_value_is_a_noun_or_refused(value: object) -> None:
    for decode in (decode_attr, decode_changes, decode_flags):
        refused(decode, travelled(value))
    if isinstance(value, dict):
        refused(decode_space, travelled(value))


@few
@given(st.sampled_from(sorted(AN_ATTR)), JSON)
def test_one_wrong_field_spoils_attributes_and_nothing_else(name: str, value: object) -> None:
    refused(decode_attr, AN_ATTR | {name: value})


@few
@given(st.sampled_from(["mode", "size", "atime_ns", "mtime_ns"]), JSON)
def test_one_wrong_field_spoils_changes_and_nothing_else(name: str, value: object) -> None:
    refused(decode_changes, {name: value})


@few
@given(JSON)
def test_whatever_an_error_looks_like_it_is_one(value: object) -> None:
    assert isinstance(decode_error(value), PfsError)


@pytest.mark.parametrize("value", [None, "x", [], {}, {"kind": "made-up"}, {"kind": ["busy"]}])
def test_an_error_that_is_not_known_here_is_internal(value: object) -> None:
    assert decode_error(value).kind is Kind.INTERNAL


def test_an_error_keeps_no_path_that_is_none() -> None:
    assert decode_error({"kind": "busy", "message": "m", "path": 5}).path is None


def test_an_error_says_its_kind_in_words() -> None:
    assert encode_error(PfsError(Kind.NOT_DIR, "m", "p")) == {"kind": "not-dir", "message": "m", "path": "p"}


# ---- a server that means harm


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "device"),
        ("type", ["file"]),
        ("node_id", 0),
        ("node_id", 2**64),
        ("mode", 0o10000),
        ("mode", -1),
        ("size", -1),
        ("size", 2**63),
        ("size", 1.5),
        ("size", True),
        ("size", "1"),
        ("nlink", -1),
        ("mtime_ns", 2**65),
        ("atime_ns", None),
        ("ctime_ns", [1]),
        ("valid_s", math.nan),
        ("valid_s", -1),
        ("valid_s", "1"),
        ("flags", 1),
        ("uid", -1),
        ("uid", ID_MAX + 1),
        ("gid", "0"),
        ("gid", True),
        ("blocks", -1),
        ("blocks", 2**63),
    ],
)
def test_a_hostile_number_is_refused(name: str, value: object) -> None:
    assert refused(decode_attr, AN_ATTR | {name: value})


@pytest.mark.parametrize("name", sorted(AN_ATTR))
def test_no_attribute_may_be_missing(name: str) -> None:
    assert refused(decode_attr, {key: value for key, value in AN_ATTR.items() if key != name})


@pytest.mark.parametrize("valid_s", [86_401, math.inf, 10**400])
def test_nothing_is_believed_for_more_than_a_day(valid_s: float) -> None:
    assert decode_attr(AN_ATTR | {"valid_s": valid_s}).valid_s == 86_400


@pytest.mark.parametrize(
    "value",
    [
        {"mode": -1},
        {"mode": 0o10000},
        {"size": -1},
        {"size": 2**63},
        {"mtime_ns": "now"},
        {"uid": ID_MAX + 1},
        {"gid": -1},
        {"gid": True},
        [],
        None,
        "size",
    ],
)
def test_wrong_changes_are_refused(value: object) -> None:
    assert refused(decode_changes, value)


@pytest.mark.parametrize(
    "value",
    [{}, {"uid": 0}, {"uid": 0, "gid": ID_MAX + 1}, {"uid": -1, "gid": 0}, [0, 0], 5, "root", {"uid": 0, "gid": True}],
)
def test_wrong_owners_are_refused(value: object) -> None:
    assert refused(decode_owner, value)


@pytest.mark.parametrize("value", [None, "read", {"read": 1}, ["READ", "execute"], [None], [["read"]]])
def test_wrong_flags_are_refused(value: object) -> None:
    assert refused(decode_flags, value)


@pytest.mark.parametrize("value", [{}, {"bytes_total": 1}, {"bytes_total": -1}, {"colour": 1}])
def test_wrong_room_is_refused(value: object) -> None:
    assert refused(decode_space, value)
