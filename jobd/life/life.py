"""The life of a job: where it stands, and what it becomes by what happens to it.

    PENDING ──▶ PREPARING ──▶ WAITING ──▶ STARTING ──▶ RUNNING ──▶ STOPPING ──▶ an end
                                 ▲                                    │
                                 └───────────── another attempt ◀─────┘

Rules:

1. Everything that happens is an *event*, and the `Life` of a job is the fold of its events, nothing else.
2. `RULES` says for each state what each event may lead to. An event that has no entry there is illegal: it raises and
   changes nothing. Events that may come late or twice (nodes repeat what they told) are `IGNORED`, and so is what
   nodes tell of another attempt than the present one.
3. There are six ends, and no way out of them: SUCCEEDED, FAILED, CANCELLED, TIMEOUT, OUT_OF_MEMORY, NODE_LOST.
4. A kill works in every state. Before anything was placed it ends the job at once; afterwards the job is STOPPING until
   all its processes are gone, and then CANCELLED, whatever they say. A kill that was taken is never forgotten.
5. What made the job stop first decides its end: a job over its time is TIMEOUT, even if it is killed while it stops.
   Where nothing but its processes made it stop, they decide: the first that failed, else success.
6. A process that ends while the job stops already decides nothing: it was told to stop, or its fellows are gone. Who
   is told, and when, is `told`.
7. An attempt that failed, or whose node was lost, is followed by another one where the terms allow; so is one that
   somebody asked to run again. The number stays, `attempt` counts, and the processes begin anew. Of a job that is held
   nothing runs: to run it again is to release it, and the attempt that it waits for is that one.
8. No process starts before the files that a task brings are there: until then the attempt ends with that task.
9. The exit code exists at the end and only there: that of the first process that failed, in time, else 0; 125 when
   nothing ran or when nobody will ever know.
10. In a job whose terms replace what fails, a process that fails is followed by another in its place, up to a limit:
    on its node, or, where that could not run it or is lost, in whatever place the scheduler finds. The job goes on
    meanwhile; where nothing of it is left, it waits for nodes as a whole. What a node takes with it is no failure.
11. A job that needs fewer processes than it may have begins with so many; the scheduler may fill the empty places of
    the others later, and have them retire. What retires is told to stop, and its end decides nothing.
12. An array has no processes: it runs from the start of its first task to the end of its last one (`ARRAY_RULES`).

This module knows no clock: every event brings its time. Clocks of nodes differ, so a change is never dated before
the one that it follows.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from jobd.life import changes, steps
from jobd.life.events import (
    ArrayEnded,
    ArrayStarted,
    Dismissed,
    Ended,
    Event,
    Extended,
    Fetched,
    FetchFailed,
    Filled,
    Held,
    ImageFound,
    KillRequested,
    NodeLost,
    OfAttempt,
    OfWorker,
    PatienceOver,
    Placed,
    PreparationFailed,
    PreparationStarted,
    Prepared,
    PriorityChanged,
    Released,
    RequeueRequested,
    Retired,
    Started,
    StartFailed,
    Submitted,
    TimeLimitReached,
)
from jobd.life.model import (
    BEFORE_PLACED,
    ENDS,
    NOTHING_RAN,
    ON_NODES,
    IllegalEvent,
    Kill,
    Life,
    Process,
    State,
    decode_life,
    encode_life,
    missing,
    workers_are_over,
)
from pfs.errors import Kind, PfsError

__all__ = [
    "ARRAY_RULES",
    "BEFORE_PLACED",
    "ENDS",
    "IGNORED",
    "NOTHING_RAN",
    "ON_NODES",
    "RULES",
    "IllegalEvent",
    "Kill",
    "Life",
    "Process",
    "Rule",
    "State",
    "decode_life",
    "encode_life",
    "fold",
    "missing",
    "told",
    "update",
]


def told(life: Life, worker: int) -> bool:
    """Tell whether a process of the job is to stop: TERM, grace, KILL.

    All are told at once where somebody or a limit stops the job, or a failure does. Else the job stops by itself: the
    services are told when all others are over, and the others when they had time enough. In a job that goes on, who
    retires is told.
    """
    if life.state in (State.STARTING, State.RUNNING):
        return life.processes[worker].retired
    if life.state is not State.STOPPING:
        return False
    failed = life.first_failure is not None and life.terms.on_error == "stop"
    if life.stop_end is not None or life.requeued or life.kill_requested is not None or failed:
        return True
    return workers_are_over(life) if life.terms.services[worker] else not life.patient


def update(life: Life | None, event: Event) -> Life:
    """Return what a job becomes by an event; `life` is None before it was submitted.

    Raises:
        IllegalEvent: this cannot happen to the job; nothing changes.
    """
    if life is None:
        if not isinstance(event, Submitted):
            raise IllegalEvent(None, event)
        at_ns, terms = event.time_ns, event.terms
        life = Life(State.PENDING, "", at_ns, at_ns, terms, terms.priority, terms.max_duration_s, event.held_by)
        return replace(life, told_at_ns=at_ns)
    rules = ARRAY_RULES if life.terms.is_array else RULES
    rule = rules[life.state].get(type(event))
    if rule is None:
        raise IllegalEvent(life.state, event)
    if isinstance(event, OfAttempt) and event.attempt not in (0, _attempt(life, event)):
        return life
    after = rule.step(life, event)
    if after == life:
        return life
    return replace(after, told_at_ns=max(life.told_at_ns, after.changed_at_ns, event.time_ns))


def _attempt(life: Life, event: OfAttempt) -> int:
    """Return the attempt that an event has to tell of, to be of the present one."""
    return life.run(event.worker) if isinstance(event, OfWorker) else life.attempt


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


# ---- the tables


@dataclass(frozen=True, slots=True)
class Rule:
    """What an event does in a state.

    Attributes:
        to: the states that it may lead to; the state itself where something else changes, none where nothing does.
    """

    to: tuple[State, ...]
    step: Callable[[Life, Any], Life]


IGNORED = Rule((), steps.stays)


def _to(state: State) -> Rule:
    return Rule((state,), lambda life, event: steps.enter(life, state, "", event))


_S = State
_FAILURES = (_S.FAILED, _S.OUT_OF_MEMORY, _S.NODE_LOST)
_ALL_ENDS = (_S.SUCCEEDED, *_FAILURES, _S.CANCELLED, _S.TIMEOUT)

_NOT_PREPARED = Rule((_S.FAILED,), steps.cannot_prepare)
_DISMISSED = Rule((_S.CANCELLED,), steps.dismiss)
_KILLED_BEFORE = Rule((_S.CANCELLED,), steps.kill_before_placed)
_KILLED = Rule((_S.STOPPING,), steps.kill)
_REQUEUED = Rule((_S.STOPPING,), steps.requeue)
_ARRAY_STOPPED = Rule((_S.STOPPING,), steps.stop_array)
_ARRAY_ENDED = Rule((_S.SUCCEEDED, _S.FAILED), steps.array_ended)


def _process_ended(state: State, *ends: State) -> Rule:
    """Return what the end of a process may lead to: nothing yet, that the others are told, an end, another attempt."""
    return Rule(tuple(dict.fromkeys((state, _S.STOPPING, *ends, _S.WAITING))), steps.process_ended)


def _changed(state: State, *, waits: bool) -> dict[type[Event], Rule]:
    """Return what people may change of a job that is not about to end."""
    rules: dict[type[Event], Rule] = {
        PriorityChanged: Rule((state,), changes.prioritise),
        Extended: Rule((state,), changes.extend),
    }
    holding: dict[type[Event], Rule] = {
        Held: Rule((state,), changes.hold),
        Released: Rule((state,), changes.release),
        RequeueRequested: Rule((state,), changes.requeue_held),
    }
    return {**holding, **rules} if waits else rules


# what nodes and watchers tell may cross the end of a job, or of an attempt, on its way
_CROSSING: Mapping[type[Event], Rule] = dict.fromkeys(
    (Fetched, FetchFailed, ImageFound, Started, StartFailed, Ended, NodeLost, TimeLimitReached, PatienceOver), IGNORED
)
_OVER: Mapping[type[Event], Rule] = {
    **_CROSSING,
    # a kill that crossed the end on its way; who asked is told by the caller that it is over
    **dict.fromkeys((KillRequested, Prepared, PreparationFailed, Dismissed), IGNORED),
}

RULES: Mapping[State, Mapping[type[Event], Rule]] = {
    State.PENDING: {
        PreparationStarted: _to(State.PREPARING),
        Prepared: _to(State.WAITING),
        Dismissed: _DISMISSED,
        KillRequested: _KILLED_BEFORE,
        **_changed(State.PENDING, waits=True),
    },
    State.PREPARING: {
        # after a restart of the server it begins again
        PreparationStarted: IGNORED,
        Prepared: _to(State.WAITING),
        PreparationFailed: _NOT_PREPARED,
        Dismissed: _DISMISSED,
        KillRequested: _KILLED_BEFORE,
        **_changed(State.PREPARING, waits=True),
    },
    State.WAITING: {
        **_CROSSING,
        Placed: Rule((State.STARTING,), steps.place),
        Dismissed: _DISMISSED,
        KillRequested: _KILLED_BEFORE,
        **_changed(State.WAITING, waits=True),
    },
    State.STARTING: {
        Filled: Rule((State.STARTING,), steps.fill),
        Retired: Rule((State.STARTING,), steps.retire),
        Fetched: Rule((State.STARTING,), steps.fetched),
        FetchFailed: Rule((State.FAILED, State.WAITING), steps.cannot_fetch),
        ImageFound: Rule((State.STARTING,), steps.image_found),
        Started: Rule((State.RUNNING,), steps.started),
        # also success: of one that retires, when all others have ended well; or the word that it started was overtaken
        **dict.fromkeys((StartFailed, Ended, NodeLost), _process_ended(State.STARTING, State.SUCCEEDED, *_FAILURES)),
        KillRequested: _KILLED,
        RequeueRequested: _REQUEUED,
        # of another attempt
        TimeLimitReached: IGNORED,
        PatienceOver: IGNORED,
        **_changed(State.STARTING, waits=False),
    },
    State.RUNNING: {
        Filled: Rule((State.RUNNING,), steps.fill),
        Retired: Rule((State.RUNNING,), steps.retire),
        Fetched: IGNORED,
        FetchFailed: IGNORED,
        ImageFound: Rule((State.RUNNING,), steps.image_found),
        Started: Rule((State.RUNNING,), steps.started),
        **dict.fromkeys((StartFailed, Ended, NodeLost), _process_ended(State.RUNNING, State.SUCCEEDED, *_FAILURES)),
        TimeLimitReached: Rule((State.STOPPING,), steps.time_is_up),
        KillRequested: _KILLED,
        RequeueRequested: _REQUEUED,
        PatienceOver: IGNORED,
        **_changed(State.RUNNING, waits=False),
    },
    State.STOPPING: {
        Fetched: Rule((State.CANCELLED, State.NODE_LOST, State.WAITING), steps.fetched),
        FetchFailed: Rule((State.CANCELLED, State.NODE_LOST, State.WAITING), steps.cannot_fetch),
        ImageFound: IGNORED,
        # it had started before its node heard that it shall stop
        Started: Rule((State.STOPPING,), steps.started),
        StartFailed: _process_ended(State.STOPPING, *_ALL_ENDS),
        Ended: _process_ended(State.STOPPING, *_ALL_ENDS),
        NodeLost: _process_ended(State.STOPPING, *_ALL_ENDS),
        PatienceOver: Rule((State.STOPPING,), steps.patience_is_over),
        TimeLimitReached: IGNORED,
        KillRequested: _KILLED,
    },
    **dict.fromkeys(ENDS, _OVER),
}

ARRAY_RULES: Mapping[State, Mapping[type[Event], Rule]] = {
    **{state: {} for state in State},
    State.PENDING: {
        ArrayStarted: Rule((State.RUNNING,), steps.array_started),
        ArrayEnded: _ARRAY_ENDED,
        Dismissed: _ARRAY_STOPPED,
        KillRequested: _ARRAY_STOPPED,
        **_changed(State.PENDING, waits=True),
    },
    State.RUNNING: {
        ArrayStarted: IGNORED,
        ArrayEnded: _ARRAY_ENDED,
        KillRequested: _ARRAY_STOPPED,
        **_changed(State.RUNNING, waits=True),
    },
    State.STOPPING: {
        # a task had started before it heard that it shall stop
        ArrayStarted: IGNORED,
        ArrayEnded: Rule((State.CANCELLED,), steps.array_ended),
        Dismissed: IGNORED,
        KillRequested: Rule((State.STOPPING,), steps.kill_again),
    },
    **dict.fromkeys(ENDS, dict.fromkeys((ArrayStarted, ArrayEnded, Dismissed, KillRequested), IGNORED)),
}
