"""The engine: all jobs and nodes of one datacenter, for whoever asks.

nodes say something   ──▶  reports    ─┐
people do something   ──▶  commands    ├──▶  flow  ──▶  ledger   what happened, on disk
people write a spec   ──▶  submitting ─┘      │
                                              ├──▶  queue    what waits and runs, as the scheduler knows it
                                              └──▶  tasks    what nodes are asked for
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from jobd.engine.advice import AWAY, HELD, cure, lacking, plainly
from jobd.engine.alarms import sleeper
from jobd.engine.assign import Place, facts_of
from jobd.engine.attaching import Attaching
from jobd.engine.closing import Closing
from jobd.engine.commands import Commands
from jobd.engine.credentials import FindSecret, no_secret
from jobd.engine.flow import Flow
from jobd.engine.ports import Clock, FindUser, Logs, Sleep, Store, Workshop
from jobd.engine.reports import Reports
from jobd.engine.roster import Roster
from jobd.engine.submitting import Submissions
from jobd.environment import environment
from jobd.job import Job
from jobd.life.actions import FETCH
from jobd.life.life import ON_NODES, Life, State
from jobd.nodestate import NodeState
from jobd.scheduling.model import Why
from jobd.scheduling.words import time_of
from jobd.store.logs import JobLog
from jobd.store.nodes import Policy
from jobd.wire import DOCKER, SANDBOX

SWEEP_EVERY_S = 3600.0
KEEP_USES_EVERY_S = 60.0
SCRATCH_KEPT_NS = 86_400 * 1_000_000_000


@dataclass(frozen=True, slots=True)
class Had:
    """How many jobs run and wait, and how many GPUs those have that run."""

    running: int
    waiting: int
    gpus: int


class Engine:
    """All jobs of one datacenter.

    Args:
        place: what jobs are told of where they run.
        clock: nanoseconds since the epoch.
        secret: finds what somebody keeps under a name.
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
        secret: FindSecret = no_secret,
        sleep_until: Sleep | None = None,
    ) -> None:
        sleep = sleeper(clock) if sleep_until is None else sleep_until
        self._flow = Flow(store, logs, workshop, user=user, secret=secret, place=place, clock=clock, sleep_until=sleep)
        self._reports = Reports(self._flow, sleep)
        self._submissions = Submissions(self._flow, secret)
        self._commands = Commands(self._flow)
        self._closing = Closing(self._flow)
        self.roster = Roster(self._flow)
        self._deciding = trio.Lock()
        self.logs = logs
        self.fleet = self._flow.fleet
        self.ledger = self._flow.ledger
        self.attaching = Attaching(self.ledger, self.fleet)
        self.submit = self._submissions.submit
        self.check = self._submissions.check
        self.least_gpus = self._submissions.least_gpus
        self.trial = self._commands.trial
        self.kill = self._commands.kill
        self.signal = self._commands.signal
        self.hold = self._commands.hold
        self.release = self._commands.release
        self.requeue = self._commands.requeue
        self.set_priority = self._commands.set_priority
        self.extend = self._commands.extend
        self.give_up = self._commands.give_up
        self.share = self._commands.share
        self.unshare = self._commands.unshare
        self.drain = self._closing.drain
        self.resume = self._closing.resume
        self.check_closing = self._closing.check
        self.gpus = self._closing.gpus
        self.attach = self._reports.attach
        self.detach = self._reports.detach
        self.heard = self._reports.heard
        self.leaves = self._reports.leaves
        self.troubled = self._reports.troubled
        self.news = self._reports.news
        self.running = self._reports.running
        self.image = self._reports.image
        self.output = self._reports.output
        self.ended = self._reports.ended

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take up every job where it was left, and go on until cancelled."""
        flow = self._flow
        async with trio.open_nursery() as nursery:
            flow.chores.live_in(nursery)
            await flow.load()
            self._reports.watch()
            for work in (self._sweep, self._keep_uses, flow.alarms.run, self._reports.alarms.run, flow.schedule):
                flow.chores.start(work)
            flow.find_lost_rights()
            task_status.started()
            await trio.sleep_forever()

    def observe(self, jobs: Callable[[Life | None, Job], None], nodes: Callable[[str, int], None]) -> None:
        """Let somebody hear of every change: of a job with how it stood before, of a node with the time."""
        self.ledger.observer = jobs

        def look(node_ids: Iterable[str]) -> None:
            for node_id in node_ids:
                nodes(node_id, self._flow.clock())

        self._flow.lookout = look

    async def set_policy(self, policy: Policy) -> None:
        """Take up what administrators decided: aliases, reservations, members of groups, drained nodes."""
        self._flow.queue.adopt(policy)
        await self._closing.take_up()
        self.ledger.touch()
        self._flow.find_lost_rights()
        self._flow.wake()

    async def take_up_policy(self) -> None:
        """Take up what administrators decided, as it is kept now."""
        async with self._deciding:  # who reads later knows more
            await self.set_policy(await self._flow.store.policy())

    # ---- what can be asked of jobs

    async def log_of(self, job: Job) -> JobLog:
        """Return the log of a job, for reading."""
        is_over = self.ledger.get(job.id) is None
        return await (self.logs.find(job.id) if is_over else self.logs.open(job.id))

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
            return Why(HELD.format(by=life.held_by), 0)
        if life.state is State.WAITING:
            why = flow.queue.why(job.id) or Why("it is about to be placed on a node", 0)
            return Why(f"{life.reason}; {why.text}", why.place, why.earliest_start_s) if life.reason else why
        if life.state is State.PENDING:
            return Why(flow.waits_for(job) or life.reason or "it is about to wait for nodes", 0)
        away = self._away(job)
        texts = (
            life.reason,
            cure(life, job.spec),
            lacking(life),
            away,
            self._troubled(job),
            self._ailing(job),
            self._news(job),
        )
        nodes = [self.fleet.name(node) for node in life.nodes]
        return Why("; ".join(text for text in texts if text) or plainly(life, nodes), 0)

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
        return f"its node {name}{more} is {state}, not heard of since {since}; {AWAY}"

    def _troubled(self, job: Job) -> str:
        """Say what keeps a job's nodes from telling of it; what runs there goes on, for all that is known."""
        for process, (group, _) in zip(job.life.processes, job.spec.workers(), strict=False):
            runtime = SANDBOX if job.spec.groups[group].image is None else DOCKER
            if process.node and job.life.state in ON_NODES and (why := self.fleet.troubles(process.node).get(runtime)):
                return f"on its node {self.fleet.name(process.node)} {why}"
        return ""

    def _news(self, job: Job) -> str:
        """Say what the starts of a job's processes wait for."""
        active, life = self.ledger.get(job.id), job.life
        if active is None or life.state not in ON_NODES:
            return ""
        starting = [FETCH] if not life.fetched else []
        starting += [n for n, each in enumerate(life.processes) if each.started_at_ns is None and not each.over]
        news = active.tasks.news
        return "; ".join(dict.fromkeys(news[worker] for worker in starting if worker in news))

    def _ailing(self, job: Job) -> str:
        """Say which of a job's GPUs is not well; what uses it goes on, or fails by itself."""
        for process in job.life.processes if job.life.state in ON_NODES else ():
            row = self.fleet.row(process.node)
            for gpu in row.gpus if row is not None else ():
                if gpu["uuid"] in process.gpus and gpu.get("ill"):
                    return f"a GPU that it has on {self.fleet.name(process.node)} is not well: {gpu['ill']}"
        return ""

    def queue(self) -> list[Job]:
        """Return the jobs that wait for nodes, in the order of their turns."""
        found = (self.ledger.get(job_id) for job_id in self._flow.queue.order())
        return [active.job for active in found if active is not None]

    def has(self, holder: str) -> Had:
        """Return what the jobs of a user, or of the members of a group, have now."""
        queue = self._flow.queue
        use = queue.used(holder)
        return Had(use.jobs, queue.waiting_room.waiting(holder), use.gpus)

    def environment(self, job: Job, worker: int) -> dict[str, str]:
        """Return the variables that a process sees, as far as they are known yet."""
        people = self.fleet.policy.members.get(job.user, frozenset())
        return environment(facts_of(job, self._flow.place, worker, people))

    async def _sweep(self) -> None:
        """Forget old scratch, now and then."""
        while True:
            await self._flow.store.sweep_drafts(self._flow.clock() - SCRATCH_KEPT_NS)
            await trio.sleep(SWEEP_EVERY_S)

    async def _keep_uses(self) -> None:
        """Keep what jobs do with their GPUs, now and then."""
        while True:
            await trio.sleep(KEEP_USES_EVERY_S)
            await self.ledger.keep_gpu_uses()
