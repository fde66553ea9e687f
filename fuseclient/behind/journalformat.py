"""The journal of what was promised to programs: its bytes, and what is left to be done after a mount was killed.

    magic, then records: 4 bytes length, 4 bytes CRC-32 of what follows, 4 bytes length of the JSON, the JSON, the data

    {"promise": 7, "step": {…}, "node": …, "before": […], "target_before": […]}    a change was promised
    {"kept": [7, 8], "real": [[…, …]]}        made; the server's numbers for those of the mount's own
    {"failed": 9, "kind": …, "message": …}    it could not be made; it is tried again by the next mount

A record is written with one call. What a power cut left half written at the end is recognised and cut off.
"""

import json
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fuseclient.behind.queue import Promise, Version
from pfs.errors import PfsError
from pfs.protocol.steps import NO_CHANGES, Step, decode_step
from pfs.protocol.wire import encode_changes

MAGIC = b"pfs promises 1\n"
RECORD_BYTES_MAX = 64 * 1024 * 1024
_HEAD = struct.Struct(">III")
_SIZE = struct.Struct(">I")
_json = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode
_quoted = json.encoder.encode_basestring_ascii


@dataclass(slots=True)
class Found:
    """What a journal holds.

    Attributes:
        promises: those that were not kept, in their order.
        real: the server's numbers of what was given numbers of a mount's own.
        last: the highest number of a promise.
        whole_bytes: how much of it can be read.
    """

    promises: dict[int, Promise] = field(default_factory=dict)
    real: dict[int, int] = field(default_factory=dict)
    last: int = 0
    whole_bytes: int = 0


def encode_promise(promise: Promise) -> bytes:
    """Return the record of a promise."""
    before = f',"before":{_numbers(promise.before)}' if promise.before is not None else ""
    target = f',"target_before":{_numbers(promise.target_before)}' if promise.target_before is not None else ""
    step = _step(promise.step)
    text = f'{{"promise":{promise.number},"step":{step},"node":{promise.node_id}{before}{target}}}'
    return _record(text, promise.step.data)


def _step(step: Step) -> str:
    """Return the JSON of `pfs.protocol.steps.encode_step`, put together by hand: it is what costs most of a promise."""
    target = f',"target":{_quoted(step.target)}' if step.target else ""
    size = f',"size":{len(step.data)}' if step.data else ""
    changes = f',"changes":{_json(encode_changes(step.changes))}' if step.changes is not NO_CHANGES else ""
    no_replace = ',"no_replace":true' if step.no_replace else ""
    verb = step.verb._value_
    return f'{{"verb":"{verb}","path":{_quoted(step.path)},"mode":{step.mode}{target}{size}{changes}{no_replace}}}'


def _numbers(version: Version) -> str:
    return f"[{version.node_id},{version.size},{version.mtime_ns}]"


def encode_kept(kept: Iterable[int], real: Mapping[int, int]) -> bytes:
    """Return the record of promises that are kept, with the server's numbers for those of the mount's own."""
    return _record(_json({"kept": list(kept), "real": list(real.items())}))


def encode_failed(number: int, error: PfsError) -> bytes:
    """Return the record of a promise that could not be kept."""
    return _record(_json({"failed": number, "kind": error.kind.value, "message": error.message}))


def _record(written: str, data: bytes = b"") -> bytes:
    text = written.encode()
    size = _SIZE.pack(len(text))
    check = zlib.crc32(data, zlib.crc32(text, zlib.crc32(size)))
    return b"".join((_HEAD.pack(4 + len(text) + len(data), check, len(text)), text, data))


def decode(data: bytes) -> Found:
    """Return what a journal holds, as far as it can be read."""
    found = Found()
    if not data.startswith(MAGIC):
        return found
    offset = len(MAGIC)
    while (record := _next(data, offset)) is not None:
        value, body, offset = record
        if not _note(found, value, body):
            break
        found.whole_bytes = offset
    found.whole_bytes = max(found.whole_bytes, len(MAGIC))
    return found


def _next(data: bytes, offset: int) -> tuple[dict[str, Any], bytes, int] | None:
    if offset + _HEAD.size > len(data):
        return None
    length, check, text_length = _HEAD.unpack_from(data, offset)
    start, end = offset + _HEAD.size - 4, offset + _HEAD.size - 4 + length
    if not 4 + text_length <= length <= RECORD_BYTES_MAX or end > len(data):
        return None
    if zlib.crc32(memoryview(data)[start:end]) != check:
        return None
    text = data[start + 4 : start + 4 + text_length]
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return (value, data[start + 4 + text_length : end], end) if isinstance(value, dict) else None


def _note(found: Found, value: dict[str, Any], body: bytes) -> bool:
    """Add one record; False for one that nobody has written like this."""
    try:
        if "promise" in value:
            promise = Promise(
                int(value["promise"]),
                decode_step(value["step"], body),
                int(value["node"]),
                _version(value.get("before")),
                _version(value.get("target_before")),
            )
            found.promises[promise.number] = promise
            found.last = max(found.last, promise.number)
        elif "kept" in value:
            for number in value["kept"]:
                found.promises.pop(number, None)
            found.real.update((int(own), int(real)) for own, real in value["real"])
    except (KeyError, TypeError, ValueError, PfsError):
        return False
    return True


def _version(value: Any) -> Version | None:
    return None if value is None else Version(int(value[0]), int(value[1]), int(value[2]))
