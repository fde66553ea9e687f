"""Ships a folder to the server: what it has already is not sent again, and what arrived stays when the way is cut."""

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from cli.submit.provenance import provenance
from cli.submit.treewalk import READ_BYTES, ChangingFileError, Content, scan, signature_of
from jobd.manifest import TREE, Manifest, Origin, Record, encode_manifest, encode_record, tree_id
from pfs.errors import Kind, PfsError

TREES_URL = "/api/v1/trees"
REQUEST_BYTES = 64 * 1024 * 1024
PIECE_BYTES = 256 * 1024
CHANGES_MAX = 3  # so often is a folder looked at again since something in it changed
TRIES = 6  # without anything new on the server
PAUSE_S = 0.5  # before the second try; doubled for each that follows
# what may go better when it is asked for again
AGAIN = frozenset({Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.STALE, Kind.INVALID, Kind.TOO_MANY})


class Server(Protocol):
    """Whom a tree is shipped to (`pfs.client.web.WebClient`)."""

    def call(self, method: str, url: str, content: bytes | Iterable[bytes]) -> Any: ...


Progress = Callable[[int, int], None]  # is told how many bytes of how many were sent


@dataclass(frozen=True, slots=True)
class Shipped:
    """What is on the server now.

    Attributes:
        src: how a spec names it.
        names: the paths in it.
        sent_bytes: how much of it the server did not have.
    """

    src: str
    origin: Origin | None
    names: frozenset[str]
    files: int
    size_bytes: int
    sent_bytes: int


def ship(
    server: Server,
    folder: Path,
    sleep: Callable[[float], None] = time.sleep,
    *,
    asks_git: bool = True,
    progress: Progress = lambda _done, _size: None,
) -> Shipped:
    """Bring what a job gets of a folder to the server.

    Args:
        asks_git: whether git says what of its work tree counts, and where that comes from.

    Raises:
        PfsError: something in the folder cannot be shipped, the server refuses it or cannot be reached.
    """
    sent = 0
    for _ in range(CHANGES_MAX):
        load = _Load(server, folder, sleep, progress, asks_git=asks_git)
        try:
            load.deliver()
        except ChangingFileError as error:
            changing = error
            continue
        finally:
            sent += load.sent_bytes
        return load.shipped(sent)
    raise changing


def unsent(folder: Path, *, asks_git: bool = True) -> Shipped:
    """Return what `ship` would bring of a folder, without bringing it.

    Raises:
        PfsError: something in the folder cannot be shipped.
    """
    return _Found(folder, asks_git=asks_git).shipped(0)


class _Found:
    """A folder as it was found."""

    def __init__(self, folder: Path, *, asks_git: bool) -> None:
        scanned = scan(folder, asks_git=asks_git)
        self._contents: dict[str, Content | bytes] = dict(scanned.contents)
        self._manifest = Manifest(scanned.entries, self._origin(folder) if asks_git else None)
        self._text = encode_manifest(self._manifest)
        self._id = tree_id(self._text)

    def _origin(self, folder: Path) -> Origin | None:
        found = provenance(folder)
        if found is None or not found.patch:
            return None if found is None else found.origin
        hash_ = hashlib.sha256(found.patch).hexdigest()
        self._contents[hash_] = found.patch
        return replace(found.origin, patch=hash_, patch_bytes=len(found.patch))

    def shipped(self, sent_bytes: int) -> Shipped:
        names = frozenset(entry.path for entry in self._manifest.entries)
        size_bytes = self._manifest.size_bytes()
        return Shipped(f"{TREE}{self._id}", self._manifest.origin, names, len(names), size_bytes, sent_bytes)


class _Load(_Found):
    """A folder on its way."""

    def __init__(
        self, server: Server, folder: Path, sleep: Callable[[float], None], progress: Progress, *, asks_git: bool
    ) -> None:
        super().__init__(folder, asks_git=asks_git)
        self.sent_bytes = 0
        self._progress = progress
        self._done = self._size = 0  # of what the server did not have
        self._server = server
        self._sleep = sleep

    def deliver(self) -> None:
        """Send until nothing is missing; a cut connection, or a server that is being restarted, only takes longer."""
        tries, left = 0, None
        while True:
            tries += 1
            try:
                missing = self._missing()
                now = sum(size - came for size, came in missing.values()), len(missing)
                if left is None or now < left:
                    tries, left = 1, now
                self._size = max(self._size, now[0])
                self._done = self._size - now[0]
                if not missing:
                    return
                if tries > TRIES:
                    raise PfsError(Kind.IO, "the server does not keep what it is sent; its administrator can see why")
                for batch in _batches(missing):
                    self._server.call("POST", f"{TREES_URL}/contents", self._records(batch))
            except PfsError as error:
                if left is None or error.kind not in AGAIN or tries >= TRIES:
                    raise
                self._sleep(PAUSE_S * 2 ** (tries - 1))

    def _missing(self) -> dict[str, tuple[int, int]]:
        """Ask what the server lacks: by hash its size, and how much of it came already."""
        answer = self._server.call("PUT", f"{TREES_URL}/{self._id}", self._text)
        sizes = self._manifest.contents()
        try:
            return {hash_: (sizes[hash_], min(int(came), sizes[hash_])) for hash_, came in answer["missing"].items()}
        except (KeyError, TypeError, ValueError, AttributeError):
            raise PfsError(Kind.UNSUPPORTED, "this server takes no folders; ask for a newer one") from None

    def _records(self, batch: list[tuple[str, int, int]]) -> Iterator[bytes]:
        """Yield the contents of one request, small ones together."""
        buffer = bytearray()
        for hash_, size_bytes, came in batch:
            buffer += encode_record(Record(hash_, came, size_bytes - came, size_bytes))
            for data in self._bytes(hash_, size_bytes, came):
                self.sent_bytes += len(data)
                self._done += len(data)
                self._progress(self._done, self._size)
                buffer += data
                if len(buffer) >= PIECE_BYTES:
                    yield bytes(buffer)
                    buffer.clear()
        if buffer:
            yield bytes(buffer)

    def _bytes(self, hash_: str, size_bytes: int, came: int) -> Iterator[bytes]:
        content = self._contents[hash_]
        if isinstance(content, bytes):
            yield content[came:]
            return
        try:
            file = open(content.path, "rb")  # noqa: SIM115
        except OSError:
            raise ChangingFileError(content.path) from None
        with file:
            if signature_of(os.fstat(file.fileno())) != content.signature:
                raise ChangingFileError(content.path)
            file.seek(came)
            left = size_bytes - came
            while left > 0 and (data := file.read(min(left, READ_BYTES))):
                left -= len(data)
                if left == 0 and signature_of(os.fstat(file.fileno())) != content.signature:
                    break
                yield data
            if signature_of(os.fstat(file.fileno())) != content.signature:
                raise ChangingFileError(content.path)


def _batches(missing: dict[str, tuple[int, int]]) -> Iterator[list[tuple[str, int, int]]]:
    """Yield what is missing in parts that are each one request."""
    batch: list[tuple[str, int, int]] = []
    together = 0
    for hash_, (size_bytes, came) in missing.items():
        if batch and together + size_bytes - came > REQUEST_BYTES:
            yield batch
            batch, together = [], 0
        batch.append((hash_, size_bytes, came))
        together += size_bytes - came
    if batch:
        yield batch
