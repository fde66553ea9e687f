"""A task's output as the node keeps it: the bytes in the order that was shipped, and which stream each came from.

An engine tells stdout and stderr apart and promises no order between them, so the order in which they came first is
kept, and with it how much of each there is: what a restarted daemon needs to take the rest from the engine's log.
A record is written before its bytes; after a kill -9 in between, the record is cut to the bytes that are there.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

_RECORD = struct.Struct(">BI")


class Spool:
    """The files `output` and `streams` of a task's directory, open for writing.

    Attributes:
        counts: bytes of each stream that are in `output`.
    """

    def __init__(self, directory: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._output = os.open(directory / "output", flags, 0o600)
        self._streams = os.open(directory / "streams", flags, 0o600)
        self.counts: dict[int, int] = {}
        self._recover(directory)

    def append(self, stream: int, data: bytes) -> None:
        """Add what came out of `stream`.

        Raises:
            OSError: the disk takes no more; the spool has to be opened again.
        """
        _write_all(self._streams, _RECORD.pack(stream, len(data)))
        _write_all(self._output, data)
        self.counts[stream] = self.counts.get(stream, 0) + len(data)

    def close(self) -> None:
        """Close the files."""
        os.close(self._output)
        os.close(self._streams)

    def _recover(self, directory: Path) -> None:
        size = os.fstat(self._output).st_size
        total = whole = 0
        unfinished = 1
        for stream, length in _records(directory / "streams"):
            if total + length > size:
                unfinished = stream
                break
            total += length
            whole += _RECORD.size
            self.counts[stream] = self.counts.get(stream, 0) + length
        os.ftruncate(self._streams, whole)
        if total < size:
            _write_all(self._streams, _RECORD.pack(unfinished, size - total))
            self.counts[unfinished] = self.counts.get(unfinished, 0) + size - total


def _records(path: Path) -> Iterator[tuple[int, int]]:
    """Yield the whole records, a little at a time: there are as many as there were reads in the life of a task."""
    with path.open("rb", buffering=0) as file:
        while text := file.read(_RECORD.size * 4096):
            yield from _RECORD.iter_unpack(text[: len(text) // _RECORD.size * _RECORD.size])


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
