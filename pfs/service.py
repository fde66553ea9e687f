"""One caller's view of the tree: walks a path through the server's nodes down to the disk, asking for rights.

    "home/ann/x/y"  ──▶  Root ─ lookup "home" ─ lookup "ann" ─▶ DomainDirectory  ──▶  DiskDomain, "x/y"

Rights are asked once, at the door of a domain (`pfs.perm`); nodes that packages put into the tree ask for their own.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pfs.api import Attr, Changes, Entry, OpenFile, OpenFlags, RenameMode, Space
from pfs.disk import Disk, DiskDomain
from pfs.errors import Kind, PfsError
from pfs.path import check_target, join, parent_and_name, split
from pfs.perm import Subject, Verb, allowed
from pfs.virtual import Directory, DomainDirectory, File, Link, Node

LINKS_MAX = 8
WRITES = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE | OpenFlags.APPEND


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a path leads: a node, and what is left of the path below a domain's door."""

    node: Node
    rest: str = ""


class TreeFileSystem:
    """`pfs.api.FileSystem` over the server's own tree, as `subject` may see it."""

    def __init__(self, root: Directory, disk: Disk, subject: Subject) -> None:
        self._root = root
        self._disk = disk
        self.subject = subject

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return place.node.masked(self.subject, await self._domain(place.node, Verb.READ).getattr(place.rest))
        return await place.node.attr(self.subject)

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            entries = await self._domain(place.node, Verb.READ).listdir(place.rest)
            return [Entry(entry.name, place.node.masked(self.subject, entry.attr)) for entry in entries]
        if not isinstance(place.node, Directory):
            raise PfsError(Kind.NOT_DIR, "not a directory", path)
        return list(await place.node.entries(self.subject))

    async def readlink(self, path: str) -> str:
        """Return where a link points."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return await self._domain(place.node, Verb.READ).readlink(place.rest)
        if isinstance(place.node, Link):
            return place.node.target
        raise PfsError(Kind.INVALID, "not a symbolic link", path)

    async def mkdir(self, path: str, mode: int) -> Attr:
        """Make a directory."""
        directory, name = await self._parent(path)
        if isinstance(directory, _Below):
            return await directory.domain.mkdir(directory.path(name), mode)
        return await directory.mkdir(self.subject, name, mode)

    async def symlink(self, path: str, target: str) -> Attr:
        """Make a symbolic link."""
        check_target(target)
        directory, name = await self._parent(path)
        if isinstance(directory, _Below):
            return await directory.domain.symlink(directory.path(name), target)
        return await directory.symlink(self.subject, name, target)

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory."""
        directory, name = await self._parent(path)
        if isinstance(directory, _Below):
            await directory.domain.unlink(directory.path(name))
        else:
            await directory.unlink(self.subject, name)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        directory, name = await self._parent(path)
        if isinstance(directory, _Below):
            await directory.domain.rmdir(directory.path(name))
        else:
            await directory.rmdir(self.subject, name)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Rename within one domain, or within one directory of the server."""
        old, old_name = await self._parent(source)
        new, new_name = await self._parent(target)
        if isinstance(old, _Below) and isinstance(new, _Below):
            if old.door.domain != new.door.domain or old.domain.path != new.domain.path:
                raise PfsError(Kind.CROSS_DOMAIN, "a rename stays within one data domain; copy instead", target)
            await old.domain.rename(old.path(old_name), new.path(new_name), mode)
        elif isinstance(old, Directory) and source.rpartition("/")[0] == target.rpartition("/")[0]:
            await old.rename(self.subject, old_name, new_name, mode)
        else:
            raise PfsError(Kind.CROSS_DOMAIN, "a rename stays within one data domain; copy instead", target)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change mode, times or size."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return await self._domain(place.node, Verb.WRITE).setattr(place.rest, changes)
        return await place.node.setattr(self.subject, changes)

    async def statfs(self, path: str) -> Space:
        """Tell the room where `path` leads; for the server's own nodes, that of the data root."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return await self._domain(place.node, Verb.READ).statfs()
        return await self._disk.domain("", None).statfs()

    async def open(self, path: str, flags: OpenFlags, mode: int) -> OpenFile:
        """Open, or with CREATE make, a file."""
        place = await self._find_or_parent(path, flags)
        if isinstance(place.node, DomainDirectory):
            verb = Verb.WRITE if flags & WRITES and place.rest else Verb.READ
            files = self._domain(place.node, verb)
            if place.rest:
                return await files.open(place.rest, flags, mode)
        elif isinstance(place.node, Directory) and place.rest:
            return await place.node.create(self.subject, place.rest, flags, mode)
        if OpenFlags.CREATE in flags and OpenFlags.EXCLUSIVE in flags:
            raise PfsError(Kind.EXISTS, "there is such a file already", path)
        if isinstance(place.node, Directory | DomainDirectory):
            raise PfsError(Kind.IS_DIR, "this is a directory", path)
        if isinstance(place.node, File):
            return await place.node.open(self.subject, flags)
        raise PfsError(Kind.LOOP, "a symbolic link is not opened here", path)

    async def put(self, path: str, data: bytes, key: str | None) -> str | None:
        """Give a whole file to a directory of the server; return the path of what came of it, where something did.

        Raises:
            PfsError: UNSUPPORTED where `path` is in a data domain: those are written by `open`.
        """
        directory, name = await self._parent(path)
        if isinstance(directory, _Below):
            raise PfsError(Kind.UNSUPPORTED, "ordinary files are written by opening them", path)
        return await directory.put(self.subject, name, data, key)

    async def in_domain(self, path: str) -> bool:
        """Tell whether `path` lies in a data domain (it need not exist)."""
        parent, _ = parent_and_name(path)
        return isinstance((await self._find(parent)).node, DomainDirectory)

    async def follow(self, path: str) -> str:
        """Replace the tree's own links (`jobs/<name>`, `public`) in `path` by what they lead to."""
        for _ in range(LINKS_MAX):
            node: Node = self._root
            parts = split(path)
            for index, part in enumerate(parts):
                if not isinstance(node, Directory):
                    return path
                node = await node.lookup(self.subject, part)
                if isinstance(node, Link) and node.own:
                    path = posixpath.normpath("/".join([*parts[:index], node.target, *parts[index + 1 :]]))
                    break
            else:
                return path
        raise PfsError(Kind.LOOP, "too many links", path)

    async def _find(self, path: str) -> _Place:
        node: Node = self._root
        parts = split(path)
        for index, part in enumerate(parts):
            if isinstance(node, DomainDirectory):
                return _Place(node, "/".join(parts[index:]))
            if not isinstance(node, Directory):
                raise PfsError(Kind.NOT_DIR, "not a directory", path)
            node = await node.lookup(self.subject, part)
        return _Place(node)

    async def _find_or_parent(self, path: str, flags: OpenFlags) -> _Place:
        """Find `path`; where it is to be made in a directory of the server, that directory and the name."""
        try:
            return await self._find(path)
        except PfsError as error:
            if error.kind is not Kind.NOT_FOUND or OpenFlags.CREATE not in flags:
                raise
            parent, name = parent_and_name(path)
            place = await self._find(parent)
            if not isinstance(place.node, Directory):
                raise
            return replace(place, rest=name)

    async def _parent(self, path: str) -> "tuple[Directory | _Below, str]":
        parent, name = parent_and_name(path)
        split(path)
        place = await self._find(parent)
        if isinstance(place.node, DomainDirectory):
            return _Below(place.node, self._domain(place.node, Verb.WRITE), place.rest), name
        if isinstance(place.node, Directory):
            return place.node, name
        raise PfsError(Kind.NOT_DIR, "not a directory", parent)

    def _domain(self, door: DomainDirectory, verb: Verb) -> DiskDomain:
        if not allowed(self.subject, Verb.READ, door.domain):
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        if not allowed(self.subject, verb, door.domain):
            raise PfsError(Kind.DENIED, "you may read this, not change it")
        return door.files


@dataclass(frozen=True, slots=True)
class _Below:
    """A directory of ordinary files, from its domain's door on."""

    door: DomainDirectory
    domain: DiskDomain
    rest: str

    def path(self, name: str) -> str:
        return join(self.rest, name)
