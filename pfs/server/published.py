"""Which files their owners have published: a small file for each, in a folder that only the server reads.

    <folder>/<32 hexadecimal digits>     {"user", "number", "path"}

The digits are all that whoever downloads has to know; they are random. With the name of the owner stands the number of
the account, so that whoever has that name later has published nothing. A folder rather than a table: what is asked is
one name, and to take something back is to remove it.
"""

import contextlib
import json
import os
import re
import secrets
from dataclasses import asdict, dataclass

from pfs.disk.file import Runner
from pfs.errors import Kind, PfsError

PUBLISHED_MAX = 1000  # of one account
_NAME = re.compile("[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Publication:
    """A file that everybody may download who knows its name here.

    Attributes:
        number: of the account; None where the server serves one person.
        path: in the tree.
    """

    user: str
    number: int | None
    path: str


class Published:
    """All publications.

    Args:
        folder: it is made when it is needed first.
        disk: runs what touches a disk.
    """

    def __init__(self, folder: str, disk: Runner) -> None:
        self._folder = folder
        self._disk = disk

    async def add(self, what: Publication) -> str:
        """Publish a file; return its name here, the same for one that is published already.

        Raises:
            PfsError: QUOTA when its owner has published too many.
        """

        def work() -> str:
            own = self._own(what.user, what.number)
            for name, path in own.items():
                if path == what.path:
                    return name
            if len(own) >= PUBLISHED_MAX:
                raise PfsError(Kind.QUOTA, f"{len(own)} files are published already; take some back")
            name = secrets.token_hex(16)
            os.makedirs(self._folder, 0o700, exist_ok=True)
            part = self._path(f".{name}")
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as file:
                file.write(json.dumps(asdict(what)))  # what is no UTF-8 in a path is escaped
                file.flush()
                os.fsync(file.fileno())
            os.rename(part, self._path(name))
            return name

        return await self._disk.run(work, long=True)

    async def of(self, user: str, number: int | None) -> dict[str, str]:
        """Return the names here of what an account has published, each with the path of its file."""
        return await self._disk.run(lambda: self._own(user, number), long=True)

    async def find(self, name: str) -> Publication | None:
        """Return what is published under a name; None for nothing."""
        return await self._disk.run(lambda: self._read(name), long=True)

    async def take_back(self, what: Publication) -> bool:
        """Let a file be published no more; tells whether it was."""

        def work() -> bool:
            own = self._own(what.user, what.number)
            names = [name for name, path in own.items() if path == what.path]  # two, of two who asked at one moment
            for name in names:
                os.unlink(self._path(name))
            return bool(names)

        return await self._disk.run(work, long=True)

    def _path(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _own(self, user: str, number: int | None) -> dict[str, str]:
        names: list[str] = []
        with contextlib.suppress(FileNotFoundError):
            names = os.listdir(self._folder)
        found = {name: self._read(name) for name in names}
        return {name: each.path for name, each in found.items() if each and (each.user, each.number) == (user, number)}

    def _read(self, name: str) -> Publication | None:
        if not _NAME.fullmatch(name):
            return None
        try:
            with open(self._path(name), encoding="ascii") as file:
                return Publication(**json.load(file))
        except FileNotFoundError:
            return None
