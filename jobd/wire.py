"""What server and node say to each other over their channel.

The node asks (it connected out):

    node.hello    {name, attrs, runtimes, boot_id, tasks}  → `Welcome`
    node.beat     {}                                       → {}
    task.running  {task, time_ns}                          → {}
    task.output   {task, offset, pieces}   body: the bytes → {offset}     what the server has by now
    task.ended    {task, code, reason, time_ns, offset}    → {}           the node may forget the task

The server asks:

    task.start    {assignment}                             → {}
    task.stop     {task, grace_s}                          → {}
    task.signal   {task, signal}                           → {}
    task.forget   {task}                                   → {}

`task.output` appends only when `offset` is what the server has; the answer always tells the server's offset, so
the node goes on from there. In the answer to `node.hello`, `tasks` says for each task that the node named what the
server has of its output and what it wants of it; tasks that the server wants and the node did not name follow as
`task.start`.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from pfs.errors import Kind, PfsError

Json = dict[str, Any]

# the reason of a task that the kernel ended for want of memory
OUT_OF_MEMORY = "killed: out of memory"


class Wanted(StrEnum):
    """What the server wants of a task that a node has."""

    RUN = "run"
    STOP = "stop"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class TaskVolume:
    """A directory under the data root (`"home/ann"`, `"jobs/17/data/src"`) as the task shall see it."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task for one node; the fields are those of `jobd.node.runtime.Launch`.

    Attributes:
        task_id: `"<job>.<attempt>.<group>.<process>"`.
        uid, gid: whose the processes are; None where the server serves one person.
        grace_s: seconds between TERM and KILL.
    """

    task_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str
    hostname: str
    image: str | None = None
    uid: int | None = None
    gid: int | None = None
    volumes: tuple[TaskVolume, ...] = field(default_factory=tuple)
    cpus: float | None = None
    memory_bytes: int | None = None
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class TaskStanding:
    """What the server knows and wants of one task of a node that says hello."""

    wanted: Wanted
    offset: int = 0
    grace_s: float = 30.0


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to `node.hello`.

    Attributes:
        data_root_id: what the file `.pfs-id` at the top of the server's data root holds; a node that was
            given `--data-root` compares it, so that it never binds somebody else's tree.
    """

    node_id: str
    cluster: str
    cluster_id: str
    datacenter: str
    data_root_id: str
    tasks: Mapping[str, TaskStanding]


def task_id(job_id: int, attempt: int, group: int, process: int) -> str:
    """Return the id that names one process of one attempt of a job."""
    return f"{job_id}.{attempt}.{group}.{process}"


def parse_task_id(text: str) -> tuple[int, int, int, int]:
    """Return (job, attempt, group, process).

    Raises:
        PfsError: INVALID when the text is no task id.
    """
    parts = text.split(".")
    if len(parts) != 4 or not all(part.isascii() and part.isdigit() for part in parts):
        raise PfsError(Kind.INVALID, f"{text!r} is no task")
    job_id, attempt, group, process = (int(part) for part in parts)
    return job_id, attempt, group, process


def encode_assignment(assignment: Assignment) -> Json:
    """Return the assignment in JSON."""
    return asdict(assignment)


def decode_assignment(value: Any) -> Assignment:
    """Return the assignment in JSON.

    Raises:
        PfsError: INVALID when it is none.
    """
    try:
        fields = dict(value)
        fields["argv"] = tuple(str(word) for word in fields["argv"])
        fields["env"] = {str(name): str(text) for name, text in fields["env"].items()}
        fields["volumes"] = tuple(TaskVolume(**volume) for volume in fields["volumes"])
        parse_task_id(str(fields["task_id"]))
        return Assignment(**fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper assignment: {error}") from None


def encode_welcome(welcome: Welcome) -> Json:
    """Return the answer to a hello in JSON."""
    return asdict(welcome)


def decode_welcome(value: Any) -> Welcome:
    """Return the answer to a hello in JSON.

    Raises:
        PfsError: INVALID when it is none.
    """
    try:
        fields = dict(value)
        fields["tasks"] = {
            str(task): TaskStanding(Wanted(s["wanted"]), int(s["offset"]), float(s["grace_s"]))
            for task, s in fields["tasks"].items()
        }
        return Welcome(**fields)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper welcome: {error}") from None
