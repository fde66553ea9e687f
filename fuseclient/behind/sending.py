"""The queue of `--write-behind`: promises are written down, sent a few at a time, and noted as kept.

While a program goes on and on, its changes gather: it has the processor for itself, and what it makes and removes again
need not travel at all. They are sent when it pauses (`PAUSE_S`), when they have gathered for `GATHER_S`, when the queue
is getting full, and at once when anybody waits for them. One batch is under way at a time, so that the order holds.

What was promised under leases that have ended, or what nobody knows the outcome of, is made with care
(`fuseclient.behind.care`). A server that is away makes everything wait: who wants to promise more than there is room
for waits up to `DEADLINE_S`.

What the server refuses is told to whoever has the file open, to the log and the status, and stays in the journal: the
next mount tries again. While such things pile up, or the server has just had no room, nothing is promised: programs
then hear at once what it says.
"""

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

import trio
from trio.lowlevel import ParkingLot

from fuseclient.behind.care import Care
from fuseclient.behind.journal import REWRITE_BYTES, Journal
from fuseclient.behind.progress import paths_of, progress
from fuseclient.behind.queue import BATCH_MAX, BYTES_MAX, BehindQueue, Promise, Version
from fuseclient.cache.copies import Copies, Question
from pfs.api import Attr
from pfs.errors import Kind, PfsError
from pfs.protocol.steps import BatchingFileSystem, Step, Verb

log = logging.getLogger(__name__)

DEADLINE_S = 30.0
PAUSE_S = 0.02
GATHER_S = 1.0
RETRY_S = 0.2
REFUSED_S = 10.0  # after the server had no room, nothing is promised for so long
PATIENCE_S = 0.5  # of a lease break with a batch that does not end: it may wait for who waits for us
_AWAY = (Kind.UNREACHABLE, Kind.TIMED_OUT)
_CONFLICTS = (Kind.EXISTS, Kind.NOT_FOUND, Kind.NOT_EMPTY)
_ROOM = (Kind.NO_SPACE, Kind.QUOTA)


@dataclass(frozen=True, slots=True)
class BehindStatus:
    """What waits for the server.

    Attributes:
        operations, bytes: how much.
        failed: paths, and why the server did not take what was written there.
        conflicts: how many files were kept beside, or left alone, since somebody else had changed them.
    """

    operations: int
    bytes: int
    failed: tuple[tuple[str, str], ...]
    conflicts: int


class Outcomes(Protocol):
    """What is done when a promise has been settled."""

    copies: Copies

    def kept(self, promise: Promise, attr: Attr | None, question: Question) -> int | None:
        """A promise is kept; return the server's number of its node, where it had one of the mount's own."""

    def not_kept(self, promise: Promise, error: PfsError) -> None:
        """A promise will not be kept here, or was kept elsewhere."""


class Behind:
    """The promises of one datacenter.

    Args:
        server: who has to keep them.
        journal: where they are written down; what it holds comes first.
        outcomes: who is told.
        clock: seconds that only grow.
    """

    def __init__(
        self, server: BatchingFileSystem, journal: Journal, outcomes: Outcomes, clock: Callable[[], float]
    ) -> None:
        self._server = server
        self._journal = journal
        self._outcomes = outcomes
        self._clock = clock
        self._queue = BehindQueue()
        self._real: dict[int, int] = dict(journal.found.real)
        self._care = Care(server, self.real, _mark)
        self._settled = ParkingLot()
        self._wake = trio.Event()
        self._hurry = trio.Event()
        self._gathered = 0  # all up to this number are sent without gathering more
        self._failed: list[tuple[Promise, PfsError]] = []
        self._conflicts = 0
        self._refused_until_s = 0.0
        self._lost = min(BATCH_MAX, len(journal.found.promises))  # so many may have been in flight
        self._since_s: float | None = None
        for promise in journal.found.promises.values():
            self._queue.add(promise)
        self._queue.last = max(self._queue.last, journal.found.last)
        self._queue.doubt()
        if self._queue:
            self._since_s = clock()
            log.warning("%d changes were promised by an earlier mount: they are made now", len(self._queue))

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def bytes(self) -> int:
        """How much data waits."""
        return self._queue.bytes

    def status(self) -> BehindStatus:
        """Tell what waits."""
        failed = tuple((promise.step.path, str(error.message)) for promise, error in self._failed)
        return BehindStatus(len(self._queue), self._queue.bytes, failed, self._conflicts)

    # ---- promising

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether a change with so many bytes of data can be promised without waiting."""
        return self._queue.has_room(size_bytes)

    async def room(self, size_bytes: int) -> None:
        """Return when there is room for a promise.

        Raises:
            PfsError: TIMED_OUT.
        """
        await self._until(lambda: self._queue.has_room(size_bytes))

    def promise(
        self, step: Step, node_id: int, before: Version | None = None, target_before: Version | None = None
    ) -> bool:
        """Promise a change; False where it cannot be promised: then the server has to be asked."""
        queue = self._queue
        if not queue.has_room(len(step.data)) or self._is_refused():
            return False
        promise = Promise(queue.last + 1, step, node_id, before, target_before)
        try:
            self._journal.promise(promise)
        except PfsError as error:
            log.warning("%s", error)
            self._refused_until_s = self._clock() + REFUSED_S
            return False
        queue.add(promise)
        if self._since_s is None:
            self._since_s = self._clock()
            self._wake.set()
        if queue.is_getting_full():
            self._hurry.set()
        return True

    def _is_refused(self) -> bool:
        if self._refused_until_s and self._clock() < self._refused_until_s:
            return True
        return bool(self._failed) and sum(promise.size_bytes for promise, _ in self._failed) > BYTES_MAX

    def cancel(self, path: str, node_id: int) -> bool:
        """Take a file back that was promised and is not on its way yet; False where the server will have it."""
        promise = self._queue.waiting_alone(path)
        if promise is None or promise.step.verb is not Verb.MAKE_FILE or promise.node_id != node_id:
            return False
        if not self._journal.kept([promise.number], {}):
            return False
        self._queue.cancel(promise)
        self._after_some_left()
        return True

    def is_last(self, promise: Promise, known_as: int) -> bool:
        """Tell whether nothing was promised later about the same node, which may be known by another number by now."""
        return self._queue.is_last_of_node(promise, known_as)

    def real(self, node_id: int) -> int:
        """Return the server's number for one of the mount's own, or the same where it has none."""
        return self._real.get(node_id, node_id)

    def doubt(self) -> None:
        """The leases have ended: what was promised under them is made with care."""
        self._queue.doubt()

    # ---- waiting

    async def reach(self, *paths: str) -> None:
        """Return when nothing waits about these paths, above or below them.

        Raises:
            PfsError: TIMED_OUT.
        """
        number = self._queue.last_near(paths)
        if number > self._queue.settled:
            await self._until(lambda: self._queue.settled >= number)

    async def drain(self) -> None:
        """Return when nothing waits that waits now; raises as `reach`."""
        number = self._queue.last
        await self._until(lambda: self._queue.settled >= number or not self._queue)

    async def drain_as_far_as_it_goes(self) -> None:
        """Return when nothing waits, or when that does not go on: then what waits is made with care."""
        while self._queue:
            before = self._queue.settled
            with trio.move_on_after(PATIENCE_S):
                self._hurry.set()
                await self._settled.park()
            if self._queue.settled == before:
                self._queue.doubt()
                return

    async def _until(self, is_so: Callable[[], bool]) -> None:
        if is_so():
            return
        with trio.move_on_after(DEADLINE_S):
            while not is_so():
                self._hurry.set()
                await self._settled.park()
            return
        raise PfsError(Kind.TIMED_OUT, f"the server has not taken what was written before within {DEADLINE_S:.0f} s")

    # ---- sending

    async def run(self) -> None:
        """Keep promises, for ever."""
        while True:
            if not self._queue:
                self._wake = trio.Event()
                await self._wake.wait()
            if self._queue.settled >= self._gathered:
                await self._gather()
            if not await self._send():
                await trio.sleep(RETRY_S)

    async def _gather(self) -> None:
        """Return when it is time to send what waits."""
        with trio.move_on_after(GATHER_S):
            while not self._hurry.is_set():
                last = self._queue.last
                with trio.move_on_after(PAUSE_S):
                    await self._hurry.wait()
                if self._queue.last == last:
                    break
        self._hurry = trio.Event()
        self._gathered = self._queue.last

    async def _send(self) -> bool:
        """Send what comes next; return False when the server is away."""
        if not self._server.trusted():
            return False
        if self._lost:
            return await self._find_out()
        batch = self._queue.take()
        if not batch.promises:
            return True
        if not batch.sure:
            return await self._send_with_care(batch.promises[0])
        with self._outcomes.copies.question() as question:
            try:
                outcomes = await self._server.batch([promise.step for promise in batch.promises])
            except PfsError as error:
                log.debug("what came of %d changes is not known: %s", len(batch.promises), error)
                self._queue.put_back()
                self._lost = len(batch.promises)
                return error.kind not in _AWAY
            kept: list[int] = []
            real: dict[int, int] = {}
            there = True
            for promise, outcome in zip(batch.promises, outcomes, strict=True):
                if not isinstance(outcome, PfsError):
                    kept.append(promise.number)
                    self._keep(promise, outcome, question, real)
                elif not (there := await self._refused(promise, outcome)):
                    break
            self._note(kept, real)
        return there

    def _keep(self, promise: Promise, attr: Attr | None, question: Question, real: dict[int, int]) -> None:
        self._queue.settle(promise)
        number = self._outcomes.kept(promise, attr, question)
        if number is not None and number != promise.node_id:
            real[promise.node_id] = self._real[promise.node_id] = number

    async def _refused(self, promise: Promise, error: PfsError) -> bool:
        """Look again at what the server has refused in a batch: it may be in conflict with somebody else's."""
        if error.kind in _CONFLICTS:
            return await self._send_with_care(promise)
        self._fail(promise, error)
        return True

    async def _find_out(self) -> bool:
        """Look what the server has made of a batch whose answer was lost; return False when it is away."""
        promises = self._queue.promises()[: self._lost]
        with self._outcomes.copies.question() as question:
            try:
                seen = {path: await self._care.look(path) for path in paths_of(promises)}
            except PfsError as error:
                if error.kind in _AWAY:
                    return False
                self._lost = 0  # then each is looked at when it is made
                return True
            found = progress(promises, seen, self.real)
            for left, promise in zip(range(len(promises), 0, -1), promises[: found.made], strict=False):
                self._lost = left
                self._queue.take()
                if found.is_kept(promise):
                    real: dict[int, int] = {}
                    self._keep(promise, seen.get(found.places.get(promise.node_id, "")), question, real)
                    self._note([promise.number], real)
                elif not await self._send_with_care(promise):
                    return False
        self._lost = 0
        return True

    async def _send_with_care(self, promise: Promise) -> bool:
        with self._outcomes.copies.question() as question:
            try:
                kept = await self._care.make(promise)
            except PfsError as error:
                if error.kind in _AWAY:
                    self._queue.put_back()
                    return False
                self._fail(promise, error)
            else:
                self._settle_with_care(promise, kept.attr, kept.conflict, question)
        return True

    def _settle_with_care(self, promise: Promise, attr: Attr | None, conflict: str | None, question: Question) -> None:
        if conflict is None:
            real: dict[int, int] = {}
            self._keep(promise, attr, question, real)
        else:
            self._conflicts += 1
            self._queue.settle(promise)
            self._outcomes.not_kept(promise, PfsError(Kind.EXISTS, f"it is in conflict: see {conflict}", conflict))
            real = {}
        self._note([promise.number], real)

    def _fail(self, promise: Promise, error: PfsError) -> None:
        log.error("%s: what was promised could not be kept: %s", promise.step.path, error.message)
        if error.kind in _ROOM:
            self._refused_until_s = self._clock() + REFUSED_S
        self._failed.append((promise, error))
        self._journal.failed(promise.number, error)
        self._queue.settle(promise)
        self._outcomes.not_kept(promise, error)
        self._note([], {})

    def _note(self, kept: list[int], real: dict[int, int]) -> None:
        """Write down what is kept, and let those go on who wait for it."""
        if kept and (self._queue or self._failed):
            self._journal.kept(kept, real)
        self._after_some_left()

    def _after_some_left(self) -> None:
        if not self._queue:
            self._since_s = None
        if not self._queue and not self._failed:
            self._real.clear()
            self._journal.rewrite((), {})
        elif self._journal.size_bytes > REWRITE_BYTES:
            waiting = [*(promise for promise, _ in self._failed), *self._queue.promises()]
            self._journal.rewrite(sorted(waiting, key=lambda promise: promise.number), self._real)
        self._settled.unpark_all()


def _mark() -> str:
    return f"{socket.gethostname()}-{datetime.fromtimestamp(time.time(), UTC):%Y%m%dT%H%M%S}"
