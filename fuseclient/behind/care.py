"""Makes a change that was promised a while ago, when nobody knows what has happened since.

The mount may have been killed, or cut off from the server: then the change may have been made already, and others may
have changed the same since. So it is looked first at what stands there:

    as it was when it was promised      the change is made
    as the change would leave it        it was made already: nothing is done
    neither                             a conflict: nothing of anybody else's is overwritten or removed; a file is
                                        kept beside, as name.conflict-<host>-<time>
"""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fuseclient.behind.queue import Promise, Version
from pfs.api import Attr, LeasingFileSystem, NodeType
from pfs.errors import Kind, PfsError
from pfs.path import NAME_BYTES_MAX, join, parent_and_name
from pfs.protocol.steps import Step, Verb, take_step

log = logging.getLogger(__name__)

COMPARED_BYTES_MAX = 1024 * 1024
CONFLICTS_MAX = 100


@dataclass(frozen=True, slots=True)
class Kept:
    """What came of a promise.

    Attributes:
        attr: what stands at its path by now, where that is what was promised.
        conflict: where it was kept instead, or what was left as it is.
    """

    attr: Attr | None = None
    conflict: str | None = None


class Care:
    """Makes promised changes with care.

    Args:
        server: whose tree it is.
        real: the server's number for a node that had one of the mount's own.
        mark: what is added to the names of files that are in conflict.
    """

    def __init__(self, server: LeasingFileSystem, real: Callable[[int], int], mark: Callable[[], str]) -> None:
        self._server = server
        self._real = real
        self._mark = mark

    async def make(self, promise: Promise) -> Kept:
        """Make a change, unless that was done already, or is in conflict with what others have done.

        Raises:
            PfsError: it cannot be made, or the server is away.
        """
        found = await self.look(promise.step.path)
        match promise.step.verb:
            case Verb.MAKE_FILE | Verb.OVERWRITE:
                return await self._file(promise, found)
            case Verb.MKDIR | Verb.SYMLINK:
                return await self._make(promise, found)
            case Verb.UNLINK | Verb.RMDIR:
                return await self._remove(promise, found)
            case Verb.RENAME:
                return await self._rename(promise, found)
            case Verb.SETATTR:
                if found is None or found.node_id != self._real(promise.node_id):
                    return self._left(promise, "is another one by now: it is not changed")
                return Kept(await take_step(self._server, promise.step))

    async def _file(self, promise: Promise, found: Attr | None) -> Kept:
        step = promise.step
        if found is None:
            make = step._replace(verb=Verb.MAKE_FILE)
            return await self._or_beside(promise, make, lambda: take_step(self._server, make))
        if await self._is_made(step, found):
            return Kept(found)
        if step.verb is Verb.OVERWRITE and self._is(found, promise.before):
            return Kept(await take_step(self._server, step))
        return await self._beside(promise, step._replace(verb=Verb.MAKE_FILE))

    async def _is_made(self, step: Step, found: Attr) -> bool:
        """Tell whether a file is what the step makes of it."""
        if found.type is not NodeType.FILE or found.size != len(step.data) or found.mtime_ns != step.changes.mtime_ns:
            return False
        parent, name = parent_and_name(step.path)
        contents = await self._server.contents(parent, [name], COMPARED_BYTES_MAX)
        return all(each.data == step.data for each in contents)

    async def _make(self, promise: Promise, found: Attr | None) -> Kept:
        step = promise.step
        if found is None:
            return await self._or_beside(promise, step, lambda: take_step(self._server, step))
        if step.verb is Verb.MKDIR:
            if found.type is not NodeType.DIRECTORY:
                raise PfsError(Kind.EXISTS, "somebody else has put something there that is no directory", step.path)
            return Kept(found)
        if found.type is NodeType.SYMLINK and await self._server.readlink(step.path) == step.target:
            return Kept(found)
        return await self._beside(promise, step)

    async def _remove(self, promise: Promise, found: Attr | None) -> Kept:
        if found is None:
            return Kept()
        if promise.step.verb is Verb.UNLINK and not self._is(found, promise.before):
            return self._left(promise, "was changed by somebody else: it is not removed")
        try:
            await take_step(self._server, promise.step)
        except PfsError as error:
            if error.kind is Kind.NOT_EMPTY:
                return self._left(promise, "has something of somebody else's in it: it is not removed")
            if error.kind is not Kind.NOT_FOUND:
                raise
        return Kept()

    async def _rename(self, promise: Promise, found: Attr | None) -> Kept:
        step, node_id = promise.step, self._real(promise.node_id)
        target = await self.look(step.target)
        if target is not None and target.node_id == node_id and found is None:
            return Kept()
        if found is None or found.node_id != node_id:
            return self._left(promise, "is another one by now: it is not renamed")
        if target is None or self._is(target, promise.target_before):
            await take_step(self._server, step)
            return Kept()
        return await self._beside(promise, step._replace(no_replace=True))

    async def _or_beside(self, promise: Promise, step: Step, make: Callable[[], Awaitable[Attr | None]]) -> Kept:
        try:
            return Kept(await make())
        except PfsError as error:
            if error.kind is not Kind.EXISTS:
                raise
        return await self._beside(promise, step)  # somebody was sooner by the blink of an eye

    async def _beside(self, promise: Promise, step: Step) -> Kept:
        """Make it under another name."""
        path = step.target if step.verb is Verb.RENAME else step.path
        mark = self._mark()
        for count in range(1, CONFLICTS_MAX):
            other = beside(path, mark if count == 1 else f"{mark}-{count}")
            moved = step._replace(target=other) if step.verb is Verb.RENAME else step._replace(path=other)
            try:
                await take_step(self._server, moved)
            except PfsError as error:
                if error.kind is not Kind.EXISTS:
                    raise
                continue
            log.warning("%s: somebody else has changed it meanwhile; what was written here is in %s", path, other)
            return Kept(conflict=other)
        raise PfsError(Kind.EXISTS, "there are too many conflicts about this name", path)

    def _left(self, promise: Promise, what: str) -> Kept:
        log.warning("%s: %s", promise.step.path, what)
        return Kept(conflict=promise.step.path)

    def _is(self, found: Attr, before: Version | None) -> bool:
        if before is None or found.node_id != self._real(before.node_id):
            return False
        return found.type is not NodeType.FILE or (found.size, found.mtime_ns) == (before.size, before.mtime_ns)

    async def look(self, path: str) -> Attr | None:
        """Return what stands somewhere, None for nothing."""
        try:
            return await self._server.getattr(path)
        except PfsError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.NOT_DIR):
                raise
        return None


def beside(path: str, mark: str) -> str:
    """Return where to keep what is in conflict with what stands at `path`."""
    parent, name = parent_and_name(path)
    ending = f".conflict-{mark}"
    kept = name.encode("utf-8", "surrogateescape")[: NAME_BYTES_MAX - len(ending.encode())]
    return join(parent, kept.decode("utf-8", "surrogateescape") + ending)
