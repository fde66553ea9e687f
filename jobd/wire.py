"""What server and node say to each other over their channel.

The node asks (it connected out):

    node.hello    {name, attrs, runtimes, gpus, boot_id, tasks}  → `Welcome`
    node.beat     {}                                       → {}
    task.running  {task, time_ns}                          → {}
    task.output   {task, offset, pieces}   body: the bytes → {offset}     what the server has by now
    task.ended    {task, code, reason, time_ns, offset}    → {}           the node may forget the task

The server asks:

    task.start    {assignment}                             → {}
    task.stop     {task, grace_s}                          → {}
    task.signal   {task, signal}                           → {}
    task.forget   {task}                                   → {}
    network.make  {network}                                → {}           for a gang on several machines: a manager's
    network.drop  {network}                                → {}           gone already is no error

In `attrs` a node tells of itself, besides what its users select by, `address` (its own, as fellows of a gang on other
machines reach it), `swarm` (the same text on all nodes whose engines form a swarm, else ""), `swarmManager`, and what
it offers to jobs: `offerCpus`, `offerMemory` (bytes), `maxProcesses`.

`task.output` appends only when `offset` is what the server has; the answer always tells the server's offset, so
the node goes on from there. In the answer to `node.hello`, `tasks` says for each task that the node named what the
server has of its output and what it wants of it; tasks that the server wants and the node did not name follow as
`task.start`. A task's `reason` is "" or a sentence for its owner: "killed by SIGSEGV", "killed: out of memory".
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from ipaddress import ip_address
from typing import Any

from pfs.errors import Kind, PfsError

Json = dict[str, Any]

# the reason of a task that the kernel ended for want of memory
OUT_OF_MEMORY = "killed: out of memory"

# the reason of a task that a node ended itself, since the server starts it elsewhere (`Assignment.watchdog_s`)
CUT_OFF = "stopped: the node had no contact with the server"

DOCKER, SANDBOX = "docker", "sandbox"

# names end up in files of /etc and in questions to an engine
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,62}")


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
class NodeGpu:
    """A GPU as a node tells of it.

    Attributes:
        uuid: `GPU-…`, the same after every restart.
        index: its place on the machine, in the order of the PCI bus.
        model: as its driver calls it.
    """

    uuid: str
    index: int
    model: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task for one node; the fields are those of `jobd.node.runtime.Launch`.

    Attributes:
        task_id: `"<job>.<attempt>.<group>.<process>"`.
        uid, gid: whose the processes are; None where the server serves one person.
        grace_s: seconds between TERM and KILL.
        runtime: what shall run it, `DOCKER` or `SANDBOX`.
        gpus: UUIDs of the GPUs that are its own.
        hosts: name and address of every process of a gang, this one too; the address is "" where the gang's
            network tells it.
        network: of the gang, for containers; None where the process has no fellows.
        overlay: the network spans machines and was made by `network.make`; else the node makes it.
        shm_bytes: size of /dev/shm; None is the runtime's own.
        watchdog_s: the node ends the task when it had no contact with the server for so long, since the server then
            starts the job elsewhere; None lets it go on.
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
    runtime: str = SANDBOX
    gpus: tuple[str, ...] = ()
    hosts: tuple[tuple[str, str], ...] = ()
    network: str | None = None
    overlay: bool = False
    shm_bytes: int | None = None
    watchdog_s: float | None = None


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
        fields["gpus"] = tuple(str(uuid) for uuid in fields.get("gpus", ()))
        fields["hosts"] = tuple((str(name), str(address)) for name, address in fields.get("hosts", ()))
        assignment = Assignment(**fields)
        parse_task_id(str(assignment.task_id))
        _check_words(assignment)
        return assignment
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper assignment: {error}") from None


def _check_words(assignment: Assignment) -> None:
    """Raise ValueError for a runtime, network, host or address that cannot be one."""
    if assignment.runtime not in (DOCKER, SANDBOX):
        raise ValueError(f"{assignment.runtime!r} is no runtime")
    if assignment.runtime == DOCKER and assignment.image is None:
        raise ValueError("a container needs an image")
    if assignment.network is not None:
        check_network(assignment.network)
    for name, address in assignment.hosts:
        if not _HOST.fullmatch(name):
            raise ValueError(f"{name!r} is no host name")
        if address:
            ip_address(address)


def check_network(name: str) -> str:
    """Return the name of a gang's network.

    Raises:
        ValueError: it cannot be one.
    """
    if not _NETWORK.fullmatch(name):
        raise ValueError(f"{name!r} cannot be the name of a network")
    return name


def encode_gpus(gpus: Sequence[NodeGpu]) -> list[Json]:
    """Return GPUs as `node.hello` tells them."""
    return [asdict(gpu) for gpu in gpus]


def decode_gpus(value: Any) -> tuple[NodeGpu, ...]:
    """Return the GPUs that a node told of.

    Raises:
        PfsError: INVALID when they are none.
    """
    try:
        return tuple(
            NodeGpu(str(gpu["uuid"]), int(gpu["index"]), str(gpu["model"]), int(gpu["memory_bytes"])) for gpu in value
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper GPUs: {error}") from None


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
