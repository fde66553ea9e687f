"""`pit ls`, `mkdir`, `delete` and `download`: what is in the folder of an entity, and what can be done with it there.

user:ann user:me ~ me home   a home          group:ml   the files of a group
job:17, or 17                a job's files   shared     files for everybody
"""

import os
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from cli.output import printable
from cli.progress import Transfer
from cli.snakepit.asking import UnansweredError
from cli.snakepit.entities import folder_of, job_number, parse_place
from cli.snakepit.looking import print_json
from cli.snakepit.show import missing
from cli.snakepit.transfer import copy
from pfs.errors import Kind, PfsError

if TYPE_CHECKING:
    from cli.snakepit.connection import Pit

NO_COPIES = ("stream", "commits")  # what such a file tells has no end, or what is written to it is a command
OF_THE_PIT = (Kind.UNREACHABLE, Kind.UNAUTHENTICATED)  # such errors are about no file


def place(entity: str, path: str) -> tuple[str, str]:
    """Return the folder of an entity, and the path below it, both without a slash at their ends.

    Raises:
        PfsError: INVALID.
    """
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise PfsError(Kind.INVALID, f"{path}: a path does not lead out of {entity}")
    return folder_of(entity), "/".join(parts)


@contextmanager
def about(path: str) -> Iterator[None]:
    """Have what the server refuses in the block name the path that was typed."""
    try:
        yield
    except PfsError as error:
        if error.kind in OF_THE_PIT or isinstance(error, UnansweredError):
            raise
        raise PfsError(error.kind, f"{path}: {error.message}") from None


def entry_of(client: "Pit", entity: str, path: str) -> dict[str, Any] | None:
    """Return the entry of what stands at a path of an entity, of the folder itself only its type; None for nothing.

    Raises:
        PfsError: NOT_FOUND when there is no such entity.
    """
    folder, below = place(entity, path)
    parent, _, name = below.rpartition("/")
    try:
        with about(path or entity):
            entries = client.list(f"{folder}/{parent}".rstrip("/"))
    except PfsError as error:
        if error.kind not in (Kind.NOT_FOUND, Kind.NOT_DIR):
            raise
        if not parent:
            raise missing(parse_place(entity).kind) from None
        return None
    if not below:
        return {"name": "", "type": "directory", "size": 0, "flags": []}
    return next((entry for entry in entries if entry["name"] == name), None)


def print_folder(client: "Pit", entity: str, path: str, *, as_json: bool) -> None:
    """Print what is in a directory, first its directories; or that a file is there."""
    folder, below = place(entity, path)
    entry = _there(entry_of(client, entity, path), path)
    entries = [entry | {"name": below}]
    if entry["type"] == "directory":
        with about(path or entity):
            entries = client.list(f"{folder}/{below}".rstrip("/"))
    dirs = [str(each["name"]) for each in entries if each["type"] == "directory"]
    files = [str(each["name"]) for each in entries if each["type"] != "directory"]
    if as_json:
        print_json({"dirs": dirs, "files": files})
    else:
        lines = [*(f"D {name}" for name in sorted(dirs)), *(f"F {name}" for name in sorted(files))]
        click.echo("".join(f"{printable(line)}\n" for line in lines), nl=False)


def _there(entry: dict[str, Any] | None, path: str) -> dict[str, Any]:
    if entry is None:
        raise PfsError(Kind.NOT_FOUND, f"{path}: no such file or directory")
    return entry


def make_folder(client: "Pit", entity: str, path: str) -> None:
    """Make a directory, and those above it that are not there."""
    folder, below = place(entity, path)
    if not below:
        raise PfsError(Kind.EXISTS, "only what is below the folder of an entity can be made")
    parts = below.split("/")
    for count in range(1, len(parts) + 1):
        try:
            with about(path):
                client.mkdir(f"{folder}/{'/'.join(parts[:count])}")
        except PfsError as error:
            if error.kind is Kind.NOT_FOUND and count == 1:
                raise missing(parse_place(entity).kind) from None
            if error.kind is not Kind.EXISTS or count == len(parts):
                raise


def delete(client: "Pit", entity: str, path: str) -> None:
    """Remove a file, or a directory with all that is in it."""
    folder, below = place(entity, path)
    if not below:
        raise PfsError(Kind.INVALID, "only what is below the folder of an entity can be deleted")
    entry = _there(entry_of(client, entity, path), path)
    with about(path):
        _delete(client, f"{folder}/{below}", str(entry["type"]))


def _delete(client: "Pit", path: str, kind: str) -> None:
    if kind == "directory":
        for entry in client.list(path):
            _delete(client, f"{path}/{entry['name']}", str(entry["type"]))
    client.remove(path)


# ---- a whole job


def download(client: "Pit", text: str) -> None:
    """Write the files of a job into `job<number>.tar.gz` in the current directory."""
    number = job_number(text)
    name = f"job{number}.tar.gz"
    if os.path.lexists(name):
        raise PfsError(Kind.EXISTS, f'Unable to download: File "{name}" already exists')
    entry_of(client, number, "")
    fd, part = tempfile.mkstemp(dir=".", prefix=f".{name}-")
    try:
        with open(fd, "wb") as file, tarfile.open(fileobj=file, mode="w:gz") as archive:
            for path, entry in _walk(client, f"jobs/{number}"):
                _add(client, archive, f"jobs/{number}", path, entry)
        os.chmod(part, 0o644)
        os.rename(part, name)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _walk(client: "Pit", folder: str, below: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what is in a folder, each directory before what is in it."""
    for entry in client.list(f"{folder}/{below}".rstrip("/")):
        path = f"{below}/{entry['name']}".lstrip("/")
        yield path, entry
        if entry["type"] == "directory":
            yield from _walk(client, folder, path)


def _add(client: "Pit", archive: tarfile.TarFile, folder: str, path: str, entry: dict[str, Any]) -> None:
    """Add a file or a directory; what is neither, or cannot be copied, is left out, and links are told of."""
    info = tarfile.TarInfo(path)
    info.mtime, info.mode = int(entry["mtime_ns"]) // 10**9, int(entry["mode"])
    if entry["type"] == "directory":
        info.type = tarfile.DIRTYPE
        archive.addfile(info)
    elif entry["type"] != "file":
        click.echo(f"left out, since it is no file: {printable(path)}", err=True)
    elif not set(NO_COPIES) & set(entry["flags"]):
        with tempfile.TemporaryFile() as copied:
            _copy_whole(client, f"{folder}/{path}", int(entry["size"]), copied)
            info.size = copied.tell()
            copied.seek(0)
            archive.addfile(info, copied)


def _copy_whole(client: "Pit", path: str, size: int, out: BinaryIO) -> None:
    with Transfer(path, size) as transfer:
        copy(client, path, out, transfer)
