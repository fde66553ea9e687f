"""Copies a tree from one data domain into another, on the server's disk.

Mounts may look while the copy grows: when it ends, however it ends, they are told what is not as they saw it.

Every file is reached through the descriptor of its directory, so a link swapped in while the copy runs leads nowhere:
links are copied as links. What is neither file, directory nor link (a socket, say) is left out.
"""

import contextlib
import errno
import os
import stat
from dataclasses import dataclass

import trio

from pfs.disk.attr import node_id_of
from pfs.disk.domains import Disk
from pfs.disk.system import open_beneath
from pfs.errors import Kind, PfsError

CHUNK_BYTES = 1024 * 1024
DEPTH_MAX = 128  # each level holds two descriptors


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is copied at most."""

    files: int
    size_bytes: int


@dataclass(slots=True)
class Copied:
    """How much was copied."""

    files: int = 0
    size_bytes: int = 0


async def copy_tree(
    disk: Disk, source_domain: str, source_path: str, target: str, *, uid: int | None, limits: Limits
) -> Copied:
    """Copy what is in the directory `source_path` of a domain into `target`, a directory of the server's choosing.

    Files that are there are replaced, so that a copy which was cut may begin again.

    Args:
        uid: whose the copies are; None keeps the server's own.

    Raises:
        PfsError: TOO_LARGE above the limits; NOT_FOUND, NOT_DIR and what else the disk says.
    """

    copier = _Copier(uid, limits)

    def work() -> Copied:
        with disk.directory(source_domain) as domain_fd, disk.directory(target) as target_fd:
            source_fd = open_beneath(domain_fd, source_path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                copier.directory(source_fd, target_fd, DEPTH_MAX)
            finally:
                os.close(source_fd)
        return copier.copied

    try:
        return await disk.run(work)
    finally:
        with trio.CancelScope(shield=True):
            await disk.changed(copier.changed)


class _Copier:
    """One copy on its way."""

    def __init__(self, uid: int | None, limits: Limits) -> None:
        self.copied = Copied()
        self.changed: set[int] = set()
        self._uid = uid
        self._limits = limits

    def directory(self, source_fd: int, target_fd: int, levels: int) -> None:
        if levels == 0:
            raise PfsError(Kind.TOO_LARGE, f"src has directories more than {DEPTH_MAX} deep; make it flatter")
        self.changed.add(node_id_of(os.fstat(target_fd)))
        for name in sorted(os.listdir(source_fd)):
            try:
                info = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
            except FileNotFoundError:  # removed while we were copying
                continue
            if stat.S_ISLNK(info.st_mode):
                self._link(name, source_fd, target_fd)
            elif stat.S_ISREG(info.st_mode):
                self._file(name, source_fd, target_fd)
            elif stat.S_ISDIR(info.st_mode):
                self._subdirectory(name, info, source_fd, target_fd, levels - 1)

    def _count(self, size_bytes: int) -> None:
        copied, limits = self.copied, self._limits
        copied.files += 1
        copied.size_bytes += size_bytes
        if copied.files > limits.files or copied.size_bytes > limits.size_bytes:
            raise PfsError(
                Kind.TOO_LARGE,
                f"src has more than {limits.files} files or {limits.size_bytes >> 30} GiB; "
                "read the data from your home instead of copying it",
            )

    def _link(self, name: str, source_fd: int, target_fd: int) -> None:
        self._count(0)
        _remove(name, target_fd)
        os.symlink(os.readlink(name, dir_fd=source_fd), name, dir_fd=target_fd)
        _own(name, target_fd, self._uid)

    def _file(self, name: str, source_fd: int, target_fd: int) -> None:
        source = open_beneath(source_fd, name, os.O_RDONLY | os.O_NONBLOCK)
        try:
            info = os.fstat(source)
            self._count(info.st_size)
            _remove(name, target_fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            target = os.open(name, flags, 0o600, dir_fd=target_fd)
            self.changed.add(node_id_of(os.fstat(target)))
            try:
                _copy_bytes(source, target, info.st_size)
                os.fchmod(target, stat.S_IMODE(info.st_mode) & 0o777)
                os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
                if self._uid is not None:
                    os.fchown(target, self._uid, self._uid)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _subdirectory(self, name: str, info: os.stat_result, source_fd: int, target_fd: int, levels: int) -> None:
        self._count(0)
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, stat.S_IMODE(info.st_mode) & 0o777 | 0o700, dir_fd=target_fd)
        _own(name, target_fd, self._uid)
        below = open_beneath(source_fd, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            into = open_beneath(target_fd, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self.directory(below, into, levels)
            finally:
                os.close(into)
        finally:
            os.close(below)


def _copy_bytes(source: int, target: int, size_bytes: int) -> None:
    """Copy as much as was counted: a file that grows meanwhile does not keep us for ever."""
    left = size_bytes
    try:
        while left > 0 and (done := os.copy_file_range(source, target, left)) > 0:
            left -= done
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        while left > 0 and (data := os.read(source, min(left, CHUNK_BYTES))):
            while data:
                done = os.write(target, data)
                left, data = left - done, data[done:]


def _remove(name: str, directory_fd: int) -> None:
    """Remove what an earlier copy left; writing over it would need the right to, and could hit a link."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory_fd)


def _own(name: str, directory_fd: int, uid: int | None) -> None:
    if uid is not None:
        os.chown(name, uid, uid, dir_fd=directory_fd, follow_symlinks=False)
