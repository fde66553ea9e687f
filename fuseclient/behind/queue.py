"""Changes that programs were told are made, and that the server does not have yet: their order, and who waits for them.

Each is a `Promise`. They are kept in the order in which they were given, a batch at a time:

    add ──▶ waiting ──take──▶ in flight ──settle──▶ gone
             │ ▲                  │
             │ └────put_back──────┘  nobody knows whether they were made
             └──cancel──▶ gone       nobody needs it any more

A promise is *sure* while the leases hold that it was given under: then nobody else can have changed what it is about,
and it is made as it stands. When they have ended (`doubt`), all that wait are made one at a time and with care.

Whoever asks the server about a path has to wait for the last promise about that path, or about one above or below it
(`last_near`). The queue is bounded, in promises and in bytes.

Numbers that have been settled are left in the tables, since to take each out costs more than to look past it: they are
swept when nothing waits, or when there are many.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from pfs.protocol.steps import Step, Verb

PROMISES_MAX = 4096
BYTES_MAX = 64 * 1024 * 1024
BATCH_MAX = 128
BATCH_BYTES_MAX = 2 * 1024 * 1024
OVERHEAD_BYTES = 512  # of a promise without data
FULL_FROM = 4  # it is getting full with one part in so many of what it holds
SWEPT_AT = 4  # so many times as many paths as it holds promises


class Version(NamedTuple):
    """What stood somewhere: a node, and of a file also which content."""

    node_id: int
    size: int
    mtime_ns: int


class Promise(NamedTuple):
    """A change that a program was told is made.

    Attributes:
        number: its place in the order.
        step: the change.
        node_id: of what stands at the path after it, or did before it; perhaps a number of this mount's own.
        before: what stood at the path; None for nothing.
        target_before: what stood at the new path of a rename.
    """

    number: int
    step: Step
    node_id: int
    before: Version | None = None
    target_before: Version | None = None

    @property
    def size_bytes(self) -> int:
        """The room that it takes."""
        return OVERHEAD_BYTES + len(self.step.data)

    @property
    def paths(self) -> tuple[str, ...]:
        """What it is about."""
        return (self.step.path, self.step.target) if self.step.verb is Verb.RENAME else (self.step.path,)


@dataclass(frozen=True, slots=True)
class Batch:
    """What to send next.

    Attributes:
        promises: in their order; none when there is nothing to be sent.
        sure: they can be made as they stand; otherwise it is one that needs care.
    """

    promises: tuple[Promise, ...] = ()
    sure: bool = True


class BehindQueue:
    """Promises in their order.

    Args:
        promises_max, bytes_max: what it holds.
    """

    def __init__(self, promises_max: int = PROMISES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._promises_max = promises_max
        self._bytes_max = bytes_max
        self._promises: OrderedDict[int, Promise] = OrderedDict()
        self._in_flight: deque[Promise] = deque()
        self._at: dict[str, int] = {}
        self._below: dict[str, int] = {}
        self._of_node: dict[int, int] = {}
        self._doubtful_to = 0
        self.bytes = 0
        self.last = 0

    def __len__(self) -> int:
        return len(self._promises)

    @property
    def settled(self) -> int:
        """No promise up to this number waits."""
        return next(iter(self._promises)) - 1 if self._promises else self.last

    def promises(self) -> list[Promise]:
        """Return all that are not settled, in their order."""
        return list(self._promises.values())

    def has_room(self, size_bytes: int) -> bool:
        """Tell whether a change with so many bytes of data can be promised; into an empty queue any can."""
        fits = self.bytes + OVERHEAD_BYTES + size_bytes <= self._bytes_max
        return not self._promises or (fits and len(self._promises) < self._promises_max)

    def is_getting_full(self) -> bool:
        """Tell whether a good part of what it holds is taken."""
        return len(self._promises) * FULL_FROM >= self._promises_max or self.bytes * FULL_FROM >= self._bytes_max

    def add(self, promise: Promise) -> None:
        """Take a promise; its number is above that of all earlier ones."""
        number = promise.number
        if number <= self.last:
            raise ValueError(f"promise {number} comes after {self.last}")
        self.last = number
        self._promises[number] = promise
        self.bytes += promise.size_bytes
        self._of_node[promise.node_id] = number
        below = self._below
        for path in promise.paths:
            self._at[path] = number
            for directory in _above(path):
                below[directory] = number

    def last_near(self, paths: Iterable[str]) -> int:
        """Return the number of the last promise about one of the paths, or a path above or below it; 0 for none."""
        if not self._promises:
            return 0
        found = 0
        for path in paths:
            found = max(found, self._at.get(path, 0), self._below.get(path, 0))
            for directory in _above(path):
                found = max(found, self._at.get(directory, 0))
        return found if found > self.settled else 0

    def waiting_alone(self, path: str) -> Promise | None:
        """Return the promise that waits about a path, where no later one is about it or a path above or below it."""
        promise = self._promises.get(self.last_near((path,)))
        if promise is None or promise.paths != (path,) or promise.number <= self._doubtful_to:
            return None
        return None if self._is_in_flight(promise) else promise

    def is_last_of_node(self, promise: Promise, known_as: int) -> bool:
        """Tell whether no later promise is about the same node, which may be known by another number by now."""
        return max(self._of_node.get(each, 0) for each in (promise.node_id, known_as)) <= promise.number

    # ---- sending

    def take(self, promises_max: int = BATCH_MAX, bytes_max: int = BATCH_BYTES_MAX) -> Batch:
        """Return what to send next; nothing while the last batch is in flight."""
        if self._in_flight or not self._promises:
            return Batch()
        taken: list[Promise] = []
        size_bytes = 0
        for promise in self._promises.values():
            size_bytes += promise.size_bytes
            if taken and (len(taken) >= promises_max or size_bytes > bytes_max):
                break
            sure = promise.number > self._doubtful_to
            if not sure:
                self._in_flight = deque((promise,))
                return Batch((promise,), sure=False)
            taken.append(promise)
        self._in_flight = deque(taken)
        return Batch(tuple(taken))

    def settle(self, promise: Promise) -> None:
        """Note that a promise in flight has been kept, or never will be; the first one comes first."""
        if not self._in_flight or self._in_flight[0] is not promise:
            raise ValueError(f"promise {promise.number} is not the next one")
        self._in_flight.popleft()
        self._remove(promise)

    def cancel(self, promise: Promise) -> None:
        """Note that nobody needs one any more that waits."""
        if self._is_in_flight(promise):
            raise ValueError(f"promise {promise.number} is on its way")
        self._remove(promise)

    def _is_in_flight(self, promise: Promise) -> bool:
        return bool(self._in_flight) and promise.number <= self._in_flight[-1].number

    def _remove(self, promise: Promise) -> None:
        del self._promises[promise.number]
        self.bytes -= promise.size_bytes
        if not self._promises:
            self._at.clear()
            self._below.clear()
            self._of_node.clear()
        elif len(self._at) > SWEPT_AT * self._promises_max:
            settled = self.settled
            self._at = {path: number for path, number in self._at.items() if number > settled}
            self._below = {path: number for path, number in self._below.items() if number > settled}
            self._of_node = {node_id: number for node_id, number in self._of_node.items() if number > settled}

    def put_back(self) -> None:
        """Note that nobody knows what came of those in flight."""
        self._in_flight.clear()
        self.doubt()

    def doubt(self) -> None:
        """Note that the leases have ended under which all these were given."""
        self._doubtful_to = self.last


def _above(path: str) -> tuple[str, ...]:
    return _down_to(path.rpartition("/")[0]) if path else ()


@lru_cache(maxsize=1024)
def _down_to(directory: str) -> tuple[str, ...]:
    """Return a directory and all above it."""
    found = [directory]
    while directory:
        directory = directory.rpartition("/")[0]
        found.append(directory)
    return tuple(found)
