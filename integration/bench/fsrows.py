"""The work that file systems are compared by: the same on any directory, each row timed by itself.

    python -m integration.bench.fsrows DIRECTORY [--big MIB] [--tree FILES] [--cold COMMAND]

prints one JSON object: for each row its figure, and the seconds that it took. Some rows start cold: before them the
caller makes the directory so, by COMMAND; without one the kernel's own pages are dropped, which is all that a local
directory needs. A warm row is the same work again, right after the cold one.

What is read is compared with what was written, outside of what is timed where that would cost: speed is worth nothing
where the bytes are wrong.
"""

import argparse
import enum
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
PIECE = random.Random(7).randbytes(MIB)
SMALL_BYTES = 4096
SMALL = PIECE[:SMALL_BYTES]
FILES_PER_DIRECTORY = 100
PREADS = 1000


@dataclass(frozen=True)
class Work:
    """What is worked on: a big file and a tree of small ones, in a directory that exists."""

    directory: Path
    big_mib: int
    tree_files: int

    @property
    def big(self) -> str:
        """Where the big file is."""
        return str(self.directory / "big")

    @property
    def tree(self) -> str:
        """Where the small files are."""
        return str(self.directory / "tree")


class Start(enum.Enum):
    """What a row finds when it begins."""

    SETTLED = "what was written before is on the disk"
    COLD = "a fresh client, and no page in memory"
    WARM = "what the row before left in memory"


@dataclass(frozen=True)
class Row:
    """One line of the table: a piece of work, and how it is said how fast it was.

    `run` returns the seconds, `figure` makes of them what `unit` says.
    """

    name: str
    title: str
    unit: str
    start: Start
    run: Callable[[Work], float]
    figure: Callable[[Work, float], float]
    more_is_better: bool = True


class Clock:
    """How long a block took."""

    seconds = 0.0


@contextmanager
def timed() -> Iterator[Clock]:
    """Time a block."""
    clock = Clock()
    begun = time.perf_counter()
    yield clock
    clock.seconds = time.perf_counter() - begun


def write_big(work: Work) -> float:
    """Write the big file in pieces of 1 MiB, until it is on the disk."""
    with timed() as clock, open(work.big, "wb", buffering=0) as file:
        for _ in range(work.big_mib):
            assert file.write(PIECE) == MIB
        os.fsync(file.fileno())
    return clock.seconds


def read_big(work: Work) -> float:
    """Read the big file from its begin to its end."""
    count, last = 0, b""
    with timed() as clock, open(work.big, "rb", buffering=0) as file:
        while piece := file.read(MIB):
            count += len(piece)
            last = piece
    assert count == work.big_mib * MIB, f"{count} bytes were read"
    assert PIECE.endswith(last), "the last bytes are wrong"
    return clock.seconds


def read_randomly(work: Work) -> float:
    """Read pages from all over the big file; the same ones each time."""
    dice = random.Random(3)
    offsets = [dice.randrange(work.big_mib * MIB // SMALL_BYTES) * SMALL_BYTES for _ in range(PREADS)]
    with timed() as clock:
        fd = os.open(work.big, os.O_RDONLY)
        pages = [os.pread(fd, SMALL_BYTES, offset) for offset in offsets]
        os.close(fd)
    for offset, page in zip(offsets, pages, strict=True):
        assert page == PIECE[offset % MIB : offset % MIB + SMALL_BYTES], f"wrong bytes at {offset}"
    return clock.seconds


def create_tree(work: Work) -> float:
    """Write many small files, a hundred to a directory."""
    with timed() as clock:
        os.mkdir(work.tree)
        for number in range(work.tree_files):
            directory = f"{work.tree}/d{number // FILES_PER_DIRECTORY:03d}"
            if number % FILES_PER_DIRECTORY == 0:
                os.mkdir(directory)
            with open(f"{directory}/f{number:05d}", "wb") as file:
                file.write(SMALL)
    return clock.seconds


def walk_tree(work: Work) -> float:
    """Look at each small file, as `find -size` does."""

    def size(path: str) -> None:
        assert os.lstat(path).st_size == SMALL_BYTES, f"{path} has the wrong size"

    return _each_file(work, size)


def read_tree(work: Work) -> float:
    """Read each small file, as `grep -r` does."""

    def content(path: str) -> None:
        with open(path, "rb") as file:
            assert file.read() == SMALL, f"{path} has the wrong content"

    return _each_file(work, content)


def remove_tree(work: Work) -> float:
    """Remove the small files."""
    with timed() as clock:
        shutil.rmtree(work.tree)
    return clock.seconds


def remove_big(work: Work) -> float:
    """Remove the big file."""
    with timed() as clock:
        os.unlink(work.big)
    return clock.seconds


def _each_file(work: Work, look: Callable[[str], None]) -> float:
    """Find all small files and look at each; return the seconds."""
    count = 0
    with timed() as clock:
        for directory, _, names in os.walk(work.tree):
            for name in names:
                look(os.path.join(directory, name))
                count += 1
    assert count == work.tree_files, f"{count} files were found"
    return clock.seconds


def _mib_per_s(work: Work, seconds: float) -> float:
    return work.big_mib / seconds


def _reads_per_s(work: Work, seconds: float) -> float:
    return PREADS / seconds


def _files_per_s(work: Work, seconds: float) -> float:
    return work.tree_files / seconds


def _ms(work: Work, seconds: float) -> float:
    return seconds * 1000


ROWS = (
    Row("seq_write", "sequential write", "MiB/s", Start.SETTLED, write_big, _mib_per_s),
    Row("seq_read_cold", "sequential read, cold", "MiB/s", Start.COLD, read_big, _mib_per_s),
    Row("seq_read_warm", "sequential read, warm", "MiB/s", Start.WARM, read_big, _mib_per_s),
    Row("random_4k_cold", "random 4 KiB, cold", "reads/s", Start.COLD, read_randomly, _reads_per_s),
    Row("small_create", "small create", "files/s", Start.SETTLED, create_tree, _files_per_s),
    Row("walk_cold", "walk with lstat, cold", "files/s", Start.COLD, walk_tree, _files_per_s),
    Row("walk_warm", "walk with lstat, warm", "files/s", Start.WARM, walk_tree, _files_per_s),
    Row("small_read_cold", "small reads, cold", "files/s", Start.COLD, read_tree, _files_per_s),
    Row("small_read_warm", "small reads, warm", "files/s", Start.WARM, read_tree, _files_per_s),
    Row("rmtree", "rmtree", "files/s", Start.SETTLED, remove_tree, _files_per_s),
    Row("unlink_big", "unlink of the big file", "ms", Start.SETTLED, remove_big, _ms, more_is_better=False),
)


def drop_pages() -> None:
    """Make the kernel forget what it knows of files; only root may."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def main() -> None:
    """Do all rows, or the one that is named, and print what was found."""
    parser = argparse.ArgumentParser(prog="fsrows", description="Time the same work on any directory.")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--big", type=int, default=512, metavar="MIB", help="the size of the big file")
    parser.add_argument("--tree", type=int, default=1000, metavar="FILES", help="how many small files")
    parser.add_argument("--cold", metavar="COMMAND", help="a shell command that makes the directory cold")
    parser.add_argument("--row", choices=[row.name for row in ROWS], help="only this one, as things are")
    options = parser.parse_args()
    work = Work(options.directory, options.big, options.tree)
    found = {}
    for row in ROWS:
        if options.row not in (None, row.name):
            continue
        if options.row is None and row.start is Start.COLD:
            if options.cold:
                subprocess.run(options.cold, shell=True, check=True)
            else:
                drop_pages()
        seconds = row.run(work)
        found[row.name] = {"figure": row.figure(work, seconds), "seconds": seconds}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
