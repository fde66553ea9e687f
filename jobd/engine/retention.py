"""What is taken away when its time is over: jobs that ended long ago, what their owners removed, trees of long ago.

Only what jobs have on disk goes; what is known of them stays. All of it may be done again after a crash.
"""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence

import trio

from jobd.engine.workshop import DiskWorkshop
from jobd.job import Job
from jobd.manifest import tree_of
from jobd.store.trees import TreeStore
from pfs.errors import PfsError

EVERY_S = 3600.0
JOBS_AT_ONCE = 500
TIDIED_AFTER_NS = 3600 * 1_000_000_000

log = logging.getLogger(__name__)


def awaited_trees(jobs: Iterable[Job]) -> set[tuple[str, str]]:
    """Return the shipped trees that jobs name, as (user, id)."""
    return {(job.user, tree) for job in jobs if (tree := tree_of(job.spec.src)) is not None}


class Retention:
    """Sweeps, hour by hour.

    Args:
        over_before: tells which of some jobs ended before a time, in nanoseconds since the epoch.
        removed_of: tells which of some jobs their owners have removed.
        keep_s: for how long what a job has on disk stays after its end; None for ever.
        clock: nanoseconds since the epoch.
    """

    def __init__(
        self,
        workshop: DiskWorkshop,
        trees: TreeStore,
        over_before: Callable[[Sequence[int], int], Awaitable[Sequence[int]]],
        removed_of: Callable[[Sequence[int]], Awaitable[Sequence[int]]],
        *,
        keep_s: float | None,
        clock: Callable[[], int],
    ) -> None:
        self._workshop = workshop
        self._trees = trees
        self._over_before = over_before
        self._removed_of = removed_of
        self._keep_s = keep_s
        self._clock = clock

    async def run(self) -> None:
        """Sweep until cancelled."""
        self._trees.recover_now()
        while True:
            await self.sweep()
            await trio.sleep(EVERY_S)

    async def sweep(self) -> None:
        """Take away what is due; what cannot be taken away is tried again next time."""
        now_ns = self._clock()
        await self._try(self._workshop.sweep(now_ns / 1e9))
        await self._try(self._trees.sweep())
        await self._try(self._remove_removed())
        await self._try(self._remove_tmp(now_ns - TIDIED_AFTER_NS))
        if self._keep_s is not None:
            await self._try(self._expire(now_ns - int(self._keep_s * 1e9)))

    async def _remove_removed(self) -> None:
        """Throw to the trash what a server that was killed had no time to."""
        there = await self._workshop.on_disk("data", "logs")
        for start in range(0, len(there), JOBS_AT_ONCE):
            for job_id in await self._removed_of(there[start : start + JOBS_AT_ONCE]):
                await self._workshop.move_to_trash(job_id)

    async def _remove_tmp(self, cutoff_ns: int) -> None:
        """Remove what a server that was killed had no time to."""
        async for job_id in self._over(await self._workshop.on_disk("data/tmp"), cutoff_ns):
            await self._workshop.remove_tmp(job_id)

    async def _expire(self, cutoff_ns: int) -> None:
        async for job_id in self._over(await self._workshop.on_disk("data", "logs"), cutoff_ns):
            await self._workshop.expire(job_id)

    async def _over(self, job_ids: Sequence[int], cutoff_ns: int) -> AsyncIterator[int]:
        """Yield those of the jobs that ended before a time."""
        for start in range(0, len(job_ids), JOBS_AT_ONCE):
            for job_id in await self._over_before(job_ids[start : start + JOBS_AT_ONCE], cutoff_ns):
                yield job_id

    async def _try(self, work: Awaitable[None]) -> None:
        try:
            await work
        except PfsError as error:
            log.warning("something could not be taken away: %s", error)
