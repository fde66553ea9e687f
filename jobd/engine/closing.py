"""Keeps new work from nodes: administrators drain them, and a node that fails one job after the other is set aside.

What is decided is in SQL before anybody hears of it, since it has to outlive a restart. It may change there as well
without this service (`jobd drain`): then it is read anew.
"""

import logging
from collections.abc import Collection

import trio

from jobd.engine.blackholes import FAILURES, FAST_S, Rows, Tried, did_well
from jobd.engine.flow import Flow
from jobd.engine.gpumeters import rates
from jobd.engine.knowngpus import GONE, remembered
from jobd.job import Job
from jobd.life.events import Event
from jobd.life.life import Life
from jobd.nodestate import Closed
from jobd.store.tables import NodeRow
from jobd.wire import GpuReading, NodeGpu, decode_gpus, encode_gpus
from pfs.errors import Kind, PfsError
from pfs.perm import Subject, Thing, ThingKind, Verb, allowed

log = logging.getLogger(__name__)

BLACK_HOLE = "{count} different jobs in a row failed there within {fast_s:.0f} s of their start, job {job} the last"


class Closing:
    """Which nodes, and which of their GPUs, take no new work."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow
        self._rows = Rows()
        self._turn = trio.Lock()
        flow.witness = self._see

    async def drain(self, subject: Subject, node_ids: Collection[str], why: str) -> None:
        """Let nodes take no new work; what runs there goes on.

        Raises:
            PfsError: FORBIDDEN for who is no administrator, and does not own them either.
        """
        self.check(subject, node_ids)
        closed = Closed(subject.user, why, self._flow.clock())
        self._tell(node_ids, closed.text)
        async with self._turn:
            await self._flow.store.close_nodes(node_ids, closed)
            await self._take_up()

    async def resume(self, subject: Subject, node_ids: Collection[str]) -> None:
        """Let nodes take new work again, and forget their GPUs that are gone.

        Raises:
            PfsError: FORBIDDEN for who is no administrator, and does not own them either.
        """
        self.check(subject, node_ids)
        self._tell(node_ids, f"resumed by {subject.user}")
        async with self._turn:
            await self._flow.store.open_nodes(node_ids)
            await self._take_up()
        for node_id in node_ids:
            row = self._flow.fleet.row(node_id)
            if row is not None:
                there = [gpu for gpu in decode_gpus(row.gpus) if gpu.ill != GONE]
                await self._keep_gpus(row, there)

    async def take_up(self) -> None:
        """Read anew which nodes take no new work."""
        async with self._turn:
            await self._take_up()

    async def _take_up(self) -> None:
        flow = self._flow
        before, flow.fleet.closed = flow.fleet.closed, await flow.store.closed()
        for node_id in before.keys() | flow.fleet.closed.keys():
            if before.get(node_id) != flow.fleet.closed.get(node_id):
                self._rows.forget(node_id)
                self._changed(node_id)

    def _changed(self, node_id: str) -> None:
        flow = self._flow
        flow.ledger.touch()
        flow.queue.see(node_id)
        flow.lookout([node_id])
        flow.wake()

    def check(self, subject: Subject, node_ids: Collection[str]) -> None:
        """Refuse who may not drain nodes; FORBIDDEN."""
        rows = [self._flow.fleet.row(node_id) for node_id in node_ids]
        owners = ["" if row is None else row.owner for row in rows]
        if not all(allowed(subject, Verb.COMMAND, Thing(ThingKind.NODE, owner)) for owner in owners):
            raise PfsError(Kind.FORBIDDEN, "only administrators command the nodes of the datacenter")

    def _tell(self, node_ids: Collection[str], text: str) -> None:
        for node_id in node_ids:
            log.info("the node %s is %s", self._flow.fleet.name(node_id), text)

    # ---- GPUs

    async def gpus(self, node_id: str, told: Collection[NodeGpu], readings: dict[str, GpuReading]) -> None:
        """A node tells how its GPUs are, and what they do."""
        row = self._flow.fleet.row(node_id)
        if row is None:
            return
        self._flow.fleet.read(node_id, readings)
        self._flow.ledger.meters.read(node_id, rates(told, readings), self._flow.clock())
        await self._keep_gpus(row, remembered(decode_gpus(row.gpus), list(told)))

    async def _keep_gpus(self, row: NodeRow, gpus: Collection[NodeGpu]) -> None:
        if decode_gpus(row.gpus) == tuple(gpus):
            return
        kept = NodeRow(**(row.model_dump() | {"gpus": encode_gpus(list(gpus))}))
        self._flow.fleet.keep(kept)
        self._changed(row.id)
        await self._flow.store.save_node(kept)

    # ---- black holes

    def _see(self, job: Job, before: Life, event: Event) -> None:
        """Look at what happened to a job for a sign of how its node does."""
        told = did_well(before, event)
        if told is None:
            return
        well, node_id = told
        if well:
            self._rows.did_well(node_id)
            return
        others = (process for active in self._flow.on_node(node_id) for process in active.job.life.processes)
        going_on = [each.started_at_ns for each in others if each.node == node_id and not each.over]
        since_ns = [start_ns for start_ns in going_on if start_ns is not None]
        if self._rows.failed(node_id, Tried(job.user, job.spec.name), event.time_ns, since_ns):
            why = BLACK_HOLE.format(count=FAILURES, fast_s=FAST_S, job=job.id)
            self._flow.chores.start(self._set_aside, node_id, why)

    async def _set_aside(self, node_id: str, why: str) -> None:
        async with self._turn:
            if node_id in self._flow.fleet.closed:
                return
            log.warning("the node %s is set aside: %s", self._flow.fleet.name(node_id), why)
            await self._flow.store.close_nodes([node_id], Closed("", why, self._flow.clock()))
            await self._take_up()
