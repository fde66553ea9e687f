"""The file `audit` at the top of the tree: the audit log, for administrators; for everybody else there is none.

It grows while it is open, as a file on a disk does: `tail -f` shows what comes.
"""

from pfs.api import Attr, NodeType, OpenFile, OpenFlags
from pfs.audit.log import AuditLog
from pfs.errors import Kind, PfsError
from pfs.perm import SERVICE, Subject, Verb, allowed
from pfs.tree.texts import WRITING, ReadOnlyFile
from pfs.tree.virtual import File, How, virtual_id


class AuditFile(File):
    """For administrators: who did what, from where, and what came of it."""

    how = How.GROWS

    def __init__(self, log: AuditLog) -> None:
        self._log = log

    def is_there_for(self, subject: Subject) -> bool:
        """Tell whether somebody is an administrator."""
        return allowed(subject, Verb.RULE, SERVICE)

    async def attr(self, subject: Subject) -> Attr:
        """Tell how long it is now, and when it was last added to."""
        return _attr(*await self._log.extent())

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        if flags & WRITING:
            raise PfsError(Kind.DENIED, "the audit log is written by the server")
        return OpenAudit(await self.attr(subject), self._log)


class OpenAudit(ReadOnlyFile):
    """An open `audit`."""

    def __init__(self, attr: Attr, log: AuditLog) -> None:
        super().__init__(attr)
        self._log = log

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return what there is."""
        return await self._log.read(offset, size)

    async def getattr(self) -> Attr:
        """Tell how long it is now."""
        return _attr(*await self._log.extent())


def _attr(size_bytes: int, mtime_ns: int) -> Attr:
    return Attr(
        NodeType.FILE, virtual_id("audit"), 0o400, size_bytes, mtime_ns=mtime_ns, ctime_ns=mtime_ns, volatile=True
    )
