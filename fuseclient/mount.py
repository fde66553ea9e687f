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
from collections.abc import Callable, Iterator, Mapping

import pyfuse3
import trio

from fuseclient.fuse import Operations
from fuseclient.held import HELD_MAX
from fuseclient.mountpoints import canonical, unmount
from fuseclient.ops import Ops
from pfs.api import FileSystem
from pfs.errors import Kind, PfsError

log = logging.getLogger(__name__)

TASKS_MIN = 16
TASKS_MAX = HELD_MAX + 2000  # a request that waits keeps its task: the others need some, too
FILES_MAX = 65536
GRACE_S = 1.0
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
    filesystems: Mapping[str, FileSystem], mountpoint: str, *, allow_other: bool, ready: Callable[[], None]
) -> None:
    """Mount and serve until it is unmounted or the process is told to end.

    Args:
        filesystems: what the root directory shows, by the name of the datacenter.
        mountpoint: an empty directory.
        allow_other: other users of the machine may use the mount; they act as the user who mounts.
        ready: called once when the mount is in use.

    Raises:
        PfsError: it cannot be mounted, and why.
    """
    check_machine()
    _raise_file_limit()
    point = canonical(mountpoint)
    ops = Ops(filesystems, uid=os.getuid(), gid=os.getgid())
    operations = Operations(ops)
    _mount(operations, point, allow_other=allow_other)
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
            await pyfuse3.main(min_tasks=TASKS_MIN, max_tasks=TASKS_MAX)
            nursery.cancel_scope.cancel()
    finally:
        try:
            with trio.move_on_after(RELEASE_S, shield=True):
                await ops.files.release_all()
        finally:
            pyfuse3.close(unmount=mounted)


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


def _mount(operations: Operations, mountpoint: str, *, allow_other: bool) -> None:
    options = {"fsname=pfs", "subtype=pfs", "default_permissions", "nosuid", "nodev"}
    if allow_other:
        options.add("allow_other")
    said: list[str] = []
    try:
        with _stderr_into(said):
            pyfuse3.init(operations, mountpoint, options)
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
