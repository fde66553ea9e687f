"""What the kernel asks of a file system, answered from the datacenters' file systems.

Names, attributes and directories are here, open files in `fuseclient.files`, owners in `fuseclient.identity`.
Numbers are the kernel's, names are text, errors are `PfsError`.

Of extended attributes only those of users (`user.`) reach a server. The kernel asks for one of its own before every
single write, and programs that list files ask for several of each: those are answered here, at once.
"""

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import trio

from fuseclient.files import Files, Opened
from fuseclient.handles import DOT_OFFSETS, DirectoryHandle
from fuseclient.held import HeldReads
from fuseclient.identity import Identity
from fuseclient.inodes import ROOT
from fuseclient.tree import Node, Place, Tree
from pfs.api import Attr, Changes, Entry, FileSystem, NodeType, Owner, RenameMode, Space, XattrMode
from pfs.errors import Kind, PfsError

LISTED_AT_ONCE = 256  # more than fit into one answer to the kernel
STATFS_DEADLINE_S = 5.0
_RENAME_MODES = {0: RenameMode.REPLACE, 1: RenameMode.NO_REPLACE, 2: RenameMode.EXCHANGE}  # renameat2(2)
_USER_XATTRS = "user."
_CAPABILITY_XATTR = "security.capability"

Reply = Callable[[str, Node, int], bool]
T = TypeVar("T")


class Ops:
    """The operations of a mount.

    Args:
        filesystems: what to show, by the name of the datacenter.
        identity: how it treats owners.
    """

    def __init__(self, filesystems: Mapping[str, FileSystem], identity: Identity) -> None:
        self.tree = Tree(filesystems, time.time_ns(), identity.mounter)
        self.held = HeldReads()
        self.files = Files(self.tree, self.held)
        self.identity = identity

    async def lookup(self, parent: int, name: str) -> Node:
        """Return what the name leads to; the kernel counts it."""
        if parent == ROOT:
            inode = self.tree.inodes.child(ROOT, name)
            if inode is None:
                raise PfsError(Kind.NOT_FOUND, "no such datacenter", name)
            return self.tree.fixed(inode)
        attr = await self.tree.ask_below(parent, name, lambda place: place.filesystem.getattr(place.path))
        return self.tree.enter(parent, name, attr)

    def forget(self, counts: Iterable[tuple[int, int]]) -> None:
        """The kernel has let go of so many lookups of these inodes."""
        for number, count in counts:
            self.tree.inodes.forget(number, count)

    async def getattr(self, number: int) -> Node:
        """Return the attributes of an inode, also when it is open and has no name any more."""
        inode = self.tree.inodes.get(number)
        if inode.fixed:
            return self.tree.fixed(inode)
        for handle in self.tree.handles.files_of(number):
            try:
                return self.tree.tell(inode, await self.files.call(handle, lambda file: file.getattr()))
            except PfsError as error:
                if error.kind not in (Kind.STALE, Kind.BAD_HANDLE):
                    raise
        return self.tree.tell(inode, await self._of(number, lambda place: place.filesystem.getattr(place.path)))

    async def setattr(self, number: int, asked: Changes, fh: int | None = None) -> Node:
        """Change attributes, also when the inode is open and has no name any more.

        Args:
            asked: what shall be changed; of owners only what the mount's identity lets through.
            fh: the open file through which it is asked, if any.
        """
        inode, changes = self.tree.inodes.get(number), self.identity.changes(asked)
        if changes == Changes():
            return await self.getattr(number)
        if inode.fixed:
            raise PfsError(Kind.FORBIDDEN, "the root of a datacenter cannot be changed")
        self.tree.inodes.touch(number)
        attr = await self.files.setattr(number, changes, fh)
        if attr is None:
            attr = await self._of(number, lambda place: place.filesystem.setattr(place.path, changes))
        self.tree.inodes.touch(number)  # an answer of meanwhile may be from before the change
        return self.tree.tell(inode, attr)

    async def readlink(self, number: int) -> str:
        """Return the target of a symlink."""
        return await self._of(number, lambda place: place.filesystem.readlink(place.path))

    async def mkdir(self, parent: int, name: str, mode: int, maker: Owner) -> Node:
        """Make a directory; `maker` is the process that asks."""
        mode, owner = await self._new(parent, name, NodeType.DIRECTORY, mode, maker)
        return await self._make(parent, name, lambda place: place.filesystem.mkdir(place.path, mode, owner))

    async def symlink(self, parent: int, name: str, target: str, maker: Owner) -> Node:
        """Make a symlink."""
        _, owner = await self._new(parent, name, NodeType.SYMLINK, 0, maker)
        return await self._make(parent, name, lambda place: place.filesystem.symlink(place.path, target, owner))

    async def mknod(self, parent: int, name: str, type_: NodeType | None, mode: int, maker: Owner) -> Node:
        """Make a file, FIFO or socket.

        Args:
            type_: None for what cannot be here: devices.
        """
        if type_ is None:
            raise PfsError(Kind.FORBIDDEN, "devices cannot stand here", self.tree.below(parent, name).path)
        mode, owner = await self._new(parent, name, type_, mode, maker)
        return await self._make(parent, name, lambda place: place.filesystem.mknod(place.path, type_, mode, owner))

    async def open(self, number: int, os_flags: int, opener: int, by: Owner) -> Opened:
        """Open a file; see `Files.open`."""
        opened = await self.files.open(number, os_flags, opener)
        mode = self.tree.handles.file(opened.fh).attr.mode
        left = self.identity.emptied(by, mode) if os_flags & os.O_TRUNC else mode
        if left == mode:
            return opened
        try:
            await self.files.setattr(number, Changes(mode=left), opened.fh)
        except BaseException:
            await self.files.release(opened.fh)
            raise
        return replace(opened, outdated=True)

    async def create(
        self, parent: int, name: str, mode: int, os_flags: int, opener: int, *, maker: Owner
    ) -> tuple[Opened, Node]:
        """Open a file that may have to be made first; see `Files.open`."""
        mode, owner = await self._new(parent, name, NodeType.FILE, mode, maker)
        return await self.files.create(parent, name, mode, os_flags, opener, owner=owner)

    async def link(self, number: int, new_parent: int, new_name: str) -> Node:
        """Give what has this number a second name.

        Raises:
            PfsError: CROSS_DOMAIN between datacenters, FORBIDDEN for their roots.
        """
        inode, target = self.tree.inodes.get(number), self.tree.below(new_parent, new_name)
        if inode.fixed:
            raise PfsError(Kind.FORBIDDEN, "a directory has one name", target.path)
        if inode.datacenter != target.datacenter:
            raise PfsError(Kind.CROSS_DOMAIN, "another datacenter: copy instead", target.path)

        async def link(place: Place) -> Attr:
            attr = await place.filesystem.link(place.path, target.path)
            if attr.node_id != inode.node_id:  # another client has put something else there
                await target.filesystem.unlink(target.path)
            return attr

        attr = await self._of(number, link)
        self.tree.inodes.touch(number)  # all its names tell of one more
        return self._made(new_parent, new_name, attr)

    async def unlink(self, parent: int, name: str) -> None:
        """Remove a name that is no directory's."""
        await self.tree.ask_below(parent, name, lambda place: place.filesystem.unlink(place.path))
        self._gone(parent, name)

    async def rmdir(self, parent: int, name: str) -> None:
        """Remove an empty directory."""
        await self.tree.ask_below(parent, name, lambda place: place.filesystem.rmdir(place.path))
        self._gone(parent, name)

    async def rename(self, parent: int, name: str, new_parent: int, new_name: str, flags: int) -> None:
        """Move a name.

        Args:
            flags: as renameat2(2) has them.

        Raises:
            PfsError: CROSS_DOMAIN between datacenters, INVALID for unknown flags.
        """
        source, target = self.tree.below(parent, name), self.tree.below(new_parent, new_name)
        mode = _RENAME_MODES.get(flags)
        if mode is None:
            raise PfsError(Kind.INVALID, "this way of renaming is not known", source.path)
        if source.datacenter != target.datacenter:
            raise PfsError(Kind.CROSS_DOMAIN, "another datacenter: copy instead", target.path)
        await source.filesystem.rename(source.path, target.path, mode)
        inodes = self.tree.inodes
        change = inodes.exchange if mode is RenameMode.EXCHANGE else inodes.rename
        for directory, each in ((parent, name), (new_parent, new_name)):
            if (inode := inodes.child(directory, each)) is not None:
                inodes.touch(inode.number)
        change(parent, name, new_parent, new_name)
        self._changed(parent, name)
        self._changed(new_parent, new_name)

    async def getxattr(self, number: int, name: str) -> bytes:
        """Return an extended attribute."""
        self._check_xattr(name)
        if self.tree.inodes.get(number).fixed:
            raise PfsError(Kind.NO_DATA, "it has no extended attributes")
        return await self._of(number, lambda place: place.filesystem.getxattr(place.path, name))

    async def listxattr(self, number: int) -> list[str]:
        """Return the names of the extended attributes."""
        if self.tree.inodes.get(number).fixed:
            return []
        return list(await self._of(number, lambda place: place.filesystem.listxattr(place.path)))

    async def setxattr(self, number: int, name: str, value: bytes) -> None:
        """Set an extended attribute, whether it is there or not: the kernel's flags are seen to by pyfuse3."""
        self._check_xattr(name, to_change=number)
        either = XattrMode.EITHER
        await self._of(number, lambda place: place.filesystem.setxattr(place.path, name, value, either))
        self.tree.inodes.touch(number)

    async def removexattr(self, number: int, name: str) -> None:
        """Remove an extended attribute."""
        self._check_xattr(name, to_change=number)
        await self._of(number, lambda place: place.filesystem.removexattr(place.path, name))
        self.tree.inodes.touch(number)

    def _check_xattr(self, name: str, to_change: int | None = None) -> None:
        if to_change is None and name == _CAPABILITY_XATTR:
            raise PfsError(Kind.NO_DATA, "no program here has capabilities of its own")
        if not name.startswith(_USER_XATTRS):
            raise PfsError(Kind.UNSUPPORTED, f"only extended attributes of users ({_USER_XATTRS}*) are kept here")
        if to_change is not None and self.tree.inodes.get(to_change).fixed:
            raise PfsError(Kind.FORBIDDEN, "the root of a datacenter cannot be changed")

    async def statfs(self) -> Space:
        """Return the room in all datacenters that answer; the kernel does not say which one it means."""
        rooms: list[Space] = []
        errors: list[PfsError] = []

        async def ask(filesystem: FileSystem) -> None:
            try:
                rooms.append(await filesystem.statfs(""))
            except PfsError as error:
                errors.append(error)

        with trio.move_on_after(STATFS_DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for filesystem in self.tree.filesystems.values():
                    nursery.start_soon(ask, filesystem)
        if not rooms:
            raise errors[0] if errors else PfsError(Kind.TIMED_OUT, "no datacenter answers")
        return Space(
            sum(room.bytes_total for room in rooms),
            sum(room.bytes_free for room in rooms),
            sum(room.files_total for room in rooms),
            sum(room.files_free for room in rooms),
        )

    def opendir(self, number: int) -> int:
        """Open a directory; it is first read when it is first listed."""
        self.tree.inodes.opened(number)
        return self.tree.handles.add_directory(number).fh

    def releasedir(self, fh: int) -> None:
        """Close a directory."""
        self.tree.inodes.closed(self.tree.handles.pop_directory(fh).number)

    async def readdir(self, fh: int, offset: int, reply: Reply) -> None:
        """Tell the entries after `offset`, until `reply` takes no more.

        Args:
            reply: is given a name, what it leads to, and its offset; what it takes the kernel counts as a lookup.

        Raises:
            PfsError: NOT_FOUND when the directory is gone: programs take that for its end.
        """
        handle = self.tree.handles.directory(fh)
        if offset == 0 or handle.taken_s is None:
            changes = self.tree.inodes.changes
            handle.fill(await self._list(handle.number), now_s=trio.current_time(), changes=changes)
        for each, (name, node) in enumerate(self._dots(handle.number), start=1):
            if each > offset and not reply(name, node, each):
                return
        entries = handle.after(max(offset, DOT_OFFSETS), LISTED_AT_ONCE)
        while entries and not await self._tell(handle, entries, reply):
            entries = handle.after(entries[-1][0], LISTED_AT_ONCE)

    async def _tell(self, handle: DirectoryHandle, entries: list[tuple[int, Entry]], reply: Reply) -> bool:
        """Tell these entries as far as `reply` takes them; return False when none of them stands any more."""
        told = False
        for offset, entry in entries:
            known = await self._up_to_date(handle, entry)
            if known is not None:
                told = True
                node = self._listed(handle, known)
                if not reply(entry.name, node, offset):
                    self.tree.inodes.forget(node.number, 1)
                    break
        return told

    async def _list(self, number: int) -> list[Entry]:
        if number == ROOT:
            nodes = [(name, self.tree.inodes.child(ROOT, name)) for name in self.tree.filesystems]
            return [Entry(name, self.tree.fixed(inode).attr) for name, inode in nodes if inode is not None]
        try:
            return list(await self._of(number, lambda place: place.filesystem.listdir(place.path)))
        except PfsError as error:
            if error.kind is Kind.STALE:
                raise PfsError(Kind.NOT_FOUND, "the directory is gone", error.path) from None
            raise

    async def _up_to_date(self, handle: DirectoryHandle, entry: Entry) -> Entry | None:
        if entry.name not in handle.doubtful:
            return entry
        place = self.tree.below(handle.number, entry.name)
        try:
            return Entry(entry.name, await place.filesystem.getattr(place.path))
        except PfsError as error:
            if error.kind is Kind.NOT_FOUND:
                return None
            raise

    def _listed(self, handle: DirectoryHandle, entry: Entry) -> Node:
        if handle.number == ROOT:
            return Node(entry.attr.node_id, 0, entry.attr)
        age_s = trio.current_time() - (handle.taken_s or 0.0)
        node = self.tree.enter(handle.number, entry.name, entry.attr)
        if self.tree.inodes.get(node.number).changed > handle.changes:
            age_s = entry.attr.valid_s  # written to since the copy was taken: the kernel must ask
        return replace(node, attr=replace(entry.attr, valid_s=max(0.0, entry.attr.valid_s - age_s)))

    def _dots(self, number: int) -> list[tuple[str, Node]]:
        inode = self.tree.inodes.get(number)
        parent = next(reversed(inode.names))[0] if inode.names else number
        attr = Attr(NodeType.DIRECTORY, 0, 0o755)
        return [(".", Node(number, 0, attr)), ("..", Node(parent, 0, attr))]

    async def _of(self, number: int, ask: Callable[[Place], Awaitable[T]]) -> T:
        """Ask at the places of an inode, the newest first, until its node stands there.

        The kernel does not say by which of several names a program came. What another client has put at one of the
        others must not be changed in its stead: so there it is looked at first.
        """
        inode, lost = self.tree.inodes.get(number), PfsError(Kind.STALE, "this name leads to something else by now")
        places = self.tree.places(number)
        for place in places:
            try:
                if len(places) > 1 and (await place.filesystem.getattr(place.path)).node_id != inode.node_id:
                    continue
                answer = await ask(place)
            except PfsError as error:
                if error.kind is not Kind.NOT_FOUND:
                    raise
                continue
            if not isinstance(answer, Attr) or answer.node_id == inode.node_id:
                return answer
        raise lost

    async def _new(self, parent: int, name: str, type_: NodeType, mode: int, maker: Owner) -> tuple[int, Owner | None]:
        """Return mode and owner of what is to be made in a directory."""
        self.tree.below(parent, name)  # raises what speaks against the name before anybody is asked
        directory = (await self.getattr(parent)).attr if self.identity.numeric else None
        return self.identity.made(maker, type_, mode, directory)

    async def _make(self, parent: int, name: str, make: Callable[[Place], Awaitable[Attr]]) -> Node:
        return self._made(parent, name, await self.tree.ask_below(parent, name, make))

    def _made(self, parent: int, name: str, attr: Attr) -> Node:
        self._changed(parent, name)
        return self.tree.enter(parent, name, attr)

    def _gone(self, parent: int, name: str) -> None:
        if (inode := self.tree.inodes.child(parent, name)) is not None:
            self.tree.inodes.touch(inode.number)
        self.tree.inodes.unlink(parent, name)
        self._changed(parent, name)

    def _changed(self, parent: int, name: str) -> None:
        self.tree.inodes.touch(parent)
        self.tree.handles.doubt(parent, name)
