"""Simulated machines: the daemon on each, the tasks that it runs, and the connection to whatever server there is.

They do what `jobd.node` does, in the same words (`jobd.wire`), through the server's own `NodeSessions`: a connection
keeps the order of what is sent, and may break at any moment; then questions and answers that are on their way are lost,
and one end may know long before the other. A machine may restart with or without its tasks, or be away for a while.
"""

from collections.abc import Awaitable, Callable
from math import inf
from random import Random
from typing import Any, Protocol

import trio

from jobd.identity import Claim
from jobd.life.life import Life
from jobd.wire import (
    CUT_OFF,
    Assignment,
    NodeGpu,
    Wanted,
    decode_assignment,
    decode_welcome,
    encode_claim,
    encode_gpus,
    parse_task_id,
)
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import ChannelClosed
from tests.jobd.simulation.clock import Signal, sleep, until

Json = dict[str, Any]
BEAT_EVERY_S = 5.0
KILLED, STOPPED = 137, 143


class Gone(Exception):
    """There is no server, or it was killed before it answered."""


class Server(Protocol):
    """A server that runs."""

    def begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done as long as the server lives."""

    async def call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Have something done by the server; raises `Gone` where it dies meanwhile."""

    def conversation(self, channel: Callable[[], Any]) -> Any:
        """Talk with a node, as `NodeSessions.conversation`."""

    def knows(self, job_id: int) -> Life | None:
        """Return how a job stands, by what the server knows; None where it knows nothing of it."""


class Surroundings(Protocol):
    """What machines see of the world, and tell it."""

    dice: Random
    trouble: bool

    @property
    def server(self) -> Server | None: ...

    def now_ns(self) -> int: ...

    def asked(self, server: Server, task_id: str) -> None: ...

    def welcomed(self, machine: "Machine") -> None: ...

    def note(self, *words: object) -> None: ...

    def began(self, machine: "Machine", task: "Task") -> None: ...

    def over(self, task: "Task") -> None: ...


class Task:
    """One process on a machine."""

    def __init__(self, assignment: Assignment, machine: "Machine") -> None:
        self.assignment = assignment
        self.id = assignment.task_id
        self.job_id, self.attempt, self.group, self.process = parse_task_id(assignment.task_id)
        self.machine = machine
        self.life = trio.CancelScope()
        self.began = Signal()
        self.ended = Signal()
        self.stop_asked = Signal()
        self.let_go = Signal()
        self.grace_s = 0.0
        self.ran = True
        self.code, self.reason = 0, ""
        self.began_ns = self.ended_ns = 0

    @property
    def alive(self) -> bool:
        """Whether it has its GPUs and its place."""
        return not self.ended.is_set()

    async def live(self) -> None:
        """Start, work, and end."""
        world, dice = self.machine.world, self.machine.world.dice
        with self.life:
            await self._until_stopped(dice.random() * 2.0)
            self.began_ns = world.now_ns() + self.machine.skew_ns
            if self.stop_asked.is_set():
                return self._end(STOPPED, "stopped before it was started", ran=False)
            if world.trouble and dice.random() < 0.05:
                return self._end(125, "no such image: foo", ran=False)
            self.began.set()
            if self.assignment.held:
                await until(inf, self.let_go, self.stop_asked)
            word = self.assignment.argv[-1]
            await self._until_stopped({"serve": 1e9, "long": 1e9}.get(word, dice.random() * 10.0))
            if not self.stop_asked.is_set():
                failed = {"fail": 0.7, "serve": 1.0}.get(word, 0.05 if world.trouble else 0.0)
                return self._end(1 if dice.random() < failed else 0)
            deaf = word == "deaf"
            await sleep(self.grace_s if deaf else min(self.grace_s, dice.random() * 3.0))
            self._end(KILLED if deaf else STOPPED, "killed by SIGKILL" if deaf else "killed by SIGTERM")

    async def _until_stopped(self, seconds: float) -> None:
        await until(trio.current_time() + seconds, self.stop_asked)

    def _end(self, code: int, reason: str = "", *, ran: bool = True) -> None:
        self.code, self.reason, self.ran = code, reason, ran
        self.ended_ns = self.machine.world.now_ns() + self.machine.skew_ns
        self.ended.set()
        self.began.set()
        self.machine.world.over(self)

    def stop(self, grace_s: float) -> None:
        """TERM, grace, KILL."""
        if not self.stop_asked.is_set():
            self.grace_s = grace_s
            self.stop_asked.set()

    def vanish(self) -> None:
        """End without a word."""
        self.life.cancel()
        if not self.ended.is_set():
            self.ended.set()
            self.machine.world.over(self)

    async def guard(self) -> None:
        """End it when its machine had no contact with the server for too long."""
        most_s = self.assignment.watchdog_s
        assert most_s is not None
        while self.alive and not self.life.cancel_called:
            at = self.machine.heard_at + most_s
            if trio.current_time() >= at:
                self.life.cancel()
                return self._end(KILLED, CUT_OFF)
            await until(at, self.ended)


class Machine:
    """A machine with a node daemon.

    Args:
        gpus: UUID and model of each.

    Attributes:
        away_until: it does not connect before that.
        heard_at: when the server answered last.
        comes: it is about to connect.
    """

    def __init__(self, world: Surroundings, name: str, gpus: tuple[tuple[str, str], ...], places: int) -> None:
        self.world = world
        self.name = name
        self.gpus = gpus
        self.places = places
        self.lost_gpus: set[str] = set()
        self.gpu_news = Signal()
        self.boot = 1
        # how far its clock is ahead of the server's
        self.skew_ns = int(world.dice.choice((0, 0, -30, 30)) * 1e9)
        self.tasks: dict[str, Task] = {}
        self.heard_at = 0.0
        self.connection: Connection | None = None
        self.away_until = 0.0
        self.comes = Signal()
        self._nursery: trio.Nursery

    @property
    def attrs(self) -> Json:
        """What it tells of itself."""
        return {
            "cpuCount": 4,
            "cpuMem": "8000000 kB",
            "address": f"10.0.0.{self.name[1:]}",
            "swarm": "swarm",
            "swarmManager": self.name == "n0",
            "maxProcesses": self.places,
            "offerCpus": 4.0,
            "offerMemory": 8_000_000 * 1024,
        }

    def told_gpus(self) -> list[Json]:
        """Return how its GPUs are."""
        found = [
            NodeGpu(uuid, i, model, 1 << 33, ill="it is lost" if uuid in self.lost_gpus else "")
            for i, (uuid, model) in enumerate(self.gpus)
        ]
        return encode_gpus(found)

    def running(self) -> list[Task]:
        """Return the tasks that have a process, or are about to have one."""
        return [task for task in self.tasks.values() if task.alive]

    async def live(self) -> None:
        """Connect again and again."""
        async with trio.open_nursery() as self._nursery:
            while True:
                await sleep(0.2 + self.world.dice.random())
                if self.away_until > trio.current_time() or self.world.server is None:
                    continue
                self.connection = Connection(self, self.world.server)
                comes, self.comes = self.comes, Signal()
                comes.set()
                try:
                    await self.connection.run()
                except (ChannelClosed, Gone):
                    pass
                except PfsError as error:
                    self.world.note(f"{self.name} is refused: {error}")
                self.connection.break_off(0.0)
                self.connection = None

    # ---- what the server asks

    async def handle(self, op: str, args: Json) -> None:
        """Do what the server asks of the daemon."""
        match op:
            case "task.start":
                self._start(decode_assignment(args["assignment"]))
            case "task.stop":
                self._task(args).stop(float(args["grace_s"]))
            case "task.go":
                self._task(args).let_go.set()
            case "task.signal":
                self._task(args)
            case "task.forget":
                self.remove(self._task(args))
            case "network.make" | "network.drop":
                pass
            case _:
                raise PfsError(Kind.UNSUPPORTED, f"a node does not know {op!r}")

    def _task(self, args: Json) -> Task:
        try:
            return self.tasks[str(args["task"])]
        except KeyError:
            raise PfsError(Kind.NOT_FOUND, "the node has no such task") from None

    def _start(self, assignment: Assignment) -> None:
        if assignment.task_id in self.tasks:
            return
        if not self.lost_gpus.isdisjoint(assignment.gpus):
            raise PfsError(Kind.BUSY, "a GPU of the node is lost")
        if self.world.trouble and self.world.dice.random() < 0.03:
            raise PfsError(Kind.INVALID, "the node cannot make the folder")
        task = self.tasks[assignment.task_id] = Task(assignment, self)
        self.world.began(self, task)
        self._nursery.start_soon(task.live)
        if assignment.watchdog_s is not None:
            self._nursery.start_soon(task.guard)
        if self.connection is not None:
            self.connection.report(task)

    def remove(self, task: Task) -> None:
        """Forget a task, ending it."""
        self.tasks.pop(task.id, None)
        task.vanish()

    # ---- what goes wrong

    def lose_connection(self, unnoticed_s: float) -> None:
        """Break the connection; the server hears of it later."""
        if self.connection is not None:
            self.connection.break_off(unnoticed_s)

    def restart_daemon(self, away_s: float) -> None:
        """Kill the daemon; tasks go on."""
        self.away_until = trio.current_time() + away_s
        self.lose_connection(0.0)

    def be_away(self, away_s: float, unnoticed_s: float) -> None:
        """Let nothing through for a while; tasks go on."""
        self.away_until = trio.current_time() + away_s
        self.lose_connection(unnoticed_s)

    def reboot(self, away_s: float, unnoticed_s: float) -> None:
        """Pull the plug; nothing of the tasks is left afterwards."""
        self.boot += 1
        for task in list(self.tasks.values()):
            self.remove(task)
        self.be_away(away_s, unnoticed_s)

    def lose_gpu(self, away_s: float) -> None:
        """Have a GPU fall off the bus, and be there again."""
        uuid = self.world.dice.choice(self.gpus)[0]
        self._nursery.start_soon(self._lose_gpu, uuid, away_s)

    async def _lose_gpu(self, uuid: str, away_s: float) -> None:
        self.lost_gpus.add(uuid)
        self._gpus_changed()
        await sleep(away_s)
        self.lost_gpus.discard(uuid)
        self._gpus_changed()

    def _gpus_changed(self) -> None:
        news, self.gpu_news = self.gpu_news, Signal()
        news.set()

    def lose_task(self) -> None:
        """Have somebody remove a container, and then the daemon restart."""
        if self.tasks:
            self.remove(self.world.dice.choice(list(self.tasks.values())))
            self.restart_daemon(1.0)


class Connection:
    """One connection between a machine and a server; also the channel that the server's session asks through.

    Attributes:
        closed: the machine knows that it is gone.
        closed_there: the server knows.
    """

    def __init__(self, machine: Machine, server: Server) -> None:
        self.machine = machine
        self.world = machine.world
        self.closed = Signal()
        self.closed_there = Signal()
        self._server = server
        self._handle: Callable[[str, Json, bytes], Awaitable[tuple[Json, bytes]]]
        self._served, self._ready = Signal(), Signal()
        self._last_at = {True: 0.0, False: 0.0}
        self._reports: trio.Nursery | None = None

    async def run(self) -> None:
        """Say hello, and report until the connection is gone."""
        self._server.begin(self._serve)
        await self._until(self._served, self.closed)
        machine = self.machine
        hello = {
            "claim": encode_claim(Claim(machine.name, token=machine.name)),
            "attrs": machine.attrs,
            "runtimes": ["docker", "sandbox"],
            "gpus": machine.told_gpus(),
            "boot_id": f"boot-{machine.boot}",
            "tasks": list(machine.tasks),
        }
        answer, _ = await self.tell("node.hello", hello)
        welcome = decode_welcome(answer)
        async with trio.open_nursery() as nursery:
            for task_id, standing in welcome.tasks.items():
                task = machine.tasks.get(task_id)
                if task is None:
                    continue
                if standing.wanted is Wanted.FORGET:
                    machine.remove(task)
            self.world.welcomed(machine)
            self._reports = nursery
            for task in list(machine.tasks.values()):
                self.report(task)
            self._ready.set()
            nursery.start_soon(self._tell_gpus)
            nursery.start_soon(self._beat)
            await self.closed.wait()
            nursery.cancel_scope.cancel()

    async def _serve(self) -> None:
        async with self._server.conversation(lambda: self.channel) as self._handle:
            self._served.set()
            await self.closed_there.wait()

    @property
    def channel(self) -> "ServersEnd":
        """The server's end."""
        return ServersEnd(self)

    def break_off(self, unnoticed_s: float) -> None:
        """Break; the server notices later."""
        if self.closed.is_set():
            return
        self.closed.set()
        if unnoticed_s > 0:
            self.machine._nursery.start_soon(self._notice, unnoticed_s)
        else:
            self.closed_there.set()

    async def _notice(self, after_s: float) -> None:
        await sleep(after_s)
        self.closed_there.set()

    # ---- the machine asks

    async def tell(self, op: str, args: Json, body: bytes = b"") -> tuple[Json, bytes]:
        """Ask the server."""
        await self.travel(self.closed, up=True)
        if self.closed_there.is_set():
            raise ChannelClosed
        answer: tuple[Json, bytes] = await self._server.call(lambda: self._handle(op, args, body))
        await self.travel(self.closed, up=False)
        self.machine.heard_at = trio.current_time()
        return answer

    def report(self, task: Task) -> None:
        """Tell the server of a task until that is done or the connection gone."""
        if self._reports is not None and not self.closed.is_set():
            self._reports.start_soon(self._report, task)

    async def _tell_gpus(self) -> None:
        """Tell the server how the GPUs are, now and whenever they changed; the last that it hears is true."""
        while True:
            news = self.machine.gpu_news
            try:
                await self._say("node.gpus", {"gpus": self.machine.told_gpus(), "readings": {}})
            except (ChannelClosed, Gone):
                return self.break_off(0.0)
            except PfsError as error:
                self.world.note(f"{self.machine.name}: what is told of its GPUs is refused: {error}")
            await news.wait()

    async def _report(self, task: Task) -> None:
        await task.began.wait()
        while task.id in self.machine.tasks:
            try:
                if task.ran:
                    await self._say("task.running", {"task": task.id, "time_ns": task.began_ns, "image": ""})
                await task.ended.wait()
                end = {"code": task.code, "reason": task.reason, "time_ns": task.ended_ns, "offset": 0}
                await self._say("task.ended", {"task": task.id, **end})
                self.machine.remove(task)
                return
            except (ChannelClosed, Gone):
                self.break_off(0.0)
                return
            except PfsError as error:
                self.world.note(f"{self.machine.name}: the report of {task.id} is refused: {error}")
            await sleep(1.0)

    async def _say(self, op: str, args: Json) -> None:
        await self.tell(op, args)
        if self.world.trouble and self.world.dice.random() < 0.1:
            await self.tell(op, args)

    async def _beat(self) -> None:
        """Tell that the machine is there; that takes no time here, since nothing waits for it."""
        while True:
            await sleep(BEAT_EVERY_S)
            if not self.closed_there.is_set():
                await self._handle("node.beat", {}, b"")
                self.machine.heard_at = trio.current_time()

    # ---- the way

    async def travel(self, closed: Signal, *, up: bool) -> None:
        """Wait as long as a message takes, which overtakes none before it."""
        dice = self.world.dice
        took_s = dice.random() * (0.5 if self.world.trouble and dice.random() < 0.1 else 0.005)
        at = self._last_at[up] = max(self._last_at[up] + 1e-6, trio.current_time() + took_s)
        await until(at, closed)
        if closed.is_set():
            raise ChannelClosed

    async def _until(self, event: Signal, closed: Signal) -> None:
        """Wait for an event, or for the end of the connection."""
        if event.is_set():
            return
        await until(inf, event, closed)
        if not event.is_set():
            raise ChannelClosed

    async def asked(self, op: str, args: Json) -> None:
        """Let the machine do what the server asks."""
        if op == "task.start":
            self.world.asked(self._server, decode_assignment(args["assignment"]).task_id)
        await self.travel(self.closed_there, up=False)
        if self.closed.is_set():
            await self.closed_there.wait()
            raise ChannelClosed
        await self._until(self._ready, self.closed_there)
        failure: PfsError | None = None
        try:
            await self.machine.handle(op, args)
        except PfsError as error:
            failure = error
        await self.travel(self.closed_there, up=True)
        if self.closed.is_set():
            await self.closed_there.wait()
            raise ChannelClosed
        if failure is not None:
            raise failure


class ServersEnd:
    """What the server's session asks a machine through."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    @property
    def closed(self) -> Signal:
        """Set when the server knows that the connection is gone."""
        return self._connection.closed_there

    async def ask(self, op: str, args: Json, body: bytes = b"", **_: Any) -> tuple[Json, bytes]:
        """Ask the machine."""
        await self._connection.asked(op, args)
        return {}, b""
