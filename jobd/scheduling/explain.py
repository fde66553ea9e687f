"""Why one job waits: reasons with their numbers, its place, and what would help.

The first reason that holds is told: it can never run; as many tasks of its array run as may; its owner, or a group of
theirs, has all that they may have; there is no node for it; the room is kept for a job before it; there is not enough
room.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jobd.scheduling.backfill import Moment, Outlook, Reservations
from jobd.scheduling.feasible import Feasibility
from jobd.scheduling.model import CPUS_OVERCOMMIT, NodeView, Pending, Why
from jobd.scheduling.order import Queue
from jobd.scheduling.placement import Gang, Part
from jobd.scheduling.room import NANO, Ask, Room, allows, is_for, may_use, meets, permits, suits
from jobd.scheduling.words import (
    NAMED_MAX,
    RUNTIME_TITLES,
    barred,
    counted,
    joined,
    owned,
    process_of,
    request_of,
    some,
    time_of,
)
from jobd.spec.units import format_size


@dataclass(frozen=True, slots=True)
class State:
    """All that a reason may follow from.

    Attributes:
        lacks: what is said of equal jobs for which there is not enough room, as far as somebody asked.
    """

    now_s: float
    outlook: Outlook
    queue: Queue
    feasibility: Feasibility
    reservations: Reservations
    lacks: dict[Gang, str]

    def names(self, nodes: Iterable[str]) -> str:
        """Return the names of some nodes."""
        return some(sorted(self.outlook.placer.cluster.views[node_id].name for node_id in nodes))


def explain(job: Pending, gang: Gang, state: State) -> Why:
    """Say why a job waits."""
    reason, moment = _reason(job, gang, state)
    place = state.queue.place(job.job_id)
    parts = [reason, f"place {place} of {len(state.queue.jobs)}"]
    start_s = None
    if moment is not None:
        kept = state.reservations.of(job.job_id)
        if kept is not None:
            parts.append(
                f"{state.names(kept.moment.takes)} {'is' if len(kept.moment.takes) == 1 else 'are'} kept for it"
            )
        parts.append(_when(moment))
        start_s = moment.at_s if moment.at_s < math.inf else None  # also when it is past: no text has a running clock
    return Why("; ".join(parts), place, start_s)


def _reason(job: Pending, gang: Gang, state: State) -> tuple[str, Moment | None]:
    placer, queue, reservations = state.outlook.placer, state.queue, state.reservations
    refusal = state.feasibility.refusal(queue.needs_of(job), job.groups, queue.owner_of(job), job.cluster)
    if refusal is not None:
        return refusal, None
    if job.array is not None and queue.arrays.full(job.array):
        array, at_once = job.array
        return f"{queue.arrays.running(array)} of at most {at_once} tasks of array {array} run", None
    if (obstacle := queue.obstacle(job)) is not None:
        return obstacle.waits, None
    for part in gang.parts:
        if not placer.part_shelf(gang, part).spots:
            return _nowhere(part.ask, state), None
    ends_at_s = None if job.max_duration_s is None else state.now_s + job.max_duration_s
    if placer.place(gang, reservations.left(ends_at_s)) is not None:
        return "there is room for it now", None
    if placer.place(gang, {}) is not None:
        return _kept_for(job, gang, ends_at_s, state), None
    own = reservations.of(job.job_id)
    if gang not in state.lacks:
        state.lacks[gang] = _lack(job, gang, state)
    return state.lacks[gang], state.outlook.earliest(gang) if own is None else own.moment


def _when(moment: Moment) -> str:
    if moment.at_s == math.inf:
        return f"earliest start not known: job {moment.after} has no time limit"
    after = "" if moment.after is None else f", when job {moment.after} reaches its time limit"
    return f"earliest start {time_of(moment.at_s)}{after}"


def _kept_for(job: Pending, gang: Gang, ends_at_s: float | None, state: State) -> str:
    """Say for which job the room is kept that this one would take."""
    spots = {node_id for part in gang.parts for node_id in state.outlook.placer.part_shelf(gang, part).spots}
    late = [each for each in state.reservations.all if each.is_late(ends_at_s)]
    each = next(each for each in late if not spots.isdisjoint(each.rooms))
    first = state.queue.jobs[each.job_id]
    names = state.names(each.moment.takes)
    who = f"waits for job {each.job_id} (priority {first.priority}, {names} kept for it"
    if each.moment.at_s == math.inf:
        return f"{who}); with a max_duration it would start now"
    shorter = "a max_duration" if job.max_duration_s is None else "a shorter max_duration"
    return f"{who} from {time_of(each.moment.at_s)}); with {shorter} that ends before then it would start now"


def _nowhere(ask: Ask, state: State) -> str:
    """Say why no node that is on-line could run such a process, counting those that there are for it."""
    views = list(state.outlook.placer.cluster.views.values())
    if not ask.cluster:
        return _not_for(ask, views) or _no_node(ask, [view for view in views if is_for(view, ask)])
    name = f"cluster {state.feasibility.cluster_name(ask.cluster)}"
    views = [view for view in views if view.cluster == ask.cluster]
    if not views:
        return f"no node of {name} is registered yet"
    return f"in {name}: {_not_for(ask, views) or _no_node(ask, [view for view in views if is_for(view, ask)])}"


def _not_for(ask: Ask, views: Iterable[NodeView]) -> str:
    """Say that all nodes, or those that a job names, are other users' own; "" where they are not."""
    meant = [view for view in views if not ask.nodes or view.name in ask.nodes]
    if not meant or any(is_for(view, ask) for view in meant):
        return ""
    whose = owned(sorted(meant, key=lambda view: (view.name, view.node_id)))
    return f"needs node {joined(sorted(ask.nodes), 'or')}, but {whose}" if ask.nodes else whose


def _no_node(ask: Ask, all_views: Iterable[NodeView]) -> str:
    """Say why no node that is on-line could run such a process."""
    views = sorted(all_views, key=lambda view: (view.name, view.node_id))
    if not views:
        return "no node is registered yet"
    if ask.nodes:
        names = joined(sorted(ask.nodes), "or")
        views = [view for view in views if view.name in ask.nodes]
        if not views:
            return f"needs node {names}, which is not registered"
    online = [view for view in views if view.online]
    if not online:
        if ask.nodes:
            return f"needs node {names}, which is not online"
        return f"no node is online; {_are(len(views), 'registered')}"
    takers = [view for view in online if not _shut(view, ask)]
    if not takers:
        wanted = f"needs node {names}; " if ask.nodes else ""
        return f"{wanted}{_closed(online, ask)} {_takes(online)} no new work"
    return _no_taker(ask, takers, views) + _would_do(ask, online)


def _no_taker(ask: Ask, takers: list[NodeView], views: Iterable[NodeView]) -> str:
    """Say why none of the nodes that take new work could run such a process."""
    runtime = RUNTIME_TITLES[ask.runtime]
    standing = _are(len(takers), "online")
    able = [view for view in takers if ask.runtime in view.runtimes]
    if not able:
        return f"needs a node with {runtime}: {standing}, {_whose(takers)}{_hint(ask)}"
    allowed = [view for view in able if may_use(view, ask.groups)]
    if not allowed:
        groups = sorted(frozenset().union(*(view.groups for view in able)))
        return f"{standing}, reserved for members of {joined(groups, 'or')}, and its owner is in none of these groups"
    if not any(allows(view, ask) for view in allowed):
        return f"no node that is online allows {barred(ask, allowed)}{_waited(ask, views)}"
    for each in ask.require:
        if not any(meets(view, each) for view in allowed):
            told = some(f"{view.name}: {view.attrs.get(each.attribute, 'none')}" for view in allowed)
            wanted = f"{each.attribute} {each.operator} {each.value}"
            return f"needs a node with {wanted}: {standing}, {_whose(takers)} ({told})"
    matching = [view for view in allowed if permits(view, ask)]
    if not matching:
        wanted = joined(f"{each.attribute} {each.operator} {each.value}" for each in ask.require)
        return f"needs a node with {wanted}: {standing}, none of them has all of it"
    return f"no node that is online and suits it is large enough{_waited(ask, views)}"


def _waited(ask: Ask, views: Iterable[NodeView]) -> str:
    """Say which nodes could run such a process if they were there."""
    able = [view.name for view in views if not view.online and suits(view, ask)]
    return f"; {some(able)} could run it, and {'is' if len(able) == 1 else 'are'} not online" if able else ""


def _would_do(ask: Ask, online: Iterable[NodeView]) -> str:
    """Say which nodes could run such a process if they took new work, or if their GPUs were well."""
    fit = [view for view in online if suits(view.at_its_best(), ask)]
    closed = [view for view in fit if _shut(view, ask)]
    ill = [view for view in fit if not _shut(view, ask) and view.ill]
    told = f"; {_closed(closed, ask)} would do, but {_takes(closed)} no new work" if closed else ""
    return told + (f"; {_ailing(ill)} would do if all GPUs there were well" if ill else "")


def _shut(view: NodeView, ask: Ask) -> str:
    """Say why a node takes no such process now, though it is there; "" where it does."""
    return view.closed or view.troubles.get(ask.runtime, "")


def _closed(views: Iterable[NodeView], ask: Ask) -> str:
    return some(f"{view.name} ({_shut(view, ask)})" for view in views)


def _takes(views: Sequence[NodeView]) -> str:
    return "takes" if len(views) == 1 else "take"


def _ailing(views: Iterable[NodeView]) -> str:
    return some(f"{view.name} ({each.gpu.model}: {each.why})" for view in views for each in view.ill)


def _whose(online: Sequence[NodeView]) -> str:
    return "it does not have it" if len(online) == 1 else "none of them has it"


def _hint(ask: Ask) -> str:
    return "; an image would let a node with Docker run it" if ask.runtime != "docker" else ""


def _are(count: int, standing: str) -> str:
    return f"{count} node is {standing}" if count == 1 else f"{count} nodes are {standing}"


def _lack(job: Pending, gang: Gang, state: State) -> str:
    """Say what the job needs, and what is left."""
    placer = state.outlook.placer
    cluster = placer.cluster
    facts = _gpu_facts(gang, state)
    together = True
    for part in gang.parts:
        shelf = placer.part_shelf(gang, part)
        copies = sum(spot.copies for spot in shelf.spots.values())
        if copies >= part.count:
            continue
        together = False
        if gang.count > 1:
            each = f" with {process_of(part.ask)}" if len(gang.parts) > 1 and part.ask.reserves else ""
            facts.append(f"{copies} of {counted(part.count, 'process')}{each} would fit")
        facts += _obstacles(part, [cluster.room(node_id) for node_id in shelf.spots])
    if together:
        facts.append("not all of it at once on nodes that could work together")
    reserves = any(part.ask.reserves for part in gang.parts)
    what = request_of(job.needs) if reserves or gang.count > 1 else "a node with room for a process"
    if job.cluster:
        what += f" in cluster {state.feasibility.cluster_name(job.cluster)}"
    return f"needs {what}: {', '.join(facts)}"


def _gpu_facts(gang: Gang, state: State) -> list[str]:
    """Say of each model how many are there and free; of what is there in number, how much there is on one node."""
    asked: Counter[str | None] = Counter()
    largest: Counter[str | None] = Counter()
    for part in gang.parts:
        for model, count in [*part.ask.models, *([(None, part.ask.gpus)] if part.ask.any_gpus else [])]:
            asked[model] += count * part.count
            largest[model] = max(largest[model], count)
    if not asked:
        return []
    ask, cluster = gang.parts[0].ask, state.outlook.placer.cluster
    groups = ask.groups
    views = [view for view in cluster.views.values() if view.is_open and is_for(view, ask) and may_use(view, groups)]
    views = [view for view in views if any(allows(view, part.ask) for part in gang.parts)]
    views = [view for view in views if view.gpus or view.ill]
    facts = []
    for model, wanted in asked.items():
        there = sum(_count(state.feasibility.idle(view.node_id), model, groups) for view in views)
        free = [(_count(cluster.room(view.node_id), model, groups), view.name) for view in views]
        total, name = sum(count for count, _ in free), model or "GPUs"
        if there < wanted:
            facts.append(f"{there} of {wanted} {name} are there, {total} free")
            continue
        facts.append(f"{total} of {there} {name} are free")
        most, where = min(free, key=lambda each: (-each[0], each[1]))
        if total >= largest[model] > most:
            facts.append(f"at most {most} on one node ({where})")
        if ill := _ill(views, model, groups):
            facts.append(f"not well: {some(ill)}")
    return facts


def _ill(views: Iterable[NodeView], model: str | None, groups: frozenset[str]) -> list[str]:
    """Say of each GPU of a model that is not well, and that somebody in `groups` could have, what ails it."""
    found = [(view.name, each) for view in views for each in view.ill if model in (None, each.gpu.model)]
    meant = [(name, each) for name, each in found if not each.gpu.groups or each.gpu.groups & groups]
    return sorted(f"one of {name} ({each.why})" for name, each in meant)


def _count(room: Room, model: str | None, groups: frozenset[str]) -> int:
    models = room.models(groups)
    return sum(models.values()) if model is None else models.get(model, 0)


def _obstacles(part: Part, rooms: Sequence[Room]) -> list[str]:
    """Say of some nodes what but GPUs keeps a process from them."""
    found = []
    ask = part.ask
    for room in rooms:
        lacks = []
        view = room.view
        if room.slots <= 0:
            lacks.append(f"runs {view.max_processes - room.slots} of at most {view.max_processes} processes")
        if ask.nano_cpus > room.nano_cpus:
            free, offered = max(0.0, room.nano_cpus / NANO), view.cpus * CPUS_OVERCOMMIT
            lacks.append(f"has {free:g} of {offered:g} CPUs free")
        if ask.memory_bytes > room.memory_bytes:
            free_bytes = max(0, room.memory_bytes)
            lacks.append(f"has {format_size(free_bytes)} of {format_size(view.memory_bytes)} memory free")
        if lacks:
            found.append((view.name, f"node {view.name} {' and '.join(lacks)}"))
    texts = [text for _, text in sorted(found)]
    more = len(texts) - NAMED_MAX
    if more > 0:
        return [*texts[:NAMED_MAX], f"{more} more like them"]
    return texts
