"""The file `quota`: what one has and may have, and the same of one's groups.

    OF             WHAT          USED    LIMIT
    ann            bytes         1.5GiB  10GiB

What nobody limits is not counted on disk. The files of a user are those of the home and of all jobs; the jobs of a
group are those of its members.
"""

from collections.abc import Callable

from jobd.files.dated import DatedText
from jobd.files.facts import table
from jobd.files.sources import Sources
from jobd.scheduling.quotas import JobLimits
from jobd.spec.units import format_size
from pfs.api import Attr, OpenFile, OpenFlags
from pfs.perm import Subject
from pfs.quota import GROUP, HOME, Limits
from pfs.tree.virtual import File

HEADER = ("OF", "WHAT", "USED", "LIMIT")
NO_LIMIT, NOT_COUNTED = "none", "not counted"


class QuotaFile(File):
    """What you and your groups have and may have."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources

    async def attr(self, subject: Subject) -> Attr:
        """Tell the size of the text."""
        return await self._text(subject).attr(subject)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open for reading."""
        return await self._text(subject).open(subject, flags)

    def _text(self, subject: Subject) -> DatedText:
        async def made() -> bytes:
            return quota_text(self._sources, subject).encode()

        return DatedText(("quota", subject.user), made, self._sources.dates)


def quota_text(sources: Sources, subject: Subject) -> str:
    """Return what somebody and their groups have and may have."""
    holders = [subject.user, *(GROUP + group for group in sorted(subject.groups))]
    return table(HEADER, [row for holder in holders for row in _rows(sources, holder)])


def _rows(sources: Sources, holder: str) -> list[tuple[str, str, str, str]]:
    count = sources.disk.counts.of(holder if holder.startswith(GROUP) else HOME + holder)
    may_hold, held = count.limits, count.used
    may, has = sources.engine.fleet.policy.quotas.get(holder, JobLimits()), sources.engine.has(holder)

    def row(what: str, used: int, limit: int | None, told: Callable[[int], str], *, counted: bool) -> list[str]:
        return [what, told(used) if counted else NOT_COUNTED, NO_LIMIT if limit is None else told(limit)]

    is_counted = may_hold != Limits()
    rows = (
        row("bytes", held.size_bytes, may_hold.size_bytes, format_size, counted=is_counted),
        row("files", held.files, may_hold.files, _number, counted=is_counted),
        row("jobs running", has.running, may.running, _number, counted=True),
        row("jobs waiting", has.waiting, may.waiting, _number, counted=True),
        row("GPUs", has.gpus, may.gpus, _number, counted=True),
    )
    return [(holder, what, used, limit) for what, used, limit in rows]


def _number(number: int) -> str:
    return f"{number:,}"
