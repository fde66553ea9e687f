"""Bodies of the form multipart/form-data (RFC 7578), taken piece by piece: nothing of a part is held but its head.

    --boundary CRLF  head CRLF CRLF  bytes of the part  CRLF --boundary  …  CRLF --boundary--

A body ends with its last boundary and not with its last byte; so one that was cut is told from one that is whole.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from email.utils import collapse_rfc2231_value
from enum import Enum, auto

from pfs.errors import Kind, PfsError

MEDIA = "multipart/form-data"
HEAD_BYTES_MAX = 16 * 1024
BOUNDARY_CHARACTERS_MAX = 70


@dataclass(frozen=True, slots=True)
class Part:
    """The beginning of a part.

    Attributes:
        field: the name of the field of the form.
        file_name: of a file; "" for none.
    """

    field: str
    file_name: str = ""


class _Where(Enum):
    PREAMBLE = auto()
    BOUNDARY = auto()
    HEAD = auto()
    BYTES = auto()
    END = auto()


def boundary_of(content_type: str) -> bytes:
    """Return what parts a body of this type.

    Raises:
        PfsError: INVALID for a type that is not `multipart/form-data`, or names no boundary.
    """
    message = Message()
    message["content-type"] = content_type if content_type.isprintable() else ""
    boundary = message.get_param("boundary", "")
    is_one = isinstance(boundary, str) and boundary.isascii() and 0 < len(boundary) <= BOUNDARY_CHARACTERS_MAX
    if message.get_content_type() != MEDIA or not is_one:
        raise PfsError(Kind.INVALID, f"the body is to be {MEDIA}, with a boundary")
    return str(boundary).encode()


def opening(boundary: str, part: Part) -> bytes:
    """Return what stands before the bytes of a file that is the only part; its names are plain ASCII."""
    words = f'form-data; name="{part.field}"; filename="{part.file_name}"'
    lines = (f"--{boundary}", f"Content-Disposition: {words}", "Content-Type: application/octet-stream", "", "")
    return "\r\n".join(lines).encode("ascii")


def closing(boundary: str) -> bytes:
    """Return what stands behind the last part."""
    return f"\r\n--{boundary}--\r\n".encode("ascii")


class Parts:
    """Takes one body."""

    def __init__(self, boundary: bytes) -> None:
        self._delimiter = b"\r\n--" + boundary
        self._rest = bytearray(b"\r\n")  # the first boundary may be the first of all bytes
        self._where = _Where.PREAMBLE

    @property
    def is_whole(self) -> bool:
        """Whether the last boundary came."""
        return self._where is _Where.END

    def feed(self, data: bytes) -> Iterator[Part | bytes]:
        """Take some of the body; yield each part where it begins, and its bytes as they come.

        Raises:
            PfsError: INVALID for what is no such body.
        """
        self._rest += data
        while True:
            before = self._where, len(self._rest)
            yield from self._step()
            if (self._where, len(self._rest)) == before:
                return

    def _step(self) -> Iterator[Part | bytes]:
        match self._where:
            case _Where.PREAMBLE:
                for _ in self._until_boundary():
                    pass
            case _Where.BYTES:
                yield from self._until_boundary()
            case _Where.BOUNDARY:
                self._after_boundary()
            case _Where.HEAD:
                yield from self._head()
            case _Where.END:
                self._rest.clear()

    def _until_boundary(self) -> Iterator[bytes]:
        found = self._rest.find(self._delimiter)
        kept = len(self._delimiter) - 1  # as much as may be the beginning of one
        size = found if found >= 0 else max(0, len(self._rest) - kept)
        data = bytes(self._rest[:size])
        del self._rest[: size + (len(self._delimiter) if found >= 0 else 0)]
        if found >= 0:
            self._where = _Where.BOUNDARY
        if data:
            yield data

    def _after_boundary(self) -> None:
        blanks = len(self._rest) - len(self._rest.lstrip(b" \t"))
        mark = bytes(self._rest[blanks : blanks + 2])
        if len(mark) < 2 and blanks <= HEAD_BYTES_MAX:
            return
        if mark not in (b"--", b"\r\n"):
            raise PfsError(Kind.INVALID, "behind a boundary of the body is something else than the end of its line")
        del self._rest[: blanks + 2]
        self._where = _Where.END if mark == b"--" else _Where.HEAD

    def _head(self) -> Iterator[Part]:
        end = 0 if self._rest.startswith(b"\r\n") else self._rest.find(b"\r\n\r\n")
        if end < 0 and len(self._rest) <= HEAD_BYTES_MAX:
            return
        if not 0 <= end <= HEAD_BYTES_MAX:
            raise PfsError(Kind.INVALID, f"the head of a part has more than {HEAD_BYTES_MAX} bytes")
        head = bytes(self._rest[:end])
        del self._rest[: end + (4 if end else 2)]
        self._where = _Where.BYTES
        yield _part_of(head)


def _part_of(head: bytes) -> Part:
    for line in head.split(b"\r\n"):
        name, _, value = line.decode("utf-8", errors="surrogateescape").partition(":")
        if name.strip().lower() == "content-disposition":
            message = Message()
            message["content-disposition"] = value.strip()
            said = (message.get_param(word, "", "content-disposition") for word in ("name", "filename"))
            field, file_name = (collapse_rfc2231_value(word or "") for word in said)
            if field:
                return Part(field, file_name)
    raise PfsError(Kind.INVALID, "a part of the body has no name; write Content-Disposition: form-data; name=…")
