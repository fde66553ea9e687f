"""What programs hold open: files, and directories that are being read.

A directory that is being read keeps one copy of its entries, and a number for every name that never changes and
is never given to another name: however the directory changes meanwhile, no name comes twice and none that stays
is left out. Names that this mount has changed since the copy was taken are doubtful: they are asked for again
before they are told.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from fuseclient.prompt import PromptFile
from pfs.api import Attr, Entry, NodeType, OpenFile, OpenFlags
from pfs.errors import Kind, PfsError

DOT_OFFSETS = 2  # `.` and `..` come first


@dataclass(slots=True, eq=False)
class FileHandle:
    """One open file.

    Attributes:
        fh: what the kernel calls it.
        number: the inode that was opened.
        path: where it stood then.
        file: the open file of the server; another one after the server was restarted.
        flags: how it was opened.
        attr: what was opened.
        opener: the thread that opened it.
        nonblocking: a read answers EAGAIN instead of waiting.
        unflushed: there are bytes for which the server has not heard yet that their writer is done.
        cut: the text is incomplete: its writer was ended by a signal, or a write was lost.
        position: up to where it was read last, of what the server makes.
        anew: it was opened again, and not yet read from its beginning since: it may have another text.
        prompt: `file`, if it can answer at once.
    """

    fh: int
    number: int
    path: str
    file: OpenFile
    flags: OpenFlags
    attr: Attr
    opener: int
    nonblocking: bool = False
    unflushed: bool = False
    cut: bool = False
    position: int = 0
    anew: bool = False

    @property
    def is_plain(self) -> bool:
        """An ordinary file: nothing that the server makes, and no command."""
        attr = self.attr
        return attr.type is NodeType.FILE and not (attr.volatile or attr.stream or attr.commits)

    @property
    def may_have_mapped(self) -> bool:
        """Whether a program can write to the file through a mapping of this opening."""
        return OpenFlags.READ | OpenFlags.WRITE in self.flags and self.is_plain

    @property
    def prompt(self) -> PromptFile | None:
        return self.file if isinstance(self.file, PromptFile) else None


@dataclass(slots=True, eq=False)
class DirectoryHandle:
    """One open directory, and how far a program may have read it.

    Attributes:
        fh: what the kernel calls it.
        number: the inode that was opened.
        taken_s: when the copy was taken; None when there is none yet.
        changes, breaks: those of `Inodes` at that time.
        doubtful: names that were changed through this mount since.
    """

    fh: int
    number: int
    taken_s: float | None = None
    changes: int = 0
    breaks: int = 0
    doubtful: set[str] = field(default_factory=set)
    _offsets: dict[str, int] = field(default_factory=dict)
    _numbers: Sequence[int] = ()
    _entries: Sequence[Entry] = ()

    def fill(self, entries: Sequence[Entry], *, now_s: float, changes: int, breaks: int = 0) -> None:
        """Take a copy; names that were there before keep their offsets."""
        if self.taken_s is None:
            self._entries, self._numbers = entries, range(DOT_OFFSETS + 1, DOT_OFFSETS + 1 + len(entries))
        else:
            self._fill_again(entries)
        self.taken_s, self.changes, self.breaks = now_s, changes, breaks
        self.doubtful.clear()

    def _fill_again(self, entries: Sequence[Entry]) -> None:
        if not self._offsets:
            self._offsets = {entry.name: number for number, entry in zip(self._numbers, self._entries, strict=True)}
        for entry in entries:
            self._offsets.setdefault(entry.name, DOT_OFFSETS + 1 + len(self._offsets))
        self._entries = sorted(entries, key=lambda entry: self._offsets[entry.name])
        self._numbers = [self._offsets[entry.name] for entry in self._entries]

    def after(self, offset: int, count: int) -> list[tuple[int, Entry]]:
        """Return up to `count` entries whose offsets are above `offset`, with their offsets."""
        start = bisect_right(self._numbers, offset)
        stop = start + count
        return list(zip(self._numbers[start:stop], self._entries[start:stop], strict=True))


class Handles:
    """Everything that is open in a mount. Numbers are never used twice."""

    def __init__(self) -> None:
        self._files: dict[int, FileHandle] = {}
        self._directories: dict[int, DirectoryHandle] = {}
        self._by_inode: dict[int, dict[int, FileHandle]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._files) + len(self._directories)

    def next_number(self) -> int:
        """Return a number that no handle has had."""
        self._last += 1
        return self._last

    def add_file(self, handle: FileHandle) -> None:
        """Take up an open file."""
        self._files[handle.fh] = handle
        self._by_inode.setdefault(handle.number, {})[handle.fh] = handle

    def file(self, fh: int) -> FileHandle:
        """Return an open file.

        Raises:
            PfsError: BAD_HANDLE when there is none of that number.
        """
        try:
            return self._files[fh]
        except KeyError:
            raise PfsError(Kind.BAD_HANDLE, f"no file {fh} is open") from None

    def files(self) -> Iterator[FileHandle]:
        """Return all open files."""
        return iter(list(self._files.values()))

    def is_open(self, number: int) -> bool:
        """Tell whether a file of an inode is open."""
        return number in self._by_inode

    def files_of(self, number: int) -> list[FileHandle]:
        """Return the open files of an inode, the oldest first."""
        return list(self._by_inode.get(number, {}).values())

    def pop_file(self, fh: int) -> FileHandle:
        """Take an open file out."""
        handle = self.file(fh)
        del self._files[fh]
        fellows = self._by_inode[handle.number]
        del fellows[fh]
        if not fellows:
            del self._by_inode[handle.number]
        return handle

    def add_directory(self, number: int) -> DirectoryHandle:
        """Open a directory."""
        handle = DirectoryHandle(self.next_number(), number)
        self._directories[handle.fh] = handle
        return handle

    def directory(self, fh: int) -> DirectoryHandle:
        """Return an open directory.

        Raises:
            PfsError: BAD_HANDLE when there is none of that number.
        """
        try:
            return self._directories[fh]
        except KeyError:
            raise PfsError(Kind.BAD_HANDLE, f"no directory {fh} is open") from None

    def pop_directory(self, fh: int) -> DirectoryHandle:
        """Take an open directory out."""
        handle = self.directory(fh)
        del self._directories[fh]
        return handle

    def doubt(self, number: int, name: str) -> None:
        """Note that this mount has changed a name of that directory, for all who are reading it."""
        for handle in self._directories.values():
            if handle.number == number and handle.taken_s is not None:
                handle.doubtful.add(name)
