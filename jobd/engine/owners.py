"""The owners of jobs, who are asked for several times for each job that starts: looked up once, and again when told.

An account hardly ever changes, and whoever changes one tells the server (`forget`).
"""

from collections.abc import Awaitable, Callable

from pfs.perm import Subject

ACCOUNTS_MAX = 10_000


class Owners:
    """Remembers accounts.

    Args:
        find: looks an account up; None where there is none.
    """

    def __init__(self, find: Callable[[str], Awaitable[Subject | None]]) -> None:
        self._find = find
        self._known: dict[str, Subject] = {}

    async def __call__(self, name: str) -> Subject | None:
        """Return an account with its groups."""
        known = self._known.get(name)
        if known is None:
            memory = self._known
            known = await self._find(name)
            if known is not None and len(memory) < ACCOUNTS_MAX:
                memory[name] = known  # not into what was begun after a change
        return known

    def forget(self) -> None:
        """Some account was changed."""
        self._known = {}
