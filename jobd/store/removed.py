"""Jobs that their owners removed, in SQL: a row stays, with the time since when nobody finds it under its number."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

from sqlalchemy import func, select, update
from sqlmodel import Session, col

from jobd.store.jobs import in_parts
from jobd.store.sharing import groups_of
from jobd.store.tables import JobName, JobRow
from pfs.audit.log import audited
from pfs.perm import Domain, DomainKind
from pfs.sql import Database

_IS_REMOVED = col(JobRow.removed_at_ns).is_not(None)
_SHARED_AS = func.coalesce(col(JobRow.array_id), col(JobRow.id))
_FACTS = (
    *(col(JobRow.user), col(JobRow.array_id), col(JobRow.removed_at_ns)),
    groups_of(_SHARED_AS).label("groups"),
)


@dataclass(frozen=True, slots=True)
class Thrown:
    """A job, removed or not.

    Attributes:
        array_id: the array that it is a task of; None for none.
        removed_at_ns: since when it is removed, in nanoseconds since the epoch; None where it is not.
    """

    id: int
    user: str
    array_id: int | None
    removed_at_ns: int | None
    groups: frozenset[str]

    @property
    def domain(self) -> Domain:
        """The domain of its data, whose rule says who may read the job."""
        return Domain(DomainKind.JOB, str(self.id), owner=self.user, groups=self.groups)


class Removed:
    """What is kept of jobs that were removed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remove(self, job_id: int, time_ns: int) -> None:
        """Let a job and its tasks be nobody's: they are in no listing, and under no number."""
        await self._database.write(audited("job.remove", f"jobs/{job_id}", _setting(job_id, time_ns)))

    async def restore(self, job_id: int) -> None:
        """Let a job and its tasks be there again, as if they had never been removed."""
        await self._database.write(audited("job.restore", f"jobs/{job_id}", _setting(job_id, None)))

    async def thrown(self, job_id: int) -> Thrown | None:
        """Return a job, removed or not; None where there never was one of that number."""
        query = select(*_FACTS).where(col(JobRow.id) == job_id)

        def work(session: Session) -> Thrown | None:
            row = session.connection().execute(query).first()
            if row is None:
                return None
            return Thrown(job_id, row.user, row.array_id, row.removed_at_ns, frozenset((row.groups or "").split()))

        return await self._database.read(work)

    async def called(self, user: str, name: str) -> int | None:
        """Return the number of a user's newest job of a name, removed or not."""
        query = select(col(JobName.job_id)).where(col(JobName.user) == user, col(JobName.name) == name)
        return await self._database.read(lambda session: session.connection().execute(query).scalar())

    async def removed_of(self, job_ids: Collection[int]) -> list[int]:
        """Return those of the jobs that were removed."""
        query = select(col(JobRow.id)).where(_IS_REMOVED)

        def work(session: Session) -> list[int]:
            some = (query.where(col(JobRow.id).in_(part)) for part in in_parts(job_ids))
            return [row.id for each in some for row in session.connection().execute(each)]

        return await self._database.read(work)


def _setting(job_id: int, removed_at_ns: int | None) -> Callable[[Session], None]:
    which = (col(JobRow.id) == job_id) | (col(JobRow.array_id) == job_id)

    def work(session: Session) -> None:
        session.connection().execute(update(JobRow).where(which).values(removed_at_ns=removed_at_ns))

    return work
