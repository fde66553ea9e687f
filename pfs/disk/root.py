"""The data root: what touches it, and what the server makes in it for itself.

Calls that may take long are made in worker threads: a slow disk holds up one caller, not the server. Short ones are
made at once while the disk is quick (`pfs.disk.quick`).
"""

import contextlib
import os
import time
from collections.abc import Awaitable, Callable, Collection, Iterator
from typing import TypeVar

import trio

from pfs.disk.counting import Counts
from pfs.disk.orphans import OpenNodes
from pfs.disk.project import Projects
from pfs.disk.quick import Quickness, all_local, parse_mounts
from pfs.disk.system import anew, keep_for_group, open_beneath, translate
from pfs.path import parent_and_name

T = TypeVar("T")

THREADS_MAX = 16
MOUNTS_FILE = "/proc/self/mountinfo"


class DiskRoot:
    """The data root: runs what touches it.

    Args:
        root: the directory; domains are directories below it.

    Attributes:
        watch: is given the descriptor of a directory or file, in any thread, and tells whether changes that others
            make to it from now on will be told of.
        changed: is given the numbers of nodes that the server itself has changed here past the tree; the watch does
            not tell of those.
    """

    def __init__(self, root: str) -> None:
        self.root = os.path.realpath(root)
        self._root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._threads = trio.CapacityLimiter(THREADS_MAX)
        self._quickness = Quickness()
        self.nodes = OpenNodes(self._root_fd)
        self.counts = Counts(self._root_fd)
        self.projects = Projects(self._root_fd)
        self.nodes.removing = self.counts.remove_hidden
        self.watch: Callable[[int], bool] = lambda fd: False
        self.changed: Callable[[Collection[int]], Awaitable[None]] = _nobody_has_copies

    async def run(self, work: Callable[[], T], *, long: bool = False) -> T:
        """Run `work`, at once or in a worker thread; its OSErrors come out as `PfsError`.

        Args:
            long: it moves much data, waits for the platters, or does many things: a thread is made use of in any case.
        """
        begun_ns = time.monotonic_ns()
        try:
            if long or not self._is_quick(begun_ns):
                return await trio.to_thread.run_sync(work, limiter=self._threads)
            try:
                return work()
            finally:
                self._quickness.took(begun_ns, time.monotonic_ns())
        except OSError as error:
            raise translate(error) from None

    def _is_quick(self, now_ns: int) -> bool:
        if self._quickness.wants_look(now_ns):
            with open(MOUNTS_FILE, encoding="utf-8", errors="surrogateescape") as file:
                self._quickness.looked(all_local(self.root, parse_mounts(file.read())), now_ns)
        return self._quickness.is_quick(now_ns)

    async def sweep_orphans(self, now_ns: int) -> None:
        """Let go of what was open when its connection, or an earlier server, went, and nobody came back for.

        Args:
            now_ns: nanoseconds of any clock that does not go back; to be called from the start on, each minute or so.
        """
        await self.run(lambda: self.nodes.sweep(now_ns), long=True)

    @contextlib.contextmanager
    def directory(self, path: str, bits: int = os.O_PATH) -> Iterator[int]:
        """Hold the directory `path`, none of whose parts is "..", open, as a descriptor."""
        fd = open_beneath(self._root_fd, path, bits | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)

    def make_directory_now(self, path: str, mode: int, uid: int | None) -> None:
        """Make sure that the directory `path` is there, with this mode and owner."""
        parent, name = parent_and_name(path)
        with self.directory(parent) as fd:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=fd)
            # by its descriptor: whoever may write to the parent could put a link in its place
            with self.directory(path) as made:
                os.chmod(anew(made), mode)
                if uid is not None:
                    os.chown(anew(made), uid, uid)

    def make_group_directory_now(self, path: str, gid: int | None) -> None:
        """Make sure that the directory `path` is there, and is a group's with all that will be made in it."""
        parent, name = parent_and_name(path)
        with self.directory(parent) as fd, contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=fd)
        with self.directory(path) as made:
            if gid is not None:
                os.chown(anew(made), -1, gid)
            os.chmod(anew(made), 0o2770)
            keep_for_group(anew(made))

    def write_file_now(self, directory: str, name: str, data: bytes, uid: int | None) -> None:
        """Write a small file of the server's own choosing, in one step for whoever reads it."""
        part = f".{name}.part"
        with self.directory(directory) as fd:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part, dir_fd=fd)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            file = os.open(part, flags, 0o644, dir_fd=fd)
            with open(file, "wb") as stream:
                stream.write(data)
                if uid is not None:
                    os.fchown(file, uid, uid)
            os.rename(part, name, src_dir_fd=fd, dst_dir_fd=fd)

    def close(self) -> None:
        """Let go of the root."""
        os.close(self._root_fd)


async def _nobody_has_copies(nodes: Collection[int]) -> None:
    return None
