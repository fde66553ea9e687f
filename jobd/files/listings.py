"""Listings of jobs that were made last: each comes again as it is for as long as it is right.

What takes a while about a directory with thousands of jobs is to put its entries together, to pack them, and to take
them apart again at the other end. Who lists it again mostly gets the same; so that is given the same tag, by which a
mount asks for it, and is told only that it is so. It is right until a job changes, or a text of whoever looks; and an
hour long, since what was over for two weeks is not listed any more.
"""

import secrets
from collections.abc import Awaitable, Callable, Sequence

from jobd.engine.ledger import Ledger
from jobd.store.db import JobStore
from pfs.api import Entry
from pfs.perm import Subject
from pfs.tagged import Tagged

LISTINGS_MAX = 8  # one of 10,000 jobs takes 4 MB
Which = tuple[str, ...]


class KeptListings:
    """The listings of a datacenter's jobs, of those who looked last."""

    def __init__(self, ledger: Ledger, store: JobStore) -> None:
        self._ledger = ledger
        self._store = store
        self._known: dict[tuple[Subject, Which], tuple[object, Tagged]] = {}

    async def get(self, subject: Subject, which: Which, make: Callable[[], Awaitable[Sequence[Entry]]]) -> Tagged:
        """Return a listing as it was made last, where it is right still; else make it."""
        now = self._ledger.version, self._store.version(subject.user)
        made_at, known = self._known.pop((subject, which), (None, None))
        if known is None or made_at != now:
            known = Tagged(await make(), secrets.token_hex(8))
        self._known[subject, which] = now, known
        if len(self._known) > LISTINGS_MAX:
            del self._known[next(iter(self._known))]
        return known
