"""The tables of the job service.

    job ──< jobevent          what happened, in order          draft      texts that people put into jobs/
     │ └─── jobspec           what was asked for; never        droperror  why the last one was refused
     │                        written again                    cluster ──< node
     └──< job                 the tasks of an array                       machines that ever registered
    jobname                   <name> → newest job of a user    setting    what `jobd init` decided
    jobgroup                  whom jobs are shared with
    reservation  alias        what administrators decided      usage      what users had, for their fair share
    network                   what was made between machines    closure    machines that take no new work
    secret                    what users keep for their jobs, sealed
    jobquota                  what users' and groups' jobs may have at once

What is read of many jobs stands in the narrow row, so that no text of a spec is read, or written again, with it. The
indices hold only rows that somebody looks for: what is not over, what a directory lists, the tasks of an array.
"""

from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import JSON, Column, Index, LargeBinary, UniqueConstraint
from sqlalchemy import text as sql
from sqlmodel import BigInteger, Field, SQLModel


def _partial(name: str, *columns: str, where: str, unique: bool = False) -> Index:
    """Return an index of the rows for which `where` holds.

    What PostgreSQL is to be told of it stands in the migrations alone: with it here, every start would load all that
    SQLAlchemy knows of that database.
    """
    return Index(name, *columns, unique=unique, sqlite_where=sql(where))


NOT_OVER = "ended_at_ns IS NULL"
SHOWN = "array_id IS NULL AND removed_at_ns IS NULL"


class JobRow(SQLModel, table=True):
    """One job, and where it stands: the fold of its events.

    Attributes:
        array_id, array_index: whose task it is, for a task of an array.
        gpu_use: what it did with its GPUs (`jobd.gpuuse`); None where nothing was told of that.
        removed_at_ns: when its owner threw it away; its number is nobody's then.
    """

    __tablename__ = "job"
    __table_args__ = (
        UniqueConstraint("user", "idempotency_key"),
        _partial("ix_job_not_over", "id", where=NOT_OVER),
        _partial("ix_job_shown", "ended_at_ns", where=SHOWN),
        _partial("ix_job_shown_of_user", "user", "ended_at_ns", where=SHOWN),
        _partial("ix_job_task", "array_id", "array_index", where="array_id IS NOT NULL", unique=True),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    user: str = Field(foreign_key="user.name")
    name: str
    title: str
    state: str
    life: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    array_id: int | None = Field(default=None, foreign_key="job.id")
    array_index: int | None = None
    idempotency_key: str | None = None
    submitted_at_ns: int = Field(sa_type=BigInteger)
    changed_at_ns: int = Field(sa_type=BigInteger)
    ended_at_ns: int | None = Field(default=None, sa_type=BigInteger)
    removed_at_ns: int | None = Field(default=None, sa_type=BigInteger)
    gpu_use: dict[str, Any] | None = Field(default=None, sa_column=Column(JSON))


class JobSpecRow(SQLModel, table=True):
    """What was asked for: exactly what was written, and what it means. Tasks of an array share that of the array."""

    __tablename__ = "jobspec"

    job_id: int = Field(foreign_key="job.id", primary_key=True)
    text: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    spec: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))


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
    job_id: int = Field(foreign_key="job.id", index=True)


class JobGroup(SQLModel, table=True):
    """A group that a job is shared with, for an array with all its tasks."""

    __tablename__ = "jobgroup"
    __table_args__ = (Index("ix_jobgroup_of_group", "group", "job_id"),)

    job_id: int = Field(foreign_key="job.id", primary_key=True)
    group: str = Field(primary_key=True)


@dataclass(slots=True, kw_only=True)
class DraftRow:
    """A text in `jobs/`: a spec that was or will be submitted, or scratch of some program.

    It is made and written to with every submission, which costs many times as much with an object of its table.

    Attributes:
        mtime_ns: as its writer says, who may copy it with the time of an old file.
        kept_at_ns: when it was last written here.
        formerly: the name that it has no more once it is submitted, since that is how it got this one.
    """

    user: str
    name: str
    content: bytes
    link: bool = False
    submitted: bool = False
    born_ns: int
    mtime_ns: int
    kept_at_ns: int = 0
    formerly: str = field(default="", compare=False)


class DraftTable(SQLModel, table=True):
    """Where a `DraftRow` is kept."""

    __tablename__ = "draft"
    __table_args__ = (
        UniqueConstraint("user", "name"),
        Index("ix_draft_kept", "user", "kept_at_ns"),
        _partial("ix_draft_scratch", "kept_at_ns", where="submitted = 0"),
    )

    id: int | None = Field(default=None, primary_key=True)
    user: str = Field(foreign_key="user.name")
    name: str
    content: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    link: bool = False
    submitted: bool = False
    born_ns: int = Field(sa_type=BigInteger)
    mtime_ns: int = Field(sa_type=BigInteger)
    kept_at_ns: int = Field(default=0, sa_type=BigInteger)


class DropError(SQLModel, table=True):
    """Why the last drop under a name was refused."""

    __tablename__ = "droperror"

    user: str = Field(foreign_key="user.name", primary_key=True)
    name: str = Field(primary_key=True)
    text: str
    time_ns: int = Field(sa_type=BigInteger)


class ClusterRow(SQLModel, table=True):
    """A cluster of the datacenter (`owner` is "") or of a user."""

    __tablename__ = "cluster"
    __table_args__ = (UniqueConstraint("owner", "name"),)

    id: str = Field(primary_key=True)
    owner: str
    name: str
    is_default: bool


class NodeRow(SQLModel, table=True):
    """A machine that registered: an instance of a node (`jobd.identity`).

    Attributes:
        entry_id: the id of the node.
        instance: the token by which the machine is known again; "" for one that nobody is any more.
        owner: the user for whom alone it works; "" for one of the datacenter.
        said: what it last said of who it is.
        gpus: of each GPU its uuid, index, model and memory_bytes, as the machine tells them.
    """

    __tablename__ = "node"

    id: str = Field(primary_key=True)
    entry_id: str = Field(index=True)
    name: str
    cluster_id: str = Field(foreign_key="cluster.id")
    owner: str = ""
    instance: str = ""
    said: str = ""
    attrs: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    runtimes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    gpus: list[dict[str, Any]] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    boot_id: str
    registered_at_ns: int = Field(sa_type=BigInteger)
    seen_at_ns: int = Field(sa_type=BigInteger)


class ReservationRow(SQLModel, table=True):
    """A group for which a node, or one GPU of it, is reserved; `gpu` is its UUID, "" for the whole node."""

    __tablename__ = "reservation"

    node_id: str = Field(foreign_key="node.id", primary_key=True)
    gpu: str = Field(default="", primary_key=True)
    group: str = Field(primary_key=True)


class ClosureRow(SQLModel, table=True):
    """A machine that takes no new work, and why; `by` is who drained it, "" where the service set it aside."""

    __tablename__ = "closure"

    node_id: str = Field(foreign_key="node.id", primary_key=True)
    by: str
    why: str
    since_ns: int = Field(sa_type=BigInteger)


class AliasRow(SQLModel, table=True):
    """A short name for a model of GPUs, for requests; a model has one at most."""

    __tablename__ = "alias"

    name: str = Field(primary_key=True)
    model: str = Field(unique=True)


class NetworkRow(SQLModel, table=True):
    """A network between machines that was made for a job, and the swarm that it is in."""

    __tablename__ = "network"

    name: str = Field(primary_key=True)
    swarm: str


class UsageRow(SQLModel, table=True):
    """What a user had, in the units of `jobd.scheduling.shares`, and when it was last added to."""

    __tablename__ = "usage"

    user: str = Field(foreign_key="user.name", primary_key=True)
    value: float
    time_ns: int = Field(sa_type=BigInteger)


class JobQuotaRow(SQLModel, table=True):
    """What the jobs of a user (`ann`) or of a group (`groups/vision`) may have at once; None is no limit."""

    __tablename__ = "jobquota"

    holder: str = Field(primary_key=True)
    running: int | None = None
    waiting: int | None = None
    gpus: int | None = None


class SecretRow(SQLModel, table=True):
    """What a user keeps under a name, sealed (`jobd.store.secrets`)."""

    __tablename__ = "secret"

    user: str = Field(foreign_key="user.name", primary_key=True)
    name: str = Field(primary_key=True)
    sealed: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    changed_at_ns: int = Field(sa_type=BigInteger)


class Setting(SQLModel, table=True):
    """What `jobd init` decided once."""

    name: str = Field(primary_key=True)
    value: str
