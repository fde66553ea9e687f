"""The engine: all jobs and nodes of one datacenter, for whoever asks.

nodes say something   ──▶  reports    ─┐
people do something   ──▶  commands    ├──▶  flow  ──▶  ledger   what happened, on disk
people write a spec   ──▶  submitting ─┘      │
                                              ├──▶  queue    what waits and runs, as the scheduler knows it
                                              └──▶  tasks    what nodes are asked for
"""

import trio

from jobd.engine.alarms import sleeper
from jobd.engine.assign import Place, facts_of
from jobd.engine.commands import Commands
from jobd.engine.fleet import NodeState
from jobd.engine.flow import Flow
from jobd.engine.ports import Clock, FindUser, Logs, Sleep, Store, Workshop
from jobd.engine.reports import Reports
from jobd.engine.submitting import Submissions
from jobd.environment import environment
from jobd.job import Job
from jobd.life.life import ON_NODES, State
from jobd.scheduling.model import Why
from jobd.scheduling.words import time_of
from jobd.store.logs import JobLog
from jobd.store.nodes import Policy

SWEEP_EVERY_S = 3600.0
SCRATCH_KEPT_NS = 86_400 * 1_000_000_000


class Engine:
    """All jobs of one datacenter.

    Args:
        place: what jobs are told of where they run.
        clock: nanoseconds since the epoch.
        sleep_until: sleeps until a time of the clock; with trio's clock, where it is not given.
    """

    def __init__(
        self,
        store: Store,
        logs: Logs,
        workshop: Workshop,
        *,
        user: FindUser,
        place: Place,
        clock: Clock,
        sleep_until: Sleep | None = None,
    ) -> None:
        sleep = sleeper(clock) if sleep_until is None else sleep_until
        self._flow = Flow(store, logs, workshop, user=user, place=place, clock=clock, sleep_until=sleep)
        self._reports = Reports(self._flow, sleep)
        self._submissions = Submissions(self._flow)
        self._commands = Commands(self._flow)
        self.logs = logs
        self.fleet = self._flow.fleet
        self.ledger = self._flow.ledger
        self.submit = self._submissions.submit
        self.kill = self._commands.kill
        self.signal = self._commands.signal
        self.hold = self._commands.hold
        self.release = self._commands.release
        self.requeue = self._commands.requeue
        self.set_priority = self._commands.set_priority
        self.extend = self._commands.extend
        self.give_up = self._commands.give_up
        self.attach = self._reports.attach
        self.detach = self._reports.detach
        self.heard = self._reports.heard
        self.running = self._reports.running
        self.output = self._reports.output
        self.ended = self._reports.ended

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up every job where it was left, and go on until cancelled."""
        flow = self._flow
        async with trio.open_nursery() as nursery:
            flow.chores.live_in(nursery)
            await flow.load()
            self._reports.watch()
            for work in (self._sweep, flow.alarms.run, self._reports.alarms.run, flow.schedule):
                flow.chores.start(work)
            flow.find_lost_rights()
            task_status.started()
            await trio.sleep_forever()

    async def set_policy(self, policy: Policy) -> None:
        """Take up what administrators decided: aliases, reservations, members of groups."""
        self._flow.queue.adopt(policy)
        self.ledger.touch()
        self._flow.find_lost_rights()
        self._flow.wake()

    # ---- what can be asked of jobs

    async def log_of(self, job: Job) -> JobLog:
        """Return the log of a job, for reading."""
        is_over = self.ledger.get(job.id) is None
        return await (self.logs.find(job.id) if is_over else self.logs.open(job.id))

    def is_made(self, job: Job) -> bool:
        """Tell whether the job's directories were made."""
        life = job.life
        if life.processes or life.attempt > 1:
            return True
        has_files = job.spec.src is not None or job.spec.continue_from is not None
        return has_files and life.state not in (State.PENDING, State.PREPARING)

    def why(self, job: Job) -> str:
        """Say why the job is where it is."""
        return self.standing(job).text

    def standing(self, job: Job) -> Why:
        """Say why the job is where it is, with its place in the queue (0: none) and when it starts at the earliest."""
        flow, life = self._flow, job.life
        array = flow.array(job.id)
        if array is not None:
            waits = flow.waits_for(job) or life.reason or f"{len(array.open)} of {array.count} tasks are not over"
            return Why(waits, 0)
        if life.held_by:
            return Why(f"held by {life.held_by} until it is released", 0)
        if life.state is State.WAITING:
            why = flow.queue.why(job.id) or Why("it is about to be placed on a node", 0)
            return Why(f"{life.reason}; {why.text}", why.place, why.earliest_start_s) if life.reason else why
        if life.state is State.PENDING:
            return Why(flow.waits_for(job) or life.reason or "it is about to wait for nodes", 0)
        away = self._away(job)
        return Why("; ".join(text for text in (life.reason, away) if text) or f"it is {life.state}", 0)

    def _away(self, job: Job) -> str:
        """Say which of a job's nodes is not heard of; what runs there goes on."""
        if job.life.state not in ON_NODES:
            return ""
        away = [node for node in job.life.nodes if self.fleet.state(node) is not NodeState.ONLINE]
        if not away:
            return ""
        since = time_of(self.fleet.seen_ns(away[0]) / 1e9)
        more = f" and {len(away) - 1} more" if len(away) > 1 else ""
        name, state = self.fleet.name(away[0]), self.fleet.state(away[0])
        return f"its node {name}{more} is {state}, not heard of since {since}; it goes on there"

    def queue(self) -> list[Job]:
        """Return the jobs that wait for nodes, in the order of their turns."""
        found = (self.ledger.get(job_id) for job_id in self._flow.queue.order())
        return [active.job for active in found if active is not None]

    def environment(self, job: Job, worker: int) -> dict[str, str]:
        """Return the variables that a process sees, as far as they are known yet."""
        people = self.fleet.policy.members.get(job.user, frozenset())
        return environment(facts_of(job, self._flow.place, worker, people))

    async def _sweep(self) -> None:
        """Forget old scratch, now and then."""
        while True:
            await self._flow.store.sweep_drafts(self._flow.clock() - SCRATCH_KEPT_NS)
            await trio.sleep(SWEEP_EVERY_S)
