"""Two mounts of one tree, with leases between them: whatever one does, the other sees at its next call."""

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from unittest import mock

import trio
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fuseclient.behind.making import MakingFileSystem
from fuseclient.cache.filesystem import CachedFileSystem
from pfs.api import Attr, Broken, Changes, Closing, NodeType, OpenFlags, RenameMode
from pfs.errors import PfsError
from pfs.leasing.filesystem import LeasedFileSystem
from pfs.leasing.hub import Holder, LeaseHub
from tests.memoryfs import MemoryFileSystem, MemoryNode

PAUSES = random.Random(1)  # hypothesis would have to draw them in an order that trio decides
READ, WRITE, CREATE = OpenFlags.READ, OpenFlags.WRITE, OpenFlags.CREATE
DIRECTORIES = ["", "a", "a/b", "c"]
PATHS = [f"{directory}/{name}".lstrip("/") for directory in DIRECTORIES for name in ("x", "y", "b", "z")]
Do = Callable[[CachedFileSystem], Awaitable[Any]]


@contextmanager
def leasing() -> Iterator[None]:
    """Let the file system in memory say that its nodes can be leased."""
    attr = MemoryNode.attr

    def leased(self: MemoryNode, valid_s: float) -> Attr:
        return replace(attr(self, valid_s), leased=True)

    with mock.patch.object(MemoryNode, "attr", leased):
        yield


class Slow:
    """Any object whose calls take a while, before and after."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._inner, name)
        if not callable(member):
            return member

        async def call(*arguments: Any, **named: Any) -> Any:
            await pause()
            try:
                result = await member(*arguments, **named)
                return Slow(result) if hasattr(result, "release") else result
            finally:
                await pause()

        return call


async def pause() -> None:
    for _ in range(PAUSES.randrange(4)):
        await trio.lowlevel.checkpoint()


class Trusted(LeasedFileSystem):
    """The server's side as a mount sees it that has just heard it."""

    def trusted(self) -> bool:
        return True

    def is_near(self) -> bool:
        return False

    def is_away(self) -> bool:
        return False

    async def look_out(self) -> None:
        raise AssertionError("it is trusted")

    def listen(self, broken: Broken, lapsed: Callable[[], None], returned: Callable[[], None]) -> None:
        raise AssertionError("the test itself tells")


class Both:
    """One tree and two mounts of it."""

    def __init__(self) -> None:
        self.truth = MemoryFileSystem()
        self.hub = LeaseHub()
        self.mounts: list[CachedFileSystem] = []
        self.holders: list[Holder] = []
        self.calls = 0

    async def join(self) -> None:
        for _ in range(2):

            async def tell(nodes: Any, names: Any, number: int = len(self.mounts)) -> None:
                await pause()
                await self.mounts[number].broken(nodes, names)
                await pause()

            async def hang_up() -> None:
                raise AssertionError("a mount did not answer")

            holder = self.hub.join(tell, hang_up, hang_up)
            await self.hub.enter(holder, str(len(self.mounts)))
            self.holders.append(holder)
            leased = Trusted(Slow(self.truth), self.hub, holder)
            self.mounts.append(self.mount(leased))

    def mount(self, server: "Trusted") -> CachedFileSystem:
        """Mount what a server shows."""
        return MakingFileSystem(server, lambda: 0.0)


async def write(path: str, data: bytes, fs: CachedFileSystem) -> None:
    file = await fs.open(path, WRITE | CREATE, 0o644)
    await file.write(0, data)
    await file.flush(Closing.LAST)
    await file.release()


async def read(fs: Any, path: str) -> bytes:
    file = await fs.open(path, READ, 0)
    try:
        return bytes(await file.read(0, 1 << 20))
    finally:
        await file.release()


async def quietly(do: Do, fs: CachedFileSystem) -> None:
    with suppress(PfsError):
        await do(fs)


def seen(attr: Attr) -> tuple[Any, ...]:
    changing = () if attr.type is NodeType.DIRECTORY else (attr.mtime_ns, attr.ctime_ns)
    return attr.type, attr.node_id, attr.mode, attr.size, attr.nlink, *changing


async def view(fs: Any, path: str = "") -> dict[str, Any]:
    """Return everything that can be seen of a tree."""
    found: dict[str, Any] = {path: seen(await fs.getattr(path))}
    for entry in await fs.listdir(path):
        inner = f"{path}/{entry.name}".lstrip("/")
        found[f"{inner} listed"] = seen(entry.attr)
        if entry.attr.type is NodeType.DIRECTORY:
            found |= await view(fs, inner)
        elif entry.attr.type is NodeType.FILE:
            found[inner] = seen(await fs.getattr(inner)), await read(fs, inner)
        else:
            found[inner] = await fs.readlink(inner)
    return found


LOOKS: st.SearchStrategy[Do] = st.one_of(
    st.builds(lambda path: lambda fs: fs.getattr(path), st.sampled_from(PATHS)),
    st.builds(lambda path: lambda fs: fs.listdir(path), st.sampled_from(DIRECTORIES)),
    st.builds(lambda path: lambda fs: read(fs, path), st.sampled_from(PATHS)),
)
OPERATIONS: st.SearchStrategy[Do] = st.one_of(
    LOOKS,
    st.builds(lambda path: lambda fs: fs.mkdir(path, 0o755), st.sampled_from(["a", "a/b", "c", *PATHS])),
    st.builds(lambda path, data: partial(write, path, data), st.sampled_from(PATHS), st.binary(max_size=3)),
    st.builds(lambda path: lambda fs: fs.symlink(path, "x"), st.sampled_from(PATHS)),
    st.builds(lambda path: lambda fs: fs.unlink(path), st.sampled_from(PATHS)),
    st.builds(lambda path: lambda fs: fs.rmdir(path), st.sampled_from(["a", "a/b", "c"])),
    st.builds(
        lambda source, target, mode: lambda fs: fs.rename(source, target, mode),
        st.sampled_from(["a", "c", *PATHS]),
        st.sampled_from(["a", "c", *PATHS]),
        st.sampled_from(RenameMode),
    ),
    st.builds(lambda old, new: lambda fs: fs.link(old, new), st.sampled_from(PATHS), st.sampled_from(PATHS)),
    st.builds(
        lambda path, changes: lambda fs: fs.setattr(path, changes),
        st.sampled_from(PATHS),
        st.sampled_from([Changes(mode=0o600), Changes(size=1), Changes(mtime_ns=5)]),
    ),
)


class Coherence(RuleBasedStateMachine):
    """Whatever two mounts do, one after the other or at once: both see what is there."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = leasing()
        self.patch.__enter__()
        self.both = Both()
        self.run(self.join)

    async def join(self) -> None:
        await self.both.join()

    def run(self, main: Callable[[], Awaitable[None]]) -> None:
        async def with_nursery() -> None:
            async with trio.open_nursery() as nursery:
                for mount, holder in zip(self.both.mounts, self.both.holders, strict=True):
                    mount.nursery = nursery
                    self.both.hub.heard(holder)  # each run has a clock of its own
                await main()
                nursery.cancel_scope.cancel()

        trio.run(with_nursery)

    def teardown(self) -> None:
        self.patch.__exit__(None, None, None)

    @rule(number=st.integers(0, 1), do=OPERATIONS)
    def one(self, number: int, do: Do) -> None:
        self.run(partial(quietly, do, self.both.mounts[number]))

    @rule(first=OPERATIONS, second=OPERATIONS, third=LOOKS)  # a kernel changes a directory one step after the other
    def at_once(self, first: Do, second: Do, third: Do) -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(quietly, first, self.both.mounts[0])
                nursery.start_soon(quietly, second, self.both.mounts[1])
                nursery.start_soon(quietly, third, self.both.mounts[0])

        self.run(main)

    @invariant()
    def both_see_what_is_there(self) -> None:
        async def main() -> None:
            truth = await view(self.both.truth)
            for mount in self.both.mounts:
                assert await view(mount) == truth

        self.run(main)


TestCoherence = Coherence.TestCase
TestCoherence.settings = settings(max_examples=10, stateful_step_count=20)


def test_what_is_made_in_a_directory_while_another_mount_makes_that_is_seen_by_both() -> None:
    for seed in range(20):
        PAUSES.seed(seed)
        machine = Coherence()
        try:
            machine.both_see_what_is_there()
            machine.at_once(
                first=lambda fs: fs.mkdir("a", 0o755),
                second=partial(write, "a/y", b""),
                third=lambda fs: fs.getattr("x"),
            )
            machine.both_see_what_is_there()
        finally:
            machine.teardown()
