"""One task's life on this node, from its assignment to the moment when the server knows of its end.

It goes on whether a server is there or not; only `report` needs one. What must survive a kill -9 of the daemon is
kept elsewhere: that the task runs, its output and its end by the runtime, a stop that was asked for by `StateDir`.
"""

import logging
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress

import trio

from jobd.node import topfiles
from jobd.node.fellows import until_found
from jobd.node.gate import Gate
from jobd.node.runtime import Exit, Files, Runtime, RuntimeAway, RuntimeFailure
from jobd.node.ship import ship
from jobd.node.state import StateDir, boottime
from jobd.node.watchdog import Watchdog
from jobd.wire import CUT_OFF, Assignment
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel, ChannelClosed

log = logging.getLogger(__name__)

AGAIN_S = 1.0
KILL_AGAIN_S = 5.0
DEFECT = "a defect of the node; its log has more"

_STOPPED = 128 + signal.SIGTERM


class Task:
    """One task.

    Args:
        files: how the task gets to the server's tree.
        state: keeps a stop that was asked for.
        watchdog: may have ended the task.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        task_id: str,
        runtime: Runtime,
        state: StateDir,
        watchdog: Watchdog,
        *,
        files: Files,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.task_id = task_id
        self._runtime = runtime
        self._files = files
        self._state = state
        self._watchdog = watchdog
        self._clock = clock
        self._gate = Gate(state.path, task_id)
        self._life = trio.CancelScope()
        self._start = trio.CancelScope()
        self._began = trio.Event()
        self._over = trio.Event()
        self._exit: Exit | None = None
        self._ran = True
        self._began_ns = self._ended_ns = 0
        self._news: list[tuple[int, str]] = []
        self._newer = trio.Event()
        self._told = 0
        self._image = ""
        self._shared_image: str | None = None
        self._shares_image = False
        self._stop_asked = trio.Event()
        self._let_go = trio.Event()
        self._patience = trio.CancelScope()
        self._deadline_s = state.stop_deadline_s(task_id)

    async def live(self, assignment: Assignment | None) -> None:
        """Start the task, unless it runs already (no assignment), and stay with it until it is released."""
        with closing(self._gate):
            await self._live(assignment)

    async def _live(self, assignment: Assignment | None) -> None:
        if self._deadline_s is not None:
            self._stop_asked.set()
        with self._life:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_asked)
                nursery.start_soon(self._open_when_let_go, assignment)
                failure = None if assignment is None else await self._begin(assignment)
                self._ran = failure is None
                self._began_ns = self._clock()
                self._began.set()
                self._newer.set()
                self._exit = failure or await self._end()
                self._ended_ns = self._clock()
                self._over.set()
                await trio.sleep_forever()
        # released: nobody asks for the output any more
        await self._runtime.remove(self.task_id)
        await self._files.leave(self.task_id)
        self._gate.drop()
        topfiles.drop(self._state.path, self.task_id)
        if self._stop_asked.is_set():
            self._state.drop_stop(self.task_id)
        self._watchdog.drop(self.task_id)

    async def _begin(self, assignment: Assignment) -> Exit | None:
        self._shares_image = assignment.shares_image
        with self._start:
            try:
                launch = topfiles.with_files(self._files.launch(assignment), assignment.files, self._state.path)
                if assignment.held:
                    launch = self._gate.before(launch)
                await self._files.bring(assignment)
                await self._runtime.start(launch, self._note, self._consent)
            except RuntimeFailure as failure:
                return Exit(125, str(failure))
            except Exception:
                log.exception("defect while starting %s", self.task_id)
                return Exit(125, DEFECT)
        if self._start.cancelled_caught:
            await self._runtime.remove(self.task_id)
            return Exit(_STOPPED, "stopped before it was started")
        return None

    def _note(self, text: str) -> None:
        """Keep a line about what the start waits for, until the server has it."""
        self._news.append((self._clock(), text))
        self._wake()

    def _wake(self) -> None:
        self._newer.set()
        self._newer = trio.Event()

    async def _consent(self, image: str) -> str:
        """Return the image that the task shall have, when it may start: not where another node may have it by now.

        Raises:
            RuntimeFailure: it may not start any more.
        """
        if image and self._shares_image:
            self._image = image
            self._wake()
            while self._shared_image is None:
                await self._newer.wait()
            image = self._shared_image
        while True:
            if self._watchdog.has_ended(self.task_id):
                raise RuntimeFailure(CUT_OFF)
            if not self._watchdog.is_overdue(self.task_id):
                return image
            await trio.sleep(AGAIN_S)

    async def _end(self) -> Exit:
        try:
            end = await self._runtime.wait(self.task_id)
            return Exit(end.code, CUT_OFF) if self._watchdog.has_ended(self.task_id) else end
        except Exception:
            log.exception("defect while waiting for %s", self.task_id)
            return Exit(125, DEFECT)

    def stop(self, grace_s: float) -> None:
        """End the task: TERM now, KILL after `grace_s`. Asked again, the earlier end counts."""
        deadline_s = boottime() + grace_s
        if self._over.is_set() or (self._deadline_s is not None and self._deadline_s <= deadline_s):
            return
        self._state.put_stop(self.task_id, deadline_s)
        self._deadline_s = deadline_s
        self._patience.deadline = trio.current_time() + grace_s
        self._stop_asked.set()
        if not self._began.is_set():
            self._start.cancel()

    async def _stop_when_asked(self) -> None:
        await self._stop_asked.wait()
        await self._began.wait()
        await self._signal_surely(signal.SIGTERM)
        assert self._deadline_s is not None
        self._patience.deadline = trio.current_time() + self._deadline_s - boottime()
        with self._patience:
            await self._over.wait()
        while not self._over.is_set():
            await self._signal_surely(signal.SIGKILL)
            with trio.move_on_after(KILL_AGAIN_S):
                await self._over.wait()

    async def _signal_surely(self, number: int) -> None:
        said = ""
        while not self._over.is_set():
            try:
                await self._runtime.signal(self.task_id, number)
                return
            except RuntimeAway as error:
                if said != str(error):
                    said = str(error)
                    log.warning("%s: %s; it is stopped when that answers again", self.task_id, said)
            with trio.move_on_after(AGAIN_S):
                await self._over.wait()

    def let_go(self) -> None:
        """Let the program begin that is held back; asked again, nothing."""
        self._let_go.set()

    async def _open_when_let_go(self, assignment: Assignment | None) -> None:
        await self._let_go.wait()
        if assignment is not None and assignment.overlay:
            with suppress(RuntimeAway):
                pid = await self._runtime.inside(self.task_id)
                if pid is not None:
                    await until_found(pid, [name for name, _ in assignment.hosts])
        self._gate.open()

    async def signal(self, number: int) -> None:
        """Send a signal to all processes of the task, once it runs."""
        await self._began.wait()
        await self._runtime.signal(self.task_id, number)

    def runs_by(self) -> Runtime:
        """Return what runs the task.

        Raises:
            PfsError: BUSY when it does not run, or not yet.
        """
        if not self._began.is_set() or not self._ran or self._over.is_set():
            raise PfsError(Kind.BUSY, f"the task {self.task_id} does not run")
        return self._runtime

    def release(self) -> None:
        """Forget the task, ending it if it runs: the server knows all that it wants of it."""
        self._life.cancel()

    async def report(self, channel: Channel, logs: Channel, offset: int) -> None:
        """Tell the server that the task runs, what it writes and how it ended; then release it.

        Returns early when the connection goes; the next one has its own report.

        Args:
            logs: where the output goes.
            offset: how much of the output the server has.
        """
        told = max(self._told - 1, 0)  # a server that was started anew knows the lines, and not how it stands
        while True:
            try:
                await self._tell_news(channel, told)
                told = self._told
                if self._ran:
                    running = {"time_ns": self._began_ns, "image": self._runtime.image(self.task_id)}
                    await self._tell(channel, "task.running", running)
                    offset = await ship(logs, self._runtime, self.task_id, offset, self._clock)
                await self._tell_end(channel, offset)
                self.release()
                return
            except ChannelClosed:
                return
            except PfsError as error:
                log.warning("the server refuses the report of %s: %s", self.task_id, error)
            except Exception:
                log.exception("defect while reporting %s", self.task_id)
            await trio.sleep(AGAIN_S)

    async def _tell_news(self, channel: Channel, told: int) -> None:
        """Tell what the start waits for, and ask what it has to know, until it is done.

        Args:
            told: so many lines need not be told.
        """
        while told < len(self._news) or not self._began.is_set():
            newer = self._newer
            for time_ns, text in self._news[told:]:
                await self._tell(channel, "task.news", {"text": text, "time_ns": time_ns})
                told += 1
                self._told = max(self._told, told)
            if self._image and self._shared_image is None:
                answer, _ = await channel.ask("task.image", {"task": self.task_id, "image": self._image})
                self._shared_image = str(answer["image"])
                self._wake()
            if not self._began.is_set() and newer is self._newer:
                await newer.wait()

    async def _tell_end(self, channel: Channel, offset: int) -> None:
        await self._over.wait()
        assert self._exit is not None
        end = {"code": self._exit.code, "reason": self._exit.reason, "time_ns": self._ended_ns, "offset": offset}
        await self._tell(channel, "task.ended", end)

    async def _tell(self, channel: Channel, op: str, args: dict[str, object]) -> None:
        await channel.ask(op, {"task": self.task_id, **args})
