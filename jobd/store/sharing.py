"""With whom jobs are shared, in SQL: each job, an array with its tasks, with groups whose members may read it.

A new job is shared with the groups that its owner chose for all of them, unless it is private; later with those that
its `ctl` was told of.
"""

from collections.abc import Collection

from sqlalchemy import ColumnElement, delete, func, insert, select
from sqlmodel import Session, col

from jobd.store.tables import JobGroup, JobRow
from pfs.accounts.groups import autoshare_of, setting_autoshare
from pfs.sql import Database

_SHARE = insert(JobGroup)


class Sharing:
    """What is kept of it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def share(self, job_id: int, groups: Collection[str]) -> None:
        """Let a job be shared with these groups, and no others."""

        def work(session: Session) -> None:
            session.connection().execute(delete(JobGroup).where(col(JobGroup.job_id) == job_id))
            add_groups(session, job_id, groups)

        await self._database.write(work)

    async def autoshare(self, user: str) -> frozenset[str]:
        """Return the groups with which new jobs of an account are shared."""
        return await self._database.read(lambda session: autoshare_of(session, user))

    async def set_autoshare(self, user: str, groups: Collection[str]) -> None:
        """Say with which groups they are.

        Raises:
            PfsError: INVALID for a group that the account is not in.
        """
        await self._database.write(setting_autoshare(user, groups))


def first_groups(session: Session, user: str, *, private: bool) -> frozenset[str]:
    """Return the groups with which a new job of an account is shared."""
    return frozenset() if private else autoshare_of(session, user)


def add_groups(session: Session, job_id: int, groups: Collection[str]) -> None:
    """Let a job be shared with more groups."""
    if groups:
        session.connection().execute(_SHARE, [{"job_id": job_id, "group": group} for group in sorted(groups)])


def drop_shares(session: Session, group: str) -> None:
    """Let no job be shared with a group that is gone, in a transaction of somebody else's."""
    session.connection().execute(delete(JobGroup).where(col(JobGroup.group) == group))


def groups_of(job_id: ColumnElement[int]) -> ColumnElement[str | None]:
    """Return, within a query, the groups of a job parted by blanks; None for none."""
    names = func.aggregate_strings(col(JobGroup.group), " ")
    return select(names).where(col(JobGroup.job_id) == job_id).correlate(JobRow).scalar_subquery()


def is_shared_with(group: str, count_max: int) -> ColumnElement[bool]:
    """Return, within a query, that a job is one of the newest that are shared with a group."""
    newest = select(col(JobGroup.job_id)).where(col(JobGroup.group) == group)
    return col(JobRow.id).in_(newest.order_by(col(JobGroup.job_id).desc()).limit(count_max))
