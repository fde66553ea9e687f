"""A stand-in for the kernel: walks paths through the operations of a mount and counts its lookups."""

import os
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fuseclient.kernel.identity import Identity, Ids
from fuseclient.kernel.inodes import ROOT, Node
from fuseclient.kernel.ops import Ops
from pfs.api import Owner
from pfs.path import split
from tests.memoryfs import MemoryFileSystem

READ, WRITE, READ_WRITE, MAKE = os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDWR | os.O_CREAT
MOUNTER, MAKER = Owner(1000, 1001), Owner(2000, 2001)


class Kernel:
    """The operations over one or two file systems in memory, used as the kernel uses them."""

    def __init__(self, ids: Ids = Ids.SQUASHED) -> None:
        self.fs, self.fs2 = (MemoryFileSystem(commits=lambda path: path.startswith("drops/")) for _ in range(2))
        self.ops = Ops({"dc1": self.fs, "dc2": self.fs2}, Identity(ids, MOUNTER))
        self.files = self.ops.files
        self.lookups: Counter[int] = Counter()
        self.pid = os.getpid()

    async def walk(self, path: str) -> Node:
        """Look up every part of the path, from the root of the mount."""
        node = await self.ops.getattr(ROOT)
        for name in split(path):
            node = await self.ops.lookup(node.number, name)
            self.lookups[node.number] += 1
        return node

    async def open(self, path: str, flags: int = READ) -> int:
        """Look a path up and open it; return the handle."""
        return (await self.files.open((await self.walk(path)).number, flags, self.pid)).fh

    async def create(self, path: str, flags: int = MAKE, mode: int = 0o644) -> int:
        """Make a file and open it; return the handle."""
        parent, _, name = path.rpartition("/")
        directory = (await self.walk(parent)).number
        opened, node = await self.ops.create(directory, name, mode, flags, self.pid, maker=MAKER)
        self.lookups[node.number] += 1
        return opened.fh

    async def close(self, fh: int) -> None:
        """Close the only descriptor."""
        try:
            await self.files.flush(fh)
        finally:
            await self.files.release(fh)

    async def read(self, path: str) -> bytes:
        """Return the bytes of a file."""
        async with self.opened(path) as fh:
            return await self.files.read(fh, 0, 1 << 20)

    @asynccontextmanager
    async def opened(self, path: str, flags: int = READ) -> AsyncIterator[int]:
        """Hold a file open."""
        fh = await (self.create(path, flags) if flags & os.O_CREAT else self.open(path, flags))
        yield fh
        await self.close(fh)

    async def names(self, path: str) -> list[str]:
        """Return all names in a directory but the dots, read a few at a time."""
        fh, names = self.ops.opendir((await self.walk(path)).number), list[str]()
        offset = 0
        while True:
            piece = await self.list_some(fh, offset, 3)
            names += [name for name, _, _ in piece]
            if not piece:
                break
            offset = piece[-1][2]
        self.ops.releasedir(fh)
        return [name for name in names if name not in (".", "..")]

    async def list_some(self, fh: int, offset: int, count: int) -> list[tuple[str, Node, int]]:
        """Return up to `count` entries after an offset, as one answer to the kernel."""
        taken: list[tuple[str, Node, int]] = []

        def reply(name: str, node: Node, entry_offset: int) -> bool:
            if len(taken) == count:
                return False
            taken.append((name, node, entry_offset))
            if name not in (".", ".."):
                self.lookups[node.number] += 1
            return True

        await self.ops.readdir(fh, offset, reply)
        return taken

    def forget_all(self) -> None:
        """Let go of everything, as when memory is short."""
        self.ops.forget(self.lookups.items())
        self.lookups.clear()
