"""Which waiting job starts where, and why each of the others waits.

    plan(pending, nodes)    what to start now, and for every other job the reason with its numbers
    refuse(pending, nodes)  why no registered node could ever run a job, to be told when it is submitted

Rules:

1. Jobs are tried by priority, higher first, then by number. A job that cannot start blocks nobody.
2. What a job starts with is gone for the jobs behind it in the same plan.
3. CPUs and memory that a job does not name are neither reserved nor counted; every process counts against its node's
   `max_processes`.
4. An image needs a node with Docker, and limits of CPUs or memory need an image; without an image a sandbox runs it.
5. Of the nodes that fit, the one with the fewest processes takes the job, then the one whose name comes first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from jobd.spec.units import format_size

DOCKER = "docker"
SANDBOX = "sandbox"
NODES_NAMED_MAX = 3

_IMAGELESS_LIMITS = "limits of CPUs and memory need an image: name one, or leave cpu and memory out"
_RUNTIME_TITLES = {DOCKER: "Docker", SANDBOX: "a sandbox"}


@dataclass(frozen=True, slots=True)
class Pending:
    """A job that waits: what its process needs.

    Attributes:
        cpus, memory_bytes: None where the job does not name them.
        gpus: pairs of a number and a model (None for any).
    """

    job_id: int
    priority: int
    needs_image: bool
    cpus: float | None = None
    memory_bytes: int | None = None
    gpus: tuple[tuple[int, str | None], ...] = ()


@dataclass(frozen=True, slots=True)
class NodeView:
    """A registered machine: what it offers to jobs, and what of that is in use."""

    node_id: str
    name: str
    online: bool
    runtimes: frozenset[str]
    cpus: float
    memory_bytes: int
    max_processes: int
    used_cpus: float = 0.0
    used_memory_bytes: int = 0
    used_processes: int = 0


@dataclass(frozen=True, slots=True)
class Placement:
    """One job on one node."""

    job_id: int
    node_id: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What to start, in order, and why each other job waits."""

    starts: tuple[Placement, ...]
    reasons: Mapping[int, str]


def plan(pending: Iterable[Pending], nodes: Sequence[NodeView]) -> Plan:
    """Decide what starts now."""
    free = {node.node_id: node for node in nodes}
    starts: list[Placement] = []
    reasons: dict[int, str] = {}
    for job in sorted(pending, key=lambda job: (-job.priority, job.job_id)):
        usable, reason = _usable(job, list(free.values()))
        fitting = [node for node in usable if not _obstacle(job, node)]
        if fitting:
            node = min(fitting, key=lambda node: (node.used_processes, node.name, node.node_id))
            starts.append(Placement(job.job_id, node.node_id))
            free[node.node_id] = _with(job, node)
        else:
            reasons[job.job_id] = reason or _lack(job, usable)
    return Plan(tuple(starts), reasons)


def refuse(job: Pending, nodes: Sequence[NodeView]) -> str | None:
    """Say why no registered node could ever run the job, on-line or not; None when one could, or none is registered."""
    if not job.needs_image and _names_limits(job):
        return _IMAGELESS_LIMITS
    if not nodes:
        return None
    if job.gpus:
        return f"needs {_gpus(job)}, but no node of this datacenter offers GPUs; ask for none"
    able = [node for node in nodes if _runtime(job) in node.runtimes]
    # nothing is known yet of the node with Docker that it would wait for
    if not able or any(_is_large_enough(job, node) for node in able):
        return None
    return _too_large(job, able)


def _usable(job: Pending, nodes: list[NodeView]) -> tuple[list[NodeView], str]:
    """Return the on-line nodes that could run such a job, or none and the reason."""
    if not job.needs_image and _names_limits(job):
        return [], _IMAGELESS_LIMITS
    if not nodes:
        return [], "no node is registered yet"
    online = [node for node in nodes if node.online]
    if not online:
        return [], f"no node is online; {_are(len(nodes), 'registered')}"
    if job.gpus:
        return [], f"needs {_gpus(job)}; no node offers GPUs"
    runtime = _runtime(job)
    able = [node for node in online if runtime in node.runtimes]
    if not able:
        whose = "it does not have it" if len(online) == 1 else "none of them has it"
        hint = "" if job.needs_image else "; an image would let a node with Docker run it"
        return [], f"needs a node with {_RUNTIME_TITLES[runtime]}: {_are(len(online), 'online')}, {whose}{hint}"
    return able, ""


def _lack(job: Pending, nodes: list[NodeView]) -> str:
    """Say what the job needs and what the nodes have left."""
    needs = _needs(job)
    named = [f"node {node.name} {_obstacle(job, node)}" for node in nodes[:NODES_NAMED_MAX]]
    more = len(nodes) - len(named)
    if more:
        named.append(f"{more} more like {'it' if len(named) == 1 else 'them'}")
    return f"needs {needs + ' at once' if needs else 'a node with room for a process'}: {', '.join(named)}"


def _obstacle(job: Pending, node: NodeView) -> str:
    """Say what keeps the job from this node now; "" when nothing does."""
    lacks = []
    if node.used_processes >= node.max_processes:
        lacks.append(f"runs {node.used_processes} of at most {node.max_processes} processes")
    free_cpus = max(0.0, node.cpus - node.used_cpus)
    if job.cpus is not None and job.cpus > free_cpus:
        lacks.append(f"has {free_cpus:g} of {node.cpus:g} CPUs free")
    free_bytes = max(0, node.memory_bytes - node.used_memory_bytes)
    if job.memory_bytes is not None and job.memory_bytes > free_bytes:
        lacks.append(f"has {format_size(free_bytes)} of {format_size(node.memory_bytes)} memory free")
    return " and ".join(lacks)


def _with(job: Pending, node: NodeView) -> NodeView:
    return replace(
        node,
        used_processes=node.used_processes + 1,
        used_cpus=node.used_cpus + (job.cpus or 0),
        used_memory_bytes=node.used_memory_bytes + (job.memory_bytes or 0),
    )


def _is_large_enough(job: Pending, node: NodeView) -> bool:
    return (job.cpus or 0) <= node.cpus and (job.memory_bytes or 0) <= node.memory_bytes


def _too_large(job: Pending, nodes: list[NodeView]) -> str:
    most_cpus = max(nodes, key=lambda node: node.cpus)
    most_memory = max(nodes, key=lambda node: node.memory_bytes)
    if job.cpus is not None and job.cpus > most_cpus.cpus:
        have = f"the largest node, {most_cpus.name}, has {most_cpus.cpus:g}"
        return f"needs {job.cpus:g} CPUs, but {have}; ask for at most {most_cpus.cpus:g}"
    if job.memory_bytes is not None and job.memory_bytes > most_memory.memory_bytes:
        largest = format_size(most_memory.memory_bytes)
        have = f"the largest node, {most_memory.name}, has {largest}"
        return f"needs {format_size(job.memory_bytes)} of memory, but {have}; ask for at most {largest}"
    offers = " or ".join(
        f"{node.cpus:g} CPUs and {format_size(node.memory_bytes)} ({node.name})" for node in (most_cpus, most_memory)
    )
    return f"needs {_needs(job)}, but no node has both; ask for at most {offers}"


def _names_limits(job: Pending) -> bool:
    return job.cpus is not None or job.memory_bytes is not None


def _runtime(job: Pending) -> str:
    return DOCKER if job.needs_image else SANDBOX


def _needs(job: Pending) -> str:
    parts = []
    if job.cpus is not None:
        parts.append(f"{job.cpus:g} CPU{'s' if job.cpus != 1 else ''}")
    if job.memory_bytes is not None:
        parts.append(f"{format_size(job.memory_bytes)} of memory")
    return " and ".join(parts)


def _gpus(job: Pending) -> str:
    count = sum(number for number, _ in job.gpus)
    models = ", ".join(f"{number} {model}" for number, model in job.gpus if model is not None)
    return f"{count} GPU{'s' if count != 1 else ''}" + (f" ({models})" if models else "")


def _are(count: int, standing: str) -> str:
    return f"{count} node is {standing}" if count == 1 else f"{count} nodes are {standing}"
