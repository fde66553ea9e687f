"""How many jobs of whom wait, and who may submit more. Pure.

A job waits from its submission until it has its places: while it waits for others, is prepared, is held, or waits for
nodes; a task of an array is a job. What was submitted stays, whatever the limits become, and so does what has to wait
once more.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from jobd.job import Job
from jobd.life.life import ON_NODES
from jobd.scheduling.quotas import JobLimits
from pfs.errors import AllowanceError, Kind
from pfs.quota import GROUP, quota_of


class WaitingRoom:
    """All jobs that wait, and those that are just being submitted."""

    def __init__(self) -> None:
        self._waits: dict[int, str] = {}
        self._counts: Counter[str] = Counter()  # by user
        self._most: dict[str, int] = {}  # by holder
        self._members: Mapping[str, frozenset[str]] = {}

    def adopt(self, limits: Mapping[str, JobLimits], members: Mapping[str, frozenset[str]]) -> None:
        """Take up the limits of all holders, and the groups that users are in."""
        self._most = {holder: each.waiting for holder, each in limits.items() if each.waiting is not None}
        self._members = members

    def follow(self, job: Job) -> None:
        """Note how a job stands now."""
        life = job.life
        waits = not (life.state.over or life.terms.is_array or (life.state in ON_NODES and life.processes))
        if waits and job.id not in self._waits:
            self._waits[job.id] = job.user
            self._counts[job.user] += 1
        elif not waits and self._waits.pop(job.id, None) is not None:
            self._take(job.user, 1)

    def waiting(self, holder: str) -> int:
        """Return how many jobs of a user or of the members of a group wait."""
        if not holder.startswith(GROUP):
            return self._counts[holder]
        group = holder.removeprefix(GROUP)
        return sum(count for user, count in self._counts.items() if group in self._members.get(user, ()))

    @contextmanager
    def entering(self, user: str, count: int) -> Iterator[None]:
        """Let the block submit so many jobs; they count from now on.

        Raises:
            PfsError: QUOTA when more would wait than may.
        """
        for holder in (user, *(GROUP + group for group in sorted(self._members.get(user, ())))):
            most = self._most.get(holder)
            if most is not None and self.waiting(holder) + count > most:
                raise AllowanceError(Kind.QUOTA, _refused(holder, self.waiting(holder), most, count))
        self._counts[user] += count
        try:
            yield
        finally:
            self._take(user, count)

    def _take(self, user: str, count: int) -> None:
        self._counts[user] -= count
        if not self._counts[user]:
            del self._counts[user]


def _refused(holder: str, waiting: int, most: int, count: int) -> str:
    if count > most:
        jobs = "1 job" if count == 1 else f"{count:,} jobs"
        return f"{jobs} would wait, but {quota_of(holder)} is {most:,} waiting at once"
    cure = "submit it when some of them have started, or kill some"
    return f"{quota_of(holder)} has {waiting:,} of {most:,} jobs waiting, and this makes {count:,} more; {cure}"
