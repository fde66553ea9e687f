"""A datacenter's file system in memory: what the mount is tested on without a server.

`tests/fuseclient/test_memoryfs.py` holds it against a directory of this machine. Beyond ordinary files it has
what a server has: streams, files whose closing is a command, refusals, and restarts that forget every open file,
but keep the nodes of those that had no name any more.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import trio

from pfs.api import (
    Attr,
    Broken,
    Changes,
    Closing,
    Content,
    Entry,
    FileSystem,
    NodeType,
    OpenFile,
    OpenFlags,
    Owner,
    RenameMode,
    Space,
    Standing,
    XattrCall,
    XattrMode,
    XattrVerb,
)
from pfs.errors import Kind, PfsError
from pfs.path import check_name, parent_and_name, split
from pfs.protocol.steps import Outcome, Step, take_steps
from tests.sparse import Sparse

VALID_S = 1.0


@dataclass(eq=False)
class MemoryNode:
    """One directory, file, symlink, FIFO or socket."""

    type: NodeType
    node_id: int
    mode: int
    now_ns: int
    uid: int
    gid: int
    data: Sparse = field(default_factory=Sparse)
    children: dict[str, "MemoryNode"] = field(default_factory=dict)
    xattrs: dict[str, bytes] = field(default_factory=dict)
    target: str = ""
    nlink: int = 1
    volatile: bool = False
    stream: bool = False
    commits: bool = False

    def __post_init__(self) -> None:
        self.mtime_ns = self.ctime_ns = self.atime_ns = self.now_ns
        self.grown = trio.Event()

    @property
    def size(self) -> int:
        """Return what stat(2) tells; a directory has no size here, a stream no end."""
        if self.type is NodeType.SYMLINK:
            return len(self.target.encode("utf-8", "surrogateescape"))
        return 0 if self.stream else self.data.size

    def attr(self, valid_s: float) -> Attr:
        directories = sum(child.type is NodeType.DIRECTORY for child in self.children.values())
        return Attr(
            type=self.type,
            node_id=self.node_id,
            mode=self.mode,
            size=self.size,
            nlink=2 + directories if self.type is NodeType.DIRECTORY else self.nlink,
            mtime_ns=self.mtime_ns,
            ctime_ns=self.ctime_ns,
            atime_ns=self.atime_ns,
            volatile=self.volatile or self.stream,
            stream=self.stream,
            commits=self.commits,
            valid_s=0.0 if self.volatile or self.stream else valid_s,
            uid=self.uid,
            gid=self.gid,
            blocks=self.data.blocks,
        )

    def news(self) -> None:
        """Wake who waits for more, or for another text."""
        self.grown.set()
        self.grown = trio.Event()

    def change(self, changes: Changes, now_ns: int) -> None:
        """Change attributes."""
        if changes.size is not None:
            self.resize(changes.size, now_ns)
        for name in ("mode", "atime_ns", "mtime_ns", "uid", "gid"):
            if (value := getattr(changes, name)) is not None:
                setattr(self, name, value)
        self.ctime_ns = now_ns

    def resize(self, size: int, now_ns: int) -> None:
        """Cut or extend a file."""
        if self.type is not NodeType.FILE:
            raise PfsError(Kind.IS_DIR if self.type is NodeType.DIRECTORY else Kind.INVALID, "not a file")
        self.data.resize(size)
        self.mtime_ns = self.ctime_ns = now_ns


@dataclass(frozen=True)
class Handed:
    """A text that was handed in: where, what, and which closing did it; None for the last release."""

    path: str
    text: bytes
    closing: Closing | None


class MemoryFileSystem(FileSystem):
    """The tree of one datacenter.

    Attributes:
        calls: how often each operation was asked for.
        failures: what the next calls of an operation raise.
        handed: the texts that were handed in.
        closings: every closing that was told of a file that commits.
        read_bytes_max: a read returns no more than this at once.
        owner: whose is what is made when no owner is named.
    """

    def __init__(
        self, commits: Callable[[str], bool] = lambda path: False, clock: Callable[[], int] = time.time_ns
    ) -> None:
        self._commits = commits
        self.clock = clock
        self.owner = Owner(0, 0)
        self._ids = itertools.count(1 << 40)
        self.root = self._new(NodeType.DIRECTORY, 0o755)
        self.generation = 0
        self.valid_s = VALID_S
        self.calls: dict[str, int] = {}
        self.failures: dict[str, list[Exception]] = {}
        self.handed: list[Handed] = []
        self.closings: list[Closing] = []
        self.read_bytes_max = 1 << 30
        self.opened: Counter[MemoryNode] = Counter()
        self.delay_s = 0.0
        self._orphans: dict[int, MemoryNode] = {}

    @property
    def open_files(self) -> int:
        """How many files are open."""
        return self.opened.total()

    # -- what tests do behind the mount's back ------------------------------------------------------------------

    def put(
        self, path: str, data: bytes = b"", *, stream: bool = False, volatile: bool = False, settled: bool = False
    ) -> MemoryNode:
        """Make a file, or replace its bytes; missing directories are made."""
        parts, directory = split(path), self.root
        for name in parts[:-1]:
            directory = directory.children.setdefault(name, self._new(NodeType.DIRECTORY, 0o755))
        node = directory.children.get(parts[-1])
        if node is None:
            node = directory.children[parts[-1]] = self._new(NodeType.FILE, 0o644)
        node.data = Sparse(data)
        node.mtime_ns = self.clock()
        node.stream, node.volatile = stream, volatile
        node.node_id |= settled << 63
        node.news()
        return node

    def make_directory(self, path: str) -> None:
        """Make a directory and those above it."""
        directory = self.root
        for name in split(path):
            directory = directory.children.setdefault(name, self._new(NodeType.DIRECTORY, 0o755))

    def append(self, path: str, data: bytes) -> None:
        """Add to a stream, and wake its readers."""
        node = self.find(path)
        node.data.write(node.data.size, data)
        node.mtime_ns = self.clock()
        node.news()

    def finish(self, path: str) -> None:
        """The writer of a stream is done."""
        node = self.find(path)
        node.stream = False
        node.news()

    def fail(self, operation: str, *kinds: Kind | None) -> None:
        """Let the next calls of an operation fail; None stands for a defect."""
        errors = [PfsError(kind) if kind is not None else ValueError("a defect") for kind in kinds]
        self.failures.setdefault(operation, []).extend(errors)

    def restart(self) -> None:
        """Forget every open file, as a server does; those without a name are kept for whoever opens them again."""
        self.generation += 1
        self._orphans = {node.node_id: node for node in self.opened if node.nlink == 0}
        self.opened.clear()

    def find(self, path: str) -> MemoryNode:
        """Return the node at a path; links are not followed."""
        node = self.root
        for name in split(path):
            if node.type is not NodeType.DIRECTORY:
                raise PfsError(Kind.NOT_DIR, "not a directory", path)
            if name not in node.children:
                raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
            node = node.children[name]
        return node

    def count(self, operation: str) -> None:
        """Note a call, and fail if it shall."""
        self.calls[operation] = self.calls.get(operation, 0) + 1
        if self.failures.get(operation):
            raise self.failures[operation].pop(0)

    # -- the Protocol ---------------------------------------------------------------------------------------------

    def trusted(self) -> bool:
        """Nothing is leased here, so that what is leased holds."""
        return True

    def standing(self) -> Standing:
        """There is no server that could be away."""
        return Standing("memory:", True, 0.0, True)

    def is_near(self) -> bool:
        """There is no disk."""
        return False

    def is_away(self) -> bool:
        """It is always there."""
        return False

    async def look_out(self) -> None:
        """It is always there."""

    def listen(self, broken: Broken, lapsed: Callable[[], None], returned: Callable[[], None]) -> None:
        """Nothing is leased here."""

    async def getattr(self, path: str) -> Attr:
        await self._asked("getattr")
        return self.find(path).attr(self.valid_s)

    async def listdir(self, path: str) -> Sequence[Entry]:
        await self._asked("listdir")
        directory = self._directory(path)
        return [Entry(name, node.attr(self.valid_s)) for name, node in directory.children.items()]

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        await self._asked("contents")
        found = [(name, self._directory(path).children.get(name)) for name in names]
        return [
            Content(name, node.attr(self.valid_s), bytes(node.data))
            for name, node in found
            if node is not None and node.type is NodeType.FILE and not node.attr(0).volatile
            if node.data.size <= size_max
        ]

    async def readlink(self, path: str) -> str:
        await self._asked("readlink")
        node = self.find(path)
        if node.type is not NodeType.SYMLINK:
            raise PfsError(Kind.INVALID, "not a symlink", path)
        return node.target

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        await self._asked("mkdir")
        return self._make(path, self._new(NodeType.DIRECTORY, mode, owner)).attr(self.valid_s)

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr:
        await self._asked("symlink")
        node = self._new(NodeType.SYMLINK, 0o777, owner)
        node.target = target
        return self._make(path, node).attr(self.valid_s)

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        await self._asked("mknod")
        node = self._make(path, self._new(type_, mode, owner))
        node.commits = type_ is NodeType.FILE and self._commits(path)
        return node.attr(self.valid_s)

    async def make_file(self, path: str, mode: int, data: bytes, changes: Changes) -> Attr:
        await self._asked("make_file")
        node = self._make(path, self._new(NodeType.FILE, mode))
        node.data = Sparse(data)
        node.commits = self._commits(path)
        if changes != Changes():
            node.change(changes, self.clock())
        return node.attr(self.valid_s)

    async def batch(self, steps: Sequence[Step]) -> Sequence[Outcome]:
        return await take_steps(self, steps)

    async def link(self, source: str, target: str) -> Attr:
        await self._asked("link")
        node = self.find(source)
        parent, name = parent_and_name(target)
        if check_name(name) in self._directory(parent).children:
            raise PfsError(Kind.EXISTS, "file exists", target)
        if node.type is NodeType.DIRECTORY:
            raise PfsError(Kind.FORBIDDEN, "a directory has one name", source)
        self._make(target, node)
        node.nlink += 1
        node.ctime_ns = self.clock()
        return node.attr(self.valid_s)

    async def unlink(self, path: str) -> None:
        await self._asked("unlink")
        node = self.find(path)
        if node.type is NodeType.DIRECTORY:
            raise PfsError(Kind.IS_DIR, "is a directory", path)
        self._take(path)
        self._lose_name(node)

    async def rmdir(self, path: str) -> None:
        await self._asked("rmdir")
        if self._directory(path).children:
            raise PfsError(Kind.NOT_EMPTY, "directory not empty", path)
        self._take(path)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        await self._asked("rename")
        parent, name = parent_and_name(target)
        self._directory(parent_and_name(source)[0])
        directory = self._directory(parent)
        moved = self.find(source)
        replaced = directory.children.get(check_name(name))
        if mode is RenameMode.EXCHANGE:
            replaced = self.find(target)
            self._check_not_below(source, target)
            self._check_not_below(target, source)
            source_parent, source_name = parent_and_name(source)
            directory.children[name], self.find(source_parent).children[source_name] = moved, replaced
            moved.ctime_ns = replaced.ctime_ns = self.clock()
            return
        if replaced is not None and mode is RenameMode.NO_REPLACE:
            raise PfsError(Kind.EXISTS, "file exists", target)
        if moved is replaced:
            return
        self._check_not_below(source, target)
        if source.startswith(f"{target}/"):
            raise PfsError(Kind.NOT_EMPTY, "directory not empty", target)
        if replaced is not None:
            self._check_replaceable(moved, replaced, target)
            self._lose_name(replaced)
        self._take(source)
        directory.children[name] = moved
        directory.mtime_ns = directory.ctime_ns = moved.ctime_ns = self.clock()

    async def setattr(self, path: str, changes: Changes) -> Attr:
        await self._asked("setattr")
        node = self.find(path)
        node.change(changes, self.clock())
        return node.attr(self.valid_s)

    async def getxattr(self, path: str, name: str) -> bytes:
        await self._asked("getxattr")
        return self._xattr(path, name)

    async def listxattr(self, path: str) -> Sequence[str]:
        await self._asked("listxattr")
        return list(self.find(path).xattrs)

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        await self._asked("setxattr")
        node = self.find(path)
        if node.type not in (NodeType.FILE, NodeType.DIRECTORY):
            raise PfsError(Kind.FORBIDDEN, "only files and directories have extended attributes", path)
        if mode is XattrMode.CREATE and name in node.xattrs:
            raise PfsError(Kind.EXISTS, "it has this attribute already", path)
        if mode is XattrMode.REPLACE:
            self._xattr(path, name)
        node.xattrs[name] = value
        node.ctime_ns = self.clock()

    async def removexattr(self, path: str, name: str) -> None:
        await self._asked("removexattr")
        node = self.find(path)
        if node.type not in (NodeType.FILE, NodeType.DIRECTORY):
            raise PfsError(Kind.FORBIDDEN, "only files and directories have extended attributes", path)
        self._xattr(path, name)
        del node.xattrs[name]
        node.ctime_ns = self.clock()

    async def fsyncdir(self, path: str) -> None:
        await self._asked("fsyncdir")
        self._directory(path)

    async def statfs(self, path: str) -> Space:
        await self._asked("statfs")
        return Space(1 << 40, 1 << 39, 1 << 20, 1 << 19)

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        await self._asked("open")
        parent, name = parent_and_name(path)
        node = self._directory(parent).children.get(check_name(name))
        if node is None:
            if OpenFlags.CREATE not in flags:
                raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
            node = self._make(path, self._new(NodeType.FILE, mode, owner))
            node.commits = self._commits(path)
        elif OpenFlags.EXCLUSIVE in flags:
            raise PfsError(Kind.EXISTS, "file exists", path)
        if node.type is NodeType.DIRECTORY:
            raise PfsError(Kind.IS_DIR, "is a directory", path)
        if node.type is not NodeType.FILE:
            raise PfsError(Kind.LOOP if node.type is NodeType.SYMLINK else Kind.UNSUPPORTED, "not a file", path)
        if OpenFlags.TRUNCATE in flags:
            node.resize(0, self.clock())
        return self._opened(path, node, flags)

    async def reopen(self, path: str, node_id: int, flags: OpenFlags) -> OpenFile:
        await self._asked("reopen")
        try:
            node = self.find(path)
        except PfsError:
            node = self.root
        if node.node_id != node_id:
            if node_id not in self._orphans:
                raise PfsError(Kind.STALE, "this file is gone", path)
            node = self._orphans[node_id]
        return self._opened(path, node, flags)

    # -- helpers ---------------------------------------------------------------------------------------------------

    async def _asked(self, operation: str) -> None:
        await trio.sleep(self.delay_s)
        self.count(operation)

    def _new(self, kind: NodeType, mode: int, owner: Owner | None = None) -> MemoryNode:
        owner = owner or self.owner
        return MemoryNode(kind, next(self._ids), mode, self.clock(), owner.uid, owner.gid)

    def _opened(self, path: str, node: MemoryNode, flags: OpenFlags) -> "MemoryFile":
        self.opened[node] += 1
        return MemoryFile(self, path, node, flags)

    def _xattr(self, path: str, name: str) -> bytes:
        try:
            return self.find(path).xattrs[name]
        except KeyError:
            raise PfsError(Kind.NO_DATA, "it has no such attribute", path) from None

    def _lose_name(self, node: MemoryNode) -> None:
        node.nlink -= 1
        node.ctime_ns = self.clock()

    def _directory(self, path: str) -> MemoryNode:
        node = self.find(path)
        if node.type is not NodeType.DIRECTORY:
            raise PfsError(Kind.NOT_DIR, "not a directory", path)
        return node

    def _make(self, path: str, node: MemoryNode) -> MemoryNode:
        parent, name = parent_and_name(path)
        directory = self._directory(parent)
        if check_name(name) in directory.children:
            raise PfsError(Kind.EXISTS, "file exists", path)
        directory.children[name] = node
        directory.mtime_ns = directory.ctime_ns = self.clock()
        return node

    def _take(self, path: str) -> MemoryNode:
        parent, name = parent_and_name(path)
        directory = self.find(parent)
        directory.mtime_ns = directory.ctime_ns = self.clock()
        return directory.children.pop(name)

    def _check_not_below(self, source: str, target: str) -> None:
        if target.startswith(source + "/"):
            raise PfsError(Kind.INVALID, "a directory cannot be moved below itself", target)

    def _check_replaceable(self, moved: MemoryNode, replaced: MemoryNode, target: str) -> None:
        directories = [node.type is NodeType.DIRECTORY for node in (moved, replaced)]
        if directories == [False, True]:
            raise PfsError(Kind.IS_DIR, "is a directory", target)
        if directories == [True, False]:
            raise PfsError(Kind.NOT_DIR, "not a directory", target)
        if replaced.children:
            raise PfsError(Kind.NOT_EMPTY, "directory not empty", target)


class MemoryFile:
    """An open file of a `MemoryFileSystem`."""

    def __init__(self, fs: MemoryFileSystem, path: str, node: MemoryNode, flags: OpenFlags) -> None:
        self._fs, self._path, self._node, self._flags = fs, path, node, flags
        self._generation = fs.generation
        self._attr = node.attr(fs.valid_s)
        self._unhanded = self._cut = False
        self._seen: bytes | None = None  # of a text that changes, what was read last

    @property
    def attr(self) -> Attr:
        return self._attr

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        await self._asked("read")
        while self._node.stream and self._node.data.size <= offset:
            if not wait:
                raise PfsError(Kind.WOULD_BLOCK, "nothing more yet", self._path)
            await self._node.grown.wait()
            self._check()
        if offset == 0:
            self._seen = bytes(self._node.data)
        return self._node.data.read(offset, min(size, self._fs.read_bytes_max))

    async def changed(self, *, wait: bool = True) -> None:
        await self._asked("changed")
        while self._seen == bytes(self._node.data):
            if not wait:
                raise PfsError(Kind.WOULD_BLOCK, "it is what was read", self._path)
            await self._node.grown.wait()
            self._check()

    async def write(self, offset: int, data: bytes) -> int:
        with self._writing("write"):
            await trio.sleep(self._fs.delay_s)
            node = self._node
            node.data.write(node.data.size if OpenFlags.APPEND in self._flags else offset, data)
            node.mtime_ns = node.ctime_ns = self._fs.clock()
            self._unhanded = True
        return len(data)

    async def setattr(self, changes: Changes) -> Attr:
        await self._asked("fsetattr")
        if changes.size is not None and OpenFlags.WRITE not in self._flags:
            raise PfsError(Kind.INVALID, "not open for writing", self._path)
        self._node.change(changes, self._fs.clock())
        return self._node.attr(self._fs.valid_s)

    async def getattr(self) -> Attr:
        await self._asked("fgetattr")
        return self._node.attr(self._fs.valid_s)

    async def xattr(self, call: XattrCall) -> bytes:
        await self._asked("fxattr")
        xattrs = self._node.xattrs
        if call.verb is XattrVerb.LIST:
            return b"".join(name.encode() + b"\0" for name in xattrs)
        if call.verb is XattrVerb.SET:
            xattrs[call.name] = call.value
            return b""
        if call.name not in xattrs:
            raise PfsError(Kind.NO_DATA, "it has no such attribute", self._path)
        return xattrs[call.name] if call.verb is XattrVerb.GET else (xattrs.pop(call.name) and b"")

    async def flush(self, closing: Closing) -> None:
        await self._asked("flush")
        if self._node.commits:
            self._fs.closings.append(closing)
            self._cut = self._cut or closing is Closing.DYING
            if closing is Closing.LAST:
                self._hand_in(closing)

    async def fsync(self) -> None:
        await self._asked("fsync")

    async def release(self) -> None:
        await trio.lowlevel.checkpoint()
        self._fs.count("release")
        if self._generation == self._fs.generation:
            self._fs.opened[self._node] -= 1
            self._fs.opened += Counter()  # without those that are open no more
            if self._node.commits and not self._cut:
                self._hand_in(None)

    def _hand_in(self, closing: Closing | None) -> None:
        if self._unhanded:
            self._unhanded = False
            text = bytes(self._node.data)
            if b"refuse" in text:
                if closing is not None:
                    raise PfsError(Kind.INVALID, "this text is refused", self._path)
                return
            self._fs.handed.append(Handed(self._path, text, closing))

    async def _asked(self, operation: str) -> None:
        await trio.sleep(self._fs.delay_s)
        self._check()
        self._fs.count(operation)

    @contextmanager
    def _writing(self, operation: str) -> Iterator[None]:
        self._check()
        self._fs.count(operation)
        if OpenFlags.WRITE not in self._flags:
            raise PfsError(Kind.DENIED, "not open for writing", self._path)
        yield

    def _check(self) -> None:
        if self._generation != self._fs.generation:
            raise PfsError(Kind.BAD_HANDLE, "this file is not open here (any more)", self._path)
