"""Files that a mount has open, in memory and on the disk, and a server that gives and takes their ranges."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import trio
from starlette.applications import Starlette

from pfs.accounts import Identity
from pfs.api import Attr, Changes, Closing, NodeType, XattrCall
from pfs.disk.file import Runner
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.protocol.wire import OPEN_PATH
from pfs.server.bulk import BulkSessions
from pfs.server.guard import Tls
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
        self.changes: list[bool] = []
        self.asked_again = trio.Event()
        self.written = trio.Event()

    async def on_descriptor(self, work: Callable[[int], T], threads: Runner, *, changes: bool) -> T | None:
        self.changes.append(changes)
        done = await threads.run(lambda: work(self.fd), long=True)
        self.written.set()
        return done

    async def read(self, offset: int, size: int, *, wait: bool = True) -> bytes:
        self.asked_again.set()
        return os.pread(self.fd, size, offset)

    async def write(self, offset: int, data: bytes) -> int:
        return os.pwrite(self.fd, data, offset)


HANDLE = 2**62 + 7


@dataclass
class Opened:
    """A server with one session of ann, which holds one file open."""

    server: Served
    sessions: BulkSessions
    file: Held
    secret: str
    asked: list[str] = field(default_factory=list)  # the tokens that were looked up

    @property
    def path(self) -> str:
        return f"/api/v1/open/{self.secret}/{HANDLE}"


@asynccontextmanager
async def opened(file: Held, subject: Subject = ANN, tls: Tls | None = None) -> AsyncIterator[Opened]:
    sessions = BulkSessions()
    secret = sessions.register(subject, {HANDLE: file}.get)
    asked: list[str] = []

    async def proved(headers: dict[str, str]) -> Identity:
        token = headers.get("authorization", "").removeprefix("Bearer ")
        asked.append(token)
        if not token:
            raise PfsError(Kind.UNAUTHENTICATED, "a token is needed")
        return await identify(token)

    async with served(Starlette(), tls=tls, takers={f"{OPEN_PATH}/": sessions.taker(proved)}) as server:
        yield Opened(server, sessions, file, secret, asked)
