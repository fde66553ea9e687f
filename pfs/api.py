"""The nouns of the file service and the Protocols that tie its parts together.

`FileSystem` is what one caller sees: the server implements it over the tree (`pfs.tree.service`), the client
over the network (`pfs.client.filesystem`); the mount is written against the Protocol alone. Paths are those of
`pfs.path`. Every method raises `PfsError` and nothing else.

    FileSystem.open ──▶ OpenFile ──▶ read, write, flush, release
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from enum import Flag, StrEnum, auto
from typing import Protocol, runtime_checkable

from pfs.light import light
from pfs.parts import Part


class NodeType(StrEnum):
    """What stands at a path."""

    DIRECTORY = "directory"
    FILE = "file"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"


@light
@dataclass(frozen=True, slots=True)
class Attr:
    """What `stat` tells of a node.

    Attributes:
        node_id: 64 bits; the same number is the same object, on every mount and after a restart.
        mode: permission bits only, as the caller may use them.
        size: bytes; of a live stream, so far.
        nlink: number of names.
        uid, gid: owner and group in the server's numbers; 0 for what the server makes.
        blocks: room on the disk in units of 512 bytes; less than `size` needs where the file has holes.
        mtime_ns, ctime_ns, atime_ns: nanoseconds since the epoch.
        volatile: made by the server and changing by itself: never cached, always read directly.
        stream: a read waits for more until the writer is done.
        commits: closing it after writing is a command, or would be one under another name, which it may be given
            meanwhile; whoever closes says how its writer ended.
        valid_s: how many seconds a client may answer from this copy; where that is volatile, for the kernel only: a
            walk through a directory asks for its names, but not each time for the directory.
        leased: the server says so before it changes: until then a client may answer from this copy; of a
            directory, also from a listing of its names that was taken since.
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
    uid: int = 0
    gid: int = 0
    blocks: int = 0
    leased: bool = False

    @property
    def settled(self) -> bool:
        """Whether this is a file that the server makes (bit 63) and never another one: its bytes may be kept."""
        made = self.node_id >> 63 == 1 and self.type is NodeType.FILE
        return made and not (self.volatile or self.stream or self.commits)


@light
@dataclass(frozen=True, slots=True)
class Entry:
    """One name in a directory, with what it leads to.

    Attributes:
        target: where a link leads that the server has made, and that leads there for as long as it is this node.
    """

    name: str
    attr: Attr
    target: str | None = None


@light
@dataclass(frozen=True, slots=True)
class Content:
    """A whole small file, with its attributes as of that moment."""

    name: str
    attr: Attr
    data: bytes


@light
@dataclass(frozen=True, slots=True)
class Changes:
    """What `setattr` shall change; None leaves a field as it is. Times are nanoseconds.

    `uid` and `gid` are for admins: whoever else gives them is refused with FORBIDDEN.
    """

    mode: int | None = None
    size: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    uid: int | None = None
    gid: int | None = None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a new node shall be, in the server's numbers; only admins may say so."""

    uid: int
    gid: int


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


class XattrMode(StrEnum):
    """What setting an extended attribute does when it is there already or not, after setxattr(2)."""

    EITHER = "either"
    CREATE = "create"
    REPLACE = "replace"


class XattrVerb(StrEnum):
    """What is asked about extended attributes."""

    GET = "get"
    LIST = "list"
    SET = "set"
    REMOVE = "remove"


@dataclass(frozen=True, slots=True)
class XattrCall:
    """A question about the extended attributes of an open file; `value` and `mode` count for SET."""

    verb: XattrVerb
    name: str = ""
    value: bytes = b""
    mode: XattrMode = XattrMode.EITHER

    @property
    def changes(self) -> bool:
        """True when it asks for a change."""
        return self.verb in (XattrVerb.SET, XattrVerb.REMOVE)


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

    async def setattr(self, changes: Changes) -> Attr:
        """Change attributes of what is open, also when its name is gone."""

    async def getattr(self) -> Attr:
        """Tell what is open, as of now, also when its name is gone."""

    async def xattr(self, call: XattrCall) -> bytes:
        """Answer about extended attributes of what is open, also when its name is gone.

        Returns:
            The value for GET; for LIST the names, each ended by a NUL, as listxattr(2) has them; else nothing.
        """

    async def flush(self, closing: Closing) -> None:
        """A descriptor was closed: everything written is with the server when this returns."""

    async def fsync(self) -> None:
        """Everything written is on the server's disk when this returns."""

    async def release(self) -> None:
        """The last descriptor is gone. Never raises for what `flush` could have told."""


class FileSystem(Protocol):
    """The tree of one datacenter as one caller may see it.

    What is made belongs to the caller, or to the domain that it is made in, unless an admin names an `owner`.
    """

    async def getattr(self, path: str) -> Attr: ...

    async def listdir(self, path: str) -> Sequence[Entry]: ...

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        """Return small files of one directory, whole and at once.

        Those that are not ordinary files, or larger than `size_max` bytes, or gone, are left out; so are the last
        ones when all together would be more than a message holds.
        """

    async def readlink(self, path: str) -> str: ...

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr: ...

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr: ...

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        """Make a file, FIFO or socket without opening it; EXISTS where there is something."""

    async def link(self, source: str, target: str) -> Attr:
        """Give what stands at `source` a second name in the same domain."""

    async def unlink(self, path: str) -> None: ...

    async def rmdir(self, path: str) -> None: ...

    async def rename(self, source: str, target: str, mode: RenameMode) -> None: ...

    async def setattr(self, path: str, changes: Changes) -> Attr: ...

    async def getxattr(self, path: str, name: str) -> bytes:
        """Return an extended attribute; NO_DATA when it is not there, UNSUPPORTED outside of `user.`."""

    async def listxattr(self, path: str) -> Sequence[str]: ...

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None: ...

    async def removexattr(self, path: str, name: str) -> None: ...

    async def statfs(self, path: str) -> Space: ...

    async def fsyncdir(self, path: str) -> None:
        """The names in a directory are on the server's disk when this returns."""

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        """Open, or with CREATE make, a file. `mode` counts only when it is made."""

    async def make_file(self, path: str, mode: int, data: bytes, changes: Changes) -> Attr:
        """Make an ordinary file with all its bytes in one step; EXISTS where there is something.

        Args:
            changes: of the new file's attributes, such as its times.
        """

    async def reopen(self, path: str, node_id: int, flags: OpenFlags) -> OpenFile:
        """Open the very node that was open before the server was restarted, also when its name is gone.

        Args:
            path: where it stood, as a hint.

        Raises:
            PfsError: STALE when it is not there any more.
        """


@runtime_checkable
class InParts(Protocol):
    """What an open file of a server offers besides `OpenFile`."""

    async def write_parts(self, offset: int, parts: Sequence[Part]) -> None:
        """Write all of the parts, one after the other; at most 8 MiB."""


@runtime_checkable
class Looking(Protocol):
    """What a file system offers besides `FileSystem` that has texts at hand."""

    async def look(self, path: str) -> tuple[Attr, bytes | None]:
        """Return what `getattr` does, and what an opening for reading would show of a text that had to be made."""


@runtime_checkable
class Pictured(Protocol):
    """An open text whose picture is given with the opening, so that a small one need not be asked for."""

    def picture(self) -> bytes:
        """Return all of it; that counts as read, so that the next read from the beginning takes a new one."""

    def was_read(self, text: bytes) -> None:
        """Whoever has it open has read this text, which `Awaited.changed` had told."""


@runtime_checkable
class Awaited(Protocol):
    """What an open text that changes by itself offers besides `OpenFile`."""

    async def changed(self, *, wait: bool = True) -> bytes | None:
        """Return once there is another text than the one that was read last; at once if none was read yet.

        Returns:
            The other text, where it is at hand. It does not count as read by that.

        Raises:
            PfsError: WOULD_BLOCK, with `wait` False, when there is none; UNSUPPORTED where nobody tells of changes.
        """


Name = tuple[int, str]  # a directory's node id, and a name in it
Broken = Callable[[Collection[int], Collection[Name]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Standing:
    """How it stands with a server.

    Attributes:
        url: where it is.
        connected: whether there is a connection now.
        since_s: for how many seconds that has been so.
        admin: it knows us as an administrator.
    """

    url: str
    connected: bool
    since_s: float
    admin: bool


class LeasingFileSystem(FileSystem, Protocol):
    """A file system whose server leases nodes (`Attr.leased`) and takes the leases back."""

    def standing(self) -> Standing:
        """Tell how it stands with the server."""

    def trusted(self) -> bool:
        """Tell whether leases hold: the server has been heard a short while ago."""

    def is_near(self) -> bool:
        """Tell whether files are read from the server's own disk, on this machine: no copy could be any faster."""

    def is_away(self) -> bool:
        """Tell whether the server is missed for so long that what was known of it may be told as it was."""

    async def look_out(self) -> None:
        """Return when it is known whether leases hold or the server is away: at most a few seconds."""

    def listen(self, broken: Broken, lapsed: Callable[[], None], returned: Callable[[], None]) -> None:
        """Say what to do when leases end.

        Args:
            broken: called with the nodes whose leases the server wants back, and with the names that change in
                those that are directories; when it returns, no copy of them is used any more.
            lapsed: called when all leases have ended because the server is not heard.
            returned: called when it is heard again, before anything is leased: nothing that was known holds.
        """
