"""Logs on the server's disk: what every process wrote, unchanged, and the job's log that interleaves them.

    <data root>/jobs/<id>/logs/worker-<n>.log   the bytes of one process, of all attempts, one after the other
    <data root>/jobs/<id>/logs/prepare.log      those of what was run to prepare the job
    <data root>/jobs/<id>/logs/job.log          the pieces of all, stamped
    <data root>/jobs/<id>/logs/index            how much of the others counts

Only when a batch is in all of them do readers hear of it, and nothing that a reader has seen is ever taken back or
changed, whatever instant the server is killed at (`jobd.store.logfiles`). A node is told how many bytes of a process
there are, and goes on from there: no gap, and no line twice.

A job's log has a cap: a job that prints in an endless loop shall not take the others' room on the disk. It is one of
`job.log`, which holds all that the other files hold, so that a job takes at most twice as much. 4 GiB are more than
anybody reads, and let pass what is promised to pass, a line of a gigabyte, with as much again before and after it.
What comes beyond is dropped and said once in `job.log`; the process's file just ends. It is acknowledged like the
rest: nothing holds the job up.

Of the lines and short outputs of a job that runs for a moment, what costs most is to change to a thread and back. So
they are written, and read by who follows the log, at once where the disk is quick (`pfs.disk.quick`); what is long, or
waits for the platters, is not.
"""

import os
from collections.abc import Awaitable, Callable, Sequence

import trio

from jobd.logformat import LOG_BYTES_MAX
from jobd.store.logfiles import DAEMON, PREPARE, LogFiles, Note
from pfs.disk.system import translate
from pfs.errors import Kind, PfsError

__all__ = ["DAEMON", "LOG_BYTES_MAX", "PREPARE", "JobLog", "LogStore", "Note"]

THREADS_MAX = 8
READERS_AT_ONCE = 8  # a line may wake thousands, and others are to be answered meanwhile
SHORT_BYTES_MAX = 16 * 1024


# runs what touches the disk for a moment; the disk's errors come out as `PfsError`
Run = Callable[[Callable[[], None]], Awaitable[None]]


class JobLog:
    """One job's log, for readers.

    Attributes:
        files: on the disk.
        lock: held by whoever changes them.
        saved_bytes: how much of the index tells of what is on the disk for good; None for nothing.
    """

    __slots__ = ("_waited_for", "files", "is_known", "lock", "saved_bytes")

    def __init__(self, files: LogFiles) -> None:
        self.files = files
        self.is_known = False
        self.lock = trio.Lock()
        self.saved_bytes: int | None = None
        self._waited_for: dict[int | None, trio.Event] = {}

    @property
    def over(self) -> bool:
        """Whether the log stays as it is."""
        return self.files.over

    @property
    def size_bytes(self) -> int:
        """How much of the job's log there is to read."""
        return self.files.size_bytes

    def size(self, worker: int | None) -> int:
        """Return how many bytes of a process there are to read; of the job, for None."""
        return self.files.size(worker)

    async def more(self, worker: int | None, offset: int) -> bool:
        """Return once there is something to read from `offset` on; False when there never will be."""
        while self.size(worker) <= offset:
            if self.over:
                return False
            await self._waited_for.setdefault(worker, trio.Event()).wait()
        return True

    def tell_readers(self, *sources: int | None) -> None:
        """Wake who waits for more of one of these; of anything, where the log is over."""
        for source in list(self._waited_for) if self.over else sources:
            if source in self._waited_for:
                self._waited_for.pop(source).set()


class LogStore:
    """The logs of all jobs. What is live stays in memory; the rest is looked up on disk.

    Args:
        root: the directory `jobs` of the data root.
        run: runs what is short, at once where it can; in threads, where it is not given.
        bytes_max: the cap of each job's log.
    """

    def __init__(self, root: str, run: Run | None = None, *, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._root = root
        self._run = self._in_thread if run is None else run
        self._bytes_max = bytes_max
        self._live: dict[int, JobLog] = {}
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._readers = trio.CapacityLimiter(READERS_AT_ONCE)

    def _files(self, job_id: int) -> LogFiles:
        return LogFiles(os.path.join(self._root, str(job_id), "logs"), self._bytes_max)

    async def open(self, job_id: int) -> JobLog:
        """Return the log of a job that is not over, as the disk has it.

        Raises:
            PfsError: the disk refuses.
        """
        log = self._live.get(job_id)
        if log is None:
            log = self._live[job_id] = JobLog(self._files(job_id))
        if not log.is_known:
            async with log.lock:  # one looks it up, which cuts files, before anybody adds to them
                if not log.is_known:
                    await self._look_up(job_id, log)
        return log

    async def _look_up(self, job_id: int, log: JobLog) -> None:
        log.files = files = self._files(job_id)
        made = False

        def make() -> None:
            nonlocal made
            made = files.make()

        await self._do(make, long=False)
        if not made:
            await self._do(files.recover, long=True)
        log.is_known = True
        if log.over:
            self._live.pop(job_id, None)

    async def find(self, job_id: int) -> JobLog:
        """Return the log of any job, for reading."""
        if job_id in self._live:
            return await self.open(job_id)
        log = JobLog(self._files(job_id))
        await self._do(log.files.measure, long=False)
        return log

    async def offset_of(self, job_id: int, attempt: int, worker: int) -> int:
        """Return how many bytes of one attempt of a process (or of PREPARE) there are; of a past attempt none."""
        stream = (await self.open(job_id)).files.stream(worker, attempt)
        return stream.offset if stream.attempt == attempt else 0

    async def append(
        self, job_id: int, attempt: int, worker: int, offset: int, *, pieces: Sequence[tuple[int, int]], data: bytes
    ) -> int:
        """Add what a process wrote, if it goes on where the log stands.

        Args:
            worker: its index among all processes of the job, or PREPARE.
            offset: how many bytes of this attempt of the process came before `data`.
            pieces: (time in ns, length in bytes) of each piece of `data`.

        Returns:
            How many bytes of this attempt of the process there are now; where nothing was added, that is not
            `offset + len(data)`. What nobody wants, of a job that is over, of a past attempt or from beyond the cap,
            counts as added.

        Raises:
            PfsError: INVALID when the pieces are not exactly the data; what the disk refuses with.
        """
        if any(length <= 0 for _, length in pieces) or sum(length for _, length in pieces) != len(data):
            raise PfsError(Kind.INVALID, "the pieces of an output are not its bytes")
        log = await self.open(job_id)
        async with log.lock:
            stream = log.files.stream(worker, attempt)
            if log.over or stream.attempt != attempt:
                return offset + len(data)
            if data and offset == stream.offset:
                is_long = len(data) > SHORT_BYTES_MAX
                await self._do(lambda: log.files.add_output(attempt, worker, pieces, data), long=is_long)
                log.tell_readers(worker, None)
            return log.files.stream(worker, attempt).offset

    async def notes(self, job_id: int, notes: Sequence[Note]) -> None:
        """Add lines of the service's own, of DAEMON, PREPARE or a worker (`Worker 0 started`).

        A line that is there stays the only one of its attempt: what is done again after a crash is not told again.

        Raises:
            PfsError: what the disk refuses with.
        """
        log = await self.open(job_id)
        async with log.lock:
            new = [note for note in log.files.new_notes(notes) if not log.over]
            if new:
                await self._do(lambda: log.files.add_notes(new), long=False)
                log.tell_readers(None)

    async def save(self, job_id: int) -> None:
        """Put a log on disk for good as far as it has come: `end` need not wait for that then.

        Raises:
            PfsError: what the disk refuses with.
        """
        log = await self.open(job_id)
        async with log.lock:
            await self._save(log)

    async def end(self, job_id: int) -> None:
        """Put the log on disk for good; readers come to its end.

        Raises:
            PfsError: what the disk refuses with.
        """
        log = await self.open(job_id)
        async with log.lock:
            if not log.over:
                await self._save(log)
                await self._do(log.files.add_end, long=False)
            log.tell_readers()
            self._live.pop(job_id, None)

    async def _save(self, log: JobLog) -> None:
        if log.saved_bytes != log.files.index_bytes:
            await self._do(log.files.save, long=True)
            log.saved_bytes = log.files.index_bytes

    async def read(self, log: JobLog, worker: int | None, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of what there is of a process; of the job, for None.

        Raises:
            PfsError: NOT_FOUND where the log was removed; what the disk refuses with.
        """
        data = b""

        def look() -> None:
            nonlocal data
            data = log.files.read(worker, offset, size)

        async with self._readers:
            await self._do(look, long=min(size, log.size(worker) - offset) > SHORT_BYTES_MAX)
        return data

    async def _do(self, work: Callable[[], None], *, long: bool) -> None:
        """Look at files or change them, to the end."""
        with trio.CancelScope(shield=True):
            await (self._in_thread(work) if long else self._run(work))

    async def _in_thread(self, work: Callable[[], None]) -> None:
        try:
            await trio.to_thread.run_sync(work, limiter=self._threads)
        except OSError as error:
            raise translate(error) from None
