"""A file system with copies that does not make its programs wait for their changes (`--write-behind`).

What is promised, and then made in the order in which it was promised (`fuseclient.behind.sending`):

    new files, with what is written to them until they are closed; other content for a file that is opened with O_TRUNC;
    mkdir, symlink, unlink, rmdir, rename, and times and modes

in ordinary directories that are leased with all their names, so that what a program has to be told is known here. All
else is asked of the server as ever: what is opened with O_EXCL (one message, its content is promised), what is
appended or changed in place, files above `PROMISED_BYTES_MAX`, hard links, owners, extended attributes, and everything
in `jobs/` and `nodes/`, which waits until all that was promised before is with the server.
"""

from dataclasses import replace

from fuseclient.behind.drop import Drop
from fuseclient.behind.making import MakingFileSystem
from fuseclient.behind.newfile import NewFile
from fuseclient.behind.promised import Place, PromisedFileSystem, is_never, version_of
from fuseclient.cache.copies import Question
from fuseclient.cache.tree import LEASED_VALID_S, SMALL_BYTES_MAX
from pfs.api import Attr, Changes, NodeType, OpenFile, OpenFlags, Owner, RenameMode
from pfs.path import check_target, parent_and_name, split
from pfs.protocol.steps import Step, Verb

PROMISED_BYTES_MAX = 1024 * 1024
PLAIN_MODE = 0o777
AT_ONCE = Question()  # answered here, while nothing can be broken
_CHANGED = ("mode", "atime_ns", "mtime_ns")


class BehindFileSystem(PromisedFileSystem):
    """`pfs.api.FileSystem` with copies and promises.

    Args:
        inner: asks the server.
        journal: where promises are written down.
    """

    # ---- promising

    async def mkdir(self, path: str, mode: int, owner: Owner | None = None) -> Attr:
        """Make a directory."""
        await self._behind.room(0)
        directory = self.free(path)
        if directory is not None and owner is None and not mode & ~PLAIN_MODE:
            attr = self.own(directory, NodeType.DIRECTORY, mode)
            if self._behind.promise(Step(Verb.MKDIR, path, mode=mode), attr.node_id):
                self._appears(directory, path, attr)
                self.copies.learn_empty(AT_ONCE, attr.node_id)
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
                self._appears(directory, path, attr)
                self.copies.relearn_content(attr.node_id, data)
                return attr
        await self.reach(path)
        return await super().symlink(path, target, owner)

    async def unlink(self, path: str) -> None:
        """Remove a name that is no directory's; a file that is still here with it never travels."""
        await MakingFileSystem.reach(self, path)
        if not self._behind.has_room(0):
            await self._behind.room(0)
        place = self.place(path)
        if place is not None and place.attr.type is not NodeType.DIRECTORY and self.is_free(place.attr):
            attr = place.attr
            if attr.node_id in self._places and self._behind.cancel(path, attr.node_id):
                self._disappears(place)
                self.copies.broken((attr.node_id,))
                return
            if self._behind.promise(Step(Verb.UNLINK, path), attr.node_id, version_of(attr)):
                self._disappears(place)
                return
        await self.reach(path)
        await super().unlink(path)

    async def rmdir(self, path: str) -> None:
        """Remove an empty directory."""
        await MakingFileSystem.reach(self, path)
        await self._behind.room(0)
        place = self.place(path)
        attr = None if place is None else place.attr
        sure = attr is not None and self.copies.names(attr.node_id, self._clock()) == {}
        step = Step(Verb.RMDIR, path)
        if place is None or not sure or not self._behind.promise(step, place.attr.node_id, version_of(place.attr)):
            await self.reach(path)
            await super().rmdir(path)
        else:
            self._disappears(place)

    async def rename(self, source: str, target: str, mode: RenameMode) -> None:
        """Move a name."""
        await MakingFileSystem.reach(self, source, target)
        await self._behind.room(0)
        old, new = self.place(source), self.place(target)
        moved, replaced = old and old.attr, new and new.attr
        if old and moved and mode is not RenameMode.EXCHANGE and self._may_move(source, moved, target, replaced):
            step = Step(Verb.RENAME, source, target, no_replace=mode is RenameMode.NO_REPLACE)
            versions = version_of(moved), None if replaced is None else version_of(replaced)
            if (replaced is None or not step.no_replace) and self._behind.promise(step, moved.node_id, *versions):
                self._move(old, target, new)
                return
        await self.reach(source, target)
        await super().rename(source, target, mode)

    def _may_move(self, source: str, moved: Attr, target: str, replaced: Attr | None) -> bool:
        """Tell whether it is sure that the server will take this rename, and that nobody has open what it touches."""
        ways = split(source), split(target)
        same_domain = ways[0][:2] == ways[1][:2] and min(map(len, ways)) > 2
        if not same_domain or target.startswith(source + "/") or not self.is_free(moved):
            return False
        if replaced is None:
            whole = moved.type is NodeType.DIRECTORY and any(
                file.lazy for files in self._open.values() for file in files
            )
            return self.free(target) is not None and not whole
        kinds = NodeType.DIRECTORY in (moved.type, replaced.type)
        return not kinds and moved.node_id != replaced.node_id and self.is_free(replaced)

    def _move(self, old: Place, target: str, replaced: Place | None) -> None:
        if replaced is not None:
            self._disappears(replaced)
        moved, own = old.attr, old.attr.node_id in self._places
        self._disappears(old, moves=True)
        parent, name = parent_and_name(target)
        directory = self.node_if_known(parent)
        if directory is not None:
            self._made(AT_ONCE, directory, name, replace(moved, ctime_ns=self.now_ns()))
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
        if attr is None or not sure or not self._behind.promise(step, attr.node_id, version_of(attr)):
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
        if owner is None and OpenFlags.WRITE in flags and OpenFlags.APPEND not in flags and not is_never(path):
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
        ordinary = found.type is NodeType.FILE and found.mode & 0o200 and certain and self.is_free(found)
        return self._begin_anew(path, flags, found) if ordinary else None

    def _begin_anew(self, path: str, flags: OpenFlags, found: Attr) -> NewFile:
        """Open a file to give it other content."""
        now_ns = self.now_ns()
        attr = replace(found, size=0, blocks=0, mtime_ns=now_ns, ctime_ns=now_ns, valid_s=LEASED_VALID_S)
        self.copies.touch(found.node_id)
        self.copies.relearn(attr)
        return self.hold(NewFile(self, path, flags, attr, self._clock(), before=version_of(found)))

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
        if not self._behind.has_room(len(data)):
            await self._behind.room(len(data))
        place, attr = self.place(file.path), file.attr
        if place is None or place.attr != attr or not self._promise_file(file, data):
            await self._behind.reach(file.path)
            await super().make(file)
            return
        self._unmade.pop(file.path, None)
        file.made(attr)
        if file.before is None:
            self._places[attr.node_id] = (place.directory, place.name)
        if len(data) <= SMALL_BYTES_MAX and not self.is_dirty(attr.node_id):
            self.copies.relearn_content(attr.node_id, data)

    def _promise_file(self, file: NewFile, data: bytes) -> bool:
        verb = Verb.MAKE_FILE if file.before is None else Verb.OVERWRITE
        changes = Changes(mode=file.changes.mode, atime_ns=file.changes.atime_ns, mtime_ns=file.attr.mtime_ns)
        step = Step(verb, file.path, mode=file.attr.mode, data=data, changes=changes)
        return self._behind.promise(step, file.attr.node_id, file.before)

    # ---- how things look here

    def _appears(self, directory: int, path: str, attr: Attr) -> None:
        name = parent_and_name(path)[1]
        self._made(AT_ONCE, directory, name, attr)
        self._places[attr.node_id] = (directory, name)

    def _disappears(self, place: Place, *, moves: bool = False) -> None:
        node_id = place.attr.node_id
        self._places.pop(node_id, None)
        if not moves:
            self.copies.touch(node_id)
        self.copies.set_name(place.directory, place.name, None)
        self._guess(place.directory, self.now_ns(), -1 if place.attr.type is NodeType.DIRECTORY else 0)
