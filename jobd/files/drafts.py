"""Texts in `jobs/`: scratch of programs, and specs whose closing submits them (rules 3 and 4 of the tree).

    opened ── write ──▶ dirty ── flush LAST, whole ──▶ submitted
                          ├───── flush SHARED ────▶ dirty      somebody else still writes
                          ├───── flush DYING ─────▶ cut        never submitted
                          ├───── release ─────────▶ submitted  the fall-back; what is wrong stands in .error
                          └───── renamed to a drop ▶ opened     submitted by that; what is written next is a new text

What no continuation could cure is refused in `write` already: a shell's `echo >` does not see what `close` says.
A text remembers that it was submitted; so neither `mv a.yaml b.yaml` nor an editor that puts its backup back makes
a second job, while any text that is written anew does. A text that lost its name while it was open is gone: its
closing keeps nothing, and submits nothing.

Several may write one text, through one mount or many:

- What is submitted is the text as it is at that moment, with what all of them wrote until then: it is one job, whoever
  of them closes it again. What is written while that goes on is another text.
- Removing and renaming wait for it (`jobd.files.turns`): a text that is gone before is no job, and one that goes
  meanwhile is one job, and then gone.
- Who empties the text, or writes over what somebody else wrote and has not submitted, takes it over: for the other one
  writing and closing fail, since a close that says nothing would be taken for a job.
"""

import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Protocol

from jobd.spec.spec import is_complete, prefix_problems
from jobd.store.drafts import ListedDraft
from jobd.store.tables import DraftRow
from pfs.api import Attr, Changes, Closing, NodeType, OpenFlags, XattrCall
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.tree.texts import no_xattrs
from pfs.tree.virtual import virtual_id

DROP_NAME = re.compile(r"[A-Za-z0-9].*\.(ya?ml|json)")
DRAFT_BYTES_MAX = 1024 * 1024


class Desk(Protocol):
    """The directory that texts lie in."""

    def turn(self, draft: "Draft") -> AbstractAsyncContextManager[None]:
        """Let nobody else change what stands under the name of a text meanwhile."""

    async def submit(self, subject: Subject, row: DraftRow) -> int:
        """Make a job of a text and keep both in one transaction, or raise what is wrong with it."""

    async def save(self, row: DraftRow) -> None:
        """Keep a text."""

    async def complain(self, row: DraftRow, error: PfsError) -> None:
        """Say under `.error` why a text was refused."""

    def closed(self, draft: "Draft") -> None:
        """An opening of the text is over."""


def is_drop(name: str) -> bool:
    """Tell whether closing a text of this name submits it."""
    return DROP_NAME.fullmatch(name) is not None


def stem(name: str) -> str:
    """Return the job's default name: the file's name without its ending."""
    return name.rpartition(".")[0]


def resized(content: bytes, size: int) -> bytes:
    """Return a text cut or extended to `size` bytes.

    Raises:
        PfsError: TOO_LARGE.
    """
    if size > DRAFT_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"a text in jobs/ has at most {DRAFT_BYTES_MAX} bytes")
    return content[:size].ljust(size, b"\0")


@dataclass
class Draft:
    """A text as the server holds it while somebody has it open.

    Attributes:
        opened: how many openings it has.
        changed: it is not kept yet as it is now.
        gone: it was removed, or another one was put in its place.
        writers: the openings that wrote what is not submitted yet.
    """

    row: DraftRow
    opened: int = 0
    changed: bool = False
    gone: bool = False
    writers: set["OpenDraft"] = field(default_factory=set)

    def change(self, content: bytes, since: int, by: "OpenDraft | None" = None) -> None:
        """Let it be another text from byte `since` on; others than `by` who wrote there have lost it."""
        if since < len(self.row.content):
            self._lost_by(self.writers - {by})
        self.row.content, self.row.submitted = content, False
        self.changed = True

    async def submitted_as(self, name: str, submit: Callable[[DraftRow], Awaitable[int]]) -> int:
        """Have it submitted as it is now; what is written to it meanwhile is another text, of who writes that.

        Raises:
            PfsError: as of `submit`; its writers may try again then.
        """
        text = replace(self.row, name=name, submitted=True)
        writers, self.writers = self.writers, set()
        try:
            job_id = await submit(text)
        except BaseException:
            self.writers |= writers
            if not self.row.content.startswith(text.content):
                self._lost_by(writers)  # who wrote over it meanwhile could not know of them
            raise
        self.row.submitted = self.row.content is text.content
        self.changed = replace(self.row, name=name) != text
        return job_id

    def _lost_by(self, writers: set["OpenDraft"]) -> None:
        for writer in writers:
            writer.overtaken = True
        self.writers -= writers


def draft_attr(row: DraftRow) -> Attr:
    """Return the attributes of a text."""
    size_bytes = len(row.content)
    return listed_draft_attr(ListedDraft(row.user, row.name, size_bytes, row.link, row.born_ns, row.mtime_ns))


def listed_draft_attr(text: ListedDraft) -> Attr:
    """Return the attributes of a text that a listing shows."""
    return Attr(
        NodeType.SYMLINK if text.link else NodeType.FILE,
        virtual_id("draft", text.user, text.born_ns),
        0o777 if text.link else 0o644,
        text.size_bytes,
        mtime_ns=text.mtime_ns,
        ctime_ns=text.mtime_ns,
        volatile=True,
        commits=not text.link,  # scratch, too: it may be renamed to the name of a drop while it is open
    )


class OpenDraft:
    """One opening of a text: `pfs.api.OpenFile`.

    Args:
        clock: nanoseconds since the epoch.

    Attributes:
        overtaken: somebody else wrote over what this one wrote.
    """

    def __init__(self, subject: Subject, draft: Draft, flags: OpenFlags, desk: Desk, clock: Callable[[], int]) -> None:
        self._subject = subject
        self._draft = draft
        self.overtaken = False
        self._append = OpenFlags.APPEND in flags
        self._anew = OpenFlags.TRUNCATE in flags
        self._desk = desk
        self._clock = clock
        self._end = 0  # of what this opening wrote
        self._written_bytes = 0  # from offset 0 without a hole: only then is a text judged while it is written
        self._cut = False
        self._job_id: int | None = None
        draft.opened += 1
        if OpenFlags.TRUNCATE in flags:
            self._change(b"", 0)

    @property
    def attr(self) -> Attr:
        """What is open, as of now."""
        return draft_attr(self._draft.row)

    @property
    def job_id(self) -> int | None:
        """The job that this opening submitted."""
        return self._job_id

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        """Return a part of the text."""
        return self._draft.row.content[offset : offset + size]

    async def write(self, offset: int, data: bytes) -> int:
        """Write; a spec that cannot become right any more is refused here and now."""
        if self._job_id is not None:
            raise PfsError(Kind.BUSY, f"this was submitted as job {self._job_id}; write a new file")
        self._check_is_own()
        content = self._draft.row.content
        if self._append:
            offset = len(content)
        if offset + len(data) > DRAFT_BYTES_MAX:
            self._cut = True
            raise PfsError(Kind.TOO_LARGE, f"a text in jobs/ has at most {DRAFT_BYTES_MAX} bytes")
        if offset == self._written_bytes:
            self._written_bytes += len(data)
        self._end = max(self._end, offset + len(data))
        new = bytearray(content)
        new.extend(bytes(max(0, offset - len(new))))
        new[offset : offset + len(data)] = data
        if self._anew and offset < len(content) and self._draft.writers - {self}:
            del new[self._end :]  # it was empty when this opening began: that is somebody else's end
        self._change(bytes(new), offset)
        self._draft.writers.add(self)
        await self._judge_what_is_there()
        return len(data)

    async def setattr(self, changes: Changes) -> Attr:
        """Cut or extend, and set the time."""
        if changes.size is not None:
            self._change(resized(self._draft.row.content, changes.size), changes.size)
            self._end = min(self._end, changes.size)
            self._written_bytes = min(self._written_bytes, changes.size)
        if changes.mtime_ns is not None:
            self._draft.row.mtime_ns = changes.mtime_ns
            self._draft.changed = True
        return self.attr

    async def getattr(self) -> Attr:
        """Tell what is open, as of now."""
        return self.attr

    async def xattr(self, call: XattrCall) -> bytes:
        """There are none."""
        return no_xattrs(call)

    async def flush(self, closing: Closing) -> None:
        """Keep the text; submit it when it is whole and its writer is done with it in peace."""
        if closing is Closing.DYING:
            self._cut = True
        async with self._desk.turn(self._draft):
            self._check_is_own()
            if self._ready() and closing is Closing.LAST and is_complete(self._draft.row.content):
                await self._submit_now()
            else:
                await self._keep()

    async def fsync(self) -> None:
        """Keep the text; this alone submits nothing."""
        async with self._desk.turn(self._draft):
            self._check_is_own()
            await self._keep()

    async def release(self) -> None:
        """Submit what no flush could; what is wrong with it stands in `.error`."""
        try:
            async with self._desk.turn(self._draft):
                if self._ready():
                    await self._submit_now()
                else:
                    await self._keep()
        except PfsError as error:
            if error.kind is Kind.INTERNAL:
                raise
        finally:
            self._draft.opened -= 1
            self._draft.writers.discard(self)
            self._desk.closed(self._draft)

    def _ready(self) -> bool:
        draft = self._draft
        return self in draft.writers and not (self._cut or draft.gone) and is_drop(draft.row.name)

    def _check_is_own(self) -> None:
        if self.overtaken:
            raise PfsError(Kind.BUSY, "somebody else wrote over this before it was submitted; write it again")

    def _change(self, content: bytes, since: int) -> None:
        self._draft.change(content, since, self)
        self._draft.row.mtime_ns = self._clock()

    async def _keep(self) -> None:
        if self._draft.changed and not self._draft.gone:
            self._draft.changed = False
            await self._desk.save(self._draft.row)

    async def _judge_what_is_there(self) -> None:
        row = self._draft.row
        if self._draft.gone or not is_drop(row.name) or self._written_bytes != len(row.content):
            return
        problems = prefix_problems(row.content)
        if problems:
            self._cut = True
            error = PfsError(Kind.INVALID, "\n".join(str(problem) for problem in problems))
            async with self._desk.turn(self._draft):
                await self._complain(error)
            raise error

    async def _submit_now(self) -> None:
        draft = self._draft
        draft.writers.discard(self)
        try:
            self._job_id = await draft.submitted_as(draft.row.name, lambda text: self._desk.submit(self._subject, text))
        except PfsError as error:
            await self._complain(error)
            raise

    async def _complain(self, error: PfsError) -> None:
        await self._keep()
        if not self._draft.gone:
            await self._desk.complain(self._draft.row, error)
