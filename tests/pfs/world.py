"""A small datacenter for tests: data domains on a real disk, and beside them nodes that the server makes.

ann and bob are users, ann is in the group ml; job 17 is ann's and shared with ml. `root` names nodes that a subject
may not see like any other, so that it is the service itself which has to hide them.
"""

import os
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import trio
from sqlmodel import SQLModel

from pfs.api import (
    Attr,
    Changes,
    Closing,
    Entry,
    FileSystem,
    NodeType,
    OpenFile,
    OpenFlags,
    RenameMode,
    XattrMode,
)
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, DomainKind, Subject
from pfs.sql import Database
from pfs.tree.service import TreeFileSystem
from pfs.tree.texts import ReadOnlyFile, Text
from pfs.tree.virtual import Directory, DomainDirectory, File, Link, Node, StaticDirectory, virtual_id

ANN = Subject("ann", groups=frozenset({"ml"}))
BOB = Subject("bob")
ADMIN = Subject("root", admin=True)
READ, WRITE = OpenFlags.READ, OpenFlags.WRITE
CREATE, EXCLUSIVE, TRUNCATE, APPEND = OpenFlags.CREATE, OpenFlags.EXCLUSIVE, OpenFlags.TRUNCATE, OpenFlags.APPEND
NEW = WRITE | CREATE | EXCLUSIVE

Operation = Callable[[FileSystem, str], Awaitable[object]]
LOOKING: dict[str, Operation] = {
    "getattr": lambda fs, path: fs.getattr(path),
    "listdir": lambda fs, path: fs.listdir(path),
    "readlink": lambda fs, path: fs.readlink(path),
    "contents": lambda fs, path: fs.contents(path, ["x"], 100),
    "getxattr": lambda fs, path: fs.getxattr(path, "user.x"),
    "listxattr": lambda fs, path: fs.listxattr(path),
    "statfs": lambda fs, path: fs.statfs(path),
    "open": lambda fs, path: fs.open(path, READ, 0),
    "rename from": lambda fs, path: fs.rename(path, "home/ann/got", RenameMode.REPLACE),
    "link from": lambda fs, path: fs.link(path, "home/ann/got"),
}
CHANGING: dict[str, Operation] = {
    "mkdir": lambda fs, path: fs.mkdir(path, 0o755),
    "symlink": lambda fs, path: fs.symlink(path, "x"),
    "mknod": lambda fs, path: fs.mknod(path, NodeType.FIFO, 0o644),
    "link to": lambda fs, path: fs.link("home/ann/mine", path),
    "setxattr": lambda fs, path: fs.setxattr(path, "user.x", b"1", XattrMode.EITHER),
    "removexattr": lambda fs, path: fs.removexattr(path, "user.x"),
    "unlink": lambda fs, path: fs.unlink(path),
    "rmdir": lambda fs, path: fs.rmdir(path),
    "rename to": lambda fs, path: fs.rename("home/ann/mine", path, RenameMode.REPLACE),
    "exchange": lambda fs, path: fs.rename("home/ann/mine", path, RenameMode.EXCHANGE),
    "setattr": lambda fs, path: fs.setattr(path, Changes(mode=0o600)),
    "resize": lambda fs, path: fs.setattr(path, Changes(size=0)),
    "open to write": lambda fs, path: fs.open(path, WRITE, 0),
    "open to cut": lambda fs, path: fs.open(path, READ | TRUNCATE, 0),
    "open to append": lambda fs, path: fs.open(path, APPEND, 0),
    "create": lambda fs, path: fs.open(path, WRITE | CREATE, 0o644),
    "create alone": lambda fs, path: fs.open(path, NEW, 0o644),
}
OPERATIONS = {**LOOKING, **CHANGING}


async def outcome(asked: Awaitable[object], path: str | None = None) -> tuple[Kind, str, bool] | None:
    """Return what went wrong, in what words, and whether `path` was named; None when nothing did."""
    try:
        await asked
    except PfsError as error:
        return error.kind, error.message, error.path == path
    return None


def make_tables(database: Database) -> None:
    """Make all tables that pfs has, in a database that has none."""
    classes = (mapper.class_ for mapper in SQLModel._sa_registry.mappers)
    tables = [each.__table__ for each in classes if each.__module__.startswith("pfs.")]
    database.write_now(lambda session: SQLModel.metadata.create_all(session.connection(), tables=tables))


async def kind_of(asked: Awaitable[object]) -> Kind | None:
    met = await outcome(asked)
    return None if met is None else met[0]


async def contents(file: OpenFile, size: int = 100) -> bytes:
    return await file.read(0, size)


class SettledText(Text):
    """A text that is never another one."""

    def _stays(self) -> bool:
        return True


class Stream(File):
    """A text that grows; a read at its end waits for more until the writer is done."""

    def __init__(self) -> None:
        self.data = b""
        self.done = False
        self.waiting = 0
        self.opened = 0
        self.changed = trio.Event()

    def change(self, data: bytes = b"", *, done: bool = False) -> None:
        self.data += data
        self.done = self.done or done
        self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, **counts: int) -> None:
        """Wait until so many are `waiting`, or have it `opened`."""
        while any(getattr(self, name) != count for name, count in counts.items()):
            await self.changed.wait()

    async def attr(self, subject: Subject) -> Attr:
        return Attr(NodeType.FILE, virtual_id("log"), 0o444, volatile=True, stream=True)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        self.opened += 1
        return OpenStream(await self.attr(subject), self)


class OpenStream(ReadOnlyFile):
    def __init__(self, attr: Attr, stream: Stream) -> None:
        super().__init__(attr)
        self._stream = stream

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        stream = self._stream
        while offset >= len(stream.data) and not stream.done:
            if not wait:
                raise PfsError(Kind.WOULD_BLOCK, "nothing more yet")
            stream.waiting += 1
            stream.tell()
            try:
                await stream.changed.wait()
            finally:
                stream.waiting -= 1
                stream.tell()
        return stream.data[offset : offset + size]

    async def release(self) -> None:
        self._stream.opened -= 1
        self._stream.tell()


class Control(File):
    """A file that takes commands, and keeps them."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    async def attr(self, subject: Subject) -> Attr:
        return Attr(NodeType.FILE, virtual_id("ctl"), 0o600, volatile=True)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        return OpenControl(await self.attr(subject), self.commands)


class OpenControl(ReadOnlyFile):
    def __init__(self, attr: Attr, commands: list[bytes]) -> None:
        super().__init__(attr)
        self._commands = commands

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        return b"kill\n"[offset : offset + size]

    async def write(self, offset: int, data: bytes) -> int:
        if data == b"dance\n":
            raise PfsError(Kind.INVALID, "there is no command 'dance'")
        self._commands.append(data)
        return len(data)


class Drops(Directory):
    """A directory that takes texts; closing one hands it in. It refuses the text `refuse`."""

    def __init__(self) -> None:
        self.texts: dict[str, bytes] = {}
        self.closings: list[tuple[str, Closing]] = []
        self.released: list[str] = []
        self.keys: list[str | None] = []
        self.nodes: dict[str, Node] = {"17": Link(virtual_id("target"), "17"), "latest": Link(virtual_id("l"), "job")}

    async def attr(self, subject: Subject) -> Attr:
        return Attr(NodeType.DIRECTORY, virtual_id("drops"), 0o755, nlink=2, volatile=True)

    async def lookup(self, subject: Subject, name: str) -> Node:
        if name in self.texts:
            return Drop(self, name)
        raise PfsError(Kind.NOT_FOUND, "no such file or directory")

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        return [Entry(name, await Drop(self, name).attr(subject)) for name in self.texts]

    async def create(self, subject: Subject, name: str, flags: OpenFlags, mode: int) -> OpenFile:
        self.texts[name] = b""
        return await Drop(self, name).open(subject, flags)

    async def put(self, subject: Subject, name: str, data: bytes, key: str | None) -> str | None:
        if name == "ctl":
            return await super().put(subject, name, data, key)
        self.texts[name] = data
        self.keys.append(key)
        return f"jobs/{len(self.texts)}"

    async def unlink(self, subject: Subject, name: str) -> None:
        del self.texts[name]

    async def rename(self, subject: Subject, source: str, target: str, mode: RenameMode) -> None:
        self.texts[target] = self.texts.pop(source)


class Drop(File):
    def __init__(self, drops: Drops, name: str) -> None:
        self.drops, self.name = drops, name

    async def attr(self, subject: Subject) -> Attr:
        size = len(self.drops.texts[self.name])
        return Attr(NodeType.FILE, virtual_id("drop", self.name), 0o644, size, volatile=True, commits=True)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        return OpenDrop(await self.attr(subject), self)


class OpenDrop(ReadOnlyFile):
    def __init__(self, attr: Attr, drop: Drop) -> None:
        super().__init__(attr)
        self._drop = drop

    async def write(self, offset: int, data: bytes) -> int:
        self._drop.drops.texts[self._drop.name] += data
        return len(data)

    async def flush(self, closing: Closing) -> None:
        drops, name = self._drop.drops, self._drop.name
        drops.closings.append((name, closing))
        if drops.texts[name] == b"refuse":
            raise PfsError(Kind.INVALID, "line 1: refused")
        if drops.texts[name] == b"break":
            raise RuntimeError("a defect")

    async def release(self) -> None:
        self._drop.drops.released.append(self._drop.name)


class World:
    """The tree, and what tests look at from behind."""

    def __init__(self, path: Path) -> None:
        for name in ("home/ann", "home/bob", "groups/ml", "shared", "jobs/17/data"):
            os.makedirs(path / name, exist_ok=True)
        self.path = path
        self.disk = Disk(str(path))
        self.log, self.control, self.drops = Stream(), Control(), Drops()
        self.notes = b"one\n"
        self.news = trio.Event()
        domain = self.disk.domain
        job = Domain(DomainKind.JOB, "17", "ann", frozenset({"ml"}))
        self.root = StaticDirectory(
            "",
            {
                "README.txt": Text(("readme",), self._notes),
                "home": StaticDirectory(
                    "home",
                    {
                        name: DomainDirectory(Domain(DomainKind.HOME, name), domain(f"home/{name}", None))
                        for name in ("ann", "bob")
                    },
                ),
                "shared": DomainDirectory(Domain(DomainKind.SHARED), domain("shared", None)),
                "public": Link(virtual_id("public"), "shared"),
                "job": StaticDirectory(
                    "job",
                    {
                        "log": self.log,
                        "ctl": self.control,
                        "keep": DomainDirectory(job, domain("jobs/17/data", None)),
                        "state": Text(("state",), self._notes, news=lambda: self.news),
                        "spec.yaml": SettledText(("spec",), self._notes),
                    },
                ),
                "drops": self.drops,
                "by": StaticDirectory(
                    "by",
                    {
                        "17": Link(virtual_id("by"), "../job"),
                        "loop": Link(virtual_id("loop"), "loop"),
                        "out": Link(virtual_id("out"), "../../etc"),
                        "theirs": Link(virtual_id("theirs"), "../job", own=False),
                    },
                ),
            },
        )

    def change(self, notes: bytes) -> None:
        """Change the notes, and tell who waits for that."""
        self.notes = notes
        self.news.set()
        self.news = trio.Event()

    async def _notes(self) -> bytes:
        return self.notes

    def fs(self, subject: Subject = ANN) -> TreeFileSystem:
        return TreeFileSystem(self.root, self.disk, subject)
