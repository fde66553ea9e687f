"""Jobs in SQL: an append-only history of events, and beside it the row that is their fold.

Nobody is told of an event before it is committed here. Everything is written in the same transaction as the
event that causes it, so a crash at any instant leaves either all of it or nothing.

    job ──< jobevent          what happened, in order          draft      texts that people put into jobs/
    jobname                   <name> → newest job of a user    node       machines that ever registered
"""

from typing import Any

from sqlalchemy import JSON, Column, LargeBinary, UniqueConstraint, delete, or_
from sqlmodel import BigInteger, Field, Session, SQLModel, col, select

from jobd.job import Job
from jobd.life.lifecycle import ENDS, Event, Life, decode_event, decode_life, encode_event, encode_life
from jobd.spec.spec import JobSpec
from pfs.sql import Database

JOBS_LISTED_MAX = 10_000
LISTED_DAYS = 14
DAY_NS = 86_400 * 1_000_000_000


class JobRow(SQLModel, table=True):
    """One job: what was asked for, and where it stands."""

    __tablename__ = "job"
    __table_args__ = (UniqueConstraint("user", "idempotency_key"), {"sqlite_autoincrement": True})

    id: int | None = Field(default=None, primary_key=True)
    user: str = Field(foreign_key="user.name", index=True)
    name: str
    title: str
    state: str = Field(index=True)
    spec_text: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    life: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    idempotency_key: str | None = None
    submitted_at_ns: int = Field(sa_type=BigInteger)
    ended_at_ns: int | None = Field(default=None, sa_type=BigInteger, index=True)


class EventRow(SQLModel, table=True):
    """One thing that happened to a job."""

    __tablename__ = "jobevent"

    id: int | None = Field(default=None, primary_key=True)
    job_id: int = Field(foreign_key="job.id", index=True)
    time_ns: int = Field(sa_type=BigInteger)
    event: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


class JobName(SQLModel, table=True):
    """The newest job that a user dropped under a name."""

    user: str = Field(foreign_key="user.name", primary_key=True)
    name: str = Field(primary_key=True)
    job_id: int = Field(foreign_key="job.id")


class DraftRow(SQLModel, table=True):
    """A text in `jobs/`: a spec that was or will be submitted, or scratch of some program."""

    __tablename__ = "draft"
    __table_args__ = (UniqueConstraint("user", "name"),)

    id: int | None = Field(default=None, primary_key=True)
    user: str = Field(foreign_key="user.name")
    name: str
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    link: bool = False
    submitted: bool = False
    born_ns: int = Field(sa_type=BigInteger)
    mtime_ns: int = Field(sa_type=BigInteger, index=True)


class DropError(SQLModel, table=True):
    """Why the last drop under a name was refused."""

    __tablename__ = "droperror"

    user: str = Field(foreign_key="user.name", primary_key=True)
    name: str = Field(primary_key=True)
    text: str
    time_ns: int = Field(sa_type=BigInteger)


class NodeRow(SQLModel, table=True):
    """A machine that registered."""

    __tablename__ = "node"

    id: str = Field(primary_key=True)
    name: str = Field(unique=True)
    attrs: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    runtimes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    boot_id: str
    registered_at_ns: int = Field(sa_type=BigInteger)
    seen_at_ns: int = Field(sa_type=BigInteger)


class Setting(SQLModel, table=True):
    """What `jobd init` decided once."""

    name: str = Field(primary_key=True)
    value: str


class JobStore:
    """Everything the job service keeps in SQL, in its own words."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def submit(
        self, draft: DraftRow, names: list[str], *, spec: JobSpec, events: list[Event], life: Life, key: str | None
    ) -> tuple[Job, bool]:
        """Make a job of a text and keep both; tells whether it is new.

        The same `key` of the same user again gives the first job.
        """

        user, text = draft.user, draft.content

        def work(session: Session) -> tuple[Job, bool]:
            if key is not None:
                same = select(JobRow).where(JobRow.user == user, JobRow.idempotency_key == key)
                found = session.exec(same).first()
                if found is not None:
                    return _job(found), False
            row = JobRow(
                user=user,
                name=spec.name,
                title=spec.title,
                state=life.state.value,
                spec_text=text,
                spec=spec.to_json(),
                life=encode_life(life),
                idempotency_key=key,
                submitted_at_ns=life.submitted_at_ns,
            )
            session.add(row)
            session.flush()
            assert row.id is not None
            _add_events(session, row.id, events)
            for name in names:
                session.merge(JobName(user=user, name=name, job_id=row.id))
            _keep_draft(session, draft)
            _clear_error(session, user, draft.name)
            return _job(row), True

        return await self._database.write(work)

    async def record(self, job_id: int, events: list[Event], life: Life) -> None:
        """Append `events`, whose fold is `life`."""

        def work(session: Session) -> None:
            row = session.get_one(JobRow, job_id)
            row.state = life.state.value
            row.life = encode_life(life)
            row.ended_at_ns = life.ended_at_ns
            session.add(row)
            _add_events(session, job_id, events)

        await self._database.write(work)

    async def active(self) -> list[Job]:
        """Return every job that is not over."""
        over = [state.value for state in ENDS]
        query = select(JobRow).where(col(JobRow.state).not_in(over)).order_by(col(JobRow.id))
        return await self._database.read(lambda s: [_job(row) for row in s.exec(query)])

    async def job(self, job_id: int) -> Job | None:
        """Return a job, also one that is over."""

        def work(session: Session) -> Job | None:
            row = session.get(JobRow, job_id)
            return None if row is None else _job(row)

        return await self._database.read(work)

    async def listed(self, user: str | None, now_ns: int) -> list[Job]:
        """Return the jobs that a directory shows: active ones and those of the last days; of all users for None."""
        since = now_ns - LISTED_DAYS * DAY_NS
        query = select(JobRow).where(or_(col(JobRow.ended_at_ns).is_(None), col(JobRow.ended_at_ns) >= since))
        if user is not None:
            query = query.where(JobRow.user == user)
        query = query.order_by(col(JobRow.id).desc()).limit(JOBS_LISTED_MAX)
        return await self._database.read(lambda s: [_job(row) for row in s.exec(query)])

    async def spec_text(self, job_id: int) -> bytes:
        """Return exactly what was written."""
        return await self._database.read(lambda s: s.get_one(JobRow, job_id).spec_text)

    async def history(self, job_id: int) -> list[Event]:
        """Return what happened to a job, in order."""
        query = select(EventRow).where(EventRow.job_id == job_id).order_by(col(EventRow.id))
        return await self._database.read(lambda s: [decode_event(row.event) for row in s.exec(query)])

    async def names(self, user: str) -> dict[str, int]:
        """Return the names of a user's newest jobs."""
        query = select(JobName).where(JobName.user == user)
        return await self._database.read(lambda s: {row.name: row.job_id for row in s.exec(query)})

    async def named(self, user: str, name: str) -> int | None:
        """Return the newest job of that name."""

        def work(session: Session) -> int | None:
            row = session.get(JobName, (user, name))
            return None if row is None else row.job_id

        return await self._database.read(work)

    # ---- drafts

    async def drafts(self, user: str) -> list[DraftRow]:
        """Return a user's texts."""
        query = select(DraftRow).where(DraftRow.user == user)
        return await self._database.read(lambda s: list(s.exec(query)))

    async def draft(self, user: str, name: str) -> DraftRow | None:
        """Return the text of that name."""
        return await self._database.read(lambda s: _draft(s, user, name))

    async def save_draft(self, draft: DraftRow) -> DraftRow:
        """Keep a text; whatever else stood under its name is gone."""
        return await self._database.write(lambda session: _keep_draft(session, draft))

    async def rename_draft(self, draft: DraftRow, name: str) -> None:
        """Give a text another name; what stood there is gone."""

        def work(session: Session) -> None:
            there = _draft(session, draft.user, name)
            if there is not None:
                session.delete(there)
                session.flush()
            row = session.get_one(DraftRow, draft.id)
            row.name = name
            session.add(row)

        await self._database.write(work)

    async def delete_draft(self, user: str, name: str) -> None:
        """Forget a text."""

        def work(session: Session) -> None:
            row = _draft(session, user, name)
            if row is not None:
                session.delete(row)
            _clear_error(session, user, name)

        await self._database.write(work)

    async def sweep_drafts(self, before_ns: int) -> None:
        """Forget scratch and errors that nobody touched since `before_ns`."""

        def work(session: Session) -> None:
            session.exec(delete(DraftRow).where(col(DraftRow.submitted).is_(False), col(DraftRow.mtime_ns) < before_ns))
            session.exec(delete(DropError).where(col(DropError.time_ns) < before_ns))

        await self._database.write(work)

    async def errors(self, user: str) -> dict[str, DropError]:
        """Return why drops of a user were refused, by name."""
        query = select(DropError).where(DropError.user == user)
        return await self._database.read(lambda s: {row.name: row for row in s.exec(query)})

    async def error(self, user: str, name: str) -> DropError | None:
        """Return why the last drop under a name was refused."""
        return await self._database.read(lambda s: s.get(DropError, (user, name)))

    async def set_error(self, user: str, name: str, text: str, time_ns: int) -> None:
        """Say why a drop was refused."""

        def work(session: Session) -> None:
            session.merge(DropError(user=user, name=name, text=text, time_ns=time_ns))

        await self._database.write(work)

    async def clear_error(self, user: str, name: str) -> None:
        """Forget why a drop was refused."""
        await self._database.write(lambda session: _clear_error(session, user, name))

    # ---- nodes

    async def nodes(self) -> list[NodeRow]:
        """Return every machine that ever registered."""
        return await self._database.read(lambda s: list(s.exec(select(NodeRow))))

    async def save_node(self, node: NodeRow) -> None:
        """Keep what a machine told of itself."""

        def work(session: Session) -> None:
            session.merge(node)

        await self._database.write(work)

    # ---- settings

    def setting_now(self, name: str) -> str | None:
        """Return a setting of `jobd init`."""

        def work(session: Session) -> str | None:
            row = session.get(Setting, name)
            return None if row is None else row.value

        return self._database.read_now(work)

    def set_now(self, name: str, value: str) -> None:
        """Keep a setting."""

        def work(session: Session) -> None:
            session.merge(Setting(name=name, value=value))

        self._database.write_now(work)


def _add_events(session: Session, job_id: int, events: list[Event]) -> None:
    for event in events:
        session.add(EventRow(job_id=job_id, time_ns=event.time_ns, event=encode_event(event)))


def _keep_draft(session: Session, draft: DraftRow) -> DraftRow:
    there = _draft(session, draft.user, draft.name)
    if there is not None:
        draft.id = there.id
    kept = session.merge(draft)
    session.flush()
    return kept


def _clear_error(session: Session, user: str, name: str) -> None:
    row = session.get(DropError, (user, name))
    if row is not None:
        session.delete(row)


def _draft(session: Session, user: str, name: str) -> DraftRow | None:
    return session.exec(select(DraftRow).where(DraftRow.user == user, DraftRow.name == name)).first()


def _job(row: JobRow) -> Job:
    assert row.id is not None
    return Job(row.id, row.user, JobSpec.from_json(row.spec), decode_life(row.life))
