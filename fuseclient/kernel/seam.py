"""Look before sleeping: how the mount waits for the kernel's next request.

pyfuse3 waits with trio: every request goes once through the scheduler and epoll, and hands a lock from one task to
the next. That is twice as much as a request costs that can be answered from memory. Everything that pyfuse3 takes
from trio it takes from its module global `trio`, which is what its own asyncio mode replaces, too; here stands
instead something that

    looks      whether a request is there already, and takes it without going through the scheduler: a program
               that has waited for an answer asks its next question at once;
    stays      asleep at the device for a tenth of a millisecond, which is about how long a program takes to do so,
               or until something else comes that the loop waits for;
    sleeps     as trio does, when nothing comes: an idle mount uses no CPU;
    yields     after sixteen requests, or a millisecond, whatever comes first, so that streams, timers and the
               network get their turn while programs ask without a break.

It hears besides what pyfuse3 keeps to itself: that a program which waits for an answer was sent a signal
(FUSE_INTERRUPT). libfuse takes note of that and no handler is asked; so whatever is taken without a handler being asked
is taken for it. Who needs to know looks for the program (`fuseclient.kernel.held`), and one look too many does no harm.

The lock that pyfuse3 puts around this is passed on only when its holder has something else to wait for. Looking
again and again instead of sleeping gains next to nothing beside this, and costs CPU.
"""

import contextlib
import logging
import select
from collections.abc import Callable, Iterator, Sized
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Any

import pyfuse3
import trio

log = logging.getLogger(__name__)

REQUESTS_MAX = 16
YIELD_S = 0.001
STAY_S = 0.0001
_SELECTABLE_MAX = 1023  # select(2) knows no higher numbers


@dataclass(frozen=True, slots=True)
class Listener:
    """Wants to hear of signals.

    Attributes:
        asked: tells how often a handler was asked so far.
        hears: called once the listening begins, with whether it does.
        hear: called when a program that waits was sent a signal.
    """

    asked: Callable[[], int]
    hears: Callable[[bool], None]
    hear: Callable[[], None]


@contextlib.contextmanager
def polling(*, enabled: bool = True, listener: Listener | None = None) -> Iterator[bool]:
    """Let pyfuse3 wait this way inside of the context, and as it does by itself after it.

    Args:
        enabled: False leaves pyfuse3 as it is.

    Yields:
        Whether pyfuse3 waits this way; not when it is a version that does not take trio from where this one does.
    """
    works = enabled and getattr(pyfuse3, "trio", None) is trio
    if listener is not None:
        listener.hears(works)
    if not works:
        if enabled:
            log.debug("this pyfuse3 takes trio from elsewhere: it waits for requests in its own way")
        yield False
        return
    module: Any = pyfuse3
    module.trio = Waiting(listener)
    try:
        yield True
    finally:
        module.trio = trio


def _loop() -> tuple[int, Sized]:
    """Return the number of the event loop's own epoll, and what is due in it; -1 where it does not show them."""
    try:
        runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
        return runner.io_manager._epoll.fileno(), runner.runq
    except AttributeError:  # another trio, or another kernel
        return -1, ()


class Turn(trio.abc.Instrument):
    """A lock whose holder takes it again without asking the scheduler, as long as it does not wait in between."""

    def __init__(self) -> None:
        self._held = False
        self._waiting = trio.lowlevel.ParkingLot()
        self._offered = False
        self._watching = False

    async def __aenter__(self) -> None:
        if not self._watching:
            self._watching = True
            trio.lowlevel.add_instrument(self)
        while self._held:
            await self._waiting.park()
        self._held, self._offered = True, False

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held, self._offered = False, True

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        """The task that ran has something to wait for."""
        if self._offered:
            self._offered = False
            self._waiting.unpark()


class Waiting:
    """What pyfuse3 takes for the module trio, and for `trio.lowlevel`."""

    def __init__(self, listener: Listener | None = None) -> None:
        self.lowlevel = self
        self._listener = listener
        self._asked = -1  # when the last request was taken
        self._fd = -1
        self._poll = select.poll()
        self._loop_fd, self._due = _loop()
        self._taken = 0  # requests since the others had their turn
        self._yielded_s = 0.0

    def Lock(self) -> Turn:
        """Return a lock that need not ask the scheduler."""
        return Turn()

    def __getattr__(self, name: str) -> Any:
        return getattr(trio if hasattr(trio, name) else trio.lowlevel, name)

    async def wait_readable(self, fd: int) -> None:
        """Wait until the kernel asks something, or has gone.

        Raises:
            trio.ClosedResourceError: the descriptor is about to be closed.
        """
        listener = self._listener
        if listener is not None and listener.asked() == self._asked:
            listener.hear()
        if fd != self._fd:
            self._fd, self._poll = fd, select.poll()
            self._poll.register(fd, select.POLLIN)
        if self._taken >= REQUESTS_MAX or perf_counter() - self._yielded_s > YIELD_S:
            await trio.lowlevel.checkpoint()
            self._taken, self._yielded_s = 0, perf_counter()
        if not self._poll.poll(0) and not self._stay(fd):
            await trio.lowlevel.wait_readable(fd)
            self._taken, self._yielded_s = 0, perf_counter()
        self._taken += 1
        if listener is not None:
            self._asked = listener.asked()

    def _stay(self, fd: int) -> bool:
        """Give a program the time to ask its next question; tell whether it has."""
        if self._due or self._loop_fd < 0 or max(fd, self._loop_fd) > _SELECTABLE_MAX:
            return False
        return fd in select.select((fd, self._loop_fd), (), (), STAY_S)[0]
