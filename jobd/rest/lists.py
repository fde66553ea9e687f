"""Jobs and what is beside them once more, as lists of Kubernetes: so the shipped client of PaddleCloud reads them.

The design of that client has rows, and its server passed on what Kubernetes told, with keys in snake_case. Of a list
the client takes `items`, and of each item some keys, without which it falls over; so these are in every item, and what
is not known is null, which it prints as `<nil>`. What jobs here do not have is left out.

    a batch job         <name>-trainer       the trainers of a job
    a replica set       <name>-pserver       its parameter servers
    a pod               <name>-trainer-0     a process; it always has one container
    a resource quota    default              limits that Kubernetes has a word for, as texts
    a secret            pcloud-registry-…    a credential for a registry of images, without what it says

A job that was killed and is being stopped is no item, as what Kubernetes deletes is none: that client makes a row of
its name in `terminating`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from jobd.job import Job
from jobd.life.model import Process, State
from jobd.rest.answers import (
    RUNNING,
    Json,
    Pod,
    counts_of,
    pods_of,
    quantity,
    servers_row,
    time_of,
    worker_rows,
)
from jobd.rest.posted import REGISTRY_PREFIX
from jobd.rest.words import meaning_of, namespace_of

LABEL, SERVER_LABEL = "paddle-job", "paddle-job-pserver"
GPU, JOBS, STORAGE = "alpha.kubernetes.io/nvidia-gpu", "count/jobs.batch", "requests.storage"
QUOTA_NAME = "default"
_QUOTA_WORDS = {"GPU": GPU, "JobsRunning": JOBS, "Bytes": STORAGE}


def job_items(jobs: Sequence[Job]) -> list[Json]:
    """Return the batch jobs, without those that are being stopped since somebody asked for it."""
    return [_job_item(job) for job in jobs if job.life.state is not State.STOPPING or job.life.kill_requested is None]


def _job_item(job: Job) -> Json:
    life, name = job.life, job.spec.name
    count = sum(group.count for group in job.spec.groups if not group.service)
    return {
        "metadata": _metadata(job.user, f"{name}-trainer", str(job.id), life.submitted_at_ns, {LABEL: name}),
        "spec": {"parallelism": count, "completions": count},
        "status": {
            **counts_of(job),
            "start_time": time_of(life.started_at_ns),
            "completion_time": time_of(life.ended_at_ns),
        },
    }


def server_items(jobs: Sequence[Job]) -> list[Json]:
    """Return the replica sets of those jobs that have parameter servers."""
    found = ((job, servers_row(job)) for job in jobs)
    return [_server_item(job, row["ready"], row["total"]) for job, row in found if row["total"]]


def _server_item(job: Job, ready: int, total: int) -> Json:
    name = job.spec.name
    labels = {SERVER_LABEL: name}
    return {
        "metadata": _metadata(job.user, f"{name}-pserver", str(job.id), job.life.submitted_at_ns, labels),
        "spec": {"replicas": total},
        "status": {"replicas": total, "ready_replicas": ready, "available_replicas": ready},
    }


def pod_items(job: Job, nodes: Mapping[str, tuple[str, str]]) -> list[Json]:
    """Return the pods of a job.

    Args:
        nodes: the names of nodes, and their addresses, by id.
    """
    return [_pod_item(job, pod, row) for pod, row in zip(pods_of(job), worker_rows(job, nodes), strict=True)]


def _pod_item(job: Job, pod: Pod, row: Json) -> Json:
    labels = {SERVER_LABEL if pod.group.service else LABEL: job.spec.name}
    ready = pod.phase == RUNNING
    running = {"started_at": row["start"]} if ready else None
    state = {"running": running, "terminated": _terminated(pod.process, row)}
    return {
        "metadata": _metadata(job.user, pod.name, f"{job.id}.{pod.number}", None, labels),
        "spec": {"node_name": row["node"] or None},
        "status": {
            "phase": pod.phase,
            "host_ip": row["address"] or None,
            "start_time": row["start"],
            "container_statuses": [{"name": pod.group.name, "ready": ready, "state": state}],
        },
    }


def _terminated(process: Process | None, row: Json) -> Json | None:
    if process is None or not process.node or not process.over:
        return None
    is_short_of_memory = process.failed is State.OUT_OF_MEMORY
    return {
        "exit_code": process.code,
        "message": process.reason or meaning_of(process.code) or row["msg"] or None,
        "reason": "OOMKilled" if is_short_of_memory else "Completed" if process.code == 0 else "Error",
        "started_at": row["start"],
        "finished_at": time_of(process.ended_at_ns),
    }


def quota_item(user: str, rows: Sequence[Mapping[str, Any]], jobs: Sequence[Job]) -> Json:
    """Return what a user has and may have; where there is no limit, none is told.

    Args:
        rows: `name`, `used` and `limit`, as the design has them.
        jobs: those of the user that are not over.
    """
    known = [(_QUOTA_WORDS[row["name"]], row) for row in rows if row["name"] in _QUOTA_WORDS]
    hard = {word: _text(word, row["limit"]) for word, row in known if row["limit"] is not None}
    used = {word: _text(word, row["used"]) for word, row in known}
    return {
        "metadata": _metadata(user, QUOTA_NAME),
        "spec": {"hard": hard},
        "status": {"hard": hard, "used": used | _reserved(jobs)},
    }


def _text(word: str, amount: int) -> str:
    return str(quantity(amount)) if word == STORAGE else str(amount)


def _reserved(jobs: Sequence[Job]) -> Json:
    """Return how many processes are on nodes, and what is reserved for them."""
    groups = [
        pod.group
        for job in jobs
        for pod in pods_of(job)
        if pod.process is not None and pod.process.node and not pod.process.over
    ]
    cpus, memory_bytes = sum(group.cpus or 0 for group in groups), sum(group.memory_bytes or 0 for group in groups)
    return {"pods": str(len(groups)), "cpu": f"{cpus:g}", "memory": quantity(memory_bytes)}


def registry_item(user: str, name: str, at_ns: int) -> Json:
    """Return the secret that is a credential.

    Args:
        at_ns: when it was written, in nanoseconds since the epoch.
    """
    metadata = _metadata(user, REGISTRY_PREFIX + name, created_ns=at_ns)
    return {"metadata": metadata, "type": "kubernetes.io/dockerconfigjson"}


def _metadata(
    user: str,
    name: str,
    uid: str | None = None,
    created_ns: int | None = None,
    labels: Mapping[str, str] | None = None,
) -> Json:
    return {
        "name": name,
        "namespace": namespace_of(user),
        "uid": uid,
        "creation_timestamp": time_of(created_ns),
        "labels": labels,
    }
