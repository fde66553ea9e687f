"""Makes trees on the server's disk: a copy from one data domain into another, or what somebody lists.

Mounts may look while a tree grows: when it ends, however it ends, they are told what is not as they saw it. Whoever
waits for it may be cancelled: it stops between two files, or in the middle of a large one, and what is there stays.

Every file is reached through the descriptor of its directory, so a link swapped in while the copy runs leads nowhere:
links are copied as links. What is neither file, directory nor link (a socket, say) is left out.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import trio

from pfs.disk.attr import node_id_of
from pfs.disk.counting import UNLIMITED
from pfs.disk.domains import Disk
from pfs.disk.system import open_beneath
from pfs.errors import Kind, PfsError
from pfs.path import split

CHUNK_BYTES = 1024 * 1024
COPIED_AT_ONCE_BYTES = 64 * 1024 * 1024
DEPTH_MAX = 128  # each level holds two descriptors


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is made at most."""

    files: int
    size_bytes: int


@dataclass(slots=True)
class Copied:
    """How much was made."""

    files: int = 0
    size_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """A node of a listed tree: a link where `link` says where to, a file where `content` names one to copy from.

    Attributes:
        content: a file that only the server reaches, and how many bytes it must have; without it and `link` the node
            is a directory.
    """

    path: str
    mode: int = 0o777
    content: tuple[str, int] | None = None
    link: str | None = None


async def copy_tree(
    disk: Disk, source_domain: str, source_path: str, target: str, *, uid: int | None, limits: Limits, what: str = "src"
) -> Copied:
    """Copy what is in the directory `source_path` of a domain into `target`, a directory of the server's choosing.

    Files that are there are replaced, so that a copy which was cut may begin again.

    Args:
        uid: whose the copies are; None keeps the server's own.
        what: what people call the tree.

    Raises:
        PfsError: TOO_LARGE above the limits; QUOTA; NOT_FOUND, NOT_DIR and what else the disk says.
    """
    copier = _Copier(uid, limits, what)

    def work(target_fd: int) -> None:
        with disk.directory(source_domain) as domain_fd:
            source_fd = open_beneath(domain_fd, source_path, os.O_RDONLY | os.O_DIRECTORY)
            try:
                copier.directory(source_fd, target_fd, DEPTH_MAX)
            finally:
                os.close(source_fd)

    return await _grow(disk, target, copier, work)


async def lay_out(disk: Disk, pieces: Iterable[Piece], target: str, *, uid: int | None, limits: Limits) -> Copied:
    """Make the listed nodes in `target`, a directory of the server's choosing; what is there of the name is replaced.

    Directories on the way to a node are made with it. Nothing is ever made through a link.

    Raises:
        PfsError: TOO_LARGE above the limits; QUOTA; IO where a content is not what the list says, and what else the
            disk says.
    """
    layer = _Layer(uid, limits, "src")
    return await _grow(disk, target, layer, lambda target_fd: layer.lay(pieces, target_fd))


async def _grow(disk: Disk, target: str, maker: "_Maker", work: Callable[[int], None]) -> Copied:
    """Do what takes long, in a thread, and tell who looked of what it changed."""

    maker.room = disk.counts.of(target)

    def with_target() -> None:
        with disk.directory(target) as target_fd:
            work(target_fd)

    try:
        await disk.run(with_target, long=True)
    finally:
        with trio.CancelScope(shield=True):
            await disk.changed(maker.changed)
    return maker.copied


class _Maker:
    """A tree on its way: makes one node after the other in directories that are open."""

    def __init__(self, uid: int | None, limits: Limits, what: str) -> None:
        self.copied = Copied()
        self.changed: set[int] = set()
        self.room = UNLIMITED
        self._uid = uid
        self._limits = limits
        self._what = what

    def count(self, size_bytes: int) -> None:
        trio.from_thread.check_cancelled()
        copied, limits = self.copied, self._limits
        copied.files += 1
        copied.size_bytes += size_bytes
        if copied.files > limits.files or copied.size_bytes > limits.size_bytes:
            raise PfsError(
                Kind.TOO_LARGE,
                f"{self._what} has more than {limits.files} files or {limits.size_bytes >> 30} GiB; "
                "read the data from your home instead of copying it",
            )

    def link(self, name: str, leads_to: str, target_fd: int) -> None:
        self._clear(name, 0, target_fd)
        os.symlink(leads_to, name, dir_fd=target_fd)
        self._own(name, target_fd)

    def folder(self, name: str, mode: int, target_fd: int) -> None:
        self.count(0)
        if not _is_there(name, target_fd):
            self.room.bring(0)
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode & 0o777 | 0o700, dir_fd=target_fd)
        self._own(name, target_fd)

    def file(self, name: str, source: int, info: os.stat_result, mode: int, target_fd: int) -> None:
        self._clear(name, info.st_size, target_fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(name, flags, 0o600, dir_fd=target_fd)
        self.changed.add(node_id_of(os.fstat(target)))
        try:
            _copy_bytes(source, target, info.st_size)
            os.fchmod(target, stat.S_IMODE(mode) & 0o777)
            os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns))
            if self._uid is not None:
                os.fchown(target, self._uid, self._uid)
        finally:
            os.close(target)

    def _clear(self, name: str, size_bytes: int, target_fd: int) -> None:
        """Let there be room for a node of that name and size, and nothing in its place."""
        self.count(size_bytes)
        self.room.remove(target_fd, name, lambda: _remove(name, target_fd))
        self.room.bring(size_bytes)

    def _own(self, name: str, directory_fd: int) -> None:
        if self._uid is not None:
            os.chown(name, self._uid, self._uid, dir_fd=directory_fd, follow_symlinks=False)


class _Copier(_Maker):
    """Makes what a directory holds."""

    def directory(self, source_fd: int, target_fd: int, levels: int) -> None:
        if levels == 0:
            raise PfsError(Kind.TOO_LARGE, f"{self._what} has directories more than {DEPTH_MAX} deep; make it flatter")
        self.changed.add(node_id_of(os.fstat(target_fd)))
        for name in sorted(os.listdir(source_fd)):
            try:
                info = os.stat(name, dir_fd=source_fd, follow_symlinks=False)
            except FileNotFoundError:  # removed while we were copying
                continue
            if stat.S_ISLNK(info.st_mode):
                self.link(name, os.readlink(name, dir_fd=source_fd), target_fd)
            elif stat.S_ISREG(info.st_mode):
                self._file(name, source_fd, target_fd)
            elif stat.S_ISDIR(info.st_mode):
                self._subdirectory(name, info, source_fd, target_fd, levels - 1)

    def _file(self, name: str, source_fd: int, target_fd: int) -> None:
        source = open_beneath(source_fd, name, os.O_RDONLY | os.O_NONBLOCK)
        try:
            info = os.fstat(source)
            self.file(name, source, info, info.st_mode, target_fd)
        finally:
            os.close(source)

    def _subdirectory(self, name: str, info: os.stat_result, source_fd: int, target_fd: int, levels: int) -> None:
        self.folder(name, info.st_mode, target_fd)
        below = open_beneath(source_fd, name, os.O_RDONLY | os.O_DIRECTORY)
        try:
            into = open_beneath(target_fd, name, os.O_RDONLY | os.O_DIRECTORY)
            try:
                self.directory(below, into, levels)
            finally:
                os.close(into)
        finally:
            os.close(below)


class _Layer(_Maker):
    """Makes what is listed, each in its directory, which it makes where it is not there."""

    def lay(self, pieces: Iterable[Piece], target_fd: int) -> None:
        self.changed.add(node_id_of(os.fstat(target_fd)))
        for piece in pieces:
            *above, name = split(piece.path)
            fd = self._directory(above, target_fd)
            try:
                self._piece(piece, name, fd)
            finally:
                os.close(fd)

    def _directory(self, parts: list[str], target_fd: int) -> int:
        """Open the directory of these parts; those that are not there are made."""
        try:
            return open_beneath(target_fd, "/".join(parts), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            *above, name = parts
            parent = self._directory(above, target_fd)
        try:
            self.folder(name, 0o777, parent)
            fd = open_beneath(parent, name, os.O_RDONLY | os.O_DIRECTORY)
        finally:
            os.close(parent)
        self.changed.add(node_id_of(os.fstat(fd)))
        return fd

    def _piece(self, piece: Piece, name: str, directory_fd: int) -> None:
        if piece.link is not None:
            self.link(name, piece.link, directory_fd)
        elif piece.content is None:
            self.folder(name, piece.mode, directory_fd)
        else:
            path, size_bytes = piece.content
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                info = os.fstat(source)
                if info.st_size != size_bytes:
                    raise PfsError(Kind.IO, f"the server's copy of {piece.path} was damaged; submit again")
                self.file(name, source, info, piece.mode, directory_fd)
            finally:
                os.close(source)


def _copy_bytes(source: int, target: int, size_bytes: int) -> None:
    """Copy as much as was counted: a file that grows meanwhile does not keep us for ever."""
    left = size_bytes
    try:
        while left > 0 and (done := os.copy_file_range(source, target, min(left, COPIED_AT_ONCE_BYTES))) > 0:
            left -= done
            trio.from_thread.check_cancelled()
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        while left > 0 and (data := os.read(source, min(left, CHUNK_BYTES))):
            trio.from_thread.check_cancelled()
            while data:
                done = os.write(target, data)
                left, data = left - done, data[done:]


def _is_there(name: str, directory_fd: int) -> bool:
    try:
        os.stat(name, dir_fd=directory_fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _remove(name: str, directory_fd: int) -> None:
    """Remove what an earlier copy left; writing over it would need the right to, and could hit a link."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory_fd)
