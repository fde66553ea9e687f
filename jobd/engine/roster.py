"""Who nodes are, and which clusters there are: kept on disk first, then told to whoever counts with it."""

from collections.abc import Awaitable, Callable, Sequence

import trio

from jobd.engine.flow import Flow
from jobd.identity import Cluster
from jobd.store.tables import NodeRow
from pfs.errors import Kind, PfsError
from pfs.path import check_name
from pfs.perm import Subject, Thing, ThingKind, Verb, allowed

GONE = "the account whose node {node} was is gone"


async def _nobody_hears() -> None:
    """Nobody remembers keys here."""


class Roster:
    """Keeps who nodes are.

    Attributes:
        revoked: told when keys of machines were taken back: who remembers whom keys prove has to ask anew.
    """

    def __init__(self, flow: Flow) -> None:
        self.revoked: Callable[[], Awaitable[None]] = _nobody_hears
        self._flow = flow
        self._turn = trio.Lock()

    def has_work(self, node_id: str) -> bool:
        """Tell whether jobs that are not over are on a node."""
        return bool(self._flow.on_node(node_id))

    async def keep(self, rows: Sequence[NodeRow], made: Cluster | None = None) -> None:
        """Keep who nodes are, and a cluster that was made for them."""
        await self._flow.store.save_nodes(rows, made)
        if made is not None:
            await self.take_up_clusters()
        for row in rows:
            self._flow.fleet.keep(row)
            self._flow.queue.see(row.id)
        self._flow.ledger.touch()
        self._flow.wake()

    async def take_up_gone(self) -> None:
        """Forget the nodes that are on disk no more; what ran there is lost.

        Somebody removed them, or their account is gone, and nobody who comes in by that name has them.
        """
        fleet = self._flow.fleet
        here = [row.id for row in fleet.rows()]  # looked at first: what comes meanwhile is on disk before it is here
        kept = await self._flow.store.node_ids()
        for node_id in here:
            if node_id not in kept:
                for active in self._flow.on_node(node_id):
                    await self._flow.lose(active, {node_id}, GONE)
                fleet.forget(node_id)
                self._flow.queue.see(node_id)
                self._flow.lookout([node_id])
        self._flow.ledger.touch()
        self._flow.wake()

    async def remove_node(self, subject: Subject, entry_id: str) -> None:
        """Forget a node whose machines are all away, for whoever it belongs to; it comes back with a new key alone.

        Raises:
            PfsError: FORBIDDEN, BUSY while it is connected, or jobs are there.
        """
        fleet = self._flow.fleet
        rows = [row for row in fleet.rows() if row.entry_id == entry_id]
        for row in rows:
            _check_may_command(subject, Thing(ThingKind.NODE, row.owner))
            if not fleet.is_away(row.id):
                cure = "end gradient-node there first"
                raise PfsError(Kind.BUSY, f"the node {fleet.name(row.id)} is connected: {cure}")
            if self.has_work(row.id):
                cure = "end these, or say `lost` to them"
                raise PfsError(Kind.BUSY, f"jobs are still on the node {fleet.name(row.id)}: {cure}")
        await self._flow.store.remove_nodes([row.id for row in rows])
        await self.revoked()
        await self.take_up_gone()

    async def take_up_clusters(self) -> None:
        """Clusters were made, are called otherwise, or another one is the default."""
        async with self._turn:  # who reads later knows more
            self._flow.fleet.clusters = await self._flow.store.clusters()
        self._flow.queue.adopt_clusters(active.job for active in self._flow.ledger.active())
        self._flow.ledger.touch()
        self._flow.wake()

    async def rename_node(self, subject: Subject, node_id: str, name: str) -> None:
        """Give the node of a machine another name, for whoever it belongs to: all its instances have it then.

        Raises:
            PfsError: NOT_FOUND, FORBIDDEN, INVALID for what cannot be a name, EXISTS when a node of the cluster has it.
        """
        row = self.check_rename(subject, node_id, name)
        rows = [other for other in self._flow.fleet.rows() if other.entry_id == row.entry_id]
        await self.keep([changed(other, name=name) for other in rows])

    def check_rename(self, subject: Subject, node_id: str, name: str) -> NodeRow:
        """Refuse a name of a node, as `rename_node` does; return the machine."""
        fleet = self._flow.fleet
        row = fleet.row(node_id)
        if row is None:
            raise PfsError(Kind.NOT_FOUND, "this node is gone")
        _check_may_command(subject, Thing(ThingKind.NODE, row.owner))
        check_name(name)
        same = [other for other in fleet.rows() if (other.cluster_id, other.name) == (row.cluster_id, name)]
        if any(other.entry_id != row.entry_id for other in same):
            raise PfsError(Kind.EXISTS, f"another node of its cluster is named {name!r}")
        return row

    def check_cluster(self, subject: Subject, cluster: Cluster, name: str | None) -> None:
        """Refuse a command for a cluster: another name, or to be the default for None; FORBIDDEN, EXISTS."""
        _check_may_command(subject, Thing(ThingKind.CLUSTER, cluster.owner))
        for other in self._flow.fleet.clusters:
            if other.owner == cluster.owner and other.id != cluster.id and other.name == name:
                raise PfsError(Kind.EXISTS, f"the cluster {other.id} has the name {name!r} already")

    async def rename_cluster(self, subject: Subject, cluster: Cluster, name: str) -> None:
        """Give a cluster another name, for whoever it belongs to.

        Raises:
            PfsError: FORBIDDEN, INVALID for what cannot be a name, EXISTS when a cluster of the account has it.
        """
        _check_may_command(subject, Thing(ThingKind.CLUSTER, cluster.owner))
        await self._flow.store.rename_cluster(cluster.id, name)
        await self.take_up_clusters()

    async def make_default(self, subject: Subject, cluster: Cluster) -> None:
        """Let a cluster be its account's default, for whoever it belongs to.

        Raises:
            PfsError: FORBIDDEN.
        """
        _check_may_command(subject, Thing(ThingKind.CLUSTER, cluster.owner))
        await self._flow.store.make_default(cluster.id)
        await self.take_up_clusters()


def changed(row: NodeRow, **fields: object) -> NodeRow:
    """Return a row with other fields; the one that there is stays as it is until that is kept."""
    return NodeRow(**(row.model_dump() | fields))


def _check_may_command(subject: Subject, thing: Thing) -> None:
    if not allowed(subject, Verb.COMMAND, thing):
        whose = f"{thing.owner} or an administrator" if thing.owner else "an administrator"
        raise PfsError(Kind.FORBIDDEN, f"this {thing.kind} is changed by {whose}")
