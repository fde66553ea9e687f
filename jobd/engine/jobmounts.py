"""The mounts of running jobs: whom a job's key proves, what it opens, and when that ends.

Nodes without the server's data root mount the tree for each job, with the job's own key (`jobd.engine.jobkeys`). It
is good while that attempt of the job is on nodes; then what was opened with it is closed, whatever became of the node.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

import trio

from jobd.engine.assign import Place, volumes_of
from jobd.engine.jobkeys import proven_by
from jobd.engine.ledger import Active, Ledger
from jobd.engine.ports import FindUser
from jobd.life.life import ON_NODES
from jobd.wire import TaskVolume
from pfs.accounts.store import Identity, KeyKind
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.protocol.channel import Channel, Handler

Identify = Callable[[str], Awaitable[Identity]]
Conversation = Callable[[Identity, Callable[[], Channel]], AbstractAsyncContextManager[Handler]]


class JobMounts:
    """Lets the mounts of running jobs in.

    Args:
        user: finds the owner of a job.
        identify: tells whose any other key is.
    """

    def __init__(self, ledger: Ledger, place: Place, user: FindUser, identify: Identify) -> None:
        self._ledger = ledger
        self._place = place
        self._user = user
        self._identify = identify

    async def identify(self, key: str) -> Identity:
        """Return whom `key` proves.

        Raises:
            PfsError: UNAUTHENTICATED when it proves nobody, or a job that does not run (any more).
        """
        proven = proven_by(key, self._place.secret)
        if proven is None:
            return await self._identify(key)
        job_id, attempt = proven
        active = self._ledger.get(job_id)
        if active is None or not _runs(active, attempt):
            raise PfsError(Kind.UNAUTHENTICATED, f"job {job_id} does not run any more; its key opens nothing")
        return Identity(KeyKind.JOB, await self._acting(active))

    async def _acting(self, active: Active) -> Subject:
        owner = await self._user(active.job.user)
        if owner is None:
            raise PfsError(Kind.UNAUTHENTICATED, f"the account {active.job.user!r} is gone")
        return replace(owner, admin=False, job=active.job.id)

    def volumes(self, subject: Subject) -> tuple[TaskVolume, ...]:
        """Return what the running job that acts sees, by its names under the data root.

        What its spec names, and its owner lost the right to since it started, is left out.

        Raises:
            PfsError: NOT_FOUND when it is over.
        """
        assert subject.job is not None
        active = self._ledger.get(subject.job)
        if active is None:
            raise PfsError(Kind.NOT_FOUND, f"job {subject.job} is over")
        return volumes_of(active.job, subject, self._place, there_only=True)

    def conversation(self, talk: Conversation) -> Conversation:
        """Return the conversation with a job's mount: `talk`, for as long as the attempt is on nodes."""

        @asynccontextmanager
        async def until_over(identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
            job_id = identity.subject.job
            assert job_id is not None
            active = self._ledger.get(job_id)
            if active is None:
                raise PfsError(Kind.UNAUTHENTICATED, f"job {job_id} is over")
            attempt = active.job.life.attempt

            async def hang_up() -> None:
                while _runs(active, attempt):
                    await active.changed.wait()
                await channel().close()

            async with talk(identity, channel) as handler, trio.open_nursery() as nursery:
                nursery.start_soon(hang_up)
                yield handler
                nursery.cancel_scope.cancel()

        return until_over


def _runs(active: Active, attempt: int) -> bool:
    return active.job.life.attempt == attempt and active.job.life.state in ON_NODES
