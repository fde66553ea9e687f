"""Deadlines: who wants to be reminded when. One task sleeps until the first; nothing looks at the others meanwhile."""

import heapq
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

import trio

from jobd.engine.ports import Clock, Sleep

K = TypeVar("K", bound=Hashable)


class Alarms(Generic[K]):
    """Reminds of each key once, at the time that was set last.

    Args:
        ring: told the key whose time has come.
    """

    def __init__(self, clock: Clock, sleep_until: Sleep, ring: Callable[[K], None]) -> None:
        self._clock = clock
        self._sleep_until = sleep_until
        self._ring = ring
        self._set: dict[K, int] = {}
        self._heap: list[tuple[int, int, K]] = []
        self._count = 0
        self._sooner = trio.Event()

    def set(self, key: K, at_ns: int) -> None:
        """Remind of `key` at that time instead of any other."""
        if self._set.get(key) == at_ns:
            return
        self._set[key] = at_ns
        self._count += 1  # keys need no order
        heapq.heappush(self._heap, (at_ns, self._count, key))
        if self._heap[0][1] == self._count:
            self._sooner.set()

    def drop(self, key: K) -> None:
        """Remind of it no more."""
        self._set.pop(key, None)

    async def run(self) -> None:
        """Remind until cancelled."""
        while True:
            self._sooner = trio.Event()
            self._ring_all()
            async with trio.open_nursery() as nursery:
                if self._heap:
                    nursery.start_soon(self._sleep, self._heap[0][0], nursery.cancel_scope)
                await self._sooner.wait()
                nursery.cancel_scope.cancel()

    async def _sleep(self, until_ns: int, scope: trio.CancelScope) -> None:
        await self._sleep_until(until_ns)
        scope.cancel()

    def _ring_all(self) -> None:
        now_ns = self._clock()
        while self._heap and (self._heap[0][0] <= now_ns or not self._is_meant(self._heap[0])):
            entry = heapq.heappop(self._heap)
            if self._is_meant(entry):
                del self._set[entry[2]]
                self._ring(entry[2])

    def _is_meant(self, entry: tuple[int, int, K]) -> bool:
        return self._set.get(entry[2]) == entry[0]


def sleeper(clock: Clock) -> Sleep:
    """Return what sleeps until a time of `clock`, by trio's."""

    async def sleep_until(at_ns: int) -> None:
        await trio.sleep(max(0.0, (at_ns - clock()) / 1e9))

    return sleep_until
