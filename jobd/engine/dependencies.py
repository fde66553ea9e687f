"""What jobs wait for: which job has to be over before, how, and what that means once it is.

    afterok      it succeeded
    afterany     it is over, however
    afternotok   it ran and did not succeed

A job that was cancelled before it ran satisfies afterany alone. What can never be satisfied ends the job that waits.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

from jobd.job import Job
from jobd.life.events import Event, PreparationStarted, Prepared
from jobd.life.life import Life, State
from jobd.spec.model import AFTER_ANY, AFTER_OK, Dependency, JobSpec

_WANTED = {AFTER_OK: "succeed", AFTER_ANY: "be over"}


class Verdict(StrEnum):
    """What one job means to another that waits for it."""

    OPEN = "open"
    MET = "met"
    NEVER = "never"


def verdict(dependency: Dependency, life: Life) -> Verdict:
    """Tell what a job in this state means to one that waits for it."""
    if not life.state.over:
        return Verdict.OPEN
    succeeded = life.state is State.SUCCEEDED
    if dependency.kind == AFTER_ANY:
        return Verdict.MET
    if dependency.kind == AFTER_OK:
        return Verdict.MET if succeeded else Verdict.NEVER
    ran = life.started_at_ns is not None or life.attempt > 1
    return Verdict.MET if ran and not succeeded else Verdict.NEVER


def never(dependencies: Iterable[Dependency], lives: Mapping[int, Life]) -> str | None:
    """Say which of them can never be satisfied; None where all may be. A job without a life is no more."""
    for dependency in dependencies:
        life = lives.get(dependency.job_id)
        if life is None:
            return f"it waited for {_words(dependency)}, and that was removed"
        if verdict(dependency, life) is Verdict.NEVER:
            return f"it waited for {_words(dependency)}, and that is {life.state}"
    return None


def waits_for(dependencies: Iterable[Dependency], lives: Mapping[int, Life]) -> str | None:
    """Say what a job waits for; None where everything is satisfied. `lives` are those of jobs that are not over."""
    open_ones = [each for each in dependencies if each.job_id in lives]
    if not open_ones:
        return None
    first = open_ones[0]
    more = f", and for {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
    return f"waits for {_words(first)}, which is {lives[first.job_id].state}{more}"


def _words(dependency: Dependency) -> str:
    return f"job {dependency.job_id} to {_WANTED.get(dependency.kind, 'fail')}"


def next_step(spec: JobSpec, now_ns: int) -> Event:
    """Return what happens to a job that nothing has to be over before any more."""
    if spec.src is None and spec.continue_from is None:
        return Prepared(time_ns=now_ns)
    return PreparationStarted(time_ns=now_ns)


class Waiters:
    """Who waits for whom."""

    def __init__(self) -> None:
        self._waiters: dict[int, dict[int, None]] = {}

    def add(self, job: Job) -> None:
        """A job waits for those that its spec names."""
        for dependency in job.spec.depends_on:
            self._waiters.setdefault(dependency.job_id, {})[job.id] = None

    def drop(self, job: Job) -> None:
        """A job waits no more."""
        for dependency in job.spec.depends_on:
            waiters = self._waiters.get(dependency.job_id, {})
            waiters.pop(job.id, None)
            if not waiters:
                self._waiters.pop(dependency.job_id, None)

    def of(self, job_id: int) -> tuple[int, ...]:
        """Return who waits for a job."""
        return tuple(self._waiters.get(job_id, ()))
