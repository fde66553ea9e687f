"""What users had lately, for their fair share: the GPU-seconds of their jobs, those of a week ago counting half.

Instead of letting old ones shrink, young ones grow: a GPU-second at time t counts 2^(t/7 days), from `EPOCH_S` on. So
what a job had is one number that never changes, and what a user had is a sum, in whatever order its jobs end. Users
are compared at one moment, where both ways say the same. (A float holds these numbers from 2016 to 2053.)

A job has its GPUs from its placement on. Jobs that run count with what they had so far: what a user's running jobs
have is known from two sums, so no event costs more the more of them there are.
"""

import math
from dataclasses import dataclass

HALF_LIFE_S = 7 * 86_400.0
EPOCH_S = 2_051_222_400.0  # 2035-01-01


@dataclass(frozen=True, slots=True)
class Usage:
    """What one attempt of a job had: `amount` is to be added to what its owner had before."""

    user: str
    amount: float
    time_ns: int


@dataclass(slots=True)
class _Share:
    """What one user had (`past`), and the jobs that run: how many, how heavy, and the growth up to their starts."""

    past: float = 0.0
    jobs: int = 0
    weight: float = 0.0
    until_starts: float = 0.0


class Shares:
    """What all users had."""

    def __init__(self) -> None:
        self._shares: dict[str, _Share] = {}

    def load(self, user: str, past: float) -> None:
        """Take up what was kept of a user: the sum of all amounts so far."""
        self._share(user).past = past

    def started(self, user: str, weight: float, start_s: float) -> None:
        """A job has its places."""
        share = self._share(user)
        share.jobs += 1
        share.weight += weight
        share.until_starts += weight * _grown(start_s)

    def ended(self, user: str, weight: float, start_s: float, amount: float) -> None:
        """A job that started with these numbers has let go of its places; `amount` is what it had in all."""
        share = self._share(user)
        share.past += amount
        share.jobs -= 1
        share.weight -= weight
        share.until_starts -= weight * _grown(start_s)
        if share.jobs == 0:  # sums of floats drift
            share.weight = share.until_starts = 0.0

    def value(self, user: str, now_s: float) -> float:
        """Return what a user had until now, in weighted seconds as they count now."""
        share = self._shares.get(user)
        if share is None:
            return 0.0
        running = share.weight * _grown(now_s) - share.until_starts
        return max(0.0, (share.past + running) * math.exp2(-(now_s - EPOCH_S) / HALF_LIFE_S))

    def running(self) -> list[str]:
        """Return the users of whom something runs."""
        return [user for user, share in self._shares.items() if share.jobs]

    def _share(self, user: str) -> _Share:
        return self._shares.setdefault(user, _Share())


def amount(weight: float, start_s: float, end_s: float) -> float:
    """Return what a job of this weight had from its start to its end."""
    return weight * max(0.0, _grown(end_s) - _grown(start_s))


def _grown(time_s: float) -> float:
    """Return what a weight of one had from the beginning of time on."""
    return HALF_LIFE_S / math.log(2) * math.exp2((time_s - EPOCH_S) / HALF_LIFE_S)
