"""One caller's view of the tree: walks a path through the server's nodes down to the disk, asking for rights.

    "home/ann/x/y"  ──▶  Root ─ lookup "home" ─ lookup "ann" ─▶ DomainDirectory  ──▶  DiskDomain, "x/y"

Rights are asked once, at the door of a domain (`pfs.perm`); nodes that packages put into the tree ask for their own.
"""

import posixpath
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

from pfs.api import Attr, Changes, Content, Entry, NodeType, OpenFile, OpenFlags, Owner, RenameMode, Space, XattrMode
from pfs.disk.attr import Powers
from pfs.disk.domains import Disk, DiskDomain
from pfs.disk.whole import NewFile
from pfs.errors import Kind, PfsError
from pfs.path import PATH_BYTES_MAX, check_name, check_target, join, parent_and_name, split
from pfs.perm import SERVICE, Domain, DomainKind, Subject, Verb, allowed
from pfs.tree.virtual import Directory, DomainDirectory, File, Link, Node
from pfs.xattr import check_xattr

LINKS_MAX = 8
UTF8_BYTES_MAX = 4  # of a character
Witness = Callable[[Subject, Domain], Awaitable[None]]
WRITES = OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE | OpenFlags.APPEND


@lru_cache(maxsize=4096)
def _parts(path: str) -> Sequence[str]:
    """Return the checked parts of a path; most questions are about few directories."""
    return tuple(split(path))


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a path leads: a node, and what is left of the path below a domain's door."""

    node: Node
    rest: str = ""


class TreeFileSystem:
    """`pfs.api.FileSystem` over the server's own tree, as `subject` may see it.

    Args:
        witness: is told of each domain whose files an administrator asks for, before they get them.
    """

    def __init__(self, root: Directory, disk: Disk, subject: Subject, witness: Witness | None = None) -> None:
        self._root = root
        self._disk = disk
        self.subject = subject
        self._witness = witness if allowed(subject, Verb.RULE, SERVICE) else None

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        return (await self.look(path))[0]

    async def look(self, path: str) -> tuple[Attr, bytes | None]:
        """Tell what stands at `path`, and the whole of a text that is at hand; see `pfs.api.Looking`."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            attr = await self._domain(place.node, Verb.READ).getattr(place.rest)
            return place.node.masked(self.subject, attr), None
        return await place.node.look(self.subject)

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            await self._reach(place.node)
            entries = await self._domain(place.node, Verb.READ).listdir(place.rest)
            return [Entry(entry.name, place.node.masked(self.subject, entry.attr)) for entry in entries]
        if not isinstance(place.node, Directory):
            raise PfsError(Kind.NOT_DIR, "not a directory", path)
        return await place.node.entries(self.subject)

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        """Return small ordinary files of one directory; of the server's own, none."""
        place = await self._find(path)
        if not isinstance(place.node, DomainDirectory):
            return []
        await self._reach(place.node)
        found = await self._domain(place.node, Verb.READ).contents(place.rest, names, size_max)
        return [Content(each.name, place.node.masked(self.subject, each.attr), each.data) for each in found]

    async def readlink(self, path: str) -> str:
        """Return where a link points."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return await self._domain(place.node, Verb.READ).readlink(place.rest)
        if isinstance(place.node, Link):
            return place.node.target
        raise PfsError(Kind.INVALID, "not a symbolic link", path)

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        """Make a directory."""
        directory, name = await self._parent(path, owner)
        if isinstance(directory, _Below):
            return await directory.domain.mkdir(directory.path(name), mode, owner)
        return await directory.mkdir(self.subject, name, mode)

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr:
        """Make a symbolic link."""
        check_target(target)
        directory, name = await self._parent(path, owner)
        if isinstance(directory, _Below):
            return await directory.domain.symlink(directory.path(name), target, owner)
        return await directory.symlink(self.subject, name, target)

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        """Make a file, FIFO or socket without opening it."""
        directory, name = await self._parent(path, owner)
        if isinstance(directory, _Below):
            return await directory.domain.mknod(directory.path(name), type_, mode, owner)
        return await directory.mknod(self.subject, name, type_, mode)

    async def make_file(self, path: str, mode: int, data: bytes, changes: Changes) -> Attr:
        """Make an ordinary file with all its bytes; where the server makes files, it is opened and closed."""
        directory, name = await self._parent(path)
        if isinstance(directory, _Below):
            return await directory.domain.make_file(directory.path(name), mode, data, changes)
        raise PfsError(Kind.UNSUPPORTED, "files of the server are made by opening them", path)

    async def put_files(self, path: str, files: Sequence[NewFile]) -> list[PfsError | None]:
        """Let whole files be in a directory of a domain; return what was refused, one for each."""
        place = await self._find(path)
        if not isinstance(place.node, DomainDirectory):
            raise PfsError(Kind.UNSUPPORTED, "files of the server are made by opening them", path)
        await self._reach(place.node)
        return await self._domain(place.node, Verb.WRITE).put_files(place.rest, files)

    async def link(self, source: str, target: str) -> Attr:
        """Give what stands at `source` a second name in the same domain."""
        old, old_name = await self._parent(source)
        new, new_name = await self._parent(target)
        if isinstance(old, _Below) and isinstance(new, _Below) and old.same_domain(new):
            return await old.domain.link(old.path(old_name), new.path(new_name))
        if isinstance(old, Directory) and source.rpartition("/")[0] == target.rpartition("/")[0]:
            return await old.link(self.subject, old_name, new_name)
        raise PfsError(Kind.CROSS_DOMAIN, "a file's names are all in one data domain; copy instead", target)

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
        if isinstance(old, _Below) and isinstance(new, _Below) and old.same_domain(new):
            await old.domain.rename(old.path(old_name), new.path(new_name), mode)
        elif isinstance(old, Directory) and source.rpartition("/")[0] == target.rpartition("/")[0]:
            await old.rename(self.subject, old_name, new_name, mode)
        else:
            raise PfsError(Kind.CROSS_DOMAIN, "a rename stays within one data domain; copy instead", target)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change mode, times, size or owner."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return await self._domain(place.node, Verb.WRITE).setattr(place.rest, changes)
        if changes.uid is not None or changes.gid is not None:
            self._check_admin()
        self._check_command()
        return await place.node.setattr(self.subject, changes)

    async def getxattr(self, path: str, name: str) -> bytes:
        """Return an extended attribute."""
        check_xattr(name)
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return await self._domain(place.node, Verb.READ).getxattr(place.rest, name)
        return await place.node.getxattr(self.subject, name)

    async def listxattr(self, path: str) -> Sequence[str]:
        """Return the names of the extended attributes."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return await self._domain(place.node, Verb.READ).listxattr(place.rest)
        return await place.node.listxattr(self.subject)

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        """Set an extended attribute."""
        check_xattr(name, value)
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            await self._domain(place.node, Verb.WRITE).setxattr(place.rest, name, value, mode)
        else:
            self._check_command()
            await place.node.setxattr(self.subject, name, value, mode)

    async def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        check_xattr(name)
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            await self._domain(place.node, Verb.WRITE).removexattr(place.rest, name)
        else:
            self._check_command()
            await place.node.removexattr(self.subject, name)

    async def fsyncdir(self, path: str) -> None:
        """Return when the disk has the names in a directory; what the server makes is kept without being asked."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            await self._domain(place.node, Verb.READ).fsyncdir(place.rest)

    async def statfs(self, path: str) -> Space:
        """Tell the room where `path` leads; for the server's own nodes, that of the data root for the caller's home."""
        place = await self._find(path)
        if isinstance(place.node, DomainDirectory):
            return await self._domain(place.node, Verb.READ).statfs()
        own = self._disk.counts.of(f"{DomainKind.HOME}/{self.subject.user}")
        return own.within(await self._disk.domain("", None).statfs())

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        """Open, or with CREATE make, a file."""
        if owner is not None:
            self._check_admin()
        place = await self._find_or_parent(path, flags)
        if isinstance(place.node, DomainDirectory):
            verb = Verb.WRITE if flags & WRITES and place.rest else Verb.READ
            files = self._domain(place.node, verb)
            if place.rest:
                return await files.open(place.rest, flags, mode, owner)
        elif isinstance(place.node, Directory) and place.rest:
            self._check_command()
            return await place.node.create(self.subject, place.rest, flags, mode)
        if OpenFlags.CREATE in flags and OpenFlags.EXCLUSIVE in flags:
            raise PfsError(Kind.EXISTS, "there is such a file already", path)
        if isinstance(place.node, Directory | DomainDirectory):
            raise PfsError(Kind.IS_DIR, "this is a directory", path)
        if isinstance(place.node, File):
            if flags & WRITES:
                self._check_command()
            return await place.node.open(self.subject, flags)
        raise PfsError(Kind.LOOP, "a symbolic link is not opened here", path)

    async def reopen(self, path: str, node_id: int, flags: OpenFlags) -> OpenFile:
        """Open the very node that was open before a connection or the server went.

        Raises:
            PfsError: STALE when it is gone, and for a text whose closing is a command: that was cut when it went.
        """
        stale = PfsError(Kind.STALE, "what was open is gone", path)
        try:
            place = await self._find(path)
        except PfsError as error:
            raise stale if error.kind in (Kind.NOT_FOUND, Kind.NOT_DIR) else error from None
        if isinstance(place.node, DomainDirectory) and place.rest:
            verb = Verb.WRITE if flags & WRITES else Verb.READ
            return await self._domain(place.node, verb).reopen(place.rest, node_id, flags)
        attr = await place.node.attr(self.subject)
        if attr.node_id != node_id or attr.commits or not isinstance(place.node, File):
            raise stale
        if flags & WRITES:
            self._check_command()
        return await place.node.open(self.subject, flags & ~(OpenFlags.CREATE | OpenFlags.TRUNCATE))

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
        parts = _parts(path)
        for index, part in enumerate(parts):
            if isinstance(node, DomainDirectory):
                await self._reach(node)
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

    async def _parent(self, path: str, owner: Owner | None = None) -> "tuple[Directory | _Below, str]":
        if owner is not None:
            self._check_admin()
        parent, name = parent_and_name(path)
        if path.startswith("/") or len(path) * UTF8_BYTES_MAX > PATH_BYTES_MAX:
            split(path)  # what else may be wrong with it shows in its parent and its name
        check_name(name)
        place = await self._find(parent)
        if isinstance(place.node, DomainDirectory):
            await self._reach(place.node)
            return _Below(place.node, self._domain(place.node, Verb.WRITE), place.rest), name
        if isinstance(place.node, Directory):
            self._check_command()
            return place.node, name
        raise PfsError(Kind.NOT_DIR, "not a directory", parent)

    async def _reach(self, door: DomainDirectory) -> None:
        if self._witness is not None:
            await self._witness(self.subject, door.domain)

    def _domain(self, door: DomainDirectory, verb: Verb) -> DiskDomain:
        if not allowed(self.subject, Verb.READ, door.domain):
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        if not allowed(self.subject, verb, door.domain):
            raise PfsError(Kind.DENIED, "you may read this, not change it")
        changes = verb is Verb.WRITE or allowed(self.subject, Verb.WRITE, door.domain)
        shares = door.domain.kind is DomainKind.GROUP
        powers = Powers(changes, allowed(self.subject, Verb.RULE, door.domain), shares)
        return door.files.acting(powers, self.subject.uid)

    def _check_command(self) -> None:
        if not allowed(self.subject, Verb.WRITE, SERVICE):
            raise PfsError(Kind.DENIED, "this token is not for jobs and commands; take one with the scope submit")

    def _check_admin(self) -> None:
        if not allowed(self.subject, Verb.RULE, SERVICE):
            raise PfsError(Kind.FORBIDDEN, "only an admin says whose a file is")


@dataclass(frozen=True, slots=True)
class _Below:
    """A directory of ordinary files, from its domain's door on."""

    door: DomainDirectory
    domain: DiskDomain
    rest: str

    def path(self, name: str) -> str:
        return join(self.rest, name)

    def same_domain(self, other: "_Below") -> bool:
        return self.door.domain == other.door.domain and self.domain.path == other.domain.path
