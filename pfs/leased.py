"""The tree as one mount sees it, with leases: what others hold copies of is not changed before they have been told.

A mount proves that it is there by saying `alive` every few seconds. The server keeps its promises for `LEASE_S`
after it last heard that; a mount trusts its copies for less than that after it last *said* so and was answered.
So when a mount does not answer, or its connection is gone, waiting out the rest of `LEASE_S` is enough, and
whoever wants to change something waits no longer than that.

What is read is leased where the attributes say `leased`: the disk can tell when such a node is changed by others.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import trio

from pfs.api import (
    Attr,
    Broken,
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
    XattrMode,
)
from pfs.errors import PfsError
from pfs.leases import Leases
from pfs.path import parent_and_name
from pfs.service import TreeFileSystem

log = logging.getLogger(__name__)

LEASE_S = 10.0
NOBODY = 0
WRITING = OpenFlags.CREATE | OpenFlags.TRUNCATE


@dataclass(eq=False)
class Holder:
    """One mount.

    Attributes:
        tell: tells it which nodes change, and which names of which directories; returns when it has let go of them.
        hang_up: ends its connection.
        heard_s: when it last said that it is alive.
        there: it is connected.
    """

    number: int
    tell: Broken
    hang_up: Callable[[], Awaitable[None]]
    heard_s: float
    there: bool = True


class LeaseHub:
    """All mounts of a server, and what they were promised."""

    def __init__(self) -> None:
        self.leases = Leases()
        self._holders: dict[int, Holder] = {}
        self._numbers = NOBODY

    def join(self, tell: Broken, hang_up: Callable[[], Awaitable[None]]) -> Holder:
        """Let a mount have leases."""
        self._sweep()
        self._numbers += 1
        holder = Holder(self._numbers, tell, hang_up, trio.current_time())
        self._holders[holder.number] = holder
        self.leases.join(holder.number)
        return holder

    def heard(self, holder: Holder) -> None:
        """A mount has said that it is alive."""
        holder.heard_s = trio.current_time()

    def lost(self, holder: Holder) -> None:
        """The connection to a mount is gone: it may trust its copies for a while."""
        holder.there = False

    def leave(self, holder: Holder) -> None:
        """A mount has said that it uses no copies any more."""
        self.leases.leave(holder.number)
        self._holders.pop(holder.number, None)

    @asynccontextmanager
    async def change(self, by: int, nodes: Collection[int], names: Collection[Name] = ()) -> AsyncIterator[None]:
        """Hold all copies of `nodes` but those of `by` back while the block changes them.

        Args:
            names: the names that change in those of the nodes that are directories.
        """
        taken = self.leases.begin(by, nodes)
        try:
            if taken:
                await self._tell(taken, names)
            yield
        finally:
            self.leases.end(nodes)

    async def changed_outside(self, nodes: Collection[int], names: Collection[Name]) -> None:
        """Tell everybody of what was changed behind the service's back."""
        async with self.change(NOBODY, nodes, names):
            pass

    async def all_changed_outside(self) -> None:
        """Tell everybody that anything may have changed behind the service's back."""
        self.leases.begin_anything(NOBODY)
        try:
            for holder in list(self._holders.values()):
                self.leases.leave(holder.number)
                self.leases.join(holder.number)
                await holder.hang_up()
        finally:
            self.leases.end_anything(NOBODY)

    async def _tell(self, taken: dict[int, set[int]], names: Collection[Name]) -> None:
        async with trio.open_nursery() as nursery:
            for number, nodes in taken.items():
                holder = self._holders[number]
                nursery.start_soon(self._tell_one, holder, nodes, [each for each in names if each[0] in nodes])

    async def _tell_one(self, holder: Holder, nodes: set[int], names: Collection[Name]) -> None:
        if holder.there:
            with trio.move_on_after(LEASE_S):
                try:
                    await holder.tell(nodes, names)
                    return
                except PfsError as error:  # whatever it says, it has not let go
                    log.warning("a mount is cut off, it does not give its leases back: %s", error)
        self.leases.leave(holder.number)
        await holder.hang_up()
        await trio.sleep_until(holder.heard_s + LEASE_S)

    def _sweep(self) -> None:
        now_s = trio.current_time()
        for holder in list(self._holders.values()):
            if not holder.there and holder.heard_s + LEASE_S <= now_s:
                self.leave(holder)


class LeasedFileSystem:
    """`pfs.api.FileSystem` for one mount, or for somebody who keeps no copies (`holder` None)."""

    def __init__(self, inner: FileSystem, hub: LeaseHub, holder: Holder | None) -> None:
        self._inner = inner
        self._hub = hub
        self._by = holder.number if holder else NOBODY

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        since = self._hub.leases.now
        return self._granted(await self._inner.getattr(path), since)

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory; the names are leased with the directory itself, which is not asked for here."""
        since = self._hub.leases.now
        entries = await self._inner.listdir(path)
        nodes = {entry.attr.node_id for entry in entries if entry.attr.leased}
        granted = self._hub.leases.grant(self._by, nodes, since)
        refused = nodes - granted
        if not refused:
            return entries
        return [Entry(each.name, _unleased(each.attr)) if each.attr.node_id in refused else each for each in entries]

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        """Return small files of one directory, whole."""
        since = self._hub.leases.now
        found = await self._inner.contents(path, names, size_max)
        return [replace(each, attr=self._granted(each.attr, since)) for each in found]

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

    async def link(self, source: str, target: str) -> Attr:
        """Give a node a second name."""
        async with self._change([target], [source]):
            return await self._inner.link(source, target)

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory's."""
        async with self._change([path]):
            await self._inner.unlink(path)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        async with self._change([path]):
            await self._inner.rmdir(path)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Move a name."""
        async with self._change([source, target]):
            await self._inner.rename(source, target, mode)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change attributes."""
        async with self._change([], [path]):
            return _unleased(await self._inner.setattr(path, changes))

    async def getxattr(self, path: str, name: str) -> bytes:
        """Return an extended attribute."""
        return await self._inner.getxattr(path, name)

    async def listxattr(self, path: str) -> Sequence[str]:
        """Return the names of the extended attributes."""
        return await self._inner.listxattr(path)

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        """Set an extended attribute; its node's ctime changes."""
        async with self._change([], [path]):
            await self._inner.setxattr(path, name, value, mode)

    async def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        async with self._change([], [path]):
            await self._inner.removexattr(path, name)

    async def statfs(self, path: str) -> Space:
        """Tell the room."""
        return await self._inner.statfs(path)

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        """Open, or with CREATE make, a file."""
        if not flags & WRITING:
            since = self._hub.leases.now
            return self._opened(await self._inner.open(path, flags, mode, owner), since)
        async with self._change([path] if OpenFlags.CREATE in flags else [], [path]):
            since = self._hub.leases.now
            return self._opened(await self._inner.open(path, flags, mode, owner), since)

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
        return file if attr.volatile else LeasedFile(file, attr, self._hub, self._by)

    async def _made(self, path: str, make: Callable[[], Awaitable[Attr]]) -> Attr:
        async with self._change([path]):
            since = self._hub.leases.now
            return self._granted(await make(), since)

    @asynccontextmanager
    async def _change(self, names: Sequence[str], nodes: Sequence[str] = ()) -> AsyncIterator[None]:
        """Hold back copies of what changes: the paths in `names`, with their directories, and those in `nodes`."""
        leases = self._hub.leases
        if not leases.others(self._by):  # then it need not be known which nodes these are
            leases.begin_anything(self._by)
            try:
                yield
            finally:
                leases.end_anything(self._by)
            return
        changed, changed_names = set(), []
        for path in names:
            parent, name = parent_and_name(path)
            if (directory := await self._node(parent)) is not None:
                changed.add(directory)
                changed_names.append((directory, name))
        for path in (*names, *nodes):
            if (node := await self._node(path)) is not None:
                changed.add(node)
        async with self._hub.change(self._by, changed, changed_names):
            yield

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

    async def put(self, path: str, data: bytes, key: str | None) -> str | None:
        """Give a whole file to a directory of the server; such directories are not leased."""
        return await self._tree.put(path, data, key)

    async def in_domain(self, path: str) -> bool:
        """Tell whether `path` lies in a data domain."""
        return await self._tree.in_domain(path)

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

    async def setattr(self, changes: Changes) -> Attr:
        """Change attributes of what is open."""
        async with self._hub.change(self._by, (self.attr.node_id,)):
            return _unleased(await self.inner.setattr(changes))

    async def getattr(self) -> Attr:
        """Tell what is open."""
        leases, since = self._hub.leases, self._hub.leases.now
        attr = await self.inner.getattr()
        return attr if leases.grant(self._by, (attr.node_id,), since) else _unleased(attr)

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
