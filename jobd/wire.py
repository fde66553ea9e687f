"""What server and node say to each other over their channel.

The node asks (it connected out):

    node.hello    {claim, attrs, runtimes, troubles, gpus, boot_id, tasks}  → `Welcome`
    node.logs     {token}                                  → {}           on a second connection, for output alone
    node.beat     {troubles}                               → {}           why a runtime takes no tasks now, by its name
    node.bye      {}                                       → {}           its daemon is about to end, in order
    node.gpus     {gpus, readings}                         → {}           when they changed, some seconds apart
    task.news     {task, text, time_ns}                    → {}           what its start waits for: how a pull goes
    task.image    {task, image}                            → {image}      the one it found, and the one it shall start
    task.running  {task, time_ns, image}                   → {}           `image`: by its digest; "" in a sandbox
    task.output   {task, offset, pieces}   body: the bytes → {offset}     what the server has by now
    task.ended    {task, code, reason, time_ns, offset}    → {}           the node may forget the task

The server asks:

    task.start    {assignment}                             → {}
    task.stop     {task, grace_s}                          → {}
    task.go       {task}                                   → {}           its program may begin, which was held back
    task.signal   {task, signal}                           → {}
    task.forget   {task}                                   → {}
    network.make  {network}                                → {}           for a gang on several machines: a manager's
    network.drop  {network}                                → {}           gone already is no error

What is said where somebody is let into a running process (`attach.…`, both ways) stands in `jobd.attach`.

In `attrs` a node tells of itself, besides what its users select by, `address` (its own, as fellows of a gang on other
machines reach it), `swarm` (the same text on all nodes whose engines form a swarm, else ""), `swarmManager`, and what
it offers to jobs: `offerCpus`, `offerMemory` (bytes), `maxProcesses`; where its policy gives one process less than
that, `mostCpus`, `mostMemory` and `mostShm`; and where its policy forbids some, `allowedImages` and `allowedRegistries`
(patterns with blanks between them, `jobd.imagerules`), and `allowsSandbox` (false). `mounts` is true where it has no
way to the data root: it mounts the tree for each job, with the `key` of the assignment.

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

from jobd.identity import Claim
from jobd.imagelists import Side
from pfs.errors import Kind, PfsError
from pfs.names import FIRST_GID
from pfs.path import check_name
from pfs.plain import fields_of, files_of, texts_of

Json = dict[str, Any]

# the reason of a task that the kernel ended for want of memory
OUT_OF_MEMORY = "killed: out of memory"

# the reason of a task that a node ended itself, since the server starts it elsewhere (`Assignment.watchdog_s`)
CUT_OFF = "stopped: the node had no contact with the server"

DOCKER, SANDBOX = "docker", "sandbox"

# where programs in an image find their home (the job's `src`), what is kept of them (`out`), and their owner's files
HOME, ARTIFACTS, STORAGE = "/paperspace", "/artifacts", "/storage"

# where the secrets of a process are
SECRETS = "/run/secrets"

# names end up in files of /etc and in questions to an engine
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")
_NETWORK = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{1,62}")


class Wanted(StrEnum):
    """What the server wants of a task that a node has; to one that is to stop it says `task.stop`, as ever."""

    RUN = "run"
    FORGET = "forget"


@dataclass(frozen=True, slots=True)
class TaskVolume:
    """A directory under the data root (`"home/ann"`, `"jobs/17/data/src"`) as the task shall see it."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class NodeGpu:
    """A GPU as a node tells of it; an instance of one that is divided (MIG) counts as a GPU.

    Attributes:
        uuid: `GPU-…` or `MIG-…`, the same after every restart.
        index: its place on the machine, in the order of the PCI bus.
        model: as its driver calls it.
        instance: its number among those of the GPU that is divided; None for a whole GPU.
        parent: the UUID of that GPU.
        ill: why it may not be given to anybody: "it is lost"; "" while it is well.
    """

    uuid: str
    index: int
    model: str
    memory_bytes: int
    instance: int | None = None
    parent: str = ""
    ill: str = ""


@dataclass(frozen=True, slots=True)
class GpuReading:
    """What a GPU does at some moment; None for what it does not tell.

    Attributes:
        util_percent: for how much of the time it computes.
        processes: those that use it, by their numbers on the machine, with the memory of the GPU that they have.
    """

    util_percent: int | None = None
    temperature_c: int | None = None
    used_bytes: int | None = None
    processes: Mapping[int, int | None] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Credential:
    """Who somebody is to a registry of images.

    Attributes:
        server: the registry, by the name that images know it under (`jobd.imagename`).
    """

    server: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Assignment:
    """One task for one node; the fields are those of `jobd.node.runtime.Launch`.

    Attributes:
        task_id: `"<job>.<attempt>.<group>.<process>"`.
        uid, gid: whose the processes are; None where the server serves one person.
        gids: of the owner's groups, beside it.
        grace_s: seconds between TERM and KILL.
        runtime: what shall run it, `DOCKER` or `SANDBOX`.
        gpus: UUIDs of the GPUs that are its own.
        hosts: name and address of every process of a gang, this one too; "" where its network tells the address.
        network: of the gang, for containers; None where the process has no fellows.
        overlay: the network spans machines and was made by `network.make`; else the node makes it.
        shm_bytes: size of /dev/shm; None is the runtime's own.
        watchdog_s: the node ends the task when it had no contact with the server for so long, since the server then
            starts the job elsewhere; None lets it go on.
        key: of the job, for a node that mounts the tree for it; None for one that has the data root.
        credential: for the registry of the image; None where the spec names none for it.
        secrets: what its owner keeps and its spec names: files in `SECRETS`.
        files: what it has at the top of its file system, to read only, by name.
        extended: variables of `env` that are lists, and where they stand beside what the image says of them.
        held: its program begins when the server says so (`task.go`), though the task runs; it needs a shell.
        pinned: the image by its digest, as an earlier process of the job had it: this one shall have the same.
        shares_image: fellows that start with it shall have the same image, too: the node asks which (`task.image`).
    """

    task_id: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    workdir: str
    hostname: str
    image: str | None = None
    uid: int | None = None
    gid: int | None = None
    gids: tuple[int, ...] = ()
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
    key: str | None = None
    credential: Credential | None = None
    pinned: str | None = None
    shares_image: bool = False
    held: bool = False
    extended: Mapping[str, Side] = field(default_factory=dict)
    files: Mapping[str, bytes] = field(default_factory=dict)
    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class TaskStanding:
    """What the server knows and wants of one task of a node that says hello."""

    wanted: Wanted
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Welcome:
    """The answer to `node.hello`.

    Attributes:
        data_root_id: what the file `.pfs-id` at the top of the server's data root holds; a node that was
            given `--data-root` compares it, so that it never binds somebody else's tree.
    """

    node_id: str
    name: str
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
    files = {name: texts_of(getattr(assignment, name)) for name in ("secrets", "files")}
    return {**fields_of(assignment), "env": dict(assignment.env), **files}


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
        fields["extended"] = {str(name): Side(side) for name, side in fields.get("extended", {}).items()}
        fields["gids"] = tuple(int(gid) for gid in fields.get("gids", ()))
        fields["hosts"] = tuple((str(name), str(address)) for name, address in fields.get("hosts", ()))
        if (credential := fields.get("credential")) is not None:
            fields["credential"] = Credential(*(str(credential[name]) for name in ("server", "username", "password")))
        fields |= {name: files_of(fields.get(name, {})) for name in ("secrets", "files")}
        assignment = Assignment(**fields)
        parse_task_id(str(assignment.task_id))
        _check_words(assignment)
        return assignment
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper assignment: {error}") from None


def _check_words(assignment: Assignment) -> None:
    """Raise ValueError for a runtime, network, host or address that cannot be one."""
    if assignment.runtime not in (DOCKER, SANDBOX):
        raise ValueError(f"{assignment.runtime!r} is no runtime")
    if assignment.runtime == DOCKER and assignment.image is None:
        raise ValueError("a container needs an image")
    if assignment.network is not None:
        check_network(assignment.network)
    if any(gid < FIRST_GID for gid in assignment.gids):
        raise ValueError("a group of this machine is none of the datacenter's")
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
    """Return GPUs as nodes tell of them."""
    return [fields_of(gpu) for gpu in gpus]


def decode_gpus(value: Any) -> tuple[NodeGpu, ...]:
    """Return the GPUs that a node told of.

    Raises:
        PfsError: INVALID when they are none.
    """
    try:
        return tuple(
            NodeGpu(
                str(gpu["uuid"]),
                int(gpu["index"]),
                str(gpu["model"]),
                int(gpu["memory_bytes"]),
                _int_or_none(gpu.get("instance")),
                str(gpu.get("parent", "")),
                str(gpu.get("ill", "")),
            )
            for gpu in value
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper GPUs: {error}") from None


def encode_readings(readings: Mapping[str, GpuReading]) -> Json:
    """Return what GPUs do, by UUID, in JSON."""
    return {uuid: asdict(reading) for uuid, reading in readings.items()}


def decode_readings(value: Any) -> dict[str, GpuReading]:
    """Return what a node told of what its GPUs do.

    Raises:
        PfsError: INVALID when it is nothing of the kind.
    """
    try:
        return {
            str(uuid): GpuReading(
                _int_or_none(told["util_percent"]),
                _int_or_none(told["temperature_c"]),
                _int_or_none(told["used_bytes"]),
                {int(process): _int_or_none(has) for process, has in told["processes"].items()},
            )
            for uuid, told in value.items()
        }
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper readings of GPUs: {error}") from None


def _int_or_none(value: Any) -> int | None:
    return None if value is None else int(value)


def encode_claim(claim: Claim) -> Json:
    """Return who a node says that it is in JSON."""
    return asdict(claim)


def decode_claim(value: Any) -> Claim:
    """Return who a node says that it is.

    Raises:
        PfsError: INVALID when that is nothing of the kind.
    """
    try:
        fields = dict(value)
        again = fields.pop("again") is True
        claim = Claim(**{name: str(text) for name, text in fields.items()}, again=again)
    except (KeyError, OverflowError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper claim: {error}") from None
    if claim.name:
        check_name(claim.name)
    return claim


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
            str(task): TaskStanding(Wanted(s["wanted"]), int(s["offset"])) for task, s in fields["tasks"].items()
        }
        return Welcome(**fields)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"no proper welcome: {error}") from None
