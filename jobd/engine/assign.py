"""From a job to the tasks that nodes are given: which process, what it sees, what it is told.

Pure: the same job gives the same task, so that a task may be asked for again after any crash.

    group 0, 1, …                   the processes of the job
    group <number of groups>, 0     the task that brings its files to the node of its first process (`git`)

Fellows find one another by host names. In containers the names are those of the job's own network: a bridge where all
are on one machine, an overlay that a manager of the swarm makes where they are not. In sandboxes, which share the
network of their machine, every process of a gang on one machine has a loopback address of its own, that of no other
job; across machines a name stands for its machine's address.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from jobd.engine.credentials import credential_for
from jobd.engine.jobkeys import job_key
from jobd.engine.packages import volumes
from jobd.environment import Facts, GroupHosts, environment, extended, host_name, work_dir
from jobd.imagename import image_of
from jobd.job import Job
from jobd.life.actions import FETCH, begins_together
from jobd.spec.model import Git
from jobd.wire import (
    ARTIFACTS,
    DOCKER,
    HOME,
    SANDBOX,
    STORAGE,
    Assignment,
    Credential,
    TaskVolume,
    parse_task_id,
    task_id,
)
from pfs.path import to_absolute
from pfs.perm import Subject

WATCHDOG_S = 60.0

# 127.0.x.y is used by machines for themselves
_LOOPBACK_FIRST = int(IPv4Address("127.1.0.0"))
_LOOPBACK_COUNT = int(IPv4Address("127.255.0.0")) - _LOOPBACK_FIRST
_LOOPBACKS_OF_JOB = 256

# url and ref are words of their own, never text of the program; a tree that is there already, of an attempt before,
# is brought to what was asked for
_FETCH_PROGRAM = """\
set -eu
url=$1 ref=$2
export GIT_TERMINAL_PROMPT=0
git init --quiet .
git remote remove origin 2>/dev/null || true
git remote add -- origin "$url"
git fetch --tags --force -- origin
if [ -z "$ref" ]; then
    git remote set-head origin --auto >/dev/null
    at=refs/remotes/origin/HEAD
elif git rev-parse --verify --quiet "refs/remotes/origin/$ref^{commit}" >/dev/null; then
    at=refs/remotes/origin/$ref
elif git rev-parse --verify --quiet "refs/tags/$ref^{commit}" >/dev/null; then
    at=refs/tags/$ref
else
    git rev-parse --verify --quiet --end-of-options "$ref^{commit}" >/dev/null || git fetch -- origin "$ref"
    at=$ref
fi
git checkout --quiet --force --detach "$(git rev-parse --verify --end-of-options "$at^{commit}")"
git submodule update --init --recursive
echo "Checked out $(git rev-parse HEAD) of $url"
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where jobs run, as they are told, and what tells the networks of this datacenter from those of others.

    Attributes:
        endpoint: the URL of the server.
        secret: what keys of jobs are made with (`jobd.engine.jobkeys`).
    """

    datacenter: str
    data_root_id: str = ""
    endpoint: str = ""
    secret: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a task has to know of a node: the runtimes that it has, and its address for other machines.

    Attributes:
        mounts: it has no way to the data root, and mounts the tree for each job.
    """

    runtimes: frozenset[str] = frozenset()
    address: str = ""
    mounts: bool = False


def task_of(job: Job, worker: int) -> str:
    """Return the id of a worker's task (FETCH too), in its present attempt."""
    if worker == FETCH:
        return task_id(job.id, job.life.attempt, len(job.spec.groups), 0)
    group, process = job.spec.workers()[worker]
    return task_id(job.id, job.life.run(worker), group, process)


def worker_of(job: Job, task: str) -> int | None:
    """Return whose task it is in their present attempt; None for nobody's."""
    job_id, attempt, group, process = parse_task_id(task)
    if job_id != job.id or not job.life.processes:
        return None
    groups = job.spec.groups
    if group == len(groups) and process == 0 and job.spec.git is not None:
        return FETCH if attempt == job.life.attempt else None
    if group >= len(groups) or process >= groups[group].count:
        return None
    worker = sum(each.count for each in groups[:group]) + process
    return worker if attempt == job.life.run(worker) else None


def node_of(job: Job, worker: int) -> str:
    """Return the node of a worker that was placed; the files are brought to that of the first."""
    return job.life.processes[max(worker, 0)].node


def data_path(job_id: int, part: str = "") -> str:
    """Return where a job's data is under the data root."""
    return f"jobs/{job_id}/data/{part}".rstrip("/")


def hosts_of(job: Job) -> tuple[GroupHosts, ...]:
    """Return the host names of all processes, group by group."""
    found, worker = [], 0
    for group in job.spec.groups:
        names = tuple(host_name(job.spec.name, job.id, worker + process) for process in range(group.count))
        found.append(GroupHosts(group.name, names, group.service))
        worker += group.count
    return tuple(found)


def facts_of(job: Job, place: Place, worker: int = 0, people: frozenset[str] = frozenset()) -> Facts:
    """Return what the environment of one of the job's processes follows from.

    Args:
        people: the groups of people that the owner is in.
    """
    group_index, process_index = job.spec.workers()[worker]
    processes = job.life.processes
    return Facts(
        datacenter=place.datacenter,
        user=job.user,
        job_id=job.id,
        job_name=job.spec.name,
        attempt=job.life.run(worker),
        groups=hosts_of(job),
        group_index=group_index,
        process_index=process_index,
        user_groups=tuple(sorted(people)),
        env=job.spec.groups[group_index].env,
        gpu_uuids=processes[worker].gpus if processes else (),
        end_time_s=_end_time_s(job),
        array_id=job.array_id,
        array_index=job.array_index,
        paddle=job.spec.paddle,
        trainers=_trainers(job, worker),
        home="" if job.spec.groups[group_index].image is None else HOME,
    )


def _trainers(job: Job, worker: int) -> tuple[int, ...] | None:
    """Return which trainers there are, where there may be more or fewer, and this worker among them."""
    if job.spec.least is None or not job.life.processes:
        return None
    there = [n for n, each in enumerate(job.life.processes) if n == worker or not (each.over or each.retired)]
    return tuple(p for n, (g, p) in enumerate(job.spec.workers()) if n in there and not job.spec.groups[g].service)


def _end_time_s(job: Job) -> int | None:
    """Return when the job's time is over, as far as every process can know: counted from its placement."""
    limit_s, placed_at_ns = job.life.max_duration_s, job.life.placed_at_ns
    return None if limit_s is None or placed_at_ns is None else int(placed_at_ns / 1e9 + limit_s)


def is_gang(job: Job) -> bool:
    """Tell whether the job has several processes."""
    return job.spec.process_count > 1


def network_of(job: Job, place: Place) -> str | None:
    """Return the name of the network of this attempt's containers; None where a process has no fellows."""
    if not is_gang(job) or job.spec.groups[0].image is None:
        return None
    return f"pfs-{place.data_root_id[:8]}-{job.id}-{job.life.attempt}"


def overlay_of(job: Job, place: Place) -> str | None:
    """Return the name of the network that has to be made before a task of this attempt starts, where it needs one."""
    return network_of(job, place) if job.life.spans else None


def assignment(
    job: Job,
    worker: int,
    owner: Subject,
    place: Place,
    machines: Mapping[str, Machine],
    *,
    credential: Credential | None = None,
    secrets: Mapping[str, bytes] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> Assignment:
    """Return the task of one process, or of FETCH.

    Args:
        owner: the job's owner, with the rights of now.
        machines: the job's nodes, by id.
        credential: for the registry of the job's images.
        secrets: what its processes get of what its owner keeps.
        files: what this one has at the top of its file system, by name; what the spec mounts there stays.

    Raises:
        PfsError: something that the spec names cannot be had any more.
    """
    task = _process(job, max(worker, 0), owner, place, machines)
    task = replace(
        task,
        credential=credential_for(task.image, credential),
        pinned=pinned_of(job, task.image),
        shares_image=sum(group.count for group in job.spec.groups if group.image == task.image is not None) > 1,
    )
    if worker == FETCH:
        return _fetching(job, task, place, machines)
    taken = {volume.target.split("/")[1] for volume in task.volumes}
    own = {name: content for name, content in (files or {}).items() if name not in taken}
    return replace(task, secrets=secrets or {}, files=own)


def pinned_of(job: Job, image: str | None) -> str | None:
    """Return an image by its digest, as the first of the job's processes with the same image had it in any attempt."""
    if image is None:
        return None
    for known, (group, _) in zip(job.life.images, job.spec.workers(), strict=False):
        if job.spec.groups[group].image == image and can_pin(image, known):
            return known
    return None


def can_pin(image: str, found: str) -> bool:
    """Tell whether what a node found for an image is what every node can get by that name."""
    return "@" in found and image_of(found).repository == image_of(image).repository


def _process(job: Job, worker: int, owner: Subject, place: Place, machines: Mapping[str, Machine]) -> Assignment:
    facts = facts_of(job, place, worker, owner.groups)
    group = job.spec.groups[facts.group_index]
    machine = machines.get(node_of(job, worker), Machine())
    return Assignment(
        task_id=task_of(job, worker),
        argv=group.argv,
        env=environment(facts),
        extended=extended(facts),
        workdir=work_dir(facts),
        hostname=facts.group.hosts[facts.process_index],
        image=group.image,
        uid=owner.uid,
        gid=owner.uid,
        gids=tuple(number for _, number in owner.gids),
        volumes=_with_homes(volumes_of(job, owner, place), job) if group.image else volumes_of(job, owner, place),
        cpus=group.cpus,
        memory_bytes=group.memory_bytes,
        grace_s=job.spec.grace_s,
        runtime=SANDBOX if group.image is None else DOCKER,
        gpus=job.life.processes[worker].gpus,
        hosts=_hosts(job, facts, machines) if is_gang(job) else (),
        network=network_of(job, place),
        overlay=overlay_of(job, place) is not None,
        shm_bytes=job.spec.shm_bytes,
        watchdog_s=WATCHDOG_S if job.life.terms.leaves_nodes else None,
        key=job_key(place.endpoint, place.secret, job.id, job.life.attempt) if machine.mounts else None,
        held=begins_together(job.life, worker),
    )


def volumes_of(job: Job, owner: Subject, place: Place, *, there_only: bool = False) -> tuple[TaskVolume, ...]:
    """Return what a job sees: its owner's home and groups, what is shared, its own data, and what its spec names.

    Args:
        there_only: what the spec names and cannot be had any more is left out.

    Raises:
        PfsError: something that the spec names cannot be had any more.
    """

    def volume(path: str, *, read_only: bool = False) -> TaskVolume:
        return TaskVolume(path, to_absolute(path, place.datacenter), read_only)

    return (
        volume(f"home/{job.user}"),
        volume("shared", read_only=True),
        *(volume(f"groups/{name}") for name in sorted(owner.groups)),
        TaskVolume(data_path(job.id), to_absolute(f"jobs/{job.id}", place.datacenter), read_only=False),
        *volumes(job.spec, owner, place.datacenter, there_only=there_only),
    )


def _with_homes(volumes: tuple[TaskVolume, ...], job: Job) -> tuple[TaskVolume, ...]:
    """Add the places that programs in an image know; what the spec mounts there stays."""
    homes = {HOME: data_path(job.id, "src"), ARTIFACTS: data_path(job.id, "out"), STORAGE: f"home/{job.user}"}
    taken = {volume.target for volume in volumes}
    more = (TaskVolume(source, target, read_only=False) for target, source in homes.items() if target not in taken)
    return (*volumes, *more)


def _hosts(job: Job, facts: Facts, machines: Mapping[str, Machine]) -> tuple[tuple[str, str], ...]:
    """Return the name and address of every process of a gang."""
    names = [name for group in facts.groups for name in group.hosts]
    if job.spec.groups[0].image is not None:
        return tuple((name, "") for name in names)
    if not job.life.spans:
        return tuple((name, _loopback(job.id, worker)) for worker, name in enumerate(names))
    placed = [(name, each.node) for name, each in zip(names, job.life.processes, strict=True) if each.node]
    return tuple((name, machines[node].address) for name, node in placed)


def _loopback(job_id: int, worker: int) -> str:
    return str(IPv4Address(_LOOPBACK_FIRST + (job_id * _LOOPBACKS_OF_JOB + worker) % _LOOPBACK_COUNT))


def _fetching(job: Job, first: Assignment, place: Place, machines: Mapping[str, Machine]) -> Assignment:
    """Return the task that brings the job's files to the node of its first process, as its owner and nothing else.

    Args:
        first: the task of that process.
    """
    assert job.spec.git is not None
    has_sandbox = SANDBOX in machines[node_of(job, 0)].runtimes
    source = to_absolute(f"jobs/{job.id}/src", place.datacenter)
    return replace(
        first,
        task_id=task_of(job, FETCH),
        argv=fetch_argv(job.spec.git),
        workdir=source,
        image=None if has_sandbox else first.image,
        credential=None if has_sandbox else first.credential,
        pinned=None if has_sandbox else first.pinned,
        shares_image=False,
        runtime=SANDBOX if has_sandbox else DOCKER,
        cpus=None if has_sandbox else first.cpus,
        memory_bytes=None if has_sandbox else first.memory_bytes,
        gpus=(),
        hosts=(),
        network=None,
        overlay=False,
        held=False,
    )


def fetch_argv(git: Git) -> tuple[str, ...]:
    """Return the program that brings a repository into its working directory."""
    return ("sh", "-c", _FETCH_PROGRAM, "fetch", git.url, git.ref or "")
