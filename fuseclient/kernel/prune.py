"""Takes files back from a kernel that knows too many.

The kernel counts on every inode that it was told of until its own memory is short, which on a large machine is never;
each costs us about a kilobyte. So beyond so many the files that were seen first are taken from it: it looks them up
again when they are wanted. Directories stay, since a process whose working directory is taken away cannot tell any more
where it is, and so does what is open.
"""

from collections.abc import Callable

import trio

from fuseclient.kernel.inodes import Inodes

INODES_MAX = 200_000
AT_ONCE = 5_000  # what one thread of the kernel takes in some ten milliseconds
EVERY_S = 0.25
PATIENCE_S = 10.0  # what the kernel has not let go of by then it uses


async def prune(inodes: Inodes, forget_name: Callable[[int, str], None], inodes_max: int = INODES_MAX) -> None:
    """Keep the table small, for ever.

    Args:
        forget_name: makes the kernel forget a name in a directory, some time.
    """
    asked: dict[int, float] = {}  # numbers that the kernel is about to let go of, and when it has had its time
    while True:
        await trio.sleep(EVERY_S)
        now_s = trio.current_time()
        asked = {number: until_s for number, until_s in asked.items() if number in inodes and now_s < until_s}
        surplus = len(inodes) - inodes_max - len(asked)
        for inode in inodes.oldest(min(surplus, AT_ONCE)) if surplus > 0 else ():
            asked[inode.number] = now_s + PATIENCE_S
            for parent, name in inode.names:
                forget_name(parent, name)
