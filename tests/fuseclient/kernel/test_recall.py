"""What the server takes back, the kernel gives back."""

import errno

import trio

from fuseclient.cache.filesystem import CachedFileSystem
from fuseclient.kernel.inodes import ROOT
from fuseclient.kernel.recall import Recall
from fuseclient.kernel.tree import Tree
from pfs.api import Owner
from tests.fuseclient.cache.test_coherence import leasing
from tests.fuseclient.cache.test_filesystem import Server


class Kernel:
    """Notes what it is told to forget."""

    def __init__(self) -> None:
        self.forgotten: list[int] = []
        self.names: list[tuple[int, str]] = []

    def forget_name(self, parent: int, name: str) -> None:
        self.names.append((parent, name))


async def known(kernel: Kernel) -> tuple[Server, Tree, Recall]:
    """A kernel that knows the directory `d` and the file `d/f` in it."""
    server = Server()
    server.put("d/f", b"text")
    filesystem = CachedFileSystem(server, trio.current_time)
    tree = Tree({"dc1": filesystem}, 0, Owner(0, 0))
    directory = tree.enter(ROOT + 1, "d", await filesystem.getattr("d"))
    tree.enter(directory.number, "f", await filesystem.getattr("d/f"))
    return server, tree, Recall(tree, "dc1", filesystem, kernel.forgotten.append, kernel.forget_name)


def number(tree: Tree, server: Server, path: str) -> int:
    found = tree.inodes.of_node("dc1", server.find(path).node_id)
    assert found is not None
    return found


def test_a_node_whose_lease_ends_is_asked_for_again() -> None:
    async def main() -> None:
        kernel = Kernel()
        server, tree, recall = await known(kernel)
        tree.inodes.get(number(tree, server, "d/f")).pages = (4, 0, 0)
        await recall.broken([server.find("d/f").node_id], [])
        assert kernel.forgotten == [number(tree, server, "d/f")]
        assert tree.inodes.get(kernel.forgotten[0]).pages is None

    with leasing():
        trio.run(main)


def test_a_name_that_changes_is_forgotten_with_what_it_led_to() -> None:
    async def main() -> None:
        kernel = Kernel()
        server, tree, recall = await known(kernel)
        directory = server.find("d").node_id
        await recall.broken([directory], [(directory, "f"), (directory, "new")])
        parent = number(tree, server, "d")
        assert kernel.forgotten == [parent, number(tree, server, "d/f")]
        assert kernel.names == [(parent, "f"), (parent, "new")]

    with leasing():
        trio.run(main)


def test_what_the_kernel_does_not_know_it_is_not_told() -> None:
    async def main() -> None:
        kernel = Kernel()
        _, _, recall = await known(kernel)
        await recall.broken([4711], [(4711, "x")])
        assert kernel.forgotten == []
        assert kernel.names == []

    with leasing():
        trio.run(main)


def test_a_kernel_that_cannot_be_told_does_not_end_the_mount() -> None:
    async def main() -> None:
        kernel = Kernel()
        server, tree, _ = await known(kernel)

        def gone(number: int) -> None:
            raise OSError(errno.ENOTCONN, "the mount is gone")

        Recall(tree, "dc1", CachedFileSystem(server, trio.current_time), gone, kernel.forget_name).lapsed()

    with leasing():
        trio.run(main)


def test_when_the_server_returns_everything_is_asked_for_again() -> None:
    async def main() -> None:
        kernel = Kernel()
        server, tree, recall = await known(kernel)
        filesystem = tree.filesystems["dc1"]
        await filesystem.listdir("d")
        recall.lapsed()
        server.asked.clear()
        recall.returned()
        await filesystem.getattr("d/f")
        assert server.asked["getattr"] > 0

    with leasing():
        trio.run(main)


def test_when_all_leases_lapse_nothing_that_is_known_holds() -> None:
    async def main() -> None:
        kernel = Kernel()
        server, tree, recall = await known(kernel)
        recall.lapsed()
        assert {number(tree, server, "d"), number(tree, server, "d/f")} <= set(kernel.forgotten)

    with leasing():
        trio.run(main)
