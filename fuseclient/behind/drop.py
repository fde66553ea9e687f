"""An open file whose closing is a command: it waits until what was promised before is with the server.

A job that is dropped may read what its user has written a moment ago, and through another mount, too.
"""

from collections.abc import Awaitable, Callable

from pfs.api import Attr, Changes, Closing, OpenFile, XattrCall


class Drop:
    """`pfs.api.OpenFile` over another one.

    Args:
        settle: returns when everything that was promised is with the server.
    """

    def __init__(self, inner: OpenFile, settle: Callable[[], Awaitable[None]]) -> None:
        self._inner = inner
        self._settle = settle

    @property
    def attr(self) -> Attr:
        """What was opened."""
        return self._inner.attr

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return up to `size` bytes."""
        return await self._inner.read(offset, size, wait=wait)

    async def write(self, offset: int, data: bytes) -> int:
        """Write all of `data`."""
        await self._settle()
        return await self._inner.write(offset, data)

    async def setattr(self, changes: Changes) -> Attr:
        """Change attributes of what is open."""
        return await self._inner.setattr(changes)

    async def getattr(self) -> Attr:
        """Tell what is open."""
        return await self._inner.getattr()

    async def xattr(self, call: XattrCall) -> bytes:
        """Answer about extended attributes of what is open."""
        return await self._inner.xattr(call)

    async def flush(self, closing: Closing) -> None:
        """A descriptor was closed; that may be the command."""
        await self._settle()
        await self._inner.flush(closing)

    async def fsync(self) -> None:
        """Return when the server's disk has it."""
        await self._inner.fsync()

    async def release(self) -> None:
        """The last descriptor is gone; if its closing was no command yet, this may be."""
        try:
            await self._settle()
        finally:
            await self._inner.release()
