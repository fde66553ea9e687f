"""Everything that the job service keeps in SQL: jobs, texts in `jobs/`, machines, and what administrators decided.

Whoever copies a spec into `jobs/` asks half a dozen times what stands under its name. So the answers that were given
last stay in memory, until something is written under that name: nobody else writes to these tables.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, bindparam, select
from sqlmodel import col

from jobd.job import Job
from jobd.life.events import Event
from jobd.life.life import Life
from jobd.spec.model import JobSpec
from jobd.store.closures import Closures
from jobd.store.drafts import Drafts
from jobd.store.jobs import Jobs, NewTask
from jobd.store.limits import JobQuotas
from jobd.store.nodes import Nodes
from jobd.store.recent import Recent
from jobd.store.removed import Removed
from jobd.store.search import Searches
from jobd.store.sharing import Sharing
from jobd.store.tables import DraftRow, DraftTable, JobName
from pfs.errors import Kind
from pfs.sql import Database

NAMES_MAX = 1024
TEXT_BYTES_MAX = 16 * 1024

_TEXT_COLUMNS = ("user", "name", "content", "link", "submitted", "born_ns", "mtime_ns", "kept_at_ns")
_TEXT = select(*(getattr(DraftTable, name) for name in _TEXT_COLUMNS)).where(
    col(DraftTable.user) == bindparam("owner"), col(DraftTable.name) == bindparam("called")
)
_JOB = select(col(JobName.job_id)).where(
    col(JobName.user) == bindparam("owner"), col(JobName.name) == bindparam("called")
)

# the fields of a text, the number of a job, or nothing
Standing = dict[str, Any] | int | None


class JobStore(Jobs, Drafts, Nodes, Closures, JobQuotas, Sharing, Removed, Searches):
    """Everything the job service keeps in SQL, in its own words."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._recent: Recent[tuple[str, str], Standing] = Recent(NAMES_MAX)
        self._changes: Counter[str | None] = Counter()

    def version(self, user: str) -> tuple[int, int]:
        """Return what is other numbers after each change of a user's texts, of their errors or of the names of jobs."""
        return self._changes[user], self._changes[None]

    @contextmanager
    def _changing(self, user: str | None, names: Collection[str] = ()) -> Iterator[None]:
        """Know nothing more of what stands under these names, or of all for no user, once the change is done."""
        try:
            with self._recent.changing(None if user is None else [(user, name) for name in names]):
                yield
        finally:
            self._changes[user] += 1

    async def standing(self, user: str, name: str) -> DraftRow | int | None:
        """Return what a user has under a name in `jobs/`: a text, else the number of the newest job of that name."""

        def work(connection: Connection) -> Standing:
            asked = {"owner": user, "called": name}
            text = connection.execute(_TEXT, asked).first()
            if text is not None:
                return dict(text._mapping)
            job_id: int | None = connection.execute(_JOB, asked).scalar()
            return job_id

        found = await self._recent.get((user, name), lambda: self._database.look(work), _is_small)
        return DraftRow(**found) if isinstance(found, dict) else found

    async def submit(
        self,
        draft: DraftRow,
        names: Sequence[str],
        *,
        spec: JobSpec,
        events: Sequence[Event],
        life: Life,
        key: str | None,
        tasks: Sequence[NewTask] = (),
    ) -> tuple[list[Job], bool]:
        """Make a job of a text, as `Jobs.submit`."""
        with self._changing(draft.user, (draft.name, draft.formerly, *names)):
            return await super().submit(draft, names, spec=spec, events=events, life=life, key=key, tasks=tasks)

    async def save_draft(self, draft: DraftRow) -> None:
        """Keep a text, as `Drafts.save_draft`."""
        with self._changing(draft.user, (draft.name,)):
            await super().save_draft(draft)

    async def rename_draft(self, user: str, source: str, target: str) -> None:
        """Give a text another name, as `Drafts.rename_draft`."""
        with self._changing(user, (source, target)):
            await super().rename_draft(user, source, target)

    async def delete_draft(self, user: str, name: str) -> None:
        """Forget a text, as `Drafts.delete_draft`."""
        with self._changing(user, (name,)):
            await super().delete_draft(user, name)

    async def sweep_drafts(self, before_ns: int) -> None:
        """Forget old scratch, as `Drafts.sweep_drafts`."""
        with self._changing(None):
            await super().sweep_drafts(before_ns)

    async def set_error(self, user: str, name: str, text: str, time_ns: int, kind: Kind = Kind.INVALID) -> None:
        """Say why a drop was refused, as `Drafts.set_error`."""
        with self._changing(user):
            await super().set_error(user, name, text, time_ns, kind)

    async def clear_error(self, user: str, name: str) -> None:
        """Forget why a drop was refused, as `Drafts.clear_error`."""
        with self._changing(user):
            await super().clear_error(user, name)


def _is_small(found: Standing) -> bool:
    return not isinstance(found, dict) or len(found["content"]) <= TEXT_BYTES_MAX
