"""What looks after one container: takes its output from the engine as it comes, and learns how it ended.

It must go on whoever reads the output and whether anybody does: an engine holds a container up whose attached reader
does not read. An engine that went away is waited for, since its containers may live (or it may come back and tell how
they ended); only the engine knows.

What came of a container that was attached to from before its start until an engine tells of its end, which was asked
before its start too, is all there is. Of the engine's log the last piece is looked at to make sure; to read a long one
takes as long as the job did.

Both the spool and the engine's log have an end. The engine lets the beginning of a log go that grows longer than all
that is kept of it: where more came while no daemon was there than the engine keeps, the log does not begin as the spool
does. Then the output ends where the spool does, and that is told; nothing is put in the place of what is lost.
"""

import contextlib
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, closing
from itertools import groupby
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import Any

import trio

from jobd.node.ends import exit_of
from jobd.node.engine import NOT_FOUND, Engine, EngineSilent, Refusal
from jobd.node.enginestreams import Frames
from jobd.node.oomlog import ran_out_of_memory
from jobd.node.runtime import Exit, RuntimeAway, RuntimeFailure
from jobd.node.spool import END_BYTES, OUTPUT_BYTES_MAX, Spool
from jobd.node.state import replace_file

log = logging.getLogger(__name__)

PAUSE_FIRST_S, PAUSE_MOST_S = 0.1, 5.0
STOPPED_SOON_S = 1.0
GATHER_S = 0.005
MANY = 100  # pieces at once: an engine holds a container up that has a few hundred of them unread
ENDED = "ended"
LOST = "what it wrote next is lost: more came than the engine keeps while this node's daemon was away"


MayStart = Callable[[], Awaitable[object]]


class _LogWasCut(Exception):
    """The engine has let the beginning of a log go."""


class Collector:
    """Looks after the container `container`, whose task has `directory`.

    Args:
        bytes_max: so much of its output is kept.
        may_start: returns when a container that was made may be started now, and raises a RuntimeFailure where it may
            not any more; without it none is started.

    In the directory, `ended` says why the node ended the container itself.

    Attributes:
        was_signalled: this daemon sent it a signal, which may be what it ended by.
    """

    def __init__(
        self,
        engine: Engine,
        container: str,
        directory: Path,
        bytes_max: int = OUTPUT_BYTES_MAX,
        *,
        may_start: MayStart | None = None,
    ) -> None:
        self._engine = engine
        self._container = container
        self._directory = directory
        self._bytes_max = bytes_max
        self._may_start = may_start
        self._scope = trio.CancelScope()
        self._attached = trio.CancelScope()
        self._over = trio.Event()
        self._engine_was_away = False
        self._takes_more = True
        self._has_lost = False
        self.was_signalled = False

    async def over(self) -> None:
        """Return once the container is over, or looked after no more."""
        await self._over.wait()

    def is_over(self) -> bool:
        """Tell whether the container is over and all its output in the spool."""
        return self._over.is_set() or (self._directory / "exit").exists()

    async def wait(self) -> Exit:
        """Return how the container ended, once it did."""
        await self._over.wait()
        try:
            found = json.loads((self._directory / "exit").read_text())
        except FileNotFoundError:
            return Exit(125, "the node's record of the task was removed")
        return Exit(int(found["code"]), str(found["reason"]))

    def stop(self) -> None:
        """Look after the container no more."""
        self._scope.cancel()
        self._over.set()

    async def run_attached(self, task_status: trio.TaskStatus[None]) -> None:
        """Attach to a container that was made but not started; says when it may be started, and stays to its end.

        Raises:
            RuntimeAway, Refusal: it cannot be attached to.
        """
        attached = False
        with self._scope:
            ends: Mapping[int, bytes] | None = None
            try:
                engine, container = self._engine, self._container
                with self._attached:
                    async with engine.attach(container) as frames, engine.next_exit(container) as exited:
                        attached = True
                        task_status.started()
                        with closing(Spool(self._directory, self._bytes_max)) as spool:
                            await _copy(frames, spool, {}, gather_s=GATHER_S)
                        self._takes_more = not spool.is_full
                        await exited()
                        ends = spool.ends
            except Exception as error:
                if not attached:
                    raise
                self._was_disturbed(error)
            await self._see_the_end(ends)

    def look_again(self) -> None:
        """Its start was asked for, and the answer lost: see whether it runs, and start it if it does not and may."""
        self._attached.cancel()

    async def run(self) -> None:
        """Look after a container that was started before, up to its end."""
        with self._scope:
            if not self.is_over():
                await self._see_the_end(None)
            self._over.set()

    async def _see_the_end(self, ends: Mapping[int, bytes] | None) -> None:
        """Note how the container ended, once it did.

        Args:
            ends: of each stream, where all of the output came by itself.
        """
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                end = await self._end_or_defect(ends)
                replace_file(self._directory / "exit", json.dumps({"code": end.code, "reason": end.reason}))
                break
            except (RuntimeAway, OSError) as error:
                self._was_disturbed(error)
            ends = None
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MOST_S)
        self._over.set()

    async def _end_or_defect(self, ends: Mapping[int, bytes] | None) -> Exit:
        try:
            return await self._end(ends)
        except (RuntimeAway, OSError):
            raise
        except Exception:
            log.exception("defect while looking after %s", self._container)
            return Exit(125, "a defect of the node; its log has more")

    def _was_disturbed(self, error: Exception) -> None:
        """Note that something has to be done again: the engine is away, or the disk is full."""
        log.warning("%s: %s", self._container, error)
        is_lost = isinstance(error, RuntimeAway) and not isinstance(error, EngineSilent)
        self._engine_was_away = self._engine_was_away or is_lost

    async def _end(self, ends: Mapping[int, bytes] | None) -> Exit:
        if ends is None:
            failure = await self._start_if_only_made()
            if failure is not None:
                return Exit(125, str(failure))
            while True:
                await self._copy_log(follow=True)
                # an engine ends a log a moment before its container is over, and at times in its middle
                with trio.move_on_after(STOPPED_SOON_S if self._takes_more else inf) as scope:
                    await self._engine.wait(self._container)
                if not scope.cancelled_caught:
                    break
        state = await self._engine.state(self._container)
        if state is None:
            return Exit(125, "its container was removed behind the node's back")
        if state["Status"] == "created":
            return Exit(125, "its container was never started")
        if ends is None or not await self._was_last(ends):
            await self._copy_log(follow=False)
        if int(state["ExitCode"]) > 128 and not self.was_signalled:
            # an engine that ends, and ends its containers, answers still who asked it before
            await self._engine.knock()
        if int(state["ExitCode"]) != 0 and not state["OOMKilled"]:
            found = await trio.to_thread.run_sync(ran_out_of_memory, str(state["Id"]))
            state = {**state, "OOMKilled": found}
        return self._exit(state)

    async def _was_last(self, ends: Mapping[int, bytes]) -> bool:
        """Tell whether what the engine has logged last is what came last."""
        pieces: list[tuple[int, bytes]] = []
        try:
            async with self._engine.logs(self._container, last=1) as frames:
                while more := await frames.next():
                    pieces += more
        except Refusal:
            return False
        return all(ends.get(stream, b"").endswith(data[-END_BYTES:]) for stream, data in pieces)

    async def _start_if_only_made(self) -> Refusal | RuntimeFailure | None:
        state = await self._engine.state(self._container)
        if state is not None and state["Status"] == "running":
            # an engine that came back to it has not ended it
            self._engine_was_away = False
        if state is not None and state["Status"] == "created" and self._may_start is not None:
            try:
                await self._may_start()  # since it was asked for, another node may have got it
                await self._engine.start(self._container)
            except (Refusal, RuntimeFailure) as failure:
                return failure
        return None

    async def _copy_log(self, *, follow: bool) -> None:
        """Take from the engine's log what is not in the spool, unless that takes no more."""
        if not self._takes_more:
            return
        logs: AbstractAsyncContextManager[Frames] = self._engine.logs(self._container, follow=follow)
        with closing(await trio.to_thread.run_sync(Spool, self._directory, self._bytes_max)) as spool:
            try:
                if not spool.is_full:
                    async with logs as frames:
                        await _copy(_FromTheStart(frames, spool), spool, dict(spool.counts), is_log=True)
                self._takes_more = not spool.is_full
            except Refusal as refusal:
                if refusal.status != NOT_FOUND:
                    raise RuntimeAway(str(refusal)) from None
            except _LogWasCut:
                log.warning("%s: %s", self._container, LOST)
                self._takes_more, self._has_lost = False, True

    def _exit(self, state: Mapping[str, Any]) -> Exit:
        code = int(state["ExitCode"])
        if self._engine_was_away and code > 128 and not self.was_signalled and not state["OOMKilled"]:
            return Exit(125, "the container engine was restarted and ended the task")
        with contextlib.suppress(FileNotFoundError):
            return Exit(code, (self._directory / ENDED).read_text())
        end = exit_of(code, str(state["Error"]), out_of_memory=bool(state["OOMKilled"]))
        return Exit(code, end.reason or LOST) if self._has_lost else end


class _FromTheStart:
    """Pieces of a log, as long as it begins as the spool does."""

    def __init__(self, frames: Frames, spool: Spool) -> None:
        self._frames = frames
        self._starts = dict(spool.starts)

    async def next(self) -> list[tuple[int, bytes]]:
        """Return the next pieces; nothing at the end.

        Raises:
            _LogWasCut
        """
        pieces = await self._frames.next()
        for stream, data in pieces:
            expected = self._starts.get(stream, b"")
            if expected:
                if not (data.startswith(expected) or expected.startswith(data)):
                    raise _LogWasCut
                self._starts[stream] = expected[len(data) :]
        return pieces


async def _copy(
    frames: Frames | _FromTheStart,
    spool: Spool,
    skip: dict[int, int],
    *,
    gather_s: float = 0.0,
    is_log: bool = False,
) -> None:
    """Put a container's output into the spool, without the first `skip` bytes of each stream.

    Args:
        is_log: it comes from a log, of which nothing more is read than the spool takes; who is attached to a
            container reads on, since the engine holds it up else.
        gather_s: how long to let more of it come together, where some came as shortly before: an engine passes on
            each line by itself, and to be woken by each costs more than to keep it.
    """
    last_s = -inf
    while not (is_log and spool.is_full) and (pieces := await frames.next()):
        for stream, parts in groupby(pieces, key=itemgetter(0)):
            data = b"".join(part for _, part in parts)
            known = min(skip.get(stream, 0), len(data))
            if known:
                skip[stream] -= known
            if known < len(data):
                spool.append(stream, data[known:])
        if gather_s and trio.current_time() - last_s < gather_s and len(pieces) < MANY:
            await trio.sleep(gather_s)
        last_s = trio.current_time()
