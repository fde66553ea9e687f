"""What the kernel's firewall is told and tells, as the bytes of netlink; pure.

Only as much of it as the wall between containers takes. A node speaks to the kernel itself, since this takes fifty
microseconds where a program takes milliseconds (so that it can be done before each start), works in whatever words
that program lists its rules, and needs no program that may not be there.
"""

import struct
from collections.abc import Iterator, Sequence

NETFILTER = 12  # who in the kernel is spoken to
CHANGES = 1 << 6  # the group of those who are told of all that changes
ANSWER_BYTES = 1 << 16

_REQUEST, _ACKNOWLEDGE, _DUMP, _CREATE, _APPEND = 1, 4, 0x300, 0x400, 0x800
_ERROR, _DONE, _BEGIN, _END = 2, 3, 16, 17
_SUBSYSTEM = 10
_BRIDGE = 7  # the family of frames that a bridge passes on
_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _NEW_RULE, _GET_RULE = 0, 2, 3, 6, 7
_FORWARD = 2
_REGISTER, _LINK_HEADER, _EQUAL, _VERDICT, _DROP = 1, 0, 0, 0, 0
_COMMENT = 0

_HEADER = struct.Struct("=IHHII")
_FAMILY = struct.Struct(">BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERRNO = struct.Struct("=i")


class Refused(Exception):
    """The kernel refused.

    Attributes:
        errno: its reason.
    """

    def __init__(self, errno: int) -> None:
        super().__init__(errno)
        self.errno = errno


def drop_where(offset: int, value: bytes, comment: str) -> bytes:
    """Return a rule that drops each frame with these bytes at that place of its header."""
    expressions = (
        _expression(
            "payload", _number(1, _REGISTER), _number(2, _LINK_HEADER), _number(3, offset), _number(4, len(value))
        ),
        _expression("cmp", _number(1, _REGISTER), _number(2, _EQUAL), _attribute(3, _attribute(1, value))),
        _expression("immediate", _number(1, _VERDICT), _attribute(2, _attribute(2, _number(1, _DROP)))),
    )
    return _attribute(4, b"".join(expressions)) + _attribute(7, _comment(comment))


def replace(table: str, chain: str, rules: Sequence[bytes]) -> bytes:
    """Return what puts a table of ours in the place of that of before, at once: no frame slips through between.

    Its one chain sees all frames that are passed on from a container to another; nobody's rules in other tables can
    let through what it drops.
    """
    name, whole = _text(1, table), _text(1, table) + _text(3, chain)
    hook = _attribute(4, _number(1, _FORWARD) + _number(2, 0))
    changes = [
        _message(_NEW_TABLE, _CREATE, name),  # there to be deleted
        _message(_DELETE_TABLE, 0, name),
        _message(_NEW_TABLE, _CREATE, name),
        _message(_NEW_CHAIN, _CREATE, whole + hook + _text(7, "filter")),
    ]
    for last, rule in enumerate(rules, 1 - len(rules)):
        flags = _CREATE | _APPEND | (_ACKNOWLEDGE if last == 0 else 0)
        changes.append(_message(_NEW_RULE, flags, _text(1, table) + _text(2, chain) + rule))
    return _edge(_BEGIN) + b"".join(changes) + _edge(_END)


def rules_of(table: str, chain: str) -> bytes:
    """Return what asks for the rules of a chain; none is no error."""
    return _message(_GET_RULE, _DUMP, _text(1, table) + _text(2, chain))


def comments(answer: bytes) -> tuple[list[str], bool]:
    """Return the comments of the rules in a piece of an answer, and whether it was the last piece.

    Raises:
        Refused
    """
    found, is_last = [], False
    for kind, body in _messages(answer):
        if kind == _ERROR:
            is_last = True
            (errno,) = _ERRNO.unpack_from(body)
            if errno:
                raise Refused(-errno)
        elif kind == _DONE:
            is_last = True
        else:
            told = dict(_attributes(body[_FAMILY.size :]))
            found.append(dict(_comments(told.get(7, b""))).get(_COMMENT, ""))
    return found, is_last


def _message(kind: int, flags: int, attributes: bytes) -> bytes:
    body = _FAMILY.pack(_BRIDGE, 0, 0) + attributes
    return _HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM << 8 | kind, _REQUEST | flags, 0, 0) + body


def _edge(kind: int) -> bytes:
    return _HEADER.pack(_HEADER.size + _FAMILY.size, kind, _REQUEST, 0, 0) + _FAMILY.pack(0, 0, _SUBSYSTEM)


def _expression(name: str, *told: bytes) -> bytes:
    return _attribute(1, _text(1, name) + _attribute(2, b"".join(told)))


def _attribute(kind: int, value: bytes) -> bytes:
    return _ATTRIBUTE.pack(_ATTRIBUTE.size + len(value), kind) + value + bytes(-len(value) % 4)


def _number(kind: int, value: int) -> bytes:
    return _attribute(kind, value.to_bytes(4, "big"))


def _text(kind: int, value: str) -> bytes:
    return _attribute(kind, value.encode() + b"\0")


def _comment(text: str) -> bytes:
    value = text.encode() + b"\0"
    return bytes([_COMMENT, len(value)]) + value


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _HEADER.size:
        size, kind, *_ = _HEADER.unpack_from(data)
        yield kind, data[_HEADER.size : size]
        data = data[max(size, _HEADER.size) + 3 & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        yield kind & 0x3FFF, data[_ATTRIBUTE.size : size]
        data = data[max(size, _ATTRIBUTE.size) + 3 & ~3 :]


def _comments(data: bytes) -> Iterator[tuple[int, str]]:
    while len(data) >= 2:
        yield data[0], data[2 : 2 + data[1]].rstrip(b"\0").decode(errors="replace")
        data = data[2 + data[1] :]
