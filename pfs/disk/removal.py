"""Removes whole trees, whatever is in them: deeper than there are descriptors, or shut by their modes.

A tree is first moved aside, to where only the server reaches, in one step for whoever looks. There each directory that
lies in another is moved up beside it before the other goes: so two descriptors are enough for any depth, and nothing
ever follows a link.
"""

import contextlib
import os
import stat
from collections.abc import Iterator, Sequence
from itertools import islice

import trio

from pfs.disk.attr import node_id_of
from pfs.disk.domains import Disk
from pfs.disk.system import anew, open_beneath
from pfs.path import parent_and_name

ENTRIES_AT_ONCE = 10_000
# what is removed at once: more of it, or a large file, takes the disk a while
FEW = 16
SMALL_BYTES = 1 << 20


async def move_aside(disk: Disk, path: str, target: str, parts: Sequence[str] = ()) -> bool:
    """Move the directory `path` of the data root to the path `target`; tells whether it was there.

    Args:
        parts: directories in it, by their paths, at which mounts may have looked.

    Raises:
        PfsError: what the disk says.
    """
    changed: set[int] = set()

    def work() -> bool:
        (old_parent, old), (new_parent, new) = parent_and_name(path), parent_and_name(target)
        try:
            with disk.directory(old_parent) as old_fd, disk.directory(new_parent) as new_fd:
                for each in (old, *(f"{old}/{part}" for part in parts)):
                    with contextlib.suppress(FileNotFoundError), _opened(old_fd, each) as fd:
                        changed.add(node_id_of(os.fstat(fd)))
                os.rename(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd)
                changed.add(node_id_of(os.fstat(old_fd)))
        except FileNotFoundError:
            return False
        return True

    moved = await disk.run(work)
    with trio.CancelScope(shield=True):
        await disk.changed(changed)
    return moved


async def remove_tree(disk: Disk, directory: str, name: str) -> None:
    """Remove `name` from `directory`, which only the server reaches, and everything in it.

    Cancelled, or ended by a crash, it leaves a part in `directory`, to be removed like any other.

    Raises:
        PfsError: what the disk says.
    """

    def few() -> bool:
        with disk.directory(directory, os.O_RDONLY) as fd:
            return _remove_few(fd, name)

    def work() -> None:
        with disk.directory(directory, os.O_RDONLY) as fd:
            pending = [name]
            while pending:
                _empty(fd, pending[-1], pending)

    if not await disk.run(few):
        await disk.run(work, long=True)


def _remove_few(top_fd: int, name: str) -> bool:
    """Remove a directory that holds nothing but a few small files; tells whether it was one."""
    try:
        with _opened(top_fd, name, os.O_RDONLY) as fd, os.scandir(fd) as entries:
            some = [(entry.name, entry.stat(follow_symlinks=False)) for entry in islice(entries, FEW + 1)]
            if len(some) > FEW or any(stat.S_ISDIR(info.st_mode) or info.st_size > SMALL_BYTES for _, info in some):
                return False
            for entry_name, _ in some:
                os.unlink(entry_name, dir_fd=fd)
        os.rmdir(name, dir_fd=top_fd)
    except OSError:
        return False
    return True


def _empty(top_fd: int, name: str, pending: list[str]) -> None:
    """Go a step further with `name` in `top_fd`: remove some of its files and move its directories up, or remove it."""
    trio.from_thread.check_cancelled()
    try:
        info = os.stat(name, dir_fd=top_fd, follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            os.unlink(name, dir_fd=top_fd)
    except FileNotFoundError:
        info = None
    if info is None or not stat.S_ISDIR(info.st_mode):
        pending.remove(name)
        return
    with _opened(top_fd, name) as fd:
        os.chmod(anew(fd), 0o700)
        with os.scandir(anew(fd)) as entries:
            some = list(islice(entries, ENTRIES_AT_ONCE))
        for entry in some:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.name, dir_fd=fd)
                continue
            with _opened(fd, entry.name) as below:
                os.chmod(anew(below), 0o700)  # its `..` is written to when it is moved
            moved = f"{pending[0]}.{entry.inode()}"
            os.rename(entry.name, moved, src_dir_fd=fd, dst_dir_fd=top_fd)
            pending.append(moved)
    if not some:
        os.rmdir(name, dir_fd=top_fd)
        pending.remove(name)


@contextlib.contextmanager
def _opened(directory_fd: int, name: str, bits: int = os.O_PATH) -> Iterator[int]:
    fd = open_beneath(directory_fd, name, bits | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
