"""Which jobs `pit show jobs` lists: all that its words name, in their order, a hundred at most.

since=2026-01-31  till=2026-02-01T12:00    by the date of their last change; without a zone it is ours
user=ann          title=%digits%           `%` stands for anything, `_` for one character
asc=user          desc=date                by date, user, title or state; several count in their order
limit=10          offset=10                how many, and how many of the first ones not
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from cli.snakepit.gpuuse import Job
from cli.snakepit.states import ORDER, letters_of
from cli.snakepit.status import changed
from pfs.errors import Kind, PfsError

LISTED_MAX = 100


@dataclass(slots=True)
class JobQuery:
    """What is asked for; `since_s` and `till_s` are seconds since the epoch."""

    since_s: float | None = None
    till_s: float | None = None
    user: str | None = None
    title: re.Pattern[str] | None = None
    orders: list[tuple[str, bool]] = field(default_factory=list)
    limit: int = LISTED_MAX
    offset: int = 0

    def pick(self, jobs: Sequence[Job]) -> list[Job]:
        """Return the jobs that are asked for."""
        found = [job for job in jobs if self._fits(job)]
        for name, downward in reversed([*self.orders, ("date", True)]):
            found.sort(key=_KEYS[name], reverse=downward)
        return found[self.offset : self.offset + self.limit]

    def _fits(self, job: Job) -> bool:
        at_s = _date_s(changed(job))
        return (
            (self.since_s is None or at_s >= self.since_s)
            and (self.till_s is None or at_s <= self.till_s)
            and (self.user is None or job["user"] == self.user)
            and (self.title is None or self.title.fullmatch(job["title"]) is not None)
        )


def parse(words: Sequence[str]) -> JobQuery:
    """Return what the words ask for.

    Raises:
        PfsError: INVALID for a word that there is not, or a value that it cannot have.
    """
    query = JobQuery()
    for word in words:
        name, _, value = word.partition("=")
        if name not in _READERS:
            raise PfsError(Kind.INVALID, f"Unknown query parameter {name}")
        try:
            _READERS[name](query, value)
        except ValueError:
            raise PfsError(Kind.INVALID, f"Cannot parse query parameter {name}") from None
    return query


def _date_s(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _since(query: JobQuery, value: str) -> None:
    query.since_s = _date_s(value)


def _till(query: JobQuery, value: str) -> None:
    query.till_s = _date_s(value)


def _user(query: JobQuery, value: str) -> None:
    query.user = _something(value)


def _title(query: JobQuery, value: str) -> None:
    signs = {"%": ".*", "_": "."}
    query.title = re.compile("".join(signs.get(sign, re.escape(sign)) for sign in _something(value)), re.DOTALL)


def _order(query: JobQuery, value: str, downward: bool) -> None:
    if value not in _KEYS:
        raise ValueError
    query.orders.append((value, downward))


def _limit(query: JobQuery, value: str) -> None:
    query.limit = min(_count(value), LISTED_MAX)


def _offset(query: JobQuery, value: str) -> None:
    query.offset = _count(value)


def _count(value: str) -> int:
    if not value.isascii() or not value.isdigit():
        raise ValueError
    return int(value)


def _something(value: str) -> str:
    if not value:
        raise ValueError
    return value


_KEYS: Mapping[str, Callable[[Job], tuple[object, ...]]] = {
    "date": lambda job: (_date_s(changed(job)), int(job["id"])),
    "user": lambda job: (job["user"],),
    "title": lambda job: (job["title"],),
    "state": lambda job: (ORDER.index(letters_of(job["state"])),),
}
_READERS: Mapping[str, Callable[[JobQuery, str], None]] = {
    "since": _since,
    "till": _till,
    "user": _user,
    "title": _title,
    "asc": lambda query, value: _order(query, value, downward=False),
    "desc": lambda query, value: _order(query, value, downward=True),
    "limit": _limit,
    "offset": _offset,
}
