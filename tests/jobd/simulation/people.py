"""What people do in a simulated world, and what goes wrong there: the deeds of its story."""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from jobd.engine.engine import Engine
from jobd.job import Job
from jobd.life.life import State
from jobd.scheduling.quotas import JobLimits
from jobd.store.nodes import Policy
from jobd.store.tables import DraftRow
from pfs.errors import PfsError
from pfs.perm import Subject
from tests.jobd.simulation.clock import sleep, until
from tests.jobd.simulation.machines import Machine
from tests.jobd.simulation.story import AFTERWARDS, TROUBLE_S, USERS, Deed

if TYPE_CHECKING:
    from tests.jobd.simulation.world import World

ROOT = Subject("root", admin=True)


class People:
    """Those who act."""

    def __init__(self, world: "World", deeds: Sequence[Deed]) -> None:
        self._world = world
        self._deeds = deeds
        self._mine: list[int] = []

    async def act(self) -> None:
        """Do everything at its time; return when all of it is done."""
        async with trio.open_nursery() as nursery:
            for number, deed in enumerate(self._deeds):
                await until(deed.at_s)
                self._world.note("---", deed)
                nursery.start_soon(self._do, number, deed)

    async def _do(self, number: int, deed: Deed) -> None:
        match deed.what:
            case "submit" | "submit-after":
                await self._submit(number, deed)
            case "kill" | "hold" | "release" | "requeue" | "priority" | "extend":
                await self._wish(deed)
            case "crash":
                if self._world.server is not None:
                    self._world.server.die()
            case "crash-in-call":
                if self._world.server is not None:
                    line = self._world.server.line
                    line.calls_left, line.after = int(deed.amount * 8), deed.which < 0.5
            case "crash-again":
                if self._world.server is not None:
                    self._world.doom = int(deed.amount * 12)
                    self._world.server.die()
            case "look":
                await self._world.ask(self._look)
            case "reserve":
                await self._reserve(self._machine(deed), deed)
            case "limit":
                await self._limit(deed)
            case "drain":
                await self._drain(self._machine(deed), deed)
            case "give-up":
                await self._give_up(self._machine(deed), deed)
            case _:
                self._trouble(self._machine(deed), deed)

    def _machine(self, deed: Deed) -> Machine:
        machines = self._world.machines
        return machines[int(deed.which * len(machines))]

    def _trouble(self, machine: Machine, deed: Deed) -> None:
        away_s, unnoticed_s = deed.amount * 10.0, deed.amount * 7.0 % 1.0 * 20.0
        match deed.what:
            case "break":
                machine.lose_connection(unnoticed_s if deed.amount < 0.5 else 0.0)
            case "restart-daemon":
                machine.restart_daemon(away_s)
            case "away":
                machine.be_away(deed.amount * 120.0, unnoticed_s)
            case "reboot":
                machine.reboot(away_s, unnoticed_s)
            case "lose-task":
                machine.lose_task()
            case "lose-gpu":
                machine.lose_gpu(away_s)

    # ---- people

    async def _submit(self, number: int, deed: Deed) -> None:
        spec: dict[str, Any] = {"grace": "5s", **(deed.spec or {})}
        user = USERS[int(deed.which * len(USERS))]
        if deed.what == "submit-after" and self._mine:
            before = self._mine[int(deed.which * len(self._mine))]
            spec["depends_on"] = [f"{AFTERWARDS[int(deed.amount)]}:{before}"]
            user = self._world.disk.jobs[before].user
        await self.submit(user, number, spec)

    async def submit(self, user: str, number: int, spec: Mapping[str, Any]) -> int | None:
        """Submit a job until it is acknowledged; return its number, None where it is refused."""
        text = json.dumps(spec).encode()
        row = DraftRow(user=user, name="j", content=text, submitted=True, born_ns=0, mtime_ns=0, kept_at_ns=0)
        key = f"key-{number}"
        try:
            job_id: int = await self._world.ask(lambda engine: engine.submit(Subject(user, admin=False), row, "j", key))
        except PfsError as error:
            self._world.note(f"deed {number} is refused: {error}")
            return None
        kept = self._world.disk.keys.get((user, key))
        if kept != job_id:
            self._world.fail(f"job {job_id} was acknowledged, but {kept} is kept")
        self._mine.append(job_id)
        return job_id

    async def _wish(self, deed: Deed) -> None:
        jobs = self._world.disk.jobs
        if not jobs:
            return
        going_on = [job_id for job_id, job in jobs.items() if not job.life.state.over] or list(jobs)
        job_id = going_on[int(deed.which * len(going_on))]
        user = Subject(jobs[job_id].user, admin=False)
        wishes: dict[str, Callable[[Engine], Awaitable[Any]]] = {
            "kill": lambda engine: engine.kill(user, job_id),
            "hold": lambda engine: engine.hold(user, job_id),
            "release": lambda engine: engine.release(user, job_id),
            "requeue": lambda engine: engine.requeue(user, job_id),
            "priority": lambda engine: engine.set_priority(user, job_id, int(deed.amount * 50)),
            "extend": lambda engine: engine.extend(user, job_id, deed.amount * 20.0),
        }
        try:
            await self._world.ask(wishes[deed.what])
        except PfsError as error:
            self._world.note(f"{deed.what} of job {job_id} is refused: {error}")
            return
        life = jobs[job_id].life
        if deed.what == "kill" and life.kill_requested is None and not life.state.over:
            self._world.fail(f"the kill of job {job_id} was acknowledged, but is not kept")

    async def _look(self, engine: Engine) -> None:
        """Look at everything that there is to be seen."""
        engine.queue()
        for job in list(self._world.disk.jobs.values()):
            engine.standing(await engine.ledger.current(job))

    async def _reserve(self, machine: Machine, deed: Deed) -> None:
        """An administrator keeps a machine for a group that only bob is in, until there is peace."""
        kept = {self._world.id_of(machine): frozenset({"lab"})}
        await self.decide(replace(self._world.disk.policy, node_groups=kept, members={"bob": frozenset({"lab"})}))
        await sleep(deed.amount * 20.0)
        await self.decide(replace(self._world.disk.policy, node_groups={}, members={}))

    async def _limit(self, deed: Deed) -> None:
        """An administrator limits what the jobs of ann, or of a group that only bob may be in, have at once."""
        holder = "ann" if deed.which < 0.7 else "groups/lab"
        limits = JobLimits(running=1) if deed.amount < 0.5 else JobLimits(running=2, gpus=1)
        await self.decide(replace(self._world.disk.policy, quotas={holder: limits}))
        await sleep(10.0 + deed.amount * 20.0)
        await self.decide(replace(self._world.disk.policy, quotas={}))

    async def _drain(self, machine: Machine, deed: Deed) -> None:
        """An administrator keeps new work from a machine for a while."""
        node_id = self._world.id_of(machine)
        await self._world.ask(lambda engine: engine.drain(ROOT, [node_id], "new disk"))
        await sleep(deed.amount * 20.0)
        await self._world.ask(lambda engine: engine.resume(ROOT, [node_id]))

    async def decide(self, policy: Policy) -> None:
        """Have the server go by another policy."""
        self._world.disk.policy, self._world.decided_at_ns = policy, None
        # as the server does it: whoever comes second brings what stands there by then
        await self._world.ask(lambda engine: engine.set_policy(self._world.disk.policy))
        self._world.decided_at_ns = self._world.now_ns()

    async def _give_up(self, machine: Machine, deed: Deed) -> None:
        """An administrator says that a machine that is away is gone for good; some do when it is just coming back."""
        if deed.amount < 0.5:
            await until(TROUBLE_S, machine.comes)
            await sleep(deed.amount * 0.2)
        elif machine.connection is not None:
            return
        node_id = self._world.id_of(machine)
        for job in list(self._world.disk.jobs.values()):
            if not job.life.state.over and node_id in job.life.nodes:
                try:
                    await self._world.ask(partial(_give_up, job.id))
                except PfsError as error:
                    self._world.note(f"nothing to give up of job {job.id}: {error}")

    async def release_all(self) -> None:
        """Release whatever is held."""
        for job in list(self._world.disk.jobs.values()):
            if job.life.held_by and job.life.state in (State.PENDING, State.PREPARING, State.WAITING, State.RUNNING):
                try:
                    await self._world.ask(partial(_release, job))
                except PfsError as error:
                    self._world.note(f"job {job.id} cannot be released: {error}")


async def _give_up(job_id: int, engine: Engine) -> None:
    await engine.give_up(ROOT, job_id)


async def _release(job: Job, engine: Engine) -> None:
    await engine.release(Subject(job.user, admin=False), job.id)
