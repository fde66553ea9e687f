"""Who waits by poll, select or epoll until an open file has something new: what they are told, and when they are woken.

The kernel asks how it stands, and gives something to wake it with where somebody goes on to wait. It never says that
they have stopped waiting. So for each open file there is at most one question with the server, which is answered once
there is something to read; it is begun when somebody waits, and taken back when the file is released:

    asked how it stands     what is known since the last read; else the server is asked, which answers at once
    there is something      the kernel is woken, once; it asks again, and gives something new to wake it with
    the file is read        what was known holds no more; if the kernel wants to be woken, the question begins anew when
                            all is read, since who waits for edges (EPOLLET) does not ask again

While nobody waits, nothing runs. What goes wrong counts as something to read: the read tells what it is.
"""

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

ANSWER_S = 2.0  # a program that only asks how it stands is not kept longer; it counts as nothing new
WATCHED_MAX = 2000  # at once; with the reads that wait it is what one connection has room for

# Returns once there is something to read; raises WOULD_BLOCK where it shall not wait and there is nothing,
# and UNSUPPORTED for what can always be read.
Ask = Callable[[bool], Awaitable[object]]
Wake = Callable[[], None]


@dataclass(slots=True, eq=False)
class _Polled:
    """One open file that somebody has polled.

    Attributes:
        reads: how often it was read.
        is_ready: there is something that was not read yet.
        is_quiet: there was nothing, and what waits at the server will say if that changes.
        is_plain: it can always be read.
        wake: wakes the kernel.
        question: waits at the server until there is something.
    """

    ask: Ask
    reads: int = 0
    is_ready: bool = False
    is_quiet: bool = False
    is_plain: bool = False
    wake: Wake | None = None
    question: trio.CancelScope | None = None


class Polls:
    """All open files of a mount that somebody has polled; `run` must be running."""

    def __init__(self) -> None:
        self._polled: dict[int, _Polled] = {}
        self._nursery: trio.Nursery | None = None
        self._watched = 0

    def __len__(self) -> int:
        """Return how many are waited for."""
        return self._watched

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let questions wait, for ever."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    async def poll(self, fh: int, ask: Ask, wake: Wake | None) -> bool | None:
        """Tell whether there is something new to read of an open file; None where it can always be read.

        Args:
            wake: to be called once when that changes.

        Raises:
            PfsError: TOO_MANY when so many are waited for already.
        """
        polled = self._polled.setdefault(fh, _Polled(ask))
        if wake is not None:
            polled.wake = wake
        known = polled.is_ready or polled.is_plain or (polled.is_quiet and polled.question is not None)
        if not known:
            await self._ask(polled)
            if fh in self._polled and not polled.is_ready and not polled.is_plain:
                self._watch(polled)
        if polled.is_plain:
            polled.wake = None
            return None
        return polled.is_ready

    def was_read(self, fh: int, *, all_of_it: bool) -> None:
        """An open file was read, `all_of_it` or perhaps less: what is known of it holds no more."""
        polled = self._polled.get(fh)
        if polled is not None:
            polled.reads += 1
            polled.is_ready = polled.is_quiet = False
            if all_of_it and len(self) < WATCHED_MAX:  # else whoever polls it next is told
                self._watch(polled)

    def let_go(self, fh: int) -> None:
        """An open file is released."""
        polled = self._polled.pop(fh, None)
        if polled is not None:
            polled.wake = None
            if polled.question is not None:
                polled.question.cancel()

    async def _ask(self, polled: _Polled) -> None:
        """Find out how it stands now."""
        reads, is_ready = polled.reads, False
        with trio.move_on_after(ANSWER_S):
            is_ready = await self._answer(polled, wait=False)
        if reads == polled.reads:
            polled.is_ready, polled.is_quiet = polled.is_ready or is_ready, not is_ready

    def _watch(self, polled: _Polled) -> None:
        if self._nursery is None or polled.wake is None or polled.question is not None:
            return
        if self._watched >= WATCHED_MAX:
            polled.wake = None
            raise PfsError(Kind.TOO_MANY, f"{WATCHED_MAX} files of this mount are being polled already")
        polled.question = trio.CancelScope()
        self._watched += 1
        self._nursery.start_soon(self._wait, polled, polled.question)

    async def _wait(self, polled: _Polled, question: trio.CancelScope) -> None:
        """Wake the kernel once there is something that was not read meanwhile."""
        try:
            with question:
                reads = -math.inf
                while reads != polled.reads:
                    reads = polled.reads
                    await self._answer(polled, wait=True)
                polled.is_ready = not polled.is_plain
        finally:
            polled.question = None
            self._watched -= 1
        wake, polled.wake = polled.wake, None
        if wake is not None:
            wake()

    async def _answer(self, polled: _Polled, *, wait: bool) -> bool:
        try:
            await polled.ask(wait)
        except PfsError as error:
            if error.kind is Kind.UNSUPPORTED:
                polled.is_plain = True
            return error.kind is not Kind.WOULD_BLOCK
        except Exception:  # nobody has asked for it in a task of their own: it must not end the mount
            log.exception("waiting for something to read")
        return True
