"""Has happen what the scheduler decides: jobs get their places, those that run get more, or give some up.

A decision is of the moment in which it was made. What came between makes it void: then the scheduler is told how things
are, and decides anew.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence

from jobd.engine.assign import is_gang
from jobd.engine.demands import places_of
from jobd.engine.fleet import Fleet
from jobd.engine.ledger import Active, Ledger
from jobd.engine.ports import Clock
from jobd.engine.queueing import Queue
from jobd.life import events as happened
from jobd.life.events import Event
from jobd.life.life import IllegalEvent, Life, State
from jobd.scheduling.model import Fill, Leave, Place, Start

MADE_ROOM = "job {job} has its place"

Apply = Callable[..., Awaitable[bool]]
Decision = Start | Fill | Leave


class Placing:
    """Carries out decisions of the scheduler.

    Args:
        apply: lets events happen to a job, and what follows from them.
        wake: has the scheduler decide anew.
    """

    def __init__(
        self, ledger: Ledger, queue: Queue, fleet: Fleet, clock: Clock, *, apply: Apply, wake: Callable[[], None]
    ) -> None:
        self._ledger = ledger
        self._queue = queue
        self._fleet = fleet
        self._clock = clock
        self._apply = apply
        self._wake = wake

    async def carry_out(self, decisions: Sequence[Decision]) -> None:
        """Have happen what was decided of one job, all at once, unless things are otherwise by now."""
        active = self._ledger.get(decisions[0].job_id)
        if active is None:
            return  # it ended meanwhile, and the queue was told of that
        changes = [each for each in decisions if not isinstance(each, Start)]
        if changes:
            await self._change(active, changes)
        for decision in decisions:
            if isinstance(decision, Start):
                await self._start(active, decision)

    async def _start(self, active: Active, start: Start) -> None:
        places = tuple(happened.Place(place.node_id, place.gpus) for place in start.places)
        placed = happened.Placed(
            time_ns=self._clock(), places=places_of(active.job.spec, places), spans=self._may_span(active, start.places)
        )
        if not await self._apply(active, placed, only_if=can_start):
            self._queue.not_started(active.job)
            self._wake()

    def _may_span(self, active: Active, places: tuple[Place, ...]) -> bool:
        """Tell whether processes of a job may come to be on other machines: its network has to be made for that now."""
        spec = active.job.spec
        if not is_gang(active.job) or spec.groups[0].image is None or (spec.least is None and not spec.replaces):
            return False
        swarm = self._fleet.swarm(places[0].node_id)
        return bool(swarm) and self._fleet.manager(swarm) is not None

    async def _change(self, active: Active, changes: Sequence[Fill | Leave]) -> None:
        attempt, events = active.job.life.attempt, [self._event(change) for change in changes]
        try:
            is_done = await self._apply(active, *events, only_if=lambda life: life.attempt == attempt)
        except IllegalEvent:
            is_done = False
        if not is_done:
            self._queue.not_changed(active.job, {change.worker for change in changes})
            self._wake()

    def _event(self, change: Fill | Leave) -> Event:
        now_ns, worker = self._clock(), change.worker
        if isinstance(change, Leave):
            return happened.Retired(time_ns=now_ns, worker=worker, text=MADE_ROOM.format(job=change.for_job))
        there = happened.Place(change.place.node_id, change.place.gpus)
        return happened.Filled(time_ns=now_ns, worker=worker, place=there)


def by_job(decisions: Iterable[Decision]) -> list[list[Decision]]:
    """Return the decisions of each job together, so that processes which begin together know of one another."""
    found: dict[int, list[Decision]] = {}
    for decision in decisions:
        found.setdefault(decision.job_id, []).append(decision)
    return list(found.values())


def can_start(life: Life) -> bool:
    """Tell whether the scheduler may place a job."""
    return life.state is State.WAITING and not life.held_by
