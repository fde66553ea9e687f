"""`paddle pfs`: files of a datacenter without a mount, as `cp`, `ls`, `mv`, `rm` and `mkdir` have them.

A path that begins with /pfs/<dc>/ is one of that datacenter, `-` is stdin or stdout, all others are of this machine.
A file is copied by reading and writing it whole; so a spec that is copied into jobs/ is submitted, and a line that is
copied into a `ctl` is obeyed.
"""

import json
import os
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cli.output import printable
from cli.resuming import resumed
from pfs.errors import Kind, PfsError
from pfs.path import split, to_absolute

if TYPE_CHECKING:
    from pfs.client.web import WebClient

ROOT = "/pfs/"
STANDARD = "-"
PIECE_BYTES = 1024 * 1024  # as much as is sent with its length told: what a spec or a command may have

Connect = Callable[[str], "AbstractContextManager[WebClient]"]
Place = tuple[str, str]  # a datacenter, and a path in it


def place(text: str) -> Place:
    """Return the datacenter that a path is of, and the path there.

    Raises:
        PfsError: INVALID for one of this machine.
    """
    if not is_remote(text):
        raise PfsError(Kind.INVALID, f"{text} is of this machine; a path of a datacenter begins with {ROOT}<dc>/")
    datacenter, _, path = text.removeprefix(ROOT).partition("/")
    path = path.rstrip("/")
    split(path)
    return datacenter, path


def is_remote(text: str) -> bool:
    """Tell whether a path is one of a datacenter."""
    return text.startswith(ROOT)


def list_all(connect: Connect, texts: Sequence[str], *, as_json: bool = False, quiet: bool = False) -> None:
    """Print what is in directories, a line for each: when it was changed, what it is, its size, its path.

    Args:
        as_json: print all of it as JSON.
        quiet: print paths alone.
    """
    found = []
    for text in texts:
        if len(texts) > 1 and not (as_json or quiet):
            click.echo(f"{text} :")
        for path, each in _listed(connect, text):
            found.append({"path": path, **{key: each[key] for key in ("type", "size", "mtime_ns")}})
            if not as_json:
                click.echo(printable(path if quiet else _line(path, each)))
    if as_json:
        click.echo(json.dumps(found, indent=2))


def _listed(connect: Connect, text: str) -> list[tuple[str, dict[str, Any]]]:
    datacenter, path = place(text)
    with connect(datacenter) as client:
        parent, _, name = path.rpartition("/")
        if client.is_directory(path):
            parent, entries = path, client.list(path)
        else:
            entries = [each for each in client.list(parent) if each["name"] == name]
        if not entries and parent != path:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
    return [(to_absolute(f"{parent}/{each['name']}".lstrip("/"), datacenter), each) for each in entries]


def _line(path: str, entry: dict[str, Any]) -> str:
    changed = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(entry["mtime_ns"]) // 10**9))
    kind = {"directory": "d", "symlink": "l"}.get(str(entry["type"]), "f")
    return f"{changed}  {kind}  {entry['size']:>10}  {path}"


def copy_all(connect: Connect, sources: Sequence[str], target: str) -> None:
    """Copy files from this machine into a datacenter, or from there to here."""
    for source in sources:
        if is_remote(source) == is_remote(target):
            where = "of a datacenter" if is_remote(source) else "of this machine"
            raise PfsError(Kind.INVALID, f"{source} and {target} are both {where}; one of them has to be, {ROOT}<dc>/…")
        if is_remote(target):
            _send(connect, source, target, many=len(sources) > 1)
        else:
            _fetch(connect, source, target, many=len(sources) > 1)


def _send(connect: Connect, source: str, target: str, *, many: bool) -> None:
    datacenter, path = place(target)
    with connect(datacenter) as client, _opened(source) as file:
        if many or _names_a_directory(target) or client.is_directory(path):
            if source == STANDARD:
                raise PfsError(Kind.INVALID, f"{target} is a directory; say what the file is called there")
            path = f"{path}/{os.path.basename(source)}".lstrip("/")
        first = file.read(PIECE_BYTES)
        rest = file.read(PIECE_BYTES)
        if rest:
            client.write(path, chain((first, rest), iter(lambda: file.read(PIECE_BYTES), b"")))
        elif (made := client.put(path, first, str(uuid.uuid4()))) is not None:
            click.echo(to_absolute(made, datacenter))


def _opened(source: str) -> "AbstractContextManager[BinaryIO]":
    if source == STANDARD:
        return nullcontext(sys.stdin.buffer)
    try:
        return open(source, "rb")
    except OSError as error:
        raise PfsError(Kind.INVALID, f"{source} cannot be read: {error.strerror}") from None


def _fetch(connect: Connect, source: str, target: str, *, many: bool) -> None:
    datacenter, path = place(source)
    with connect(datacenter) as client:
        pieces = resumed(lambda _: client.stream(path))
        if target == STANDARD:
            _write(pieces, sys.stdout.buffer)
            return
        if many or _names_a_directory(target) or os.path.isdir(target):
            target = os.path.join(target, path.rpartition("/")[2])
        first = next(pieces, b"")  # what cannot be read leaves no file here
        try:
            with open(target, "wb") as out:
                _write(chain((first,), pieces), out)
        except OSError as error:
            raise PfsError(Kind.INVALID, f"{target} cannot be written: {error.strerror}") from None


def _write(pieces: Iterable[bytes], out: BinaryIO) -> None:
    for piece in pieces:
        out.write(piece)
        out.flush()


def move(connect: Connect, source: str, target: str) -> None:
    """Give a file or directory of a datacenter another name there; into a directory it goes under its own."""
    (datacenter, path), (other, new) = place(source), place(target)
    if datacenter != other:
        raise PfsError(Kind.INVALID, f"{source} and {target} are of two datacenters; copy it by way of this machine")
    with connect(datacenter) as client:
        if _names_a_directory(target) or client.is_directory(new):
            new = f"{new}/{path.rpartition('/')[2]}".lstrip("/")
        client.rename(path, new)


def remove_all(connect: Connect, texts: Sequence[str], *, directories: bool) -> None:
    """Remove files, or empty directories."""
    for text in texts:
        datacenter, path = place(text)
        with connect(datacenter) as client:
            if directories != client.is_directory(path):
                cure = "no directory; paddle pfs rm removes it" if directories else "a directory; see paddle pfs rmdir"
                raise PfsError(Kind.INVALID, f"{text} is {cure}")
            client.remove(path)


def make_all(connect: Connect, texts: Sequence[str], *, parents: bool) -> None:
    """Make directories, and with `parents` those above them that are not there; then it is fine if one is there."""
    for text in texts:
        datacenter, path = place(text)
        with connect(datacenter) as client:
            for each in _and_above(path) if parents else [path]:
                with _fine_if_there(fine=parents):
                    client.mkdir(each)


def _and_above(path: str) -> list[str]:
    """Return a path and those above it in which somebody can make something: the first two are the server's."""
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(min(3, len(parts)), len(parts) + 1)]


@contextmanager
def _fine_if_there(*, fine: bool) -> Iterator[None]:
    try:
        yield
    except PfsError as error:
        if not fine or error.kind is not Kind.EXISTS:
            raise


def _names_a_directory(text: str) -> bool:
    return text.endswith("/")
