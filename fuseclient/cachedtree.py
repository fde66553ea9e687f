"""What can be answered from leased copies of a datacenter's tree, and how the copies come to be.

    getattr     from the copies; the second miss in a directory fetches all of it
    listdir     from the copies; fetched once for all who ask at the same time
    contents    of small files come whole, and more and more of them at once while a program goes through a directory

A directory whose names are all known also tells what is not there.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import trio

from fuseclient.copies import Copies, Question, Unknown
from pfs.api import Attr, Content, Entry, LeasingFileSystem, NodeType, OpenFile
from pfs.errors import Kind, PfsError
from pfs.path import join, parent_and_name, split

LEASED_VALID_S = 60.0  # so long the kernel may answer by itself; the lease is broken there, too
DIRECTORY_BYTES_MAX = 1024 * 1024  # more names than fit there are asked for one by one
SMALL_BYTES_MAX = 64 * 1024
BATCH_MAX = 128


class CachedTree:
    """The part of a cached file system that only looks.

    Args:
        inner: asks the server.
        clock: seconds that only grow.
    """

    def __init__(self, inner: LeasingFileSystem, clock: Callable[[], float]) -> None:
        self.inner = inner
        self.copies = Copies()
        self._clock = clock
        self._misses: dict[int, int] = {}
        self._batches: dict[int, int] = {}
        self._fetching: dict[str, trio.Event] = {}
        self._rootless = False

    def lapsed(self) -> None:
        """The server may have changed anything without saying so."""
        self.copies.forget_all()
        self._rootless = False
        self._misses.clear()
        self._batches.clear()

    async def settle(self, node_id: int | None) -> None:
        """Return when the server has everything that this mount has written to a file, or to any."""

    def is_dirty(self, node_id: int) -> bool:
        """Tell whether the server does not have everything that this mount has written to a file."""
        return False

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        attr = self._known(path)
        if attr is None and path:
            await self._learn_way(path)
            attr = self._known(path)
        if attr is not None:
            return attr
        attr = await self._ask_for(path)
        if self.is_dirty(attr.node_id):
            await self.settle(attr.node_id)
            attr = await self._ask_for(path)
        return attr

    async def _ask_for(self, path: str) -> Attr:
        with self.copies.question() as question:
            attr = kept(question, await self.inner.getattr(path))
            self._learn(question, path, attr)
        return attr

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory."""
        node_id = self._node(path)
        entries = None if node_id is None else self.copies.listing(node_id, self._clock())
        if entries is not None:
            return entries
        if node_id is None:
            node_id = (await self.getattr(path)).node_id
        return await self._fetch(path, node_id)

    async def readlink(self, path: str) -> str:
        """Return where a link points."""
        node_id = self._node(path)
        target = None if node_id is None else self.copies.content(node_id)
        if target is not None:
            return target.decode("utf-8", "surrogateescape")
        with self.copies.question() as question:
            text = await self.inner.readlink(path)
            attr = None if node_id is None else self.copies.attr(node_id, self._clock())
            if attr is not None:
                content = Content("", attr, text.encode("utf-8", "surrogateescape"))
                self.copies.learn_content(question, content, self._clock())
        return text

    def _learn(self, question: Question, path: str, attr: Attr) -> None:
        if path == "":
            self.copies.learn_root(question, attr, self._clock())
            return
        self.copies.learn(question, attr, self._clock())
        parent, name = parent_and_name(path)
        directory = self.node_if_known(parent)
        if directory is not None and self.copies.child(directory, name) not in (None, attr.node_id):
            self.copies.forget_names(directory)

    def _known(self, path: str) -> Attr | None:
        node_id = self._node(path)
        return None if node_id is None else self.copies.attr(node_id, self._clock())

    def _node(self, path: str) -> int | None:
        """Return the id of what stands at `path`, None where it has to be asked for.

        Raises:
            PfsError: NOT_FOUND when it is known that nothing stands there.
        """
        if not self.inner.trusted():
            return None
        try:
            node_id = self.copies.node(path, self._clock())
        except Unknown:
            return None
        if node_id is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
        return node_id

    def node_if_known(self, path: str) -> int | None:
        try:
            return self._node(path)
        except PfsError:
            return None

    async def _learn_way(self, path: str) -> None:
        """Fetch the directories on the way to `path` that are not known, as far as that looks worth it."""
        if self.copies.root is None and not self._rootless and self.inner.trusted():
            await self._ask_for("")
            self._rootless = self.copies.root is None
        node_id, prefix = self.copies.root, ""
        for name in split(path):
            if node_id is None:
                return
            names = self.copies.names(node_id, self._clock())
            if names is None:
                if not self._is_worth_it(node_id):
                    return
                await self._fetch(prefix, node_id)
                names = self.copies.names(node_id, self._clock()) or {}
            node_id, prefix = names.get(name), join(prefix, name)

    def _is_worth_it(self, directory: int) -> bool:
        attr = self.copies.last_attr(directory)
        if attr is None or attr.type is not NodeType.DIRECTORY or attr.size > DIRECTORY_BYTES_MAX:
            return False
        if not attr.leased:
            return attr.valid_s > 0.0 and self.copies.attr(directory, self._clock()) is not None
        misses = self._misses[directory] = self._misses.get(directory, 0) + 1
        return attr.node_id >> 63 == 1 or misses > 1

    async def _fetch(self, path: str, node_id: int) -> Sequence[Entry]:
        """List a directory at the server; who wants the same meanwhile waits for it."""
        if (under_way := self._fetching.get(path)) is not None:
            await under_way.wait()
            if (known := self.copies.listing(node_id, self._clock())) is not None:
                return known
        done = self._fetching[path] = trio.Event()
        try:
            await self.settle(None)
            with self.copies.question() as question:
                listed = await self.inner.listdir(path)
                entries = [Entry(each.name, kept(question, each.attr)) for each in listed]
                self.copies.learn_listing(question, node_id, entries, self._clock())
            self._misses.pop(node_id, None)
            return entries
        finally:
            if self._fetching.get(path) is done:
                del self._fetching[path]
            done.set()

    def known(self, node_id: int) -> Attr | None:
        """Return the attributes of a node, where they are known and still so."""
        return self.copies.attr(node_id, self._clock()) if self.inner.trusted() else None

    async def asked(self, file: OpenFile) -> Attr:
        """Ask for the attributes of what is open."""
        with self.copies.question() as question:
            attr = kept(question, await file.getattr())
            self.copies.learn(question, attr, self._clock())
        return attr

    def content(self, node_id: int) -> bytes | None:
        """Return all bytes of a small file, where they are known and still so."""
        return self.copies.content(node_id) if self.inner.trusted() else None

    async def read_ahead_of(self, path: str, attr: Attr) -> None:
        """Fetch a small file that is about to be read, with those that stand behind it."""
        if attr.size > SMALL_BYTES_MAX or self.copies.content(attr.node_id) is not None:
            return
        parent, name = parent_and_name(path)
        directory = self.node_if_known(parent)
        names = [name]
        if directory is not None:
            batch = self._batches[directory] = min(self._batches.get(directory, 0) * 2 or 1, BATCH_MAX)
            names = self.copies.small_after(directory, name, batch, SMALL_BYTES_MAX)
        with self.copies.question() as question:
            for each in await self.inner.contents(parent, names, SMALL_BYTES_MAX):
                content = replace(each, attr=kept(question, each.attr))
                self.copies.learn_content(question, content, self._clock())


def kept(question: Question, attr: Attr) -> Attr:
    """Return attributes as they may be told on: leased ones for long, unless the lease has ended meanwhile."""
    if not attr.leased:
        return attr
    if question.holds(attr.node_id):
        return replace(attr, valid_s=LEASED_VALID_S)
    return replace(attr, leased=False, valid_s=0.0)
