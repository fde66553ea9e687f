"""What the kernel is told without having asked: to forget something, or to keep bytes of a file."""

import errno
import logging

import pyfuse3

log = logging.getLogger(__name__)


def forget_attributes(inode: int) -> None:
    """Make the kernel ask for the attributes of an inode again."""
    try:
        pyfuse3.invalidate_inode(inode, attr_only=True)
    except OSError as error:
        if error.errno != errno.ENOENT:  # the kernel has let go of it
            raise


def give(inode: int, data: bytes) -> bool:
    """Give the kernel all bytes of a file of which it has none, while nobody can be waiting for them."""
    try:
        pyfuse3.notify_store(inode, 0, data)
    except OSError as error:  # it has let go of the inode, or has no memory to spare
        log.debug("the kernel does not take the bytes of %s: %s", inode, error)
        return False
    return True


def wake(handle: pyfuse3.PollHandle) -> None:
    """Wake who waits by poll(2) for an open file; they ask again how it stands."""
    try:
        handle.notify()
    except OSError as error:  # the mount is being taken away, which wakes them, too
        log.debug("the kernel does not wake who polls: %s", error)


def forget_name(parent: int, name: str) -> None:
    """Make the kernel look a name up again, as soon as nobody works in its directory."""
    pyfuse3.invalidate_entry_async(parent, name.encode("utf-8", "surrogateescape"), ignore_enoent=True)
