"""Whether a link can be swapped in under the server's hands: everything is asked for below a name that changes all the
time between a directory of the user's and a link that leads out of the domain.

    race/x   a directory with files       ◀─ exchanged, over and over ─▶   race/out   a link to a directory outside
    race/f   a file                       ◀─ exchanged, over and over ─▶   race/file  a link to a file outside

`python -m integration.swaps 100000` makes at least so many swaps, and tells how many operations were raced with them.
"""

import contextlib
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import trio

from integration.box import Box, box
from pfs.api import Changes, NodeType, OpenFile, OpenFlags, RenameMode, XattrMode
from pfs.client.filesystem import RemoteFileSystem, open_filesystem
from pfs.disk.attr import node_id_of
from pfs.errors import Kind, PfsError

HOME = "home/demo/race"
X, F = f"{HOME}/x", f"{HOME}/f"
FILES = ("canary", "old", "sub/canary")
SECRET, OWN = b"S" * 200_000, b"I" * 140_000  # more than one message holds
ASKERS = 6
MEND_EVERY_S, SWAP_EVERY_S = 0.01, 0.003
READ, WRITE = OpenFlags.READ, OpenFlags.WRITE
NEW = WRITE | OpenFlags.CREATE
# how a race may be lost: the name is gone, or leads to a link, or is taken; anything else is a defect
LOST = {
    *(Kind.NOT_FOUND, Kind.NOT_DIR, Kind.LOOP, Kind.EXISTS, Kind.CROSS_DOMAIN, Kind.IS_DIR, Kind.NOT_EMPTY),
    *(Kind.INVALID, Kind.STALE, Kind.NO_DATA, Kind.UNSUPPORTED, Kind.FORBIDDEN, Kind.TOO_MANY_LINKS, Kind.BUSY),
}
SWAPPER = """
import os, signal, sys, time
from pfs.disk.system import RENAME_EXCHANGE, rename_at
fd, told, count, going = os.open(sys.argv[1], os.O_DIRECTORY), os.open(sys.argv[2], os.O_WRONLY), 0, True
def stop(*_):
    global going
    going = False
signal.signal(signal.SIGTERM, stop)
print("ready", flush=True)
while going:
    rename_at(fd, "x", fd, "out", RENAME_EXCHANGE)
    rename_at(fd, "f", fd, "file", RENAME_EXCHANGE)
    count += 2
    os.pwrite(told, b"%d" % count, 0)
    time.sleep(0.00005)
"""
Operation = Callable[["Asker"], Awaitable[object]]


class Escape(AssertionError):
    """What is outside of the domain was seen, or touched."""


@dataclass(frozen=True)
class Raced:
    """What came of a race: how many swaps there were, and what each operation met, or None for nothing."""

    swaps: int
    met: Counter[tuple[str, Kind | None]]

    @property
    def operations(self) -> int:
        """How many operations were raced."""
        return self.met.total()

    def count(self, *kinds: Kind | None) -> int:
        """How many operations met one of these."""
        return sum(count for (_, kind), count in self.met.items() if kind in kinds)


class Ground:
    """The files that are raced for, and those outside that nobody may touch."""

    def __init__(self, made: Box) -> None:
        self.race, self.outside = made.data / HOME, made.root / "outside"
        self._owner = os.stat(self.race.parent)
        for directory, text in ((self.outside, SECRET), (self.race / "x", OWN)):
            (directory / "sub").mkdir(parents=True)
            for name in FILES:
                (directory / name).write_bytes(text)
            os.setxattr(directory / "canary", "user.x", text[:1])
        (self.outside / "only-outside").touch()
        (self.race / "f").write_bytes(OWN)
        (self.race / "out").symlink_to(self.outside)
        (self.race / "file").symlink_to("../../../../outside/canary")
        for path in (self.race, *self.race.rglob("*")):
            os.chown(path, self._owner.st_uid, self._owner.st_gid, follow_symlinks=False)
        self._paths = (self.outside, *sorted(self.outside.rglob("*")))
        for path in self._paths:  # then whoever reads them moves the time of the last reading
            os.utime(path, ns=(10**18, 2 * 10**18))
        self.canary = node_id_of(os.stat(self.outside / "canary"))
        self._fds = [os.open(path, os.O_DIRECTORY) for path in (self.race, self.race / "x")]

    def seen(self) -> dict[str, object]:
        """Tell how the outside is, without reading it: whoever changes or reads it moves one of its times."""
        fields = ("mode", "uid", "gid", "nlink", "size", "atime_ns", "mtime_ns", "ctime_ns")
        return {str(path): [getattr(os.lstat(path), f"st_{field}") for field in fields] for path in self._paths}

    async def mend(self) -> None:
        """Put back what operations have taken away, and away what they have made, for ever."""
        while True:
            race, x = self._fds
            for fd, keep in ((race, {"x", "f", "out", "file", "mine"}), (x, {"sub", "canary", "old"})):
                for name in set(os.listdir(fd)) - keep:
                    if name.startswith("new-"):
                        self._remove(name, fd)
            for name, fd in (("mine", race), *((name, x) for name in FILES)):
                self._restore(name, fd)
            await trio.sleep(MEND_EVERY_S)

    @staticmethod
    def _remove(name: str, fd: int) -> None:
        try:
            os.unlink(name, dir_fd=fd)
        except IsADirectoryError:
            os.rmdir(name, dir_fd=fd)
        except FileNotFoundError:
            return

    def _restore(self, name: str, fd: int) -> None:
        with contextlib.suppress(FileExistsError):
            if "/" in name:
                os.mkdir(name.partition("/")[0], dir_fd=fd)
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            file = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644, dir_fd=fd)
            os.write(file, OWN)
            os.close(file)

    def close(self) -> None:
        """Let go of the directories."""
        for fd in self._fds:
            os.close(fd)


class Asker:
    """One client, which asks for one thing after the other."""

    def __init__(self, fs: RemoteFileSystem, web: httpx.AsyncClient, number: int, canary: int) -> None:
        self.fs, self.web, self.number, self.canary = fs, web, number, canary
        self.made = 0

    def new(self, directory: str = "") -> str:
        self.made += 1
        return f"{directory or X}/new-{self.number}-{self.made}"

    async def read(self, path: str, flags: OpenFlags = READ) -> None:
        await self._with(await self.fs.open(path, flags, 0o644), self._read)

    async def _read(self, file: OpenFile) -> None:
        for size in (1000, len(SECRET)):  # by the channel or a descriptor, and in bulk
            data = await file.read(0, size)
            if b"S" in data:
                raise Escape("the canary was read")

    async def write(self, path: str, flags: OpenFlags) -> None:
        async def write(file: OpenFile) -> None:
            await file.write(0, OWN)
            await file.setattr(Changes(size=len(OWN)))

        await self._with(await self.fs.open(path, flags, 0o644), write)

    async def _with(self, file: OpenFile, use: Callable[[OpenFile], Awaitable[None]]) -> None:
        try:
            self.check(file.attr.node_id)
            await use(file)
        finally:
            await file.release()

    def check(self, node_id: int) -> None:
        if node_id == self.canary:
            raise Escape("the canary was looked at")

    async def look(self, path: str) -> None:
        self.check((await self.fs.getattr(path)).node_id)

    async def list(self, path: str) -> None:
        for entry in await self.fs.listdir(path):
            self.check(entry.attr.node_id)
            if entry.name == "only-outside":
                raise Escape("the outside was listed")

    async def contents(self) -> None:
        for content in await self.fs.contents(f"{HOME}/x", ["canary", "old"], 1 << 20):
            self.check(content.attr.node_id)
            if b"S" in content.data:
                raise Escape("the canary was fetched")

    async def reopen(self) -> None:
        await self._with(await self.fs.reopen(f"{HOME}/x/canary", self.canary, READ), self._read)

    async def xattr(self) -> None:
        if await self.fs.getxattr(f"{HOME}/x/canary", "user.x") == b"S":
            raise Escape("the canary's attribute was read")

    async def http(self, method: str, path: str, body: bytes | None = None) -> None:
        try:
            answer = await self.web.request(method, f"/api/v1/fs/{path}", content=body)
        except httpx.RemoteProtocolError:  # another has made the file shorter while it was sent
            raise PfsError(Kind.STALE, "the answer was cut") from None
        if b"SSSS" in answer.content or b"only-outside" in answer.content:
            raise Escape(f"{method} gave what is outside")
        if answer.status_code >= 500:
            raise AssertionError(f"{method} {path}: {answer.status_code} {answer.text[:200]}")


OPERATIONS: dict[str, Operation] = {
    "getattr": lambda a: a.look(f"{X}/canary"),
    "getattr below": lambda a: a.look(f"{X}/sub/canary"),
    "listdir": lambda a: a.list(X),
    "listdir below": lambda a: a.list(f"{X}/sub"),
    "contents": lambda a: a.contents(),
    "readlink": lambda a: a.fs.readlink(F),
    "read": lambda a: a.read(f"{X}/canary"),
    "read below": lambda a: a.read(f"{X}/sub/canary"),
    "read the file": lambda a: a.read(F),
    "write": lambda a: a.write(f"{X}/canary", WRITE),
    "write the file": lambda a: a.write(F, WRITE),
    "overwrite": lambda a: a.write(f"{X}/old", WRITE | OpenFlags.TRUNCATE),
    "overwrite the file": lambda a: a.write(F, WRITE | OpenFlags.TRUNCATE),
    "append": lambda a: a.write(f"{X}/old", WRITE | OpenFlags.APPEND),
    "create": lambda a: a.write(a.new(), NEW | OpenFlags.EXCLUSIVE),
    "create the file": lambda a: a.write(F, NEW),
    "make_file": lambda a: a.fs.make_file(a.new(), 0o644, b"new", Changes()),
    "mkdir": lambda a: a.fs.mkdir(a.new(), 0o755),
    "mknod": lambda a: a.fs.mknod(a.new(), NodeType.FIFO, 0o644),
    "symlink": lambda a: a.fs.symlink(a.new(), "/etc"),
    "link from": lambda a: a.fs.link(f"{X}/canary", a.new(HOME)),
    "link to": lambda a: a.fs.link(f"{HOME}/mine", a.new()),
    "link the file": lambda a: a.fs.link(F, a.new(HOME)),
    "unlink": lambda a: a.fs.unlink(f"{X}/old"),
    "rmdir": lambda a: a.fs.rmdir(f"{X}/sub"),
    "rename from": lambda a: a.fs.rename(f"{X}/canary", a.new(HOME), RenameMode.REPLACE),
    "rename to": lambda a: a.fs.rename(f"{HOME}/mine", f"{X}/old", RenameMode.NO_REPLACE),
    "exchange": lambda a: a.fs.rename(f"{HOME}/mine", f"{X}/canary", RenameMode.EXCHANGE),
    "chmod": lambda a: a.fs.setattr(f"{X}/canary", Changes(mode=0o600)),
    "chmod the file": lambda a: a.fs.setattr(F, Changes(mode=0o640)),
    "truncate": lambda a: a.fs.setattr(f"{X}/canary", Changes(size=len(OWN))),
    "truncate the file": lambda a: a.fs.setattr(F, Changes(size=len(OWN))),
    "utime": lambda a: a.fs.setattr(X, Changes(mtime_ns=5)),
    "getxattr": lambda a: a.xattr(),
    "setxattr": lambda a: a.fs.setxattr(f"{X}/canary", "user.x", b"I", XattrMode.EITHER),
    "setxattr of the file": lambda a: a.fs.setxattr(F, "user.y", b"I", XattrMode.EITHER),
    "removexattr": lambda a: a.fs.removexattr(f"{X}/canary", "user.y"),
    "listxattr": lambda a: a.fs.listxattr(f"{X}/canary"),
    "reopen": lambda a: a.reopen(),
    "statfs": lambda a: a.fs.statfs(f"{X}/sub"),
    "fsyncdir": lambda a: a.fs.fsyncdir(X),
    "http get": lambda a: a.http("GET", f"{X}/canary"),
    "http list": lambda a: a.http("GET", X),
    "http get the file": lambda a: a.http("GET", F),
    "http put": lambda a: a.http("PUT", f"{X}/canary", OWN),
    "http put the file": lambda a: a.http("PUT", F, OWN),
    "http put a new one": lambda a: a.http("PUT", a.new(), OWN),
    "http delete": lambda a: a.http("DELETE", f"{X}/old"),
    "http mkdir": lambda a: a.http("POST", a.new() + "?op=mkdir"),
}


@contextmanager
def swapping(ground: Ground, told: Path) -> Iterator[Callable[[], int]]:
    """Swap on the server's disk while the block runs; gives how often that was done so far."""
    told.write_bytes(b"0")
    command = [sys.executable, "-c", SWAPPER, str(ground.race), str(told)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield lambda: int(told.read_bytes())
        finally:
            process.terminate()
    assert process.returncode == 0


async def raced(made: Box, ground: Ground, swaps: Callable[[], int], swaps_min: int, operations_min: int) -> Raced:
    """Ask for everything, over and over, until there were so many swaps and operations."""
    met: Counter[tuple[str, Kind | None]] = Counter()

    async def ask(number: int, fs: RemoteFileSystem, web: httpx.AsyncClient) -> None:
        asker = Asker(fs, web, number, ground.canary)
        names = list(OPERATIONS)
        turn = number * 7
        while swaps() < swaps_min or met.total() < operations_min:
            turn += 1
            name = names[turn % len(names)]
            try:
                await OPERATIONS[name](asker)
                met[name, None] += 1
            except PfsError as error:
                if error.kind not in LOST:
                    raise AssertionError(f"{name}: {error.kind}: {error}") from error
                met[name, error.kind] += 1

    async def swap(fs: RemoteFileSystem) -> None:
        while True:  # as another client, beside the one on the server's disk
            await fs.rename(X, f"{HOME}/out", RenameMode.EXCHANGE)
            await trio.sleep(SWAP_EVERY_S)

    async with (
        httpx.AsyncClient(base_url=made.url, headers={"authorization": f"Bearer {made.token}"}, timeout=60) as web,
        open_filesystem(made.url, made.token) as near,
        open_filesystem(made.url, made.token, shortcut=False) as far,
        trio.open_nursery() as background,
    ):
        background.start_soon(ground.mend)
        background.start_soon(swap, far)
        async with trio.open_nursery() as nursery:
            for number in range(ASKERS):
                nursery.start_soon(ask, number, far if number % 2 else near, web)
        background.cancel_scope.cancel()
    return Raced(swaps(), met)


def race(made: Box, swaps_min: int, operations_min: int) -> Raced:
    """Race on a running server.

    Raises:
        Escape: something outside of the domain was seen or touched; maybe within a group.
        AssertionError: something went wrong in a way that is none of losing a race; also so.
    """
    ground = Ground(made)
    before = ground.seen()
    try:
        with swapping(ground, made.root / "swaps") as swaps:
            done = trio.run(raced, made, ground, swaps, swaps_min, operations_min)
    finally:
        ground.close()
    after = ground.seen()
    if after != before:
        raise Escape(f"the outside was touched: {[path for path in before if before[path] != after[path]]}")
    return done


def main(swaps_min: int) -> None:
    """Race once, and print what there was."""
    with box() as made:
        made.start_server()
        done = race(made, swaps_min, swaps_min // 10)
        met_link = done.count(Kind.LOOP, Kind.NOT_DIR)
        done_well = done.count(None)
        print(f"{done.swaps} swaps, {done.operations} operations of {len(OPERATIONS)} kinds: no escape")
        print(
            f"{done_well} met the directory or file, {met_link} the link, the others what another had just taken away"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]))
