"""What a mount has promised and the server does not have yet: who waits for it, what stands here, what becomes of it.

Before a lease is given back, what waits is sent. Before the server is asked about a path, what waits about the same
paths has been made: from then on these nodes have the server's numbers.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

from fuseclient.behind.journal import Journal
from fuseclient.behind.making import MakingFileSystem
from fuseclient.behind.newfile import NewFile
from fuseclient.behind.queue import Promise, Version
from fuseclient.behind.sending import Behind, BehindStatus
from fuseclient.cache.blocks import BlockCache
from fuseclient.cache.copies import Question
from fuseclient.cache.filesystem import GUESSED_S
from fuseclient.cache.tree import LEASED_VALID_S, kept
from pfs.api import Attr, Name, NodeType
from pfs.errors import PfsError
from pfs.path import parent_and_name
from pfs.protocol.steps import BatchingFileSystem, Verb

NEVER = ("jobs", "nodes")


class Place(NamedTuple):
    """What stands in a directory under a name."""

    directory: int
    name: str
    attr: Attr


class PromisedFileSystem(MakingFileSystem):
    """The part of a file system with promises that does not give any.

    Args:
        inner: asks the server.
        journal: where promises are written down.
    """

    def __init__(
        self,
        inner: BatchingFileSystem,
        clock: Callable[[], float],
        datacenter: str,
        blocks: BlockCache | None,
        *,
        journal: Journal,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(inner, clock, datacenter, blocks, now_ns)
        self._places: dict[int, tuple[int, str]] = {}
        self._behind = Behind(inner, journal, self, clock)

    async def keep_promises(self) -> None:
        """Send what waits, for ever."""
        await self._behind.run()

    def behind_status(self) -> BehindStatus | None:
        """Tell what waits for the server."""
        return self._behind.status()

    def waiting(self) -> tuple[int, int]:
        """Return how many bytes the server has not confirmed, and in how many files and changes."""
        size_bytes, count = super().waiting()
        return size_bytes + self._behind.bytes, count + len(self._behind)

    # ---- what has to wait for promises

    async def reach(self, *paths: str) -> None:
        """Return when what was done at these paths, above or below them, is at the server, or could not be."""
        await super().reach(*paths)
        if any(is_never(path) for path in paths):
            await self.settle(None)
        else:
            await self._behind.reach(*paths)

    async def settle(self, node_id: int | None) -> None:
        """Return when the server has everything that this mount has written to a file, or all that it has done."""
        await super().settle(node_id)
        if node_id is None:
            await self._behind.drain()

    async def broken(self, nodes: Collection[int], names: Collection[Name]) -> None:
        """The server wants these leases back; when this returns it has what was promised under them."""
        await self._behind.drain_as_far_as_it_goes()
        await super().broken(nodes, names)

    def lapsed(self) -> None:
        """The server may have changed anything without saying so."""
        self._behind.doubt()
        super().lapsed()

    # ---- what is known here

    def known_node(self, path: str) -> Attr | None:
        """Return what is known to stand at a path whose directory is usable, also in a moment of doubt about times."""
        place = self.place(path)
        return None if place is None else place.attr

    def place(self, path: str) -> Place | None:
        """Return the same with where it stands."""
        parent, name = parent_and_name(path)
        directory = self.usable(parent)
        node_id = None if directory is None else self.copies.child(directory, name)
        attr = None if node_id is None else self.copies.last_attr(node_id)
        if directory is None or attr is None or not attr.leased or attr.volatile or attr.commits:
            return None
        return Place(directory, name, attr)

    def usable(self, path: str) -> int | None:
        """Return the id of a directory in which changes can be promised."""
        return None if is_never(path) else super().usable(path)

    def is_free(self, attr: Attr) -> bool:
        """Tell whether a name is all that there is of a node: it has no other one, and is not open in this mount."""
        return not self._open.get(attr.node_id) and (attr.nlink == 1 or attr.type is NodeType.DIRECTORY)

    # ---- what became of promises

    def kept(self, promise: Promise, attr: Attr | None, question: Question) -> int | None:
        """A promise is kept; return the server's number of its node, where it had one of the mount's own."""
        if attr is None:
            return None
        attr = kept(question, attr)
        known_as = promise.node_id if promise.node_id in self._places else attr.node_id
        writing = [file for file in self._open.get(known_as, ()) if isinstance(file, NewFile) and file.unmade]
        changed = bool(writing) or not self._behind.is_last(promise, known_as)
        if promise.step.verb in (Verb.SETATTR, Verb.OVERWRITE):
            if attr.type is NodeType.DIRECTORY:
                self.copies.touch(attr.node_id)  # what waits below it changes its times and links
            elif not changed and question.holds(attr.node_id) and self.copies.is_leased(attr.node_id):
                self.copies.relearn(replace(attr, leased=True, valid_s=LEASED_VALID_S))
                for file in self._open.get(attr.node_id, ()):
                    file.attr = replace(attr, leased=True, valid_s=LEASED_VALID_S)
                self.adopted(attr.node_id, attr.node_id)
            return None
        latest = self.copies.last_attr(promise.node_id)
        filled = attr.type is NodeType.DIRECTORY and self.copies.names(promise.node_id, self._clock())
        if latest is not None and (changed or filled):
            attr = replace(latest, node_id=attr.node_id, leased=attr.leased, valid_s=attr.valid_s)
        for file in writing:
            file.before = None if file.before is None else file.before._replace(node_id=attr.node_id)
        directory, name = self._places.pop(promise.node_id, (0, ""))
        self.adopt(question, promise.node_id, (self._behind.real(directory), name), attr)
        if attr.type is NodeType.DIRECTORY:
            self.copies.guess(attr.node_id, replace(attr, valid_s=0.0), self._clock() + GUESSED_S)
        return attr.node_id

    def not_kept(self, promise: Promise, error: PfsError) -> None:
        """A promise will not be kept here, or was kept elsewhere."""
        self._places.pop(promise.node_id, None)
        for file in self._open.get(promise.node_id, ()):
            if isinstance(file, NewFile):
                file.fail(error)
        for path in promise.paths:
            parent, name = parent_and_name(path)
            directory = self.node_if_known(parent)
            self.doubt(path, promise.node_id)
            if directory is not None:
                self.undone(directory, name)


def version_of(attr: Attr) -> Version:
    """Return what is remembered of a node that is going to be changed."""
    return Version(attr.node_id, attr.size, attr.mtime_ns)


def is_never(path: str) -> bool:
    """Tell whether changes there are never promised."""
    return path.partition("/")[0] in NEVER
