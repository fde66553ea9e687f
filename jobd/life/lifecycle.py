"""The life of a job: its states, what can happen to it, and what it becomes.

    PENDING ──▶ PREPARING ──▶ WAITING ──▶ STARTING ──▶ RUNNING ──▶ STOPPING ──▶ an end

Rules:

1. Everything that happens is an *event*. Events are written down before anyone is told, and the `Life` of a job is
   the fold of its events, nothing else: `fold(events) == life`.
2. `TRANSITIONS` says for each state what each event leads to. An event that has no entry there is illegal: it
   raises and changes nothing. Events that may come late or twice (nodes repeat what they told) have an entry that
   says so: `IGNORE`.
3. There are six ends, and no way out of them: SUCCEEDED, FAILED, CANCELLED, TIMEOUT, OUT_OF_MEMORY, NODE_LOST.
4. A kill works in every state. Before anything was started it ends the job at once; afterwards the job is STOPPING
   until its process is gone, and then CANCELLED, whatever the process says. A kill that was taken is never forgotten.
5. What made the job stop first decides its end: a job over its time is TIMEOUT, even if it is killed while it stops.
6. The exit code exists at the end and only there: what the process returned, and 125 when nothing ran or when
   nobody will ever know.

This module knows no clock: every event brings its time. Clocks of nodes differ, so a change is never dated before
the one that it follows.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from pfs.errors import Kind, PfsError

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


# ---- events


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened; `time_ns` is when, in nanoseconds since the epoch."""

    time_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Submitted(Event):
    """The job was accepted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationStarted(Event):
    """Its files are being brought together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Event):
    """Its files are there, or it needs none; it waits for a node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparationFailed(Event):
    """Its files cannot be brought together; `text` says why."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed(Event):
    """The scheduler gave it to a node, by the node's id."""

    node: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """Its process runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StartFailed(Event):
    """The node could not start it, and nothing of it is left there; `text` says why."""

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
class Ended(Event):
    """Its process is gone.

    Attributes:
        code: what it returned; 128 + n for signal n.
        reason: "" for an ordinary end, else a sentence.
        out_of_memory: whether the kernel ended it for want of memory.
    """

    code: int
    reason: str = ""
    out_of_memory: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeLost(Event):
    """Its node is gone for good, and with it every word about the process; `text` says how that is known."""

    text: str


EVENTS: Mapping[str, type[Event]] = {
    "submitted": Submitted,
    "preparation-started": PreparationStarted,
    "prepared": Prepared,
    "preparation-failed": PreparationFailed,
    "placed": Placed,
    "started": Started,
    "start-failed": StartFailed,
    "kill-requested": KillRequested,
    "time-limit-reached": TimeLimitReached,
    "ended": Ended,
    "node-lost": NodeLost,
}
_EVENT_NAMES = {kind: name for name, kind in EVENTS.items()}


# ---- the life


@dataclass(frozen=True, slots=True)
class Kill:
    """Who asked for the end of a job, and why."""

    by: str
    text: str


@dataclass(frozen=True, slots=True)
class Life:
    """Where a job stands, and how it came there. All times are in nanoseconds since the epoch.

    Attributes:
        reason: why it is in this state, for people; "" where the state says it all.
        attempt: counts the tries to run it, from 1.
        node: id of the node that it was given to.
        started_at_ns: when its process began to run.
        exit_code: of the whole job; None until the end.
        kill_requested: the first kill that was taken.
        stop_end: the end that a STOPPING job will come to; None in every other state.
    """

    state: State
    reason: str
    changed_at_ns: int
    submitted_at_ns: int
    started_at_ns: int | None = None
    ended_at_ns: int | None = None
    attempt: int = 1
    node: str | None = None
    exit_code: int | None = None
    kill_requested: Kill | None = None
    stop_end: State | None = None


class IllegalEvent(PfsError):
    """An event that cannot happen to a job in its state."""

    def __init__(self, state: State | None, event: Event) -> None:
        standing = f"in state {state}" if state is not None else "that was never submitted"
        super().__init__(Kind.INVALID, f"{event_name(event)!r} cannot happen to a job {standing}")


# the state to enter, how to find it, or that nothing changes
_Target = State | Callable[[Life, Event], State] | None
IGNORE = None


def _by_exit(_life: Life, event: Event) -> State:
    assert isinstance(event, Ended)
    if event.out_of_memory:
        return State.OUT_OF_MEMORY
    return State.SUCCEEDED if event.code == 0 else State.FAILED


def _by_stop(life: Life, _event: Event) -> State:
    assert life.stop_end is not None
    return life.stop_end


_OVER: Mapping[type[Event], _Target] = {
    # a kill that crossed the end on its way; who asked is told by the caller that it is over
    KillRequested: IGNORE,
    TimeLimitReached: IGNORE,
    Prepared: IGNORE,
    PreparationFailed: IGNORE,
    Started: IGNORE,
    StartFailed: IGNORE,
    Ended: IGNORE,
    NodeLost: IGNORE,
}

TRANSITIONS: Mapping[State, Mapping[type[Event], _Target]] = {
    State.PENDING: {
        PreparationStarted: State.PREPARING,
        Prepared: State.WAITING,
        KillRequested: State.CANCELLED,
    },
    State.PREPARING: {
        # after a restart of the server it begins again
        PreparationStarted: IGNORE,
        Prepared: State.WAITING,
        PreparationFailed: State.FAILED,
        KillRequested: State.CANCELLED,
    },
    State.WAITING: {
        Placed: State.STARTING,
        KillRequested: State.CANCELLED,
    },
    State.STARTING: {
        Started: State.RUNNING,
        StartFailed: State.FAILED,
        # the word that it started was overtaken
        Ended: _by_exit,
        KillRequested: State.STOPPING,
        NodeLost: State.NODE_LOST,
    },
    State.RUNNING: {
        Started: IGNORE,
        Ended: _by_exit,
        KillRequested: State.STOPPING,
        TimeLimitReached: State.STOPPING,
        NodeLost: State.NODE_LOST,
    },
    State.STOPPING: {
        # it had started before the node heard that it shall stop
        Started: State.STOPPING,
        StartFailed: _by_stop,
        Ended: _by_stop,
        KillRequested: State.STOPPING,
        TimeLimitReached: IGNORE,
        NodeLost: _by_stop,
    },
    **dict.fromkeys(ENDS, _OVER),
}


def update(life: Life | None, event: Event) -> Life:
    """Return what a job becomes by an event; `life` is None before it was submitted.

    Raises:
        IllegalEvent: this cannot happen to the job; nothing changes.
    """
    if life is None:
        if not isinstance(event, Submitted):
            raise IllegalEvent(None, event)
        return Life(State.PENDING, "", event.time_ns, event.time_ns)
    table = TRANSITIONS[life.state]
    if type(event) not in table:
        raise IllegalEvent(life.state, event)
    target = table[type(event)]
    if target is None:
        return life
    state = target if isinstance(target, State) else target(life, event)
    at_ns = max(event.time_ns, life.changed_at_ns)
    noted = _noted(life, event, at_ns)
    if state == life.state:
        return noted
    return _entered(noted, state, event, at_ns)


def fold(events: Iterable[Event]) -> Life:
    """Return the life that these events, in their order, make.

    Raises:
        IllegalEvent: they cannot have happened so.
    """
    life = None
    for event in events:
        life = update(life, event)
    if life is None:
        raise PfsError(Kind.INVALID, "a job without any event was never submitted")
    return life


def _noted(life: Life, event: Event, at_ns: int) -> Life:
    """Note what the event tells, beside the change of state."""
    match event:
        case Placed(node=node):
            return replace(life, node=node)
        case Started() if life.started_at_ns is None:
            return replace(life, started_at_ns=at_ns)
        case KillRequested(by=by, text=text) if life.kill_requested is None:
            return replace(life, kill_requested=Kill(by, text))
    return life


def _entered(life: Life, state: State, event: Event, at_ns: int) -> Life:
    changed = replace(life, state=state, reason=_reason(life, state, event), changed_at_ns=at_ns, stop_end=None)
    if state is State.STOPPING:
        stop_end = State.CANCELLED if isinstance(event, KillRequested) else State.TIMEOUT
        return replace(changed, stop_end=stop_end)
    if state.over:
        exit_code = event.code if isinstance(event, Ended) else NOTHING_RAN
        return replace(changed, ended_at_ns=at_ns, exit_code=exit_code)
    return changed


def _reason(life: Life, state: State, event: Event) -> str:
    if life.state is State.STOPPING:
        return life.reason
    match event:
        case KillRequested(by=by, text=text):
            return f"killed by {by}: {text}" if text else f"killed by {by}"
        case TimeLimitReached():
            return "reached its time limit"
        case PreparationFailed(text=text) | StartFailed(text=text) | NodeLost(text=text):
            return text
        case Ended(code=code, reason=reason) if reason or state is not State.SUCCEEDED:
            return reason or f"exit code {code}"
    return ""


# ---- JSON


def event_name(event: Event) -> str:
    """Return the word for a kind of event, as in the history of a job."""
    return _EVENT_NAMES[type(event)]


def encode_event(event: Event) -> dict[str, Any]:
    """Return the event as JSON values, to be stored."""
    return {"event": event_name(event), **asdict(event)}


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
        return kind(**fields)
    except TypeError as error:
        raise ValueError(f"no event: {value!r}: {error}") from None


def encode_life(life: Life) -> dict[str, Any]:
    """Return the life as JSON values, to be stored."""
    return asdict(life)


def decode_life(value: Mapping[str, Any]) -> Life:
    """Return the life that `encode_life` returned as `value`."""
    fields = dict(value)
    kill, stop_end = fields["kill_requested"], fields["stop_end"]
    fields["state"] = State(fields["state"])
    fields["kill_requested"] = None if kill is None else Kill(**kill)
    fields["stop_end"] = None if stop_end is None else State(stop_end)
    return Life(**fields)
