"""What jobd puts at the top of the tree: `jobs/`, `nodes/`, `clusters/`, `aliases/`, `secrets/`, and texts about all.

events    what happened to all jobs and nodes       (`jobd.files.events`)
me        who one is, and what one chooses
queue     the jobs that wait for nodes, in the order of their turns, each with its reason
quota     what one and one's groups have and may have
status    the cluster in one screen: nodes, GPUs in use, jobs that run, that wait, and that ended last

Everybody may read these of every job: its number, user, title, state, request, place, why it waits, and what it did
with its GPUs when it is over.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import trio

from jobd.engine.fleet import NodeStanding
from jobd.files.aliases import AliasesDirectory
from jobd.files.clusters import ClustersDirectory
from jobd.files.events import EventsFile
from jobd.files.facts import flat, mean_texts, place_text, request_text, table, time_text
from jobd.files.jobs import JobsDirectory
from jobd.files.me import Me
from jobd.files.nodes import NodesDirectory
from jobd.files.quota import QuotaFile
from jobd.files.secrets import SecretsDirectory
from jobd.files.sources import Sources, Uses
from jobd.job import Job
from jobd.life.life import State
from pfs.api import Attr
from pfs.perm import Subject
from pfs.tree.texts import Text
from pfs.tree.virtual import Node

KEPT_S = 1.0
SHOWN_MAX = 1000
DONE_SHOWN_MAX = 20

NODES = ("NODE", "STATE", "GPUS", "FREE", "PROCESSES", "CPUS", "MEMORY", "RUNTIMES")
RUNNING = ("JOB", "STATE", "CHANGED", "USER", "REQUEST", "PLACE", "TITLE")
DONE = ("JOB", "STATE", "CHANGED", "USER", "UTIL", "MEMORY", "REQUEST", "PLACE", "TITLE")
WAITING = ("JOB", "STATE", "CHANGED", "USER", "REQUEST", "TITLE")
QUEUE = ("PLACE", "JOB", "USER", "PRIORITY", "REQUEST", "EARLIEST START", "TITLE", "WHY")


def tree(sources: Sources) -> Mapping[str, Node]:
    """Return everything that jobd puts into the tree, by name."""

    return {
        "jobs": JobsDirectory(sources),
        "nodes": NodesDirectory(sources),
        "aliases": AliasesDirectory(sources),
        "clusters": ClustersDirectory(sources),
        "secrets": SecretsDirectory(sources),
        "events": EventsFile(sources),
        "me": Me(sources),
        "queue": QueueFile(sources),
        "quota": QuotaFile(sources),
        "status": StatusFile(sources),
    }


class Overview(Text):
    """A text about the whole cluster, which takes a while to make: the same for all who ask while nothing changes.

    Its time is that of the last change of any job or node. Who lists the top wants names: there it has the size that
    it had last.
    """

    def __init__(self, name: str, sources: Sources, make: Callable[[Sources], Awaitable[str]]) -> None:
        super().__init__((name,), self._now)
        self._sources = sources
        self._make_anew = make
        self._turn = trio.Lock()
        self._known: object = None
        self._made_s = 0.0
        self._text: bytes | None = None

    async def attr(self, subject: Subject) -> Attr:
        """Tell its size."""
        return self._attr_of(await self._now())

    async def listed(self, subject: Subject) -> Attr:
        """Tell the size that it had last."""
        return self._attr_of(self._text if self._text is not None else await self._now())

    async def _now(self) -> bytes:
        """Return the text as of now; a reason that changed by itself may be seen a second later."""
        async with self._turn:
            engine = self._sources.engine
            now = (engine.ledger.version, *(standing.state for standing in engine.fleet.standings()))
            if self._text is None or self._known != now or trio.current_time() - self._made_s > KEPT_S:
                self._mtime_ns = engine.ledger.changed_at_ns
                self._text = (await self._make_anew(self._sources)).encode()
                self._known, self._made_s = now, trio.current_time()
            return self._text


class QueueFile(Overview):
    """The jobs that wait for nodes, in their order, each with its reason."""

    def __init__(self, sources: Sources) -> None:
        super().__init__("queue", sources, queue_text)


class StatusFile(Overview):
    """The cluster in one screen."""

    def __init__(self, sources: Sources) -> None:
        super().__init__("status", sources, status_text)


async def queue_text(sources: Sources) -> str:
    """Return the jobs that wait for nodes, in order."""
    rows = []
    waiting, more = _by_array(sources.engine.queue())
    for job in waiting[:SHOWN_MAX]:
        await trio.lowlevel.checkpoint()  # a reason takes a while; others have their turns in between
        why = sources.engine.standing(job)
        start = "" if why.earliest_start_s is None else time_text(int(why.earliest_start_s * 1e9))
        cells = (
            why.place,
            job.id,
            job.user,
            job.life.priority,
            request_text(job.spec),
            start,
            _title(job, more),
            why.text,
        )
        rows.append([str(cell) for cell in cells])
    return table(QUEUE, rows) + _more(len(waiting))


async def status_text(sources: Sources) -> str:
    """Return the cluster in one screen."""
    jobs = [active.job for active in sources.engine.ledger.active()]
    running = [job for job in jobs if _runs(job)]
    waiting = _waiting(sources, jobs)
    done = await sources.store.newest_ended(DONE_SHOWN_MAX)
    standings, uses = sources.engine.fleet.standings(), Uses(jobs)
    names, numbers = sources.node_names(), sources.gpu_numbers()

    def placed(job: Job, *uses: str) -> list[str]:
        where = place_text(job.life.processes, names, numbers)
        return _row(job, [*uses, request_text(job.spec), where])

    firsts, more = _by_array(waiting)
    shown = [_row(job, [request_text(job.spec)], more) for job in firsts[:SHOWN_MAX]]
    sections = [
        _summary(standings, uses, len(running), len(waiting)),
        _nodes(standings, uses),
        "Running:\n" + table(RUNNING, [placed(job) for job in running[:SHOWN_MAX]]) + _more(len(running)),
        "Waiting:\n" + table(WAITING, shown) + _more(len(firsts)),
        "Done:\n" + table(DONE, [placed(job, *mean_texts(job)) for job in done]),
    ]
    return "\n".join(sections)


def _runs(job: Job) -> bool:
    return job.life.state in (State.STARTING, State.RUNNING, State.STOPPING) and bool(job.life.processes)


def _waiting(sources: Sources, jobs: Iterable[Job]) -> list[Job]:
    """Return what does not run: by turn, then what is held, what is prepared, and what waits for other jobs."""
    queue = sources.engine.queue()
    queued = {job.id for job in queue}
    others: dict[State, list[Job]] = {State.WAITING: [], State.PREPARING: [], State.PENDING: []}
    for job in jobs:
        if job.life.state in others and job.id not in queued and job.spec.array is None:  # its tasks tell of it
            others[job.life.state].append(job)
    return [*queue, *(job for found in others.values() for job in found)]


def _summary(standings: Sequence[NodeStanding], uses: Uses, running: int, waiting: int) -> str:
    online = sum(standing.online for standing in standings)
    gpus = sum(len(standing.row.gpus) for standing in standings)
    free = sum(uses.of(standing.row.id).free(standing.row.gpus) for standing in standings)
    return flat(
        {
            "nodes": f"{online} of {len(standings)} online",
            "gpus": f"{free} of {gpus} free",
            "jobs": f"{running} running, {waiting} waiting",
        }
    )


def _nodes(standings: Sequence[NodeStanding], uses: Uses) -> str:
    rows = []
    for standing in standings[:SHOWN_MAX]:
        row, use = standing.row, uses.of(standing.row.id)
        free = use.free(row.gpus)
        attrs = (row.attrs.get("cpuCount", ""), row.attrs.get("cpuMem", ""))
        cells = (standing.label, standing.state, len(row.gpus), free, use.processes, *attrs, " ".join(row.runtimes))
        rows.append([str(cell) for cell in cells])
    return "Nodes:\n" + table(NODES, rows) + _more(len(standings))


def _by_array(jobs: Iterable[Job]) -> tuple[list[Job], Counter[int]]:
    """Return jobs, of the tasks of each array only the first, and by its number how many more there are."""
    found: dict[tuple[bool, int], Job] = {}
    more: Counter[int] = Counter()
    for job in jobs:
        first = found.setdefault((job.array_id is not None, job.array_id or job.id), job)
        if first is not job:
            more[first.id] += 1
    return list(found.values()), more


def _row(job: Job, cells: Sequence[str], more: Mapping[int, int] | None = None) -> list[str]:
    title = _title(job, more or {})
    return [str(job.id), job.life.state, time_text(job.life.changed_at_ns), job.user, *cells, title]


def _title(job: Job, more: Mapping[int, int]) -> str:
    if job.array_index is None:
        return job.spec.title
    others = more.get(job.id)
    return f"{job.spec.title}[{job.array_index}]" + (f" and {others:,} more tasks" if others else "")


def _more(count: int) -> str:
    return f"… and {count - SHOWN_MAX:,} more\n" if count > SHOWN_MAX else ""
