"""Files as clients of PaddleCloud's file server ask for them: in chunks, of which only those travel that differ.

    GET    /api/v1/pfs/files?method=ls&r=true|false&arg=…     [{"Path", "ModTime" (ns), "Size", "IsDir"}, …]
                             method=stat&path=…               one of these
                             method=md5sum&path=…             {"path", "checksum", "len"} of the whole file
    POST   /api/v1/pfs/files {"method": "mkdir", "path": […]}             [{"path"}, …]
                             {"method": "touch", "path", "filesize"}      {"path"}: a file of that size, empty if new
    DELETE /api/v1/pfs/files {"method": "rm", "r": bool, "path": […]}     the paths that are gone, and
                                             "path": [{"path"}, …] beside them, where the shipped client looks
    GET    /api/v1/pfs/chunks?method=GetChunkMeta&path=…&offset=…&chunksize=…     {"offset", "checksum", "len"}
    GET    /api/v1/pfs/storage/chunks?path=…&offset=…&chunksize=…     multipart/form-data, the field `chunk`
    POST   /api/v1/pfs/storage/chunks     the same as a body; its file name says path, offset and chunksize
    PATCH  /api/v1/pfs/storage/chunks     the same as POST

Who uploads lets the file have its size (`touch`), compares the checksum of each chunk (MD5) with that of their own, and
sends those that differ; who downloads does the same the other way round. So whatever was cut goes on where it was.
Everything is in `{"err", "results"}`; the end of a file is told there and is no error: "this file reaches end".
"""

import hashlib
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any
from urllib.parse import parse_qs, urlencode

import trio
from starlette.requests import Request
from starlette.responses import Response

from pfs.accounts.store import FILE_KINDS, Identity
from pfs.api import Attr, Changes, Closing, NodeType, OpenFile, OpenFlags
from pfs.errors import Kind, PfsError
from pfs.protocol.wire import Json
from pfs.server.bodies import CHUNK_BYTES, framed, text_in, whole_object
from pfs.server.doors import JSON, NOTHING, Asks, Body, Door, Tells, an_object, json_response
from pfs.server.multipart import MEDIA, Part, closing, opening
from pfs.server.reach import Reach
from pfs.server.rest import FILES, NUMBER, TEXT, an_array, field_of, number, results, takes, tells_results
from pfs.server.routes import Gate

FILES_PATH = "/api/v1/pfs/files"
CHUNKS_PATH = "/api/v1/pfs/chunks"
STORAGE_PATH = "/api/v1/pfs/storage/chunks"
CHUNK_BYTES_MAX = 32 * 1024 * 1024
CHUNK_HEAD_BYTES_MAX = 64 * 1024
FILE_BYTES_MAX = 1 << 40
PATHS_MAX = 1000  # of one request
BOUNDARY = "8d7b0e5709d756e21e971ff4d9ac3b20"  # clients take it for granted
END = "this file reaches end"
NO_JSON = "parse json error: "
CHUNK = "chunk"

_STAT = an_object({"Path": TEXT, "ModTime": NUMBER, "Size": NUMBER, "IsDir": {"type": "boolean"}})
_META = an_object({"offset": NUMBER, "checksum": TEXT, "len": NUMBER})
_SUM = an_object({"path": TEXT, "checksum": TEXT, "len": NUMBER})
_WHICH = {"path": "of the file", "offset": "where the chunk begins", "chunksize": f"1 to {CHUNK_BYTES_MAX}"}


class PfsFiles:
    """Answers the routes of this module's docstring.

    Args:
        datacenter: its name, which all paths begin with.
    """

    def __init__(self, gate: Gate, datacenter: str) -> None:
        self._gate = gate
        self._datacenter = datacenter

    def routes(self) -> list[Door]:
        """Return the routes of this module's docstring."""
        methods = {"method": "ls, stat or md5sum", "path": "of stat and md5sum", "arg": "of ls", "r": "true: all below"}
        paths, chunk = {"anyOf": [TEXT, an_array(TEXT)]}, "a chunk of a file"
        made = an_object({"method": TEXT, "path": paths}, {"filesize": NUMBER})
        gone = an_object({"method": TEXT, "path": paths}, {"r": {"type": "boolean"}})
        told = tells_results({"anyOf": [an_array(_STAT), _STAT, _SUM]})
        taken = Body(CHUNK_BYTES_MAX + CHUNK_HEAD_BYTES_MAX, media=(MEDIA,))
        gives = [Tells(200, chunk, MEDIA), Tells(416, END, JSON, an_object({"err": TEXT, "results": {"type": "null"}}))]
        meta = Asks({"method": "GetChunkMeta", **_WHICH})
        named, door = an_object({"path": TEXT}), self._door
        listed, none = tells_results({"anyOf": [an_array(named), named]}), tells_results({"type": "null"})
        removed = tells_results(an_array(TEXT), path=an_array(named))
        return [
            door("GET", FILES_PATH, self._look, "what there is", tells=told, asks=Asks(methods)),
            door("POST", FILES_PATH, self._make, "make folders and files", tells=listed, body=takes(made)),
            door("DELETE", FILES_PATH, self._remove, "remove files", tells=removed, body=takes(gone)),
            door("GET", CHUNKS_PATH, self._meta, "the checksum of a chunk", tells=tells_results(_META), asks=meta),
            door("GET", STORAGE_PATH, self._give, chunk, tells=gives, asks=Asks(_WHICH)),
            *(door(method, STORAGE_PATH, self._take, chunk, tells=none, body=taken) for method in ("POST", "PATCH")),
        ]

    def _door(
        self,
        method: str,
        path: str,
        answer: Any,
        about: str,
        *,
        tells: list[Tells],
        body: Body = NOTHING,
        asks: Asks | None = None,
    ) -> Door:
        async def reaching(request: Request, identity: Identity) -> Response:
            response: Response = await answer(request, Reach(self._gate.files(identity), self._datacenter))
            return response

        tells = [*tells, Tells(405, "there is no such method", JSON, FILES.schema)] if path != STORAGE_PATH else tells
        return self._gate.door(
            method,
            path,
            reaching,
            about=about,
            body=body,
            tells=tells,
            asks=asks,
            kinds=FILE_KINDS,
            face=FILES,
        )

    # ---- what there is

    async def _look(self, request: Request, reach: Reach) -> Response:
        query = request.query_params
        match query.get("method"):
            case "ls":
                return results(await _listed(reach, query.getlist("arg"), deep=query.get("r", "false") == "true"))
            case "stat":
                path = await reach.to_read(_path(query))
                return results(_stat(reach.told(path), await reach.fs.getattr(path)))
            case "md5sum":
                return results(await _checksum(request, reach, _path(query)))
            case other:
                return _no_method(other, "ls, stat and md5sum")

    async def _make(self, request: Request, reach: Reach) -> Response:
        said = await whole_object(request, NO_JSON)
        match said.get("method"):
            case "mkdir":
                paths = [await reach.to_change(path) for path in _paths(said)]
                for path in paths:
                    await reach.make_directory(path)
                return results([{"path": reach.told(path)} for path in paths])
            case "touch":
                path = await reach.to_change(text_in(said, "path"))
                await _touch(reach, path, _file_size(said))
                return results({"path": reach.told(path)})
            case other:
                return _no_method(other, "mkdir and touch")

    async def _remove(self, request: Request, reach: Reach) -> Response:
        said = await whole_object(request, NO_JSON)
        if said.get("method") != "rm":
            return _no_method(said.get("method"), "rm")
        deep = said.get("r", False)
        if not isinstance(deep, bool):
            raise PfsError(Kind.INVALID, "r is true or false")
        gone: list[str] = []
        for said_path in _paths(said):
            for path in await reach.matching(await reach.to_change(said_path)):
                gone += await reach.remove(path, deep=deep)
        told = [reach.told(path) for path in gone]
        return results(told, path=[{"path": each} for each in told])

    # ---- chunks

    async def _meta(self, request: Request, reach: Reach) -> Response:
        query = request.query_params
        if query.get("method") != "GetChunkMeta":
            return _no_method(query.get("method"), "GetChunkMeta")
        offset, size = _range(query)
        file = await _opened(reach, await reach.to_read(_path(query)), OpenFlags.READ)
        try:
            checksum, there = await _md5(file, offset, size)
        finally:
            await _release(file)
        found = {"offset": offset, "checksum": checksum if there else "", "len": there}
        return results(found, "" if there else END)

    async def _give(self, request: Request, reach: Reach) -> Response:
        query = request.query_params
        offset, size = _range(query)
        path = await reach.to_read(_path(query))
        file = await _opened(reach, path, OpenFlags.READ)
        there = min(size, file.attr.size - offset)
        if there <= 0:
            await _release(file)
            return json_response({"err": END, "results": None}, 416)
        name = urlencode({"path": reach.told(path), "offset": offset, "chunksize": there}, errors="surrogateescape")
        media = f"{MEDIA}; boundary={BOUNDARY}"
        before, after = opening(BOUNDARY, Part(CHUNK, name)), closing(BOUNDARY)
        return framed(file, offset, offset + there, before=before, after=after, media=media)

    async def _take(self, request: Request, reach: Reach) -> Response:
        writing: _Writing | None = None
        try:
            async with aclosing(field_of(request, CHUNK)) as body:
                async for each in body:
                    if isinstance(each, Part):
                        writing = await _Writing.begin(reach, each.file_name)
                    elif writing is not None:
                        await writing.take(each)
            if writing is not None:
                await writing.finish()
        finally:
            if writing is not None:
                await _release(writing.file)
        return results(None)


class _Writing:
    """A chunk that comes in."""

    def __init__(self, file: OpenFile, offset: int, size: int) -> None:
        self.file = file
        self._offset = offset
        self._left = size
        self._came = bytearray()

    @classmethod
    async def begin(cls, reach: Reach, file_name: str) -> "_Writing":
        """Open the file that a chunk is for, as its file name says."""
        said = {name: values[0] for name, values in parse_qs(file_name, errors="surrogateescape").items()}
        offset, size = _range(said)
        if offset + size > FILE_BYTES_MAX:
            raise PfsError(Kind.INVALID, f"bad file size: at most {FILE_BYTES_MAX} bytes")
        return cls(await _opened(reach, await reach.to_change(_path(said)), OpenFlags.WRITE), offset, size)

    async def take(self, data: bytes) -> None:
        """Write what came, or keep it for the next time: each time is a change of threads."""
        self._left -= len(data)
        if self._left < 0:
            raise PfsError(Kind.INVALID, "chunksize error: more bytes came than the chunk has")
        self._came += data
        if len(self._came) >= CHUNK_BYTES:
            await self._write()

    async def _write(self) -> None:
        self._offset += await self.file.write(self._offset, bytes(self._came))
        self._came.clear()

    async def finish(self) -> None:
        """Write the rest."""
        if self._left:
            raise PfsError(Kind.INVALID, f"chunksize error: {self._left} bytes of the chunk are missing")
        await self._write()
        await self.file.flush(Closing.LAST)


async def _opened(reach: Reach, path: str, flags: OpenFlags) -> OpenFile:
    """Open an ordinary file, or a text of the server that is not being written any more."""
    file = await reach.fs.open(path, flags, 0)
    if file.attr.stream:
        await _release(file)
        raise PfsError(Kind.UNSUPPORTED, "this is still being written, and has no chunks", path)
    return file


async def _release(file: OpenFile) -> None:
    with trio.CancelScope(shield=True):
        await file.release()


async def _md5(file: OpenFile, offset: int, size: int, request: Request | None = None) -> tuple[str, int]:
    """Return the checksum of a part of a file, and how many bytes of it there are.

    Args:
        request: whose sender may leave before all is read.
    """
    digest, done = hashlib.md5(usedforsecurity=False), 0
    while done < size:
        data = await file.read(offset + done, min(CHUNK_BYTES, size - done))
        if not data or (request is not None and await request.is_disconnected()):
            break
        done += len(data)
        await trio.to_thread.run_sync(digest.update, data)
    return digest.hexdigest(), done


async def _checksum(request: Request, reach: Reach, said: str) -> Json:
    path = await reach.to_read(said)
    file = await _opened(reach, path, OpenFlags.READ)
    try:
        checksum, size = await _md5(file, 0, file.attr.size, request)
    finally:
        await _release(file)
    return {"path": reach.told(path), "checksum": checksum, "len": size}


async def _listed(reach: Reach, said: list[str], *, deep: bool) -> list[Json]:
    if not 0 < len(said) <= PATHS_MAX:
        raise PfsError(Kind.INVALID, f"not enough arguments: say arg=<path>, at most {PATHS_MAX} times")
    found: list[Json] = []
    for each in said:
        for path in await reach.matching(await reach.to_read(each)):
            attr = await reach.fs.getattr(path)
            if attr.type is NodeType.DIRECTORY:
                found += [_stat(reach.told(inner), of) async for inner, of in reach.below(path, deep=deep)]
            else:
                found.append(_stat(reach.told(path), attr))
    return found


async def _touch(reach: Reach, path: str, size: int) -> None:
    """Let a file have a size; one that has it stays as it is, with all that came of it."""
    try:
        there = await reach.fs.getattr(path)
    except PfsError as error:
        if error.kind is not Kind.NOT_FOUND:
            raise
    else:
        if there.type is NodeType.FILE and there.size == size:
            return
    file = await reach.fs.open(path, OpenFlags.WRITE | OpenFlags.CREATE | OpenFlags.TRUNCATE, 0o644)
    try:
        await file.setattr(Changes(size=size))
        await file.flush(Closing.LAST)
    finally:
        await _release(file)


def _stat(path: str, attr: Attr) -> Json:
    is_directory = attr.type is NodeType.DIRECTORY
    return {"Path": path, "ModTime": attr.mtime_ns, "Size": 0 if is_directory else attr.size, "IsDir": is_directory}


def _path(said: Mapping[str, str]) -> str:
    path = said.get("path", "")
    if not path:
        raise PfsError(Kind.INVALID, "not enough arguments: the path is missing")
    return path


def _paths(said: Json) -> list[str]:
    paths = said.get("path")
    paths = [paths] if isinstance(paths, str) else paths
    if not isinstance(paths, list) or not 0 < len(paths) <= PATHS_MAX:
        raise PfsError(Kind.INVALID, f"invalid arguments: path is a list of 1 to {PATHS_MAX} paths")
    return [text_in({"path": path}, "path") for path in paths]


def _range(said: Mapping[str, str]) -> tuple[int, int]:
    """Return offset and size of a chunk."""
    offset = number(said.get("offset", ""), "invalid arguments: offset", 0, FILE_BYTES_MAX)
    return offset, number(said.get("chunksize", ""), "chunksize error: chunksize", 1, CHUNK_BYTES_MAX)


def _file_size(said: Json) -> int:
    size = said.get("filesize")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= FILE_BYTES_MAX:
        raise PfsError(Kind.INVALID, f"bad file size: filesize is a number from 0 to {FILE_BYTES_MAX}")
    return size


def _no_method(said: object, known: str) -> Response:
    error = PfsError(Kind.UNSUPPORTED, f"there is no method {str(said)[:40]!r} here, but {known}")
    return json_response(FILES.refusal(error, 405), 405)
