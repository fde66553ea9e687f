"""What the server makes, as it was seen last: what opening such a file for reading finds is not kept here.

The kernel looks a name up right before it opens it, so that nobody need ask once more what stands there.
"""

from pfs.api import Attr

CHANGING_MAX = 1024


class Changing:
    """Such files of a datacenter, by their paths."""

    def __init__(self) -> None:
        self._paths: set[str] = set()

    def __contains__(self, path: str) -> bool:
        return path in self._paths

    def note(self, path: str, attr: Attr) -> None:
        """Note what was told of `path`."""
        if not (attr.volatile or attr.settled):
            self._paths.discard(path)
            return
        if len(self._paths) >= CHANGING_MAX:
            self._paths.clear()
        self._paths.add(path)

    def forget(self) -> None:
        """Nothing is known any more."""
        self._paths.clear()
