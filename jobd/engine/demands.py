"""From jobs and machines to what the scheduler counts with. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from jobd.imagerules import heard
from jobd.job import Job
from jobd.scheduling.model import SANDBOX, Gpu, IllGpu, Need, NodeView, Pending, Running, Use
from jobd.scheduling.tally import GPU_PARTS, parts_of
from jobd.spec.model import JobSpec

_Number = TypeVar("_Number", int, float)


def needs_of(spec: JobSpec) -> tuple[Need, ...]:
    """Return what the processes of a job need, group by group."""
    return tuple(
        Need(
            count=group.count,
            cpus=group.cpus,
            memory_bytes=group.memory_bytes,
            shm_bytes=spec.shm_bytes,
            gpus=group.gpus,
            image=group.image or "",
            nodes=group.nodes,
            require=group.require,
        )
        for group in spec.groups
    )


def pending_of(job: Job, groups: frozenset[str], at_once: int | None = None, cluster: str = "") -> Pending:
    """Return what a waiting job needs.

    Args:
        groups: those of its owner.
        at_once: how many tasks of its array may run at once.
        cluster: the id of the one that it names; "" for none.
    """
    array = None if job.array_id is None or at_once is None else (job.array_id, at_once)
    limit_s = job.life.max_duration_s
    return Pending(
        job_id=job.id,
        user=job.user,
        priority=job.life.priority,
        arrived=job.life.submitted_at_ns / 1e9,
        needs=needs_of(job.spec),
        groups=groups,
        max_duration_s=None if limit_s is None else limit_s + job.spec.grace_s,
        array=array,
        cluster=cluster,
    )


def running_of(job: Job) -> Running:
    """Return what a job that has its places uses."""
    uses: dict[str, Use] = {}
    for process, (group_index, _) in zip(job.life.processes, job.spec.workers(), strict=True):
        group = job.spec.groups[group_index]
        use = uses.get(process.node, Use(process.node, processes=0))
        uses[process.node] = Use(
            process.node,
            use.cpus + (group.cpus or 0.0),
            use.memory_bytes + (group.memory_bytes or 0),
            (*use.gpus, *process.gpus),
            use.processes + 1,
        )
    return Running(job.id, job.user, tuple(uses.values()), _ends_at_s(job), job.array_id)


def weight_of(spec: JobSpec) -> float:
    """Return how many GPUs a job counts for while it runs; a process counts as a part of one."""
    return parts_of(needs_of(spec)) / GPU_PARTS


def _ends_at_s(job: Job) -> float | None:
    limit_s, since_ns = job.life.max_duration_s, job.life.started_at_ns or job.life.placed_at_ns
    return None if limit_s is None or since_ns is None else since_ns / 1e9 + limit_s + job.spec.grace_s


def node_view(
    node_id: str,
    name: str,
    attrs: Mapping[str, Any],
    runtimes: Iterable[str],
    gpus: Iterable[Mapping[str, Any]],
    *,
    online: bool,
    closed: str = "",
    troubles: Mapping[str, str] | None = None,
    groups: frozenset[str] = frozenset(),
    gpu_groups: Mapping[str, frozenset[str]] | None = None,
    cluster: str = "",
    owner: str = "",
) -> NodeView:
    """Return a machine as it told of itself (`jobd.wire`), with what was decided about it and its GPUs."""
    reserved = gpu_groups or {}
    found = [
        (Gpu(gpu["uuid"], gpu["model"], reserved.get(gpu["uuid"], frozenset())), str(gpu.get("ill", "")))
        for gpu in gpus
    ]
    return NodeView(
        node_id=node_id,
        name=name,
        online=online,
        # one that lets no new job run so may have it still, with tasks from before
        runtimes=frozenset(runtimes) - ({SANDBOX} if attrs.get("allowsSandbox") is False else set()),
        images=heard(attrs),
        cpus=float(attrs.get("offerCpus", 0)),
        memory_bytes=int(attrs.get("offerMemory", 0)),
        max_processes=int(attrs.get("maxProcesses", 0)),
        most_cpus=_given(float, attrs.get("mostCpus")),
        most_memory_bytes=_given(int, attrs.get("mostMemory")),
        most_shm_bytes=_given(int, attrs.get("mostShm")),
        attrs=attrs,
        gpus=tuple(gpu for gpu, ill in found if not ill),
        ill=tuple(IllGpu(gpu, ill) for gpu, ill in found if ill),
        closed=closed,
        troubles=troubles or {},
        groups=groups,
        swarm=str(attrs.get("swarm", "")),
        cluster=cluster,
        owner=owner,
    )


def _given(read: Callable[[Any], _Number], value: Any) -> _Number | None:
    return None if value is None else read(value)
