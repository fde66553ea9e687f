"""WebSocket frames: what is written is read, however it is cut, and as another implementation does it."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import BytesMessage, Ping, Pong

from pfs.errors import Kind, PfsError
from pfs.protocol.frames import FrameReader, Message, Opcode, encode_message, mask

KEY = b"\x01\x02\xfe\xff"
sizes = st.one_of(st.integers(0, 300), st.sampled_from([125, 126, 127, 65535, 65536, 70_000]))
keys = st.one_of(st.none(), st.binary(min_size=4, max_size=4))


def reader(*, masked: bool = True, bytes_max: int = 1 << 20) -> FrameReader:
    return FrameReader(masked=masked, bytes_max=bytes_max)


def frame(first: int, payload: bytes = b"", *, size: int | None = None) -> bytes:
    """A masked frame, right or wrong."""
    return bytes([first, 0x80 | (len(payload) if size is None else size)]) + bytes(4) + payload


@given(st.lists(sizes, max_size=4), keys, st.lists(st.integers(1, 70_000), max_size=6))
def test_messages_are_read_as_they_were_written_however_they_are_cut(
    lengths: list[int], key: bytes | None, cuts: list[int]
) -> None:
    messages = [bytes(range(256)) * (size // 256) + bytes(size % 256) for size in lengths]
    data = b"".join(encode_message(Opcode.BINARY, each, key) for each in messages)
    frames, found = reader(masked=key is not None), []
    for cut in [*cuts, len(data)]:
        piece, data = data[:cut], data[cut:]
        found += frames.feed(piece)
    assert found == [Message(Opcode.BINARY, each) for each in messages]


@given(st.binary(max_size=70_000))
def test_another_implementation_reads_what_is_written_here(data: bytes) -> None:
    server = Connection(ConnectionType.SERVER)
    server.receive_data(encode_message(Opcode.BINARY, data, KEY) + encode_message(Opcode.PING, b"p", KEY))
    *parts, ping = server.events()
    assert b"".join(part.data for part in parts if isinstance(part, BytesMessage)) == data
    assert ping == Ping(b"p")


@given(st.binary(max_size=70_000))
def test_what_another_implementation_writes_is_read_here(data: bytes) -> None:
    client = Connection(ConnectionType.CLIENT)
    written = client.send(BytesMessage(data)) + client.send(Pong(b"p"))
    assert reader().feed(written) == [Message(Opcode.BINARY, data), Message(Opcode.PONG, b"p")]


@given(st.one_of(st.binary(max_size=100), st.binary(min_size=500, max_size=600)), st.binary(min_size=4, max_size=4))
def test_a_mask_is_undone_by_itself_and_goes_byte_by_byte(data: bytes, key: bytes) -> None:
    masked = mask(data, key)
    assert masked == bytes(each ^ key[at % 4] for at, each in enumerate(data))
    assert mask(masked, key) == data


def test_a_message_in_parts_is_whole_with_a_ping_between_them() -> None:
    parts = frame(0x02, b"ab") + frame(0x89, b"?") + frame(0x00, b"") + frame(0x80, b"cd") + frame(0x82, b"e")
    assert reader().feed(parts) == [
        Message(Opcode.PING, b"?"),
        Message(Opcode.BINARY, b"abcd"),
        Message(Opcode.BINARY, b"e"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        frame(0xC2),
        frame(0x83),
        frame(0x8B),
        frame(0x80),
        frame(0x02, b"a") + frame(0x82, b"b"),
        frame(0x09),
        frame(0x89, size=126) + bytes(200),
        b"\x82\x01a",
    ],
    ids=[
        "reserved bit",
        "unknown kind",
        "unknown control",
        "continuation of nothing",
        "message within a message",
        "control in parts",
        "large control",
        "no mask",
    ],
)
def test_what_is_no_proper_frame_is_refused(wrong: bytes) -> None:
    with pytest.raises(PfsError) as caught:
        reader().feed(wrong)
    assert caught.value.kind is Kind.INVALID


def test_a_server_that_masks_is_refused() -> None:
    with pytest.raises(PfsError) as caught:
        reader(masked=False).feed(frame(0x82, b"a"))
    assert caught.value.kind is Kind.INVALID


def test_a_message_above_the_limit_is_refused_before_it_is_there() -> None:
    head = encode_message(Opcode.BINARY, bytes(1001), KEY)[:8]
    with pytest.raises(PfsError) as caught:
        reader(bytes_max=1000).feed(head)
    assert caught.value.kind is Kind.TOO_LARGE


def test_the_parts_of_a_message_count_together() -> None:
    frames = reader(bytes_max=100)
    frames.feed(frame(0x02, bytes(60)))
    with pytest.raises(PfsError) as caught:
        frames.feed(frame(0x80, bytes(60)))
    assert caught.value.kind is Kind.TOO_LARGE


@given(st.binary(max_size=60))
def test_rubbish_is_refused_or_awaited(data: bytes) -> None:
    with contextlib.suppress(PfsError):
        assert all(len(message.data) <= 100 for message in reader(bytes_max=100).feed(data))


def test_a_message_in_very_many_parts_is_whole() -> None:
    frames = reader()
    assert frames.feed(frame(0x02)) == []
    assert frames.feed(frame(0x00) * 9_000 + frame(0x00, b"a") * 9_000) == []
    assert frames.feed(frame(0x80, b"b")) == [Message(Opcode.BINARY, b"a" * 9_000 + b"b")]


def test_a_message_may_begin_with_an_empty_part_and_end_with_one() -> None:
    frames = reader()
    assert frames.feed(frame(0x02) + frame(0x80)) == [Message(Opcode.BINARY, b"")]
    assert frames.feed(frame(0x82, b"next")) == [Message(Opcode.BINARY, b"next")]
