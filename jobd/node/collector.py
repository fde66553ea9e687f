"""What looks after one container: takes its output from the engine as it comes, and learns how it ended.

It must go on whoever reads the output and whether anybody does: an engine holds a container up whose attached reader
does not read. An engine that went away is waited for, since its containers may live (or it may come back and tell how
they ended); only the engine knows.
"""

import json
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, closing
from itertools import groupby
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import Any

import trio

from jobd.node.ends import exit_of
from jobd.node.engine import NOT_FOUND, Engine, Frames, Refusal
from jobd.node.runtime import Exit, RuntimeAway
from jobd.node.spool import Spool
from jobd.node.state import replace_file

log = logging.getLogger(__name__)

PAUSE_FIRST_S, PAUSE_MOST_S = 0.1, 5.0
STOPPED_SOON_S = 1.0
GATHER_S = 0.005
MANY = 100  # pieces at once: an engine holds a container up that has a few hundred of them unread


class Collector:
    """Looks after the container `container`, whose task has `directory`.

    Attributes:
        was_signalled: this daemon sent it a signal, which may be what it ended by.
    """

    def __init__(self, engine: Engine, container: str, directory: Path) -> None:
        self._engine = engine
        self._container = container
        self._directory = directory
        self._scope = trio.CancelScope()
        self._over = trio.Event()
        self._engine_was_away = False
        self.was_signalled = False

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
            try:
                async with self._engine.attach(self._container) as frames:
                    attached = True
                    task_status.started()
                    with closing(Spool(self._directory)) as spool:
                        await _copy(frames, spool, {}, gather_s=GATHER_S)
                complete = True
            except Exception as error:
                if not attached:
                    raise
                self._was_disturbed(error)
                complete = False
            await self._see_the_end(complete)

    async def run(self) -> None:
        """Look after a container that was started before, or made and not yet started, up to its end."""
        with self._scope:
            if not self.is_over():
                await self._see_the_end(complete=False)
            self._over.set()

    async def _see_the_end(self, complete: bool) -> None:
        pause_s = PAUSE_FIRST_S
        while True:
            try:
                end = await self._end_or_defect(complete)
                replace_file(self._directory / "exit", json.dumps({"code": end.code, "reason": end.reason}))
                break
            except (RuntimeAway, OSError) as error:
                self._was_disturbed(error)
            complete = False
            await trio.sleep(pause_s)
            pause_s = min(pause_s * 2, PAUSE_MOST_S)
        self._over.set()

    async def _end_or_defect(self, complete: bool) -> Exit:
        try:
            return await self._end(complete)
        except (RuntimeAway, OSError):
            raise
        except Exception:
            log.exception("defect while looking after %s", self._container)
            return Exit(125, "a defect of the node; its log has more")

    def _was_disturbed(self, error: Exception) -> None:
        """Note that something has to be done again: the engine is away, or the disk is full."""
        log.warning("%s: %s", self._container, error)
        self._engine_was_away = self._engine_was_away or isinstance(error, RuntimeAway)

    async def _end(self, complete: bool) -> Exit:
        if not complete:
            refusal = await self._start_if_only_made()
            if refusal is not None:
                return Exit(125, str(refusal))
            while True:
                await self._copy_log(follow=True)
                # an engine ends a log a moment before its container is over, and at times in its middle
                with trio.move_on_after(STOPPED_SOON_S) as scope:
                    await self._engine.wait(self._container)
                if not scope.cancelled_caught:
                    break
        await self._engine.wait(self._container)
        state = await self._engine.state(self._container)
        if state is None:
            return Exit(125, "its container was removed behind the node's back")
        if state["Status"] == "created":
            return Exit(125, "its container was never started")
        await self._copy_log(follow=False)
        return self._exit(state)

    async def _start_if_only_made(self) -> Refusal | None:
        state = await self._engine.state(self._container)
        if state is not None and state["Status"] == "created":
            try:
                await self._engine.call(lambda client: client.start(self._container))
            except Refusal as refusal:
                return refusal
        return None

    async def _copy_log(self, *, follow: bool) -> None:
        logs: AbstractAsyncContextManager[Frames] = self._engine.logs(self._container, follow=follow)
        try:
            async with logs as frames:
                with closing(Spool(self._directory)) as spool:
                    await _copy(frames, spool, dict(spool.counts))
        except Refusal as refusal:
            if refusal.status != NOT_FOUND:
                raise RuntimeAway(str(refusal)) from None

    def _exit(self, state: Mapping[str, Any]) -> Exit:
        code = int(state["ExitCode"])
        if self._engine_was_away and code > 128 and not self.was_signalled and not state["OOMKilled"]:
            return Exit(125, "the container engine was restarted and ended the task")
        return exit_of(code, str(state["Error"]), out_of_memory=bool(state["OOMKilled"]))


async def _copy(frames: Frames, spool: Spool, skip: dict[int, int], *, gather_s: float = 0.0) -> None:
    """Put a container's output into the spool, without the first `skip` bytes of each stream.

    Args:
        gather_s: how long to let more of it come together, where some came as shortly before: an engine passes on
            each line by itself, and to be woken by each costs more than to keep it.
    """
    last_s = -inf
    while pieces := await frames.next():
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
