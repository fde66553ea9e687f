"""`ctl` of a job: its owner's commands, and those of administrators.

All commands of a write are tried, one after the other, before the first is obeyed.
"""

from jobd.ctl import (
    HELP,
    Command,
    Extend,
    Hold,
    Kill,
    Lost,
    Priority,
    Release,
    Requeue,
    Share,
    Signal,
    Unshare,
    parse_ctl,
)
from jobd.engine.engine import Engine
from jobd.files.control import Control
from jobd.files.sources import Sources
from jobd.job import Job
from pfs.perm import Subject


class JobControl(Control):
    """Commands of its owner, and of administrators; reading it prints them."""


def job_control(sources: Sources, job: Job) -> JobControl:
    """Return the `ctl` of a job."""

    async def obey(subject: Subject, data: bytes) -> None:
        commands = parse_ctl(data)
        trial = await sources.engine.trial(subject, job.id)
        for command in commands:
            trial.tell(command)
        for command in commands:
            await _obey(sources.engine, subject, job.id, command)

    return JobControl(("job", job.id), HELP, obey, job.life.submitted_at_ns, sources.audit)


async def _obey(engine: Engine, subject: Subject, job_id: int, command: Command) -> None:
    match command:
        case Kill():
            await engine.kill(subject, job_id)
        case Signal(number):
            await engine.signal(subject, job_id, number)
        case Hold():
            await engine.hold(subject, job_id)
        case Release():
            await engine.release(subject, job_id)
        case Requeue():
            await engine.requeue(subject, job_id)
        case Priority(number):
            await engine.set_priority(subject, job_id, number)
        case Extend(by_s):
            await engine.extend(subject, job_id, by_s)
        case Share(groups):
            await engine.share(subject, job_id, frozenset(groups))
        case Unshare(groups):
            await engine.unshare(subject, job_id, frozenset(groups))
        case Lost():
            await engine.give_up(subject, job_id)
