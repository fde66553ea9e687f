"""Directories that programs read: what they are told, entry by entry.

A listing tells the kernel all attributes, so that it asks for none of them afterwards. What was told before and has not
changed is told again as it is: then an entry costs about a microsecond. The copy that a program reads may be older than
what the kernel was told meanwhile by other ways: such an entry is told as one that the kernel must ask for.

What holds for a while only has held for a part of that when it is told. How long that is counts in steps, so that also
of this the same can be told again.
"""

import math
from collections.abc import Callable, Sequence

import trio

from fuseclient.kernel.handles import DOT_OFFSETS, DirectoryHandle
from fuseclient.kernel.inodes import Node
from fuseclient.kernel.tree import Tree
from pfs.api import Attr, Entry, NodeType
from pfs.errors import Kind, PfsError

AGE_STEP_S = 0.25
LISTED_AT_ONCE = 256  # more than fit into one answer to the kernel
_DOT = Attr(NodeType.DIRECTORY, 0, 0o755)

Reply = Callable[[str, Node, int], bool]


class Listings:
    """The directories that are being read in a mount."""

    def __init__(self, tree: Tree) -> None:
        self._tree = tree

    def open(self, number: int) -> int:
        """Open a directory; it is first read when it is first listed."""
        self._tree.inodes.opened(number)
        return self._tree.handles.add_directory(number).fh

    def close(self, fh: int) -> None:
        """Close a directory."""
        self._tree.inodes.closed(self._tree.handles.pop_directory(fh).number)

    def read_at_once(self, fh: int, offset: int, reply: Reply) -> bool:
        """Tell as `read` does; False when something has to be asked, and nothing was told."""
        handle = self._tree.handles.directory(fh)
        if offset == 0 or handle.taken_s is None:
            inode = self._tree.inodes.get(handle.number)
            prompt, path = self._tree.prompt.get(inode.datacenter), self._tree.inodes.path(inode)
            if prompt is None or path is None:
                return False
            entries = prompt.listing_at_once(path)
            if entries is None:
                return False
            self._fill(handle, entries, self._tree.inodes.changes, self._tree.inodes.breaks)
        if handle.doubtful:
            return False
        self._tell_certain(handle, offset, reply)
        return True

    async def read(self, fh: int, offset: int, reply: Reply) -> None:
        """Tell the entries after `offset`, until `reply` takes no more.

        Args:
            reply: is given a name, what it leads to, and its offset; what it takes the kernel counts as a lookup.

        Raises:
            PfsError: NOT_FOUND when the directory is gone: programs take that for its end.
        """
        handle = self._tree.handles.directory(fh)
        if offset == 0 or handle.taken_s is None:
            changes, breaks = self._tree.inodes.changes, self._tree.inodes.breaks
            self._fill(handle, await self._list(handle.number), changes, breaks)
        if not handle.doubtful:
            self._tell_certain(handle, offset, reply)
            return
        if not self._tell_dots(handle.number, offset, reply):
            return
        entries = handle.after(max(offset, DOT_OFFSETS), LISTED_AT_ONCE)
        while entries and not await self._tell_doubtful(handle, entries, reply):
            entries = handle.after(entries[-1][0], LISTED_AT_ONCE)

    def _fill(self, handle: DirectoryHandle, entries: Sequence[Entry], changes: int, breaks: int) -> None:
        handle.fill(entries, now_s=trio.current_time(), changes=changes, breaks=breaks)

    def _tell_certain(self, handle: DirectoryHandle, offset: int, reply: Reply) -> None:
        """Tell the entries of a directory of which no name has changed."""
        if not self._tell_dots(handle.number, offset, reply):
            return
        inodes, age_s = self._tree.inodes, _age_s(handle)
        children, fresh = inodes.get(handle.number).children, handle.breaks == inodes.breaks
        for each, entry in handle.after(max(offset, DOT_OFFSETS), LISTED_AT_ONCE):
            inode, attr = children.get(entry.name), entry.attr
            told = None if inode is None or inode.changed > handle.changes else inode.told
            if fresh and inode is not None and told is not None and told.attr is attr:
                inode.lookups += 1
                if not reply(entry.name, told if attr.leased else told.for_s(max(0.0, attr.valid_s - age_s)), each):
                    inode.lookups -= 1
                    return
            elif not self._tell(handle, each, entry, reply):
                return

    async def _tell_doubtful(self, handle: DirectoryHandle, entries: list[tuple[int, Entry]], reply: Reply) -> bool:
        """Tell these entries as far as `reply` takes them; return False when none of them stands any more."""
        told = False
        for offset, entry in entries:
            known = await self._up_to_date(handle, entry)
            if known is not None:
                told = True
                if not self._tell(handle, offset, known, reply):
                    break
        return told

    def _tell(self, handle: DirectoryHandle, offset: int, entry: Entry, reply: Reply) -> bool:
        node = self._listed(handle, entry)
        taken = reply(entry.name, node, offset)
        if not taken:
            self._tree.inodes.forget(node.number, 1)
        return taken

    def _tell_dots(self, number: int, offset: int, reply: Reply) -> bool:
        if offset >= DOT_OFFSETS:
            return True
        inodes = self._tree.inodes
        inode = inodes.get(number)
        above = inodes.get(next(reversed(inode.names))[0]) if inode.names else inode
        for each, (name, found) in enumerate(((".", inode), ("..", above)), start=1):
            if each > offset and not reply(name, found.told or Node(found.number, 0, _DOT), each):
                return False
        return True

    async def _list(self, number: int) -> Sequence[Entry]:
        tree = self._tree
        if number == tree.top:
            nodes = [(name, tree.inodes.child(number, name)) for name in tree.filesystems]
            return [Entry(name, tree.fixed(inode).attr) for name, inode in nodes if inode is not None]
        try:
            return await tree.ask(number, lambda place: place.filesystem.listdir(place.path))
        except PfsError as error:
            if error.kind is Kind.STALE:
                raise PfsError(Kind.NOT_FOUND, "the directory is gone", error.path) from None
            raise

    async def _up_to_date(self, handle: DirectoryHandle, entry: Entry) -> Entry | None:
        if entry.name not in handle.doubtful:
            return entry
        try:
            place = self._tree.below(handle.number, entry.name)
            return Entry(entry.name, await place.filesystem.getattr(place.path))
        except PfsError as error:
            if error.kind in (Kind.NOT_FOUND, Kind.STALE):
                return None
            raise

    def _listed(self, handle: DirectoryHandle, entry: Entry) -> Node:
        """Note that the kernel is being told of an entry, for as long as the copy can vouch for it."""
        attr, tree = entry.attr, self._tree
        if handle.number == tree.top:
            return Node(attr.node_id, 0, attr)
        node = tree.enter(handle.number, entry.name, attr)
        inode = tree.inodes.get(node.number)
        if entry.target is not None:
            inode.target = entry.target
        doubted = handle.breaks != tree.inodes.breaks or inode.changed > handle.changes
        if attr.leased and not doubted:
            return node
        return node.for_s(0.0 if doubted else max(0.0, attr.valid_s - _age_s(handle)))


def _age_s(handle: DirectoryHandle) -> float:
    """Return how old a copy of a directory is, and not less."""
    return math.ceil((trio.current_time() - (handle.taken_s or 0.0)) / AGE_STEP_S) * AGE_STEP_S
