"""The nodes, and what runs on them: the room on each, now and at later times.

The room of a node is worked out afresh from what uses it whenever that changes: a node has few jobs, and what is
derived cannot drift from what it is derived from.
"""

import math
from collections.abc import Iterator

from jobd.scheduling.model import Gpu, NodeView, Running, Use
from jobd.scheduling.room import Ask, Room, make_room, with_reserved_first

TIMES_MAX = 8  # for which what is left on one node is remembered


class Cluster:
    """All nodes and running jobs."""

    def __init__(self) -> None:
        self.views: dict[str, NodeView] = {}
        self.running: dict[int, Running] = {}
        self._uses: dict[str, dict[int, list[Use]]] = {}
        # what follows from the above, until it changes
        self._gpus: dict[str, dict[str, Gpu]] = {}  # by UUID
        self._rooms: dict[str, Room] = {}
        self._rooms_at: dict[str, dict[float, Room]] = {}
        self._ends: dict[str, list[tuple[float, int]]] = {}
        self._watches: dict[int, set[str]] = {}

    def set_node(self, view: NodeView) -> None:
        """A node is there, or is other than before."""
        self.views[view.node_id] = with_reserved_first(view)
        self._gpus[view.node_id] = {gpu.uuid: gpu for gpu in view.gpus}
        self._touch(view.node_id)

    def forget_node(self, node_id: str) -> None:
        """A node is no more; what runs there is known still."""
        if self.views.pop(node_id, None) is not None:
            del self._gpus[node_id]
            self._touch(node_id)

    def start(self, job: Running) -> None:
        """A job has its places, or others than before."""
        self.end(job.job_id)
        self.running[job.job_id] = job
        for use in job.uses:
            self._uses.setdefault(use.node_id, {}).setdefault(job.job_id, []).append(use)
            self._touch(use.node_id)

    def end(self, job_id: int) -> Running | None:
        """A job has let go of its places."""
        job = self.running.pop(job_id, None)
        for use in job.uses if job is not None else ():
            here = self._uses.get(use.node_id, {})
            here.pop(job_id, None)
            if not here:
                self._uses.pop(use.node_id, None)
            self._touch(use.node_id)
        return job

    def room(self, node_id: str) -> Room:
        """Return what is left on a node now; not to be taken from, and the same object until that changes."""
        room = self._rooms.get(node_id)
        if room is None:
            uses = [use for here in self._uses.get(node_id, {}).values() for use in here]
            room = self._rooms[node_id] = make_room(self.views[node_id], uses)
        return room

    def room_at(self, node_id: str, time_s: float) -> Room:
        """Return what will be left on a node when all jobs are over whose time is.

        GPUs that are in use now come first, so that who is promised some leaves the others to be used meanwhile.
        """
        known = self._rooms_at.setdefault(node_id, {})
        room = known.get(time_s)
        if room is None:
            if len(known) >= TIMES_MAX:
                known.clear()
            room = known[time_s] = self._room_at(node_id, time_s)
        return room

    def _room_at(self, node_id: str, time_s: float) -> Room:
        over: list[Use] = []
        going: list[Use] = []
        for job_id, uses in self._uses.get(node_id, {}).items():
            (over if self._end_s(job_id) <= time_s else going).extend(uses)
        return make_room(self.views[node_id], going, frozenset(uuid for use in over for uuid in use.gpus))

    def rooms_later(self, node_id: str) -> Iterator[tuple[float, Room]]:
        """Go through what is left on a node at the end of each job there; the same room each time, not to be kept."""
        room = self.room(node_id).copy()
        ends = self.ends(node_id)
        for number, (end_s, job_id) in enumerate(ends):
            for use in self._uses[node_id][job_id]:
                room.give(use)
            if number + 1 == len(ends) or ends[number + 1][0] > end_s:
                yield end_s, room

    def copies_later(self, node_id: str, ask: Ask) -> Iterator[tuple[float, int]]:
        """Go through how many processes that ask this fit on a node at the end of each job there."""
        sizes = self.room(node_id).sizes(ask)
        gpus = self._gpus[node_id]
        uses, ends = self._uses.get(node_id, {}), self.ends(node_id)
        last = len(ends) - 1
        for number, (end_s, job_id) in enumerate(ends):
            for use in uses[job_id]:
                sizes.give(use, gpus)
            if number == last or ends[number + 1][0] > end_s:
                yield end_s, sizes.copies()

    def ends(self, node_id: str) -> list[tuple[float, int]]:
        """Return when each job of a node is over at the latest (inf: not known) with its number, first ones first."""
        ends = self._ends.get(node_id)
        if ends is None:
            found = ((self._end_s(job_id), job_id) for job_id in self._uses.get(node_id, ()))
            ends = self._ends[node_id] = sorted(found)
        return ends

    def watch(self) -> set[str]:
        """Return a set that every node gets into whose room changes from now on; all are in it now."""
        changed = set(self.views)
        self._watches[id(changed)] = changed
        return changed

    def unwatch(self, changed: set[str]) -> None:
        """Nobody looks into a set of `watch` any more."""
        del self._watches[id(changed)]

    def _end_s(self, job_id: int) -> float:
        ends_at_s = self.running[job_id].ends_at_s
        return math.inf if ends_at_s is None else ends_at_s

    def _touch(self, node_id: str) -> None:
        for derived in (self._rooms, self._rooms_at, self._ends):
            derived.pop(node_id, None)
        for changed in self._watches.values():
            changed.add(node_id)
