"""What is agreed on with the kernel, on the bytes of FUSE_INIT."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseclient.kernel.negotiation import CONGESTION_THRESHOLD, MAX_BACKGROUND, Feature, agreed

EXT = 1 << 30
EVERYTHING = 2**64 - 1
UNIQUE = 7


def request(offered: int = EVERYTHING, *, opcode: int = 26, major: int = 7) -> bytes:
    """What a kernel of today says first."""
    body = struct.pack("=IIIII44x", major, 45, 131072, offered & 0xFFFF_FFFF, offered >> 32)
    return struct.pack("=IIQQIIII", 40 + len(body), opcode, UNIQUE, 0, 0, 0, 0, 0) + body


def answer(
    flags: int = EXT, *, background: int = 0, congestion: int = 0, error: int = 0, unique: int = UNIQUE
) -> bytes:
    """What libfuse answers."""
    low, high = flags & 0xFFFF_FFFF, flags >> 32
    body = struct.pack("=IIIIHHIIHHI28x", 7, 31, 131072, low, background, congestion, 1 << 20, 1, 256, 5, high)
    return struct.pack("=IiQ", 16 + len(body), error, unique) + body


def flags_of(reply: bytes) -> int:
    return struct.unpack_from("=I", reply, 28)[0] | struct.unpack_from("=I", reply, 48)[0] << 32


def settled(reply: bytes) -> bytes:
    return agreed(request(), reply, set_id_bits=False)


def test_directories_are_worked_in_at_once_and_direct_files_can_be_mapped() -> None:
    for set_id_bits in (True, False):
        flags = flags_of(agreed(request(), answer(), set_id_bits=set_id_bits))
        assert flags & Feature.PARALLEL_DIROPS
        assert flags & Feature.DIRECT_IO_ALLOW_MMAP
        assert flags & EXT


def test_nothing_is_asked_before_a_write_where_no_file_can_have_set_id_bits() -> None:
    assert flags_of(settled(answer())) & Feature.HANDLE_KILLPRIV_V2


@pytest.mark.parametrize("by_default", [0, Feature.HANDLE_KILLPRIV, Feature.HANDLE_KILLPRIV_V2])
def test_the_kernel_takes_set_id_bits_away_where_files_can_have_them(by_default: int) -> None:
    flags = flags_of(agreed(request(), answer(EXT | by_default), set_id_bits=True))
    assert not flags & (Feature.HANDLE_KILLPRIV | Feature.HANDLE_KILLPRIV_V2)


@given(offered=st.integers(0, EVERYTHING), theirs=st.integers(0, EVERYTHING), set_id_bits=st.booleans())
def test_nothing_is_added_that_the_kernel_does_not_offer(offered: int, theirs: int, set_id_bits: bool) -> None:
    if not theirs & EXT:
        theirs &= 0xFFFF_FFFF
    flags = flags_of(agreed(request(offered), answer(theirs), set_id_bits=set_id_bits))
    upper = offered if offered & EXT else offered & 0xFFFF_FFFF
    assert flags & ~(theirs | upper) & ~EXT == 0
    added = Feature.PARALLEL_DIROPS | Feature.HANDLE_KILLPRIV_V2 | Feature.DIRECT_IO_ALLOW_MMAP | EXT
    assert flags & ~theirs & ~added == 0
    assert theirs & ~flags & ~(Feature.HANDLE_KILLPRIV | Feature.HANDLE_KILLPRIV_V2) == 0


def test_an_older_kernel_has_no_upper_flags() -> None:
    flags = flags_of(agreed(request(EVERYTHING & ~EXT), answer(0), set_id_bits=False))
    assert flags == Feature.PARALLEL_DIROPS | Feature.HANDLE_KILLPRIV_V2


def test_more_is_under_way_at_once_but_never_less_than_libfuse_says() -> None:
    assert struct.unpack_from("=HH", settled(answer()), 32) == (MAX_BACKGROUND, CONGESTION_THRESHOLD)
    assert struct.unpack_from("=HH", settled(answer(background=99, congestion=70)), 32) == (99, 70)


def test_all_else_stays_as_libfuse_said_it() -> None:
    before, after = bytearray(answer()), bytearray(settled(answer()))
    for start, end in ((28, 36), (48, 52)):
        before[start:end] = after[start:end] = bytes(end - start)
    assert before == after


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request(opcode=1), answer()),
        (request(major=8), answer()),
        (request()[:50], answer()),
        (request() + b"x", answer()),
        (b"", answer()),
        (request(), answer(error=-71)),
        (request(), answer(unique=8)),
        (request(), answer()[:-1]),
        (request(), answer()[:40]),
        (request(), b""),
    ],
)
def test_what_is_not_known_here_is_left_alone(asked: bytes, said: bytes) -> None:
    assert agreed(asked, said, set_id_bits=False) == said


@given(asked=st.binary(max_size=120), said=st.binary(max_size=120))
def test_any_bytes_are_fine(asked: bytes, said: bytes) -> None:
    assert agreed(asked, said, set_id_bits=False) == said
