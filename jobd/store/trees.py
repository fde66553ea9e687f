"""What people shipped: manifests of trees and their contents by hash, each account's apart from all others'.

    <data root>/server/trees/<user>/    see `jobd.store.treefolder`

A content gets its name only when all of it came and has the hash that it is named by. So what arrived stays, and a
client that asks again sends only the rest. All this is a store beside the homes and counts in no quota: it has a limit
of its own, at which the oldest trees go that no job waits for, and what nobody shipped for `KEPT_S` goes, too.
"""

import contextlib
import hashlib
import itertools
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterator

from jobd.manifest import (
    HEADER_BYTES_MAX,
    Manifest,
    Record,
    ShippedFile,
    ShippedLink,
    check_tree_id,
    decode_manifest,
    decode_record,
    tree_id,
)
from jobd.store.treefolder import TreeFolder, file_size
from pfs.disk.copytree import Piece
from pfs.disk.domains import Disk
from pfs.disk.system import sync_all
from pfs.errors import Kind, PfsError

TREES = "server/trees"
KEPT_S = 14 * 86_400.0
GONE = "~"  # in the name of a folder of an account that is gone, and in no account's
YOUNG_S = 3600.0  # somebody may be shipping it at the moment
ACCOUNT_BYTES_MAX = 20 * 1024**3
READ_BYTES = 1024 * 1024

Live = Callable[[], Collection[tuple[str, str]]]


class TreeStore:
    """All shipped trees of a datacenter.

    Args:
        live: tells which trees jobs wait for, as (user, id).
        clock: seconds since the epoch.
    """

    def __init__(self, disk: Disk, live: Live, clock: Callable[[], float]) -> None:
        self._disk = disk
        self._live = live
        self._clock = clock
        self._root = os.path.join(disk.root, TREES)
        self._lock = threading.Lock()  # between those who look what is there and those who remove
        self._used: dict[str, int] = {}
        self._numbers = itertools.count()

    async def put(self, user: str, id_: str, text: bytes) -> dict[str, int]:
        """Keep the list of a tree; return what is missing of it: how many bytes of each content came already.

        Raises:
            PfsError: INVALID when the text is no list, or not the one of this id; TOO_LARGE; QUOTA; what the disk says.
        """
        if tree_id(text) != check_tree_id(id_):
            raise PfsError(Kind.INVALID, "the list of the tree was damaged on its way; submit again")

        def work() -> dict[str, int]:
            manifest, folder = decode_manifest(text), self._folder(user)
            with self._lock:
                self._make(user)
                if folder.read(id_) is None:
                    self._take_room(user, len(text), frozenset(live))
                    folder.write(id_, text, next(self._numbers))
                self._touch(folder, id_)
                return folder.missing(manifest)

        live = self._live()
        return await self._disk.run(work, long=True)

    def receive(self, user: str) -> "Receiver":
        """Return what takes contents of an account."""
        return Receiver(self, user)

    async def whole(self, user: str, id_: str) -> Manifest:
        """Return a tree of which nothing is missing; from now on it stays for a while.

        Raises:
            PfsError: INVALID when there is no such tree, or when something of it is missing.
        """
        check_tree_id(id_)

        def work() -> Manifest:
            folder = self._folder(user)
            with self._lock:
                manifest = folder.read(id_)
                if manifest is None or folder.missing(manifest):
                    raise PfsError(Kind.INVALID, f"the tree {id_[:12]}… is not on the server (any more); submit again")
                self._touch(folder, id_)
            return manifest

        return await self._disk.run(work, long=True)

    def pieces(self, user: str, manifest: Manifest) -> Iterator[Piece]:
        """Return the nodes of a tree, to be laid out."""
        folder = self._folder(user)
        for entry in manifest.entries:
            if isinstance(entry, ShippedFile):
                yield Piece(entry.path, entry.mode, content=(folder.blob(entry.hash), entry.size_bytes))
            elif isinstance(entry, ShippedLink):
                yield Piece(entry.path, link=entry.target)
            else:
                yield Piece(entry.path, entry.mode)

    async def content(self, user: str, hash_: str) -> bytes:
        """Return a small content, such as a patch.

        Raises:
            PfsError: NOT_FOUND when it is not there.
        """

        def work() -> bytes:
            with open(self._folder(user).blob(hash_), "rb") as file:
                return file.read()

        return await self._disk.run(work)

    async def sweep(self) -> None:
        """Remove what was shipped long ago and no job waits for."""
        live, before_s = frozenset(self._live()), self._clock() - KEPT_S

        def work() -> None:
            with contextlib.suppress(FileNotFoundError):
                for user in os.listdir(self._root):
                    if GONE in user:
                        shutil.rmtree(os.path.join(self._root, user))
                        continue
                    with self._lock:
                        self._collect(user, live, before_s)

        await self._disk.run(work, long=True)

    def recover_now(self) -> None:
        """Remove what was on its way when an earlier server ended."""
        with contextlib.suppress(FileNotFoundError):
            for user in os.listdir(self._root):
                self._folder(user).drop_coming()

    # ---- with the lock held

    def _folder(self, user: str) -> TreeFolder:
        return TreeFolder(os.path.join(self._root, user))

    def _make(self, user: str) -> None:
        """Make sure that an account has a folder; one that is new is somebody else's than one that went."""
        folder = self._folder(user)
        if not os.path.exists(folder.path):
            self._used.pop(user, None)
        folder.make()

    def _touch(self, folder: TreeFolder, id_: str) -> None:
        now_s = self._clock()
        os.utime(folder.manifest(id_), (now_s, now_s))

    def _take_room(self, user: str, size_bytes: int, live: frozenset[tuple[str, str]]) -> None:
        """Count what is about to be kept; the oldest trees make room for it."""
        folder = self._folder(user)
        if user not in self._used:
            self._used[user] = folder.size_bytes()
        if self._used[user] + size_bytes > ACCOUNT_BYTES_MAX:
            young_s = self._clock() - YOUNG_S
            for age_s in sorted(folder.ages().values()):
                if age_s >= young_s or self._used[user] + size_bytes <= ACCOUNT_BYTES_MAX:
                    break
                self._collect(user, live, age_s + 0.001)
        if self._used[user] + size_bytes > ACCOUNT_BYTES_MAX:
            raise PfsError(
                Kind.QUOTA,
                f"the server keeps at most {ACCOUNT_BYTES_MAX >> 30} GiB of what you ship, and jobs wait for that; "
                "copy data into your home once, and read it from there",
            )
        self._used[user] += size_bytes

    def _collect(self, user: str, live: frozenset[tuple[str, str]], before_s: float) -> None:
        """Remove the trees that were last shipped before, and every content that no tree names."""
        folder = self._folder(user)
        for id_, age_s in folder.ages().items():
            if age_s < before_s and (user, id_) not in live:
                os.unlink(folder.manifest(id_))
        named: set[bytes] = set()
        for id_ in folder.ages():
            manifest = folder.read(id_)
            named.update(bytes.fromhex(hash_) for hash_ in (manifest.contents() if manifest is not None else ()))
        for path in folder.contents():
            name = os.path.basename(path)
            if len(name) != 64 or bytes.fromhex(name) not in named:
                os.unlink(path)
        self._used[user] = folder.size_bytes()

    # ---- for a receiver, in its thread

    def _begin(self, user: str, record: Record, live: frozenset[tuple[str, str]]) -> str:
        """Return the file that takes what comes; what came of it before is in it."""
        folder = self._folder(user)
        coming = folder.coming(next(self._numbers))
        with self._lock:
            self._take_room(user, record.length, live)
            if record.offset > 0:
                with contextlib.suppress(FileNotFoundError):
                    os.rename(folder.part(record.hash), coming)
                there = os.path.getsize(coming) if os.path.exists(coming) else 0
                if there != record.offset:
                    folder.keep_part(coming, record.hash)
                    self._used[user] -= record.length
                    raise PfsError(Kind.STALE, f"{there} bytes of a content are here, not {record.offset}; ask again")
        return coming

    def _finish(self, user: str, record: Record, coming: str, hash_: str) -> None:
        """Give a content its name, if it has the right to it."""
        if hash_ != record.hash:
            with self._lock:
                self._used[user] -= os.path.getsize(coming)
                os.unlink(coming)
            raise PfsError(
                Kind.INVALID, f"a content came that is not the one of the hash {record.hash[:12]}…; submit again"
            )
        folder = self._folder(user)
        with self._lock:
            if (there := file_size(folder.blob(record.hash))) is not None:  # another one shipped it meanwhile
                self._used[user] -= there
            folder.keep_blob(coming, record.hash)

    def _give_up(self, user: str, record: Record, coming: str, came: int) -> None:
        """Keep what came of a content whose connection was cut."""
        with self._lock:
            self._used[user] -= record.length - came
            self._folder(user).keep_part(coming, record.hash)


def remove_trees_now(data_root: str, user: str, number: int) -> None:
    """Remove everything that an account shipped, whose number was this.

    It goes under another name first: nobody who has the account's name afterwards finds any of it. What is left there
    when this is cut off is swept.
    """
    theirs = os.path.join(data_root, TREES, user)
    aside = f"{theirs}{GONE}{number}"
    with contextlib.suppress(FileNotFoundError):
        os.rename(theirs, aside)
        shutil.rmtree(aside)


class Receiver:
    """Takes the contents in one request, in pieces of any size."""

    def __init__(self, store: TreeStore, user: str) -> None:
        self.taken = 0
        self._store = store
        self._user = user
        self._live = frozenset(store._live())
        self._line = b""
        self._made = False
        self._record: Record | None = None
        self._coming = ""
        self._file = -1
        self._hash = hashlib.sha256()
        self._left = 0

    async def feed(self, data: bytes) -> None:
        """Take the next bytes.

        Raises:
            PfsError: INVALID for what is no content, or not the one of its hash; STALE when another part of it is
                here; QUOTA; what the disk says. Nothing more may be fed then.
        """
        await self._store._disk.run(lambda: self._feed(memoryview(data)), long=True)

    async def close(self) -> None:
        """Nothing more comes; return when the disk has everything.

        Raises:
            PfsError: INVALID when something was announced and did not come; what came of it is kept.
        """
        cut = self._record is not None or bool(self._line)
        await self.give_up()
        if cut:
            raise PfsError(Kind.INVALID, "the upload was cut; what came is kept")

    async def give_up(self) -> None:
        """Keep what came, whatever was announced."""
        await self._store._disk.run(self._keep, long=True)

    def _keep(self) -> None:
        if self._record is not None:
            record, self._record = self._record, None
            os.close(self._file)
            self._store._give_up(self._user, record, self._coming, record.length - self._left)
        if self.taken > 0:
            sync_all(self._store._root)

    def _feed(self, data: memoryview) -> None:
        while len(data) > 0:
            data = self._announced(data) if self._record is None else self._body(data)

    def _announced(self, data: memoryview) -> memoryview:
        """Take bytes of the line before a content."""
        head, end, _ = bytes(data[:HEADER_BYTES_MAX]).partition(b"\n")
        self._line += head
        if len(self._line) > HEADER_BYTES_MAX:
            decode_record(self._line)
        if not end:
            return data[len(head) :]
        record, self._line = decode_record(self._line), b""
        if not self._made:
            self._store._make(self._user)
            self._made = True
        self._coming = self._store._begin(self._user, record, self._live)
        cut = os.O_TRUNC if record.offset == 0 else 0
        self._file = os.open(self._coming, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | cut, 0o600)
        self._record, self._left = record, record.length
        self._hash = hashlib.sha256()
        while came := os.read(self._file, READ_BYTES):
            self._hash.update(came)
        self._ended_if_whole()
        return data[len(head) + 1 :]

    def _body(self, data: memoryview) -> memoryview:
        own = data[: self._left]
        self._hash.update(own)
        written = 0
        while written < len(own):
            done = os.write(self._file, own[written:])
            written, self._left = written + done, self._left - done
        self._ended_if_whole()
        return data[len(own) :]

    def _ended_if_whole(self) -> None:
        record = self._record
        if record is None or self._left > 0:
            return
        os.close(self._file)
        self._record = None
        if record.offset + record.length < record.size_bytes:
            self._store._give_up(self._user, record, self._coming, record.length)
        else:
            self._store._finish(self._user, record, self._coming, self._hash.hexdigest())
        self.taken += 1
