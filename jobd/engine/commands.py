"""What people do with jobs: each command is checked against who asks and how the job stands, and then an event.

A command that returned is on disk. What is said to an array goes for its tasks: a kill for all, the rest for those
that wait.
"""

import trio

from jobd.engine.assign import node_of, task_of
from jobd.engine.commandrules import (
    CHANGE_CURE,
    HOLD_CURE,
    RELEASE_CURE,
    REQUEUE_CURE,
    Trial,
    check_held,
    check_holders,
    check_limited,
    check_may_lose,
    check_no_task,
    check_priority,
    check_shared_with,
    check_unshared,
    running,
)
from jobd.engine.flow import Flow
from jobd.engine.ledger import Active
from jobd.job import Job
from jobd.life import events as happened
from jobd.life.events import Event
from jobd.life.life import BEFORE_PLACED, ON_NODES, IllegalEvent
from pfs.errors import Kind, PfsError
from pfs.perm import Subject

GIVEN_UP = "{by} said that the node {node} will not come back"


class Commands:
    """The commands of a job's `ctl` file."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

    async def trial(self, subject: Subject, job_id: int) -> Trial:
        """Return what commands of `subject` can be tried on, before the first of them is given.

        Raises:
            PfsError: FORBIDDEN for somebody else's job.
        """
        job = await self._flow.ledger.commanded(subject, job_id)
        active = self._flow.ledger.get(job_id)
        tasks = [] if active is None else [each.job.life for each in self._concerned(active)[1:]]
        return Trial(subject, job, tasks, self._flow.fleet.policy.members.values(), self._flow.clock)

    async def kill(self, subject: Subject, job_id: int) -> None:
        """End a job: at once if nothing was started, else TERM, its grace, KILL; again is fine until it is over.

        Raises:
            PfsError: FORBIDDEN for somebody else's job, BUSY when it is over.
        """
        active = await self._own(subject, job_id)
        await self._flow.apply(active, happened.KillRequested(time_ns=self._flow.clock(), by=subject.user))

    async def signal(self, subject: Subject, job_id: int, number: int) -> None:
        """Send a signal to all processes of a job that run.

        Raises:
            PfsError: FORBIDDEN, or BUSY when none runs or a node of one is away.
        """
        job = (await self._own(subject, job_id)).job
        workers = running(job)
        links = {node_of(job, worker): self._flow.fleet.link(node_of(job, worker)) for worker in workers}
        for node, link in links.items():
            if link is None:
                name = self._flow.fleet.name(node)
                raise PfsError(Kind.BUSY, f"the node {name} is not connected; try again when it is back")
        async with trio.open_nursery() as nursery:
            for worker in workers:
                link = links[node_of(job, worker)]
                assert link is not None
                nursery.start_soon(link.signal, task_of(job, worker), number)

    async def hold(self, subject: Subject, job_id: int) -> None:
        """Have a job wait until it is released.

        Raises:
            PfsError: FORBIDDEN, or BUSY when it does not wait.
        """
        active = await self._own(subject, job_id)
        await self._tell(active, happened.Held(time_ns=self._flow.clock(), by=subject.user), HOLD_CURE)

    async def release(self, subject: Subject, job_id: int) -> None:
        """Let a job that is held go on.

        Raises:
            PfsError: DENIED when an admin holds it, BUSY when nobody does.
        """
        active = await self._own(subject, job_id)
        lives = [each.job.life for each in self._concerned(active)]
        check_holders(subject, active.job, lives)
        check_held(active.job, active.job.life, lives)
        await self._tell(active, happened.Released(time_ns=self._flow.clock(), by=subject.user), RELEASE_CURE)

    async def requeue(self, subject: Subject, job_id: int) -> None:
        """Stop a job and run it again under its number; let one that is held go on, of which nothing runs.

        Raises:
            PfsError: FORBIDDEN, DENIED when an admin holds it, BUSY when it neither runs nor is held.
        """
        active = await self._own(subject, job_id)
        check_holders(subject, active.job, [each.job.life for each in self._concerned(active)])
        await self._tell(active, happened.RequeueRequested(time_ns=self._flow.clock(), by=subject.user), REQUEUE_CURE)

    async def set_priority(self, subject: Subject, job_id: int, priority: int) -> None:
        """Give a job another priority; it matters while it waits.

        Raises:
            PfsError: INVALID, FORBIDDEN, DENIED above what everybody may have, BUSY when it is about to end.
        """
        check_priority(subject, priority)
        active = await self._own(subject, job_id)
        event = happened.PriorityChanged(time_ns=self._flow.clock(), by=subject.user, priority=priority)
        await self._tell(active, event, CHANGE_CURE)

    async def extend(self, subject: Subject, job_id: int, by_s: float) -> None:
        """Give a job more time.

        Raises:
            PfsError: INVALID where it has no limit, FORBIDDEN, BUSY when it is about to end.
        """
        active = await self._own(subject, job_id)
        check_limited(active.job)
        event = happened.Extended(time_ns=self._flow.clock(), by=subject.user, by_s=by_s)
        await self._tell(active, event, CHANGE_CURE)

    async def give_up(self, subject: Subject, job_id: int) -> None:
        """Give up what a job has on nodes that are not connected, as an admin who knows that they will not come back.

        Raises:
            PfsError: DENIED for others, BUSY where all of its nodes are there.
        """
        check_may_lose(subject)
        active = await self._own(subject, job_id)
        job = active.job
        is_away = self._flow.fleet.is_away
        gone = {node for node in job.life.nodes if job.life.state in ON_NODES and is_away(node)}
        text = GIVEN_UP.replace("{by}", subject.user)
        if not await self._flow.lose(active, gone, text, only_if=is_away):
            raise PfsError(Kind.BUSY, f"job {job_id} has nothing on a node that is away; kill it to end it")

    async def share(self, subject: Subject, job_id: int, groups: frozenset[str]) -> None:
        """Let the members of more groups read a job, over or not.

        Raises:
            PfsError: FORBIDDEN, INVALID for a task, or a group that `subject` is not in.
        """
        await self._shared(subject, job_id)
        check_shared_with(subject, groups, self._flow.fleet.policy.members.values())
        await self._flow.ledger.share(job_id, groups, frozenset())

    async def unshare(self, subject: Subject, job_id: int, groups: frozenset[str]) -> None:
        """Let the members of groups read a job no more; of all groups where none is named.

        Raises:
            PfsError: FORBIDDEN, INVALID for a task, or a group that the job is not shared with.
        """
        job = await self._shared(subject, job_id)
        check_unshared(job, groups)
        await self._flow.ledger.share(job_id, frozenset(), groups or job.groups)

    # ---- inside

    async def _shared(self, subject: Subject, job_id: int) -> Job:
        job = await self._flow.ledger.commanded(subject, job_id)
        check_no_task(job)
        return job

    async def _own(self, subject: Subject, job_id: int) -> Active:
        return await self._flow.ledger.own(subject, job_id)

    def _concerned(self, active: Active) -> list[Active]:
        """Return the jobs that a command is about: the job and, of an array, the tasks that wait."""
        tasks = self._flow.open_tasks(active.job.id)
        return [active, *(task for task in tasks if task.job.life.state in BEFORE_PLACED)]

    async def _tell(self, active: Active, event: Event, cure: str) -> None:
        """Let a command happen to a job and, of an array, to the tasks that wait."""
        told: list[Active] = []

        async def tell(each: Active) -> None:
            try:
                await self._flow.apply(each, event)
                told.append(each)
            except IllegalEvent:
                return  # of a task: it was placed in that moment

        async with trio.open_nursery() as nursery:
            for each in self._concerned(active):
                nursery.start_soon(tell, each)
        if not told:
            raise PfsError(Kind.BUSY, f"job {active.job.id} is {active.job.life.state}: {cure}")
