"""Project quotas of the file system below the data root: they hold for who writes past the service, too.

Each user and each group has a project, with the number that they have as owners of files; homes, the data of jobs and
folders of groups are marked with it, and what is made in them is. The kernel refuses what would pass the limits, which
it counts in blocks: a hole is nothing, a small file a block. So a service that counts sizes stays the one that refuses
first, but for small files.

XFS and ext4 have such quotas where they are mounted with `prjquota`. Everywhere else there are none, and what jobs
write past the service is counted afterwards (`pfs.disk.counting`).
"""

import contextlib
import ctypes
import fcntl
import logging
import os
import stat
import struct
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

import trio

from pfs.disk.system import open_beneath
from pfs.errors import PfsError
from pfs.path import join
from pfs.quota import Limits

_PROJECT = 2  # PRJQUOTA
_SET_LIMITS, _STATE = 0x800008, 0x5808  # Q_SETQUOTA, Q_XGETQSTATV
_ENFORCED = 1 << 5  # FS_QUOTA_PDQ_ENFD
_QUOTACTL_FD = 443  # the same number on every machine

_LIMITS = struct.Struct("=8QI4x")  # struct if_dqblk
_BLOCKS_AND_FILES = 1 | 4  # QIF_BLIMITS, QIF_ILIMITS
_BLOCK_BYTES = 1024

_GET_MARK, _SET_MARK = 0x801C581F, 0x401C5820  # FS_IOC_FSGETXATTR, FS_IOC_FSSETXATTR
_MARK = struct.Struct("=5I8x")  # struct fsxattr: flags, …, the project as the fourth
_INHERITED = 0x200  # FS_XFLAG_PROJINHERIT

LOOK_EVERY_S = 1.0

log = logging.getLogger(__name__)

_Unmarked = tuple[int, Callable[[], Iterable[str]]]  # a project, and what tells its domains

_libc = ctypes.CDLL(None, use_errno=True)


class Projects:
    """The projects of a data root.

    Limits hold from the moment when they are said, for what is marked already. Marking what is not may take long, and
    goes on beside (`run`).

    Args:
        root_fd: the data root.

    Attributes:
        are_kept: whether the file system keeps projects within limits, and lets us say them.
    """

    def __init__(self, root_fd: int) -> None:
        self.are_kept = os.geteuid() == 0 and has_project_quotas(root_fd)
        self._root_fd = root_fd
        self._limits: dict[int, Limits] = {}
        self._seen: set[int] = set()
        self._unmarked: deque[_Unmarked] = deque()

    def limit(self, project: int, limits: Limits, domains: Callable[[], Iterable[str]]) -> None:
        """Say how much a project may hold, and once that these domains are its own. For one thread at a time.

        Args:
            domains: tells which, when they are to be marked, in any thread; those that are made afterwards are marked
                by who does.
        """
        before = self._limits.get(project)
        if before == limits:
            return
        try:
            # also none at first sight: the kernel may hold what was taken away while no server ran
            set_project_limits(self._root_fd, project, limits)
            if limits != Limits() and project not in self._seen:
                self._seen.add(project)
                self._unmarked.append((project, domains))
        except OSError as error:
            log.warning("the file system keeps no limits for the project %d: %s", project, error.strerror)
        self._limits[project] = limits

    async def run(self) -> None:
        """Mark what is to be marked, for ever."""
        while True:
            await self.mark_waiting()
            await trio.sleep(LOOK_EVERY_S)

    async def mark_waiting(self) -> None:
        """Mark what is to be marked by now; what cannot be told waits on."""
        for _ in range(len(self._unmarked)):
            await self._mark(self._unmarked.popleft())

    async def _mark(self, unmarked: "_Unmarked") -> None:
        ended = threading.Event()
        try:
            work = partial(_mark_all, self._root_fd, *unmarked, lambda: not ended.is_set())
            await trio.to_thread.run_sync(work, abandon_on_cancel=True)
        except PfsError as error:
            log.warning("what is of the project %d cannot be told: %s", unmarked[0], error)
            self._unmarked.append(unmarked)
        finally:
            ended.set()


def _mark_all(root_fd: int, project: int, domains: Callable[[], Iterable[str]], going_on: Callable[[], bool]) -> None:
    for domain in domains():
        try:
            mark(root_fd, domain, project, going_on)
        except FileNotFoundError:
            continue
        except OSError as error:
            log.warning("%s is not held within the limits of the project %d: %s", domain, project, error.strerror)
        if not going_on():
            return


def has_project_quotas(root_fd: int) -> bool:
    """Tell whether the file system of this directory keeps what projects hold within limits."""
    state = bytearray(512)
    state[0] = 1  # the version of struct fs_quota_statv
    try:
        _quotactl(root_fd, _STATE, 0, state)
    except OSError:
        return False
    return bool(int.from_bytes(state[2:4], "little") & _ENFORCED)


def set_project_limits(root_fd: int, project: int, limits: Limits) -> None:
    """Say how much a project may hold; what it holds stays.

    Raises:
        OSError: what the kernel says.
    """
    blocks = 0 if limits.size_bytes is None else max(1, -(-limits.size_bytes // _BLOCK_BYTES))  # 0 is no limit
    files = 0 if limits.files is None else max(1, limits.files)
    packed = _LIMITS.pack(blocks, 0, 0, files, 0, 0, 0, 0, _BLOCKS_AND_FILES)
    _quotactl(root_fd, _SET_LIMITS, project, bytearray(packed))


def mark(root_fd: int, domain: str, project: int, going_on: Callable[[], bool] = lambda: True) -> None:
    """Let a directory of the data root, and all that is or will be below it, be of a project.

    What cannot be opened is left as it is: devices, sockets and FIFOs hold nothing.

    Raises:
        OSError: what the kernel says of the directory itself; FileNotFoundError where there is none.
    """
    top = open_beneath(root_fd, domain, os.O_RDONLY | os.O_DIRECTORY)
    try:
        set_project(top, project)  # first: what is made meanwhile is of it, too
        left = [""]
        while left and going_on():
            path = left.pop()
            with contextlib.suppress(OSError):
                left += [join(path, name) for name in _mark_below(top, path, project)]
    finally:
        os.close(top)


def _mark_below(top: int, path: str, project: int) -> list[str]:
    """Mark what is in a directory; return the names of directories in it."""
    directories = []
    fd = open_beneath(top, path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in os.listdir(fd):
            with contextlib.suppress(OSError):
                mode = os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode
                if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
                    continue
                node = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
                try:
                    set_project(node, project)
                finally:
                    os.close(node)
                if stat.S_ISDIR(mode):
                    directories.append(name)
    finally:
        os.close(fd)
    return directories


def set_project(fd: int, project: int) -> None:
    """Let a file or a directory be of a project; what will be made in a directory is as well.

    Raises:
        OSError: what the kernel says: UNSUPPORTED where files have no projects.
    """
    flags, *rest = _MARK.unpack(fcntl.ioctl(fd, _GET_MARK, bytes(_MARK.size)))
    wanted = flags | _INHERITED if stat.S_ISDIR(os.fstat(fd).st_mode) else flags
    if (wanted, project) != (flags, rest[2]):
        rest[2] = project
        fcntl.ioctl(fd, _SET_MARK, _MARK.pack(wanted, *rest))


def project_of(fd: int) -> int:
    """Return the project of a file or directory.

    Raises:
        OSError: where files have no projects.
    """
    return int(_MARK.unpack(fcntl.ioctl(fd, _GET_MARK, bytes(_MARK.size)))[3])


def _quotactl(root_fd: int, command: int, project: int, value: bytearray) -> None:
    address = (ctypes.c_char * len(value)).from_buffer(value)
    if _libc.syscall(_QUOTACTL_FD, root_fd, command << 8 | _PROJECT, project, address) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
