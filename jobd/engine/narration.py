"""What the log of a job tells beside its processes' output: who started, who ended and why, what people did.

The lines follow from an event and what it makes of the job, so that they read the same whenever they are written. They
stand in the log before the event is kept: whoever sees a job's end finds the reason above it.
"""

from collections.abc import Iterator

from jobd.life import events as happened
from jobd.life.events import Event
from jobd.life.life import Life, State
from jobd.store.logs import DAEMON, PREPARE

Line = tuple[int, str]  # DAEMON, PREPARE or a worker index; the text


def narrate(before: Life, event: Event, after: Life) -> Iterator[Line]:
    """Return the lines that tell of an event, which made `after` of `before`."""
    yield from _event(before, event, after)
    if after.attempt != before.attempt:
        yield DAEMON, f"It waits for another attempt: {after.reason}"
    elif after.state.over and not isinstance(event, happened.Ended):
        yield DAEMON, f"Job ended: {after.reason or after.state}"


def _event(before: Life, event: Event, after: Life) -> Iterator[Line]:
    match event:
        case happened.Placed():
            yield DAEMON, "Pit daemon started"
        case happened.Started(worker=worker):
            yield worker, f"Worker {worker} started"
        case happened.Ended(worker=worker, code=code, reason=reason):
            if reason:
                yield DAEMON, f"Worker {worker}: {reason}"
            yield worker, f"Worker {worker} ended with exit code {code}"
            yield from _replaced(before, worker, after)
            if _ends_the_job(before, after):
                yield DAEMON, f"Worker {worker} requested stop. Stopping pit..."
        case happened.StartFailed(worker=worker, text=text) | happened.NodeLost(worker=worker, text=text):
            yield DAEMON, f"Worker {worker}: {text}"
            yield from _replaced(before, worker, after)
        case happened.Filled(worker=worker):
            yield DAEMON, f"Worker {worker} has a place now"
        case happened.Retired(worker=worker, text=text):
            yield DAEMON, f"Worker {worker} is stopped: {text}"
        case happened.PreparationFailed(text=text) | happened.FetchFailed(text=text):
            yield PREPARE, text
        case _:
            yield from _from_outside(event, after)


def _from_outside(event: Event, after: Life) -> Iterator[Line]:
    """Tell what people and limits do."""
    match event:
        case happened.KillRequested(by=by):
            yield DAEMON, f"Stopped by user {by}"
        case happened.RequeueRequested(by=by, text=text):
            yield DAEMON, f"Requeued: {text}" if text else f"Requeued by user {by}"
        case happened.Extended(by=by):
            yield DAEMON, f"Its time limit is {after.max_duration_s:g} s now, by user {by}"
        case happened.TimeLimitReached():
            yield DAEMON, "The job reached its time limit"


def _replaced(before: Life, worker: int, after: Life) -> Iterator[Line]:
    """Tell that another process follows one that failed."""
    if after.run(worker) == before.run(worker):
        return
    counted = f" (failure {after.losses} of {after.terms.replaces})" if after.losses > before.losses else ""
    how = "waits for another place" if not after.processes or not after.processes[worker].node else "is started again"
    yield DAEMON, f"Worker {worker} {how}{counted}"


def _ends_the_job(before: Life, after: Life) -> bool:
    """Tell whether the end of a process, and nobody else, makes the job stop: also that of a fellow in its patience."""
    if before.state is State.STOPPING:
        return before.patient
    return after.state is not before.state
