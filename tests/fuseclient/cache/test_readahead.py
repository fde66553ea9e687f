"""What a window fetches: everything that is asked for, little else, and nothing twice while it is held."""

import random
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fuseclient.cache.readahead import (
    AHEAD_BYTES_MAX,
    GRAIN_BYTES_MAX,
    HEAD_BYTES,
    PAGE_BYTES,
    PIECE_BYTES_MAX,
    RUNS_MAX,
    SLACK_BYTES_MAX,
    SPARE_BYTES_MAX,
    SPARE_PIECES_MAX,
    Plan,
    Range,
    Window,
)

KIB, MIB, GIB = 1024, 1024**2, 1024**3
REQUEST = 128 * KIB  # as large as the kernel's read-ahead makes them


class Reader:
    """A window with an owner that does as the plans say."""

    def __init__(self, file_size: int) -> None:
        self.window, self.file_size = Window(), file_size
        self.held: set[Range] = set()
        self.fetched: Counter[Range] = Counter()
        self.asked_pages = 0

    def read(self, offset: int, size: int, ahead_bytes_max: int = AHEAD_BYTES_MAX) -> Plan:
        plan = self.window.read(offset, size, self.file_size, ahead_bytes_max)
        new = [*plan.now, *plan.ahead]
        assert not self.held & set(new)
        self.fetched.update(new)
        self.held |= set(new)
        self.check_answer(plan, offset, min(offset + size, self.file_size))
        assert set(plan.drop) <= self.held - set(plan.use)
        self.held -= set(plan.drop)
        assert self.held == set(self.window.pieces)
        if offset < self.file_size:
            self.asked_pages += -(-(min(offset + size, self.file_size)) // PAGE_BYTES) - offset // PAGE_BYTES
        return plan

    def check_answer(self, plan: Plan, offset: int, end: int) -> None:
        assert set(plan.use) <= self.held
        assert set(plan.now) <= set(plan.use)
        assert not set(plan.ahead) & set(plan.use)
        if offset >= end:
            assert plan == Plan()
            return
        assert plan.use[0].start <= offset
        assert plan.use[-1].end >= end
        assert all(piece.end == then.start for piece, then in pairwise(plan.use))
        assert all(0 < piece.size <= PIECE_BYTES_MAX and piece.end <= self.file_size for piece in self.held)

    def read_all(self, offsets: Iterable[int], size: int) -> None:
        for offset in offsets:
            self.read(offset, size)

    @property
    def fetched_bytes(self) -> int:
        return sum(piece.size * times for piece, times in self.fetched.items())


def test_the_first_read_at_the_beginning_brings_the_head_at_once() -> None:
    assert Window().read(0, REQUEST, GIB).now == (Range(0, HEAD_BYTES),)


@pytest.mark.parametrize("offset", [0, 700_000])
def test_a_small_file_comes_whole_wherever_it_is_read(offset: int) -> None:
    plan = Window().read(offset, 100, 900_001)
    assert (plan.now, plan.ahead) == ((Range(0, 900_001),), ())


def test_a_small_file_comes_whole_also_when_it_was_read_before() -> None:
    reader = Reader(900_000)
    reader.read(0, 100)
    reader.window.clear()
    assert reader.window.read(800_000, 100, 900_000).now == (Range(0, 900_000),)


@pytest.mark.parametrize(("offset", "size", "file_size"), [(0, 10, 0), (5, 10, 5), (50, 10, 5), (3, 0, 5)])
def test_nothing_is_fetched_where_there_is_nothing(offset: int, size: int, file_size: int) -> None:
    assert Window().read(offset, size, file_size) == Plan()


def test_a_scan_looks_ahead_as_far_as_it_has_earned_and_32_mib_at_most() -> None:
    reader, window_ends = Reader(GIB), {}
    for offset in range(0, 64 * MIB, REQUEST):
        reader.read(offset, REQUEST)
        window_ends[offset + REQUEST] = max(piece.end for piece in reader.held)
    ahead = {passed: (end - passed) // MIB for passed, end in window_ends.items()}
    assert [ahead[passed * MIB] for passed in (1, 2, 4, 16, 64)] == [4, 8, 16, 32, 32]


def test_a_long_scan_fetches_in_large_pieces_at_even_places() -> None:
    reader = Reader(256 * MIB)
    reader.read_all(range(0, 256 * MIB, REQUEST), REQUEST)
    late = [piece for piece in reader.fetched if piece.start >= 32 * MIB]
    assert {(piece.start % PIECE_BYTES_MAX, piece.size) for piece in late} == {(0, PIECE_BYTES_MAX)}


@pytest.mark.parametrize("size", [4 * KIB, REQUEST, MIB])
def test_a_scan_seldom_waits(size: int) -> None:
    reader = Reader(64 * MIB)
    waits = sum(bool(reader.read(offset, size).now) for offset in range(0, 64 * MIB, size))
    assert waits <= 2


@given(
    file_size=st.integers(1, 40 * MIB),
    sizes=st.lists(st.integers(1, MIB), min_size=1, max_size=20),
    ahead=st.sampled_from([0, 100 * KIB, MIB, AHEAD_BYTES_MAX]),
)
def test_a_scan_fetches_every_byte_once(file_size: int, sizes: list[int], ahead: int) -> None:
    reader, offset, turn = Reader(file_size), 0, 0
    sizes.append(REQUEST)
    while offset < file_size:
        reader.read(offset, sizes[turn % len(sizes)], ahead)
        offset, turn = offset + sizes[turn % len(sizes)], turn + 1
    assert reader.fetched_bytes == file_size


@given(st.randoms(use_true_random=False), st.sampled_from([REQUEST, 256 * KIB, MIB]))
def test_a_scan_whose_requests_arrive_out_of_order_fetches_every_byte_once(
    shuffled: random.Random, request: int
) -> None:
    reader = Reader(48 * MIB)
    offsets = list(range(0, 48 * MIB, request))
    for at in range(0, len(offsets), 4):
        part = offsets[at : at + 4]
        shuffled.shuffle(part)
        offsets[at : at + 4] = part
    reader.read_all(offsets, request)
    assert reader.fetched_bytes == 48 * MIB
    assert max(piece.size for piece in reader.fetched) == PIECE_BYTES_MAX


def test_a_scan_that_begins_in_the_middle_is_one_after_its_second_read() -> None:
    reader = Reader(GIB)
    assert reader.read(300 * MIB, REQUEST).ahead == ()
    assert reader.read(300 * MIB + REQUEST, REQUEST).ahead != ()


def test_nothing_is_fetched_ahead_where_there_is_no_room() -> None:
    reader = Reader(64 * MIB)
    for offset in range(0, 64 * MIB, REQUEST):
        assert reader.read(offset, REQUEST, 0).ahead == ()


def test_what_lies_ahead_of_all_runs_stays_within_the_room_that_is_given() -> None:
    reader, room = Reader(GIB), 8 * MIB
    starts = (0, 200 * MIB, 400 * MIB)
    for step in range(0, 40 * MIB, REQUEST):
        for start in starts:
            reader.read(start + step, REQUEST, room)
    ahead = sum(piece.size for piece in reader.held for start in starts if 0 <= piece.start - start - step < 100 * MIB)
    assert 0 < ahead <= room


def test_threads_that_read_side_by_side_are_each_a_scan() -> None:
    reader = Reader(200 * MIB)
    waits = 0
    for offset in range(0, 32 * MIB, REQUEST):
        for start in (0, 168 * MIB):
            waits += bool(reader.read(start + offset, REQUEST).now)
    assert waits <= 4
    assert max(reader.fetched.values()) == 1


def test_a_glance_elsewhere_does_not_end_a_scan() -> None:
    reader, dice = Reader(GIB), random.Random(1)
    waits = 0
    for offset in range(0, 32 * MIB, REQUEST):
        waits += bool(reader.read(offset, REQUEST).now)
        reader.read(dice.randrange(100, 1000) * MIB, PAGE_BYTES)
    assert waits <= 2


def test_reads_far_from_one_another_soon_fetch_only_what_is_asked() -> None:
    reader, dice = Reader(GIB), random.Random(1)
    sizes = [reader.read(dice.randrange(GIB // PAGE_BYTES) * PAGE_BYTES, PAGE_BYTES).now[0].size for _ in range(50)]
    assert sizes[0] == GRAIN_BYTES_MAX
    assert set(sizes[6:]) == {PAGE_BYTES}


def test_reads_near_one_another_bring_their_neighbours() -> None:
    reader, dice = Reader(GIB), random.Random(1)
    for _ in range(1000):
        reader.read(500 * MIB + dice.randrange(256) * PAGE_BYTES, PAGE_BYTES)
    assert sum(reader.fetched.values()) < 40
    assert reader.fetched_bytes <= 6 * MIB


def test_the_grain_grows_again_where_reads_are_near_one_another() -> None:
    reader, dice = Reader(GIB), random.Random(1)
    reader.read_all((dice.randrange(GIB // PAGE_BYTES) * PAGE_BYTES for _ in range(20)), PAGE_BYTES)
    sizes = [reader.read(at, PAGE_BYTES).now[0].size for at in range(500 * MIB, 505 * MIB, 512 * KIB)]
    assert sizes[-5:] == [GRAIN_BYTES_MAX] * 5


def test_a_later_read_of_the_beginning_is_one_like_any_other() -> None:
    reader = Reader(GIB)
    reader.read(500 * MIB, PAGE_BYTES)
    assert reader.read(0, PAGE_BYTES).now[0].size < GRAIN_BYTES_MAX


def test_the_end_of_a_file_is_where_it_is() -> None:
    end = 20 * MIB + 5
    assert Window().read(20 * MIB, MIB, end).now == (Range(20 * MIB, end),)


def test_reading_the_same_again_and_again_looks_no_further_ahead() -> None:
    reader, start = Reader(GIB), 500 * MIB
    for _ in range(100):
        reader.read(start, REQUEST)
        assert max(piece.end for piece in reader.held) <= start + 5 * REQUEST


def test_a_scan_that_skips_looks_ahead_by_what_it_has_asked_for() -> None:
    reader, asked = Reader(GIB), 0
    for offset in range(0, 16 * MIB, 4 * 32 * KIB):
        plan = reader.read(offset, 32 * KIB)
        asked += 32 * KIB
        assert all(piece.end <= offset + 32 * KIB + 4 * asked for piece in plan.ahead)


def test_a_scan_that_runs_into_another_has_the_room_of_both() -> None:
    reader, room = Reader(GIB), 8 * MIB
    for offset in range(0, 16 * MIB, MIB):
        reader.read(offset, MIB, room)
        if offset < 8 * MIB:
            reader.read(8 * MIB + offset, MIB, room)
    reader.read(16 * MIB, MIB, room)
    assert max(piece.end for piece in reader.held) >= 15 * MIB + room


def test_a_scan_that_was_given_up_leaves_its_room_to_others() -> None:
    reader, room, start = Reader(GIB), 8 * MIB, 500 * MIB
    reader.read_all(range(0, 20 * MIB, REQUEST), REQUEST)
    for offset in range(start, start + 20 * MIB, REQUEST):
        reader.read(offset, REQUEST, room)
    assert max(piece.end for piece in reader.held) - (start + 20 * MIB) > room - PIECE_BYTES_MAX


@pytest.mark.parametrize("elsewhere", [range(0, 400 * MIB, PAGE_BYTES), range(600 * MIB, GIB, PAGE_BYTES)])
def test_what_is_used_again_and_again_stays(elsewhere: range) -> None:
    reader, dice = Reader(GIB), random.Random(1)
    reader.read(500 * MIB, PAGE_BYTES)
    for turn in range(1000):
        reader.read(dice.choice(elsewhere), PAGE_BYTES)
        if turn % 10 == 0:
            assert reader.read(500 * MIB + turn % 30 * PAGE_BYTES, PAGE_BYTES).now == ()


def test_a_file_read_backwards_is_fetched_once_and_in_pieces() -> None:
    reader = Reader(16 * MIB)
    reader.read_all(range(16 * MIB - PAGE_BYTES, -1, -PAGE_BYTES), PAGE_BYTES)
    assert reader.fetched_bytes <= 16 * MIB + HEAD_BYTES
    assert sum(reader.fetched.values()) < 16 * MIB / GRAIN_BYTES_MAX * 2


@pytest.mark.parametrize("stride", [64 * KIB, 256 * KIB, 3 * MIB])
def test_strides_cost_no_more_than_the_stretch_that_they_go_over(stride: int) -> None:
    reader, count = Reader(GIB), 200
    reader.read_all(range(0, count * stride, stride), 8 * KIB)
    assert reader.fetched_bytes <= min(count * stride, count * GRAIN_BYTES_MAX) + 2 * HEAD_BYTES


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 64 * MIB // PAGE_BYTES), st.sampled_from([1, 1, 2, 4, 32])),
        min_size=1,
        max_size=150,
    )
)
def test_random_reads_fetch_32_times_what_they_ask_at_most(reads: list[tuple[int, int]]) -> None:
    reader = Reader(64 * MIB)
    for page, pages in reads:
        reader.read(page * PAGE_BYTES, pages * PAGE_BYTES)
    assert reader.fetched_bytes <= HEAD_BYTES + 32 * reader.asked_pages * PAGE_BYTES


@settings(max_examples=60)
@given(
    file_size=st.integers(1, 24 * MIB),
    reads=st.lists(st.tuples(st.floats(0, 1.1), st.integers(0, MIB), st.integers(1, 12)), max_size=60),
    lose=st.booleans(),
)
def test_every_read_is_answered_and_what_is_held_is_bounded(
    file_size: int, reads: list[tuple[float, int, int]], lose: bool
) -> None:
    reader = Reader(file_size)
    for where, size, times in reads:
        offset = int(where * file_size)
        for turn in range(times):
            plan = reader.read(offset + turn * size, size)
            assert len(reader.held) <= SPARE_PIECES_MAX + 200
            assert reader.window.held_bytes == sum(piece.size for piece in reader.held)
            held_max = AHEAD_BYTES_MAX + SPARE_BYTES_MAX + RUNS_MAX * (SLACK_BYTES_MAX + PIECE_BYTES_MAX)
            assert reader.window.held_bytes <= held_max
        if lose and plan.now:
            reader.window.lost(plan.now[0])
            reader.held.discard(plan.now[0])


def test_random_reads_hold_only_the_latest() -> None:
    reader, dice = Reader(GIB), random.Random(1)
    for _ in range(2000):
        reader.read(dice.randrange(GIB // PAGE_BYTES) * PAGE_BYTES, PAGE_BYTES)
        assert len(reader.held) <= SPARE_PIECES_MAX + 2
        assert reader.window.held_bytes <= SPARE_BYTES_MAX + 2 * HEAD_BYTES


def test_a_long_scan_lets_go_of_what_it_has_passed() -> None:
    reader = Reader(GIB)
    for offset in range(0, 200 * MIB, REQUEST):
        reader.read(offset, REQUEST)
        behind = sum(piece.size for piece in reader.held if piece.end <= offset)
        assert behind <= SPARE_BYTES_MAX + 2 * PIECE_BYTES_MAX


def test_what_was_fetched_ahead_for_a_scan_that_ended_is_let_go() -> None:
    reader = Reader(GIB)
    reader.read_all(range(0, 40 * MIB, REQUEST), REQUEST)
    dice = random.Random(1)
    for _ in range(300):
        reader.read(dice.randrange(200 * MIB, GIB, PAGE_BYTES), PAGE_BYTES)
    assert reader.window.held_bytes <= SPARE_BYTES_MAX + HEAD_BYTES


def test_a_piece_that_was_lost_is_fetched_again_for_the_next_read() -> None:
    window = Window()
    piece = window.read(0, REQUEST, GIB).now[0]
    window.lost(piece)
    plan = window.read(0, REQUEST, GIB)
    assert plan.now != ()
    assert plan.now[0].overlaps(Range(0, REQUEST))


def test_a_piece_is_lost_once() -> None:
    window = Window()
    piece = window.read(0, REQUEST, GIB).now[0]
    window.lost(piece)
    window.lost(piece)
    assert (window.pieces, window.held_bytes) == ((), 0)


def test_nothing_is_used_of_what_was_held_before_the_content_changed() -> None:
    reader = Reader(GIB)
    reader.read_all(range(0, 4 * MIB, REQUEST), REQUEST)
    assert set(reader.window.clear()) == reader.held
    plan = reader.window.read(4 * MIB, REQUEST, GIB)
    assert plan.use == plan.now != ()
    assert plan.ahead != ()  # it is still a scan


def test_a_file_that_has_grown_is_read_on() -> None:
    reader = Reader(3 * MIB + 5)
    reader.read_all(range(0, 4 * MIB, REQUEST), REQUEST)
    reader.file_size = 5 * MIB
    reader.read_all(range(3 * MIB, 5 * MIB, REQUEST), REQUEST)
    assert reader.fetched_bytes == 5 * MIB
