"""Which process of a job somebody means, and whether somebody can be let into it now.

Pure: it goes by the job as it stands.
"""

import re

from jobd.job import Job
from jobd.life.life import State
from pfs.errors import Kind, PfsError

_PLACE = re.compile(r"([0-9]{1,9})\.([0-9]{1,9})", re.ASCII)
_INDEX = re.compile(r"[0-9]{1,9}", re.ASCII)

_NOT_YET = {
    State.PENDING: "it waits",
    State.PREPARING: "its files are being prepared",
    State.WAITING: "it waits",
    State.STARTING: "it is starting",
}


def meant(job: Job, process: str | None) -> int:
    """Return the worker index of the process that is meant.

    Args:
        process: `"<group>.<process>"`, a number that counts the processes of all groups, or None for the first.

    Raises:
        PfsError: INVALID when it is neither, or for an array; NOT_FOUND when the job has no such process.
    """
    if job.life.terms.is_array:
        raise PfsError(Kind.INVALID, f"job {job.id} is an array: its tasks are jobs of their own; name one of these")
    workers = job.spec.workers()
    if process is None:
        return 0
    if _INDEX.fullmatch(process) and int(process) < len(workers):
        return int(process)
    place = _PLACE.fullmatch(process)
    if place is not None and (int(place[1]), int(place[2])) in workers:
        return workers.index((int(place[1]), int(place[2])))
    if place is None and not _INDEX.fullmatch(process):
        raise PfsError(Kind.INVALID, f"{process[:40]!r} is no process: say 1.0 for process 0 of group 1, or its index")
    there = [f"{group}.{each}" for group, each in workers]
    told = there[0] if len(there) == 1 else f"{there[0]} to {there[-1]}"
    raise PfsError(Kind.NOT_FOUND, f"job {job.id} has no process {process}; it has {told}")


def check_runs(job: Job, worker: int) -> None:
    """Refuse a process that does not run now.

    Raises:
        PfsError: BUSY, with how it stands.
    """
    life = job.life
    if worker >= len(life.processes):
        raise PfsError(Kind.BUSY, f"job {job.id} is not running: {_NOT_YET.get(life.state, 'it is about to end')}")
    process = life.processes[worker]
    group, place = job.spec.workers()[worker]
    name = f"process {group}.{place} of job {job.id}"
    if process.over:
        raise PfsError(Kind.BUSY, f"{name} is not running: it ended with {process.code}")
    if process.started_at_ns is None:
        raise PfsError(Kind.BUSY, f"{name} is not running: it is starting")
