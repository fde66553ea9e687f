"""The frames that travel over a channel, and the nouns of `pfs.api` in JSON.

A frame is one binary WebSocket message: 4 bytes big-endian length of the header, the header (JSON), and the
body (raw bytes, for what is read and written). Both ends may ask; a number ties an answer to its question.

    ask     {"ask": 7, "op": "read", "args": {…}}        body: the bytes to write
    answer  {"answer": 7, "result": {…}}                 body: the bytes read
    refusal {"answer": 7, "error": {"kind", "message", "path"}}
    cancel  {"cancel": 7}                                the asker does not wait any more

A decoder trusts nothing: a frame that does not fit raises `PfsError(INVALID)`.
"""

import functools
import json
import struct
from collections.abc import Mapping
from typing import Any, NamedTuple

from pfs.api import Attr, Changes, NodeType, OpenFlags, Owner, Space
from pfs.errors import Kind, PfsError

FRAME_BYTES_MAX = 16 * 1024 * 1024
HEADER_BYTES_MAX = 8 * 1024 * 1024
VALID_S_MAX = 86_400.0
MESSAGE_CHARACTERS_MAX = 4096  # of an error: logs and people are told it
ID_MAX = 2**32 - 2  # the highest number stands for "not known"
CHANNEL_PATH = "/api/v1/channel"
OPEN_PATH = "/api/v1/open"  # ranges of open files (`pfs.server.bulk`)
RANGE_BYTES_MAX = 8 * 1024 * 1024  # of one of them
KEPT_FOR_BULK = b"pfs-bulk"  # in a Connection header: it carries ranges of open files, and nothing else
FILES_PATH = "/api/v1/fs"
BELOW_PATH, CONTENTS_PATH = "/api/v1/below", "/api/v1/contents"  # whole folders (`pfs.server.folders`)
RANGES_PATH, SUMS_PATH = "/api/v1/ranges", "/api/v1/sums"  # large files (`pfs.server.ranges`)
JOIN_PATH = "/api/v1/nodes/join"
AUTHORITY_PATH = "/api/v1/authority"  # the certificate that keys name by its hash, for everybody

Json = dict[str, Any]
_encode_json = json.JSONEncoder(separators=(",", ":")).encode  # made once: that costs as much as a small question
_decode_json = json.JSONDecoder().decode


class Ask(NamedTuple):
    """A question, with the bytes that belong to it."""

    number: int
    op: str
    args: Json
    body: bytes = b""


class Answer(NamedTuple):
    """What came of a question: a result with bytes, or an error."""

    number: int
    result: Json
    body: bytes = b""
    error: PfsError | None = None


class Cancel(NamedTuple):
    """The asker of this question does not wait any more."""

    number: int


Frame = Ask | Answer | Cancel


def encode_frame(frame: Frame) -> bytes:
    """Return the bytes of one message.

    Raises:
        PfsError: TOO_LARGE when the other side would not take it.
    """
    body = b""
    header: Json
    match frame:
        case Ask(number, op, args, body):
            header = {"ask": number, "op": op, "args": args}
        case Answer(number, result, body, None):
            header = {"answer": number, "result": result}
        case Answer(number, _, _, PfsError() as error):
            header = {"answer": number, "error": encode_error(error)}
        case Cancel(number):
            header = {"cancel": number}
    text = _encode_json(header).encode()
    if len(text) > HEADER_BYTES_MAX or 4 + len(text) + len(body) > FRAME_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"this is more than one message holds: {FRAME_BYTES_MAX >> 20} MiB")
    return b"".join((struct.pack(">I", len(text)), text, body))


def decode_frame(data: bytes) -> Frame:
    """Return the frame in one message.

    Raises:
        PfsError: INVALID when the bytes are no frame.
    """
    header, body = _split_frame(data)
    try:
        if "ask" in header:
            args = header["args"]
            if not isinstance(args, dict):
                raise TypeError("args")
            return Ask(_number(header["ask"]), str(header["op"]), args, body)
        if "answer" in header:
            number = _number(header["answer"])
            if "error" in header:
                return Answer(number, {}, error=decode_error(header["error"]))
            result = header["result"]
            if not isinstance(result, dict):
                raise TypeError("result")
            return Answer(number, result, body)
        return Cancel(_number(header["cancel"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"a frame without a proper {error}") from None


def _split_frame(data: bytes) -> tuple[Json, bytes]:
    if len(data) < 4:
        raise PfsError(Kind.INVALID, "a frame of less than 4 bytes")
    (length,) = struct.unpack(">I", data[:4])
    if length > HEADER_BYTES_MAX or 4 + length > len(data):
        raise PfsError(Kind.INVALID, "a frame whose header is longer than the frame")
    try:
        header = _decode_json(data[4 : 4 + length].decode())
    except (ValueError, RecursionError):
        raise PfsError(Kind.INVALID, "a frame whose header is no JSON") from None
    if not isinstance(header, dict):
        raise PfsError(Kind.INVALID, "a frame whose header is no object")
    return header, data[4 + length :]


def _number(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63:
        raise ValueError("number")
    return value


def encode_error(error: PfsError) -> Json:
    """Return an error in JSON."""
    return {"kind": error.kind.value, "message": error.message, "path": error.path}


def decode_error(value: Any) -> PfsError:
    """Return the error in JSON; a kind that is not known here becomes INTERNAL."""
    if not isinstance(value, dict):
        return PfsError(Kind.INTERNAL, "an error without a form")
    try:
        kind = Kind(str(value.get("kind")))
    except ValueError:
        kind = Kind.INTERNAL
    path = value.get("path")
    message = str(value.get("message", ""))[:MESSAGE_CHARACTERS_MAX]
    return PfsError(kind, message, path[:MESSAGE_CHARACTERS_MAX] if isinstance(path, str) else None)


# ---- nouns

_FLAGS = ("volatile", "stream", "commits", "leased")


def encode_attr(attr: Attr) -> Json:
    """Return attributes in JSON."""
    return {
        "type": attr.type.value,
        "node_id": attr.node_id,
        "mode": attr.mode,
        "size": attr.size,
        "nlink": attr.nlink,
        "mtime_ns": attr.mtime_ns,
        "ctime_ns": attr.ctime_ns,
        "atime_ns": attr.atime_ns,
        "valid_s": attr.valid_s,
        "uid": attr.uid,
        "gid": attr.gid,
        "blocks": attr.blocks,
        "flags": [flag for flag in _FLAGS if getattr(attr, flag)],
    }


def decode_attr(value: Any) -> Attr:
    """Return the attributes in JSON, each field checked against its range."""
    try:
        flags, mtime_ns = value["flags"], _time(value["mtime_ns"])
        return Attr(
            type=NodeType(value["type"]),
            node_id=_ranged(value["node_id"], 1, 2**64 - 1),
            mode=_shared(_ranged(value["mode"], 0, 0o7777)),
            size=_ranged(value["size"], 0, 2**63 - 1),
            nlink=_ranged(value["nlink"], 0, 2**31 - 1),
            mtime_ns=mtime_ns,
            ctime_ns=mtime_ns if value["ctime_ns"] == mtime_ns else _time(value["ctime_ns"]),
            atime_ns=mtime_ns if value["atime_ns"] == mtime_ns else _time(value["atime_ns"]),
            valid_s=_seconds(value["valid_s"]),
            volatile="volatile" in flags,
            stream="stream" in flags,
            uid=_shared(_ranged(value["uid"], 0, ID_MAX)),
            gid=_shared(_ranged(value["gid"], 0, ID_MAX)),
            blocks=_shared(_ranged(value["blocks"], 0, 2**63 - 1)),
            commits="commits" in flags,
            leased="leased" in flags,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"attributes without a proper {error}") from None


@functools.lru_cache(maxsize=1024)
def _shared(number: int) -> int:
    """Return one and the same object for equal numbers: a mount keeps the attributes of very many files."""
    return number


def _ranged(value: object, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ValueError(f"number: {value!r}")
    return value


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        raise ValueError(f"number of seconds: {value!r}")
    return float(min(value, VALID_S_MAX))


def _time(value: object) -> int:
    return _ranged(value, *_TIME)


_TIME = (-(2**64), 2**64)  # file systems keep times to beyond 2400, more than 63 bits of nanoseconds
_CHANGES = {
    "mode": (0, 0o7777),
    "size": (0, 2**63 - 1),
    "atime_ns": _TIME,
    "mtime_ns": _TIME,
    "uid": (0, ID_MAX),
    "gid": (0, ID_MAX),
}


def encode_changes(changes: Changes) -> Json:
    """Return wanted changes in JSON; what is to stay is left out."""
    return {name: value for name in _CHANGES if (value := getattr(changes, name)) is not None}


def decode_changes(value: Any) -> Changes:
    """Return the wanted changes in JSON."""
    try:
        return Changes(
            **{name: _ranged(value[name], *limits) for name, limits in _CHANGES.items() if value.get(name) is not None}
        )
    except (AttributeError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"changes without a proper {error}") from None


def encode_owner(owner: Owner | None) -> Json | None:
    """Return the wanted owner in JSON."""
    return None if owner is None else {"uid": owner.uid, "gid": owner.gid}


def decode_owner(value: Any) -> Owner | None:
    """Return the wanted owner in JSON."""
    if value is None:
        return None
    try:
        return Owner(_ranged(value["uid"], 0, ID_MAX), _ranged(value["gid"], 0, ID_MAX))
    except (KeyError, TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"an owner without a proper {error}") from None


def encode_space(space: Space) -> Json:
    """Return room in JSON."""
    return {
        "bytes_total": space.bytes_total,
        "bytes_free": space.bytes_free,
        "files_total": space.files_total,
        "files_free": space.files_free,
    }


def decode_space(value: Mapping[str, Any]) -> Space:
    """Return the room in JSON."""
    try:
        return Space(**{k: _ranged(v, 0, 2**63 - 1) for k, v in value.items()})
    except (TypeError, ValueError) as error:
        raise PfsError(Kind.INVALID, f"room without a proper {error}") from None


def encode_flags(flags: OpenFlags) -> list[str]:
    """Return open flags as words."""
    return [str(flag.name).lower() for flag in flags]


def decode_flags(value: Any) -> OpenFlags:
    """Return the open flags in words."""
    flags = OpenFlags(0)
    if not isinstance(value, list):
        raise PfsError(Kind.INVALID, "open flags are a list of words")
    for word in value:
        try:
            flags |= OpenFlags[str(word).upper()]
        except KeyError:
            raise PfsError(Kind.INVALID, f"{word!r} is no open flag") from None
    return flags
