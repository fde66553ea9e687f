"""Who is in: what goes on for somebody ends soon after the key that let them in proves them no more.

A key is looked at when something begins. What goes on for hours, such as a mount's channel or a log that is being
followed, is remembered here as a visit, with the key. All of them are looked at again when an account was changed: at
once, and should that message be lost, a few seconds later, since a change leaves a mark; and now and then without one,
since keys end by themselves. Where the database cannot tell, it is asked again a few seconds later. A visit whose key
proves nobody any more is ended, and so is one whose owner has other rights by now: a mount comes back by itself, and
sees what it may see now. So is a visit of somebody who may not read something any more that was shared with them
(`end_where_lost`).
"""

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import trio

from pfs.accounts.store import FILE_KINDS, Identity, KeyKind
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, Verb, allowed

LOOK_FOR_CHANGES_EVERY_S = 5.0
LOOK_EVERY_S = 300.0
NO_GROUPS = frozenset[str]()

log = logging.getLogger(__name__)

Identify = Callable[[str], Awaitable[Identity]]


@dataclass(eq=False, slots=True)
class _Visit:
    key: str
    identity: Identity
    scope: trio.CancelScope


class Visits:
    """Everything that goes on for somebody.

    Args:
        identify: tells whose a key is; raises UNAUTHENTICATED.
        stamp: returns something else after each change of accounts.
    """

    def __init__(self, identify: Identify, stamp: Callable[[], object]) -> None:
        self._identify = identify
        self._stamp = stamp
        self._visits: set[_Visit] = set()
        self._untold = False

    @contextmanager
    def during(self, key: str, identity: Identity) -> Iterator[trio.CancelScope]:
        """Cancel the block once `key` is not what it was when it proved `identity`; `cancelled_caught` tells."""
        with trio.CancelScope() as scope:
            visit = _Visit(key, identity, scope)
            self._visits.add(visit)
            try:
                yield scope
            finally:
                self._visits.discard(visit)

    def end_where_lost(self, before: Domain, after: Domain) -> None:
        """End those whose owners could read what was shared as `before` says, and cannot any more as `after` does."""
        for visit in [visit for visit in self._visits if visit.identity.kind in FILE_KINDS]:
            who = visit.identity.subject
            if allowed(who, Verb.READ, before) and not allowed(who, Verb.READ, after):
                visit.scope.cancel()

    async def look_again(self) -> None:
        """End those whose keys prove somebody else by now, or nobody; `run` asks again where that cannot be told."""
        self._untold = False
        for key in {visit.key for visit in self._visits}:
            try:
                now: Identity | None = await self._identify(key)
            except PfsError as error:
                if error.kind is not Kind.UNAUTHENTICATED:
                    if not self._untold:  # one line for all of them
                        log.warning("whether keys are still good cannot be told now: %s", error)
                    self._untold = True
                    continue
                now = None
            for visit in list(self._visits):
                if visit.key == key and (now is None or _differ(visit.identity, now)):
                    visit.scope.cancel()

    async def run(self) -> None:
        """Look again after changes, and every now and then, for ever."""
        seen, looked_s = self._stamp(), trio.current_time()
        while True:
            await trio.sleep(LOOK_FOR_CHANGES_EVERY_S)
            stamp, now_s = self._stamp(), trio.current_time()
            if self._untold or stamp != seen or now_s >= looked_s + LOOK_EVERY_S:
                seen, looked_s = stamp, now_s
                await self.look_again()


def _differ(then: Identity, now: Identity) -> bool:
    """Tell whether somebody is to come in anew; a node does not act with its owner's groups."""
    if then.kind is KeyKind.NODE is now.kind:
        return replace(then.subject, groups=NO_GROUPS) != replace(now.subject, groups=NO_GROUPS)
    return then != now
