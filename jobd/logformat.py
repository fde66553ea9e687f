"""The log of a job: how output is cut into pieces, and how the pieces of several sources become one text.

The node cuts (`Splitter`): a piece ends at `\\n`, at `\\r`, at 64 KiB, or after a silence that the caller notices
(`flush`), and has the time of its first byte. The server merges (`format_piece`), once, so that every reader sees
the same file:

    [2026-01-31 09:30:00] [worker 0] epoch 1
    [2026-01-31 09:30:01] [daemon] …

1. What begins a line gets `[stamp] [source] ` before it.
2. A piece that goes on with an unended line of its own source, with no other source between, gets nothing, and
   neither does a `\\n` directly after a `\\r`.
3. Another source after an unended line first gets a `\\n`.

Without the prefixes, and without the `\\n` of rule 3, every source's bytes are just what it wrote.
"""

import re
from dataclasses import dataclass

PIECE_BYTES_MAX = 64 * 1024

_LINE = re.compile(rb"\r\n|[^\r\n]*[\r\n]|[^\r\n]+")
_PIECE = re.compile(rb"[^\r\n]*[\r\n]|[^\r\n]+")


class Splitter:
    """Cuts the output of one process into pieces, whatever the chunks in which it comes."""

    def __init__(self) -> None:
        self._held = bytearray()
        self._held_since_ns = 0

    @property
    def pending(self) -> bool:
        """Whether bytes are held back whose piece has no end yet."""
        return bool(self._held)

    def feed(self, data: bytes, now_ns: int) -> list[tuple[int, bytes]]:
        """Take bytes that came now, and return the pieces that are whole: pairs of time and bytes."""
        pieces: list[tuple[int, bytes]] = []
        for match in _PIECE.finditer(data):
            part = match[0]
            while part:
                if not self._held:
                    self._held_since_ns = now_ns
                room = PIECE_BYTES_MAX - len(self._held)
                self._held += part[:room]
                part = part[room:]
                if len(self._held) == PIECE_BYTES_MAX or self._held.endswith((b"\n", b"\r")):
                    pieces += self.flush()
        return pieces

    def flush(self) -> list[tuple[int, bytes]]:
        """Return what is held back as a piece, if there is anything: the process is silent, or over."""
        if not self._held:
            return []
        piece = (self._held_since_ns, bytes(self._held))
        self._held.clear()
        return [piece]


@dataclass(frozen=True, slots=True)
class MergeState:
    """How the merged text ends: whose the last piece was, and its last byte ("" before the first)."""

    source: str = ""
    last: bytes = b""


def format_piece(prior: MergeState, source: str, stamp_text: str, data: bytes) -> tuple[MergeState, bytes]:
    """Return what a piece adds to the merged text.

    Args:
        prior: how the text ends.
        source: "worker 0", "daemon", "prepare".
        stamp_text: the time of the piece, as it shall be shown.
        data: the piece; it may also hold several lines.
    """
    if not data:
        return prior, b""
    prefix = f"[{stamp_text}] [{source}] ".encode()
    text = bytearray()
    state = prior
    for match in _LINE.finditer(data):
        line = match[0]
        ended = state.last in (b"", b"\n", b"\r")
        goes_on = state.source == source and (not ended or (state.last == b"\r" and line == b"\n"))
        if not goes_on:
            text += (b"" if ended else b"\n") + prefix
        text += line
        state = MergeState(source, line[-1:])
    return state, bytes(text)


def close(state: MergeState) -> bytes:
    """Return what ends the text of a job that is over."""
    return b"" if state.last in (b"", b"\n", b"\r") else b"\n"
