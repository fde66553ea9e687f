"""The ledger of jobs: what happened to each, and where each stands by it.

An event is worked out by the life-cycle, committed to SQL, and only then told to whoever waits. Jobs that are not
over are held here; the rest is looked up. What follows from an event is not decided here (`jobd.engine.engine`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import trio

from jobd.job import Job
from jobd.life.lifecycle import Ended, Event, fold, update
from jobd.spec.spec import JobSpec
from jobd.store.db import DraftRow, JobStore
from jobd.store.logs import DAEMON, LogStore
from pfs.errors import Kind, PfsError
from pfs.perm import Subject, Verb, allowed


@dataclass
class Active:
    """A job that is not over, and who waits for its next change.

    Attributes:
        asking: held while its node is being asked for something, so that a start never overtakes a stop.
    """

    job: Job
    lock: trio.Lock = field(default_factory=trio.Lock)
    asking: trio.Lock = field(default_factory=trio.Lock)
    changed: trio.Event = field(default_factory=trio.Event)


class Ledger:
    """All jobs of one datacenter.

    Args:
        clock: nanoseconds since the epoch.
    """

    def __init__(self, store: JobStore, logs: LogStore, clock: Callable[[], int]) -> None:
        self.changed_at_ns = clock()
        self._store = store
        self._logs = logs
        self._clock = clock
        self._active: dict[int, Active] = {}

    async def load(self) -> list[Active]:
        """Take up every job that is not over, with its log."""
        for job in await self._store.active():
            self._active[job.id] = Active(job)
            await self._logs.open(job.id)
        return self.active()

    def active(self) -> list[Active]:
        """Return every job that is not over."""
        return list(self._active.values())

    def get(self, job_id: int) -> Active | None:
        """Return a job if it is not over."""
        return self._active.get(job_id)

    async def add(
        self, draft: DraftRow, names: list[str], spec: JobSpec, events: list[Event], key: str | None
    ) -> tuple[int, Active | None]:
        """Make a job; return its number, and the job itself if it is new."""
        job, new = await self._store.submit(draft, names, spec=spec, events=events, life=fold(events), key=key)
        if not new:
            return job.id, None
        active = self._active[job.id] = Active(job)
        await self._logs.open(job.id)
        self.touch()
        return job.id, active

    def touch(self) -> None:
        """Note that something changed that listings show."""
        self.changed_at_ns = self._clock()

    async def find(self, job_id: int, subject: Subject) -> Job:
        """Return a job that `subject` may read; NOT_FOUND for all others, there or not."""
        active = self._active.get(job_id)
        job = active.job if active is not None else await self._store.job(job_id)
        if job is None or not allowed(subject, Verb.READ, job.domain):
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return job

    async def current(self, job: Job) -> Job:
        """Return the job as it stands now."""
        active = self._active.get(job.id)
        now = active.job if active is not None else await self._store.job(job.id)
        return now or job

    async def listed(self, subject: Subject) -> list[Job]:
        """Return the jobs that `subject` sees in a listing, newest first."""
        jobs = await self._store.listed(None if subject.admin else subject.user, self._clock())
        return [self._active[job.id].job if job.id in self._active else job for job in jobs]

    async def wait(self, job: Job) -> Job:
        """Return the job once it is over."""
        while (active := self._active.get(job.id)) is not None:
            await active.changed.wait()
        over = await self._store.job(job.id)
        assert over is not None
        return over

    async def history(self, job: Job) -> list[Event]:
        """Return what happened to a job, in order."""
        return await self._store.history(job.id)

    async def own(self, subject: Subject, job_id: int) -> Active:
        """Return a job that `subject` may command.

        Raises:
            PfsError: NOT_FOUND, FORBIDDEN for somebody else's job, BUSY when it is over.
        """
        job = await self.find(job_id, subject)
        if not subject.admin and job.user != subject.user:
            raise PfsError(Kind.FORBIDDEN, f"job {job_id} belongs to {job.user}")
        active = self._active.get(job_id)
        if active is None:
            raise PfsError(Kind.BUSY, f"job {job_id} is over: {job.life.state}")
        return active

    async def apply(self, active: Active, event: Event) -> bool:
        """Let `event` happen to a job: keep it, and tell who waits; tells whether anything changed."""
        async with active.lock:
            life = update(active.job.life, event)
            if life == active.job.life:
                return False
            with trio.CancelScope(shield=True):
                await self._store.record(active.job.id, [event], life)
            active.job = replace(active.job, life=life)
            self.touch()
            if life.state.over:
                await self._bury(active, ran=isinstance(event, Ended))
            active.changed.set()
            active.changed = trio.Event()
        return True

    async def _bury(self, active: Active, *, ran: bool) -> None:
        """Close the log of a job that is over; where no process told of its end, say why it ended."""
        job_id = active.job.id
        with trio.CancelScope(shield=True):
            if not ran:
                await self._logs.note(
                    job_id, DAEMON, f"Job ended: {active.job.life.reason or active.job.life.state}", self._clock()
                )
            await self._logs.end(job_id)
        self._active.pop(job_id, None)
