"""The directories `by-state/`, `by-user/` and `by-node/` of `jobs/`: the same jobs, each where one looks for it.

by-state/<state>/<id>     where they stand; every state has its directory
by-user/<user>/<id>       whose they are; one's own is always there
by-node/<node>/<id>       where their processes are, or were: of an array the tasks, while they are there

Each is a link to `../../<id>`. Nothing is kept for them, so nothing has to be told to anybody: whether a name is there
is asked of its job alone, and a listing is made of the jobs that are not over, which are in memory, and of those that
ended lately where such can be in it. A job that one may not read is not there.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from math import inf
from typing import ClassVar

import trio

from jobd.engine.ledger import Ledger
from jobd.files.listings import KeptListings
from jobd.files.sources import Sources, missing
from jobd.files.tasks import LISTED_VALID_S, WALK_VALID_S, job_number
from jobd.job import Job
from jobd.life.life import State
from jobd.store.jobs import JOBS_LISTED_MAX, Listed
from pfs.api import Attr, Entry
from pfs.perm import Subject, Verb, allowed
from pfs.tree.virtual import Directory, Link, Node, directory_attr, listing, virtual_id
from pfs.validity import held_for

WALKS_MAX = 1024
# so long a listing tells which jobs that are over belong to it: that changes only when one is thrown away
TOLD_S = 60.0


def views(sources: Sources, listings: KeptListings) -> "Mapping[str, View]":
    """Return the views of all jobs, by name."""
    return {kind.name: kind(sources, listings) for kind in (ByState, ByUser, ByNode)}


class View(Directory, ABC):
    """One way to look at all jobs: a directory for each answer to one question about a job."""

    name: ClassVar[str]
    answer_kind: "ClassVar[type[Answer]]"

    def __init__(self, sources: Sources, listings: KeptListings) -> None:
        self._engine = sources.engine
        self._store = sources.store
        self._listings = listings
        self._over: dict[tuple[Subject, str], tuple[float, Mapping[int, int]]] = {}

    @abstractmethod
    def holds(self, job: Job, answer: str) -> bool:
        """Tell whether a job belongs into the directory of an answer."""

    @abstractmethod
    async def over(self, subject: Subject, answer: str) -> Iterable[Listed]:
        """Return the jobs over that belong there, of those that `jobs/` lists."""

    @abstractmethod
    async def answers(self, subject: Subject) -> Collection[str]:
        """Return the names of its directories."""

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is; its time is that of the last change of any job."""
        made, mtime_ns = virtual_id(self.name, subject.user), self._engine.ledger.changed_at_ns
        return directory_attr(made, mtime_ns=mtime_ns, walk_s=WALK_VALID_S)

    async def is_answer(self, subject: Subject, name: str) -> bool:
        """Tell whether one of its directories is called so."""
        return name in await self.answers(subject)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the directory of an answer."""
        if not await self.is_answer(subject, name):
            raise missing()
        return self.answer_kind(self, self._engine.ledger, name)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all answers."""
        return await listing(self, subject, await self.answers(subject))

    async def again(
        self, subject: Subject, answer: str, make: Callable[[], Awaitable[Sequence[Entry]]]
    ) -> Sequence[Entry]:
        """Return the listing of an answer as it was made last, where it is right still; else make it."""
        entries = await self._listings.get(subject, (self.name, answer), make)
        if (told := self._over.get((subject, answer))) is not None:
            self._over[subject, answer] = trio.current_time(), told[1]
        return entries

    async def jobs(self, subject: Subject, answer: str) -> Mapping[int, int]:
        """Return the newest jobs that belong there, each with when it changed last, in nanoseconds since the epoch."""
        over = {job.id: job.changed_at_ns for job in await self.over(subject, answer)}
        self._remember(subject, answer, over)
        found = dict(over)
        for active in self._engine.ledger.active():
            job = active.job
            if self.holds(job, answer) and allowed(subject, Verb.READ, job.domain):
                found[job.id] = job.life.changed_at_ns
        return {job_id: found[job_id] for job_id in sorted(found)[-JOBS_LISTED_MAX:]}

    def _remember(self, subject: Subject, answer: str, over: Mapping[int, int]) -> None:
        now_s = trio.current_time()
        recent = {key: told for key, told in self._over.items() if now_s < told[0] + TOLD_S}
        self._over = {**recent, (subject, answer): (now_s, over)}

    def just_told(self, subject: Subject, answer: str, job_id: int) -> int | None:
        """Return when a job over changed last, where a listing has just told that it belongs there.

        Whoever lists thousands asks for each right afterwards; such a job would have to be looked up.
        """
        told_s, over = self._over.get((subject, answer), (-inf, {}))
        return over.get(job_id) if trio.current_time() < told_s + TOLD_S else None

    def forget(self) -> None:
        """Know nothing more of jobs that are over."""
        self._over = {}


class Answer(Directory):
    """The directory of one answer: a link for each of its jobs."""

    link_kind: ClassVar[type[Link]]

    def __init__(self, view: View, ledger: Ledger, answer: str) -> None:
        self._view = view
        self._ledger = ledger
        self._answer = answer

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is; its time is that of the last change of any job."""
        made = virtual_id(self._view.name, self._answer, subject.user)
        return directory_attr(made, mtime_ns=self._ledger.changed_at_ns, walk_s=WALK_VALID_S)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the link to a job that belongs here; also to one that ended too long ago to be listed."""
        number = job_number(name)
        if (told_ns := self._view.just_told(subject, self._answer, number)) is not None:
            return self._link(number, told_ns)
        job = await self._ledger.find(number, subject)
        if not self._view.holds(job, self._answer):
            raise missing()
        return self._link(job.id, job.life.changed_at_ns)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the jobs by number."""
        return await self._view.again(subject, self._answer, lambda: self._entries(subject))

    async def _entries(self, subject: Subject) -> Sequence[Entry]:
        found = await self._view.jobs(subject, self._answer)
        links = [(str(job_id), self._link(job_id, at_ns)) for job_id, at_ns in found.items()]
        # as in `jobs/`: whoever looks at thousands right afterwards need not ask for each
        return [Entry(name, held_for(await link.attr(subject), LISTED_VALID_S), link.target) for name, link in links]

    def _link(self, job_id: int, changed_at_ns: int) -> Link:
        return self.link_kind(virtual_id(self._view.name, self._answer, job_id), f"../../{job_id}", changed_at_ns)


class StateLink(Link):
    """To the job; of an array, to the array."""

    called = "<id>"


class UserLink(Link):
    """To the job."""

    called = "<id>"


class NodeLink(Link):
    """To the job; to a task of an array while it is there."""

    called = "<id>"


class StateAnswer(Answer):
    """The jobs that stand there now."""

    called, link_kind = "<state>", StateLink


class UserAnswer(Answer):
    """The user's jobs."""

    called, link_kind = "<user>", UserLink


class NodeAnswer(Answer):
    """The jobs with processes there, and those that ended there."""

    called, link_kind = "<node>", NodeLink


class ByState(View):
    """A folder for each state."""

    name, answer_kind = "by-state", StateAnswer

    def holds(self, job: Job, answer: str) -> bool:
        """Tell whether it stands there; the tasks of an array stand in the array."""
        return job.array_id is None and job.life.state == answer

    async def over(self, subject: Subject, answer: str) -> Iterable[Listed]:
        """Return the jobs that ended so."""
        if not State(answer).over:
            return ()
        return [job for job in await self._engine.ledger.listed(subject) if job.over and job.state == answer]

    async def answers(self, subject: Subject) -> Collection[str]:
        """Return all states, in the order in which jobs go through them."""
        return [state.value for state in State]


class ByUser(View):
    """A folder for each user whose jobs you may read."""

    name, answer_kind = "by-user", UserAnswer

    def __init__(self, sources: Sources, listings: KeptListings) -> None:
        super().__init__(sources, listings)
        self._lately: dict[tuple[Subject, str], float] = {}

    async def is_answer(self, subject: Subject, name: str) -> bool:
        """Tell whether there is such a user for `subject`: whoever walks to a job of one that has thousands asks that
        for each of them, and is told what was so a moment ago.
        """
        now_s, asked = trio.current_time(), (subject, name)
        if name == subject.user or now_s < self._lately.get(asked, -inf) + LISTED_VALID_S:
            return True
        is_one = await super().is_answer(subject, name)
        if is_one:
            if len(self._lately) >= WALKS_MAX:
                self._lately.clear()
            self._lately[asked] = now_s
        return is_one

    def holds(self, job: Job, answer: str) -> bool:
        """Tell whether it is the user's."""
        return job.array_id is None and job.user == answer

    async def over(self, subject: Subject, answer: str) -> Iterable[Listed]:
        """Return the user's jobs that are over."""
        return [job for job in await self._engine.ledger.listed(subject) if job.over and job.user == answer]

    async def answers(self, subject: Subject) -> Collection[str]:
        """Return whoever has jobs that `subject` may read, and `subject`."""
        return sorted({subject.user, *(job.user for job in await self._engine.ledger.listed(subject))})


class ByNode(View):
    """A folder for each node."""

    name, answer_kind = "by-node", NodeAnswer

    def holds(self, job: Job, answer: str) -> bool:
        """Tell whether a process of it is there; a task that is over is found in its array."""
        is_here = job.array_id is None or not job.life.state.over
        return is_here and answer in self._named(job.life.nodes)

    async def over(self, subject: Subject, answer: str) -> Iterable[Listed]:
        """Return the jobs that were there when they ended."""
        listed = {job.id: job for job in await self._engine.ledger.listed(subject) if job.over}
        nodes = await self._store.nodes_of(listed)
        return [job for job in listed.values() if answer in self._named(nodes[job.id])]

    async def is_answer(self, subject: Subject, name: str) -> bool:
        """Tell whether a node is called so."""
        return "/" not in name and self._engine.fleet.named(name) is not None

    async def answers(self, subject: Subject) -> Collection[str]:
        """Return all nodes; the machines of one are in one."""
        return dict.fromkeys(self._named(standing.row.id for standing in self._engine.fleet.standings()))

    def _named(self, nodes: Iterable[str]) -> list[str]:
        return [self._engine.fleet.name(node).partition("/")[0] for node in nodes]
