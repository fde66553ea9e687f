"""What is taken away when its time is over: jobs that ended long ago, what their owners removed, trees of long ago.

Only what jobs have on disk goes; what is known of them stays. All of it may be done again after a crash.
"""

import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence

import trio

from jobd.engine.workshop import DiskWorkshop
from jobd.job import Job
from jobd.manifest import tree_of
from jobd.store.trees import TreeStore
from pfs.errors import PfsError

EVERY_S = 3600.0
JOBS_AT_ONCE = 500

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
        self._started_ns: int | None = clock()

    async def run(self) -> None:
        """Sweep until cancelled."""
        self._trees.recover_now()
        while True:
            await self.sweep()
            await trio.sleep(EVERY_S)

    async def sweep(self) -> None:
        """Take away what is due; what cannot be taken away is tried again next time."""
        now_ns = self._clock()
        await self._try(self._workshop.trash.sweep(now_ns / 1e9))
        await self._try(self._trees.sweep())
        await self._try(self._tidy())
        await self._try(self._take_files(now_ns))

    async def _take_files(self, now_ns: int) -> None:
        """Take away the files of jobs that were removed or ended long ago; they are many, and are looked for once."""
        there = await self._workshop.on_disk("data", "logs")
        await self._try(self._remove_removed(there))
        if self._keep_s is not None:
            await self._try(self._expire(there, now_ns - int(self._keep_s * 1e9)))

    async def _remove_removed(self, there: Sequence[int]) -> None:
        """Throw to the trash what a server that was killed had no time to."""
        for start in range(0, len(there), JOBS_AT_ONCE):
            async with self._workshop.trash.turn:
                for job_id in await self._removed_of(there[start : start + JOBS_AT_ONCE]):
                    await self._workshop.trash.put(job_id)

    async def _tidy(self) -> None:
        """Remove once the `tmp` of jobs that ended under a server that was killed; later ends see to it themselves."""
        if self._started_ns is not None:
            for job_id in await self._over(await self._workshop.on_disk("data/tmp"), self._started_ns):
                await self._workshop.remove_tmp(job_id)
            self._started_ns = None

    async def _expire(self, there: Sequence[int], cutoff_ns: int) -> None:
        for job_id in await self._over(there, cutoff_ns):
            await self._workshop.expire(job_id)

    async def _over(self, job_ids: Sequence[int], cutoff_ns: int) -> list[int]:
        """Return those of the jobs that ended before a time."""
        found: list[int] = []
        for start in range(0, len(job_ids), JOBS_AT_ONCE):
            found += await self._over_before(job_ids[start : start + JOBS_AT_ONCE], cutoff_ns)
        return found

    async def _try(self, work: Awaitable[None]) -> None:
        try:
            await work
        except PfsError as error:
            log.warning("something could not be taken away: %s", error)
