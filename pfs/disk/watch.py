"""Sees what changes in the data root behind the service's back: an admin at work, a job's container.

The kernel (fanotify(7)) tells which process changed what in the directories that were added. What this process does
is left out: the service speaks of its own changes before it makes them. Where the kernel does not tell everything,
`add` answers False, and copies are good for a moment only: on file systems that other machines change too, in
sandboxes without fanotify, and before Linux 5.13 unless as root. No privilege is needed otherwise.

An added directory covers:

- the names in it, and its own attributes;
- content, attributes and extended attributes of the files in it. Child directories are covered when they are added
  themselves: new names in them, and so their times and link counts, are not told of otherwise;
- whoever it is: child processes, other PID and mount namespaces, bind mounts, overlays, users of our descriptors.

It does not cover:

- a file's other names. Who writes through a name in a directory that was not added is not seen, unless the file was
  added too: so add a file that has more than one name. When a file gets its second name in a directory that was not
  added, nothing tells;
- writing to mapped memory, until the file is unmapped and closed: then it is told, even if nothing was written;
- times of reading. Files that are reached by their handles when the kernel has forgotten their names, as an NFS
  server on this machine may (not tried). What is mounted over a directory, and a file system that is unmounted and
  mounted again.

The parent tells at once that a directory is removed; the directory itself does when nobody holds it open any more,
which is not told again where this process was the last one.

    worker thread   add(directory) ── read it ──┐
    loop            run: ... events ...  grant, if `changed` did not name it since `add`
"""

import errno
import logging
import os
import stat
import threading
from collections.abc import Callable

import trio

from pfs.disk import fanotify

log = logging.getLogger(__name__)

Node = tuple[int, int]
Name = tuple[Node, str]

# file systems on this machine's own disks: ext4, xfs, btrfs, f2fs, tmpfs
LOCAL_TYPES = frozenset({0xEF53, 0x58465342, 0x9123683E, 0xF2F52010, 0x01021994})
MARKS_MAX = 65_536
REST_S = 0.05
FULL_S = 60.0
READS_MAX = 32  # enough for a full queue


class Watch:
    """The directories and files of a data root that are watched. Nodes are (st_dev, st_ino).

    Args:
        changed: called with the nodes whose attributes, content or names have changed, and with the names, by
            directory, that have come or gone or lead elsewhere: at most every `REST_S` seconds.
        lost: called when anything may have changed; nothing is watched any more until it is added again.
        marks_max: so many nodes can be watched.

    Both are called in the event loop and must not wait.
    """

    def __init__(
        self, changed: Callable[[set[Node], set[Name]], None], lost: Callable[[], None], marks_max: int = MARKS_MAX
    ) -> None:
        self._changed = changed
        self._lost = lost
        self._marks_max = marks_max
        self._lock = threading.Lock()  # between the loop and the worker threads that add
        self._group: fanotify.Group | None = None
        self._loop: trio.lowlevel.TrioToken | None = None
        self._handles: dict[Node, bytes] = {}
        self._devices: dict[bytes, int] = {}
        self._full_until_s = 0.0
        self._pid = os.getpid()

    def __len__(self) -> int:
        return len(self._handles)

    async def run(self) -> None:
        """Tell of changes until cancelled; returns at once where this machine does not let us."""
        try:
            group = fanotify.Group()
        except OSError as error:
            log.warning("changes made directly on the disk are seen late, the kernel tells us none: %s", error)
            return
        self._loop = trio.lowlevel.current_trio_token()
        self._group = group
        try:
            while True:
                await trio.lowlevel.wait_readable(group.fd)
                await self._tell(group)
                await trio.sleep(REST_S)
        finally:
            with self._lock:
                self._group = None
                self._handles.clear()
                group.close()

    def add(self, fd: int) -> bool:
        """Watch the directory or file behind `fd`, which may be an O_PATH descriptor. For any thread.

        Changes to what is read after this returned are told of. To add again what is added costs little.

        Returns:
            False where it cannot be watched.
        """
        with self._lock:
            if self._group is None:
                return False
            try:
                return self._add(self._group, fd)
            except OSError as error:
                if error.errno == errno.ENOSPC:
                    self._full()
                return False

    def start_over(self) -> None:
        """Watch nothing any more, and say that anything may have changed. For the event loop only."""
        with self._lock:
            if self._group is not None:
                self._group.flush()
            self._handles.clear()
        self._lost()

    def _add(self, group: fanotify.Group, fd: int) -> bool:
        info = os.fstat(fd)
        node = info.st_dev, info.st_ino
        handle = group.handle(fd)
        if self._handles.get(node) == handle:  # it holds a generation, so this is no later node of the same number
            return True
        if len(self._handles) >= self._marks_max:
            self._full()
            return False
        volume = group.volume(fd)
        if volume.type not in LOCAL_TYPES or fanotify.inode_of(handle) != info.st_ino:
            return False
        if self._devices.setdefault(volume.fsid, info.st_dev) != info.st_dev:
            return False  # a clone of a disk beside the disk: events would not tell which
        group.mark(fd, directory=stat.S_ISDIR(info.st_mode))
        self._handles[node] = handle
        return True

    def _full(self) -> None:
        """Make room for what is in use now; not too often, for it costs everybody all copies."""
        if self._loop is not None:
            self._loop.run_sync_soon(self._start_over_if_due, idempotent=True)

    def _start_over_if_due(self) -> None:
        now_s = trio.current_time()
        if now_s >= self._full_until_s:
            self._full_until_s = now_s + FULL_S
            self.start_over()

    async def _tell(self, group: fanotify.Group) -> None:
        """Tell what is in the queue; what comes meanwhile may be left for the next time."""
        nodes: set[Node] = set()
        names: set[Name] = set()
        for _ in range(READS_MAX):
            data = group.read()
            taken = [self._take(event, nodes, names) for event in fanotify.events(data, self._pid)]
            if not all(taken):
                self.start_over()
            if len(data) < fanotify.READ_BYTES // 2:
                break
            await trio.lowlevel.checkpoint()
        if nodes:
            self._changed(nodes, names)

    def _take(self, event: fanotify.Event, nodes: set[Node], names: set[Name]) -> bool:
        """Note what an event tells; False when it names nothing, as when the queue was too short for all."""
        directory, target = self._node(event.directory), self._node(event.target)
        if directory is None and target is None:
            return False
        if event.pid != self._pid:  # what this process lets go of last was removed before, and told then
            if target is not None:
                nodes.add(target)
            if directory is not None and (target is None or event.mask & fanotify.NAMES):
                nodes.add(directory)
                if event.name:
                    names.add((directory, os.fsdecode(event.name)))
        if event.mask & fanotify.DELETE_SELF and (gone := directory or target) is not None:
            self._handles.pop(gone, None)
        return True

    def _node(self, handle: bytes) -> Node | None:
        if not handle:
            return None
        fsid, rest = fanotify.split(handle)
        device, inode = self._devices.get(fsid), fanotify.inode_of(rest)
        return None if device is None or inode is None else (device, inode)
