"""What an engine sends for as long as it has something to tell: events by lines, and output by pieces."""

import json
import struct
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

_FRAME = struct.Struct(">BxxxI")


class Events:
    """What an engine tells of something that takes a while: a line of JSON for each event."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._rest = b""

    async def next(self) -> list[dict[str, Any]]:
        """Return the next events; nothing at the end."""
        events: list[dict[str, Any]] = []
        while not events:
            data = await self._read()
            *lines, self._rest = (self._rest + (data or b"\n")).split(b"\n")
            events = [json.loads(line) for line in lines if line.strip()]
            if not data:
                break
        return events


class Frames:
    """A container's output as the engine sends it: pieces of stdout and stderr in one stream."""

    def __init__(self, read: Callable[[], Awaitable[bytes]]) -> None:
        self._read = read
        self._buffer = bytearray()

    async def next(self) -> list[tuple[int, bytes]]:
        """Return the next pieces as (1 stdout | 2 stderr, bytes); nothing at the end."""
        frames: list[tuple[int, bytes]] = []
        while not frames:
            data = await self._read()
            if not data:
                return []
            self._buffer += data
            frames = list(self._whole_ones())
        return frames

    def _whole_ones(self) -> Iterator[tuple[int, bytes]]:
        buffer = self._buffer
        while len(buffer) >= _FRAME.size:
            stream, length = _FRAME.unpack_from(buffer)
            end = _FRAME.size + length
            if len(buffer) < end:
                return
            yield stream, bytes(buffer[_FRAME.size : end])
            del buffer[:end]
