"""Many small files of one directory in one go: each gets its name when it is whole, whatever had that before.

A change of threads, and the way from the root to a directory, cost more than a small file does; so there is one of each
for many files. What becomes of one has nothing to do with the others.
"""

import os
import secrets
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

from pfs.api import Owner
from pfs.disk.attr import Powers, settle
from pfs.disk.counting import Count
from pfs.disk.file import large_file, make_whole
from pfs.disk.orphans import OpenNodes
from pfs.disk.system import translate
from pfs.errors import PfsError
from pfs.path import check_name

PART = ".pfs-upload-"


class NewFile(NamedTuple):
    """An ordinary file with all its bytes."""

    name: str
    data: bytes
    mode: int
    mtime_ns: int | None = None


class WholeFiles:
    """Makes files in a domain.

    Args:
        nodes: what is open there.
        path: of the domain's directory.
        owner: whose they are; None leaves them the server's.
        powers: of whoever makes them.
    """

    def __init__(self, nodes: OpenNodes, count: Count, path: str, owner: Owner | None, powers: Powers) -> None:
        self._nodes = nodes
        self._count = count
        self._path = path
        self._owner = owner
        self._powers = powers

    def put(self, parent_fd: int, files: Sequence[NewFile]) -> list[PfsError | None]:
        """Let these be in a directory; return what was refused, one for each. For a thread."""
        return [self._put(parent_fd, file) for file in files]

    def _put(self, parent_fd: int, file: NewFile) -> PfsError | None:
        part = f"{PART}{secrets.token_hex(8)}"
        try:
            check_name(file.name)
            self._make(parent_fd, part, file)
            try:
                self._rename(parent_fd, part, file.name)
            except BaseException:
                self._count.remove(parent_fd, part, lambda: os.unlink(part, dir_fd=parent_fd))
                raise
        except OSError as error:
            return translate(error)
        except PfsError as error:
            return error
        return None

    def _make(self, parent_fd: int, part: str, file: NewFile) -> None:
        fd = make_whole(part, parent_fd, self._powers.mode(file.mode), file.data, self._count)
        try:
            settle(fd, parent_fd, file.mode, self._owner, self._powers)
            if file.mtime_ns is not None:
                os.utime(fd, ns=(file.mtime_ns, file.mtime_ns))
        finally:
            os.close(fd)

    def _rename(self, fd: int, part: str, name: str) -> None:
        move = partial(os.rename, part, name, src_dir_fd=fd, dst_dir_fd=fd)
        with self._nodes.holding(name), large_file(fd, name):
            self._count.moves(fd, part)
            self._count.moves(fd, name)
            self._count.remove(fd, name, lambda: self._nodes.remove(self._path, fd, name, move))
