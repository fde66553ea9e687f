"""What the scheduler counts with: what waits, what there is, what runs, and what it answers.

Processes of a job are counted by *worker index*: those of the first need, then those of the second, and so on.
Times are seconds since the epoch. A model of None is any GPU; a GPU is known by its UUID.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from jobd.imagerules import ImageRules
from jobd.spec.model import Requirement

DOCKER = "docker"
SANDBOX = "sandbox"
ANY_IMAGE = "*"  # an image, where it does not matter which
ADDRESS = "address"  # the attribute under which a node tells where other machines reach it
MAX_PROCESSES = 64  # what a node takes at once, unless its owner says otherwise
CPUS_OVERCOMMIT = 4  # how many times its CPUs a node gives away; one process gets at most as many as there are


@dataclass(frozen=True, slots=True)
class Need:
    """What each of `count` equal processes needs.

    Attributes:
        cpus, memory_bytes: what is reserved; None where the job does not name it: then nothing is counted.
        gpus: pairs of a number and the name of a model or alias (None for any); several may name the same.
        image: it runs in Docker; "" is a sandbox.
        nodes: names of the only nodes on which it may run; empty for all.
        require: what the attributes of the node must be.
        shm_bytes: size of its shared memory, which is its own; None where the job does not name it.
    """

    count: int = 1
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: tuple[tuple[int, str | None], ...] = ()
    image: str = ""
    nodes: tuple[str, ...] = ()
    require: tuple[Requirement, ...] = ()
    shm_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Pending:
    """A job that waits.

    Attributes:
        arrived: where it stands among jobs of equal rights; any clock or counter, smaller is earlier.
        groups: those its owner is in.
        max_duration_s: how long it may run; None for as long as it likes.
        array: the number of the array that it is a task of, and how many tasks of it may run at once (None: all).
        cluster: the id of the only one in which it may run; "" for all.
    """

    job_id: int
    user: str
    priority: int
    arrived: float
    needs: tuple[Need, ...]
    groups: frozenset[str] = frozenset()
    max_duration_s: float | None = None
    array: tuple[int, int | None] | None = None
    cluster: str = ""


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU of a node, for members of its groups; without groups, for everybody."""

    uuid: str
    model: str
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class IllGpu:
    """A GPU of a node that is not given to anybody, and why: "it is lost"."""

    gpu: Gpu
    why: str


@dataclass(frozen=True, slots=True)
class NodeView:
    """A registered machine and what it offers, used or not.

    Attributes:
        online: whether it is heard of; a suspect node gets no new work.
        closed: why it takes no new work though it is there: "drained by ann: new disk"; "" where it takes some.
        runtimes: of DOCKER and SANDBOX those that it has.
        troubles: those of them that take no tasks now, and why.
        most_cpus, most_memory_bytes, most_shm_bytes: what its own policy gives to one process at most; None for all
            that there is.
        groups: whose members alone may use it; empty for everybody.
        swarm: the swarm that its Docker is in; "" for none.
        gpus: those that may be given.
        ill: those that may not, until they are well again.
        cluster: the id of the one that it is in; "" for none.
        owner: the user whose own it is, and whose jobs alone it runs; "" where it is everybody's.
        images: which of them its owner lets run there.
    """

    node_id: str
    name: str
    online: bool
    runtimes: frozenset[str]
    cpus: float
    memory_bytes: int
    max_processes: int = MAX_PROCESSES
    attrs: Mapping[str, object] = field(default_factory=dict)
    gpus: tuple[Gpu, ...] = ()
    groups: frozenset[str] = frozenset()
    swarm: str = ""
    closed: str = ""
    troubles: Mapping[str, str] = field(default_factory=dict)
    ill: tuple[IllGpu, ...] = ()
    most_cpus: float | None = None
    most_memory_bytes: int | None = None
    most_shm_bytes: int | None = None
    cluster: str = ""
    owner: str = ""
    images: ImageRules = field(default_factory=ImageRules)

    @property
    def is_open(self) -> bool:
        """Whether it gets new work."""
        return self.online and not self.closed

    def at_its_best(self) -> "NodeView":
        """Return the node as if nothing kept it from new work, and all of its GPUs were well."""
        if self.is_open and not self.ill and not self.troubles:
            return self
        gpus = (*self.gpus, *(each.gpu for each in self.ill))
        return replace(self, online=True, closed="", troubles={}, gpus=gpus, ill=())

    @property
    def cpus_each(self) -> float:
        """How many CPUs one process can have."""
        return self.cpus if self.most_cpus is None else min(self.cpus, self.most_cpus)

    @property
    def memory_bytes_each(self) -> int:
        """How much memory one process can have."""
        return self.memory_bytes if self.most_memory_bytes is None else min(self.memory_bytes, self.most_memory_bytes)


@dataclass(frozen=True, slots=True)
class Use:
    """What one job has of one node."""

    node_id: str
    cpus: float = 0.0
    memory_bytes: int = 0
    gpus: tuple[str, ...] = ()
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Running:
    """A job that has its places, from STARTING to its end.

    Attributes:
        ends_at_s: when its time limit ends it at the latest; None without a limit.
        array: the number of the array that it is a task of.
    """

    job_id: int
    user: str
    uses: tuple[Use, ...]
    ends_at_s: float | None = None
    array: int | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process runs: a node, and the UUIDs of its GPUs."""

    node_id: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """A job that starts now, with the places of its processes by worker index."""

    job_id: int
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Opening:
    """An empty place of a running job.

    Attributes:
        worker: whose it is.
        need: what a process there needs.
        must: whether the job has less than it needs while it is empty.
    """

    worker: int
    need: Need
    must: bool = False


@dataclass(frozen=True, slots=True)
class Spare:
    """A process that a running job can do without: whose it is, and what it has of its node."""

    worker: int
    use: Use


@dataclass(frozen=True, slots=True)
class Elastic:
    """What a running job could have beside what it has, and what it could do without.

    Attributes:
        groups: those its owner is in.
        cluster: the id of the only one in which it may run; "" for all.
        openings: those that it must have first.
        spares: those that are to go first in front; no more than it can do without.
        leaving: what those have of their nodes that are being stopped, so that others have room.
        least, now, most: how many processes of the kind that may be more or fewer it needs, has, and may have.
        nodes: those that it is on.
        is_gang: its processes have to reach each other.
        spans: it may come to be on others as well, where its processes can reach each other.
    """

    job_id: int
    user: str
    groups: frozenset[str] = frozenset()
    cluster: str = ""
    openings: tuple[Opening, ...] = ()
    spares: tuple[Spare, ...] = ()
    leaving: tuple[Use, ...] = ()
    least: int = 0
    now: int = 0
    most: int = 0
    nodes: tuple[str, ...] = ()
    is_gang: bool = True
    spans: bool = False

    @property
    def fulfilment(self) -> float:
        """How much it has of what it could do without: from 0 for nothing to 1 for all."""
        return 1.0 if self.most <= self.least else (self.now - self.least) / (self.most - self.least)


@dataclass(frozen=True, slots=True)
class Fill:
    """A process of a running job that gets a place now, and what it has of its node by that."""

    job_id: int
    worker: int
    place: Place
    use: Use


@dataclass(frozen=True, slots=True)
class Leave:
    """A process of a running job that is to stop, so that the job `for_job` can start."""

    job_id: int
    worker: int
    for_job: int


@dataclass(frozen=True, slots=True)
class Why:
    """Why a job waits.

    Attributes:
        text: sentences with numbers; it does not change with the clock alone.
        place: in the queue, from 1.
        earliest_start_s: None where it is not known.
    """

    text: str
    place: int
    earliest_start_s: float | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What starts now, in order, and why each other job waits."""

    starts: tuple[Start, ...]
    reasons: Mapping[int, Why]
