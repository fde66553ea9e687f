"""Texts in `jobs/` in SQL: what people and their programs put there, and why a drop was refused."""

import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, delete, func, insert, update
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from jobd.store.tables import DraftRow, DraftTable, DropError
from pfs.audit.log import add, record_now
from pfs.errors import Kind
from pfs.sql import Database

DRAFTS_LISTED_MAX = 10_000


Values = dict[str, Any]

_THIS = (col(DraftTable.user) == bindparam("owner"), col(DraftTable.name) == bindparam("called"))
_ADD = insert(DraftTable)
_REPLACE = update(DraftTable).where(*_THIS)
_RENAME = update(DraftTable).where(*_THIS)
_FORGET = delete(DraftTable).where(*_THIS)
_CLEAR_ERROR = delete(DropError).where(
    col(DropError.user) == bindparam("owner"), col(DropError.name) == bindparam("called")
)
_LISTED = (
    *(col(DraftTable.user), col(DraftTable.name), func.length(col(DraftTable.content)), col(DraftTable.link)),
    *(col(DraftTable.born_ns), col(DraftTable.mtime_ns)),
)


@dataclass(frozen=True, slots=True)
class ListedDraft:
    """A text as a listing shows it."""

    user: str
    name: str
    size_bytes: int
    link: bool
    born_ns: int
    mtime_ns: int


class Drafts:
    """What is kept of texts in `jobs/`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def drafts(self, user: str, since_ns: int) -> list[ListedDraft]:
        """Return a user's texts that were written since, at most the newest 10,000; none of them is read for it."""
        query = (
            select_columns(*_LISTED)
            .where(col(DraftTable.user) == user, col(DraftTable.kept_at_ns) >= since_ns)
            .order_by(col(DraftTable.kept_at_ns).desc())
            .limit(DRAFTS_LISTED_MAX)
        )
        return await self._database.read(lambda s: [ListedDraft(*row) for row in s.connection().execute(query)])

    async def save_draft(self, draft: DraftRow) -> None:
        """Keep a text; whatever else stood under its name is gone."""
        values = kept(draft)
        await self._database.write(lambda session: keep_draft(session, values))

    async def rename_draft(self, user: str, source: str, target: str) -> None:
        """Give a text another name; what stood there is gone."""

        def work(session: Session) -> None:
            connection = session.connection()
            connection.execute(_FORGET, {"owner": user, "called": target})
            connection.execute(_RENAME, {"owner": user, "called": source, "name": target})

        await self._database.write(work)

    async def delete_draft(self, user: str, name: str) -> None:
        """Forget a text."""
        await self._database.write(lambda session: forget_draft(session, user, name))

    async def sweep_drafts(self, before_ns: int) -> None:
        """Forget scratch and errors that nobody wrote since `before_ns`."""

        def work(session: Session) -> None:
            session.connection().execute(
                delete(DraftTable).where(~col(DraftTable.submitted), col(DraftTable.kept_at_ns) < before_ns)
            )
            session.connection().execute(delete(DropError).where(col(DropError.time_ns) < before_ns))

        await self._database.write(work)

    async def errors(self, user: str) -> dict[str, DropError]:
        """Return why drops of a user were refused, by name."""
        query = select(DropError).where(DropError.user == user)
        return await self._database.read(lambda s: {row.name: row for row in s.exec(query)})

    async def error(self, user: str, name: str) -> DropError | None:
        """Return why the last drop under a name was refused."""
        return await self._database.read(lambda s: s.get(DropError, (user, name)))

    async def set_error(self, user: str, name: str, text: str, time_ns: int, kind: Kind = Kind.INVALID) -> None:
        """Say why a drop was refused."""
        record = record_now("job.submit", f"jobs/{name}", kind)

        def work(session: Session) -> None:
            session.merge(DropError(user=user, name=name, text=text, time_ns=time_ns))
            add(session, record)

        await self._database.write(work)

    async def clear_error(self, user: str, name: str) -> None:
        """Forget why a drop was refused."""
        await self._database.write(lambda session: clear_error(session, user, name))


def kept(draft: DraftRow) -> Values:
    """Return what is to be kept of a text as it is now; it may be written to while its transaction waits."""
    names = ("user", "name", "content", "link", "submitted", "born_ns", "mtime_ns")
    return {name: getattr(draft, name) for name in names} | {"kept_at_ns": time.time_ns()}


def keep_draft(session: Session, values: Values) -> None:
    """Keep a text under its name, in a transaction of somebody else's."""
    connection = session.connection()
    if connection.execute(_REPLACE, values | {"owner": values["user"], "called": values["name"]}).rowcount == 0:
        connection.execute(_ADD, values)


def forget_draft(session: Session, user: str, name: str) -> None:
    """Forget a text with its error, in a transaction of somebody else's."""
    session.connection().execute(_FORGET, {"owner": user, "called": name})
    clear_error(session, user, name)


def clear_error(session: Session, user: str, name: str) -> None:
    """Forget why a drop was refused, in a transaction of somebody else's."""
    session.connection().execute(_CLEAR_ERROR, {"owner": user, "called": name})
