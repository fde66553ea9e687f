"""Folders of this machine: what is in them, and files that get their name when they are whole."""

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from cli.files.plan import PART_END, Node, is_own
from pfs.errors import Kind, PfsError
from pfs.path import NAME_BYTES_MAX
from pfs.protocol.parcels import FILE, FOLDER, LINK, OTHER

READ_BYTES = 1024 * 1024
MODES = 0o777
UTF8_BYTES_MAX = 4  # of a character


@dataclass(frozen=True, slots=True)
class Scanned:
    """What is in a folder.

    Attributes:
        nodes: by their paths below it.
        left_out: paths that are not copied, with the reason.
    """

    nodes: dict[str, Node]
    left_out: tuple[tuple[str, str], ...]


def scan(folder: str, *, links: bool, names: Iterable[str] | None = None) -> Scanned:
    """Return what is in a folder, or of it what `names` are paths of.

    Args:
        links: symbolic links are what is copied; else the files that they lead to are, and other links left out.

    Raises:
        OSError: the folder cannot be listed.
    """
    found: dict[str, Node] = {}
    left_out: list[tuple[str, str]] = []
    for path, info in _walked(folder) if names is None else _named(folder, names):
        node, why = _node(os.path.join(folder, path), info, links=links)
        if node is None:
            left_out.append((path, why))
        else:
            found[path] = node
    return Scanned(found, tuple(left_out))


def _walked(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    waiting = [""]
    while waiting:
        base = waiting.pop()
        with os.scandir(os.path.join(folder, base)) as entries:
            for entry in entries:
                if is_own(entry.name):
                    continue
                path = f"{base}{entry.name}"
                yield path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{path}/")


def _named(folder: str, names: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield these, and the folders that they are in."""
    seen = set()
    for name in names:
        parts = name.split("/")
        for count in range(1, len(parts) + 1):
            path = "/".join(parts[:count])
            if path not in seen and not is_own(parts[count - 1]):
                seen.add(path)
                yield path, os.lstat(os.path.join(folder, path))


def _node(path: str, info: os.stat_result, *, links: bool) -> tuple[Node | None, str]:
    """Return what stands somewhere, or why it is not copied."""
    if stat.S_ISLNK(info.st_mode) and not links:
        try:
            info = os.stat(path)
        except OSError as error:
            return None, f"a symbolic link that leads nowhere: {error.strerror}"
        if not stat.S_ISREG(info.st_mode):
            return None, "a symbolic link, but not to a file; links are copied with --preserve-links"
    if stat.S_ISLNK(info.st_mode):
        return Node(LINK, target=os.readlink(path)), ""
    if stat.S_ISDIR(info.st_mode):
        return Node(FOLDER, mode=stat.S_IMODE(info.st_mode) & MODES), ""
    if stat.S_ISREG(info.st_mode):
        return node_of(info), ""
    return None, "no file, folder or link"


def node_of(info: os.stat_result) -> Node:
    """Return what is told of a file."""
    return Node(FILE, info.st_size, info.st_mtime_ns, stat.S_IMODE(info.st_mode) & MODES)


def target_of(folder: str) -> dict[str, Node]:
    """Return what is in a folder that is copied to; nothing where there is none."""
    found = {}
    if os.path.isdir(folder):
        for path, info in _walked(folder):
            node, _ = _node(os.path.join(folder, path), info, links=True)
            found[path] = node or Node(OTHER)
    return found


class ChangedError(PfsError):
    """A file that is not as it was a moment ago."""

    def __init__(self, path: str) -> None:
        super().__init__(Kind.BUSY, f"{path} changes while it is read; copy it when it is written")


def read_whole(path: str) -> tuple[bytes, Node]:
    """Return what is in a file, with what is told of it.

    Raises:
        OSError: it cannot be read.
        ChangedError: somebody writes to it.
    """
    with open(path, "rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        data = file.readall()
        after = os.fstat(file.fileno())
    if len(data) != after.st_size or before.st_mtime_ns != after.st_mtime_ns:
        raise ChangedError(path)
    return data, node_of(after)


def part_of(path: str) -> str:
    """Return the name beside a file under which it comes, until it is whole; the same each time."""
    folder, slash, name = path.rpartition("/")
    room = NAME_BYTES_MAX - len(PART_END) - 1
    if len(name) * UTF8_BYTES_MAX > room:
        name = os.fsdecode(os.fsencode(name)[:room])
    return f"{folder}{slash}.{name}{PART_END}"


def write_whole(path: str, data: bytes, node: Node) -> None:
    """Let a file be there, at once."""
    part = part_of(path)
    fd = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, node.mode & MODES)
    try:
        try:
            _write(fd, data)
            os.utime(fd, ns=(node.mtime_ns, node.mtime_ns))
        finally:
            os.close(fd)
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def finish_part(part: str, path: str, node: Node) -> None:
    """Give a part that is whole its name, and its time."""
    os.utime(part, ns=(node.mtime_ns, node.mtime_ns))
    os.replace(part, path)


def set_attributes(path: str, node: Node) -> None:
    """Give a file the mode of its original."""
    os.chmod(path, node.mode & MODES)


def make_link(path: str, target: str) -> None:
    """Let a symbolic link be there, at once."""
    part = part_of(path)
    os.symlink(target, part)
    try:
        os.replace(part, path)
    except BaseException:
        os.unlink(part)
        raise


def remove(path: str, kind: str) -> None:
    """Remove a file or link, or a folder that is empty."""
    if kind == FOLDER:
        os.rmdir(path)
    else:
        os.unlink(path)
