"""Where a job stands: its states, its processes, and what of its past counts; and all that as JSON.

Nothing is decided here. What a life becomes is in `jobd.life.life`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from jobd.life.events import Event, Terms, decode_terms, event_name
from pfs.errors import Kind, PfsError
from pfs.light import light
from pfs.plain import fields_of

NOTHING_RAN = 125


class State(StrEnum):
    """Where a job stands."""

    PENDING = "PENDING"
    PREPARING = "PREPARING"
    WAITING = "WAITING"
    STARTING = "STARTING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    TIMEOUT = "TIMEOUT"
    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    NODE_LOST = "NODE_LOST"

    @property
    def over(self) -> bool:
        """Whether this is an end."""
        return self in ENDS


ENDS = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.TIMEOUT, State.OUT_OF_MEMORY, State.NODE_LOST})
BEFORE_PLACED = (State.PENDING, State.PREPARING, State.WAITING)
ON_NODES = (State.STARTING, State.RUNNING, State.STOPPING)


@light
@dataclass(frozen=True, slots=True)
class Process:
    """One process of the present attempt, in its place.

    Attributes:
        node: "" where the place is empty: nothing was put there yet, or it is to be put elsewhere.
        code: what it returned; None while it is not over.
        failed: which end its end means for the job: FAILED, OUT_OF_MEMORY, NODE_LOST; None where it does not count.
        result: what it wrote into its `$RESULT_FILE`.
        before: how the one ended that had its place before and was replaced; "" for none.
        retired: it is told to stop while its job goes on, since others need the room, or was.
    """

    node: str
    gpus: tuple[str, ...] = ()
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    code: int | None = None
    reason: str = ""
    failed: State | None = None
    result: str = ""
    before: str = ""
    retired: bool = False

    @property
    def over(self) -> bool:
        """Whether it is gone; an empty place has none that is not."""
        return self.ended_at_ns is not None or not self.node

    @property
    def is_open(self) -> bool:
        """Whether its place may be filled: nothing is there, or what is gone from there made room."""
        return not self.node or (self.retired and self.over)


@dataclass(frozen=True, slots=True)
class Kill:
    """Who asked for the end of a job, and why."""

    by: str
    text: str


@light
@dataclass(frozen=True, slots=True)
class Life:
    """Where a job stands, and how it came there. All times are in nanoseconds since the epoch.

    Attributes:
        reason: why it is in this state, for people; "" where the state says it all.
        attempt: counts the tries to run it, from 1.
        failures: how many of them failed and were followed by another; one that somebody asked for is none.
        held_by: who wants it to wait; "" for nobody.
        priority, max_duration_s: as they are now.
        processes: those of the present attempt, by worker index; empty until they are placed.
        fetched: whether its files are on their node, where a task has to bring them.
        placed_at_ns: when the present attempt was given to nodes.
        started_at_ns: when its first process of the present attempt began to run.
        exit_code: of the whole job; None until the end.
        kill_requested: the first kill that was taken.
        stop_end: the end that a STOPPING job will come to, where its processes do not decide it.
        patient: the processes of a STOPPING job have time to end by themselves.
        requeued: a STOPPING job runs again afterwards.
        first_failure: worker index of the first process that failed.
        losses: how many processes that failed were replaced, in all attempts.
        replaced: by worker index, how often its place was filled again, in all attempts.
        spans: its processes may be on several machines, and have a network for that.
        images: by worker index, the image that each ran last in any attempt, or is about to run, by its digest; ""
            where there is none.
        told_at_ns: when it last became other than before, in whatever respect.
    """

    state: State
    reason: str
    changed_at_ns: int
    submitted_at_ns: int
    terms: Terms
    priority: int
    max_duration_s: float | None = None
    held_by: str = ""
    attempt: int = 1
    failures: int = 0
    processes: tuple[Process, ...] = ()
    fetched: bool = False
    placed_at_ns: int | None = None
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    exit_code: int | None = None
    kill_requested: Kill | None = None
    stop_end: State | None = None
    patient: bool = False
    requeued: bool = False
    first_failure: int | None = None
    losses: int = 0
    replaced: tuple[int, ...] = ()
    spans: bool = False
    images: tuple[str, ...] = ()
    told_at_ns: int = 0

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes that its processes were placed on, each once, in order of worker index."""
        return tuple(dict.fromkeys(process.node for process in self.processes if process.node))

    def run(self, worker: int) -> int:
        """Return which of a worker's processes the present one is: every attempt and every replacement has its own."""
        return self.attempt + (self.replaced[worker] if 0 <= worker < len(self.replaced) else 0)


class IllegalEvent(PfsError):
    """An event that cannot happen to a job in its state."""

    def __init__(self, state: State | None, event: Event, why: str = "") -> None:
        standing = f"in state {state}" if state is not None else "that was never submitted"
        text = f"{event_name(event)!r} cannot happen to a job {standing}"
        super().__init__(Kind.INVALID, f"{text}: {why}" if why else text)


def workers_are_over(life: Life) -> bool:
    """Tell whether all processes that are no services are gone, and none of them has to be put elsewhere."""
    services = life.terms.services
    return all(p.over for p, service in zip(life.processes, services, strict=True) if not service) and not any(
        not services[worker] for worker in missing(life)
    )


def missing(life: Life) -> tuple[int, ...]:
    """Return the workers whose places are empty and have to be filled: a job that goes on has less than it needs."""
    if life.state not in (State.STARTING, State.RUNNING):
        return ()
    services, found = life.terms.services, []
    for service in (True, False):
        there = [worker for worker in range(len(life.processes)) if services[worker] is service]
        empty = [worker for worker in there if life.processes[worker].is_open]
        least = len(there) if service or life.terms.least is None else life.terms.least
        found += empty[: max(0, least - (len(there) - len(empty)))]
    return tuple(sorted(found))


# ---- JSON


def encode_life(life: Life) -> dict[str, Any]:
    """Return the life as JSON values, to be stored."""
    return fields_of(life)


def decode_life(value: Mapping[str, Any]) -> Life:
    """Return the life that `encode_life` returned as `value`."""
    fields = dict(value)
    kill, stop_end = fields["kill_requested"], fields["stop_end"]
    fields["state"] = State(fields["state"])
    fields["terms"] = decode_terms(fields["terms"])
    fields["processes"] = tuple(_decode_process(process) for process in fields["processes"])
    fields["kill_requested"] = None if kill is None else Kill(**kill)
    fields["stop_end"] = None if stop_end is None else State(stop_end)
    fields["images"] = tuple(fields.get("images", ()))
    fields["replaced"] = tuple(fields.get("replaced", ()))
    fields.setdefault("told_at_ns", fields["changed_at_ns"])
    # lives of old were told so by their places alone
    fields.setdefault("spans", len({process.node for process in fields["processes"]}) > 1)
    return Life(**fields)


def _decode_process(value: Mapping[str, Any]) -> Process:
    fields = dict(value)
    failed = fields["failed"]
    return Process(**fields | {"gpus": tuple(fields["gpus"]), "failed": None if failed is None else State(failed)})
