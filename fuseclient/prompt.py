"""What a file system may answer at once, from memory.

Most of what the kernel asks can be: then neither a task has to be scheduled nor a deadline watched, which costs more
than the answer. A file system or open file that can says so by these classes. Each method answers at once, or says
that it cannot (None, or False); then the same is asked by the way of `pfs.api`, where it may take its time.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from pfs.api import Attr, Entry, OpenFile, OpenFlags

Version = tuple[int, int, int]  # size, mtime and ctime: what was read while they stay has not changed


class PromptFile(ABC):
    """An open file that can answer at once."""

    @abstractmethod
    def read_at_once(self, offset: int, size: int) -> bytes | None:
        """Return all bytes of the file that are there in this range."""

    @abstractmethod
    def release_at_once(self) -> bool:
        """End the open file; False leaves it as it is."""

    def flush_at_once(self) -> bool:
        """Tell whether there is nothing of what was written that the server does not have."""
        return False


class Prompt(ABC):
    """A file system that can answer at once."""

    @abstractmethod
    def attr_at_once(self, path: str) -> Attr | None:
        """Tell what stands at `path`.

        Raises:
            PfsError: NOT_FOUND when it is known that nothing does.
        """

    @abstractmethod
    def attr_of_at_once(self, node_id: int) -> Attr | None:
        """Tell of a node, wherever it stands."""

    @abstractmethod
    def listing_at_once(self, path: str) -> Sequence[Entry] | None:
        """List a directory.

        Raises:
            PfsError: NOT_FOUND when it is known that nothing stands there.
        """

    @abstractmethod
    def open_at_once(self, path: str, attr: Attr, held: Version | None) -> OpenFile | None:
        """Open a file for reading.

        Args:
            path: where it stands.
            attr: what `attr_at_once` has just told of it.
            held: what the kernel has pages of.
        """

    def create_at_once(self, path: str, flags: OpenFlags, mode: int) -> OpenFile | None:
        """Open a file that is to be made, for its caller, where nothing stands."""
        return None
