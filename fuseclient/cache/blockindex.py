"""Which blocks of files a folder holds: what they are called, how much room they take, which one goes first.

A block is a fixed stretch of one version of one file, and so never changes: another size or time of the file is
another version, whose blocks take the place of the former ones. All that is known of a block stands in its name,

    <datacenter>,<node>,<size>,<mtime>,<ctime>,<number>,<checksum>        numbers in hexadecimal

so that the index needs no file of its own: the names of the folder are the index, and renaming a complete file to
its name is what makes it part of it.
"""

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote

BLOCK_BYTES = 1024 * 1024
ROOM_UNIT_BYTES = 4096  # disks give out room in such units
BLOCKS_MAX = 65_536  # bounds the memory of the index to 60 MB, and the time to read the folder to seconds


class Key(NamedTuple):
    """One version of one file. Times are nanoseconds, the size is in bytes."""

    datacenter: str
    node_id: int
    size: int
    mtime_ns: int
    ctime_ns: int

    def block_size(self, number: int) -> int:
        """Return how many bytes the block has: the last one may be shorter; 0 for one that is not in the file."""
        return max(0, min(BLOCK_BYTES, self.size - number * BLOCK_BYTES)) if number >= 0 else 0


class BlockId(NamedTuple):
    """One block of one version of a file; the first one has number 0."""

    key: Key
    number: int


@dataclass(slots=True, eq=False)
class Entry:
    """What is known of a block that is there.

    Attributes:
        name: what its file is called.
        checksum: what its bytes must give.
        verified: they have given it since the folder was opened.
    """

    name: str
    checksum: int
    verified: bool


def name_of(block: BlockId, checksum: int) -> str:
    """Return the name of the block's file."""
    (datacenter, node_id, size, mtime_ns, ctime_ns), number = block
    return f"{_quoted(datacenter)},{node_id:x},{size:x},{mtime_ns:x},{ctime_ns:x},{number:x},{checksum:x}"


def block_of(name: str) -> tuple[BlockId, int] | None:
    """Return the block with its checksum that a file's name stands for; None when it is no block's name."""
    datacenter, *words = name.split(",")
    try:
        node_id, size, mtime_ns, ctime_ns, number, checksum = (int(word, 16) for word in words)
    except ValueError:
        return None
    block = BlockId(Key(unquote(datacenter), node_id, size, mtime_ns, ctime_ns), number)
    return (block, checksum) if block.key.block_size(number) and name_of(block, checksum) == name else None


class Allowance:
    """How much may be kept: a burst at once, and after that a rate.

    What comes faster, a local disk could not give any faster when it is wanted again; to keep all of it would slow
    down who reads it now, by a third where there are two processors. Once all is used up, a quarter of a burst has to
    come together first: single blocks here and there help nobody who reads large pieces.

    Args:
        bytes_per_s: the rate.
        burst_bytes: what may come at once.
        now_s: the time, as below; of any clock that does not go back.
    """

    def __init__(self, bytes_per_s: int, burst_bytes: int, now_s: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_bytes = burst_bytes
        self._left_bytes = float(burst_bytes)
        self._least_bytes = 0
        self._seen_s = now_s

    def take(self, size: int, now_s: float) -> bool:
        """Tell whether so many bytes may be kept now."""
        more = (now_s - self._seen_s) * self._bytes_per_s
        self._left_bytes, self._seen_s = min(self._left_bytes + more, self._burst_bytes), now_s
        if self._left_bytes < max(size, self._least_bytes):
            self._least_bytes = self._burst_bytes // 4
            return False
        self._left_bytes -= size
        self._least_bytes = 0
        return True


class BlockIndex:
    """The blocks that there are, the least recently used first.

    Args:
        limit_bytes: room that they may take.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._entries: OrderedDict[BlockId, Entry] = OrderedDict()
        self._nodes: dict[tuple[str, int], tuple[Key, list[int]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, block: BlockId) -> bool:
        return block in self._entries

    def use(self, block: BlockId) -> Entry | None:
        """Return what is known of the block, which is now the last to go; None when it is not there."""
        entry = self._entries.get(block)
        if entry is not None:
            self._entries.move_to_end(block)
        return entry

    def add(self, block: BlockId, checksum: int, *, verified: bool) -> list[str]:
        """Note that a block is there; return the names of those that have to go for it.

        These are the blocks of other versions of the file, and what is too much.
        """
        key = block.key
        known = self._nodes.get((key.datacenter, key.node_id))
        gone = [] if known is None or known[0] == key else self.forget(key.datacenter, key.node_id)
        name = name_of(block, checksum)
        gone += [former for former in self.remove(block) if former != name]
        self._entries[block] = Entry(name, checksum, verified)
        self._nodes.setdefault((key.datacenter, key.node_id), (key, []))[1].append(block.number)
        self.held_bytes += _room(block)
        return gone + self.shrink()

    def remove(self, block: BlockId) -> list[str]:
        """Note that the block is there no more; return its name, if it was."""
        entry = self._entries.pop(block, None)
        if entry is None:
            return []
        node = (block.key.datacenter, block.key.node_id)
        self._nodes[node][1].remove(block.number)
        if not self._nodes[node][1]:
            del self._nodes[node]
        self.held_bytes -= _room(block)
        return [entry.name]

    def forget(self, datacenter: str, node_id: int) -> list[str]:
        """Let go of all blocks of a file; return their names."""
        key, numbers = self._nodes.get((datacenter, node_id), (None, []))
        if key is None:
            return []
        return [name for number in sorted(numbers) for name in self.remove(BlockId(key, number))]

    def shrink(self) -> list[str]:
        """Let go of what is beyond the limit, the least recently used first; return the names."""
        gone: list[str] = []
        while self._entries and (self.held_bytes > self.limit_bytes or len(self._entries) > BLOCKS_MAX):
            gone += self.remove(next(iter(self._entries)))
        return gone


@lru_cache(maxsize=64)
def _quoted(datacenter: str) -> str:
    return quote(datacenter, safe="")


def _room(block: BlockId) -> int:
    return -(-block.key.block_size(block.number) // ROOM_UNIT_BYTES) * ROOM_UNIT_BYTES
