"""A mount of one flat directory in a process of its own: what the connection with the kernel is tested and measured on.

python -m tests.fuseclient.tiny POINT '{"plain": false, "look_first": true, "set_id_bits": false, "uid": null}'

It says what kind of connection it has, and then answers each line of its standard input with what was asked of it
since the last one, as JSON: how often each operation, and how many lookups were under way at once. A lookup of
`slow…` takes a while, `direct` is not kept in the kernel; `ticks` counts a timer that goes off all the time.
"""

import collections
import errno
import json
import os
import stat
import sys
from dataclasses import dataclass, field
from typing import Any

import pyfuse3
import trio

from fuseclient.kernel import session

VALID_S = 0.0
SLOW_S = 0.2
TICK_S = 0.001
BIG_BYTES = 64 << 20


@dataclass
class File:
    """One file."""

    mode: int
    data: bytearray = field(default_factory=bytearray)


class Operations(pyfuse3.Operations):  # type: ignore[misc]
    """One directory with files, in memory."""

    supports_dot_lookup = False

    def __init__(self) -> None:
        super().__init__()
        self.names: dict[bytes, int] = {}
        self.files: dict[int, File] = {}
        self.calls: collections.Counter[str] = collections.Counter()
        self.looking = 0
        self.opened: dict[int, int] = {}
        self.valid_s = VALID_S
        for name in (b"empty", b"direct", b"link"):
            self.add(name, stat.S_IFLNK | 0o777 if name == b"link" else stat.S_IFREG | 0o644)
        self.files[self.names[b"direct"]].data += os.urandom(1 << 20)
        self.files[self.add(b"big", stat.S_IFREG | 0o644)].data += bytes(BIG_BYTES)

    def add(self, name: bytes, mode: int) -> int:
        """Add a file; return its number."""
        number = self.names[name] = 2 + len(self.names)
        self.files[number] = File(mode)
        return number

    def attributes(self, number: int) -> pyfuse3.EntryAttributes:
        """Describe an inode."""
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = number
        entry.entry_timeout = entry.attr_timeout = self.valid_s
        entry.st_uid, entry.st_gid = os.getuid(), os.getgid()
        if number == pyfuse3.ROOT_INODE:
            entry.st_mode, entry.st_nlink = stat.S_IFDIR | 0o755, 2
        else:
            entry.st_mode, entry.st_nlink = self.files[number].mode, 1
            entry.st_size = len(self.files[number].data)
        return entry

    async def lookup(self, parent: int, name: bytes, ctx: Any) -> pyfuse3.EntryAttributes:
        self.calls["lookup"] += 1
        if name.startswith(b"slow"):
            self.looking += 1
            self.calls["lookups_at_once"] = max(self.calls["lookups_at_once"], self.looking)
            await trio.sleep(SLOW_S)
            self.looking -= 1
        if name not in self.names:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self.attributes(self.names[name])

    async def getattr(self, inode: int, ctx: Any) -> pyfuse3.EntryAttributes:
        self.calls["getattr"] += 1
        return self.attributes(inode)

    async def setattr(self, inode: int, attr: Any, fields: Any, fh: Any, ctx: Any) -> pyfuse3.EntryAttributes:
        self.calls["setattr"] += 1
        if fields.update_size:
            del self.files[inode].data[attr.st_size :]
        if fields.update_mode:
            self.files[inode].mode = attr.st_mode
        return self.attributes(inode)

    async def getxattr(self, inode: int, name: bytes, ctx: Any) -> bytes:
        self.calls["getxattr"] += 1
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    async def readlink(self, inode: int, ctx: Any) -> bytes:
        self.calls["readlink"] += 1
        return b"empty"

    async def open(self, inode: int, flags: int, ctx: Any) -> pyfuse3.FileInfo:
        self.calls["open"] += 1
        if flags & os.O_TRUNC:
            self.files[inode].data.clear()
        return pyfuse3.FileInfo(fh=inode, direct_io=inode == self.names[b"direct"], keep_cache=True)

    async def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        self.calls["create"] += 1
        number = self.add(name, mode)
        return pyfuse3.FileInfo(fh=number), self.attributes(number)

    async def read(self, fh: int, offset: int, size: int) -> Any:
        self.calls["read"] += 1
        self.calls["bytes_at_once"] = max(self.calls["bytes_at_once"], size)
        return memoryview(bytes(memoryview(self.files[fh].data)[offset : offset + size]))

    async def write(self, fh: int, offset: int, buffer: bytes) -> int:
        self.calls["write"] += 1
        self.files[fh].data[offset : offset + len(buffer)] = buffer
        return len(buffer)

    async def flush(self, fh: int) -> None:
        self.calls["flush"] += 1

    async def release(self, fh: int) -> None:
        self.calls["release"] += 1

    async def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    async def readdir(self, fh: int, start: int, token: Any) -> None:
        for index, (name, number) in enumerate(self.names.items(), start=1):
            if index > start and not pyfuse3.readdir_reply(token, name, self.attributes(number), index):
                return

    async def releasedir(self, fh: int) -> None:
        return None


def main(point: str, wishes: dict[str, Any]) -> None:
    """Mount, and serve."""
    if wishes.get("uid"):
        os.setgroups([])
        os.setgid(wishes["uid"])
        os.setuid(wishes["uid"])
    operations = Operations()
    operations.valid_s = wishes.get("valid_s", VALID_S)
    options = {"fsname=pfs", "subtype=pfs", "default_permissions"}
    bits, plain = wishes.get("set_id_bits", False), wishes.get("plain", False)
    connection = session.connect(operations, point, options, set_id_bits=bits, plain=plain)

    async def obey(end: trio.CancelScope) -> None:
        async for _ in trio.lowlevel.FdStream(os.dup(0)):
            say(operations.calls)
            operations.calls.clear()
        end.cancel()

    async def tick() -> None:
        while True:
            await trio.sleep(TICK_S)
            operations.calls["ticks"] += 1

    def say(what: Any) -> None:
        os.write(1, json.dumps(what).encode() + b"\n")

    async def serve() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey, nursery.cancel_scope)
            if wishes.get("ticking"):
                nursery.start_soon(tick)
            say(type(connection).__name__)
            await connection.main(tasks_min=16, tasks_max=1000, look_first=wishes.get("look_first", True))
            nursery.cancel_scope.cancel()

    try:
        trio.run(serve)
    finally:
        connection.close(unmount=True)


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
