"""An index of all nodes for one kind of process: how many of it each has room for, the fullest first.

A shelf is looked at again and again while few nodes change. It notes which did, and puts only those in their new
places when somebody asks: O(log nodes) for each, whatever the number of jobs. When so many copies will fit that a job
has room is remembered until a node changes from which that follows.

Nodes stand in *domains*: the processes of one job may be on several nodes of one domain. A node without a domain
(None) takes all of them or none.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from jobd.scheduling.cluster import Cluster
from jobd.scheduling.model import NodeView
from jobd.scheduling.room import Ask, Fullness, Room, suits

MET_MAX = 1024

COUNTS_MAX = 16

Domain = str | None
Gain = tuple[float, str, int]  # when, where, and how many more copies


class Spot(NamedTuple):
    """A node on a shelf, and how many copies of the process fit there."""

    domain: Domain
    copies: int
    fullness: Fullness

    @property
    def node_id(self) -> str:
        """The node."""
        return self.fullness[-1]


class _Offer(NamedTuple):
    """A node as it was when it was looked at: whether it is on the shelf."""

    view: NodeView
    is_here: bool
    domain: Domain


class _Ahead(NamedTuple):
    """What will fit on a node: copies now, and more of them later."""

    domain: Domain
    copies: int
    gains: list[Gain]

    def reaches(self, until: Gain) -> bool:
        """Tell whether anything fits there up to then."""
        return self.copies > 0 or (bool(self.gains) and self.gains[0] <= until)

    @property
    def size(self) -> tuple[Domain, int]:
        """What fits there when all is over."""
        return self.domain, self.copies + sum(more for _, _, more in self.gains)


@dataclass(frozen=True, slots=True, eq=False)
class Enough:
    """When a number of copies will fit.

    Attributes:
        until: the last gain that it takes.
        nodes: those that have room for more of them then than now.
    """

    until: Gain
    nodes: frozenset[str]

    @property
    def at_s(self) -> float:
        """The time; inf where nobody knows it."""
        return self.until[0]


@dataclass(frozen=True, slots=True)
class Bundle:
    """Processes that have to be on one node: pairs of what each asks and how many of those."""

    parts: tuple[tuple[Ask, int], ...]

    def copies(self, room: Room) -> int:
        """Return how many such bundles fit; of several kinds, no more than one is looked for."""
        if len(self.parts) == 1:
            ask, count = self.parts[0]
            return room.copies(ask) // count
        left = room.copy()
        for ask, count in self.parts:
            if left.copies(ask) < count:
                return 0
            left.take(ask, count)
        return 1

    def copies_later(self, cluster: Cluster, node_id: str) -> Iterator[tuple[float, int]]:
        """Go through how many will fit on a node at the end of each job there."""
        if len(self.parts) > 1:
            return ((time_s, self.copies(room)) for time_s, room in cluster.rooms_later(node_id))
        ((ask, count),) = self.parts
        return ((time_s, copies // count) for time_s, copies in cluster.copies_later(node_id, ask))

    def suits(self, view: NodeView) -> bool:
        """Tell whether a node could run each of the processes if it were idle."""
        return all(suits(view, ask) for ask, _ in self.parts)


class Shelf:
    """All on-line nodes that could ever hold the bundle.

    Args:
        domain: of a node.

    Attributes:
        spots: by node.
        totals: how many copies fit in each domain, where any do.
        version, members: numbers that change with the room on any node, and with the set of nodes.
        asked: when somebody asked last.
        stale: nodes that changed since `refresh`.
    """

    def __init__(self, cluster: Cluster, bundle: Bundle, domain: Callable[[NodeView], Domain]) -> None:
        self.bundle = bundle
        self.spots: dict[str, Spot] = {}
        self.version = self.members = 0
        self.asked = 0
        self.totals: dict[Domain, int] = {}
        self._cluster = cluster
        self._domain = domain
        self.stale = cluster.watch()
        self._rows: dict[Domain, dict[int, list[Fullness]]] = {}
        self._offers: dict[str, _Offer] = {}
        self._gains: list[Gain] = []
        self._ahead: dict[str, _Ahead] = {}
        self._ahead_stale: set[str] = set()
        self._enough: dict[int, Enough | None] = {}  # by how many copies
        self._met: dict[Shelf, tuple[int, int, bool]] = {}

    def close(self) -> None:
        """Nobody asks any more."""
        self._cluster.unwatch(self.stale)

    def refresh(self) -> None:
        """Put every node that changed in its place."""
        stale = list(self.stale)
        self.stale.clear()
        for node_id in stale:
            self._put(node_id)

    def meets(self, other: "Shelf") -> bool:
        """Tell whether some node is on both shelves."""
        known = self._met.get(other)
        if known is None or known[0] != self.members or known[1] != other.members:
            if len(self._met) >= MET_MAX:
                self._met.clear()
            met = not self.spots.keys().isdisjoint(other.spots)
            known = self._met[other] = (self.members, other.members, met)
        return known[2]

    def holds(self, count: int) -> bool:
        """Tell whether so many copies fit, on one node or on several of a domain."""
        for domain, total in self.totals.items():
            if total >= count and (domain is not None or max(self._rows[None]) >= count):
                return True
        return False

    def spot(self, room: Room) -> Spot:
        """Return what a node would be on this shelf if it had that room."""
        return Spot(self._domain(room.view), self.bundle.copies(room), room.fullness(self.bundle.parts[0][0]))

    def fullest(self, domain: Domain, least: int, skipped: Mapping[str, object]) -> Fullness | None:
        """Return the fullest node of a domain where at least so many copies fit."""
        best: Fullness | None = None
        for copies, row in self._rows.get(domain, {}).items():
            if copies >= least:
                found = next((key for key in row if key[-1] not in skipped), None)
                if found is not None and (best is None or found < best):
                    best = found
        return best

    def roomiest(self, domain: Domain, skipped: Mapping[str, object]) -> Iterator[Spot]:
        """Go through the nodes of a domain where copies fit: those with the most first, of these the fullest."""
        rows = self._rows.get(domain, {})
        for copies in sorted(rows, reverse=True):
            yield from (Spot(domain, copies, key) for key in rows[copies] if key[-1] not in skipped)

    def gains(self) -> list[Gain]:
        """Return when how many more copies will fit where (inf: nobody knows when), by time."""
        for node_id in self._ahead_stale:
            old = self._ahead.pop(node_id, None)
            for gain in () if old is None else old.gains:
                del self._gains[bisect_left(self._gains, gain)]
            new = self._look_ahead(node_id) if node_id in self.spots else None
            if new is not None:
                self._ahead[node_id] = new
                for gain in new.gains:
                    insort(self._gains, gain)
            if self._enough:
                self._forget_enough(old, new)
        self._ahead_stale.clear()
        return self._gains

    def enough(self, count: int) -> Enough | None:
        """Return when so many copies will fit, all on one node or in one domain, which is not now; None for never.

        It is the same object as long as all that jobs find on these nodes until then is the same.
        """
        gains = self.gains()
        if count not in self._enough:
            if len(self._enough) >= COUNTS_MAX:
                self._enough.clear()
            found = self._when_enough(count, gains)
            if found is None and self.holds(count):
                return None  # that so many fit now may change at any time
            self._enough[count] = found
        return self._enough[count]

    def _when_enough(self, count: int, gains: list[Gain]) -> Enough | None:
        totals = dict(self.totals)
        copies: dict[str, int] = {}
        for gain in gains:
            _, node_id, more = gain
            domain, before, _ = self.spots[node_id]
            copies[node_id] = here = copies.get(node_id, before) + more
            totals[domain] = total = totals.get(domain, 0) + more
            if here >= count or (total >= count and domain is not None):
                return Enough(gain, frozenset(copies))
        return None

    def _forget_enough(self, old: _Ahead | None, new: _Ahead | None) -> None:
        """A node is other than before."""
        for count, known in list(self._enough.items()):
            if known is None:
                is_same = (old and old.size) == (new and new.size)
            else:
                is_same = not any(each is not None and each.reaches(known.until) for each in (old, new))
            if not is_same:
                del self._enough[count]

    def _put(self, node_id: str) -> None:
        old, new = self.spots.get(node_id), None
        view = self._cluster.views.get(node_id)
        offer = None if view is None else self._offer(view)
        if offer is not None and offer.is_here:
            room = self._cluster.room(node_id)
            new = Spot(offer.domain, self.bundle.copies(room), room.fullness(self.bundle.parts[0][0]))
            self.spots[node_id] = new
        elif old is None:
            return
        else:
            del self.spots[node_id]
        self.version += 1
        self._ahead_stale.add(node_id)
        if old is None or new is None:
            self.members += 1
        if new != old:
            if old is not None and old.copies:
                self._take_off(old)
            if new is not None and new.copies:
                insort(self._rows.setdefault(new.domain, {}).setdefault(new.copies, []), new.fullness)
                self.totals[new.domain] = self.totals.get(new.domain, 0) + new.copies

    def _take_off(self, spot: Spot) -> None:
        rows = self._rows[spot.domain]
        row = rows[spot.copies]
        del row[bisect_left(row, spot.fullness)]
        if not row:
            del rows[spot.copies]
        self.totals[spot.domain] -= spot.copies
        if not self.totals[spot.domain]:
            del self.totals[spot.domain]

    def _offer(self, view: NodeView) -> _Offer:
        known = self._offers.get(view.node_id)
        if known is None or known.view is not view:
            known = _Offer(view, view.is_open and self.bundle.suits(view), self._domain(view))
            self._offers[view.node_id] = known
        return known

    def _look_ahead(self, node_id: str) -> _Ahead:
        domain, now, _ = self.spots[node_id]
        gains: list[Gain] = []
        copies = now
        for time_s, then in self.bundle.copies_later(self._cluster, node_id):
            if then > copies:
                gains.append((time_s, node_id, then - copies))
                copies = then
        return _Ahead(domain, now, gains)
