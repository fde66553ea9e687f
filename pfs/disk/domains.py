"""Ordinary files: the data domains under the data root, reached without ever following a link that a user made.

Every path that a user names is walked by openat2(2) with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS, in one step with that
of its domain's directory; what is then done at the last name never follows a link either, and `..` is refused. So
neither that nor a link swapped in at the last moment leads out of the domain.
"""

import contextlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import trio

from pfs.api import Attr, Changes, Content, Entry, NodeType, OpenFlags, Owner, RenameMode, Space, XattrMode
from pfs.disk.attr import (
    MADE_TYPES,
    USER,
    Powers,
    attr_of,
    change,
    change_link,
    check_new,
    check_powers,
    drop_special,
    get_xattr,
    list_xattrs,
    node_id_of,
    remove_xattr,
    set_xattr,
    settle,
)
from pfs.disk.counting import Count
from pfs.disk.file import (
    DiskFile,
    check_ordinary,
    held,
    large_file,
    make_whole,
    open_bits,
    open_or_make,
    open_silently,
    read_whole,
)
from pfs.disk.root import DiskRoot
from pfs.disk.system import RENAME_EXCHANGE, RENAME_NOREPLACE, anew, rename_at
from pfs.disk.whole import NewFile, WholeFiles
from pfs.errors import Kind, PfsError
from pfs.path import check_name, join, parent_and_name, split

T = TypeVar("T")
RENAME_FLAGS = {RenameMode.NO_REPLACE: RENAME_NOREPLACE, RenameMode.EXCHANGE: RENAME_EXCHANGE}


class Disk(DiskRoot):
    """The data root with its domains, which are directories below it."""

    def domain(self, path: str, uid: int | None, gid: int | None = None) -> "DiskDomain":
        """Return the domain whose directory is `path` under the root; new files belong to `uid`, or to a group."""
        return DiskDomain(self, path, uid, gid=gid)


class DiskDomain:
    """One domain's files. Paths are relative to its directory; `""` is the directory itself.

    Args:
        uid: whose new files are; None leaves them the server's.
        powers: what whoever acts may do here.
        gid: the group whose all files here are; None where they are of their owners alone.
    """

    def __init__(self, disk: Disk, path: str, uid: int | None, powers: Powers = USER, gid: int | None = None) -> None:
        self.path = path
        self._disk = disk
        self._uid = uid
        self._gid = gid
        self._owner = None if uid is None else Owner(uid, uid if gid is None else gid)
        self._powers = powers

    def acting(self, powers: Powers, uid: int | None = None) -> "DiskDomain":
        """Return the same domain for somebody with these powers; a group's new files are theirs (`uid`)."""
        return DiskDomain(self._disk, self.path, self._uid if self._gid is None else uid, powers, self._gid)

    @contextlib.contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        parent, name = parent_and_name(path)
        check_name(name)
        with self._directory(parent) as fd:
            yield fd, name

    def _directory(self, path: str, bits: int = os.O_PATH) -> contextlib.AbstractContextManager[int]:
        """Hold a directory of the domain open, in one step from the root on."""
        if ".." in path:
            split(path)  # and be refused: beneath the root is not beneath the domain
        return self._disk.directory(join(self.path, path) if path else self.path, bits)

    @contextlib.contextmanager
    def _node(self, path: str) -> Iterator[int]:
        """Hold what stands at `path`, also a link, as an O_PATH descriptor."""
        if path == "":
            with self._disk.directory(self.path) as fd:
                yield fd
            return
        with self._parent(path) as (parent_fd, name), held(parent_fd, name) as fd:
            yield fd

    def _look(self, path: str) -> Attr:
        if path == "":
            with self._disk.directory(self.path) as fd:
                watched = self._disk.watch(fd)
                return attr_of(os.fstat(fd), watched=watched)
        with self._parent(path) as (fd, name):
            return self._look_at(name, fd, self._disk.watch(fd))

    def _look_at(self, name: str, parent_fd: int, watched: bool) -> Attr:
        """Tell of one name; what its directory's watch does not show is watched itself."""
        info = os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
        if not watched or (info.st_nlink == 1 and not stat.S_ISDIR(info.st_mode)):
            return attr_of(info, watched=watched)
        with held(parent_fd, name) as fd:
            watched = self._disk.watch(fd)
            return attr_of(os.fstat(fd), watched=watched)

    def _count(self) -> Count:
        return self._disk.counts.of(self.path)

    async def _make(self, path: str, mode: int, owner: Owner | None, make: Callable[[str, int], None]) -> Attr:
        """Make a node that is not opened; `make` is given its name and the descriptor of its directory."""

        def work() -> Attr:
            with self._parent(path) as (fd, name):
                watched = self._disk.watch(fd)
                self._count().make(fd, name, lambda: make(name, fd))
                with held(fd, name) as node:
                    if owner or self._owner:
                        check_new(node)
                    info = settle(anew(node), fd, mode, owner or self._owner, self._powers)
                    if watched and stat.S_ISDIR(info.st_mode):
                        watched = self._disk.watch(node)
                    return attr_of(info, watched=watched)

        return await self._disk.run(work)

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        return await self._disk.run(lambda: self._look(path))

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory, sorted by name."""

        def work() -> list[Entry]:
            with self._directory(path, os.O_RDONLY) as fd:
                watched = self._disk.watch(fd)
                found = []
                for name in os.listdir(fd):
                    with contextlib.suppress(FileNotFoundError):  # removed while we were listing
                        found.append(Entry(name, self._look_at(name, fd, watched)))
                return sorted(found, key=lambda entry: entry.name)

        return await self._disk.run(work, long=True)

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        """Return small files of a directory, whole, each as of one moment."""

        def work() -> list[Content]:
            with self._directory(path) as fd:
                return read_whole(fd, names, size_max, watched=self._disk.watch(fd))

        return await self._disk.run(work, long=True)

    async def readlink(self, path: str) -> str:
        """Return where a link points."""

        def work() -> str:
            with self._parent(path) as (fd, name):
                return os.readlink(name, dir_fd=fd)

        return await self._disk.run(work)

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        """Make a directory."""
        bits = self._powers.mode(mode)
        return await self._make(path, mode, owner, lambda name, fd: os.mkdir(name, bits, dir_fd=fd))

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr:
        """Make a symbolic link; the server will never follow it."""
        return await self._make(path, 0, owner, lambda name, fd: os.symlink(target, name, dir_fd=fd))

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        """Make a file, FIFO or socket; what goes through the latter two stays on the machine that opens them."""
        if type_ not in MADE_TYPES:
            raise PfsError(Kind.INVALID, f"a {type_} is not made like this")
        bits = self._powers.mode(mode) | MADE_TYPES[type_]
        return await self._make(path, mode, owner, lambda name, fd: os.mknod(name, bits, dir_fd=fd))

    async def make_file(self, path: str, mode: int, data: bytes, changes: Changes) -> Attr:
        """Make a file with all its bytes, or none."""
        check_powers(changes, self._powers)

        def work() -> Attr:
            with self._parent(path) as (fd, name):
                watched = self._disk.watch(fd)
                file = make_whole(name, fd, self._powers.mode(mode), data, self._count())
                try:
                    info = settle(file, fd, mode, self._owner, self._powers)
                    if changes != Changes():
                        info = change(file, changes, self._powers)
                finally:
                    os.close(file)
                return attr_of(info, watched=watched)

        return await self._disk.run(work)

    async def put_files(self, path: str, files: Sequence[NewFile]) -> list[PfsError | None]:
        """Let these files be in a directory, each at once; return what was refused, one for each."""
        check_powers(Changes(), self._powers)
        whole = WholeFiles(self._disk.nodes, self._count(), self.path, self._owner, self._powers)
        return await self._with(self._directory(path), lambda fd: whole.put(fd, files), long=True)

    async def link(self, source: str, target: str) -> Attr:
        """Give a node a second name; of a link it is the link itself."""

        def work() -> os.stat_result:
            with self._parent(source) as (old_fd, old), self._parent(target) as (new_fd, new):
                with self._disk.nodes.holding(old):
                    self._count().moves(old_fd, old)
                    os.link(old, new, src_dir_fd=old_fd, dst_dir_fd=new_fd, follow_symlinks=False)
                return os.stat(new, dir_fd=new_fd, follow_symlinks=False)

        return attr_of(await self._disk.run(work))

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory; an open file stays what it is."""
        nodes = self._disk.nodes

        def work() -> int | None:
            with self._parent(path) as (fd, name), nodes.holding(name), large_file(fd, name) as large:
                unlink = partial(os.unlink, name, dir_fd=fd)
                self._count().remove(fd, name, lambda: nodes.remove(self.path, fd, name, unlink))
                return large()

        await self._free(await self._disk.run(work))

    async def _free(self, fd: int | None) -> None:
        """Let go of what was removed."""
        if fd is not None:
            with trio.CancelScope(shield=True):
                await self._disk.run(lambda: os.close(fd), long=True)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""

        def work() -> None:
            with self._parent(path) as (fd, name):
                self._count().remove(fd, name, lambda: os.rmdir(name, dir_fd=fd))

        await self._disk.run(work)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Rename within the domain, at once for everybody; an open file that is replaced stays what it is."""
        nodes = self._disk.nodes

        def work() -> int | None:
            with (
                self._parent(source) as (old_fd, old),
                self._parent(target) as (new_fd, new),
                nodes.holding_both(old, new),
            ):
                count = self._count()
                count.moves(old_fd, old)
                count.moves(new_fd, new)
                if mode is not RenameMode.REPLACE:
                    rename_at(old_fd, old, new_fd, new, RENAME_FLAGS[mode])
                    return None
                move = partial(rename_at, old_fd, old, new_fd, new, 0)
                with large_file(new_fd, new) as large:
                    count.remove(new_fd, new, lambda: nodes.remove(self.path, new_fd, new, move))
                    return large()

        await self._free(await self._disk.run(work))

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change mode, times, size or owner of what stands at `path`."""
        check_powers(changes, self._powers)

        def work() -> os.stat_result:
            with self._own_node(path) as node:
                if stat.S_ISLNK(os.fstat(node).st_mode):
                    return change_link(anew(node), changes)
                with self._count().resizing(anew(node), changes.size):
                    return change(anew(node), changes, self._powers)

        return attr_of(await self._disk.run(work, long=changes.size is not None))

    def _own_node(self, path: str) -> contextlib.AbstractContextManager[int]:
        if path == "":
            raise PfsError(Kind.FORBIDDEN, "a domain's own directory is not changed")
        return self._node(path)

    async def _with(
        self, held: contextlib.AbstractContextManager[int], act: Callable[[int], T], *, long: bool = False
    ) -> T:
        def work() -> T:
            with held as node:
                return act(node)

        return await self._disk.run(work, long=long)

    async def getxattr(self, path: str, name: str) -> bytes:
        """Return an extended attribute."""
        return await self._with(self._node(path), lambda node: get_xattr(node, name))

    async def listxattr(self, path: str) -> Sequence[str]:
        """Return the names of the extended attributes."""
        return await self._with(self._node(path), list_xattrs)

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        """Set an extended attribute."""
        await self._with(self._own_node(path), lambda node: set_xattr(node, name, value, mode))

    async def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        await self._with(self._own_node(path), lambda node: remove_xattr(node, name))

    async def fsyncdir(self, path: str) -> None:
        """Return when the disk has the names in a directory."""
        await self._with(self._directory(path, os.O_RDONLY), os.fsync, long=True)

    async def statfs(self) -> Space:
        """Tell the room on the file system that holds the domain, within its limits."""

        def work() -> Space:
            with self._disk.directory(self.path) as fd:
                info = os.statvfs(fd)
            size = info.f_frsize
            return self._count().within(Space(info.f_blocks * size, info.f_bavail * size, info.f_files, info.f_favail))

        return await self._disk.run(work)

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> DiskFile:
        """Open or make an ordinary file; UNSUPPORTED for what is none."""
        nodes = self._disk.nodes

        def work() -> DiskFile:
            with self._parent(path) as (parent_fd, name), nodes.holding(name):
                watched = self._disk.watch(parent_fd)
                fd, made = open_or_make(name, parent_fd, flags, self._powers.mode(mode), self._count())
                try:
                    info = check_ordinary(fd)
                    if made:
                        info = settle(fd, parent_fd, mode, owner or self._owner, self._powers)
                    elif flags & (OpenFlags.WRITE | OpenFlags.TRUNCATE):
                        drop_special(fd, self._powers)
                        info = os.fstat(fd)
                except BaseException:
                    os.close(fd)
                    raise
                nodes.opened(info)
                return self._file(fd, info, flags, watched=watched)

        return await self._disk.run(work, long=OpenFlags.TRUNCATE in flags)

    def _file(self, fd: int, info: os.stat_result, flags: OpenFlags, *, watched: bool) -> DiskFile:
        told = {"appends": OpenFlags.APPEND in flags, "watched": watched}
        return DiskFile(self._disk, self._disk.nodes, fd, info, self._powers, count=self._count, **told)

    async def reopen(self, path: str, node_id: int, flags: OpenFlags) -> DiskFile:
        """Open the very node with this number, at `path` or among the orphans; nothing is made or cut."""
        bits = open_bits(flags & ~OpenFlags.TRUNCATE)

        def work() -> DiskFile:
            found = self._open_same(path, node_id, bits) or self._disk.nodes.reopen(self.path, node_id, bits)
            return self._file(*found, flags, watched=False)

        return await self._disk.run(work)

    def _open_same(self, path: str, node_id: int, bits: int) -> tuple[int, os.stat_result] | None:
        """Open and count what stands at `path` if it is the node with this number."""
        try:
            with self._parent(path) as (parent_fd, name), self._disk.nodes.holding(name):
                if node_id_of(os.stat(name, dir_fd=parent_fd, follow_symlinks=False)) != node_id:
                    return None
                fd = open_silently(name, bits, parent_fd)
                info = os.fstat(fd)
                if node_id_of(info) != node_id or not stat.S_ISREG(info.st_mode):
                    os.close(fd)
                    return None
                self._disk.nodes.opened(info, again=True)
                return fd, info
        except (FileNotFoundError, NotADirectoryError):
            return None
