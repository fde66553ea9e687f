"""What the server makes and changes by itself: streams, and texts. How they are read, and what poll(2) says of them.

a stream    POLLIN while there are bytes behind what this opening has read, or its end
a text      POLLIN and POLLPRI while this opening has not read it as it is now, as in sysfs: it is read again from
            its beginning
others      can always be read and written
"""

import select
from collections.abc import Awaitable
from typing import Any, Protocol

import trio

from fuseclient.kernel.handles import FileHandle
from fuseclient.kernel.held import HeldReads
from fuseclient.kernel.polls import Polls, Wake
from pfs.api import Awaited, OpenFile
from pfs.errors import Kind, PfsError

DEADLINE_S = 60.0  # nothing but a stream keeps a program longer; file systems give up by themselves before
BYTES = select.POLLIN | select.POLLRDNORM
NEWS = BYTES | select.POLLPRI
ALWAYS = BYTES | select.POLLOUT | select.POLLWRNORM


class Question(Protocol):
    """Asks the server's open file."""

    def __call__(self, file: OpenFile) -> Awaitable[Any]: ...


class Call(Protocol):
    """Asks about an open file, and again where it had to be opened again: see `Files.call`."""

    async def __call__(self, handle: FileHandle, ask: Question, *, at_start: bool = False) -> Any: ...


class Fresh:
    """The open files of a mount whose content the server makes."""

    def __init__(self, held: HeldReads, polls: Polls, call: Call) -> None:
        self._held = held
        self._polls = polls
        self._call = call

    async def read(self, handle: FileHandle, offset: int, size: int) -> bytes:
        """Return what there is; of a stream waiting for the first byte."""
        if handle.anew and offset:
            raise PfsError(Kind.STALE, "the server was restarted meanwhile; read it from its beginning", handle.path)

        async def piece() -> bytes:
            read: bytes = await self._call(
                handle, lambda file: file.read(offset, size, wait=not handle.nonblocking), at_start=offset == 0
            )
            return read

        all_of_it = True
        try:
            if handle.attr.stream and not handle.nonblocking:
                data = await self._held.hold(handle.number, handle.path, handle.opener, piece)
            else:
                with trio.fail_after(DEADLINE_S):
                    data = await piece()
            handle.position, handle.anew = offset + len(data), False
            all_of_it = len(data) < size
            return data
        finally:
            self._polls.was_read(handle.fh, all_of_it=all_of_it)

    async def poll(self, handle: FileHandle, wake: Wake | None) -> int:
        """Tell what can be done with it without waiting, in the bits of poll(2).

        Args:
            wake: to be called once when that changes.
        """
        if handle.attr.commits or not (handle.attr.stream or handle.attr.volatile):
            return ALWAYS
        is_ready = await self._polls.poll(handle.fh, lambda wait: self._news(handle, wait), wake)
        if is_ready is None:
            return ALWAYS
        return (BYTES if handle.attr.stream else NEWS) if is_ready else 0

    async def _news(self, handle: FileHandle, wait: bool) -> None:
        async def ask(file: OpenFile) -> None:
            if handle.attr.stream:
                await file.read(handle.position, 1, wait=wait)
            elif isinstance(file, Awaited):
                await file.changed(wait=wait)
            else:
                raise PfsError(Kind.UNSUPPORTED, "nobody tells of changes of this file", handle.path)

        lost = handle.file
        await self._call(handle, ask, at_start=True)
        handle.anew = handle.anew or (handle.file is not lost and not handle.attr.stream)
