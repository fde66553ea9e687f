"""What is kept for the first job that cannot start, so that those behind it do not keep it waiting (EASY backfill).

The first job in order that cannot start *reserves*: the earliest moment at which it could, by the time limits of what
runs, and its places then. A job behind it starts if it will be over by then, or takes nothing that was reserved. What
runs without a time limit may end at any time, so that a moment after its end is not known; the places are kept all
the same, and only jobs that are sure to end use them meanwhile: else a large job would wait for ever.

A job none of whose nodes a reserving job could use is the first of its own, and reserves as well.

The moment of a job of equal processes is found in the order of what ends, O(processes); that of a job of different
ones by trying O(log ends) moments.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from weakref import WeakKeyDictionary

from jobd.scheduling.model import Place
from jobd.scheduling.placement import Gang, Placer
from jobd.scheduling.room import Ask, Room
from jobd.scheduling.shelf import Shelf

Takes = tuple[tuple[Ask, int], ...]  # how many processes that ask what


@dataclass(frozen=True, slots=True)
class Moment:
    """When a job could start, and where.

    Attributes:
        at_s: the latest of the ends that it waits for; inf where one is not known.
        after: the number of the job that ends then.
        takes: what it takes of each node.
        rests: by node, what is left there, and what of that is left to those who may not be over in time.
    """

    at_s: float
    places: tuple[Place, ...]
    after: int | None
    takes: Mapping[str, Takes]
    rests: dict[str, tuple[Room, Room]] = field(default_factory=dict)


class Outlook:
    """When jobs could start, remembered until the nodes that matter change."""

    def __init__(self, placer: Placer) -> None:
        self.placer = placer
        # a moment with what it follows from: the same object, or an equal one
        self._known: WeakKeyDictionary[Gang, tuple[object, Moment | None]] = WeakKeyDictionary()

    def earliest(self, gang: Gang) -> Moment | None:
        """Return when a job that does not fit now could start if none did before it; None for never, as things are."""
        known = self._known.get(gang)
        if len(gang.parts) == 1:
            (part,) = gang.parts
            enough = self.placer.part_shelf(gang, part).enough(part.count)
            if enough is None:
                return None
            if known is None or known[0] is not enough:
                known = self._known[gang] = (enough, _moment(self.placer, gang, enough.at_s, enough.nodes))
            return known[1]
        versions = [shelf.version for shelf in self.shelves(gang)]
        if known is None or known[0] != versions:
            known = self._known[gang] = (versions, _of_several_kinds(self.placer, gang))
        return known[1]

    def shelves(self, gang: Gang) -> list[Shelf]:
        """Return an index of nodes for each part of a gang."""
        return [self.placer.part_shelf(gang, part) for part in gang.parts]


def _of_several_kinds(placer: Placer, gang: Gang) -> Moment | None:
    """Try moments by halves, between the first at which each kind alone fits and the first at which one node has all.

    Only the ends count that give room to a kind that would not fit alone now, if there is one.
    """
    parts = [(placer.part_shelf(gang, part), part.count) for part in gang.parts]
    lacking = [(shelf, count) for shelf, count in parts if not shelf.holds(count)] or parts
    alone = [shelf.enough(count) for shelf, count in lacking]
    first_s = max((enough.at_s for enough in alone if enough is not None), default=-math.inf)
    gains = sorted({gain for shelf, _ in lacking for gain in shelf.gains()})
    whole = placer.whole_shelf(gang).enough(1)
    best = None if whole is None else _moment(placer, gang, whole.at_s, whole.nodes)
    times = sorted({at_s for at_s, _, _ in gains if first_s <= at_s and (best is None or at_s < best.at_s)})

    def moment(index: int) -> Moment | None:
        nodes = {node_id for end_s, node_id, _ in gains if end_s <= times[index]}
        return _moment(placer, gang, times[index], nodes)

    if not times:
        return best
    first = moment(0)
    if first is not None:
        return first
    best = best or moment(len(times) - 1)
    low, high = 1, len(times)
    while best is not None and low < high:
        middle = (low + high) // 2
        found = moment(middle)
        if found is not None:
            best, high = found, middle
        else:
            low = middle + 1
    return best


def _moment(placer: Placer, gang: Gang, at_s: float, nodes: Iterable[str]) -> Moment | None:
    """Return where a gang could be at a time when these nodes have more room than now."""
    cluster = placer.cluster
    places = placer.place_at(gang, {node_id: cluster.room_at(node_id, at_s) for node_id in nodes})
    if places is None:
        return None
    ends = [end for node_id in {place.node_id for place in places} for end in cluster.ends(node_id)]
    after = max((end for end in ends if end[0] <= at_s), default=(0.0, None))[1]
    return Moment(at_s, places, after, _takes(gang, places))


def _takes(gang: Gang, places: tuple[Place, ...]) -> dict[str, Takes]:
    takes: dict[str, Takes] = {}
    for part in gang.parts:
        counts = Counter(places[worker].node_id for worker in chain.from_iterable(part.workers))
        for node_id, copies in counts.items():
            takes[node_id] = (*takes.get(node_id, ()), (part.ask, copies))
    return takes


@dataclass(slots=True)
class Reservation:
    """What is kept for one job.

    Attributes:
        shelves: whose nodes are all on which it could run.
        rooms: what is left of these nodes to those who may not be over in time.
    """

    job_id: int
    moment: Moment
    shelves: Sequence[Shelf]
    rooms: dict[str, Room] = field(default_factory=dict)

    def is_late(self, ends_at_s: float | None) -> bool:
        """Tell whether a job that ends then (None: nobody knows) may still run when this one is to start."""
        return ends_at_s is None or ends_at_s > self.moment.at_s


class Reservations:
    """All that is kept."""

    def __init__(self, outlook: Outlook) -> None:
        self.all: list[Reservation] = []
        self._outlook = outlook
        self._cluster = outlook.placer.cluster
        self._by_node: dict[str, Reservation] = {}
        self._merged: dict[tuple[bool, ...], dict[str, Room]] = {}

    def reserve(self, job_id: int, gang: Gang) -> None:
        """Keep what a job will need, unless something is kept of the nodes that it could use, or no moment is known."""
        shelves = self._outlook.shelves(gang)
        for each in self.all:
            for theirs in each.shelves:
                for mine in shelves:
                    if mine.meets(theirs):
                        return
        moment = self._outlook.earliest(gang)
        if moment is None:
            return
        made = Reservation(job_id, moment, shelves)
        self.all.append(made)
        self._by_node |= dict.fromkeys(moment.takes, made)
        self.update(moment.takes)

    def left(self, ends_at_s: float | None) -> Mapping[str, Room]:
        """Return what a job that will be over by then finds on the reserved nodes, where that is not all that is free.

        Args:
            ends_at_s: None for a job without a time limit.
        """
        late = tuple(each.is_late(ends_at_s) for each in self.all)
        merged = self._merged.get(late)
        if merged is None:
            merged = {}
            for each, is_late in zip(self.all, late, strict=True):
                if is_late:
                    merged |= each.rooms
            self._merged[late] = merged
        return merged

    def of(self, job_id: int) -> Reservation | None:
        """Return what is kept for a job."""
        return next((each for each in self.all if each.job_id == job_id), None)

    def update(self, nodes: Iterable[str]) -> None:
        """A job started on these nodes."""
        self._merged.clear()
        for node_id in nodes:
            each = self._by_node.get(node_id)
            if each is not None:
                each.rooms[node_id] = self._room(node_id, each.moment)

    def _room(self, node_id: str, moment: Moment) -> Room:
        now = self._cluster.room(node_id)
        known = moment.rests.get(node_id)
        if known is None or known[0] is not now:
            known = moment.rests[node_id] = (now, self._rest(node_id, moment))
        return known[1]

    def _rest(self, node_id: str, moment: Moment) -> Room:
        now = self._cluster.room(node_id)
        then = self._cluster.room_at(node_id, moment.at_s).copy()
        kept = {uuid for ask, copies in moment.takes[node_id] for gpus in then.take(ask, copies) for uuid in gpus}
        return Room(
            now.view,
            tuple(gpu for gpu in now.free if gpu.uuid not in kept),
            min(now.nano_cpus, then.nano_cpus),
            min(now.memory_bytes, then.memory_bytes),
            min(now.slots, then.slots),
        )
