"""Where one account's shipped trees are on the disk, and what is there.

manifests/<id>        the list of a tree; its time tells when it was last shipped
blobs/<ab>/<hash>     a content, whole
parts/<hash>          the beginning of one whose connection was cut
coming/<n>            one that arrives just now
"""

import contextlib
import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

from jobd.manifest import Manifest, decode_manifest, tree_id


@dataclass(frozen=True, slots=True)
class TreeFolder:
    """One account's trees; `path` is the folder."""

    path: str

    def manifest(self, id_: str) -> str:
        """Return the file of a tree's list."""
        return os.path.join(self.path, "manifests", id_)

    def blob(self, hash_: str) -> str:
        """Return the file of a content."""
        return os.path.join(self.path, "blobs", hash_[:2], hash_)

    def part(self, hash_: str) -> str:
        """Return the file of the beginning of a content."""
        return os.path.join(self.path, "parts", hash_)

    def coming(self, number: int) -> str:
        """Return a file for what arrives."""
        return os.path.join(self.path, "coming", str(number))

    def make(self) -> None:
        """Make sure that the folders are there."""
        for name in ("manifests", "blobs", "parts", "coming"):
            os.makedirs(os.path.join(self.path, name), mode=0o700, exist_ok=True)

    def read(self, id_: str) -> Manifest | None:
        """Return a tree; None where it is not there, or the disk lost something of its list."""
        try:
            with open(self.manifest(id_), "rb") as file:
                text = file.read()
        except FileNotFoundError:
            return None
        return decode_manifest(text) if tree_id(text) == id_ else None

    def write(self, id_: str, text: bytes, number: int) -> None:
        """Keep the list of a tree."""
        with open(self.coming(number), "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.rename(self.coming(number), self.manifest(id_))

    def missing(self, manifest: Manifest) -> dict[str, int]:
        """Return the contents that a tree lacks, by hash: how many bytes of each came already."""
        return {
            hash_: file_size(self.part(hash_)) or 0
            for hash_, size_bytes in manifest.contents().items()
            if file_size(self.blob(hash_)) != size_bytes
        }

    def keep_part(self, coming: str, hash_: str) -> None:
        """Keep what came of a content for the next try."""
        with contextlib.suppress(FileNotFoundError):
            os.rename(coming, self.part(hash_))

    def keep_blob(self, coming: str, hash_: str) -> None:
        """Give a content its name."""
        try:
            os.rename(coming, self.blob(hash_))
        except FileNotFoundError:
            os.mkdir(os.path.dirname(self.blob(hash_)), 0o700)
            os.rename(coming, self.blob(hash_))

    def ages(self) -> dict[str, float]:
        """Return when each tree was last shipped, in seconds since the epoch, the oldest first."""
        found = {id_: os.stat(self.manifest(id_)).st_mtime for id_ in self._listed("manifests")}
        return dict(sorted(found.items(), key=lambda each: each[1]))

    def contents(self) -> Iterator[str]:
        """Yield the files of all contents, and of the beginnings of some."""
        for folder in (*(f"blobs/{each}" for each in self._listed("blobs")), "parts"):
            for name in self._listed(folder):
                yield os.path.join(self.path, folder, name)

    def size_bytes(self) -> int:
        """Return how much there is."""
        lists = (self.manifest(id_) for id_ in self._listed("manifests"))
        return sum(file_size(path) or 0 for path in itertools.chain(lists, self.contents()))

    def drop_coming(self) -> None:
        """Remove what was on its way."""
        for name in self._listed("coming"):
            os.unlink(os.path.join(self.path, "coming", name))

    def _listed(self, folder: str) -> list[str]:
        try:
            return os.listdir(os.path.join(self.path, folder))
        except FileNotFoundError:
            return []


def file_size(path: str) -> int | None:
    """Return the size of a file; None where there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return None
