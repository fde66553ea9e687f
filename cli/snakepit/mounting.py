"""`pit mount`: the folder of an entity as a directory of this machine, until Ctrl-C or the end of a shell.

The same mount as that of `paddle mount` is made in a directory of its own; the folder of the entity is in it. Where a
mount point is given, a link to that folder takes its place meanwhile: that needs no rights on this machine, and shows
nothing of the tree but that folder.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import click

from cli.snakepit.asking import say
from cli.snakepit.entities import folder_of, named, parse
from cli.snakepit.files import entry_of
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit

NAME = "pit"  # of the datacenter in the mount
READ_ONLY = ("job", "shared")
TRIES = 10
PAUSE_S = 0.5


def mount(client: "Pit", text: str, mountpoint: str | None, *, shell: bool) -> None:
    """Mount the folder of an entity, and stay until it is not wanted any more.

    Args:
        mountpoint: an empty directory; None makes one, and tells it.
        shell: run a shell there, and end with it.
    """
    entry_of(client, text, "")
    if mountpoint is not None:
        _check_point(mountpoint)
    flags = frozenset({"ro"} if parse(text).kind in READ_ONLY else ())
    with _ended_in_order(), tempfile.TemporaryDirectory(prefix="pit-mount-") as base:
        point = Path(base).resolve() / "tree"
        point.mkdir()
        with _mounted(client, point, flags):
            folder = point / NAME / named(folder_of(text), client.who.name)
            if mountpoint is None:
                click.echo(folder)
                _stay(point, folder, shell=shell)
            else:
                with _in_place_of(Path(mountpoint), folder):
                    _stay(point, Path(mountpoint).absolute(), shell=shell)


def _check_point(mountpoint: str) -> None:
    try:
        entries = os.listdir(mountpoint)
    except FileNotFoundError:
        raise PfsError(Kind.NOT_FOUND, f"{mountpoint} does not exist; make it with: mkdir -p {mountpoint}") from None
    except NotADirectoryError:
        raise PfsError(Kind.NOT_DIR, f"{mountpoint} is not a directory; mount at an empty directory") from None
    if entries or os.path.islink(mountpoint):
        raise PfsError(Kind.NOT_EMPTY, f"{mountpoint} is not an empty directory")


@contextmanager
def _ended_in_order() -> Iterator[None]:
    """Let who wants this process to end have it unmount before."""

    def interrupted(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupted) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _mounted(client: "Pit", point: Path, flags: frozenset[str]) -> Iterator[None]:
    """Mount the tree for the block."""
    from cli.mount.command import mount_command
    from cli.mount.options import Options
    from cli.mount.point import is_mounted, state_file

    config = point.parent / "config"
    _write_config(client, config)
    try:
        mount_command(str(point), Options(config=str(config), flags=flags), quiet=True)
        config.unlink()
        yield
    finally:
        try:
            if is_mounted(str(point)):
                _unmount(point)
        finally:
            for kind in ("log", "lock"):
                with suppress(FileNotFoundError):
                    state_file(str(point), kind).unlink()


def _write_config(client: "Pit", path: Path) -> None:
    from ruamel.yaml import YAML

    where, who = client.where, client.who
    said = {"username": who.name, "token": who.token, "endpoint": where.endpoint}
    if where.ca is not None:
        said["ca"] = os.path.abspath(where.ca)
    yaml = YAML(typ="safe", pure=True)
    yaml.width = 4096
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        yaml.dump({NAME: said}, file)


def _unmount(point: Path) -> None:
    from cli.mount.umount import umount_command

    for tried in range(TRIES):
        try:
            umount_command(str(point), quiet=True)
            return
        except click.ClickException as error:
            if tried == TRIES - 1:
                umount_command(str(point), lazy=True, quiet=True)
                say(f"{error.message}; it ends when that is over")
        time.sleep(PAUSE_S)


@contextmanager
def _in_place_of(point: Path, folder: Path) -> Iterator[None]:
    """Put a link to `folder` in the place of an empty directory for the block."""
    mode = point.stat().st_mode & 0o7777
    try:
        point.rmdir()
    except OSError as error:
        reason = f"{point} cannot be used: {error.strerror}; mount at a directory in a folder of your own"
        raise PfsError(Kind.DENIED, reason) from None
    try:
        point.symlink_to(folder)
        yield
    finally:
        with suppress(FileNotFoundError):
            point.unlink()
        point.mkdir(mode)
        point.chmod(mode)


def _stay(point: Path, folder: Path, *, shell: bool) -> None:
    """Return when the mount is not wanted any more, or is gone."""
    from cli.mount.point import is_mounted

    if shell:
        say('secondary shell: call "exit" to end and unmount')
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for what runs in the shell
        try:
            command = [os.environ.get("SHELL") or "/bin/sh", "-i"]
            subprocess.run(command, cwd=folder, check=False, preexec_fn=_take_interrupts)
        finally:
            signal.signal(signal.SIGINT, before)
        return
    say("press Ctrl-C to unmount")
    try:
        while is_mounted(str(point)):
            time.sleep(PAUSE_S)
    except KeyboardInterrupt:
        say("unmounting...")


def _take_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
