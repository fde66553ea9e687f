"""What can be read of a job while it is still being written: logs, and the wait for its end.

While the job lives, the end of a stream is not known: a read at the end waits. Afterwards it is a file like others,
which stays as it is: whoever opens it then may keep its bytes. Who had opened it before is told so as well: a mount
asks any open file how large its node is, and reads no further where it keeps what it reads.
A process's `log` holds what all its attempts wrote, and ends with the job: another attempt may follow.
"""

from collections.abc import Awaitable, Callable
from typing import ClassVar

from jobd.engine.engine import Engine
from jobd.engine.ports import Logs
from jobd.job import Job
from jobd.store.logs import JobLog
from pfs.api import Attr, NodeType, OpenFile, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.texts import WRITING, ReadOnlyFile, settled
from pfs.tree.virtual import File, How, virtual_id


class LogFile(File):
    """A log of a job, or of one of its processes by worker index."""

    opens: "ClassVar[type[OpenLog]]"

    def __init__(self, engine: Engine, job: Job, worker: int | None = None) -> None:
        self._engine = engine
        self._job = job
        self._worker = worker

    async def attr(self, subject: Subject) -> Attr:
        """Tell the size so far."""
        return self._attr(await self._engine.log_of(self._job), self._job)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        _only_reading(flags)
        log = await self._engine.log_of(self._job)

        async def now() -> Attr:
            return self._attr(log, await self._engine.ledger.current(self._job))

        return self.opens(self._engine.logs, self._attr(log, self._job), log, self._worker, now)

    def _attr(self, log: JobLog, job: Job) -> Attr:
        part = () if self._worker is None else ("process", self._worker)
        node_id = virtual_id("job", self._job.id, *part, self.called)
        return _attr(job, node_id, log.size(self._worker), stream=self.how is How.STREAM, over=log.over)


class OpenLog(ReadOnlyFile):
    """An open log: a read returns what there is."""

    def __init__(
        self, logs: Logs, attr: Attr, log: JobLog, worker: int | None, now: Callable[[], Awaitable[Attr]]
    ) -> None:
        super().__init__(attr)
        self._now = now
        self._logs = logs
        self._log = log
        self._worker = worker

    async def getattr(self) -> Attr:
        """Tell the size as of now, and whether it is over."""
        return await self._now()

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return what there is."""
        return await self._logs.read(self._log, self._worker, offset, size)


class OpenLogStream(OpenLog):
    """An open `log`: a read at the end waits for more, until the job is over."""

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return what there is from `offset`, waiting for the first byte of it."""
        if not wait and offset >= self._log.size(self._worker) and not self._log.over:
            raise PfsError(Kind.WOULD_BLOCK, "nothing more was written yet")
        await self._log.more(self._worker, offset)
        return await super().read(offset, size)


class LogStream(LogFile):
    """All output so far, then live, until the job is over."""

    called, how, opens = "log", How.STREAM, OpenLogStream


class LogText(LogFile):
    """The output so far."""

    called, how, opens = "log.txt", How.GROWS, OpenLog


class ProcessLogStream(LogStream):
    """Its bytes, unchanged, of all attempts; live, until the job is over."""


class ProcessLogText(LogText):
    """Its bytes so far."""


class WaitStream(File):
    """Silent until the job is over, then its exit code."""

    called, how = "wait", How.STREAM

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return _attr_of_wait(self._job)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        _only_reading(flags)
        return OpenWaitStream(self._engine, _attr_of_wait(self._job), self._job)


class OpenWaitStream(ReadOnlyFile):
    """An open `wait`."""

    def __init__(self, engine: Engine, attr: Attr, job: Job) -> None:
        super().__init__(attr)
        self._engine = engine
        self._job = job

    async def getattr(self) -> Attr:
        """Tell what it is by now."""
        return _attr_of_wait(await self._engine.ledger.current(self._job))

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return the exit code, once there is one."""
        job = await self._engine.ledger.current(self._job)
        if job.life.exit_code is None:
            if not wait:
                raise PfsError(Kind.WOULD_BLOCK, "the job is not over")
            job = await self._engine.ledger.wait(job)
        return f"{job.life.exit_code}\n".encode()[offset : offset + size]


def _only_reading(flags: OpenFlags) -> None:
    if flags & WRITING:
        raise PfsError(Kind.DENIED, "a log is written by the service")


def _attr_of_wait(job: Job) -> Attr:
    code = job.life.exit_code
    size = 0 if code is None else len(f"{code}\n")
    return _attr(job, virtual_id("job", job.id, "wait"), size, stream=True, over=code is not None)


def _attr(job: Job, node_id: int, size: int, *, stream: bool, over: bool) -> Attr:
    changed_at_ns = job.life.changed_at_ns
    attr = Attr(
        NodeType.FILE,
        node_id,
        0o444,
        size,
        mtime_ns=changed_at_ns,
        ctime_ns=changed_at_ns,
        volatile=True,
        stream=stream and not over,
    )
    return settled(attr) if over else attr
