"""What clients of PaddleCloud are told of jobs: their fields, their counters, their pods.

A pod is a process. Its name is that of the job, of its group and its number there: `digits-trainer-0`. Every job is
told of in these words, also one that came in by others: its groups are its trainers, and those that are services its
parameter servers.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jobd.job import Job
from jobd.life.model import Process, State, missing
from jobd.spec.model import GroupSpec

Json = dict[str, Any]

PENDING, RUNNING, SUCCEEDED, FAILED = "Pending", "Running", "Succeeded", "Failed"
_UNITS = ("", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei")


@dataclass(frozen=True, slots=True)
class Pod:
    """One process of a job.

    Attributes:
        number: group and process, as its folder in the tree is called: `0.3`.
        process: None before it has a place.
    """

    name: str
    number: str
    group: GroupSpec
    phase: str
    process: Process | None


def pods_of(job: Job) -> list[Pod]:
    """Return the processes of a job, of its present attempt; an array has none of its own.

    A place that is empty, and need not be filled, has none.
    """
    return [] if job.spec.array is not None else list(_pods(job))


def _pods(job: Job) -> Iterator[Pod]:
    placed = job.life.processes
    for worker, (g, p) in enumerate(job.spec.workers()):
        group = job.spec.groups[g]
        process = placed[worker] if worker < len(placed) else None
        if process is not None and process.is_open and worker not in missing(job.life):
            continue
        phase = _phase(job, group, process)
        yield Pod(f"{job.spec.name}-{group.name}-{p}", f"{g}.{p}", group, phase, process)


def _phase(job: Job, group: GroupSpec, process: Process | None) -> str:
    if process is None or not process.node:
        return FAILED if job.life.state.over else PENDING
    if not process.over:
        return PENDING if process.started_at_ns is None else RUNNING
    # services are stopped when all others are over
    is_well = process.code == 0 or (group.service and process.failed is None)
    return SUCCEEDED if is_well else FAILED


def time_of(at_ns: int | None) -> str | None:
    """Return a moment, in nanoseconds since the epoch, as `2017-05-15T05:44:19Z`."""
    return None if at_ns is None else datetime.fromtimestamp(at_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def quantity(size_bytes: int | None) -> str | None:
    """Return a size as `1Gi`, exactly."""
    if size_bytes is None:
        return None
    unit = 0
    while size_bytes and size_bytes % 1024 == 0 and unit < len(_UNITS) - 1:
        size_bytes //= 1024
        unit += 1
    return f"{size_bytes}{_UNITS[unit]}"


def job_row(job: Job) -> Json:
    """Return a job with the fields that it was posted with, and `status`."""
    spec, life = job.spec, job.life
    trainers = [group for group in spec.groups if not group.service]
    servers = [group for group in spec.groups if group.service]
    fields = spec.paddle.fields if spec.paddle is not None else {}
    return {
        "id": job.id,
        "name": spec.name,
        "job_package": (spec.paddle.package if spec.paddle is not None else spec.src) or "",
        "parallelism": sum(group.count for group in trainers),
        **_needs(trainers, "cpu", "memory"),
        "gpu": sum(count for count, _ in trainers[0].gpus),
        "pservers": sum(group.count for group in servers),
        **_needs(servers, "pscpu", "psmemory"),
        "topology": fields.get("topology", ""),
        "entry": fields.get("entry", ""),
        "image": trainers[0].image or "",
        "passes": int(fields.get("passes", 1)),
        "faulttolerant": fields.get("faulttolerant") == "true",
        "state": life.state.value,
        "status": {
            **counts_of(job),
            "submitTime": time_of(life.submitted_at_ns),
            "startTime": time_of(life.started_at_ns),
            "completionTime": time_of(life.ended_at_ns),
        },
    }


def _needs(groups: Sequence[GroupSpec], cpu: str, memory: str) -> Json:
    """Return what each process of the first group has reserved; null for nothing."""
    first = groups[0] if groups else None
    return {cpu: first and first.cpus, memory: quantity(first.memory_bytes) if first else None}


def counts_of(job: Job) -> Json:
    """Return how many trainers of a job run, and how many of them ended well and badly."""
    phases = [pod.phase for pod in pods_of(job) if not pod.group.service]
    return {word: phases.count(phase) for word, phase in zip(_COUNTED, (RUNNING, SUCCEEDED, FAILED), strict=True)}


_COUNTED = ("active", "succeeded", "failed")


def terminating(jobs: Sequence[Job]) -> list[str]:
    """Return the names of the jobs that are being stopped."""
    return [job.spec.name for job in jobs if job.life.state is State.STOPPING]


def servers_row(job: Job) -> Json:
    """Return how many parameter servers a job has, and how many of them run."""
    phases = [pod.phase for pod in pods_of(job) if pod.group.service]
    return {"id": job.id, "name": job.spec.name, "ready": phases.count(RUNNING), "total": len(phases)}


def worker_rows(job: Job, nodes: Mapping[str, tuple[str, str]]) -> list[Json]:
    """Return the pods of a job.

    Args:
        nodes: the names of nodes, and their addresses, by id.
    """
    return [_worker_row(job, pod, nodes) for pod in pods_of(job)]


def _worker_row(job: Job, pod: Pod, nodes: Mapping[str, tuple[str, str]]) -> Json:
    process = pod.process
    node, address = ("", "") if process is None else nodes.get(process.node, (process.node, ""))
    return {
        "name": pod.name,
        "job": job.id,
        "process": pod.number,
        "role": pod.group.name,
        "status": pod.phase,
        "node": node,
        "address": address,
        "start": None if process is None else time_of(process.started_at_ns),
        "exit_code": None if process is None else process.code,
        "msg": "" if process is None else process.reason or _before(process),
    }


def _before(process: Process) -> str:
    return f"replaces one that failed: {process.before}" if process.before else ""


def log_heading(name: str) -> str:
    """Return the line above what a pod wrote."""
    return f"{'=' * 26}{name}{'=' * 26}"
