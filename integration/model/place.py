"""One directory tree and the files that are open in it, and what programs can do with them.

Each operation is a method that gives what a program gets to know, in a form that can be compared with what another
`Place` gives for the same operation: numbers of inodes and descriptors, sizes of directories and times of the clock
are no part of it. Files that are open are known by a *slot*, the same number in every place.
"""

import contextlib
import ctypes
import errno
import mmap
import os
import shutil
import socket
import stat
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

NOREPLACE, EXCHANGE = 1, 2
COPY_BYTES = 1 << 16
SET_TIMES_END_NS = 10**18  # times that are set are before this, in 2001; the clock's are after it
Outcome = object
_LIBC = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Data:
    """Bytes that tell by themselves where they were meant to stand: a wrong piece in a wrong place is seen."""

    seed: int
    size: int

    def bytes(self) -> bytes:
        """Return them."""
        first = self.seed << 40
        return array("Q", range(first, first + self.size // 8 + 1)).tobytes()[: self.size]


def time_of(time_ns: int) -> int | str:
    """Return a time that was set as it is, and any other as what it is: of the clock."""
    return time_ns if time_ns < SET_TIMES_END_NS else "now"


def told(found: os.stat_result) -> tuple[object, ...]:
    """Return what is comparable of what stat(2) tells."""
    size = None if stat.S_ISDIR(found.st_mode) else found.st_size
    return stat.filemode(found.st_mode), found.st_nlink, size, time_of(found.st_mtime_ns)


def outcome(call: Callable[[], Outcome]) -> Outcome:
    """Return what a call returns, or the name of the errno with which it fails."""
    try:
        return call()
    except shutil.SameFileError:
        return "the same file"
    except shutil.SpecialFileError:
        return "a special file"
    except OSError as error:
        return type(error).__name__ if error.errno is None else errno.errorcode[error.errno]


class Place:
    """A tree below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.open_files: dict[int, int] = {}

    def at(self, path: str) -> str:
        """Return where a path of the tree is on this machine."""
        return f"{self.root}/{path}" if path else str(self.root)

    # ---- names

    def mkdir(self, path: str, mode: int) -> Outcome:
        os.mkdir(self.at(path), mode)
        return "made"

    def rmdir(self, path: str) -> Outcome:
        os.rmdir(self.at(path))
        return "removed"

    def unlink(self, path: str) -> Outcome:
        os.unlink(self.at(path))
        return "removed"

    def rename(self, source: str, target: str, flags: int) -> Outcome:
        names = [os.fsencode(self.at(path)) for path in (source, target)]
        if _LIBC.renameat2(-100, names[0], -100, names[1], flags):
            raise OSError(ctypes.get_errno(), "renameat2")
        return "renamed"

    def link(self, source: str, target: str) -> Outcome:
        os.link(self.at(source), self.at(target), follow_symlinks=False)
        return "linked"

    def symlink(self, path: str, target: str) -> Outcome:
        os.symlink(target, self.at(path))
        return "made"

    def readlink(self, path: str) -> Outcome:
        return os.readlink(self.at(path))

    def mkfifo(self, path: str, mode: int) -> Outcome:
        os.mkfifo(self.at(path), mode)
        return "made"

    def mknod(self, path: str, mode: int, kind: int) -> Outcome:
        os.mknod(self.at(path), mode | kind)
        return "made"

    def bind(self, path: str) -> Outcome:
        directory, _, name = self.at(path).rpartition("/")
        above = os.open(directory, os.O_PATH)
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(f"/proc/self/fd/{above}/{name}")
        finally:
            os.close(above)
        return "bound"

    def listdir(self, path: str) -> Outcome:
        return sorted(os.listdir(self.at(path)))

    # ---- attributes, by name

    def stat(self, path: str) -> Outcome:
        return told(os.stat(self.at(path)))

    def lstat(self, path: str) -> Outcome:
        return told(os.lstat(self.at(path)))

    def access(self, path: str, mode: int) -> Outcome:
        return os.access(self.at(path), mode)

    def chmod(self, path: str, mode: int) -> Outcome:
        os.chmod(self.at(path), mode)
        return stat.filemode(os.stat(self.at(path)).st_mode)

    def utime(self, path: str, times_ns: tuple[int, int] | None) -> Outcome:
        os.utime(self.at(path), ns=times_ns, follow_symlinks=False) if times_ns else os.utime(self.at(path))
        found = os.lstat(self.at(path))
        return time_of(found.st_atime_ns), time_of(found.st_mtime_ns)

    def truncate(self, path: str, size: int) -> Outcome:
        os.truncate(self.at(path), size)
        return os.stat(self.at(path)).st_size

    def setxattr(self, path: str, name: str, value: bytes, flags: int) -> Outcome:
        os.setxattr(self.at(path), name, value, flags)
        return os.getxattr(self.at(path), name)

    def getxattr(self, path: str, name: str) -> Outcome:
        return os.getxattr(self.at(path), name)

    def removexattr(self, path: str, name: str) -> Outcome:
        os.removexattr(self.at(path), name)
        return "removed"

    def listxattr(self, path: str) -> Outcome:
        return sorted(os.listxattr(self.at(path), follow_symlinks=False))

    # ---- whole files, as programs use them

    def read_file(self, path: str) -> Outcome:
        with self._opened(path, os.O_RDONLY) as file:
            return _read_all(file)

    def write_file(self, path: str, data: Data) -> Outcome:
        with self._opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as file:
            return _write_all(file, data.bytes())

    def append_file(self, path: str, data: Data) -> Outcome:
        with self._opened(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND) as file:
            return _write_all(file, data.bytes())

    def replace_file(self, path: str, data: Data) -> Outcome:
        """Write a new file and move it over the old one, as editors do."""
        self.write_file(path + "~", data)
        os.rename(self.at(path + "~"), self.at(path))
        return "replaced"

    def copy_file(self, source: str, target: str) -> Outcome:
        shutil.copy2(self.at(source), self.at(target), follow_symlinks=False)
        return "copied"

    def map_file(self, path: str, offset: int, data: Data) -> Outcome:
        """Change what there is of a file through a shared mapping, and return all of it as the mapping has it."""
        with self._opened(path, os.O_RDWR) as file:
            return _map(file, offset, data.bytes())

    # ---- open files

    def open(self, slot: int, path: str, flags: int, mode: int) -> Outcome:
        self.open_files[slot] = os.open(self.at(path), flags, mode)
        return "open"

    def close(self, slot: int) -> Outcome:
        file = self.open_files.pop(slot, None)
        if file is not None:
            os.close(file)
        return "closed"

    def close_copy(self, slot: int) -> Outcome:
        """Close another descriptor of an open file: all that was written is then with the server."""
        os.close(os.dup(self._fd(slot)))
        return "closed"

    def read(self, slot: int, size: int) -> Outcome:
        return os.read(self._fd(slot), size)

    def pread(self, slot: int, size: int, offset: int) -> Outcome:
        return os.pread(self._fd(slot), size, offset)

    def write(self, slot: int, data: Data) -> Outcome:
        return os.write(self._fd(slot), data.bytes())

    def pwrite(self, slot: int, data: Data, offset: int) -> Outcome:
        return os.pwrite(self._fd(slot), data.bytes(), offset)

    def seek(self, slot: int, offset: int, whence: int) -> Outcome:
        if stat.S_ISDIR(os.fstat(self._fd(slot)).st_mode):
            return "a directory"  # what its offsets mean is its own business
        found = os.lseek(self._fd(slot), offset, whence)
        if whence in (os.SEEK_DATA, os.SEEK_HOLE):
            os.lseek(self._fd(slot), offset, os.SEEK_SET)
            return "in the file"  # where the holes are is told by few file systems
        return found

    def ftruncate(self, slot: int, size: int) -> Outcome:
        os.ftruncate(self._fd(slot), size)
        return os.fstat(self._fd(slot)).st_size

    def fstat(self, slot: int) -> Outcome:
        return told(os.fstat(self._fd(slot)))

    def fchmod(self, slot: int, mode: int) -> Outcome:
        os.fchmod(self._fd(slot), mode)
        return stat.filemode(os.fstat(self._fd(slot)).st_mode)

    def futime(self, slot: int, times_ns: tuple[int, int]) -> Outcome:
        os.utime(self._fd(slot), ns=times_ns)
        found = os.fstat(self._fd(slot))
        return time_of(found.st_atime_ns), time_of(found.st_mtime_ns)

    def fsetxattr(self, slot: int, name: str, value: bytes) -> Outcome:
        os.setxattr(self._fd(slot), name, value)
        return os.getxattr(self._fd(slot), name), sorted(os.listxattr(self._fd(slot)))

    def fsync(self, slot: int, only_data: bool) -> Outcome:
        (os.fdatasync if only_data else os.fsync)(self._fd(slot))
        return "on disk"

    def map(self, slot: int, offset: int, data: Data) -> Outcome:
        return _map(self._fd(slot), offset, data.bytes())

    def copy_range(self, source: int, target: int, size: int, offset: int, to: int) -> Outcome:
        """Copy within the system, in as many pieces as that takes."""
        done = 0
        while done < size:
            piece = os.copy_file_range(self._fd(source), self._fd(target), size - done, offset + done, to + done)
            if not piece:
                break
            done += piece
        return done

    def list_open(self, slot: int) -> Outcome:
        return sorted(os.listdir(self._fd(slot)))

    def make_below(self, slot: int, name: str, data: Data) -> Outcome:
        """Make a file in a directory that is open, wherever that stands by now."""
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644, dir_fd=self._fd(slot))
        try:
            return _write_all(file, data.bytes())
        finally:
            os.close(file)

    def _fd(self, slot: int) -> int:
        return self.open_files.get(slot, -1)

    @contextlib.contextmanager
    def _opened(self, path: str, flags: int) -> Iterator[int]:
        file = os.open(self.at(path), flags | os.O_NONBLOCK, 0o644)
        try:
            yield file
        finally:
            os.close(file)


def _read_all(file: int) -> bytes:
    pieces = []
    while piece := os.read(file, 1 << 20):
        pieces.append(piece)
    return b"".join(pieces)


def _write_all(file: int, data: bytes) -> int:
    written = 0
    while written < len(data):
        written += os.write(file, data[written:])
    return written


def _map(file: int, offset: int, data: bytes) -> Outcome:
    found = os.fstat(file)
    if not stat.S_ISREG(found.st_mode) or not found.st_size:
        return "nothing to map"
    with mmap.mmap(file, found.st_size) as memory:
        begin = min(offset, len(memory))
        end = min(offset + len(data), len(memory))
        memory[begin:end] = data[: end - begin]
        memory.flush()
        return memory[:]
