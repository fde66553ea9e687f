"""Quotas: what counts for a user or a group, how much that is, and what may still be added.

    bytes   of each ordinary file its size, holes included: what `ls -l` shows, however a disk packs it
    files   each file, directory, link, FIFO and socket; a domain's own directory is none

What counts for a user lies in several domains: the home, and the data of each job. All of it is one sum here.

A file with several names counts once; one that was removed counts as long as somebody has it open. A change is counted
before it is made (`begin`, `check`), so that no two of them together pass a limit, and put right when it is over
(`finish`, `settle`). What makes nothing larger is always allowed.

The whole is counted by somebody who looks at every node, while changes go on. Each node is counted by whoever meets it
first: the looker, or the one who is about to change it; from then on the changes themselves tell what becomes of it.

    begin_count ── see, see, … (and changes, which `see` first) ── end_count
"""

from dataclasses import dataclass

from pfs.errors import Kind, PfsError

Key = tuple[int, int]  # device and inode: what tells nodes apart while they exist

HOME, GROUP = "home/", "groups/"  # what the domains of users and groups begin with

DOUBTED_NS = 60 * 10**9
TRUSTED_NS = 3600 * 10**9
_PAGE_BITS = 4096


@dataclass(frozen=True, slots=True)
class Limits:
    """How much there may be; None is no limit."""

    size_bytes: int | None = None
    files: int | None = None


@dataclass(slots=True)
class Amount:
    """How much there is."""

    size_bytes: int = 0
    files: int = 0


@dataclass(eq=False, slots=True)
class Growth:
    """A file that somebody is writing to.

    Attributes:
        appends: the first one writes at the end.
        reached_bytes: how far those write who say where.
        appended_bytes: how much those write who do so at the end.
        writers: how many there are.
        doubtful: the file may be smaller than it counts when they have written.
        gone: it was removed meanwhile, and does not count.
    """

    key: Key
    appends: bool
    reached_bytes: int
    appended_bytes: int = 0
    writers: int = 0
    doubtful: bool = False
    gone: bool = False

    @property
    def size_bytes(self) -> int:
        """How large the file counts: as large as those who write may make it."""
        return self.reached_bytes + self.appended_bytes


class Usage:
    """How much somebody holds, and may hold. Its methods are for one thread at a time.

    Args:
        domain: the first one of those that it counts, `home/ann` or `groups/ml`.
    """

    def __init__(self, domain: str, limits: Limits) -> None:
        self.limits = limits
        self._title = quota_of(domain.removeprefix(HOME))
        self._totals = [Amount()]  # what counts; after it, while that is counted again, the new one
        self._growing: dict[Key, Growth] = {}
        self._seen: _Seen | None = None
        self._counted_ns: int | None = None
        self._doubted = False

    @property
    def used(self) -> Amount:
        """How much there is, as far as it was counted."""
        total = self._totals[0]
        return Amount(max(0, total.size_bytes), max(0, total.files))

    # ---- changes

    def check(self, size_bytes: int, files: int) -> None:
        """Refuse what would pass a limit.

        Raises:
            PfsError: QUOTA.
        """
        used, limits = self._totals[0], self.limits
        if size_bytes > 0 and limits.size_bytes is not None and used.size_bytes + size_bytes > limits.size_bytes:
            held = _of(used.size_bytes, limits.size_bytes, "bytes")
            raise self._refused(f"{held}, and {size_bytes:,} more do not fit")
        if files > 0 and limits.files is not None and used.files + files > limits.files:
            raise self._refused(f"{_of(used.files, limits.files, 'files')}, and one more does not fit")

    def check_is_within(self) -> None:
        """Refuse what may make more than there is, where that is above a limit already.

        Raises:
            PfsError: QUOTA.
        """
        used, limits = self.used, self.limits
        if limits.size_bytes is not None and used.size_bytes > limits.size_bytes:
            raise self._refused(_of(used.size_bytes, limits.size_bytes, "bytes"))
        if limits.files is not None and used.files > limits.files:
            raise self._refused(_of(used.files, limits.files, "files"))

    def _refused(self, what: str) -> PfsError:
        self._doubted = True  # who is refused is refused by a count that is right
        text = f"{self._title} has {what}; remove something, or ask an administrator for more"
        return PfsError(Kind.QUOTA, text)

    def begin(self, key: Key, size_bytes: int, offset: int | None, count: int) -> Growth:
        """Somebody is about to write: count what the file may grow by; `finish` follows.

        Args:
            size_bytes: of the file now.
            offset: where is written; None is the end.
            count: how many bytes.

        Raises:
            PfsError: QUOTA, and then nothing has begun.
        """
        self.see(key, size_bytes)
        growth = self._growing.get(key) or Growth(key, offset is None, size_bytes)
        more = count
        if offset is not None:
            more = max(0, offset + count - growth.reached_bytes) if count else 0
        if more:
            self.check(more, 0)
            self._add(more, 0)
        if offset is None:
            growth.appended_bytes += more
        else:
            growth.reached_bytes += more
        growth.doubtful = growth.doubtful or growth.appends is not (offset is None)  # it depends on who comes first
        growth.writers += 1
        self._growing[key] = growth
        return growth

    def finish(self, growth: Growth, *, doubtful: bool) -> bool:
        """Somebody has written; tell whether the file's size is to be looked at, for `settle`.

        Args:
            doubtful: perhaps not all that was counted, or the file was cut.
        """
        growth.writers -= 1
        growth.doubtful = growth.doubtful or doubtful
        if growth.writers or growth.gone:
            return False
        del self._growing[growth.key]
        return growth.doubtful

    def settle(self, growth: Growth, size_bytes: int) -> None:
        """Nobody writes to a file any more, and it is of this size now."""
        self._add(size_bytes - growth.size_bytes, 0)

    def brought(self, size_bytes: int, files: int) -> None:
        """So much came, of which some may have been there before: the next count finds it out."""
        self._add(size_bytes, files)
        self._doubted = True

    def made(self, key: Key) -> None:
        """A node was made; whoever looked at the names meanwhile has not seen it."""
        if self._seen is not None:
            self._seen.add(key)
        self._add(0, 1)

    def removed(self, key: Key, size_bytes: int) -> None:
        """A node is gone, which was seen before and had this size then."""
        growth = self._growing.pop(key, None)
        if growth is not None:
            growth.gone = True
            size_bytes = growth.size_bytes
        self._add(-size_bytes, -1)

    def moves(self, *, directory: bool) -> None:
        """A node changes its place, and was seen before; what is below a directory may be missed by who looks."""
        if directory and self._seen is not None:
            self._doubted = True

    def _add(self, size_bytes: int, files: int) -> None:
        for total in self._totals:
            total.size_bytes += size_bytes
            total.files += files

    # ---- counting the whole

    def begin_count(self, now_ns: int) -> None:
        """Somebody begins to look at every node. Until the first count is over, what it has seen is what there is."""
        first = self._counted_ns is None
        self._totals = [Amount()] if first else [self._totals[0], Amount()]
        self._seen = _Seen()
        self._counted_ns = now_ns
        self._doubted = first  # what was on its way when it began, nobody has told
        for growth in self._growing.values():
            self.see(growth.key, growth.size_bytes)

    def see(self, key: Key, size_bytes: int) -> None:
        """There is a node, of this size unless somebody is changing it."""
        if self._seen is not None and self._seen.add(key):
            self._totals[-1].size_bytes += size_bytes
            self._totals[-1].files += 1

    def end_count(self) -> None:
        """Every node was seen."""
        self._totals = self._totals[-1:]
        self._seen = None

    def doubt(self) -> None:
        """There may have been changes that nobody told us of."""
        self._doubted = True

    def due_ns(self) -> int:
        """When the whole is to be counted again."""
        if self._counted_ns is None:
            return 0
        return self._counted_ns + (DOUBTED_NS if self._doubted else TRUSTED_NS)


class _Seen:
    """The nodes that were seen, a bit for each: millions of them take little room."""

    def __init__(self) -> None:
        self._pages: dict[Key, bytearray] = {}

    def add(self, key: Key) -> bool:
        """Note a node; tell whether it is new."""
        device, inode = key
        page = self._pages.get(place := (device, inode // _PAGE_BITS))
        if page is None:
            page = self._pages[place] = bytearray(_PAGE_BITS // 8)
        index, bit = inode % _PAGE_BITS // 8, 1 << inode % 8
        new = not page[index] & bit
        page[index] |= bit
        return new


def quota_of(holder: str) -> str:
    """Return what the limits of a user (`ann`) or of a group (`groups/ml`) are called."""
    return f"the quota of group {holder.removeprefix(GROUP)}" if holder.startswith(GROUP) else f"{holder}'s quota"


def _of(used: int, limit: int, what: str) -> str:
    return f"{used:,} of {limit:,} {what} in use"


def bounded(limit: int | None, used: int, total: int, free: int) -> tuple[int, int]:
    """Return how much there may be and how much may still be added, where a disk has so much, all and free."""
    if limit is None:
        return total, free
    return min(total, limit), max(0, min(free, limit - used))
