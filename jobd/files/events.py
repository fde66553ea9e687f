"""The file `events`: the history of the datacenter, for everybody, a line for each change of a job's or a node's state.

    2026-01-31T12:00:00.000001Z WAITING job=17 user=ann request=[gtx] title=A test
    2026-01-31T12:00:01.000001Z STARTING job=17 user=ann on=n0[cuda 0] title=A test
    2026-01-31T12:00:02.000001Z DRAINING node=n0 why=drained by root: new disk

It tells of every job what `queue` and `status` tell; of one whose processes are replaced, become more or become fewer
while it runs, each time anew. Of an array's tasks it tells from their places on: before that
the array speaks for them. It grows while it is open: `tail -f` shows what comes.
"""

from jobd.engine.engine import Engine
from jobd.files.facts import gpu_number, moment_text, one_line, place_text, request_text
from jobd.files.sources import Sources
from jobd.job import Job
from jobd.life.life import BEFORE_PLACED, Life
from jobd.nodestate import NodeState
from jobd.store.history import Extent, Gone, History
from jobd.store.jobs import Jobs
from pfs.api import Attr, NodeType, OpenFile, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.texts import WRITING, ReadOnlyFile
from pfs.tree.virtual import File, How, virtual_id

CAUGHT_UP_MAX = 10_000
STARTED, REMOVED = "SERVER started", "REMOVED"


def line_of(time_ns: int, text: str) -> str:
    """Return a line of the history."""
    return f"{moment_text(time_ns)} {text}"


class Recorder:
    """Tells the history what happens to the jobs and nodes of an engine, from when it is made on."""

    def __init__(self, engine: Engine, history: History) -> None:
        self._engine = engine
        self._history = history
        self._shown: dict[str, tuple[NodeState, str]] = {}
        self._told: set[int] | None = set()  # the jobs of which something was told, until it has caught up
        engine.observe(self._job, self._node)

    async def catch_up(self, jobs: Jobs, now_ns: int) -> None:
        """Tell what happened to jobs just before the server ended without having told it, and that it began again."""
        last, told = self._history.last.partition(" ")[0], self._told or set()
        ended = await jobs.newest_ended(CAUGHT_UP_MAX) if last else []
        known = [*ended, *(active.job for active in self._engine.ledger.active())]
        for job in sorted(known, key=lambda job: job.life.changed_at_ns):
            if last and job.id not in told and moment_text(job.life.changed_at_ns) > last:
                self._job(None, job)
        self._told = None
        self._history.add(now_ns, STARTED)

    def _job(self, before: Life | None, job: Job) -> None:
        life = job.life
        if (before is not None and _shown(before) == _shown(life)) or (job.array_id and life.state in BEFORE_PLACED):
            return
        if self._told is not None:
            self._told.add(job.id)
        on = self._place(life)
        facts: dict[str, object] = {
            "job": job.id,
            "array": job.array_id,
            "user": job.user,
            "on": on,
            "request": "" if on else request_text(job.spec),
            "title": job.spec.title if job.array_index is None else f"{job.spec.title}[{job.array_index}]",
        }
        self._add(life.changed_at_ns, life.state, facts)

    def _place(self, life: Life) -> str:
        fleet = self._engine.fleet
        rows = [row for row in map(fleet.row, life.nodes) if row is not None]
        numbers = {gpu["uuid"]: gpu_number(gpu) for row in rows for gpu in row.gpus}
        return place_text(life.processes, {node: fleet.name(node) for node in life.nodes}, numbers)

    def _node(self, node_id: str, now_ns: int) -> None:
        fleet = self._engine.fleet
        before, name = self._shown.pop(node_id, (NodeState.SUSPECT, ""))
        if fleet.row(node_id) is None:
            if name:
                self._add(now_ns, REMOVED, {"node": name})
            return
        state, name = fleet.shown(node_id), fleet.name(node_id)
        self._shown[node_id] = state, name
        if state is not before:  # one that was not heard of since the server began is no news
            closed = fleet.closed.get(node_id)
            self._add(now_ns, state, {"node": name, "why": "" if closed is None else closed.text})

    def _add(self, time_ns: int, what: str, facts: dict[str, object]) -> None:
        words = [f"{key}={one_line(value)}" for key, value in facts.items() if value not in ("", None)]
        self._history.add(time_ns, " ".join([what, *words]))


def _shown(life: Life) -> object:
    """Return what a line is told of, when it changes: the state, and where the processes are of a job that runs."""
    there = [(each.node, each.gpus) for each in life.processes if not each.is_open]
    return life.state, there, life.losses


class EventsFile(File):
    """What happened to all jobs and nodes, a line each; the first says since when."""

    how = How.GROWS

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def attr(self, subject: Subject) -> Attr:
        """Tell how long it is now, and when it was last added to."""
        return _attr(await self._sources.history.extent())

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        if flags & WRITING:
            raise PfsError(Kind.DENIED, "the history is written by the server")
        history = self._sources.history
        return OpenEvents(history, await history.extent())


class OpenEvents(ReadOnlyFile):
    """An open `events`."""

    def __init__(self, history: History, opened: Extent) -> None:
        super().__init__(_attr(opened))
        self._history = history
        self._opened = opened

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return what there is."""
        try:
            return await self._history.read(self._opened, offset, size)
        except Gone:
            raise PfsError(Kind.STALE, "these events are not kept any more; open `events` again") from None

    async def getattr(self) -> Attr:
        """Tell how long it is now."""
        now = await self._history.extent()
        size_bytes = now.begin + now.size_bytes - self._opened.begin
        return _attr(Extent(self._opened.name, self._opened.begin, size_bytes, now.changed_at_ns))


def _attr(extent: Extent) -> Attr:
    return Attr(
        NodeType.FILE,
        virtual_id("events", extent.name),
        0o444,
        extent.size_bytes,
        mtime_ns=extent.changed_at_ns,
        ctime_ns=extent.changed_at_ns,
        volatile=True,
    )
