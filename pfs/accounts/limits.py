"""How much users and groups may hold, in SQL; `pfs.disk` sees to it.

A *holder* of limits is a user (`ann`) or a group (`groups/vision`).
"""

from sqlmodel import Session, col, delete, select

from pfs.accounts.groups import Groups, group_there
from pfs.accounts.keyring import there
from pfs.accounts.tables import Quota, User
from pfs.audit.log import audited
from pfs.quota import GROUP, Limits


class FileLimits(Groups):
    """What users and groups may hold."""

    def check_holder_now(self, holder: str) -> None:
        """Look whether there is such a user or group.

        Raises:
            PfsError: NOT_FOUND when there is none.
        """
        self._database.read_now(lambda session: _check_holder(session, holder))

    def set_limits_now(self, holder: str, limits: Limits) -> None:
        """Say how much a user or a group may hold.

        Raises:
            PfsError: NOT_FOUND when there is none of that name.
        """

        def work(session: Session) -> None:
            _check_holder(session, holder)
            session.merge(Quota(holder=holder, size_bytes=limits.size_bytes, files=limits.files))

        more = {"bytes": _told(limits.size_bytes), "files": _told(limits.files)}
        self._database.write_now(audited("quota.set", f"quotas/{holder}", work, **more))

    def limits_now(self, holder: str) -> Limits:
        """Return how much a user or a group may hold.

        Raises:
            PfsError: NOT_FOUND when there is none of that name.
        """

        def work(session: Session) -> Limits:
            _check_holder(session, holder)
            row = session.get(Quota, holder)
            return Limits() if row is None else Limits(row.size_bytes, row.files)

        return self._database.read_now(work)

    def limited_now(self) -> list[str]:
        """Return the holders that have limits, in order."""
        limited = col(Quota.size_bytes).is_not(None) | col(Quota.files).is_not(None)
        return self._database.read_now(lambda session: sorted(session.exec(select(Quota.holder).where(limited))))

    async def number(self, holder: str) -> int | None:
        """Return the number that a user or a group has as an owner of files; None where everything is one person's."""
        if holder.startswith(GROUP):
            return (await self.group(holder.removeprefix(GROUP)))[1]
        query = select(User).where(User.name == holder)
        user = await self._database.read(lambda session: session.exec(query).first())
        return None if user is None else self._subject(user).uid

    async def limits(self) -> dict[str, Limits]:
        """Return how much may be held, by holder; who is not named has no limits."""
        rows = await self._database.read(lambda s: list(s.exec(select(Quota)).all()))
        return {row.holder: Limits(row.size_bytes, row.files) for row in rows}


def drop_limits(session: Session, holder: str) -> None:
    """Let a user or a group have no limits."""
    session.exec(delete(Quota).where(col(Quota.holder) == holder))


def _check_holder(session: Session, holder: str) -> None:
    if not holder.startswith(GROUP):
        there(session, holder)
        return
    group_there(session, holder.removeprefix(GROUP))


def _told(limit: int | None) -> str:
    return "none" if limit is None else str(limit)
