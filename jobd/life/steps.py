"""What each event makes of a life, where it may happen at all; which may happen where is in `jobd.life.life`.

Every step takes a life and an event and returns the life that follows; the same life where nothing changes.
"""

from dataclasses import replace

from jobd.life.events import (
    ArrayEnded,
    ArrayStarted,
    Dismissed,
    Ended,
    Event,
    Fetched,
    FetchFailed,
    Filled,
    ImageFound,
    KillRequested,
    NodeLost,
    OfWorker,
    PatienceOver,
    Place,
    Placed,
    PreparationFailed,
    RequeueRequested,
    Retired,
    Started,
    StartFailed,
    Terms,
    TimeLimitReached,
)
from jobd.life.model import NOTHING_RAN, IllegalEvent, Kill, Life, Process, State, missing, workers_are_over


def stays(life: Life, _event: Event) -> Life:
    """Change nothing."""
    return life


def enter(life: Life, state: State, reason: str, event: Event) -> Life:
    """Go on to a state."""
    return replace(life, state=state, reason=reason, changed_at_ns=_at_ns(life, event))


def end(life: Life, state: State, reason: str, event: Event, code: int = NOTHING_RAN) -> Life:
    """Go to an end."""
    ended = enter(life, state, reason, event)
    return replace(
        ended, ended_at_ns=ended.changed_at_ns, exit_code=code, held_by="", stop_end=None, patient=False, requeued=False
    )


def _at_ns(life: Life, event: Event) -> int:
    """Return when something happened: never before what it follows."""
    return max(event.time_ns, life.changed_at_ns, life.started_at_ns or 0)


# ---- before anything runs


def cannot_prepare(life: Life, event: PreparationFailed) -> Life:
    """End a job whose files cannot be brought together."""
    return end(life, State.FAILED, event.text, event)


def dismiss(life: Life, event: Dismissed) -> Life:
    """End a job that can never run any more."""
    return end(life, State.CANCELLED, event.text, event)


def kill_before_placed(life: Life, event: KillRequested) -> Life:
    """End a job of which nothing runs."""
    return end(_note_kill(life, event), State.CANCELLED, _kill_reason(event), event)


def place(life: Life, event: Placed) -> Life:
    """Give every process its node; those that the job can do without may get theirs later."""
    if life.held_by:
        raise IllegalEvent(life.state, event, f"held by {life.held_by}")
    if not event.places or len(event.places) != len(life.terms.services):
        raise IllegalEvent(life.state, event, f"{len(event.places)} places, {len(life.terms.services)} processes")
    if not _has_enough(life.terms, event.places):
        raise IllegalEvent(life.state, event, "there are fewer places than it needs")
    placed = enter(life, State.STARTING, "", event)
    return replace(
        placed,
        processes=tuple(Process(place.node, place.gpus) for place in event.places),
        fetched=not life.terms.fetches,
        placed_at_ns=placed.changed_at_ns,
        spans=event.spans or len({place.node for place in event.places if place.node}) > 1,
    )


def _has_enough(terms: Terms, places: tuple[Place, ...]) -> bool:
    """Tell whether a job can begin with these places: with the first, where its files are brought to, at any rate."""
    empty = [service for place, service in zip(places, terms.services, strict=True) if not place.node]
    spare = 0 if terms.least is None else max(0, terms.services.count(False) - terms.least)
    return bool(places[0].node) and not any(empty) and len(empty) <= spare


def fill(life: Life, event: Filled) -> Life:
    """Give a process a place that is empty, or was made so."""
    process = _process(life, event)
    if not process.is_open or not life.fetched:
        raise IllegalEvent(life.state, event, f"the place of worker {event.worker} is not empty")
    before = life if not process.node else _next_run(life, event.worker)
    return _with(before, event.worker, Process(event.place.node, event.place.gpus, before=process.before))


def retire(life: Life, event: Retired) -> Life:
    """Have a process stop that the job can do without."""
    process, services = _process(life, event), life.terms.services
    if process.retired:
        return life
    others = [each for each, service in zip(life.processes, services, strict=True) if not service and not each.retired]
    there = sum(bool(each.node) for each in others)
    if process.over or services[event.worker] or life.terms.least is None or there <= life.terms.least:
        raise IllegalEvent(life.state, event, f"the job cannot do without worker {event.worker}")
    return _with(life, event.worker, replace(process, retired=True, reason=event.text))


# ---- its files


def fetched(life: Life, event: Fetched) -> Life:
    """Let the processes start; where the job stops already, there is nothing more to wait for."""
    if life.fetched:
        return life
    return settle(life, event) if life.state is State.STOPPING else replace(life, fetched=True)


def cannot_fetch(life: Life, event: FetchFailed) -> Life:
    """End the attempt: no process of it was started."""
    if life.fetched:
        return life
    return settle(life, event) if life.state is State.STOPPING else conclude(life, State.FAILED, event.text, event)


# ---- its processes


def image_found(life: Life, event: ImageFound) -> Life:
    """Note the image that a process will have."""
    process = _process(life, event)
    if process.started_at_ns is not None or process.over:
        return life
    return _with_image(life, event.worker, event.image)


def started(life: Life, event: Started) -> Life:
    """Note that a process runs."""
    process = _process(life, event)
    if not life.fetched:
        raise IllegalEvent(life.state, event, "its files are not there yet")
    if process.started_at_ns is not None or process.over:
        return life
    at_ns = max(event.time_ns, life.changed_at_ns)
    noted = _with(life, event.worker, replace(process, started_at_ns=at_ns))
    if life.started_at_ns is None:
        noted = replace(noted, started_at_ns=at_ns)
    if event.image:
        noted = _with_image(noted, event.worker, event.image)
    return enter(noted, State.RUNNING, "", event) if life.state is State.STARTING else noted


def process_ended(life: Life, event: Ended | StartFailed | NodeLost) -> Life:
    """Note the end of a process, and decide what it means for the others."""
    process = _process(life, event)
    if process.over:
        return life
    if not life.fetched and not isinstance(event, NodeLost):
        raise IllegalEvent(life.state, event, "its files are not there yet")
    over = _over(life, process, event)
    life = _with(life, event.worker, over)
    if over.failed is not None and is_replaced(life, event):
        return _replaced(life, event, over)
    if over.failed is not None and life.first_failure is None:
        life = replace(life, first_failure=event.worker)
    if all(process.over for process in life.processes) or _fetch_is_lost(life):
        return _lost(life, event) if _lacks_workers(life) else settle(life, event)
    return life if life.state is State.STOPPING else _after(life, event, over)


def _with_image(life: Life, worker: int, image: str) -> Life:
    images = [*life.images, *[""] * (len(life.processes) - len(life.images))]
    images[worker] = image
    return replace(life, images=tuple(images))


def is_replaced(life: Life, event: Ended | StartFailed | NodeLost) -> bool:
    """Tell whether a process that failed is followed by another; that of a node that is lost is no failure of it."""
    may = life.terms.replaces > 0 and life.fetched and life.state is not State.STOPPING
    return may and (isinstance(event, NodeLost) or life.losses < life.terms.replaces)


def _replaced(life: Life, event: Ended | StartFailed | NodeLost, over: Process) -> Life:
    """Begin a process anew in its place; where its node could not run it, the place is empty until there is another."""
    stays = isinstance(event, Ended)
    before = _said(over)
    fresh = Process(over.node, over.gpus, before=before) if stays else Process("", before=before)
    counted = replace(life, losses=life.losses + (not isinstance(event, NodeLost)))
    life = _with(_next_run(counted, event.worker), event.worker, fresh)
    return _lost(life, event) if all(process.over for process in life.processes) else life


def _lacks_workers(life: Life) -> bool:
    """Tell whether a job that goes on has more to do than its processes did."""
    return life.first_failure is None and any(not life.terms.services[worker] for worker in missing(life))


def _lost(life: Life, event: Ended | StartFailed | NodeLost) -> Life:
    """Have a job wait for nodes as a whole, of which nothing is left; what failed counts on."""
    process = life.processes[event.worker]
    said = process.before if process.is_open else _said(process)
    again = _again(life, f"none of its processes is left; the last, worker {event.worker}: {said}", event)
    return replace(again, losses=life.losses)


def _next_run(life: Life, worker: int) -> Life:
    replaced = [*life.replaced, *[0] * (len(life.processes) - len(life.replaced))]
    replaced[worker] += 1
    return replace(life, replaced=tuple(replaced))


def _process(life: Life, event: OfWorker | Filled | Retired) -> Process:
    if not 0 <= event.worker < len(life.processes):
        raise IllegalEvent(life.state, event, f"it has no worker {event.worker}")
    return life.processes[event.worker]


def _fetch_is_lost(life: Life) -> bool:
    """Tell whether the node that the files were to come to is gone; no process was started then."""
    fetching = life.processes[0].node
    return not life.fetched and any(process.over and process.node == fetching for process in life.processes)


def _over(life: Life, process: Process, event: Ended | StartFailed | NodeLost) -> Process:
    """Return the process as it is after its end; that of a job that stops already decides nothing any more."""
    failed: State | None
    match event:
        case Ended(code=code, reason=reason, out_of_memory=out_of_memory, result=result):
            failed = State.OUT_OF_MEMORY if out_of_memory else State.FAILED if code != 0 else None
        case StartFailed(text=reason):
            code, result, failed = NOTHING_RAN, "", State.FAILED
        case NodeLost(text=reason):
            code, result, failed = NOTHING_RAN, "", State.NODE_LOST
    if life.state is State.STOPPING or process.retired:
        failed = None
    at_ns = max(event.time_ns, life.changed_at_ns, process.started_at_ns or 0)
    said = process.reason or reason
    return replace(process, ended_at_ns=at_ns, code=code, reason=said, result=result, failed=failed)


def _after(life: Life, event: Ended | StartFailed | NodeLost, over: Process) -> Life:
    """Decide what the end of one process means while others are there."""
    said = _said(over)
    if over.failed is not None and life.terms.on_error == "stop":
        return _stop(life, None, f"worker {event.worker} failed: {said}{_beyond(life)}", event)
    if workers_are_over(life):
        return _stop(life, None, "all but its services are over", event)
    if life.terms.end == "any" and not life.terms.services[event.worker] and not over.retired:
        return replace(_stop(life, None, f"worker {event.worker} ended: {said}", event), patient=True)
    return life


def _said(over: Process) -> str:
    return over.reason or f"exit code {over.code}"


def _beyond(life: Life) -> str:
    """Say that a failure is one too many, where some are made up for."""
    limit = life.terms.replaces
    return f" (failure {life.losses + 1}; at most {limit} {'is' if limit == 1 else 'are'} made up for)" if limit else ""


def _with(life: Life, worker: int, process: Process) -> Life:
    processes = (*life.processes[:worker], process, *life.processes[worker + 1 :])
    return replace(life, processes=processes)


# ---- stopping


def _stop(life: Life, stop_end: State | None, reason: str, event: Event) -> Life:
    return replace(enter(life, State.STOPPING, reason, event), stop_end=stop_end)


def kill(life: Life, event: KillRequested) -> Life:
    """Stop a job that is on nodes; one that stops already keeps the end that it has, and stops at once."""
    noted = _note_kill(life, event)
    if life.state is not State.STOPPING or life.requeued:
        return _stop(replace(noted, requeued=False), State.CANCELLED, _kill_reason(event), event)
    return replace(noted, patient=False)


def _note_kill(life: Life, event: KillRequested) -> Life:
    return life if life.kill_requested is not None else replace(life, kill_requested=Kill(event.by, event.text))


def _kill_reason(event: KillRequested) -> str:
    return f"killed by {event.by}: {event.text}" if event.text else f"killed by {event.by}"


def time_is_up(life: Life, event: TimeLimitReached) -> Life:
    """Stop a job that ran as long as it may."""
    return _stop(life, State.TIMEOUT, "reached its time limit", event)


def patience_is_over(life: Life, _event: PatienceOver) -> Life:
    """Wait no longer for processes to end by themselves."""
    return replace(life, patient=False)


def requeue(life: Life, event: RequeueRequested) -> Life:
    """Stop a job, to run it again."""
    why = f"to run again: {event.text}" if event.text else f"to run again, as {event.by} wants"
    return replace(_stop(life, None, why, event), requeued=True)


# ---- the end of an attempt


def settle(life: Life, event: Event) -> Life:
    """All processes are gone: end the job, or begin another attempt."""
    if life.requeued:
        return _again(life, life.reason, event)
    if life.stop_end is not None:
        return end(life, life.stop_end, life.reason, event, _exit_code(life))
    if life.first_failure is None:
        return end(life, State.SUCCEEDED, "", event, 0)
    failure = life.processes[life.first_failure]
    assert failure.failed is not None
    assert failure.code is not None
    reason = _said(failure)
    if len(life.processes) > 1:
        reason = f"worker {life.first_failure}: {reason}"
    return conclude(life, failure.failed, f"{reason}{_beyond(life)}", event, failure.code)


def _exit_code(life: Life) -> int:
    over = sorted((p for p in life.processes if p.ended_at_ns is not None), key=lambda p: p.ended_at_ns or 0)
    return next((p.code for p in over if p.code), 0 if over else NOTHING_RAN)


def conclude(life: Life, state: State, reason: str, event: Event, code: int = NOTHING_RAN) -> Life:
    """End the job by a failure, unless its terms give it another attempt."""
    word = "node" if state is State.NODE_LOST else "error"
    if life.kill_requested is None and life.failures < life.terms.retries and word in life.terms.retry_on:
        failures = life.failures + 1
        said = f"attempt {life.attempt} failed, retry {failures} of {life.terms.retries}: {reason}"
        return _again(replace(life, failures=failures), said, event)
    return end(life, state, reason, event, code)


def _again(life: Life, reason: str, event: Event) -> Life:
    return replace(
        enter(life, State.WAITING, reason, event),
        attempt=life.attempt + 1,
        processes=(),
        fetched=False,
        placed_at_ns=None,
        started_at_ns=None,
        stop_end=None,
        patient=False,
        requeued=False,
        first_failure=None,
        losses=0,
        spans=False,
    )


# ---- arrays


def array_started(life: Life, event: ArrayStarted) -> Life:
    """Note that a task of it runs."""
    return replace(enter(life, State.RUNNING, "", event), started_at_ns=_at_ns(life, event))


def stop_array(life: Life, event: KillRequested | Dismissed) -> Life:
    """Have all its tasks end; it ends with the last of them."""
    if isinstance(event, Dismissed):
        return _stop(life, State.CANCELLED, event.text, event)
    return _stop(_note_kill(life, event), State.CANCELLED, _kill_reason(event), event)


def kill_again(life: Life, event: KillRequested) -> Life:
    """Note the first kill of an array that stops already."""
    return _note_kill(life, event)


def array_ended(life: Life, event: ArrayEnded) -> Life:
    """End it: all its tasks are over."""
    if life.stop_end is not None:
        return end(life, life.stop_end, life.reason, event, event.code)
    state = State.SUCCEEDED if event.code == 0 and not event.text else State.FAILED
    return end(life, state, event.text, event, event.code)
