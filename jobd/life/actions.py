"""What the state of a job wants done, apart from what it becomes (`jobd.life.life`).

`actions` is asked after every event, after every restart, and whenever a node comes or goes; what it names may be
done again after any crash. It says what is *missing* between the job's state and what is known to have been done, so
an action that was done and is known is not named again.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from jobd.life.life import Life, State, told

PATIENCE_S = 5.0
# the worker index of the task that brings a job's files to its node
FETCH = -1


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the life of a job.

    Attributes:
        connected: the nodes that are there now, by id.
        known: the workers (FETCH too) whose task is known to be on its node: the node named it, or took it.
        denied: the workers whose node is there and said that it does not have their task.
        begun: the workers whose node knows that their program may begin.
    """

    connected: frozenset[str] = frozenset()
    known: frozenset[int] = frozenset()
    denied: frozenset[int] = frozenset()
    begun: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Prepare:
    """Bring its files together."""


@dataclass(frozen=True, slots=True)
class Queue:
    """Let the scheduler look at it."""


@dataclass(frozen=True, slots=True)
class StartTask:
    """Have a node start the task of a worker (FETCH: the one that brings the files)."""

    worker: int
    node: str


@dataclass(frozen=True, slots=True)
class StopTask:
    """Have a node end the task of a worker: TERM, its grace, KILL.

    A node that has no such task has ended it: that is a `StartFailed`, for FETCH a `FetchFailed`.
    """

    worker: int
    node: str


@dataclass(frozen=True, slots=True)
class LetGo:
    """Let the program of a worker begin, whose task was started and holds it back."""

    worker: int
    node: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """The node of a worker is there and does not have its task, which ran or ended: nobody will ever know."""

    worker: int


@dataclass(frozen=True, slots=True)
class EndPatience:
    """Tell that the patience of a job that stops by itself is over, at this moment."""

    at_ns: int


@dataclass(frozen=True, slots=True)
class EndTime:
    """Tell that the job reached its time limit, at this moment."""

    at_ns: int


Action = Prepare | Queue | StartTask | StopTask | LetGo | GiveUp | EndPatience | EndTime


def actions(life: Life, facts: Facts) -> tuple[Action, ...]:
    """Return what is missing, in the order in which it should be done."""
    match life.state:
        case State.PREPARING:
            return (Prepare(),)
        case State.WAITING:
            return () if life.held_by else (Queue(),)
        case State.STARTING | State.RUNNING | State.STOPPING:
            return (*_tasks(life, facts), *_deadlines(life))
    return ()


def _tasks(life: Life, facts: Facts) -> Iterator[Action]:
    if not life.fetched and life.processes:
        yield from _fetch(life, facts)
        return
    all_there = life.terms.together and _all_are_there(life)
    for worker, process in enumerate(life.processes):
        if process.over or process.node not in facts.connected:
            continue
        if told(life, worker):
            yield StopTask(worker, process.node)
        elif worker in facts.known:
            if all_there and worker not in facts.begun and begins_together(life, worker):
                yield LetGo(worker, process.node)
        elif process.started_at_ns is not None:
            if worker in facts.denied:
                yield GiveUp(worker)
        elif life.state is not State.STOPPING and _turn(life, worker):
            yield StartTask(worker, process.node)


def _fetch(life: Life, facts: Facts) -> Iterator[Action]:
    node = life.processes[0].node
    if node not in facts.connected:
        return
    if life.state is State.STOPPING:
        yield StopTask(FETCH, node)
    elif FETCH not in facts.known:
        yield StartTask(FETCH, node)


def _turn(life: Life, worker: int) -> bool:
    """Tell whether a worker may start: services first, the others once all services run."""
    services = life.terms.services
    return services[worker] or all(
        process.started_at_ns is not None or process.over
        for process, service in zip(life.processes, services, strict=True)
        if service
    )


def begins_together(life: Life, worker: int) -> bool:
    """Tell whether the program of a worker waits for its fellows to be started."""
    return life.terms.together and not life.terms.services[worker]


def _all_are_there(life: Life) -> bool:
    """Tell whether all processes were started: services are before the others; those that are over hold nobody up."""
    return all(process.started_at_ns is not None or process.over for process in life.processes)


def _deadlines(life: Life) -> Iterator[Action]:
    if life.state is State.STOPPING and life.patient:
        yield EndPatience(life.changed_at_ns + int(PATIENCE_S * 1e9))
    if life.terms.is_array:
        return  # its tasks have theirs
    if life.state is State.RUNNING and life.max_duration_s is not None and life.started_at_ns is not None:
        yield EndTime(life.started_at_ns + int(life.max_duration_s * 1e9))
