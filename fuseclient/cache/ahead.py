"""Which directories to list before anybody asks for them: the next ones, for a program that goes through a tree.

A program that lists one directory after another, in the order in which their parent names them, is about to list the
next ones, too. Twice as many are fetched ahead at each that it lists, up to a few, so that it seldom waits for one.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

AHEAD_MAX = 8
PARENTS_MAX = 32


@dataclass(slots=True)
class _Walk:
    """How far a program has come in one directory.

    Attributes:
        names: the directories in it.
        places: where each of them is in `names`.
        last: the place of the one that was listed last.
        ahead: how many after it are to be here already.
        fetched: the place up to which they have been named.
    """

    names: Sequence[str]
    places: dict[str, int]
    last: int
    ahead: int = 0
    fetched: int = 0


class Ahead:
    """The ways of programs through a tree."""

    def __init__(self) -> None:
        self._walks: OrderedDict[str, _Walk] = OrderedDict()

    def listed(self, parent: str, name: str, directories: Callable[[], Sequence[str]]) -> Sequence[str]:
        """Note that a directory is listed; return the names of those beside it that are to be fetched now.

        Args:
            parent: the path of the directory above it.
            directories: tells the names of the directories there, in their order.
        """
        walk = self._walks.get(parent)
        place = None if walk is None else walk.places.get(name)
        if walk is None or place is None or place != walk.last + 1:
            self._begin(parent, name, directories())
            return ()
        self._walks.move_to_end(parent)
        walk.last, walk.ahead = place, min(walk.ahead * 2 or 1, AHEAD_MAX)
        begin, end = max(walk.fetched, place + 1), place + 1 + walk.ahead
        walk.fetched = max(begin, end)
        return walk.names[begin:end]

    def next_after(self, parent: str, name: str) -> str | None:
        """Return the name of the directory that will be listed after this one, if that can be told."""
        walk = self._walks.get(parent)
        place = None if walk is None or not walk.ahead else walk.places.get(name)
        return walk.names[place + 1] if walk is not None and place is not None and place + 1 < len(walk.names) else None

    def forget(self) -> None:
        """Nothing is known any more."""
        self._walks.clear()

    def _begin(self, parent: str, name: str, names: Sequence[str]) -> None:
        places = {each: place for place, each in enumerate(names)}
        if name in places:
            self._walks[parent] = _Walk(names, places, places[name])
            self._walks.move_to_end(parent)
            if len(self._walks) > PARENTS_MAX:
                self._walks.popitem(last=False)
