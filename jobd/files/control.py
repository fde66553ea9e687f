"""`ctl`, of whatever it is: a write is a command, and reading it prints the commands.

What the commands are, and who may give them, is said by whoever makes one. Its mode is 0600 for everybody: whoever may
not command it is told so by its `write`, as EPERM, where a mode of 0400 would have the kernel say EACCES of the open.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial

from pfs.api import Attr, Changes, Closing, NodeType, OpenFile, OpenFlags
from pfs.audit.log import AuditLog
from pfs.audit.origin import acting, origin
from pfs.perm import Subject
from pfs.tree.texts import OpenPicture
from pfs.tree.virtual import File, How, virtual_id

# understands every line of a write before it does the first
Obey = Callable[[Subject, bytes], Awaitable[None]]
Told = Callable[..., AbstractAsyncContextManager[None]]


class Control(File):
    """`ctl`, of whatever it is.

    Args:
        words: name what it commands, for ever.
        text: what reading it prints.
        obey: does what somebody wrote.
        audit: keeps who wrote what, and what came of it.
    """

    called, how = "ctl", How.CONTROL

    def __init__(self, words: Sequence[object], text: str, obey: Obey, mtime_ns: int, audit: AuditLog) -> None:
        self._node_id = virtual_id(*words, self.called)
        self._text = text.encode()
        self._told = partial(audit.about, "ctl", "{}s/{}".format(*words))
        self._obey = obey
        self._mtime_ns = mtime_ns

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return Attr(
            NodeType.FILE,
            self._node_id,
            0o600,
            len(self._text),
            mtime_ns=self._mtime_ns,
            ctime_ns=self._mtime_ns,
            volatile=True,
        )

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open; truncating means nothing here."""
        return OpenControl(await self.attr(subject), self._text, self._obey, subject, self._told)


class OpenControl(OpenPicture):
    """An open `ctl`."""

    def __init__(self, attr: Attr, text: bytes, obey: Obey, subject: Subject, told: Told) -> None:
        async def same() -> bytes:
            return text

        super().__init__(attr, same, text)
        self._obey = obey
        self._subject = subject
        self._told = told
        self._origin = origin()  # what is written may come on another connection than what is asked

    async def write(self, offset: int, data: bytes) -> int:
        """Obey."""
        said = " ".join(data.decode(errors="replace").split())
        with acting(self._origin.who, self._origin.source):
            async with self._told(said=said):
                await self._obey(self._subject, data)
        return len(data)

    async def setattr(self, changes: Changes) -> Attr:
        """Mean nothing: a shell's `>` cuts before it writes."""
        return self.attr

    async def flush(self, closing: Closing) -> None:
        """Everything was done while it was written."""
