"""Names of blocks, and which of them go first."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseclient.cache import blockindex
from fuseclient.cache.blockindex import BLOCK_BYTES, Allowance, BlockId, BlockIndex, Key, block_of, name_of

PAGE = 4096
LARGE_LIMIT = 100 * BLOCK_BYTES


def block(node_id: int, number: int = 0, version: int = 1) -> BlockId:
    return BlockId(Key("dc1", node_id, 10 * BLOCK_BYTES, version, version), number)


def names(*blocks: BlockId) -> list[str]:
    return [name_of(each, 5) for each in blocks]


@pytest.mark.parametrize(("number", "size"), [(-1, 0), (0, BLOCK_BYTES), (1, BLOCK_BYTES), (2, 5), (3, 0)])
def test_the_last_block_may_be_shorter(number: int, size: int) -> None:
    assert Key("dc1", 1, 2 * BLOCK_BYTES + 5, 0, 0).block_size(number) == size


@given(
    datacenter=st.text(min_size=1, max_size=20),
    numbers=st.tuples(*[st.integers(0, 2**63)] * 2),
    times=st.tuples(*[st.integers(-(2**62), 2**62)] * 2),
    number=st.integers(0, 2**40),
    checksum=st.integers(0, 2**32 - 1),
)
def test_a_name_says_which_block_it_is(
    datacenter: str, numbers: tuple[int, int], times: tuple[int, int], number: int, checksum: int
) -> None:
    there = BlockId(Key(datacenter, numbers[0], numbers[1] + number * BLOCK_BYTES + 1, *times), number)
    name = name_of(there, checksum)
    assert "/" not in name
    assert block_of(name) == (there, checksum)


@pytest.mark.parametrize("name", ["", "lock", "a,b,c", "dc1,1,64,1,1,1,1", "dc1,1,64,1,1,-1,1", "dc1,01,64,1,1,0,1"])
def test_no_other_name_is_a_blocks_name(name: str) -> None:
    assert block_of(name) is None


def test_the_least_recently_used_goes_first_and_as_many_as_must() -> None:
    index = BlockIndex(3 * BLOCK_BYTES)
    for node in (1, 2, 3):
        assert index.add(block(node), 5, verified=True) == []
    assert index.use(block(1)) is not None
    assert index.add(block(4), 5, verified=True) == names(block(2))
    index.limit_bytes = BLOCK_BYTES
    assert index.shrink() == names(block(3), block(1))
    assert (len(index), index.held_bytes) == (1, BLOCK_BYTES)


def test_room_is_counted_as_disks_give_it_out() -> None:
    index = BlockIndex(LARGE_LIMIT)
    for node, size in enumerate((1, PAGE, PAGE + 1)):
        index.add(BlockId(Key("dc1", node, size, 1, 1), 0), 5, verified=True)
    assert index.held_bytes == 4 * PAGE


def test_the_index_is_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blockindex, "BLOCKS_MAX", 3)
    index = BlockIndex(LARGE_LIMIT)
    gone = [index.add(block(node), 5, verified=True) for node in range(5)]
    assert gone == [[], [], [], names(block(0)), names(block(1))]


def test_a_block_that_is_noted_again_stays() -> None:
    index = BlockIndex(LARGE_LIMIT)
    index.add(block(1), 5, verified=True)
    assert index.add(block(1), 5, verified=True) == []
    assert index.add(block(1), 6, verified=True) == names(block(1))
    assert (len(index), index.held_bytes) == (1, BLOCK_BYTES)


def test_another_version_takes_the_place_of_all_blocks_of_the_former() -> None:
    index = BlockIndex(LARGE_LIMIT)
    for number in (0, 1):
        index.add(block(1, number), 5, verified=True)
    index.add(block(2), 5, verified=True)
    assert index.add(block(1, 5, version=2), 5, verified=True) == names(block(1, 0), block(1, 1))
    assert [each in index for each in (block(1, 0), block(1, 5, version=2), block(2))] == [False, True, True]


def test_a_file_is_forgotten_once() -> None:
    index = BlockIndex(LARGE_LIMIT)
    for number in (3, 1):
        index.add(block(1, number), 5, verified=True)
    assert index.forget("dc1", 1) == names(block(1, 1), block(1, 3))
    assert (index.forget("dc1", 1), index.remove(block(1, 1)), len(index), index.held_bytes) == ([], [], 0, 0)


def test_a_burst_is_allowed_at_once_and_then_a_rate() -> None:
    allowance = Allowance(bytes_per_s=10, burst_bytes=100, now_s=5.0)
    assert allowance.take(60, 5.0)
    assert allowance.take(40, 5.0)
    assert allowance.take(10, 6.0)
    assert not allowance.take(1, 6.0)


def test_once_it_is_used_up_a_quarter_of_a_burst_comes_together_first() -> None:
    allowance = Allowance(bytes_per_s=10, burst_bytes=100, now_s=5.0)
    assert not allowance.take(101, 5.0)
    assert allowance.take(100, 5.0)
    assert not allowance.take(10, 5.0)
    assert not allowance.take(10, 7.4)
    assert allowance.take(10, 7.5)
    assert allowance.take(15, 7.5)


def test_what_was_not_taken_is_no_more_than_a_burst() -> None:
    allowance = Allowance(bytes_per_s=10, burst_bytes=100, now_s=5.0)
    assert not allowance.take(101, 1000.0)
    assert allowance.take(100, 1000.0)
