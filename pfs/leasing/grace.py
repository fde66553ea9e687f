"""What a server has to wait for, after it was started, before it lets anything change.

The server before it has promised mounts to speak before something changes, and has taken the promises into its grave.
A mount that is cut off from the network does not know, and trusts its copies for a while. So nothing changes before
every mount that was promised something has come back, and with that has let go of what it had, or its trust is over.
A server that ended properly has taken its promises back: then there is nobody to wait for.
"""

from collections.abc import Collection


class Grace:
    """The mounts that are waited for.

    Args:
        mounts: who was promised something; None when nobody knows who all of them are.
        until_s: when every promise has ended.
    """

    def __init__(self, mounts: Collection[str] | None, until_s: float) -> None:
        self._missing = None if mounts is None else set(mounts)
        self.until_s = until_s

    def back(self, mount: str) -> None:
        """A mount has come back."""
        if self._missing is not None:
            self._missing.discard(mount)

    def over(self, now_s: float) -> bool:
        """Tell whether everything may change."""
        return self._missing == set() or now_s >= self.until_s
