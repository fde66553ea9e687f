"""The time of a simulated world: it stands still while anything can go on, and leaps to the next moment that is due.

Whatever waits in the simulation itself waits here. trio's own way, a cancel scope for every deadline, costs ten times
as much, and a world consists of waiting; scopes of the engine are heeded all the same.
"""

import heapq
import math
from collections.abc import Callable

import trio

# how often the time is asked for without any going by, at most: a hundred times as often as in a busy world
ASKED_MAX = 10_000


class Wait:
    """A task that waits for whatever comes first.

    Attributes:
        task: None once it goes on.
    """

    __slots__ = ("task",)

    def __init__(self, task: trio.lowlevel.Task) -> None:
        self.task: trio.lowlevel.Task | None = task

    def over(self) -> None:
        """Let it go on."""
        if self.task is not None:
            trio.lowlevel.reschedule(self.task)
            self.task = None


class Signal:
    """Something that happens once, as `trio.Event`."""

    __slots__ = ("_is_set", "waits")

    def __init__(self) -> None:
        self._is_set = False
        self.waits: dict[Wait, None] = {}

    def is_set(self) -> bool:
        """Tell whether it happened."""
        return self._is_set

    def set(self) -> None:
        """It happens."""
        self._is_set = True
        while self.waits:
            self.waits.popitem()[0].over()

    async def wait(self) -> None:
        """Wait until it happens."""
        await until(math.inf, self)


class Leaps(trio.abc.Clock):
    """A clock that leaps, and wakes whoever waits for the moment.

    Args:
        stands_still: told where there is always something that can go on, so that time never does.
    """

    def __init__(self, stands_still: Callable[[], None]) -> None:
        self._stands_still = stands_still
        self._asked = 0
        self._now = 0.0
        self._due: list[tuple[float, int, Wait]] = []
        self._count = 0

    def start_clock(self) -> None:
        """Begin at zero."""

    def current_time(self) -> float:
        """Return the seconds since the world began; trio asks before every round of its tasks."""
        self._asked += 1
        if self._asked == ASKED_MAX:
            self._stands_still()
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Nothing can go on: leap to what is due first, in the world or by a deadline of trio's."""
        due = self._due
        while due and due[0][2].task is None:
            heapq.heappop(due)
        first = min(deadline, due[0][0]) if due else deadline
        if first == math.inf:
            return first  # the world is over; trio has something to tell itself
        self._now = max(self._now, first)
        self._asked = 0
        while due and due[0][0] <= self._now:
            heapq.heappop(due)[2].over()
        return 0.0

    def remind(self, at: float, wait: Wait) -> None:
        """Let a task go on at that time at the latest."""
        self._count += 1  # tasks have no order
        heapq.heappush(self._due, (at, self._count, wait))


async def until(at: float, *signals: Signal) -> None:
    """Wait for a time, or for one of the signals."""
    clock = trio.lowlevel.current_clock()
    assert isinstance(clock, Leaps)
    if at <= clock.current_time():
        return await trio.lowlevel.checkpoint()
    for signal in signals:
        if signal.is_set():
            return await trio.lowlevel.checkpoint()
    wait = Wait(trio.lowlevel.current_task())
    if at < math.inf:
        clock.remind(at, wait)
    for signal in signals:
        signal.waits[wait] = None

    def abort(_: object) -> trio.lowlevel.Abort:
        wait.task = None
        return trio.lowlevel.Abort.SUCCEEDED

    try:
        await trio.lowlevel.wait_task_rescheduled(abort)
    finally:
        for signal in signals:
            signal.waits.pop(wait, None)


async def sleep(seconds: float) -> None:
    """Wait for so long, as `trio.sleep`."""
    await until(trio.current_time() + seconds)
