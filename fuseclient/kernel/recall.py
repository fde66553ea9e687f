"""What the server takes back is taken back from the kernel, too.

The kernel may answer for a leased node by itself as long as the mount says. So when a lease ends, it is told:
the attributes of the node hold no more, and at its next opening the pages that it keeps of it do not either. That
cannot wait for anything. Names cannot be taken from it so: that waits for whoever is working in the directory, who
may be waiting for us; it is done behind our backs, and meanwhile `open` and `stat` of such a name come to us, find
that it leads elsewhere, and are sent to look again (ESTALE).
"""

import logging
from collections.abc import Callable, Collection

from fuseclient.cache.filesystem import CachedFileSystem
from fuseclient.kernel.tree import Tree
from pfs.api import Name

log = logging.getLogger(__name__)

Forget = Callable[[int], None]
ForgetName = Callable[[int, str], None]


class Recall:
    """Ends leases of one datacenter in a mount.

    Args:
        forget: makes the kernel forget the attributes of an inode.
        forget_name: makes the kernel forget a name in a directory, some time.
    """

    def __init__(
        self, tree: Tree, datacenter: str, filesystem: CachedFileSystem, forget: Forget, forget_name: ForgetName
    ) -> None:
        self._tree = tree
        self._datacenter = datacenter
        self._filesystem = filesystem
        self._forget = forget
        self._forget_name = forget_name

    async def broken(self, nodes: Collection[int], names: Collection[Name]) -> None:
        """The server wants these leases back."""
        await self._filesystem.broken(nodes, names)
        inodes = self._tree.inodes
        for node_id in nodes:
            self._end(inodes.of_node(self._datacenter, node_id))
        for parent_id, name in names:
            parent = inodes.of_node(self._datacenter, parent_id)
            if parent is not None and inodes.get(parent).directory:  # a server may say so of anything
                child = inodes.child(parent, name)
                self._end(None if child is None else child.number)
                self._forget_name(parent, name)

    def adopted(self, former: int, node_id: int) -> None:
        """The server has made or changed what the kernel was told of before; it has a number of the server's now."""
        inodes = self._tree.inodes
        number = inodes.adopt(self._datacenter, former, node_id) if former != node_id else None
        self._end(inodes.of_node(self._datacenter, node_id) if number is None else number)

    def undone(self, parent_id: int, name: str) -> None:
        """A name does not lead to what the kernel was told."""
        parent = self._tree.inodes.of_node(self._datacenter, parent_id)
        if parent is not None:
            child = self._tree.inodes.child(parent, name)
            self._end(None if child is None else child.number)
            self._end(parent)
            self._forget_name(parent, name)

    def lapsed(self) -> None:
        """The server is not heard: what the kernel knows is asked of us from now on."""
        self._filesystem.lapsed()
        self._tree.inodes.broken(None)
        try:
            for number in self._tree.inodes.numbers(self._datacenter):
                self._forget(number)
        except OSError as error:  # the mount is being taken away
            log.warning("the kernel cannot be told that leases have ended: %s", error)

    def returned(self) -> None:
        """The server is heard again. What the kernel was told meanwhile holds for no time."""
        self._filesystem.returned()

    def _end(self, number: int | None) -> None:
        self._tree.inodes.broken(number)
        if number is not None:
            self._forget(number)
