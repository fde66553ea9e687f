"""A simulated world: the real engine and scheduler, on a disk and machines that are simulated, in time that is not.

`simulate(seed)` plays the story of a seed: some trouble, and then peace, in which everything has to come to its end.
Nothing but the seed decides what happens: the clock jumps to the next moment at which something is due, and the tasks
that can go on at one moment are taken in an order that is drawn from the seed.
"""

import gc
import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from random import Random
from typing import Any
from unittest.mock import patch

import trio
from trio._core import _run as trio_run

from jobd.engine import submitting
from jobd.engine.assign import Place
from jobd.engine.engine import Engine
from jobd.engine.sessions import Datacenter, NodeSessions
from jobd.job import Job
from jobd.life.life import Life, State
from jobd.spec.spec import parse_spec
from jobd.store.tables import NodeRow
from jobd.wire import parse_task_id
from pfs.accounts.store import Identity, KeyKind
from pfs.errors import PfsError
from pfs.perm import Subject
from tests.jobd.simulation.clock import Leaps, Signal, sleep, until
from tests.jobd.simulation.disk import CLUSTER, Dead, Disk, Door, Line, Logs, Workshop
from tests.jobd.simulation.machines import Gone, Machine, Server, Task
from tests.jobd.simulation.people import People
from tests.jobd.simulation.story import TROUBLE_S, Story, draw
from tests.jobd.simulation.watch import Watch

EPOCH_NS = 1_700_000_000 * 1_000_000_000
PEACE_S, ANSWER_S = 300.0, 120.0
# how long a machine that may connect takes for it, and how long the last job
BACK_S, QUIET_S = 5.0, 60.0


@dataclass(frozen=True)
class Outcome:
    """What came of a story.

    Attributes:
        problem: what must not be; None where all was well.
        happened: when, and what, word by word.
        jobs: all jobs, as they ended.
    """

    seed: int
    story: Story
    problem: str | None
    happened: tuple[tuple[float, tuple[object, ...]], ...]
    jobs: tuple[Job, ...]

    @property
    def trace(self) -> list[str]:
        """What happened, line by line."""
        return [f"{time_s:9.3f} {' '.join(map(str, words))}" for time_s, words in self.happened]


class LiveServer:
    """One life of the server."""

    def __init__(self, world: "World", line: Line, nursery: trio.Nursery) -> None:
        self._world = world
        self.line = line
        self.nursery = nursery
        self.killed = Signal()
        door = Door(world.disk, line, world.dice, self.die)
        workshop = Workshop(world.dice, line)
        logs = Logs(world.offsets, line, world.dice)
        self.engine = Engine(
            door,
            logs,
            workshop,
            user=world.user,
            place=Place("dc1"),
            clock=world.now_ns,
        )
        datacenter = Datacenter("dc1", "root")
        self._sessions = NodeSessions(self.engine, datacenter, world.now_ns)
        self._waiting: set[Signal] = set()

    def die(self) -> None:
        """Be killed, now: nothing that any of its tasks does later reaches anything."""
        self.line.dead = True
        self.killed.set()
        for event in self._waiting:
            event.set()

    def begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done as long as the server lives."""
        if self.line.dead:
            raise Gone
        self.nursery.start_soon(work)

    async def call(self, work: Callable[[], Awaitable[Any]]) -> Any:
        """Have something done by the server; raises `Gone` where it dies meanwhile."""
        if self.line.dead:
            raise Gone
        done = Signal()
        outcome: list[tuple[Any, PfsError | None]] = []
        self._waiting.add(done)

        async def serve() -> None:
            try:
                outcome.append((await work(), None))
            except PfsError as error:
                outcome.append((None, error))
            done.set()

        self.nursery.start_soon(serve)
        await done.wait()
        self._waiting.discard(done)
        if self.line.dead or not outcome:
            raise Gone
        [(value, error)] = outcome
        if error is not None:
            raise error
        return value

    def knows(self, job_id: int) -> Life | None:
        """Return how a job stands, by what this server knows."""
        active = self.engine.ledger.get(job_id)
        return None if active is None else active.job.life

    def conversation(self, channel: Callable[[], Any]) -> AbstractAsyncContextManager[Any]:
        """Talk with a node."""
        return self._sessions.conversation(Identity(KeyKind.NODE, subject("root")), channel)


class World:
    """Everything that there is."""

    def __init__(self, seed: int, story: Story) -> None:
        self.dice = Random(f"{seed}/world")
        self.trouble = not story.peaceful
        self.doom: int | None = None
        self.server: LiveServer | None = None
        self.trace: list[tuple[float, tuple[object, ...]]] = []
        self.offsets: dict[tuple[int, int, int], int] = {}
        self.decided_at_ns: int | None = None
        self.disk: Disk = Disk(self._committed)
        self.watch = Watch(self)
        self.story = story
        self.people = People(self, story.deeds)
        self.server_up = Signal()
        self._scope = trio.CancelScope()
        self.problem: str | None = None
        for number, (gpus, places) in enumerate(story.machines):
            machine = Machine(self, f"n{number}", gpus, places)
            row = NodeRow(
                id=f"cm{number}",
                entry_id=f"cm{number}",
                name=machine.name,
                cluster_id=CLUSTER.id,
                instance=machine.name,
                attrs=machine.attrs,
                runtimes=["docker", "sandbox"],
                gpus=[{"uuid": u, "index": i, "model": m, "memory_bytes": 1 << 33} for i, (u, m) in enumerate(gpus)],
                boot_id="boot-1",
                registered_at_ns=EPOCH_NS,
                seen_at_ns=EPOCH_NS,
            )
            self.disk.nodes[row.id] = row
            self.watch.add(row.id, machine)

    @property
    def machines(self) -> list[Machine]:
        """All machines."""
        return list(self.watch.machines.values())

    def id_of(self, machine: Machine) -> str:
        """Return the id of a machine as a node."""
        return next(node_id for node_id, each in self.watch.machines.items() if each is machine)

    def now_ns(self) -> int:
        """Return the time of the world."""
        return EPOCH_NS + int(trio.current_time() * 1e9)

    async def user(self, name: str) -> Subject | None:
        """Return an account."""
        return subject(name)

    def note(self, *words: object) -> None:
        """Note what happens; it is put into words when somebody wants to read it."""
        self.trace.append((trio.current_time(), words))

    def fail(self, text: str) -> None:
        """Something must not be: the end of the world."""
        if self.problem is None:
            self.problem = text
            self.note(f"WRONG: {text}")
            self._scope.cancel()

    def began(self, machine: Machine, task: Task) -> None:
        """A task is being started."""
        self.note(machine.name, "starts", task.id, *task.assignment.gpus)
        self.watch.began(machine, task)

    def asked(self, server: Server, task_id: str) -> None:
        """A server asks for the start of a task."""
        self.watch.rules.asked(task_id, server.knows(parse_task_id(task_id)[0]))

    def welcomed(self, machine: Machine) -> None:
        """A machine did what it was told when it came."""
        self.watch.welcomed(machine)

    def over(self, task: Task) -> None:
        """A task is over."""
        self.note(task.id, "is over on", task.machine.name, task.code, task.reason)

    def _committed(self, before: Any, events: Any, after: Any) -> None:
        for event in events:
            self.note("job", after.id, after.life.state, event)
        self.watch.committed(before, events, after)

    async def live(self) -> None:
        """Go from trouble to peace, and see that all is well."""
        with self._scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._serve)
                for machine in self.machines:
                    nursery.start_soon(machine.live)
                with trio.move_on_at(TROUBLE_S + ANSWER_S) as patience:
                    await self.people.act()
                if patience.cancelled_caught:
                    self.fail("a question was never answered")
                await until(TROUBLE_S)
                await self._make_peace()
                await self._see_the_end()
                nursery.cancel_scope.cancel()

    async def _serve(self) -> None:
        while True:
            try:
                async with trio.open_nursery() as nursery:
                    server = LiveServer(self, Line(calls_left=self.doom), nursery)
                    self.doom = None
                    await nursery.start(server.engine.run)
                    self.server = server
                    self.server_up.set()
                    await server.killed.wait()
                    nursery.cancel_scope.cancel()
            except* Dead:
                pass
            self.note("the server was killed")
            self.watch.rules.server_died()
            self.server = None
            if self.server_up.is_set():
                self.server_up = Signal()
            for machine in self.machines:
                machine.lose_connection(0.0)
            await sleep(self.dice.random() * (5.0 if self.trouble else 0.1))

    async def ask(self, work: Callable[[Engine], Awaitable[Any]]) -> Any:
        """Have the server do something, however often it dies meanwhile."""
        while True:
            await self.server_up.wait()
            server = self.server
            assert server is not None
            try:
                return await server.call(partial(work, server.engine))
            except Gone:
                await sleep(0.5)

    async def _make_peace(self) -> None:
        self.trouble, self.doom = False, None
        self.note("peace")
        if self.server is not None:
            self.server.line.calls_left = None
        await self.people.release_all()

    async def _see_the_end(self) -> None:
        await self._await_ends(PEACE_S)
        await until(max(machine.away_until for machine in self.machines) + BACK_S)
        # whatever was given to jobs is there again: one that needs all of it runs at once
        groups = [
            {"count": 1, "command": "work", "nodes": [machine.name], "resources": {"gpu": len(machine.gpus)}}
            for machine in self.machines
        ]
        last = await self.people.submit("ann", len(self.story.deeds), {"groups": groups})
        await self._await_ends(QUIET_S)
        if last is None or self.disk.jobs[last].life.state is not State.SUCCEEDED:
            self.fail(f"the last job: {last and self.disk.jobs[last].life}")
        await sleep(BACK_S)
        for machine in self.machines:
            if machine.tasks:
                self.fail(f"{machine.name} keeps {list(machine.tasks)}")
        for job in self.disk.jobs.values():
            if job.life.exit_code is None or job.life.state is State.STOPPING:
                self.fail(f"job {job.id} has no exit code")

    async def _await_ends(self, most_s: float) -> None:
        at = trio.current_time() + most_s
        while self.watch.unfinished and trio.current_time() < at:
            await until(at, self.disk.changed)
        if self.watch.unfinished:
            left = [job for job in self.disk.jobs.values() if not job.life.state.over]
            self.fail(f"never over: { ({job.id: await self._why(job) for job in left}) }")
            await trio.sleep_forever()

    async def _why(self, job: Any) -> str:
        assert self.server is not None
        return f"{job.life.state}: {self.server.engine.why(job)}"


class Listener(logging.Handler):
    """Takes what the server logs: in this world nothing makes its work fail but its own defects."""

    def __init__(self, fail: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._fail = fail

    def emit(self, record: logging.LogRecord) -> None:
        """Fail."""
        error = record.exc_info[1] if record.exc_info else None
        self._fail(f"the server logs: {record.getMessage()} {error!r}")


@cache
def subject(name: str) -> Subject:
    """Return an account."""
    return Subject(name, admin=name == "root")


def simulate(seed: int, deeds: int | None = None, *, told: Callable[[int], Story] = draw) -> Outcome:
    """Play the story of a seed, or only its first deeds."""
    story = told(seed)
    story = replace(story, deeds=story.deeds[:deeds])
    trio_run._r.seed(seed)
    problem = None
    with _deterministic():
        world = World(seed, story)
        listener = Listener(world.fail)
        logging.getLogger("jobd").addHandler(listener)
        try:
            trio.run(world.live, clock=Leaps(partial(world.fail, "time stands still: something goes on for ever")))
        except BaseExceptionGroup as errors:
            if errors.subgroup((KeyboardInterrupt, SystemExit)):
                raise
            problem = f"the server has a defect: {_innermost(errors)!r}"
        finally:
            logging.getLogger("jobd").removeHandler(listener)
    return Outcome(seed, story, world.problem or problem, tuple(world.trace), tuple(world.disk.jobs.values()))


@contextmanager
def _deterministic() -> Iterator[None]:
    """Have trio take tasks in an order that its dice decide, and parse the same spec only once."""
    with (
        patch.object(trio_run, "_ALLOW_DETERMINISTIC_SCHEDULING", True),
        patch.object(submitting, "parse_spec", _parse_once),
        patch.object(trio, "sleep", sleep),
    ):
        gc.disable()  # a world is small; it is cleared away as a whole, rather than be searched again and again
        try:
            yield
        finally:
            gc.enable()


_parse_once = cache(parse_spec)


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def shrink(outcome: Outcome) -> Outcome:
    """Return the outcome of the shortest beginning of the story that still goes wrong."""
    for deeds in range(len(outcome.story.deeds)):
        shorter = simulate(outcome.seed, deeds)
        if shorter.problem is not None:
            return shorter
    return outcome
