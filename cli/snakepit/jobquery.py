"""Which jobs `pit show jobs` lists: all that its words name, in their order, a hundred at most.

since=2026-01-31  till=2026-02-01T12:00    by the date of their last change; without a zone it is ours
user=ann          title=%digits%           `%` stands for anything, `_` for one character
asc=user          desc=date                by date, user, title or state; several count in their order
limit=10          offset=10                how many, and how many of the first ones not

The server finds them, everybody's: here the words become a question to it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode

from pfs.errors import Kind, PfsError

LIST_URL = "/api/v1/joblist"
LISTED_MAX = 100
ORDERS = ("date", "user", "title", "state")


@dataclass(slots=True)
class JobQuery:
    """What is asked for, in the words of the server."""

    words: dict[str, str] = field(default_factory=dict)
    orders: list[str] = field(default_factory=list)

    def url(self) -> str:
        """Return where the server tells of them."""
        words = {**self.words, "order": ",".join(self.orders)} if self.orders else self.words
        return f"{LIST_URL}?{urlencode(words)}" if words else LIST_URL


def url_of_job(number: str) -> str:
    """Return where the server tells what everybody may know of one job."""
    return f"{LIST_URL}?id={number}"


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
            _READERS[name](query, name, value)
        except (ValueError, OverflowError):
            raise PfsError(Kind.INVALID, f"Cannot parse query parameter {name}") from None
    return query


def _date(query: JobQuery, name: str, value: str) -> None:
    query.words[name] = str(max(0, int(datetime.fromisoformat(value).timestamp())))


def _something(query: JobQuery, name: str, value: str) -> None:
    if not value:
        raise ValueError
    query.words[name] = value


def _order(query: JobQuery, name: str, value: str) -> None:
    if value not in ORDERS:
        raise ValueError
    query.orders.append(value if name == "asc" else f"-{value}")


def _count(query: JobQuery, name: str, value: str) -> None:
    if not value.isascii() or not value.isdigit():
        raise ValueError
    query.words[name] = str(min(int(value), LISTED_MAX)) if name == "limit" else str(int(value))


_READERS: Mapping[str, Callable[[JobQuery, str, str], None]] = {
    **dict.fromkeys(("since", "till"), _date),
    **dict.fromkeys(("user", "title"), _something),
    **dict.fromkeys(("asc", "desc"), _order),
    **dict.fromkeys(("limit", "offset"), _count),
}
