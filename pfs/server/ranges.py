"""Large files by their paths, over plain HTTP/1.1: as much of one as there is, in one request.

    GET /api/v1/ranges/<path>             with `Range: bytes=a-`: 206 and all bytes from there to the end as of now; 416
                                          without a body when `a` is there or behind it
    PUT /api/v1/ranges/<path>?offset=n    the body, whose length is told, is the file from there on; a file that is not
                                          there is made, what it had behind `n` is gone: 200 and {"size": <bytes>}
    GET /api/v1/sums/<path>?offset=n&size=m&chunk=c     {"sums": […]}: SHA-256 of each chunk of that part

A large file is sent to a name of its own, and gets its true one when it is whole (`pfs.server.folders`, `part`). What
came of a request that was cut stays: whoever goes on asks which chunks are there and right.

As with `pfs.server.bulk`, bytes travel between the socket and the disk inside of threads, as long as they come without
a break; where there is one it is waited for in the event loop, and then a thread goes on.
"""

import hashlib
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from urllib.parse import parse_qs

import h11
import trio
from starlette.requests import Request
from starlette.responses import Response

from pfs.accounts.store import FILE_KINDS, Identity
from pfs.api import Changes, Closing, OpenFile, OpenFlags
from pfs.disk.system import start_writing
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.protocol.wire import RANGES_PATH, SUMS_PATH
from pfs.server.bulk import LineDoor, OnDisk, exactly, number_in, refuse_method, say
from pfs.server.doors import JSON, NOTHING, Asks, Door, Tells, an_object, json_response
from pfs.server.line import LOOP_PIECE_BYTES, PIECE_BYTES, Line
from pfs.server.routes import Gate, acting_as, own_links_followed, path_below, path_of, shown_by

TURN_BYTES = 64 * 1024 * 1024  # are moved by a thread before it is asked whether they still may be
BODY_BYTES_MAX = 1 << 40
CHUNK_BYTES_MAX = 64 * 1024 * 1024
CHUNKS_MAX = 64  # of one request
PART_MODE = 0o600  # until it gets its name


class Ranges(LineDoor):
    """Answers the routes of this module's docstring.

    Args:
        gate: who comes in, and what they may see.
    """

    def __init__(self, gate: Gate) -> None:
        super().__init__(gate.identity, gate.visits.during)
        self._gate = gate

    def routes(self) -> list[Door]:
        """Return the route for checksums; the others are taken over whole."""
        sums = an_object({"sums": {"type": "array", "items": {"type": "string"}}})
        return [
            self._gate.door(
                "GET",
                SUMS_PATH + "/{path:path}",
                self._sums,
                about="checksums of a part of a file",
                body=NOTHING,
                tells=[Tells(200, "SHA-256 of each chunk", JSON, sums)],
                asks=Asks({"offset": "where it begins", "size": "of the part", "chunk": "bytes of each chunk"}),
                kinds=FILE_KINDS,
            )
        ]

    async def serve(self, identity: Identity, request: h11.Request, line: Line, headers: dict[str, str]) -> None:
        """Answer a request for a range."""
        line.proven()
        target, _, query = request.target.decode("ascii").partition("?")
        path, fs = path_of(target, RANGES_PATH), self._gate.files(identity)
        with self._gate.turn(identity), acting_as(identity, line.source, shown_by(headers, line.extensions)):
            if request.method == b"PUT":
                offset = number_in(parse_qs(query).get("offset", [""])[0], "offset")
                await self._take(fs, await own_links_followed(fs, path), offset, _length(headers), line)
            elif request.method == b"GET":
                await self._give(fs, await fs.follow(path), _start(headers.get("range", "bytes=0-")), line)
            else:
                await refuse_method(line)

    async def _take(self, fs: LeasedTree, path: str, offset: int, size: int, line: Line) -> None:
        if not await fs.in_domain(path):
            raise PfsError(Kind.UNSUPPORTED, "files of the server are written whole", path)
        async with _opened(fs, path, OpenFlags.WRITE | OpenFlags.CREATE) as file:
            if file.attr.size < offset:
                raise PfsError(Kind.STALE, f"there are {file.attr.size} bytes of it; go on from there", path)
            if file.attr.size > offset:
                await file.setattr(Changes(size=offset))
            await line.invite()
            done = 0
            while done < size:
                done += await self._in_thread(file, offset + done, min(size - done, TURN_BYTES), line)
                if done < size:
                    data = await line.receive(min(size - done, LOOP_PIECE_BYTES))
                    done += await file.write(offset + done, data)
            await file.flush(Closing.LAST)
        await say(line, HTTPStatus.OK, b'{"size":%d}' % (offset + size))

    async def _in_thread(self, file: OpenFile, offset: int, most: int, line: Line) -> int:
        """Write what comes without a break; return how many bytes."""

        def work(fd: int) -> int:
            done = self.workers.with_memory(lambda memory: line.receive_into_file(fd, offset, memory, most))
            if done >= PIECE_BYTES:
                start_writing(fd, offset, done)
            return done

        if not line.direct or not isinstance(file, OnDisk):
            return 0
        return await file.on_descriptor(work, self.workers, writes=(offset, most)) or 0

    async def _give(self, fs: LeasedTree, path: str, start: int, line: Line) -> None:
        async with _opened(fs, path, OpenFlags.READ) as file:
            size = file.attr.size
            if start >= size:
                headers = [(b"content-range", b"bytes */%d" % size), (b"content-length", b"0")]
                await line.answer(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, headers, b"")
                return
            which = b"bytes %d-%d/%d" % (start, size - 1, size)
            headers = [(b"content-type", b"application/octet-stream"), (b"content-range", which)]
            headers.append((b"content-length", b"%d" % (size - start)))
            await line.send(line.head(HTTPStatus.PARTIAL_CONTENT, headers))
            while start < size:
                start += await self._from_thread(file, start, min(size - start, TURN_BYTES), line)
                if start < size:
                    data = await exactly(file, start, min(size - start, LOOP_PIECE_BYTES))
                    if not data:
                        raise PfsError(Kind.STALE, "the file became shorter while it was read")
                    await line.send(data)
                    start += len(data)
            await line.send(b"")

    async def _from_thread(self, file: OpenFile, start: int, size: int, line: Line) -> int:
        """Send what goes without a break; return how many bytes."""

        def work(fd: int) -> int:
            return line.send_from_file(b"", fd, start, min(size, max(0, os.fstat(fd).st_size - start)))

        if not line.direct or not isinstance(file, OnDisk):
            return 0
        return await file.on_descriptor(work, self.workers, writes=None) or 0

    async def _sums(self, request: Request, identity: Identity) -> Response:
        fs, said = self._gate.files(identity), request.query_params
        offset, size, chunk = (number_in(said.get(name, ""), name) for name in ("offset", "size", "chunk"))
        if not 0 < chunk <= CHUNK_BYTES_MAX or size > CHUNKS_MAX * chunk:
            raise PfsError(Kind.INVALID, f"at most {CHUNKS_MAX} chunks, each of 1 to {CHUNK_BYTES_MAX} bytes")
        async with _opened(fs, await fs.follow(path_below(request, SUMS_PATH)), OpenFlags.READ) as file:
            if not isinstance(file, OnDisk):
                raise PfsError(Kind.UNSUPPORTED, "only ordinary files have checksums")
            sums = []
            for at in range(offset, offset + size, chunk):
                work = partial(_sum, offset=at, size=min(chunk, offset + size - at))
                sums.append(await file.on_descriptor(work, self.workers, writes=None) or "")
        return json_response({"sums": sums})


@asynccontextmanager
async def _opened(fs: LeasedTree, path: str, flags: OpenFlags) -> AsyncIterator[OpenFile]:
    """Hold an ordinary file open."""
    file = await fs.open(path, flags, PART_MODE)
    try:
        if file.attr.stream:
            raise PfsError(Kind.UNSUPPORTED, "a stream has no ranges", path)
        yield file
    finally:
        with trio.CancelScope(shield=True):
            await file.release()


def _sum(fd: int, offset: int, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0 and (data := os.pread(fd, min(size, PIECE_BYTES), offset)):
        digest.update(data)
        offset, size = offset + len(data), size - len(data)
    return digest.hexdigest()


def _length(headers: dict[str, str]) -> int:
    """Return the size of a body, which must be told before it comes."""
    size = number_in(headers.get("content-length", ""), "Content-Length")
    if size > BODY_BYTES_MAX:
        raise PfsError(Kind.TOO_LARGE, f"at most {BODY_BYTES_MAX} bytes are taken at once")
    return size


def _start(header: str) -> int:
    """Return where a Range header begins that asks for all from there on."""
    found = re.fullmatch(r"bytes=([0-9]{1,19})-", header)
    if found is None:
        raise PfsError(Kind.INVALID, "a range without an end is given here: Range: bytes=4096-")
    return int(found[1])
