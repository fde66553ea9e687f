"""The networks of containers: who reaches whom.

Tasks without fellows reach one another in no case. They are in the engine's own network where something keeps them
apart there (`jobd.node.ownbridge`), else in one that is made for them.

A gang has a network of its own, in which every process finds the others by their host names. Where the whole gang is
on this machine that is a bridge, made on first use and removed with its last task; all addresses in it are settled
before any of the gang runs, so that no name is unknown because its owner comes a moment later. Else it is an overlay
of the engines' swarm, made and dropped when the server says so, with the engines' own name service. What a killed
daemon left is found by its label.
"""

import contextlib
import logging
import secrets
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Network
from typing import Any

import docker
import docker.types
import trio

from jobd.node import ownbridge, wall
from jobd.node.engine import CONFLICT, NOT_FOUND, Engine, Refusal
from jobd.node.runtime import Launch
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

LABEL, LABEL_NODE = "pfs", "pfs.node-state"
SHARED, ENGINES_OWN = "pfs", ownbridge.NAME
DROP_PATIENCE_S = 10.0
AGAIN_S = 0.3

_TRAFFIC = "com.docker.network.bridge.enable_icc"
# engines have some thirty networks to give out, to all who use them; of these, which no network routes, a thousand
_GANGS = IPv4Network("198.18.0.0/15")
_GANG_SIZE = 128
_TRIES = 64
# the network's own, its gateway's, and that for all
_TAKEN = 3


@dataclass(frozen=True, slots=True)
class Joined:
    """How a task is in its network.

    Attributes:
        name: what the engine calls the network.
        addresses: of the task and its fellows, where they are settled; the network's name service tells the others.
        hardware: its hardware address; "" where the engine may choose it.
    """

    name: str
    addresses: Mapping[str, str] = field(default_factory=dict)
    hardware: str = ""


class Networks:
    """The networks of one node on one engine.

    Args:
        instance: tells this node's networks from others' on the same engine.
    """

    def __init__(self, engine: Engine, instance: str) -> None:
        self._engine = engine
        self._instance = instance
        self._users: dict[str, set[str]] = {}
        self._locks: dict[str, trio.Lock] = {}
        self._hardware: dict[str, str] = {}
        self._own = ownbridge.OwnBridge(lambda: self._find(ENGINES_OWN), self._is_here)
        self.guard = self._own.guard

    def name(self, launch: Launch) -> str:
        """Return what the engine calls the task's network."""
        if launch.network is None:
            return SHARED
        return launch.network if launch.overlay else f"{launch.network}-{self._instance}"

    def use(self, name: str, task_id: str) -> None:
        """Note that a task needs a network, from before it is made until `leave`."""
        self._users.setdefault(name, set()).add(task_id)
        if task_id not in self._hardware:
            self._hardware[task_id] = wall.address(f"{task_id}-{self._instance}", set(self._hardware.values()))

    async def make(self, launch: Launch) -> Joined:
        """Make the task's network if it is not there; an overlay was made by the server's word.

        Raises:
            Refusal, RuntimeAway
        """
        name = self.name(launch)
        told = {host: address for host, address in launch.hosts if address}
        if launch.overlay:
            return Joined(name, told)
        if launch.network is None and (apart := await self._own.kept_apart_by()) != "nothing":
            return Joined(ENGINES_OWN, told, self._hardware[launch.task_id] if apart == "a wall" else "")
        # asked each time: people clear up their engines
        found = await self._find(name)
        if found is None:
            async with self._locks.setdefault(name, trio.Lock()):
                found = await self._find(name) or await self._new(launch, name)
        if launch.network is None:
            return Joined(name, told)
        subnet = IPv4Network(found["IPAM"]["Config"][0]["Subnet"])
        return Joined(name, {**settled(launch.hosts, subnet), **told})

    async def _is_here(self) -> bool:
        """Tell whether the engine's bridges are on the network of this process."""
        name = f"{SHARED}-{secrets.token_hex(4)}-{self._instance}"
        self.use(name, name)
        try:
            # without a way out it takes half as long
            await self._make_bridge(name, 1, "probe", internal=True)
            found = await self._find(name)
            return found is not None and f"br-{found['Id'][:12]}" in wall.interfaces()
        except Refusal as refusal:
            log.warning("it is not known where the engine's bridges are: %s", refusal)
            return False
        finally:
            await self.leave(name)

    async def _new(self, launch: Launch, name: str) -> Mapping[str, Any]:
        if launch.network is None:
            await self._create(name, "bridge", {LABEL: "shared"}, options={_TRAFFIC: "false"})
        else:
            await self._make_bridge(name, len(launch.hosts), "gang")
        found = await self._find(name)
        if found is None:
            raise Refusal(NOT_FOUND, f"somebody removed the network {name} at once")
        return found

    async def _find(self, name: str) -> Mapping[str, Any] | None:
        try:
            found: Mapping[str, Any] = await self._engine.ask(f"/networks/{name}")
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise
            return None
        return found

    async def _make_bridge(self, name: str, hosts: int, kind: str, **more: Any) -> None:
        labels = {LABEL: kind, LABEL_NODE: self._instance}
        overlap = Refusal(CONFLICT, "no room for another network")
        for subnet in subnets(name, hosts):
            try:
                return await self._create(name, "bridge", labels, ipam=_ipam(subnet), **more)
            except Refusal as refusal:
                if "overlap" not in str(refusal).lower():
                    raise
                overlap = refusal
        raise overlap

    async def _create(self, name: str, driver: str, labels: Mapping[str, str], **more: Any) -> None:
        """Make a network; one of that name may be there."""

        def create(client: docker.APIClient) -> None:
            client.create_network(name, driver=driver, labels=dict(labels), check_duplicate=True, **more)

        try:
            await self._engine.call(create)
        except Refusal as refusal:
            if refusal.status != CONFLICT:
                raise

    async def leave(self, task_id: str) -> None:
        """Remove the gang's network if the task, whose container is gone, was the last one in it.

        Raises:
            RuntimeAway
        """
        self._hardware.pop(task_id, None)
        for name in [name for name, users in self._users.items() if task_id in users]:
            self._users[name].discard(task_id)
            if not self._users[name]:
                del self._users[name]
                if name.endswith(f"-{self._instance}"):
                    await self._remove(name)

    async def clear(self) -> None:
        """Remove this node's networks that no task is in, and see to those that are in the engine's own.

        Raises:
            RuntimeAway
        """
        labels = {"label": [f"{LABEL_NODE}={self._instance}"]}
        for network in await self._engine.call(lambda client: client.networks(filters=labels)):
            if network["Name"] not in self._users:
                await self._remove(str(network["Name"]))
        if ENGINES_OWN in self._users:
            with contextlib.suppress(Refusal):
                if await self._own.kept_apart_by() == "nothing":
                    log.error("nothing keeps the tasks from before apart that are in the engine's own network")

    async def _remove(self, name: str) -> None:
        async with self._locks.setdefault(name, trio.Lock()):
            if name in self._users:
                return  # another of the gang came meanwhile
            # gone already, or somebody has put a container of theirs into it: found again at the next start
            with contextlib.suppress(Refusal):
                await self._engine.call(lambda client: client.remove_network(name))
        if name not in self._users:
            self._locks.pop(name, None)

    async def make_overlay(self, name: str) -> None:
        """Make a network that spans the machines of the swarm; there already is well.

        Raises:
            PfsError: UNSUPPORTED with the engine's words.
            RuntimeAway
        """
        try:
            await self._create(name, "overlay", {LABEL: "gang"}, attachable=True)
        except Refusal as refusal:
            raise PfsError(Kind.UNSUPPORTED, f"no network across machines: {refusal}") from None

    async def drop_overlay(self, name: str) -> None:
        """Remove a network of the swarm once all have left it; gone already is well.

        Raises:
            PfsError: BUSY when somebody stays in it.
            RuntimeAway
        """
        give_up_at = trio.current_time() + DROP_PATIENCE_S
        while True:
            try:
                return await self._engine.call(lambda client: client.remove_network(name))
            except Refusal as refusal:
                if refusal.status == NOT_FOUND:
                    return
                if trio.current_time() > give_up_at:
                    raise PfsError(Kind.BUSY, f"the network {name} is in use: {refusal}") from None
            await trio.sleep(AGAIN_S)


def subnets(name: str, hosts: int) -> Iterator[IPv4Network]:
    """Give places for a gang's network with room for so many hosts, first one that most likely nobody has."""
    size = max(_GANG_SIZE, 1 << (hosts + _TAKEN - 1).bit_length())
    count = _GANGS.num_addresses // size
    first = zlib.crc32(name.encode()) % count
    for step in range(_TRIES):
        yield IPv4Network((int(_GANGS.network_address) + (first + step) % count * size, 33 - size.bit_length()))


def settled(hosts: Sequence[tuple[str, str]], subnet: IPv4Network) -> dict[str, str]:
    """Return the address of every host of a gang, by its place; the first is the gateway's."""
    return {name: str(subnet[place]) for place, (name, _) in enumerate(hosts, 2)}


def _ipam(subnet: IPv4Network) -> docker.types.IPAMConfig:
    return docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=str(subnet))])


def attachment(launch: Launch, joined: Joined) -> dict[str, Any]:
    """Return what the engine is told of how a container is attached to its network."""
    endpoint: dict[str, Any] = {}
    if launch.network is not None:
        endpoint["Aliases"] = [launch.hostname]
        if not launch.overlay and launch.hostname in joined.addresses:
            endpoint["IPAMConfig"] = {"IPv4Address": joined.addresses[launch.hostname]}
    if joined.hardware:
        endpoint["MacAddress"] = joined.hardware
    return {"EndpointsConfig": {joined.name: endpoint}}
