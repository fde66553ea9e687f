"""The kernel's requests, translated: one short handler each.

This is the only place that turns a `PfsError` into an errno. Whatever else is raised is a defect: it is logged, the
program gets EIO, and the mount goes on; pyfuse3 would end.
"""

import errno
import functools
import logging
import math
import stat
from collections.abc import Callable, Coroutine, Sequence
from contextvars import ContextVar
from typing import Any, Concatenate, ParamSpec, TypeVar

import pyfuse3
import trio

from fuseclient.counters import Traffic
from fuseclient.kernel.errnos import KIND_TO_ERRNO
from fuseclient.kernel.files import Opened
from fuseclient.kernel.fresh import DEADLINE_S
from fuseclient.kernel.held import Interrupted
from fuseclient.kernel.inodes import Node
from fuseclient.kernel.listing import Reply
from fuseclient.kernel.ops import Ops
from fuseclient.kernel.telling import forget_attributes, give, wake
from fuseclient.status import ATTRIBUTE
from pfs.api import Changes, NodeType, Owner, XattrMode
from pfs.errors import Kind, PfsError
from pfs.path import NAME_BYTES_MAX

log = logging.getLogger(__name__)

BLOCK_BYTES = 4096
MOMENT_S = 0.02  # to look up, check rights, open and fstat(2) takes one answer, also of what changes by itself
SHOWN_MAX = 50_000  # attributes that are kept in the kernel's form; making them again costs less than room for all
_BITS = {
    NodeType.DIRECTORY: stat.S_IFDIR,
    NodeType.FILE: stat.S_IFREG,
    NodeType.SYMLINK: stat.S_IFLNK,
    NodeType.FIFO: stat.S_IFIFO,
    NodeType.SOCKET: stat.S_IFSOCK,
}
_STATUS = ATTRIBUTE.encode()
# pyfuse3 keeps the flags of setxattr(2) to itself: it looks first, in the same task and with the same context, and
# comes to set only where they allow that. Others may come between, so the server has to be asked for the same.
_looked_for: ContextVar[tuple[pyfuse3.RequestContext, XattrMode] | None] = ContextVar("looked_for", default=None)
_TYPES = {0: NodeType.FILE, **{bits: type_ for type_, bits in _BITS.items()}}

P = ParamSpec("P")
R = TypeVar("R")
Handler = Callable[Concatenate["Operations", P], Coroutine[Any, Any, R]]
AtOnce = Callable[Concatenate["Operations", P], Any]


def answered(handler: Handler[P, R], deadline_s: float = DEADLINE_S, at_once: AtOnce[P] | None = None) -> Handler[P, R]:
    """Let a handler raise nothing but `FUSEError`, within a bounded time.

    Args:
        at_once: gives the same answer from memory, where it can; None where the handler is needed.
    """

    @functools.wraps(handler)
    async def answer(operations: "Operations", /, *args: P.args, **kwargs: P.kwargs) -> R:
        operations.busy += 1
        operations.asked += 1
        try:
            if at_once is not None and (known := at_once(operations, *args, **kwargs)) is not None:
                return known  # type: ignore[no-any-return]
            if deadline_s == math.inf:
                return await handler(operations, *args, **kwargs)
            with trio.CancelScope(deadline=trio.current_time() + deadline_s):
                return await handler(operations, *args, **kwargs)
            raise trio.TooSlowError
        except PfsError as error:
            code = KIND_TO_ERRNO[error.kind]
            log.debug("%s: %s: %s", handler.__name__, code, error)
        except Interrupted:
            code = errno.EINTR
        except trio.TooSlowError:
            log.warning("%s: no answer within %s s", handler.__name__, deadline_s)
            code = errno.ETIMEDOUT
        except Exception:
            log.exception("%s failed", handler.__name__)
            code = errno.EIO
        finally:
            operations.busy -= 1
        raise pyfuse3.FUSEError(code)

    return answer


unhurried = functools.partial(answered, deadline_s=math.inf)


def promptly(at_once: AtOnce[P], deadline_s: float = DEADLINE_S) -> Callable[[Handler[P, R]], Handler[P, R]]:
    """Let a handler be asked only for what `at_once` cannot answer; see `answered`."""

    def decorate(handler: Handler[P, R]) -> Handler[P, R]:
        return answered(handler, deadline_s, at_once)

    return decorate


class Operations(pyfuse3.Operations):
    """The handlers of one mount.

    Attributes:
        asked: how many requests came so far.
        status: says what `fuseclient.status.ATTRIBUTE` of the mount's root is; given before the first use.
    """

    status: Callable[[], bytes]
    supports_dot_lookup = False
    enable_writeback_cache = False

    def __init__(self, ops: Ops) -> None:
        super().__init__()
        self._ops = ops
        self.busy = self.asked = 0
        self._shown = 0
        self.traffic = Traffic()
        self.started = trio.Event()

    def init(self) -> None:
        """The kernel has said hello."""
        self.asked += 1
        self.started.set()

    def _lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes | None:
        if len(name) > NAME_BYTES_MAX:
            return None
        node = self._ops.lookup_at_once(parent_inode, _text(name))
        return None if node is None else self._attributes(node)

    @promptly(_lookup)
    async def lookup(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.lookup(parent_inode, _text(name)))

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        self.asked += 1
        try:
            self._ops.forget(inode_list)
        except Exception:  # nobody waits for an answer
            log.exception("forget failed")

    def _getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes | None:
        node = self._ops.getattr_at_once(inode)
        return None if node is None else self._attributes(node)

    @promptly(_getattr)
    async def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.getattr(inode))

    @answered
    async def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        changes = Changes(
            mode=stat.S_IMODE(attr.st_mode) if fields.update_mode else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
        )
        return self._attributes(await self._ops.setattr(inode, changes, fh))

    def _readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes | None:
        return None if (target := self._ops.readlink_at_once(inode)) is None else _bytes(target)

    @promptly(_readlink)
    async def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return _bytes(await self._ops.readlink(inode))

    @answered
    async def mknod(
        self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        type_ = _TYPES.get(stat.S_IFMT(mode))
        node = await self._ops.mknod(parent_inode, _text(name), type_, stat.S_IMODE(mode), _caller(ctx))
        return self._attributes(node)

    @answered
    async def mkdir(
        self, parent_inode: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.mkdir(parent_inode, _text(name), stat.S_IMODE(mode), _caller(ctx)))

    @answered
    async def unlink(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._ops.unlink(parent_inode, _text(name))

    @answered
    async def rmdir(self, parent_inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._ops.rmdir(parent_inode, _text(name))

    @answered
    async def symlink(
        self, parent_inode: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.symlink(parent_inode, _text(name), _text(target), _caller(ctx)))

    @answered
    async def rename(  # noqa: PLR0917 - pyfuse3 says so
        self,
        parent_inode_old: int,
        name_old: bytes,
        parent_inode_new: int,
        name_new: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        await self._ops.rename(parent_inode_old, _text(name_old), parent_inode_new, _text(name_new), flags)

    @answered
    async def link(
        self, inode: int, new_parent_inode: int, new_name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(await self._ops.link(inode, new_parent_inode, _text(new_name)))

    def _open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo | None:
        opened = self._ops.files.open_at_once(inode, flags, ctx.pid)
        return None if opened is None else self._opened(inode, opened)

    @promptly(_open)
    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        return self._opened(inode, await self._ops.open(inode, flags, ctx.pid, _caller(ctx)))

    def _create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes] | None:
        made = self._ops.create_at_once(parent_inode, _text(name), stat.S_IMODE(mode), flags, ctx.pid)
        return None if made is None else (self._opened(made[1].number, made[0]), self._attributes(made[1]))

    @promptly(_create)
    async def create(
        self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        name_text, mode = _text(name), stat.S_IMODE(mode)
        opened, node = await self._ops.create(parent_inode, name_text, mode, flags, ctx.pid, maker=_caller(ctx))
        return self._opened(node.number, opened), self._attributes(node)

    def _read(self, fh: int, off: int, size: int) -> bytes | None:
        data = self._ops.files.read_at_once(fh, off, size)
        if data is not None:
            self.traffic.read_bytes += len(data)
        return data

    @promptly(_read, deadline_s=math.inf)
    async def read(self, fh: int, off: int, size: int) -> bytes:
        data = await self._ops.files.read(fh, off, size)
        self.traffic.read_bytes += len(data)
        return data

    @answered
    async def write(self, fh: int, off: int, buf: bytes) -> int:
        written = await self._ops.files.write(fh, off, buf)
        self.traffic.written_bytes += written
        return written

    def _flush(self, fh: int) -> bool | None:
        return self._ops.files.flush_at_once(fh) or None

    @promptly(_flush)
    async def flush(self, fh: int) -> None:
        await self._ops.files.flush(fh)

    def _release(self, fh: int) -> bool | None:
        return self._ops.files.release_at_once(fh) or None

    @promptly(_release)
    async def release(self, fh: int) -> None:
        await self._ops.files.release(fh)

    @answered
    async def poll(
        self, inode: int, fh: int, poll_handle: pyfuse3.PollHandle | None, ctx: pyfuse3.RequestContext
    ) -> int:
        return await self._ops.files.poll(fh, None if poll_handle is None else functools.partial(wake, poll_handle))

    @answered
    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._ops.files.fsync(fh)

    @unhurried
    async def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        return self._ops.opendir(inode)

    def _replier(self, token: pyfuse3.ReaddirToken) -> Reply:
        give = pyfuse3.readdir_reply

        def reply(name: str, node: Node, offset: int) -> bool:
            return give(token, name.encode("utf-8", "surrogateescape"), node.shown or self._attributes(node), offset)

        return reply

    def _readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> bool | None:
        return self._ops.listings.read_at_once(fh, start_id, self._replier(token)) or None

    @promptly(_readdir)
    async def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        await self._ops.readdir(fh, start_id, self._replier(token))

    @unhurried
    async def releasedir(self, fh: int) -> None:
        self._ops.releasedir(fh)

    @answered
    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._ops.fsyncdir(fh)

    def _getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._ops.getxattr_at_once(_text(name))

    @promptly(_getxattr)
    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if inode == pyfuse3.ROOT_INODE and name == _STATUS:
            return self.status()
        try:
            value = await self._ops.getxattr(inode, _text(name))
        except PfsError as error:
            if error.kind is Kind.NO_DATA:
                _looked_for.set((ctx, XattrMode.CREATE))
            raise
        _looked_for.set((ctx, XattrMode.REPLACE))
        return value

    @answered
    async def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        return [_bytes(name) for name in await self._ops.listxattr(inode)]

    @answered
    async def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        looked = _looked_for.get()
        mode = looked[1] if looked is not None and looked[0] is ctx else XattrMode.EITHER
        await self._ops.setxattr(inode, _text(name), value, mode)

    @answered
    async def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        await self._ops.removexattr(inode, _text(name))

    @answered
    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        space, data = await self._ops.statfs(), pyfuse3.StatvfsData()
        data.f_bsize = data.f_frsize = BLOCK_BYTES
        data.f_blocks = space.bytes_total // BLOCK_BYTES
        data.f_bfree = data.f_bavail = space.bytes_free // BLOCK_BYTES
        data.f_files, data.f_ffree, data.f_favail = space.files_total, space.files_free, space.files_free
        data.f_namemax = NAME_BYTES_MAX
        return data

    def _opened(self, inode: int, opened: Opened) -> pyfuse3.FileInfo:
        if opened.outdated:
            forget_attributes(inode)
        elif not opened.direct and opened.unread and (data := self._ops.files.content(opened.fh)):
            opened.keep = give(inode, data)
        return pyfuse3.FileInfo(fh=opened.fh, direct_io=opened.direct, keep_cache=opened.keep)

    def _attributes(self, node: Node) -> pyfuse3.EntryAttributes:
        shown = node.shown
        if shown is None:
            if self._shown >= SHOWN_MAX:
                self._ops.tree.inodes.hide()
                self._shown = 0
            self._shown += 1
            shown = node.shown = self._show(node)
        return shown  # type: ignore[no-any-return]

    def _show(self, node: Node) -> pyfuse3.EntryAttributes:
        attr, entry, identity = node.attr, pyfuse3.EntryAttributes(), self._ops.identity
        owner = identity.shown(attr)
        entry.st_ino, entry.generation = node.number, node.generation
        entry.entry_timeout = attr.valid_s
        entry.attr_timeout = max(attr.valid_s, MOMENT_S) if attr.volatile else attr.valid_s
        entry.st_mode = _BITS[attr.type] | identity.mode(attr.mode)
        entry.st_uid, entry.st_gid, entry.st_nlink = owner.uid, owner.gid, attr.nlink
        entry.st_size = 0 if attr.stream else attr.size
        entry.st_blocks = -(-entry.st_size // 512) if attr.volatile or attr.commits else attr.blocks
        entry.st_atime_ns, entry.st_mtime_ns, entry.st_ctime_ns = attr.atime_ns, attr.mtime_ns, attr.ctime_ns
        return entry


def _caller(ctx: pyfuse3.RequestContext) -> Owner:
    return Owner(ctx.uid, ctx.gid)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
