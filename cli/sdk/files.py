"""What the SDK does with files of this machine: they are copied as the commands copy them (`cli.files`)."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING

from cli.resuming import resumed
from cli.sdk.way import Blocking, Way
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.files.copied import Done

PIECE_BYTES = 256 * 1024


async def upload(way: Way, source: str | os.PathLike[str], path: str) -> None:
    """Let the tree have a file of this machine, or a folder, of which only what is not there travels.

    Raises:
        PfsError: the first that could not be copied; all others are.
    """

    def work(server: Blocking) -> None:
        with here(source, "read"):
            if os.path.isdir(source):
                from cli.files.upload import upload

                _check(upload(server, Path(source), path, progress=way.goes_on, sleep=way.rest))
            else:
                _send(way, server, os.fspath(source), path)

    await way.aside(work)


def _send(way: Way, server: Blocking, source: str, path: str) -> None:
    from cli.files import local, remote, single
    from cli.files.plan import is_same

    info = os.stat(source)
    if S_ISREG(info.st_mode):
        there = remote.look(server, path)
        if there is not None and is_same(local.node_of(info), there):
            return
        try:
            single.send(server, source, path, way.goes_on)
            return
        except single.RefusedError as error:
            if error.kind is not Kind.UNSUPPORTED:
                raise
    with open(source, "rb") as file:  # a pipe, whose length nobody knows; or the server makes something of it
        server.write(path, _going_on(way, iter(lambda: file.read(PIECE_BYTES), b"")))


async def download(way: Way, path: str, target: str | os.PathLike[str]) -> None:
    """Let this machine have a file of the tree, or a folder, of which only what is not here travels.

    Raises:
        PfsError: the first that could not be copied; all others are.
    """

    def work(server: Blocking) -> None:
        if server.is_directory(path):
            from cli.files.download import download

            with here(target, "written"):
                _check(download(server, path, Path(target), progress=way.goes_on, sleep=way.rest))
        else:
            _fetch(way, server, path, os.fspath(target))

    await way.aside(work)


def _fetch(way: Way, server: Blocking, path: str, target: str) -> None:
    from cli.files import local, remote, single
    from cli.files.plan import is_same
    from pfs.protocol.parcels import FILE

    node = remote.look(server, path)
    if node is not None and node.kind == FILE and (os.path.isfile(target) or not os.path.lexists(target)):
        with here(target, "written"):
            if not (os.path.isfile(target) and is_same(node, local.node_of(os.stat(target)))):
                single.fetch(server, path, os.path.realpath(target), node, way.goes_on)
        return
    pieces = _going_on(way, resumed(lambda _: server.stream(path), sleep=way.rest))
    first = next(pieces, b"")  # what cannot be read leaves no file here
    with here(target, "written"), open(target, "wb") as file:
        for piece in chain((first,), pieces):
            file.write(piece)


def _going_on(way: Way, pieces: Iterator[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        way.goes_on()
        yield piece


def _check(done: "Done") -> None:
    for error in done.failed:
        raise error


@contextmanager
def here(path: str | os.PathLike[str], done: str) -> Iterator[None]:
    """Tell what is wrong with a file of this machine, or with one in a folder."""
    try:
        yield
    except OSError as error:
        which = error.filename if os.path.isdir(path) and isinstance(error.filename, str) else os.fspath(path)
        raise PfsError(Kind.INVALID, f"{which} cannot be {done}: {error.strerror}") from None
