"""What `cp`, `sync` and `file` do: many sources, folders with all that is in them, up, down, and from cloud to cloud.

A single small file is sent as it is: so a spec that is copied into jobs/ is submitted, and a line that is copied into a
`ctl` is obeyed.
"""

import json
import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, BinaryIO

import click

from cli.errors import going_on
from cli.files import local, remote, single
from cli.files.copied import Done, How, Noted, Progress, Tally
from cli.files.download import download
from cli.files.naming import ROOT, STANDARD, Connect, about, is_remote, matching, names_a_folder, place
from cli.files.plan import Node, is_same
from cli.files.upload import upload
from cli.progress import Transfer
from cli.resuming import resumed
from pfs.errors import Kind, PfsError
from pfs.path import join, to_absolute
from pfs.protocol.parcels import FILE, FOLDER

if TYPE_CHECKING:
    from pfs.client.web import WebClient

PIECE_BYTES = 1024 * 1024  # as much as is sent with its length told: what a spec or a command may have
STOPPED = "stopped; the same command goes on where this one was"


@dataclass(frozen=True, slots=True)
class Way:
    """How a command copies.

    Attributes:
        how: folders, and which files are replaced.
        verbose: print a line for each file.
        tells: print the line of PaddleCloud's client for each source, once it is there, also where nothing travelled.
        as_json: print nothing of all that; the tally is for programs.
        quiet: print only what the server made of what it was given.
        tally: counts what was copied.
    """

    how: How
    verbose: bool = False
    tells: bool = False
    as_json: bool = False
    quiet: bool = False
    tally: Tally = field(default_factory=Tally)

    @property
    def is_silent(self) -> bool:
        """Whether people are told nothing."""
        return self.as_json or self.quiet

    def tell(self, word: str, source: str) -> None:
        """Tell that a source was copied."""
        if self.tells and not self.is_silent:
            click.echo(f"[INFO] {word} {source}")

    def count(self, done: Done) -> None:
        """Count a folder that was copied."""
        self.tally.files += len(done.copied)
        self.tally.bytes += done.copied_bytes


def copy_all(connect: Connect, sources: Sequence[str], target: str, way: Way) -> int:
    """Copy from this machine into a datacenter, from there to here, or from cloud to cloud; return the exit status."""
    if not is_remote(target) and not all(is_remote(source) for source in sources):
        named = next(source for source in sources if not is_remote(source))
        both = f"{named} and {target} are both of this machine; one of them has to be, {ROOT}<dc>/…"
        raise PfsError(Kind.INVALID, both)
    found = [each for source in sources for each in matching(connect, source)]
    many = len(found) > 1
    if many and STANDARD in found:
        raise PfsError(Kind.INVALID, "stdin is copied alone, to the name that it shall have")

    def copy(source: str) -> None:
        if not is_remote(source):
            _send(connect, source, target, way, many=many)
        elif not is_remote(target):
            _fetch(connect, source, target, way, many=many)
        else:
            _pass_on(connect, source, target, way, many=many)

    return going_on(found, copy)


# ---- up


def _send(connect: Connect, source: str, target: str, way: Way, *, many: bool) -> None:
    datacenter, path = place(target)
    with connect(datacenter) as client, about(source, target):
        top = remote.look(client, path)
        into = many or names_a_folder(target) or (top is not None and top.kind == FOLDER)
        if source == STANDARD:
            if into:
                raise PfsError(Kind.INVALID, f"{target} is a directory; say what the file is called there")
            _put(client, path, _pieces(sys.stdin.buffer), way, datacenter)
            return
        if os.path.isdir(source):
            contents_only = os.path.basename(source) in ("", ".") and os.path.basename(source.rstrip("/")) == "."
            inner = path if not into or contents_only else join(path, os.path.basename(os.path.abspath(source)))
            with _shown(source, way) as (progress, noted):
                done = upload(client, Path(source), inner, way.how, progress=progress, noted=noted)
            way.count(done)
            check(done)
            way.tell("Uploaded", source)
            return
        if into:
            path = join(path, os.path.basename(source))
            top = remote.look(client, path)
        made = len(way.tally.made)
        with _told_of_disk(source, "read"), _shown(source, way) as (progress, _):
            is_there = _send_file(client, source, path, top, way=way, progress=progress, datacenter=datacenter)
        if is_there and len(way.tally.made) == made:  # of what the server made its path is told, and nothing else
            way.tell("Uploaded", source)


def _send_file(
    client: "WebClient", source: str, path: str, top: Node | None, *, way: Way, progress: Progress, datacenter: str
) -> bool:
    """Send one file, where that is needed; tells whether it is there then."""
    info = os.stat(source)
    here = local.node_of(info)
    if top is not None and (way.how.keeps or (is_same(here, top) and not way.how.always)):
        return is_same(here, top)
    if S_ISREG(info.st_mode):
        try:
            way.tally.bytes += single.send(client, source, path, progress)
            way.tally.files += 1
            return True
        except single.RefusedError as error:
            if error.kind is not Kind.UNSUPPORTED:
                raise PfsError(error.kind, f"{source} to {to_absolute(path, datacenter)}: {error.message}") from None
    with open(source, "rb") as file:  # a pipe, whose length nobody knows; or the server makes something of it
        _put(client, path, _pieces(file), way, datacenter)
    return True


def _put(client: "WebClient", path: str, pieces: Iterator[bytes], way: Way, datacenter: str) -> None:
    """Give the server a file, and print what became of it, where something did."""
    pieces = _counted(pieces, way.tally)
    first, second = next(pieces, b""), next(pieces, b"")
    if second:
        client.write(path, chain((first, second), pieces))
    elif (made := client.put(path, first, str(uuid.uuid4()))) is not None:
        way.tally.made.append(to_absolute(made, datacenter))
        if not way.as_json:
            click.echo(way.tally.made[-1])
    way.tally.files += 1


def _counted(pieces: Iterable[bytes], tally: Tally) -> Iterator[bytes]:
    for piece in pieces:
        tally.bytes += len(piece)
        yield piece


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(PIECE_BYTES), b"")


# ---- down


def _fetch(connect: Connect, source: str, target: str, way: Way, *, many: bool) -> None:
    datacenter, path = place(source)
    with connect(datacenter) as client, about(source, target):
        top = remote.look(client, path)
        if top is None:
            raise PfsError(Kind.NOT_FOUND, f"{source}: no such file or directory")
        into = target != STANDARD and (many or names_a_folder(target) or os.path.isdir(target))
        if into:
            target = os.path.join(target, path.rpartition("/")[2])
        if top.kind == FOLDER:
            if target == STANDARD:
                raise PfsError(Kind.IS_DIR, f"{source} is a directory; only a file is written to stdout")
            with _shown(source, way) as (progress, noted):
                done = download(client, path, Path(target), way.how, progress=progress, noted=noted)
            way.count(done)
            check(done)
        elif target == STANDARD or _is_special(target):
            _stream(client, path, target, way.tally)
            return
        elif top.kind != FILE:
            _stream(client, path, target, way.tally)
        else:
            with _told_of_disk(target, "written"), _shown(source, way) as (progress, _):
                if not _fetch_file(client, path, os.path.realpath(target), top, way=way, progress=progress):
                    return
        way.tell("Downloaded", source)


def _is_special(target: str) -> bool:
    """Tell whether something stands there that is written to, and not replaced."""
    return os.path.exists(target) and not os.path.isfile(target)


def _fetch_file(client: "WebClient", path: str, target: str, node: Node, *, way: Way, progress: Progress) -> bool:
    """Fetch one file, where that is needed; tells whether it is here then."""
    if os.path.lexists(target):
        same = is_same(node, local.node_of(os.stat(target)))
        if way.how.keeps or (same and not way.how.always):
            return same
    way.tally.bytes += single.fetch(client, path, target, node, progress)
    way.tally.files += 1
    return True


def _stream(client: "WebClient", path: str, target: str, tally: Tally) -> None:
    """Write what comes as it comes: a log until it is over."""
    tally.files += 1
    pieces = _counted(resumed(lambda _: client.stream(path)), tally)
    if target == STANDARD:
        _write(pieces, sys.stdout.buffer)
        return
    first = next(pieces, b"")  # what cannot be read leaves no file here
    with _told_of_disk(target, "written"), open(target, "wb") as out:
        _write(chain((first,), pieces), out)


def _write(pieces: Iterable[bytes], out: BinaryIO) -> None:
    for piece in pieces:
        out.write(piece)
        out.flush()


# ---- across


def _pass_on(connect: Connect, source: str, target: str, way: Way, *, many: bool) -> None:
    """Copy from cloud to cloud, by way of this machine."""
    name = place(source)[1].rpartition("/")[2]
    with tempfile.TemporaryDirectory(prefix="pfs-") as folder:
        between = os.path.join(folder, name)
        _fetch(connect, source, between, replace(way, tally=Tally(), tells=False), many=False)
        _send(connect, between, target, replace(way, tells=False), many=many)
    way.tell("Copied", source)


def sync(connect: Connect, source: str, target: str, way: Way) -> Done:
    """Let a folder have what another one has; which of them is a datacenter's says which way.

    Raises:
        PfsError: INVALID unless just one of them is.
    """
    if is_remote(source) == is_remote(target):
        raise PfsError(Kind.INVALID, f"one of {source} and {target} has to be of a datacenter, {ROOT}<dc>/…")
    datacenter, path = place(target if is_remote(target) else source)
    with connect(datacenter) as client, _shown(source, way) as (progress, noted):
        if is_remote(source):
            return download(client, path, Path(target), way.how, progress=progress, noted=noted)
        if not os.path.isdir(source):
            raise PfsError(Kind.NOT_DIR, f"{source} is no directory of this machine")
        return upload(client, Path(source), path, way.how, progress=progress, noted=noted)


def show_synced(done: Done, *, as_json: bool, quiet: bool) -> None:
    """Print what a sync did."""
    if as_json:
        told = {
            "files": len(done.copied),
            "copied": sorted(done.copied),
            "bytes": done.copied_bytes,
            "same": done.same,
            "removed": sorted(done.removed),
            "failed": [str(each) for each in done.failed],
        }
        click.echo(json.dumps(told, indent=2))
    elif quiet:
        click.echo("".join(f"{path}\n" for path in sorted(done.copied | done.removed)), nl=False)
    else:
        counts = f"{len(done.copied)} copied, {done.same} unchanged, {len(done.removed)} removed"
        click.echo(f"{counts}; {done.copied_bytes} bytes travelled")


def check(done: Done) -> None:
    """Tell what was left out, and what could not be copied.

    Raises:
        PfsError: the last of these.
    """
    for path, why in done.left_out:
        tell(f"{path} is left out: {why}")
    for error in done.failed[:-1]:
        tell(str(error))
    if done.failed:
        raise done.failed[-1]


def tell(text: str) -> None:
    """Write a line to stderr, behind the program's name."""
    click.echo(f"{click.get_current_context().find_root().info_name}: {text}", err=True)


@contextmanager
def _shown(source: str, way: Way) -> Iterator[tuple[Progress, Noted]]:
    """Give what shows how far it is, and what notes each file of a folder that was copied."""

    def note(path: str) -> None:
        if way.verbose and not way.is_silent:
            click.echo(f"[INFO] Copied {source.rstrip('/')}/{path}")

    with Transfer(source.rstrip("/"), None) as bar:
        yield _silent if way.verbose or way.is_silent else bar.reach, note  # lines and a bar are one too many


def _silent(_done: int, _size: int | None) -> None:
    return None


@contextmanager
def _told_of_disk(path: str, what: str) -> Iterator[None]:
    """Tell which file of this machine cannot be read or written."""
    try:
        yield
    except OSError as error:
        raise PfsError(Kind.INVALID, f"{path} cannot be {what}: {error.strerror or error}") from None


# ---- PaddleCloud's `file`


def put_file(connect: Connect, source: str, target: str, way: Way) -> int:
    """Upload a file, or a folder: into the target, and where it ends with a slash only what is in it."""
    if not os.path.isdir(source):
        _send(connect, source, target, way, many=False)
        return 0
    datacenter, path = place(target)
    if not names_a_folder(source):
        path = join(path, os.path.basename(source))
    with connect(datacenter) as client, _shown(source, way) as (progress, noted):
        done = upload(client, Path(source), path, way.how, progress=progress, noted=noted)
    way.count(done)
    check(done)
    return 0


def get_file(connect: Connect, source: str, target: str, way: Way) -> int:
    """Download a file to a name that is free."""
    if os.path.isdir(target):
        target = os.path.join(target, place(source)[1].rpartition("/")[2])
    if os.path.lexists(target):
        raise PfsError(Kind.EXISTS, f"{target}: file already exist")
    _fetch(connect, source, target, way, many=False)
    return 0


def stopped(act: Callable[[], int]) -> int:
    """Run what copies; whoever stops it is told how it goes on."""
    try:
        return act()
    except KeyboardInterrupt:
        tell(STOPPED)
        return 130
