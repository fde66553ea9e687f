"""What a cached file system answers at once: whatever its copies hold while the server is heard.

The rest of it (`fuseclient.cache.tree`, `fuseclient.cache.filesystem`) may ask the server and remembers what was while
that is away; here is only what is sure and needs nobody.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence

from fuseclient.cache.copies import Copies, Unknown
from fuseclient.counters import Counters
from fuseclient.prompt import Prompt
from pfs.api import Attr, Entry, LeasingFileSystem
from pfs.errors import Kind, PfsError


class CachedPrompt(Prompt):
    """The part of a cached file system that never waits."""

    inner: LeasingFileSystem
    copies: Copies
    counters: Counters
    _clock: Callable[[], float]

    def attr_at_once(self, path: str) -> Attr | None:
        now_s = self._clock()
        node_id = self._node_at_once(path, now_s)
        attr = None if node_id is None else self.copies.attr(node_id, now_s)
        self.counters.attributes.asked += attr is not None
        return attr

    def attr_of_at_once(self, node_id: int) -> Attr | None:
        attr = self.copies.attr(node_id, self._clock()) if self.inner.trusted() else None
        self.counters.attributes.asked += attr is not None
        return attr

    def listing_at_once(self, path: str) -> Sequence[Entry] | None:
        now_s = self._clock()
        node_id = self._node_at_once(path, now_s)
        entries = None if node_id is None else self.copies.listing(node_id, now_s)
        if entries is not None:
            self.counters.listings.asked += 1
            self.look_ahead(path)
        return entries

    @abstractmethod
    def look_ahead(self, path: str) -> None:
        """A program lists a directory: fetch those that it will want next, while it looks at this one."""

    def _node_at_once(self, path: str, now_s: float) -> int | None:
        if not self.inner.trusted():
            return None
        try:
            node_id = self.copies.node(path, now_s)
        except Unknown:
            return None
        if node_id is None:
            self.counters.attributes.asked += 1
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
        return node_id
