"""What the commands of jobs are refused for, as far as that is known before anything is done.

`Commands` asks it in the moment in which a command is given. A `Trial` asks it for all commands of one write before the
first is given: what each makes of a job is tried on a copy, so that the next one is looked at as it will be then.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace

from jobd import ctl
from jobd.job import Job
from jobd.life import events as happened
from jobd.life.events import Event
from jobd.life.life import IllegalEvent, Life, update
from jobd.spec.model import PRIORITY_MAX
from pfs.errors import Kind, PfsError
from pfs.perm import SERVICE, Subject, Verb, allowed

PRIORITY_OF_ALL_MAX = 50
HOLD_CURE = "only a job that waits can be held; requeue or kill it"
RELEASE_CURE = "it waits no more"
REQUEUE_CURE = "only a job that starts or runs, or is held, can be run again; a job that waits will run anyway"
CHANGE_CURE = "it is about to end"


def is_ruler(subject: Subject) -> bool:
    """Tell whether somebody decides for others."""
    return allowed(subject, Verb.RULE, SERVICE)


def check_priority(subject: Subject, priority: int) -> None:
    """Refuse a priority that somebody may not give.

    Raises:
        PfsError: INVALID, or DENIED above what everybody may have.
    """
    if not 0 <= priority <= PRIORITY_MAX:
        raise PfsError(Kind.INVALID, f"{priority} is no priority; they go from 0 to {PRIORITY_MAX}")
    if priority > PRIORITY_OF_ALL_MAX and not is_ruler(subject):
        raise PfsError(Kind.DENIED, f"priorities above {PRIORITY_OF_ALL_MAX} are for admins; {priority} is too high")


def check_holders(subject: Subject, job: Job, lives: Iterable[Life]) -> None:
    """Refuse to let a job go on that somebody holds who decides more; DENIED."""
    for life in lives:
        if life.held_by not in ("", subject.user, job.user) and not allowed(subject, Verb.RULE, job.domain):
            text = f"job {job.id} is held by {life.held_by}; ask them, or an admin, to release it"
            raise PfsError(Kind.DENIED, text)


def check_held(job: Job, life: Life, lives: Iterable[Life]) -> None:
    """Refuse to release what nobody holds; BUSY."""
    if not any(each.held_by for each in lives):
        raise PfsError(Kind.BUSY, f"job {job.id} is not held; it is {life.state}")


def check_limited(job: Job) -> None:
    """Refuse more time for a job without a limit; INVALID."""
    if job.life.max_duration_s is None:
        raise PfsError(Kind.INVALID, f"job {job.id} has no time limit; there is nothing to extend")


def check_may_lose(subject: Subject) -> None:
    """Refuse to give up a node for who is no administrator; DENIED."""
    if not is_ruler(subject):
        raise PfsError(Kind.DENIED, "only an admin can say that a node will not come back")


def check_no_task(job: Job) -> None:
    """Refuse to share a task alone; INVALID."""
    if job.array_id is not None:
        raise PfsError(Kind.INVALID, f"job {job.id} is a task of job {job.array_id}; share that one")


def check_shared_with(subject: Subject, groups: frozenset[str], members: Iterable[Collection[str]]) -> None:
    """Refuse groups that somebody is not in, and of administrators those that there are not; INVALID."""
    foreign = sorted(groups.difference(subject.groups, *(members if is_ruler(subject) else ())))
    if foreign:
        raise PfsError(Kind.INVALID, f"you are in no group {foreign[0]!r}; share with groups that you are in")


def check_unshared(job: Job, groups: frozenset[str]) -> None:
    """Refuse groups that a job is not shared with; INVALID."""
    foreign = sorted(groups - job.groups)
    if foreign:
        there = ", ".join(sorted(job.groups)) or "nobody"
        raise PfsError(Kind.INVALID, f"job {job.id} is not shared with {foreign[0]!r}, but with: {there}")


class Trial:
    """What the commands of one write would make of a job.

    Args:
        tasks: the tasks of an array that wait, which its commands are for, too.
        members: the groups of everybody.
    """

    def __init__(
        self,
        subject: Subject,
        job: Job,
        tasks: Iterable[Life],
        members: Iterable[Collection[str]],
        clock: Callable[[], int],
    ) -> None:
        self._subject = subject
        self._job = job
        self._tasks = list(tasks)
        self._members = list(members)
        self._clock = clock

    def tell(self, command: ctl.Command) -> None:
        """Let a command be given, after those before it.

        Raises:
            PfsError: it would be refused.
        """
        if isinstance(command, ctl.Share | ctl.Unshare):
            self._share(command)
            return
        if self._job.life.state.over:
            raise PfsError(Kind.BUSY, over_text(self._job))
        by, now_ns = self._subject.user, self._clock()
        match command:
            case ctl.Kill():
                self._happen(happened.KillRequested(time_ns=now_ns, by=by), "")
            case ctl.Hold():
                self._happen(happened.Held(time_ns=now_ns, by=by), HOLD_CURE)
            case ctl.Release():
                check_holders(self._subject, self._job, self._lives())
                check_held(self._job, self._job.life, self._lives())
                self._happen(happened.Released(time_ns=now_ns, by=by), RELEASE_CURE)
            case ctl.Requeue():
                check_holders(self._subject, self._job, self._lives())
                self._happen(happened.RequeueRequested(time_ns=now_ns, by=by), REQUEUE_CURE)
            case ctl.Priority(number):
                check_priority(self._subject, number)
                self._happen(happened.PriorityChanged(time_ns=now_ns, by=by, priority=number), CHANGE_CURE)
            case ctl.Extend(by_s):
                check_limited(self._job)
                self._happen(happened.Extended(time_ns=now_ns, by=by, by_s=by_s), CHANGE_CURE)
            case ctl.Lost():
                check_may_lose(self._subject)
            case ctl.Signal():
                running(self._job)

    def _share(self, command: ctl.Share | ctl.Unshare) -> None:
        check_no_task(self._job)
        groups = frozenset(command.groups)
        if isinstance(command, ctl.Share):
            check_shared_with(self._subject, groups, self._members)
            self._job = replace(self._job, groups=self._job.groups | groups)
        else:
            check_unshared(self._job, groups)
            self._job = replace(self._job, groups=self._job.groups - (groups or self._job.groups))

    def _lives(self) -> list[Life]:
        return [self._job.life, *self._tasks]

    def _happen(self, event: Event, cure: str) -> None:
        after = [_after(life, event) for life in self._lives()]
        if not any(after):
            raise PfsError(Kind.BUSY, f"job {self._job.id} is {self._job.life.state}: {cure}")
        now = [new or old for new, old in zip(after, self._lives(), strict=True)]
        self._job, self._tasks = replace(self._job, life=now[0]), now[1:]


def _after(life: Life, event: Event) -> Life | None:
    try:
        return update(life, event)
    except IllegalEvent:
        return None


def over_text(job: Job) -> str:
    """Say that a job is over."""
    return f"job {job.id} is over: {job.life.state}; submit it again to run it again"


def running(job: Job) -> list[int]:
    """Return the processes of a job that run.

    Raises:
        PfsError: BUSY when none does.
    """
    found = [n for n, each in enumerate(job.life.processes) if each.started_at_ns is not None and not each.over]
    if not found:
        raise PfsError(Kind.BUSY, f"job {job.id} is {job.life.state}: there is no process to send a signal to")
    return found
