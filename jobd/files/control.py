"""`ctl`: a write is a command to the job."""

from jobd.ctl import (
    HELP,
    Command,
    Extend,
    Hold,
    Kill,
    Lost,
    Priority,
    Release,
    Requeue,
    Signal,
    parse_ctl,
)
from jobd.engine.engine import Engine
from jobd.job import Job
from pfs.api import Attr, Changes, Closing, NodeType, OpenFile, OpenFlags
from pfs.perm import Subject
from pfs.tree.virtual import File, OpenText, virtual_id


class Control(File):
    """`ctl`; only the owner's commands are obeyed."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return Attr(
            NodeType.FILE,
            virtual_id("job", self._job.id, "ctl"),
            0o600,
            len(HELP.encode()),
            mtime_ns=self._job.life.submitted_at_ns,
            ctime_ns=self._job.life.submitted_at_ns,
            volatile=True,
        )

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open; truncating means nothing here."""
        return OpenControl(self._engine, await self.attr(subject), self._job.id, subject)


class OpenControl(OpenText):
    """An open `ctl`; reading it prints the commands."""

    def __init__(self, engine: Engine, attr: Attr, job_id: int, subject: Subject) -> None:
        super().__init__(attr, _help, HELP.encode())
        self._engine = engine
        self._job_id = job_id
        self._subject = subject

    async def write(self, offset: int, data: bytes) -> int:
        """Obey: every line is understood before the first is done."""
        for command in parse_ctl(data):
            await self._obey(command)
        return len(data)

    async def _obey(self, command: Command) -> None:
        engine, subject, job_id = self._engine, self._subject, self._job_id
        match command:
            case Kill():
                await engine.kill(subject, job_id)
            case Signal(number):
                await engine.signal(subject, job_id, number)
            case Hold():
                await engine.hold(subject, job_id)
            case Release():
                await engine.release(subject, job_id)
            case Requeue():
                await engine.requeue(subject, job_id)
            case Priority(number):
                await engine.set_priority(subject, job_id, number)
            case Extend(by_s):
                await engine.extend(subject, job_id, by_s)
            case Lost():
                await engine.give_up(subject, job_id)

    async def setattr(self, changes: Changes) -> Attr:
        """Mean nothing: a shell's `>` cuts before it writes."""
        return self.attr

    async def flush(self, closing: Closing) -> None:
        """Everything was done while it was written."""


async def _help() -> bytes:
    return HELP.encode()
