"""One file, changed and read at random in every way that there is, beside a row of bytes that says what it must hold.

The file is written through one mount, also by mapping it into memory; it is read through that mount and, after each
closing, through a second one. Nothing that is read may differ in one byte. What was done last is told with a failure.
"""

import mmap
import os
import random
from collections import deque
from pathlib import Path

SIZE_MAX = 1 << 20
LENGTH_MAX = 1 << 17
LOGGED = 60
PAGE = mmap.PAGESIZE
KINDS = {
    "read": 10,
    "write": 10,
    "append": 4,
    "rewrite": 3,
    "truncate": 6,
    "read_map": 6,
    "write_map": 6,
    "sync": 2,
    "reopen": 4,
    "drop": 3,
    "elsewhere": 3,
    "replace": 1,
    "size": 3,
}


class Wrong(AssertionError):
    """The file does not hold what it must."""


class Exerciser:
    """Random work on one file.

    Args:
        path: the file, in the mount through which it is changed.
        elsewhere: the same file in another mount, which only reads it.
        seed: the same work is done for the same number.
        size_max: the file never gets longer.
        behind: the mount promises to others only what was synced, not yet what was closed.
    """

    def __init__(
        self, path: Path, elsewhere: Path | None, seed: int, size_max: int = SIZE_MAX, *, behind: bool = False
    ) -> None:
        self.path = path
        self.other = elsewhere
        self.seed = seed
        self.size_max = size_max
        self.behind = behind
        self.chance = random.Random(seed)
        self.content = bytearray()
        self.log: deque[str] = deque(maxlen=LOGGED)
        self.done = 0
        self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)

    def run(self, steps: int) -> None:
        """Do so many steps, and compare the whole file in the end."""
        kinds, weights = list(KINDS), list(KINDS.values())
        try:
            for _ in range(steps):
                getattr(self, self.chance.choices(kinds, weights)[0])()
                self.done += 1
            self.finish()
        except (OSError, ValueError) as error:
            self.fail(f"{type(error).__name__}: {error}")

    def finish(self) -> None:
        """Compare all of the file."""
        self.elsewhere()
        self.note("read all")
        self.compare(self.path.read_bytes(), 0, "the whole file")

    def close(self) -> None:
        """Let go of the file."""
        file, self.file = self.file, -1
        if file >= 0:
            os.close(file)

    def open_again(self, flags: int = 0) -> None:
        """Close the file and open it again."""
        self.close()
        self.file = os.open(self.path, os.O_RDWR | flags)

    # ---- reading

    def read(self) -> None:
        offset, length = self.piece()
        self.note(f"read {length} at {offset}")
        self.compare(os.pread(self.file, length, offset), offset, "read", length)

    def read_map(self) -> None:
        if not self.content:
            return
        offset, length = self.piece_inside()
        self.note(f"read {length} at {offset} by a mapping")
        with mmap.mmap(self.file, len(self.content), prot=mmap.PROT_READ) as memory:
            self.compare(memory[offset : offset + length], offset, "the mapping", length)

    def size(self) -> None:
        self.note("stat")
        for name, found in (("fstat", os.fstat(self.file)), ("stat", os.stat(self.path))):
            if found.st_size != len(self.content):
                self.fail(f"{name} tells {found.st_size} bytes instead of {len(self.content)}")
        end = os.lseek(self.file, 0, os.SEEK_END)
        if end != len(self.content):
            self.fail(f"the end is at {end} instead of {len(self.content)}")

    def elsewhere(self) -> None:
        """Close the file, and read a piece of it, or all, through the other mount."""
        if self.behind:
            os.fsync(self.file)
        self.close()
        offset, length = (0, self.size_max) if self.chance.random() < 0.3 else self.piece()
        if self.other is not None:
            self.note(f"close; read {length} at {offset} through the other mount")
            with open(self.other, "rb", buffering=0) as file:
                found = os.fstat(file.fileno()).st_size
                if found != len(self.content):
                    self.fail(f"through the other mount it has {found} bytes instead of {len(self.content)}")
                self.compare(os.pread(file.fileno(), length, offset), offset, "the other mount", length)
        self.open_again()

    # ---- changing

    def write(self) -> None:
        offset, length = self.piece()
        self.put(offset, self.noise(min(length, self.size_max - offset)), "write")

    def append(self) -> None:
        """Add to the end through an opening of its own."""
        data = self.noise(min(self.length(), self.size_max - len(self.content)))
        self.note(f"append {len(data)}")
        file = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            self.check_written(os.write(file, data), data)
        finally:
            os.close(file)
        self.content += data

    def rewrite(self) -> None:
        """Write many small pieces, one after the other or back and forth."""
        offset, length = self.piece()
        piece, backwards = self.chance.randrange(1, 5000), self.chance.random() < 0.3
        starts = list(range(offset, min(offset + length, self.size_max), piece))[:40]
        for start in reversed(starts) if backwards else starts:
            self.put(start, self.noise(min(piece, self.size_max - start)), "write")

    def truncate(self) -> None:
        size = self.chance.choice([0, self.offset(), self.offset(), self.size_max, len(self.content)])
        by_name = self.chance.random() < 0.3
        self.note(f"{'truncate' if by_name else 'ftruncate'} from {len(self.content)} to {size}")
        os.truncate(self.path if by_name else self.file, size)
        del self.content[size:]
        self.content += bytes(size - len(self.content))

    def write_map(self) -> None:
        """Change a piece in memory; whether it is synced is left to chance, since unmapping keeps it, too."""
        if not self.content:
            return
        offset, length = self.piece_inside()
        data, synced = self.noise(length), self.chance.random() < 0.5
        self.note(f"write {length} at {offset} by a mapping{', msync' if synced else ''}")
        with mmap.mmap(self.file, len(self.content)) as memory:
            memory[offset : offset + length] = data
            if synced:
                memory.flush()
        self.content[offset : offset + length] = data

    def replace(self) -> None:
        """Put a new file in its place."""
        data = self.noise(min(self.length(), self.size_max))
        self.note(f"replace by {len(data)}")
        new = self.path.with_name(self.path.name + ".new")
        new.write_bytes(data)
        os.rename(new, self.path)
        self.open_again()
        self.content = bytearray(data)

    # ---- neither

    def sync(self) -> None:
        self.note("fsync")
        self.chance.choice([os.fsync, os.fdatasync])(self.file)

    def reopen(self) -> None:
        emptied = self.chance.random() < 0.1
        self.note("close, open and empty" if emptied else "close, open")
        self.open_again(os.O_TRUNC if emptied else 0)
        if emptied:
            self.content.clear()

    def drop(self) -> None:
        """Let the kernel forget the pages that it could get again."""
        self.note("fadvise DONTNEED")
        os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_DONTNEED)

    # ---- how

    def put(self, offset: int, data: bytes, how: str) -> None:
        self.note(f"{how} {len(data)} at {offset}{' behind the end' if offset > len(self.content) else ''}")
        self.check_written(os.pwrite(self.file, data, offset), data)
        self.content += bytes(max(0, offset - len(self.content)))
        self.content[offset : offset + len(data)] = data

    def offset(self) -> int:
        """Choose an offset; often at, or just beside, the border of a page, or the end."""
        near = self.chance.choice([0, 0, -1, 1])
        where = self.chance.choice([None, None, PAGE * self.chance.randrange(self.size_max // PAGE), len(self.content)])
        offset = self.chance.randrange(self.size_max) if where is None else where + near
        return min(max(offset, 0), self.size_max - 1)

    def length(self) -> int:
        return self.chance.choice([1, PAGE, self.chance.randrange(1, 5000), self.chance.randrange(1, LENGTH_MAX)])

    def piece(self) -> tuple[int, int]:
        return self.offset(), self.length()

    def piece_inside(self) -> tuple[int, int]:
        offset = min(self.offset(), len(self.content) - 1)
        return offset, min(self.length(), len(self.content) - offset)

    def noise(self, length: int) -> bytes:
        return self.chance.randbytes(length)

    def note(self, what: str) -> None:
        self.log.append(f"{self.done:6}  {what}")

    def check_written(self, written: int, data: bytes) -> None:
        if written != len(data):
            self.fail(f"{written} of {len(data)} bytes were written")

    def compare(self, found: bytes, offset: int, what: str, length: int | None = None) -> None:
        """Tell where bytes that were read differ from what the file must hold."""
        end = len(self.content) if length is None else offset + length
        expected = bytes(self.content[offset:end])
        if found == expected:
            return
        if len(found) != len(expected):
            self.fail(f"{what}: {len(found)} bytes instead of {len(expected)}")
        wrong = [at for at, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other]
        first, last = wrong[0], wrong[-1]
        zeros = "; all of these are zero" if not any(found[at] for at in wrong) else ""
        self.fail(
            f"{what}: {len(wrong)} bytes are wrong, from {offset + first} to {offset + last}{zeros}:"
            f" {found[first : last + 1][:8].hex(' ')} instead of {expected[first : last + 1][:8].hex(' ')}"
        )

    def fail(self, what: str) -> None:
        done = "\n".join(self.log)
        raise Wrong(f"seed {self.seed}, step {self.done}: the file has {len(self.content)} bytes\n{done}\n{what}")
