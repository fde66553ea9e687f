"""Machines in SQL, and what administrators decided about them: which groups may use what, and short names of GPUs."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from sqlalchemy import bindparam, insert, update
from sqlmodel import Session, col, delete, select

from jobd.identity import Cluster, check_cluster_name
from jobd.scheduling.quotas import JobLimits
from jobd.scheduling.shares import Usage
from jobd.spec.defaultimages import DefaultImages
from jobd.store.decisions import Groups, aliasing, drop_rows, remove_machines, reserving
from jobd.store.limits import job_limits
from jobd.store.tables import (
    AliasRow,
    ClusterRow,
    NetworkRow,
    NodeRow,
    ReservationRow,
    Setting,
    UsageRow,
)
from pfs.accounts.keyring import there
from pfs.accounts.store import Membership
from pfs.audit.log import add, audited, record_now
from pfs.audit.record import DONE
from pfs.errors import Kind, PfsError
from pfs.sql import Database

_IMAGE, _GPU_IMAGE = "image", "gpu_image"
_FIRST_USAGE = insert(UsageRow)
_ADD_USAGE = (
    update(UsageRow)
    .where(col(UsageRow.user) == bindparam("owner"))
    .values(value=col(UsageRow.value) + bindparam("amount"), time_ns=bindparam("at_ns"))
)


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may use what. What is reserved for no group is everybody's.

    Attributes:
        node_groups: for which groups whole nodes are reserved, by the id of the node.
        gpu_groups: for which groups single GPUs are reserved, by UUID.
        aliases: the model for which an alias stands.
        members: the groups that a user is in.
        quotas: what jobs may have at once, by holder (`jobd.scheduling.quotas`).
        images: those of jobs that name none.
    """

    node_groups: Mapping[str, Groups] = field(default_factory=dict)
    gpu_groups: Mapping[str, Groups] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Groups] = field(default_factory=dict)
    quotas: Mapping[str, JobLimits] = field(default_factory=dict)
    images: DefaultImages = field(default_factory=DefaultImages)


class Nodes:
    """What is kept of machines, and of what they are used for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def nodes(self) -> list[NodeRow]:
        """Return every machine that ever registered."""
        return await self._database.read(_nodes)

    async def node_ids(self) -> set[str]:
        """Return the ids of the machines that are known."""
        return await self._database.read(lambda session: set(session.exec(select(NodeRow.id))))

    def nodes_now(self) -> list[NodeRow]:
        """Like `nodes`, for callers without an event loop."""
        return self._database.read_now(_nodes)

    async def save_node(self, node: NodeRow) -> None:
        """Keep what a machine told of itself."""
        await self.save_nodes([node])

    async def save_nodes(self, nodes: Sequence[NodeRow], made: Cluster | None = None) -> None:
        """Keep machines, and a cluster that was made for them, all at once.

        Raises:
            PfsError: UNAUTHENTICATED when the account whose they are is gone.
        """
        owners = {node.owner for node in nodes} - {""}
        new = {node.id: record_now("node.register", f"nodes/{node.id}", DONE, name=node.name) for node in nodes}

        def work(session: Session) -> None:
            for owner in owners:
                _check_there(session, owner)
            if made is not None:
                session.add(ClusterRow(id=made.id, owner=made.owner, name=made.name, is_default=made.is_default))
                session.flush()
            for node in nodes:
                if session.get(NodeRow, node.id) is None:
                    add(session, new[node.id])
                session.merge(node)

        await self._database.write(work)

    # ---- clusters

    async def clusters(self) -> list[Cluster]:
        """Return all clusters of all accounts."""
        return await self._database.read(_clusters)

    def clusters_now(self) -> list[Cluster]:
        """Like `clusters`, for callers without an event loop."""
        return self._database.read_now(_clusters)

    async def rename_cluster(self, cluster_id: str, name: str) -> None:
        """Give a cluster another name.

        Raises:
            PfsError: INVALID for what cannot be one, EXISTS when another one of the account has it, NOT_FOUND when
                there is no such cluster.
        """
        await self._database.write(_renaming(cluster_id, name))

    def rename_cluster_now(self, cluster_id: str, name: str) -> None:
        """Like `rename_cluster`, for callers without an event loop."""
        self._database.write_now(_renaming(cluster_id, name))

    async def make_default(self, cluster_id: str) -> None:
        """Let a cluster be the one that its account means when it names none.

        Raises:
            PfsError: NOT_FOUND when there is no such cluster.
        """
        await self._database.write(_defaulting(cluster_id))

    def make_default_now(self, cluster_id: str) -> None:
        """Like `make_default`, for callers without an event loop."""
        self._database.write_now(_defaulting(cluster_id))

    async def usages(self) -> dict[str, float]:
        """Return what every user had."""
        return await self._database.read(lambda s: {row.user: row.value for row in s.exec(select(UsageRow))})

    # ---- networks of jobs

    async def networks(self) -> list[tuple[str, str]]:
        """Return (name, swarm) of the networks between machines that may be there."""
        query = select(NetworkRow.name, NetworkRow.swarm)
        return await self._database.read(lambda session: list(session.exec(query)))

    async def keep_network(self, name: str, swarm: str) -> None:
        """Note a network before it is made, so that it is not forgotten there after a crash."""

        def work(session: Session) -> None:
            session.merge(NetworkRow(name=name, swarm=swarm))

        await self._database.write(work)

    async def forget_network(self, name: str) -> None:
        """A network is gone."""

        def work(session: Session) -> None:
            session.exec(delete(NetworkRow).where(col(NetworkRow.name) == name))

        await self._database.write(work)

    # ---- what administrators decide

    async def policy(self) -> Policy:
        """Return everything that administrators decided, as of one moment."""
        return await self._database.read(_policy)

    def policy_now(self) -> Policy:
        """Like `policy`, for callers without an event loop."""
        return self._database.read_now(_policy)

    def reserve_now(self, node_id: str, gpu: str, groups: Groups) -> None:
        """Reserve a node, or one GPU of it by its UUID (else ""), for `groups`; for none frees it.

        Raises:
            PfsError: NOT_FOUND when there is no such group.
        """
        self._database.write_now(reserving(node_id, gpu, lambda before: groups))

    async def reserve(self, what: Collection[tuple[str, str]], after: Callable[[Groups], Groups]) -> None:
        """Reserve nodes and GPUs, each as in `reserve_now`, for the groups that `after` makes of those of before.

        Raises:
            PfsError: NOT_FOUND when there is no such group.
        """
        works = [reserving(node_id, gpu, after) for node_id, gpu in what]

        def work(session: Session) -> None:
            for each in works:
                each(session)

        await self._database.write(work)

    async def remove_nodes(self, node_ids: Collection[str]) -> None:
        """Forget machines, and take back the keys that they have of their own."""
        on = f"nodes/{','.join(sorted(node_ids))}"
        await self._database.write(audited("node.remove", on, partial(remove_machines, node_ids=node_ids)))

    def alias_now(self, name: str, model: str | None) -> None:
        """Do what `alias` does."""
        self._database.write_now(aliasing(name, model))

    async def alias(self, name: str, model: str | None) -> None:
        """Let `name` stand for a model of GPUs, and no more for what it stood for; None only the latter.

        Raises:
            PfsError: INVALID for what cannot be an alias, or is a model itself; EXISTS when the model has another
                alias, NOT_FOUND when there is nothing to remove.
        """
        await self._database.write(aliasing(name, model))

    # ---- settings

    def setting_now(self, name: str) -> str | None:
        """Return a setting of `jobd init`."""
        return self._database.read_now(lambda session: _setting(session, name))

    def set_now(self, name: str, value: str, *, shown: str = "") -> None:
        """Keep a setting.

        Args:
            shown: what the audit log tells of the value: some are secrets.
        """

        def work(session: Session) -> None:
            session.merge(Setting(name=name, value=value))

        self._database.write_now(audited("setting.set", f"settings/{name}", work, value=shown))

    def set_default_image_now(self, name: str, *, gpu: bool) -> None:
        """Say which image jobs have that name none, or of these those with GPUs; "" is none."""
        self.set_now(_GPU_IMAGE if gpu else _IMAGE, name, shown=name or "none")


def drop_machines(session: Session, owner: str) -> None:
    """Forget the nodes and clusters of an account that is gone, in a transaction of somebody else's.

    Whoever has its name afterwards has none of them.
    """
    drop_rows(session, list(session.exec(select(NodeRow.id).where(NodeRow.owner == owner))))
    session.exec(delete(ClusterRow).where(col(ClusterRow.owner) == owner))


def add_usage(session: Session, usage: Usage) -> None:
    """Add to what a user had, in a transaction of somebody else's."""
    connection = session.connection()
    told = {"owner": usage.user, "amount": usage.amount, "at_ns": usage.time_ns}
    if connection.execute(_ADD_USAGE, told).rowcount == 0:
        connection.execute(_FIRST_USAGE, {"user": usage.user, "value": usage.amount, "time_ns": usage.time_ns})


def _setting(session: Session, name: str) -> str | None:
    row = session.get(Setting, name)
    return None if row is None else row.value


def _nodes(session: Session) -> list[NodeRow]:
    return list(session.exec(select(NodeRow).order_by(NodeRow.name, NodeRow.id)))


def _check_there(session: Session, owner: str) -> None:
    try:
        there(session, owner)
    except PfsError:
        raise PfsError(Kind.UNAUTHENTICATED, f"the account of {owner}, whose node this is, is gone") from None


def _clusters(session: Session) -> list[Cluster]:
    rows = session.exec(select(ClusterRow).order_by(ClusterRow.owner, ClusterRow.name))
    return [Cluster(row.id, row.owner, row.name, row.is_default) for row in rows]


def _renaming(cluster_id: str, name: str) -> Callable[[Session], None]:
    work = partial(_rename_cluster, cluster_id=cluster_id, name=name)
    return audited("cluster.rename", f"clusters/{cluster_id}", work, name=name)


def _rename_cluster(session: Session, cluster_id: str, name: str) -> None:
    row = _cluster(session, cluster_id)
    same = select(ClusterRow).where(ClusterRow.owner == row.owner, ClusterRow.name == check_cluster_name(name))
    other = session.exec(same).first()
    if other is not None and other.id != cluster_id:
        raise PfsError(Kind.EXISTS, f"the cluster {other.id} has the name {name!r} already")
    row.name = name
    session.add(row)


def _defaulting(cluster_id: str) -> Callable[[Session], None]:
    return audited("cluster.default", f"clusters/{cluster_id}", partial(_make_default, cluster_id=cluster_id))


def _make_default(session: Session, cluster_id: str) -> None:
    owner = _cluster(session, cluster_id).owner
    for row in session.exec(select(ClusterRow).where(ClusterRow.owner == owner)):
        row.is_default = row.id == cluster_id
        session.add(row)


def _cluster(session: Session, cluster_id: str) -> ClusterRow:
    row = session.get(ClusterRow, cluster_id)
    if row is None:
        raise PfsError(Kind.NOT_FOUND, f"there is no cluster {cluster_id}")
    return row


def _policy(session: Session) -> Policy:
    nodes: dict[str, set[str]] = {}
    gpus: dict[str, set[str]] = {}
    members: dict[str, set[str]] = {}
    for row in session.exec(select(ReservationRow)):
        reserved, what = (gpus, row.gpu) if row.gpu else (nodes, row.node_id)
        reserved.setdefault(what, set()).add(row.group)
    for membership in session.exec(select(Membership)):
        members.setdefault(membership.user, set()).add(membership.group)
    aliases = {row.name: row.model for row in session.exec(select(AliasRow))}
    return Policy(_frozen(nodes), _frozen(gpus), aliases, _frozen(members), job_limits(session), _images(session))


def _images(session: Session) -> DefaultImages:
    return DefaultImages(_setting(session, _IMAGE) or "", _setting(session, _GPU_IMAGE) or "")


def _frozen(groups: dict[str, set[str]]) -> dict[str, Groups]:
    return {what: frozenset(each) for what, each in groups.items()}
