"""WebSocket frames (RFC 6455, section 5) as a channel uses them: whole binary messages, and what keeps a line alive.

Written here and not left to a library, since each small question of a mount passes four times through it. A reader
trusts nothing: what is no proper frame raises `PfsError(INVALID)`, a message of more than its limit TOO_LARGE.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from struct import pack, unpack_from

from pfs.errors import Kind, PfsError

CONTROL_BYTES_MAX = 125
_FINAL, _MASKED = 0x80, 0x80
_SIZE_16, _SIZE_64 = 126, 127
_LONG = 512


class Opcode(IntEnum):
    """What a frame is."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message, or a control frame."""

    opcode: Opcode
    data: bytes


def encode_message(opcode: Opcode, data: bytes, key: bytes | None) -> bytes:
    """Return one frame that holds all of `data`.

    Args:
        key: 4 random bytes, from whoever dialled; None from the server.
    """
    masked = 0 if key is None else _MASKED
    size = len(data)
    if size < _SIZE_16:
        head = pack(">BB", _FINAL | opcode, masked | size)
    elif size < 1 << 16:
        head = pack(">BBH", _FINAL | opcode, masked | _SIZE_16, size)
    else:
        head = pack(">BBQ", _FINAL | opcode, masked | _SIZE_64, size)
    return head + data if key is None else b"".join((head, key, mask(data, key)))


def mask(data: bytes | memoryview, key: bytes) -> bytes:
    """Return `data` masked, or unmasked, with `key` (4 bytes)."""
    size = len(data)
    if size >= _LONG:  # for so many bytes a table is several times as fast as a number
        masked = bytearray(data)
        for place in range(4):
            masked[place::4] = masked[place::4].translate(_table(key[place]))
        return bytes(masked)
    whole = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(whole, "little")).to_bytes(size, "little")


@lru_cache(maxsize=256)
def _table(part: int) -> bytes:
    return bytes(each ^ part for each in range(256))


class FrameReader:
    """Turns what arrives into messages.

    Args:
        masked: the frames come from whoever dialled.
        bytes_max: of one message.
    """

    def __init__(self, *, masked: bool, bytes_max: int) -> None:
        self._masked = masked
        self._bytes_max = bytes_max
        self._buffer = bytearray()
        self._wanted = 2  # nothing can be done before so much is there
        self._parts = bytearray()  # of a message that is coming; they may be very many, and empty
        self._opcode: Opcode | None = None  # of the message whose parts are coming

    def feed(self, data: bytes) -> list[Message]:
        """Take what arrived; return the messages that it completes.

        Raises:
            PfsError: INVALID or TOO_LARGE; the line is of no use any more.
        """
        self._buffer += data
        return list(self._messages()) if len(self._buffer) >= self._wanted else []

    def _messages(self) -> Iterator[Message]:
        start = 0
        buffer = self._buffer
        while (found := self._frame(start)) is not None:
            final, opcode, data, start = found
            message = self._whole(final, opcode, data)
            if message is not None:
                yield message
        if start:
            del buffer[:start]

    def _frame(self, start: int) -> tuple[bool, Opcode, bytes, int] | None:
        """Return the frame at `start` and where it ends; None while it is not all there."""
        buffer = self._buffer
        there = len(buffer) - start
        self._wanted = 2
        if there < 2:
            return None
        first, second = buffer[start], buffer[start + 1]
        final, opcode = bool(first & _FINAL), _opcode(first & 0x7F)
        if bool(second & _MASKED) is not self._masked:
            raise PfsError(Kind.INVALID, "a frame that is masked as the other side's are")
        size, head = second & 0x7F, 2
        if size >= _SIZE_16:
            head = 4 if size == _SIZE_16 else 10
            if there < head:
                self._wanted = head
                return None
            (size,) = unpack_from(">H" if head == 4 else ">Q", buffer, start + 2)
        self._check(final, opcode, size)
        body = start + head + (4 if self._masked else 0)
        end = body + size
        if len(buffer) < end:
            self._wanted = end - start
            return None
        with memoryview(buffer) as view:
            if self._masked:
                return final, opcode, mask(view[body:end], bytes(view[body - 4 : body])), end
            return final, opcode, bytes(view[body:end]), end

    def _check(self, final: bool, opcode: Opcode, size: int) -> None:
        if opcode >= Opcode.CLOSE:
            if not final or size > CONTROL_BYTES_MAX:
                raise PfsError(Kind.INVALID, "a control frame that is cut or too large")
        elif (opcode is Opcode.CONTINUATION) is (self._opcode is None):
            raise PfsError(Kind.INVALID, "a frame that belongs to no message, or a message within another")
        elif len(self._parts) + size > self._bytes_max:
            raise PfsError(Kind.TOO_LARGE, f"a message of more than {self._bytes_max} bytes")

    def _whole(self, final: bool, opcode: Opcode, data: bytes) -> Message | None:
        if opcode >= Opcode.CLOSE or (final and self._opcode is None):
            return Message(opcode, data)
        self._opcode = self._opcode or opcode
        self._parts += data
        if not final:
            return None
        message = Message(self._opcode, bytes(self._parts))
        self._parts, self._opcode = bytearray(), None
        return message


_OPCODES = {int(each): each for each in Opcode}


def _opcode(number: int) -> Opcode:
    found = _OPCODES.get(number)
    if found is None:  # also one with a reserved bit: no extension was agreed on
        raise PfsError(Kind.INVALID, f"a frame of an unknown kind: {number}")
    return found
