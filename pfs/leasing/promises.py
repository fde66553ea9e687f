"""The note that a server leaves for the one that comes after it: which mounts it has promised to speak to.

    {"boot": id, "ended": false, "mounts": [name, …]}           null for mounts: nobody knows which

It is written anew whenever a mount comes or goes. That is not waited for on the disk, but for the first time: after the
machine itself has gone down (another boot, or another machine) the mounts in it need not be all. A server that ends
properly notes that, with those that it could not reach. What a server finds it is bound to itself, until it has waited
for them (`pfs.leasing.grace`): it may be killed before.

On a full disk mounts come and go as well, and make room. So the note is larger than it need be, and what does not fit
beside it is written over it: a note that a kill has cut in the middle tells the next server that nobody knows.
"""

import errno
import json
import logging
import os
from collections.abc import Collection

from pfs.disk.system import translate
from pfs.errors import PfsError

log = logging.getLogger(__name__)

ROOM_BYTES = 16 * 1024  # for some 400 mounts
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Promises:
    """The mounts that this server has promised something.

    Args:
        path: the file of the note; its directory is the server's own.

    Attributes:
        earlier: the mounts that the server before it was bound to; None when nobody knows who all of them are.

    Raises:
        PfsError: the note cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._boot = _boot_id()
        self._mounts: set[str] = set()
        self.earlier = self._read()
        self._earlier = None if self.earlier is None else set(self.earlier)
        self._ended = False
        try:
            self._write(durably=True)
        except OSError as error:
            raise PfsError(translate(error).kind, f"{path} cannot be written: {error.strerror}") from None

    def add(self, mount: str) -> None:
        """A mount is about to be promised something.

        Raises:
            OSError: that cannot be noted, so nothing may be promised.
        """
        if mount not in self._mounts:
            self._mounts.add(mount)
            self._ended = False
            try:
                self._write()
            except BaseException:
                self._mounts.discard(mount)
                raise

    def discard(self, mount: str) -> None:
        """A mount does not trust anything any more."""
        if mount in self._mounts:
            self._mounts.discard(mount)
            self._write_if_possible()

    def settle(self) -> None:
        """Nobody whom an earlier server promised something trusts that any more."""
        if self._earlier is None or self._earlier:
            self._earlier = set()
            self._write_if_possible()

    def end(self, bound_to: Collection[str]) -> None:
        """The server ends; it promises nothing any more.

        Args:
            bound_to: the mounts that may not know.
        """
        self._mounts = set(bound_to)
        self._ended = self._earlier is not None
        self._write_if_possible(durably=True)

    def _read(self) -> Collection[str] | None:
        try:
            with open(self._path, encoding="utf-8") as file:
                note = json.load(file)
            if note["ended"] is True or note["boot"] == self._boot != "":
                return None if note["mounts"] is None else [str(mount) for mount in note["mounts"]]
        except FileNotFoundError:
            return []  # no server was here before
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read: %s", self._path, error)
        return None

    def _write_if_possible(self, *, durably: bool = False) -> None:
        """Write a note that binds the next server to less; the one that is there is right as well."""
        try:
            self._write(durably=durably)
        except OSError as error:
            log.warning("%s cannot be written: %s", self._path, error.strerror)

    def _write(self, *, durably: bool = False) -> None:
        mounts = None if self._earlier is None else sorted(self._mounts | self._earlier)
        note = {"boot": self._boot, "ended": self._ended, "mounts": mounts}
        text = json.dumps(note).encode()
        part = self._path + ".part"
        try:
            _write_file(part, os.O_CREAT | os.O_TRUNC, text.ljust(ROOM_BYTES), durably=durably)
            os.replace(part, self._path)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not os.path.exists(self._path):
                raise
            _write_file(self._path, 0, text.ljust(os.stat(self._path).st_size), durably=durably)


def _write_file(path: str, flags: int, data: bytes, *, durably: bool) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | flags, 0o600)
    try:
        done = 0
        while done < len(data):
            done += os.pwrite(fd, data[done:], done)
        os.ftruncate(fd, len(data))
        if durably:
            os.fsync(fd)
    finally:
        os.close(fd)


def _boot_id() -> str:
    try:
        with open(_BOOT_ID, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return ""
