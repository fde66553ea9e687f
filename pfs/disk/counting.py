"""Keeps users and groups within their limits: every change in a domain passes here before it is made.

What counts is decided in `pfs.quota`. Here a change is made and counted so that it is counted once, whatever else goes
on: a node is made while nobody looks at nodes, names are removed one at a time, and the size of a file that could not
be written as intended is looked up when nobody writes to it any more. A domain without limits is not counted, and
costs nothing.

Jobs write to homes and to their own data past the server. So the whole is counted again: each minute where that may
have happened, or where somebody was refused; otherwise each hour. Counting takes one thread, a twentieth of the time
at most.

    locks, in this order    a name (`pfs.disk.orphans`)  ▸  `_removing`  ▸  those of open files  ▸  `_lock`
"""

import contextlib
import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from functools import partial
from typing import TypeVar

import trio

from pfs.api import Space
from pfs.disk.orphans import ORPHANS, domain_of, folder_of, key_of
from pfs.disk.scan import scan
from pfs.disk.system import open_beneath
from pfs.errors import PfsError
from pfs.quota import Amount, Growth, Limits, Usage, bounded

T = TypeVar("T")

LOOK_EVERY_S = 1.0
LET_PASS_S = 0.0005  # who waits for a lock that is taken again at once may wait for long
RESTS = 20  # times as long as the last count took

Block = AbstractContextManager[object]
NOTHING: Block = contextlib.nullcontext()


log = logging.getLogger(__name__)


class Count:
    """What one user or group holds; its methods are for any thread.

    Args:
        usage: None for a domain without limits: then all is let through.
    """

    def __init__(self, usage: Usage | None = None) -> None:
        self.usage = usage
        self._lock = threading.Lock()
        self._removing = threading.Lock()

    def limit(self, limits: Limits) -> None:
        """Give it other limits."""
        assert self.usage is not None
        with self._lock:
            self.usage.limits = limits

    def doubt(self) -> None:
        """Others may have changed it past the service."""
        assert self.usage is not None
        with self._lock:
            self.usage.doubt()

    def due_ns(self) -> int:
        """When it is to be counted again, on the clock of `time.monotonic_ns`; 0 before it was."""
        assert self.usage is not None
        with self._lock:
            return self.usage.due_ns()

    @property
    def limits(self) -> Limits:
        """How much there may be."""
        return Limits() if self.usage is None else self.usage.limits

    @property
    def used(self) -> Amount:
        """How much there is, as far as it was counted."""
        if self.usage is None:
            return Amount()
        with self._lock:
            return self.usage.used

    def check_is_within(self) -> None:
        """Refuse what may make more than there is, where that is above a limit already.

        Raises:
            PfsError: QUOTA.
        """
        if self.usage is not None:
            with self._lock:
                self.usage.check_is_within()

    def bring(self, size_bytes: int) -> None:
        """Let another node of this size be there, which is made past this at once.

        Raises:
            PfsError: QUOTA.
        """
        if self.usage is not None:
            with self._lock:
                self.usage.check(size_bytes, 1)
                self.usage.brought(size_bytes, 1)

    # ---- changes

    def make(self, parent_fd: int, name: str, act: Callable[[], T]) -> T:
        """Let `act` make a node of that name, which it refuses to where there is one.

        Raises:
            PfsError: QUOTA when there are as many as there may be.
        """
        if self.usage is None:
            return act()
        with self._lock:
            try:
                self.usage.check(0, 1)
            except PfsError:
                if _stat(parent_fd, name) is None:
                    raise
            made = act()
            self.usage.made(key_of(os.stat(name, dir_fd=parent_fd, follow_symlinks=False)))
            return made

    def remove(self, parent_fd: int, name: str, act: Callable[[], bool | None]) -> None:
        """Let `act` remove or replace what stands at a name, if anything; it tells whether that lives on."""
        if self.usage is None:
            act()
            return
        with self._removing:
            before = self._seen(self.usage, parent_fd, name)
            lives_on = act()
            if before is None or lives_on or not _was_last(before):
                return
            if (after := _stat(parent_fd, name)) is None or key_of(after) != key_of(before):
                with self._lock:
                    self.usage.removed(key_of(before), _size(before))

    def remove_hidden(self, parent_fd: int, name: str, act: Callable[[], None]) -> None:
        """Let `act` remove a hidden name of a file."""
        if self.usage is None:
            act()
            return
        before = self._seen(self.usage, parent_fd, name)
        act()
        if before is not None and before.st_nlink == 1:
            with self._lock:
                self.usage.removed(key_of(before), _size(before))

    def moves(self, parent_fd: int, name: str) -> None:
        """What stands at a name is about to get another one."""
        if self.usage is not None and (info := self._seen(self.usage, parent_fd, name)) is not None:
            with self._lock:
                self.usage.moves(directory=stat.S_ISDIR(info.st_mode))

    def _seen(self, usage: Usage, parent_fd: int, name: str) -> os.stat_result | None:
        with self._lock:
            info = _stat(parent_fd, name)
            if info is not None:
                usage.see(key_of(info), _size(info))
            return info

    def writing(self, fd: int, offset: int | None, count: int, *, surely: bool = True) -> Block:
        """Let the block write to an open file.

        Args:
            offset: None is its end.
            count: how many bytes.
            surely: the block writes all of them if it does not raise.

        Raises:
            PfsError: QUOTA when they do not fit, and then nothing is written.
        """
        if self.usage is None:
            return NOTHING
        return self._growing(self.usage, lambda: os.fstat(fd), offset, count, surely=surely)

    def resizing(self, target: int | str, size_bytes: int | None) -> Block:
        """Let the block give a file, by a descriptor or a name of one, another size; None is the one that it has."""
        if self.usage is None or size_bytes is None:
            return NOTHING
        return self._growing(self.usage, lambda: os.stat(target), 0, size_bytes, surely=False)

    def cutting(self, parent_fd: int, name: str) -> Block:
        """Let the block open a file that is there so that it becomes empty."""
        if self.usage is None or _stat(parent_fd, name) is None:
            return NOTHING
        look = lambda: os.stat(name, dir_fd=parent_fd, follow_symlinks=False)  # noqa: E731
        return self._growing(self.usage, look, 0, 0, surely=False)

    @contextlib.contextmanager
    def _growing(
        self, usage: Usage, look: Callable[[], os.stat_result], offset: int | None, count: int, *, surely: bool
    ) -> Iterator[None]:
        with self._lock:
            info = look()
            growth = usage.begin(key_of(info), _size(info), offset, count)
        doubtful = True
        try:
            yield
            doubtful = not surely
        finally:
            with self._lock:
                if usage.finish(growth, doubtful=doubtful):
                    _settle(usage, growth, look)

    # ---- counting the whole

    def see_all(self, root_fd: int, domains: Iterable[str], going_on: Callable[[], bool] = lambda: True) -> None:
        """Count every node of these domains: below their directories, and the hidden names of their open files."""
        usage = self.usage
        if usage is None:
            return
        with self._lock:
            usage.begin_count(time.monotonic_ns())
        for path in (path for domain in domains for path in (domain, f"{ORPHANS}/{folder_of(domain)}")):
            try:
                fd = open_beneath(root_fd, path, os.O_PATH | os.O_DIRECTORY)
            except FileNotFoundError:  # nothing was ever hidden, or it is gone
                continue
            try:
                look = lambda info: usage.see(key_of(info), _size(info))  # noqa: E731
                if not scan(fd, look, holding=lambda: self._lock, going_on=going_on):
                    return
            finally:
                os.close(fd)
        with self._lock:
            usage.end_count()

    def within(self, space: Space) -> Space:
        """Return the room that there is in the domain, on a disk with so much."""
        if self.usage is None:
            return space
        limits, used = self.usage.limits, self.used
        bytes_total, bytes_free = bounded(limits.size_bytes, used.size_bytes, space.bytes_total, space.bytes_free)
        files_total, files_free = bounded(limits.files, used.files, space.files_total, space.files_free)
        return Space(bytes_total, bytes_free, files_total, files_free)


UNLIMITED = Count()


class Counts:
    """All domains of a data root that have limits.

    Args:
        root_fd: the data root.

    Attributes:
        belongs: tells for which domain another one counts: the data of a job for its owner's home. In any thread.
        further: tells which domains count for one beside itself. In any thread.
    """

    def __init__(self, root_fd: int) -> None:
        self.belongs: Callable[[str], str] = lambda domain: domain
        self.further: Callable[[str], Iterable[str]] = lambda domain: ()
        self._root_fd = root_fd
        self._counts: dict[str, Count] = {}

    def of(self, domain: str) -> Count:
        """Return what counts the domain whose directory this is."""
        if not self._counts:
            return UNLIMITED
        return self._counts.get(domain) or self._counts.get(self.belongs(domain), UNLIMITED)

    def limit(self, limits: Mapping[str, Limits]) -> None:
        """Say which domains have limits; all others have none from now on."""
        counts = {}
        for domain, each in limits.items():
            if each != Limits():
                count = self._counts.get(domain) or Count(Usage(domain, each))
                count.limit(each)
                counts[domain] = count
        self._counts = counts

    def doubt(self, domains: Collection[str] | None = None) -> None:
        """Others may have changed these domains, or any, past the service."""
        for domain, count in self._counts.items():
            if domains is None or domain in domains:
                count.doubt()

    def count_now(self, domain: str) -> Amount:
        """Return what a domain holds with those that count for it, with or without limits."""
        count = Count(Usage(domain, Limits()))
        count.see_all(self._root_fd, self.all_of(domain))
        return count.used

    def remove_hidden(self, folder: str, parent_fd: int, name: str, act: Callable[[], None]) -> None:
        """Let `act` remove a hidden name of a file in a domain's folder for these."""
        self.of(domain_of(folder)).remove_hidden(parent_fd, name, act)

    async def run(self) -> None:
        """Count what is due, for ever."""
        while True:
            due_ns, domain = min(((count.due_ns(), each) for each, count in self._counts.items()), default=(None, ""))
            begun_ns = time.monotonic_ns()
            if due_ns is None or due_ns > begun_ns:
                await trio.sleep(LOOK_EVERY_S)
                continue
            await self.count(domain)
            if due_ns:  # the first count of a domain is waited for
                await trio.sleep(RESTS * (time.monotonic_ns() - begun_ns) / 1e9)

    def count_in_thread(self, domain: str, going_on: Callable[[], bool]) -> None:
        """Count what a domain with limits holds, as long as that shall go on; changes may be made meanwhile."""
        self.of(domain).see_all(self._root_fd, self.all_of(domain), going_on)

    def all_of(self, domain: str) -> Iterator[str]:
        """Return a domain and those that count for it."""
        yield domain
        yield from self.further(domain)

    async def count(self, domain: str) -> None:
        """Count what a domain with limits holds."""
        ended = threading.Event()
        try:
            look = partial(self.count_in_thread, domain, lambda: not ended.wait(LET_PASS_S))
            await trio.to_thread.run_sync(look, abandon_on_cancel=True)
        except OSError as error:
            log.warning("%s cannot be counted: %s", domain, error.strerror)
        finally:
            ended.set()


def _stat(parent_fd: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _size(info: os.stat_result) -> int:
    return info.st_size if stat.S_ISREG(info.st_mode) else 0


def _was_last(info: os.stat_result) -> bool:
    """Tell whether a node that had a name less by now has none."""
    return info.st_nlink == 1 or stat.S_ISDIR(info.st_mode)


def _settle(usage: Usage, growth: Growth, look: Callable[[], os.stat_result]) -> None:
    """Put right what a file counts; where somebody else has moved it, the next count does."""
    with contextlib.suppress(OSError):
        info = look()
        if key_of(info) == growth.key:
            usage.settle(growth, _size(info))
            return
    usage.doubt()
