"""`paddle mount`: a mount in the background, or in the foreground.

The command comes back when the mount is in use, or with one line that says why it cannot be. The process that
serves it holds a lock beside its log for as long as it lives: no two are started for one place, and who unmounts
can wait for it to be gone.
"""

import contextlib
import json
import logging
import os
import select
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from cli.loglines import log_lines
from cli.mount.options import Options, shown
from cli.mount.point import is_dead, is_mounted, open_for_appending, state_file, take_lock
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.config import Datacenter
    from fuseclient.behind.journal import Journal
    from fuseclient.cache.blocks import BlockCache
    from fuseclient.kernel.inodes import Base
    from pfs.api import FileSystem, Owner

START_S = 60.0
CLOSE_S = 1.0
AUTOMOUNT = "autofs"
_READY = "ready"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Mount:
    """What is to be mounted.

    Attributes:
        datacenters: by their names.
        point: the canonical path.
        source: what the kernel lists as mounted there.
    """

    datacenters: "dict[str, Datacenter]"
    point: str
    source: str
    options: Options


def mount_command(
    mountpoint: str,
    options: Options,
    *,
    source: str | None = None,
    foreground: bool = False,
    as_json: bool = False,
    quiet: bool = False,
) -> int:
    """Mount.

    Args:
        mountpoint: an empty directory.
        source: the URL of a server, or the name of a datacenter; by default all of the configuration are mounted.
        foreground: stay until it is unmounted.
        as_json: say it as JSON when it is mounted.
        quiet: say nothing then.

    Returns:
        The exit status.

    Raises:
        click.ClickException: it cannot be mounted, and why.
    """
    from cli import config
    from cli.mount import choosing
    from fuseclient import mount, mountpoints

    point = mountpoints.canonical(mountpoint)
    options = replace(options, cache_dir=_absolute(options.cache_dir), log_file=_absolute(options.log_file))
    try:
        mount.check_machine()
        _check_point(point)
        datacenters = choosing.chosen(config.load(options.config), source, options.subdir)
        what = _Mount(datacenters, point, source or mount.SOURCE, options)
        lock = take_lock(point)
        if lock is None:
            why = "it is being mounted or unmounted at this moment, or programs still use what was mounted before"
            raise PfsError(Kind.BUSY, f"{point}: {why}; try again when that is over")
        with lock:
            if foreground:
                _log_to(options.log_file, options.log_level)
                _serve(what, lambda: None if quiet else click.echo(f"{point}: mounted", err=True))
                return 0
            log_file = Path(options.log_file) if options.log_file else state_file(point, "log")
            _in_background(what, log_file)
    except config.ConfigError:
        raise
    except PfsError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        told = {"mountpoint": point, "datacenters": list(datacenters), "log_file": str(log_file)}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(f"{point}: mounted {', '.join(datacenters)}; messages go to {log_file}")
    return 0


def _absolute(path: str | None) -> str | None:
    """Return a path that means the same when the process has left its directory."""
    return None if path is None else os.path.abspath(os.path.expanduser(path))


def _check_point(point: str) -> None:
    """Make sure that something can be mounted there; what a killed process left behind is cleared away."""
    from fuseclient.mountpoints import mounted_type, unmount

    while is_mounted(point):
        if not is_dead(point):
            hint = f"`paddle umount {point}` ends that"
            raise PfsError(Kind.EXISTS, f"{point}: pfs is mounted here already; {hint}")
        unmount(point, lazy=True)
    if mounted_type(point) == AUTOMOUNT:
        return  # whoever looks into it waits for the mount that we are to make
    try:
        entries = os.listdir(point)
    except FileNotFoundError:
        raise PfsError(Kind.NOT_FOUND, f"{point} does not exist; make it with: mkdir -p {point}") from None
    except NotADirectoryError:
        raise PfsError(Kind.NOT_DIR, f"{point} is not a directory; mount at an empty directory") from None
    except OSError as error:
        raise PfsError(Kind.DENIED, f"{point} cannot be used: {error.strerror}") from None
    if entries:
        raise PfsError(Kind.NOT_EMPTY, f"{point} is not empty; mount at an empty directory")
    if not os.access(point, os.W_OK):
        raise PfsError(Kind.DENIED, f"{point} is not yours to write to; mount at a directory of your own")


def _serve(what: _Mount, ready: Callable[[], None]) -> None:
    """Connect, mount, and serve until the end.

    Raises:
        PfsError: a server cannot be reached or refuses, or it cannot be mounted.
    """
    import trio

    from fuseclient import mount
    from fuseclient.kernel.identity import Ids
    from pfs.client.filesystem import open_filesystem

    options = what.options

    async def main() -> None:
        with trio.CancelScope() as scope:
            async with contextlib.AsyncExitStack() as stack:
                filesystems = {}
                for name, each in what.datacenters.items():
                    said = each.endpoint, each.token, each.ca
                    connecting = open_filesystem(
                        *said, shortcut=options.shortcut, streams=options.streams, own=each.own
                    )
                    filesystems[name] = await stack.enter_async_context(connecting)
                    if options.ids is Ids.NUMERIC and not filesystems[name].standing().admin:
                        reason = f"{each.username} is none at {each.endpoint}; leave ids=numeric away"
                        raise PfsError(Kind.DENIED, f"the server's own numbers are for administrators: {reason}")
                blocks = await trio.to_thread.run_sync(_open_cache, options)
                if blocks is not None:
                    stack.callback(blocks.close)
                journals = await trio.to_thread.run_sync(_open_journals, what, stack)
                base = None if options.subdir is None else await _base(options.subdir, filesystems)
                await mount.run(
                    filesystems,
                    what.point,
                    allow_other=options.allow_other,
                    ready=ready,
                    identity=options.ids,
                    owner=_owner(options),
                    blocks=blocks,
                    journals=journals,
                    flags=options.flags,
                    source=what.source,
                    options=shown(options),
                    base=base,
                )
                scope.deadline = trio.current_time() + CLOSE_S

    failures: list[PfsError] = []
    try:
        trio.run(main)
    except* PfsError as group:
        failures += _leaves(group)
    if failures:
        raise failures[0]


async def _base(subdir: str, filesystems: "Mapping[str, FileSystem]") -> "Base":
    """Find the folder that is to be mounted.

    Raises:
        PfsError: it is not there, or not for us.
    """
    from fuseclient.kernel.inodes import Base
    from pfs.api import NodeType

    datacenter, _, path = subdir.partition("/")
    if not path:
        return Base(datacenter, "", None)
    try:
        attr = await filesystems[datacenter].getattr(path)
        if attr.type is not NodeType.DIRECTORY:
            raise PfsError(Kind.NOT_DIR, "this is no directory")
    except PfsError as error:
        raise PfsError(error.kind, f"subdir={subdir} cannot be mounted: {error.message}") from None
    return Base(datacenter, path, attr.node_id)


def _owner(options: Options) -> "Owner":
    from pfs.api import Owner

    uid = os.getuid() if options.uid is None else options.uid
    return Owner(uid, os.getgid() if options.gid is None else options.gid)


def _open_cache(options: Options) -> "BlockCache | None":
    """Open the folder of the cache; without one that can be used a mount is slower, and as good."""
    from fuseclient.cache.blocks import BlockCache

    if options.cache_bytes == 0:
        return None
    try:
        return BlockCache(_cache_folder(options), options.cache_bytes)
    except PfsError as error:
        if options.cache_dir is not None:
            raise
        log.warning("nothing is kept on the local disk: %s", error)
        return None


def _open_journals(what: _Mount, stack: contextlib.AsyncExitStack) -> "dict[str, Journal] | None":
    """Open what --write-behind needs: without it nothing could be promised, so there is no mount without it."""
    from fuseclient.behind.journal import open_journal

    if not what.options.write_behind:
        return None
    journals = {}
    for name, each in what.datacenters.items():
        journals[name] = open_journal(_cache_folder(what.options), each.endpoint, each.username)
        stack.callback(journals[name].close)
    return journals


def _cache_folder(options: Options) -> str:
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return options.cache_dir or str(base / "pfs")


def _leaves(group: BaseExceptionGroup[PfsError]) -> Iterator[PfsError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _in_background(what: _Mount, log_file: Path) -> None:
    """Start the process that serves, and wait until the mount is in use.

    Raises:
        PfsError: it cannot be, and why.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    heard, said = os.pipe()
    with (
        open(heard, "rb", buffering=0) as pipe,
        open(said, "wb", buffering=0) as answer,
        open_for_appending(log_file) as out,
    ):
        child = os.fork()
        if child == 0:
            pipe.close()
            os._exit(_be_daemon(what, out, answer))
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


def _be_daemon(what: _Mount, out: IO[str], answer: FileIO) -> int:
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
        _log_to(None, what.options.log_level)
        _serve(what, ready)
    except PfsError as error:
        log.error("%s", error)
        say(str(error))
        return 1
    except BaseException:
        log.exception("the mount at %s ended", what.point)
        return 1
    log.info("the mount at %s has ended", what.point)
    return 0


def _log_to(path: str | None, level: str) -> None:
    if path is not None:
        open_for_appending(Path(path)).close()  # says what is wrong, if anything is
    log_lines(level.upper(), path)
    logging.captureWarnings(True)
