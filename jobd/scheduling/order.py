"""Whose turn it is: priority, then fair share between users, then arrival, then number.

Jobs for which nodes are kept come before all others of their priority.

Jobs that ask for the same, may use the same and run for as long are a *cohort*: where the first of them cannot start,
none can. In a cohort the jobs of one user with one priority (and of one array) stand in *lines*, of which only the
first jobs are compared; the lines of one priority are a *level*. Adding and removing a job is O(log n), beside moving
the memory of one line; to find the next job of a cohort is O(log lines), however many wait. When a user has had less
than was thought, his levels are told, and look at his lines only when they are asked: those of a low priority may not
be for long. A line whose user has reached a limit, or whose array has, is passed over until something of theirs ends.
"""

import heapq
import math
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping
from dataclasses import replace

from jobd.scheduling.model import ANY_IMAGE, Need, Pending, Running
from jobd.scheduling.quotas import JobLimits, Obstacle, Quotas, gpus_of, use_of
from jobd.scheduling.ranks import Ranks
from jobd.scheduling.tally import Tally, Turn, parts_of_running

Array = tuple[int, int | None]
# what they need, the groups, how long; who, where some node is their own, and the cluster
CohortId = tuple[tuple[Need, ...], frozenset[str], float | None, str, str]


class _Line:
    """The jobs of one user, priority and array in a cohort, by arrival."""

    __slots__ = ("array", "jobs", "level", "offered", "user")

    def __init__(self, level: "_Level", user: str, array: Array | None) -> None:
        self.level = level
        self.user = user
        self.array = array
        self.jobs: list[tuple[float, int]] = []
        self.offered: Turn | None = None  # the turn at which it stands in the level's heap


class _Level:
    """The lines of one priority in a cohort, and which of them is next."""

    __slots__ = ("_arrays", "_heap", "_line_of", "_quotas", "_tally", "cohort", "lines", "rank", "risen")

    def __init__(self, cohort: "Cohort", rank: int, about: "_About") -> None:
        self.cohort = cohort
        self.rank = rank  # -priority
        self.lines: dict[str, dict[Array | None, _Line]] = {}  # by user
        self.risen: set[str] = set()  # users whose turn may be earlier than when they were looked at
        self._tally, self._arrays, self._quotas, self._line_of = about
        self._heap: list[Turn] = []

    def line(self, job: Pending) -> _Line:
        """Return the line in which a job stands, or is to stand."""
        lines = self.lines.setdefault(job.user, {})
        line = lines.get(job.array)
        if line is None:
            line = lines[job.array] = _Line(self, job.user, job.array)
        return line

    def drop(self, line: _Line) -> None:
        """Forget a line without jobs."""
        line.offered = None
        lines = self.lines[line.user]
        del lines[line.array]
        if not lines:
            del self.lines[line.user]

    def next(self) -> Turn | None:
        """Return the turn of the first job, which ends with its number; None where none may start."""
        if self.risen:
            for user in self.risen:
                for each in self.lines.get(user, {}).values():
                    self.offer(each)
            self.risen.clear()
        heap = self._heap
        while heap:
            turn = heap[0]
            line = self._line_of.get(turn[-1])
            if line is None or line.offered != turn:
                heapq.heappop(heap)  # an older turn of the line
                continue
            if (line.array is not None and self._arrays.full(line.array)) or (
                self._quotas.any and self._quotas.obstacle(line.user, self.cohort.gpus) is not None
            ):
                heapq.heappop(heap)
                line.offered = None  # until a task of the array ends, or a job that counts for the same limits
                continue
            now = self._turn(line)
            if now == turn:
                return turn
            # turns come later by themselves; that they come earlier is told by `offer`
            line.offered = now
            heapq.heapreplace(heap, now)
        return None

    def offer(self, line: _Line) -> None:
        """The turn of a line may be earlier than it was, or that of another job."""
        now = self._turn(line)
        if line.offered != now:
            line.offered = now
            heapq.heappush(self._heap, now)
            if len(self._heap) > 64 and len(self._heap) > 4 * sum(map(len, self.lines.values())):
                lines = (each for lines in self.lines.values() for each in lines.values())
                self._heap = [each.offered for each in lines if each.offered is not None]
                heapq.heapify(self._heap)

    def _turn(self, line: _Line) -> Turn:
        return (self.rank, self._tally.of(line.user), *line.jobs[0])


# what turns follow from, what may start, and the line of each job
_About = tuple[Tally, "Arrays", Quotas, dict[int, _Line]]


class Cohort:
    """Equal jobs, and which of them is next."""

    def __init__(self, cohort_id: CohortId, about: _About) -> None:
        self.id = cohort_id
        self.needs, self.groups, self.max_duration_s, self.owner, self.cluster = cohort_id
        self.gpus = gpus_of(self.needs)
        self.levels: list[_Level] = []  # the highest priority first
        self._about = about

    def next(self) -> Turn | None:
        """Return the turn of the first job, which ends with its number; None where none may start."""
        for level in self.levels:
            turn = level.next()
            if turn is not None:
                return turn
        return None

    def level(self, priority: int) -> _Level:
        """Return the level of a priority, made where there is none."""
        index = bisect_left(self.levels, -priority, key=_rank_of)
        if index == len(self.levels) or self.levels[index].rank != -priority:
            self.levels.insert(index, _Level(self, -priority, self._about))
        return self.levels[index]

    def job_ids(self) -> Iterator[int]:
        """Return the numbers of its jobs, in no order."""
        lines = (line for level in self.levels for lines in level.lines.values() for line in lines.values())
        return (job_id for line in lines for _, job_id in line.jobs)


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

    def full(self, array: Array | None) -> bool:
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
        self.quotas = Quotas()
        self._owners: set[str] = set()  # users who have nodes of their own
        self._picky = False  # some node takes only some images
        self._ranks = Ranks(self.tally)
        self._line_of: dict[int, _Line] = {}
        self._levels_of: dict[str, dict[int, _Level]] = {}  # by user; those in which he has lines

    def add(self, job: Pending) -> None:
        """A job waits, or is other than before."""
        self.remove(job.job_id)
        self.jobs[job.job_id] = job
        cohort_id = (self.needs_of(job), job.groups, job.max_duration_s, self.owner_of(job), job.cluster)
        cohort = self.cohorts.get(cohort_id)
        if cohort is None:
            about = self.tally, self.arrays, self.quotas, self._line_of
            cohort = self.cohorts[cohort_id] = Cohort(cohort_id, about)
        level = cohort.level(job.priority)
        line = self._line_of[job.job_id] = level.line(job)
        insort(line.jobs, (job.arrived, job.job_id))
        if line.jobs[0][1] == job.job_id:
            level.offer(line)
            self._levels_of.setdefault(job.user, {})[id(level)] = level
        self._ranks.add(job)

    def remove(self, job_id: int) -> Pending | None:
        """A job waits no more."""
        job = self.jobs.pop(job_id, None)
        if job is None:
            return None
        line = self._line_of.pop(job_id)
        index = bisect_left(line.jobs, (job.arrived, job_id))
        del line.jobs[index]
        if not line.jobs:
            self._drop(line)
        elif index == 0:
            line.level.offer(line)
        self._ranks.remove(job)
        return job

    def _drop(self, line: _Line) -> None:
        level = line.level
        level.drop(line)
        if line.user not in level.lines:
            levels = self._levels_of[line.user]
            del levels[id(level)]
            if not levels:
                del self._levels_of[line.user]
        if not level.lines:
            level.cohort.levels.remove(level)
            if not level.cohort.levels:
                del self.cohorts[level.cohort.id]

    def set_owner(self, user: str, *, has_nodes: bool) -> None:
        """Note whether a user has nodes of their own: then their jobs are no more equal to those of others."""
        if has_nodes == (user in self._owners):
            return
        mine = [job for job in self.jobs.values() if job.user == user]
        if has_nodes:
            self._owners.add(user)
        else:
            self._owners.discard(user)
        for job in mine:
            self.add(job)

    def set_picky(self, picky: bool) -> None:
        """Note whether some node takes only some images: then jobs with others are no more equal."""
        if picky == self._picky:
            return
        self._picky = picky
        for job in [job for job in self.jobs.values() if any(need.image for need in job.needs)]:
            self.add(job)

    def needs_of(self, job: Pending) -> tuple[Need, ...]:
        """Return what a job needs, with the names of its images where they decide on which nodes it may run."""
        if self._picky or not any(need.image for need in job.needs):
            return job.needs
        return tuple(replace(need, image=ANY_IMAGE) if need.image else need for need in job.needs)

    def owner_of(self, job: Pending) -> str:
        """Return whose a job is, where that decides on which nodes it may run."""
        return job.user if job.user in self._owners else ""

    def cohort(self, job_id: int) -> Cohort:
        """Return the cohort of a job."""
        return self._line_of[job_id].level.cohort

    def start(self, job: Running) -> None:
        """A job runs, and counts for its user."""
        self.tally.add(job.user, parts_of_running(job))
        self.quotas.add(job.user, use_of(job))
        if job.array is not None:
            self.arrays.add(job.array, 1)

    def end(self, job: Running) -> None:
        """A job runs no more."""
        self.tally.add(job.user, -parts_of_running(job))
        self.quotas.add(job.user, use_of(job).less())
        if job.array is not None:
            self.arrays.add(job.array, -1)
        for user in self.quotas.fellows(job.user):
            self._rise(user)  # with the lines of the array, whose tasks are all his

    def set_past(self, user: str, value: float) -> None:
        """Note what a user has used."""
        before = self.tally.of(user)
        self.tally.set_past(user, value)
        if self.tally.of(user) < before:
            self._rise(user)

    def reserved_turns(self) -> list[Turn]:
        """Return the turns of those that are the first of their priority, as far as they may start."""
        waiting = [self.jobs[job_id] for job_id in self.reserved if job_id in self.jobs]
        return [_first_turn(job) for job in waiting if self.may_start(job)]

    def may_start(self, job: Pending) -> bool:
        """Tell whether neither its array nor a limit of its owner's keeps a job from starting."""
        return not self.arrays.full(job.array) and self.obstacle(job) is None

    def obstacle(self, job: Pending) -> Obstacle | None:
        """Return the limit of its owner's, or of a group of theirs, that a job would pass."""
        return self.quotas.obstacle(job.user, gpus_of(job.needs)) if self.quotas.any else None

    def set_limits(self, limits: Mapping[str, JobLimits], members: Mapping[str, frozenset[str]]) -> None:
        """Set what users and groups may have at once, and who is in which group."""
        self.quotas.set(limits, members)
        for user in self._levels_of:
            self._rise(user)

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

    def _rise(self, user: str) -> None:
        for level in self._levels_of.get(user, {}).values():
            level.risen.add(user)


def _rank_of(level: _Level) -> int:
    return level.rank


def _first_turn(job: Pending) -> Turn:
    return -job.priority, -math.inf, job.arrived, job.job_id
