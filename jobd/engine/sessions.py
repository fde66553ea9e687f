"""The server's end of a node's connection (`jobd.wire`).

A node is known by its name. While one is connected, another machine cannot take its name; the same machine
(the same boot) can, since a connection may die without a word and its node come back before anybody notices.
"""

import secrets
import string
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from jobd.engine.engine import Engine
from jobd.store.tables import NodeRow
from jobd.wire import (
    OUT_OF_MEMORY,
    Assignment,
    Json,
    Welcome,
    decode_gpus,
    encode_assignment,
    encode_gpus,
    encode_welcome,
)
from pfs.accounts import Identity
from pfs.errors import Kind, PfsError
from pfs.path import check_name
from pfs.protocol.channel import Channel, Handler

Reply = tuple[Json, bytes]


@dataclass(frozen=True, slots=True)
class Datacenter:
    """What a node is told of the place that it serves."""

    name: str
    data_root_id: str
    cluster: str
    cluster_id: str


class NodeSessions:
    """Talks with nodes.

    Args:
        clock: nanoseconds since the epoch.
    """

    def __init__(self, engine: Engine, datacenter: Datacenter, clock: Callable[[], int] = time.time_ns) -> None:
        self._engine = engine
        self._datacenter = datacenter
        self._clock = clock

    @asynccontextmanager
    async def conversation(self, identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        """Talk with one node until its connection ends."""
        session = _Session(self._engine, self._datacenter, self._clock, channel)
        try:
            yield session.handle
        finally:
            session.end()


class _Session:
    """One connection of one node: answers its questions, and carries the engine's to it."""

    def __init__(
        self,
        engine: Engine,
        datacenter: Datacenter,
        clock: Callable[[], int],
        channel: Callable[[], Channel],
    ) -> None:
        self._engine = engine
        self._datacenter = datacenter
        self._clock = clock
        self._channel = channel
        self._row: NodeRow | None = None

    # ---- what the node asks

    async def handle(self, op: str, args: Json, body: bytes) -> Reply:
        """Answer one question of the node."""
        try:
            if op == "node.hello":
                return encode_welcome(await self._hello(args)), b""
            if self._row is None:
                raise PfsError(Kind.INVALID, "a node says node.hello first")
            self._engine.heard(self._row.id)
            match op:
                case "node.beat":
                    return {}, b""
                case "task.running":
                    await self._engine.running(self._row.id, str(args["task"]), int(args["time_ns"]))
                    return {}, b""
                case "task.output":
                    return {"offset": await self._output(self._row.id, args, body)}, b""
                case "task.ended":
                    await self._ended(self._row.id, args)
                    return {}, b""
            raise PfsError(Kind.UNSUPPORTED, f"the server does not know {op!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise PfsError(Kind.INVALID, f"{op}: an argument is missing or wrong: {error}") from error

    async def _hello(self, args: dict[str, Any]) -> Welcome:
        name = check_name(str(args["name"]))
        known = self._engine.fleet.named(name)
        if known is not None and self._engine.fleet.link(known.row.id) and known.row.boot_id != args["boot_id"]:
            raise PfsError(
                Kind.BUSY, f"a node named {name!r} is connected from another machine; give this one another --name"
            )
        now_ns = self._clock()
        row = NodeRow(
            id=_new_id("cm", 12) if known is None else known.row.id,
            name=name,
            attrs=dict(args["attrs"]),
            runtimes=[str(runtime) for runtime in args["runtimes"]],
            gpus=encode_gpus(decode_gpus(args["gpus"])),
            boot_id=str(args["boot_id"]),
            registered_at_ns=now_ns if known is None else known.row.registered_at_ns,
            seen_at_ns=now_ns,
        )
        tasks = await self._engine.attach(row, self, [str(task) for task in args["tasks"]])
        self._row = row
        place = self._datacenter
        return Welcome(row.id, place.cluster, place.cluster_id, place.name, place.data_root_id, tasks)

    async def _output(self, node_id: str, args: dict[str, Any], body: bytes) -> int:
        pieces = [(int(time_ns), int(length)) for time_ns, length in args["pieces"]]
        return await self._engine.output(node_id, str(args["task"]), int(args["offset"]), pieces, body)

    async def _ended(self, node_id: str, args: dict[str, Any]) -> None:
        reason = str(args["reason"])
        await self._engine.ended(
            node_id,
            str(args["task"]),
            code=int(args["code"]),
            reason=reason,
            out_of_memory=reason == OUT_OF_MEMORY,
            time_ns=int(args["time_ns"]),
        )

    def end(self) -> None:
        """The connection is gone."""
        if self._row is not None:
            self._engine.detach(self._row.id, self)

    # ---- what the engine asks

    async def start(self, task: Assignment) -> None:
        """Have a task started."""
        await self._channel().ask("task.start", {"assignment": encode_assignment(task)})

    async def stop(self, task_id: str, grace_s: float) -> None:
        """Have a task ended: TERM, its grace, KILL."""
        await self._channel().ask("task.stop", {"task": task_id, "grace_s": grace_s})

    async def signal(self, task_id: str, number: int) -> None:
        """Have a signal sent to all processes of a task."""
        await self._channel().ask("task.signal", {"task": task_id, "signal": number})

    async def make_network(self, network: str) -> None:
        """Have a network between machines made."""
        await self._channel().ask("network.make", {"network": network})

    async def drop_network(self, network: str) -> None:
        """Have a network between machines dropped."""
        await self._channel().ask("network.drop", {"network": network})


def _new_id(prefix: str, length: int) -> str:
    """Return a new id in the form that people know from gradient-node: `cmdc2sjlenkhwx`."""
    return prefix + "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(length))


def new_cluster_id() -> str:
    """Return an id for a cluster."""
    return _new_id("cl", 7)
