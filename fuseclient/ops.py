"""What the kernel asks of a file system, answered from the datacenters' file systems.

Names, attributes and directories are here, open files in `fuseclient.files`. Numbers are the kernel's, names are
text, errors are `PfsError`. The mount is squashed: whatever it shows belongs to the user who mounted it, so the
only owner that can be given to a file is that user.
"""

import os
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

import trio

from fuseclient.files import Files, stale_if_gone
from fuseclient.handles import DOT_OFFSETS, DirectoryHandle
from fuseclient.held import HeldReads
from fuseclient.inodes import ROOT
from fuseclient.tree import Node, Place, Tree
from pfs.api import Attr, Changes, Entry, FileSystem, NodeType, RenameMode, Space
from pfs.errors import Kind, PfsError

LISTED_AT_ONCE = 256  # more than fit into one answer to the kernel
STATFS_DEADLINE_S = 5.0
_RENAME_MODES = {0: RenameMode.REPLACE, 1: RenameMode.NO_REPLACE, 2: RenameMode.EXCHANGE}  # renameat2(2)
_MADE = os.O_CREAT | os.O_EXCL | os.O_WRONLY

Reply = Callable[[str, Node, int], bool]
T = TypeVar("T")


class Ops:
    """The operations of a mount.

    Args:
        filesystems: what to show, by the name of the datacenter.
        uid, gid: the user who mounts, in numbers.
    """

    def __init__(self, filesystems: Mapping[str, FileSystem], *, uid: int, gid: int) -> None:
        self.tree = Tree(filesystems, time.time_ns())
        self.held = HeldReads()
        self.files = Files(self.tree, self.held)
        self.uid, self.gid = uid, gid

    async def lookup(self, parent: int, name: str) -> Node:
        """Return what the name leads to; the kernel counts it."""
        if parent == ROOT:
            inode = self.tree.inodes.child(ROOT, name)
            if inode is None:
                raise PfsError(Kind.NOT_FOUND, "no such datacenter", name)
            return self.tree.fixed(inode)
        place = self.tree.below(parent, name)
        return self.tree.enter(parent, name, await place.filesystem.getattr(place.path))

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

    async def setattr(
        self, number: int, changes: Changes, *, uid: int | None = None, gid: int | None = None, fh: int | None = None
    ) -> Node:
        """Change attributes.

        Args:
            uid, gid: the owner asked for; only the mounting user is possible.
            fh: the open file through which it is asked, if any.
        """
        inode = self.tree.inodes.get(number)
        if uid not in (None, self.uid) or gid not in (None, self.gid):
            raise PfsError(Kind.FORBIDDEN, "everything here belongs to the user who mounted it")
        if changes == Changes():
            return await self.getattr(number)
        if inode.fixed:
            raise PfsError(Kind.FORBIDDEN, "the root of a datacenter cannot be changed")
        self.tree.inodes.touch(number)
        attr: Attr | None = None
        if changes.size is not None and fh is not None:
            attr = await self.files.truncate(fh, changes.size)
            changes = replace(changes, size=None)
        if changes != Changes():
            attr = await self._of(number, lambda place: place.filesystem.setattr(place.path, changes))
        self.tree.inodes.touch(number)
        return self.tree.tell(inode, attr) if attr is not None else await self.getattr(number)

    async def readlink(self, number: int) -> str:
        """Return the target of a symlink."""
        place = self.tree.place(number)
        return await _or_stale(place.filesystem.readlink(place.path))

    async def mkdir(self, parent: int, name: str, mode: int) -> Node:
        """Make a directory."""
        place = self.tree.below(parent, name)
        return self._made(parent, name, await place.filesystem.mkdir(place.path, mode))

    async def symlink(self, parent: int, name: str, target: str) -> Node:
        """Make a symlink."""
        place = self.tree.below(parent, name)
        return self._made(parent, name, await place.filesystem.symlink(place.path, target))

    async def mknod(self, parent: int, name: str, mode: int, *, regular: bool) -> Node:
        """Make an empty file; nothing else can be made so."""
        place = self.tree.below(parent, name)
        if not regular:
            raise PfsError(Kind.FORBIDDEN, "only files, directories and symlinks can stand here", place.path)
        opened, node = await self.files.create(parent, name, mode, _MADE, os.getpid())
        await self.files.release(opened.fh)
        return node

    async def unlink(self, parent: int, name: str) -> None:
        """Remove a name that is no directory's."""
        place = self.tree.below(parent, name)
        await place.filesystem.unlink(place.path)
        self._gone(parent, name)

    async def rmdir(self, parent: int, name: str) -> None:
        """Remove an empty directory."""
        place = self.tree.below(parent, name)
        await place.filesystem.rmdir(place.path)
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

    async def link(self, new_parent: int, new_name: str) -> Node:
        """Refuse a hard link."""
        raise PfsError(Kind.UNSUPPORTED, "there are no hard links here", self.tree.below(new_parent, new_name).path)

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
        """Ask at the places of an inode, the newest first, until its node stands there."""
        inode, lost = self.tree.inodes.get(number), PfsError(Kind.STALE, "this name leads to something else by now")
        for place in self.tree.places(number):
            try:
                answer = await ask(place)
            except PfsError as error:
                if error.kind is not Kind.NOT_FOUND:
                    raise
                continue
            if not isinstance(answer, Attr) or answer.node_id == inode.node_id:
                return answer
        raise lost

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


async def _or_stale(asked: Awaitable[T]) -> T:
    try:
        return await asked
    except PfsError as error:
        raise stale_if_gone(error) from None
