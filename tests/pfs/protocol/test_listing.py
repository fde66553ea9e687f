"""Listings in records: what is packed comes out again, in pages, and rubbish is refused."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.api import Attr, Content, Entry, NodeType
from pfs.errors import Kind, PfsError
from pfs.path import check_name
from pfs.protocol.listing import pack_contents, pack_entry, pack_page, unpack_contents, unpack_entries
from pfs.protocol.wire import ID_MAX, VALID_S_MAX

U32, U63 = st.integers(0, 2**31 - 1), st.integers(0, 2**63 - 1)
TIMES = st.integers(-(2**34) * 10**9, 2**34 * 10**9)
ATTRS = st.builds(
    Attr,
    st.sampled_from(NodeType),
    st.integers(1, 2**64 - 1),
    st.integers(0, 0o7777),
    U63,
    U32,
    TIMES,
    TIMES,
    TIMES,
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.floats(0, VALID_S_MAX),
    st.integers(0, ID_MAX),
    st.integers(0, ID_MAX),
    U63,
    st.booleans(),
)
NAMES = st.text("aZ0 .\n\x7fé€😀\udc80\udcff", min_size=1, max_size=20).filter(lambda name: name not in (".", ".."))
TARGETS = st.none() | st.text("a/.é\udcff", min_size=1, max_size=20)
ENTRIES = st.lists(st.builds(Entry, NAMES, ATTRS, TARGETS), max_size=4)
ONE = Entry("x", Attr(NodeType.FILE, 7, 0o644))
RECORD = pack_entry(ONE)
FIELDS = struct.Struct(">BBHIIIQQQqIqIqId")


def spoilt(field: int, value: float) -> bytes:
    """The record of `ONE` with another value in a field."""
    fields = list(FIELDS.unpack(RECORD[3:]))
    fields[field] = value
    return RECORD[:3] + FIELDS.pack(*fields)


def named(name: bytes) -> bytes:
    return struct.pack(">H", len(name)) + name + RECORD[3:]


@given(ENTRIES)
def test_a_listing_comes_out_as_it_went_in(entries: list[Entry]) -> None:
    assert unpack_entries(b"".join(map(pack_entry, entries))) == entries


@given(ENTRIES, st.integers(0, 400))
def test_pages_together_are_the_listing_and_none_is_empty(entries: list[Entry], bytes_max: int) -> None:
    found: list[Entry] = []
    more = bool(entries)
    while more:
        data, more = pack_page(entries[len(found) :], bytes_max)
        page = unpack_entries(data)
        assert page
        assert len(page) == 1 or len(data) <= bytes_max
        found += page
    assert found == entries


@given(st.lists(st.builds(Content, NAMES, ATTRS, st.binary(max_size=5)), max_size=4), st.integers(0, 1000))
def test_files_come_out_as_they_went_in_and_as_many_as_fit(files: list[Content], bytes_max: int) -> None:
    assert unpack_contents(pack_contents(files, 10_000)) == files
    packed = pack_contents(files, bytes_max)
    found = unpack_contents(packed)
    assert found == files[: len(found)]
    assert len(packed) <= bytes_max
    assert found == files or len(pack_contents(files[: len(found) + 1], 10_000)) > bytes_max


@pytest.mark.parametrize("name", [b"", b".", b"..", b"../../etc", b"/etc", b"a\0b", b"x" * 256])
def test_a_hostile_name_is_refused(name: bytes) -> None:
    with pytest.raises(PfsError) as caught:
        unpack_entries(RECORD + named(name))
    assert caught.value.kind in {Kind.INVALID, Kind.NAME_TOO_LONG}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, len(NodeType)),
        (1, 16),
        (2, 0o10000),
        (3, 2**31),
        (4, ID_MAX + 1),
        (5, ID_MAX + 1),
        (6, 0),
        (7, 2**63),
        (8, 2**63),
        (15, -0.5),
        (15, float("nan")),
    ],
)
def test_a_number_out_of_its_range_is_refused(field: int, value: float) -> None:
    with pytest.raises(PfsError) as caught:
        unpack_entries(spoilt(field, value))
    assert caught.value.kind is Kind.INVALID


def test_nothing_is_kept_for_longer_than_a_day() -> None:
    assert unpack_entries(spoilt(15, float("inf")))[0].attr.valid_s == VALID_S_MAX


@pytest.mark.parametrize("cut", range(1, len(RECORD)))
def test_a_record_that_is_cut_is_refused(cut: int) -> None:
    with pytest.raises(PfsError) as caught:
        unpack_entries(RECORD + RECORD[:cut])
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize("cut", range(1, len(RECORD) + 7))
def test_a_file_that_is_cut_is_refused(cut: int) -> None:
    whole = pack_contents([Content(ONE.name, ONE.attr, b"abc")], 1000)
    assert len(whole) == len(RECORD) + 7
    with pytest.raises(PfsError) as caught:
        unpack_contents(whole + whole[:cut])
    assert caught.value.kind is Kind.INVALID


@given(st.binary(max_size=200))
def test_rubbish_is_refused_or_a_listing(data: bytes) -> None:
    for unpack in (unpack_entries, unpack_contents):
        with contextlib.suppress(PfsError):
            assert all(check_name(each.name) for each in unpack(data))


@pytest.mark.parametrize("target", [b"\0\0", b"\0\3a\0b", b"\0\3ab", b"\0", b""])
def test_where_no_link_can_lead_is_refused(target: bytes) -> None:
    record = pack_entry(Entry("x", ONE.attr, "t")).removesuffix(b"\0\1t")
    with pytest.raises(PfsError) as caught:
        unpack_entries(record + target)
    assert caught.value.kind is Kind.INVALID


def test_a_listing_that_comes_again_is_made_of_the_same_entries_and_belongs_to_who_asked() -> None:
    first = unpack_entries(RECORD)
    again = unpack_entries(bytes(bytearray(RECORD)))
    assert first[0] is again[0]
    first.clear()
    assert again == unpack_entries(RECORD) == [ONE]
    assert unpack_entries(pack_entry(Entry("y", ONE.attr)))[0].name == "y"
