"""A kernel that knows too many files: which are taken from it, and which are not."""

from collections.abc import Callable

import trio
import trio.testing

from fuseclient.kernel.inodes import ROOT, Inodes
from fuseclient.kernel.prune import AT_ONCE, prune

DC1 = ROOT + 1


class Kernel:
    """Knows files as long as nobody makes it forget them."""

    def __init__(self) -> None:
        self.inodes = Inodes(["dc1"])
        self.asked: list[str] = []
        self.deaf = False

    def sees(self, name: str, node_id: int, parent: int = DC1, *, directory: bool = False) -> int:
        inode = self.inodes.enter(parent, name, node_id, sole=True)
        inode.directory = directory
        return inode.number

    def forget(self, parent: int, name: str) -> None:
        self.asked.append(name)
        inode = self.inodes.child(parent, name)
        if inode is not None and not self.deaf:
            self.inodes.forget(inode.number, inode.lookups)


def after_s(seconds: float, kernel: Kernel, inodes_max: int, then: Callable[[], None] = lambda: None) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(prune, kernel.inodes, kernel.forget, inodes_max)
            await trio.sleep(seconds)
            then()
            await trio.sleep(seconds)
            nursery.cancel_scope.cancel()

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_kernel_that_knows_few_files_keeps_them() -> None:
    kernel = Kernel()
    for number in range(8):
        kernel.sees(f"f{number}", 1000 + number)
    after_s(5, kernel, inodes_max=10)
    assert kernel.asked == []


def test_what_was_seen_first_goes_first() -> None:
    kernel = Kernel()
    for number in range(20):
        kernel.sees(f"f{number}", 1000 + number)
    after_s(5, kernel, inodes_max=12)
    assert kernel.asked == [f"f{number}" for number in range(10)]  # with the two roots there are 22
    assert len(kernel.inodes) == 12


def test_many_are_taken_in_turns() -> None:
    kernel = Kernel()
    for number in range(3 * AT_ONCE):
        kernel.sees(f"f{number}", 10_000 + number)
    after_s(5, kernel, inodes_max=100)
    assert len(kernel.inodes) == 100


def test_directories_and_what_is_open_stay() -> None:
    kernel = Kernel()
    directory = kernel.sees("d", 1000, directory=True)
    kernel.sees("below", 1001, directory)
    opened = kernel.sees("open", 1002)
    kernel.inodes.opened(opened)
    kernel.sees("closed", 1003)
    after_s(5, kernel, inodes_max=1)
    assert sorted(set(kernel.asked)) == ["below", "closed"]
    assert directory in kernel.inodes
    assert opened in kernel.inodes


def test_all_names_of_a_file_are_taken() -> None:
    kernel = Kernel()
    kernel.inodes.enter(DC1, "a", 1000, sole=False)
    kernel.inodes.enter(DC1, "b", 1000, sole=False)
    after_s(5, kernel, inodes_max=2)
    assert set(kernel.asked) == {"a", "b"}


def test_what_the_kernel_keeps_all_the_same_does_not_keep_the_others_from_their_turn() -> None:
    kernel = Kernel()
    kernel.deaf = True
    for number in range(4):
        kernel.sees(f"f{number}", 1000 + number)
    after_s(25, kernel, inodes_max=4)
    assert set(kernel.asked) == {"f0", "f1", "f2", "f3"}


def test_what_the_kernel_has_not_let_go_of_yet_counts_as_gone() -> None:
    """Else it is asked for more and more in the meantime, until it knows nothing."""
    kernel = Kernel()
    kernel.deaf = True
    for number in range(20):
        kernel.sees(f"f{number}", 1000 + number)
    after_s(2, kernel, inodes_max=20)
    assert kernel.asked == ["f0", "f1"]
