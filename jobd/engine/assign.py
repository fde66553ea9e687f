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

from jobd.engine.packages import volumes
from jobd.environment import Facts, GroupHosts, environment, host_name, work_dir
from jobd.job import Job
from jobd.life.actions import FETCH
from jobd.spec.model import Git
from jobd.wire import DOCKER, SANDBOX, Assignment, TaskVolume, parse_task_id, task_id
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
    """Where jobs run, as they are told, and what tells the networks of this datacenter from those of others."""

    datacenter: str
    data_root_id: str = ""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a task has to know of a node: the runtimes that it has, and its address for other machines."""

    runtimes: frozenset[str] = frozenset()
    address: str = ""


def task_of(job: Job, worker: int) -> str:
    """Return the id of a worker's task (FETCH too), in the job's present attempt."""
    if worker == FETCH:
        return task_id(job.id, job.life.attempt, len(job.spec.groups), 0)
    group, process = job.spec.workers()[worker]
    return task_id(job.id, job.life.attempt, group, process)


def worker_of(job: Job, task: str) -> int | None:
    """Return whose task it is in the job's present attempt; None for nobody's."""
    job_id, attempt, group, process = parse_task_id(task)
    if job_id != job.id or attempt != job.life.attempt or not job.life.processes:
        return None
    groups = job.spec.groups
    if group == len(groups) and process == 0 and job.spec.git is not None:
        return FETCH
    if group >= len(groups) or process >= groups[group].count:
        return None
    return sum(each.count for each in groups[:group]) + process


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
        attempt=job.life.attempt,
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
    )


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
    return network_of(job, place) if len(job.life.nodes) > 1 else None


def assignment(job: Job, worker: int, owner: Subject, place: Place, machines: Mapping[str, Machine]) -> Assignment:
    """Return the task of one process, or of FETCH.

    Args:
        owner: the job's owner, with the rights of now.
        machines: the job's nodes, by id.

    Raises:
        PfsError: something that the spec names cannot be had any more.
    """
    if worker == FETCH:
        return _fetching(job, owner, place, machines)
    return _process(job, worker, owner, place, machines)


def _process(job: Job, worker: int, owner: Subject, place: Place, machines: Mapping[str, Machine]) -> Assignment:
    facts = facts_of(job, place, worker, owner.groups)
    group = job.spec.groups[facts.group_index]
    return Assignment(
        task_id=task_of(job, worker),
        argv=group.argv,
        env=environment(facts),
        workdir=work_dir(facts),
        hostname=facts.group.hosts[facts.process_index],
        image=group.image,
        uid=owner.uid,
        gid=owner.uid,
        volumes=_volumes(job, owner, place),
        cpus=group.cpus,
        memory_bytes=group.memory_bytes,
        grace_s=job.spec.grace_s,
        runtime=SANDBOX if group.image is None else DOCKER,
        gpus=job.life.processes[worker].gpus,
        hosts=_hosts(job, facts, machines) if is_gang(job) else (),
        network=network_of(job, place),
        overlay=overlay_of(job, place) is not None,
        shm_bytes=job.spec.shm_bytes,
        watchdog_s=WATCHDOG_S if "node" in job.life.terms.retry_on else None,
    )


def _volumes(job: Job, owner: Subject, place: Place) -> tuple[TaskVolume, ...]:
    """Return what a job sees: its owner's home and groups, what is shared, its own data, and what its spec names."""

    def volume(path: str, *, read_only: bool = False) -> TaskVolume:
        return TaskVolume(path, to_absolute(path, place.datacenter), read_only)

    return (
        volume(f"home/{job.user}"),
        volume("shared", read_only=True),
        *(volume(f"groups/{name}") for name in sorted(owner.groups)),
        TaskVolume(data_path(job.id), to_absolute(f"jobs/{job.id}", place.datacenter), read_only=False),
        *volumes(job.spec, owner, place.datacenter),
    )


def _hosts(job: Job, facts: Facts, machines: Mapping[str, Machine]) -> tuple[tuple[str, str], ...]:
    """Return the name and address of every process of a gang."""
    names = [name for group in facts.groups for name in group.hosts]
    if job.spec.groups[0].image is not None:
        return tuple((name, "") for name in names)
    if len(job.life.nodes) == 1:
        return tuple((name, _loopback(job.id, worker)) for worker, name in enumerate(names))
    return tuple(
        (name, machines[process.node].address) for name, process in zip(names, job.life.processes, strict=True)
    )


def _loopback(job_id: int, worker: int) -> str:
    return str(IPv4Address(_LOOPBACK_FIRST + (job_id * _LOOPBACKS_OF_JOB + worker) % _LOOPBACK_COUNT))


def _fetching(job: Job, owner: Subject, place: Place, machines: Mapping[str, Machine]) -> Assignment:
    """Return the task that brings the job's files to the node of its first process, as its owner and nothing else."""
    assert job.spec.git is not None
    first = _process(job, 0, owner, place, machines)
    has_sandbox = SANDBOX in machines[node_of(job, 0)].runtimes
    source = to_absolute(f"jobs/{job.id}/src", place.datacenter)
    return replace(
        first,
        task_id=task_of(job, FETCH),
        argv=fetch_argv(job.spec.git),
        workdir=source,
        image=None if has_sandbox else first.image,
        runtime=SANDBOX if has_sandbox else DOCKER,
        cpus=None if has_sandbox else first.cpus,
        memory_bytes=None if has_sandbox else first.memory_bytes,
        gpus=(),
        hosts=(),
        network=None,
        overlay=False,
    )


def fetch_argv(git: Git) -> tuple[str, ...]:
    """Return the program that brings a repository into its working directory."""
    return ("sh", "-c", _FETCH_PROGRAM, "fetch", git.url, git.ref or "")
