"""What `why` says beside what happened: how a job stands in plain words, and what would help it.

A reason says what is so, with its numbers; whoever reads it for the first time also wants to know what to do. Of jobs
that wait the scheduler says that itself, since it knows what there is.
"""

from collections.abc import Sequence

from jobd.life.life import Life, State
from jobd.life.model import NOTHING_RAN, missing
from jobd.scheduling.words import some, time_of
from jobd.spec.model import JobSpec
from jobd.spec.units import format_size

NOT_FOUND = 127
LOOK = "the end of log.txt has its last words"
HELD = "held by {by} until it is released: echo release > ctl"
AWAY = "it goes on there; if that never comes back, administrators write lost to ctl"
RETRY = "with retry: {max: 1, on: [node]} it would run again elsewhere"


def plainly(life: Life, nodes: Sequence[str]) -> str:
    """Say how a job stands of which there is nothing special to say.

    Args:
        nodes: the names of its nodes.
    """
    match life.state:
        case State.PREPARING:
            return "its files are being brought together"
        case State.STARTING:
            return f"it is being started on {some(nodes)}"
        case State.RUNNING if life.started_at_ns is not None:
            since_s = life.started_at_ns / 1e9
            ends = f", until {time_of(since_s + life.max_duration_s)} at the latest" if life.max_duration_s else ""
            return f"it runs on {some(nodes)} since {time_of(since_s)}{ends}"
        case State.STOPPING:
            return "it is being stopped"
        case State.SUCCEEDED:
            return "it succeeded: all of its processes ended with exit code 0"
        case _:
            return f"it is {life.state}"


def lacking(life: Life) -> str:
    """Say which process of a job that goes on has no place; "" where all that it needs have theirs."""
    workers = missing(life)
    if not workers:
        return ""
    more = f" and {len(workers) - 1} more" if len(workers) > 1 else ""
    return f"worker {workers[0]}{more} waits for another place: {life.processes[workers[0]].before}"


def cure(life: Life, spec: JobSpec) -> str:
    """Say what would help a job that is over; "" where nothing went wrong, or what happened says it."""
    match life.state:
        case State.FAILED:
            return _of_failure(life, spec)
        case State.OUT_OF_MEMORY:
            return _of_memory(life, spec)
        case State.TIMEOUT if life.max_duration_s is not None:
            limit = f"its max_duration of {life.max_duration_s:g} s"
            return f"{limit} was too short; write a longer one, or `extend 2h` to ctl while it runs"
        case State.NODE_LOST if "node" not in life.terms.retry_on:
            return RETRY
        case _:
            return ""


def _of_failure(life: Life, spec: JobSpec) -> str:
    if life.exit_code == NOTHING_RAN or life.first_failure is None:
        return ""
    group, _ = spec.workers()[life.first_failure]
    if life.exit_code != NOT_FOUND:
        return LOOK
    image = spec.groups[group].image
    where = "the userland of its node" if image is None else f"the image {image}"
    return f"is everything that it calls in {where}? {LOOK}"


def _of_memory(life: Life, spec: JobSpec) -> str:
    if life.first_failure is None:
        return ""
    group, _ = spec.workers()[life.first_failure]
    limit_bytes = spec.groups[group].memory_bytes
    if limit_bytes is None:
        return "its node has no more; ask for more `memory` than it took, and it gets a node with that"
    return f"each process may have {format_size(limit_bytes)}; ask for more `memory`"
