"""Whether a whole directory is worth fetching when single names in it are looked up.

Who looks up one name is likely to look up the next one: so the second miss in a directory fetches all of it. In a
directory that others change all the time that is a waste: the listing is taken back before it has been of use, and
costs as much as asking for each eighth of its names. So a listing that was fetched in vain doubles the number of misses
before the next one, up to what it costs itself; one that has lived for a while sets it back. Misses count only as long
as nobody interrupts them.

A program that lists a directory needs all of it, whatever this says. Of one whose names change by themselves nothing is
kept: it is never worth it.
"""

import sys
from collections import OrderedDict
from dataclasses import dataclass

MISSES_MIN = 2
ENTRIES_PER_NAME = 8  # asking for one name costs about as much as so many entries of a listing
LIVED_S = 10.0
NEVER = sys.maxsize
DIRECTORIES_MAX = 10_000


@dataclass(slots=True)
class _Directory:
    """What was learned of one directory.

    Attributes:
        misses: how many names were not known since its names were last fetched, or its lease last ended.
        enough: so many misses make it worth fetching.
        fetched_s: when it was fetched because of them; None when it was not, or that has ended.
        count: how many entries it had when it was last fetched.
    """

    misses: int = 0
    enough: int = MISSES_MIN
    fetched_s: float | None = None
    count: int = 0


class Worth:
    """What was learned of the directories of a datacenter, by node id."""

    def __init__(self) -> None:
        self._directories: OrderedDict[int, _Directory] = OrderedDict()

    def missed(self, directory: int) -> bool:
        """Note that a name in a directory is not known; tell whether to fetch all of its names."""
        found = self._directory(directory)
        found.misses += 1
        return found.misses >= found.enough

    def fetched(self, directory: int, count: int, now_s: float, *, for_program: bool) -> None:
        """All names of a directory have come.

        Args:
            count: how many.
            for_program: one lists the directory, so that they were of use already.
        """
        found = self._directory(directory)
        found.misses, found.count, found.fetched_s = 0, count, None if for_program else now_s

    def ended(self, directory: int, now_s: float) -> None:
        """Somebody else changes a directory."""
        found = self._directories.get(directory)
        if found is None:
            return
        found.misses = 0
        if found.fetched_s is not None:
            in_vain = now_s < found.fetched_s + LIVED_S
            most = max(MISSES_MIN, found.count // ENTRIES_PER_NAME)
            found.enough = min(found.enough * 2, most) if in_vain else MISSES_MIN
            found.fetched_s = None

    def never(self, directory: int) -> None:
        """The names of a directory cannot be kept."""
        self._directory(directory).enough = NEVER

    def forget(self) -> None:
        """Nothing is known any more."""
        self._directories.clear()

    def _directory(self, directory: int) -> _Directory:
        found = self._directories.get(directory)
        if found is None:
            found = self._directories[directory] = _Directory()
            if len(self._directories) > DIRECTORIES_MAX:
                self._directories.popitem(last=False)
        else:
            self._directories.move_to_end(directory)
        return found
