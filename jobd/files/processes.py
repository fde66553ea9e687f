"""The directory `processes/` of a job: `<g>.<p>/` for process p of group g, each of the present attempt.

state              where it stands, in the words of jobs; CANCELLED: it was told to stop
node gpus          where it runs: the node's name; a line for each GPU: number, UUID, model
env                its variables, quoted for a shell
exit_code result   once it is over; what it wrote into $RESULT_FILE
before             how the one ended that had its place before it, where it was replaced
log log.txt        what it wrote, unchanged, in all attempts
"""

import shlex
from collections.abc import Sequence

from jobd.files.facts import gpu_number, one_line
from jobd.files.sources import Sources, missing, text
from jobd.files.streams import LogFile
from jobd.job import Job
from jobd.life.life import told
from jobd.life.model import Process, State
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.texts import SettledText, Text
from pfs.tree.virtual import Directory, Node, directory_attr, listing, virtual_id


class ProcessesDirectory(Directory):
    """`processes/`."""

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


class ProcessDirectory(Directory):
    """One process of a job, as the job stood when it was looked up."""

    def __init__(self, sources: Sources, job: Job, worker: int) -> None:
        self._sources = sources
        self._job = job
        self._worker = worker
        processes = job.life.processes
        self._process = processes[worker] if worker < len(processes) else None
        self._texts = {"node": self._node, "gpus": self._gpus, "env": self._env}
        if self._process is not None and self._process.code is not None:
            self._texts |= {"exit_code": self._exit_code, "result": self._result}
        if self._process is not None and self._process.before:
            self._texts["before"] = self._before

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is; its time is that of the process's last change."""
        return directory_attr(virtual_id(*self._words), mtime_ns=self._changed_at_ns)

    @property
    def _words(self) -> tuple[object, ...]:
        return ("job", self._job.id, "process", self._worker)

    @property
    def _changed_at_ns(self) -> int:
        process = self._process
        known = None if process is None else process.ended_at_ns or process.started_at_ns
        return known or self._job.life.placed_at_ns or self._job.life.submitted_at_ns

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a file."""
        match name:
            case "log":
                return LogFile(self._sources.engine, self._job, self._worker, live=True)
            case "log.txt":
                return LogFile(self._sources.engine, self._job, self._worker, live=False)
            case "state":
                ledger = self._sources.engine.ledger
                return Text((*self._words, name), self._state, self._changed_at_ns, lambda: ledger.news(self._job.id))
        if name not in self._texts:
            raise missing()
        stays = self._job.life.state.over and name in ("exit_code", "result")  # else another attempt may follow
        kind = SettledText if stays else Text
        return text((*self._words, name), self._texts[name], self._changed_at_ns, kind)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the files."""
        return await listing(self, subject, sorted((*self._texts, "log", "log.txt", "state")))

    async def _state(self) -> bytes:
        """Tell where it stands by now, also through a file that was opened before."""
        return f"{process_state(await self._sources.engine.ledger.current(self._job), self._worker)}\n".encode()

    def _node(self) -> str:
        node = "" if self._process is None else self._process.node
        return f"{self._sources.engine.fleet.name(node)}\n" if node else ""

    def _gpus(self) -> str:
        if self._process is None:
            return ""
        rows = {standing.row.id: standing.row for standing in self._sources.engine.fleet.standings()}
        there = rows[self._process.node].gpus if self._process.node in rows else []
        mine = [gpu for gpu in there if gpu["uuid"] in self._process.gpus]
        return "".join(f"{gpu_number(gpu)} {gpu['uuid']} {one_line(gpu['model'])}\n" for gpu in mine)

    def _env(self) -> str:
        variables = self._sources.engine.environment(self._job, self._worker)
        return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(variables.items()))

    def _before(self) -> str:
        return f"{one_line(self._process.before)}\n" if self._process is not None else ""

    def _exit_code(self) -> str:
        return f"{self._process.code}\n" if self._process is not None else ""

    def _result(self) -> str:
        return self._process.result if self._process is not None else ""


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
