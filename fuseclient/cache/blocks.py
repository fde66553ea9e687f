"""Blocks of files on the local disk: what was read once is not fetched again, also not by the next mount.

The cache helps where it can and is never in the way. `put` leaves the writing to a thread, and of what comes faster
than a disk gives, or than this one takes, a part is kept (`Allowance`): more of it each time it is read. A disk that is
full makes the cache smaller, one that fails ends it; either is said in one line of the log, and reads go to the server.
What is damaged is dropped, never served: a block is written under another name first, so that under its own it is
whole, and since neither write waits for the disk to be safe from a power cut, the bytes are held against their checksum
when they are first used after a mount. The checksum (CRC-32, four times as fast as BLAKE2) is against disks, not
against people: the folder has to be the user's own.

Mounts of one user may share a folder. Each holds a part of its own in it, `blocks-0`, `blocks-1` …, by a lock that
ends with its process, and has the limit for itself.
"""

import contextlib
import errno
import fcntl
import logging
import os
import stat
import threading
import time
import zlib
from collections import OrderedDict
from dataclasses import dataclass

from fuseclient.cache.blockindex import BLOCK_BYTES, Allowance, BlockId, BlockIndex, Entry, Key, block_of, name_of
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

PARTS_MAX = 64
QUEUE_BYTES_MAX = 32 * 1024 * 1024
KEPT_BYTES_PER_S, KEPT_BYTES_AT_ONCE = 128 * 1024 * 1024, 64 * 1024 * 1024
CLOSE_TIMEOUT_S = 10.0

_LOCK = "lock"
_TEMPORARY = "new.tmp"
_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a cache has done since it was opened, and what it holds.

    Attributes:
        hits, misses: answers of `get`.
        damaged: blocks that were dropped since they were not what had been put.
        unkept: blocks that were not kept since they came too fast, or the disk failed.
        blocks, held_bytes, limit_bytes: what is there, in room on the disk, and how much it may become.
    """

    hits: int
    misses: int
    damaged: int
    unkept: int
    blocks: int
    held_bytes: int
    limit_bytes: int


class BlockCache:
    """The blocks in one folder; from any thread. Opening reads the folder: up to 50 µs for each block in it.

    Args:
        folder: made if it is not there.
        limit_bytes: room on the disk that this mount's blocks may take.

    Raises:
        PfsError: when the folder cannot be used, or others may write to it.
    """

    def __init__(self, folder: str, limit_bytes: int) -> None:
        self._folder, self._lock_fd = _claim(folder)
        self._index = BlockIndex(limit_bytes)
        self._allowance = Allowance(KEPT_BYTES_PER_S, KEPT_BYTES_AT_ONCE, time.monotonic())
        self._wake = threading.Condition(threading.Lock())  # guards all below; never held while the disk works
        self._queue: OrderedDict[BlockId, bytes | memoryview] = OrderedDict()
        self._queued_bytes = 0
        self._writing: BlockId | None = None  # None also when what is being written is forgotten already
        self._busy = False
        self._gone: list[str] = []
        self._closing = False
        self._broken = False
        self._complaints: set[str] = set()
        self._hits = self._misses = self._damaged = self._unkept = 0
        try:
            self._read_folder()
        except OSError as error:
            os.close(self._lock_fd)
            raise _unusable(folder, error) from None
        self._thread = threading.Thread(target=self._run, name="block cache", daemon=True)
        self._thread.start()

    def get(self, key: Key, number: int, start: int = 0, end: int = BLOCK_BYTES) -> bytes | None:
        """Return bytes `start` to `end` of a block, None when it is not there.

        Reads the disk in the caller's thread: 50 µs and 0.6 ms for each MiB that the system still has in memory,
        1 ms for each MiB more when the block is used for the first time, since all of it is verified then, and what
        the disk takes where it has to be read.
        """
        block, end = BlockId(key, number), min(end, key.block_size(number))
        with self._wake:
            data, entry = self._queued(block, start, end), self._index.use(block)
        if data is None and entry is not None:
            data = self._fetch(block, entry, start, end)
        self._count(data)
        return data

    def get_at_once(self, key: Key, number: int, start: int, end: int) -> bytes | None:
        """Return bytes `start` to `end` of a block, if that takes no disk; None says nothing of whether it is there."""
        block = BlockId(key, number)
        with self._wake:
            data, entry = self._queued(block, start, end), self._index.use(block)
        if data is None and entry is not None and entry.verified:
            data = _in_memory(f"{self._folder}/{entry.name}", start, end)
        if data is not None:
            self._count(data)
        return data

    def holds(self, key: Key, number: int) -> bool:
        """Tell whether a block is there, or about to be."""
        block = BlockId(key, number)
        with self._wake:
            return block in self._index or block in self._queue or block == self._writing

    def wait_for_room(self, timeout_s: float) -> bool:
        """Wait until most of what was put is written; False when that takes too long, or nothing is kept any more."""
        with self._wake:
            return self._wake.wait_for(self._has_room, timeout_s) and not self._broken

    def put(self, key: Key, number: int, data: bytes | memoryview, *, wanted: bool = False) -> None:
        """Keep a whole block, soon; one that has not the length that it must have is none and is not kept.

        Args:
            wanted: it was fetched to be kept, however fast they come.
        """
        block = BlockId(key, number)
        if not data or len(data) != key.block_size(number):
            return
        with self._wake:
            if self._closing or block in self._index or block in self._queue or block == self._writing:
                return
            no_room = len(data) > self._index.limit_bytes or self._queued_bytes + len(data) > QUEUE_BYTES_MAX
            if self._broken or no_room or not (wanted or self._allowance.take(len(data), time.monotonic())):
                self._unkept += 1
                return
            self._queue[block] = data
            self._queued_bytes += len(data)
            self._wake.notify_all()

    def forget(self, datacenter: str, node_id: int) -> None:
        """Serve nothing of this file any more that was put before now."""
        with self._wake:
            for block in [block for block in self._queue if _is_of(block, datacenter, node_id)]:
                self._queued_bytes -= len(self._queue.pop(block))
            if self._writing is not None and _is_of(self._writing, datacenter, node_id):
                self._writing = None
            self._gone += self._index.forget(datacenter, node_id)
            self._wake.notify_all()

    def flush(self, timeout_s: float | None = None) -> bool:
        """Wait until everything that was put is in its place; False when `timeout_s` was not enough."""
        with self._wake:
            return self._wake.wait_for(lambda: not self._busy and not self._queue and not self._gone, timeout_s)

    def close(self) -> None:
        """Write what waits, for 10 s at most, and leave the folder to the next mount."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if self.flush(CLOSE_TIMEOUT_S):  # else the disk hangs; the lock ends with the process
            self._thread.join()
            os.close(self._lock_fd)

    def statistics(self) -> Statistics:
        """Tell what has been done and what is there."""
        with self._wake:
            index = self._index
            counts = (self._hits, self._misses, self._damaged, self._unkept)
            return Statistics(*counts, len(index), index.held_bytes, index.limit_bytes)

    def _has_room(self) -> bool:
        return self._broken or self._closing or self._queued_bytes <= QUEUE_BYTES_MAX // 4

    def _queued(self, block: BlockId, start: int, end: int) -> bytes | None:
        data = self._queue.get(block)
        return None if data is None else bytes(data[start:end])

    def _count(self, data: bytes | None) -> None:
        with self._wake:
            self._hits += data is not None
            self._misses += data is None

    def _fetch(self, block: BlockId, entry: Entry, start: int, end: int) -> bytes | None:
        try:
            data = self._read(block, entry, start, end)
        except OSError as error:
            if error.errno != errno.ENOENT:
                self._complain(f"cannot be read ({error.strerror})")
                return None
            self._drop(block, entry, damaged=False)
            return None
        if data is None:
            self._complain("holds damaged blocks, which are dropped")
            self._drop(block, entry, damaged=True)
        return data

    def _read(self, block: BlockId, entry: Entry, start: int, end: int) -> bytes | None:
        """Return bytes of a block, None when it is not what was put."""
        path = f"{self._folder}/{entry.name}"
        size = block.key.block_size(block.number)
        first, last = (start, end) if entry.verified else (0, size)
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            data = os.pread(fd, max(0, last - first), first)
        finally:
            os.close(fd)
        if len(data) != max(0, last - first):
            return None
        if entry.verified:
            return data
        if zlib.crc32(data) != entry.checksum:
            return None
        entry.verified = True
        with contextlib.suppress(OSError):
            os.utime(path)  # the next mount has the order in which this one began to use them
        return data[start:end]

    def _drop(self, block: BlockId, entry: Entry, *, damaged: bool) -> None:
        with self._wake:
            if self._index.use(block) is entry:  # else another thread was first
                self._gone += self._index.remove(block)
                self._damaged += damaged
                self._wake.notify_all()

    def _read_folder(self) -> None:
        found = []
        with os.scandir(self._folder) as files:
            for file in files:
                known = block_of(file.name)
                if file.name == _TEMPORARY:
                    os.unlink(file.path)
                elif known is not None:
                    info = file.stat(follow_symlinks=False)
                    found.append((info.st_mtime_ns, info.st_size, file.name, *known))
        for _, size, name, block, checksum in sorted(found):
            whole = size == block.key.block_size(block.number)
            self._gone += self._index.add(block, checksum, verified=False) if whole else [name]

    def _run(self) -> None:
        try:
            self._work()
        except Exception:
            log.exception("the block cache %s keeps nothing more", self._folder)
            with self._wake:
                self._broken, self._busy = True, False
                self._queue.clear()
                self._gone.clear()
                self._wake.notify_all()

    def _work(self) -> None:
        while True:
            with self._wake:
                self._writing, self._busy = None, False
                self._wake.notify_all()
                self._wake.wait_for(lambda: self._queue or self._gone or self._closing)
                if not self._queue and not self._gone:
                    return
                self._busy = True
                gone, self._gone = self._gone, []
                block, data = self._queue.popitem(last=False) if self._queue else (None, b"")
                self._queued_bytes -= len(data)
                self._writing = block
            self._unlink(gone)
            if block is not None:
                self._store(block, data)

    def _store(self, block: BlockId, data: bytes | memoryview) -> None:
        checksum = zlib.crc32(data)
        name = name_of(block, checksum)
        try:
            _write(self._folder, name, data)
        except OSError as error:
            self._failed(error)
            return
        with self._wake:
            forgotten, self._writing = self._writing is None, None
            gone = [name] if forgotten else self._index.add(block, checksum, verified=True)
        self._unlink(gone)

    def _unlink(self, names: list[str]) -> None:
        for name in names:
            try:
                os.unlink(os.path.join(self._folder, name))
            except FileNotFoundError:
                continue
            except OSError as error:
                self._complain(f"keeps what should go ({error.strerror})")

    def _failed(self, error: OSError) -> None:
        full = error.errno in _FULL
        with self._wake:
            self._unkept += 1
            if full:
                self._index.limit_bytes = self._index.held_bytes // 8 * 7
                self._gone += self._index.shrink()
            else:
                self._broken = True
        self._complain("is on a full disk and made smaller" if full else f"takes nothing more ({error.strerror})")

    def _complain(self, what: str) -> None:
        if what not in self._complaints:
            self._complaints.add(what)
            log.warning("the block cache %s %s; reads go to the server", self._folder, what)


def _claim(folder: str) -> tuple[str, int]:
    """Return the first part of the folder that no other mount holds, and the descriptor that now holds it."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        for number in range(PARTS_MAX):
            part = os.path.join(folder, f"blocks-{number}")
            with contextlib.suppress(FileExistsError):
                os.mkdir(part, 0o700)
            info = os.lstat(part)
            if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.geteuid() or info.st_mode & 0o022:
                raise PfsError(Kind.DENIED, f"the block cache {part} has to be a folder that only you can write to")
            fd = os.open(os.path.join(part, _LOCK), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(fd)
            else:
                return part, fd
    except OSError as error:
        raise _unusable(folder, error) from None
    raise PfsError(Kind.BUSY, f"{PARTS_MAX} mounts use the block cache {folder}: name another folder for this one")


def _write(folder: str, name: str, data: bytes | memoryview) -> None:
    temporary = os.path.join(folder, _TEMPORARY)
    try:
        with open(temporary, "wb", buffering=0) as file:
            rest = memoryview(data)
            while rest:
                rest = rest[file.write(rest) :]
        os.rename(temporary, os.path.join(folder, name))
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _in_memory(path: str, start: int, end: int) -> bytes | None:
    """Return bytes of a file if the system has all of them in memory."""
    data = bytearray(end - start)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            count = os.preadv(fd, [data], start, os.RWF_NOWAIT)
        finally:
            os.close(fd)
    except OSError:  # not in memory, or not there: whoever may wait for the disk finds out
        return None
    return bytes(data) if count == len(data) else None


def _is_of(block: BlockId, datacenter: str, node_id: int) -> bool:
    return (block.key.datacenter, block.key.node_id) == (datacenter, node_id)


def _unusable(folder: str, error: OSError) -> PfsError:
    return PfsError(Kind.IO, f"the block cache {folder} cannot be used: {error.strerror}; name another folder")
