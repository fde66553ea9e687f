"""How many small files of a directory to fetch at once, and when to fetch the next ones.

A program that reads one small file may want no other. One that goes on to those behind it reads the whole directory,
most likely, and then the next one. So each request brings twice as many as the one before, and a new directory begins
with as many as the last one ended with; who has left most of what came unread is given less.

While a program reads what has come, what follows is fetched already: once it has come to the first quarter of it, which
tells that it goes on. So nobody waits but at the beginning, and no more than one batch is there for nothing.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

BATCH_MAX = 128
AHEAD_LEAST = 8  # fewer are fetched when they are asked for
READ_SHARE = 4  # the part of a batch that has to be read, one in so many
MARKS_MAX = 32  # programs that read at the same time


class Place(NamedTuple):
    """Where a batch ends: a directory, by its path, and the name of the last file."""

    path: str
    name: str


class Batches:
    """The batches of one file system."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self._size = self._given = 1
        self._begun = 0
        self._marks: OrderedDict[int, Place] = OrderedDict()

    def size(self, directory: int, asked: int) -> int:
        """Return how many files of a directory to fetch.

        Args:
            asked: how many small files programs have asked for so far.
        """
        last = self._sizes.get(directory)
        if last is not None:
            size = min(last * 2, BATCH_MAX)
        elif (asked - self._begun) * READ_SHARE >= self._given:
            size = self._size
        else:
            size = max(1, self._size // 4)
        self._sizes[directory] = self._size = size
        self._begun = asked
        return size

    def give(self, place: Place, nodes: Sequence[int]) -> None:
        """Note what is fetched: the files of a batch in their order, the last of which is at `place`."""
        self._given = len(nodes)
        if len(nodes) >= AHEAD_LEAST:
            self._marks[nodes[len(nodes) // READ_SHARE]] = place
            if len(self._marks) > MARKS_MAX:
                self._marks.popitem(last=False)

    def read(self, node_id: int) -> Place | None:
        """Note that a file is read; return the place behind which to fetch more now."""
        return self._marks.pop(node_id, None) if self._marks else None

    def forget(self) -> None:
        """Nothing is known any more."""
        self._sizes.clear()
        self._marks.clear()
