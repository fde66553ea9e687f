"""Many files in one stream: what is packed comes out again, however it is cut, and what is none is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pfs.errors import Kind, PfsError
from pfs.protocol.parcels import (
    HEAD_BYTES_MAX,
    KINDS,
    PARCEL_BYTES_MAX,
    Parcel,
    Row,
    Unpacker,
    Verb,
    pack,
    pack_row,
    unpack_row,
)

texts = st.text(st.characters(codec="utf-8") | st.sampled_from(["\udcff", "\n", '"']), max_size=9)
times = st.integers(-(2**62), 2**62)


@st.composite
def sent(draw) -> tuple[Parcel, bytes]:
    verb = draw(st.sampled_from(Verb))
    data = draw(st.binary(max_size=50)) if verb is Verb.FILE else b""
    sized = verb not in (Verb.FOLDER, Verb.LINK, Verb.GONE_FOLDER)
    size = len(data) if verb is Verb.FILE else draw(st.integers(0, 2**62)) if sized else 0
    mode = draw(st.integers(0, 0o7777)) if sized else 0o644
    return Parcel(verb, draw(texts), size, mode, draw(st.none() | times), draw(texts)), data


@given(st.lists(sent(), max_size=6), st.lists(st.integers(1, 40)))
def test_what_is_packed_comes_out_however_it_is_cut(parcels: list[tuple[Parcel, bytes]], cuts: list[int]) -> None:
    stream = b"".join(pack(parcel, data) for parcel, data in parcels)
    unpacker, found = Unpacker(), []
    while stream:
        size = cuts.pop() if cuts else len(stream)
        found += unpacker.feed(stream[:size])
        stream = stream[size:]
    unpacker.end()
    assert found == parcels


@pytest.mark.parametrize("cut", [-1, -3, 5])
def test_a_stream_that_ends_in_the_middle_is_refused(cut: int) -> None:
    unpacker = Unpacker()
    assert list(unpacker.feed(pack(Parcel(Verb.FILE, "a", 3), b"abc")[:cut])) == []
    with pytest.raises(PfsError, match="in the middle") as caught:
        unpacker.end()
    assert caught.value.kind is Kind.INVALID


@pytest.mark.parametrize(
    "head",
    [
        b"{}",
        b"[1]",
        b"1",
        b"\xff",
        b"[" * 30_000,
        b'{"verb": "own", "path": "a"}',
        b'{"verb": "file", "path": 1}',
        b'{"verb": "file", "path": "a", "size": -1}',
        b'{"verb": "file", "path": "a", "size": true}',
        b'{"verb": "file", "path": "a", "size": %d}' % (PARCEL_BYTES_MAX + 1),
        b'{"verb": "file", "path": "a", "mode": 4096}',
        b'{"verb": "file", "path": "a", "mtime_ns": 1.5}',
        b'{"verb": "link", "path": "a", "target": 1}',
    ],
)
def test_a_head_that_is_none_is_refused(head: bytes) -> None:
    with pytest.raises(PfsError) as caught:
        list(Unpacker().feed(head + b"\n"))
    assert caught.value.kind is Kind.INVALID


def test_a_head_without_an_end_is_refused() -> None:
    with pytest.raises(PfsError, match="head has at most"):
        list(Unpacker().feed(b"x" * (HEAD_BYTES_MAX + 1)))


@given(st.builds(Row, texts, st.sampled_from(KINDS), st.integers(0, 2**62), times, st.integers(0, 0o7777), texts))
def test_a_line_of_a_listing_is_read_as_it_was_written(row: Row) -> None:
    line = pack_row(row)
    assert line.endswith(b"\n")
    assert b"\n" not in line[:-1]
    assert unpack_row(line) == row


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b'["a"]',
        b'["a","fd",0,0,0]',
        b'["a","",0,0,0]',
        b'["a","f",-1,0,0]',
        b'[1,"f",0,0,0]',
        b'["a","f",0,0,null]',
    ],
)
def test_a_line_that_is_none_is_refused(line: bytes) -> None:
    with pytest.raises(PfsError) as caught:
        unpack_row(line)
    assert caught.value.kind is Kind.INVALID
