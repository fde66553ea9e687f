"""The engine's own bridge: whether tasks without fellows may be in it, and what keeps them apart there.

It is worth it: an engine gives each container in a network that was made a name server and a dozen rules of a
firewall, which short tasks wait for (`script/bench jobs` has a row without). They may where its owner has set it up to
keep containers apart (`"icc": false`), or where this node can put up a wall (`jobd.node.wall`): it has the rights, and
the engine's bridges are on its own network. That is told for sure by a bridge that is made to see whether it shows up
here; each engine has a `docker0`, and may be on another machine.

They may not where that name server is needed, since the machine's own listens on its loopback only; nor where the
bridge has the new addresses, by which the world would come in; nor where it is not the engine's doing, or not the way
out, since the wall would stand in that way.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, Literal

import trio

from jobd.node import wall
from jobd.node.engine import Refusal
from jobd.node.runtime import RuntimeAway

log = logging.getLogger(__name__)

NAME = "bridge"
TRUST_S, PAUSE_S = 1.0, 0.05
# where an engine looks for the machine's name servers: in the first, or in the second where that names the local one
RESOLVERS = Path("/etc/resolv.conf"), Path("/run/systemd/resolve/resolv.conf")

Apart = Literal["not known", "its rules", "a wall", "nothing"]

_TRAFFIC, _BRIDGE = "com.docker.network.bridge.enable_icc", "com.docker.network.bridge.name"
_INTERFACE = "docker0"
_LOCAL_RESOLVER = "127.0.0.53"


class OwnBridge:
    """The bridge of one engine.

    Args:
        find: tells what the engine knows of its own network; None where it has none.
        is_here: makes a bridge and tells whether it shows up on the network of this process.
    """

    def __init__(
        self,
        find: Callable[[], Awaitable[Mapping[str, Any] | None]],
        is_here: Callable[[], Awaitable[bool]],
    ) -> None:
        self._find = find
        self._is_here = is_here
        self._lock = trio.Lock()
        self._apart: Apart = "not known"
        self._ask_again_s = -math.inf
        self._here = ""
        self._is_walled = False

    async def kept_apart_by(self) -> Apart:
        """Return what keeps the next container there apart from all others; once it is nothing, that stays so.

        Raises:
            Refusal, RuntimeAway
        """
        async with self._lock:
            if self._apart != "nothing" and trio.current_time() >= self._ask_again_s:
                # an engine may come back with other settings, though not as soon
                self._apart = await self._found()
                self._ask_again_s = trio.current_time() + TRUST_S
            if self._apart == "a wall" and not self._hold():
                self._apart = "nothing"
        return self._apart

    async def _found(self) -> Apart:
        found = await self._find()
        if found is None or not names_are_served(RESOLVERS):
            return "nothing"
        if keeps_apart(found):
            return "its rules"
        # where none is called so, nothing has to be made to see whether it is the engine's
        if can_be_walled(found) and _INTERFACE in wall.interfaces():
            network = str(found["Id"])  # another each time that the engine is started
            if self._here != network and await self._is_here():
                self._here = network
            if self._here == network:
                return "a wall"
        return "nothing"

    def _hold(self) -> bool:
        """See to it that the wall stands; return whether it does."""
        try:
            if wall.hold(_INTERFACE) and self._is_walled:
                log.warning("somebody took down the wall between containers; it stands again")
            self._is_walled = True
        except OSError as error:
            tell = log.error if self._is_walled else log.info
            tell("there can be no wall between containers: %s", error.strerror or error)
            self._is_walled = False
        return self._is_walled

    async def guard(self) -> None:
        """Look after the wall, where there can be one, until cancelled."""
        try:
            changes = wall.Changes()
        except OSError:
            return  # whoever is not told may not put it up either
        with changes:
            with suppress(Refusal, RuntimeAway):
                await self.kept_apart_by()  # so that no task has to wait for it
            while True:
                await changes.next()
                if self._is_walled:
                    self._hold()
                await trio.sleep(PAUSE_S)  # somebody may change a lot


def keeps_apart(network: Mapping[str, Any] | None) -> bool:
    """Tell whether no container in a network of an engine reaches another; None is a network that is not there.

    The setting is about the old addresses only.
    """
    return network is not None and _is_bridge(network) and (network.get("Options") or {}).get(_TRAFFIC) == "false"


def can_be_walled(network: Mapping[str, Any]) -> bool:
    """Tell whether containers in an engine's own network need nobody on its bridge but the machine itself."""
    # one of another name somebody else has made, and it may lead anywhere
    if not _is_bridge(network) or (network.get("Options") or {}).get(_BRIDGE) != _INTERFACE:
        return False
    # among those may be another way out
    return not any(part.get("AuxiliaryAddresses") for part in network["IPAM"]["Config"])


def _is_bridge(network: Mapping[str, Any]) -> bool:
    return network.get("Driver") == "bridge" and not network.get("EnableIPv6")


def names_are_served(resolvers: Sequence[Path]) -> bool:
    """Tell whether a container that asks the machine's name servers itself reaches one."""
    for file in resolvers:
        try:
            servers = name_servers(file.read_text(errors="replace"))
        except OSError:
            return False
        if servers != [_LOCAL_RESOLVER]:
            return any(_is_reached(server) for server in servers)
    return False


def name_servers(text: str) -> list[str]:
    """Return the name servers that a file for the system's resolver lists."""
    lines = (line.split() for line in text.splitlines())
    return [words[1] for words in lines if len(words) > 1 and words[0] == "nameserver"]


def _is_reached(server: str) -> bool:
    try:
        return not IPv4Address(server).is_loopback
    except AddressValueError:
        return False  # of the new addresses, which containers there do not have
