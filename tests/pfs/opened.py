"""Files that a mount has open, in memory and on the disk, and a server that gives and takes their ranges."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import trio
from starlette.applications import Starlette

from pfs.accounts.store import Identity
from pfs.api import Attr, Changes, Closing, NodeType, XattrCall
from pfs.disk.file import Runner
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.protocol.wire import OPEN_PATH
from pfs.server.bulk import BulkSessions
from pfs.server.guard import Tls
from pfs.server.routes import shown_by
from pfs.server.visits import Visits
from tests.pfs.served import Served, identify, served
from tests.pfs.world import ANN

T = TypeVar("T")


class Held:
    """An open file in memory; what happens at a reading can be changed."""

    def __init__(self, content: bytes = b"", *, stream: bool = False) -> None:
        self.content = bytearray(content)
        self.stream = stream
        self.most = 1 << 30  # what one reading gives
        self.refusal: PfsError | None = None
        self.before_read: Callable[[int], None] = lambda offset: None
        self.held_up: trio.Event | None = None
        self.reading = 0
        self.reading_most = 0

    @property
    def attr(self) -> Attr:
        return Attr(NodeType.FILE, 1, 0o644, size=len(self.content), stream=self.stream)

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        self.before_read(offset)
        self.reading += 1
        self.reading_most = max(self.reading_most, self.reading)
        try:
            if self.held_up is not None:
                await self.held_up.wait()
        finally:
            self.reading -= 1
        if self.refusal is not None:
            raise self.refusal
        return bytes(self.content[offset : offset + min(size, self.most)])

    async def write(self, offset: int, data: bytes) -> int:
        if self.refusal is not None:
            raise self.refusal
        self.content.extend(bytes(max(0, offset - len(self.content))))
        self.content[offset : offset + len(data)] = data
        return len(data)

    async def getattr(self) -> Attr:
        return self.attr

    async def setattr(self, changes: Changes) -> Attr:
        raise NotImplementedError

    async def xattr(self, call: XattrCall) -> bytes:
        raise NotImplementedError

    async def flush(self, closing: Closing) -> None:
        raise NotImplementedError

    async def fsync(self) -> None:
        raise NotImplementedError

    async def release(self) -> None:
        raise NotImplementedError


class Stored(Held):
    """An open file of the disk, as a data domain has them: its bytes travel in threads."""

    def __init__(self, path: Path, content: bytes = b"") -> None:
        super().__init__()
        path.write_bytes(content)
        self.path = path
        self.fd = os.open(path, os.O_RDWR)
        self.writes: list[tuple[int, int] | None] = []
        self.asked_again = trio.Event()
        self.written = trio.Event()

    async def on_descriptor(
        self, work: Callable[[int], T], threads: Runner, *, writes: tuple[int, int] | None
    ) -> T | None:
        self.writes.append(writes)
        done = await threads.run(lambda: work(self.fd), long=True)
        self.written.set()
        return done

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        self.asked_again.set()
        return os.pread(self.fd, size, offset)

    async def write(self, offset: int, data: bytes) -> int:
        return os.pwrite(self.fd, data, offset)


HANDLE = 2**62 + 7
HEAD = "{} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ann-token\r\n"
HANG_S = 60


@dataclass
class Opened:
    """A server with one session of ann, which holds one file open."""

    server: Served
    sessions: BulkSessions
    file: Held
    secret: str
    visits: Visits
    _taken_back: set[str]

    async def take_back(self, token: str) -> None:
        self._taken_back.add(token)
        await self.visits.look_again()

    @property
    def path(self) -> str:
        return f"/api/v1/open/{self.secret}/{HANDLE}"


@asynccontextmanager
async def opened(file: Held, subject: Subject = ANN, tls: Tls | None = None) -> AsyncIterator[Opened]:
    sessions = BulkSessions()
    secret = sessions.register(subject, {HANDLE: file}.get)
    taken_back: set[str] = set()

    async def known(token: str) -> Identity:
        if token in taken_back:
            raise PfsError(Kind.UNAUTHENTICATED, "this token was taken back")
        return await identify(token)

    async def proved(headers: dict[str, str], extensions: dict[str, Any]) -> Identity:
        return await known(shown_by(headers, extensions))

    visits = Visits(known, lambda: None)
    taker = sessions.taker(proved, visits.during)
    async with served(Starlette(), tls=tls, takers={f"{OPEN_PATH}/": taker}) as server:
        yield Opened(server, sessions, file, secret, visits, taken_back)


async def taken_slowly(there: Opened, stream: trio.abc.Stream, size: int) -> bytes:
    """Take a range only when the server has found no more room for it; return the body."""
    assert isinstance(there.file, Stored)
    head = HEAD.format(f"GET {there.path}")
    await stream.send_all(f"{head}range: bytes=0-{size - 1}\r\n\r\n".encode())
    with trio.fail_after(HANG_S):
        await there.file.asked_again.wait()  # what is left goes through the event loop
        return b"".join([bytes(part) async for part in stream]).partition(b"\r\n\r\n")[2]


async def sent_in_parts(there: Opened, stream: trio.abc.Stream, data: bytes) -> bytes:
    """Send bytes for offset 5 in two parts, the second when the first is written; return the answer."""
    assert isinstance(there.file, Stored)
    head = HEAD.format(f"PUT {there.path}?offset=5")
    await stream.send_all(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data[:99])
    with trio.fail_after(HANG_S):
        await there.file.written.wait()
        await stream.send_all(data[99:])
        return b"".join([bytes(part) async for part in stream])
