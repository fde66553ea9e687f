"""Keeps an eye on the machine's GPUs, and says when there is something to tell of them.

A driver that takes its time to wake up is asked less often. One that hangs keeps a thread, and nobody else: its GPUs
are given to nobody until it answers.

A GPU that falls silent does not even say which it is. Since it was seen before, it is known still by its number, and
told as one that is not well. What was there before the daemon was started the server remembers.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import trio

from jobd.node.gpus import Gpu, Look, gpu_attrs, look
from jobd.node.health import is_news
from jobd.wire import GpuReading, NodeGpu

log = logging.getLogger(__name__)

LOOK_EVERY_S = 10.0
LOOK_TIMEOUT_S = 60.0
PAUSE_FACTOR = 20  # the pause is so many times as long as the look before it, up to the longest
PAUSE_MOST_S = 30.0


@dataclass(frozen=True, slots=True)
class Told:
    """What the server is to know of the GPUs."""

    gpus: tuple[NodeGpu, ...] = ()
    readings: Mapping[str, GpuReading] = field(default_factory=dict)


class GpuWatch:
    """The GPUs of this machine, as of the last look.

    Args:
        tell: shows a line to whoever watches the daemon.
        ask: looks at the GPUs; it may take its time.
    """

    def __init__(self, tell: Callable[[str], None], ask: Callable[[], Look] = look) -> None:
        self._tell = tell
        self._ask = ask
        self._limiter = trio.CapacityLimiter(1)
        self._known: dict[str, Gpu] = {}
        self._driver = ""
        self._complaints: dict[str, str] = {}
        self._took_s = 0.0
        self.told = Told()
        self.news = trio.Event()

    def attrs(self) -> Mapping[str, str]:
        """Return what nodes are selected by."""
        return gpu_attrs(list(self._known.values()), self._driver)

    def files(self) -> Mapping[str, tuple[str, ...]]:
        """Return the files below /dev of each GPU, by UUID."""
        return {uuid: gpu.files for uuid, gpu in self._known.items()}

    def refusal(self, uuids: Iterable[str]) -> str:
        """Say why a task cannot have these GPUs; "" where it can."""
        for uuid in uuids:
            gpu = self._known.get(uuid)
            if gpu is None:
                return f"the node has no GPU {uuid} any more"
            if gpu.told.ill:
                return f"GPU {_name(gpu.told)} of the node is not well: {gpu.told.ill}"
        return ""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await trio.sleep(max(LOOK_EVERY_S, min(PAUSE_FACTOR * self._took_s, PAUSE_MOST_S)))
            await self.look()

    async def look(self) -> None:
        """Look once."""
        since_s = trio.current_time()
        found = Look(failure=f"the driver has not answered within {LOOK_TIMEOUT_S:.0f} s")
        with trio.move_on_after(LOOK_TIMEOUT_S):
            found = await trio.to_thread.run_sync(self._seen, limiter=self._limiter, abandon_on_cancel=True)
        self._took_s = trio.current_time() - since_s
        self._driver = found.driver or self._driver
        before, self._known = self._known, {gpu.told.uuid: gpu for gpu in merged(self._known.values(), found)}
        self._complain(found, bool(before))
        now = Told(
            tuple(gpu.told for gpu in self._known.values()),
            {uuid: gpu.reading for uuid, gpu in self._known.items() if not gpu.told.ill},
        )
        by_uuid = {gpu.uuid: gpu for gpu in now.gpus}
        if now.gpus != self.told.gpus or is_news(by_uuid, self.told.readings, now.readings):
            self.told = now
            self.news.set()
            self.news = trio.Event()

    def _seen(self) -> Look:
        try:
            return self._ask()
        except Exception as error:
            # a library of a kind that nobody has seen yet is no reason to let go of what runs here
            log.exception("defect while looking at the GPUs")
            return Look(failure=f"they cannot be looked at: {error}")

    def _complain(self, found: Look, had_some: bool) -> None:
        """Say what is wrong once, and that it is over."""
        wrong: dict[str, str] = {}
        if found.failure and (had_some or not found.absent):
            wrong["the GPUs of this machine"] = found.failure
        else:
            wrong = {f"GPU {index} of this machine": why for index, why in found.silent.items()}
            ill = (gpu.told for gpu in self._known.values() if gpu.told.ill)
            wrong |= {f"GPU {gpu.index} of this machine": gpu.ill for gpu in ill}
        for what, why in wrong.items():
            if self._complaints.get(what) != why:
                log.warning("%s cannot be used: %s", what, why)
        for what in self._complaints.keys() - wrong.keys():
            self._tell(f"{what} can be used again")
        self._complaints = wrong


def merged(known: Iterable[Gpu], found: Look) -> list[Gpu]:
    """Return the GPUs that are there, with those of `known` that have fallen silent, in order."""
    there = {gpu.told.uuid: gpu for gpu in found.gpus}
    for gpu in known:
        why = found.failure or found.silent.get(gpu.told.index, "")
        if why and gpu.told.uuid not in there:
            there[gpu.told.uuid] = replace(gpu, told=replace(gpu.told, ill=why), reading=GpuReading())
    return sorted(there.values(), key=lambda gpu: (gpu.told.index, gpu.told.instance or 0))


def _name(gpu: NodeGpu) -> str:
    return str(gpu.index) if gpu.instance is None else f"{gpu.index}.{gpu.instance}"
