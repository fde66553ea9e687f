"""The directory `jobs/`: everybody sees their own texts and names, and the jobs that they may read, by number.

<text>            scratch of a program, or a spec that was dropped       (`jobd.files.drafts`)
<stem>.error      why the last drop under that name was refused
<name> → <id>     the newest job dropped under that name
<id>/             a job                                                  (`jobd.files.job`)
by-state/ …       the jobs again, by what one looks for                  (`jobd.files.views`)

A text that somebody has open stands here, for all mounts of its user; every other one in SQL. Whatever changes what
stands under a name does so in its turn (`jobd.files.turns`), and looks anew what that is.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager

from jobd.files.drafts import Draft, OpenDraft, draft_attr, is_drop, listed_draft_attr, resized, stem
from jobd.files.job import JobDirectory
from jobd.files.listings import KeptListings
from jobd.files.removal import throw_away
from jobd.files.sources import Sources
from jobd.files.tasks import WALK_VALID_S, job_attr
from jobd.files.turns import Turns
from jobd.files.views import views
from jobd.store.jobs import DAY_NS, LISTED_DAYS
from jobd.store.tables import DraftRow, DropError
from pfs.api import Attr, Changes, Entry, OpenFile, OpenFlags, RenameMode
from pfs.errors import Kind, PfsError
from pfs.perm import Subject, Verb, allowed
from pfs.tree.texts import Text
from pfs.tree.virtual import Directory, File, How, Link, Node, directory_attr, virtual_id

ERROR_ENDING = ".error"


class JobsDirectory(Directory):
    """The jobs that you may read, your specs, and your names for jobs."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._engine = sources.engine
        self._store = sources.store
        self._open: dict[tuple[str, str], Draft] = {}
        self._turns = Turns()
        self._listings = KeptListings(sources.engine.ledger, sources.store)
        self._views = views(sources, self._listings)

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is; its time is that of the last change of any job."""
        made, mtime_ns = virtual_id("jobs", subject.user), self._engine.ledger.changed_at_ns
        return directory_attr(made, mtime_ns=mtime_ns, mode=0o755, walk_s=WALK_VALID_S)

    async def lookup(self, subject: Subject, name: str) -> Node:
        """Find a job by number, a text, an error, or a name."""
        if name.isascii() and name.isdigit() and str(int(name)) == name:
            job = await self._engine.ledger.find(int(name), subject)
            return JobDirectory(self._sources, job)
        if name in self._views:
            return self._views[name]
        found = self._open.get((subject.user, name)) or await self._store.standing(subject.user, name)
        if isinstance(found, DraftRow):
            found = Draft(found)
        if isinstance(found, Draft):
            if found.row.link:
                return _draft_link(found.row)
            return (DropFile if is_drop(name) else ScratchFile)(self, found)
        if name.endswith(ERROR_ENDING):
            error = await self._store.error(subject.user, name.removesuffix(ERROR_ENDING))
            if error is not None:
                return _error_text(error)
        if found is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        job = await self._engine.ledger.find(found, subject)
        return _name_link(subject, name, found, job.life.submitted_at_ns)

    async def entries(self, subject: Subject) -> Sequence[Entry]:
        """List texts, errors, names, views and jobs."""
        opened = {name: draft_attr(draft.row) for (user, name), draft in self._open.items() if user == subject.user}
        if opened:  # these change with every write
            return await self._entries(subject, opened)
        return await self._listings.get(subject, (), lambda: self._entries(subject, {}))

    async def _entries(self, subject: Subject, opened: Mapping[str, Attr]) -> Sequence[Entry]:
        since_ns = time.time_ns() - LISTED_DAYS * DAY_NS
        texts = {text.name: listed_draft_attr(text) for text in await self._store.drafts(subject.user, since_ns)}
        texts.update(opened)
        nodes: dict[str, Node] = {**self._views}
        found = [Entry(name, attr) for name, attr in texts.items()]
        for name, error in (await self._store.errors(subject.user)).items():
            nodes[name + ERROR_ENDING] = _error_text(error)
        jobs = {job.id: job for job in await self._engine.ledger.listed(subject)}
        own = [job.id for job in jobs.values() if job.user == subject.user]
        # like the jobs themselves, names of those that ended long ago are not listed, but there
        for name, job_id in (await self._store.names(subject.user, own)).items():
            if name not in texts:
                nodes[name] = _name_link(subject, name, job_id, jobs[job_id].submitted_at_ns)
        found += [
            Entry(str(job.id), job_attr(job.id, job.changed_at_ns, over=job.over, listed=True)) for job in jobs.values()
        ]
        for name, node in nodes.items():
            target = node.target if isinstance(node, Link) else None
            found.append(Entry(name, await node.attr(subject), target))
        return sorted(found, key=lambda entry: (entry.name.isdigit(), len(entry.name), entry.name))

    async def create(self, subject: Subject, name: str, flags: OpenFlags, mode: int) -> OpenFile:
        """Make a text; one that somebody else has just made is opened."""
        self._check_new_name(name)
        async with self._turn(subject, name):
            draft = await self._draft(subject, name)
            if draft is not None and OpenFlags.EXCLUSIVE in flags:
                raise PfsError(Kind.EXISTS, "there is such a file already")
            return self._opened(subject, draft or Draft(_new_row(subject, name, b""), changed=True), flags)

    async def put(self, subject: Subject, name: str, data: bytes, key: str | None) -> str | None:
        """Take a whole text, which is another file than one that is there; a spec becomes a job: return its path."""
        self._check_new_name(name)
        row = _new_row(subject, name, data)
        async with self._turn(subject, name):
            try:
                return await self._put(subject, row, key)
            finally:
                found = await self._store.standing(subject.user, name)
                if isinstance(found, DraftRow) and found.born_ns == row.born_ns:  # it is none that was made by `key`
                    self._lose(subject.user, name)

    async def _put(self, subject: Subject, row: DraftRow, key: str | None) -> str | None:
        if not is_drop(row.name):
            await self._check_is_no_jobs_name(subject, row.name)
            await self._store.save_draft(row)
            return None
        row.submitted = True
        try:
            return f"jobs/{await self._engine.submit(subject, row, stem(row.name), key)}"
        except PfsError as error:
            row.submitted = False
            await self._store.save_draft(row)
            await self.complain(row, error)
            raise

    async def symlink(self, subject: Subject, name: str, target: str) -> Attr:
        """Make a link: scratch, as editors lock with."""
        self._check_new_name(name)
        async with self._turn(subject, name):
            if await self._draft(subject, name) is not None:
                raise PfsError(Kind.EXISTS, "there is such a file already")
            await self._check_is_no_jobs_name(subject, name)
            row = _new_row(subject, name, target.encode(), link=True)
            await self._store.save_draft(row)
            return draft_attr(row)

    async def unlink(self, subject: Subject, name: str) -> None:
        """Remove a text with its error, or an error; never a job."""
        async with self._turn(subject, name):
            if await self._draft(subject, name) is not None:
                await self._store.delete_draft(subject.user, name)
                self._lose(subject.user, name)
                return
            node = await self.lookup(subject, name)
            if isinstance(node, Link):
                raise _name_stays()
            if isinstance(node, Directory):
                raise PfsError(Kind.IS_DIR, "this is a directory")
            await self._store.clear_error(subject.user, name.removesuffix(ERROR_ENDING))

    async def rmdir(self, subject: Subject, name: str) -> None:
        """Throw a job that is over to the trash, with its tasks; what runs is never removed."""
        node = await self.lookup(subject, name)
        if name in self._views:
            raise PfsError(Kind.FORBIDDEN, "this directory stays")
        if not isinstance(node, JobDirectory):
            raise PfsError(Kind.NOT_DIR, "not a directory")
        job = node.job
        if not allowed(subject, Verb.COMMAND, job.domain):
            raise PfsError(Kind.FORBIDDEN, f"job {name} belongs to {job.user}")
        if not job.life.state.over:
            raise PfsError(Kind.BUSY, f"job {name} is not over; `echo kill` into its ctl ends it")
        if job.array_id is not None:
            raise PfsError(Kind.FORBIDDEN, f"job {name} is a task of job {job.array_id}, and goes with it")
        await throw_away(self._sources, job.id, time.time_ns())
        for view in self._views.values():
            view.forget()

    async def rename(self, subject: Subject, source: str, target: str, mode: RenameMode) -> None:
        """Rename a text; renaming one that was not submitted to the name of a spec submits it."""
        if mode is RenameMode.EXCHANGE:
            raise PfsError(Kind.INVALID, "texts in jobs/ are not exchanged")
        async with self._turn(subject, source, target):
            draft = await self._draft(subject, source)
            if draft is None:
                await self.lookup(subject, source)
                raise PfsError(Kind.FORBIDDEN, "only texts are renamed here")
            self._check_new_name(target)
            if mode is RenameMode.NO_REPLACE and await self._draft(subject, target) is not None:
                raise PfsError(Kind.EXISTS, "there is such a file already")
            if source != target:
                await self._rename(subject, draft, target)

    async def _rename(self, subject: Subject, draft: Draft, target: str) -> None:
        if not is_drop(target):
            await self._check_is_no_jobs_name(subject, target)
        if draft.changed:
            draft.changed = False
            await self._store.save_draft(draft.row)
        if is_drop(target) and not draft.row.submitted and not draft.row.link:
            await draft.submitted_as(target, lambda text: self._submit_renamed(subject, text, draft.row.name))
        else:
            await self._store.rename_draft(subject.user, draft.row.name, target)
        self._move(draft, target)

    async def _submit_renamed(self, subject: Subject, text: DraftRow, source: str) -> int:
        text.formerly = source
        try:
            return await self.submit(subject, text)
        except PfsError as error:
            await self.complain(text, error)
            raise

    def _move(self, draft: Draft, target: str) -> None:
        """Let a text stand under another name; what stood there is gone."""
        user, source = draft.row.user, draft.row.name
        self._lose(user, target)
        if self._open.pop((user, source), None) is not None:
            self._open[user, target] = draft
        draft.row.name = target

    def _lose(self, user: str, name: str) -> None:
        """Let a text that is open have no name any more."""
        draft = self._open.pop((user, name), None)
        if draft is not None:
            draft.gone = True

    # ---- texts

    async def _draft(self, subject: Subject, name: str) -> Draft | None:
        draft = self._open.get((subject.user, name))
        if draft is not None:
            return draft
        found = await self._store.standing(subject.user, name)
        return Draft(found) if isinstance(found, DraftRow) else None

    async def open_draft(self, subject: Subject, name: str, flags: OpenFlags) -> OpenFile:
        """Open a text that is there."""
        opened = self._open.get((subject.user, name))
        if opened is not None:
            return self._opened(subject, opened, flags)
        async with self._turn(subject, name):
            return self._opened(subject, await self._known(subject, name), flags)

    async def touch(self, subject: Subject, name: str, changes: Changes) -> Attr:
        """Change size and time of a text; what `utimes` and `chmod` say is no command."""
        async with self._turn(subject, name):
            draft = await self._known(subject, name)
            if changes.size is not None:
                draft.change(resized(draft.row.content, changes.size), changes.size)
            if changes.mtime_ns is not None:
                draft.row.mtime_ns = changes.mtime_ns
            draft.changed = True
            if draft.opened == 0:
                await self._store.save_draft(draft.row)
            return draft_attr(draft.row)

    async def _known(self, subject: Subject, name: str) -> Draft:
        draft = await self._draft(subject, name)
        if draft is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory")
        return draft

    def _opened(self, subject: Subject, draft: Draft, flags: OpenFlags) -> OpenDraft:
        if draft.row.link:
            raise PfsError(Kind.LOOP, "a symbolic link is not opened here")
        self._open[subject.user, draft.row.name] = draft
        return OpenDraft(subject, draft, flags, self, time.time_ns)

    def _turn(self, subject: Subject, *names: str) -> AbstractAsyncContextManager[None]:
        return self._turns.of(lambda: [(subject.user, name) for name in names])

    # ---- what an opening asks of its directory (`jobd.files.drafts.Desk`)

    def turn(self, draft: Draft) -> AbstractAsyncContextManager[None]:
        """Have the name of a text, whatever that is by then."""
        return self._turns.of(lambda: [(draft.row.user, draft.row.name)])

    async def submit(self, subject: Subject, row: DraftRow) -> int:
        """Make a job of a text."""
        return await self._engine.submit(subject, row, stem(row.name), None)

    async def save(self, row: DraftRow) -> None:
        """Keep a text."""
        await self._store.save_draft(row)

    async def complain(self, row: DraftRow, error: PfsError) -> None:
        """Say under `.error` why a text was refused."""
        await self._store.set_error(row.user, row.name, error.message, time.time_ns(), error.kind)

    def closed(self, draft: Draft) -> None:
        """Let go of a text that nobody has open any more."""
        key = (draft.row.user, draft.row.name)
        if draft.opened == 0 and self._open.get(key) is draft:
            del self._open[key]

    def _check_new_name(self, name: str) -> None:
        if name.isdigit() or name.startswith("by-") or name.endswith(ERROR_ENDING):
            raise PfsError(Kind.FORBIDDEN, "numbers, by-* and *.error are names that the server gives")

    async def _check_is_no_jobs_name(self, subject: Subject, name: str) -> None:
        """Refuse scratch that would hide a job's name."""
        try:
            node = await self.lookup(subject, name)
        except PfsError as error:
            if error.kind is not Kind.NOT_FOUND:
                raise
            return
        if isinstance(node, Link) and node.own:
            raise _name_stays()


class DraftFile(File):
    """A text of one user."""

    how = How.WRITTEN

    def __init__(self, directory: JobsDirectory, draft: Draft) -> None:
        self._directory = directory
        self._draft = draft

    async def attr(self, subject: Subject) -> Attr:
        """Tell what it is."""
        return draft_attr(self._draft.row)

    async def setattr(self, subject: Subject, changes: Changes) -> Attr:
        """Change size and time."""
        return await self._directory.touch(subject, self._draft.row.name, changes)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        """Open it."""
        return await self._directory.open_draft(subject, self._draft.row.name, flags)


class DropFile(DraftFile):
    """A drop (.yml, .json): a complete spec that is closed is submitted."""

    called = "<name>.yaml"


class ScratchFile(DraftFile):
    """Your scratch: no job, 1 MiB at most, gone after a day."""

    called = "<other>"


class ScratchLink(Link):
    """Your scratch that is a link, as editors lock with."""

    called = "<other>"


class ErrorFile(Text):
    """Why the last drop of that name was refused: line, column, cure."""

    called = "<name>.error"


class NameLink(Link):
    """To the newest job that was dropped under that name, or has it in its spec."""

    called = "<name>"


def _name_stays() -> PfsError:
    return PfsError(Kind.FORBIDDEN, "a job's name stays; `echo kill` into its ctl ends the job")


def _new_row(subject: Subject, name: str, content: bytes, *, link: bool = False) -> DraftRow:
    now_ns = time.time_ns()
    return DraftRow(user=subject.user, name=name, content=content, link=link, born_ns=now_ns, mtime_ns=now_ns)


def _error_text(error: DropError) -> Node:
    async def make() -> bytes:
        return error.text.encode() + b"\n"

    return ErrorFile(("error", error.user, error.name), make, error.time_ns)


def _draft_link(row: DraftRow) -> Link:
    return ScratchLink(draft_attr(row).node_id, row.content.decode(), row.mtime_ns, own=False)


def _name_link(subject: Subject, name: str, job_id: int, mtime_ns: int) -> Link:
    return NameLink(virtual_id("name", subject.user, name, job_id), str(job_id), mtime_ns)
