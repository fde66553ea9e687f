"""Whatever programs do through a mount that promises, they are told what a tree tells that makes each change at once.

Answers are lost, the server goes away and comes back, and the mount is killed: in the end both trees are the same.
"""

import tempfile
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
import trio.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from pfs.api import Changes, Closing, NodeType, OpenFlags, RenameMode
from pfs.errors import PfsError
from tests.fuseclient.behind.test_filesystem import HOME, Mount, Remote, again
from tests.fuseclient.cache.test_coherence import leasing
from tests.memoryfs import MemoryFileSystem

READ, WRITE, CREATE = OpenFlags.READ, OpenFlags.WRITE, OpenFlags.CREATE
EXCLUSIVE, TRUNCATE, APPEND = OpenFlags.EXCLUSIVE, OpenFlags.TRUNCATE, OpenFlags.APPEND
PATHS = [f"{HOME}/{name}" for name in ("a", "b", "d", "d/a", "d/b", "e", "e/a")]
FLAGS = [
    WRITE | CREATE | TRUNCATE,
    WRITE | CREATE,
    WRITE | CREATE | EXCLUSIVE,
    WRITE | TRUNCATE,
    WRITE | CREATE | APPEND,
    WRITE,
]
Do = tuple[Any, ...]

paths = st.sampled_from(PATHS)
does = st.one_of(
    st.tuples(st.just("write"), paths, st.sampled_from(FLAGS), st.sampled_from([0, 1, 100, 70_000])),
    st.tuples(st.just("write"), paths, st.sampled_from(FLAGS), st.sampled_from([0, 1, 100, 70_000])),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("mkdir"), paths),
    st.tuples(st.just("symlink"), paths),
    st.tuples(st.just("unlink"), paths),
    st.tuples(st.just("rmdir"), paths),
    st.tuples(st.just("rename"), paths, paths, st.sampled_from(RenameMode)),
    st.tuples(st.just("rename"), paths, paths, st.just(RenameMode.REPLACE)),
    st.tuples(st.just("link"), paths, paths),
    st.tuples(st.just("chmod"), paths, st.sampled_from([0o600, 0o644, 0o755])),
    st.tuples(st.just("truncate"), paths, st.sampled_from([0, 50])),
    st.tuples(st.just("look"), paths),
    st.tuples(st.just("read"), paths),
)
happenings = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0.001, 0.1])),
    st.tuples(st.just("lose"), st.integers(0, 5)),
    st.tuples(st.just("break"), paths),
    st.tuples(st.just("away")),
    st.tuples(st.just("kill")),
    st.tuples(st.just("list")),
)
plans = st.lists(st.one_of(does, does, does, happenings), min_size=8, max_size=40)


async def walk_to(fs: Any, path: str) -> None:
    """Look at all that is on a path, as the kernel does for every program."""
    parts = path.split("/")
    for count in range(len(parts) + 1):
        with suppress(PfsError):
            await fs.getattr("/".join(parts[:count]))


async def do(fs: Any, number: int, what: Do) -> Any:
    """Do one thing; return what a program is told."""
    await walk_to(fs, what[1])
    try:
        return await DOES[what[0]](fs, number, *what[1:])
    except PfsError as error:
        return error.kind


async def write(fs: Any, number: int, path: str, flags: OpenFlags, size: int) -> None:
    file = await fs.open(path, flags, 0o644)
    try:
        data = (b"%d " % number * size)[:size]
        offset = (await file.getattr()).size if APPEND in flags else 0
        for at in range(0, size, 40_000):
            await file.write(offset + at, data[at : at + 40_000])
        await file.flush(Closing.LAST)
    finally:
        await file.release()


async def read(fs: Any, number: int, path: str) -> bytes:
    file = await fs.open(path, READ, 0)
    try:
        return bytes(await file.read(0, 1 << 20))
    finally:
        await file.release()


async def look(fs: Any, number: int, path: str) -> tuple[NodeType, int, int, int]:
    attr = await fs.getattr(path)
    size = attr.size if attr.type is NodeType.FILE else 0
    return attr.type, size, attr.mode, attr.nlink if attr.type is NodeType.FILE else 1


async def quietly(call: Awaitable[Any]) -> None:
    await call


DOES: dict[str, Callable[..., Awaitable[Any]]] = {
    "write": write,
    "read": read,
    "look": look,
    "mkdir": lambda fs, number, path: quietly(fs.mkdir(path, 0o755)),
    "symlink": lambda fs, number, path: quietly(fs.symlink(path, f"to {number}")),
    "unlink": lambda fs, number, path: fs.unlink(path),
    "rmdir": lambda fs, number, path: fs.rmdir(path),
    "rename": lambda fs, number, path, target, mode: fs.rename(path, target, mode),
    "link": lambda fs, number, path, target: quietly(fs.link(path, target)),
    "chmod": lambda fs, number, path, mode: quietly(fs.setattr(path, Changes(mode=mode))),
    "truncate": lambda fs, number, path, size: quietly(fs.setattr(path, Changes(size=size))),
}


async def happen(mount: Mount, what: Do) -> Mount:
    """Let something happen to a mount; return the one that there is afterwards."""
    server, fs = mount.server, mount.fs
    match what:
        case ("wait", seconds):
            await trio.sleep(seconds)
        case ("lose", count):
            server.cut_after = count
        case ("break", path):
            try:
                await fs.broken([server.find(path).node_id], [])
            except PfsError:
                return mount
        case ("away",):
            server.away = True
            fs.lapsed()
            await trio.sleep(0.1)
            server.away = False
            fs.returned()
        case ("kill",):
            mount = await again(mount)
            await walk(mount)
        case ("list",):
            await walk(mount)
    return mount


async def walk(mount: Mount) -> None:
    await mount.look()
    for path in ("d", "e"):
        with suppress(PfsError):
            await mount.fs.listdir(f"{HOME}/{path}")


async def shape(fs: MemoryFileSystem) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in (*PATHS, HOME):
        try:
            node = fs.find(path)
        except PfsError:
            continue
        content: Any = sorted(node.children) if node.type is NodeType.DIRECTORY else bytes(node.data) or node.target
        found[path] = (node.type, node.mode, node.nlink, content)
    return found


@settings(max_examples=15, deadline=None)
@given(plans)
def test_it_is_as_if_each_change_had_been_made_at_once(plan: list[Do]) -> None:
    async def main(folder: str) -> None:
        server, model = Remote(), MemoryFileSystem()
        for each in (server, model):
            each.make_directory(f"{HOME}/d")
            each.put(f"{HOME}/a", b"first")
        async with trio.open_nursery() as nursery:
            mount: Mount = await nursery.start(Mount(server, folder).run)
            await walk(mount)
            for number, what in enumerate(plan, start=1):
                if what[0] in DOES:
                    told, right = await do(mount.fs, number, what), await do(model, number, what)
                    assert told == right, (number, what)
                else:
                    mount = await happen(mount, what)
            await mount.fs.settle(None)
            assert await shape(server) == await shape(model)
            assert server.open_files == 0
            status = mount.fs.behind_status()
            assert status is not None
            assert (status.operations, status.failed, status.conflicts) == (0, (), 0)
            mount.scope.cancel()
            nursery.cancel_scope.cancel()

    with leasing(), tempfile.TemporaryDirectory() as folder:
        trio.run(main, folder, clock=trio.testing.MockClock(autojump_threshold=0))
