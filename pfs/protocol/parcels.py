"""Many files in one stream: what each parcel of it says, and how they are packed and unpacked.

A parcel is a line of JSON and, for a file, its bytes. Whoever sends a folder writes one after the other into a request;
whoever asks for files gets them so. What does not fit into a parcel travels in ranges (`pfs.server.ranges`).

    {"verb": "file", "path": "src/a.py", "size": 12, "mode": 420, "mtime_ns": …}\\n and 12 bytes

An unpacker trusts nothing: what does not fit raises `PfsError(INVALID)`. Paths are checked by who uses them.
"""

import json
from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pfs.errors import Kind, PfsError

PARCEL_BYTES_MAX = 8 * 1024 * 1024  # of a file in one
HEAD_BYTES_MAX = 64 * 1024
MODE_MAX = 0o7777
NUMBER_MAX = 2**63 - 1


# made once: for each parcel that counts
_decode = json.JSONDecoder().decode
_text = json.JSONEncoder().encode


class Verb(StrEnum):
    """What a parcel is for."""

    FILE = "file"  # this is the file at its path from now on
    FOLDER = "folder"  # let it be there; "" with all that it is in
    LINK = "link"  # let a link that leads to `target` be there
    PART = "part"  # the file at `target`, which came in ranges, is whole: it gets its name
    ATTRIBUTES = "attributes"  # mode and time of a file that is as it should be
    GONE = "gone"  # remove a file or link, if it is still as the parcel says
    GONE_FOLDER = "gone-folder"  # remove a directory, if nothing is in it


_VERBS = {verb.value: verb for verb in Verb}
_UNSIZED = frozenset({Verb.FOLDER, Verb.LINK, Verb.GONE_FOLDER})


class Parcel(NamedTuple):
    """What is said of one path.

    Attributes:
        path: below the folder that all are about.
        size: in bytes; for GONE, PART and ATTRIBUTES what it has to be.
        mode: permission bits.
        mtime_ns: nanoseconds since the epoch; None leaves it as it comes.
        target: where a link leads, or the path of a part.
    """

    verb: Verb
    path: str
    size: int = 0
    mode: int = 0o644
    mtime_ns: int | None = None
    target: str = ""


def pack(parcel: Parcel, data: bytes = b"") -> bytes:
    """Return a parcel as it travels; `data` are a file's bytes."""
    verb, path, size, mode, mtime_ns, target = parcel
    head = f'{{"verb":"{verb}","path":{_text(path)}'
    if verb not in _UNSIZED:
        head += f',"size":{size},"mode":{mode}'
    if mtime_ns is not None:
        head += f',"mtime_ns":{mtime_ns}'
    if target:
        head += f',"target":{_text(target)}'
    return b"%b}\n%b" % (head.encode(), data)


class Unpacker:
    """Takes a stream apart that comes in pieces."""

    def __init__(self) -> None:
        self._came = bytearray()
        self._at = 0
        self._parcel: Parcel | None = None  # whose bytes are awaited

    def feed(self, data: bytes) -> Iterator[tuple[Parcel, bytes]]:
        """Yield the parcels that are whole with these bytes, each with its own."""
        del self._came[: self._at]
        self._at = 0
        self._came += data
        while (parcel := self._parcel or self._head()) is not None:
            size = parcel.size if parcel.verb is Verb.FILE else 0
            self._parcel = parcel
            if len(self._came) - self._at < size:
                return
            self._at += size
            self._parcel = None
            yield parcel, bytes(memoryview(self._came)[self._at - size : self._at])

    def end(self) -> None:
        """Make sure that the last parcel was whole.

        Raises:
            PfsError: INVALID.
        """
        if self._parcel is not None or len(self._came) > self._at:
            raise PfsError(Kind.INVALID, "the stream ends in the middle of a parcel")

    def _head(self) -> Parcel | None:
        end = self._came.find(b"\n", self._at)
        if end < 0:
            if len(self._came) - self._at > HEAD_BYTES_MAX:
                raise PfsError(Kind.INVALID, f"a parcel's head has at most {HEAD_BYTES_MAX} bytes")
            return None
        line = bytes(memoryview(self._came)[self._at : end])
        self._at = end + 1
        return unpack_head(line)


def unpack_head(line: bytes) -> Parcel:
    """Return the parcel that a line says.

    Raises:
        PfsError: INVALID for what is none.
    """
    try:
        said = _decode(line.decode())
        verb, path, target = _VERBS[said["verb"]], said["path"], said.get("target", "")
        size, mode, mtime_ns = said.get("size", 0), said.get("mode", 0o644), said.get("mtime_ns")
        if not isinstance(path, str) or not isinstance(target, str):
            raise ValueError("path")
        _check("size", size, PARCEL_BYTES_MAX if verb is Verb.FILE else NUMBER_MAX)
        _check("mode", mode, MODE_MAX)
        if mtime_ns is not None:
            _check("mtime_ns", mtime_ns, NUMBER_MAX, -NUMBER_MAX)
        return Parcel(verb, path, size, mode, mtime_ns, target)
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise PfsError(Kind.INVALID, f"a parcel without a proper {str(error)[:80]}") from None


def _check(name: str, value: object, most: int, least: int = 0) -> None:
    if type(value) is not int or not least <= value <= most:  # a bool is no number here
        raise ValueError(name)


# ---- what is below a directory, one line each


class Row(NamedTuple):
    """What a listing says of one path.

    Attributes:
        path: below what was asked for, which is "" itself.
        kind: one of `KINDS`.
        target: where a link leads.
    """

    path: str
    kind: str
    size: int
    mtime_ns: int
    mode: int
    target: str = ""


# an ordinary file, a directory, a link, a text of the server, which is there when it is read, and what cannot be copied
FILE, FOLDER, LINK, TEXT, OTHER = KINDS = "fdlto"
_KINDS = frozenset(KINDS)


def pack_row(row: Row) -> bytes:
    """Return one line of a listing."""
    path, kind, size, mtime_ns, mode, target = row
    return f'[{_text(path)},"{kind}",{size},{mtime_ns},{mode}{f",{_text(target)}" if target else ""}]\n'.encode()


def unpack_row(line: bytes) -> Row:
    """Return what a line of a listing says.

    Raises:
        PfsError: INVALID for what is none.
    """
    try:
        row = Row(*_decode(line.decode()))
        path, kind, size, mtime_ns, mode, target = row
        if not isinstance(path, str) or not isinstance(target, str) or kind not in _KINDS:
            raise ValueError("path or kind")
        _check("size", size, NUMBER_MAX)
        _check("mode", mode, NUMBER_MAX)
        _check("mtime_ns", mtime_ns, NUMBER_MAX, -NUMBER_MAX)
    except (TypeError, ValueError, RecursionError) as error:
        raise PfsError(Kind.INVALID, f"a line of a listing without a proper {str(error)[:80]}") from None
    return row
