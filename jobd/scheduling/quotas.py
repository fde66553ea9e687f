"""What users and groups may have at once: how many jobs run, and how many GPUs these have.

A job counts for its owner, and for each group that its owner is in, as far as these have limits; a *holder* of limits
is a user (`ann`) or a group (`groups/vision`). A job starts when it fits what all its holders have left. One that does
not keeps nothing for itself, and smaller ones behind it may start: who would rather have the large one holds the
others. What runs goes on, whatever the limits become.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from jobd.scheduling.model import Need, Running
from pfs.quota import GROUP, quota_of


@dataclass(frozen=True, slots=True)
class JobLimits:
    """How many jobs of a holder run and wait, and how many GPUs they have at once; None is no limit."""

    running: int | None = None
    waiting: int | None = None
    gpus: int | None = None


@dataclass(frozen=True, slots=True)
class JobUse:
    """What a holder's running jobs have."""

    jobs: int = 0
    gpus: int = 0

    def plus(self, other: "JobUse") -> "JobUse":
        """Return both together."""
        return JobUse(self.jobs + other.jobs, self.gpus + other.gpus)

    def less(self) -> "JobUse":
        """Return what it is to let go of this."""
        return JobUse(-self.jobs, -self.gpus)


NOTHING = JobUse()


@dataclass(frozen=True, slots=True)
class Obstacle:
    """The limit that a job would pass.

    Attributes:
        gpus: how many the job wants, where it is the limit of GPUs; None where it is that of running jobs.
    """

    holder: str
    gpus: int | None
    used: int
    limit: int

    @property
    def waits(self) -> str:
        """Say why the job waits."""
        if self.gpus is None and self.limit:
            return f"{quota_of(self.holder)} has {self.used} of {self.limit} jobs running"
        if self.gpus is None or self.gpus > self.limit:
            return self.refused
        return f"needs {_gpus(self.gpus)}, and {quota_of(self.holder)} has {self.used} of {self.limit} in use"

    @property
    def refused(self) -> str:
        """Say why the job could never start, even alone."""
        if self.gpus is None:
            return f"{quota_of(self.holder)} lets no job run"
        cure = f"ask for at most {self.limit}" if self.limit else "ask for none"
        limit = f"{self.limit} at once, {self.used} in use"
        return f"needs {_gpus(self.gpus)}, but {quota_of(self.holder)} is {limit}; {cure}"


class Quotas:
    """The limits of all holders, and what their jobs have."""

    def __init__(self) -> None:
        self._limits: dict[str, JobLimits] = {}
        self._members: dict[str, frozenset[str]] = {}
        self._of_users: dict[str, JobUse] = {}
        self._of_groups: dict[str, JobUse] = {}
        self._holders: dict[str, tuple[tuple[str, JobLimits], ...]] = {}  # by user: those that limit what they run

    def set(self, limits: Mapping[str, JobLimits], members: Mapping[str, frozenset[str]]) -> None:
        """Set all limits by holder, and the groups that users are in."""
        self._limits = {holder: each for holder, each in limits.items() if (each.running, each.gpus) != (None, None)}
        self._members = dict(members)
        self._holders.clear()
        self._of_groups.clear()
        for user, use in self._of_users.items():
            self._add_to_groups(user, use)

    @property
    def any(self) -> bool:
        """Whether anybody has limits."""
        return bool(self._limits)

    def add(self, user: str, use: JobUse) -> None:
        """A user's jobs have so much more, or less."""
        left = self._of_users.get(user, NOTHING).plus(use)
        if left == NOTHING:
            self._of_users.pop(user, None)
        else:
            self._of_users[user] = left
        self._add_to_groups(user, use)

    def _add_to_groups(self, user: str, use: JobUse) -> None:
        for group in self._members.get(user, ()):
            self._of_groups[group] = self._of_groups.get(group, NOTHING).plus(use)

    def obstacle(self, user: str, gpus: int) -> Obstacle | None:
        """Return what keeps a user's job with so many GPUs from starting now."""
        if not self._limits:
            return None
        for holder, limits in self._holders_of(user):
            use = self.used(holder)
            if limits.running is not None and use.jobs >= limits.running:
                return Obstacle(holder, None, use.jobs, limits.running)
            if limits.gpus is not None and gpus and use.gpus + gpus > limits.gpus:
                return Obstacle(holder, gpus, use.gpus, limits.gpus)
        return None

    def allows(self, user: str, gpus: int) -> bool:
        """Tell whether a user's running jobs may have so many more GPUs now."""
        limits = [(self.used(holder).gpus, each.gpus) for holder, each in self._holders_of(user)]
        return not gpus or all(most is None or used + gpus <= most for used, most in limits)

    def forbids(self, user: str, gpus: int) -> Obstacle | None:
        """Return what keeps a user's job with so many GPUs from starting, even if nothing ran."""
        for holder, limits in self._holders_of(user):
            if limits.running == 0:
                return Obstacle(holder, None, 0, 0)
            if limits.gpus is not None and gpus > limits.gpus:
                return Obstacle(holder, gpus, self.used(holder).gpus, limits.gpus)
        return None

    def fellows(self, user: str) -> Iterable[str]:
        """Return all whose jobs may start when one of this user's ends."""
        groups = {holder.removeprefix(GROUP) for holder, _ in self._holders_of(user) if holder.startswith(GROUP)}
        if not groups:
            return (user,)
        return {user, *(each for each, theirs in self._members.items() if theirs & groups)}

    def used(self, holder: str) -> JobUse:
        """Return what a user's running jobs have, or those of the members of a group."""
        if holder.startswith(GROUP):
            return self._of_groups.get(holder.removeprefix(GROUP), NOTHING)
        return self._of_users.get(holder, NOTHING)

    def _holders_of(self, user: str) -> tuple[tuple[str, JobLimits], ...]:
        found = self._holders.get(user)
        if found is None:
            names = [user, *(GROUP + group for group in sorted(self._members.get(user, ())))]
            found = tuple((name, self._limits[name]) for name in names if name in self._limits)
            self._holders[user] = found
        return found


def gpus_of(needs: tuple[Need, ...]) -> int:
    """Return how many GPUs a job has while it runs."""
    return sum(need.count * sum(count for count, _ in need.gpus) for need in needs)


def use_of(job: Running) -> JobUse:
    """Return the same of a job that has its places."""
    return JobUse(1, sum(len(use.gpus) for use in job.uses))


def _gpus(count: int) -> str:
    return "1 GPU" if count == 1 else f"{count} GPUs"
