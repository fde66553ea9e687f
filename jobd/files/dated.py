"""Texts that are made from things whose changes nobody dates: who one is, what one may have, what short names mean.

The time of such a text, and of such a directory, is when this server first saw it say, or list, what it does. It is
never before the change: what is made from the file by its time (`make`, `rsync`) is made anew.
"""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import replace

from pfs.api import Attr
from pfs.tree.texts import Text


class Dates:
    """Since when texts are as they are.

    Args:
        clock: nanoseconds since the epoch.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._seen: dict[Hashable, tuple[int, int]] = {}

    def of(self, words: Hashable, content: Hashable) -> int:
        """Return since when a text is known to be this one, in nanoseconds since the epoch.

        Args:
            words: name the text for ever.
        """
        seen = self._seen.get(words)
        mark = hash(content)
        if seen is None or seen[0] != mark:
            seen = self._seen[words] = mark, self._clock()
        return seen[1]


class DatedText(Text):
    """A text with the time of its content."""

    def __init__(self, words: Sequence[str], make: Callable[[], Awaitable[bytes]], dates: Dates) -> None:
        super().__init__(words, make)
        self._words = tuple(words)
        self._dates = dates

    def _attr_of(self, content: bytes) -> Attr:
        time_ns = self._dates.of(self._words, content)
        return replace(super()._attr_of(content), mtime_ns=time_ns, ctime_ns=time_ns)
