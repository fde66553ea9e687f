"""What the kernel is told of directories that are read, from copies that may have grown old."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import pytest
import trio
import trio.testing

from fuseclient.cache.filesystem import CachedFileSystem
from fuseclient.kernel.identity import Identity, Ids
from fuseclient.kernel.inodes import ROOT, Node
from fuseclient.kernel.listing import LISTED_AT_ONCE
from fuseclient.kernel.ops import Ops
from pfs.api import Attr, Entry, NodeType, Owner
from tests.fuseclient.cache.test_coherence import leasing
from tests.fuseclient.cache.test_filesystem import Server

DC1 = ROOT + 1
Told = dict[str, Node]


class Reading:
    """A leasing server's directory `d` with some files, read through a mount."""

    def __init__(self, files: int) -> None:
        self.server = Server()
        for number in range(files):
            self.server.put(f"d/f{number:03d}", b"text")
        self.fs = CachedFileSystem(self.server, trio.current_time)
        self.ops = Ops({"dc1": self.fs}, Identity(Ids.SQUASHED, Owner(1, 1)))
        self.listings = self.ops.listings

    async def open(self) -> int:
        """Open the directory."""
        await self.ops.lookup(ROOT, "dc1")
        return self.listings.open((await self.ops.lookup(DC1, "d")).number)

    async def read(self, fh: int, offset: int = 0, room: int = 1000, *, at_once: bool = False) -> Told:
        """Return what is told, and takes up no more room than there is; nothing when it is not told at once."""
        told: Told = {}

        def reply(name: str, node: Node, _: int) -> bool:
            if len(told) == room:
                return False
            told[name] = node
            return True

        if at_once:
            return told if self.listings.read_at_once(fh, offset, reply) else {}
        await self.listings.read(fh, offset, reply)
        return told


def scenario(test: Callable[[Reading], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with a directory of 10 files."""

    def run() -> None:
        async def main() -> None:
            await test(Reading(10))

        with leasing():
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    run.__name__ = test.__name__
    return run


@scenario
async def test_what_is_known_is_told_at_once_and_as_it_was_told_before(reading: Reading) -> None:
    fh = await reading.open()
    assert await reading.read(fh, at_once=True) == {}, "nobody has asked for it yet"
    first = await reading.read(fh)
    again = await reading.read(fh, at_once=True)
    assert list(again) == [".", "..", *(f"f{number:03d}" for number in range(10))]
    assert all(again[name] is first[name] for name in first if name.startswith("f"))


@scenario
async def test_each_entry_that_is_taken_counts_as_a_lookup(reading: Reading) -> None:
    fh = await reading.open()
    for at_once in (False, True):
        told = await reading.read(fh, room=5, at_once=at_once)
    inodes = reading.ops.tree.inodes
    assert [inodes.get(told[name].number).lookups for name in ("f000", "f002")] == [2, 2]
    assert inodes.child(told["."].number, "f003") is None, "it did not fit in"


@scenario
async def test_it_is_read_on_where_it_was_left(reading: Reading) -> None:
    fh = await reading.open()
    begin = await reading.read(fh, room=5)
    rest = await reading.read(fh, offset=5, at_once=True)
    assert [*begin, *rest] == [".", "..", *(f"f{number:03d}" for number in range(10))]


@scenario
async def test_of_a_large_directory_no_more_is_prepared_than_fits_into_an_answer(reading: Reading) -> None:
    large = Reading(LISTED_AT_ONCE + 10)
    fh = await large.open()
    assert len(await large.read(fh)) == 2 + LISTED_AT_ONCE
    assert len(await large.read(fh, offset=2 + LISTED_AT_ONCE)) == 10


@scenario
async def test_what_others_may_have_changed_since_it_was_read_is_told_as_to_be_asked_for(reading: Reading) -> None:
    fh = await reading.open()
    assert all(node.attr.valid_s > 0 for name, node in (await reading.read(fh, room=5)).items() if name[0] == "f")
    reading.ops.tree.inodes.broken(None)  # the lease of a node ends that the kernel does not know yet
    told = await reading.read(fh, offset=5, at_once=True)
    assert len(told) == 7
    assert {node.attr.valid_s for node in told.values()} == {0.0}


@scenario
async def test_what_this_mount_has_changed_since_it_was_read_is_told_as_to_be_asked_for(reading: Reading) -> None:
    fh = await reading.open()
    number = (await reading.read(fh))["f009"].number
    reading.ops.tree.inodes.touch(number)
    told = await reading.read(fh, offset=5, at_once=True)
    assert (told["f009"].attr.valid_s, told["f008"].attr.valid_s > 0) == (0.0, True)


def test_what_holds_for_a_while_is_told_for_the_rest_of_it_and_within_a_step_as_the_same_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @scenario
    async def test(reading: Reading) -> None:
        made = [Entry(f"j{n}", Attr(NodeType.DIRECTORY, 1 << 63 | n, 0o555, volatile=True, valid_s=2)) for n in (1, 2)]

        real = reading.server.listdir

        async def listdir(path: str) -> Sequence[Entry]:
            return made if path == "d" else await real(path)

        fh = await reading.open()
        monkeypatch.setattr(reading.server, "listdir", listdir)
        first = await reading.read(fh)
        assert first["j1"].attr.valid_s == 2
        await trio.sleep(0.1)
        aged = await reading.read(fh, offset=2)
        assert aged["j1"].attr.valid_s == 1.75
        assert aged["j1"].number == first["j1"].number
        await trio.sleep(0.1)
        again = await reading.read(fh, offset=2)
        assert again["j1"] is aged["j1"]
        await trio.sleep(1)
        assert (await reading.read(fh, offset=2))["j1"].attr.valid_s == 0.75
        reading.ops.tree.inodes.touch(first["j1"].number)
        for _ in range(2):
            told = await reading.read(fh, offset=2)
            assert (told["j1"].attr.valid_s, told["j2"].attr.valid_s) == (0.0, 0.75)
        await trio.sleep(5)
        assert (await reading.read(fh, offset=2))["j2"].attr.valid_s == 0
        assert (await reading.read(fh))["j2"].attr.valid_s == 2

    test()


@scenario
async def test_a_name_that_has_changed_is_not_told_at_once(reading: Reading) -> None:
    fh = await reading.open()
    directory = (await reading.read(fh, room=5))["."].number
    await reading.ops.unlink(directory, "f009")
    assert await reading.read(fh, offset=5, at_once=True) == {}
    assert "f009" not in await reading.read(fh, offset=5)


@scenario
async def test_a_server_that_is_not_heard_is_waited_for(reading: Reading) -> None:
    fh = await reading.open()
    await reading.read(fh)
    reading.server.heard = False
    assert await reading.read(fh, at_once=True) == {}


def test_where_a_link_leads_that_came_with_the_listing_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    @scenario
    async def test(reading: Reading) -> None:
        await reading.server.symlink("d/f010", "f000")
        await reading.server.symlink("d/f011", "f001")
        real = reading.server.listdir

        async def listdir(path: str) -> Sequence[Entry]:
            return [replace(each, target="f000") if each.name == "f010" else each for each in await real(path)]

        monkeypatch.setattr(reading.server, "listdir", listdir)
        told = await reading.read(await reading.open())
        ops = reading.ops
        assert ops.readlink_at_once(told["f010"].number) == "f000"
        assert ops.readlink_at_once(told["f011"].number) is None
        assert await ops.readlink(told["f011"].number) == "f001"

    test()
