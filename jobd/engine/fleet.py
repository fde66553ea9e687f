"""The machines of a datacenter: which there are, which are connected, and since when the others are silent.

A node that is not heard of goes on with what it has. After `SUSPECT_AFTER_S` of silence, or with its connection, it
gets no new work; after `UNKNOWN_AFTER_S` it is shown as one of which nothing is known. One whose daemon said that it
ends gets none at once, and is shown as offline; so is, at last, one that is silent for a day.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from jobd.engine.assign import Machine
from jobd.engine.demands import node_view
from jobd.engine.ports import Clock, NodeLink
from jobd.identity import Cluster, labels, number_of
from jobd.nodestate import Closed, NodeState, state_of
from jobd.scheduling.model import NodeView
from jobd.store.nodes import Policy
from jobd.store.tables import NodeRow
from jobd.wire import GpuReading

SUSPECT_AFTER_S = 15.0
UNKNOWN_AFTER_S = 60.0
# a task whose job is tried again elsewhere was ended by its own watchdog by then (`jobd.engine.assign.WATCHDOG_S`)
LOST_AFTER_S = 90.0
OFFLINE_AFTER_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Readings:
    """What the GPUs of a node do, by UUID, and since when that is known."""

    gpus: Mapping[str, GpuReading] = field(default_factory=dict)
    since_ns: int = 0


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """A node as the tree shows it.

    Attributes:
        label: what it is called; a path below nodes/.
        online: whether it is heard of.
        since_ns: when it was heard of last.
        closed: why it takes no new work; None where it takes some.
        troubles: which of its runtimes take none now, and why.
    """

    row: NodeRow
    label: str
    state: NodeState
    online: bool
    since_ns: int
    closed: Closed | None = None
    readings: Readings = field(default_factory=Readings)
    troubles: Mapping[str, str] = field(default_factory=dict)


class Fleet:
    """All nodes, connected or not.

    Args:
        is_busy: tells whether a job has a place on a node.

    Attributes:
        closed: the nodes that take no new work.
    """

    def __init__(self, clock: Clock, is_busy: Callable[[str], bool]) -> None:
        self.policy = Policy()
        self.closed: Mapping[str, Closed] = {}
        self._is_busy = is_busy
        self._readings: dict[str, Readings] = {}
        self._troubles: dict[str, Mapping[str, str]] = {}
        self._clock = clock
        self._clusters: Sequence[Cluster] = ()
        self._labels: dict[str, str] = {}
        self._tokens: dict[tuple[str, str], str] = {}
        self._rows: dict[str, NodeRow] = {}
        self._links: dict[str, NodeLink] = {}
        self._arriving: Counter[str] = Counter()
        self._seen_ns: dict[str, int] = {}
        self._left: set[str] = set()

    def register(self, row: NodeRow) -> None:
        """Note what a node told of itself; its silence counts from now on."""
        self.keep(row)
        self._seen_ns[row.id] = self._clock()
        self._left.discard(row.id)

    def keep(self, row: NodeRow) -> None:
        """Note who a node is, without having heard of it."""
        known = self._rows.get(row.id)
        if known is None or (known.name, known.cluster_id) != (row.name, row.cluster_id):
            self._labels = {}
        if known is not None and self._tokens.get((known.owner, known.instance)) == row.id:
            del self._tokens[known.owner, known.instance]
        self._rows[row.id] = row
        if row.instance:
            self._tokens[row.owner, row.instance] = row.id

    def forget(self, node_id: str) -> None:
        """A node is registered no more, connected or not."""
        row = self._rows.pop(node_id, None)
        if row is not None and self._tokens.get((row.owner, row.instance)) == node_id:
            del self._tokens[row.owner, row.instance]
        for known in (self._links, self._seen_ns, self._readings, self._troubles):
            known.pop(node_id, None)
        self._left.discard(node_id)
        self._labels = {}

    @property
    def clusters(self) -> Sequence[Cluster]:
        """All clusters of all accounts."""
        return self._clusters

    @clusters.setter
    def clusters(self, clusters: Sequence[Cluster]) -> None:
        self._clusters = clusters
        self._labels = {}

    def connect(self, node_id: str, link: NodeLink) -> None:
        """A registered node is connected; an older connection of it counts no more."""
        self._links[node_id] = link

    @contextmanager
    def arriving(self, node_id: str) -> Iterator[None]:
        """A node is about to be connected: nobody gives it up any more."""
        self._arriving[node_id] += 1
        try:
            yield
        finally:
            self._arriving[node_id] -= 1

    def is_away(self, node_id: str) -> bool:
        """Tell whether a node is neither connected nor about to be."""
        return node_id not in self._links and not self._arriving[node_id]

    def is_lost(self, node_id: str) -> bool:
        """Tell whether a node is silent for so long that its watchdog ended what may run elsewhere."""
        silence_s = (self._clock() - self.seen_ns(node_id)) / 1e9
        return silence_s >= LOST_AFTER_S and not self._arriving[node_id]

    def disconnect(self, node_id: str, link: NodeLink) -> bool:
        """A connection is gone; tells whether it was the present one."""
        if self._links.get(node_id) is not link:
            return False
        del self._links[node_id]
        self._readings.pop(node_id, None)
        return True

    def trouble(self, node_id: str, troubles: Mapping[str, str]) -> bool:
        """Note which of a node's runtimes take no tasks now, and why; tells whether that is news."""
        is_new = self.troubles(node_id) != troubles
        self._troubles[node_id] = troubles
        return is_new

    def troubles(self, node_id: str) -> Mapping[str, str]:
        """Return which of a node's runtimes take no tasks now, and why."""
        return self._troubles.get(node_id, {})

    def read(self, node_id: str, gpus: Mapping[str, GpuReading]) -> None:
        """Note what the GPUs of a node do."""
        self._readings[node_id] = Readings(gpus, self._clock())

    def heard(self, node_id: str) -> bool:
        """A node said something; tells whether it was suspect before."""
        was = self.state(node_id)
        self._seen_ns[node_id] = self._clock()
        return was is not self.state(node_id)

    def leaves(self, node_id: str) -> None:
        """A node's daemon said that it ends; until it registers again nothing is asked of it."""
        self._left.add(node_id)

    def seen_ns(self, node_id: str) -> int:
        """Return when a node was heard of last."""
        return self._seen_ns.get(node_id, 0)

    def state(self, node_id: str) -> NodeState:
        """Return whether a node is heard of: ONLINE, SUSPECT, UNKNOWN or OFFLINE."""
        silence_s = (self._clock() - self.seen_ns(node_id)) / 1e9
        if node_id in self._left or (node_id in self._seen_ns and silence_s >= OFFLINE_AFTER_S):
            return NodeState.OFFLINE
        if silence_s >= UNKNOWN_AFTER_S:
            return NodeState.UNKNOWN
        if node_id not in self._links or silence_s >= SUSPECT_AFTER_S:
            return NodeState.SUSPECT
        return NodeState.ONLINE

    def shown(self, node_id: str) -> NodeState:
        """Return how a node stands, as the tree shows it."""
        return state_of(self.state(node_id), self.closed.get(node_id), busy=self._is_busy(node_id))

    def link(self, node_id: str) -> NodeLink | None:
        """Return the present connection of a node, if there is one."""
        return self._links.get(node_id)

    def row(self, node_id: str) -> NodeRow | None:
        """Return what a node told of itself."""
        return self._rows.get(node_id)

    def known(self, owner: str, token: str) -> NodeRow | None:
        """Return the node of an account that is known by a token."""
        return self._rows.get(self._tokens.get((owner, token), ""))

    def rows(self) -> Collection[NodeRow]:
        """Return what all nodes told of themselves."""
        return self._rows.values()

    def name(self, node_id: str | None) -> str:
        """Return what a node is called; for one that is registered no more its id, "" for none."""
        row = self._rows.get(node_id or "")
        return node_id or "" if row is None else self._label(row)

    def _label(self, row: NodeRow) -> str:
        if not self._labels:
            nodes = {each.entry_id: (each.name, each.cluster_id) for each in self._rows.values()}
            self._labels = labels(nodes, self._clusters)
        label, number = self._labels[row.entry_id], number_of(row.id)
        return label if number == 1 else f"{label}/instances/{number}"

    def named(self, label: str) -> NodeStanding | None:
        """Return the node that is called so."""
        return next((self._standing(row) for row in self._rows.values() if self._label(row) == label), None)

    def instances(self, entry_id: str) -> list[NodeStanding]:
        """Return the machines of a node, by their numbers."""
        found = [self._standing(row) for row in self._rows.values() if row.entry_id == entry_id]
        return sorted(found, key=lambda each: number_of(each.row.id))

    def standings(self) -> list[NodeStanding]:
        """Return all nodes by what they are called, instances by their numbers."""
        found = [self._standing(row) for row in self._rows.values()]
        return sorted(found, key=lambda each: (each.label.partition("/")[0], number_of(each.row.id)))

    def _standing(self, row: NodeRow) -> NodeStanding:
        return NodeStanding(
            row,
            self._label(row),
            self.shown(row.id),
            self.state(row.id) is NodeState.ONLINE,
            self.seen_ns(row.id),
            self.closed.get(row.id),
            self._readings.get(row.id, Readings()),
            self.troubles(row.id),
        )

    def machines(self, node_ids: Iterable[str]) -> Mapping[str, Machine]:
        """Return what tasks have to know of these nodes."""
        rows = {node_id: self._rows.get(node_id) for node_id in node_ids}
        return {node_id: Machine() if row is None else _machine(row) for node_id, row in rows.items()}

    def swarm(self, node_id: str) -> str:
        """Return the swarm that a node's engine is in; "" for none."""
        row = self._rows.get(node_id)
        return "" if row is None else str(row.attrs.get("swarm", ""))

    def manager(self, swarm: str) -> NodeLink | None:
        """Return the connection of a manager of a swarm, where one is connected.

        Of a swarm that a node of the datacenter is in, a user's own node is none, whatever it says.
        """
        members = [node_id for node_id in self._rows if self.swarm(node_id) == swarm]
        is_common = any(not self._rows[node_id].owner for node_id in members)
        for node_id in members:
            row, link = self._rows[node_id], self._links.get(node_id)
            if link is not None and row.attrs.get("swarmManager") and not (is_common and row.owner):
                return link
        return None

    def view(self, node_id: str) -> NodeView:
        """Return a registered node as the scheduler counts with it."""
        row, closed = self._rows[node_id], self.closed.get(node_id)
        return node_view(
            row.id,
            row.name,
            row.attrs,
            row.runtimes,
            row.gpus,
            online=self.state(node_id) is NodeState.ONLINE,
            closed="" if closed is None else closed.text,
            troubles=self.troubles(row.id),
            groups=self.policy.node_groups.get(row.entry_id, frozenset()),
            gpu_groups=self.policy.gpu_groups,
            cluster=row.cluster_id,
            owner=row.owner,
        )

    def views(self) -> list[NodeView]:
        """Return all registered nodes as the scheduler counts with them."""
        return [self.view(node_id) for node_id in self._rows]


def _machine(row: NodeRow) -> Machine:
    attrs = row.attrs
    return Machine(frozenset(row.runtimes), str(attrs.get("address", "")), attrs.get("mounts") is True)
