"""What a client ships: the list of a folder's files by the hashes of their contents, and how contents travel.

A *manifest* names every file, link and directory of a tree, and where the tree came from. It is text of one form, a
line of JSON for each of them, so that its own hash is the tree's id: the same folder, shipped again, is the same tree.
Contents travel in *records*, each a line and the bytes that it announces, one behind the other, as many as there are
in one request.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pfs.errors import Kind, PfsError
from pfs.path import check_target, split

TREE = "tree:"
FILES_MAX = 100_000
SIZE_BYTES_MAX = 10 * 1024**3
MANIFEST_BYTES_MAX = 32 * 1024**2
LINE_BYTES_MAX = 64 * 1024
PATCH_BYTES_MAX = 4 * 1024**2
DEPTH_MAX = 128
HEADER_BYTES_MAX = 160
_HASH = re.compile(r"[0-9a-f]{64}")
_HEADER = re.compile(rb"([0-9a-f]{64}) ([0-9]{1,15}) ([0-9]{1,15}) ([0-9]{1,15})")
_TEXT_MAX = 1000


@dataclass(frozen=True, slots=True)
class ShippedFile:
    """A file: `hash` is the SHA-256 of its content, in hex."""

    path: str
    mode: int
    size_bytes: int
    hash: str


@dataclass(frozen=True, slots=True)
class ShippedLink:
    """A symbolic link."""

    path: str
    target: str


@dataclass(frozen=True, slots=True)
class ShippedFolder:
    """A directory in which nothing is; the others follow from what is in them."""

    path: str
    mode: int


Shipped = ShippedFile | ShippedLink | ShippedFolder


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a tree came from, as version control knows it.

    Attributes:
        remote, url: the remote's name and its push address, without credentials; "" where there is none.
        hash: the commit that the remote has; the last one here where there is no remote.
        diff_lines: how many lines the difference between that commit and the tree has.
        patch, patch_bytes: hash and size of that difference as a content; "" and 0 without one.
    """

    remote: str = ""
    url: str = ""
    hash: str = ""
    diff_lines: int = 0
    patch: str = ""
    patch_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Manifest:
    """A whole tree; its entries are sorted by their paths."""

    entries: tuple[Shipped, ...]
    origin: Origin | None = None

    def contents(self) -> dict[str, int]:
        """Return the size of every content that the tree needs, by its hash."""
        needed = {entry.hash: entry.size_bytes for entry in self.entries if isinstance(entry, ShippedFile)}
        if self.origin is not None and self.origin.patch:
            needed[self.origin.patch] = self.origin.patch_bytes
        return needed

    def size_bytes(self) -> int:
        """Return how much all its files hold."""
        return sum(entry.size_bytes for entry in self.entries if isinstance(entry, ShippedFile))


def tree_id(text: bytes) -> str:
    """Return the id of the tree whose manifest is `text`."""
    return hashlib.sha256(text).hexdigest()


def tree_of(src: str | None) -> str | None:
    """Return the id that the `src` of a job names; None where it names no shipped tree."""
    return src.removeprefix(TREE) if src is not None and src.startswith(TREE) else None


def check_tree_id(text: str) -> str:
    """Return `text` if it can be a tree's id.

    Raises:
        PfsError: INVALID when it cannot.
    """
    if not _HASH.fullmatch(text):
        raise PfsError(Kind.INVALID, f"{text[:80]!r} is no id of a shipped tree; submit with paddle or pit")
    return text


# ---- the manifest as text


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the text of a manifest, always the same for the same one. Names that are no UTF-8 come through."""
    origin = None if manifest.origin is None else asdict(manifest.origin)
    lines = [origin, *(_encode_entry(entry) for entry in manifest.entries)]
    return b"".join(json.dumps(line, separators=(",", ":"), sort_keys=True).encode() + b"\n" for line in lines)


def _encode_entry(entry: Shipped) -> list[Any]:
    match entry:
        case ShippedFile(path, mode, size_bytes, hash_):
            return ["f", path, mode, size_bytes, hash_]
        case ShippedLink(path, target):
            return ["l", path, target]
        case ShippedFolder(path, mode):
            return ["d", path, mode]


def decode_manifest(text: bytes) -> Manifest:
    """Return the tree that `text` describes.

    Raises:
        PfsError: INVALID when it describes none, TOO_LARGE when it is more than one may ship.
    """
    if len(text) > MANIFEST_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"the list of the tree has more than {MANIFEST_BYTES_MAX >> 20} MiB")
    check_amount(text.count(b"\n") - 1, 0)
    try:
        origin_line, *lines = (_line(line) for line in text.removesuffix(b"\n").split(b"\n"))
        entries = tuple(_entry(line) for line in lines)
        origin = None if origin_line is None else _origin(origin_line)
    except (ValueError, KeyError, TypeError, RecursionError):
        raise PfsError(Kind.INVALID, "this is no list of a tree; update the program that ships it") from None
    _check_paths(entries)
    manifest = Manifest(entries, origin)
    check_amount(len(entries), manifest.size_bytes())
    return manifest


def check_amount(files: int, size_bytes: int) -> None:
    """Refuse a tree that is more than one may ship.

    Raises:
        PfsError: TOO_LARGE, with the limits and what to do.
    """
    if files > FILES_MAX or size_bytes > SIZE_BYTES_MAX:
        raise PfsError(
            Kind.TOO_LARGE,
            f"the folder has {files:,} files and {size_bytes:,} bytes, of {FILES_MAX:,} and {SIZE_BYTES_MAX >> 30} GiB "
            "that can be shipped; name in .pitignore what the job does not need, and keep data in your home",
        )


def _line(line: bytes) -> Any:
    if len(line) > LINE_BYTES_MAX:
        raise ValueError("no entry is so long")
    return json.loads(line)


def _entry(value: Any) -> Shipped:
    match value:
        case ["f", str(path), int(mode), int(size_bytes), str(hash_)] if _HASH.fullmatch(hash_) and size_bytes >= 0:
            return ShippedFile(path, _mode(mode), size_bytes, hash_)
        case ["l", str(path), str(target)]:
            return ShippedLink(path, check_target(target))
        case ["d", str(path), int(mode)]:
            return ShippedFolder(path, _mode(mode))
    raise ValueError("no entry")


def _mode(mode: int) -> int:
    if mode != mode & 0o777:
        raise ValueError("no mode")
    return mode


def _origin(value: dict[str, Any]) -> Origin:
    origin = Origin(**value)
    texts = (origin.remote, origin.url, origin.hash, origin.patch)
    if not all(isinstance(text, str) and len(text) <= _TEXT_MAX for text in texts):
        raise ValueError("no origin")
    if not isinstance(origin.diff_lines, int) or not isinstance(origin.patch_bytes, int):
        raise ValueError("no origin")
    if origin.patch and (not _HASH.fullmatch(origin.patch) or not 0 <= origin.patch_bytes <= PATCH_BYTES_MAX):
        raise ValueError("no patch")
    return origin


def _check_paths(entries: Sequence[Shipped]) -> None:
    """Refuse paths out of order, twice, below something that is no directory, or that cannot be."""
    leaves: set[str] = set()
    before = ""
    for entry in entries:
        parts = split(entry.path)
        if not parts or entry.path <= before or len(parts) > DEPTH_MAX:
            raise PfsError(
                Kind.INVALID, f"the tree's list cannot hold {entry.path[:200]!r} where it stands, or so deep"
            )
        if any(parent in leaves for parent in _parents(entry.path)):
            raise PfsError(Kind.INVALID, f"{entry.path[:200]!r} lies below what is no directory")
        if not isinstance(entry, ShippedFolder):
            leaves.add(entry.path)
        before = entry.path


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


# ---- contents on their way


@dataclass(frozen=True, slots=True)
class Record:
    """What the line before some bytes says: of which content, from where on, how many, and how many it has in all."""

    hash: str
    offset: int
    length: int
    size_bytes: int


def encode_record(record: Record) -> bytes:
    """Return the line of a record."""
    return f"{record.hash} {record.offset} {record.length} {record.size_bytes}\n".encode()


def decode_record(line: bytes) -> Record:
    """Return what a line, without its end, says.

    Raises:
        PfsError: INVALID when it says nothing, or what cannot be.
    """
    found = _HEADER.fullmatch(line)
    if found is None:
        raise PfsError(Kind.INVALID, "a content begins with a line: its hash, the offset, the length and its size")
    offset, length, size_bytes = (int(word) for word in found.groups()[1:])
    if offset + length > size_bytes or size_bytes > SIZE_BYTES_MAX:
        raise PfsError(Kind.INVALID, f"a content of {size_bytes} bytes has none from {offset} to {offset + length}")
    return Record(found.group(1).decode(), offset, length, size_bytes)
