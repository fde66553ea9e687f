"""An index of all nodes for one kind of process: how many of it each has room for, the fullest first.

A shelf is looked at again and again while few nodes change. It notes which did, and puts only those in their new
places when somebody asks: O(log nodes) for each, whatever the number of jobs.

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

Domain = str | None


class Spot(NamedTuple):
    """A node on a shelf, and how many copies of the process fit there."""

    domain: Domain
    copies: int
    fullness: Fullness

    @property
    def node_id(self) -> str:
        """The node."""
        return self.fullness[-1]


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
    """

    def __init__(self, cluster: Cluster, bundle: Bundle, domain: Callable[[NodeView], Domain]) -> None:
        self.bundle = bundle
        self.spots: dict[str, Spot] = {}
        self.version = self.members = 0
        self.asked = 0
        self.totals: dict[Domain, int] = {}
        self._cluster = cluster
        self._domain = domain
        self._stale = cluster.watch()
        self._rows: dict[Domain, dict[int, list[Fullness]]] = {}
        self._suits: dict[str, tuple[NodeView, bool]] = {}
        self._gains: list[tuple[float, str, int]] = []
        self._gains_of: dict[str, list[tuple[float, str, int]]] = {}
        self._gains_stale: set[str] = set()
        self._met: dict[Shelf, tuple[int, int, bool]] = {}

    def close(self) -> None:
        """Nobody asks any more."""
        self._cluster.unwatch(self._stale)

    def refresh(self) -> None:
        """Put every node that changed in its place."""
        if self._stale:
            stale = list(self._stale)
            self._stale.clear()
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

    def gains(self) -> list[tuple[float, str, int]]:
        """Return when how many more copies will fit where (inf: nobody knows when), by time."""
        for node_id in self._gains_stale:
            for gain in self._gains_of.pop(node_id, ()):
                del self._gains[bisect_left(self._gains, gain)]
            if node_id in self.spots:
                self._note_gains(node_id)
        self._gains_stale.clear()
        return self._gains

    def _put(self, node_id: str) -> None:
        old, new = self.spots.pop(node_id, None), None
        view = self._cluster.views.get(node_id)
        if view is not None and view.online and self._could(view):
            new = self.spots[node_id] = self.spot(self._cluster.room(node_id))
        if old is None and new is None:
            return
        self.version += 1
        self._gains_stale.add(node_id)
        if (old is None) != (new is None):
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

    def _could(self, view: NodeView) -> bool:
        known = self._suits.get(view.node_id)
        if known is None or known[0] is not view:
            known = self._suits[view.node_id] = (view, self.bundle.suits(view))
        return known[1]

    def _note_gains(self, node_id: str) -> None:
        copies = self.spots[node_id].copies
        found: list[tuple[float, str, int]] = []
        for time_s, room in self._cluster.rooms_later(node_id):
            then = self.bundle.copies(room)
            if then > copies:
                found.append((time_s, node_id, then - copies))
                copies = then
        if found:
            self._gains_of[node_id] = found
            for gain in found:
                insort(self._gains, gain)
