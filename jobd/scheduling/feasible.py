"""What can never run, so that it is refused when it is submitted, with the largest that could run.

The question is asked of an idle cluster in which every registered node is at its best. What may come yet does not
refuse: attributes that are required, nodes that are named and not registered, the first node with Docker. Such a job
waits. An image that the owners of all nodes forbid is refused: what somebody decided does not come by itself.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from jobd.scheduling.cluster import Cluster
from jobd.scheduling.model import DOCKER, Need, NodeView
from jobd.scheduling.placement import Gang, Part, Placer, gang_of
from jobd.scheduling.room import (
    NANO,
    Ask,
    Room,
    allows,
    is_for,
    is_large_enough,
    make_room,
    may_use,
    permits,
    to_nano,
)
from jobd.scheduling.words import barred, counted, joined, numbers_of, owned, process_of
from jobd.spec.units import format_size

IMAGELESS_LIMITS = "limits of CPUs and memory need an image: name one, or leave cpu and memory out"
KNOWN_MAX = 10_000

_Shape = tuple[tuple[Need, ...], frozenset[str], str, str]


class Feasibility:
    """The registered nodes as if they were all at their best and idle."""

    def __init__(self) -> None:
        self._idle = Cluster()
        self._placer = Placer(self._idle)
        self._aliases: Mapping[str, str] = {}
        self._cluster_names: Mapping[str, str] = {}
        self._known: dict[_Shape, str | None] = {}

    def set_node(self, view: NodeView) -> None:
        """A node is registered, or is other than before."""
        view = view.at_its_best()
        if self._idle.views.get(view.node_id) != view:
            self._known.clear()
            self._idle.set_node(view)

    def forget_node(self, node_id: str) -> None:
        """A node is registered no more."""
        self._known.clear()
        self._idle.forget_node(node_id)

    def idle(self, node_id: str) -> Room:
        """Return what an idle node has."""
        return self._idle.room(node_id)

    def set_aliases(self, aliases: Mapping[str, str]) -> None:
        """Set all aliases of models."""
        self._known.clear()
        self._aliases = aliases

    def set_clusters(self, names: Mapping[str, str]) -> None:
        """Set how clusters are called, by their ids."""
        self._known.clear()
        self._cluster_names = dict(names)

    def cluster_name(self, cluster: str) -> str:
        """Return how a cluster is called, in quotes."""
        return f"'{self._cluster_names.get(cluster, cluster)}'"

    def refusal(
        self, needs: tuple[Need, ...], groups: frozenset[str], owner: str = "", cluster: str = ""
    ) -> str | None:
        """Say why such a job can never run; None when it can, or nobody knows.

        Args:
            groups: those its owner is in.
            owner: who that is, where some node is their own; else "".
            cluster: the only one in which it may run; "" for all.
        """
        shape = (needs, groups, owner, cluster)
        if shape not in self._known:
            if len(self._known) >= KNOWN_MAX:
                self._known.clear()
            self._known[shape] = self._refusal(*shape)
        return self._known[shape]

    def lost(self, needs: tuple[Need, ...], groups: frozenset[str], owner: str = "", cluster: str = "") -> str | None:
        """Say why such a job can never run, where it could if its owner were in more groups."""
        reason = self.refusal(needs, groups, owner, cluster)
        if reason is None or self.refusal(needs, groups | self._all_groups(), owner, cluster) is not None:
            return None
        return f"its owner has no right any more to what it needs: {reason}"

    def _all_groups(self) -> frozenset[str]:
        of_gpus = (gpu.groups for view in self._idle.views.values() for gpu in view.gpus)
        return frozenset().union(*(view.groups for view in self._idle.views.values()), *of_gpus)

    def _refusal(self, needs: tuple[Need, ...], groups: frozenset[str], owner: str, cluster: str) -> str | None:
        if any(not need.image and (need.cpus is not None or need.memory_bytes is not None) for need in needs):
            return IMAGELESS_LIMITS
        gang = gang_of(tuple(replace(need, require=()) for need in needs), groups, self._aliases, owner, cluster)
        first = gang.parts[0].ask
        registered = sorted(self._idle.views.values(), key=lambda view: (view.name, view.node_id))
        views = [view for view in registered if is_for(view, first)]
        for part in gang.parts:
            reason = self._of_others(part.ask, [view for view in registered if not is_for(view, first)], views)
            if reason is not None:
                return reason
        names = {view.name for view in views}
        if not names or any(name not in names for need in needs for name in need.nodes):
            return None
        reason = self._too_large(gang, views)
        return f"in cluster {self.cluster_name(cluster)}: {reason}" if reason is not None and cluster else reason

    def _of_others(self, ask: Ask, others: list[NodeView], views: list[NodeView]) -> str | None:
        """Say that all nodes that a job names, or all of the cluster that it names, are other users' own."""
        others = [view for view in others if not ask.cluster or view.cluster == ask.cluster]
        if ask.nodes:
            others = [view for view in others if view.name in ask.nodes]
            views = [view for view in views if view.name in ask.nodes]
            if views or ask.nodes != {view.name for view in others}:
                return None
            return f"needs node {joined(sorted(ask.nodes), 'or')}, but {owned(others)}"
        if not ask.cluster or views or not others:
            return None
        return f"needs a node of cluster {self.cluster_name(ask.cluster)}, but {owned(others)}"

    def _too_large(self, gang: Gang, views: list[NodeView]) -> str | None:
        groups = gang.parts[0].ask.groups
        elsewhere = ""
        for part in gang.parts:
            fit = [view for view in views if permits(view, replace(part.ask, groups=groups | view.groups, image=""))]
            able = [view for view in fit if allows(view, part.ask)]
            if not able:
                return f"no node allows {barred(part.ask, fit)}" if fit else None
            allowed = [view for view in able if may_use(view, groups)]
            reason = _one(part.ask, able, allowed)
            if len(able) < len(fit):
                others = [view for view in fit if view not in able]
                elsewhere = f"; other nodes do not allow {barred(part.ask, others)}"
            if reason is not None:
                return reason + elsewhere
        return None if self._placer.place(gang, {}) is not None else self._all_at_once(gang, views) + elsewhere

    def _all_at_once(self, gang: Gang, views: Iterable[NodeView]) -> str:
        """Say why the processes of a job, each of which fits, do not fit together."""
        asked: Counter[str] = Counter()
        for part in gang.parts:
            asked.update({model: count * part.count for model, count in part.ask.models})
        groups = gang.parts[0].ask.groups
        there: Counter[str] = Counter()
        for view in views:
            if may_use(view, groups) and any(allows(view, part.ask) for part in gang.parts):
                there.update(make_room(view).models(groups))
        for model, count in sorted(asked.items()):
            if count > there[model]:
                return f"needs {count} {model} in all, but there are {there[model]}; ask for at most {there[model]}"
        for part in gang.parts:
            shelf = self._placer.part_shelf(gang, part)
            alone = max((spot.copies for spot in shelf.spots.values()), default=0)
            together = max((copies for domain, copies in shelf.totals.items() if domain is not None), default=0)
            most, total = max(alone, together), sum(shelf.totals.values())
            if most < part.count:
                return _too_many(part, most, total)
        return (
            "needs more at once than the nodes have: each kind of its processes would fit, but not all together; "
            "ask for fewer or smaller ones"
        )


def _one(ask: Ask, able: list[NodeView], allowed: list[NodeView]) -> str | None:
    """Say why no node could run such a process.

    Args:
        able: the nodes that could if rights and sizes did not matter.
        allowed: those of them that its owner may use.
    """
    if not allowed:
        groups = sorted(frozenset().union(*(view.groups for view in able)))
        which = "the node that could run it is" if len(able) == 1 else f"all {len(able)} nodes that could run it are"
        return f"{which} reserved for members of {joined(groups, 'or')}, and its owner is in none of these groups"
    if any(is_large_enough(view, ask) for view in allowed):
        return None
    return (
        _too_many_cpus(ask, allowed)
        or _too_much_memory(ask, allowed)
        or _too_much_shm(ask, allowed)
        or _gpus(ask, able, allowed)
        or _mix(ask, allowed)
    )


def _too_many_cpus(ask: Ask, views: list[NodeView]) -> str | None:
    most = max(views, key=lambda view: view.cpus_each)
    if ask.nano_cpus <= to_nano(most.cpus_each):
        return None
    have = f"the largest node, {most.name}, has {most.cpus_each:g}"
    return f"needs {counted(ask.nano_cpus / NANO, 'CPU')}, but {have}; ask for at most {most.cpus_each:g}"


def _too_much_memory(ask: Ask, views: list[NodeView]) -> str | None:
    most = max(views, key=lambda view: view.memory_bytes_each)
    if ask.memory_bytes <= most.memory_bytes_each:
        return None
    largest = format_size(most.memory_bytes_each)
    have = f"the largest node, {most.name}, has {largest}"
    return f"needs {format_size(ask.memory_bytes)} of memory, but {have}; ask for at most {largest}"


def _too_much_shm(ask: Ask, views: list[NodeView]) -> str | None:
    limits = [(view.most_shm_bytes, view.name) for view in views if view.most_shm_bytes is not None]
    if len(limits) < len(views):
        return None
    most_bytes, name = max(limits)
    if ask.shm_bytes <= most_bytes:
        return None
    largest = format_size(most_bytes)
    have = f"no node gives a process more than {name} does, {largest}"
    return f"needs {format_size(ask.shm_bytes)} of shared memory, but {have}; ask for at most {largest}"


def _gpus(ask: Ask, able: list[NodeView], allowed: list[NodeView]) -> str | None:
    """Say what of the GPUs of one process no node has."""
    for model, count in ask.models:
        most = max(allowed, key=lambda view: _has(view, model, ask.groups))
        has = _has(most, model, ask.groups)
        if not has:
            return _no_such_gpu(ask, model, able, allowed)
        if count > has:
            have = f"the largest node, {most.name}, has {has}"
            return f"needs {count} {model} for one process, but {have}; ask for at most {has} for each process"
    most = max(allowed, key=lambda view: _has(view, None, ask.groups))
    has = _has(most, None, ask.groups)
    if ask.gpus and not has:
        return _no_such_gpu(ask, None, able, allowed)
    if ask.gpus > has:
        have = f"the largest node, {most.name}, has {has}"
        return f"needs {counted(ask.gpus, 'GPU')} for one process, but {have}; ask for at most {has} for each process"
    return None


def _no_such_gpu(ask: Ask, model: str | None, able: list[NodeView], allowed: list[NodeView]) -> str:
    reserved = [gpu.groups | view.groups for view in able for gpu in view.gpus if model in (None, gpu.model)]
    if reserved:
        groups = sorted(frozenset().union(*reserved))
        what = "GPUs" if model is None else model
        return f"needs {what}, but all are reserved for members of {joined(groups, 'or')}, and its owner is in none"
    where = "cluster" if ask.cluster else "datacenter"
    offered: Counter[str] = Counter()
    for view in allowed:
        offered.update(make_room(view).models(ask.groups))
    if not offered:
        return f"needs {process_of(ask)}, but no node of this {where} offers GPUs to it; ask for none"
    return f"needs {model}, but the GPUs of this {where} are {numbers_of(offered)}; ask for some of these"


def _has(view: NodeView, model: str | None, groups: frozenset[str]) -> int:
    models = make_room(view).models(groups)
    return sum(models.values()) if model is None else models.get(model, 0)


def _mix(ask: Ask, views: list[NodeView]) -> str:
    """Say that no node has all of it, and what the largest have."""
    models = [model for model, _ in ask.models] + ([None] if ask.any_gpus else [])

    def sizes(view: NodeView) -> list[tuple[float, str]]:
        found = [
            (float(has), f"{has} {model or 'GPUs'}") for model in models for has in [_has(view, model, ask.groups)]
        ]
        if ask.nano_cpus:
            found.append((view.cpus_each, counted(view.cpus_each, "CPU")))
        if ask.memory_bytes:
            found.append((float(view.memory_bytes_each), format_size(view.memory_bytes_each)))
        if ask.shm_bytes:
            most_bytes = view.most_shm_bytes
            text = "any amount" if most_bytes is None else format_size(most_bytes)
            found.append((math.inf if most_bytes is None else most_bytes, f"{text} of shared memory"))
        return found

    described = [sizes(view) for view in views]
    best = dict.fromkeys(
        max(range(len(views)), key=lambda index: described[index][kind][0]) for kind in range(len(described[0]))
    )
    offers = joined((f"{joined(text for _, text in described[i])} ({views[i].name})" for i in best), "or")
    what = "both" if len(described[0]) == 2 else "all of it"
    return f"needs {process_of(ask)}, but no node has {what}; ask for at most {offers}"


def _too_many(part: Part, most: int, total: int) -> str:
    each = process_of(part.ask)
    what = f"needs {counted(part.count, 'process')}" + (f" with {each} each" if each else "")
    if total < part.count:
        return f"{what}, but the nodes have room for {total} at once; ask for at most {total}"
    how = "share a swarm of Docker" if part.ask.runtime == DOCKER else "tell their address"
    have = f"no nodes that could work together have room for more than {most}"
    return f"{what}, but {have}; ask for at most {most}, or let nodes {how}"
