"""Machines in SQL, and what administrators decided about them: which groups may use what, and short names of GPUs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import bindparam, insert, update
from sqlmodel import Session, col, delete, select

from jobd.scheduling.shares import Usage
from jobd.store.tables import AliasRow, NetworkRow, NodeRow, ReservationRow, Setting, UsageRow
from pfs.accounts import Membership
from pfs.errors import Kind, PfsError
from pfs.sql import Database

Groups = frozenset[str]

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
    """

    node_groups: Mapping[str, Groups] = field(default_factory=dict)
    gpu_groups: Mapping[str, Groups] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Groups] = field(default_factory=dict)


class Nodes:
    """What is kept of machines, and of what they are used for."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def nodes(self) -> list[NodeRow]:
        """Return every machine that ever registered."""
        return await self._database.read(_nodes)

    def nodes_now(self) -> list[NodeRow]:
        """Like `nodes`, for callers without an event loop."""
        return self._database.read_now(_nodes)

    async def save_node(self, node: NodeRow) -> None:
        """Keep what a machine told of itself."""

        def work(session: Session) -> None:
            session.merge(node)

        await self._database.write(work)

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
            PfsError: NOT_FOUND when a group has no member.
        """

        def work(session: Session) -> None:
            there = set(session.exec(select(Membership.group).distinct()))
            if unknown := sorted(groups - there):
                made = f"make it with: jobd group add {unknown[0]} USER"
                raise PfsError(Kind.NOT_FOUND, f"there is no group {unknown[0]!r}; {made}")
            same = (col(ReservationRow.node_id) == node_id, col(ReservationRow.gpu) == gpu)
            session.exec(delete(ReservationRow).where(*same))
            session.add_all(ReservationRow(node_id=node_id, gpu=gpu, group=group) for group in groups)

        self._database.write_now(work)

    def alias_now(self, name: str, model: str | None) -> None:
        """Let `name` stand for a model of GPUs, and no more for what it stood for; None only the latter.

        Raises:
            PfsError: EXISTS when the model has another alias, NOT_FOUND when there is nothing to remove.
        """

        def work(session: Session) -> None:
            row = session.get(AliasRow, name)
            if model is None:
                if row is None:
                    raise PfsError(Kind.NOT_FOUND, f"there is no alias {name!r}")
                session.delete(row)
                return
            other = session.exec(select(AliasRow).where(AliasRow.model == model, AliasRow.name != name)).first()
            if other is not None:
                cure = f"remove it first with: jobd alias {other.name} --remove"
                raise PfsError(Kind.EXISTS, f"{model!r} has the alias {other.name!r} already; {cure}")
            session.merge(AliasRow(name=name, model=model))

        self._database.write_now(work)

    # ---- settings

    def setting_now(self, name: str) -> str | None:
        """Return a setting of `jobd init`."""

        def work(session: Session) -> str | None:
            row = session.get(Setting, name)
            return None if row is None else row.value

        return self._database.read_now(work)

    def set_now(self, name: str, value: str) -> None:
        """Keep a setting."""

        def work(session: Session) -> None:
            session.merge(Setting(name=name, value=value))

        self._database.write_now(work)


def add_usage(session: Session, usage: Usage) -> None:
    """Add to what a user had, in a transaction of somebody else's."""
    connection = session.connection()
    told = {"owner": usage.user, "amount": usage.amount, "at_ns": usage.time_ns}
    if connection.execute(_ADD_USAGE, told).rowcount == 0:
        connection.execute(_FIRST_USAGE, {"user": usage.user, "value": usage.amount, "time_ns": usage.time_ns})


def _nodes(session: Session) -> list[NodeRow]:
    return list(session.exec(select(NodeRow).order_by(NodeRow.name)))


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
    return Policy(_frozen(nodes), _frozen(gpus), aliases, _frozen(members))


def _frozen(groups: dict[str, set[str]]) -> dict[str, Groups]:
    return {what: frozenset(each) for what, each in groups.items()}
