"""What people change of a job while it waits or runs: whether it has to wait, its priority, its time.

Every step takes a life and an event and returns the life that follows; which may happen where is in `jobd.life.life`.
"""

from dataclasses import replace

from jobd.life.events import Extended, Held, PriorityChanged, Released, RequeueRequested
from jobd.life.model import IllegalEvent, Life


def hold(life: Life, event: Held) -> Life:
    """Have it wait until it is released; who held it first is kept."""
    return replace(life, held_by=life.held_by or event.by)


def release(life: Life, _event: Released) -> Life:
    """Let it go on."""
    return replace(life, held_by="")


def requeue_held(life: Life, event: RequeueRequested) -> Life:
    """Let it go on, if somebody wants it to run again that is held; a job that waits by itself will run anyway."""
    if not life.held_by or not event.by:
        raise IllegalEvent(life.state, event, "nobody holds it")
    return replace(life, held_by="")


def prioritise(life: Life, event: PriorityChanged) -> Life:
    """Give it another priority."""
    return replace(life, priority=event.priority)


def extend(life: Life, event: Extended) -> Life:
    """Give it more time; one without a limit has none afterwards."""
    limit_s = life.max_duration_s
    return replace(life, max_duration_s=None if limit_s is None else limit_s + event.by_s)
