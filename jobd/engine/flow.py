"""What follows from what happens to jobs:

    event ──▶ life.update ──▶ told in the log, committed to SQL ──▶ readers woken ──▶ what is missing now is begun

What a job's state wants is said by `jobd.life.actions`; here it is begun. All of it may be done again after a crash:
starting a task that runs is no start, a log takes each byte once, an event that came before changes nothing. Nothing
polls: whatever could let a job start (a new job, a free node, an end) wakes the scheduler.
"""

import logging
from collections.abc import Callable, Collection, Iterable

import trio

from jobd.engine.alarms import Alarms
from jobd.engine.arrays import Array, at_once_of, was_let_go
from jobd.engine.assign import Place, overlay_of
from jobd.engine.chores import Chores
from jobd.engine.credentials import FindSecret
from jobd.engine.dependencies import Waiters, never, next_step, waits_for
from jobd.engine.fleet import Fleet
from jobd.engine.ledger import Active, Ledger
from jobd.engine.networks import Networks
from jobd.engine.placing import Placing, by_job
from jobd.engine.ports import Clock, FindUser, Logs, Sleep, Store, Workshop
from jobd.engine.queueing import Queue
from jobd.engine.tasks import TaskMaster
from jobd.job import Job
from jobd.life import events as happened
from jobd.life.actions import EndPatience, EndTime, Facts, GiveUp, LetGo, Prepare, StartTask, StopTask, actions
from jobd.life.events import Event
from jobd.life.life import ON_NODES, IllegalEvent, Life, State
from jobd.store.logs import PREPARE, Note
from pfs.errors import PfsError

log = logging.getLogger(__name__)

# an array that runs may have tasks that were not told yet that nothing has to be over before them any more
_UNDECIDED = (State.PENDING, State.RUNNING)


class Flow:
    """All jobs that are not over, and what goes on about them.

    Args:
        clock: nanoseconds since the epoch.
        sleep_until: sleeps until a time of the clock.

    Attributes:
        witness: told of all that happened to a job, and how it stood before.
        lookout: told of nodes that may stand otherwise than before.
    """

    def __init__(
        self,
        store: Store,
        logs: Logs,
        workshop: Workshop,
        *,
        user: FindUser,
        secret: FindSecret,
        place: Place,
        clock: Clock,
        sleep_until: Sleep,
    ) -> None:
        self.store = store
        self.logs = logs
        self.workshop = workshop
        self.place = place
        self.clock = clock
        self.chores = Chores()
        self.ledger = Ledger(store, logs, clock)
        self.fleet = Fleet(clock, lambda node_id: node_id in self._on_node)
        self.witness: Callable[[Job, Life, Event], None] = lambda job, before, event: None
        self.lookout: Callable[[Iterable[str]], None] = lambda node_ids: None
        self.networks = Networks(store, self.fleet, place)
        self.queue = Queue(self.fleet, clock, self._at_once)
        self.tasks = TaskMaster(
            self.fleet,
            self.networks,
            workshop,
            self.chores,
            apply=self.apply,
            user=user,
            secret=secret,
            place=place,
            clock=clock,
        )
        self.placing = Placing(self.ledger, self.queue, self.fleet, clock, apply=self.apply, wake=self.wake)
        self.alarms: Alarms[int] = Alarms(clock, sleep_until, self._ring)
        self._waiters = Waiters()
        self._arrays: dict[int, Array] = {}
        self._on_node: dict[str, dict[int, None]] = {}
        self._woken = trio.Event()

    async def load(self) -> None:
        """Take up everything where it was left."""
        self.fleet.clusters = await self.store.clusters()
        self.queue.adopt_clusters(())
        self.fleet.closed = await self.store.closed()
        for row in await self.store.nodes():
            self.fleet.register(row)
        self.queue.adopt(await self.store.policy())
        for user, past in (await self.store.usages()).items():
            self.queue.load_share(user, past)
        await self.networks.load()
        loaded = await self.ledger.load()
        for active in loaded:
            if active.job.life.terms.is_array:
                tasks = await self.store.tasks(active.job.id)
                self._arrays[active.job.id] = Array.of(at_once_of(active.job.spec), tasks.values())
        for active in loaded:
            self.follow(active)

    async def schedule(self) -> None:
        """Start what can start, now and whenever something changed, until cancelled."""
        self.wake()
        while True:
            await self._woken.wait()
            self._woken = trio.Event()
            for decisions in by_job(self.queue.decide()):
                self.chores.start(self.placing.carry_out, decisions)

    def wake(self) -> None:
        """Something changed that could let a job start."""
        self._woken.set()

    async def apply(self, active: Active, *events: Event, only_if: Callable[[Life], bool] | None = None) -> bool:
        """Let `events` happen to a job, as `Ledger.apply`, and what follows from them; tells whether any did."""
        before = await self.ledger.apply(active, *events, only_if=only_if)
        if before is None:
            return False
        self._leave(active.job.id, before)
        self.follow(active)
        for event in events:
            self.witness(active.job, before, event)
        self.lookout(before.nodes)
        return True

    async def _tell(self, active: Active, event: Event) -> None:
        """Let something happen that follows from how things stood a moment ago."""
        try:
            await self.apply(active, event)
        except IllegalEvent as error:
            log.info("job %d: %s", active.job.id, error)

    def begin(self, actives: list[Active]) -> None:
        """Jobs are new: an array with its tasks, or one job."""
        first = actives[0].job
        if first.life.terms.is_array:
            self._arrays[first.id] = Array.of(at_once_of(first.spec), [active.job for active in actives[1:]])
        for active in actives:
            self.follow(active)

    def follow(self, active: Active) -> None:
        """Begin what is missing between a job's state and what is known to have been done."""
        job, life = active.job, active.job.life
        self.queue.follow(job)
        if life.state.over:
            self._end(active)
            return
        if life.terms.is_array:
            self._follow_array(active)
        elif job.array_id is not None:
            self._follow_task(job, job.array_id)
        if job.spec.depends_on and (life.state is State.PENDING or (life.terms.is_array and life.state in _UNDECIDED)):
            self._waiters.add(job)
            self.chores.start(self._look_at_dependencies, active)
        if life.state in ON_NODES:
            for node in life.nodes:
                self._on_node.setdefault(node, {})[job.id] = None
        for action in actions(life, self.tasks.facts(active)):
            match action:
                case Prepare():
                    self._begin_preparation(active)
                case EndTime(at_ns) | EndPatience(at_ns):
                    self.alarms.set(job.id, at_ns)
                case StartTask() | StopTask() | LetGo() | GiveUp():
                    self.tasks.settle(active, action)
        self.wake()

    def on_node(self, node_id: str) -> list[Active]:
        """Return the jobs that have processes on a node."""
        found = (self.ledger.get(job_id) for job_id in self._on_node.get(node_id, ()))
        return [active for active in found if active is not None]

    def _leave(self, job_id: int, before: Life) -> None:
        self.drop_networks()
        for node in before.nodes:
            here = self._on_node.get(node, {})
            here.pop(job_id, None)
            if not here:
                self._on_node.pop(node, None)

    def _job(self, job_id: int) -> Job | None:
        active = self.ledger.get(job_id)
        return None if active is None else active.job

    async def lose(
        self,
        active: Active,
        nodes: Collection[str],
        text: str,
        *,
        unless_new: bool = False,
        only_if: Callable[[str], bool] = lambda node_id: True,
    ) -> bool:
        """What a job has on these nodes is lost for good; `text` says why, of `{node}`. Tells whether it had anything.

        Args:
            unless_new: what was never asked for there can be started there still.
            only_if: nothing is lost unless this is so of each node in the moment in which that is decided.
        """
        life, now_ns = active.job.life, self.clock()
        said = {node_id: text.replace("{node}", self.fleet.name(node_id)) for node_id in nodes}
        lost = [
            happened.NodeLost(time_ns=now_ns, attempt=life.run(worker), worker=worker, text=said[process.node])
            for worker, process in enumerate(life.processes)
            if process.node in nodes
            and not process.over
            and not (unless_new and process.started_at_ns is None and worker not in active.tasks.known)
        ]
        return bool(lost) and await self.apply(active, *lost, only_if=lambda _: all(map(only_if, nodes)))

    def find_lost_rights(self) -> None:
        """End the jobs that wait for what their owners may use no more."""
        for job_id, text in self.queue.lost().items():
            active = self.ledger.get(job_id)
            if active is not None:
                self.chores.start(self._tell, active, happened.Dismissed(time_ns=self.clock(), text=text))

    # ---- preparing

    def _begin_preparation(self, active: Active) -> None:
        if active.preparing is None:
            active.preparing = trio.CancelScope()
            self.chores.start(self._prepare, active)

    async def _prepare(self, active: Active) -> None:
        job, scope = active.job, trio.CancelScope()
        if job.life.state is not State.PREPARING:
            return
        active.preparing = scope
        with scope:
            event = await self._prepared(job)
        if not scope.cancelled_caught:
            await self.apply(active, event)

    async def _prepared(self, job: Job) -> Event:
        try:
            await self.workshop.make(job)
            text = await self.workshop.fill(job)
        except PfsError as error:
            return happened.PreparationFailed(time_ns=self.clock(), text=error.message)
        notes = [Note(PREPARE, line, self.clock(), job.life.attempt) for line in text.splitlines()]
        await self.logs.notes(job.id, notes)
        return happened.Prepared(time_ns=self.clock())

    # ---- waiting for other jobs

    async def _look_at_dependencies(self, active: Active) -> None:
        """Let a job that waits for others go on, or end it, once that is decided."""
        job = active.job
        if job.life.state not in _UNDECIDED:
            return
        if job.life.terms.is_array and was_let_go(job.life, (task.job.life for task in self.open_tasks(job.id))):
            await self._go_on(active)
            return
        jobs = [await self.ledger.job(dependency.job_id) for dependency in job.spec.depends_on]
        text = never(job.spec.depends_on, {job.id: job.life for job in jobs if job is not None})
        if text is not None:
            await self._tell(active, happened.Dismissed(time_ns=self.clock(), text=text))
        elif self.waits_for(job) is None:
            await self._go_on(active)

    def waits_for(self, job: Job) -> str | None:
        """Say which other job a job waits for; None for none."""
        named = [self._job(dependency.job_id) for dependency in job.spec.depends_on]
        return waits_for(job.spec.depends_on, {job.id: job.life for job in named if job is not None})

    async def _go_on(self, active: Active) -> None:
        """Nothing has to be over before a job any more; the tasks of an array go on in its stead."""
        if not active.job.life.terms.is_array:
            await self._tell(active, next_step(active.job.spec, self.clock()))
            return
        async with trio.open_nursery() as nursery:
            for task in self.open_tasks(active.job.id):
                if task.job.life.state is State.PENDING:
                    nursery.start_soon(self._tell, task, next_step(task.job.spec, self.clock()))

    # ---- arrays

    def _at_once(self, array_id: int) -> int | None:
        array = self._arrays.get(array_id)
        return None if array is None else array.at_once

    def array(self, job_id: int) -> Array | None:
        """Return how the tasks of an array stand together, while it is not over."""
        return self._arrays.get(job_id)

    def open_tasks(self, job_id: int) -> list[Active]:
        """Return the tasks of an array that are not over."""
        array = self._arrays.get(job_id)
        found = [] if array is None else [self.ledger.get(task_id) for task_id in array.open]
        return [active for active in found if active is not None]

    def _follow_array(self, active: Active) -> None:
        self._end_array(active)
        if active.job.life.state is State.STOPPING:
            for task in self.open_tasks(active.job.id):
                self.chores.start(self._tell, task, self._end_of_task(active.job.life))

    def _end_array(self, active: Active) -> None:
        result = self._arrays[active.job.id].result
        if result is not None:
            code, text = result
            self.chores.start(self._tell, active, happened.ArrayEnded(time_ns=self.clock(), code=code, text=text))

    def _end_of_task(self, array: Life) -> Event:
        if (kill := array.kill_requested) is None:
            return happened.Dismissed(time_ns=self.clock(), text=array.reason)
        return happened.KillRequested(time_ns=self.clock(), by=kill.by, text=kill.text)

    def _follow_task(self, task: Job, array_id: int) -> None:
        parent = self.ledger.get(array_id)
        if task.life.state is State.RUNNING and parent is not None and parent.job.life.state is State.PENDING:
            self.chores.start(self._tell, parent, happened.ArrayStarted(time_ns=self.clock()))

    # ---- ends

    def _end(self, active: Active) -> None:
        job = active.job
        self._waiters.drop(job)
        self.alarms.drop(job.id)
        if active.preparing is not None:
            active.preparing.cancel()
        self._arrays.pop(job.id, None)
        self.chores.start(self._tidy, active)
        for waiter in self._waiters.of(job.id):
            waiting = self.ledger.get(waiter)
            if waiting is not None:
                self.chores.start(self._look_at_dependencies, waiting)
        parent = None if job.array_id is None else self.ledger.get(job.array_id)
        if parent is not None and job.array_id is not None:
            self._arrays[job.array_id].ended(job)
            self._end_array(parent)
        self.wake()

    async def _tidy(self, active: Active) -> None:
        if not active.is_log_closed:
            await self.logs.end(active.job.id)
        await self.workshop.tidy(active.job)

    def drop_networks(self) -> None:
        """Drop the networks of attempts that are over."""
        for name in self.networks.left(self._is_needed):
            self.chores.start(self.networks.drop, name)

    def _is_needed(self, network: str) -> bool:
        job = self._job(int(network.split("-")[-2]))
        return job is not None and bool(job.life.processes) and overlay_of(job, self.place) == network

    # ---- deadlines

    def _ring(self, job_id: int) -> None:
        active = self.ledger.get(job_id)
        if active is not None:
            self.chores.start(self._meet_deadline, active)

    async def _meet_deadline(self, active: Active) -> None:
        """Tell a job of its deadline, if that is still the one."""
        now_ns = self.clock()
        for action in actions(active.job.life, self.tasks.facts(active)):
            if not isinstance(action, EndTime | EndPatience):
                continue
            if action.at_ns > now_ns:
                self.alarms.set(active.job.id, action.at_ns)
                continue
            kind = happened.TimeLimitReached if isinstance(action, EndTime) else happened.PatienceOver

            def is_still(life: Life, deadline: EndTime | EndPatience = action) -> bool:
                return deadline in actions(life, Facts())

            await self.apply(active, kind(time_ns=now_ns), only_if=is_still)
