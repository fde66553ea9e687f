"""Keeps a server's promise to mounts: what they hold copies of is not changed before they have been told.

A mount proves that it is there by saying `alive` every few seconds. The server keeps its promises for `LEASE_S`
after it last heard that; a mount trusts its copies for less than that after it last *said* so and was answered.
So when a mount does not answer, or its connection is gone, waiting out the rest of `LEASE_S` is enough, and
whoever wants to change something waits no longer than that: a mount that says that it is alive, and does not give
a lease back, is cut off after `LEASE_S`, and waited for as long once more.

What an earlier server has promised is kept, too (`pfs.leasing.grace`, `pfs.leasing.promises`): nothing ordinary changes
before the mounts that it spoke to have come back or `LEASE_S` is over. They are known by a name of their own choosing,
which they say before anything is leased to them; a mount that comes in again has thereby let go of what it had before.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import trio

from pfs.api import Broken, Name
from pfs.errors import Kind, PfsError
from pfs.leasing.grace import Grace
from pfs.leasing.leases import Leases
from pfs.leasing.promises import Promises

log = logging.getLogger(__name__)

LEASE_S = 10.0
HANG_UP_S = 2.0
MOUNTS_MAX = 1000  # of one account; the note of promises grows with them
NOBODY = 0


@dataclass(eq=False)
class Holder:
    """One mount.

    Attributes:
        tell: tells it which nodes change, and which names of which directories; returns when it has let go of them.
        lapse: tells it that all leases end; returns when it has let go of all.
        hang_up: ends its connection.
        account: whose it is.
        heard_s: when it last said that it is alive.
        there: it is connected.
        name: what it calls itself; None before it has said so.
        left: it uses no copies any more.
        told: what it is being told, each with the time at which it is cut off if it has not let go.
    """

    number: int
    tell: Broken
    lapse: Callable[[], Awaitable[None]]
    hang_up: Callable[[], Awaitable[None]]
    account: str
    heard_s: float
    there: bool = True
    name: str | None = None
    left: trio.Event = field(default_factory=trio.Event)
    told: dict[trio.CancelScope, float] = field(default_factory=dict)

    @property
    def trusts_until_s(self) -> float:
        """When it does not trust its copies any more, if it is not heard again."""
        return self.heard_s + LEASE_S


class LeaseHub:
    """All mounts of a server, and what they were promised.

    Args:
        promises: where the next server finds whom this one has promised something, and this one the same of the last.
    """

    def __init__(self, promises: Promises | None = None) -> None:
        self.leases = Leases()
        self._holders: dict[int, Holder] = {}
        self._numbers = NOBODY
        self._promises = promises
        self._grace: Grace | None = None
        self._all_back = trio.Event()
        if promises is not None:
            self._grace = Grace(promises.earlier, trio.current_time() + LEASE_S)
            self._look_at_grace()

    async def run(self) -> None:
        """Let go of who has gone, for ever."""
        while True:
            await trio.sleep(LEASE_S)
            self._look_at_grace()
            now_s = trio.current_time()
            for holder in list(self._holders.values()):
                if not holder.there and holder.trusts_until_s <= now_s:
                    self.leave(holder)

    async def end(self) -> None:
        """Take all leases back; the next server is told who has not answered."""
        unheard: set[str] = set()

        async def take_back(holder: Holder) -> None:
            if holder.name is not None and self.leases.count(holder.number) and not await self._lapses(holder):
                unheard.add(holder.name)
            else:
                self.leases.leave(holder.number)  # and nothing is leased to it any more

        async with trio.open_nursery() as nursery:
            for holder in self._holders.values():
                nursery.start_soon(take_back, holder)
        if self._promises is not None:
            self._promises.end(unheard)

    async def _lapses(self, holder: Holder) -> bool:
        """Take everything back from a mount; tell whether it has let go."""
        if holder.there:
            with trio.move_on_after(HANG_UP_S):
                try:
                    await holder.lapse()
                    return True
                except PfsError as error:
                    log.info("a mount is left with its leases: %s", error)
        return holder.trusts_until_s <= trio.current_time()

    def join(
        self,
        tell: Broken,
        lapse: Callable[[], Awaitable[None]],
        hang_up: Callable[[], Awaitable[None]],
        account: str = "",
    ) -> Holder:
        """Let a mount of an account ask; as long as it has not entered nothing is leased to it."""
        self._numbers += 1
        holder = Holder(self._numbers, tell, lapse, hang_up, account, trio.current_time())
        self._holders[self._numbers] = holder
        return holder

    async def enter(self, holder: Holder, name: str) -> None:
        """Let a mount have leases; it has none from earlier, whatever connection it had them on.

        Args:
            name: what it calls itself; nobody else knows it.

        Raises:
            PfsError: TOO_MANY mounts of its account are there, or may trust what they were promised.
        """
        others = [each for each in self._holders.values() if each.name is not None and each is not holder]
        earlier = [each for each in others if each.name == name]
        if sum(each.account == holder.account for each in others) - len(earlier) >= MOUNTS_MAX:
            hint = "end some; what was killed counts for 20 s"
            raise PfsError(Kind.TOO_MANY, f"{holder.account} has {MOUNTS_MAX} mounts of this server already: {hint}")
        holder.name = name
        try:
            if self._promises is not None:
                self._promises.add(name)
            self.leases.join(holder.number)
        except OSError as error:
            log.warning("a mount is leased nothing, since that cannot be noted: %s", error.strerror)
        for each in earlier:
            self.leave(each)
        if self._grace is not None:
            self._grace.back(name)
            self._look_at_grace()
        for each in earlier:
            await _hang_up(each)

    def heard(self, holder: Holder) -> None:
        """A mount has said that it is alive."""
        holder.heard_s = trio.current_time()
        for scope, last_s in holder.told.items():
            scope.deadline = min(last_s, holder.trusts_until_s)

    def lost(self, holder: Holder) -> None:
        """The connection to a mount is gone: it may trust its copies for a while, if it was promised anything."""
        holder.there = False
        if holder.name is None:
            self.leave(holder)

    def leave(self, holder: Holder) -> None:
        """A mount has said that it uses no copies any more."""
        self.leases.leave(holder.number)
        self._holders.pop(holder.number, None)
        holder.left.set()
        name = holder.name
        others = [each.name for each in self._holders.values()]
        if self._promises is not None and name is not None and name not in others:
            self._promises.discard(name)

    @property
    def in_grace(self) -> bool:
        """True while an earlier server's promises hold."""
        return self._grace is not None

    def _look_at_grace(self) -> None:
        if self._grace is not None and self._grace.over(trio.current_time()):
            self._grace = None
            self._all_back.set()
            if self._promises is not None:
                self._promises.settle()

    async def _keep_earlier_promises(self, nodes: Collection[int]) -> None:
        if self._grace is not None and any(node >> 63 == 0 for node in nodes):  # what the server makes is not leased
            with trio.move_on_at(self._grace.until_s):
                await self._all_back.wait()
            self._look_at_grace()

    async def make_room(self, number: int) -> None:
        """Take the oldest leases of a mount back that has too many."""
        holder = self._holders.get(number)
        if holder is None or not (nodes := self.leases.recall(number)):
            return
        given_back = False
        try:
            await self._tell_one(holder, nodes, ())
            given_back = True
        finally:
            self.leases.recalled(number, given_back=given_back)

    def change(
        self, by: int, nodes: Collection[int], names: Collection[Name] = ()
    ) -> AbstractAsyncContextManager[None]:
        """Hold all copies of `nodes` but those of `by` back while the block changes them.

        Args:
            names: the names that change in those of the nodes that are directories.
        """
        return self._hold_back(by, nodes, names, keeping_earlier=self._grace is not None)

    @asynccontextmanager
    async def _hold_back(
        self, by: int, nodes: Collection[int], names: Collection[Name], *, keeping_earlier: bool = False
    ) -> AsyncIterator[None]:
        found = self.leases.begin(by, nodes)
        try:
            if found or keeping_earlier:
                async with trio.open_nursery() as nursery:  # at the same time: who asks gives up after 30 s
                    if keeping_earlier:
                        nursery.start_soon(self._keep_earlier_promises, nodes)
                    self._tell(found, names, nursery)
            yield
        finally:
            self.leases.end(nodes)

    async def changed_outside(self, nodes: Collection[int], names: Collection[Name]) -> None:
        """Tell everybody of what was changed behind the service's back."""
        async with self._hold_back(NOBODY, nodes, names):
            pass

    async def all_changed_outside(self) -> None:
        """Tell everybody that anything may have changed behind the service's back."""
        with self.leases.anything(NOBODY):
            async with trio.open_nursery() as nursery:
                for holder in self._holders.values():
                    nursery.start_soon(_hang_up, holder)

    def _tell(self, found: dict[int, set[int]], names: Collection[Name], nursery: trio.Nursery) -> None:
        for number, nodes in found.items():
            holder = self._holders[number]
            nursery.start_soon(self._tell_one, holder, nodes, [each for each in names if each[0] in nodes])

    async def _tell_one(self, holder: Holder, nodes: set[int], names: Collection[Name]) -> None:
        """Return when a mount does not use these nodes any more."""
        if holder.there:
            with trio.CancelScope(deadline=holder.trusts_until_s) as scope:
                holder.told[scope] = trio.current_time() + LEASE_S
                try:
                    await holder.tell(nodes, names)
                    self.leases.given_back(holder.number, nodes)
                    return
                except PfsError as error:  # whatever it says, it has not let go
                    log.warning("a mount is cut off, it does not give its leases back: %s", error)
                finally:
                    del holder.told[scope]
        await _hang_up(holder)
        with trio.move_on_at(holder.trusts_until_s):
            await holder.left.wait()
        self.leave(holder)


async def _hang_up(holder: Holder) -> None:
    holder.there = False
    with trio.move_on_after(HANG_UP_S):  # from its beginning on nothing is heard, whatever the network does
        await holder.hang_up()
