"""From a job to the task that a node is given: which process, what it sees, what it is told.

Pure: the same job gives the same task, so that a task may be asked for again after any crash.
"""

from dataclasses import dataclass

from jobd.environment import Facts, GroupHosts, environment, host_name
from jobd.job import Job
from jobd.scheduling.scheduler import Pending
from jobd.wire import Assignment, TaskVolume, task_id
from pfs.path import to_absolute
from pfs.perm import Subject


@dataclass(frozen=True, slots=True)
class Place:
    """Where jobs run, as they are told."""

    datacenter: str


def pending_of(job: Job) -> Pending:
    """Return what the scheduler needs to know of a waiting job."""
    group = job.spec.groups[0]
    return Pending(
        job_id=job.id,
        priority=job.spec.priority,
        needs_image=group.image is not None,
        cpus=group.cpus,
        memory_bytes=group.memory_bytes,
        gpus=group.gpus,
    )


def task_of(job: Job) -> str:
    """Return the id of the job's process, in its present attempt."""
    return task_id(job.id, job.life.attempt, 0, 0)


def data_path(job_id: int, part: str = "") -> str:
    """Return where a job's data is under the data root."""
    return f"jobs/{job_id}/data/{part}".rstrip("/")


def facts_of(job: Job, place: Place) -> Facts:
    """Return what the environment of the job's process follows from."""
    group = job.spec.groups[0]
    hosts = GroupHosts(group.name, (host_name(job.spec.name, job.id, 0),))
    return Facts(
        datacenter=place.datacenter,
        user=job.user,
        job_id=job.id,
        job_name=job.spec.name,
        attempt=job.life.attempt,
        groups=(hosts,),
        group_index=0,
        process_index=0,
        env=group.env,
        end_time_s=_end_time_s(job),
    )


def _end_time_s(job: Job) -> int | None:
    """Return when the job's time is over, counted from its placement: what starts in between is its own time."""
    if job.spec.max_duration_s is None:
        return None
    return int(job.life.changed_at_ns / 1e9 + job.spec.max_duration_s)


def assignment(job: Job, owner: Subject, place: Place) -> Assignment:
    """Return the task of the job's process: its owner's home, what is shared, and the job's own data."""
    group = job.spec.groups[0]
    facts = facts_of(job, place)
    home, own = f"home/{job.user}", f"jobs/{job.id}"
    return Assignment(
        task_id=task_of(job),
        argv=group.argv,
        env=environment(facts),
        workdir=to_absolute(f"{own}/src", place.datacenter),
        hostname=facts.groups[0].hosts[0],
        image=group.image,
        uid=owner.uid,
        gid=owner.uid,
        volumes=(
            TaskVolume(home, to_absolute(home, place.datacenter), read_only=False),
            TaskVolume("shared", to_absolute("shared", place.datacenter), read_only=True),
            TaskVolume(data_path(job.id), to_absolute(own, place.datacenter), read_only=False),
        ),
        cpus=group.cpus,
        memory_bytes=group.memory_bytes,
        grace_s=job.spec.grace_s,
    )
