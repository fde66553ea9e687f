"""Networks of gangs that span machines: made by a manager of their swarm before a task starts, dropped afterwards.

A network is noted in the store before it is made, and forgotten when it was dropped; so one that is left over by a
crash, or by a manager that was away, is dropped at the next chance.
"""

import logging
from collections.abc import Callable

import trio

from jobd.engine.assign import Place, overlay_of
from jobd.engine.chores import AGAIN_S
from jobd.engine.fleet import Fleet
from jobd.engine.ports import Store
from jobd.job import Job
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import ChannelClosed

log = logging.getLogger(__name__)


class Networks:
    """All networks between machines that may be there."""

    def __init__(self, store: Store, fleet: Fleet, place: Place) -> None:
        self._store = store
        self._fleet = fleet
        self._place = place
        self._swarms: dict[str, str] = {}
        self._dropping: set[str] = set()

    async def load(self) -> None:
        """Take up what may be there."""
        self._swarms = dict(await self._store.networks())

    async def make(self, job: Job) -> None:
        """Make the network of a job's attempt, where it needs one between machines; one that is there is fine.

        Raises:
            ChannelClosed: no manager of the swarm is connected; it is asked when one comes.
            PfsError: UNSUPPORTED with what the manager says; what the store says.
        """
        name = overlay_of(job, self._place)
        if name is None:
            return
        swarm = self._fleet.swarm(job.life.nodes[0])
        while (manager := self._fleet.manager(swarm)) is not None:
            await self._store.keep_network(name, swarm)
            self._swarms[name] = swarm
            try:
                await manager.make_network(name)
            except ChannelClosed:
                if self._fleet.manager(swarm) is manager:
                    break
            except PfsError as error:
                said = f"the network of its processes cannot be made: {error.message}"
                raise PfsError(Kind.UNSUPPORTED, said) from None
            else:
                return
        raise ChannelClosed

    def left(self, is_needed: Callable[[str], bool]) -> list[str]:
        """Return the networks that nobody needs and nobody is dropping."""
        return [name for name in self._swarms if name not in self._dropping and not is_needed(name)]

    def has(self, name: str) -> bool:
        """Tell whether a network may be there."""
        return name in self._swarms

    async def drop(self, name: str) -> None:
        """Drop a network, unless its swarm has no manager here; that is done when one comes."""
        if name in self._dropping:
            return
        self._dropping.add(name)
        try:
            while (manager := self._fleet.manager(self._swarms.get(name, ""))) is not None and self.has(name):
                try:
                    await manager.drop_network(name)
                except ChannelClosed:
                    return
                except PfsError as error:
                    log.warning("the network %s is not dropped yet: %s", name, error)
                    await trio.sleep(AGAIN_S)
                    continue
                await self._store.forget_network(name)
                self._swarms.pop(name, None)
        finally:
            self._dropping.discard(name)
