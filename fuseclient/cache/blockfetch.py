"""Fetches blocks of an open file into the cache on the local disk, in the background.

Nobody waits for these, so they stand back: a few are under way at once, of all files of a mount together, so that
there are always connections left for reads that somebody waits for; and none is fetched before the disk has taken most
of those before it. What cannot be fetched is left: whoever reads it hears why. When the file is closed, it is over.
"""

import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

log = logging.getLogger(__name__)

AT_ONCE = 2
WAITING_MAX = 64  # a line that falls so far behind the reads does not catch up

Fetch = Callable[[Sequence[int]], Awaitable[bool]]


class BlockFetcher:
    """The blocks of one open file that are wanted.

    Args:
        fetch: brings these blocks, which follow one another, into the cache; False says that it is of no use.
        nursery: where this happens.
        places: for those of all files that are under way at once.
    """

    def __init__(self, fetch: Fetch, nursery: trio.Nursery, places: trio.CapacityLimiter) -> None:
        self._fetch = fetch
        self._nursery = nursery
        self._places = places
        self._waiting: deque[Sequence[int]] = deque(maxlen=WAITING_MAX)
        self._under_way: set[trio.CancelScope] = set()

    def want(self, numbers: Sequence[int]) -> None:
        """Have blocks fetched, by their numbers in order."""
        self._waiting += _neighbours(numbers)
        if self._waiting and len(self._under_way) < AT_ONCE:
            scope = trio.CancelScope()
            self._under_way.add(scope)
            self._nursery.start_soon(self._work, scope)

    def stop(self) -> None:
        """Fetch nothing more of what is wanted by now."""
        self._waiting.clear()
        for scope in self._under_way:
            scope.cancel()

    async def _work(self, scope: trio.CancelScope) -> None:
        try:
            with scope:
                while self._waiting:
                    async with self._places:  # given back each time: others wait, too
                        if self._waiting and not await self._fetch(self._waiting.popleft()):
                            self._waiting.clear()
        except Exception:
            log.exception("fetching blocks of a file that is read at random")
            self._waiting.clear()
        finally:
            self._under_way.discard(scope)


def _neighbours(numbers: Sequence[int]) -> list[Sequence[int]]:
    """Return them in groups that have no gap."""
    groups: list[list[int]] = []
    for number in numbers:
        if groups and groups[-1][-1] == number - 1:
            groups[-1].append(number)
        else:
            groups.append([number])
    return list(groups)
