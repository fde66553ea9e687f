"""What running jobs get beside what they have, and what they give up, while others wait.

A job that lost a process and needs it has its place filled before anything else starts: what runs is made whole. What
a job could have *beside* what it needs it gets of what is left when everything that waits has been tried, and only on
nodes that nobody who waits could use: the job that has the least of what it could have goes first. So nobody waits for
the sake of somebody's extra processes.

Nor because of them: for the first job of its nodes that cannot start, extra processes are stopped, if it can start by
that. The job that has the most of what it could have gives first, the youngest process first, and none that does not
help. What is being stopped already counts as free, so that nothing more is stopped for the same job.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

from jobd.scheduling.model import Elastic, Fill, Leave, Opening, Place, Spare, Use
from jobd.scheduling.placement import Gang, Placer, Rooms, domain_of
from jobd.scheduling.room import Room
from jobd.scheduling.shelf import Shelf, Spot

TRIED_MAX = 256  # processes that are thought away for one job

GangOf = Callable[[Elastic, Opening], Gang]
Take = Callable[[Fill], None]


@dataclass(frozen=True, slots=True)
class Chances:
    """What a job may get of what is free.

    Attributes:
        rests: what of these nodes counts as left, where that is not all that is left now.
        wanted: the nodes on which something waits, for each kind of process that does.
        allows: whether limits of its owner's let it have so many more GPUs.
    """

    rests: Callable[[Elastic], Rooms]
    wanted: tuple[Shelf, ...]
    allows: Callable[[Elastic, int], bool]


class Elastics:
    """The running jobs that could have more, or less."""

    def __init__(self, placer: Placer, gang_of: GangOf, take: Take) -> None:
        self.jobs: dict[int, Elastic] = {}
        self._placer = placer
        self._gang_of = gang_of
        self._take = take

    def repair(self) -> list[Fill]:
        """Fill what jobs need; what is filled counts as taken."""
        found = []
        for job in sorted(self.jobs.values(), key=lambda job: job.job_id):
            for opening in job.openings:
                if opening.must and (fill := self._fill(self.jobs[job.job_id], opening, {})) is not None:
                    found.append(fill)
        return found

    def grow(self, chances: Chances) -> list[Fill]:
        """Fill what jobs could have, one place after the other; what is filled counts as taken."""
        found: list[Fill] = []
        stuck: set[int] = set()
        while True:
            jobs = [job for job in self.jobs.values() if job.openings and job.job_id not in stuck]
            if not jobs:
                return found
            job = min(jobs, key=lambda job: (job.fulfilment, job.job_id))
            fill = self._grown(job, chances)
            if fill is None:
                stuck.add(job.job_id)
            else:
                found.append(fill)

    def _grown(self, job: Elastic, chances: Chances) -> Fill | None:
        for opening in job.openings:
            gang = self._gang_of(job, opening)
            shelf = self._placer.part_shelf(gang, gang.parts[0])
            if opening.must or any(shelf.meets(other) for other in chances.wanted):
                continue
            if chances.allows(job, gang.parts[0].ask.gpus):
                return self._fill(job, opening, chances.rests(job))
        return None

    def _fill(self, job: Elastic, opening: Opening, rests: Rooms) -> Fill | None:
        place = self._place(job, self._gang_of(job, opening), rests)
        if place is None:
            return None
        need = opening.need
        use = Use(place.node_id, need.cpus or 0.0, need.memory_bytes or 0, place.gpus)
        fill = Fill(job.job_id, opening.worker, place, use)
        left = tuple(each for each in job.openings if each is not opening)
        self.jobs[job.job_id] = replace(job, openings=left, now=job.now + 1)
        self._take(fill)
        return fill

    def _place(self, job: Elastic, gang: Gang, rests: Rooms) -> Place | None:
        (part,) = gang.parts
        shelf = self._placer.part_shelf(gang, part)
        changed = {node_id: shelf.spot(room) for node_id, room in rests.items() if node_id in shelf.spots}
        spots = [changed.get(node_id, spot) for node_id, spot in shelf.spots.items()]
        fitting = [spot.fullness for spot in spots if spot.copies and self._reaches(job, gang, spot)]
        if not fitting:
            return None
        node_id = min(fitting)[-1]
        room = (rests.get(node_id) or self._placer.cluster.room(node_id)).copy()
        (gpus,) = room.take(part.ask, 1)
        return Place(node_id, gpus)

    def _reaches(self, job: Elastic, gang: Gang, spot: Spot) -> bool:
        """Tell whether a process there could reach its fellows, and they it."""
        if not gang.reach or spot.node_id in job.nodes:
            return True
        views = self._placer.cluster.views
        theirs = {domain_of(views[node_id], gang.reach) for node_id in job.nodes if node_id in views}
        return job.spans and spot.domain is not None and theirs <= {spot.domain}

    # ---- giving up

    def shrink(self, job_id: int, gang: Gang) -> list[Leave]:
        """Return what has to stop for a waiting job to start; nothing where that would not do, or is under way."""
        leaving = [use for job in self.jobs.values() for use in job.leaving]
        if self._fits(gang, leaving):
            return []
        chosen: list[tuple[Elastic, Spare]] = []
        for job, spare in self._candidates(gang):
            chosen.append((job, spare))
            if self._fits(gang, [*leaving, *(spare.use for _, spare in chosen)]):
                break
        else:
            return []
        needed = list(chosen)
        for each in chosen:
            others = [other for other in needed if other is not each]
            if self._fits(gang, [*leaving, *(spare.use for _, spare in others)]):
                needed = others
        for job, spare in needed:
            self._note_leave(job.job_id, spare)
        return [Leave(job.job_id, spare.worker, job_id) for job, spare in needed]

    def _candidates(self, gang: Gang) -> Iterator[tuple[Elastic, Spare]]:
        """Go through what could be given up, in the order in which it should."""
        useful = {node_id for part in gang.parts for node_id in self._placer.part_shelf(gang, part).spots}
        left = {
            job.job_id: [spare for spare in job.spares if spare.use.node_id in useful] for job in self.jobs.values()
        }
        now = {job.job_id: job.now for job in self.jobs.values()}
        for _ in range(TRIED_MAX):
            jobs = [replace(job, now=now[job.job_id]) for job in self.jobs.values() if left[job.job_id]]
            if not jobs:
                return
            job = max(jobs, key=lambda job: (job.fulfilment, job.job_id))
            now[job.job_id] -= 1
            yield job, left[job.job_id].pop(0)

    def _note_leave(self, job_id: int, spare: Spare) -> None:
        job = self.jobs[job_id]
        spares = tuple(each for each in job.spares if each is not spare)
        self.jobs[job_id] = replace(job, spares=spares, leaving=(*job.leaving, spare.use), now=job.now - 1)

    def _fits(self, gang: Gang, gone: Iterable[Use]) -> bool:
        """Tell whether a gang would fit if nothing had these any more."""
        cluster = self._placer.cluster
        rooms: dict[str, Room] = {}
        for use in gone:
            if use.node_id in cluster.views:
                if use.node_id not in rooms:
                    rooms[use.node_id] = cluster.room(use.node_id).copy()
                rooms[use.node_id].give(use)
        return self._placer.place_at(gang, rooms) is not None
