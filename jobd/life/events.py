"""What can happen to a job.

Every event brings its time. Events are written down before anyone is told, and nothing else changes a job
(`jobd.life.life`). A process is named by its *worker index*: its place among all processes of the job.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pfs.plain import fields_of


@dataclass(frozen=True, slots=True)
class Terms:
    """What the life of a job follows from beside what happens to it: that part of its spec.

    Attributes:
        services: for each process, by worker index, whether it is a service: starts first, is not awaited.
        end: `all` awaits every process that is no service, `any` the first.
        on_error: `stop` ends all processes when one fails, `continue` does not.
        retries: how often it is tried again, after what is in `retry_on`: "node", "error".
        replaces: how many of its processes that fail are replaced, each in its place; the next failure counts.
        least: how many processes that are no services it needs to run, where it may have more: the places of the
            others may be empty; None where it needs all.
        fetches: a task brings its files to its node before its processes start.
        together: the programs of processes that are no services begin when all of these have been started.
        is_array: it has tasks, jobs of their own, and no process.
    """

    services: tuple[bool, ...] = (False,)
    end: str = "all"
    on_error: str = "stop"
    retries: int = 0
    retry_on: tuple[str, ...] = ()
    priority: int = 50
    max_duration_s: float | None = None
    fetches: bool = False
    together: bool = False
    is_array: bool = False
    replaces: int = 0
    least: int | None = None

    @property
    def leaves_nodes(self) -> bool:
        """Whether what is on a node that is away may be started elsewhere."""
        return "node" in self.retry_on or self.replaces > 0


@dataclass(frozen=True, slots=True)
class Place:
    """Where one process runs: a node, by its id, and the GPUs that it has there, by their UUIDs; "" for nowhere yet."""

    node: str
    gpus: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened; `time_ns` is when, in nanoseconds since the epoch."""

    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfAttempt(Event):
    """Something that a node told of one attempt: that of the task; 0 is the present one."""

    attempt: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OfWorker(OfAttempt):
    """The same of the process of one worker, whose attempts are counted by `Life.run`."""

    worker: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted(Event):
    """The job was accepted; `held_by` is who wants it to wait until it is released, "" for nobody."""

    terms: Terms = Terms()
    held_by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationStarted(Event):
    """The jobs that it waited for are over, and its files are being brought together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Event):
    """Its files are there, or it needs none; it waits for nodes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationFailed(Event):
    """Its files cannot be brought together; `text` says why."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dismissed(Event):
    """It can never run any more: a dependency that cannot be met, a right that was lost; `text` says which."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(Event):
    """The scheduler gave its processes to nodes; one place for each worker index.

    Attributes:
        spans: they may come to be on several machines, and get a network for that, though they are not yet.
    """

    places: tuple[Place, ...]
    spans: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled(Event):
    """The scheduler found a place for a worker of a job that goes on, whose place was empty."""

    worker: int
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Retired(Event):
    """A job gives up the place of a worker that it can do without; `text` says for whom."""

    worker: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched(OfAttempt):
    """The task that brings its files to its node has done so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchFailed(OfAttempt):
    """The task that brings its files to its node could not; `text` says why."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFound(OfWorker):
    """A node has the image of a process that it will start: `image`, by its digest; its fellows get the same."""

    image: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(OfWorker):
    """A process runs; `image` is its image by its digest, "" in a sandbox."""

    image: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed(OfWorker):
    """A node could not start a process, and nothing of it is left there; `text` says why."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended(OfWorker):
    """A process is gone.

    Attributes:
        code: what it returned; 128 + n for signal n.
        reason: "" for an ordinary end, else a sentence.
        out_of_memory: whether the kernel ended it for want of memory.
        result: what it wrote into its `$RESULT_FILE`.
    """

    code: int
    reason: str = ""
    out_of_memory: bool = False
    result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLost(OfWorker):
    """The node of a process is gone for good, and with it every word about it; `text` says how that is known."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KillRequested(Event):
    """Somebody wants it to end: user `by`, with an optional `text`."""

    by: str
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLimitReached(Event):
    """It ran as long as it may."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PatienceOver(Event):
    """One process ended the job, and the others had time to end by themselves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held(Event):
    """User `by` wants it to wait until it is released."""

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(Event):
    """User `by` lets it go on."""

    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorityChanged(Event):
    """User `by` gave it another priority."""

    by: str
    priority: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended(Event):
    """User `by` gave it more time, in seconds."""

    by: str
    by_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RequeueRequested(Event):
    """User `by` wants it to run again under its number; where nobody does, `text` says why it has to."""

    by: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayStarted(Event):
    """The first task of an array runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayEnded(Event):
    """All tasks of an array are over: its exit code, and how many failed as a sentence ("" for none)."""

    code: int
    text: str = ""


EVENTS: Mapping[str, type[Event]] = {
    "submitted": Submitted,
    "preparation-started": PreparationStarted,
    "prepared": Prepared,
    "preparation-failed": PreparationFailed,
    "dismissed": Dismissed,
    "placed": Placed,
    "filled": Filled,
    "retired": Retired,
    "fetched": Fetched,
    "fetch-failed": FetchFailed,
    "image-found": ImageFound,
    "started": Started,
    "start-failed": StartFailed,
    "ended": Ended,
    "node-lost": NodeLost,
    "kill-requested": KillRequested,
    "time-limit-reached": TimeLimitReached,
    "patience-over": PatienceOver,
    "held": Held,
    "released": Released,
    "priority-changed": PriorityChanged,
    "extended": Extended,
    "requeue-requested": RequeueRequested,
    "array-started": ArrayStarted,
    "array-ended": ArrayEnded,
}
_EVENT_NAMES = {kind: name for name, kind in EVENTS.items()}


def event_name(event: Event | type[Event]) -> str:
    """Return the word for a kind of event, as in the history of a job."""
    return _EVENT_NAMES[event if isinstance(event, type) else type(event)]


def encode_event(event: Event) -> dict[str, Any]:
    """Return the event as JSON values, to be stored."""
    return {"event": event_name(event), **fields_of(event)}


def decode_event(value: Mapping[str, Any]) -> Event:
    """Return the event that `encode_event` returned as `value`.

    Raises:
        ValueError: it is none.
    """
    fields = dict(value)
    kind = EVENTS.get(fields.pop("event", ""))
    if kind is None:
        raise ValueError(f"no event: {value!r}")
    try:
        if "terms" in fields:
            fields["terms"] = decode_terms(fields["terms"])
        if "places" in fields:
            fields["places"] = tuple(map(_decode_place, fields["places"]))
        if "place" in fields:
            fields["place"] = _decode_place(fields["place"])
        return kind(**fields)
    except (KeyError, TypeError) as error:
        raise ValueError(f"no event: {value!r}: {error}") from None


def _decode_place(value: Mapping[str, Any]) -> Place:
    return Place(value["node"], tuple(value["gpus"]))


def decode_terms(value: Mapping[str, Any]) -> Terms:
    """Return the terms whose fields are in `value`."""
    fields = dict(value)
    return Terms(**fields | {"services": tuple(fields["services"]), "retry_on": tuple(fields["retry_on"])})
