"""What can be read of a job while it is still being written: logs, and the wait for its end.

While the job lives, the end of a stream is not known: a read at the end waits. Afterwards it is a file like others.
A process's `log` holds what all its attempts wrote, and ends with the job: another attempt may follow.
"""

from dataclasses import replace

from jobd.engine.engine import Engine
from jobd.job import Job
from jobd.store.logs import JobLog
from pfs.api import Attr, NodeType, OpenFile, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.virtual import WRITING, File, ReadOnlyFile, virtual_id


class LogStream(File):
    """`log` of a job, or of one of its processes by worker index."""

    def __init__(self, engine: Engine, job: Job, worker: int | None = None) -> None:
        self._engine = engine
        self._job = job
        self._worker = worker

    async def attr(self, subject: Subject) -> Attr:
        """Tell the size, once it is known."""
        return self._attr(await self._engine.log_of(self._job))

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        _only_reading(flags)
        log = await self._engine.log_of(self._job)
        return OpenLogStream(self._engine, self._attr(log), log, self._worker)

    def _attr(self, log: JobLog) -> Attr:
        return _log_attr(self._job, "log", log, self._worker, live=True)


class OpenLogStream(ReadOnlyFile):
    """An open `log`: a read at the end waits for more, until the job is over."""

    def __init__(self, engine: Engine, attr: Attr, log: JobLog, worker: int | None) -> None:
        super().__init__(attr)
        self._engine = engine
        self._log = log
        self._worker = worker

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return what there is from `offset`, waiting for the first byte of it."""
        if not wait and offset >= self._log.size(self._worker) and not self._log.over:
            raise PfsError(Kind.WOULD_BLOCK, "nothing more was written yet")
        await self._log.more(self._worker, offset)
        return await self._engine.logs.read(self._log, self._worker, offset, size)


class LogText(File):
    """`log.txt` of a job, or of one of its processes by worker index: what there is."""

    def __init__(self, engine: Engine, job: Job, worker: int | None = None) -> None:
        self._engine = engine
        self._job = job
        self._worker = worker

    async def attr(self, subject: Subject) -> Attr:
        """Tell the size so far."""
        return self._attr(await self._engine.log_of(self._job))

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        _only_reading(flags)
        log = await self._engine.log_of(self._job)
        return OpenLogText(self._engine, self._attr(log), log, self._worker)

    def _attr(self, log: JobLog) -> Attr:
        return _log_attr(self._job, "log.txt", log, self._worker, live=False)


class OpenLogText(ReadOnlyFile):
    """An open `log.txt`."""

    def __init__(self, engine: Engine, attr: Attr, log: JobLog, worker: int | None) -> None:
        super().__init__(attr)
        self._engine = engine
        self._log = log
        self._worker = worker

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return what there is."""
        return await self._engine.logs.read(self._log, self._worker, offset, size)

    async def getattr(self) -> Attr:
        """Tell the size as of now."""
        return replace(self.attr, size=self._log.size(self._worker))


class WaitStream(File):
    """`wait`: silent until the job is over."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        over = self._job.life.exit_code is not None
        return Attr(
            NodeType.FILE,
            virtual_id("job", self._job.id, "wait"),
            0o444,
            len(f"{self._job.life.exit_code}\n") if over else 0,
            mtime_ns=self._job.life.changed_at_ns,
            ctime_ns=self._job.life.changed_at_ns,
            volatile=True,
            stream=not over,
        )

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        _only_reading(flags)
        return OpenWaitStream(self._engine, await self.attr(subject), self._job)


class OpenWaitStream(ReadOnlyFile):
    """An open `wait`."""

    def __init__(self, engine: Engine, attr: Attr, job: Job) -> None:
        super().__init__(attr)
        self._engine = engine
        self._job = job

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


def _log_attr(job: Job, name: str, log: JobLog, worker: int | None, *, live: bool) -> Attr:
    stream = live and not log.over
    part = () if worker is None else ("process", worker)
    return Attr(
        NodeType.FILE,
        virtual_id("job", job.id, *part, name),
        0o444,
        0 if stream else log.size(worker),
        mtime_ns=job.life.changed_at_ns,
        ctime_ns=job.life.changed_at_ns,
        volatile=True,
        stream=stream,
    )
