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
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from io import FileIO
from pathlib import Path
from typing import IO

import click

from cli.loglines import log_lines
from cli.mount.options import Options
from cli.mount.point import is_dead, is_mounted, open_for_appending, state_file, take_lock
from cli.mount.serving import Mount, serve
from pfs.errors import Kind, PfsError

START_S = 60.0
AUTOMOUNT = "autofs"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Answer:
    """What the process in the background says, once.

    Attributes:
        told: lines for people.
        mounted: the datacenters that the mount has.
        error: why there is no mount.
    """

    told: Sequence[str]
    mounted: Sequence[str] = ()
    error: str | None = None

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode()


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
        what = Mount(datacenters, point, source or mount.SOURCE, options)
        lock = take_lock(point)
        if lock is None:
            why = "it is being mounted or unmounted at this moment, or programs still use what was mounted before"
            raise PfsError(Kind.BUSY, f"{point}: {why}; try again when that is over")
        with lock:
            if foreground:
                _log_to(options.log_file, options.log_level)
                serve(what, lambda names: None if quiet else click.echo(_mounted(point, names), err=True), _tell)
                return 0
            log_file = Path(options.log_file) if options.log_file else state_file(point, "log")
            mounted = _in_background(what, log_file)
    except config.ConfigError:
        raise
    except PfsError as error:
        raise click.ClickException(str(error)) from None
    if as_json:
        told = {"mountpoint": point, "datacenters": list(mounted), "log_file": str(log_file)}
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    elif not quiet:
        click.echo(f"{_mounted(point, mounted)}; messages go to {log_file}")
    return 0


def _mounted(point: str, names: Sequence[str]) -> str:
    return f"{point}: mounted {', '.join(names)}"


def _tell(line: str) -> None:
    click.echo(line, err=True)


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


def _in_background(what: Mount, log_file: Path) -> Sequence[str]:
    """Start the process that serves, and wait until the mount is in use; return the datacenters that it has.

    Raises:
        PfsError: it cannot be, and why.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    heard, said = os.pipe()
    with (
        open(heard, "rb", buffering=0) as pipe,
        open(said, "wb", buffering=0) as answering,
        open_for_appending(log_file) as out,
    ):
        child = os.fork()
        if child == 0:
            pipe.close()
            os._exit(_be_daemon(what, out, answering))
        answering.close()
        os.waitpid(child, 0)
        try:
            data = _hear(pipe)
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child, signal.SIGTERM)  # who has given up wants nothing mounted later
            raise
    if not data:
        raise PfsError(Kind.IO, f"the mount ended unexpectedly; its messages are in {log_file}")
    answer = _Answer(**json.loads(data))
    for line in answer.told:
        _tell(line)
    if answer.error is not None:
        raise PfsError(Kind.IO, answer.error)
    return answer.mounted


def _hear(pipe: FileIO) -> bytes:
    end, data = time.monotonic() + START_S, b""
    while select.select([pipe], [], [], max(0.0, end - time.monotonic()))[0]:
        piece = pipe.read(65536)
        if not piece:
            return data
        data += piece
    raise PfsError(Kind.TIMED_OUT, f"the mount is not in use after {START_S:.0f} s")


def _be_daemon(what: Mount, out: IO[str], answering: FileIO) -> int:
    """Leave the terminal and the parent, then serve. Returns the exit status; nothing is raised."""
    told: list[str] = []

    def tell(line: str) -> None:
        told.append(line)
        log.warning("%s", line)

    def ready(names: Sequence[str]) -> None:
        try:
            answering.write(_Answer(told, mounted=names).encode())
        except OSError:
            raise PfsError(Kind.IO, "the command that started this mount was given up") from None
        answering.close()

    try:
        os.setsid()
        if os.fork() != 0:
            return 0
        os.chdir("/")  # nothing shall be kept from being unmounted
        null = os.open(os.devnull, os.O_RDONLY)
        for source, target in ((null, 0), (out.fileno(), 1), (out.fileno(), 2)):
            os.dup2(source, target)
        _log_to(None, what.options.log_level)
        serve(what, ready, tell)
    except PfsError as error:
        log.error("%s", error)
        with contextlib.suppress(OSError, ValueError):  # who waited for it is gone, or has been told already
            answering.write(_Answer(told, error=str(error)).encode())
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
