"""Reads that wait, and how a program that waits in one can still be ended.

A program in a FUSE read cannot be interrupted, nor killed, before the daemon answers. The kernel says that somebody
tried, and pyfuse3 does not pass that on. Where it is heard all the same (`fuseclient.kernel.seam`; not to whom it
happened) one task looks then which reader has been sent a signal; its read ends with EINTR, and the program sees to
its signal. Where it is not heard, that task looks every 50 ms. When nothing waits, nothing runs.

Who reads is not told either. It is the opener, if that waits for us; else (a descriptor was inherited: `cat <&3`)
it is looked for among those who hold the file. An opener may wait for us for another reason, so all holders are looked
at, too, when the kernel says that somebody was sent a signal and no known reader was. If nobody is found (they may be
hidden from this user), the read ends with EINTR after 15 s: most programs simply read again.
"""

import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import trio

from fuseclient.kernel import procs
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.05
LOOK_SELDOM_S = 5.0  # where the kernel's word is heard: should one be lost
LOOK_ON_S = 2.0  # after it: its read may only just be coming in, and who reads is searched for at times only
LOOK_SHARE = 0.25  # of the time at most that is spent on looking when thousands wait
SEARCH_EVERY_S = 1.0
UNKNOWN_READER_S = 15.0
HELD_MAX = 4096


class Interrupted(Exception):
    """The read was ended so that its program can see to a signal; the program gets EINTR."""


@dataclass(slots=True, eq=False)
class _Held:
    number: int
    path: str
    opener: int
    scope: trio.CancelScope
    since_s: float
    readers: list[procs.Watched] = field(default_factory=list)
    known: bool = False
    searched_s: float = -math.inf

    def watch(self, tids: Iterable[int]) -> None:
        """Take who may wait in this read for its readers; known are they where the kernel says that one waits for us.

        It does not say so of whoever runs at this moment, nor of anybody to those without the right to know.
        """
        for tid in tids:
            waits = procs.waits_for_fuse(tid)
            if waits is not False and all(reader.tid != tid for reader in self.readers):
                with contextlib.suppress(OSError):  # gone by now
                    self.readers.append(procs.Watched(tid))
                    self.known = self.known or waits is True

    def signalled(self) -> bool:
        for reader in list(self.readers):
            try:
                if reader.signalled():
                    return True
            except OSError:
                self.readers.remove(reader)
                reader.close()
        self.known = self.known and bool(self.readers)
        return False

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
        self.readers.clear()
        self.known = False


class HeldReads:
    """All reads of a mount that wait; `watch` must be running."""

    def __init__(self) -> None:
        self._is_told = False
        self._told_s = -math.inf
        self._told = trio.Event()
        self._held: set[_Held] = set()
        self._ended: list[_Held] = []
        self._looking = False
        self._some = trio.Event()

    def __len__(self) -> int:
        return len(self._held)

    async def hold(self, number: int, path: str, opener: int, read: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return what `read` returns, however long it takes, unless its reader is sent a signal.

        Args:
            number: the inode that is read, with its path from the root of the mount.
            opener: the thread that opened it.

        Raises:
            Interrupted: a signal waits for the reader.
            PfsError: TOO_MANY when 4,096 reads wait already; and what `read` raises.
        """
        if len(self._held) >= HELD_MAX:
            raise PfsError(Kind.TOO_MANY, f"{HELD_MAX} reads of this mount are waiting already")
        with trio.CancelScope() as scope:
            held = _Held(number, path, opener, scope, trio.current_time())
            self._held.add(held)
            self._some.set()
            try:
                return await read()
            finally:
                self._held.discard(held)
                self._ended.append(held)
                self._let_go()
        raise Interrupted

    def be_told(self, is_told: bool) -> None:
        """Rely on `hear` being called whenever a signal was sent to who waits in a read, or rely on it no more."""
        self._is_told = is_told

    def hear(self) -> None:
        """Take notice that a program which waits has been sent a signal, perhaps one that waits in a read."""
        self._told_s = trio.current_time()
        self._told.set()

    async def watch(self) -> None:
        """Look after the reads that wait, for ever."""
        while True:
            if not self._held:
                self._some = trio.Event()
                await self._some.wait()
            paused_s = await self._pause()
            began_s = trio.current_time()
            try:
                await self._look()
            except Exception:
                log.exception("looking after waiting reads")
            spent_s = trio.current_time() - began_s
            # what the kernel says, and libfuse answers alone, sounds like a signal: ioctl, which many open with
            least_s = max(LOOK_EVERY_S, spent_s / LOOK_SHARE)
            await trio.sleep(max(0.0, least_s - spent_s - paused_s))

    async def _pause(self) -> float:
        """Wait until it is time to look; return for how long, in seconds."""
        began_s = trio.current_time()
        is_seldom = self._is_told and began_s - self._told_s > LOOK_ON_S
        with trio.move_on_after(LOOK_SELDOM_S if is_seldom else LOOK_EVERY_S):
            await self._told.wait()
        self._told = trio.Event()
        return trio.current_time() - began_s

    async def _look(self) -> None:
        now_s = trio.current_time()
        is_told = now_s - self._told_s <= LOOK_ON_S
        held = [each for each in self._held if now_s - each.since_s >= (0.0 if is_told else LOOK_EVERY_S)]
        self._looking = True
        try:
            found = await trio.to_thread.run_sync(_find_signalled, held, now_s)
            if is_told and not found:
                found = await trio.to_thread.run_sync(_search_signalled, held, now_s)
            for each in found:
                each.scope.cancel()
        finally:
            self._looking = False
            self._let_go()

    def _let_go(self) -> None:
        if not self._looking:  # the thread may be reading them at this moment
            for each in self._ended:
                each.close()
            self._ended.clear()


def _find_signalled(held: list[_Held], now_s: float) -> list[_Held]:
    """Return the reads whose readers must be let go. Runs in a thread: /proc may be slow when much is going on."""
    lost = [each for each in held if not each.known and now_s - each.searched_s >= SEARCH_EVERY_S]
    for each in lost:
        each.close()
        each.watch([each.opener])
    _search([each for each in lost if not each.known], now_s)
    nobody = [each for each in held if not each.readers and now_s - each.since_s >= UNKNOWN_READER_S]
    return [each for each in held if each.signalled()] + nobody


def _search_signalled(held: list[_Held], now_s: float) -> list[_Held]:
    """Return the reads whose readers must be let go when everybody is looked at who holds the file. For a thread."""
    _search([each for each in held if now_s - each.searched_s >= SEARCH_EVERY_S], now_s)
    return [each for each in held if each.signalled()]


def _search(lost: list[_Held], now_s: float) -> None:
    """Look for readers among those who hold the files."""
    if not lost:
        return
    holders = procs.holders({each.number: each.path for each in lost})
    for each in lost:
        each.searched_s = now_s
        each.watch(tid for holder in holders[each.number] for tid in procs.threads(holder.pid))
