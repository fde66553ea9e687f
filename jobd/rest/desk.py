"""What the doors for clients of PaddleCloud look up: the jobs of a user, by name or number, quotas and registries.

Nothing is changed here: that is done through the tree, as everywhere; but for what is in the trash, and in no tree.
"""

import time
from collections.abc import Sequence
from typing import Any

from jobd.engine.credentials import parse_credential
from jobd.files.removal import NUMBER_DIGITS_MAX, restore
from jobd.files.sources import Sources
from jobd.job import Job
from jobd.rest.posted import check_gpus
from jobd.rest.survey import Survey
from jobd.scheduling.quotas import JobLimits
from pfs.api import OpenFile
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.quota import HOME

JOBS_MAX = 1000
LOG_BYTES_MAX = 1024 * 1024  # of one process
LOG_PIECE_BYTES = 64 * 1024


class Desk:
    """Answers questions about what is there.

    Attributes:
        datacenter: its name.
        survey: what everybody may know of jobs.
    """

    def __init__(self, sources: Sources, datacenter: str) -> None:
        self.datacenter = datacenter
        self.survey = Survey(sources)
        self._sources = sources
        self._ledger = sources.engine.ledger

    async def jobs(self, subject: Subject) -> list[Job]:
        """Return the newest 1,000 jobs of a user, of those that `jobs/` lists, newest first."""
        numbers = (await self._numbers(subject))[:JOBS_MAX]
        active = {number: each.job for number in numbers if (each := self._ledger.get(number)) is not None}
        found = active | await self._sources.store.jobs([number for number in numbers if number not in active])
        return [found[number] for number in numbers if number in found]

    async def _numbers(self, subject: Subject) -> list[int]:
        return [each.id for each in await self._ledger.listed(subject) if each.user == subject.user]

    async def find(self, subject: Subject, name: str) -> Job:
        """Return a job by its number, or the newest of a user with that name; for "" the newest of all.

        Raises:
            PfsError: NOT_FOUND when there is none, or none that `subject` may read.
        """
        is_number = name.isascii() and name.isdigit() and len(name) <= NUMBER_DIGITS_MAX
        number = int(name) if is_number else await self._named(subject, name)
        if number is None:
            raise PfsError(Kind.NOT_FOUND, f"there is no job {name[:80]}".rstrip())
        try:
            return await self._ledger.find(number, subject)
        except PfsError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            raise PfsError(Kind.NOT_FOUND, f"there is no job {name[:80]}") from None

    async def _named(self, subject: Subject, name: str) -> int | None:
        if not name:
            return next(iter(await self._numbers(subject)), None)
        found = await self._sources.store.standing(subject.user, name)
        if isinstance(found, int):
            return found
        # a text of that name hides the job in `jobs/`, not here
        return (await self._sources.store.names(subject.user, await self._numbers(subject))).get(name)

    async def ended(self, job: Job) -> Job:
        """Return a job once it is over."""
        return await self._ledger.wait(job)

    async def restore(self, subject: Subject, name: str) -> int:
        """Bring a job back from the trash, by its number or its name; return its number."""
        return await restore(self._sources, subject, name, time.time_ns())

    def nodes(self) -> dict[str, tuple[str, str]]:
        """Return the names of nodes, and the addresses that they tell of themselves, by id."""
        known = self._sources.engine.fleet.standings()
        return {each.row.id: (each.label, str(each.row.attrs.get("address", ""))) for each in known}

    async def check(self, subject: Subject, text: bytes, name: str) -> None:
        """Refuse a spec as its submission would, but for its files."""
        await self._sources.engine.check(subject, text, name)

    async def check_gpus(self, subject: Subject, text: bytes, name: str) -> None:
        """Refuse a spec that alone wants more GPUs than its owner may have, as QUOTA, or one that is none.

        They are counted as submissions count them; only the words are those that clients of PaddleCloud know.
        """
        limit = self._limits(subject).gpus
        if limit is not None:
            asked = await self._sources.engine.least_gpus(subject, text, name)
            check_gpus(asked, self._sources.engine.has(subject.user).gpus, limit)

    def active(self, subject: Subject) -> list[Job]:
        """Return the jobs of a user that are not over, also tasks."""
        return [each.job for each in self._ledger.active() if each.job.user == subject.user]

    def quota(self, subject: Subject) -> list[dict[str, Any]]:
        """Return what a user has and may have; a limit that is null is none."""
        count, has = self._sources.disk.counts.of(HOME + subject.user), self._sources.engine.has(subject.user)
        limits = self._limits(subject)
        rows = (
            ("GPU", has.gpus, limits.gpus),
            ("JobsRunning", has.running, limits.running),
            ("JobsWaiting", has.waiting, limits.waiting),
            ("Bytes", count.used.size_bytes, count.limits.size_bytes),
            ("Files", count.used.files, count.limits.files),
        )
        return [{"name": name, "used": used, "limit": limit} for name, used, limit in rows]

    def _limits(self, subject: Subject) -> JobLimits:
        return self._sources.engine.fleet.policy.quotas.get(subject.user, JobLimits())

    async def registries(self, subject: Subject) -> dict[str, int]:
        """Return those secrets of a user that are credentials, and when each was written, in nanoseconds."""
        secrets = self._sources.secrets
        names = await secrets.names(subject.user)
        return {name: at_ns for name, at_ns in names.items() if _is_credential(name, await self._secret(subject, name))}

    async def _secret(self, subject: Subject, name: str) -> bytes:
        try:
            return await self._sources.secrets.find(subject.user, name) or b""
        except PfsError as error:
            if error.kind is not Kind.INVALID:  # its key is gone: it is there, and nobody knows what it is
                raise
            return b""


def _is_credential(name: str, text: bytes) -> bool:
    try:
        parse_credential(name, text)
    except PfsError:
        return False
    return True


async def tail(file: OpenFile, lines: int) -> str:
    """Return the last lines of a text, of its last 1 MiB."""
    end = file.attr.size
    start, pieces, ends = end, list[bytes](), 0
    while start > max(0, end - LOG_BYTES_MAX) and ends <= lines:
        size = min(LOG_PIECE_BYTES, start)
        piece = await file.read(start - size, size)
        start -= size
        ends += piece.count(b"\n")
        pieces.append(piece)
    text = b"".join(reversed(pieces)).decode(errors="replace")
    return "\n".join(_last(text.removesuffix("\n").split("\n"), lines))


def _last(lines: Sequence[str], count: int) -> Sequence[str]:
    return lines[-count:] if count else ()
