"""The directory `processes/` of a job: `<g>.<p>/` for process p of group g, each of the present attempt."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from jobd.files.facts import gpu_number, one_line
from jobd.files.sources import FactText, Sources, missing
from jobd.files.streams import ProcessLogStream, ProcessLogText
from jobd.job import Job
from jobd.life.life import told
from jobd.life.model import Process, State
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.texts import Text
from pfs.tree.virtual import Directory, Node, directory_attr, listing, virtual_id

LOGS = {kind.called: kind for kind in (ProcessLogStream, ProcessLogText)}


class ProcessesDirectory(Directory):
    """A folder for each process of the present attempt; an array has none."""

    def __init__(self, sources: Sources, job: Job) -> None:
        self._sources = sources
        self._job = job
        self._workers = {f"{g}.{p}": worker for worker, (g, p) in enumerate(job.spec.workers())}

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("job", self._job.id, "processes"), mtime_ns=self._job.life.changed_at_ns)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a process."""
        if name not in self._workers:
            raise missing()
        return ProcessDirectory(self._sources, self._job, self._workers[name])

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all processes, by worker index."""
        return await listing(self, subject, self._workers)


@dataclass(frozen=True, slots=True)
class _Known:
    """What the texts of a process are made from.

    Args:
        job: as it stood when it was looked up.
        process: None before it has a place.
    """

    sources: Sources
    job: Job
    worker: int
    process: Process | None


class StateFile(Text):
    """Where it stands, in the words of jobs; CANCELLED: it was told to stop."""

    called = "state"

    def __init__(self, words: Sequence[object], known: _Known, mtime_ns: int) -> None:
        self._known = known
        ledger, job_id = known.sources.engine.ledger, known.job.id
        super().__init__((*words, self.called), self._made, mtime_ns, lambda: ledger.news(job_id))

    async def _made(self) -> bytes:
        """Tell where it stands by now, also through a file that was opened before."""
        known = self._known
        return f"{process_state(await known.sources.engine.ledger.current(known.job), known.worker)}\n".encode()


class NodeFile(FactText[_Known]):
    """The node that it is on."""

    called = "node"

    def text(self) -> str:
        """Return the text."""
        process = self._about.process
        node = "" if process is None else process.node
        return f"{self._about.sources.engine.fleet.name(node)}\n" if node else ""


class GpusFile(FactText[_Known]):
    """Its GPUs: number, UUID and model, a line each."""

    called = "gpus"

    def text(self) -> str:
        """Return the text."""
        process = self._about.process
        if process is None:
            return ""
        rows = {standing.row.id: standing.row for standing in self._about.sources.engine.fleet.standings()}
        there = rows[process.node].gpus if process.node in rows else []
        mine = [gpu for gpu in there if gpu["uuid"] in process.gpus]
        return "".join(f"{gpu_number(gpu)} {gpu['uuid']} {one_line(gpu['model'])}\n" for gpu in mine)


class EnvFile(FactText[_Known]):
    """Its variables, quoted for a shell."""

    called = "env"

    def text(self) -> str:
        """Return the text."""
        variables = self._about.sources.engine.environment(self._about.job, self._about.worker)
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items()))


class EndText(FactText[_Known]):
    """A text about how it ended: the last one once its job is over; until then another attempt may follow."""

    def _stays(self) -> bool:
        return self._about.job.life.state.over


class ExitCodeFile(EndText):
    """The code that it ended with; there once it is over."""

    called = "exit_code"

    def text(self) -> str:
        """Return the text."""
        return f"{self._about.process.code}\n" if self._about.process is not None else ""


class ResultFile(EndText):
    """What it wrote into its $RESULT_FILE; there once it is over."""

    called = "result"

    def text(self) -> str:
        """Return the text."""
        return self._about.process.result if self._about.process is not None else ""


class BeforeFile(FactText[_Known]):
    """How the one ended that it replaces; there where it does."""

    called = "before"

    def text(self) -> str:
        """Return the text."""
        return f"{one_line(self._about.process.before)}\n" if self._about.process is not None else ""


def _kinds(process: Process | None) -> Mapping[str, type[FactText[_Known] | StateFile]]:
    """Return the kinds of texts that a process has, by name."""
    kinds: list[type[FactText[_Known] | StateFile]] = [StateFile, NodeFile, GpusFile, EnvFile]
    if process is not None and process.code is not None:
        kinds += [ExitCodeFile, ResultFile]
    if process is not None and process.before:
        kinds.append(BeforeFile)
    return {kind.called: kind for kind in kinds}


class ProcessDirectory(Directory):
    """Process p of group g."""

    called = "<g>.<p>"

    def __init__(self, sources: Sources, job: Job, worker: int) -> None:
        processes = job.life.processes
        process = processes[worker] if worker < len(processes) else None
        self._known = _Known(sources, job, worker, process)
        self._texts = _kinds(process)

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is; its time is that of the process's last change."""
        return directory_attr(virtual_id(*self._words), mtime_ns=self._changed_at_ns)

    @property
    def _words(self) -> tuple[object, ...]:
        return ("job", self._known.job.id, "process", self._known.worker)

    @property
    def _changed_at_ns(self) -> int:
        process, life = self._known.process, self._known.job.life
        known = None if process is None else process.ended_at_ns or process.started_at_ns
        return known or life.placed_at_ns or life.submitted_at_ns

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a file."""
        known = self._known
        if name in LOGS:
            return LOGS[name](known.sources.engine, known.job, known.worker)
        if name not in self._texts:
            raise missing()
        return self._texts[name](self._words, known, self._changed_at_ns)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the files."""
        return await listing(self, subject, sorted((*self._texts, *LOGS)))


def process_state(job: Job, worker: int) -> State:
    """Return where one process stands, in the words of jobs; before it has a place, where its job stands."""
    life = job.life
    if worker >= len(life.processes):
        return life.state
    process: Process = life.processes[worker]
    if not process.node:
        return State.CANCELLED if life.state.over or life.state is State.STOPPING else State.WAITING
    if process.over:
        return process.failed or (State.SUCCEEDED if process.code == 0 else State.CANCELLED)
    if process.started_at_ns is None:
        return State.STARTING
    return State.STOPPING if told(life, worker) else State.RUNNING
