"""Reads that wait, and how a program that waits in one can still be ended.

A program in a FUSE read cannot be interrupted, nor killed, before the daemon answers, and pyfuse3 does not pass
on the kernel's word that somebody tried. So, as long as any read waits, one task looks every 50 ms whether its
reader has been sent a signal; if so the read ends with EINTR, and the program sees to its signal. When nothing
waits, nothing runs.

Who reads is not told either. It is the opener, if that waits for us; else (a descriptor was inherited: `cat <&3`)
it is looked for among those who hold the file. If nobody is found (they may be hidden from this user), the
read ends with EINTR after 15 s: most programs simply read again.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field

import trio

from fuseclient.kernel import procs
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.05
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
        for tid in tids:
            try:
                self.readers.append(procs.Watched(tid))
            except OSError:
                continue  # gone by now
        self.known = bool(self.readers)

    def signalled(self) -> bool:
        for reader in list(self.readers):
            try:
                if reader.signalled():
                    return True
            except OSError:
                self.readers.remove(reader)
                reader.close()
        self.known = bool(self.readers)
        return False

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
        self.readers.clear()


class HeldReads:
    """All reads of a mount that wait; `watch` must be running."""

    def __init__(self) -> None:
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

    async def watch(self) -> None:
        """Look after the reads that wait, for ever."""
        while True:
            if not self._held:
                self._some = trio.Event()
                await self._some.wait()
            began_s = trio.current_time()
            await trio.sleep(LOOK_EVERY_S)
            try:
                await self._look()
            except Exception:
                log.exception("looking after waiting reads")
            spent_s = trio.current_time() - began_s - LOOK_EVERY_S
            await trio.sleep(max(0.0, spent_s / LOOK_SHARE - spent_s - LOOK_EVERY_S))

    async def _look(self) -> None:
        now_s = trio.current_time()
        held = [each for each in self._held if now_s - each.since_s >= LOOK_EVERY_S]
        self._looking = True
        try:
            for each in await trio.to_thread.run_sync(_find_signalled, held, now_s):
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
        each.searched_s = now_s
        if procs.waits_for_fuse(each.opener) is not False:
            each.watch([each.opener])
    lost = [each for each in lost if not each.known]
    if lost:
        holders = procs.holders({each.number: each.path for each in lost})
        for each in lost:
            each.watch(tid for holder in holders[each.number] for tid in _waiting_threads(holder.pid))
    signalled = [each for each in held if each.signalled()]
    nobody = [each for each in held if not each.known and now_s - each.since_s >= UNKNOWN_READER_S]
    return signalled + nobody


def _waiting_threads(pid: int) -> list[int]:
    return [tid for tid in procs.threads(pid) if procs.waits_for_fuse(tid) is not False]
