"""The files of one job's log, and how they come through a kill at any instant.

A batch is written into the file of its process, then into `job.log`, and last into the index, whose records make it
count. Everything is written at the place where what counts ends, so what lies beyond, of a batch that was cut short
or that the disk refused, is in nobody's way; `recover` cuts it off.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from jobd.logformat import MergeState, close, format_piece
from jobd.spec.units import format_size
from jobd.store.logindex import RECORD_BYTES, Record, RecordKind, pack_record, read_records

DAEMON, PREPARE = -1, -2
SLICE_BYTES = 64 * 1024  # formatted at once: empty lines grow to the 35-fold
WRITE_BYTES = 1 << 20

_SOURCE_NAMES = {DAEMON: "daemon", PREPARE: "prepare"}
_JOB, _INDEX = "job.log", "index"


class Note(NamedTuple):
    """A line of the service's own; `source` is DAEMON, PREPARE or a worker's index."""

    source: int
    text: str
    time_ns: int
    attempt: int


@dataclass(slots=True)
class Stream:
    """How far the output of one process has come.

    Attributes:
        attempt: the latest that wrote.
        offset: bytes that this attempt has written, dropped ones among them.
        size_bytes: how much of the process's file counts.
        dropped_bytes: what this attempt has written beyond the cap.
        dropped_at: where the index says so.
    """

    attempt: int = 0
    offset: int = 0
    size_bytes: int = 0
    dropped_bytes: int = 0
    dropped_at: int | None = None


@dataclass(slots=True)
class LogFiles:
    """One job's log on the disk.

    Attributes:
        bytes_max: the cap of `job.log`.
        size_bytes: how much of `job.log` counts.
        index_bytes: how much of `index` counts.
        streams: of each worker that wrote, and of PREPARE.
        full: the cap was reached; nothing that a process writes is kept any more.
        over: the job is over; the log stays as it is.
    """

    directory: str
    bytes_max: int
    size_bytes: int = 0
    index_bytes: int = 0
    streams: dict[int, Stream] = field(default_factory=dict)
    full: bool = False
    over: bool = False
    _state: MergeState = field(default_factory=MergeState)
    _noted: set[int] = field(default_factory=set)

    @property
    def _index_path(self) -> str:
        return os.path.join(self.directory, _INDEX)

    def path(self, worker: int | None) -> str:
        """Return the file of one process, or of the job."""
        name = _JOB if worker is None else "prepare.log" if worker == PREPARE else f"worker-{worker}.log"
        return os.path.join(self.directory, name)

    def size(self, worker: int | None) -> int:
        """Return how many bytes there are to read."""
        if worker is None:
            return self.size_bytes
        return self.streams[worker].size_bytes if worker in self.streams else 0

    def stream(self, worker: int, attempt: int) -> Stream:
        """Return how far a process has come; an attempt that wrote nothing yet begins where the last one ended."""
        known = self.streams.get(worker, Stream(attempt))
        return known if known.attempt >= attempt else Stream(attempt, size_bytes=known.size_bytes)

    def new_notes(self, notes: Sequence[Note]) -> list[Note]:
        """Return those lines of the service's own that are not there, each once."""
        new: dict[int, Note] = {}
        for note in notes:
            number = _fingerprint(note)
            if number not in self._noted:
                new.setdefault(number, note)
        return list(new.values())

    # ---- adding

    def add_output(self, attempt: int, worker: int, pieces: Sequence[tuple[int, int]], data: bytes) -> None:
        """Add what a process wrote, as much of it as the cap allows.

        Raises:
            OSError: nothing was added.
        """
        if self.full:
            self._drop(attempt, worker, len(data))
            return
        state, kept_bytes, merged_bytes = self._merge(attempt, worker, _slices(pieces, data))
        records = []
        if kept_bytes:
            _write(self.path(worker), self.stream(worker, attempt).size_bytes, data[:kept_bytes])
            records.append(Record(RecordKind.OUTPUT, worker, attempt, kept_bytes, merged_bytes, state.last[0]))
        if kept_bytes < len(data):
            records.append(self._write_marker(state, self.size_bytes + merged_bytes, pieces[-1][0], attempt))
            records.append(Record(RecordKind.DROPPED, worker, attempt, number=len(data) - kept_bytes))
        self._commit(records)

    def _drop(self, attempt: int, worker: int, size_bytes: int) -> None:
        """Count what comes beyond the cap; in one record, or the index would grow with it."""
        stream = self.stream(worker, attempt)
        record = Record(RecordKind.DROPPED, worker, attempt, number=size_bytes)
        if stream.dropped_at is None:
            self._commit([record])
            return
        whole = record._replace(number=stream.dropped_bytes + size_bytes)
        _write(self._index_path, stream.dropped_at, pack_record(whole))
        self._count(record, stream.dropped_at)

    def _merge(self, attempt: int, worker: int, slices: Iterator[tuple[int, bytes]]) -> tuple[MergeState, int, int]:
        """Write into `job.log`; return how it ends, how many bytes of the process are in it, and as how many."""
        known = self.streams.get(worker)
        first_of_attempt = known is not None and known.attempt != attempt
        state, kept_bytes, merged_bytes = self._state, 0, 0
        unwritten: list[bytes] = []
        unwritten_bytes = 0
        for time_ns, part in slices:
            after, text = _format(state, time_ns, worker, part, new_line=first_of_attempt and not kept_bytes)
            if self.size_bytes + merged_bytes + unwritten_bytes + len(text) > self.bytes_max:
                break
            state = after
            kept_bytes += len(part)
            unwritten.append(text)
            unwritten_bytes += len(text)
            if unwritten_bytes >= WRITE_BYTES:
                _write(self.path(None), self.size_bytes + merged_bytes, b"".join(unwritten))
                merged_bytes += unwritten_bytes
                unwritten, unwritten_bytes = [], 0
        _write(self.path(None), self.size_bytes + merged_bytes, b"".join(unwritten))
        return state, kept_bytes, merged_bytes + unwritten_bytes

    def _write_marker(self, state: MergeState, at: int, time_ns: int, attempt: int) -> Record:
        said = f"The log has reached its {format_size(self.bytes_max)}; what comes after it is not kept"
        state, text = _format(state, time_ns, DAEMON, f"{said}\n".encode(), new_line=True)
        _write(self.path(None), at, text)
        return Record(RecordKind.FULL, DAEMON, attempt, 0, len(text), state.last[0])

    def add_notes(self, notes: Sequence[Note]) -> None:
        """Add lines of the service's own.

        Raises:
            OSError: nothing was added.
        """
        state, merged, records = self._state, [], []
        for note in notes:
            state, text = _format(state, note.time_ns, note.source, note.text.encode() + b"\n", new_line=True)
            merged.append(text)
            number = _fingerprint(note)
            records.append(Record(RecordKind.NOTE, note.source, note.attempt, 0, len(text), state.last[0], number))
        _write(self.path(None), self.size_bytes, b"".join(merged))
        self._commit(records)

    def save(self) -> None:
        """Put what there is on the disk for good: the index tells nothing more once the job is over, the rest is read.

        Raises:
            OSError: it may not be there after a failure of power.
        """
        self._cut()
        for name in [*os.listdir(self.directory), "."]:
            if name == _INDEX:
                continue
            fd = os.open(os.path.join(self.directory, name), os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def add_end(self) -> None:
        """Note that the job is over.

        Raises:
            OSError: nothing was noted.
        """
        self._commit([Record(RecordKind.END)])

    def _commit(self, records: list[Record]) -> None:
        """Write records and make them count: all that they tell of is written."""
        _write(self._index_path, self.index_bytes, b"".join(map(pack_record, records)))
        for record in records:
            self._count(record, self.index_bytes)
            self.index_bytes += RECORD_BYTES

    def _count(self, record: Record, at: int) -> None:
        """Take a record of the index, at `at`, into account."""
        if record.kind in (RecordKind.OUTPUT, RecordKind.DROPPED):
            stream = self.streams[record.source] = self.stream(record.source, record.attempt)
            stream.size_bytes += record.raw_bytes
            stream.offset += record.raw_bytes
        if record.kind is RecordKind.DROPPED:
            stream.offset += record.number
            stream.dropped_bytes += record.number
            stream.dropped_at = at
        elif record.kind is RecordKind.NOTE:
            self._noted.add(record.number)
        elif record.kind is RecordKind.FULL:
            self.full = True
        elif record.kind is RecordKind.END:
            self.over = True
        if record.merged_bytes:
            self.size_bytes += record.merged_bytes
            self._state = MergeState(_name(record.source), bytes((record.last,)))

    # ---- after a start of the service

    def make(self) -> bool:
        """Make the directory; tells whether it was not there, so that there is nothing in it to be found.

        Raises:
            OSError
        """
        with contextlib.suppress(FileExistsError):
            os.mkdir(os.path.dirname(self.directory), 0o711)
        try:
            os.mkdir(self.directory, 0o750)
        except FileExistsError:
            return False
        return True

    def recover(self) -> None:
        """Find what counts in files that may have been left anyhow, and cut off the rest.

        Raises:
            OSError
        """
        self.make()
        job_bytes = _size(self.path(None))
        raw_bytes: dict[int, int] = {}
        for record in read_records(self._index_path):
            if record.raw_bytes and record.source not in raw_bytes:
                raw_bytes[record.source] = _size(self.path(record.source))
            is_whole = self.size_bytes + record.merged_bytes <= job_bytes and (
                not record.raw_bytes or self.size(record.source) + record.raw_bytes <= raw_bytes[record.source]
            )
            if not is_whole:
                break  # power failed: the index came to the disk, and what it tells of did not
            self._count(record, self.index_bytes)
            self.index_bytes += RECORD_BYTES
        self._cut()

    def _cut(self) -> None:
        """Cut off what does not count."""
        counting = {_INDEX: self.index_bytes, _JOB: self.size_bytes}
        for name in os.listdir(self.directory):
            worker = _worker_of(name)
            path = os.path.join(self.directory, name)
            counts = self.size(worker) if worker is not None else counting.get(name)
            if counts is not None and _size(path) > counts:
                os.truncate(path, counts)

    def measure(self) -> None:
        """Look at the log of a job that is over."""
        self.over = True
        self.size_bytes = _size(self.path(None))
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self.directory):
                worker = _worker_of(name)
                if worker is not None:
                    self.streams[worker] = Stream(size_bytes=_size(self.path(worker)))

    def read(self, worker: int | None, offset: int, size: int) -> bytes:
        """Return up to `size` bytes of what there is from `offset` on.

        Raises:
            OSError
        """
        size = min(size, self.size(worker) - offset)
        if size <= 0:
            return b""
        with open(self.path(worker), "rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)


def _worker_of(name: str) -> int | None:
    """Return whose file it is; None for the job's and the index."""
    stem = name.removesuffix(".log")
    if stem == "prepare":
        return PREPARE
    number = stem.removeprefix("worker-")
    return int(number) if number.isdigit() else None


def _fingerprint(note: Note) -> int:
    return int.from_bytes(blake2b(f"{note.attempt} {note.source} {note.text}".encode(), digest_size=8).digest())


def _slices(pieces: Sequence[tuple[int, int]], data: bytes) -> Iterator[tuple[int, bytes]]:
    start = 0
    for time_ns, length in pieces:
        end = start + length
        for begin in range(start, end, SLICE_BYTES):
            yield time_ns, data[begin : min(begin + SLICE_BYTES, end)]
        start = end


def _format(state: MergeState, time_ns: int, source: int, data: bytes, *, new_line: bool) -> tuple[MergeState, bytes]:
    """Return what a piece adds to `job.log`.

    Args:
        new_line: it goes on with no line that was left unended.
    """
    ended = close(state) if new_line else b""
    if ended:
        state = MergeState(state.source, ended)
    state, text = format_piece(state, _name(source), _stamp(time_ns), data)
    return state, ended + text


def _name(source: int) -> str:
    return _SOURCE_NAMES.get(source, f"worker {source}")


def _stamp(time_ns: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(time_ns // 1_000_000_000))


def _write(path: str, offset: int, data: bytes) -> None:
    if not data:
        return
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        view = memoryview(data)
        while view:
            done = os.pwrite(fd, view, offset)
            view, offset = view[done:], offset + done
    finally:
        os.close(fd)


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
