"""The ledger of jobs: what happened to each, and where each stands by it.

An event is worked out by the life-cycle, told in the job's log, committed to SQL, and only then told to whoever waits.
Jobs that are not over are held here; the rest is looked up. What follows from an event is not decided here.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace

import trio

from jobd.engine.demands import weight_of
from jobd.engine.gpumeters import Meters
from jobd.engine.narration import narrate
from jobd.engine.ports import Clock, Logs, Store
from jobd.gpuuse import GpuUse
from jobd.job import Job
from jobd.life.events import Event, Filled, OfWorker, Retired
from jobd.life.life import Life, fold, update
from jobd.scheduling.shares import Usage, amount
from jobd.spec.model import JobSpec
from jobd.store.jobs import Listed, NewTask
from jobd.store.logs import Note
from jobd.store.recent import Recent
from jobd.store.tables import DraftRow
from pfs.errors import Kind, PfsError
from pfs.perm import EVERY_JOB, Domain, Subject, Verb, allowed

OVER_KEPT_MAX = 64
SHARES_KEPT_MAX = 4096
LISTINGS_KEPT_MAX = 4  # of so many readers; one of 10,000 jobs takes 3 MB
HOUR_NS = 3600 * 1_000_000_000

log = logging.getLogger(__name__)


@dataclass
class Tasks:
    """What is known of the tasks of one attempt of a job, by worker index (FETCH too).

    Attributes:
        known: their node has them.
        denied: their node is there and does not have them.
        stopping: their node was asked to end them, and will.
        begun: their node knows that their program may begin, where that waits for fellows.
        asking: their node is being asked for something: for each task one question at a time, so that a start never
            overtakes a stop.
        ground: held while what all of them stand on is being made.
        is_ready: it is made.
        news: what the start of a worker waits for on its node, as that told last.
        told: how often each told something.
    """

    known: set[int] = field(default_factory=set)
    denied: set[int] = field(default_factory=set)
    stopping: set[int] = field(default_factory=set)
    begun: set[int] = field(default_factory=set)
    asking: set[int] = field(default_factory=set)
    ground: trio.Lock = field(default_factory=trio.Lock)
    is_ready: bool = False
    news: dict[int, str] = field(default_factory=dict)
    told: Counter[int] = field(default_factory=Counter)

    def forget(self, worker: int) -> None:
        """The task of a worker is another than before."""
        for workers in (self.known, self.denied, self.stopping, self.begun):
            workers.discard(worker)
        self.news.pop(worker, None)
        self.told.pop(worker, None)


@dataclass
class Active:
    """A job that is not over, and who waits for its next change.

    Attributes:
        preparing: what brings its files together, while that goes on.
        is_log_closed: it is over, and its log is whole.
    """

    job: Job
    lock: trio.Lock = field(default_factory=trio.Lock)
    changed: trio.Event = field(default_factory=trio.Event)
    tasks: Tasks = field(default_factory=Tasks)
    preparing: trio.CancelScope | None = None
    is_log_closed: bool = False


class Ledger:
    """All jobs of one datacenter.

    Attributes:
        unshared: told of a job's domain before and after it is shared with others.
        observer: told of what was kept of a job: how it stood before (None for a new one), and the job as it is.
        meters: what the jobs that run do with their GPUs.
    """

    def __init__(self, store: Store, logs: Logs, clock: Clock) -> None:
        self.changed_at_ns = clock()
        self._version = 0
        self.meters = Meters()
        self._store = store
        self._logs = logs
        self._clock = clock
        self._active: dict[int, Active] = {}
        self._sharing = trio.Lock()
        self._shared_at_ns: dict[int, int] = {}
        self.unshared: Callable[[Domain, Domain], None] = lambda before, after: None
        self.observer: Callable[[Life | None, Job], None] = lambda before, job: None
        self._over: Recent[int, Job | None] = Recent(OVER_KEPT_MAX)  # a path is walked several times
        self._listings: Recent[tuple[object, ...], Sequence[Listed]] = Recent(LISTINGS_KEPT_MAX)

    async def load(self) -> list[Active]:
        """Take up every job that is not over."""
        for job in await self._store.active():
            self._active[job.id] = Active(job)
            self.meters.follow(job, self._clock())
        return self.active()

    def active(self) -> list[Active]:
        """Return every job that is not over."""
        return list(self._active.values())

    def get(self, job_id: int) -> Active | None:
        """Return a job if it is not over."""
        return self._active.get(job_id)

    async def add(
        self,
        draft: DraftRow,
        names: list[str],
        spec: JobSpec,
        events: list[Event],
        *,
        key: str | None,
        tasks: list[NewTask],
    ) -> tuple[int, list[Active]]:
        """Make a job, and the tasks of its array; return its number, and all of them if they are new."""
        with trio.CancelScope(shield=True):  # what is on disk is held here, too
            jobs, new = await self._store.submit(
                draft, names, spec=spec, events=events, life=fold(events), key=key, tasks=tasks
            )
            if not new:
                return jobs[0].id, []
            made = [Active(job) for job in jobs]
            for active in made:
                self._active[active.job.id] = active
                self.observer(None, active.job)
        self.touch()
        return jobs[0].id, made

    def touch(self) -> None:
        """Note that something changed that listings show."""
        self.changed_at_ns = self._clock()
        self._relist()

    @property
    def version(self) -> tuple[int, int]:
        """What is other numbers after everything that listings show: the hour counts, too."""
        return self._version, self._clock() // HOUR_NS

    def _relist(self) -> None:
        self._version += 1
        self._listings.forget()

    async def find(self, job_id: int, subject: Subject) -> Job:
        """Return a job that `subject` may read; NOT_FOUND for all others, there or not."""
        job = await self.job(job_id)
        if job is None or not allowed(subject, Verb.READ, job.domain):
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return job

    async def job(self, job_id: int) -> Job | None:
        """Return a job as it stands now, over or not; None where there is none of that number."""
        if job_id >= 1 << 63:  # what no database takes for a number
            return None
        active = self._active.get(job_id)
        if active is not None:
            return active.job
        return await self._over.get(job_id, lambda: self._store.job(job_id), _is_over)

    @contextmanager
    def removing(self) -> Iterator[None]:
        """Know nothing more of jobs that are over, once those are removed, or are back, that are so meanwhile."""
        try:
            with self._over.changing(None):
                yield
        finally:
            self._relist()

    async def current(self, job: Job) -> Job:
        """Return the job as it stands now; one that is over stays as it is."""
        return job if job.life.state.over else await self.job(job.id) or job

    async def tasks(self, array_id: int) -> dict[int, Job]:
        """Return the tasks of an array by their index, as they stand now."""
        jobs = await self._store.tasks(array_id)
        return {index: self._active[job.id].job if job.id in self._active else job for index, job in jobs.items()}

    async def listed(self, subject: Subject) -> Sequence[Listed]:
        """Return the jobs that `subject` sees in a listing, newest first; the same object while it is the same."""
        now_ns = self._clock()
        everything = allowed(subject, Verb.READ, EVERY_JOB)
        user, groups = (None, frozenset[str]()) if everything else (subject.user, subject.groups)
        return await self._listings.get(
            (user, groups, now_ns // HOUR_NS), lambda: self._store.listed(user, now_ns, groups), lambda _: True
        )

    async def share(self, job_id: int, more: frozenset[str], fewer: frozenset[str]) -> None:
        """Let a job be shared with more groups and with fewer, an array with all its tasks.

        Raises:
            PfsError: NOT_FOUND for a job that is gone.
        """
        async with self._sharing:
            job = await self.job(job_id)
            if job is None:
                raise PfsError(Kind.NOT_FOUND, "no such file or directory")
            groups = (job.groups | more) - fewer
            with trio.CancelScope(shield=True), self._over.changing(None):
                await self._store.share(job_id, groups)
                self._shared_at_ns.pop(job_id, None)
                self._shared_at_ns[job_id] = self._clock()
                if len(self._shared_at_ns) > SHARES_KEPT_MAX:
                    del self._shared_at_ns[next(iter(self._shared_at_ns))]
                for active in self._active.values():
                    if job_id in (active.job.id, active.job.array_id):
                        active.job = replace(active.job, groups=groups)
            self.touch()
            self.unshared(job.domain, replace(job, groups=groups).domain)

    def shared_at_ns(self, job: Job) -> int:
        """Return when a job was shared with other groups than before, as far as this service saw that; else 0."""
        return self._shared_at_ns.get(job.array_id or job.id, 0)

    async def keep_shares(self, groups: frozenset[str]) -> None:
        """Know of no shares with other groups than these, which are all that there are; on disk there are none."""
        async with self._sharing:
            with self._over.changing(None):
                for active in self._active.values():
                    if not active.job.groups <= groups:
                        active.job = replace(active.job, groups=active.job.groups & groups)
            self._relist()

    async def wait(self, job: Job) -> Job:
        """Return the job once it is over."""
        while (active := self._active.get(job.id)) is not None:
            await active.changed.wait()
        return await self.current(job)

    def news(self, job_id: int) -> trio.Event:
        """Return what is set at the next change of a job; never, where it is over."""
        active = self._active.get(job_id)
        return trio.Event() if active is None else active.changed

    async def history(self, job: Job) -> list[Event]:
        """Return what happened to a job, in order."""
        return await self._store.history(job.id)

    async def commanded(self, subject: Subject, job_id: int) -> Job:
        """Return a job, over or not, that `subject` may command.

        Raises:
            PfsError: NOT_FOUND, FORBIDDEN for somebody else's job.
        """
        job = await self.find(job_id, subject)
        if not allowed(subject, Verb.COMMAND, job.domain):
            raise PfsError(Kind.FORBIDDEN, f"job {job_id} belongs to {job.user}; only they and admins command it")
        return job

    async def own(self, subject: Subject, job_id: int) -> Active:
        """Return a job that `subject` may command.

        Raises:
            PfsError: NOT_FOUND, FORBIDDEN for somebody else's job, BUSY when it is over.
        """
        job = await self.commanded(subject, job_id)
        active = self._active.get(job_id)
        if active is None:
            raise PfsError(Kind.BUSY, f"job {job_id} is over: {job.life.state}; submit it again to run it again")
        return active

    async def apply(self, active: Active, *events: Event, only_if: Callable[[Life], bool] | None = None) -> Life | None:
        """Let `events` happen to a job: keep them, and tell who waits; return how it stood before, None for no change.

        Args:
            only_if: nothing happens to a job of which this is not so in that moment.

        Raises:
            IllegalEvent: one of them cannot happen to the job; nothing changes.
        """
        async with active.lock:
            before = active.job.life
            if only_if is not None and not only_if(before):
                return None
            kept: list[Event] = []
            lines: list[Note] = []
            life = before
            for event in events:
                after = update(life, event)
                if after != life:
                    lines += _lines(life, event, after)
                    kept.append(event)
                    life = after
            if not kept:
                return None
            if lines:
                await self._logs.notes(active.job.id, lines)
            with trio.CancelScope(shield=True):
                now_ns = self._clock()
                use = self.meters.of(active.job, now_ns)
                await self._record(active.job, kept, life, use)
                active.job = replace(active.job, life=life, gpu_use=use)
                self.meters.follow(active.job, now_ns)
                self.observer(before, active.job)
                if life.attempt != before.attempt:
                    active.tasks = Tasks()
                for worker in range(len(life.replaced)):
                    if life.run(worker) != before.run(worker):
                        active.tasks.forget(worker)
                self.touch()
                if life.state.over:
                    active.is_log_closed = await self._close_log(active.job.id)
                    self._active.pop(active.job.id, None)
                    self._over.learn(active.job.id, active.job)  # who waited asks at once
                active.changed.set()
                active.changed = trio.Event()
        await trio.lowlevel.cancel_shielded_checkpoint()  # who waited is answered before whoever did this goes on
        return before

    async def keep_gpu_uses(self) -> None:
        """Keep what jobs that run did with their GPUs until now: so much is not lost with this service."""
        uses = self.meters.to_keep(self._clock())
        if uses:
            await self._store.keep_gpu_uses(uses)

    async def settled(self, active: Active) -> None:
        """Return once everything that was decided of a job up to now is kept."""
        async with active.lock:
            pass

    async def _record(self, job: Job, events: Sequence[Event], life: Life, use: GpuUse) -> None:
        """Keep what happened to a job; where it is over by that, its log comes to the disk in the same time."""
        usage = _usage(job, life)
        if not life.state.over:
            await self._store.record(job.id, events, life, usage, use)
            return
        refused: PfsError | None = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._save_log, job.id)
            try:
                await self._store.record(job.id, events, life, usage, use)
            except PfsError as error:
                refused = error
        if refused is not None:
            raise refused

    async def _save_log(self, job_id: int) -> None:
        """Begin to bring a log to its end: what is not done by this, `_close_log` does, and says."""
        with suppress(PfsError):
            await self._logs.save(job_id)

    async def _close_log(self, job_id: int) -> bool:
        """Bring a log to its end, so that who hears of the job's end has all of it; tells whether the disk let us."""
        try:
            await self._logs.end(job_id)
        except PfsError as error:
            log.warning("the log of job %d is not closed yet: %s", job_id, error)
            return False
        return True


def _lines(before: Life, event: Event, after: Life) -> list[Note]:
    told = narrate(before, event, after)
    attempt = before.attempt
    if isinstance(event, OfWorker | Filled | Retired):
        attempt = (after if isinstance(event, Filled) else before).run(event.worker)
    return [Note(source, text, event.time_ns, attempt) for source, text in told]


def _is_over(job: Job | None) -> bool:
    return job is not None and job.life.state.over


def _usage(job: Job, after: Life) -> Usage | None:
    """Return what an attempt of a job had, where it is over by now."""
    before = job.life
    if before.placed_at_ns is None or (not after.state.over and after.attempt == before.attempt):
        return None
    return Usage(
        job.user, amount(weight_of(job.spec), before.placed_at_ns / 1e9, after.changed_at_ns / 1e9), after.changed_at_ns
    )
