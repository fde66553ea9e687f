"""The directory `secrets/`: what somebody keeps for their jobs, to be written and never read.

    secrets/<name>     a write that is closed keeps the text; `rm` forgets it

Everybody sees their own names and nothing of anybody else's; administrators too. A text is kept whole, with its last
byte's `close`: what a writer leaves that is killed, or shares the open file with somebody, is not kept.
"""

import contextlib
import re
from collections.abc import Sequence

from jobd.files.sources import Sources, missing
from jobd.spec.sources import SECRET_NAME
from jobd.store.secrets import Secrets
from pfs.api import Attr, Changes, Closing, Entry, NodeType, OpenFile, OpenFlags, XattrCall
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.texts import WRITING, no_xattrs
from pfs.tree.virtual import Directory, File, How, Node, directory_attr, listing, virtual_id

TEXT_BYTES_MAX = 64 * 1024
_NAME = re.compile(SECRET_NAME)


class SecretsDirectory(Directory):
    """The names of your secrets; nobody else sees them."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        names = frozenset(await self._sources.secrets.names(subject.user))
        since_ns = self._sources.dates.of(("secrets", subject.user), names)
        return directory_attr(virtual_id("secrets", subject.user), mtime_ns=since_ns, mode=0o700)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Return a secret of the caller's own."""
        names = await self._sources.secrets.names(subject.user)
        if name not in names:
            raise missing()
        return SecretFile(self._sources.secrets, name, names[name])

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List the names."""
        return await listing(self, subject, sorted(await self._sources.secrets.names(subject.user)))

    async def create(self, subject: Subject, name: str, flags: OpenFlags, mode: int) -> OpenFile:
        """Begin a new secret; it is there once something was written and closed."""
        if not _NAME.fullmatch(name):
            text = "use at most 63 letters, digits, '_', '.' and '-', a letter or digit first"
            raise PfsError(Kind.FORBIDDEN, f"{name[:80]!r} is no name of a secret; {text}")
        return OpenSecret(self._sources.secrets, subject, name, _attr(subject, name, 0))

    async def put(self, subject: Subject, name: str, data: bytes, key: str | None) -> str | None:
        """Keep a secret."""
        file = await self.create(subject, name, OpenFlags.WRITE, 0o200)
        await file.write(0, data)
        await file.flush(Closing.LAST)
        return None

    async def unlink(self, subject: Subject, name: str) -> None:
        """Forget a secret."""
        if not await self._sources.secrets.forget(subject.user, name):
            raise missing()


class SecretFile(File):
    """A secret for your jobs: to be written and removed, never read."""

    called, how = "<name>", How.WRITTEN

    def __init__(self, secrets: Secrets, name: str, changed_at_ns: int) -> None:
        self._secrets = secrets
        self._name = name
        self._changed_at_ns = changed_at_ns

    async def attr(self, subject: Subject) -> Attr:
        """Tell that it is there; not how long it is."""
        return _attr(subject, self._name, self._changed_at_ns)

    async def setattr(self, subject: Subject, changes: Changes) -> Attr:
        """Mean nothing: programs cut before they write."""
        return await self.attr(subject)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for writing all of it anew."""
        if OpenFlags.READ in flags or not flags & WRITING:
            raise PfsError(Kind.DENIED, "a secret is never shown; only jobs get it")
        if OpenFlags.APPEND in flags:
            raise PfsError(Kind.FORBIDDEN, "nothing is added to a secret; write all of it")
        return OpenSecret(self._secrets, subject, self._name, await self.attr(subject))


class OpenSecret:
    """One opening of a secret: `pfs.api.OpenFile`."""

    def __init__(self, secrets: Secrets, subject: Subject, name: str, attr: Attr) -> None:
        self._secrets = secrets
        self._subject = subject
        self._name = name
        self.attr = attr
        self._text = bytearray()
        self._is_dirty = self._is_cut = False

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Refuse."""
        raise PfsError(Kind.DENIED, "a secret is never shown; only jobs get it")

    async def write(self, offset: int, data: bytes) -> int:
        """Take a part of the text."""
        if offset + len(data) > TEXT_BYTES_MAX:
            raise await self._too_large()
        if offset > len(self._text):
            # what came before is lost, since the connection was
            self._is_cut = True
            raise PfsError(Kind.IO, "a secret is written from its beginning on; write all of it anew")
        self._text[offset : offset + len(data)] = data
        self._is_dirty = True
        return len(data)

    async def _too_large(self) -> PfsError:
        """Return the error of a text that is too long; it is recorded once, however much more comes."""
        error = PfsError(Kind.TOO_LARGE, f"a secret has at most {TEXT_BYTES_MAX} bytes")
        if not self._is_cut:
            self._is_cut = True
            with contextlib.suppress(PfsError):
                async with self._secrets.refusing(self._subject.user, self._name):
                    raise error
        return error

    async def setattr(self, changes: Changes) -> Attr:
        """Cut what was written so far; all else means nothing."""
        if changes.size is not None:
            del self._text[changes.size :]
        return self.attr

    async def getattr(self) -> Attr:
        """Tell what is open."""
        return self.attr

    async def xattr(self, call: XattrCall) -> bytes:
        """There are none."""
        return no_xattrs(call)

    async def flush(self, closing: Closing) -> None:
        """Keep the text, once its writer is done with it in peace."""
        if closing is Closing.DYING:
            self._is_cut = True
        if closing is Closing.LAST:
            await self._keep()

    async def fsync(self) -> None:
        """A part of a text is kept nowhere."""

    async def release(self) -> None:
        """Keep what no flush could."""
        try:
            await self._keep()
        except PfsError as error:
            if error.kind is Kind.INTERNAL:
                raise

    async def _keep(self) -> None:
        if self._is_dirty and not self._is_cut:
            self._is_dirty = False
            await self._secrets.keep(self._subject.user, self._name, bytes(self._text))


def _attr(subject: Subject, name: str, changed_at_ns: int) -> Attr:
    return Attr(
        NodeType.FILE,
        virtual_id("secret", subject.user, name),
        0o200,
        mtime_ns=changed_at_ns,
        ctime_ns=changed_at_ns,
        volatile=True,
        commits=True,
    )
