"""The journal of what was promised to programs (`fuseclient.behind.journalformat`) as a file in the cache folder.

It is there for when the mount is killed: what was written to it is with the operating system when a program is told
that its change is made. The next mount with the same server, account and cache folder makes those changes. One mount
at a time has it. It is emptied whenever everything is with the server.
"""

import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fuseclient.behind.journalformat import MAGIC, Found, decode, encode_failed, encode_kept, encode_promise
from fuseclient.behind.queue import BYTES_MAX, Promise
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

FOLDER = "behind"
REWRITE_BYTES = 2 * BYTES_MAX


class Journal:
    """An open journal; made by `open_journal`.

    Attributes:
        path: where it is.
        found: what an earlier mount has left in it.
    """

    def __init__(self, path: str, fd: int, found: Found) -> None:
        self._fd = fd
        self._size_bytes = found.whole_bytes
        self.path = path
        self.found = found

    @property
    def size_bytes(self) -> int:
        """How long the file is."""
        return self._size_bytes

    def promise(self, promise: Promise) -> None:
        """Write down a promise.

        Raises:
            PfsError: NO_SPACE or IO where that cannot be done; then it must not be given.
        """
        self._append(encode_promise(promise))

    def kept(self, kept: Iterable[int], real: Mapping[int, int]) -> bool:
        """Note that promises are kept; see `encode_kept`. If this is lost, they are seen to be kept already.

        Returns:
            False where it could not be written.
        """
        return self._quietly(encode_kept(kept, real))

    def failed(self, number: int, error: PfsError) -> None:
        """Note that a promise could not be kept."""
        self._quietly(encode_failed(number, error))

    def rewrite(self, promises: Iterable[Promise], real: Mapping[int, int]) -> None:
        """Leave nothing but these in it, so that it does not grow for ever.

        Args:
            real: the server's numbers of what they are about.
        """
        records = [encode_promise(promise) for promise in promises]
        if not records:
            os.ftruncate(self._fd, len(MAGIC))
            self._size_bytes = len(MAGIC)
            return
        part = f"{self.path}.part"
        fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = b"".join((MAGIC, encode_kept([], real), *records))
            _write_all(fd, data, 0)
            os.rename(part, self.path)
        except OSError as error:
            os.close(fd)
            log.warning("%s cannot be made smaller: %s", self.path, error.strerror)
            return
        os.close(self._fd)
        self._fd, self._size_bytes = fd, len(data)

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def _append(self, record: bytes) -> None:
        try:
            _write_all(self._fd, record, self._size_bytes)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self._size_bytes)
            raise PfsError(Kind.NO_SPACE, f"{self.path} cannot be written: {error.strerror}") from None
        self._size_bytes += len(record)

    def _quietly(self, record: bytes) -> bool:
        try:
            self._append(record)
        except PfsError as error:
            log.warning("%s", error)
            return False
        return True


def _write_all(fd: int, data: bytes, offset: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:] if done else data, offset + done)


def open_journal(folder: str, endpoint: str, account: str) -> Journal:
    """Open the journal of what is promised on behalf of an account of a server.

    Args:
        folder: the mount's cache folder.

    Raises:
        PfsError: BUSY when another mount has it, DENIED or IO when the folder cannot be used.
    """
    name = hashlib.sha256(f"{endpoint}\n{account}".encode()).hexdigest()[:32]
    directory = Path(folder) / FOLDER
    path = str(directory / f"{name}.journal")
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise PfsError(Kind.DENIED, f"{path} cannot be used for --write-behind: {error.strerror}") from None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _opened(path, fd)
    except BlockingIOError:
        os.close(fd)
        hint = "give this one another --cache-dir, or none of the two --write-behind"
        raise PfsError(Kind.BUSY, f"another mount with --write-behind uses {folder}: {hint}") from None
    except OSError as error:
        os.close(fd)
        raise PfsError(Kind.IO, f"{path} cannot be used for --write-behind: {error.strerror}") from None


def _opened(path: str, fd: int) -> Journal:
    size = os.fstat(fd).st_size
    data = os.pread(fd, size, 0)
    found = decode(data)
    if found.whole_bytes < size:
        kept = f"{path}.torn"
        log.warning("%s: the last %d bytes are no whole record; they are in %s", path, size - found.whole_bytes, kept)
        Path(kept).write_bytes(data[found.whole_bytes :])
    if found.whole_bytes == 0:
        os.pwrite(fd, MAGIC, 0)
        found.whole_bytes = len(MAGIC)
    os.ftruncate(fd, found.whole_bytes)
    return Journal(path, fd, found)
