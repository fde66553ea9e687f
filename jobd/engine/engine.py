"""The engine: takes what happens to jobs, keeps it, and does what follows from it.

    event ──▶ lifecycle.update ──▶ committed to SQL ──▶ readers woken ──▶ what the new state wants done

It alone holds the state of jobs that are not over. Everything that it does may be done again after a crash: starting
a task that runs is no start, a log takes each byte once, an event that came before changes nothing. Nothing polls:
whatever could let a job start (a new job, a free node, an end) wakes the scheduler.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio

from jobd.engine.assign import Place, assignment, pending_of, task_of
from jobd.engine.fleet import Fleet, NodeLink
from jobd.engine.ledger import Active, Ledger
from jobd.job import Job
from jobd.life import lifecycle as happened
from jobd.life.lifecycle import Event, State, fold
from jobd.scheduling.scheduler import NodeView, plan, refuse
from jobd.spec.spec import JobSpec, parse_spec
from jobd.spec.values import name_problem
from jobd.store.db import DraftRow, JobStore, NodeRow
from jobd.store.logs import DAEMON, PREPARE, LogStore
from jobd.wire import TaskStanding, Wanted, parse_task_id
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.protocol.channel import ChannelClosed

log = logging.getLogger(__name__)

SWEEP_EVERY_S = 3600.0
AGAIN_S = 5.0
QUICK_SPEC_BYTES = 16 * 1024
SCRATCH_KEPT_NS = 86_400 * 1_000_000_000
NOT_THERE = "the node does not have the job any more"
ON_NODE = (State.STARTING, State.RUNNING, State.STOPPING)

FindUser = Callable[[str], Awaitable[Subject | None]]


class Workshop(Protocol):
    """Makes the directories of a job and brings its files together."""

    async def make(self, job: Job) -> None: ...

    async def fill(self, job: Job) -> str: ...


class Engine:
    """All jobs of one datacenter.

    Args:
        place: what jobs are told of where they run.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        store: JobStore,
        logs: LogStore,
        workshop: Workshop,
        *,
        user: FindUser,
        place: Place,
        clock: Callable[[], int],
    ) -> None:
        self.logs = logs
        self.fleet = Fleet()
        self.ledger = Ledger(store, logs, clock)
        self._store = store
        self._workshop = workshop
        self._user = user
        self._place = place
        self._clock = clock
        self._reasons: dict[int, str] = {}
        self._woken = trio.Event()
        self._nursery: trio.Nursery | None = None

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up every job where it was left, and go on until cancelled."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            for row in await self._store.nodes():
                self.fleet.register(row)
            for active in await self.ledger.load():
                self._follow_up(active)
            self._start_soon(self._sweep)
            self._wake()
            task_status.started()
            while True:
                await self._woken.wait()
                self._woken = trio.Event()
                await self._until_done(self._schedule)

    # ---- what people do

    async def submit(self, subject: Subject, draft: DraftRow, stem: str, key: str | None) -> int:
        """Make a job of a text; return its number once it is on disk.

        Args:
            stem: names the job where the spec does not.
            key: the same key of the same user again gives the same job.

        Raises:
            PfsError: what is wrong with the spec, or why it could never run here.
        """
        spec = await _parsed(draft.content, stem)
        events: list[Event] = [happened.Submitted(time_ns=self._clock())]
        events.append(
            happened.Prepared(time_ns=self._clock())
            if spec.src is None
            else happened.PreparationStarted(time_ns=self._clock())
        )
        never = refuse(pending_of(Job(0, subject.user, spec, fold(events))), self._views())
        if never is not None:
            raise PfsError(Kind.INVALID, never)
        names = [name for name in {stem, spec.name} if name_problem(name) is None]
        job_id, active = await self.ledger.add(draft, names, spec, events, key)
        if active is not None:
            self._follow_up(active)
        return job_id

    async def kill(self, subject: Subject, job_id: int) -> None:
        """End a job: at once if nothing was started, else TERM, its grace, KILL.

        Raises:
            PfsError: FORBIDDEN for somebody else's job, BUSY when it is over.
        """
        active = await self.ledger.own(subject, job_id)
        await self.logs.note(job_id, DAEMON, f"Stopped by user {subject.user}", self._clock())
        await self._apply(active, happened.KillRequested(time_ns=self._clock(), by=subject.user))

    async def signal(self, subject: Subject, job_id: int, number: int) -> None:
        """Send a signal to all processes of a running job."""
        active = await self.ledger.own(subject, job_id)
        job = active.job
        link = self.fleet.link(job.life.node)
        if job.life.state not in (State.RUNNING, State.STOPPING) or link is None:
            raise PfsError(Kind.BUSY, f"job {job_id} is {job.life.state}: there is no process to send a signal to")
        await link.signal(task_of(job), number)

    def is_made(self, job: Job) -> bool:
        """Tell whether the job's directories are there."""
        return job.life.node is not None or (job.spec.src is not None and job.life.state is not State.PREPARING)

    def why(self, job: Job) -> str:
        """Say why the job is where it is."""
        if job.life.state is State.WAITING:
            return self._reasons.get(job.id, "it is about to be placed on a node")
        return job.life.reason or f"it is {job.life.state}"

    # ---- what nodes tell

    async def attach(self, row: NodeRow, link: NodeLink, tasks: list[str]) -> dict[str, TaskStanding]:
        """Take a node into service; say of each of its `tasks` what is known and wanted."""
        await self._store.save_node(row)
        self.fleet.register(row)
        standings = {task: await self._standing(task, row.id) for task in tasks}
        self.fleet.connect(row.id, link)
        self.ledger.touch()
        for active in self.ledger.active():
            if active.job.life.node == row.id and active.job.life.state in ON_NODE:
                self._start_soon(self._settle, active, task_of(active.job) in standings)
        self._wake()
        return standings

    def detach(self, node_id: str, link: NodeLink) -> None:
        """A node's connection is gone; what runs there goes on."""
        if self.fleet.disconnect(node_id, link):
            self.ledger.touch()
            self._wake()

    async def running(self, node_id: str, task_id: str, time_ns: int) -> None:
        """A task runs."""
        active = self._task(node_id, task_id)
        if active is not None:
            await self._note_start(active, time_ns)

    async def output(self, node_id: str, task_id: str, offset: int, pieces: list[tuple[int, int]], data: bytes) -> int:
        """A task wrote; return how much of it the log has now."""
        active = self._task(node_id, task_id)
        if active is None:
            return offset + len(data)  # nobody wants it any more
        if active.job.life.started_at_ns is None and pieces:
            await self._note_start(active, pieces[0][0])
        return await self.logs.append(active.job.id, 0, offset, pieces, data)

    async def ended(
        self, node_id: str, task_id: str, *, code: int, reason: str, out_of_memory: bool, time_ns: int
    ) -> None:
        """A task is over, and all of its output is in the log."""
        active = self._task(node_id, task_id)
        if active is None:
            return
        job_id = active.job.id
        if reason:
            await self.logs.note(job_id, DAEMON, f"Worker 0: {reason}", time_ns)
        await self.logs.note(job_id, 0, f"Worker 0 ended with exit code {code}", time_ns)
        await self.logs.note(job_id, DAEMON, "Worker 0 requested stop. Stopping pit...", self._clock())
        event = happened.Ended(time_ns=time_ns, code=code, reason=reason, out_of_memory=out_of_memory)
        await self._apply(active, event)

    # ---- inside

    def _start_soon(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(self._until_done, work, *args)

    async def _until_done(self, work: Callable[..., Awaitable[None]], *args: object) -> None:
        """Do it, and again while it fails: a full disk must not end the service, and doing twice does no harm."""
        while True:
            try:
                await work(*args)
                return
            except Exception:
                log.exception("%s failed; trying again in %.0f s", work.__name__, AGAIN_S)
            await trio.sleep(AGAIN_S)

    def _wake(self) -> None:
        self._woken.set()

    def _task(self, node_id: str, task_id: str) -> Active | None:
        """Return the job of a task, if it is still that node's and that attempt's."""
        active = self.ledger.get(parse_task_id(task_id)[0])
        if active is None or task_of(active.job) != task_id or active.job.life.node != node_id:
            return None
        return active

    async def _standing(self, task_id: str, node_id: str) -> TaskStanding:
        active = self._task(node_id, task_id)
        if active is None:
            return TaskStanding(Wanted.FORGET)
        job_log = await self.logs.open(active.job.id)
        stopping = active.job.life.state is State.STOPPING
        wanted = Wanted.STOP if stopping else Wanted.RUN
        return TaskStanding(wanted, job_log.offsets.get(0, 0), active.job.spec.grace_s)

    async def _apply(self, active: Active, event: Event) -> None:
        """Let `event` happen to a job, and do what follows."""
        if await self.ledger.apply(active, event):
            self._follow_up(active)

    def _follow_up(self, active: Active) -> None:
        """Do what the job's state wants done."""
        match active.job.life.state:
            case State.PREPARING:
                self._start_soon(self._prepare, active)
            case State.STARTING:
                self._start_soon(self._settle, active, False)
            case State.RUNNING if active.job.spec.max_duration_s is not None:
                self._start_soon(self._watch_time, active)
            case State.STOPPING:
                self._start_soon(self._settle, active, True)
            case _:
                self._wake()

    async def _prepare(self, active: Active) -> None:
        job_id = active.job.id
        try:
            await self._workshop.make(active.job)
            text = await self._workshop.fill(active.job)
        except PfsError as error:
            await self.logs.note(job_id, PREPARE, error.message, self._clock())
            await self._apply(active, happened.PreparationFailed(time_ns=self._clock(), text=error.message))
            return
        await self.logs.note(job_id, PREPARE, text, self._clock())
        await self._apply(active, happened.Prepared(time_ns=self._clock()))

    async def _schedule(self) -> None:
        waiting = {a.job.id: a for a in self.ledger.active() if a.job.life.state is State.WAITING}
        if not waiting:
            self._reasons.clear()
            return
        decided = plan([pending_of(active.job) for active in waiting.values()], self._views())
        self._reasons = dict(decided.reasons)
        for placement in decided.starts:
            active = waiting[placement.job_id]
            if active.job.life.state is State.WAITING:  # a kill may have come between
                await self._apply(active, happened.Placed(time_ns=self._clock(), node=placement.node_id))

    def _views(self) -> list[NodeView]:
        return self.fleet.views(active.job for active in self.ledger.active())

    async def _settle(self, active: Active, known: bool) -> None:
        """Bring a job's node to what the job's state wants.

        Args:
            known: the node has said that it has the task, or was asked to start it.
        """
        async with active.asking:
            job = active.job
            link = self.fleet.link(job.life.node)
            if link is None or job.life.state not in ON_NODE:
                return  # a node that comes back is told then
            try:
                if job.life.state is State.STOPPING and known:
                    await link.stop(task_of(job), job.spec.grace_s)
                elif job.life.state is State.STARTING and not known:
                    await self._start(job, link)
                elif not known:
                    await self._apply(active, happened.NodeLost(time_ns=self._clock(), text=NOT_THERE))
            except ChannelClosed:
                return
            except PfsError as error:
                if job.life.state is State.STOPPING and error.kind is not Kind.NOT_FOUND:
                    log.warning("job %d is not stopped yet: %s", job.id, error)
                    return
                await self._apply(active, happened.StartFailed(time_ns=self._clock(), text=error.message))

    async def _start(self, job: Job, link: NodeLink) -> None:
        owner = await self._user(job.user)
        if owner is None:
            raise PfsError(Kind.NOT_FOUND, f"the account {job.user!r} is gone")
        await self._workshop.make(job)
        await self.logs.note(job.id, DAEMON, "Pit daemon started", self._clock())
        await link.start(assignment(job, owner, self._place))

    async def _note_start(self, active: Active, time_ns: int) -> None:
        await self.logs.note(active.job.id, 0, "Worker 0 started", time_ns)
        await self._apply(active, happened.Started(time_ns=time_ns))

    async def _watch_time(self, active: Active) -> None:
        life, limit_s = active.job.life, active.job.spec.max_duration_s
        assert limit_s is not None
        assert life.started_at_ns is not None
        left_s = limit_s - (self._clock() - life.started_at_ns) / 1e9
        with trio.move_on_after(max(0.0, left_s)):
            await self.ledger.wait(active.job)
            return
        await self.logs.note(active.job.id, DAEMON, "The job reached its time limit", self._clock())
        await self._apply(active, happened.TimeLimitReached(time_ns=self._clock()))

    async def _sweep(self) -> None:
        while True:
            await self._store.sweep_drafts(self._clock() - SCRATCH_KEPT_NS)
            await trio.sleep(SWEEP_EVERY_S)


async def _parsed(text: bytes, stem: str) -> JobSpec:
    """Parse a spec; a long one, which may be made to be slow, holds up nobody else."""
    if len(text) <= QUICK_SPEC_BYTES:
        return parse_spec(text, stem)
    return await trio.to_thread.run_sync(parse_spec, text, stem)
