"""What copying folders has in common in both directions: how it is asked for, what is told of it, and trying again."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from cli.files.plan import Conflict, Plan
from pfs.errors import Kind, PfsError

TRIES = 6  # without anything new on the other side
PAUSE_S = 0.5  # before the second try; doubled for each that follows
# what may go better when it is asked for again
AGAIN = frozenset({Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.TOO_MANY})

Progress = Callable[[int, int], None]  # is told how many bytes of how many are there
Noted = Callable[[str], None]  # is told the path of each file whose bytes were copied


@dataclass(frozen=True, slots=True)
class How:
    """How a folder is copied.

    Attributes:
        deletes: what is not in the source is removed from the target.
        recorded: what the last such upload brought, is not in the source any more and was not changed since is removed
            from the target, and nothing else (`cli.files.record`).
        links: symbolic links are copied as such; else the files that they lead to are.
        always: copy also files that seem unchanged.
        keeps: files that are there are not replaced.
    """

    deletes: bool = False
    recorded: bool = False
    links: bool = True
    always: bool = False
    keeps: bool = False


@dataclass(slots=True)
class Tally:
    """What a command has copied.

    Attributes:
        bytes: that travelled.
        made: the paths of what the server made of what it was given, such as jobs.
    """

    files: int = 0
    bytes: int = 0
    made: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Done:
    """What has become of copying a folder; paths are below it.

    Attributes:
        copied: files and links.
        copied_bytes: that travelled, also for what was cut.
        same: how many files were there already.
        kept: files that were there and were not to be replaced.
        failed: what could not be copied, with its path.
        left_out: what is not copied, with the reason.
        tried: what was copied, or may have been when the way was cut.
    """

    copied: set[str] = field(default_factory=set)
    copied_bytes: int = 0
    same: int = 0
    kept: tuple[str, ...] = ()
    removed: set[str] = field(default_factory=set)
    failed: list[PfsError] = field(default_factory=list)
    left_out: tuple[tuple[str, str], ...] = ()
    tried: set[str] = field(default_factory=set)

    def found(self, same: tuple[str, ...]) -> None:
        """Note what is as it should be when a try begins."""
        self.copied |= self.tried & set(same)
        self.same = len(set(same) - self.copied)


class Counter:
    """Counts the bytes of a plan."""

    def __init__(self, done: Done, size: int, progress: Progress) -> None:
        self._done = done
        self._progress = progress
        self._there = 0
        self._size = size

    def travelled(self, count: int) -> None:
        """Bytes were sent, or came."""
        self._done.copied_bytes += count
        self.there(count)

    def there(self, count: int) -> None:
        """Bytes are there, whether they travelled now or earlier."""
        self._there += count
        self._progress(self._there, max(self._size, self._there))


def conflict_errors(conflicts: "tuple[Conflict, ...]") -> list[PfsError]:
    """Return conflicts as errors."""
    return [PfsError(Kind.EXISTS, each.why, each.path) for each in conflicts]


def left_of(plan: Plan) -> int:
    """Return a number that becomes smaller as a plan is carried out."""
    return sum(map(len, (plan.cleared, plan.folders, plan.files, plan.links, plan.attributes, plan.gone)))


class Tries:
    """Whether it is tried again after a failure.

    Args:
        sleep: waits so many seconds.
    """

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._failed = 0  # tries in turn that brought nothing
        self._left: tuple[int, ...] | None = None

    def begins(self, left: tuple[int, ...]) -> None:
        """A try begins with so much left to be done."""
        if self._left is None or left < self._left:
            self._failed = 0
        self._left = left

    def failed(self, error: PfsError) -> None:
        """Wait before the next try, or raise the error again."""
        self._failed += 1
        if self._left is None or error.kind not in AGAIN or self._failed >= TRIES:
            raise error
        self._sleep(PAUSE_S * 2 ** (self._failed - 1))
