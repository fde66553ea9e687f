"""Where the processes of one job go: all of them, or none.

A job goes to the fullest node that takes it whole. Where there is none, it goes to as few nodes as possible: to those
with the most room, and its last processes to the fullest node that takes these. So whole nodes stay whole.

Processes of one job on several nodes have to reach each other: those in Docker over a network of one swarm, those in
sandboxes at the addresses that nodes tell. Of different processes the most demanding are placed first; nothing that
was placed is tried elsewhere for the sake of a later one.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

from jobd.scheduling.cluster import Cluster
from jobd.scheduling.model import ADDRESS, DOCKER, SANDBOX, Need, NodeView, Place, Use
from jobd.scheduling.room import NANO, Ask, Fullness, Room, ask_of, to_nano
from jobd.scheduling.shelf import Bundle, Domain, Shelf, Spot

SHELVES_MAX = 512
KNOWN_MAX = 4 * SHELVES_MAX

Rooms = Mapping[str, Room]


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Equal processes of a job: what each asks, their worker indices, and how many there are."""

    ask: Ask
    workers: tuple[range, ...]
    count: int


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Gang:
    """All processes of a job, the most demanding first, and what lets them be on several nodes.

    Attributes:
        reach: of DOCKER and SANDBOX those that have to reach each other; empty for a single process.
    """

    parts: tuple[Part, ...]
    reach: frozenset[str]

    @property
    def count(self) -> int:
        """How many processes it has."""
        return sum(part.count for part in self.parts)


def gang_of(
    needs: tuple[Need, ...], groups: frozenset[str], aliases: Mapping[str, str], owner: str = "", cluster: str = ""
) -> Gang:
    """Return the processes of a job whose owner is in `groups`; for the others see `Ask`."""
    workers: dict[Ask, list[range]] = {}
    first = 0
    for need in needs:
        workers.setdefault(ask_of(need, groups, aliases, owner, cluster), []).append(range(first, first + need.count))
        first += need.count
    parts = sorted((Part(ask, tuple(ranges), sum(map(len, ranges))) for ask, ranges in workers.items()), key=_ease)
    return Gang(tuple(parts), frozenset(ask.runtime for ask in workers) if first > 1 else frozenset())


def _ease(part: Part) -> tuple[int, int, int, int]:
    ask = part.ask
    kind = 0 if ask.models else 1 if ask.any_gpus else 2
    return kind, -ask.gpus, -ask.nano_cpus, -ask.memory_bytes


def uses_of(gang: Gang, places: tuple[Place, ...]) -> tuple[Use, ...]:
    """Return what a gang has of each node when its processes have these places."""
    found: dict[str, Use] = {}
    for part in gang.parts:
        for worker in chain.from_iterable(part.workers):
            place = places[worker]
            before = found.get(place.node_id, Use(place.node_id, processes=0))
            found[place.node_id] = Use(
                place.node_id,
                (to_nano(before.cpus) + part.ask.nano_cpus) / NANO,
                before.memory_bytes + part.ask.memory_bytes,
                before.gpus + place.gpus,
                before.processes + 1,
            )
    return tuple(found.values())


def domain_of(view: NodeView, reach: frozenset[str]) -> Domain:
    """Return with which other nodes a node can share a job; None for none."""
    swarm = view.swarm if DOCKER in reach else ""
    if (DOCKER in reach and not swarm) or (SANDBOX in reach and not view.attrs.get(ADDRESS)):
        return None
    return swarm


class Placer:
    """Places gangs on the nodes of a cluster; takes nothing from it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self._shelves: dict[tuple[Bundle, frozenset[str]], Shelf] = {}
        self._known: dict[Part | Gang, Shelf] = {}
        self._asked = 0

    def part_shelf(self, gang: Gang, part: Part) -> Shelf:
        """Return the index for the processes of one part, up to date."""
        return self._fresh(self._known.get(part) or self._shelf(part, Bundle(((part.ask, 1),)), gang.reach))

    def whole_shelf(self, gang: Gang) -> Shelf:
        """Return the index for a gang of several parts on one node, up to date."""
        known = self._known.get(gang)
        if known is None:
            known = self._shelf(gang, Bundle(tuple((part.ask, part.count) for part in gang.parts)), gang.reach)
        return self._fresh(known)

    def _fresh(self, shelf: Shelf) -> Shelf:
        self._asked += 1
        shelf.asked = self._asked
        if shelf.stale:
            shelf.refresh()
        return shelf

    def _shelf(self, whose: Part | Gang, bundle: Bundle, reach: frozenset[str]) -> Shelf:
        """Return a shelf; of too many, those that were not asked for longest are let go."""
        key = (bundle, reach)
        shelf = self._shelves.get(key)
        if shelf is None:
            if len(self._shelves) >= SHELVES_MAX:
                oldest = min(self._shelves, key=lambda key: self._shelves[key].asked)
                self._shelves.pop(oldest).close()
                self._known.clear()
            shelf = self._shelves[key] = Shelf(self.cluster, bundle, lambda view: domain_of(view, reach))
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[whose] = shelf
        return shelf

    def is_full(self, gang: Gang) -> bool:
        """Tell that some processes of a gang certainly do not fit now; False where all may, or may not."""
        return not all(self.part_shelf(gang, part).holds(part.count) for part in gang.parts)

    def place(self, gang: Gang, rests: Rooms) -> tuple[Place, ...] | None:
        """Return the places of all processes by worker index; None where they do not fit.

        Args:
            rests: what of these nodes counts as left, where that is not all that is left now.
        """
        return None if self.is_full(gang) else self._place(gang, rests, _less)

    def place_at(self, gang: Gang, rooms: Rooms) -> tuple[Place, ...] | None:
        """Return the places when these nodes have such rooms, and the others what is left now; None for none."""
        return self._place(gang, rooms, _other)

    def _place(self, gang: Gang, rooms: Rooms, change: "_Change") -> tuple[Place, ...] | None:
        if len(gang.parts) > 1:
            return self._place_parts(gang, rooms, change)
        (part,) = gang.parts
        shelf = self.part_shelf(gang, part)
        changed = change(shelf, rooms)
        node_id = _one_for_all(shelf, part.count, changed)
        if node_id is not None:
            return self._dealt(gang, {part: [(node_id, part.count)]}, rooms)
        if part.count == 1:
            return None
        spreads = [_spread(shelf, domain, part.count, changed) for domain in _domains(shelf, changed)]
        found = [spread for spread in spreads if spread is not None]
        return self._dealt(gang, {part: min(found, key=len)}, rooms) if found else None

    def _place_parts(self, gang: Gang, rooms: Rooms, change: "_Change") -> tuple[Place, ...] | None:
        whole = self.whole_shelf(gang)
        node_id = _one_for_all(whole, 1, change(whole, rooms))
        if node_id is not None:
            return self._dealt(gang, {part: [(node_id, part.count)] for part in gang.parts}, rooms)
        shelf = self.part_shelf(gang, gang.parts[0])
        tried = [self._spread_parts(gang, domain, rooms, change) for domain in _domains(shelf, change(shelf, rooms))]
        found = [spreads for spreads in tried if spreads is not None]
        return self._dealt(gang, min(found, key=_nodes), rooms) if found else None

    def _spread_parts(
        self, gang: Gang, domain: Domain, instead: Rooms, change: "_Change"
    ) -> dict[Part, list[tuple[str, int]]] | None:
        rooms: dict[str, Room] = {}  # nodes that got processes already
        spreads: dict[Part, list[tuple[str, int]]] = {}
        for part in gang.parts:
            shelf = self.part_shelf(gang, part)
            there = sorted((shelf.spot(room) for key, room in rooms.items() if key in shelf.spots), key=_by_fullness)
            chosen, left = [], part.count
            for spot in there:
                if spot.copies and left:
                    chosen.append((spot.node_id, min(spot.copies, left)))
                    left -= chosen[-1][1]
            if left:
                # what these have room for is given away now
                taken = {spot.node_id: Spot(spot.domain, 0, spot.fullness) for spot in there}
                more = _spread(shelf, domain, left, change(shelf, instead) | taken)
                if more is None:
                    return None
                chosen += more
            for node_id, copies in chosen:
                room = rooms.get(node_id) or (instead.get(node_id) or self.cluster.room(node_id)).copy()
                room.take(part.ask, copies)
                rooms[node_id] = room
            spreads[part] = chosen
        return spreads

    def _dealt(self, gang: Gang, spreads: Mapping[Part, list[tuple[str, int]]], instead: Rooms) -> tuple[Place, ...]:
        rooms: dict[str, Room] = {}
        places: dict[int, Place] = {}
        for part in gang.parts:
            workers = chain.from_iterable(part.workers)
            for node_id, copies in spreads[part]:
                if node_id not in rooms:
                    rooms[node_id] = (instead.get(node_id) or self.cluster.room(node_id)).copy()
                for gpus in rooms[node_id].take(part.ask, copies):
                    places[next(workers)] = Place(node_id, gpus)
        return tuple(places[worker] for worker in range(len(places)))


def _by_fullness(spot: Spot) -> Fullness:
    return spot.fullness


def _nodes(spreads: Mapping[Part, list[tuple[str, int]]]) -> int:
    return len({node_id for chosen in spreads.values() for node_id, _ in chosen})


_Change = Callable[[Shelf, Rooms], dict[str, Spot]]


def _other(shelf: Shelf, rooms: Rooms) -> dict[str, Spot]:
    """Return what nodes are on a shelf when they have these rooms."""
    return {node_id: shelf.spot(room) for node_id, room in rooms.items() if node_id in shelf.spots}


def _less(shelf: Shelf, rests: Rooms) -> dict[str, Spot]:
    """Return the same for rooms that are parts of what is left now: a node where nothing fits is as it was."""
    found = {}
    for node_id, room in rests.items():
        spot = shelf.spots.get(node_id)
        if spot is not None and spot.copies:
            found[node_id] = shelf.spot(room)
    return found


def _domains(shelf: Shelf, changed: Mapping[str, Spot]) -> list[str]:
    found = {*shelf.totals, *(spot.domain for spot in changed.values())}
    return sorted(domain for domain in found if domain is not None)


def _one_for_all(shelf: Shelf, count: int, changed: Mapping[str, Spot]) -> str | None:
    """Return the fullest node that takes them all."""
    found = [shelf.fullest(domain, count, changed) for domain in shelf.totals]
    fitting = [key for key in found if key is not None]
    fitting += [spot.fullness for spot in changed.values() if spot.copies >= count]
    return min(fitting)[-1] if fitting else None


def _spread(shelf: Shelf, domain: Domain, count: int, changed: Mapping[str, Spot]) -> list[tuple[str, int]] | None:
    """Return how many processes go to which nodes of a domain, as few nodes as possible."""
    others = sorted((spot for spot in changed.values() if spot.domain == domain), key=_by_room)
    if shelf.totals.get(domain, 0) + sum(spot.copies for spot in others) < count:
        return None  # and it is less by what the changed ones have on the shelf
    spots: Iterator[Spot] = heapq.merge(shelf.roomiest(domain, changed), others, key=_by_room)
    chosen: dict[str, int] = {}
    left = count
    for spot in spots:
        if not spot.copies:
            return None
        if spot.copies >= left:
            rest = [other.fullness for other in others if other.copies >= left and other.node_id not in chosen]
            fullest = shelf.fullest(domain, left, {**changed, **chosen})
            chosen[min(rest if fullest is None else [fullest, *rest])[-1]] = left
            return list(chosen.items())
        chosen[spot.node_id] = spot.copies
        left -= spot.copies
    return None


def _by_room(spot: Spot) -> tuple[int, Fullness]:
    return -spot.copies, spot.fullness
