"""Downloads a folder: in a few requests for all of it, of which only what changed travels.

Each file gets its name when it is whole, and the time of its original; so whoever was stopped runs the same command
again, and only the rest comes. What a server says names nothing outside of the folder, and nothing is written through a
symbolic link: links are made when all else is there.
"""

import errno
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cli.files import large, local, remote
from cli.files.copied import Counter, Done, How, Noted, Progress, Tries, conflict_errors, left_of
from cli.files.plan import Node, nothing, plan
from cli.files.remote import Client
from pfs.errors import Kind, PfsError
from pfs.path import join
from pfs.protocol.parcels import FOLDER, LINK, OTHER, TEXT

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # nothing else can be written either
NO_LINKS = "a symbolic link; links are copied with --preserve-links"


def download(
    client: Client,
    path: str,
    folder: Path,
    how: How | None = None,
    *,
    progress: Progress = lambda _done, _size: None,
    noted: Noted = lambda _path: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Done:
    """Let a folder of this machine, made where it is not there, have all that one of a datacenter has.

    Args:
        path: of that folder, in the tree: home/ann/data.
        progress, noted, sleep: as of `cli.files.upload.upload`.

    Returns:
        What was done; what could not be is in `failed`.

    Raises:
        PfsError: the server cannot be reached, or has no such folder.
        OSError: nothing can be written here.
    """
    done, tries = Done(), Tries(sleep)
    while True:
        try:
            one = _Download(client, path, str(folder), how or How(), done)
            tries.begins(one.left)
            one.run(Counter(done, one.size, progress), noted)
            return done
        except PfsError as error:
            tries.failed(error)


class _Download:
    """One try: both sides as they were found, and what is to be done."""

    def __init__(self, client: Client, path: str, folder: str, how: How, done: Done) -> None:
        self._client = client
        self._path = path
        self._folder = folder
        self._done = done
        top, there = remote.below(client, path)
        if top is None:
            raise PfsError(Kind.NOT_FOUND, "no such file or directory", path)
        if top.kind != FOLDER:
            raise PfsError(Kind.NOT_DIR, "this is no folder", path)
        found = remote.copied(there)
        unwanted = {each: why for each, node in found.items() if (why := _left_out(node, how))}
        self._source = {each: node for each, node in found.items() if each not in unwanted}
        self._target = local.target_of(folder)
        # what is not copied is not removed either
        removable = (lambda each, node: each not in unwanted) if how.deletes else nothing
        self.plan = plan(self._source, self._target, removable, always=how.always, keeps=how.keeps)
        self._large = [each for each in self.plan.files if self._source[each].size >= large.LARGE_BYTES]
        self.size = sum(self._source[each].size for each in self.plan.files)
        self.left = left_of(self.plan), self.size - sum(map(self._part_size, self._large))
        done.left_out, done.kept = tuple(sorted(unwanted.items())), self.plan.kept
        done.found(self.plan.same)
        done.failed = conflict_errors(self.plan.conflicts)

    def _part_size(self, path: str) -> int:
        try:
            return os.lstat(local.part_of(self._here(path))).st_size
        except FileNotFoundError:
            return 0

    def _here(self, path: str) -> str:
        return os.path.join(self._folder, path)

    def run(self, counter: Counter, noted: Noted) -> None:
        """Do what is to be done."""
        os.makedirs(self._folder, exist_ok=True)
        for path in self.plan.cleared:
            self._remove(path)
        for path in self.plan.folders:
            with self._failing(path):
                os.mkdir(self._here(path), self._source[path].mode & 0o777 | 0o700)
        for path in self._large:
            with self._failing(path):
                large.fetch(self._client, join(self._path, path), self._here(path), self._source[path], counter)
                self._copied(path, noted)
        self._fetch_small(counter, noted)
        for path in self.plan.links:
            with self._failing(path):
                local.make_link(self._here(path), self._source[path].target)
                self._done.copied.add(path)
        for path in self.plan.attributes:
            with self._failing(path):
                local.set_attributes(self._here(path), self._source[path])
        for path in self.plan.gone:
            self._remove(path)

    def _fetch_small(self, counter: Counter, noted: Noted) -> None:
        alone = set(self._large)
        small = [each for each in self.plan.files if each not in alone]
        left = {each for each in small if self._source[each].kind != TEXT}
        by_folder = sorted(left, key=lambda each: each.rpartition("/")[::2])
        for path, node, data in remote.fetch(self._client, self._path, by_folder):
            left.remove(path)
            counter.travelled(len(data))
            with self._failing(path):
                local.write_whole(self._here(path), data, node)
                self._copied(path, noted)
        for path in sorted(left | {each for each in small if self._source[each].kind == TEXT}):
            with self._failing(path):  # what it is that keeps it from coming with the others, is told here
                data = self._client.read(join(self._path, path))
                counter.travelled(len(data))
                local.write_whole(self._here(path), data, self._source[path])
                self._copied(path, noted)

    def _copied(self, path: str, noted: Noted) -> None:
        self._done.copied.add(path)
        noted(path)

    def _remove(self, path: str) -> None:
        with self._failing(path):
            local.remove(self._here(path), self._target[path].kind)
            self._done.removed.add(path)

    @contextmanager
    def _failing(self, path: str) -> Iterator[None]:
        """Note what goes wrong with one file; what would go wrong with all of them, or may go better, is raised."""
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise
            why = error.strerror or str(error)
            self._done.failed.append(PfsError(Kind.IO, f"{self._here(path)} cannot be written: {why}"))
        except PfsError as error:
            if error.kind in (Kind.UNREACHABLE, Kind.TIMED_OUT, Kind.TOO_MANY, Kind.UNAUTHENTICATED):
                raise
            self._done.failed.append(PfsError(error.kind, error.message, join(self._path, path)))


def _left_out(node: Node, how: How) -> str:
    """Return why something is not copied; "" where it is."""
    if node.kind == OTHER:
        return "no file, folder or link"
    return NO_LINKS if node.kind == LINK and not how.links else ""
