"""Which files are open, and the hidden names of those that would have none.

An open descriptor keeps a removed file, but only as long as the server runs. So before the last name of an open file is
removed or replaced, the file gets another one in `orphans/<domain>/`, where no path of the tree leads:

    open ── last name goes ──▶ open, orphan ── released ──▶ gone
      │                            ├── connection or server lost ──▶ left ── opened again ──▶ open, orphan
      └── connection lost ──▶ left, has its names                     └── `KEPT_NS` later ──▶ gone

What is left counts as open until nobody came back for it in `KEPT_NS`. Whoever opens a name and whoever removes it
exclude one another by name, so that no file slips through between being opened and being known as open.
"""

import contextlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from urllib.parse import quote, unquote

from pfs.disk.attr import node_id_of
from pfs.disk.system import anew, open_beneath
from pfs.errors import Kind, PfsError

ORPHANS = "orphans"
KEPT_NS = 600 * 10**9
NAME_LOCKS = 64

log = logging.getLogger(__name__)
Key = tuple[int, int]


@dataclass(slots=True)
class _Open:
    """A node that is open, or was left.

    Attributes:
        count: how many openings there are.
        lost: how many more there were when their connections went, that nobody came back for yet.
        orphan: folder and name of its hidden name, where it has one.
        lost_ns: when a sweep first saw the last of those.
    """

    count: int = 0
    lost: int = 0
    orphan: tuple[str, str] | None = None
    lost_ns: int | None = None


def key_of(info: os.stat_result) -> Key:
    """Return what tells nodes apart while they exist: device and inode."""
    return info.st_dev, info.st_ino


class OpenNodes:
    """The files that are open under one data root. Its methods are for worker threads.

    Args:
        root_fd: the data root.

    Attributes:
        removing: is given a domain's folder, its descriptor and a hidden name in it, and what removes that name.
    """

    def __init__(self, root_fd: int) -> None:
        self._root_fd = root_fd
        self.removing: Callable[[str, int, str, Callable[[], None]], None] = lambda folder, fd, name, act: act()
        self._lock = threading.Lock()
        self._nodes: dict[Key, _Open] = {}
        self._found: dict[tuple[str, str], int] = {}  # orphans of an earlier server, and when a sweep first saw them
        self._names = [threading.Lock() for _ in range(NAME_LOCKS)]

    # ---- opening and releasing

    def holding(self, name: str) -> AbstractContextManager[object]:
        """Hold a name, whatever directory it is in, against being opened, removed or moved."""
        return self._names[hash(name) % NAME_LOCKS]

    @contextlib.contextmanager
    def holding_both(self, one: str, other: str) -> Iterator[None]:
        """Hold two names."""
        first, last = sorted((hash(one) % NAME_LOCKS, hash(other) % NAME_LOCKS))
        with self._names[first], self._names[last] if last != first else contextlib.nullcontext():
            yield

    def opened(self, info: os.stat_result, *, again: bool = False) -> None:
        """Count an opening; whoever calls this holds the name.

        Args:
            again: by somebody who came back.
        """
        with self._lock:
            self._count(key_of(info), again=again)

    def _count(self, key: Key, *, again: bool) -> _Open:
        node = self._nodes.setdefault(key, _Open())
        node.count += 1
        if again and node.lost > 0:
            node.lost -= 1
        return node

    def released(self, key: Key, *, lost: bool) -> None:
        """Count an opening off.

        Args:
            lost: nobody released it, but the connection is gone: who held it may come back.
        """
        with self._lock:
            node = self._nodes[key]
            node.count -= 1
            if lost:
                node.lost += 1
                node.lost_ns = None
            if node.count == 0 and node.lost == 0:
                self._forget(key)

    def hidden(self, key: Key) -> int:
        """Return how many hidden names an open node has."""
        with self._lock:
            node = self._nodes.get(key)
            return 0 if node is None or node.orphan is None else 1

    def reopen(self, domain: str, node_id: int, bits: int) -> tuple[int, os.stat_result]:
        """Open an orphan of a domain, and count the opening.

        Raises:
            PfsError: STALE when there is none with that number.
        """
        orphan = folder_of(domain), _name(node_id)
        with self._lock:
            try:
                with self._directory(orphan[0]) as folder_fd:
                    fd = os.open(orphan[1], bits, dir_fd=folder_fd)
            except FileNotFoundError:
                raise PfsError(Kind.STALE, "this file is gone") from None
            info = os.fstat(fd)
            self._count(key_of(info), again=True).orphan = orphan
            return fd, info

    # ---- removing names

    def remove(self, domain: str, parent_fd: int, name: str, act: Callable[[], None]) -> bool:
        """Keep what stands at a name that `act` removes or replaces; whoever calls this holds the name.

        Returns:
            True if it lives on under a hidden name.
        """
        if not self._is_open(parent_fd, name):
            act()
            return False
        with self._lock:
            with self._kept(domain, parent_fd, name) as node:
                act()
            return node is not None and node.orphan is not None

    def _is_open(self, parent_fd: int, name: str) -> bool:
        if not self._nodes:
            return False
        try:
            key = key_of(os.stat(name, dir_fd=parent_fd, follow_symlinks=False))
        except OSError:
            return False  # there is nothing to be kept; what is wrong shows when the name is removed
        with self._lock:
            return key in self._nodes

    @contextlib.contextmanager
    def _kept(self, domain: str, parent_fd: int, name: str) -> Iterator[_Open | None]:
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent_fd)
        try:
            info = os.fstat(fd)
            node = self._nodes.get(key_of(info))
            if node is None or not stat.S_ISREG(info.st_mode) or info.st_nlink != 1:
                yield None
                return
            self._hide(node, domain, fd, info)
            try:
                yield node
            finally:
                if os.fstat(fd).st_nlink > 1:  # it has its name still: the change was refused, or was none
                    self._unhide(node)
        finally:
            os.close(fd)

    def _hide(self, node: _Open, domain: str, fd: int, info: os.stat_result) -> None:
        """Give a node its hidden name. That this fails must not keep anybody from removing their file."""
        orphan = folder_of(domain), _name(node_id_of(info))
        try:
            for path in (ORPHANS, f"{ORPHANS}/{orphan[0]}"):
                with contextlib.suppress(FileExistsError):
                    os.mkdir(path, 0o700, dir_fd=self._root_fd)
            with self._directory(orphan[0]) as folder_fd:
                with contextlib.suppress(FileNotFoundError):  # another's: devices got new numbers since
                    os.unlink(orphan[1], dir_fd=folder_fd)
                os.link(anew(fd), orphan[1], dst_dir_fd=folder_fd)
            node.orphan = orphan
        except OSError as error:
            log.warning("an open file of %s that was removed will not outlive a restart: %s", domain, error.strerror)

    def _unhide(self, node: _Open) -> None:
        if node.orphan is not None:
            self._remove(*node.orphan)
            node.orphan = None

    def _forget(self, key: Key) -> None:
        self._unhide(self._nodes.pop(key))

    # ---- what nobody came back for

    def sweep(self, now_ns: int) -> None:
        """Let go of what was left at least `KEPT_NS` ago, as far as earlier sweeps have seen it.

        Args:
            now_ns: nanoseconds of any clock that does not go back, the same in every call.
        """
        with self._lock:
            for key, node in list(self._nodes.items()):
                if node.lost > 0:
                    node.lost_ns = now_ns if node.lost_ns is None else node.lost_ns
                    if now_ns - node.lost_ns >= KEPT_NS:
                        node.lost, node.lost_ns = 0, None
                        if node.count == 0:
                            self._forget(key)
            known = {node.orphan for node in self._nodes.values()}
            self._found = {each: self._found.get(each, now_ns) for each in self._all() if each not in known}
            for orphan in [each for each, found_ns in self._found.items() if now_ns - found_ns >= KEPT_NS]:
                self._remove(*orphan)
                del self._found[orphan]

    def _all(self) -> Iterator[tuple[str, str]]:
        for folder in self._listed(ORPHANS):
            for name in self._listed(f"{ORPHANS}/{folder}"):
                yield folder, name

    def _listed(self, path: str) -> list[str]:
        try:
            fd = open_beneath(self._root_fd, path, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _remove(self, folder: str, name: str) -> None:
        try:
            with self._directory(folder) as fd:
                self.removing(folder, fd, name, lambda: os.unlink(name, dir_fd=fd))
        except FileNotFoundError:
            return  # somebody tidied up on the server's disk
        except OSError as error:
            log.warning("an orphan in %s/%s cannot be removed: %s", ORPHANS, folder, error.strerror)

    @contextlib.contextmanager
    def _directory(self, folder: str) -> Iterator[int]:
        fd = open_beneath(self._root_fd, f"{ORPHANS}/{folder}", os.O_PATH | os.O_DIRECTORY)
        try:
            yield fd
        finally:
            os.close(fd)


def folder_of(domain: str) -> str:
    """Return the folder with the hidden names of a domain's files, in `ORPHANS`."""
    return quote(domain, safe="", errors="surrogateescape")


def domain_of(folder: str) -> str:
    """Return the domain whose hidden names are in a folder."""
    return unquote(folder, errors="surrogateescape")


def _name(node_id: int) -> str:
    return f"{node_id:016x}"
