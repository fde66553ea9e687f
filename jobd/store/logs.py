"""Logs on the server's disk: what every process wrote, unchanged, and the job's log that interleaves them.

    <data root>/jobs/<id>/logs/worker-<n>.log   the bytes of one process
    <data root>/jobs/<id>/logs/index            one record per piece, in the order in which pieces came
    <data root>/jobs/<id>/logs/job.log          the pieces, stamped: follows from the two others alone

A batch is appended in just this order, and only then do readers hear of it. Whatever instant the server is killed at,
`_recover` finds the last whole record, cuts what lies beyond it, and appends to `job.log` what is missing there; so
nothing that a reader has seen is ever taken back or changed. A node is told how many bytes of a process there are,
and goes on from there: no gap, and no line twice.
"""

import contextlib
import os
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from io import BufferedReader

import trio

from jobd.logformat import MergeState, close, format_piece
from pfs.disk.system import translate
from pfs.errors import Kind, PfsError

# time in ns since the epoch; worker number, or one of the sources below; 1 where the text follows right here (a
# line of the service's own) and 0 where it is in the worker's file; bytes
_RECORD = struct.Struct(">qiBI")
DAEMON, PREPARE = -1, -2
_SOURCE_NAMES = {DAEMON: "daemon", PREPARE: "prepare"}
THREADS_MAX = 8


@dataclass
class JobLog:
    """What is known of one job's log.

    Attributes:
        size_bytes: how much of `job.log` there is to read.
        index_bytes: how much of `index` counts.
        offsets: bytes that each process has written so far.
        noted: the service's own lines, each of which stands in a log once.
        grown: set, and replaced, whenever something was added or the log came to its end.
    """

    directory: str
    size_bytes: int = 0
    index_bytes: int = 0
    offsets: dict[int, int] = field(default_factory=dict)
    state: MergeState = field(default_factory=MergeState)
    noted: set[tuple[int, bytes]] = field(default_factory=set)
    over: bool = False
    grown: trio.Event = field(default_factory=trio.Event)
    lock: trio.Lock = field(default_factory=trio.Lock)

    def path(self, worker: int | None) -> str:
        """Return the file of one process, or of the job."""
        return os.path.join(self.directory, "job.log" if worker is None else f"worker-{worker}.log")

    def size(self, worker: int | None) -> int:
        """Return how many bytes there are to read."""
        return self.size_bytes if worker is None else self.offsets.get(worker, 0)

    def tell_readers(self) -> None:
        """Wake everybody who waits for more."""
        self.grown.set()
        self.grown = trio.Event()


class LogStore:
    """The logs of all jobs. What is live stays in memory; the rest is looked up on disk.

    Args:
        root: the directory `jobs` of the data root.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self._live: dict[int, JobLog] = {}
        self._threads = trio.CapacityLimiter(THREADS_MAX)

    def _directory(self, job_id: int) -> str:
        return os.path.join(self._root, str(job_id), "logs")

    async def open(self, job_id: int) -> JobLog:
        """Return the log of a job that is not over, as the disk has it."""
        log = self._live.get(job_id)
        if log is None:
            log = await trio.to_thread.run_sync(_recover, self._directory(job_id), limiter=self._threads)
            log = self._live.setdefault(job_id, log)
        return log

    async def find(self, job_id: int) -> JobLog:
        """Return the log of any job, for reading."""
        if job_id in self._live:
            return self._live[job_id]
        return await trio.to_thread.run_sync(_measure, self._directory(job_id), limiter=self._threads)

    async def append(
        self, job_id: int, worker: int, offset: int, pieces: Sequence[tuple[int, int]], data: bytes
    ) -> int:
        """Add what a process wrote, if it goes on where the log stands.

        Args:
            offset: how many bytes of the process came before `data`.
            pieces: (time in ns, length in bytes) of each piece of `data`.

        Returns:
            How many bytes of the process there are now; where nothing was added, that is not `offset + len(data)`.

        Raises:
            PfsError: INVALID when the pieces are not exactly the data.
        """
        if any(length <= 0 for _, length in pieces) or sum(length for _, length in pieces) != len(data):
            raise PfsError(Kind.INVALID, "the pieces of an output are not its bytes")
        log = await self.open(job_id)
        async with log.lock:
            if log.over or offset != log.offsets.get(worker, 0):
                return log.offsets.get(worker, 0)
            cut = _cut(pieces, data)
            await self._write(log, [(time_ns, worker, piece) for time_ns, piece in cut], raw=(worker, data))
            return log.offsets[worker]

    async def note(self, job_id: int, source: int, text: str, time_ns: int) -> None:
        """Add a line of the service's own, of DAEMON, PREPARE or a worker (`Worker 0 started`).

        A line that is there stays the only one: what is done again after a crash is not told again.
        """
        log = await self.open(job_id)
        line = text.encode() + b"\n"
        async with log.lock:
            if not log.over and (source, line) not in log.noted:
                await self._write(log, [(time_ns, source, line)], raw=None)
                log.noted.add((source, line))

    async def end(self, job_id: int) -> None:
        """Put the log on disk for good; readers come to its end."""
        log = await self.open(job_id)
        async with log.lock:
            await trio.to_thread.run_sync(_sync, log.directory, limiter=self._threads)
            log.over = True
            log.tell_readers()
            self._live.pop(job_id, None)

    async def read(self, log: JobLog, worker: int | None, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of what there is."""
        size = min(size, log.size(worker) - offset)
        if size <= 0:
            return b""
        return await trio.to_thread.run_sync(_read, log.path(worker), offset, size, limiter=self._threads)

    async def _write(self, log: JobLog, records: list[tuple[int, int, bytes]], raw: tuple[int, bytes] | None) -> None:
        state, merged = log.state, bytearray()
        for time_ns, source, data in records:
            state, text = _format(state, time_ns, source, data, own=raw is None)
            merged += text
        own = raw is None
        index = b"".join(
            _RECORD.pack(time_ns, source, own, len(data)) + (data if own else b"") for time_ns, source, data in records
        )

        with trio.CancelScope(shield=True):
            try:
                await trio.to_thread.run_sync(_append_all, log, raw, index, bytes(merged), limiter=self._threads)
            except OSError as error:
                raise translate(error) from None
        log.state = state
        log.size_bytes += len(merged)
        log.index_bytes += len(index)
        if raw is not None:
            log.offsets[raw[0]] = log.offsets.get(raw[0], 0) + len(raw[1])
        log.tell_readers()


def _append_all(log: JobLog, raw: tuple[int, bytes] | None, index: bytes, merged: bytes) -> None:
    """Append to all three files or, where the disk refuses, to none."""
    index_path = os.path.join(log.directory, "index")
    try:
        if raw is not None:
            _append(log.path(raw[0]), raw[1])
        _append(index_path, index)
        _append(log.path(None), merged)
    except OSError:
        sizes = {index_path: log.index_bytes, log.path(None): log.size_bytes}
        if raw is not None:
            sizes[log.path(raw[0])] = log.offsets.get(raw[0], 0)
        for path, size_bytes in sizes.items():
            if _size(path) > size_bytes:
                os.truncate(path, size_bytes)
        raise


def _cut(pieces: Sequence[tuple[int, int]], data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    for time_ns, length in pieces:
        yield time_ns, data[start : start + length]
        start += length


def _format(state: MergeState, time_ns: int, source: int, data: bytes, *, own: bool) -> tuple[MergeState, bytes]:
    """Return what a piece adds to `job.log`; a line of our own begins a new line, whatever the process left unended."""
    ended = close(state) if own else b""
    if ended:
        state = MergeState(state.source, ended)
    state, text = format_piece(state, _name(source), _stamp(time_ns), data)
    return state, ended + text


def _name(source: int) -> str:
    return _SOURCE_NAMES.get(source, f"worker {source}")


def _stamp(time_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 1_000_000_000))


def _append(path: str, data: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
    try:
        done = 0
        while done < len(data):
            done += os.write(fd, data[done:])
    finally:
        os.close(fd)


def _read(path: str, offset: int, size: int) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return os.pread(file.fileno(), size, offset)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _sync(directory: str) -> None:
    for name in [*os.listdir(directory), "."]:
        fd = os.open(os.path.join(directory, name), os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _measure(directory: str) -> JobLog:
    """Look at the log of a job that is over."""
    log = JobLog(directory, over=True)
    log.size_bytes = _size(log.path(None))
    if os.path.isdir(directory):
        for name in os.listdir(directory):
            worker = name.removeprefix("worker-").removesuffix(".log")
            if worker.isdigit():
                log.offsets[int(worker)] = _size(os.path.join(directory, name))
    return log


def _recover(directory: str) -> JobLog:
    """Bring the files of a log that may have been cut anywhere back to the last whole piece."""
    for path, mode in ((os.path.dirname(directory), 0o711), (directory, 0o750)):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, mode)
    log = JobLog(directory)
    index_path = os.path.join(directory, "index")
    merged_bytes = _size(log.path(None))
    whole = 0
    for record_end, time_ns, source, own, data in _records(log, index_path):
        log.state, text = _format(log.state, time_ns, source, data, own=own)
        missing = log.size_bytes + len(text) - merged_bytes
        if missing > 0:
            _append(log.path(None), text[-missing:])
            merged_bytes += missing
        log.size_bytes += len(text)
        whole = record_end
    log.index_bytes = whole
    if _size(index_path) > whole:
        os.truncate(index_path, whole)
    for worker, offset in log.offsets.items():
        os.truncate(log.path(worker), offset)
    for name in os.listdir(directory):
        worker_text = name.removeprefix("worker-").removesuffix(".log")
        if worker_text.isdigit() and int(worker_text) not in log.offsets:
            os.truncate(os.path.join(directory, name), 0)
    return log


def _records(log: JobLog, index_path: str) -> Iterator[tuple[int, int, int, bool, bytes]]:
    """Yield (end in the index, time, source, whether our own, bytes) of each whole record; counts `log.offsets` on."""
    with contextlib.ExitStack() as files:
        try:
            index = files.enter_context(open(index_path, "rb"))
        except FileNotFoundError:
            return
        workers: dict[int, BufferedReader] = {}
        end = 0
        while len(head := index.read(_RECORD.size)) == _RECORD.size:
            time_ns, source, own, length = _RECORD.unpack(head)
            if not own and source not in workers:
                workers[source] = files.enter_context(open(log.path(source), "rb"))
            data = (index if own else workers[source]).read(length)
            if len(data) < length:
                return
            if own:
                log.noted.add((source, data))
            else:
                log.offsets[source] = log.offsets.get(source, 0) + length
            end += _RECORD.size + (length if own else 0)
            yield end, time_ns, source, bool(own), data
