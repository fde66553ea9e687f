"""Whole folders in one request: what is below a path, many files in, and many files out (`pfs.protocol.parcels`).

    GET  /api/v1/below/<path>       a line for the path itself and each thing below it (?deep=0: for itself alone)
    POST /api/v1/below/<path>       parcels: files, folders, links, and what is to go;
                                    {"taken", "refused", "failed": [error, …]}
    POST /api/v1/contents/<path>    {"names": [path below, …]} → parcels with these files; those are left out that are
                                    too large, are being written, or cannot be read: whoever opens one is told why

Each file gets its name when it is whole. One parcel that is refused does not keep the later ones from being taken; what
came of a request that was cut stays.
"""

import itertools
import secrets
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, suppress
from functools import partial
from typing import Any, TypeVar

import trio
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse

from pfs.accounts.store import FILE_KINDS, Identity
from pfs.api import Attr, Changes, Content, NodeType, RenameMode
from pfs.disk.whole import PART, NewFile
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.path import join, parent_and_name, split
from pfs.protocol import parcels
from pfs.protocol.parcels import PARCEL_BYTES_MAX, Parcel, Row, Unpacker, Verb, pack, pack_row
from pfs.protocol.wire import BELOW_PATH, CONTENTS_PATH, encode_error
from pfs.server.bodies import HARMLESS, body_of, whole_object
from pfs.server.doors import BYTES, JSON, NOTHING, Asks, Body, Door, Tells, an_object, json_response
from pfs.server.reach import Reach
from pfs.server.routes import Gate, path_below

LINES = "application/x-ndjson"
PARCELS_BYTES_MAX = 1 << 40
NAMES_BYTES_MAX = 1024 * 1024
PIECE_BYTES = 64 * 1024
FAILED_MAX = 100  # are told of one request
NAMES_AT_ONCE = 256
FILES_AT_ONCE = 128  # of one folder, in one change of threads
BYTES_AT_ONCE = 8 * 1024 * 1024

T = TypeVar("T")
_KINDS = {NodeType.DIRECTORY: parcels.FOLDER, NodeType.FILE: parcels.FILE, NodeType.SYMLINK: parcels.LINK}


class Folders:
    """Answers the routes of this module's docstring."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        door = partial(self._gate.door, kinds=FILE_KINDS)
        below, contents = BELOW_PATH + "/{path:path}", CONTENTS_PATH + "/{path:path}"
        texts = {"type": "array", "items": {"type": "string"}}
        error = an_object({"kind": {"type": "string"}, "message": {"type": "string"}, "path": {"type": "string"}})
        counts = {name: {"type": "integer"} for name in ("taken", "refused")}
        taken = an_object({**counts, "failed": {"type": "array", "items": error}})
        names = Body(NAMES_BYTES_MAX, an_object({"names": texts}))
        return [
            door(
                "GET",
                below,
                self._look,
                about="what there is, and all below",
                body=NOTHING,
                tells=[Tells(200, "a line each", LINES)],
                asks=Asks({"deep": "0: the path itself alone"}),
            ),
            door(
                "POST",
                below,
                self._take,
                about="files, folders and links in one stream",
                body=Body(PARCELS_BYTES_MAX),
                tells=[Tells(200, "how many parcels came, and what of them was refused", JSON, taken)],
            ),
            door("POST", contents, self._give, about="many files", body=names, tells=[Tells(200, "parcels", BYTES)]),
        ]

    async def _look(self, request: Request, identity: Identity) -> Response:
        fs = self._gate.files(identity)
        path = await fs.follow(path_below(request, BELOW_PATH))
        top = await _row(fs, path, "", await fs.getattr(path))
        goes_on = top.kind == parcels.FOLDER and request.query_params.get("deep") != "0"
        return _Stream(_listing(fs, path, top, goes_on=goes_on), LINES)

    async def _take(self, request: Request, identity: Identity) -> Response:
        fs = self._gate.files(identity)
        path = await fs.follow(path_below(request, BELOW_PATH))
        unpacker, taking = Unpacker(), _Taking(fs, path)
        try:
            async with aclosing(body_of(request)) as body:
                async for piece in body:
                    for parcel, data in unpacker.feed(piece):
                        await taking.take(parcel, data)
        except ClientDisconnect:  # what came stays
            await taking.settle()
            raise
        await taking.settle()
        unpacker.end()
        return json_response({"taken": taking.taken, "refused": taking.refused, "failed": taking.failed})

    async def _give(self, request: Request, identity: Identity) -> Response:
        fs = self._gate.files(identity)
        path = await fs.follow(path_below(request, CONTENTS_PATH))
        names = (await whole_object(request)).get("names")
        if not isinstance(names, list) or not all(isinstance(name, str) and split(name) for name in names):
            raise PfsError(Kind.INVALID, "names is a list of paths")
        await fs.getattr(path)
        return _Stream(_contents(fs, path, names), BYTES)


class _Stream(StreamingResponse):
    """What is sent as it is made; cut short of its end where that fails."""

    def __init__(self, pieces: AsyncGenerator[bytes, None], media: str) -> None:
        self._pieces = pieces
        super().__init__(pieces, 200, {**HARMLESS, "content-type": media})

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async with aclosing(self._pieces):
            await super().__call__(scope, receive, send)


# ---- looking


async def _listing(fs: LeasedTree, path: str, top: Row, *, goes_on: bool) -> AsyncGenerator[bytes, None]:
    lines = [pack_row(top)]
    waiting = [""] if goes_on else []
    while waiting:
        folder = waiting.pop()
        try:
            entries = await fs.listdir(join(path, folder) if folder else path)
        except PfsError as error:
            if error.kind not in (Kind.NOT_FOUND, Kind.NOT_DIR):  # it went while we were looking
                raise
            continue
        inner = []
        for entry in sorted(entries, key=lambda entry: entry.name):
            below = join(folder, entry.name)
            with suppress(PfsError):  # a link that went
                lines.append(pack_row(await _row(fs, join(path, below), below, entry.attr)))
            if entry.attr.type is NodeType.DIRECTORY:
                inner.append(below)
        waiting += reversed(inner)
        if sum(map(len, lines)) >= PIECE_BYTES:
            yield b"".join(lines)
            lines.clear()
    yield b"".join(lines)


async def _row(fs: LeasedTree, path: str, below: str, attr: Attr) -> Row:
    kind = _KINDS.get(attr.type, parcels.OTHER)
    if kind == parcels.FILE and (attr.volatile or attr.stream or attr.settled):
        kind = parcels.TEXT
    target = await fs.readlink(path) if kind == parcels.LINK else ""
    return Row(below, kind, attr.size, attr.mtime_ns, attr.mode, target)


# ---- taking


class _Taking:
    """Parcels that are made true below a path, one after the other; small files of one folder together.

    Attributes:
        taken, refused: how many came, and were refused.
        failed: the first of these.
    """

    def __init__(self, fs: LeasedTree, path: str) -> None:
        self.taken = self.refused = 0
        self.failed: list[dict[str, Any]] = []
        self._fs = fs
        self._path = path
        self._folder = ""
        self._files: list[NewFile] = []  # of that folder, not made yet
        self._bytes = 0

    async def take(self, parcel: Parcel, data: bytes) -> None:
        """Take one; what is refused is noted."""
        self.taken += 1
        folder, _, name = parcel.path.rpartition("/")
        if parcel.verb is not Verb.FILE:
            await self.settle()
            await self._noting([parcel.path], self._make(parcel))
            return
        if folder != self._folder or len(self._files) >= FILES_AT_ONCE or self._bytes + len(data) > BYTES_AT_ONCE:
            await self.settle()
        self._folder = folder
        self._files.append(NewFile(name, data, parcel.mode, parcel.mtime_ns))
        self._bytes += len(data)

    async def settle(self) -> None:
        """Make the files that wait for others."""
        if self._files:
            folder, files, self._files, self._bytes = self._folder, self._files, [], 0
            paths = [join(folder, file.name) for file in files]
            await self._noting(paths, self._put(folder, files))

    async def _put(self, folder: str, files: Sequence[NewFile]) -> list[PfsError | None]:
        return await self._fs.put_files(self._below(folder), files)

    async def _noting(self, paths: Sequence[str], making: Awaitable[Sequence[PfsError | None] | None]) -> None:
        try:
            errors = await making or ()
        except PfsError as error:
            errors = [error] * len(paths)
        for path, each in zip(paths, errors, strict=False):
            if each is not None:
                self.refused += 1
                if len(self.failed) < FAILED_MAX:
                    self.failed.append({**encode_error(each), "path": path})

    async def _make(self, parcel: Parcel) -> None:
        fs, path = self._fs, self._below(parcel.path)
        match parcel.verb:
            case Verb.FOLDER:
                await Reach(fs, "").make_directory(path)
            case Verb.LINK:
                await self._link(path, parcel.target)
            case Verb.PART:
                part = self._below(parcel.target)
                if (await fs.getattr(part)).size != parcel.size:
                    raise PfsError(Kind.STALE, "not all of it came", parcel.path)
                await fs.setattr(part, Changes(mode=parcel.mode, mtime_ns=parcel.mtime_ns))
                await fs.rename(part, path, RenameMode.REPLACE)
            case Verb.ATTRIBUTES:
                await fs.setattr(path, Changes(mode=parcel.mode, mtime_ns=parcel.mtime_ns))
            case Verb.GONE:
                await self._remove(path, parcel)
            case Verb.GONE_FOLDER:
                await _unless(fs.rmdir(path), Kind.NOT_FOUND, Kind.NOT_EMPTY)

    def _below(self, path: str) -> str:
        return join(self._path, "/".join(split(path))) if path else self._path

    async def _link(self, path: str, target: str) -> None:
        """Make a link beside a path, and give it that name."""
        parent, _ = parent_and_name(path)
        part = join(parent, f"{PART}{secrets.token_hex(8)}")
        await self._fs.symlink(part, target)
        try:
            await self._fs.rename(part, path, RenameMode.REPLACE)
        except BaseException:
            with trio.CancelScope(shield=True), suppress(PfsError):  # what went wrong first is what counts
                await self._fs.unlink(part)
            raise

    async def _remove(self, path: str, parcel: Parcel) -> None:
        there = await _unless(self._fs.getattr(path), Kind.NOT_FOUND, Kind.NOT_DIR)
        if there is None:
            return
        if there.type is NodeType.FILE and (there.size, there.mtime_ns) != (parcel.size, parcel.mtime_ns):
            raise PfsError(Kind.STALE, "it was changed meanwhile, and stays", parcel.path)
        await _unless(self._fs.unlink(path), Kind.NOT_FOUND)


async def _unless(asked: Awaitable[T], *kinds: Kind) -> T | None:
    """Return what is asked for, None where it fails with one of these kinds."""
    try:
        return await asked
    except PfsError as error:
        if error.kind not in kinds:
            raise
        return None


# ---- giving


async def _contents(fs: LeasedTree, path: str, names: Sequence[str]) -> AsyncGenerator[bytes, None]:
    for folder, group in itertools.groupby(names, lambda name: name.rpartition("/")[0]):
        left = [name.rpartition("/")[2] for name in group]
        while left:
            found = await _read(fs, join(path, folder) if folder else path, left[:NAMES_AT_ONCE])
            yield b"".join(_packed(folder, each) for each in found)
            # what is left out behind the last one that came may be so for want of room
            settled = left.index(found[-1].name) + 1 if found else NAMES_AT_ONCE
            left = left[settled:]


async def _read(fs: LeasedTree, folder: str, names: Sequence[str]) -> Sequence[Content]:
    try:
        return await fs.contents(folder, names, PARCEL_BYTES_MAX)
    except PfsError:  # whoever opens one of them is told why
        return ()


def _packed(folder: str, file: Content) -> bytes:
    attr = file.attr
    return pack(Parcel(Verb.FILE, join(folder, file.name), len(file.data), attr.mode, attr.mtime_ns), file.data)
