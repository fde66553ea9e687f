"""The tree as one mount sees it, with leases: what others hold copies of is not changed before they have been told.

Who is told, and waited for how long, is the hub's (`pfs.leasing.hub`). Here stands which nodes and names each operation
reads and changes. What is read is leased where the attributes say `leased`: the disk can tell when such a node is
changed by others.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import TypeVar

from pfs.api import (
    Attr,
    Changes,
    Closing,
    Content,
    Entry,
    FileSystem,
    Name,
    NodeType,
    OpenFile,
    OpenFlags,
    Owner,
    RenameMode,
    Space,
    XattrCall,
    XattrMode,
)
from pfs.disk.file import Runner
from pfs.disk.whole import NewFile
from pfs.errors import Kind, PfsError
from pfs.leasing.hub import NOBODY, Holder, LeaseHub
from pfs.path import join, parent_and_name
from pfs.tree.service import TreeFileSystem

T = TypeVar("T")

WRITING = OpenFlags.CREATE | OpenFlags.TRUNCATE


class LeasedFileSystem:
    """`pfs.api.FileSystem` for one mount, or for somebody who keeps no copies (`holder` None)."""

    def __init__(self, inner: FileSystem, hub: LeaseHub, holder: Holder | None) -> None:
        self._inner = inner
        self._hub = hub
        self._by = holder.number if holder else NOBODY

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        await self._hub.make_room(self._by)
        since = self._hub.leases.now
        return self._granted(await self._inner.getattr(path), since)

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory; the names are leased with the directory itself, which is not asked for here."""
        await self._hub.make_room(self._by)
        since = self._hub.leases.now
        entries = await self._inner.listdir(path)
        nodes = {entry.attr.node_id for entry in entries if entry.attr.leased}
        granted = self._hub.leases.grant(self._by, nodes, since)
        refused = nodes - granted
        if not refused:
            return entries
        return [
            Entry(each.name, _unleased(each.attr), each.target) if each.attr.node_id in refused else each
            for each in entries
        ]

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        """Return small files of one directory, whole."""
        await self._hub.make_room(self._by)
        since = self._hub.leases.now
        found = await self._inner.contents(path, names, size_max)
        return [Content(each.name, self._granted(each.attr, since), each.data) for each in found]

    async def readlink(self, path: str) -> str:
        """Return where a link points."""
        return await self._inner.readlink(path)

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        """Make a directory."""
        return await self._made(path, lambda: self._inner.mkdir(path, mode, owner))

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr:
        """Make a symbolic link."""
        return await self._made(path, lambda: self._inner.symlink(path, target, owner))

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        """Make a file, FIFO or socket without opening it."""
        return await self._made(path, lambda: self._inner.mknod(path, type_, mode, owner))

    async def make_file(self, path: str, mode: int, data: bytes, changes: Changes) -> Attr:
        """Make a file with all its bytes."""
        return await self._made(path, lambda: self._inner.make_file(path, mode, data, changes))

    async def link(self, source: str, target: str) -> Attr:
        """Give a node a second name."""
        return await self._change([target], [source], act=lambda: self._inner.link(source, target))

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory's."""
        await self._change([path], act=lambda: self._inner.unlink(path))

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await self._change([path], act=lambda: self._inner.rmdir(path))

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Move a name."""
        await self._change([source, target], act=lambda: self._inner.rename(source, target, mode))

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change attributes."""
        return _unleased(await self._change([], [path], act=lambda: self._inner.setattr(path, changes)))

    async def getxattr(self, path: str, name: str) -> bytes:
        """Return an extended attribute."""
        return await self._inner.getxattr(path, name)

    async def listxattr(self, path: str) -> Sequence[str]:
        """Return the names of the extended attributes."""
        return await self._inner.listxattr(path)

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        """Set an extended attribute; its node's ctime changes."""
        await self._change([], [path], act=lambda: self._inner.setxattr(path, name, value, mode))

    async def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        await self._change([], [path], act=lambda: self._inner.removexattr(path, name))

    async def statfs(self, path: str) -> Space:
        """Tell the room."""
        return await self._inner.statfs(path)

    async def fsyncdir(self, path: str) -> None:
        """Return when the disk has the names in a directory."""
        await self._inner.fsyncdir(path)

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        """Open, or with CREATE make, a file."""

        async def act() -> OpenFile:
            since = self._hub.leases.now
            return self._opened(await self._inner.open(path, flags, mode, owner), since)

        if flags & WRITING:
            return await self._change([path] if OpenFlags.CREATE in flags else [], [path], act=act)
        await self._hub.make_room(self._by)
        return await act()

    async def reopen(self, path: str, node_id: int, flags: OpenFlags) -> OpenFile:
        """Open the very node that was open before."""
        since = self._hub.leases.now
        return self._opened(await self._inner.reopen(path, node_id, flags), since)

    def _granted(self, attr: Attr, since: int) -> Attr:
        if not attr.leased or self._hub.leases.grant(self._by, (attr.node_id,), since):
            return attr
        return _unleased(attr)

    def _opened(self, file: OpenFile, since: int) -> OpenFile:
        attr = self._granted(file.attr, since)
        return file if attr.volatile or attr.settled else LeasedFile(file, attr, self._hub, self._by)

    async def _made(self, path: str, make: Callable[[], Awaitable[Attr]]) -> Attr:
        async def act() -> Attr:
            since = self._hub.leases.now
            return self._granted(await make(), since)

        return await self._change([path], act=act)

    async def _change(self, names: Sequence[str], nodes: Sequence[str] = (), *, act: Callable[[], Awaitable[T]]) -> T:
        """Change the paths in `names`, with their directories, and those in `nodes`; hold copies of them back."""
        await self._hub.make_room(self._by)
        leases = self._hub.leases
        if not leases.others(self._by) and not self._hub.in_grace:  # then it need not be known which nodes these are
            with leases.anything(self._by):
                return await act()
        while True:
            changed = await self._touched(names, nodes)
            # a directory that is only just being made: nobody may be granted a lease on it before this is over
            unknown = len(changed[1]) < len(names)
            with leases.anything(self._by) if unknown else nullcontext():
                async with self._hub.change(self._by, *changed):
                    # others may have put something else there, while somebody was waited for or since then
                    if await self._touched(names, nodes) == changed:
                        return await act()
            if not names:  # a node is to be changed, whatever its name, and not what came to stand there
                raise PfsError(Kind.STALE, "something else stands there by now; try again", nodes[0])

    async def _touched(self, names: Sequence[str], nodes: Sequence[str]) -> tuple[set[int], list[Name]]:
        """Return the nodes that a change touches, and the names in those of them that are directories."""
        changed, changed_names = set(), []
        for path in names:
            parent, name = parent_and_name(path)
            if (directory := await self._node(parent)) is not None:
                changed.add(directory)
                changed_names.append((directory, name))
        for path in (*names, *nodes):
            if (node := await self._node(path)) is not None:
                changed.add(node)
        return changed, changed_names

    async def _node(self, path: str) -> int | None:
        try:
            return (await self._inner.getattr(path)).node_id
        except PfsError:
            return None  # whatever is wrong there, the change itself will say it


class LeasedTree(LeasedFileSystem):
    """The same over the server's whole tree, with what only the server itself asks of it."""

    def __init__(self, inner: TreeFileSystem, hub: LeaseHub, holder: Holder | None = None) -> None:
        super().__init__(inner, hub, holder)
        self._tree = inner

    async def look(self, path: str) -> tuple[Attr, bytes | None]:
        """Tell what stands at `path`, and the whole of a text that is at hand."""
        await self._hub.make_room(self._by)
        since = self._hub.leases.now
        attr, text = await self._tree.look(path)
        return self._granted(attr, since), text

    async def put(self, path: str, data: bytes, key: str | None) -> str | None:
        """Give a whole file to a directory of the server; such directories are not leased."""
        return await self._tree.put(path, data, key)

    async def in_domain(self, path: str) -> bool:
        """Tell whether `path` lies in a data domain."""
        return await self._tree.in_domain(path)

    async def put_files(self, path: str, files: Sequence[NewFile]) -> list[PfsError | None]:
        """Let whole files be in a directory of a domain; return what was refused, one for each."""
        names = [join(path, file.name) for file in files]
        return await self._change(names, act=lambda: self._tree.put_files(path, files))

    async def follow(self, path: str) -> str:
        """Replace the tree's own links in `path` by what they lead to."""
        return await self._tree.follow(path)


class LeasedFile:
    """An open ordinary file of a `LeasedFileSystem`."""

    def __init__(self, inner: OpenFile, attr: Attr, hub: LeaseHub, by: int) -> None:
        self.inner = inner
        self.attr = attr
        self._hub = hub
        self._by = by

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return up to `size` bytes."""
        return await self.inner.read(offset, size, wait=wait)

    async def write(self, offset: int, data: bytes) -> int:
        """Write all of `data`."""
        async with self._hub.change(self._by, (self.attr.node_id,)):
            return await self.inner.write(offset, data)

    async def on_descriptor(
        self, work: Callable[[int], T], threads: Runner, *, writes: tuple[int, int] | None
    ) -> T | None:
        """Run `work` with the file's descriptor, where it has one; see `pfs.server.bulk.OnDisk`."""
        run: Callable[..., Awaitable[T]] | None = getattr(self.inner, "on_descriptor", None)
        if run is None or writes is None:
            return None if run is None else await run(work, threads, writes=None)
        async with self._hub.change(self._by, (self.attr.node_id,)):
            return await run(work, threads, writes=writes)

    async def setattr(self, changes: Changes) -> Attr:
        """Change attributes of what is open."""
        async with self._hub.change(self._by, (self.attr.node_id,)):
            return _unleased(await self.inner.setattr(changes))

    async def getattr(self) -> Attr:
        """Tell what is open."""
        leases, since = self._hub.leases, self._hub.leases.now
        attr = await self.inner.getattr()
        return attr if leases.grant(self._by, (attr.node_id,), since) else _unleased(attr)

    async def xattr(self, call: XattrCall) -> bytes:
        """Answer about the extended attributes of what is open."""
        async with self._hub.change(self._by, (self.attr.node_id,) if call.changes else ()):
            return await self.inner.xattr(call)

    async def flush(self, closing: Closing) -> None:
        """A descriptor was closed."""
        await self.inner.flush(closing)

    async def fsync(self) -> None:
        """Return when the disk has it."""
        await self.inner.fsync()

    async def descriptor(self) -> int | None:
        """Return a descriptor of its own, for reading only, where the file has one."""
        give: Callable[[], Awaitable[int | None]] | None = getattr(self.inner, "descriptor", None)
        return None if give is None else await give()

    async def release(self) -> None:
        """The last descriptor is gone."""
        await self.inner.release()


def _unleased(attr: Attr) -> Attr:
    return replace(attr, leased=False, valid_s=0.0) if attr.leased else attr
