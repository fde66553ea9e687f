"""What the server takes back is taken back from the kernel, too.

The kernel may answer for a leased node by itself as long as the mount says. So when a lease ends, it is told:
the attributes of the node hold no more, and at its next opening the pages that it keeps of it do not either. That
cannot wait for anything. Names cannot be taken from it so: that waits for whoever is working in the directory, who
may be waiting for us; it is done behind our backs, and meanwhile `open` and `stat` of such a name come to us, find
that it leads elsewhere, and are sent to look again (ESTALE).
"""

from collections.abc import Callable, Collection

from fuseclient.cached import CachedFileSystem
from fuseclient.tree import Tree
from pfs.api import Name

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
            if parent is not None:
                child = inodes.child(parent, name)
                self._end(None if child is None else child.number)
                self._forget_name(parent, name)

    def lapsed(self) -> None:
        """The server is not heard: it may have changed anything."""
        self._filesystem.lapsed()
        for number in self._tree.inodes.numbers(self._datacenter):
            self._forget(number)

    def _end(self, number: int | None) -> None:
        if number is not None:
            self._tree.inodes.touch(number)
            self._forget(number)
