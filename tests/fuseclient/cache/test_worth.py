"""When a whole directory is fetched for single names, and that one which others change is not fetched in vain."""

from collections.abc import Sequence

import trio

from fuseclient.cache.worth import DIRECTORIES_MAX, LIVED_S, Worth
from pfs.api import Entry
from pfs.errors import Kind
from tests.fuseclient.cache.test_coherence import Both, leasing, write
from tests.memoryfs import MemoryFileSystem
from tests.pfs.world import kind_of

COUNT = 800  # as dear as asking for 100 names


def misses(worth: Worth) -> int:
    """Miss names until the directory is worth fetching; return how many it took."""
    count = 1
    while not worth.missed(7):
        count += 1
    return count


def taken_back(worth: Worth, after_s: float, count: int = COUNT, *, for_program: bool = False) -> int:
    """Fetch the directory and lose it again; return how many misses make it worth fetching after that."""
    worth.fetched(7, count, 100.0, for_program=for_program)
    worth.ended(7, 100.0 + after_s)
    return misses(worth)


def test_the_second_miss_fetches_all() -> None:
    assert misses(Worth()) == 2


def test_what_was_fetched_in_vain_is_fetched_later_each_time_but_not_later_than_it_is_worth() -> None:
    worth = Worth()
    assert [taken_back(worth, 1.0) for _ in range(8)] == [4, 8, 16, 32, 64, 100, 100, 100]


def test_a_small_directory_costs_no_more_than_the_names_in_it() -> None:
    worth = Worth()
    assert [taken_back(worth, 1.0, count=20) for _ in range(3)] == [2, 2, 2]


def test_a_listing_that_has_lived_sets_it_back() -> None:
    worth = Worth()
    taken_back(worth, 1.0)
    assert taken_back(worth, LIVED_S) == 2


def test_what_a_program_has_listed_was_not_fetched_in_vain() -> None:
    worth = Worth()
    assert taken_back(worth, 1.0, for_program=True) == 2


def test_misses_count_while_nobody_interrupts_them() -> None:
    worth = Worth()
    for _ in range(5):
        assert not worth.missed(7)
        worth.ended(7, 1.0)
    assert misses(worth) == 2


def test_one_listing_is_taken_back_once() -> None:
    worth = Worth()
    worth.fetched(7, COUNT, 100.0, for_program=False)
    for _ in range(5):
        worth.ended(7, 101.0)
    assert misses(worth) == 4


def test_no_more_than_so_many_directories_are_remembered() -> None:
    worth = Worth()
    taken_back(worth, 1.0)
    for directory in range(100, 100 + DIRECTORIES_MAX):
        worth.missed(directory)
    assert misses(worth) == 2


class Counting(MemoryFileSystem):
    """Counts the entries that travel."""

    def __init__(self) -> None:
        super().__init__()
        self.entries = 0

    async def listdir(self, path: str) -> Sequence[Entry]:
        entries = await super().listdir(path)
        self.entries += len(entries)
        return entries


def test_two_mounts_that_change_a_large_directory_in_turn_do_not_fetch_it_each_time() -> None:
    files, turns = 400, 30
    truth = Counting()
    for number in range(files):
        truth.put(f"d/f{number}", b"")

    async def main() -> None:
        both = Both()
        both.truth = truth
        await both.join()
        async with trio.open_nursery() as nursery:
            for mount in both.mounts:
                mount.nursery = nursery
                await mount.listdir("")
            for turn in range(turns):
                for number, mount in enumerate(both.mounts):
                    name, before = f"d/{number}-{turn}", f"d/{1 - number}-{turn - 1 + number}"
                    assert await kind_of(mount.getattr(name)) is Kind.NOT_FOUND  # as a kernel does first
                    await write(name, b"", mount)
                    if turn:
                        assert (await mount.getattr(before)).size == 0
            nursery.cancel_scope.cancel()

    with leasing():
        trio.run(main)
    assert truth.entries < 20 * files, f"{truth.entries / files:.0f} listings for {2 * turns} changes"


def test_a_program_that_goes_through_the_names_soon_has_all_of_them() -> None:
    files = 400
    truth = Counting()
    for number in range(files):
        truth.put(f"d/f{number}", b"")

    async def main() -> None:
        both = Both()
        both.truth = truth
        await both.join()
        mine, other = both.mounts
        async with trio.open_nursery() as nursery:
            mine.nursery = other.nursery = nursery
            for turn in range(10):
                await write(f"d/x{turn}", b"", other)
                for number in range(3):
                    await mine.getattr(f"d/f{number}")
            truth.entries = 0
            truth.calls.clear()
            for number in range(files):
                await mine.getattr(f"d/f{number}")
            assert files <= truth.entries <= 2 * files
            assert truth.calls["getattr"] < files // 4
            nursery.cancel_scope.cancel()

    with leasing():
        trio.run(main)
