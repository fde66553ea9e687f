"""Texts that the server makes: read-only, made anew at each opening; who waits for another text is told of it.

What will never be another text is told as that (`Attr.settled`): whoever has read it need not read it again, and it
can be mapped like an ordinary file. It is not leased, since nobody changes it; it only goes, with its directory, and
whoever opens it is still asked for his right to.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import trio

from pfs.api import Attr, Changes, Closing, NodeType, OpenFile, OpenFlags, XattrCall, XattrVerb
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.virtual import File, How, virtual_id

News = Callable[[], trio.Event]
SETTLED_VALID_S = 10.0  # so late may another mount see that it is gone
WRITING = OpenFlags.WRITE | OpenFlags.TRUNCATE | OpenFlags.APPEND


class Text(File):
    """A read-only file with a text that is made anew at each opening.

    Args:
        words: name the node for ever.
        make: makes the text.
        mtime_ns: when the text last changed.
        news: returns what is set when the text may be another one; where it is not given, nobody can wait for that.
    """

    def __init__(
        self, words: Sequence[object], make: Callable[[], Awaitable[bytes]], mtime_ns: int = 0, news: News | None = None
    ) -> None:
        self._node_id = virtual_id(*words)
        self._make = make
        self._mtime_ns = mtime_ns
        self._news = news

    async def attr(self, subject: Subject) -> Attr:
        """Tell the true size of the text."""
        return self._attr_of(await self._make())

    async def look(self, subject: Subject) -> tuple[Attr, bytes | None]:
        """Tell the text as well: it had to be made for its size."""
        content = await self._make()
        return self._attr_of(content), content

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Take a picture of the text; a read at offset 0 takes a new one."""
        if flags & WRITING:
            raise PfsError(Kind.DENIED, "this file is written by the server")
        content = await self._make()
        return self._opened(self._attr_of(content), content)

    def _opened(self, attr: Attr, content: bytes) -> OpenFile:
        return OpenPicture(attr, self._make, content, self._news)

    def _stays(self) -> bool:
        """Tell whether this is never another text."""
        return False

    def _attr_of(self, content: bytes) -> Attr:
        attr = Attr(
            NodeType.FILE,
            self._node_id,
            0o444,
            len(content),
            mtime_ns=self._mtime_ns,
            ctime_ns=self._mtime_ns,
            volatile=True,
        )
        return settled(attr) if self._stays() else attr


class GrowingText(Text):
    """A text to which is only added: whoever has read all of it goes on reading behind that, as `tail -f` does."""

    how = How.GROWS

    async def look(self, subject: Subject) -> tuple[Attr, bytes | None]:
        """Tell its attributes alone: an opening is no picture."""
        return await self.attr(subject), None

    def _opened(self, attr: Attr, content: bytes) -> OpenFile:
        return OpenGrowing(attr, self._make, content, self._news)


class ReadOnlyFile:
    """The half of `OpenFile` that files share which only the server writes."""

    def __init__(self, attr: Attr) -> None:
        self.attr = attr

    async def write(self, offset: int, data: bytes) -> int:
        """Refuse."""
        raise PfsError(Kind.DENIED, "this file is written by the server")

    async def setattr(self, changes: Changes) -> Attr:
        """Accept and not keep what is no change of the text."""
        if changes.size is not None:
            raise PfsError(Kind.DENIED, "this file is written by the server")
        return await self.getattr()

    async def getattr(self) -> Attr:
        """Tell what was opened."""
        return self.attr

    async def xattr(self, call: XattrCall) -> bytes:
        """There are none."""
        return no_xattrs(call)

    async def flush(self, closing: Closing) -> None:
        """Nothing was written."""

    async def fsync(self) -> None:
        """Nothing was written."""

    async def release(self) -> None:
        """Nothing is held."""


class OpenText(ReadOnlyFile):
    """An open text of the server: a picture, until it is read from its beginning again."""

    def __init__(
        self, attr: Attr, make: Callable[[], Awaitable[bytes]], content: bytes, news: News | None = None
    ) -> None:
        super().__init__(attr)
        self._make, self._news = make, news
        self._content, self._fresh = content, True

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return a part of the picture."""
        if self._begins_anew(offset) and not self._fresh:
            self._content = await self._make()
            self.attr = replace(self.attr, size=len(self._content))
        self._fresh = False
        return self._content[offset : offset + size]

    def _begins_anew(self, offset: int) -> bool:
        return offset == 0

    async def changed(self, *, wait: bool = True) -> bytes | None:
        """Return another text than was read, once there is one; see `pfs.api.Awaited`."""
        if self._news is None:
            raise PfsError(Kind.UNSUPPORTED, "nobody tells of changes of this file")
        while not self._fresh:
            news = self._news()
            if (content := await self._make()) != self._content:
                return content
            if not wait:
                raise PfsError(Kind.WOULD_BLOCK, "it is what was read")
            await news.wait()
        return None


class OpenPicture(OpenText):
    """An open `Text`, whose picture may be given away with the opening."""

    def picture(self) -> bytes:
        """Return the picture of the opening; see `pfs.api.Pictured`."""
        self._fresh = False
        return self._content

    def was_read(self, text: bytes) -> None:
        """Take what `changed` has told for the picture; see `pfs.api.Pictured`."""
        self._content, self._fresh = text, False


class OpenGrowing(OpenText):
    """An open `GrowingText`."""

    async def getattr(self) -> Attr:
        """Tell the size as of now."""
        return replace(self.attr, size=len(await self._make()))

    def _begins_anew(self, offset: int) -> bool:
        return offset == 0 or offset >= len(self._content)

    async def changed(self, *, wait: bool = True) -> bytes | None:
        """Return once there is more; who then read that alone would have no beginning."""
        await super().changed(wait=wait)
        return None


def settled(attr: Attr) -> Attr:
    """Return the attributes of a file of the server as those of one that stays as it is."""
    return replace(attr, volatile=False, valid_s=SETTLED_VALID_S, blocks=-(-attr.size // 512))


def no_xattrs(call: XattrCall) -> bytes:
    """Answer for an open file that has no extended attributes."""
    match call.verb:
        case XattrVerb.LIST:
            return b""
        case XattrVerb.SET:
            raise PfsError(Kind.UNSUPPORTED, "what the server makes takes no extended attributes")
    raise PfsError(Kind.NO_DATA, "there is no such extended attribute")
