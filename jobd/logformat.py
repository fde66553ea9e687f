"""The log of a job: how output is cut into pieces, and how the pieces of several sources become one text.

The node cuts (`Splitter`): a piece ends at the end of a line (`\\n`, `\\r`), at 64 KiB without one, or after a silence
that the caller notices (`flush`); it has the time of its first byte, and lines that came in the same moment are one
piece. The server merges (`format_piece`), once, so that every reader sees the same file:

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
LOG_BYTES_MAX = 4 << 30  # of a job's log; what comes beyond is dropped (`jobd.store.logs`)

_LINE_END = re.compile(rb"\r\n|[\r\n]")


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
        start, end = 0, max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
        if self._held and end:
            first = _LINE_END.search(data)
            assert first is not None
            start = first.end()
            self._held += data[:start]
            pieces += self.flush()
        if start < end:
            pieces.append((now_ns, data[start:end]))
        if end < len(data):
            if not self._held:
                self._held_since_ns = now_ns
            self._held += data[end:]
            if len(self._held) >= PIECE_BYTES_MAX:
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

    @property
    def ended(self) -> bool:
        """Whether the text ends with the end of a line."""
        return self.last in (b"", b"\n", b"\r")


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
    goes_on = prior.source == source and (not prior.ended or (prior.last == b"\r" and data.startswith(b"\n")))
    before = b"" if goes_on else close(prior) + prefix
    return MergeState(source, data[-1:]), before + _with_prefixes(data, prefix)


def _with_prefixes(data: bytes, prefix: bytes) -> bytes:
    """Put the prefix before every line but the first."""
    if b"\r" not in data:
        return data[:-1].replace(b"\n", b"\n" + prefix) + data[-1:]
    inner = len(data) - (2 if data.endswith(b"\r\n") else 1)
    return _LINE_END.sub(lambda end: end[0] + prefix, data[:inner]) + data[inner:]


def close(state: MergeState) -> bytes:
    """Return what ends the text where a line is left unended."""
    return b"" if state.ended else b"\n"
