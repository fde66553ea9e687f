"""`paddle mount` and `paddle umount`: a mount in the background, or in the foreground, and its end.

The command comes back when the mount is in use, or with one line that says why it cannot be. The process that
serves it holds a lock beside its log for as long as it lives: no two are started for one place, and who unmounts
can wait for it to be gone.
"""

import contextlib
import errno
import fcntl
import logging
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.config import Config
    from fuseclient.blocks import BlockCache

CACHE_BYTES = 1 << 30
START_S = 60.0
ANSWER_S = 5.0
END_S = 10.0
CLOSE_S = 1.0
_READY = "ready"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """How to mount.

    Attributes:
        allow_other: other users of the machine may use the mount, as this user.
        cache_dir: where blocks of files are kept; by default in the user's cache directory.
        cache_bytes: room that they may take there; 0 keeps none.
        shortcut: read files of a server on this machine directly.
    """

    allow_other: bool = False
    cache_dir: str | None = None
    cache_bytes: int = CACHE_BYTES
    shortcut: bool = True


def mount_command(mountpoint: str, options: Options, *, foreground: bool = False, log_file: str | None = None) -> int:
    """Mount all datacenters of the configuration.

    Args:
        mountpoint: an empty directory.
        foreground: stay until it is unmounted.
        log_file: where messages go; by default the terminal, or in the background a file in the state directory.

    Returns:
        The exit status.

    Raises:
        click.ClickException: it cannot be mounted, and why.
    """
    from cli import config
    from fuseclient import mount, mountpoints

    point = mountpoints.canonical(mountpoint)
    with _told():
        mount.check_machine()
        _check_point(point)
        configuration = config.load()
        lock = _lock(point)
        if lock is None:
            raise PfsError(Kind.BUSY, f"{point}: it is being mounted or unmounted at this moment")
        with lock:
            if not foreground:
                where = Path(log_file) if log_file else _state_file(point, "log")
                _in_background(configuration, point, options, where)
                click.echo(f"{point}: mounted {', '.join(configuration.datacenters)}; messages go to {where}")
                return 0
            _log_to(log_file)
            _serve(configuration, point, options, lambda: click.echo(f"{point}: mounted", err=True))
    return 0


def umount_command(mountpoint: str, *, lazy: bool = False) -> int:
    """Unmount, and wait until the process that served the mount is gone.

    Args:
        mountpoint: where it is mounted.
        lazy: also while it is in use; its process then ends with the last user.

    Returns:
        The exit status.

    Raises:
        click.ClickException: it cannot be unmounted, and why.
    """
    from fuseclient import mountpoints

    point = mountpoints.canonical(mountpoint)
    if mountpoints.mounted_type(point) != mountpoints.FILESYSTEM_TYPE:
        raise click.ClickException(f"{point}: no pfs is mounted here")
    with _told():
        while mountpoints.mounted_type(point) == mountpoints.FILESYSTEM_TYPE:
            try:
                mountpoints.unmount(point, lazy=lazy or _is_dead(point))
            except PfsError as error:
                if error.kind is not Kind.BUSY:
                    raise
                users = "; ".join(mountpoints.users(point)) or "a program that this user cannot see uses it"
                hint = "end that first, or use --lazy"
                raise PfsError(Kind.BUSY, f"{point} is in use: {users}. {hint}") from None
        if not lazy and not _wait_for_end(point):
            raise PfsError(Kind.TIMED_OUT, f"{point} is unmounted, but its process does not end")
    click.echo(f"{point}: unmounted")
    return 0


@contextlib.contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except PfsError as error:
        raise click.ClickException(str(error)) from None


def _check_point(point: str) -> None:
    """Make sure that something can be mounted there; what a killed process left behind is cleared away."""
    from fuseclient.mountpoints import FILESYSTEM_TYPE, mounted_type, unmount

    while mounted_type(point) == FILESYSTEM_TYPE:
        if not _is_dead(point):
            hint = f"`paddle umount {point}` ends that"
            raise PfsError(Kind.EXISTS, f"{point}: pfs is mounted here already; {hint}")
        unmount(point, lazy=True)
    try:
        entries = os.listdir(point)
    except FileNotFoundError:
        raise PfsError(Kind.NOT_FOUND, f"{point} does not exist; make it with: mkdir -p {point}") from None
    except NotADirectoryError:
        raise PfsError(Kind.NOT_DIR, f"{point} is not a directory") from None
    except OSError as error:
        raise PfsError(Kind.DENIED, f"{point} cannot be used: {error.strerror}") from None
    if entries:
        raise PfsError(Kind.NOT_EMPTY, f"{point} is not empty; mount at an empty directory")
    if not os.access(point, os.W_OK):
        raise PfsError(Kind.DENIED, f"{point} is not yours to write to; mount at a directory of your own")


def _is_dead(point: str) -> bool:
    """Tell whether the process behind a mount is gone. One that hangs is not asked for longer than five seconds."""
    codes: list[int] = []

    def look() -> None:
        try:
            os.stat(point)
        except OSError as error:
            codes.append(error.errno or 0)

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    looking.join(ANSWER_S)
    return codes in ([errno.ENOTCONN], [errno.ECONNABORTED])


def _serve(configuration: "Config", point: str, options: Options, ready: Callable[[], None]) -> None:
    """Connect, mount, and serve until the end.

    Raises:
        PfsError: a server cannot be reached or refuses, or it cannot be mounted.
    """
    import trio

    from fuseclient import mount
    from pfs.client import open_filesystem

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with contextlib.AsyncExitStack() as stack:
                filesystems = {
                    name: await stack.enter_async_context(
                        open_filesystem(each.endpoint, each.token, each.ca, shortcut=options.shortcut)
                    )
                    for name, each in configuration.datacenters.items()
                }
                blocks = await trio.to_thread.run_sync(_open_cache, options)
                if blocks is not None:
                    stack.callback(blocks.close)
                await mount.run(filesystems, point, allow_other=options.allow_other, ready=ready, blocks=blocks)
                scope.deadline = trio.current_time() + CLOSE_S

    failures: list[PfsError] = []
    try:
        trio.run(main)
    except* PfsError as group:
        failures += _leaves(group)
    if failures:
        raise failures[0]


def _open_cache(options: Options) -> "BlockCache | None":
    """Open the folder of the cache; without one that can be used a mount is slower, and as good."""
    from fuseclient.blocks import BlockCache

    if options.cache_bytes == 0:
        return None
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        return BlockCache(options.cache_dir or str(base / "pfs"), options.cache_bytes)
    except PfsError as error:
        if options.cache_dir is not None:
            raise
        log.warning("nothing is kept on the local disk: %s", error)
        return None


def _leaves(group: BaseExceptionGroup[PfsError]) -> Iterator[PfsError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _in_background(configuration: "Config", point: str, options: Options, log_file: Path) -> None:
    """Start the process that serves, and wait until the mount is in use.

    Raises:
        PfsError: it cannot be, and why.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    heard, said = os.pipe()
    with open(heard, "rb", buffering=0) as pipe, open(said, "wb", buffering=0) as answer, _append(log_file) as out:
        child = os.fork()
        if child == 0:
            pipe.close()
            os._exit(_be_daemon(configuration, point, options, out, answer))
        answer.close()
        os.waitpid(child, 0)
        reason = _hear(pipe)
    if reason != _READY:
        raise PfsError(Kind.IO, reason or f"the mount ended unexpectedly; its messages are in {log_file}")


def _hear(pipe: FileIO) -> str:
    end, data = time.monotonic() + START_S, b""
    while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = pipe.read(65536)
        if not piece:
            return data.decode()
        data += piece
    return f"the mount is not in use after {START_S:.0f} s"


def _be_daemon(configuration: "Config", point: str, options: Options, out: IO[str], answer: FileIO) -> int:
    """Leave the terminal and the parent, then serve. Returns the exit status; nothing is raised."""

    def say(text: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # who waited for it is gone, or has been told already
            answer.write(text.encode())
            answer.close()

    def ready() -> None:
        try:
            answer.write(_READY.encode())
        except OSError:
            raise PfsError(Kind.IO, "the command that started this mount was given up") from None
        answer.close()

    try:
        os.setsid()
        if os.fork() != 0:
            return 0
        os.chdir("/")  # nothing shall be kept from being unmounted
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out.fileno(), 1), (out.fileno(), 2)):
            os.dup2(source, target)
        _log_to(None)
        _serve(configuration, point, options, ready)
    except PfsError as error:
        log.error("%s", error)
        say(str(error))
        return 1
    except BaseException:
        log.exception("the mount at %s ended", point)
        return 1
    log.info("the mount at %s has ended", point)
    return 0


def _log_to(path: str | None) -> None:
    if path is not None:
        _append(Path(path)).close()  # says what is wrong, if anything is
    form = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    logging.basicConfig(level=logging.INFO, format=form, filename=path)
    logging.captureWarnings(True)


def _lock(point: str) -> IO[str] | None:
    """Take the lock of a mount point; None while somebody has it."""
    file = _append(_state_file(point, "lock"))
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _append(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600), "a")
    except OSError as error:
        raise PfsError(Kind.DENIED, f"cannot write {path}: {error.strerror}") from None


def _wait_for_end(point: str) -> bool:
    end = time.monotonic() + END_S
    while time.monotonic() < end:
        lock = _lock(point)
        if lock is not None:
            lock.close()
            return True
        time.sleep(0.02)
    return False


def _state_file(point: str, kind: str) -> Path:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    name = point.strip("/").replace("%", "%25").replace("-", "%2D").replace("/", "-")
    return state / "pfs" / f"mount-{name}.{kind}"
