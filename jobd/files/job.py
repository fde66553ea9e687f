"""The directory of one job: `jobs/<id>/`.

spec.yaml state why …     texts about it             (`jobd.files.jobtexts`)
log log.txt wait          its output, and its end    (`jobd.files.streams`)
ctl                       commands                   (`jobd.files.jobcontrol`)
processes/<g>.<p>/        one process                (`jobd.files.processes`)
tasks/<k>/                one task of an array       (`jobd.files.tasks`)
src/ keep/ out/           the job's data
"""

from collections.abc import Sequence

from jobd.engine.assign import data_path
from jobd.files.jobcontrol import job_control
from jobd.files.jobtexts import STANDING, ExitCodeFile, PatchFile, has_tasks
from jobd.files.processes import ProcessesDirectory
from jobd.files.sources import Sources, missing
from jobd.files.streams import LogStream, LogText, WaitStream
from jobd.files.tasks import TasksDirectory, job_attr
from jobd.job import Job
from pfs.api import Attr, Entry
from pfs.perm import Subject
from pfs.tree.virtual import Directory, DomainDirectory, Node, listing

NAMES = (
    *("ctl", "events", "exit_code", "keep", "log", "log.txt", "out", "patch", "processes", "resolved.yaml"),
    *("spec.yaml", "src", "state", "status", "tasks", "wait", "why"),
)
# what everybody else hears nothing of
PRIVATE = frozenset({"events", "log", "log.txt", "patch", "processes", "resolved.yaml", "spec.yaml"})


class SrcFiles(DomainDirectory):
    """The folder in which it starts."""


class KeepFiles(DomainDirectory):
    """What stays from one attempt to the next."""


class OutFiles(DomainDirectory):
    """What it leaves behind."""


DATA = {"src": SrcFiles, "keep": KeepFiles, "out": OutFiles}


class JobDirectory(Directory):
    """A job; its time is that of the last change of its state.

    Args:
        job: as it stood when it was looked up.
    """

    called = "<id>"

    def __init__(self, sources: Sources, job: Job) -> None:
        self.job = job
        self._sources = sources
        self._engine = sources.engine

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is; its time is that of the job's last change."""
        return job_attr(self.job.id, self.job.life.changed_at_ns, over=self.job.life.state.over)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the file of that name."""
        if name in PRIVATE:
            await self._sources.audit.reached(subject, self.job.domain)
        match name:
            case "log" if await self._has_log():
                return LogStream(self._engine, self.job)
            case "log.txt" if await self._has_log():
                return LogText(self._engine, self.job)
            case "wait":
                return WaitStream(self._engine, self.job)
            case "ctl":
                return job_control(self._sources, self.job)
            case "keep" | "out" | "src" if not has_tasks(self.job):
                # what a job wrote is its owner's on the disk, and only jobs write it
                return DATA[name](self.job.domain, self._sources.disk.domain(data_path(self.job.id, name), None))
            case "processes" if not has_tasks(self.job):
                return ProcessesDirectory(self._sources, self.job)
            case "tasks" if has_tasks(self.job):
                return TasksDirectory(self._sources, self.job, self._enter)
            case "patch" if await self._has_patch():
                return PatchFile(self._sources, self.job)
            case "exit_code" if self.job.life.exit_code is not None:
                return ExitCodeFile(self._sources, self.job)
        if name in STANDING:
            return STANDING[name](self._sources, self.job)
        raise missing()

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the job's files; its data is there between its preparation and its removal."""
        return await listing(self, subject, NAMES)

    def _enter(self, task: Job) -> "TaskDirectory":
        return TaskDirectory(self._sources, task)

    async def _has_log(self) -> bool:
        """Tell whether there is a log, or will be: that of a job that ended long ago may be gone."""
        if not self.job.life.state.over or has_tasks(self.job):
            return True
        return await self._sources.workshop.has_log(self.job)

    async def _has_patch(self) -> bool:
        origin = await self._sources.workshop.origin(self.job)
        return origin is not None and origin.patch != ""


class TaskDirectory(JobDirectory):
    """A task: all that a job has."""

    called = "<k>"
