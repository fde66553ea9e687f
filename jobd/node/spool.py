"""A task's output as the node keeps it: the bytes in the order that was shipped, and which stream each came from.

An engine tells stdout and stderr apart and promises no order between them, so the order in which they came first is
kept, and with it how much of each there is: what a restarted daemon needs to take the rest from the engine's log.
A record is written before its bytes; after a kill -9 in between, the record is cut to the bytes that are there.

Of a task that writes without an end a little more is kept than the server keeps of any job, so that the server knows,
and says in the log, that there was more. The rest is let go. A line counts for more than its bytes, since the server
and an engine write down with each when it came: what is kept is never more than the engine has.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

from jobd.logformat import LOG_BYTES_MAX

OUTPUT_BYTES_MAX = LOG_BYTES_MAX + (1 << 20)
LINE_BYTES = 29  # more for each line: an engine writes down at most so much, and the server more
START_BYTES, END_BYTES = 1024, 1024
READ_BYTES = 1 << 20

_RECORD = struct.Struct(">BI")
_RECORD_BYTES_MAX = (1 << 32) - 1


class Spool:
    """The files `output` and `streams` of a task's directory, open for writing; what they hold is read once.

    Args:
        bytes_max: so much of the output is kept, with `LINE_BYTES` for each line.

    Attributes:
        counts: bytes of each stream that are in `output`.
        starts: the first bytes of each stream.
        ends: the last bytes of each stream, of what came since it was opened, kept or not.
    """

    def __init__(self, directory: Path, bytes_max: int = OUTPUT_BYTES_MAX) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._output = os.open(directory / "output", flags | os.O_APPEND, 0o600)
        self._streams = os.open(directory / "streams", flags, 0o600)
        self._bytes_max = bytes_max
        self._size = self._weight = 0
        # the last record: where it lies, its stream and its length
        self._last = -_RECORD.size, 0, 0
        self.counts: dict[int, int] = {}
        self.starts: dict[int, bytes] = {}
        self.ends: dict[int, bytes] = {}
        self._recover(directory)

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept."""
        return self._weight >= self._bytes_max

    def append(self, stream: int, data: bytes) -> None:
        """Add what came out of `stream`, unless the spool is full.

        Raises:
            OSError: the disk takes no more; the spool has to be opened again.
        """
        self.ends[stream] = (self.ends.get(stream, b"") + data[-END_BYTES:])[-END_BYTES:]
        if not self.is_full:
            self._record(stream, len(data))
            _write_all(self._output, data)
            self._count(stream, data)

    def close(self) -> None:
        """Close the files."""
        os.close(self._output)
        os.close(self._streams)

    def _record(self, stream: int, length: int) -> None:
        """Note what is about to be added; a program that writes to one stream has one record."""
        place, last_stream, last_length = self._last
        if stream != last_stream or last_length + length > _RECORD_BYTES_MAX:
            place, last_length = place + _RECORD.size, 0
        self._last = place, stream, last_length + length
        os.pwrite(self._streams, _RECORD.pack(stream, last_length + length), place)

    def _count(self, stream: int, data: bytes) -> None:
        known = self.starts.get(stream, b"")
        if len(known) < START_BYTES:
            self.starts[stream] = (known + data[:START_BYTES])[:START_BYTES]
        self.counts[stream] = self.counts.get(stream, 0) + len(data)
        self._size += len(data)
        self._weight += len(data) + LINE_BYTES * data.count(b"\n")

    def _recover(self, directory: Path) -> None:
        size = os.fstat(self._output).st_size
        unfinished = 1
        for stream, length in _records(directory / "streams"):
            if self._size + length > size:
                unfinished = stream
                break
            self._last = self._last[0] + _RECORD.size, stream, length
            self._take(stream, length)
        os.ftruncate(self._streams, self._last[0] + _RECORD.size)
        if self._size < size:
            length = size - self._size
            self._record(unfinished, length)
            self._take(unfinished, length)

    def _take(self, stream: int, length: int) -> None:
        """Count bytes that are there already, from where the others end."""
        end = self._size + length
        while self._size < end:
            self._count(stream, os.pread(self._output, min(READ_BYTES, end - self._size), self._size))


def _records(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the whole records, a little at a time: there are as many as the streams took turns."""
    with path.open("rb", buffering=0) as file:
        while text := file.read(_RECORD.size * 4096):
            yield from _RECORD.iter_unpack(text[: len(text) // _RECORD.size * _RECORD.size])


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
