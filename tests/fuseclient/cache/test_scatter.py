"""Which blocks random reads bring: those that are likely to be wanted, and few where they turn out not to be."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseclient.cache.blockindex import BLOCK_BYTES
from fuseclient.cache.scatter import (
    AGAIN_READS,
    EARNED_BLOCKS,
    FREE_BLOCKS,
    FREE_READS,
    NOTED_MAX,
    PROVEN_HITS,
    TOGETHER_BLOCKS,
    Scatter,
)

PAGE = 4096
CACHE = 1024 * BLOCK_BYTES
SMALL, LARGE = CACHE // 2, CACHE // 2 + 1


def warmed(cache_bytes: int = CACHE) -> Scatter:
    """Return one that has seen as many reads as bring nothing; they were all in the last block of a huge file."""
    scatter = Scatter(cache_bytes)
    for _ in range(FREE_READS):
        assert scatter.read(10**6 * BLOCK_BYTES, PAGE, 2 * 10**6 * BLOCK_BYTES) == ()
    return scatter


def at(number: int) -> int:
    return number * BLOCK_BYTES + 3 * PAGE


def test_the_first_few_reads_bring_nothing_more() -> None:
    scatter = Scatter(CACHE)
    named = [list(scatter.read(at(number), PAGE, SMALL)) for number in range(FREE_READS + 1)]
    assert named == [[]] * FREE_READS + [[FREE_READS]]


def test_a_file_that_fits_brings_the_block_around_each_read_once() -> None:
    scatter = warmed()
    assert [list(scatter.read(at(number), PAGE, SMALL)) for number in (7, 3, 7, 3, 9)] == [[7], [3], [], [], [9]]


def test_a_larger_file_brings_only_blocks_in_which_reads_have_met() -> None:
    scatter = warmed()
    assert [list(scatter.read(at(number), PAGE, LARGE)) for number in (7, 3, 9, 3, 7, 7)] == [[], [], [], [3], [7], []]


def test_a_cache_without_room_gets_nothing() -> None:
    scatter = warmed(0)
    assert not any(scatter.read(at(number), PAGE, SMALL) for number in range(100))


def test_a_read_in_two_blocks_brings_both() -> None:
    assert list(warmed().read(5 * BLOCK_BYTES - PAGE, 2 * PAGE, SMALL)) == [4, 5]


def test_what_lies_behind_the_end_is_not_brought() -> None:
    scatter = warmed()
    assert list(scatter.read(5 * BLOCK_BYTES - PAGE, 2 * PAGE, 5 * BLOCK_BYTES)) == [4]
    assert scatter.read(9 * BLOCK_BYTES, PAGE, 5 * BLOCK_BYTES) == ()


def test_who_reads_whole_blocks_needs_no_more() -> None:
    assert warmed().read(at(7), BLOCK_BYTES, SMALL) == ()


def test_once_it_has_proved_right_neighbours_come_together() -> None:
    scatter, size = warmed(), (TOGETHER_BLOCKS + 2) * BLOCK_BYTES
    assert list(scatter.read(at(1), PAGE, size)) == [1]
    for _ in range(PROVEN_HITS):
        scatter.hit()
    assert list(scatter.read(at(2), PAGE, size)) == [0, *range(2, TOGETHER_BLOCKS)]
    assert list(scatter.read(at(TOGETHER_BLOCKS), PAGE, size)) == [TOGETHER_BLOCKS, TOGETHER_BLOCKS + 1]


@given(st.lists(st.integers(0, SMALL // PAGE - 1), max_size=200), st.integers(0, PROVEN_HITS - 1))
def test_no_more_is_brought_than_is_free_or_earned(pages: list[int], hits: int) -> None:
    scatter = Scatter(CACHE)
    for _ in range(hits):
        scatter.hit()
    named = [number for page in pages for number in scatter.read(page * PAGE, PAGE, SMALL)]
    assert len(named) == len(set(named)) <= FREE_BLOCKS + EARNED_BLOCKS * hits


def test_where_nobody_comes_back_it_ends_and_where_somebody_does_it_goes_on() -> None:
    scatter = warmed()
    count = sum(len(scatter.read(at(number), PAGE, SMALL)) for number in range(100))
    assert count == FREE_BLOCKS
    scatter.hit()
    assert sum(len(scatter.read(at(number), PAGE, SMALL)) for number in range(100, 200)) == EARNED_BLOCKS


def test_a_file_read_at_random_is_soon_here() -> None:
    dice, scatter, held, asked = random.Random(5), Scatter(CACHE), set[int](), 0
    for _ in range(1000):
        number = dice.randrange(256)
        if number in held:
            scatter.hit()
        else:
            asked += 1
            held.update(scatter.read(at(number), PAGE, 256 * BLOCK_BYTES))
    assert len(held) == 256
    assert asked < 150


def test_a_block_that_is_not_there_after_long_is_brought_again() -> None:
    scatter = warmed()
    assert list(scatter.read(at(7), PAGE, SMALL)) == [7]
    for _ in range(AGAIN_READS):
        assert scatter.read(at(7), PAGE, SMALL) == ()
    assert list(scatter.read(at(7), PAGE, SMALL)) == [7]


@pytest.mark.parametrize("size", [SMALL * 10**6, LARGE * 10**6])
def test_of_a_huge_file_not_everything_is_noted(size: int) -> None:
    scatter = warmed()
    for number in range(2 * NOTED_MAX):
        scatter.hit()
        scatter.read(at(number), PAGE, size)
        scatter.read(at(number), PAGE, size)
    assert max(len(scatter._seen), len(scatter._named)) <= NOTED_MAX
