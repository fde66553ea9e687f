"""`resolved.yaml`: what a job asks for with all defaults filled in, and what it was given.

The keys are those of a spec; `processes` says where each process of the present attempt runs, with its GPUs and its
image by its digest. Values stand as JSON, which is YAML.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from jobd.files.facts import ranges
from jobd.job import Job
from jobd.spec.model import ArraySpec, GroupSpec, JobSpec, Requirement

_SAME = ("src", "cluster", "registry", "end", "on_error", "private", "hold")


def resolved(job: Job, names: Mapping[str, str]) -> str:
    """Return the text.

    Args:
        names: of nodes, by id.
    """
    lines = []
    for key, value in _facts(job, names):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{key}:", *(f"- {_json(each)}" for each in value)]
        elif value is not None:
            lines.append(f"{key}: {_json(value)}")
    return "\n".join(lines) + "\n"


def _json(value: object) -> str:
    return json.dumps(value)


def _facts(job: Job, names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    spec, life = job.spec, job.life
    yield "name", spec.name
    yield "title", spec.title
    yield "groups", [_group(group) for group in spec.groups]
    for key in _SAME:
        yield key, getattr(spec, key)
    yield from _rest(spec)
    yield "priority", life.priority
    yield "max_duration", None if life.max_duration_s is None else f"{life.max_duration_s:g}s"
    yield "attempt", life.attempt
    yield "processes", [_process(job, worker, names) for worker in range(len(life.processes))]


def _rest(spec: JobSpec) -> Iterator[tuple[str, Any]]:
    yield "secrets", list(spec.secrets) or None
    yield "git", None if spec.git is None else {key: value for key, value in asdict(spec.git).items() if value}
    yield "mounts", [f"{each.source}:{each.target}{':ro' * each.read_only}" for each in spec.mounts] or None
    yield "shm", None if spec.shm_bytes is None else _size(spec.shm_bytes)
    yield "grace", f"{spec.grace_s:g}s"
    yield "retry", None if spec.retry is None else asdict(spec.retry)
    yield "depends_on", [f"{each.kind}:{each.job_id}" for each in spec.depends_on] or None
    yield "continue", spec.continue_from
    yield "array", None if spec.array is None else _array(spec.array)


def _array(array: ArraySpec) -> str:
    return ranges(array.indices) + ("" if array.at_once is None else f"%{array.at_once}")


def _group(group: GroupSpec) -> dict[str, Any]:
    gpus = {model: count for count, model in group.gpus}
    needs = {
        "cpu": group.cpus,
        "memory": None if group.memory_bytes is None else _size(group.memory_bytes),
        "gpu": gpus.get(None, gpus) if gpus else None,
    }
    facts = {
        "name": group.name,
        "count": group.count,
        "image": group.image,
        "command": list(group.argv),
        "env": group.env,
        "resources": {key: value for key, value in needs.items() if value is not None},
        "nodes": list(group.nodes),
        "require": {each.attribute: _condition(each) for each in group.require},
        "service": group.service,
    }
    return {key: value for key, value in facts.items() if value not in (None, [], {})}


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1024:.10f}".rstrip("0").rstrip(".") + "KiB"


def _condition(requirement: Requirement) -> str:
    return requirement.value if requirement.operator == "=" else f"{requirement.operator}{requirement.value}"


def _process(job: Job, worker: int, names: Mapping[str, str]) -> dict[str, Any]:
    group, process = job.spec.workers()[worker]
    placed = job.life.processes[worker]
    facts: dict[str, Any] = {"group": job.spec.groups[group].name, "process": process}
    facts |= {"node": names.get(placed.node, placed.node), "gpus": list(placed.gpus)}
    image = dict(enumerate(job.life.images)).get(worker, "")
    return facts | ({"image": image} if image else {})
