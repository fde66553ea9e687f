"""What was written to an open file and is not with the server yet, gathered into larger pieces.

Programs write a few kilobytes at a time, the network likes megabytes. Bytes that join one another are one *run*;
when a run has become a piece's length, it is handed out to be sent, as is everything when it is spread over too many
runs, and on `take`. Who reads, or changes the size, has all of it sent before. Until the server has confirmed a piece,
it counts as dirty.

    add ──▶ runs: disjoint, later bytes in place of earlier ones ──▶ Piece, in flight ──▶ done

Pieces that are handed out together never overlap. One that overlaps pieces still in flight names them in `after`:
it must not be sent before they are done; all others may travel side by side.

What is written is not copied, but for small writes, which are collected, and for bytes written twice: for these the
run is laid out flat once. A piece is sent part by part, as it was written.
"""

from bisect import bisect_right
from dataclasses import dataclass

from pfs.parts import Part, cut

PIECE_BYTES = 4 * 1024 * 1024
PIECE_BYTES_MAX = 2 * PIECE_BYTES
RUNS_MAX = 64
RUNS_BYTES_MAX = 2 * PIECE_BYTES  # in all runs together
SMALL_BYTES = 64 * 1024  # what is shorter is collected


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """Bytes to be sent.

    Attributes:
        number: counts the pieces of this file.
        parts: its bytes, one after the other.
        after: numbers of the pieces in flight that must be done before this one is sent.
    """

    number: int
    offset: int
    size: int
    parts: tuple[Part, ...]
    after: tuple[int, ...]

    @property
    def end(self) -> int:
        """The offset after its last byte."""
        return self.offset + self.size


class _Run:
    """Bytes that join one another: chunks that are added at the end, or laid out flat."""

    def __init__(self, offset: int) -> None:
        self.offset = offset
        self.end = offset
        self.chunks: list[bytes | bytearray] = []

    @property
    def size(self) -> int:
        return self.end - self.offset

    def append(self, data: bytes) -> None:
        last = self.chunks[-1] if self.chunks else None
        if len(data) >= SMALL_BYTES:
            self.chunks.append(data)
        elif isinstance(last, bytearray):
            last += data
        else:
            self.chunks.append(bytearray(data))
        self.end += len(data)

    def replace(self, offset: int, data: bytes) -> None:
        """Put bytes in place of others, from within the run on."""
        flat, at = self._flat(), offset - self.offset
        flat[at : at + len(data)] = data
        self.end = self.offset + len(flat)

    def cut_before(self, offset: int) -> None:
        del self._flat()[: offset - self.offset]
        self.offset = offset

    def _flat(self) -> bytearray:
        flat = self.chunks[0]
        if len(self.chunks) > 1 or not isinstance(flat, bytearray):
            flat = bytearray().join(self.chunks)
            self.chunks = [flat]
        return flat


class Gather:
    """The unconfirmed bytes of one open file."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []  # sorted; no two overlap
        self._runs_bytes = 0
        self._in_flight: dict[int, Piece] = {}
        self._numbers = 0

    @property
    def dirty_bytes(self) -> int:
        """How many bytes are held that the server has not confirmed."""
        return self._runs_bytes + sum(piece.size for piece in self._in_flight.values())

    def add(self, offset: int, data: bytes) -> list[Piece]:
        """Note what a program has written; return what is to be sent now."""
        if not data:
            return []
        end = offset + len(data)
        index = bisect_right(self._runs, offset, key=_offset)
        run = self._runs[index - 1] if index and self._runs[index - 1].end >= offset else None
        if run is None or run.end < end:
            self._clear(index, end)
        if run is None:
            run = _Run(offset)
            self._runs.insert(index, run)
        before = run.size
        if run.end == offset:
            run.append(data)
        else:
            run.replace(offset, data)
        self._runs_bytes += run.size - before
        if run.size >= PIECE_BYTES:
            return self._hand_out(run)
        if len(self._runs) > RUNS_MAX or self._runs_bytes > RUNS_BYTES_MAX:
            return self.take()
        return []

    def take(self) -> list[Piece]:
        """Return all that was not handed out yet, to be sent now."""
        return self._hand_out(*self._runs)

    def done(self, piece: Piece) -> None:
        """Note that the server has confirmed the piece; it may have been said before."""
        self._in_flight.pop(piece.number, None)

    def _clear(self, index: int, end: int) -> None:
        """Make room before `end` among the runs from `index` on."""
        last = index
        while last < len(self._runs) and self._runs[last].end <= end:
            self._runs_bytes -= self._runs[last].size
            last += 1
        del self._runs[index:last]
        if index < len(self._runs) and self._runs[index].offset < end:
            self._runs_bytes -= end - self._runs[index].offset
            self._runs[index].cut_before(end)

    def _hand_out(self, *runs: _Run) -> list[Piece]:
        groups: list[list[_Run]] = []
        for run in runs:
            if groups and groups[-1][-1].end == run.offset:
                groups[-1].append(run)
            else:
                groups.append([run])
        self._runs = [run for run in self._runs if run not in runs]
        self._runs_bytes -= sum(run.size for run in runs)
        pieces: list[Piece] = []
        for group in groups:
            offset = group[0].offset
            for parts in cut([chunk for run in group for chunk in run.chunks], PIECE_BYTES_MAX):
                pieces.append(self._piece(offset, parts))
                offset = pieces[-1].end
        return pieces

    def _piece(self, offset: int, parts: tuple[Part, ...]) -> Piece:
        size = sum(map(len, parts))
        end = offset + size
        after = tuple(piece.number for piece in self._in_flight.values() if piece.offset < end and offset < piece.end)
        self._numbers += 1
        piece = Piece(self._numbers, offset, size, parts, after)
        self._in_flight[piece.number] = piece
        return piece


def _offset(run: _Run) -> int:
    return run.offset
