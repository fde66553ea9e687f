"""Reads that wait, and how a program that waits in one can still be ended.

A program in a FUSE read cannot be interrupted, nor killed, before the daemon answers. The kernel says that somebody
tried, and pyfuse3 does not pass that on. Where it is heard all the same (`fuseclient.kernel.seam`; not to whom it
happened) one task looks then which reader has been sent a signal; its read ends with EINTR, and the program sees to
its signal. Where it is not heard, that task looks every 50 ms. When nothing waits, nothing runs. A look at thousands
takes tens of milliseconds; so after the first one only those are looked at that came since, and all once a second.

Who reads is not told either. It is the opener, if that waits for us; else (a descriptor was inherited: `cat <&3`)
it is looked for among those who hold the file. An opener may wait for us for another reason, so all holders are looked
at, too, when the kernel says that somebody was sent a signal and no known reader was. If nobody is found (they may be
hidden from this user), the read ends with EINTR after 15 s: most programs simply read again.
"""

import contextlib
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import trio

from fuseclient.kernel import procs
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.05
LOOK_SELDOM_S = 5.0  # where the kernel's word is heard: should one be lost
LOOK_ON_S = 2.0  # after it: its read may only just be coming in, and who reads is searched for at times only
LOOK_SHARE = 0.5  # of the time at most that is spent on looking when thousands wait
SEARCH_EVERY_S = 1.0
SEARCH_SHARE = 0.05  # of the time at most that is spent on searching, among all who hold a file
UNKNOWN_READER_S = 15.0
HELD_MAX = 4096


class Interrupted(Exception):
    """The read was ended so that its program can see to a signal; the program gets EINTR."""


@dataclass(slots=True, eq=False)
class _Held:
    """A read that waits.

    Attributes:
        reader: the opener, where it may be who reads.
        others: who may be it where the opener is not; shared by all reads of a file.
        known: the kernel says of one of them that it waits for us.
    """

    number: int
    path: str
    opener: int
    scope: trio.CancelScope
    since_s: float
    reader: procs.Watched | None = None
    others: frozenset[int] = frozenset()
    known: bool = False
    searched_s: float = -math.inf

    def watch_opener(self) -> None:
        """Take the opener for the reader, if it may wait in this read; it is known where the kernel says so.

        It does not say so of whoever runs at this moment, nor of anybody to those without the right to know.
        """
        self.close()
        waits = procs.waits_for_fuse(self.opener)
        if waits is not False:
            with contextlib.suppress(OSError):  # gone by now
                self.reader = procs.Watched(self.opener)
                self.known = waits is True

    def signalled(self) -> bool:
        if self.reader is None:
            return False
        try:
            return self.reader.signalled()
        except OSError:
            self.close()
            return False

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()
        self.reader, self.others, self.known = None, frozenset(), False


class HeldReads:
    """All reads of a mount that wait; `watch` must be running."""

    def __init__(self) -> None:
        self._is_told = False
        self._told_s = -math.inf
        self._told = trio.Event()
        self._looked_s = self._found_s = self._searched_s = self._search_next_s = -math.inf
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
        async with trio.open_nursery() as nursery:
            while True:
                if not self._held:
                    self._some = trio.Event()
                    await self._some.wait()
                paused_s = await self._pause()
                began_s, has_found = trio.current_time(), False
                try:
                    has_found = await self._look()
                except Exception:
                    log.exception("looking after waiting reads")
                if self._is_to_search(trio.current_time()):
                    nursery.start_soon(self._search)
                spent_s = trio.current_time() - began_s
                # what the kernel says, and libfuse answers alone, sounds like a signal: ioctl, which many open with;
                # where it was one, another may follow, as when many are ended one after the other
                least_s = max(0.0 if has_found else LOOK_EVERY_S, spent_s / LOOK_SHARE)
                await trio.sleep(max(0.0, least_s - spent_s - paused_s))

    async def _pause(self) -> float:
        """Wait until it is time to look; return for how long, in seconds."""
        began_s = trio.current_time()
        is_seldom = self._is_told and not self._is_to_look_on(began_s)
        with trio.move_on_after(LOOK_SELDOM_S if is_seldom else LOOK_EVERY_S):
            await self._told.wait()
        self._told = trio.Event()
        return trio.current_time() - began_s

    def _is_to_look_on(self, now_s: float) -> bool:
        """Tell whether the kernel's last word may be about a reader who was not found yet."""
        return now_s - self._told_s <= LOOK_ON_S or self._searched_s < self._told_s

    async def _look(self) -> bool:
        """Let go of those who were sent a signal; tell whether there were any."""
        now_s = trio.current_time()
        is_told = self._is_to_look_on(now_s)
        held = [each for each in self._held if now_s - each.since_s >= (0.0 if is_told else LOOK_EVERY_S)]
        if is_told and self._told_s <= self._looked_s > now_s - SEARCH_EVERY_S:
            held = [each for each in held if each.since_s >= self._looked_s]
        else:
            self._looked_s = now_s
        self._looking = True
        try:
            found = await trio.to_thread.run_sync(_find_signalled, held, now_s)
            for each in found:
                each.scope.cancel()
            self._found_s = now_s if found else self._found_s
        finally:
            self._looking = False
            self._let_go()
        return bool(found)

    def _is_to_search(self, now_s: float) -> bool:
        """Tell whether the kernel's last word seems to be about none of the known readers, or may be about others."""
        is_answered = self._found_s >= self._told_s and now_s - self._told_s < SEARCH_EVERY_S
        return self._searched_s < self._told_s and now_s >= self._search_next_s and not is_answered

    async def _search(self) -> None:
        now_s = trio.current_time()
        self._searched_s, self._search_next_s = now_s, math.inf
        try:
            for each in await trio.to_thread.run_sync(_search_signalled, list(self._held)):
                each.scope.cancel()
        except Exception:
            log.exception("searching for the readers of waiting reads")
        spent_s = trio.current_time() - now_s
        self._search_next_s = now_s + max(SEARCH_EVERY_S, spent_s / SEARCH_SHARE)

    def _let_go(self) -> None:
        if not self._looking:  # the thread may be reading them at this moment
            for each in self._ended:
                each.close()
            self._ended.clear()


def _find_signalled(held: list[_Held], now_s: float) -> list[_Held]:
    """Return the reads whose readers must be let go. Runs in a thread: /proc may be slow when much is going on."""
    lost = [each for each in held if not each.known and now_s - each.searched_s >= SEARCH_EVERY_S]
    for each in lost:
        each.watch_opener()
    lost = [each for each in lost if not each.known]
    candidates = _candidates(lost)
    for each in lost:
        each.others, each.known = candidates[each.number]
        each.searched_s = now_s
    signalled = _signalled(frozenset[int]().union(*{each.others for each in held}))
    nobody = [
        each for each in held if each.reader is None and not each.others and now_s - each.since_s >= UNKNOWN_READER_S
    ]
    return [each for each in held if each.signalled() or not signalled.isdisjoint(each.others)] + nobody


def _search_signalled(held: list[_Held]) -> list[_Held]:
    """Return the reads whose readers must be let go when everybody is looked at who holds the file. For a thread.

    Of a reader who opened the file it is their own read. Else nobody knows which it is: none whose opener waits for us
    and has no other read, if there is any else.
    """
    reads = Counter(each.opener for each in held)
    found = []
    for number, (tids, _known) in _candidates(held).items():
        signalled, those = _signalled(tids), [each for each in held if each.number == number]
        own = [each for each in those if each.opener in signalled]
        found += own
        if signalled - {each.opener for each in own}:
            doubtful = [
                each for each in those if reads[each.opener] > 1 or procs.waits_for_fuse(each.opener) is not True
            ]
            found += [each for each in doubtful or those if each not in own]
    return found


def _candidates(lost: list[_Held]) -> dict[int, tuple[frozenset[int], bool]]:
    """Return for each file those of its holders who may wait for us, and whether the kernel says so of any."""
    if not lost:
        return {}
    holders = procs.holders({each.number: each.path for each in lost})
    waits = {
        pid: {tid: procs.waits_for_fuse(tid) for tid in procs.threads(pid)}
        for pid in {holder.pid for each in holders.values() for holder in each}
    }
    found = {}
    for number, those in holders.items():
        threads = {tid: is_so for holder in those for tid, is_so in waits[holder.pid].items() if is_so is not False}
        found[number] = frozenset(threads), any(threads.values())
    return found


def _signalled(tids: frozenset[int]) -> frozenset[int]:
    return frozenset(tid for tid in tids if procs.is_signalled(tid))
