"""Jobs in SQL: an append-only history of events, and beside it the row that is their fold.

Nobody is told of an event before it is committed here. Everything is written in the same transaction as the
event that causes it, so a crash at any instant leaves either all of it or nothing.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, bindparam, delete, func, insert, select, update
from sqlmodel import Session, col

from jobd.gpuuse import NO_USE, GpuUse, decode_use, encode_use
from jobd.job import Job
from jobd.life.events import Event, decode_event, encode_event
from jobd.life.life import Life, decode_life, encode_life
from jobd.scheduling.shares import Usage
from jobd.spec.model import JobSpec
from jobd.store.drafts import clear_error, forget_draft, keep_draft, kept
from jobd.store.nodes import add_usage
from jobd.store.sharing import add_groups, first_groups, groups_of, is_shared_with
from jobd.store.tables import DraftRow, EventRow, JobName, JobRow, JobSpecRow
from pfs.audit.log import add, record_now
from pfs.audit.record import DONE
from pfs.light import light
from pfs.sql import Database

JOBS_LISTED_MAX = 10_000
LISTED_DAYS = 14
DAY_NS = 86_400 * 1_000_000_000
# how many values one statement names: every database takes that many
NAMED_MAX = 500

# a task of an array: its index, what happened to it so far, and what it is by that
NewTask = tuple[int, Sequence[Event], Life]

_NOT_OVER = col(JobRow.ended_at_ns).is_(None)
_THERE = col(JobRow.removed_at_ns).is_(None)
_SHOWN = (col(JobRow.array_id).is_(None), _THERE)
_OVER = col(JobRow.ended_at_ns).is_not(None)
_LISTED = (
    *(col(JobRow.id), col(JobRow.user), col(JobRow.submitted_at_ns), col(JobRow.changed_at_ns), _OVER),
    col(JobRow.state),
)
# the job whose spec it is, and who it is shared with: for a task, its array
_SPEC_OF = func.coalesce(col(JobRow.array_id), col(JobRow.id))
_FACTS = (
    *(col(JobRow.id), col(JobRow.user), col(JobRow.life), col(JobRow.array_id), col(JobRow.array_index)),
    *(groups_of(_SPEC_OF).label("groups"), col(JobRow.gpu_use)),
)
# made once: to put it together takes longer than to find the job
_ONE = (
    select(*_FACTS, col(JobSpecRow.spec))
    .join(JobSpecRow, col(JobSpecRow.job_id) == _SPEC_OF)
    .where(col(JobRow.id) == bindparam("job_id"), _THERE)
)
_ADD_JOB, _ADD_SPEC, _ADD_EVENT, _ADD_NAME = insert(JobRow), insert(JobSpecRow), insert(EventRow), insert(JobName)
_RECORD = update(JobRow).where(col(JobRow.id) == bindparam("job_id"))
_KEEP_USE = _RECORD.where(_NOT_OVER)
_FORGET_NAME = delete(JobName).where(col(JobName.user) == bindparam("owner"), col(JobName.name) == bindparam("called"))


@light
@dataclass(frozen=True, slots=True)
class Listed:
    """A job as a listing shows it; times in nanoseconds since the epoch."""

    id: int
    user: str
    submitted_at_ns: int
    changed_at_ns: int
    over: bool
    state: str


@dataclass(frozen=True, slots=True)
class ListedTask:
    """A task of an array as a listing shows it."""

    index: int
    id: int
    changed_at_ns: int
    over: bool


class Jobs:
    """What is kept of jobs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submit(
        self,
        draft: DraftRow,
        names: Sequence[str],
        *,
        spec: JobSpec,
        events: Sequence[Event],
        life: Life,
        key: str | None,
        tasks: Sequence[NewTask] = (),
    ) -> tuple[list[Job], bool]:
        """Make a job of a text and keep both; return it, then the tasks of its array, and whether they are new.

        The same `key` of the same user again gives the first job.
        """
        user, formerly, values = draft.user, draft.formerly, kept(draft)
        record = record_now("job.submit", "jobs", DONE, name=spec.name, tasks=len(tasks) or None)

        def work(session: Session) -> tuple[list[Job], bool]:
            if key is not None:
                same = (col(JobRow.user) == user, col(JobRow.idempotency_key) == key)
                found = jobs_in(session, *same)
                if found:
                    return [*found, *jobs_in(session, col(JobRow.array_id) == found[0].id)], False
            job_id = _add_job(session, user, spec, life, key)
            _add_events(session, [(job_id, event) for event in events])
            asked = {"job_id": job_id, "text": values["content"], "spec": spec.to_json()}
            session.connection().execute(_ADD_SPEC, asked)
            groups = first_groups(session, user, private=spec.private)
            add_groups(session, job_id, groups)
            made = [Job(job_id, user, spec, life), *_add_tasks(session, job_id, user, spec, tasks)]
            made = [replace(job, groups=groups) for job in made] if groups else made
            for name in names:
                session.connection().execute(_FORGET_NAME, {"owner": user, "called": name})
                session.connection().execute(_ADD_NAME, {"user": user, "name": name, "job_id": job_id})
            if formerly:
                forget_draft(session, user, formerly)
            keep_draft(session, values)
            clear_error(session, user, values["name"])
            add(session, replace(record, on=f"jobs/{job_id}"))
            return made, True

        return await self._database.write(work)

    def numbers_now(self, user: str) -> list[int]:
        """Return the numbers of a user's jobs that were not thrown away."""
        query = select(col(JobRow.id)).where(col(JobRow.user) == user, col(JobRow.removed_at_ns).is_(None))
        return self._database.read_now(lambda session: list(session.execute(query).scalars()))

    async def job_of_key(self, user: str, key: str) -> int | None:
        """Return the number of the job that a user submitted with a key, if there is one."""
        query = select(col(JobRow.id)).where(col(JobRow.user) == user, col(JobRow.idempotency_key) == key)
        return await self._database.read(lambda session: session.execute(query).scalar())

    async def record(
        self, job_id: int, events: Sequence[Event], life: Life, usage: Usage | None = None, use: GpuUse = NO_USE
    ) -> None:
        """Append `events`, whose fold is `life`, and add to what its user had by them.

        Args:
            use: what it did with its GPUs, where that is to be kept.
        """

        def work(session: Session) -> None:
            session.connection().execute(_RECORD, {"job_id": job_id} | _standing(life) | _used(use))
            _add_events(session, [(job_id, event) for event in events])
            if usage is not None:
                add_usage(session, usage)

        await self._database.write(work)

    async def keep_gpu_uses(self, uses: Mapping[int, GpuUse]) -> None:
        """Keep what jobs did with their GPUs until now; of one that is over meanwhile that is known better."""
        rows = [{"job_id": job_id} | _used(use) for job_id, use in uses.items()]

        def work(session: Session) -> None:
            session.connection().execute(_KEEP_USE, rows)

        await self._database.write(work)

    async def active(self) -> list[Job]:
        """Return every job that is not over, with the tasks of arrays."""
        return await self._database.read(lambda session: jobs_in(session, _NOT_OVER))

    async def job(self, job_id: int) -> Job | None:
        """Return a job, also one that is over; None for one that was removed."""

        def work(connection: Connection) -> Job | None:
            row = connection.execute(_ONE, {"job_id": job_id}).first()
            if row is None:
                return None
            spec = JobSpec.from_json(row.spec)
            return _job(row, spec if row.array_id is None else task_spec(spec))

        return await self._database.look(work)

    async def jobs(self, job_ids: Collection[int]) -> dict[int, Job]:
        """Return those of the jobs that are there, by number."""

        def work(session: Session) -> dict[int, Job]:
            some = (jobs_in(session, col(JobRow.id).in_(part), _THERE) for part in in_parts(job_ids))
            return {job.id: job for jobs in some for job in jobs}

        return await self._database.read(work)

    async def tasks(self, array_id: int) -> dict[int, Job]:
        """Return the tasks of an array, by index."""
        tasks = await self._database.read(lambda session: jobs_in(session, col(JobRow.array_id) == array_id))
        return {task.array_index: task for task in tasks if task.array_index is not None}

    async def task(self, array_id: int, index: int) -> Job | None:
        """Return one task of an array."""
        which = (col(JobRow.array_id) == array_id, col(JobRow.array_index) == index)
        found = await self._database.read(lambda session: jobs_in(session, *which))
        return found[0] if found else None

    async def listed_tasks(self, array_id: int) -> list[ListedTask]:
        """Return the tasks of an array for a listing, by index."""
        query = select(col(JobRow.array_index), col(JobRow.id), col(JobRow.changed_at_ns), _OVER)
        query = query.where(col(JobRow.array_id) == array_id).order_by(col(JobRow.array_index))
        return await self._database.read(lambda session: [ListedTask(*row) for row in _rows(session, query)])

    async def task_states(self, array_id: int) -> Counter[str]:
        """Return how many tasks of an array are in each state."""
        query = select(col(JobRow.state), func.count().label("tasks")).where(col(JobRow.array_id) == array_id)
        query = query.group_by(col(JobRow.state))
        return await self._database.read(
            lambda session: Counter({row.state: row.tasks for row in _rows(session, query)})
        )

    async def listed(self, user: str | None, now_ns: int, groups: Collection[str] = ()) -> list[Listed]:
        """Return the jobs that a directory shows: active ones and those of the last days; of all users for None.

        They are the newest 10,000, newest first; tasks of arrays are shown in theirs.

        Args:
            groups: what is shared with these is shown, too: of each, what is among its newest 10,000.
        """
        whose = () if user is None else (col(JobRow.user) == user,)
        query = select(*_LISTED).where(*whose, *_SHOWN)
        lately = col(JobRow.ended_at_ns) >= now_ns - LISTED_DAYS * DAY_NS
        parts = [
            query.where(_NOT_OVER).order_by(col(JobRow.id).desc()),
            query.where(lately).order_by(col(JobRow.ended_at_ns).desc()),
        ]
        shared = select(*_LISTED).where(*_SHOWN, _NOT_OVER | lately).order_by(col(JobRow.id).desc())
        parts += [shared.where(is_shared_with(group, JOBS_LISTED_MAX)) for group in sorted(groups)]

        def work(session: Session) -> list[Listed]:
            rows = [row for part in parts for row in _rows(session, part.limit(JOBS_LISTED_MAX))]
            found = {row.id: Listed(*row) for row in rows[:JOBS_LISTED_MAX]}
            return sorted(found.values(), key=lambda job: -job.id)

        return await self._database.read(work)

    async def nodes_of(self, job_ids: Collection[int]) -> dict[int, list[str]]:
        """Return the nodes that each of these jobs has or had its processes on, by their ids; [] for one without."""
        query = select(col(JobRow.id), col(JobRow.life)["processes"].label("processes"))

        def work(session: Session) -> dict[int, list[str]]:
            parts = (query.where(col(JobRow.id).in_(part)) for part in in_parts(job_ids))
            rows = [row for part in parts for row in _rows(session, part)]
            return {row.id: [process["node"] for process in row.processes if process["node"]] for row in rows}

        return await self._database.read(work)

    async def newest_ended(self, count: int) -> list[Job]:
        """Return the jobs that ended last, of all users, newest first."""
        query = select(col(JobRow.id)).where(*_SHOWN, ~_NOT_OVER).order_by(col(JobRow.ended_at_ns).desc()).limit(count)

        def work(session: Session) -> list[Job]:
            ids = [row.id for row in _rows(session, query)]
            found = jobs_in(session, col(JobRow.id).in_(ids)) if ids else []
            return sorted(found, key=lambda job: ids.index(job.id))

        return await self._database.read(work)

    async def spec_text(self, job_id: int) -> bytes:
        """Return exactly what was written."""
        query = (
            select(col(JobSpecRow.text))
            .join(JobRow, col(JobSpecRow.job_id) == _SPEC_OF)
            .where(col(JobRow.id) == job_id)
        )
        return await self._database.read(lambda s: bytes(s.connection().execute(query).scalar_one()))

    async def history(self, job_id: int) -> list[Event]:
        """Return what happened to a job, in order."""
        query = select(col(EventRow.event)).where(col(EventRow.job_id) == job_id).order_by(col(EventRow.id))
        return await self._database.read(lambda s: [decode_event(row.event) for row in _rows(s, query)])

    async def names(self, user: str, job_ids: Collection[int]) -> dict[str, int]:
        """Return the names of a user's newest jobs, of those in `job_ids`."""
        query = select(col(JobName.name), col(JobName.job_id)).where(col(JobName.user) == user)

        def work(session: Session) -> dict[str, int]:
            parts = (query.where(col(JobName.job_id).in_(part)) for part in in_parts(job_ids))
            return {row.name: row.job_id for part in parts for row in _rows(session, part)}

        return await self._database.read(work)

    async def over_before(self, job_ids: Collection[int], time_ns: int) -> list[int]:
        """Return those of the jobs that ended before `time_ns`, removed ones too."""
        query = select(col(JobRow.id)).where(col(JobRow.ended_at_ns) < time_ns)

        def work(session: Session) -> list[int]:
            parts = (query.where(col(JobRow.id).in_(part)) for part in in_parts(job_ids))
            return [row.id for part in parts for row in _rows(session, part)]

        return await self._database.read(work)


def in_parts(job_ids: Collection[int]) -> Iterator[list[int]]:
    """Return numbers in parts that one statement may name."""
    ids = list(job_ids)
    return (ids[start : start + NAMED_MAX] for start in range(0, len(ids), NAMED_MAX))


def task_spec(spec: JobSpec) -> JobSpec:
    """Return what a task of the array `spec` asks for."""
    return replace(spec, array=None, depends_on=())


def _standing(life: Life) -> dict[str, Any]:
    return {
        "state": life.state.value,
        "life": encode_life(life),
        "changed_at_ns": life.changed_at_ns,
        "ended_at_ns": life.ended_at_ns,
    }


def _used(use: GpuUse) -> dict[str, Any]:
    return {} if use == NO_USE else {"gpu_use": encode_use(use)}


def _add_job(session: Session, user: str, spec: JobSpec, life: Life, key: str | None) -> int:
    row = _new_row(user, spec, life) | {"idempotency_key": key}
    made = session.connection().execute(_ADD_JOB, row).inserted_primary_key
    assert made is not None
    return int(made[0])


def _new_row(user: str, spec: JobSpec, life: Life) -> dict[str, Any]:
    row = {"user": user, "name": spec.name, "title": spec.title, "submitted_at_ns": life.submitted_at_ns}
    return row | _standing(life)


def _add_tasks(session: Session, array_id: int, user: str, spec: JobSpec, tasks: Sequence[NewTask]) -> list[Job]:
    if not tasks:
        return []
    own = task_spec(spec)
    begun = {life: _new_row(user, own, life) for life in {life for *_, life in tasks}}  # most begin alike
    rows = [begun[life] | {"array_id": array_id, "array_index": index} for index, _, life in tasks]
    session.connection().execute(_ADD_JOB, rows)
    query = select(col(JobRow.array_index), col(JobRow.id)).where(col(JobRow.array_id) == array_id)
    numbers = {row.array_index: row.id for row in _rows(session, query)}
    _add_events(session, [(numbers[index], event) for index, events, _ in tasks for event in events])
    return [Job(numbers[index], user, own, life, array_id, index) for index, _, life in tasks]


def _add_events(session: Session, events: Iterable[tuple[int, Event]]) -> None:
    told = list(events)
    encoded = {event: encode_event(event) for event in {event for _, event in told}}
    rows = [{"job_id": job_id, "time_ns": event.time_ns, "event": encoded[event]} for job_id, event in told]
    session.connection().execute(_ADD_EVENT, rows)


def jobs_in(session: Session, *which: ColumnElement[bool]) -> list[Job]:
    """Return jobs by number; a spec that many share is read once."""
    rows = _rows(session, select(*_FACTS).where(*which).order_by(col(JobRow.id)))
    asked = select(col(JobSpecRow.job_id), col(JobSpecRow.spec))
    if len(rows) == 1:
        asked = asked.where(col(JobSpecRow.job_id) == (rows[0].array_id or rows[0].id))
    else:
        asked = asked.where(col(JobSpecRow.job_id).in_(select(_SPEC_OF).where(*which)))
    specs = {row.job_id: JobSpec.from_json(row.spec) for row in _rows(session, asked)} if rows else {}
    shared = {row.array_id: task_spec(specs[row.array_id]) for row in rows if row.array_id is not None}
    return [_job(row, specs[row.id] if row.array_id is None else shared[row.array_id]) for row in rows]


def _rows(session: Session, query: Select[*tuple[Any, ...]]) -> Sequence[Row[*tuple[Any, ...]]]:
    return session.connection().execute(query).all()


def _job(row: Row[*tuple[Any, ...]], spec: JobSpec) -> Job:
    groups = frozenset((row.groups or "").split())
    return Job(
        row.id, row.user, spec, decode_life(row.life), row.array_id, row.array_index, groups, decode_use(row.gpu_use)
    )
