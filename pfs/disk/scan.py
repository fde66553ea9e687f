"""Looks at every node below a directory: no link is followed, and no other file system entered.

What is moved meanwhile may be met in both places or in none. A directory that cannot be read, or whose path is longer
than the operating system takes, is met, and what is in it is not.
"""

import contextlib
import logging
import os
import stat
from collections.abc import Callable, Iterator

from pfs.disk.system import open_beneath
from pfs.path import join

NAMES_AT_ONCE = 32

log = logging.getLogger(__name__)

Look = Callable[[os.stat_result], None]


def scan(
    top_fd: int,
    look: Look,
    *,
    holding: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
    going_on: Callable[[], bool] = lambda: True,
) -> bool:
    """Give `look` what the operating system tells of every node below the directory `top_fd`, itself left out.

    Args:
        holding: held while up to `NAMES_AT_ONCE` nodes are looked at.
        going_on: asked between; False ends the scan.

    Returns:
        False when it was ended.
    """
    device = os.fstat(top_fd).st_dev
    left = [""]
    while left:
        path = left.pop()
        with _opened(top_fd, path) as fd:
            if fd is None or os.fstat(fd).st_dev != device:
                continue
            names = os.listdir(fd)
            for start in range(0, len(names), NAMES_AT_ONCE):
                if not going_on():
                    return False
                with holding():
                    left += [join(path, name) for name in _looked(fd, names[start : start + NAMES_AT_ONCE], look)]
    return True


@contextlib.contextmanager
def _opened(top_fd: int, path: str) -> Iterator[int | None]:
    try:
        fd = open_beneath(top_fd, path, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        if not isinstance(error, FileNotFoundError):
            log.info("a directory cannot be looked into: %s", error.strerror)
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _looked(fd: int, names: list[str], look: Look) -> list[str]:
    """Look at names of a directory; return those of directories."""
    directories = []
    for name in names:
        try:
            info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:  # removed while we were looking
            continue
        look(info)
        if stat.S_ISDIR(info.st_mode):
            directories.append(name)
    return directories
