"""The order of all that wait, as people are shown it: as if each could start, and counted for its user before the next.

The place of one job is found without sorting all: in the jobs of each user with one priority, which stand by arrival,
by halves. What those before a job count for is summed up again only where a job came or went.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from jobd.scheduling.model import Pending
from jobd.scheduling.tally import Tally, Turn, parts_of


@dataclass
class _Row:
    """The waiting jobs of a user with one priority by arrival, and what each counts for."""

    jobs: list[tuple[float, int]] = field(default_factory=list)
    parts: list[int] = field(default_factory=list)
    total: int = 0
    _before: list[int] | None = None

    def add(self, job: Pending) -> None:
        index, parts = self.index(job), parts_of(job.needs)
        self.jobs.insert(index, (job.arrived, job.job_id))
        self.parts.insert(index, parts)
        self.total += parts
        self._before = None

    def remove(self, job: Pending) -> None:
        index = self.index(job)
        del self.jobs[index]
        self.total -= self.parts.pop(index)
        self._before = None

    def index(self, job: Pending) -> int:
        return bisect_left(self.jobs, (job.arrived, job.job_id))

    def before(self) -> list[int]:
        if self._before is None:
            self._before = list(accumulate(self.parts, initial=0))
        return self._before


class Ranks:
    """All waiting jobs in order."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._rows: dict[str, dict[int, _Row]] = {}  # by user and -priority

    def add(self, job: Pending) -> None:
        """A job waits."""
        self._rows.setdefault(job.user, {}).setdefault(-job.priority, _Row()).add(job)

    def remove(self, job: Pending) -> None:
        """A job waits no more."""
        rows = self._rows[job.user]
        rows[-job.priority].remove(job)
        if not rows[-job.priority].jobs:
            del rows[-job.priority]
        if not rows:
            del self._rows[job.user]

    def turn(self, job: Pending) -> Turn:
        """Return whose turn it is before a job of the queue, and after."""
        row = self._rows[job.user][-job.priority]
        parts = self._higher(job.user, -job.priority) + row.before()[row.index(job)]
        return -job.priority, self._tally.with_more(job.user, parts), job.arrived, job.job_id

    def turns(self) -> Iterator[Turn]:
        """Return the turns of all, in no order."""
        for user, rows in self._rows.items():
            for rank, row in rows.items():
                higher = self._higher(user, rank)
                for (arrived, job_id), parts in zip(row.jobs, row.before(), strict=False):
                    yield rank, self._tally.with_more(user, higher + parts), arrived, job_id

    def ahead(self, turn: Turn) -> int:
        """Return how many jobs are before that turn."""
        count = 0
        for user, rows in self._rows.items():
            for rank, row in rows.items():
                if rank < turn[0]:
                    count += len(row.jobs)
                elif rank == turn[0]:
                    count += self._ahead_in(row, turn, user)
        return count

    def _ahead_in(self, row: _Row, turn: Turn, user: str) -> int:
        higher, before = self._higher(user, turn[0]), row.before()

        def is_ahead(index: int) -> bool:
            share = self._tally.with_more(user, higher + before[index])
            return (turn[0], share, *row.jobs[index]) < turn

        # near where the share is reached, found without asking for that of each: then step by step
        index = min(bisect_left(before, self._tally.parts_until(user, turn[1]) - higher), len(row.jobs))
        while index < len(row.jobs) and is_ahead(index):
            index += 1
        while index and not is_ahead(index - 1):
            index -= 1
        return index

    def _higher(self, user: str, rank: int) -> int:
        return sum(row.total for other, row in self._rows[user].items() if other < rank)
