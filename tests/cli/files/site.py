"""A small datacenter with all doors for files, and somebody at a terminal who copies."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import trio
from starlette.applications import Starlette

from pfs.client.http11 import Body, Told
from pfs.client.web import WebClient
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedTree
from pfs.leasing.hub import LeaseHub
from pfs.protocol.wire import RANGES_PATH
from pfs.server.folders import Folders
from pfs.server.guard import Tls
from pfs.server.ranges import Ranges
from pfs.server.routes import Gate
from tests.pfs.served import Served, identify, served
from tests.pfs.world import World

T = TypeVar("T")
Work = Callable[["Counted"], T]
DAY_NS = 86_400 * 10**9


class Counted(WebClient):
    """A client that counts what it asks, and whose way can be cut.

    Attributes:
        sent_bytes: of bodies whose length is told: large files.
        came_bytes: of answers that come in pieces.
    """

    def __init__(self, url: str, token: str, ca: str | None = None) -> None:
        super().__init__(url, token, ca)
        self.asked: list[str] = []
        self.cuts: list[str] = []  # the beginnings of questions that are not answered, each once
        self.sent_bytes = self.came_bytes = 0

    def _count(self, method: str, url: str) -> None:
        question = f"{method} {url.partition('?')[0]}"
        self.asked.append(question)
        if self.cuts and question.startswith(self.cuts[0]):
            self.cuts.pop(0)
            raise PfsError(Kind.UNREACHABLE, "the way is cut")

    def call(self, method: str, url: str, content: Body, key: str | None = None) -> Any:
        self._count(method, url)
        if isinstance(content, Told):
            self.sent_bytes += content.size
        return super().call(method, url, content, key)

    @contextmanager
    def answered(  # type: ignore[override]
        self, method: str, url: str, content: Body | None = None, headers: Mapping[str, str] | None = None
    ):
        self._count(method, url)
        with super().answered(method, url, content, headers) as pieces:
            yield map(self._came, pieces)

    def _came(self, piece: bytes) -> bytes:
        self.came_bytes += len(piece)
        return piece


class Site:
    """A server for the tree of `world`."""

    def __init__(self, world: World, tls: Tls | None = None, ca: str | None = None) -> None:
        hub = LeaseHub()
        self.tls, self.ca = tls, ca
        self.gate = Gate(identify, lambda identity: LeasedTree(world.fs(identity.subject), hub), {})
        self.doors = [*self.gate.routes(), *Folders(self.gate).routes(), *Ranges(self.gate).routes()]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Served]:
        taking = {f"{RANGES_PATH}/": Ranges(self.gate)}
        async with served(Starlette(routes=self.doors), tls=self.tls, takers=taking) as server:
            yield server

    def asking(self, run: Callable[..., Any], work: Work[T], token: str = "ann-token") -> T:
        """Run what blocks with a client."""

        async def main() -> T:
            async with self.serving() as server:
                with Counted(server.url, token, self.ca) as client:
                    return await trio.to_thread.run_sync(work, client)

        result: T = run(main)
        return result


def write(folder: Path, files: Mapping[str, bytes | str | None], day: int = 0) -> None:
    """Make files with these bytes, links that lead to these texts, and folders."""
    for path, content in files.items():
        there = folder / path
        if content is None:
            there.mkdir(parents=True, exist_ok=True)
            continue
        there.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            there.symlink_to(content)
        else:
            there.write_bytes(content)
            os.utime(there, ns=(day * DAY_NS, day * DAY_NS))


def read(folder: Path) -> dict[str, bytes | str | None]:
    """Return all that is in a folder, as `write` takes it."""
    found: dict[str, bytes | str | None] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = os.readlink(path)
        else:
            found[name] = None if path.is_dir() else path.read_bytes()
    return found
