"""Jobs that are over go to the trash, and come back: their rows, their files, the tasks of an array, their names.

A name is the newest job's. So a job has its name again when it is back, unless a newer one was given it meanwhile.
"""

import trio

from jobd.engine.trash import TRASH_KEPT_DAYS, TRASH_KEPT_S
from jobd.files.facts import time_text
from jobd.files.sources import Sources
from jobd.store.removed import Thrown
from pfs.errors import Kind, PfsError
from pfs.perm import Subject, Verb, allowed

NUMBER_DIGITS_MAX = 18  # no job has a larger one, and no database either


async def throw_away(sources: Sources, job_id: int, now_ns: int) -> None:
    """Throw a job that is over to the trash, with its tasks."""
    trash = sources.workshop.trash
    async with trash.turn:
        with sources.engine.ledger.removing():
            await sources.store.remove(job_id, now_ns)
        for each in await _whole(sources, job_id):
            await trash.put(each)


async def restore(sources: Sources, subject: Subject, named: str, now_ns: int) -> int:
    """Bring a job back from the trash, with its tasks; return its number.

    Args:
        named: its number, or the name of one of `subject`.

    Raises:
        PfsError: NOT_FOUND where there is none, or no more; FORBIDDEN for somebody else's job, and for a task alone;
            EXISTS for one that was not removed.
    """
    trash = sources.workshop.trash
    async with trash.turn:
        job = await _found(sources, subject, named)
        _check(job, subject, named, now_ns)
        # the files come first: what a server that is killed between the two leaves is a job that is in the trash still
        with trio.CancelScope(shield=True):
            for each in await _whole(sources, job.id):
                await trash.bring_back(each)
            with sources.engine.ledger.removing():
                await sources.store.restore(job.id)
    return job.id


async def _whole(sources: Sources, job_id: int) -> list[int]:
    return [job_id, *(task.id for task in (await sources.store.tasks(job_id)).values())]


async def _found(sources: Sources, subject: Subject, named: str) -> Thrown:
    is_number = named.isascii() and named.isdigit() and len(named) <= NUMBER_DIGITS_MAX
    number = int(named) if is_number else await sources.store.called(subject.user, named)
    job = None if number is None else await sources.store.thrown(number)
    if job is None or not allowed(subject, Verb.READ, job.domain):
        raise PfsError(Kind.NOT_FOUND, f"there is no job {named[:80]!r}, and none in the trash")
    return job


def _check(job: Thrown, subject: Subject, named: str, now_ns: int) -> None:
    if not allowed(subject, Verb.COMMAND, job.domain):
        raise PfsError(Kind.FORBIDDEN, f"job {job.id} belongs to {job.user}; only they and admins bring it back")
    if job.removed_at_ns is None:
        cure = "" if named == str(job.id) else f"; of an older one called {named[:80]!r} say the number"
        raise PfsError(Kind.EXISTS, f"job {job.id} is not in the trash{cure}")
    if job.array_id is not None:
        raise PfsError(Kind.FORBIDDEN, f"job {job.id} is a task of job {job.array_id}, and comes back with it")
    if job.removed_at_ns + TRASH_KEPT_S * 1e9 <= now_ns:
        since = time_text(job.removed_at_ns)
        text = f"job {job.id} was removed at {since}, and what is in the trash stays for {TRASH_KEPT_DAYS} days"
        raise PfsError(Kind.NOT_FOUND, text)
