"""Nodes that the server makes: what a package implements to put its things into the tree.

A directory that does not say otherwise refuses every change; most files are texts (`pfs.tree.texts`). `DomainDirectory`
is the door from here to ordinary files (`pfs.disk.domains`).

Each kind of file has a class of its own. What people read of it in the reference of the tree is said there alone: the
first line of the class's documentation, what it is called, and what one does with it.

    Node ─┬─ Directory     lookup, entries, and the changes that it allows
          ├─ File          open
          ├─ Link          target
          └─ DomainDirectory
"""

import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from enum import StrEnum
from functools import lru_cache
from typing import ClassVar

from pfs.api import (
    Attr,
    Changes,
    Closing,
    Entry,
    NodeType,
    OpenFile,
    OpenFlags,
    RenameMode,
    XattrMode,
)
from pfs.disk.domains import DiskDomain
from pfs.errors import Kind, PfsError
from pfs.perm import Domain, Subject, Verb, allowed

log = logging.getLogger(__name__)


@lru_cache(maxsize=16_384)  # more than a listing shows, and the same are listed again
def virtual_id(*words: object) -> int:
    """Return a stable node number for what `words` name; never that of an ordinary file (bit 63 is set)."""
    text = "\0".join(map(str, words))
    digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") | 1 << 63


class How(StrEnum):
    """What one does with a file."""

    FOLDER = "folder"  # made by the server
    FILES = "files"  # a folder of ordinary files
    LINK = "link"
    TEXT = "text"  # made by the server, with its true size
    GROWS = "grows"  # the same, and more comes while it is open
    STREAM = "stream"  # a read waits for more, for as long as more may come
    CONTROL = "control"  # what is written to it is done
    WRITTEN = "written"  # a text of one's own, which means something to the server


class Node(ABC):
    """Anything at a path.

    `called` is its name, or what stands for it in the reference where there are many: `<id>`. Of what has one name, and
    is not made by that, it may be "".
    """

    how: ClassVar[How]
    called: ClassVar[str] = ""

    @abstractmethod
    async def attr(self, subject: Subject) -> Attr:
        """Tell what `subject` sees of it."""

    async def look(self, subject: Subject) -> tuple[Attr, bytes | None]:
        """Tell what `subject` sees of it and, of a text that is at hand, what an opening for reading would show."""
        return await self.attr(subject), None

    def is_there_for(self, subject: Subject) -> bool:
        """Tell whether it is there at all for `subject`, where its directory has the same names for all others."""
        return True

    async def listed(self, subject: Subject) -> Attr:
        """Tell what a listing of its directory shows of it; by default all that can be told."""
        return await self.attr(subject)

    async def setattr(self, subject: Subject, changes: Changes) -> Attr:
        """Change it: by default all but a size is accepted and not kept, and a size is refused."""
        if changes.size is not None:
            raise PfsError(Kind.DENIED, "this is written by the server")
        return await self.attr(subject)

    async def getxattr(self, subject: Subject, name: str) -> bytes:
        """Return an extended attribute; by default there are none."""
        raise PfsError(Kind.NO_DATA, "there is no such extended attribute")

    async def listxattr(self, subject: Subject) -> Sequence[str]:
        """Return the names of the extended attributes."""
        return []

    async def setxattr(self, subject: Subject, name: str, value: bytes, mode: XattrMode) -> None:
        """Set an extended attribute."""
        raise PfsError(Kind.UNSUPPORTED, "what the server makes takes no extended attributes")

    async def removexattr(self, subject: Subject, name: str) -> None:
        """Remove an extended attribute; by default there are none."""
        raise PfsError(Kind.NO_DATA, "there is no such extended attribute")


class Directory(Node):
    """A directory made by the server."""

    how = How.FOLDER

    @abstractmethod
    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the node of that name; NOT_FOUND when there is none for `subject`."""

    @abstractmethod
    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List what `subject` may see."""

    async def create(self, subject: Subject, name: str, flags: OpenFlags, mode: int) -> OpenFile:
        """Make a file and open it."""
        raise _refused("files cannot be made here")

    async def put(self, subject: Subject, name: str, data: bytes, key: str | None) -> str | None:
        """Take a whole file at once; return the path of what came of it, where something did.

        `key` makes a repetition harmless: the same key again gives the same result. By default a file that is there
        is written to.
        """
        node = await self.lookup(subject, name)
        if not isinstance(node, File):
            raise PfsError(Kind.IS_DIR, "this is not a file")
        file = await node.open(subject, OpenFlags.WRITE)
        try:
            await file.write(0, data)
            await file.flush(Closing.LAST)
        finally:
            await file.release()
        return None

    async def mkdir(self, subject: Subject, name: str, mode: int) -> Attr:
        """Make a directory."""
        raise _refused("directories cannot be made here")

    async def symlink(self, subject: Subject, name: str, target: str) -> Attr:
        """Make a symbolic link."""
        raise _refused("links cannot be made here")

    async def mknod(self, subject: Subject, name: str, type_: NodeType, mode: int) -> Attr:
        """Make a file, FIFO or socket without opening it."""
        raise _refused("nothing can be made like this here")

    async def link(self, subject: Subject, source: str, target: str) -> Attr:
        """Give what is here a second name in this directory."""
        raise _refused("nothing has a second name here")

    async def unlink(self, subject: Subject, name: str) -> None:
        """Remove a name."""
        raise _refused("this cannot be removed")

    async def rmdir(self, subject: Subject, name: str) -> None:
        """Remove a directory."""
        raise _refused("this directory cannot be removed")

    async def rename(self, subject: Subject, source: str, target: str, mode: RenameMode) -> None:
        """Rename within this directory."""
        raise _refused("this cannot be renamed")


class StaticDirectory(Directory):
    """A directory whose names are fixed when the server starts, which is its time."""

    def __init__(self, path: str, nodes: Mapping[str, Node], made_at_ns: int = 0) -> None:
        self._path = path
        self._made_at_ns = made_at_ns
        self.nodes = nodes

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return directory_attr(virtual_id("directory", self._path), mtime_ns=self._made_at_ns, fixed=True)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return the node of that name."""
        node = self.nodes.get(name)
        if node is None or not node.is_there_for(subject):
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return node

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List all of them."""
        return await listing(self, subject, sorted(self.nodes))


async def listing(directory: Directory, subject: Subject, names: Iterable[str]) -> list[Entry]:
    """Return the entries of these names, in their order.

    What is not there is left out. What fails hides nothing else: it is listed, and fails when somebody looks at it.
    """
    found = []
    for name in names:
        node: Node | None = None
        try:
            node = await directory.lookup(subject, name)
            attr = await node.listed(subject)
        except Exception as error:
            if isinstance(error, PfsError) and error.kind is Kind.NOT_FOUND:
                continue
            log.warning("listing %r, which fails", name, exc_info=error)
            attr = _unknown(await directory.attr(subject), name, node)
        found.append(Entry(name, attr, node.target if isinstance(node, Link) and node.own else None))
    return found


def _unknown(directory: Attr, name: str, node: Node | None) -> Attr:
    """Return what is told of a node of which nothing is known."""
    type_ = NodeType.DIRECTORY if isinstance(node, Directory | DomainDirectory) else NodeType.FILE
    return Attr(type_, virtual_id("unknown", directory.node_id, name), 0o444, volatile=True)


def directory_attr(
    node_id: int, *, mtime_ns: int = 0, mode: int = 0o555, fixed: bool = False, valid_s: float = 0, walk_s: float = 0
) -> Attr:
    """Return the attributes of a directory that the server makes.

    Args:
        fixed: neither it nor its names change while the server runs.
        valid_s: so long a client may answer from its copy.
        walk_s: so long the kernel may, of one whose names are always asked for.
    """
    return Attr(
        NodeType.DIRECTORY,
        node_id,
        mode,
        nlink=2,
        mtime_ns=mtime_ns,
        ctime_ns=mtime_ns,
        volatile=not fixed and valid_s == 0.0,
        valid_s=valid_s or walk_s,
        leased=fixed,
    )


class File(Node):
    """A file made by the server."""

    how = How.TEXT

    @abstractmethod
    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open it."""


class Link(Node):
    """A symbolic link.

    Args:
        own: the tree's own, which the server itself may follow; never one that a user made.
    """

    how = How.LINK

    def __init__(self, node_id: int, target: str, mtime_ns: int = 0, *, own: bool = True) -> None:
        self.target = target
        self.own = own
        size = len(target.encode("utf-8", "surrogateescape"))
        self._attr = Attr(NodeType.SYMLINK, node_id, 0o777, size, mtime_ns=mtime_ns, ctime_ns=mtime_ns, volatile=True)

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return self._attr


class DomainDirectory(Node):
    """Where ordinary files begin.

    Args:
        domain: what rights on them follow from.
        files: the files themselves.
    """

    how = How.FILES

    def __init__(self, domain: Domain, files: DiskDomain) -> None:
        self.domain = domain
        self.files = files

    async def attr(self, subject: Subject) -> Attr:
        """Tell of the domain's own directory."""
        return self.masked(subject, await self.files.getattr(""))

    def masked(self, subject: Subject, attr: Attr) -> Attr:
        """Take away the permission bits that `subject` may not use here."""
        if allowed(subject, Verb.WRITE, self.domain):
            return attr
        return replace(attr, mode=attr.mode & ~0o222)


def _refused(message: str) -> PfsError:
    return PfsError(Kind.FORBIDDEN, message)
