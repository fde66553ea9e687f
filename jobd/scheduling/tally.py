"""What users have had, by which the one who had less goes first.

A user's *share* is what he has used of late, as he is told to have, and an hour ahead of what his jobs use now: a GPU
counts 1 and a process 1/8, for each second. Jobs that start count at once, so that a user's hundred jobs do not all
go before the one of another.
"""

from jobd.scheduling.model import Need, Running

AHEAD_S = 3600
GPU_PARTS, PROCESS_PARTS = 8, 1  # in eighths of a GPU, whole numbers so that sums do not depend on their order

Turn = tuple[int, float, float, int]  # smaller goes first: -priority, share, arrived, number


class Tally:
    """What users have had."""

    def __init__(self) -> None:
        self._past: dict[str, float] = {}
        self._parts: dict[str, int] = {}
        self._shares: dict[str, float] = {}  # of those who have any

    def set_past(self, user: str, value: float) -> None:
        """Note what a user has used, in GPU-seconds of the kind that are counted here."""
        self._past[user] = value
        self._note(user)

    def add(self, user: str, parts: int) -> None:
        """Note that a user's jobs use so much more, or less."""
        left = self._parts.get(user, 0) + parts
        if left:
            self._parts[user] = left
        else:
            self._parts.pop(user, None)
        self._note(user)

    def of(self, user: str) -> float:
        """Return the share of a user."""
        return self._shares.get(user, 0.0)

    def with_more(self, user: str, more_parts: int) -> float:
        """Return the share of a user, if so much more of his ran."""
        return self._past.get(user, 0.0) + AHEAD_S * (self._parts.get(user, 0) + more_parts) / GPU_PARTS

    def parts_until(self, user: str, share: float) -> float:
        """Return about how much more of a user's would have to run for him to have that share."""
        return (share - self._past.get(user, 0.0)) * GPU_PARTS / AHEAD_S - self._parts.get(user, 0)

    def _note(self, user: str) -> None:
        share = self.with_more(user, 0)
        if share:
            self._shares[user] = share
        else:
            self._shares.pop(user, None)


def parts_of(needs: tuple[Need, ...]) -> int:
    """Return what a job counts for while it runs, in eighths of a GPU."""
    return sum(need.count * (PROCESS_PARTS + GPU_PARTS * sum(count for count, _ in need.gpus)) for need in needs)


def parts_of_running(job: Running) -> int:
    """Return the same for a job that has its places."""
    return sum(PROCESS_PARTS * use.processes + GPU_PARTS * len(use.gpus) for use in job.uses)
