"""What a job asks for, as one internal form for every way to submit it.

Everything here is frozen and has all defaults filled in; `to_json` and `from_json` are how it is stored.
"""

from dataclasses import dataclass, field
from typing import Any

from pfs.plain import fields_of

GRACE_S = 30.0
PRIORITY = 50
PRIORITY_MAX = 100
AFTER_OK, AFTER_ANY, AFTER_NOT_OK = "afterok", "afterany", "afternotok"


@dataclass(frozen=True, slots=True)
class Requirement:
    """What an attribute of a node must be: `operator` is one of = >= <= > <; all but = compare numbers."""

    attribute: str
    operator: str
    value: str


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """One group of equal processes.

    Attributes:
        argv: the program and its arguments.
        env: its own variables and those of the whole job.
        cpus, memory_bytes: what is reserved and the limit of each process; None is neither.
        gpus: pairs of a number and a model (None for any), of each process.
        nodes: names of the only nodes on which it may run; empty for all.
        require: what the attributes of a node must be.
        service: starts before the groups that are none, is not awaited, and is stopped when they are over.
    """

    name: str
    count: int
    argv: tuple[str, ...]
    image: str | None = None
    env: dict[str, str] = field(default_factory=dict)
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: tuple[tuple[int, str | None], ...] = ()
    nodes: tuple[str, ...] = ()
    require: tuple[Requirement, ...] = ()
    service: bool = False


@dataclass(frozen=True, slots=True)
class Retry:
    """How often a job is tried again after its first attempt, and after what: "node", "error"."""

    max: int
    on: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dependency:
    """A job that has to be over before: `kind` is one of afterok, afterany, afternotok."""

    job_id: int
    kind: str = AFTER_OK


@dataclass(frozen=True, slots=True)
class ArraySpec:
    """The tasks of an array, and how many of them may run at once (None: all)."""

    indices: tuple[int, ...]
    at_once: int | None = None


@dataclass(frozen=True, slots=True)
class Git:
    """A repository that the node clones into the job's `src`."""

    url: str
    ref: str | None = None


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder of a data domain (`/pfs/<dc>/…`, or relative to the owner's home) that processes see at `target`."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Paddle:
    """What a job that came in by PaddleCloud's fields said beside what every job says.

    Attributes:
        package: the folder in the tree that it runs in, read-write; None without one.
        fields: its fields as text, for the `PADDLE_*` variables: topology, entry, passes, …
        least: how many trainers it needs to begin, where it may have more; None where it needs all.
    """

    package: str | None
    fields: dict[str, str] = field(default_factory=dict)
    least: int | None = None


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A whole job.

    Attributes:
        src: folder to copy: `/pfs/<dc>/…`, or relative to the home of the owner, or `tree:<id>` that a client shipped.
        end: `all` waits for every process that is no service, `any` for the first.
        on_error: `stop` ends all processes when one fails, `continue` does not.
        private: whether automatic sharing is left out.
        continue_from: the job whose `keep` is copied into this one's.
        hold: whether it waits until somebody releases it.
        shm_bytes: size of /dev/shm of each process; None for the runtime's own.
        cluster: name or id of the only cluster in which it may run; None for all.
        secrets: those of its owner that its processes get.
        registry: the secret of its owner with the credential for the registry of its images; None where they need none.
    """

    name: str
    title: str
    groups: tuple[GroupSpec, ...]
    src: str | None = None
    max_duration_s: float | None = None
    grace_s: float = GRACE_S
    priority: int = PRIORITY
    end: str = "all"
    on_error: str = "stop"
    private: bool = False
    continue_from: int | None = None
    retry: Retry | None = None
    depends_on: tuple[Dependency, ...] = ()
    array: ArraySpec | None = None
    git: Git | None = None
    mounts: tuple[Mount, ...] = ()
    hold: bool = False
    shm_bytes: int | None = None
    paddle: Paddle | None = None
    cluster: str | None = None
    registry: str | None = None
    secrets: tuple[str, ...] = ()

    @property
    def process_count(self) -> int:
        """How many processes it has, services too."""
        return sum(group.count for group in self.groups)

    @property
    def least(self) -> int | None:
        """How many processes that are no services it needs to begin, where it may have more; None for all."""
        return None if self.paddle is None else self.paddle.least

    @property
    def replaces(self) -> int:
        """How many that fail are replaced: as many as there are trainers in PaddleCloud's fault-tolerant mode."""
        is_tolerant = self.paddle is not None and self.paddle.fields["faulttolerant"] == "true"
        return sum(group.count for group in self.groups if not group.service) if is_tolerant else 0

    def workers(self) -> tuple[tuple[int, int], ...]:
        """Return (group index, process index) of every process, by worker index."""
        return tuple((g, p) for g, group in enumerate(self.groups) for p in range(group.count))

    def to_json(self) -> dict[str, Any]:
        """Return the spec as JSON values, to be stored."""
        return fields_of(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "JobSpec":
        """Return the spec that `to_json` returned as `value`."""
        fields = dict(value)
        fields["groups"] = tuple(_group(group) for group in fields["groups"])
        fields["depends_on"] = tuple(Dependency(**dependency) for dependency in fields["depends_on"])
        fields["secrets"] = tuple(fields.get("secrets", ()))
        fields["mounts"] = tuple(Mount(**mount) for mount in fields["mounts"])
        if (retry := fields["retry"]) is not None:
            fields["retry"] = Retry(retry["max"], tuple(retry["on"]))
        if (array := fields["array"]) is not None:
            fields["array"] = ArraySpec(tuple(array["indices"]), array["at_once"])
        if (git := fields["git"]) is not None:
            fields["git"] = Git(**git)
        if (paddle := fields["paddle"]) is not None:
            fields["paddle"] = Paddle(**paddle)
        return cls(**fields)


def _group(value: dict[str, Any]) -> GroupSpec:
    fields = dict(value)
    fields["argv"] = tuple(fields["argv"])
    fields["gpus"] = tuple((count, model) for count, model in fields["gpus"])
    fields["nodes"] = tuple(fields["nodes"])
    fields["require"] = tuple(Requirement(**requirement) for requirement in fields["require"])
    return GroupSpec(**fields)
