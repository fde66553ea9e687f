"""Whose turn it is: priority, then fair share between users, then arrival, then number.

Jobs for which nodes are kept come before all others of their priority.

Jobs that ask for the same, may use the same and run for as long are a *cohort*: where the first of them cannot start,
none can. In a cohort the jobs of one user with one priority (and of one array) stand in *lines*, of which only the
first jobs are compared. Adding and removing a job is O(log n), beside moving the memory of one line; to find the next
job of a cohort is O(log lines), however many wait.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterator

from jobd.scheduling.model import Need, Pending, Running
from jobd.scheduling.ranks import Ranks
from jobd.scheduling.tally import Tally, Turn, parts_of_running

LineId = tuple[int, str, tuple[int, int | None] | None]  # priority, user, array
CohortId = tuple[tuple[Need, ...], frozenset[str], float | None]


class _Line:
    """The jobs of one user, priority and array in a cohort, by arrival."""

    __slots__ = ("id", "jobs", "offered")

    def __init__(self, line_id: LineId) -> None:
        self.id = line_id
        self.jobs: list[tuple[float, int]] = []
        self.offered: Turn | None = None  # the turn at which it stands in the cohort's heap


class Cohort:
    """Equal jobs, and which of them is next."""

    def __init__(self, cohort_id: CohortId, tally: Tally, arrays: "Arrays") -> None:
        self.needs, self.groups, self.max_duration_s = cohort_id
        self.lines: dict[LineId, _Line] = {}
        self._tally = tally
        self._arrays = arrays
        self._heap: list[tuple[Turn, LineId]] = []

    def next(self) -> Turn | None:
        """Return the turn of the first job, which ends with its number; None where none may start."""
        heap = self._heap
        while heap:
            turn, line_id = heap[0]
            line = self.lines.get(line_id)
            if line is None or line.offered != turn:
                heapq.heappop(heap)  # an older turn of the line
                continue
            if self._arrays.full(line_id[2]):
                heapq.heappop(heap)
                line.offered = None  # until a task of the array ends
                continue
            now = self._turn(line)
            if now == turn:
                return turn
            # turns come later by themselves; that they come earlier is told by `offer`
            line.offered = now
            heapq.heapreplace(heap, (now, line_id))
        return None

    def offer(self, line: _Line) -> None:
        """The turn of a line may be earlier than it was."""
        now = self._turn(line)
        if line.offered != now:
            line.offered = now
            heapq.heappush(self._heap, (now, line.id))
            if len(self._heap) > 4 * len(self.lines) + 16:
                self._heap = [(each.offered, each.id) for each in self.lines.values() if each.offered is not None]
                heapq.heapify(self._heap)

    def job_ids(self) -> Iterator[int]:
        """Return the numbers of its jobs, in no order."""
        return (job_id for line in self.lines.values() for _, job_id in line.jobs)

    def _turn(self, line: _Line) -> Turn:
        priority, user, _ = line.id
        return (-priority, self._tally.of(user), *line.jobs[0])


class Arrays:
    """How many tasks of which array run."""

    def __init__(self) -> None:
        self._running: dict[int, int] = {}

    def add(self, array: int, count: int) -> None:
        """Note that so many more tasks run, or less."""
        left = self._running.get(array, 0) + count
        if left:
            self._running[array] = left
        else:
            del self._running[array]

    def running(self, array: int) -> int:
        """Return how many tasks of an array run."""
        return self._running.get(array, 0)

    def full(self, array: tuple[int, int | None] | None) -> bool:
        """Tell whether no more tasks of an array may run now."""
        return array is not None and array[1] is not None and self.running(array[0]) >= array[1]


class Queue:
    """All jobs that wait."""

    def __init__(self) -> None:
        self.jobs: dict[int, Pending] = {}
        self.reserved: list[int] = []  # jobs that are the first of their priority, whoever had how much
        self.cohorts: dict[CohortId, Cohort] = {}
        self.tally = Tally()
        self.arrays = Arrays()
        self._ranks = Ranks(self.tally)
        self._lines_of: dict[str, dict[int, tuple[Cohort, _Line]]] = {}  # by user

    def add(self, job: Pending) -> None:
        """A job waits, or is other than before."""
        self.remove(job.job_id)
        self.jobs[job.job_id] = job
        cohort_id = cohort_of(job)
        cohort = self.cohorts.get(cohort_id)
        if cohort is None:
            cohort = self.cohorts[cohort_id] = Cohort(cohort_id, self.tally, self.arrays)
        line_id = _line_of(job)
        line = cohort.lines.get(line_id)
        if line is None:
            line = cohort.lines[line_id] = _Line(line_id)
            self._lines_of.setdefault(job.user, {})[id(line)] = (cohort, line)
        insort(line.jobs, (job.arrived, job.job_id))
        if line.jobs[0][1] == job.job_id:
            cohort.offer(line)
        self._ranks.add(job)

    def remove(self, job_id: int) -> Pending | None:
        """A job waits no more."""
        job = self.jobs.pop(job_id, None)
        if job is None:
            return None
        cohort_id, line_id = cohort_of(job), _line_of(job)
        cohort = self.cohorts[cohort_id]
        line = cohort.lines[line_id]
        del line.jobs[bisect_left(line.jobs, (job.arrived, job.job_id))]
        if not line.jobs:
            del cohort.lines[line_id]
            lines = self._lines_of[job.user]
            del lines[id(line)]
            if not lines:
                del self._lines_of[job.user]
            if not cohort.lines:
                del self.cohorts[cohort_id]
        self._ranks.remove(job)
        return job

    def cohort(self, job_id: int) -> Cohort:
        """Return the cohort of a job."""
        return self.cohorts[cohort_of(self.jobs[job_id])]

    def start(self, job: Running) -> None:
        """A job runs, and counts for its user."""
        self.tally.add(job.user, parts_of_running(job))
        if job.array is not None:
            self.arrays.add(job.array, 1)

    def end(self, job: Running) -> None:
        """A job runs no more."""
        self.tally.add(job.user, -parts_of_running(job))
        if job.array is not None:
            self.arrays.add(job.array, -1)
        self._offer(job.user)  # with the lines of the array, whose tasks are all his

    def set_past(self, user: str, value: float) -> None:
        """Note what a user has used."""
        before = self.tally.of(user)
        self.tally.set_past(user, value)
        if self.tally.of(user) < before:
            self._offer(user)

    def reserved_turns(self) -> list[Turn]:
        """Return the turns of those that are the first of their priority, as far as they may start."""
        waiting = [self.jobs[job_id] for job_id in self.reserved if job_id in self.jobs]
        return [_first_turn(job) for job in waiting if not self.arrays.full(job.array)]

    def ordered(self) -> list[int]:
        """Return all jobs in the order in which they would start if all could, each counting for its user."""
        first = {turn[-1]: turn for turn in self.reserved_turns()}
        return [job_id for *_, job_id in sorted(first.get(turn[-1], turn) for turn in self._ranks.turns())]

    def place(self, job_id: int) -> int:
        """Return where a job stands in that order, from 1."""
        first = {turn[-1]: turn for turn in self.reserved_turns()}
        turn = first.get(job_id) or self._ranks.turn(self.jobs[job_id])
        jumped = [(early < turn) - (self._ranks.turn(self.jobs[other]) < turn) for other, early in first.items()]
        return 1 + self._ranks.ahead(turn) + sum(jumped)

    def _offer(self, user: str) -> None:
        for cohort, line in self._lines_of.get(user, {}).values():
            cohort.offer(line)


def cohort_of(job: Pending) -> CohortId:
    """Return by what jobs are equal."""
    return job.needs, job.groups, job.max_duration_s


def _first_turn(job: Pending) -> Turn:
    return -job.priority, -math.inf, job.arrived, job.job_id


def _line_of(job: Pending) -> LineId:
    return job.priority, job.user, job.array
