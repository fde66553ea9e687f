"""What to fetch of an open file: for the read that waits, and ahead of those that will come.

A `Window` stands beside one open file. It is told every read and keeps the list of pieces that its owner holds, or
is fetching: the owner starts what a `Plan` says is new, answers the read from the pieces that it names, and lets go
of what it drops. So nothing is fetched twice while it is held, and what is held is bounded.

    read ──▶ which run does it go on with? ──none──▶ a new run: what was asked, rounded to the grain
                       │
                       └──▶ the run moves on: pieces up to 4 times as far ahead as it has come, at most 32 MiB

*A run* is a series of reads that moves forward. The kernel sends its read-ahead out of order, so a read belongs to a
run when it begins within a few requests of where that has come to. Several runs go on side by side: threads that
share a descriptor, or a scan with glances at an index. How far a run looks ahead follows from how far it has come:
so a long scan soon fetches at the full rate, while a short one, or one that skips, has fetched only a few times what
it asked for.

*The grain* is for reads that go on with nothing. Near one another they are rounded to up to 128 KiB, since their
neighbours are wanted next, also backwards; each far jump halves it, down to the page that was asked for. The first
read at a file's beginning, and any read of a file below 1 MiB, brings the first 1 MiB at once: most files are read
whole from there.
"""

from bisect import bisect_left, bisect_right, insort
from dataclasses import dataclass
from typing import NamedTuple

PAGE_BYTES = 4 * 1024
GRAIN_BYTES_MAX = 128 * 1024
HEAD_BYTES = 1024 * 1024
AHEAD_BYTES_MAX = 32 * 1024 * 1024
AHEAD_PER_PASSED = 4
NEAR_BYTES = 1024 * 1024

SLACK_REQUESTS = 4  # by which the kernel's read-ahead arrives too late or too early
SLACK_BYTES_MAX = 4 * 1024 * 1024
RUNS_MAX = 8
RUN_READS_MAX = 64  # a run that so many reads of the file did not go on with is over

SPARE_BYTES_MAX = 4 * 1024 * 1024  # held beyond what runs need, the latest used
SPARE_PIECES_MAX = 64

# how far ahead a run must look for pieces of a size: enough of them are in flight to fill the line
_PIECE_BYTES = (
    (16 * 1024 * 1024, 4 * 1024 * 1024),
    (8 * 1024 * 1024, 2 * 1024 * 1024),
    (1024 * 1024, 1024 * 1024),
    (GRAIN_BYTES_MAX, GRAIN_BYTES_MAX),
)
PIECE_BYTES_MAX = _PIECE_BYTES[0][1]


class Range(NamedTuple):
    """Bytes of a file from `start` up to, not including, `end`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes that is."""
        return self.end - self.start

    def overlaps(self, other: "Range") -> bool:
        """True when they have a byte in common."""
        return self.start < other.end and other.start < self.end


class Plan(NamedTuple):
    """What to do for one read.

    Attributes:
        use: the pieces that hold what was asked for, in order and without a gap; some may still be on their way.
        now: those of them that are new: to be fetched at once.
        ahead: further new pieces, nobody waits for them yet.
        drop: pieces that the window knows no more; a reader who waits for one may still have it.
        lone: the read goes on with nothing, and what it asks for was not held.
    """

    use: tuple[Range, ...] = ()
    now: tuple[Range, ...] = ()
    ahead: tuple[Range, ...] = ()
    drop: tuple[Range, ...] = ()
    lone: bool = False


@dataclass(slots=True, eq=False)
class _Run:
    """Reads that move forward.

    Attributes:
        start: where it began.
        frontier: the highest end of them.
        asked: bytes that they asked for, some perhaps twice.
        largest: bytes of the largest of them.
        seen: number of the last read that belonged to it.
        reach: how many bytes after the frontier it last looked ahead.
        look_at: where its frontier has to be before it looks again.
    """

    start: int
    frontier: int
    asked: int
    largest: int
    seen: int
    reach: int = 0
    look_at: int = 0

    @property
    def slack(self) -> int:
        """How far from the frontier a request may be."""
        return min(SLACK_REQUESTS * self.largest, SLACK_BYTES_MAX)

    @property
    def needed(self) -> Range:
        """What has to stay: what was fetched ahead, and what a late request may still ask for."""
        return Range(self.frontier - self.slack, self.frontier + self.reach)

    def goes_on_with(self, start: int, size: int) -> bool:
        # this is asked of every run for every read, and mostly denied
        distance = abs(start - self.frontier)
        return distance <= SLACK_BYTES_MAX and distance <= SLACK_REQUESTS * max(size, self.largest)

    def move(self, start: int, frontier: int, asked: int, largest: int) -> None:
        self.start = min(self.start, start)
        self.frontier = max(self.frontier, frontier)
        self.asked += asked
        self.largest = max(self.largest, largest)


class Window:
    """The reads of one open file, and the pieces of it that are held."""

    def __init__(self) -> None:
        self._pieces: list[Range] = []  # sorted; no two overlap
        self._used: dict[Range, int] = {}
        self._held_bytes = 0
        self._runs: list[_Run] = []  # the latest last
        self._grain = GRAIN_BYTES_MAX
        self._reads = 0

    @property
    def pieces(self) -> tuple[Range, ...]:
        """What the window takes to be held or on its way."""
        return tuple(self._pieces)

    @property
    def held_bytes(self) -> int:
        """How many bytes these are."""
        return self._held_bytes

    def read(self, offset: int, size: int, file_size: int, ahead_bytes_max: int = AHEAD_BYTES_MAX) -> Plan:
        """Note a read and return what to do for it.

        Args:
            offset, size: what is asked for, in bytes; what lies beyond the end of the file is not.
            file_size: bytes of the file, as far as it is known now.
            ahead_bytes_max: bytes for which there is room ahead of all runs of this file together.
        """
        asked = Range(offset, min(offset + size, file_size))
        if asked.end <= offset:
            return Plan()
        self._reads += 1
        run, use, new = self._continued(asked), self._overlapping(asked), []
        if not _whole(use, asked):
            new = self._add(self._wanted(asked, file_size, run), PIECE_BYTES_MAX)
            use = self._overlapping(asked)
        if run is None:
            self._end_runs(RUNS_MAX - 1)
            self._runs.append(_Run(offset, asked.end, asked.size, asked.size, self._reads))
        elif run.frontier >= run.look_at:
            new += self._look_ahead(run, file_size, ahead_bytes_max)
        for piece in use:
            self._used[piece] = self._reads
        if not new:
            return Plan(tuple(use))
        now = tuple(piece for piece in new if piece.overlaps(asked))
        ahead = tuple(piece for piece in new if piece not in now)
        return Plan(tuple(use), now, ahead, self._prune(asked), lone=run is None and self._reads > 1)

    def lost(self, piece: Range) -> None:
        """Note that a piece could not be fetched: the next read of it says so again."""
        if piece in self._used:
            self._remove(piece)
            self._look_again()

    def clear(self) -> tuple[Range, ...]:
        """Note that the file has other content by now; return what was held."""
        dropped = self.pieces
        for piece in dropped:
            self._remove(piece)
        self._look_again()
        return dropped

    def _continued(self, asked: Range) -> _Run | None:
        """Return the run that the read goes on with, moved on, as the latest one. Runs that have met become one."""
        start, size = asked.start, asked.size
        met = [run for run in self._runs if run.goes_on_with(start, size)]
        if not met:
            return None
        run = met.pop()
        if met or run is not self._runs[-1]:
            self._runs = [other for other in self._runs if other is not run and other not in met]
            self._runs.append(run)
        for other in met:
            run.move(other.start, other.frontier, other.asked, other.largest)
        run.move(asked.start, asked.end, asked.size, asked.size)
        run.seen = self._reads
        return run

    def _wanted(self, asked: Range, file_size: int, run: _Run | None) -> Range:
        """Return what to fetch now, where some of what was asked for is not held."""
        first = self._reads == 1
        if file_size <= HEAD_BYTES or (first and asked.start < PAGE_BYTES):
            return Range(0, min(max(_up(asked.end, PAGE_BYTES), HEAD_BYTES), file_size))
        grain = GRAIN_BYTES_MAX
        if run is None:
            near = first or any(abs(asked.start - other.frontier) <= NEAR_BYTES for other in self._runs)
            self._grain = min(2 * self._grain, GRAIN_BYTES_MAX) if near else max(self._grain // 2, PAGE_BYTES)
            grain = self._grain
        return Range(asked.start // grain * grain, min(_up(asked.end, grain), file_size))

    def _look_ahead(self, run: _Run, file_size: int, ahead_bytes_max: int) -> list[Range]:
        """Add what the run wants to be there after its frontier."""
        self._end_runs(RUNS_MAX)
        streams = sum(other is run or other.reach > 0 for other in self._runs)
        passed = min(run.asked, run.frontier - run.start)  # without what was skipped
        reach = min(AHEAD_PER_PASSED * passed, ahead_bytes_max // streams)
        piece_bytes = next((piece for least, piece in _PIECE_BYTES if reach >= least), 0)
        if piece_bytes == 0:
            run.reach = 0
            return []
        end = min((run.frontier + reach) // piece_bytes * piece_bytes, file_size)
        run.reach = max(0, end - run.frontier)
        run.look_at = run.frontier + piece_bytes // 8
        return self._add(Range(run.frontier, end), piece_bytes)

    def _look_again(self) -> None:
        for run in self._runs:
            run.look_at = 0

    def _end_runs(self, leave: int) -> None:
        self._runs = [run for run in self._runs if self._reads - run.seen <= RUN_READS_MAX][-leave:]

    def _add(self, wanted: Range, piece_bytes: int) -> list[Range]:
        """Add pieces where none are held, none larger than `piece_bytes` nor over a multiple of it."""
        added = []
        start = wanted.start
        for held in [*self._overlapping(wanted), Range(wanted.end, wanted.end)]:
            while start < held.start:
                piece = Range(start, min(held.start, _up(start + 1, piece_bytes)))
                added.append(piece)
                start = piece.end
            start = held.end
        for piece in added:
            insort(self._pieces, piece)
            self._used[piece] = self._reads
            self._held_bytes += piece.size
        return added

    def _overlapping(self, wanted: Range) -> list[Range]:
        pieces, index = self._pieces, bisect_right(self._pieces, wanted)
        if index and pieces[index - 1].end > wanted.start:
            index -= 1
        last = index
        while last < len(pieces) and pieces[last].start < wanted.end:
            last += 1
        return pieces[index:last]

    def _prune(self, asked: Range) -> tuple[Range, ...]:
        """Let go of what no run needs, but for the latest used; only when it has become much, and then of half."""
        if len(self._pieces) <= SPARE_PIECES_MAX and self._held_bytes <= SPARE_BYTES_MAX:
            return ()
        needed = [run.needed for run in self._runs if run.reach]
        needed.append(asked)
        spare = [piece for piece in self._pieces if not any(piece.overlaps(each) for each in needed)]
        spare_bytes = sum(piece.size for piece in spare)
        if len(spare) <= SPARE_PIECES_MAX and spare_bytes <= SPARE_BYTES_MAX:
            return ()
        count, dropped = len(spare), []
        for piece in sorted(spare, key=self._used.__getitem__):
            if count <= SPARE_PIECES_MAX // 2 and spare_bytes <= SPARE_BYTES_MAX // 2:
                break
            dropped.append(piece)
            count, spare_bytes = count - 1, spare_bytes - piece.size
            self._remove(piece)
        return tuple(dropped)

    def _remove(self, piece: Range) -> None:
        del self._used[piece]
        del self._pieces[bisect_left(self._pieces, piece)]
        self._held_bytes -= piece.size


def _whole(pieces: list[Range], asked: Range) -> bool:
    """True when the pieces, which are sorted, leave no gap in what is asked."""
    start = asked.start
    for piece in pieces:
        if piece.start > start:
            return False
        start = piece.end
    return start >= asked.end


def _up(offset: int, to_bytes: int) -> int:
    return -(-offset // to_bytes) * to_bytes
