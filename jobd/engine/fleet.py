"""The machines of a datacenter: which there are, which are connected, and what jobs use of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from jobd.engine.nodeview import node_view
from jobd.job import Job
from jobd.scheduling.scheduler import NodeView
from jobd.store.db import NodeRow
from jobd.wire import Assignment


class NodeLink(Protocol):
    """A node that is connected: what may be asked of it."""

    async def start(self, task: Assignment) -> None: ...

    async def stop(self, task_id: str, grace_s: float) -> None: ...

    async def signal(self, task_id: str, number: int) -> None: ...


@dataclass(frozen=True, slots=True)
class NodeStanding:
    """A node as the tree shows it."""

    row: NodeRow
    online: bool


class Fleet:
    """All nodes, connected or not."""

    def __init__(self) -> None:
        self._rows: dict[str, NodeRow] = {}
        self._links: dict[str, NodeLink] = {}

    def register(self, row: NodeRow) -> None:
        """Note what a node told of itself."""
        self._rows[row.id] = row

    def connect(self, node_id: str, link: NodeLink) -> None:
        """A registered node is connected; an older connection of it counts no more."""
        self._links[node_id] = link

    def disconnect(self, node_id: str, link: NodeLink) -> bool:
        """A connection is gone; tells whether it was the present one."""
        if self._links.get(node_id) is not link:
            return False
        del self._links[node_id]
        return True

    def link(self, node_id: str | None) -> NodeLink | None:
        """Return the present connection of a node, if there is one."""
        return self._links.get(node_id or "")

    def name(self, node_id: str | None) -> str:
        """Return the name of a node; "" for none."""
        row = self._rows.get(node_id or "")
        return "" if row is None else row.name

    def standings(self) -> list[NodeStanding]:
        """Return all nodes by name."""
        rows = sorted(self._rows.values(), key=lambda row: row.name)
        return [NodeStanding(row, row.id in self._links) for row in rows]

    def views(self, jobs: Iterable[Job]) -> list[NodeView]:
        """Return what the scheduler counts with; `jobs` are those that are not over."""
        given: dict[str, list[Job]] = {}
        for job in jobs:
            if job.life.node is not None:
                given.setdefault(job.life.node, []).append(job)
        return [
            node_view(
                row.id, row.name, row.attrs, row.runtimes, online=row.id in self._links, jobs=given.get(row.id, [])
            )
            for row in self._rows.values()
        ]
