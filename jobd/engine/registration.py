"""Takes machines in that say hello: settles who each is (`jobd.identity`), and keeps that.

One after the other: two that come at the same moment are not given the same place. Which place somebody is about to
take is known until they are connected there.
"""

import secrets
import string
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import trio

from jobd.engine.engine import Engine
from jobd.engine.ports import Clock
from jobd.engine.roster import changed
from jobd.identity import Claim, Instance, Settled, settle
from jobd.nodestate import NodeState
from jobd.store.tables import NodeRow
from pfs.errors import Kind, PfsError


@dataclass(frozen=True, slots=True)
class Machine:
    """What a machine tells of itself, beside who it is."""

    attrs: dict[str, Any]
    runtimes: list[str]
    gpus: list[dict[str, Any]]
    boot_id: str


class Registration:
    """Who is who."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._turn = trio.Lock()
        self._arriving: set[str] = set()

    @asynccontextmanager
    async def entered(self, claim: Claim, owner: str, machine: Machine) -> AsyncIterator[NodeRow]:
        """Give what is to be kept of a machine, while it is connected to the engine.

        Args:
            owner: the user for whom alone it works; "" for the datacenter.

        Raises:
            PfsError: INVALID when it cannot be who it says, BUSY when another machine is.
        """
        async with self._turn:
            row = await self._settle(claim, owner, machine)
            self._arriving.add(row.id)
        try:
            yield row
        finally:
            self._arriving.discard(row.id)

    async def _settle(self, claim: Claim, owner: str, machine: Machine) -> NodeRow:
        fleet, roster = self._engine.fleet, self._engine.roster
        fresh_node, fresh_cluster = _new_id("cm", 12), _new_id("cl", 7)
        rows, me = fleet.rows(), fleet.known(owner, claim.token)
        if me is not None and (claim.again or me.said == claim.words):
            rows = [me]  # nobody else matters; and when a server was started again, all come at once
        settled = settle(
            claim,
            owner,
            [self._instance(row) for row in rows],
            fleet.clusters,
            fresh_node=fresh_node,
            fresh_cluster=fresh_cluster,
        )
        known = fleet.row(settled.id)
        if known is not None and known.instance == claim.token:
            self._refuse_copy(known, machine)
        row = self._row(settled, claim, owner, machine)
        others = [changed(other, name=settled.name, cluster_id=settled.cluster_id) for other in self._fellows(settled)]
        if settled.left and (left := fleet.row(settled.left)) is not None:
            others.append(changed(left, instance=""))
        if known is None:
            await roster.keep([row, *others], settled.made)
        elif known.instance != claim.token or others or settled.moved:
            # what else it tells is taken up when it is connected, and compared with what was known
            who = {"name": row.name, "cluster_id": row.cluster_id, "instance": row.instance, "said": row.said}
            gpus = known.gpus if known.instance == claim.token else []
            await roster.keep([changed(known, **who, gpus=gpus), *others], settled.made)
        return row

    def _instance(self, row: NodeRow) -> Instance:
        fleet = self._engine.fleet
        is_here = row.id in self._arriving or fleet.link(row.id) is not None
        has_work = self._engine.roster.has_work(row.id)
        return Instance(
            row.id, row.entry_id, row.name, row.cluster_id, row.owner, row.instance, row.said, is_here, has_work
        )

    def _fellows(self, settled: Settled) -> list[NodeRow]:
        """Return the other instances of a node that is called otherwise from now on."""
        rows = self._engine.fleet.rows() if settled.moved else ()
        return [row for row in rows if row.entry_id == settled.node_id and row.id != settled.id]

    def _refuse_copy(self, known: NodeRow, machine: Machine) -> None:
        """Refuse a second machine with one state directory.

        The same machine (the same boot) may come anew: a connection may die without a word, and its node come back
        before anybody notices.
        """
        fleet = self._engine.fleet
        if (
            fleet.link(known.id) is not None
            and known.boot_id != machine.boot_id
            and fleet.state(known.id) is NodeState.ONLINE
        ):
            cure = "if its state directory was copied from there, remove the file `instance` in it"
            raise PfsError(Kind.BUSY, f"the node {fleet.name(known.id)} is connected from another machine; {cure}")

    def _row(self, settled: Settled, claim: Claim, owner: str, machine: Machine) -> NodeRow:
        known = self._engine.fleet.row(settled.id)
        now_ns = self._clock()
        return NodeRow(
            id=settled.id,
            entry_id=settled.node_id,
            name=settled.name,
            cluster_id=settled.cluster_id,
            owner=owner,
            instance=claim.token,
            said=settled.said,
            attrs=machine.attrs,
            runtimes=machine.runtimes,
            gpus=machine.gpus,
            boot_id=machine.boot_id,
            registered_at_ns=now_ns if known is None else known.registered_at_ns,
            seen_at_ns=now_ns,
        )


def _new_id(prefix: str, length: int) -> str:
    """Return a new id in the form that people know from gradient-node: `cmdc2sjlenkhwx`."""
    return prefix + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))
