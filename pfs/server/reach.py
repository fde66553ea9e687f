"""Paths as users write them, `/pfs/<datacenter>/…`, and what is there below them, as one caller may see it.

Names may hold the patterns of a shell (`*`, `?`, `[…]`), which stand for what is there; a name that is there as it is
written means itself.
"""

from collections.abc import AsyncGenerator
from fnmatch import fnmatchcase

from pfs.api import Attr, NodeType
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.path import from_absolute, join, parent_and_name
from pfs.server.routes import own_links_followed

FOUND_MAX = 100_000


class Reach:
    """What somebody can name.

    Args:
        fs: the tree, as they may see it.
        datacenter: its name, which their paths begin with.
    """

    def __init__(self, fs: LeasedTree, datacenter: str) -> None:
        self.fs = fs
        self._datacenter = datacenter

    def path(self, said: str) -> str:
        """Return the path in the tree that somebody wrote.

        Raises:
            PfsError: INVALID for one of another datacenter, or of none.
        """
        if not said.startswith("/pfs/"):
            raise PfsError(Kind.INVALID, f"should be pfs path: /pfs/{self._datacenter}/…, not {said[:200]!r}")
        parts = [part for part in said.split("/") if part]  # who puts paths together may write // between parts
        return from_absolute("/" + "/".join(parts), self._datacenter)

    def told(self, path: str) -> str:
        """Return a path of the tree as it is told."""
        return f"/pfs/{self._datacenter}/{path}".rstrip("/")

    async def to_read(self, said: str) -> str:
        """Return the path of what somebody wants to read, the tree's own links followed."""
        return await self.fs.follow(self.path(said))

    async def to_change(self, said: str) -> str:
        """Return the path of what somebody wants to make, to change or to remove.

        Raises:
            PfsError: FORBIDDEN for what is made by the server, or is the door to a whole domain.
        """
        path = self.path(said)
        if path:
            path = await own_links_followed(self.fs, path)
        if not path or not await self.fs.in_domain(path):
            raise PfsError(Kind.FORBIDDEN, "only what is in a home or in the folder of a group is changed here", path)
        return path

    async def matching(self, path: str) -> list[str]:
        """Return what a path with patterns stands for, in order; a path without is itself, there or not."""
        if not any(sign in path for sign in "*?[") or await self._type(path) is not None:
            return [path]
        parent, pattern = parent_and_name(path)
        found = []
        for directory in await self.matching(parent):
            if await self._type(directory) is NodeType.DIRECTORY:
                names = [entry.name for entry in await self.fs.listdir(directory)]
                found += [join(directory, name) for name in names if fnmatchcase(name, pattern) and name[0] != "."]
        return sorted(found)

    async def _type(self, path: str) -> NodeType | None:
        try:
            return (await self.fs.getattr(path)).type
        except PfsError as error:
            if error.kind in (Kind.NOT_FOUND, Kind.NOT_DIR):
                return None
            raise

    async def below(self, path: str, *, deep: bool) -> AsyncGenerator[tuple[str, Attr], None]:
        """Yield what is in a directory, each directory before what is in it.

        Raises:
            PfsError: TOO_LARGE above 100,000 names.
        """
        waiting, found = [path], 0
        while waiting:
            directory = waiting.pop()
            entries = sorted(await self.fs.listdir(directory), key=lambda entry: entry.name)
            found += len(entries)
            if found > FOUND_MAX:
                raise PfsError(Kind.TOO_LARGE, f"there are more than {FOUND_MAX} names; name a part of it", path)
            inner = []
            for entry in entries:
                there = join(directory, entry.name)
                yield there, entry.attr
                if deep and entry.attr.type is NodeType.DIRECTORY:
                    inner.append(there)
            waiting += reversed(inner)

    async def make_directory(self, path: str) -> None:
        """Make a directory, with all that it is in; one that is there stays.

        Raises:
            PfsError: EXISTS where there is something else, NOT_FOUND where there is no home or group for it.
        """
        there = await self._type(path)
        if there is NodeType.DIRECTORY:
            return
        if there is not None:
            raise PfsError(Kind.EXISTS, "there is something else, no directory", path)
        if not await self.fs.in_domain(path):
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
        parent, _ = parent_and_name(path)
        await self.make_directory(parent)
        try:
            await self.fs.mkdir(path, 0o755)
        except PfsError as error:
            if error.kind is not Kind.EXISTS:  # somebody else made it meanwhile
                raise

    async def remove(self, path: str, *, deep: bool) -> list[str]:
        """Remove what stands at a path; return all that is gone, what is inner first.

        Raises:
            PfsError: IS_DIR for a directory, unless `deep`.
        """
        if (await self.fs.getattr(path)).type is not NodeType.DIRECTORY:
            await self.fs.unlink(path)
            return [path]
        if not deep:
            raise PfsError(Kind.IS_DIR, "can't del directory; say r for all that is in it", path)
        found = [each async for each in self.below(path, deep=True)]
        for each, attr in reversed(found):
            await (self.fs.rmdir(each) if attr.type is NodeType.DIRECTORY else self.fs.unlink(each))
        await self.fs.rmdir(path)
        return [each for each, _ in reversed(found)] + [path]
