"""From jobs and machines to what the scheduler counts with. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from jobd.imagerules import heard
from jobd.job import Job
from jobd.life.events import Place
from jobd.life.life import Life, State, missing
from jobd.scheduling.model import (
    SANDBOX,
    Elastic,
    Gpu,
    IllGpu,
    Need,
    NodeView,
    Opening,
    Pending,
    Running,
    Spare,
    Use,
)
from jobd.scheduling.tally import GPU_PARTS, parts_of
from jobd.spec.model import GroupSpec, JobSpec

_Number = TypeVar("_Number", int, float)


def needs_of(spec: JobSpec) -> tuple[Need, ...]:
    """Return what the processes of a job need, group by group; those that it can do without need nothing."""
    return tuple(
        Need(
            count=_least_of(spec, group),
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


def _least_of(spec: JobSpec, group: GroupSpec) -> int:
    return group.count if spec.least is None or group.service else spec.least


def places_of(spec: JobSpec, needed: Sequence[Place]) -> tuple[Place, ...]:
    """Return the places of all processes of a job, where those that it needs have these."""
    left = iter(needed)
    counts = [(_least_of(spec, group), group.count) for group in spec.groups]
    empty = Place("")
    return tuple(next(left) if p < least else empty for least, count in counts for p in range(count))


def elastic_of(job: Job, groups: frozenset[str], cluster: str = "") -> Elastic | None:
    """Return what a job that runs could have more, or do without; None for nothing of either.

    Args:
        groups: those of its owner.
        cluster: the id of the one that it names; "" for none.
    """
    life, spec = job.life, job.spec
    if life.state not in (State.STARTING, State.RUNNING) or not life.fetched:
        return None
    if spec.least is None and not spec.replaces:
        return None
    must = missing(life)
    awaited = [(n, each) for n, each in enumerate(life.processes) if not life.terms.services[n]]
    there = [(n, each) for n, each in awaited if each.node and not each.retired]
    # where the first is done there is no more to do than the others do
    grows = spec.least is not None and not any(each.over for _, each in there)
    needs, workers = needs_of(spec), spec.workers()
    open_ones = [n for n, each in enumerate(life.processes) if each.is_open and (n in must or grows)]
    openings = [Opening(n, replace(needs[workers[n][0]], count=1), n in must) for n in open_ones]
    spare = 0 if spec.least is None else max(0, len(there) - spec.least)
    young = sorted((n for n, each in there if not each.over), key=lambda n: _age(life, n))[:spare]
    leaving = [n for n, each in awaited if each.node and each.retired and not each.over]
    if not openings and not young and not leaving:
        return None
    return Elastic(
        job_id=job.id,
        user=job.user,
        groups=groups,
        cluster=cluster,
        openings=tuple(sorted(openings, key=lambda opening: not opening.must)),
        spares=tuple(Spare(n, _use_of(job, n)) for n in young),
        leaving=tuple(_use_of(job, n) for n in leaving),
        least=len(awaited) if spec.least is None else spec.least,
        now=len(there),
        most=len(awaited),
        nodes=life.nodes,
        is_gang=spec.process_count > 1,
        spans=life.spans,
    )


def _age(life: Life, worker: int) -> tuple[int, int]:
    """Return what processes are sorted by, the youngest first."""
    return -(life.processes[worker].started_at_ns or 1 << 63), -worker


def _use_of(job: Job, worker: int) -> Use:
    process, group = job.life.processes[worker], job.spec.groups[job.spec.workers()[worker][0]]
    return Use(process.node, group.cpus or 0.0, group.memory_bytes or 0, process.gpus)


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
        if process.is_open:
            continue
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
