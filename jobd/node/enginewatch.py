"""What a node knows of its container engine from one moment to the next: whether it answers, and what it can do.

An engine is asked every few seconds, by a connection of its own each time: one that hangs accepts connections and
never answers, one that ends answers only who asked before. While it does not answer, the node takes no new work for it
and says why; calls fail at once instead of holding up a thread each. What runs goes on.

What it can do (GPUs, its storage, a swarm) is asked anew whenever another engine answers, or the same one has read its
settings again; the end of a stream of events that lasts as long as an engine does tells of the first.
"""

import logging
from collections.abc import Mapping
from typing import Any

import trio

from jobd.node import ownlimits
from jobd.node.engine import Engine, Refusal
from jobd.node.runtime import RuntimeAway

log = logging.getLogger(__name__)

KNOCK_EVERY_S = 3.0
LISTEN_AGAIN_FIRST_S, LISTEN_AGAIN_MOST_S = 0.2, 60.0


class EngineWatch:
    """Keeps an eye on an engine.

    Args:
        info: what it tells of itself.

    Attributes:
        info: the same, as of the last time that it was asked.
        limits: what it can give of limits of processes (`jobd.node.ownlimits`).
        times_asked: how often it was asked anew.
    """

    def __init__(self, engine: Engine, info: Mapping[str, Any]) -> None:
        self._engine = engine
        self.info = info
        self.limits = ownlimits.of_engine(engine.base_url)
        self.times_asked = 0

    async def run(self) -> None:
        """Look after it until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            while True:
                await self.look()
                await trio.sleep(KNOCK_EVERY_S)

    async def look(self) -> None:
        """Note whether the engine answers now."""
        trouble: RuntimeAway | None = None
        try:
            await self._engine.knock()
        except RuntimeAway as error:
            trouble = error
        if str(trouble) != str(self._engine.trouble):
            log.warning("%s", trouble or f"the container engine at {self._engine.base_url} answers again")
        self._engine.trouble = trouble

    async def _listen(self) -> None:
        pause_s = LISTEN_AGAIN_FIRST_S
        while True:
            try:
                async with self._engine.events() as events:
                    await self._ask()
                    pause_s = LISTEN_AGAIN_FIRST_S
                    while await events.next():
                        await self._ask()
            except RuntimeAway as error:
                log.info("%s", error)
            except Refusal as refusal:
                log.info("the container engine at %s tells no events: %s", self._engine.base_url, refusal)
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, LISTEN_AGAIN_MOST_S)

    async def _ask(self) -> None:
        self.info = await self._engine.ask("/info")
        self.limits = await trio.to_thread.run_sync(ownlimits.of_engine, self._engine.base_url)
        self.times_asked += 1
