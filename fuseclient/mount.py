"""The life of a mount: make it, serve it, and take it away without leaving anything behind.

It ends when somebody unmounts it, or on TERM, INT or HUP: then it first vanishes from the tree, so that nothing new
comes in; what is under way may still end for a second; reads that wait are given up. The kernel answers for
us from there on.
"""

import contextlib
import errno
import logging
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence, Set
from typing import Any

import trio

from fuseclient.behind.filesystem import BehindFileSystem
from fuseclient.behind.journal import Journal
from fuseclient.behind.making import MakingFileSystem
from fuseclient.cache.blocks import BlockCache
from fuseclient.cache.filesystem import CachedFileSystem
from fuseclient.kernel.fuse import Operations
from fuseclient.kernel.held import HELD_MAX
from fuseclient.kernel.identity import Identity, Ids
from fuseclient.kernel.inodes import Base
from fuseclient.kernel.ops import Ops
from fuseclient.kernel.prune import prune
from fuseclient.kernel.recall import Recall
from fuseclient.kernel.seam import Listener
from fuseclient.kernel.session import PlainSession, Session, connect
from fuseclient.kernel.telling import forget_attributes, forget_name
from fuseclient.mountpoints import canonical, unmount
from fuseclient.report import Reporter
from pfs import memory
from pfs.api import Owner
from pfs.errors import Kind, PfsError
from pfs.protocol.steps import BatchingFileSystem

log = logging.getLogger(__name__)

TASKS_MIN = 16
TASKS_MAX = HELD_MAX + 2000  # a request that waits keeps its task: the others need some, too
FILES_MAX = 65536
GRACE_S = 1.0
SETTLE_S = 5.0
RELEASE_S = 0.5
DEVICE = "/dev/fuse"
SOURCE = "pfs"
_NOT_PERMITTED = os.strerror(errno.EPERM)
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def check_machine() -> None:
    """Make sure that this user can mount on this machine.

    Raises:
        PfsError: UNSUPPORTED or DENIED, with what to do.
    """
    try:
        os.close(os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        hint = "load it with `modprobe fuse`, or start the container with --device /dev/fuse"
        raise PfsError(Kind.UNSUPPORTED, f"this machine has no FUSE: {DEVICE} is not there; {hint}") from None
    except OSError as error:
        hint = "mounting needs read and write access to it"
        raise PfsError(Kind.DENIED, f"cannot open {DEVICE}: {error.strerror}; {hint}") from None
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise PfsError(Kind.UNSUPPORTED, "fusermount3 is not installed: install the package fuse3")


async def run(
    filesystems: Mapping[str, BatchingFileSystem],
    mountpoint: str,
    *,
    allow_other: bool,
    ready: Callable[[], None],
    owner: Owner | None = None,
    identity: Ids = Ids.SQUASHED,
    blocks: BlockCache | None = None,
    flags: Set[str] = frozenset(),
    source: str = SOURCE,
    options: str = "",
    journals: Mapping[str, Journal] | None = None,
    base: Base | None = None,
) -> None:
    """Mount and serve until it is unmounted or the process is told to end.

    Args:
        filesystems: what the root directory shows, by the name of the datacenter.
        mountpoint: an empty directory.
        allow_other: other users of the machine may use the mount; to the server they are the user who mounts.
        ready: called once when the mount is in use.
        owner: as whose everything is shown, where that is not the user who mounts.
        identity: how the mount treats owners.
        blocks: where blocks of files are kept on the local disk.
        flags: what the kernel shall see to: any of `ro`, `noexec` and `suid`.
        source: what the kernel lists as mounted there.
        options: what the status tells of how it was mounted.
        journals: where it is written down, for each datacenter, what programs were promised; None to promise nothing.
        base: the folder that the root directory is, instead of showing datacenters.

    Raises:
        PfsError: it cannot be mounted, and why.
    """
    check_machine()
    _raise_file_limit()
    memory.keep_pieces()
    point = canonical(mountpoint)
    cached = {name: _copied(name, each, blocks, journals) for name, each in filesystems.items()}
    ops = Ops(cached, Identity(identity, owner or Owner(os.getuid(), os.getgid())), base)
    for name, each in filesystems.items():
        recall = Recall(ops.tree, name, cached[name], forget_attributes, forget_name)
        cached[name].tell(recall.adopted, recall.undone)
        each.listen(recall.broken, recall.lapsed, recall.returned)
    operations = Operations(ops)
    reporter = Reporter(ops, operations, cached, blocks, options, trio.current_time())
    operations.status = lambda: reporter.status().encode()
    wanted = {*flags, "allow_other"} if allow_other else set(flags)
    session = _mount(operations, point, wanted, source, set_id_bits=identity is Ids.NUMERIC)

    async def settle() -> None:
        await _settle(list(cached.values()))

    async with trio.open_nursery() as background:
        for filesystem in cached.values():
            filesystem.nursery = background
            if isinstance(filesystem, BehindFileSystem):
                background.start_soon(filesystem.keep_promises)
        background.start_soon(prune, ops.tree.inodes, forget_name)
        await _serve(ops, operations, session, point, ready=ready, settle=settle)
        background.cancel_scope.cancel()


def _copied(
    name: str, filesystem: BatchingFileSystem, blocks: BlockCache | None, journals: Mapping[str, Journal] | None
) -> MakingFileSystem:
    if journals is None:
        return MakingFileSystem(filesystem, trio.current_time, name, blocks)
    return BehindFileSystem(filesystem, trio.current_time, name, blocks, journal=journals[name])


async def _serve(
    ops: Ops,
    operations: Operations,
    session: Session | PlainSession,
    point: str,
    *,
    ready: Callable[[], None],
    settle: Callable[[], Awaitable[None]],
) -> None:
    mounted = True
    before: dict[int, Any] = {}
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ops.held.watch)
            await nursery.start(ops.polls.run)
            nursery.start_soon(_announce, operations, ready)

            async def stop() -> None:
                nonlocal mounted
                # whoever tells it to end once more, until all is sent, changes nothing
                before.update({number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS})
                with trio.open_signal_receiver(*_SIGNALS) as signals:
                    async for _ in signals:
                        break
                    mounted = not await _detach(point)
                    await _finish(ops, operations)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            listener = Listener(lambda: operations.asked, ops.held.be_told, ops.held.hear)
            await session.main(tasks_min=TASKS_MIN, tasks_max=TASKS_MAX, listener=listener)
            nursery.cancel_scope.cancel()
    finally:
        try:
            with trio.CancelScope(shield=True):
                await settle()  # what programs have written and the server does not have
            with trio.move_on_after(RELEASE_S, shield=True):
                await ops.files.release_all()
        finally:
            session.close(unmount=mounted)
            for number, handler in before.items():
                signal.signal(number, handler)


async def _settle(filesystems: Sequence[CachedFileSystem]) -> None:
    """Wait until the servers have everything, as long as it gets less."""
    left = _waiting(filesystems)
    while True:
        with trio.move_on_after(SETTLE_S) as scope:
            for filesystem in filesystems:
                try:
                    await filesystem.settle(None)
                except PfsError as error:
                    log.error("at the end of the mount: %s", error)
        before, left = left, _waiting(filesystems)
        if not scope.cancelled_caught or left >= before:
            break
    if left != (0, 0):
        kept = any(isinstance(filesystem, BehindFileSystem) for filesystem in filesystems)
        what_now = "what is in the journal the next mount sends" if kept else "they are lost"
        log.error("the mount ended before the server had everything: bytes %d, changes %d; %s", *left, what_now)


def _waiting(filesystems: Sequence[CachedFileSystem]) -> tuple[int, int]:
    waiting = [filesystem.waiting() for filesystem in filesystems]
    return sum(size for size, _ in waiting), sum(count for _, count in waiting)


async def _announce(operations: Operations, ready: Callable[[], None]) -> None:
    await operations.started.wait()
    ready()


async def _detach(mountpoint: str) -> bool:
    """Take the mount out of the tree; in a thread, since that may have to be answered here."""
    try:
        await trio.to_thread.run_sync(lambda: unmount(mountpoint, lazy=True))
    except PfsError as error:
        log.warning("%s", error)
        return False
    return True


async def _finish(ops: Ops, operations: Operations) -> None:
    with trio.move_on_after(GRACE_S):
        while operations.busy > len(ops.held):  # noqa: ASYNC110 - not worth an event in every handler
            await trio.sleep(0.02)


def _mount(
    operations: Operations, mountpoint: str, flags: Set[str], source: str, *, set_id_bits: bool
) -> Session | PlainSession:
    options = {f"fsname={source}", "subtype=pfs", "default_permissions", "nodev", *flags}
    if "suid" not in flags:
        options.add("nosuid")
    said: list[str] = []
    try:
        with _stderr_into(said):
            return connect(operations, mountpoint, options, set_id_bits=set_id_bits)
    except RuntimeError as error:
        reason = said[-1] if said else str(error)
        cure = f"; {_may_not()}" if _NOT_PERMITTED in reason else ""
        raise PfsError(Kind.DENIED, f"cannot mount at {mountpoint}: {reason}{cure}") from None


def _may_not() -> str:
    """Say what lets this user mount, where the kernel does not."""
    if os.geteuid() == 0:
        return "in a container root may mount when that was started with --cap-add SYS_ADMIN"
    return "fusermount3 needs its setuid bit, and a container to be started without no-new-privileges"


@contextlib.contextmanager
def _stderr_into(lines: list[str]) -> Iterator[None]:
    """Collect what libfuse and fusermount3 print: it is the only place where they say what is wrong."""
    with tempfile.TemporaryFile() as file:
        saved = os.dup(2)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            file.seek(0)
            lines += [line for line in file.read().decode(errors="replace").splitlines() if line.strip()]


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(FILES_MAX, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
