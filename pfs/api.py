"""The nouns of the file service and the Protocols that tie its parts together.

`FileSystem` is what one caller sees: the server implements it over the tree (`pfs.service`), the client
over the network (`pfs.client`); the mount is written against the Protocol alone. Paths are those of
`pfs.path`. Every method raises `PfsError` and nothing else.

    FileSystem.open ──▶ OpenFile ──▶ read, write, flush, release
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from typing import Protocol


class NodeType(StrEnum):
    """What stands at a path."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symlink"


@dataclass(frozen=True, slots=True)
class Attr:
    """What `stat` tells of a node.

    Attributes:
        node_id: 64 bits; the same number is the same object, on every mount and after a restart.
        mode: permission bits only, as the caller may use them.
        size: bytes. 0 for a live stream, whose end is not known.
        nlink: number of names.
        mtime_ns, ctime_ns, atime_ns: nanoseconds since the epoch.
        volatile: made by the server and changing by itself: never cached, always read directly.
        stream: a read waits for more until the writer is done.
        commits: closing it after writing is a command; whoever closes says how its writer ended.
        valid_s: how many seconds a client may answer from this copy.
    """

    type: NodeType
    node_id: int
    mode: int
    size: int = 0
    nlink: int = 1
    mtime_ns: int = 0
    ctime_ns: int = 0
    atime_ns: int = 0
    volatile: bool = False
    stream: bool = False
    commits: bool = False
    valid_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory, with what it leads to."""

    name: str
    attr: Attr


@dataclass(frozen=True, slots=True)
class Changes:
    """What `setattr` shall change; None leaves a field as it is. Times are nanoseconds."""

    mode: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Space:
    """Room in the caller's part of the tree: bytes and files, all and still free."""

    bytes_total: int
    bytes_free: int
    files_total: int
    files_free: int


class OpenFlags(Flag):
    """How a file is opened; the bits of open(2) that reach a server, on every platform the same."""

    READ = auto()
    WRITE = auto()
    CREATE = auto()
    EXCLUSIVE = auto()
    TRUNCATE = auto()
    APPEND = auto()


class RenameMode(StrEnum):
    """What a rename does when the new name is taken, after renameat2(2)."""

    REPLACE = "replace"
    NO_REPLACE = "no-replace"
    EXCHANGE = "exchange"


class Closing(StrEnum):
    """How things stand with a writer when it closes a descriptor (only asked where `Attr.commits`)."""

    LAST = "last"  # nobody holds the open file for writing any more
    SHARED = "shared"  # another process still holds it: the text may go on
    DYING = "dying"  # the writer is being ended by a signal: the text is cut


class OpenFile(Protocol):
    """An open file of one caller; `release` ends it."""

    @property
    def attr(self) -> Attr:
        """What was opened, as of the opening."""

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return up to `size` bytes from `offset`; b"" only at the end.

        A stream waits for the first byte, or, with `wait` False, raises WOULD_BLOCK.
        """

    async def write(self, offset: int, data: bytes) -> int:
        """Write all of `data`; a file opened with APPEND takes it at its end. Returns len(data)."""

    async def truncate(self, size: int) -> Attr:
        """Cut or extend to `size` bytes."""

    async def getattr(self) -> Attr:
        """Tell what is open, as of now, also when its name is gone."""

    async def flush(self, closing: Closing) -> None:
        """A descriptor was closed: everything written is with the server when this returns."""

    async def fsync(self) -> None:
        """Everything written is on the server's disk when this returns."""

    async def release(self) -> None:
        """The last descriptor is gone. Never raises for what `flush` could have told."""


class FileSystem(Protocol):
    """The tree of one datacenter as one caller may see it."""

    async def getattr(self, path: str) -> Attr: ...

    async def listdir(self, path: str) -> Sequence[Entry]: ...

    async def readlink(self, path: str) -> str: ...

    async def mkdir(self, path: str, mode: int) -> Attr: ...

    async def symlink(self, path: str, target: str) -> Attr: ...

    async def unlink(self, path: str) -> None: ...

    async def rmdir(self, path: str) -> None: ...

    async def rename(self, source: str, target: str, mode: RenameMode) -> None: ...

    async def setattr(self, path: str, changes: Changes) -> Attr: ...

    async def statfs(self, path: str) -> Space: ...

    async def open(self, path: str, flags: OpenFlags, mode: int) -> OpenFile:
        """Open, or with CREATE make, a file. `mode` counts only when it is made."""
