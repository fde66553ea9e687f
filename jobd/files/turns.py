"""Whoever changes what stands under a name has that name alone meanwhile.

To submit a text takes a while: it is parsed, checked against what there is, and brought to the disk with its job. Who
removes or replaces the text in that time, through this mount or another, waits until that is over, and finds the text
with its job. So what is decided about a name holds until it is done, and no name comes back that was seen to go.
Reading and writing wait for nobody: they change what is in memory.
"""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager

import trio

Key = tuple[str, str]  # a user, and a name in their `jobs/`


class Turns:
    """Who has which names at the moment."""

    def __init__(self) -> None:
        self._taken: dict[Key, trio.Event] = {}

    @asynccontextmanager
    async def of(self, keys: Callable[[], Collection[Key]]) -> AsyncIterator[None]:
        """Wait until nobody has any of these names, and then have all of them.

        Args:
            keys: is asked anew after each wait: a text may have got another name meanwhile.
        """
        while (other := next((self._taken[key] for key in keys() if key in self._taken), None)) is not None:
            await other.wait()
        mine, over = frozenset(keys()), trio.Event()
        self._taken.update(dict.fromkeys(mine, over))
        try:
            yield
        finally:
            for key in mine:
                del self._taken[key]
            over.set()
