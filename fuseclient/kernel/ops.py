"""What the kernel asks of a file system, answered from the datacenters' file systems.

Names, attributes and directories are here, open files in `fuseclient.kernel.files`, owners in
`fuseclient.kernel.identity`. Numbers are the kernel's, names are text, errors are `PfsError`.

Of extended attributes only those of users (`user.`) reach a server. The kernel asks for one of its own before every
single write, and programs that list files ask for several of each: those are answered here, at once.
"""

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import trio

from fuseclient.kernel.files import Files, Opened
from fuseclient.kernel.held import HeldReads
from fuseclient.kernel.identity import Identity
from fuseclient.kernel.inodes import Base, Node
from fuseclient.kernel.listing import Listings, Reply
from fuseclient.kernel.polls import Polls
from fuseclient.kernel.tree import Place, Tree, xattr_at
from pfs.api import Attr, Changes, FileSystem, NodeType, Owner, RenameMode, Space, XattrCall, XattrMode, XattrVerb
from pfs.errors import Kind, PfsError

STATFS_DEADLINE_S = 5.0
_RENAME_MODES = {0: RenameMode.REPLACE, 1: RenameMode.NO_REPLACE, 2: RenameMode.EXCHANGE}  # renameat2(2)
_USER_XATTRS = "user."
_CAPABILITY_XATTR = "security.capability"

T = TypeVar("T")


class Ops:
    """The operations of a mount.

    Args:
        filesystems: what to show, by the name of the datacenter.
        identity: how it treats owners.
        base: a folder to show instead.
    """

    def __init__(self, filesystems: Mapping[str, FileSystem], identity: Identity, base: Base | None = None) -> None:
        self.tree = Tree(filesystems, time.time_ns(), identity.mounter, base)
        self.held = HeldReads()
        self.polls = Polls()
        self.files = Files(self.tree, self.held, self.polls)
        self.listings = Listings(self.tree)
        self.identity = identity
        self._removed: dict[int, Attr] = {}  # directories that were removed and may be some process's own

    async def lookup(self, parent: int, name: str) -> Node:
        """Return what the name leads to; the kernel counts it."""
        if parent == self.tree.top:
            inode = self.tree.inodes.child(parent, name)
            if inode is None:
                raise PfsError(Kind.NOT_FOUND, "no such datacenter", name)
            return self.tree.fixed(inode)
        attr = await self.tree.ask_below(parent, name, lambda place: place.filesystem.getattr(place.path))
        return self.tree.enter(parent, name, attr)

    def lookup_at_once(self, parent: int, name: str) -> Node | None:
        """Return what `lookup` does, if that is known."""
        directory = self.tree.inodes.get(parent)
        prompt, path = self.tree.prompt.get(directory.datacenter), self.tree.inodes.path(directory)
        if prompt is None or path is None:
            return None
        attr = prompt.attr_at_once(f"{path}/{name}" if path else name)
        return None if attr is None else self.tree.enter(parent, name, attr)

    def getattr_at_once(self, number: int) -> Node | None:
        """Return what `getattr` does, if that is known."""
        inode = self.tree.inodes.get(number)
        if inode.fixed:
            return self.tree.fixed(inode)
        prompt = self.tree.prompt.get(inode.datacenter)
        attr = None if prompt is None or inode.node_id is None else prompt.attr_of_at_once(inode.node_id)
        return None if attr is None else self.tree.tell(inode, attr)

    def forget(self, counts: Iterable[tuple[int, int]]) -> None:
        """The kernel has let go of so many lookups of these inodes."""
        for number, count in counts:
            self.tree.inodes.forget(number, count)
            if number in self._removed and number not in self.tree.inodes:
                del self._removed[number]

    async def getattr(self, number: int) -> Node:
        """Return the attributes of an inode, also when it is open and has no name any more."""
        inode = self.tree.inodes.get(number)
        if inode.fixed:
            return self.tree.fixed(inode)
        if number in self._removed and not inode.names:
            return self.tree.tell(inode, self._removed[number])
        for handle in self.tree.handles.files_of(number):
            try:
                return self.tree.tell(inode, await self.files.call(handle, lambda file: file.getattr()))
            except PfsError as error:
                if error.kind not in (Kind.STALE, Kind.BAD_HANDLE):
                    raise
        return self.tree.tell(inode, await self.tree.ask(number, lambda place: place.filesystem.getattr(place.path)))

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
            attr = await self.tree.ask(number, lambda place: place.filesystem.setattr(place.path, changes))
        self.tree.inodes.touch(number)  # an answer of meanwhile may be from before the change
        return self.tree.tell(inode, attr)

    def readlink_at_once(self, number: int) -> str | None:
        """Return what `readlink` does, if that is known."""
        return self.tree.inodes.get(number).target

    async def readlink(self, number: int) -> str:
        """Return the target of a symlink."""
        return await self.tree.ask(number, lambda place: place.filesystem.readlink(place.path))

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

    def create_at_once(
        self, parent: int, name: str, mode: int, os_flags: int, opener: int
    ) -> tuple[Opened, Node] | None:
        """Do what `create` does, if nobody has to be asked for it."""
        if self.identity.numeric:
            return None  # whose it shall be depends on the directory
        return self.files.create_at_once(parent, name, self.identity.mode(mode), os_flags, opener)

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

        attr = await self.tree.ask(number, link)
        self.tree.inodes.touch(number)  # all its names tell of one more
        return self._made(new_parent, new_name, attr)

    async def unlink(self, parent: int, name: str) -> None:
        """Remove a name that is no directory's.

        The room of a file that was closed before is free when this returns, as on a local disk.
        """
        inode = self.tree.inodes.child(parent, name)
        if inode is not None:
            await self.files.left(inode.number)
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

    def getxattr_at_once(self, name: str) -> None:
        """Refuse what the kernel asks for before the first write to each file.

        Raises:
            PfsError: NO_DATA.
        """
        if name == _CAPABILITY_XATTR:
            raise PfsError(Kind.NO_DATA, "no program here has capabilities of its own")

    async def getxattr(self, number: int, name: str) -> bytes:
        """Return an extended attribute."""
        self.getxattr_at_once(name)
        self._check_xattr(name)
        if self.tree.inodes.get(number).fixed:
            raise PfsError(Kind.NO_DATA, "it has no extended attributes")
        return await self._xattr(number, XattrCall(XattrVerb.GET, name))

    async def listxattr(self, number: int) -> list[str]:
        """Return the names of the extended attributes."""
        if self.tree.inodes.get(number).fixed:
            return []
        names = await self._xattr(number, XattrCall(XattrVerb.LIST))
        return [os.fsdecode(name) for name in names.split(b"\0")[:-1]]

    async def setxattr(self, number: int, name: str, value: bytes, mode: XattrMode = XattrMode.EITHER) -> None:
        """Set an extended attribute."""
        self._check_xattr(name, to_change=number)
        await self._xattr(number, XattrCall(XattrVerb.SET, name, value, mode))
        self.tree.inodes.touch(number)

    async def removexattr(self, number: int, name: str) -> None:
        """Remove an extended attribute."""
        self._check_xattr(name, to_change=number)
        await self._xattr(number, XattrCall(XattrVerb.REMOVE, name))
        self.tree.inodes.touch(number)

    async def _xattr(self, number: int, call: XattrCall) -> bytes:
        """Ask by a name of the inode, or where it has none any more, through an open file."""
        try:
            return await self.tree.ask(number, lambda place: xattr_at(place, call))
        except PfsError as error:
            if error.kind is not Kind.STALE:
                raise
        return await self.files.xattr(number, call)

    def _check_xattr(self, name: str, to_change: int | None = None) -> None:
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

    async def fsyncdir(self, fh: int) -> None:
        """The names in a directory are on the server's disk when this returns; of one that is gone there are none."""
        number = self.tree.handles.directory(fh).number
        if number == self.tree.top:
            return
        try:
            await self.tree.ask(number, lambda place: place.filesystem.fsyncdir(place.path))
        except PfsError as error:
            if error.kind is not Kind.STALE:
                raise

    def opendir(self, number: int) -> int:
        """Open a directory; see `Listings`."""
        return self.listings.open(number)

    def releasedir(self, fh: int) -> None:
        """Close a directory."""
        self.listings.close(fh)

    async def readdir(self, fh: int, offset: int, reply: Reply) -> None:
        """Tell the entries of a directory; see `Listings.read`."""
        await self.listings.read(fh, offset, reply)

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
        inode = self.tree.inodes.child(parent, name)
        told = None if inode is None else inode.told
        if inode is not None:
            self.tree.inodes.touch(inode.number)
        self.tree.inodes.unlink(parent, name)
        if inode is not None and inode.directory and told is not None and inode.number in self.tree.inodes:
            self._removed[inode.number] = replace(told.attr, nlink=0, valid_s=0.0)
        self._changed(parent, name)

    def _changed(self, parent: int, name: str) -> None:
        self.tree.inodes.touch(parent)
        self.tree.handles.doubt(parent, name)
