"""Uploads a folder: in a few requests for all of it, of which only what changed travels.

    listing of there ─┐
    listing of here  ─┼─▶ plan ─▶ folders ─▶ large files, each for itself ─▶ all others in one stream ─▶ what is gone
    record           ─┘

Each file gets its name when it is whole. Where the way is cut, it is looked at again what is there, and the rest sent;
so whoever was stopped runs the same command again.
"""

import errno
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from cli.files import large, local, remote
from cli.files.copied import Counter, Done, How, Noted, Progress, Tries, conflict_errors, left_of
from cli.files.plan import Node, Plan, anything, nothing, plan
from cli.files.record import RECORD, Brought, brought, decode, encode, was_brought
from cli.files.remote import Client
from pfs.errors import Kind, PfsError
from pfs.path import join
from pfs.protocol.parcels import FILE, FOLDER, LINK, Parcel, Verb

READ_TRIES = 3
Sent = tuple[Parcel, bytes]


def upload(
    client: Client,
    folder: Path,
    path: str,
    how: How | None = None,
    *,
    names: Iterable[str] | None = None,
    progress: Progress = lambda _done, _size: None,
    noted: Noted = lambda _path: None,
    sleep: Callable[[float], None] = time.sleep,
) -> Done:
    """Let a folder of a datacenter, made where it is not there, have all that one of this machine has.

    Args:
        path: of that folder, in the tree: home/ann/data.
        names: what of the folder is uploaded, as paths below it; None for all.
        progress: is told how many bytes of how many are there.
        noted: is told the path of each file that is sent.
        sleep: waits so many seconds before something is tried again.

    Returns:
        What was done; what could not be is in `failed`.

    Raises:
        PfsError: the server cannot be reached, or refuses the folder as a whole.
        OSError: the folder cannot be read.
    """
    done, tries = Done(), Tries(sleep)
    wanted = None if names is None else list(names)
    while True:
        try:
            one = _Upload(client, str(folder), path, how or How(), names=wanted, done=done)
            tries.begins(one.left)
            one.run(Counter(done, one.size, progress), noted)
            return done
        except PfsError as error:
            tries.failed(error)


class _Upload:
    """One try: both sides as they were found, and what is to be done."""

    def __init__(
        self, client: Client, folder: str, path: str, how: How, *, names: list[str] | None, done: Done
    ) -> None:
        self._client = client
        self._folder = folder
        self._path = path
        self._done = done
        scanned = local.scan(folder, links=how.links, names=names)
        self._source = scanned.nodes
        self._top, self._there = remote.below(client, path)
        if self._top is not None and self._top.kind != FOLDER:
            raise PfsError(Kind.NOT_DIR, "dest should be a directory", path)
        target = remote.copied(self._there)
        self._before = self._record() if how.recorded else None
        self._after = brought(self._source)
        self.plan = self._planned(target, how)
        self._target = target
        self._large = [each for each in self.plan.files if self._source[each].size >= large.LARGE_BYTES]
        self.size = sum(self._source[each].size for each in self.plan.files)
        parts = sum(self._part_size(each) for each in self._large)
        self.left = left_of(self.plan), self.size - parts
        done.left_out, done.kept = scanned.left_out, self.plan.kept
        done.found(self.plan.same)
        done.failed = conflict_errors(self.plan.conflicts)

    def _planned(self, target: dict[str, Node], how: How) -> Plan:
        record = self._before

        def is_brought(path: str, node: Node) -> bool:
            return record is not None and was_brought(record, path, node)

        removable = anything if how.deletes else nothing if record is None else is_brought
        return plan(self._source, target, removable, always=how.always, keeps=how.keeps)

    def _record(self) -> Brought:
        if RECORD not in self._there:
            return frozenset()
        return decode(self._client.read(join(self._path, RECORD)))

    def _part_size(self, path: str) -> int:
        part = self._there.get(local.part_of(path))
        return 0 if part is None or part.kind != FILE else part.size

    def run(self, counter: Counter, noted: Noted) -> None:
        """Do what is to be done."""
        if self._nothing_to_do:
            return
        if self._large:
            self._send(self._first())
            parts = list(self._large_parts(counter, noted))
            self._send([*parts, *self._rest(counter, noted)])
        else:
            self._send(each for some in (self._first(), self._rest(counter, noted)) for each in some)

    @property
    def _nothing_to_do(self) -> bool:
        is_recorded = self._before is None or self._before == self._after
        return self._top is not None and self.plan.nothing_to_do and is_recorded

    def _send(self, parcels: Iterable[Sent]) -> None:
        sent: list[Parcel] = []

        def noting() -> Iterator[Sent]:
            for parcel, data in parcels:
                sent.append(parcel)
                self._done.tried.add(parcel.path)
                yield parcel, data

        refused = {each.path: each for each in remote.send(self._client, self._path, noting())}
        for parcel in sent:
            self._settle(parcel, refused.pop(parcel.path, None) if parcel.path else None)
        self._done.failed += refused.values()  # of the folder itself, or more than are told one by one

    def _settle(self, parcel: Parcel, error: PfsError | None) -> None:
        """Note what has become of a parcel."""
        if error is not None:
            if not (parcel.verb is Verb.GONE and error.kind is Kind.STALE):  # it was changed meanwhile, and may stay
                self._done.failed.append(PfsError(error.kind, error.message, join(self._path, parcel.path)))
        elif parcel.verb in (Verb.FILE, Verb.PART, Verb.LINK) and parcel.path != RECORD:
            self._done.copied.add(parcel.path)
        elif parcel.verb in (Verb.GONE, Verb.GONE_FOLDER):
            self._done.removed.add(parcel.path)

    # ---- parcels

    def _first(self) -> Iterator[Sent]:
        if self._top is None:
            yield Parcel(Verb.FOLDER, ""), b""
        if self._before is not None and (both := self._before | self._after) != self._before:
            yield _file(RECORD, encode(both))
        yield from map(self._gone, self.plan.cleared)
        for path in self.plan.folders:
            yield Parcel(Verb.FOLDER, path), b""

    def _large_parts(self, counter: Counter, noted: Noted) -> Iterator[Sent]:
        for path in self._large:
            part, here = local.part_of(path), os.path.join(self._folder, path)
            there = self._part_size(path)
            try:
                node, _ = large.send(self._client, here, join(self._path, part), there, counter)
            except OSError as error:
                self._failed(here, error)
                continue
            except local.ChangedError as error:
                self._done.failed.append(error)
                continue
            noted(path)
            yield Parcel(Verb.PART, path, node.size, node.mode, node.mtime_ns, part), b""

    def _rest(self, counter: Counter, noted: Noted) -> Iterator[Sent]:
        small = set(self.plan.files) - set(self._large)
        for path in sorted(small, key=lambda each: each.rpartition("/")[::2]):  # those of a folder are made together
            if (sent := self._read(path)) is not None:
                yield sent
                counter.travelled(len(sent[1]))
                noted(path)
        for path in self.plan.links:
            yield Parcel(Verb.LINK, path, target=self._source[path].target), b""
        for path in self.plan.attributes:
            node = self._source[path]
            yield Parcel(Verb.ATTRIBUTES, path, node.size, node.mode, node.mtime_ns), b""
        yield from map(self._gone, self.plan.gone)
        if self._before is not None and self._after != self._before:
            yield _file(RECORD, encode(self._after))

    def _read(self, path: str) -> Sent | None:
        """Return a small file as it is now."""
        here = os.path.join(self._folder, path)
        for tried in range(1, READ_TRIES + 1):
            try:
                data, node = local.read_whole(here)
                if len(data) > large.LARGE_BYTES:
                    raise local.ChangedError(here)
                return Parcel(Verb.FILE, path, len(data), node.mode, node.mtime_ns), data
            except OSError as error:
                self._failed(here, error)
                return None
            except local.ChangedError as error:
                if tried == READ_TRIES:
                    self._done.failed.append(error)
        return None

    def _failed(self, here: str, error: OSError) -> None:
        why = error.strerror or os.strerror(error.errno or errno.EIO)
        self._done.failed.append(PfsError(Kind.IO, f"{here} cannot be read: {why}"))

    def _gone(self, path: str) -> Sent:
        node = self._target[path]
        if node.kind == FOLDER:
            return Parcel(Verb.GONE_FOLDER, path), b""
        return Parcel(Verb.GONE, path, node.size if node.kind != LINK else 0, mtime_ns=node.mtime_ns), b""


def _file(path: str, data: bytes) -> Sent:
    return Parcel(Verb.FILE, path, len(data)), data
