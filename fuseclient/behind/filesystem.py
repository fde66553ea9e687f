"""A file system with copies that does not make its programs wait for their changes (`--write-behind`).

What is promised, and then made in the order in which it was promised (`fuseclient.behind.sending`):

    new files, with what is written to them until they are closed; other content for a file that is opened with O_TRUNC;
    mkdir, symlink, unlink, rmdir, rename, and times and modes

in ordinary directories that are leased with all their names, so that what a program has to be told is known here. All
else is asked of the server as ever: what is opened with O_EXCL (one message, its content is promised), what is
appended or changed in place, files above `PROMISED_BYTES_MAX`, hard links, owners, extended attributes, and everything
in `jobs/` and `nodes/`, which waits until all that was promised before is with the server.

Before a lease is given back, what waits is sent. Before the server is asked for a change, what waits about the same
paths has been made: from then on these nodes have the server's numbers.
"""

import time
from collections.abc import Callable, Collection
from dataclasses import replace

from fuseclient.behind.drop import Drop
from fuseclient.behind.journal import Journal
from fuseclient.behind.making import MakingFileSystem
from fuseclient.behind.newfile import NewFile
from fuseclient.behind.queue import Promise, Version
from fuseclient.behind.sending import Behind, BehindStatus
from fuseclient.cache.blocks import BlockCache
from fuseclient.cache.copies import Question
from fuseclient.cache.filesystem import GUESSED_S
from fuseclient.cache.tree import LEASED_VALID_S, SMALL_BYTES_MAX, kept
from pfs.api import Attr, Changes, Content, Name, NodeType, OpenFile, OpenFlags, Owner, RenameMode
from pfs.errors import PfsError
from pfs.path import check_target, parent_and_name, split
from pfs.protocol.steps import BatchingFileSystem, Step, Verb

PROMISED_BYTES_MAX = 1024 * 1024
NEVER = ("jobs", "nodes")
PLAIN_MODE = 0o777
_CHANGED = ("mode", "atime_ns", "mtime_ns")


class BehindFileSystem(MakingFileSystem):
    """`pfs.api.FileSystem` with copies and promises.

    Args:
        inner: asks the server.
        journal: where promises are written down.
    """

    def __init__(
        self,
        inner: BatchingFileSystem,
        clock: Callable[[], float],
        datacenter: str,
        blocks: BlockCache | None,
        *,
        journal: Journal,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        super().__init__(inner, clock, datacenter, blocks, now_ns)
        self._places: dict[int, tuple[int, str]] = {}
        self._behind = Behind(inner, journal, self, clock)

    async def keep_promises(self) -> None:
        """Send what waits, for ever."""
        await self._behind.run()

    def behind_status(self) -> BehindStatus | None:
        """Tell what waits for the server."""
        return self._behind.status()

    def waiting(self) -> tuple[int, int]:
        """Return how many bytes the server has not confirmed, and in how many files and changes."""
        size_bytes, count = super().waiting()
        return size_bytes + self._behind.bytes, count + len(self._behind)

    # ---- what has to wait for promises

    async def reach(self, *paths: str) -> None:
        """Return when what was done at these paths, above or below them, is at the server, or could not be."""
        await super().reach(*paths)
        if any(_never(path) for path in paths):
            await self.settle(None)
        else:
            await self._behind.reach(*paths)

    async def settle(self, node_id: int | None) -> None:
        """Return when the server has everything that this mount has written to a file, or all that it has done."""
        await super().settle(node_id)
        if node_id is None:
            await self._behind.drain()

    async def broken(self, nodes: Collection[int], names: Collection[Name]) -> None:
        """The server wants these leases back; when this returns it has what was promised under them."""
        await self._behind.drain_as_far_as_it_goes()
        await super().broken(nodes, names)

    def lapsed(self) -> None:
        """The server may have changed anything without saying so."""
        self._behind.doubt()
        super().lapsed()

    # ---- what is known here

    def known_node(self, path: str) -> Attr | None:
        """Return what is known to stand at a path whose directory is usable, also in a moment of doubt about times."""
        parent, name = parent_and_name(path)
        directory = self.usable(parent)
        node_id = None if directory is None else self.copies.child(directory, name)
        attr = None if node_id is None else self.copies.last_attr(node_id)
        return attr if attr is not None and attr.leased and not (attr.volatile or attr.commits) else None

    def usable(self, path: str) -> int | None:
        """Return the id of a directory in which changes can be promised."""
        return None if _never(path) else super().usable(path)

    def _is_free(self, attr: Attr) -> bool:
        """Tell whether a name is all that there is of a node: it has no other one, and is not open in this mount."""
        return not self._open.get(attr.node_id) and (attr.nlink == 1 or attr.type is NodeType.DIRECTORY)

    # ---- promising

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        """Make a directory."""
        await self._behind.room(0)
        directory = self.free(path)
        if directory is not None and owner is None and not mode & ~PLAIN_MODE:
            attr = self.own(directory, NodeType.DIRECTORY, mode)
            if self._behind.promise(Step(Verb.MKDIR, path, mode=mode), attr.node_id):
                with self.copies.question() as question:
                    self._appears(question, directory, path, attr)
                    self.copies.learn_empty(question, attr.node_id)
                return attr
        await self.reach(path)
        return await super().mkdir(path, mode, owner)

    async def symlink(self, path: str, target: str, owner: Owner | None = None) -> Attr:
        """Make a symbolic link."""
        await self._behind.room(0)
        directory = self.free(path)
        if directory is not None and owner is None:
            data = check_target(target).encode("utf-8", "surrogateescape")
            attr = self.own(directory, NodeType.SYMLINK, PLAIN_MODE, len(data))
            if self._behind.promise(Step(Verb.SYMLINK, path, target), attr.node_id):
                with self.copies.question() as question:
                    self._appears(question, directory, path, attr)
                    self.copies.learn_content(question, Content("", attr, data), self._clock())
                return attr
        await self.reach(path)
        return await super().symlink(path, target, owner)

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory's."""
        await MakingFileSystem.reach(self, path)
        await self._behind.room(0)
        attr = self.known_node(path)
        sure = attr is not None and attr.type is not NodeType.DIRECTORY and self._is_free(attr)
        if attr is None or not sure or not self._behind.promise(Step(Verb.UNLINK, path), attr.node_id, _version(attr)):
            await self.reach(path)
            await super().unlink(path)
        else:
            self._disappears(path, attr)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await MakingFileSystem.reach(self, path)
        await self._behind.room(0)
        attr = self.known_node(path)
        sure = attr is not None and self.copies.names(attr.node_id, self._clock()) == {}
        if attr is None or not sure or not self._behind.promise(Step(Verb.RMDIR, path), attr.node_id, _version(attr)):
            await self.reach(path)
            await super().rmdir(path)
        else:
            self._disappears(path, attr)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Move a name."""
        await MakingFileSystem.reach(self, source, target)
        await self._behind.room(0)
        moved, replaced = self.known_node(source), self.known_node(target)
        if moved is not None and mode is not RenameMode.EXCHANGE and self._may_move(source, moved, target, replaced):
            step = Step(Verb.RENAME, source, target, no_replace=mode is RenameMode.NO_REPLACE)
            versions = _version(moved), None if replaced is None else _version(replaced)
            if (replaced is None or not step.no_replace) and self._behind.promise(step, moved.node_id, *versions):
                self._move(source, moved, target, replaced)
                return
        await self.reach(source, target)
        await super().rename(source, target, mode)

    def _may_move(self, source: str, moved: Attr, target: str, replaced: Attr | None) -> bool:
        """Tell whether it is sure that the server will take this rename, and that nobody has open what it touches."""
        ways = split(source), split(target)
        same_domain = ways[0][:2] == ways[1][:2] and min(map(len, ways)) > 2
        if not same_domain or target.startswith(source + "/") or not self._is_free(moved):
            return False
        if replaced is None:
            whole = moved.type is NodeType.DIRECTORY and any(
                file.lazy for files in self._open.values() for file in files
            )
            return self.free(target) is not None and not whole
        kinds = NodeType.DIRECTORY in (moved.type, replaced.type)
        return not kinds and moved.node_id != replaced.node_id and self._is_free(replaced)

    def _move(self, source: str, moved: Attr, target: str, replaced: Attr | None) -> None:
        if replaced is not None:
            self._disappears(target, replaced)
        own = moved.node_id in self._places
        self._disappears(source, moved, moves=True)
        with self.copies.question() as question:
            parent, name = parent_and_name(target)
            directory = self.node_if_known(parent)
            if directory is not None:
                self._made(question, directory, name, replace(moved, ctime_ns=self.now_ns()))
                if own:
                    self._places[moved.node_id] = (directory, name)

    async def mknod(self, path: str, type_: NodeType, mode: int, owner: Owner | None = None) -> Attr:
        """Make a file, FIFO or socket without opening it."""
        await self.reach(path)
        return await super().mknod(path, type_, mode, owner)

    async def link(self, source: str, target: str) -> Attr:
        """Give a node a second name."""
        await self.reach(source, target)
        return await super().link(source, target)

    async def setattr(self, path: str, changes: Changes) -> Attr:
        """Change attributes."""
        await MakingFileSystem.reach(self, path)
        await self._behind.room(0)
        attr = self.known_node(path)
        step = Step(Verb.SETATTR, path, changes=changes)
        sure = attr is not None and self._may_change(attr, changes)
        if attr is None or not sure or not self._behind.promise(step, attr.node_id, _version(attr)):
            await self.reach(path)
            return await super().setattr(path, changes)
        asked = {name: value for name in _CHANGED if (value := getattr(changes, name)) is not None}
        attr = replace(attr, ctime_ns=self.now_ns(), valid_s=LEASED_VALID_S, **asked)
        self.copies.relearn(attr)
        return attr

    def _may_change(self, attr: Attr, changes: Changes) -> bool:
        plain = changes.size is None and changes.uid is None and changes.gid is None
        ordinary = attr.type in (NodeType.FILE, NodeType.DIRECTORY) and not (changes.mode or 0) & ~PLAIN_MODE
        certain = self.copies.attr(attr.node_id, self._clock()) is not None  # its times are told as they are
        return plain and ordinary and certain and not self._open.get(attr.node_id)

    # ---- files

    async def open(self, path: str, flags: OpenFlags, mode: int, owner: Owner | None = None) -> OpenFile:
        """Open, or with CREATE make, a file."""
        if owner is None and OpenFlags.WRITE in flags and OpenFlags.APPEND not in flags and not _never(path):
            file = await self._open_to_promise(path, flags, mode)
            if file is not None:
                return file
        if flags != OpenFlags.READ:
            await self.reach(path)
        file = await super().open(path, flags, mode, owner)
        return Drop(file, lambda: self.settle(None)) if file.attr.commits else file

    async def _open_to_promise(self, path: str, flags: OpenFlags, mode: int) -> OpenFile | None:
        """Open a file whose whole content is going to be written."""
        directory = self.free(path)
        if directory is not None and OpenFlags.CREATE in flags and not mode & ~PLAIN_MODE:
            if OpenFlags.EXCLUSIVE not in flags:
                return self.begin(directory, path, flags, mode)
            await self.reach(path)
            attr = await self.make_file(path, mode, b"", Changes())
            return self._begin_anew(path, flags, attr) if attr.leased else None
        await MakingFileSystem.reach(self, path)
        found = self.known_node(path)
        if found is None or OpenFlags.TRUNCATE not in flags or OpenFlags.EXCLUSIVE in flags:
            return None
        certain = self.copies.attr(found.node_id, self._clock()) is not None
        ordinary = found.type is NodeType.FILE and found.mode & 0o200 and certain and self._is_free(found)
        return self._begin_anew(path, flags, found) if ordinary else None

    def _begin_anew(self, path: str, flags: OpenFlags, found: Attr) -> NewFile:
        """Open a file to give it other content."""
        now_ns = self.now_ns()
        attr = replace(found, size=0, blocks=0, mtime_ns=now_ns, ctime_ns=now_ns, valid_s=LEASED_VALID_S)
        self.copies.touch(found.node_id)
        self.copies.relearn(attr)
        return self.hold(NewFile(self, path, flags, attr, self._clock(), before=_version(found)))

    def holds(self, size_bytes: int) -> bool:
        """Tell whether a file of that size is still held here."""
        return size_bytes <= PROMISED_BYTES_MAX

    def waits(self) -> bool:
        """Tell whether a file is made only when it is closed."""
        return True

    def held_again(self, file: NewFile) -> bytes | None:
        """Return all bytes of a file that was made, where it may be held here once more to be given others."""
        alone = len(self._open.get(file.node_id, ())) == 1 and not self._unmade.get(file.path)
        if not alone or OpenFlags.APPEND in file.asked or self.known_node(file.path) != file.attr:
            return None
        content = self.copies.content(file.node_id)
        if content is not None:
            file.changes = Changes()
            self._unmade[file.path] = file
            self.copies.touch(file.node_id)
            self.copies.relearn(file.attr)
        return content

    async def make(self, file: NewFile) -> None:
        """Promise a file; only the file itself calls this."""
        data = bytes(file.content or b"")
        await self._behind.room(len(data))
        verb = Verb.MAKE_FILE if file.before is None else Verb.OVERWRITE
        changes = replace(file.changes, mtime_ns=file.attr.mtime_ns)
        step = Step(verb, file.path, mode=file.attr.mode, data=data, changes=changes)
        if self.known_node(file.path) != file.attr or not self._behind.promise(step, file.node_id, file.before):
            await self._behind.reach(file.path)
            await super().make(file)
            return
        self._unmade.pop(file.path, None)
        file.made(file.attr)
        if file.before is None:
            parent, name = parent_and_name(file.path)
            directory = self.node_if_known(parent)
            if directory is not None:
                self._places[file.node_id] = (directory, name)
        if len(data) <= SMALL_BYTES_MAX:
            with self.copies.question() as question:
                self.copies.learn_content(question, Content("", file.attr, data), self._clock())

    # ---- how things look here

    def _appears(self, question: Question, directory: int, path: str, attr: Attr) -> None:
        name = parent_and_name(path)[1]
        self._made(question, directory, name, attr)
        self._places[attr.node_id] = (directory, name)

    def _disappears(self, path: str, attr: Attr, *, moves: bool = False) -> None:
        parent, name = parent_and_name(path)
        directory = self.node_if_known(parent)
        self._places.pop(attr.node_id, None)
        if not moves:
            self.copies.touch(attr.node_id)
        if directory is not None:
            self.copies.set_name(directory, name, None)
            self._guess(directory, self.now_ns(), -1 if attr.type is NodeType.DIRECTORY else 0)

    # ---- what became of promises

    def kept(self, promise: Promise, attr: Attr | None, question: Question) -> int | None:
        """A promise is kept; return the server's number of its node, where it had one of the mount's own."""
        if attr is None:
            return None
        attr = kept(question, attr)
        known_as = promise.node_id if promise.node_id in self._places else attr.node_id
        writing = [file for file in self._open.get(known_as, ()) if isinstance(file, NewFile) and file.unmade]
        changed = bool(writing) or not self._behind.is_last(promise, known_as)
        if promise.step.verb in (Verb.SETATTR, Verb.OVERWRITE):
            if attr.type is NodeType.DIRECTORY:
                self.copies.touch(attr.node_id)  # what waits below it changes its times and links
            elif not changed and question.holds(attr.node_id) and self.copies.is_leased(attr.node_id):
                self.copies.relearn(replace(attr, leased=True, valid_s=LEASED_VALID_S))
                for file in self._open.get(attr.node_id, ()):
                    file.attr = replace(attr, leased=True, valid_s=LEASED_VALID_S)
                self.adopted(attr.node_id, attr.node_id)
            return None
        latest = self.copies.last_attr(promise.node_id)
        filled = attr.type is NodeType.DIRECTORY and self.copies.names(promise.node_id, self._clock())
        if latest is not None and (changed or filled):
            attr = replace(latest, node_id=attr.node_id, leased=attr.leased, valid_s=attr.valid_s)
        for file in writing:
            file.before = None if file.before is None else replace(file.before, node_id=attr.node_id)
        place = self._places.pop(promise.node_id, (None, ""))
        self.adopt(question, promise.node_id, place, attr)
        if attr.type is NodeType.DIRECTORY:
            self.copies.guess(attr.node_id, replace(attr, valid_s=0.0), self._clock() + GUESSED_S)
            for child, (directory, name) in list(self._places.items()):
                if directory == promise.node_id:
                    self._places[child] = (attr.node_id, name)
        return attr.node_id

    def not_kept(self, promise: Promise, error: PfsError) -> None:
        """A promise will not be kept here, or was kept elsewhere."""
        self._places.pop(promise.node_id, None)
        for file in self._open.get(promise.node_id, ()):
            if isinstance(file, NewFile):
                file.fail(error)
        for path in promise.paths:
            parent, name = parent_and_name(path)
            directory = self.node_if_known(parent)
            self.doubt(path, promise.node_id)
            if directory is not None:
                self.undone(directory, name)


def _version(attr: Attr) -> Version:
    return Version(attr.node_id, attr.size, attr.mtime_ns)


def _never(path: str) -> bool:
    return path.partition("/")[0] in NEVER
