"""Brings nodes to what the states of jobs want: starts tasks, ends them, makes and drops the networks of gangs.

Each task is asked about one at a time, so that a start never overtakes a stop; tasks of one job are asked about beside
one another. A connection that breaks is no answer: when its node is back, it says what it has, and what is still
missing is asked again.
"""

import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

import trio

from jobd.engine.assign import Place, assignment, facts_of, node_of, task_of
from jobd.engine.chores import AGAIN_S, Chores
from jobd.engine.credentials import FindSecret, find_credential, find_secrets
from jobd.engine.fleet import Fleet
from jobd.engine.ledger import Active, Tasks
from jobd.engine.networks import Networks
from jobd.engine.ports import Clock, FindUser, NodeLink, Workshop
from jobd.engine.trainerfiles import is_trainer, trainer_files
from jobd.job import Job
from jobd.life import events as happened
from jobd.life.actions import FETCH, Facts, GiveUp, LetGo, StartTask, StopTask, actions
from jobd.life.events import Event
from jobd.life.life import IllegalEvent, Life, State
from jobd.life.steps import is_replaced
from jobd.wire import Assignment
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import ChannelClosed

log = logging.getLogger(__name__)

NOT_THERE = "the node does not have the job any more"
# what the server's own disk or database says, which is no fault of the job: it is tried again
OURS = (Kind.IO, Kind.NO_SPACE, Kind.INTERNAL)

TaskAction = StartTask | StopTask | LetGo | GiveUp
Apply = Callable[..., Awaitable[bool]]


class TaskMaster:
    """Has tasks started and ended.

    Args:
        apply: lets events happen to a job, and what follows from them.
    """

    def __init__(
        self,
        fleet: Fleet,
        networks: Networks,
        workshop: Workshop,
        chores: Chores,
        *,
        apply: Apply,
        user: FindUser,
        secret: FindSecret,
        place: Place,
        clock: Clock,
    ) -> None:
        self._fleet = fleet
        self._networks = networks
        self._workshop = workshop
        self._chores = chores
        self._apply = apply
        self._user = user
        self._secret = secret
        self._place = place
        self._clock = clock

    def facts(self, active: Active) -> Facts:
        """Return what is known of a job's tasks."""
        connected = frozenset(node for node in active.job.life.nodes if self._fleet.link(node) is not None)
        tasks = active.tasks
        return Facts(connected, frozenset(tasks.known), frozenset(tasks.denied), frozenset(tasks.begun))

    def settle(self, active: Active, action: TaskAction) -> None:
        """Do what is missing for one task, unless that is being done."""
        if action.worker not in active.tasks.asking and not _is_under_way(active.tasks, action):
            self._chores.start(self._ask, active, active.tasks, action.worker)

    async def _ask(self, active: Active, tasks: Tasks, worker: int) -> None:
        """Ask the node of a task for what is missing, until nothing is."""
        if worker in tasks.asking:
            return
        tasks.asking.add(worker)
        try:
            while active.tasks is tasks and (action := self._missing(active, worker)) is not None:
                node = node_of(active.job, worker)  # the job may be placed elsewhere, or nowhere, afterwards
                link = self._fleet.link(node)
                if link is None:
                    return  # when it comes back it says what it has
                try:
                    await self._do(active, tasks, action, link)
                except ChannelClosed:
                    if self._fleet.link(node) in (link, None):
                        return
        finally:
            tasks.asking.discard(worker)

    def _missing(self, active: Active, worker: int) -> TaskAction | None:
        for action in actions(active.job.life, self.facts(active)):
            if isinstance(action, TaskAction) and action.worker == worker:
                return None if _is_under_way(active.tasks, action) else action
        return None

    async def _do(self, active: Active, tasks: Tasks, action: TaskAction, link: NodeLink) -> None:
        match action:
            case StartTask():
                await self._start(active, tasks, action, link)
            case StopTask():
                await self._stop(active, tasks, action.worker, link)
            case LetGo(worker):
                await self._let_go(active, tasks, worker, link)
            case GiveUp(worker):
                attempt, now_ns = active.job.life.run(worker), self._clock()
                await self._apply(
                    active, happened.NodeLost(time_ns=now_ns, attempt=attempt, worker=worker, text=NOT_THERE)
                )

    async def _start(self, active: Active, tasks: Tasks, action: StartTask, link: NodeLink) -> None:
        job, worker = active.job, action.worker
        try:
            await self._stand_on(active, tasks)
            task = await self._assignment(job, worker)
        except PfsError as error:
            if isinstance(error, ChannelClosed) or error.kind in OURS:
                raise
            await self._apply(active, self._failure(job, worker, error.message))
            return
        if active.tasks is not tasks or self._missing(active, worker) != action:
            return  # it was killed meanwhile
        try:
            await link.start(task)
        except ChannelClosed:
            raise
        except PfsError as error:
            if error.kind is Kind.BUSY:
                await self._place_anew(active, worker, error.message)
            else:
                await self._apply(active, self._failure(job, worker, error.message))
            return
        if task_of(active.job, worker) == task.task_id:  # it may be over, and have been replaced, by now
            tasks.known.add(worker)
            tasks.denied.discard(worker)

    async def _place_anew(self, active: Active, worker: int, text: str) -> None:
        """Have a job placed once more: its node is other than it was a moment ago, which will be known soon.

        One that runs, and can do without this worker or replaces it, goes on meanwhile.
        """
        job = active.job
        await trio.sleep(AGAIN_S)
        failure, now_ns = self._failure(job, worker, text), self._clock()
        ways: list[tuple[Event, ...]] = [(happened.RequeueRequested(time_ns=now_ns, text=text),), (failure,)]
        if active.job.life.state is State.RUNNING:
            ways.insert(0, (happened.Retired(time_ns=now_ns, worker=worker, text=text), failure))
            if is_replaced(active.job.life, happened.StartFailed(time_ns=now_ns, worker=worker, text=text)):
                ways.insert(1, (failure,))

        def is_still(_: Life) -> bool:
            return task_of(active.job, worker) == task_of(job, worker)

        for events in ways:
            with suppress(IllegalEvent):  # it is to stop, or cannot do without
                await self._apply(active, *events, only_if=is_still)
                return

    async def _stop(self, active: Active, tasks: Tasks, worker: int, link: NodeLink) -> None:
        job = active.job
        try:
            await link.stop(task_of(job, worker), job.spec.grace_s)
            if task_of(active.job, worker) == task_of(job, worker):
                tasks.stopping.add(worker)
        except ChannelClosed:
            raise
        except PfsError as error:
            if error.kind is Kind.NOT_FOUND:
                await self._apply(active, self._failure(job, worker, error.message))
                return
            log.warning("%s is not stopped yet: %s", task_of(job, worker), error)
            await trio.sleep(AGAIN_S)

    async def _let_go(self, active: Active, tasks: Tasks, worker: int, link: NodeLink) -> None:
        job = active.job
        try:
            await link.let_go(task_of(job, worker))
            if task_of(active.job, worker) == task_of(job, worker):
                tasks.begun.add(worker)
        except ChannelClosed:
            raise
        except PfsError as error:
            log.warning("%s does not begin yet: %s", task_of(job, worker), error)
            await trio.sleep(AGAIN_S)

    def _failure(self, job: Job, worker: int, text: str) -> Event:
        """Return the event of a task that is not, and will not be, on its node."""
        now_ns, attempt = self._clock(), job.life.run(worker)
        if worker == FETCH:
            return happened.FetchFailed(time_ns=now_ns, attempt=attempt, text=text)
        return happened.StartFailed(time_ns=now_ns, attempt=attempt, worker=worker, text=text)

    async def _stand_on(self, active: Active, tasks: Tasks) -> None:
        """Make what all tasks of an attempt stand on: directories, and a network between machines."""
        async with tasks.ground:
            if not tasks.is_ready:
                await self._workshop.make(active.job)
                await self._networks.make(active.job)
                tasks.is_ready = True

    async def _assignment(self, job: Job, worker: int) -> Assignment:
        owner = await self._user(job.user)
        if owner is None:
            raise PfsError(Kind.NOT_FOUND, f"the account {job.user!r} is gone")
        credential = await find_credential(self._secret, job.user, job.spec.registry)
        secrets = await find_secrets(self._secret, job.user, job.spec)
        machines = self._fleet.machines(job.life.nodes)
        files = await self._files(job, worker)
        return assignment(
            job, worker, owner, self._place, machines, credential=credential, secrets=secrets, files=files
        )

    async def _files(self, job: Job, worker: int) -> dict[str, bytes]:
        """Return what a process has at the top of its file system."""
        if worker == FETCH or not is_trainer(facts := facts_of(job, self._place, worker)):
            return {}
        return trainer_files(facts, await self._workshop.train_list(job))


def _is_under_way(tasks: Tasks, action: TaskAction) -> bool:
    return isinstance(action, StopTask) and action.worker in tasks.stopping
