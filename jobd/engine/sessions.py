"""The server's end of a node's connection (`jobd.wire`).

Who a node is, is settled when it says hello (`jobd.engine.registration`). On a key that an administrator made it works
for the datacenter, on that of a user for that user alone.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from jobd.attach import PREFIX
from jobd.engine.engine import Engine
from jobd.engine.registration import Machine, Registration
from jobd.store.tables import NodeRow
from jobd.wire import (
    OUT_OF_MEMORY,
    Assignment,
    Json,
    Welcome,
    decode_claim,
    decode_gpus,
    decode_readings,
    encode_assignment,
    encode_gpus,
    encode_welcome,
)
from pfs.accounts.store import Identity
from pfs.errors import Kind, PfsError
from pfs.perm import SERVICE, Scope, Verb, allowed
from pfs.protocol.channel import Channel, Handler

Reply = tuple[Json, bytes]


@dataclass(frozen=True, slots=True)
class Datacenter:
    """What a node is told of the place that it serves."""

    name: str
    data_root_id: str


async def _nobody(machine: str) -> bool:
    return False


class NodeSessions:
    """Talks with nodes.

    Args:
        is_bound: tells whether a machine has a key of its own, so that no other is good for it.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        engine: Engine,
        datacenter: Datacenter,
        clock: Callable[[], int] = time.time_ns,
        is_bound: Callable[[str], Awaitable[bool]] = _nobody,
    ) -> None:
        self._engine = engine
        self._datacenter = datacenter
        self._is_bound = is_bound
        self._registration = Registration(engine, clock)

    @asynccontextmanager
    async def conversation(self, identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        """Talk with one node until its connection ends."""
        of_datacenter = allowed(identity.subject, Verb.RULE, SERVICE)
        owner = "" if of_datacenter else identity.subject.user
        check = partial(self._check_machine, identity, of_datacenter)
        session = _Session(self._engine, self._datacenter, self._registration, owner, channel, check_machine=check)
        try:
            yield session.handle
        finally:
            session.end()

    async def _check_machine(self, identity: Identity, of_datacenter: bool, machine: str) -> None:
        """Refuse a key that is another machine's own, and for a machine that has its own any other.

        Refused, too, is a key for machines of the datacenter whose owner has no say over these any more: the machine
        would become that user's own.
        """
        who, bound_to = identity.subject, identity.machine
        if Scope.ADMIN in who.scopes and not of_datacenter:
            why = f"this key is for the datacenter's machines, and {who.user} has no say over them"
            raise PfsError(Kind.FORBIDDEN, f"{why}: have an administrator make another with: jobd node-key")
        if bound_to and bound_to != machine:
            cure = "make one for this machine with: jobd join-token"
            raise PfsError(Kind.FORBIDDEN, f"this key is another machine's own: {cure}")
        if not bound_to and await self._is_bound(machine):
            cure = "start it without --apiKey, or take that key back with: jobd user revoke"
            raise PfsError(Kind.FORBIDDEN, f"this machine has a key of its own, and no other is good for it: {cure}")


def _troubles(args: Json) -> dict[str, str]:
    return {str(runtime): str(why) for runtime, why in args.get("troubles", {}).items()}


class _Session:
    """One connection of one node: answers its questions, and carries the engine's to it."""

    def __init__(
        self,
        engine: Engine,
        datacenter: Datacenter,
        registration: Registration,
        owner: str,
        channel: Callable[[], Channel],
        *,
        check_machine: Callable[[str], Awaitable[None]],
    ) -> None:
        self._engine = engine
        self._datacenter = datacenter
        self._registration = registration
        self._owner = owner
        self._channel = channel
        self._check_machine = check_machine
        self._row: NodeRow | None = None
        self._has_greeted = False

    # ---- what the node asks

    async def handle(self, op: str, args: Json, body: bytes) -> Reply:
        """Answer one question of the node."""
        try:
            if op == "node.hello":
                return encode_welcome(await self._hello(args)), b""
            if op == "node.logs":
                self._row = await self._connected(str(args["token"]))
                return {}, b""
            if self._row is None:
                raise PfsError(Kind.INVALID, "a node says node.hello first")
            self._engine.heard(self._row.id)
            if op.startswith(PREFIX):
                return await self._engine.attaching.told(self, op, args, body)
            match op:
                case "node.beat":
                    self._engine.troubled(self._row.id, _troubles(args))
                    return {}, b""
                case "node.bye":
                    self._engine.leaves(self._row.id)
                    return {}, b""
                case "node.gpus":
                    readings = decode_readings(args["readings"])
                    await self._engine.gpus(self._row.id, decode_gpus(args["gpus"]), readings)
                    return {}, b""
            return await self._told_of_a_task(self._row.id, op, args, body)
        except (KeyError, TypeError, ValueError) as error:
            raise PfsError(Kind.INVALID, f"{op}: an argument is missing or wrong: {error}") from error

    async def _told_of_a_task(self, node: str, op: str, args: Json, body: bytes) -> Reply:
        match op:
            case "task.running":
                task, time_ns = str(args["task"]), int(args["time_ns"])
                await self._engine.running(node, task, time_ns, str(args["image"]))
                return {}, b""
            case "task.image":
                return {"image": await self._engine.image(node, str(args["task"]), str(args["image"]))}, b""
            case "task.news":
                task, time_ns = str(args["task"]), int(args["time_ns"])
                await self._engine.news(node, task, str(args["text"]), time_ns)
                return {}, b""
            case "task.output":
                return {"offset": await self._output(node, args, body)}, b""
            case "task.ended":
                await self._ended(node, args)
                return {}, b""
        raise PfsError(Kind.UNSUPPORTED, f"the server does not know {op!r}")

    async def _hello(self, args: dict[str, Any]) -> Welcome:
        claim = decode_claim(args["claim"])
        if self._has_greeted:
            raise PfsError(Kind.INVALID, "a node says node.hello once on a connection")
        self._has_greeted = True
        await self._check_machine(claim.token)
        machine = Machine(
            dict(args["attrs"]),
            [str(runtime) for runtime in args["runtimes"]],
            encode_gpus(decode_gpus(args["gpus"])),
            str(args["boot_id"]),
        )
        async with self._registration.entered(claim, self._owner, machine) as row:
            tasks = await self._engine.attach(row, self, [str(task) for task in args["tasks"]])
        self._row = row
        self._engine.troubled(row.id, _troubles(args))
        place, clusters = self._datacenter, self._engine.fleet.clusters
        cluster = next(cluster for cluster in clusters if cluster.id == row.cluster_id)
        return Welcome(row.entry_id, row.name, cluster.name, cluster.id, place.name, place.data_root_id, tasks)

    async def _connected(self, token: str) -> NodeRow:
        """Return the node that has a connection already, for one that brings its output by this one."""
        await self._check_machine(token)
        row = self._engine.fleet.known(self._owner, token)
        if row is not None and self._engine.fleet.link(row.id) is not None:
            return row
        raise PfsError(Kind.BUSY, "this node is not connected to the server, or to another one")

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
            self._engine.attaching.lost(self)

    # ---- what the engine asks

    async def start(self, task: Assignment) -> None:
        """Have a task started."""
        await self._channel().ask("task.start", {"assignment": encode_assignment(task)})

    async def stop(self, task_id: str, grace_s: float) -> None:
        """Have a task ended: TERM, its grace, KILL."""
        await self._channel().ask("task.stop", {"task": task_id, "grace_s": grace_s})

    async def let_go(self, task_id: str) -> None:
        """Have the program of a task begin that was held back."""
        await self._channel().ask("task.go", {"task": task_id})

    async def signal(self, task_id: str, number: int) -> None:
        """Have a signal sent to all processes of a task."""
        await self._channel().ask("task.signal", {"task": task_id, "signal": number})

    async def attach(self, op: str, args: Mapping[str, object], body: bytes) -> None:
        """Say something to a program or connection in a task (`jobd.attach`)."""
        await self._channel().ask(op, dict(args), body)

    async def make_network(self, network: str) -> None:
        """Have a network between machines made."""
        await self._channel().ask("network.make", {"network": network})

    async def drop_network(self, network: str) -> None:
        """Have a network between machines dropped."""
        await self._channel().ask("network.drop", {"network": network})
