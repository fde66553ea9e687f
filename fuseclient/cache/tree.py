"""What can be answered from leased copies of a datacenter's tree, and how the copies come to be.

    getattr     from the copies; where that is worth it (`fuseclient.cache.worth`), a miss fetches the whole directory
    listdir     from the copies; fetched once for all who ask at the same time
    contents    of small files come whole, and more and more of them at once while a program goes through a directory

A directory whose names are all known also tells what is not there.

While the server is away (`pfs.client.presence`) nobody knows better than the copies, so they answer as they were when
it was last heard: attributes, names, what is not there, small files, and blocks on the local disk. Nothing of that is
for the kernel to keep. What is not known has to be asked for, which ends in TIMED_OUT. When the server is heard again,
all of it is forgotten before anything is answered: who looks then sees what is there.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import trio

from fuseclient.cache.ahead import Ahead
from fuseclient.cache.batches import Batches, Place
from fuseclient.cache.changing import Changing
from fuseclient.cache.copies import REMEMBERED_S, Copies, Question, Unknown
from fuseclient.cache.prompt import CachedPrompt
from fuseclient.cache.worth import Worth
from fuseclient.counters import Counters
from pfs.api import Attr, Content, Entry, LeasingFileSystem, NodeType, OpenFile
from pfs.errors import Kind, PfsError
from pfs.path import join, parent_and_name, split
from pfs.validity import held_for

log = logging.getLogger(__name__)

LEASED_VALID_S = 60.0  # so long, as servers say too, the kernel may answer by itself; the lease is broken there, too
DIRECTORY_BYTES_MAX = 1024 * 1024  # more names than fit there are asked for one by one
SMALL_BYTES_MAX = 64 * 1024


class CachedTree(CachedPrompt):
    """The part of a cached file system that only looks.

    Args:
        inner: asks the server.
        clock: seconds that only grow.
    """

    nursery: trio.Nursery

    def __init__(self, inner: LeasingFileSystem, clock: Callable[[], float]) -> None:
        self.inner = inner
        self.copies = Copies(is_dirty=self.is_dirty)
        self.counters = Counters()
        self._clock = clock
        self._worth = Worth()
        self._batches = Batches()
        self._coming: dict[int, trio.Event] = {}
        self._fetching: dict[str, trio.Event] = {}
        self._ahead = Ahead()
        self._rootless = False
        self._remembering = False
        self.changing = Changing()

    def lapsed(self) -> None:
        """The server may have changed anything without saying so."""
        self.copies.lapse()

    def returned(self) -> None:
        """The server is heard again."""
        self.copies.forget_all()
        self._rootless = self._remembering = False
        self._worth.forget()
        self._batches.forget()
        self._ahead.forget()
        self.changing.forget()

    async def look_out(self) -> None:
        """Return when it is known whether the server is there or away."""
        if not self.inner.trusted():
            await self.inner.look_out()

    def as_of_s(self) -> float | None:
        """Return as of when the copies are to be looked at; None when they are not."""
        if self.inner.trusted():
            return self._clock()
        if not self.inner.is_away():
            return None
        if not self._remembering:
            self._remembering = True
            log.warning("the server is away: what was looked at before is shown as it was then")
        return REMEMBERED_S

    async def settle(self, node_id: int | None) -> None:
        """Return when the server has everything that this mount has written to a file, or to any."""

    def is_dirty(self, node_id: int) -> bool:
        """Tell whether the server does not have everything that this mount has written to a file."""
        return False

    async def getattr(self, path: str) -> Attr:
        """Tell what stands at `path`."""
        self.counters.attributes.asked += 1
        await self.look_out()
        attr = self._known(path)
        if attr is None and path:
            await self._learn_way(path)
            attr = self._known(path)
        if attr is not None:
            return attr
        self.counters.attributes.missed += 1
        attr = await self._ask_for(path)
        if self.is_dirty(attr.node_id):
            await self.settle(attr.node_id)
            attr = await self._ask_for(path)
        return attr

    async def _ask_for(self, path: str) -> Attr:
        with self.copies.question() as question:
            attr = kept(question, await self.inner.getattr(path))
            self._learn(question, path, attr)
        self.changing.note(path, attr)
        return attr

    async def listdir(self, path: str) -> Sequence[Entry]:
        """List a directory."""
        self.look_ahead(path)
        self.counters.listings.asked += 1
        await self.look_out()
        node_id, as_of_s = self._node(path), self.as_of_s()
        entries = None if node_id is None or as_of_s is None else self.copies.listing(node_id, as_of_s)
        if entries is not None:
            return entries if as_of_s != REMEMBERED_S else [_for_now(entry) for entry in entries]
        self.counters.listings.missed += 1
        if node_id is None:
            node_id = (await self.getattr(path)).node_id
        return await self._fetch(path, node_id, for_program=True)

    def look_ahead(self, path: str) -> None:
        if not path or not self.inner.trusted():
            return
        parent, name = parent_and_name(path)
        for each in self._ahead.listed(parent, name, lambda: self._directories(parent)):
            sibling = join(parent, each)
            node_id = self.node_if_known(sibling)
            if node_id is not None and self.copies.names(node_id, self._clock()) is None:
                self.nursery.start_soon(self._list_ahead, sibling, node_id)

    def _directories(self, path: str) -> Sequence[str]:
        """Return the names of the leased directories in a directory, in their order, as far as that is known."""
        node_id = self.node_if_known(path)
        names = None if node_id is None else self.copies.names(node_id, self._clock())
        return [name for name, child in (names or {}).items() if self._can_be_listed(child)]

    def _can_be_listed(self, node_id: int) -> bool:
        attr = self.copies.last_attr(node_id)
        return (
            attr is not None
            and attr.leased
            and attr.type is NodeType.DIRECTORY
            and attr.size <= DIRECTORY_BYTES_MAX
            and not attr.node_id >> 63
        )

    async def _list_ahead(self, path: str, node_id: int) -> None:
        try:
            await self._fetch(path, node_id)
        except PfsError as error:  # whoever asks for it hears of it
            log.debug("listing ahead: %s", error)
        except Exception:  # nobody has asked for it: it must not end the mount
            log.exception("listing ahead")

    async def readlink(self, path: str) -> str:
        """Return where a link points."""
        await self.look_out()
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
        return None if node_id is None else self.known(node_id)

    def _node(self, path: str) -> int | None:
        """Return the id of what stands at `path`, None where it has to be asked for.

        Raises:
            PfsError: NOT_FOUND when it is known that nothing stands there.
        """
        as_of_s = self.as_of_s()
        if as_of_s is None:
            return None
        try:
            node_id = self.copies.node(path, as_of_s)
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
                often = self._worth.missed(node_id)
                if often and self.copies.last_attr(node_id) is None:
                    attr = await self._ask_for(prefix)  # nobody looks at a directory itself that a program has open
                    if attr.volatile:
                        self._worth.never(node_id)
                if not self._is_worth_it(node_id, often=often):
                    return
                await self._fetch(prefix, node_id)
                names = self.copies.names(node_id, self._clock()) or {}
            node_id, prefix = names.get(name), join(prefix, name)

    def _is_worth_it(self, directory: int, *, often: bool) -> bool:
        attr = self.copies.last_attr(directory)
        if attr is None or attr.type is not NodeType.DIRECTORY or attr.size > DIRECTORY_BYTES_MAX:
            return False
        if not attr.leased:
            return attr.valid_s > 0.0 and attr.node_id >> 63 == 1
        return often or attr.node_id >> 63 == 1

    def interrupted(self, nodes: Iterable[int]) -> None:
        """Others change these nodes: where they are directories, their names have to be asked for."""
        now_s = self._clock()
        for node_id in nodes:
            self._worth.ended(node_id, now_s)

    async def _fetch(self, path: str, node_id: int, *, for_program: bool = False) -> Sequence[Entry]:
        """List a directory at the server; who wants the same meanwhile waits for it.

        Args:
            for_program: one has asked for all of it.
        """
        if (under_way := self._fetching.get(path)) is not None:
            await under_way.wait()
            if (known := self.copies.listing(node_id, self._clock())) is not None:
                return known
        done = self._fetching[path] = trio.Event()
        try:
            await self.settle(None)
            with self.copies.question() as question:
                listed = await self.inner.listdir(path)
                entries = [_kept(question, each) for each in listed]
                self.copies.learn_listing(question, node_id, entries, self._clock())
            self._worth.fetched(node_id, len(entries), self._clock(), for_program=for_program)
            if not question.holds(node_id):
                self.interrupted((node_id,))
            return entries
        finally:
            if self._fetching.get(path) is done:
                del self._fetching[path]
            done.set()

    def known(self, node_id: int) -> Attr | None:
        """Return the attributes of a node, where they are known and still so."""
        as_of_s = self.as_of_s()
        attr = None if as_of_s is None else self.copies.attr(node_id, as_of_s)
        return replace(attr, valid_s=0.0) if attr is not None and as_of_s == REMEMBERED_S else attr

    async def asked(self, file: OpenFile) -> Attr:
        """Ask for the attributes of what is open."""
        with self.copies.question() as question:
            attr = kept(question, await file.getattr())
            self.copies.learn(question, attr, self._clock())
        return attr

    def content(self, node_id: int) -> bytes | None:
        """Return all bytes of a small file, where they are known and still so."""
        return None if self.as_of_s() is None else self.copies.content(node_id)

    async def read_ahead_of(self, path: str, attr: Attr) -> None:
        """Fetch a small file that is about to be read, with those that stand behind it."""
        if attr.size > SMALL_BYTES_MAX or not self.inner.trusted():
            return
        self.counters.contents.asked += 1
        if self.copies.content(attr.node_id) is not None:
            self.goes_on(attr.node_id)
            return
        self.counters.contents.missed += 1
        if (coming := self._coming.get(attr.node_id)) is not None:
            await coming.wait()
            if self.copies.content(attr.node_id) is not None:
                self.goes_on(attr.node_id)
                return
        parent, name = parent_and_name(path)
        directory = self.node_if_known(parent)
        if directory is None:
            await self._fetch_contents(parent, [name])
            return
        size = self._batches.size(directory, self.counters.contents.asked)
        names = [name, *self.copies.small_after(directory, name, size - 1, SMALL_BYTES_MAX)]
        self._batches.give(Place(parent, names[-1]), self._children(directory, names))
        await self._fetch_contents(parent, names)

    def goes_on(self, node_id: int) -> None:
        """A small file that is here is read: it may be time to fetch those that will be read after it."""
        place = self._batches.read(node_id)
        if place is None or not self.inner.trusted():
            return
        found = self._small_behind(place.path, place.name)
        if found is None:
            parent, name = parent_and_name(place.path)
            following = self._ahead.next_after(parent, name) if place.path else None
            found = None if following is None else self._small_behind(join(parent, following), "")
        if found is not None:
            path, names, nodes = found
            self._batches.give(Place(path, names[-1]), nodes)
            done = trio.Event()
            self._coming.update(dict.fromkeys(nodes, done))
            self.nursery.start_soon(self._bring, path, names, nodes, done)

    async def _bring(self, path: str, names: Sequence[str], nodes: Sequence[int], done: trio.Event) -> None:
        try:
            await self._fetch_contents(path, names)
        except PfsError as error:  # whoever reads them hears of it
            log.debug("reading ahead: %s", error)
        except Exception:
            log.exception("reading ahead in %s", path)
        finally:
            for node_id in nodes:
                if self._coming.get(node_id) is done:
                    del self._coming[node_id]
            done.set()

    async def _fetch_contents(self, path: str, names: Sequence[str]) -> None:
        with self.copies.question() as question:
            for each in await self.inner.contents(path, names, SMALL_BYTES_MAX):
                self.counters.fetched_bytes += len(each.data)
                content = replace(each, attr=kept(question, each.attr))
                self.copies.learn_content(question, content, self._clock())

    def _small_behind(self, path: str, name: str) -> tuple[str, list[str], list[int]] | None:
        """Return the small files to fetch that stand behind a name, with their ids; None when there are none."""
        directory = self.node_if_known(path)
        if directory is None or not self.copies.small_after(directory, name, 1, SMALL_BYTES_MAX):
            return None
        size = self._batches.size(directory, self.counters.contents.asked)
        names = self.copies.small_after(directory, name, size, SMALL_BYTES_MAX)
        return path, names, self._children(directory, names)

    def _children(self, directory: int, names: Sequence[str]) -> list[int]:
        return [child for name in names if (child := self.copies.child(directory, name)) is not None]


def _for_now(entry: Entry) -> Entry:
    return replace(entry, attr=held_for(entry.attr, 0.0))


def _kept(question: Question, entry: Entry) -> Entry:
    attr = kept(question, entry.attr)
    return entry if attr is entry.attr else Entry(entry.name, attr, entry.target)


def kept(question: Question, attr: Attr) -> Attr:
    """Return attributes as they may be told on: leased ones for long, unless the lease has ended meanwhile."""
    if not attr.leased:
        return attr
    if question.holds(attr.node_id):
        return attr if attr.valid_s == LEASED_VALID_S else replace(attr, valid_s=LEASED_VALID_S)
    return replace(attr, leased=False, valid_s=0.0)
