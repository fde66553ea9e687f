"""The node daemon: keeps a connection to the server, and a `Task` for everything that was started here.

The connection comes and goes; tasks do not notice. Each time it comes, `node.hello` names all tasks that there are,
and the server answers what it has and wants of each.
"""

import contextlib
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from typing import Any

import trio

from jobd.attach import PREFIX
from jobd.identity import Claim
from jobd.node import gate, topfiles
from jobd.node.attachments import Attachments
from jobd.node.runtime import Files, Overlays, Runtime, RuntimeAway
from jobd.node.state import StateDir, boot_id, boottime
from jobd.node.task import Task
from jobd.node.telemetry import GpuWatch, Told
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
    encode_claim,
    encode_gpus,
    encode_readings,
)
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel, ChannelClosed, Handler

log = logging.getLogger(__name__)

BEAT_EVERY_S = 5.0
ANSWER_TIMEOUT_S = 30.0
GOODBYE_S = 1.0
ENGINE_TIMEOUT_S = 5.0
PAUSE_FIRST_S, PAUSE_MOST_S = 0.2, 15.0
SAY_AGAIN_S = 600.0

# what no new attempt can cure
FATAL = (Kind.UNAUTHENTICATED, Kind.DENIED, Kind.FORBIDDEN, Kind.INVALID)

Connect = Callable[[Handler], AbstractAsyncContextManager[Channel]]


class Daemon:
    """The daemon of one machine.

    Args:
        connect: connects to the server.
        connect_logs: connects to where output goes; None where that is the same.
        runtimes: what can run tasks here, by name.
        claim: who this node shall be.
        attrs: what the node tells of itself that stays.
        address: finds the node's own address, as the server sees it.
        gpus: keeps an eye on those of this machine.
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
        files: Files,
        *,
        claim: Claim,
        attrs: Mapping[str, Any],
        address: Callable[[], Awaitable[str]],
        watchdog: Watchdog,
        gpus: GpuWatch,
        overlays: Overlays | None = None,
        connect_logs: Connect | None = None,
        tell: Callable[[str], None],
        welcomed: Callable[[Welcome], None],
    ) -> None:
        self._connect = connect
        self._connect_logs = connect_logs
        self._runtimes = runtimes
        self._state = state
        self._files = files
        self._claim = claim
        self._name = claim.name or claim.node_id
        self._attrs = attrs
        self._address = address
        self._watchdog = watchdog
        self._gpus = gpus
        self._overlays = overlays
        self._tell = tell
        self._welcomed = welcomed
        self._tasks: dict[str, Task] = {}
        self._connection: _Connection | None = None
        self._complaint = ""
        self._complained_s = 0.0

    async def run(self) -> None:
        """Serve until cancelled; tasks go on after that.

        Raises:
            PfsError: the server will never take this node as it is started.
        """
        async with trio.open_nursery() as nursery:
            for runtime in self._runtimes.values():
                for task_id in await _tasks_of(runtime):
                    self._take_up(task_id, runtime, None, nursery)
            await self._files.take_up(list(self._tasks))
            self._watchdog.keep_only(self._tasks)
            gate.keep_only(self._state.path, self._tasks)
            topfiles.keep_only(self._state.path, self._tasks)
            nursery.start_soon(self._gpus.run)
            failure = await self._stay_connected(nursery)
            nursery.cancel_scope.cancel()
        raise failure

    async def leave(self) -> None:
        """Tell the server that this daemon is about to end, where it is connected."""
        if self._connection is not None:
            await self._connection.say_goodbye()

    def _take_up(self, task_id: str, runtime: Runtime, assignment: Assignment | None, nursery: trio.Nursery) -> Task:
        task = self._tasks[task_id] = Task(task_id, runtime, self._state, self._watchdog, files=self._files)

        async def live() -> None:
            try:
                await task.live(assignment)
            except Exception:
                log.exception("defect while cleaning up after %s", task_id)
            del self._tasks[task_id]

        nursery.start_soon(live)
        return task

    async def _stay_connected(self, nursery: trio.Nursery) -> PfsError:
        pause_s = PAUSE_FIRST_S
        while True:
            connection = self._connection = _Connection(self, nursery)
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
        standing = {"address": await self._address(), "swarm": swarm, "swarmManager": is_manager}
        return {**standing, "mounts": self._files.mark is None}

    def _troubles(self) -> dict[str, str]:
        """Return why what can run tasks here takes none now, by its name."""
        return {name: runtime.trouble for name, runtime in self._runtimes.items() if runtime.trouble}

    def _times_renewed(self) -> int:
        return 0 if self._overlays is None else self._overlays.times_renewed

    def _say(self, text: str) -> None:
        """Say something that may be found again and again once, and then rarely."""
        now_s = trio.current_time()
        if text != self._complaint or now_s - self._complained_s >= SAY_AGAIN_S:
            self._complaint, self._complained_s = text, now_s
            self._tell(text)


class _Connection:
    """One connection to the server, from `node.hello` to its loss."""

    def __init__(self, daemon: Daemon, lives: trio.Nursery) -> None:
        self._daemon = daemon
        self._lives = lives
        self._ready = trio.Event()
        self._channel: Channel
        self._logs: Channel
        self._reports: trio.Nursery
        self._attachments: Attachments

    @property
    def was_welcomed(self) -> bool:
        """Whether the server took the node."""
        return self._ready.is_set()

    async def run(self) -> None:
        """Connect, and report until the connection is lost."""
        daemon = self._daemon
        async with AsyncExitStack() as stack:
            # what keeps output from its way keeps new tasks away
            logs = None
            if daemon._connect_logs is not None:
                logs = await stack.enter_async_context(daemon._connect_logs(_answer_nothing))
            channel = await stack.enter_async_context(daemon._connect(self._handle))
            welcome = await self._hello(channel)
            if logs is not None:
                await logs.ask("node.logs", {"token": daemon._claim.token})
            async with trio.open_nursery() as nursery:
                self._channel, self._logs, self._reports = channel, logs or channel, nursery
                self._attachments = Attachments(channel, nursery, lambda task: self._task({"task": task}).runs_by())
                nursery.start_soon(_end_together, self._logs, channel)
                nursery.start_soon(self._beat, channel)
                nursery.start_soon(_tell_gpus, channel, self._daemon._gpus, self._told_gpus)
                for task_id, standing in welcome.tasks.items():
                    task = self._daemon._tasks.get(task_id)
                    if task is None or standing.wanted is Wanted.FORGET:
                        continue
                    nursery.start_soon(task.report, channel, self._logs, standing.offset)
                self._ready.set()
                await channel.closed.wait()
                nursery.cancel_scope.cancel()

    async def say_goodbye(self) -> None:
        """Tell the server that the daemon ends, if that can still be told."""
        if not self.was_welcomed:
            return
        with trio.move_on_after(GOODBYE_S), contextlib.suppress(ChannelClosed, PfsError):
            await self._channel.ask("node.bye", {})

    async def _hello(self, channel: Channel) -> Welcome:
        daemon = self._daemon
        self._told_gpus = daemon._gpus.told.gpus
        self._renewed, self._standing = daemon._times_renewed(), await daemon._standing()
        args = {
            "claim": encode_claim(daemon._claim),
            "attrs": {**daemon._attrs, **self._standing},
            "troubles": daemon._troubles(),
            "runtimes": list(daemon._runtimes),
            "gpus": encode_gpus(self._told_gpus),
            "boot_id": boot_id(),
            "tasks": list(daemon._tasks),
        }
        with trio.move_on_after(ANSWER_TIMEOUT_S):
            asked_s = boottime()
            answer = await _hello_answered(channel, args)
            welcome = decode_welcome(answer)
            if daemon._files.mark not in (None, welcome.data_root_id.strip()):
                text = f"the data root of this node is not the tree of datacenter {welcome.datacenter}; see --data-root"
                raise PfsError(Kind.INVALID, text)
            for task_id, standing in welcome.tasks.items():
                if standing.wanted is Wanted.FORGET and task_id in daemon._tasks:
                    daemon._tasks[task_id].release()  # before anything may start again that was overdue
            daemon._watchdog.contact(asked_s)
            daemon._complaint = ""
            daemon._name = welcome.name
            daemon._claim = replace(daemon._claim, again=True)
            daemon._welcomed(welcome)
            return welcome
        raise PfsError(Kind.TIMED_OUT, f"the server did not answer within {ANSWER_TIMEOUT_S:.0f} s")

    async def _beat(self, channel: Channel) -> None:
        """Tell the server that the node is there, and that it is another one; a server that does not answer is gone."""
        daemon = self._daemon
        while True:
            await trio.sleep(BEAT_EVERY_S)
            try:
                with trio.move_on_after(ANSWER_TIMEOUT_S) as silence:
                    asked_s = boottime()
                    await channel.ask("node.beat", {"troubles": daemon._troubles()})
                    daemon._watchdog.contact(asked_s)
            except ChannelClosed:
                return
            except PfsError as error:
                log.warning("the server refuses a heartbeat: %s", error)
            if silence.cancelled_caught or await self._is_another():
                await channel.close()
                return

    async def _is_another(self) -> bool:
        """Tell whether the node has another standing than the server was told, since its engine came back."""
        if self._renewed == self._daemon._times_renewed():
            return False
        self._renewed = self._daemon._times_renewed()
        return await self._daemon._standing() != self._standing

    async def _handle(self, op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        await self._ready.wait()
        try:
            if op.startswith(PREFIX):
                await self._attachments.handle(op, args, body)
                return {}, b""
            match op:
                case "task.start":
                    self._start(decode_assignment(args["assignment"]))
                case "task.stop":
                    self._task(args).stop(float(args["grace_s"]))
                case "task.go":
                    self._task(args).let_go()
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
        if refusal := daemon._gpus.refusal(assignment.gpus):
            raise PfsError(Kind.BUSY, refusal)
        if assignment.watchdog_s is not None:
            daemon._watchdog.watch(assignment.task_id, assignment.watchdog_s, runtime.reach(assignment.task_id))
        task = daemon._take_up(assignment.task_id, runtime, assignment, self._lives)
        self._reports.start_soon(task.report, self._channel, self._logs, 0)


async def _hello_answered(channel: Channel, args: Json) -> Json:
    try:
        return (await channel.ask("node.hello", args))[0]
    except PfsError as error:
        if error.kind is not Kind.UNSUPPORTED:
            raise
        text = "this key is a user's token, and no node's key; an administrator makes one with: jobd node-key USER"
        raise PfsError(Kind.UNAUTHENTICATED, text) from None


async def _answer_nothing(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
    raise PfsError(Kind.UNSUPPORTED, f"nothing is asked of a node here, and {op!r} is")


async def _end_together(logs: Channel, channel: Channel) -> None:
    await logs.closed.wait()
    await channel.close()


async def _tasks_of(runtime: Runtime) -> list[str]:
    while True:
        try:
            return list(await runtime.tasks())
        except RuntimeAway as error:
            log.warning("%s", error)
        await trio.sleep(PAUSE_FIRST_S)


async def _tell_gpus(channel: Channel, gpus: GpuWatch, at_first: tuple[NodeGpu, ...]) -> None:
    """Tell the server of the GPUs, now and whenever they changed: it shows what they do, and uses what is well."""
    told = Told(at_first)
    while True:
        news, now = gpus.news, gpus.told
        if now != told:
            try:
                args = {"gpus": encode_gpus(now.gpus), "readings": encode_readings(now.readings)}
                await channel.ask("node.gpus", args)
            except ChannelClosed:
                return
            except PfsError as error:
                log.warning("the server refuses what is told of the GPUs: %s", error)
            told = now
        await news.wait()
