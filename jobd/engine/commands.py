"""What people do with jobs: each command is checked against who asks and how the job stands, and then an event.

A command that returned is on disk. What is said to an array goes for its tasks: a kill for all, the rest for those
that wait.
"""

import trio

from jobd.engine.assign import node_of, task_of
from jobd.engine.flow import Flow
from jobd.engine.ledger import Active
from jobd.job import Job
from jobd.life import events as happened
from jobd.life.events import Event
from jobd.life.life import BEFORE_PLACED, ON_NODES, IllegalEvent
from jobd.spec.model import PRIORITY_MAX
from pfs.errors import Kind, PfsError
from pfs.perm import SERVICE, Subject, Verb, allowed

PRIORITY_OF_ALL_MAX = 50
GIVEN_UP = "{by} said that the node {node} will not come back"


class Commands:
    """The commands of a job's `ctl` file."""

    def __init__(self, flow: Flow) -> None:
        self._flow = flow

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
        running = [
            worker
            for worker, process in enumerate(job.life.processes)
            if process.started_at_ns is not None and not process.over
        ]
        if not running:
            raise PfsError(Kind.BUSY, f"job {job_id} is {job.life.state}: there is no process to send a signal to")
        links = {node_of(job, worker): self._flow.fleet.link(node_of(job, worker)) for worker in running}
        for node, link in links.items():
            if link is None:
                name = self._flow.fleet.name(node)
                raise PfsError(Kind.BUSY, f"the node {name} is not connected; try again when it is back")
        async with trio.open_nursery() as nursery:
            for worker in running:
                link = links[node_of(job, worker)]
                assert link is not None
                nursery.start_soon(link.signal, task_of(job, worker), number)

    async def hold(self, subject: Subject, job_id: int) -> None:
        """Have a job wait until it is released.

        Raises:
            PfsError: FORBIDDEN, or BUSY when it does not wait.
        """
        active = await self._own(subject, job_id)
        cure = "only a job that waits can be held; requeue or kill it"
        await self._tell(active, happened.Held(time_ns=self._flow.clock(), by=subject.user), cure)

    async def release(self, subject: Subject, job_id: int) -> None:
        """Let a job that is held go on.

        Raises:
            PfsError: DENIED when an admin holds it, BUSY when nobody does.
        """
        active = await self._own(subject, job_id)
        for each in self._concerned(active):
            holder = each.job.life.held_by
            if holder not in ("", subject.user, each.job.user) and not allowed(subject, Verb.RULE, each.job.domain):
                raise PfsError(Kind.DENIED, f"job {job_id} is held by {holder}; ask them, or an admin, to release it")
        if not any(each.job.life.held_by for each in self._concerned(active)):
            raise PfsError(Kind.BUSY, f"job {job_id} is not held; it is {active.job.life.state}")
        await self._tell(active, happened.Released(time_ns=self._flow.clock(), by=subject.user), "it waits no more")

    async def requeue(self, subject: Subject, job_id: int) -> None:
        """Stop a job and run it again under its number.

        Raises:
            PfsError: FORBIDDEN, or BUSY when it does not run.
        """
        active = await self._own(subject, job_id)
        cure = "only a job that starts or runs can be run again; a job that waits will run anyway"
        await self._tell(active, happened.RequeueRequested(time_ns=self._flow.clock(), by=subject.user), cure)

    async def set_priority(self, subject: Subject, job_id: int, priority: int) -> None:
        """Give a job another priority; it matters while it waits.

        Raises:
            PfsError: INVALID, FORBIDDEN, DENIED above what everybody may have, BUSY when it is about to end.
        """
        check_priority(subject, priority)
        active = await self._own(subject, job_id)
        event = happened.PriorityChanged(time_ns=self._flow.clock(), by=subject.user, priority=priority)
        await self._tell(active, event, "it is about to end")

    async def extend(self, subject: Subject, job_id: int, by_s: float) -> None:
        """Give a job more time.

        Raises:
            PfsError: INVALID where it has no limit, FORBIDDEN, BUSY when it is about to end.
        """
        active = await self._own(subject, job_id)
        if active.job.life.max_duration_s is None:
            raise PfsError(Kind.INVALID, f"job {job_id} has no time limit; there is nothing to extend")
        event = happened.Extended(time_ns=self._flow.clock(), by=subject.user, by_s=by_s)
        await self._tell(active, event, "it is about to end")

    async def give_up(self, subject: Subject, job_id: int) -> None:
        """Give up what a job has on nodes that are not connected, as an admin who knows that they will not come back.

        Raises:
            PfsError: DENIED for others, BUSY where all of its nodes are there.
        """
        if not allowed(subject, Verb.RULE, SERVICE):
            raise PfsError(Kind.DENIED, "only an admin can say that a node will not come back")
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
        known = self._flow.fleet.policy.members.values() if allowed(subject, Verb.RULE, SERVICE) else ()
        foreign = sorted(groups.difference(subject.groups, *known))
        if foreign:
            raise PfsError(Kind.INVALID, f"you are in no group {foreign[0]!r}; share with groups that you are in")
        await self._flow.ledger.share(job_id, groups, frozenset())

    async def unshare(self, subject: Subject, job_id: int, groups: frozenset[str]) -> None:
        """Let the members of groups read a job no more; of all groups where none is named.

        Raises:
            PfsError: FORBIDDEN, INVALID for a task, or a group that the job is not shared with.
        """
        job = await self._shared(subject, job_id)
        foreign = sorted(groups - job.groups)
        if foreign:
            there = ", ".join(sorted(job.groups)) or "nobody"
            raise PfsError(Kind.INVALID, f"job {job_id} is not shared with {foreign[0]!r}, but with: {there}")
        await self._flow.ledger.share(job_id, frozenset(), groups or job.groups)

    # ---- inside

    async def _shared(self, subject: Subject, job_id: int) -> Job:
        job = await self._flow.ledger.commanded(subject, job_id)
        if job.array_id is not None:
            raise PfsError(Kind.INVALID, f"job {job_id} is a task of job {job.array_id}; share that one")
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


def check_priority(subject: Subject, priority: int) -> None:
    """Refuse a priority that somebody may not give.

    Raises:
        PfsError: INVALID, or DENIED above what everybody may have.
    """
    if not 0 <= priority <= PRIORITY_MAX:
        raise PfsError(Kind.INVALID, f"{priority} is no priority; they go from 0 to {PRIORITY_MAX}")
    if priority > PRIORITY_OF_ALL_MAX and not allowed(subject, Verb.RULE, SERVICE):
        raise PfsError(Kind.DENIED, f"priorities above {PRIORITY_OF_ALL_MAX} are for admins; {priority} is too high")
