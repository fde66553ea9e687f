"""`pit mount`: the folder of an entity as a directory of this machine, until Ctrl-C or the end of a shell.

It is the mount of `paddle mount` with `subdir`: the mount point is that folder, and nothing else of the tree is seen.
"""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path, PurePath
from types import FrameType
from typing import TYPE_CHECKING

import click

from cli.mount.options import Options
from cli.snakepit.asking import say
from cli.snakepit.entities import folder_of, named, parse_place
from cli.snakepit.files import entry_of

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit

NAME = "pit"  # of the datacenter in the mount
CONFIG = ".config"
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
    folder = named(folder_of(text), client.who.name)
    flags = frozenset({"ro"} if parse_place(text).kind in READ_ONLY else ())
    options = Options(subdir=f"{NAME}/{folder}", flags=flags)
    with _ended_in_order(), _own_directory() as base:
        point = base / PurePath(folder).name if mountpoint is None else Path(mountpoint)
        if mountpoint is None:
            point.mkdir()
        point = point.resolve()
        with _mounted(client, point, base / CONFIG, options):
            if mountpoint is None:
                click.echo(point)
            _stay(point, shell=shell)


@contextmanager
def _own_directory() -> Iterator[Path]:
    """Give a directory for the block; of what may still be mounted in it nothing is ever removed."""
    base = Path(tempfile.mkdtemp(prefix="pit-mount-"))
    try:
        yield base
    finally:
        (base / CONFIG).unlink(missing_ok=True)
        for each in (*base.iterdir(), base):
            with suppress(OSError):
                each.rmdir()


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
def _mounted(client: "Pit", point: Path, config: Path, options: Options) -> Iterator[None]:
    """Mount for the block; `config` is written for as long as that takes."""
    from cli.mount.command import mount_command
    from cli.mount.point import is_mounted

    _write_config(client, config)
    is_free = not is_mounted(str(point))  # else it is refused, and what is there is somebody's
    try:
        mount_command(str(point), replace(options, config=str(config)), quiet=True)
        config.unlink()  # the mount has read it, and a token is in it
        yield
    finally:
        if is_free:
            _take_away(point)


def _take_away(point: Path) -> None:
    """Leave nothing of a mount."""
    from cli.mount.point import is_mounted, state_file

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


def _stay(point: Path, *, shell: bool) -> None:
    """Return when the mount is not wanted any more, or is gone."""
    from cli.mount.point import is_mounted

    if shell:
        say('secondary shell: call "exit" to end and unmount')
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for what runs in the shell
        try:
            command = [os.environ.get("SHELL") or "/bin/sh", "-i"]
            subprocess.run(command, cwd=point, check=False, preexec_fn=_take_interrupts)
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
