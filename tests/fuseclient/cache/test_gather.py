"""Gathered writes: what is sent is what was written, in an order that keeps later bytes on top."""

import random
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from fuseclient.cache import gather
from fuseclient.cache.gather import PIECE_BYTES, PIECE_BYTES_MAX, RUNS_BYTES_MAX, RUNS_MAX, SMALL_BYTES, Gather, Piece

MIB = 1024**2


def put(file: bytearray, offset: int, data: bytes) -> None:
    """Write as a server does: with zeros where nobody wrote."""
    file.extend(bytes(max(0, offset - len(file))))
    file[offset : offset + len(data)] = data


def flat(piece: Piece) -> bytes:
    return b"".join(piece.parts)


def spans(pieces: list[Piece]) -> list[tuple[int, int]]:
    return [(piece.offset, piece.end) for piece in pieces]


def test_small_writes_that_join_are_one_piece() -> None:
    gathered = Gather()
    for at in range(0, 10_000, 100):
        assert gathered.add(at, b"x" * 100) == []
    assert spans(gathered.take()) == [(0, 10_000)]


def test_a_run_is_handed_out_when_it_has_a_pieces_length() -> None:
    gathered, out = Gather(), []
    for at in range(0, 2 * PIECE_BYTES, SMALL_BYTES):
        out.append(spans(gathered.add(at, b"x" * SMALL_BYTES)))
    assert [each for each in out if each] == [[(0, PIECE_BYTES)], [(PIECE_BYTES, 2 * PIECE_BYTES)]]
    assert gathered.take() == []


def test_a_large_write_is_not_copied() -> None:
    data = bytes(PIECE_BYTES)
    (piece,) = Gather().add(5, data)
    assert [part is data for part in piece.parts] == [True]


def test_writes_of_a_page_and_more_are_not_copied() -> None:
    gathered, data = Gather(), [bytes(PIECE_BYTES // 4) for _ in range(4)]
    for number, each in enumerate(data[:3]):
        assert gathered.add(number * len(each), each) == []
    (piece,) = gathered.add(3 * len(data[0]), data[3])
    assert all(part is each for part, each in zip(piece.parts, data, strict=True))


def test_a_write_larger_than_a_piece_may_be_is_handed_out_in_several() -> None:
    pieces = Gather().add(7, bytes(2 * PIECE_BYTES_MAX + 1))
    start, piece = 7, PIECE_BYTES_MAX
    assert spans(pieces) == [(start, start + piece), (start + piece, start + 2 * piece), (7 + 2 * piece, 8 + 2 * piece)]


def test_the_later_of_two_writes_wins() -> None:
    gathered = Gather()
    gathered.add(0, b"aaaaaa")
    gathered.add(2, b"bb")
    gathered.add(5, b"ccc")
    assert [(piece.offset, flat(piece)) for piece in gathered.take()] == [(0, b"aabbaccc")]


def test_a_write_over_several_runs_takes_their_place() -> None:
    gathered = Gather()
    for at in (0, 10, 20, 30):
        gathered.add(at, b"aaaaa")
    gathered.add(8, b"b" * 24)
    assert [(piece.offset, flat(piece)) for piece in gathered.take()] == [(0, b"aaaaa"), (8, b"b" * 24 + b"aaa")]


def test_a_write_from_one_run_into_the_next_takes_the_place_of_both_ends() -> None:
    gathered = Gather()
    for at in (0, 10, 20):
        gathered.add(at, b"aaaaa")
    gathered.add(3, b"b" * 20)
    assert [(piece.offset, flat(piece)) for piece in gathered.take()] == [(0, b"aaa" + b"b" * 20 + b"aa")]


def test_what_was_written_backwards_is_one_piece() -> None:
    gathered = Gather()
    for at in range(90, -1, -10):
        gathered.add(at, b"x" * 10)
    assert spans(gathered.take()) == [(0, 100)]


def test_too_many_runs_are_all_handed_out_in_order() -> None:
    gathered = Gather()
    places = [each * 1000 for each in range(RUNS_MAX + 1)]
    random.Random(1).shuffle(places)
    out = [spans(gathered.add(place, b"x")) for place in places]
    assert not any(out[:-1])
    assert out[-1] == [(place, place + 1) for place in sorted(places)]


def test_runs_that_are_large_together_are_handed_out() -> None:
    gathered, most, sent = Gather(), 0, 0
    for turn in range(40):
        sent += sum(piece.size for piece in gathered.add(turn * 4 * MIB, bytes(MIB)))
        most = max(most, gathered.dirty_bytes - sent)
    assert RUNS_BYTES_MAX - MIB <= most <= RUNS_BYTES_MAX


def test_pieces_that_do_not_overlap_may_travel_side_by_side() -> None:
    gathered = Gather()
    gathered.add(0, b"aa")
    first = gathered.take()
    gathered.add(2, b"bb")
    assert [piece.after for piece in first + gathered.take()] == [(), ()]


def test_a_piece_waits_for_those_in_flight_that_it_overlaps() -> None:
    gathered = Gather()
    gathered.add(0, b"aaaa")
    gathered.add(10, b"aaaa")
    first, second = gathered.take()
    gathered.add(3, b"bbbbbbbb")
    (third,) = gathered.take()
    assert third.after == (first.number, second.number)
    gathered.done(first)
    gathered.add(0, b"c" * 20)
    assert gathered.take()[0].after == (second.number, third.number)


def test_bytes_are_dirty_until_the_server_has_confirmed_them() -> None:
    gathered = Gather()
    gathered.add(0, b"aaaa")
    assert gathered.dirty_bytes == 4
    (piece,) = gathered.take()
    assert (gathered.dirty_bytes, piece.size) == (4, 4)
    gathered.done(piece)
    gathered.done(piece)
    assert gathered.dirty_bytes == 0


@pytest.mark.parametrize("size", [1, 4096, SMALL_BYTES])
def test_writes_one_after_the_other_are_never_laid_out_anew(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def laid_out(run: object) -> bytearray:
        raise AssertionError("all that was gathered so far is copied once more")

    monkeypatch.setattr("fuseclient.cache.gather._Run._flat", laid_out)
    gathered, data = Gather(), b"x" * size
    for at in range(0, min(20_000 * size, 3 * MIB), size):
        gathered.add(at, data)


def test_small_writes_take_little_more_memory_than_their_bytes() -> None:
    gathered, data = Gather(), [bytes([at % 256]) * 10 for at in range(20_000)]
    tracemalloc.start()
    try:
        for number, each in enumerate(data):
            gathered.add(number * 10, each)
        assert tracemalloc.get_traced_memory()[0] < 2 * 10 * len(data)
    finally:
        tracemalloc.stop()


PLACES = st.integers(0, 150)
SIZES = st.one_of(st.integers(0, 15), st.integers(0, 150))


class Written(RuleBasedStateMachine):
    """A file that is written through a `Gather`, beside one that is written directly."""

    @initialize(small=st.integers(1, 20), piece=st.integers(20, 200), runs=st.integers(1, 12))
    def begin(self, small: int, piece: int, runs: int) -> None:
        self.limits = pytest.MonkeyPatch()
        for name, value in (
            ("SMALL_BYTES", small),
            ("PIECE_BYTES", piece),
            ("PIECE_BYTES_MAX", 2 * piece),
            ("RUNS_MAX", runs),
            ("RUNS_BYTES_MAX", 4 * piece),
        ):
            self.limits.setattr(gather, name, value)
        self.gathered = Gather()
        self.wanted, self.server = bytearray(), bytearray()
        self.waiting: list[Piece] = []
        self.done: set[int] = set()
        self.turn = 0

    def handed_out(self, pieces: list[Piece]) -> None:
        assert all(0 < len(flat(piece)) <= gather.PIECE_BYTES_MAX for piece in pieces)
        ordered = sorted(spans(pieces))
        assert all(one[1] <= other[0] for one, other in pairwise(ordered))
        self.waiting += pieces

    @rule(offset=PLACES, size=SIZES)
    def write(self, offset: int, size: int) -> None:
        self.turn += 1
        data = bytes([self.turn % 255 + 1]) * size
        if data:
            put(self.wanted, offset, data)
        self.handed_out(self.gathered.add(offset, data))

    @rule(size=st.integers(0, 40), times=st.integers(1, 10))
    def append(self, size: int, times: int) -> None:
        for _ in range(times):
            self.write(len(self.wanted), size)

    @rule()
    def flush(self) -> None:
        self.handed_out(self.gathered.take())

    @rule(pick=st.integers(0, 1000))
    def send(self, pick: int) -> None:
        """The server writes any of the pieces that may be sent."""
        ready = [piece for piece in self.waiting if set(piece.after) <= self.done]
        if ready:
            piece = ready[pick % len(ready)]
            self.waiting.remove(piece)
            put(self.server, piece.offset, flat(piece))
            self.done.add(piece.number)
            self.gathered.done(piece)

    @rule()
    def read(self) -> None:
        """Whoever reads has everything sent before."""
        self.flush()
        while self.waiting:
            self.send(len(self.waiting) * 7)
        assert self.server == self.wanted
        assert self.gathered.dirty_bytes == 0

    @invariant()
    def what_is_dirty_is_counted(self) -> None:
        in_flight = sum(len(flat(piece)) for piece in self.waiting)
        held = self.gathered.dirty_bytes - in_flight
        assert 0 <= held <= gather.RUNS_BYTES_MAX

    def teardown(self) -> None:
        if not hasattr(self, "gathered"):
            return
        try:
            self.read()
        finally:
            self.limits.undo()


TestWritten = Written.TestCase
TestWritten.settings = settings(max_examples=40, stateful_step_count=40)
