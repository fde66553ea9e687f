"""The node daemon: keeps a connection to the server, and a `Task` for everything that was started here.

The connection comes and goes; tasks do not notice. Each time it comes, `node.hello` names all tasks that there are,
and the server answers what it has and wants of each.
"""

import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import trio

from jobd.node.dataroot import DataRoot
from jobd.node.runtime import Launch, Overlays, Runtime, RuntimeAway, RuntimeFailure
from jobd.node.state import StateDir, boot_id, boottime
from jobd.node.task import Task
from jobd.node.watchdog import Watchdog
from jobd.wire import (
    Assignment,
    Json,
    NodeGpu,
    Wanted,
    Welcome,
    check_network,
    decode_assignment,
    decode_welcome,
    encode_gpus,
)
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel, ChannelClosed, Handler

log = logging.getLogger(__name__)

BEAT_EVERY_S = 5.0
ANSWER_TIMEOUT_S = 30.0
ENGINE_TIMEOUT_S = 5.0
PAUSE_FIRST_S, PAUSE_MOST_S = 0.2, 15.0

# what no new attempt can cure
FATAL = (Kind.UNAUTHENTICATED, Kind.DENIED, Kind.FORBIDDEN, Kind.INVALID)

Connect = Callable[[Handler], AbstractAsyncContextManager[Channel]]


class Daemon:
    """The daemon of one machine.

    Args:
        connect: connects to the server.
        runtimes: what can run tasks here, by name.
        attrs: what the node tells of itself that stays.
        address: finds the node's own address, as the server sees it.
        gpus: those of this machine.
        watchdog: is told of contact with the server, and which tasks may not be without it.
        overlays: makes networks across machines, where something here can.
        tell: shows a line to whoever watches the daemon, when the connection comes or goes.
        welcomed: told what the server said to `node.hello`.
    """

    def __init__(
        self,
        connect: Connect,
        runtimes: Mapping[str, Runtime],
        state: StateDir,
        data_root: DataRoot,
        *,
        name: str,
        attrs: Mapping[str, Any],
        address: Callable[[], Awaitable[str]],
        watchdog: Watchdog,
        gpus: Sequence[NodeGpu] = (),
        overlays: Overlays | None = None,
        tell: Callable[[str], None],
        welcomed: Callable[[Welcome], None],
    ) -> None:
        self._connect = connect
        self._runtimes = runtimes
        self._state = state
        self._data_root = data_root
        self._name = name
        self._attrs = attrs
        self._address = address
        self._watchdog = watchdog
        self._gpus = gpus
        self._overlays = overlays
        self._tell = tell
        self._welcomed = welcomed
        self._tasks: dict[str, Task] = {}
        self._complaint = ""

    async def run(self) -> None:
        """Serve until cancelled; tasks go on after that.

        Raises:
            PfsError: the server will never take this node as it is started.
        """
        async with trio.open_nursery() as nursery:
            for runtime in self._runtimes.values():
                for task_id in await _tasks_of(runtime):
                    self._take_up(task_id, runtime, None, nursery)
            failure = await self._stay_connected(nursery)
            nursery.cancel_scope.cancel()
        raise failure

    def _take_up(self, task_id: str, runtime: Runtime, launch: Launch | None, nursery: trio.Nursery) -> Task:
        task = self._tasks[task_id] = Task(task_id, runtime, self._state, self._watchdog)

        async def live() -> None:
            try:
                await task.live(launch)
            except Exception:
                log.exception("defect while cleaning up after %s", task_id)
            del self._tasks[task_id]

        nursery.start_soon(live)
        return task

    async def _stay_connected(self, nursery: trio.Nursery) -> PfsError:
        pause_s = PAUSE_FIRST_S
        while True:
            connection = _Connection(self, nursery)
            try:
                await connection.run()
                self._say("the server is gone; trying again")
            except PfsError as error:
                if error.kind in FATAL:
                    return error
                self._say(f"{error}; trying again")
            if connection.was_welcomed:
                pause_s = PAUSE_FIRST_S
            await trio.sleep(pause_s * random.uniform(0.5, 1.0))
            pause_s = min(pause_s * 2, PAUSE_MOST_S)

    async def _standing(self) -> Json:
        """Return what the node tells of itself that may be another each time it connects."""
        swarm, is_manager = "", False
        if self._overlays is not None:
            try:
                with trio.move_on_after(ENGINE_TIMEOUT_S):
                    swarm, is_manager = await self._overlays.swarm()
            except RuntimeAway as error:
                log.warning("%s", error)
        return {"address": await self._address(), "swarm": swarm, "swarmManager": is_manager}

    def _say(self, text: str) -> None:
        """Say something that may be found again and again once."""
        if text != self._complaint:
            self._complaint = text
            self._tell(text)


class _Connection:
    """One connection to the server, from `node.hello` to its loss."""

    def __init__(self, daemon: Daemon, lives: trio.Nursery) -> None:
        self._daemon = daemon
        self._lives = lives
        self._ready = trio.Event()
        self._channel: Channel
        self._reports: trio.Nursery

    @property
    def was_welcomed(self) -> bool:
        """Whether the server took the node."""
        return self._ready.is_set()

    async def run(self) -> None:
        """Connect, and report until the connection is lost."""
        async with self._daemon._connect(self._handle) as channel:
            welcome = await self._hello(channel)
            async with trio.open_nursery() as nursery:
                self._channel, self._reports = channel, nursery
                nursery.start_soon(_beat, channel, self._daemon._watchdog)
                for task_id, standing in welcome.tasks.items():
                    task = self._daemon._tasks.get(task_id)
                    if task is None:
                        continue
                    if standing.wanted is Wanted.FORGET:
                        task.release()
                        continue
                    if standing.wanted is Wanted.STOP:
                        task.stop(standing.grace_s)
                    nursery.start_soon(task.report, channel, standing.offset)
                self._ready.set()
                await channel.closed.wait()
                nursery.cancel_scope.cancel()

    async def _hello(self, channel: Channel) -> Welcome:
        daemon = self._daemon
        args = {
            "name": daemon._name,
            "attrs": {**daemon._attrs, **await daemon._standing()},
            "runtimes": list(daemon._runtimes),
            "gpus": encode_gpus(daemon._gpus),
            "boot_id": boot_id(),
            "tasks": list(daemon._tasks),
        }
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            asked_s = boottime()
            answer, _ = await channel.ask("node.hello", args)
            daemon._watchdog.contact(asked_s)
            welcome = decode_welcome(answer)
            if welcome.data_root_id.strip() != daemon._data_root.mark:
                raise PfsError(
                    Kind.INVALID,
                    f"{daemon._data_root.path} is not the tree of datacenter {welcome.datacenter}; see --data-root",
                )
            daemon._complaint = ""
            daemon._welcomed(welcome)
            return welcome
        raise PfsError(Kind.TIMED_OUT, f"the server did not answer within {ANSWER_TIMEOUT_S:.0f} s")

    async def _handle(self, op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        await self._ready.wait()
        try:
            match op:
                case "task.start":
                    self._start(decode_assignment(args["assignment"]))
                case "task.stop":
                    self._task(args).stop(float(args["grace_s"]))
                case "task.signal":
                    await self._task(args).signal(int(args["signal"]))
                case "task.forget":
                    self._task(args).release()
                case "network.make":
                    await self._overlays().make_network(check_network(str(args["network"])))
                case "network.drop":
                    await self._overlays().drop_network(check_network(str(args["network"])))
                case _:
                    raise PfsError(Kind.UNSUPPORTED, f"a node does not know {op!r}")
        except (KeyError, TypeError, ValueError) as error:
            raise PfsError(Kind.INVALID, f"{op}: an argument is missing or wrong: {error}") from None
        except RuntimeAway as error:
            raise PfsError(Kind.IO, str(error)) from None
        return {}, b""

    def _overlays(self) -> Overlays:
        if self._daemon._overlays is None:
            raise PfsError(Kind.UNSUPPORTED, f"the node {self._daemon._name} makes no networks")
        return self._daemon._overlays

    def _task(self, args: Json) -> Task:
        task_id = str(args["task"])
        try:
            return self._daemon._tasks[task_id]
        except KeyError:
            raise PfsError(Kind.NOT_FOUND, f"the node has no task {task_id}") from None

    def _start(self, assignment: Assignment) -> None:
        """Start a task, if there is none of that name; how that went is told by its report."""
        daemon = self._daemon
        if assignment.task_id in daemon._tasks:
            return
        runtime = daemon._runtimes.get(assignment.runtime)
        if runtime is None:
            raise PfsError(Kind.UNSUPPORTED, f"the node {daemon._name} has no {assignment.runtime} runtime")
        try:
            launch = daemon._data_root.launch(assignment)
        except RuntimeFailure as failure:
            raise PfsError(Kind.INVALID, str(failure)) from None
        if assignment.watchdog_s is not None:
            daemon._watchdog.watch(assignment.task_id, assignment.watchdog_s, runtime.reach(assignment.task_id))
        task = daemon._take_up(assignment.task_id, runtime, launch, self._lives)
        self._reports.start_soon(task.report, self._channel, 0)


async def _tasks_of(runtime: Runtime) -> list[str]:
    while True:
        try:
            return list(await runtime.tasks())
        except RuntimeAway as error:
            log.warning("%s", error)
        await trio.sleep(PAUSE_FIRST_S)


async def _beat(channel: Channel, watchdog: Watchdog) -> None:
    """Tell the server that the node is there; a server that does not answer is gone."""
    while True:
        await trio.sleep(BEAT_EVERY_S)
        try:
            with trio.move_on_after(ANSWER_TIMEOUT_S) as silence:
                asked_s = boottime()
                await channel.ask("node.beat", {})
                watchdog.contact(asked_s)
        except ChannelClosed:
            return
        except PfsError as error:
            log.warning("the server refuses a heartbeat: %s", error)
        if silence.cancelled_caught:
            await channel.close()
            return
