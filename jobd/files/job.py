"""The directory of one job: `jobs/<id>/`, one class for each kind of file in it.

spec.yaml              exactly what was written
state why status       where it stands, as one word, as a sentence, as facts
events                 what happened, one line each
log                    STREAM: all output so far, then live, until the job is over
log.txt                the output so far, with its true size
exit_code              there once the job is over
wait                   STREAM: silent until the job is over, then its exit code
ctl                    CONTROL: see `jobd.ctl`
src/ keep/ out/        the job's data
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from jobd.ctl import HELP, Kill, Signal, parse_ctl
from jobd.engine.assign import data_path
from jobd.engine.engine import Engine
from jobd.job import Job
from jobd.life.lifecycle import encode_event
from jobd.store.db import JobStore
from jobd.store.logs import JobLog
from pfs.api import Attr, Changes, Closing, Entry, NodeType, OpenFile, OpenFlags
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.virtual import (
    WRITING,
    Directory,
    DomainDirectory,
    File,
    Node,
    OpenText,
    ReadOnlyFile,
    Text,
    directory_attr,
    virtual_id,
)

DATA_PARTS = ("keep", "out", "src")


class JobDirectory(Directory):
    """One job, as it stood when it was looked up."""

    def __init__(self, engine: Engine, store: JobStore, disk: Disk, job: Job) -> None:
        self.job = job
        self._engine = engine
        self._store = store
        self._disk = disk

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is; its time is that of the job's last change."""
        return directory_attr(virtual_id("job", self.job.id), mtime_ns=self.job.life.changed_at_ns)

    def _names(self) -> list[str]:
        names = ["ctl", "events", "log", "log.txt", "spec.yaml", "state", "status", "wait", "why"]
        if self._engine.is_made(self.job):
            names += DATA_PARTS
        if self.job.life.exit_code is not None:
            names.append("exit_code")
        return sorted(names)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the file of that name."""
        if name in DATA_PARTS:
            # what a job wrote is its owner's on the disk, and only jobs write it
            return DomainDirectory(self.job.domain, self._disk.domain(data_path(self.job.id, name), None))
        if name not in self._names():
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        match name:
            case "log":
                return LogStream(self._engine, self.job)
            case "log.txt":
                return LogText(self._engine, self.job)
            case "wait":
                return WaitStream(self._engine, self.job)
            case "ctl":
                return Control(self._engine, self.job)
            case "spec.yaml":
                return self._text(name, lambda: self._store.spec_text(self.job.id), self.job.life.submitted_at_ns)
            case "events":
                return self._text(name, self._events, self.job.life.changed_at_ns)
            case _:
                return self._text(name, self._fact_maker(name), self.job.life.changed_at_ns)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the job's files."""
        found = []
        for name in self._names():
            found.append(Entry(name, await (await self.lookup(subject, name)).attr(subject)))
        return found

    def _text(self, name: str, make: Callable[[], Awaitable[bytes]], mtime_ns: int) -> Text:
        return Text(("job", self.job.id, name), make, mtime_ns)

    def _fact_maker(self, name: str) -> Callable[[], Awaitable[bytes]]:
        makers: dict[str, Callable[[Job], str]] = {
            "state": lambda job: f"{job.life.state}\n",
            "why": lambda job: f"{self._engine.why(job)}\n",
            "exit_code": lambda job: f"{job.life.exit_code}\n",
            "status": self._status,
        }

        async def make() -> bytes:
            job = await self._engine.ledger.current(self.job)
            return makers[name](job).encode()

        return make

    def _status(self, job: Job) -> str:
        life = job.life
        facts = {
            "id": job.id,
            "name": job.spec.name,
            "title": job.spec.title,
            "user": job.user,
            "state": life.state,
            "why": self._engine.why(job),
            "attempt": life.attempt,
            "node": self._engine.fleet.name(life.node),
            "submitted": _time(life.submitted_at_ns),
            "started": _time(life.started_at_ns),
            "ended": _time(life.ended_at_ns),
            "exit_code": "" if life.exit_code is None else life.exit_code,
        }
        return "".join(f"{key} {_one_line(value)}".rstrip() + "\n" for key, value in facts.items())

    async def _events(self) -> bytes:
        lines = []
        for event in await self._engine.ledger.history(self.job):
            facts = encode_event(event)
            name = facts.pop("event")
            facts.pop("time_ns")
            if "node" in facts:
                facts["node"] = self._engine.fleet.name(facts["node"])
            rest = " ".join(f"{key}={_one_line(value)}" for key, value in facts.items() if value not in ("", False))
            lines.append(f"{_time(event.time_ns)} {name} {rest}".rstrip() + "\n")
        return "".join(lines).encode()


class LogStream(File):
    """`log`: while the job lives its end is not known; afterwards it is a file like others."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job

    async def attr(self, subject: Subject) -> Attr:
        """Tell the size, once it is known."""
        return _log_attr(self._job, "log", await self._engine.logs.find(self._job.id), live=True)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        _only_reading(flags)
        return OpenLogStream(self._engine, await self.attr(subject), await self._engine.logs.find(self._job.id))


class OpenLogStream(ReadOnlyFile):
    """An open `log`: a read at the end waits for more, until the job is over."""

    def __init__(self, engine: Engine, attr: Attr, log: JobLog) -> None:
        super().__init__(attr)
        self._engine = engine
        self._log = log

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return what there is from `offset`, waiting for the first byte of it."""
        while True:
            grown = self._log.grown
            if offset < self._log.size_bytes:
                return await self._engine.logs.read(self._log, None, offset, size)
            if self._log.over:
                return b""
            if not wait:
                raise PfsError(Kind.WOULD_BLOCK, "nothing more was written yet")
            await grown.wait()


class LogText(File):
    """`log.txt`: what there is."""

    def __init__(self, engine: Engine, job: Job) -> None:
        self._engine = engine
        self._job = job

    async def attr(self, subject: Subject) -> Attr:
        """Tell the size so far."""
        return _log_attr(self._job, "log.txt", await self._engine.logs.find(self._job.id), live=False)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        _only_reading(flags)
        log = await self._engine.logs.find(self._job.id)
        return OpenLogText(self._engine, _log_attr(self._job, "log.txt", log, live=False), log)


class OpenLogText(ReadOnlyFile):
    """An open `log.txt`."""

    def __init__(self, engine: Engine, attr: Attr, log: JobLog) -> None:
        super().__init__(attr)
        self._engine = engine
        self._log = log

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return what there is."""
        return await self._engine.logs.read(self._log, None, offset, size)

    async def getattr(self) -> Attr:
        """Tell the size as of now."""
        return replace(self.attr, size=self._log.size_bytes)


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


class Control(File):
    """`ctl`: a write is a command."""

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
            match command:
                case Kill():
                    await self._engine.kill(self._subject, self._job_id)
                case Signal(number):
                    await self._engine.signal(self._subject, self._job_id, number)
        return len(data)

    async def setattr(self, changes: Changes) -> Attr:
        """Mean nothing: a shell's `>` cuts before it writes."""
        return self.attr

    async def flush(self, closing: Closing) -> None:
        """Everything was done while it was written."""


async def _help() -> bytes:
    return HELP.encode()


def _only_reading(flags: OpenFlags) -> None:
    if flags & WRITING:
        raise PfsError(Kind.DENIED, "a log is written by the service")


def _log_attr(job: Job, name: str, log: JobLog, *, live: bool) -> Attr:
    stream = live and not log.over
    return Attr(
        NodeType.FILE,
        virtual_id("job", job.id, name),
        0o444,
        0 if stream else log.size_bytes,
        mtime_ns=job.life.changed_at_ns,
        ctime_ns=job.life.changed_at_ns,
        volatile=True,
        stream=stream,
    )


def _time(time_ns: int | None) -> str:
    if time_ns is None:
        return ""
    return datetime.fromtimestamp(time_ns / 1e9, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _one_line(value: object) -> str:
    return " ".join(str(value).split())
