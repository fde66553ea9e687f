"""The index of a job's log: one record per batch, of one size, that says how much of the other files counts.

A record never lies across two pages of the disk's cache, so that a kill leaves it whole or not there at all, and one
may be written over in place.
"""

import contextlib
import struct
from collections.abc import Iterator
from enum import IntEnum
from typing import NamedTuple

_RECORD = struct.Struct(">BB2xiIIIQ4x")
RECORD_BYTES = _RECORD.size
_READ_BYTES = 4096 * RECORD_BYTES


class RecordKind(IntEnum):
    """What a record tells of."""

    OUTPUT = 1  # what a process wrote
    NOTE = 2  # a line of the service's own
    DROPPED = 3  # what a process wrote beyond the cap; the only one of its attempt, which grows
    END = 4  # the job is over
    FULL = 5  # the line that says that the cap was reached


_KINDS = {kind.value: kind for kind in RecordKind}


class Record(NamedTuple):
    """One record.

    Attributes:
        source: a worker's index, DAEMON or PREPARE.
        raw_bytes: added to the file of the source.
        merged_bytes: added to the job's log.
        last: the last byte of these.
        number: a note's fingerprint; bytes that were dropped.
    """

    kind: RecordKind
    source: int = 0
    attempt: int = 0
    raw_bytes: int = 0
    merged_bytes: int = 0
    last: int = 0
    number: int = 0


def pack_record(record: Record) -> bytes:
    """Return the record as it is written."""
    kind, source, attempt, raw_bytes, merged_bytes, last, number = record
    return _RECORD.pack(kind, last, source, attempt, raw_bytes, merged_bytes, number)


def read_records(path: str) -> Iterator[Record]:
    """Yield the whole records of an index, up to the first that is none; nothing where there is no index."""
    with contextlib.suppress(FileNotFoundError), open(path, "rb", buffering=0) as index:
        while text := index.read(_READ_BYTES):
            for fields in _RECORD.iter_unpack(text[: len(text) // RECORD_BYTES * RECORD_BYTES]):
                kind, last, source, attempt, raw_bytes, merged_bytes, number = fields
                if kind not in _KINDS:
                    return
                yield Record(_KINDS[kind], source, attempt, raw_bytes, merged_bytes, last, number)
