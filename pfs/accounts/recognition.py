"""Whose keys are: looked up once, since every request shows one, and anew when something about accounts was changed.

What tells of a change is a mark that whoever makes one leaves behind it, before they say that it is done (`stamp`).
Should somebody die in between, what was known is good for `KNOWN_S` at most.
"""

from collections.abc import Awaitable, Callable

from pfs.accounts.store import Identity
from pfs.keys import fingerprint

KEYS_MAX = 10_000
KNOWN_S = 10.0


class Recognition:
    """Remembers whom keys prove; a key that proves nobody is asked about each time.

    Args:
        identify: looks it up.
        stamp: returns something else after each change.
        clock: seconds of any clock that does not go back.
    """

    def __init__(
        self,
        identify: Callable[[str], Awaitable[Identity]],
        stamp: Callable[[], object],
        clock: Callable[[], float],
    ) -> None:
        self._identify = identify
        self._stamp = stamp
        self._clock = clock
        self._known: dict[str, Identity] = {}
        self._seen: object = None
        self._until_s = 0.0

    async def identify(self, key: str) -> Identity:
        """Return whom `key` proves.

        Raises:
            PfsError: UNAUTHENTICATED when it proves nobody.
        """
        stamp, now_s = self._stamp(), self._clock()
        if stamp != self._seen or now_s >= self._until_s:
            self._known, self._seen, self._until_s = {}, stamp, now_s + KNOWN_S
        memory, name = self._known, fingerprint(key)
        known = memory.get(name)
        if known is None:
            known = await self._identify(key)
            if len(memory) < KEYS_MAX:
                memory[name] = known  # not into what was begun after a change
        return known
