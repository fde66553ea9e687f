"""The machines of a datacenter: which there are, which are connected, and since when the others are silent.

A node that is not heard of goes on with what it has. After `SUSPECT_AFTER_S` of silence, or with its connection, it
gets no new work; after `UNKNOWN_AFTER_S` it is shown as one of which nothing is known.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from jobd.engine.assign import Machine
from jobd.engine.demands import node_view
from jobd.engine.ports import Clock, NodeLink
from jobd.scheduling.model import NodeView
from jobd.store.nodes import Policy
from jobd.store.tables import NodeRow

SUSPECT_AFTER_S = 15.0
UNKNOWN_AFTER_S = 60.0
# a task whose job is tried again elsewhere was ended by its own watchdog by then (`jobd.engine.assign.WATCHDOG_S`)
LOST_AFTER_S = 90.0


class NodeState(StrEnum):
    """What is known of a node."""

    ONLINE = "ONLINE"
    SUSPECT = "SUSPECT"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """A node as the tree shows it; `since_ns` is when it was heard of last."""

    row: NodeRow
    state: NodeState
    since_ns: int

    @property
    def online(self) -> bool:
        """Whether it gets new work."""
        return self.state is NodeState.ONLINE


class Fleet:
    """All nodes, connected or not."""

    def __init__(self, clock: Clock) -> None:
        self.policy = Policy()
        self._clock = clock
        self._rows: dict[str, NodeRow] = {}
        self._links: dict[str, NodeLink] = {}
        self._seen_ns: dict[str, int] = {}

    def register(self, row: NodeRow) -> None:
        """Note what a node told of itself; its silence counts from now on."""
        self._rows[row.id] = row
        self._seen_ns[row.id] = self._clock()

    def connect(self, node_id: str, link: NodeLink) -> None:
        """A registered node is connected; an older connection of it counts no more."""
        self._links[node_id] = link

    def disconnect(self, node_id: str, link: NodeLink) -> bool:
        """A connection is gone; tells whether it was the present one."""
        if self._links.get(node_id) is not link:
            return False
        del self._links[node_id]
        return True

    def heard(self, node_id: str) -> bool:
        """A node said something; tells whether it was suspect before."""
        was = self.state(node_id)
        self._seen_ns[node_id] = self._clock()
        return was is not self.state(node_id)

    def seen_ns(self, node_id: str) -> int:
        """Return when a node was heard of last."""
        return self._seen_ns.get(node_id, 0)

    def state(self, node_id: str) -> NodeState:
        """Return what is known of a node."""
        silence_s = (self._clock() - self.seen_ns(node_id)) / 1e9
        if silence_s >= UNKNOWN_AFTER_S:
            return NodeState.UNKNOWN
        if node_id not in self._links or silence_s >= SUSPECT_AFTER_S:
            return NodeState.SUSPECT
        return NodeState.ONLINE

    def link(self, node_id: str) -> NodeLink | None:
        """Return the present connection of a node, if there is one."""
        return self._links.get(node_id)

    def row(self, node_id: str) -> NodeRow | None:
        """Return what a node told of itself."""
        return self._rows.get(node_id)

    def name(self, node_id: str | None) -> str:
        """Return the name of a node; "" for none."""
        row = self._rows.get(node_id or "")
        return "" if row is None else row.name

    def named(self, name: str) -> NodeStanding | None:
        """Return the node of that name."""
        return next((self._standing(row) for row in self._rows.values() if row.name == name), None)

    def standings(self) -> list[NodeStanding]:
        """Return all nodes by name."""
        return [self._standing(row) for row in sorted(self._rows.values(), key=lambda row: row.name)]

    def _standing(self, row: NodeRow) -> NodeStanding:
        return NodeStanding(row, self.state(row.id), self.seen_ns(row.id))

    def machines(self, node_ids: Iterable[str]) -> Mapping[str, Machine]:
        """Return what tasks have to know of these nodes."""
        rows = {node_id: self._rows.get(node_id) for node_id in node_ids}
        return {
            node_id: Machine() if row is None else Machine(frozenset(row.runtimes), str(row.attrs.get("address", "")))
            for node_id, row in rows.items()
        }

    def swarm(self, node_id: str) -> str:
        """Return the swarm that a node's engine is in; "" for none."""
        row = self._rows.get(node_id)
        return "" if row is None else str(row.attrs.get("swarm", ""))

    def manager(self, swarm: str) -> NodeLink | None:
        """Return the connection of a manager of a swarm, where one is connected."""
        for node_id, link in self._links.items():
            if self.swarm(node_id) == swarm and self._rows[node_id].attrs.get("swarmManager"):
                return link
        return None

    def view(self, node_id: str) -> NodeView:
        """Return a registered node as the scheduler counts with it."""
        row = self._rows[node_id]
        return node_view(
            row.id,
            row.name,
            row.attrs,
            row.runtimes,
            row.gpus,
            online=self.state(node_id) is NodeState.ONLINE,
            groups=self.policy.node_groups.get(node_id, frozenset()),
            gpu_groups=self.policy.gpu_groups,
        )

    def views(self) -> list[NodeView]:
        """Return all registered nodes as the scheduler counts with them."""
        return [self.view(node_id) for node_id in self._rows]
