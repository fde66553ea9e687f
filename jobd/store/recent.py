"""What was looked up last, kept until it may have changed.

Whoever changes something says so around the change. What was looked up before the change was done, and came back
after, is told to who asked and not kept.
"""

from collections.abc import Awaitable, Callable, Collection, Hashable, Iterator
from contextlib import contextmanager
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Answers by key.

    Args:
        count_max: so many are kept; those go first that were not asked for longest.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._known: dict[K, V] = {}
        self._asked: dict[K, object] = {}  # who looks it up now, if nothing was changed since

    async def get(self, key: K, look_up: Callable[[], Awaitable[V]], is_kept: Callable[[V], bool]) -> V:
        """Return what is known, or look it up and keep it where `is_kept` says so."""
        if key in self._known:
            found = self._known[key] = self._known.pop(key)
            return found
        mine = self._asked[key] = object()
        try:
            found = await look_up()
            if self._asked.get(key) is mine and is_kept(found):
                self._keep(key, found)
            return found
        finally:
            if self._asked.get(key) is mine:
                del self._asked[key]

    def learn(self, key: K, found: V) -> None:
        """Keep an answer that nobody had to look up."""
        self._known.pop(key, None)
        self._keep(key, found)

    def _keep(self, key: K, found: V) -> None:
        self._known[key] = found
        if len(self._known) > self._count_max:
            del self._known[next(iter(self._known))]

    @contextmanager
    def changing(self, keys: Collection[K] | None) -> Iterator[None]:
        """Forget these, or all for None, once the change that is made meanwhile is done, however that ends."""
        try:
            yield
        finally:
            self.forget(keys)

    def forget(self, keys: Collection[K] | None = None) -> None:
        """Forget these, or all, since they have changed."""
        for key in [*self._known, *self._asked] if keys is None else keys:
            self._known.pop(key, None)
            self._asked.pop(key, None)
