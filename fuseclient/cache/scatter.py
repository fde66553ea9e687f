"""Which blocks of a file are fetched whole because it is read at random.

A read that goes on with nothing is answered by itself: nobody waits for more than was asked for. But data sets are
read in a random order, and once more in another one, so what lies around a read is wanted sooner or later, while each
read by itself costs a way to the server and back. So the blocks around such reads are fetched in the background, into
the cache on the local disk, where they serve every later reader:

    a file of at most half of the cache    the block around each read; eight at once when that proves right
    a larger one                           a block in which two reads have met

What is fetched of the first stays until it is asked for, beside what else is in the cache; of the second much would be
gone again by then.

Who looks at the header of a file and at its index is no random reader, so the first few reads bring nothing more. And
what is fetched has to be earned: some of it is free, to begin with; after that each read that a block has answered
pays for a number of others. Where nobody comes back to what was fetched, it ends there.
"""

from collections import OrderedDict

from fuseclient.cache.blockindex import BLOCK_BYTES

FREE_READS = 4
FREE_BLOCKS = 16
EARNED_BLOCKS = 16  # by each read that a block has answered
PROVEN_HITS = 2
TOGETHER_BLOCKS = 8  # once it is proven: large pieces cost less for each byte
CACHE_SHARE = 2
NOTED_MAX = 4096  # blocks of a file; of those before them nothing is known any more
AGAIN_READS = 1024  # after so many reads a block that is still not there is fetched once more


class Scatter:
    """The random reads of one open file.

    Args:
        cache_bytes: what the cache may hold, of all files.
    """

    def __init__(self, cache_bytes: int) -> None:
        self._small_bytes = cache_bytes // CACHE_SHARE
        self._reads = 0
        self._hits = 0
        self._named_blocks = 0
        self._seen: OrderedDict[int, None] = OrderedDict()  # where one read was
        self._named: OrderedDict[int, int] = OrderedDict()  # with the number of the read for which

    def read(self, offset: int, size: int, file_size: int) -> tuple[int, ...]:
        """Note a read that goes on with nothing, and that nothing here could answer.

        Returns:
            The numbers of the blocks to be fetched for it, in order.
        """
        self._reads += 1
        end = min(offset + size, file_size)
        if end <= offset or size >= BLOCK_BYTES:  # what is read in so large pieces gains nothing
            return ()
        small, found = file_size <= self._small_bytes, []
        for number in range(offset // BLOCK_BYTES, (end - 1) // BLOCK_BYTES + 1):
            if small or self._met(number):
                found += self._around(number, file_size, together=small and self._hits >= PROVEN_HITS)
        if self._reads <= FREE_READS or self._named_blocks + len(found) > FREE_BLOCKS + EARNED_BLOCKS * self._hits:
            return ()
        for number in found:
            self._note(number)
        return tuple(found)

    def hit(self) -> None:
        """Note a read that a block has answered."""
        self._hits += 1

    def _met(self, number: int) -> bool:
        """Tell whether a read was in this block before."""
        if number in self._seen:
            self._seen.move_to_end(number)
            return True
        self._seen[number] = None
        if len(self._seen) > NOTED_MAX:
            self._seen.popitem(last=False)
        return False

    def _around(self, number: int, file_size: int, *, together: bool) -> list[int]:
        """Return those of the blocks around a read that are not on their way."""
        count = TOGETHER_BLOCKS if together else 1
        first = number // count * count
        last = min(first + count, -(-file_size // BLOCK_BYTES))
        return [each for each in range(first, last) if not self._is_fresh(each)]

    def _is_fresh(self, number: int) -> bool:
        named = self._named.get(number)
        return named is not None and self._reads - named <= AGAIN_READS

    def _note(self, number: int) -> None:
        self._named_blocks += 1
        self._named[number] = self._reads
        self._named.move_to_end(number)
        if len(self._named) > NOTED_MAX:
            self._named.popitem(last=False)
