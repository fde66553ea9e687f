"""A server's file system that is asked about a path only when what this mount has done there before is with the server.

A mount may hold changes back for a moment: a new file whose first bytes have not come yet, or all that waits in the
queue of `--write-behind`. Whoever asks the server about a path would be told how it was before them. So each question
first says which paths it is about (`before`), and is asked when that returns.
"""

from collections.abc import Awaitable, Callable, Sequence

from pfs.api import (
    Attr,
    Broken,
    Changes,
    Content,
    Entry,
    LeasingFileSystem,
    NodeType,
    OpenFile,
    OpenFlags,
    Owner,
    RenameMode,
    Space,
    Standing,
    XattrMode,
)

Before = Callable[..., Awaitable[None]]  # is given paths


class OrderedFileSystem:
    """`pfs.api.LeasingFileSystem` over another one.

    Args:
        before: returns when the server has all that was done at these paths, above and below them.
    """

    def __init__(self, inner: LeasingFileSystem, before: Before) -> None:
        self._inner = inner
        self._before = before

    def standing(self) -> Standing:
        """Tell how it stands with the server."""
        return self._inner.standing()

    def trusted(self) -> bool:
        """Tell whether leases hold."""
        return self._inner.trusted()

    def is_near(self) -> bool:
        """Tell whether files are read from the server's own disk."""
        return self._inner.is_near()

    def is_away(self) -> bool:
        """Tell whether the server is missed."""
        return self._inner.is_away()

    async def look_out(self) -> None:
        """Return when it is known whether leases hold or the server is away."""
        await self._inner.look_out()

    def listen(self, broken: Broken, lapsed: Callable[[], None], returned: Callable[[], None]) -> None:
        """Say what to do when leases end."""
        self._inner.listen(broken, lapsed, returned)

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        await self._before(path)
        return await self._inner.getattr(path)

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory."""
        await self._before(path)
        return await self._inner.listdir(path)

    async def contents(self, path: str, names: Sequence[str], size_max: int) -> Sequence[Content]:
        """Return small files of one directory, whole."""
        await self._before(path)
        return await self._inner.contents(path, names, size_max)

    async def readlink(self, path: str) -> str:
        """Return where a link points."""
        await self._before(path)
        return await self._inner.readlink(path)

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        """Make a directory."""
        await self._before(path)
        return await self._inner.mkdir(path, mode, owner)

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr:
        """Make a symbolic link."""
        await self._before(path)
        return await self._inner.symlink(path, target, owner)

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        """Make a file, FIFO or socket without opening it."""
        await self._before(path)
        return await self._inner.mknod(path, type_, mode, owner)

    async def make_file(self, path: str, mode: int, data: bytes, changes: Changes) -> Attr:
        """Make an ordinary file with all its bytes."""
        await self._before(path)
        return await self._inner.make_file(path, mode, data, changes)

    async def link(self, source: str, target: str) -> Attr:
        """Give a node a second name."""
        await self._before(source, target)
        return await self._inner.link(source, target)

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory's."""
        await self._before(path)
        await self._inner.unlink(path)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await self._before(path)
        await self._inner.rmdir(path)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Move a name."""
        await self._before(source, target)
        await self._inner.rename(source, target, mode)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change attributes."""
        await self._before(path)
        return await self._inner.setattr(path, changes)

    async def getxattr(self, path: str, name: str) -> bytes:
        """Return an extended attribute."""
        await self._before(path)
        return await self._inner.getxattr(path, name)

    async def listxattr(self, path: str) -> Sequence[str]:
        """Return the names of the extended attributes."""
        await self._before(path)
        return await self._inner.listxattr(path)

    async def setxattr(self, path: str, name: str, value: bytes, mode: XattrMode) -> None:
        """Set an extended attribute."""
        await self._before(path)
        await self._inner.setxattr(path, name, value, mode)

    async def removexattr(self, path: str, name: str) -> None:
        """Remove an extended attribute."""
        await self._before(path)
        await self._inner.removexattr(path, name)

    async def statfs(self, path: str) -> Space:
        """Tell the room; what waits is not counted."""
        return await self._inner.statfs(path)

    async def fsyncdir(self, path: str) -> None:
        """Return when the server's disk has the names in a directory."""
        await self._before(path)
        await self._inner.fsyncdir(path)

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        """Open, or with CREATE make, a file."""
        await self._before(path)
        return await self._inner.open(path, flags, mode, owner)

    async def reopen(self, path: str, node_id: int, flags: OpenFlags) -> OpenFile:
        """Open the very node that was open before the server was restarted."""
        await self._before(path)
        return await self._inner.reopen(path, node_id, flags)
