"""Which jobs there are, by what everybody may know of them: all users', also those that ended long ago.

Those that are not over are few, and those that are over stand in an index by their end. So whoever asks for the newest
is answered from there, whatever lies behind them; of an array there is the array.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from sqlalchemy import Row, SQLColumnExpression, case, select
from sqlmodel import Session, col

from jobd.job import Job
from jobd.life.life import State
from jobd.store.jobs import jobs_in
from jobd.store.tables import JobRow
from pfs.sql import Database

SECOND_NS = 1_000_000_000

_OVER = col(JobRow.ended_at_ns).is_not(None)
_SHOWN = (col(JobRow.array_id).is_(None), col(JobRow.removed_at_ns).is_(None))
_RANKS = {state.value: rank for rank, state in enumerate(State)}
_RANK_OVER = len(_RANKS)


@dataclass(frozen=True, slots=True)
class JobSearch:
    """What is asked for.

    Attributes:
        user: whose they are.
        title: what their titles are like, in SQL's words: `%` is anything, `_` one character.
        since_s, till_s: when they changed last, in seconds since the epoch; the second `till_s` belongs to it.
        orders: by date, user, title or state, each upward or (True) downward; then by date, the newest first.
        offset: how many of the first ones not.
    """

    user: str | None = None
    title: str | None = None
    since_s: int | None = None
    till_s: int | None = None
    orders: tuple[tuple[str, bool], ...] = ()
    limit: int = 100
    offset: int = 0


class Searches:
    """How they are found."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def search(self, asked: JobSearch) -> list[Job]:
        """Return the jobs that are asked for, in their order."""
        orders = (*asked.orders, ("date", True))

        def work(session: Session) -> list[Job]:
            rows = [*_rows(session, asked, orders, over=False), *_rows(session, asked, orders, over=True)]
            for name, downward in reversed(orders):
                rows.sort(key=_KEYS[name], reverse=downward)
            ids = [row.id for row in rows[asked.offset : asked.offset + asked.limit]]
            found = {job.id: job for job in jobs_in(session, col(JobRow.id).in_(ids))} if ids else {}
            return [found[job_id] for job_id in ids]

        return await self._database.read(work)


def _rows(
    session: Session, asked: JobSearch, orders: Sequence[tuple[str, bool]], *, over: bool
) -> Sequence[Row[*tuple[Any, ...]]]:
    """Return as many of those that are over, or of the others, as can be among what is asked for."""
    date = col(JobRow.ended_at_ns) if over else col(JobRow.changed_at_ns)
    columns: dict[str, list[SQLColumnExpression[Any]]] = {
        "date": [date, col(JobRow.id)],
        "user": [col(JobRow.user)],
        "title": [col(JobRow.title)],
        "state": [] if over else [case(_RANKS, value=col(JobRow.state))],  # all that are over are the same
    }
    rank = case((_OVER, _RANK_OVER), else_=case(_RANKS, value=col(JobRow.state)))
    query = select(col(JobRow.id), col(JobRow.user), col(JobRow.title), rank.label("rank"), date.label("at_ns"))
    query = query.where(*_SHOWN, _OVER if over else ~_OVER)
    if asked.user is not None:
        query = query.where(col(JobRow.user) == asked.user)
    if asked.title is not None:
        query = query.where(col(JobRow.title).like(asked.title))
    if asked.since_s is not None:
        query = query.where(date >= asked.since_s * SECOND_NS)
    if asked.till_s is not None:
        query = query.where(date < (asked.till_s + 1) * SECOND_NS)
    for name, downward in orders:
        query = query.order_by(*(column.desc() if downward else column.asc() for column in columns[name]))
    return session.connection().execute(query.limit(asked.offset + asked.limit)).all()


_KEYS: Mapping[str, Callable[[Row[*tuple[Any, ...]]], Any]] = {
    "date": attrgetter("at_ns", "id"),
    "user": attrgetter("user"),
    "title": attrgetter("title"),
    "state": attrgetter("rank"),
}
ORDERS = frozenset(_KEYS)
