"""Listings and small files as they travel: one packed record for each, since a mount that walks a tree asks for all.

A record is big-endian: the length of the name (16 bits), the name, and its attributes in the order of `_RECORD`. Times
are whole seconds and nanoseconds, for they reach further than 63 bits of nanoseconds do. Where a link leads stands
behind that, with its length (16 bits), if a flag says so. A file that travels whole is a record, the number of its
bytes (32 bits), and these.

An unpacker trusts nothing: what does not fit raises `PfsError(INVALID)`.
"""

import functools
import struct
from collections.abc import Iterable, Sequence
from typing import Any

from pfs.api import Attr, Content, Entry, NodeType
from pfs.errors import Kind, PfsError
from pfs.path import check_name, check_target
from pfs.protocol.wire import ID_MAX, VALID_S_MAX

_TEXT = struct.Struct(">H")
_SIZE = struct.Struct(">I")
_RECORD = struct.Struct(">BBHIIIQQQqIqIqId")  # type, flags, mode, nlink, uid, gid, id, size, blocks, times, valid_s
_TYPES = tuple(NodeType)
_NUMBERS = {type_: number for number, type_ in enumerate(_TYPES)}
_VOLATILE, _STREAM, _COMMITS, _LEASED, _TARGET = 1, 2, 4, 8, 16
_NS = 1_000_000_000
KEPT_BYTES_MAX = 2 * 1024 * 1024  # who lists a directory again that the server makes gets all of it again
_SIZE_MAX, _NLINK_MAX, _SECONDS_MAX = 2**63 - 1, 2**31 - 1, 2**34


def pack_entry(entry: Entry) -> bytes:
    """Return the record of one entry."""
    if entry.target is None:
        return _packed(entry.name, entry.attr, 0)
    return b"".join((_packed(entry.name, entry.attr, _TARGET), *_text(entry.target)))


def _text(text: str) -> tuple[bytes, bytes]:
    data = text.encode("utf-8", "surrogateescape")
    return _TEXT.pack(len(data)), data


def _packed(name: str, attr: Attr, more: int) -> bytes:
    flags = more | _VOLATILE * attr.volatile | _STREAM * attr.stream | _COMMITS * attr.commits | _LEASED * attr.leased
    return b"".join(
        (
            *_text(name),
            _RECORD.pack(
                _NUMBERS[attr.type],
                flags,
                attr.mode,
                attr.nlink,
                attr.uid,
                attr.gid,
                attr.node_id,
                attr.size,
                attr.blocks,
                *divmod(attr.mtime_ns, _NS),
                *divmod(attr.ctime_ns, _NS),
                *divmod(attr.atime_ns, _NS),
                attr.valid_s,
            ),
        )
    )


def pack_page(entries: Iterable[Entry], bytes_max: int) -> tuple[bytes, bool]:
    """Return the records of the first entries, of so many bytes and at least one, and whether more are left."""
    records: list[bytes] = []
    left = bytes_max
    for entry in entries:
        record = pack_entry(entry)
        left -= len(record)
        if left < 0 and records:
            return b"".join(records), True
        records.append(record)
    return b"".join(records), False


def pack_contents(files: Iterable[Content], bytes_max: int) -> bytes:
    """Return as many of the first files as there are so many bytes for."""
    parts: list[bytes] = []
    left = bytes_max
    for file in files:
        record = _packed(file.name, file.attr, 0)
        left -= len(record) + _SIZE.size + len(file.data)
        if left < 0:
            break
        parts += (record, _SIZE.pack(len(file.data)), file.data)
    return b"".join(parts)


def unpack_contents(data: bytes) -> list[Content]:
    """Return the files.

    Raises:
        PfsError: INVALID as `unpack_entries`, and for bytes that are not there.
    """
    found = []
    at, end = 0, len(data)
    try:
        while at < end:
            name, attr, _, at = _unpacked(data, at)
            (size,) = _SIZE.unpack_from(data, at)
            at += _SIZE.size + size
            if at > end:
                raise ValueError("size")
            found.append(Content(name, attr, data[at - size : at]))
    except (struct.error, ValueError) as error:
        raise PfsError(Kind.INVALID, f"a file without a proper {error}") from None
    return found


def unpack_entries(data: bytes) -> list[Entry]:
    """Return the listing in records; the same entries where it is the one that came last.

    Raises:
        PfsError: INVALID for records that are none, names that can be none, and numbers out of their range.
    """
    return list(_kept(data)) if len(data) <= KEPT_BYTES_MAX else _entries(data)


@functools.lru_cache(maxsize=1)
def _kept(data: bytes) -> Sequence[Entry]:
    return _entries(data)


def _entries(data: bytes) -> list[Entry]:
    found = []
    at, end = 0, len(data)
    try:
        while at < end:
            name, attr, flags, at = _unpacked(data, at)
            target = None
            if flags & _TARGET:
                target, at = _unpacked_text(data, at)
                check_target(target)
            found.append(Entry(name, attr, target))
    except (struct.error, ValueError) as error:
        raise PfsError(Kind.INVALID, f"an entry without a proper {error}") from None
    return found


def _unpacked(data: bytes, at: int) -> tuple[str, Attr, int, int]:
    """Return a name, attributes, flags, and where their record ends."""
    name, at = _unpacked_text(data, at)
    fields = _RECORD.unpack_from(data, at)
    return check_name(name), _attr(fields), fields[1], at + _RECORD.size


def _unpacked_text(data: bytes, at: int) -> tuple[str, int]:
    (size,) = _TEXT.unpack_from(data, at)
    end = at + _TEXT.size + size
    if end > len(data):
        raise ValueError("text")
    return data[at + _TEXT.size : end].decode("utf-8", "surrogateescape"), end


def _attr(fields: tuple[Any, ...]) -> Attr:
    type_, flags, mode, nlink, uid, gid, node_id, size, blocks, *times, valid_s = fields
    mtime_s, mtime_part_ns, ctime_s, ctime_part_ns, atime_s, atime_part_ns = times
    if type_ >= len(_TYPES) or flags > 31 or mode > 0o7777 or nlink > _NLINK_MAX or not node_id or not valid_s >= 0:
        raise ValueError("type, flag, mode, number or time")
    if size > _SIZE_MAX or blocks > _SIZE_MAX or uid > ID_MAX or gid > ID_MAX:
        raise ValueError("size or owner")
    if max(mtime_s, ctime_s, atime_s) > _SECONDS_MAX or min(mtime_s, ctime_s, atime_s) < -_SECONDS_MAX:
        raise ValueError("time")
    if max(mtime_part_ns, ctime_part_ns, atime_part_ns) >= _NS:
        raise ValueError("part of a second")
    mtime_ns = mtime_s * _NS + mtime_part_ns
    same_change = ctime_s == mtime_s and ctime_part_ns == mtime_part_ns
    same_access = atime_s == mtime_s and atime_part_ns == mtime_part_ns
    return Attr(
        _TYPES[type_],
        node_id,
        _shared(mode),
        size,
        nlink,
        mtime_ns,
        # one object for equal numbers: a mount keeps the attributes of very many files
        mtime_ns if same_change else ctime_s * _NS + ctime_part_ns,
        mtime_ns if same_access else atime_s * _NS + atime_part_ns,
        bool(flags & _VOLATILE),
        bool(flags & _STREAM),
        bool(flags & _COMMITS),
        min(valid_s, VALID_S_MAX),
        _shared(uid),
        _shared(gid),
        _shared(blocks),
        bool(flags & _LEASED),
    )


@functools.lru_cache(maxsize=1024)
def _shared(number: int) -> int:
    return number
