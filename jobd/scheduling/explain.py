"""Why one job waits: reasons with their numbers, its place, and what would help.

The first reason that holds is told: it can never run; as many tasks of its array run as may; there is no node for it;
the room is kept for a job before it; there is not enough room.
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
from jobd.scheduling.room import NANO, Ask, Room, is_large_enough, may_use, meets, permits
from jobd.scheduling.words import NAMED_MAX, RUNTIME_TITLES, counted, joined, process_of, request_of, some, time_of
from jobd.spec.units import format_size


@dataclass(frozen=True, slots=True)
class State:
    """All that a reason may follow from."""

    now_s: float
    outlook: Outlook
    queue: Queue
    feasibility: Feasibility
    reservations: Reservations

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
            parts.append(f"{state.names(kept.takes)} {'is' if len(kept.takes) == 1 else 'are'} kept for it")
        parts.append(_when(moment))
        start_s = max(moment.at_s, state.now_s) if moment.at_s < math.inf else None
    return Why("; ".join(parts), place, start_s)


def _reason(job: Pending, gang: Gang, state: State) -> tuple[str, Moment | None]:
    placer, queue, reservations = state.outlook.placer, state.queue, state.reservations
    refusal = state.feasibility.refusal(job.needs, job.groups)
    if refusal is not None:
        return refusal, None
    if job.array is not None and queue.arrays.full(job.array):
        array, at_once = job.array
        return f"{queue.arrays.running(array)} of at most {at_once} tasks of array {array} run", None
    for part in gang.parts:
        if not placer.part_shelf(gang, part).spots:
            return _no_node(part.ask, placer.cluster.views.values()), None
    ends_at_s = None if job.max_duration_s is None else state.now_s + job.max_duration_s
    if placer.place(gang, reservations.left(ends_at_s)) is not None:
        return "there is room for it now", None
    if placer.place(gang, {}) is not None:
        return _kept_for(job, gang, ends_at_s, state), None
    own = reservations.of(job.job_id)
    return _lack(job, gang, state), state.outlook.earliest(gang) if own is None else own.moment


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
    names = state.names(each.takes)
    who = f"waits for job {each.job_id} (priority {first.priority}, {names} kept for it"
    if each.moment.at_s == math.inf:
        return f"{who}); with a max_duration it would start now"
    shorter = "a max_duration" if job.max_duration_s is None else "a shorter max_duration"
    return f"{who} from {time_of(each.moment.at_s)}); with {shorter} that ends before then it would start now"


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
    runtime = RUNTIME_TITLES[ask.runtime]
    standing = _are(len(online), "online")
    able = [view for view in online if ask.runtime in view.runtimes]
    if not able:
        return f"needs a node with {runtime}: {standing}, {_whose(online)}{_hint(ask)}"
    allowed = [view for view in able if may_use(view, ask.groups)]
    if not allowed:
        groups = sorted(frozenset().union(*(view.groups for view in able)))
        return f"{standing}, reserved for members of {joined(groups, 'or')}, and its owner is in none of these groups"
    for each in ask.require:
        if not any(meets(view, each) for view in allowed):
            told = some(f"{view.name}: {view.attrs.get(each.attribute, 'none')}" for view in allowed)
            wanted = f"{each.attribute} {each.operator} {each.value}"
            return f"needs a node with {wanted}: {standing}, {_whose(online)} ({told})"
    matching = [view for view in allowed if permits(view, ask)]
    if not matching:
        wanted = joined(f"{each.attribute} {each.operator} {each.value}" for each in ask.require)
        return f"needs a node with {wanted}: {standing}, none of them has all of it"
    larger = [view.name for view in views if not view.online and permits(view, ask) and is_large_enough(view, ask)]
    waited = f"; {some(larger)} would be, and {'is' if len(larger) == 1 else 'are'} not online" if larger else ""
    return f"no node that is online and suits it is large enough{waited}"


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
    groups, cluster = gang.parts[0].ask.groups, state.outlook.placer.cluster
    views = [view for view in cluster.views.values() if view.online and view.gpus and may_use(view, groups)]
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
    return facts


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
