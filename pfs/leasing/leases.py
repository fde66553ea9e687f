"""Who may answer from a copy: the server's promise to speak before it lets a node change.

A lease is on one node, held by one mount, and covers the node's attributes and content; of a directory, its names.
Reading is optimistic: whoever reads notes the time before (`now`), reads, and is then granted what has not been
changed since. A change first asks whom it has to tell (`begin`). A lease ends when its holder has let go
(`given_back`), so that two changes of one node both wait for that. Then the change is made, and noted (`end`); while
it lasts nobody else is granted what it touches.

    reader   now ── read ── grant ✓                                now ── read ─────────── grant ✗
    changer                        begin ── tell others, given_back ── change ── end

A mount does not say what it has forgotten. So who has more leases than it can have copies is asked for the oldest
ones (`recall`): they hold until it has answered (`recalled`), and none of them is granted to it again before.

Time is a count of changes. The last `REMEMBERED_MAX` changed nodes are remembered one by one; a reader that was
slower than that is granted nothing, and reads again.
"""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice

HELD_MAX = 250_000  # a mount keeps fewer copies
RECALLED_MAX = 50_000  # what goes into one message
REMEMBERED_MAX = 10_000


class Leases:
    """The leases of all mounts; holders are numbers.

    Args:
        held_max: who has more leases than that is asked for the oldest.
    """

    def __init__(self, held_max: int = HELD_MAX, remembered_max: int = REMEMBERED_MAX) -> None:
        self._held_max = held_max
        self._remembered_max = remembered_max
        self._held: dict[int, dict[int, None]] = {}  # the oldest first
        self._recalled: dict[int, set[int]] = {}
        self._changing: dict[int, int] = {}
        self._anything: dict[int, int] = {}
        self._changed: dict[int, int] = {}
        self._forgotten = 0
        self.now = 0

    def join(self, holder: int) -> None:
        """Let a holder have leases."""
        self._held[holder] = {}

    def leave(self, holder: int) -> None:
        """Take all leases of a holder away; it is granted none any more."""
        self._held.pop(holder, None)
        self._recalled.pop(holder, None)

    def count(self, holder: int) -> int:
        """Return how many leases a holder has."""
        return len(self._held.get(holder, ()))

    def grant(self, holder: int, nodes: Iterable[int], since: int) -> set[int]:
        """Lease to `holder` what has not changed since it began to read.

        Args:
            since: `now` before the nodes were read.

        Returns:
            Those of `nodes` that are leased.
        """
        held = self._held.get(holder)
        if held is None or since < self._forgotten or any(by != holder for by in self._anything):
            return set()
        changing, changed, recalled = self._changing, self._changed, self._recalled.get(holder, ())
        granted = [
            each for each in nodes if each not in changing and changed.get(each, 0) <= since and each not in recalled
        ]
        for node in granted:
            held.pop(node, None)
            held[node] = None
        return set(granted)

    def recall(self, holder: int) -> set[int]:
        """Begin to take the oldest leases of a holder back, where it has too many, and none is on its way back yet."""
        held = self._held.get(holder)
        if held is None or len(held) <= self._held_max or holder in self._recalled:
            return set()
        surplus = len(held) - self._held_max + self._held_max // 8  # not again for each one
        recalled = self._recalled[holder] = set(islice(held, min(surplus, RECALLED_MAX)))
        return recalled

    def recalled(self, holder: int, *, given_back: bool) -> None:
        """A recall has ended; if the leases were not given back, they go on."""
        nodes = self._recalled.pop(holder, set())
        if given_back:
            self.given_back(holder, nodes)

    def others(self, by: int | None) -> bool:
        """Tell whether anybody but `by` holds a lease."""
        return any(held for holder, held in self._held.items() if holder != by)

    def begin(self, by: int | None, nodes: Collection[int]) -> dict[int, set[int]]:
        """Begin a change of `nodes`: let nobody have them until `end`.

        Returns:
            Who has them, but for `by`: whom to tell, and of which nodes.
        """
        for node in nodes:
            self._changing[node] = self._changing.get(node, 0) + 1
        found = {}
        for holder, held in self._held.items():
            if holder != by and (theirs := {node for node in nodes if node in held}):
                found[holder] = theirs
        return found

    def given_back(self, holder: int, nodes: Iterable[int]) -> None:
        """A holder does not use these any more."""
        held = self._held.get(holder)
        if held is not None:
            for node in nodes:
                held.pop(node, None)

    def end(self, nodes: Collection[int]) -> None:
        """A change of `nodes` has been made, or has failed."""
        self.now += 1
        for node in nodes:
            _count_down(self._changing, node)
            self._changed.pop(node, None)
            self._changed[node] = self.now
        while len(self._changed) > self._remembered_max:
            oldest = next(iter(self._changed))
            self._forgotten = max(self._forgotten, self._changed.pop(oldest))

    @contextmanager
    def anything(self, by: int) -> Iterator[None]:
        """Change nobody knows which nodes, none on which others hold leases: they are granted none meanwhile."""
        self._anything[by] = self._anything.get(by, 0) + 1
        try:
            yield
        finally:
            _count_down(self._anything, by)
            self.now += 1
            self._forgotten = self.now  # what others were reading meanwhile is not leased to them


def _count_down(counts: dict[int, int], key: int) -> None:
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
