"""Look before sleeping: the answer to a small question often comes before the event loop would have gone to sleep.

A task that waits by the loop lets others run, and each of them looks for work of its own: in a mount that costs more
than the question. So whoever has asked stays at the socket for a moment. Meanwhile nobody else runs; therefore that

    ends       as soon as anything else happens that the loop would wake up for: the loop's own epoll is looked at, too,
    is short   `LOOK_S`: timers are late by no more than that,
    is rare    where it does not pay: after it was in vain, or while several ask at the same time, the next `SKIPPED`
               questions wait by the loop; and so does one in `IN_A_ROW` in any case, so that others can ask.
"""

import contextlib
import select
from collections.abc import Sized

import trio

LOOK_S = 0.001
IN_A_ROW = 16
SKIPPED = 16
_SELECTABLE_MAX = 1023  # select(2) knows no higher numbers


class Lookout:
    """Stays at a socket for a moment, in the event loop that it is made in.

    Args:
        fd: the socket's number; a task may be waiting for it in the loop.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._loop_fd = -1
        self._due: Sized = ()
        with contextlib.suppress(AttributeError):  # another trio, or another kernel: then there is no looking
            runner = trio._core._run.GLOBAL_RUN_CONTEXT.runner
            self._loop_fd, self._due = runner.io_manager._epoll.fileno(), runner.runq
        self._able = 0 <= fd <= _SELECTABLE_MAX and 0 <= self._loop_fd <= _SELECTABLE_MAX
        self._in_a_row = 0
        self._skip = 0

    def pays(self, *, alone: bool) -> bool:
        """Tell whether to look for the answer to a question that is asked now.

        Args:
            alone: no other question waits for its answer.
        """
        if not alone:
            self._skip = SKIPPED
        if self._skip:
            self._skip -= 1
            return False
        self._in_a_row = (self._in_a_row + 1) % IN_A_ROW
        return self._able and self._in_a_row != 0

    def sees(self) -> bool:
        """Tell whether something comes at the socket within a moment, before anything else happens."""
        if not self._due and self._fd in select.select((self._fd, self._loop_fd), (), (), LOOK_S)[0]:
            return True
        self._skip = SKIPPED
        return False
