"""`pit pull`, `cp`, `cat` and `push`: which bytes are copied, and what is done about those that are there already."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from cli.progress import Transfer
from cli.snakepit.asking import ask, stdin_is_data
from cli.snakepit.files import NO_COPIES, about, entry_of, place
from cli.snakepit.transfer import copy, send
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit


@dataclass(frozen=True, slots=True)
class Manner:
    """What to do about bytes that are there already.

    Attributes:
        force: copy all anew.
        goes_on: the first bytes are of the same file: copy the others. With neither, somebody is asked.
    """

    force: bool = False
    goes_on: bool = False


def pull(client: "Pit", entity: str, path: str, local: str | None, manner: Manner) -> None:
    """Copy a file from the pit, to stdout where no file is named."""
    folder, below = place(entity, path)
    entry = entry_of(client, entity, path)
    if entry is None:
        raise PfsError(Kind.NOT_FOUND, f"{path}: no such file")
    if entry["type"] != "file":
        raise PfsError(Kind.IS_DIR, "At the moment only file copying is supported.")
    source, size = f"{folder}/{below}", _size(entry)
    if local is None:
        with about(path):
            _pour(client, source, size, sys.stdout.buffer)
        return
    target = _target(local, str(entry["name"]))
    if os.path.exists(target) and not os.path.isfile(target):  # a terminal, a pipe
        with open(target, "wb", buffering=0) as out, about(path):
            _pour(client, source, size, out)
        return
    start = _start(target, size, manner)
    if start is not None:
        with open(target, "ab" if start else "wb") as out, about(path), Transfer(target, size, start) as transfer:
            copy(client, source, out, transfer)


def _pour(client: "Pit", source: str, size: int | None, out: Any) -> None:
    with Transfer(source, size, is_shown=not out.isatty()) as transfer:
        copy(client, source, out, transfer)


def _size(entry: dict[str, Any]) -> int | None:
    return None if set(NO_COPIES) & set(entry["flags"]) else int(entry["size"])


def _target(local: str, name: str) -> str:
    """Return the file that is meant: in a directory, it keeps its name."""
    if os.path.isdir(local):
        return os.path.join(local, name)
    parent, base = os.path.split(local)
    if not os.path.exists(parent or "."):
        raise PfsError(Kind.NOT_FOUND, "Target directory not existing.")
    if not os.path.isdir(parent or "."):
        raise PfsError(Kind.NOT_DIR, "Target directory not a directory.")
    if not base:
        raise PfsError(Kind.INVALID, "Cannot construct target filename.")
    return local


def _start(target: str, size: int | None, manner: Manner) -> int | None:
    """Return from which byte on a file is fetched; None where it is there."""
    there = os.path.getsize(target) if os.path.exists(target) else 0
    if manner.force or size is None or there == 0:
        return 0
    if there > size:
        raise PfsError(Kind.EXISTS, f"{target} is larger than the remote file; -f downloads it again")
    if there == size:
        return None
    question = "Remote file larger than local one. Continue interrupted download (yN)? "
    return _going_on(there, manner, question, f"{target} is there already; -f downloads it again, -c the rest of it")


def _going_on(there: int, manner: Manner, question: str, refusal: str) -> int:
    if not manner.goes_on and ask(question).strip().lower() not in ("y", "yes"):
        raise PfsError(Kind.EXISTS, refusal)
    return there


def stdin_kept_for(local: str | None) -> AbstractContextManager[None]:
    """Keep standard input for the bytes in the block, where what `push` takes is that."""
    return stdin_is_data() if local is None or _is_stdin(local) else nullcontext()


def _is_stdin(path: str) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(sys.stdin.fileno()))
    except (OSError, ValueError, AttributeError):  # there is no such file, or no standard input
        return False


def push(client: "Pit", entity: str, path: str, local: str | None, manner: Manner) -> None:
    """Copy a file, or stdin where none is named, into the pit."""
    if local is None:
        if sys.stdin is None:
            raise PfsError(Kind.INVALID, "no file is named, and standard input is closed")
        _push_from(client, _remote(client, entity, path, ""), sys.stdin.buffer, None, manner)
        return
    if not os.path.exists(local):
        raise PfsError(Kind.NOT_FOUND, f"{local}: no such file")
    if os.path.isdir(local):
        raise PfsError(Kind.IS_DIR, "At the moment only file copying is supported.")
    with open(local, "rb") as source:
        size = os.path.getsize(local) if os.path.isfile(local) else None
        remote = _remote(client, entity, path, os.path.basename(local))
        _push_from(client, remote, source, size, manner)


@dataclass(frozen=True, slots=True)
class _Remote:
    """A file of the pit: the folder of its entity, its path below that, and how many bytes it has."""

    folder: str
    below: str
    size: int


def _remote(client: "Pit", entity: str, path: str, name: str) -> _Remote:
    """Return the file that is meant: in a directory, it keeps its name."""
    folder, below = place(entity, path)
    entry = entry_of(client, entity, path)
    if entry is not None and entry["type"] == "directory":
        if not name:
            raise PfsError(Kind.INVALID, "Cannot construct target filename.")
        below = f"{below}/{name}".lstrip("/")
        entry = entry_of(client, entity, below)
    if entry is not None and entry["type"] == "directory":
        raise PfsError(Kind.IS_DIR, f"{below} is a directory")
    return _Remote(folder, below, 0 if entry is None else int(entry["size"]))


def _push_from(client: "Pit", remote: _Remote, source: BinaryIO, size: int | None, manner: Manner) -> None:
    target, there = f"{remote.folder}/{remote.below}", remote.size
    start = 0
    if there and size is not None and not manner.force:
        if there > size:
            raise PfsError(Kind.EXISTS, "The remote file is larger than the local one; -f uploads that again")
        if there == size:
            return
        question = "Local file larger than remote one. Continue interrupted upload (yN)? "
        start = _going_on(there, manner, question, "It is there already; -f uploads it again, -c the rest of it")
        source.seek(start)
    with about(remote.below), Transfer(target, size, start) as transfer:
        send(client, target, source, transfer)
