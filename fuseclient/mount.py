"""The life of a mount: make it, serve it, and take it away without leaving anything behind.

It ends when somebody unmounts it, or on TERM, INT or HUP: then it first vanishes from the tree, so that nothing new
comes in; what is under way may still end for a second; reads that wait are given up. The kernel answers for
us from there on.
"""

import contextlib
import logging
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping

import trio

from fuseclient.blocks import BlockCache
from fuseclient.cached import CachedFileSystem
from fuseclient.fuse import Operations, forget_attributes, forget_name
from fuseclient.held import HELD_MAX
from fuseclient.identity import Identity, Ids
from fuseclient.mountpoints import canonical, unmount
from fuseclient.ops import Ops
from fuseclient.recall import Recall
from fuseclient.session import PlainSession, Session, connect
from pfs.api import LeasingFileSystem, Owner
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

TASKS_MIN = 16
TASKS_MAX = HELD_MAX + 2000  # a request that waits keeps its task: the others need some, too
FILES_MAX = 65536
GRACE_S = 1.0
SETTLE_S = 5.0
RELEASE_S = 0.5
DEVICE = "/dev/fuse"
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
    filesystems: Mapping[str, LeasingFileSystem],
    mountpoint: str,
    *,
    allow_other: bool,
    ready: Callable[[], None],
    identity: Ids = Ids.SQUASHED,
    blocks: BlockCache | None = None,
) -> None:
    """Mount and serve until it is unmounted or the process is told to end.

    Args:
        filesystems: what the root directory shows, by the name of the datacenter.
        mountpoint: an empty directory.
        allow_other: other users of the machine may use the mount; to the server they are the user who mounts.
        ready: called once when the mount is in use.
        identity: how the mount treats owners.
        blocks: where blocks of files are kept on the local disk.

    Raises:
        PfsError: it cannot be mounted, and why.
    """
    check_machine()
    _raise_file_limit()
    point = canonical(mountpoint)
    cached = {name: CachedFileSystem(each, trio.current_time, name, blocks) for name, each in filesystems.items()}
    ops = Ops(cached, Identity(identity, Owner(os.getuid(), os.getgid())))
    for name, each in filesystems.items():
        recall = Recall(ops.tree, name, cached[name], forget_attributes, forget_name)
        each.listen(recall.broken, recall.lapsed)
    operations = Operations(ops)
    session = _mount(operations, point, allow_other=allow_other, set_id_bits=identity is Ids.NUMERIC)

    async def settle() -> None:
        for filesystem in cached.values():
            await filesystem.settle(None)

    async with trio.open_nursery() as background:
        for filesystem in cached.values():
            filesystem.nursery = background
        await _serve(ops, operations, session, point, ready=ready, settle=settle)
        background.cancel_scope.cancel()


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
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ops.held.watch)
            nursery.start_soon(_announce, operations, ready)

            async def stop() -> None:
                nonlocal mounted
                with trio.open_signal_receiver(*_SIGNALS) as signals:  # a second signal changes nothing
                    async for _ in signals:
                        break
                    mounted = not await _detach(point)
                    await _finish(ops, operations)
                    nursery.cancel_scope.cancel()

            nursery.start_soon(stop)
            await session.main(tasks_min=TASKS_MIN, tasks_max=TASKS_MAX)
            nursery.cancel_scope.cancel()
    finally:
        try:
            with trio.move_on_after(SETTLE_S, shield=True):
                await settle()  # what programs have written and not closed
            with trio.move_on_after(RELEASE_S, shield=True):
                await ops.files.release_all()
        finally:
            session.close(unmount=mounted)


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


def _mount(operations: Operations, mountpoint: str, *, allow_other: bool, set_id_bits: bool) -> Session | PlainSession:
    options = {"fsname=pfs", "subtype=pfs", "default_permissions", "nosuid", "nodev"}
    if allow_other:
        options.add("allow_other")
    said: list[str] = []
    try:
        with _stderr_into(said):
            return connect(operations, mountpoint, options, set_id_bits=set_id_bits)
    except RuntimeError as error:
        reason = said[-1] if said else str(error)
        raise PfsError(Kind.DENIED, f"cannot mount at {mountpoint}: {reason}") from None


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
