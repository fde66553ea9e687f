"""Leases over a tree: others are told before a change, and waited for no longer than they may trust their copies."""

from collections.abc import Awaitable, Callable, Collection
from typing import Any

import pytest
import trio
import trio.testing

from pfs.api import Changes, Name, OpenFlags, RenameMode
from pfs.errors import Kind, PfsError
from pfs.leasing.filesystem import LeasedFileSystem
from pfs.leasing.hub import LEASE_S, LeaseHub
from tests.fuseclient.cache.test_coherence import leasing
from tests.memoryfs import MemoryFileSystem

READ, WRITE, CREATE = OpenFlags.READ, OpenFlags.WRITE, OpenFlags.CREATE


class Two:
    """A tree that two mounts see; the second one is asked to let go as `answer` says."""

    def __init__(self) -> None:
        self.tree = MemoryFileSystem()
        self.tree.put("d/f", b"text")
        self.hub = LeaseHub()
        self.told: list[tuple[list[int], list[Name]]] = []
        self.hung_up = 0
        self.answer: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

        async def tell(nodes: Collection[int], names: Collection[Name]) -> None:
            self.told.append((sorted(nodes), sorted(names)))
            await self.answer()

        async def never(nodes: Collection[int], names: Collection[Name]) -> None:
            raise AssertionError("who changes something is not told of it")

        async def hang_up() -> None:
            self.hung_up += 1

        mine = self.hub.join(never, hang_up, hang_up)
        self.first = LeasedFileSystem(self.tree, self.hub, mine)
        self.holder = self.hub.join(tell, hang_up, hang_up)
        self.mounts = {"first": mine, "second": self.holder}
        self.second = LeasedFileSystem(self.tree, self.hub, self.holder)

    def id(self, path: str) -> int:
        return self.tree.find(path).node_id


def scenario(test: Callable[[Two], Awaitable[None]]) -> Callable[[], None]:
    """Run a test with the clock of a machine that has nothing to do."""

    def run() -> None:
        async def main() -> None:
            two = Two()
            for name, holder in two.mounts.items():
                await two.hub.enter(holder, name)
            await test(two)

        with leasing():
            trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))

    run.__name__ = test.__name__
    return run


@scenario
async def test_what_was_looked_at_is_leased(two: Two) -> None:
    assert (await two.second.getattr("d/f")).leased
    assert [entry.attr.leased for entry in await two.second.listdir("d")] == [True]


@scenario
async def test_a_write_tells_who_has_a_copy_once(two: Two) -> None:
    await two.second.getattr("d/f")
    file = await two.first.open("d/f", WRITE, 0)
    await file.write(0, b"a")
    await file.write(1, b"b")
    assert two.told == [([two.id("d/f")], [])]


@scenario
async def test_a_change_is_not_made_before_the_other_has_let_go(two: Two) -> None:
    await two.second.getattr("d/f")
    seen = []

    async def answer() -> None:
        seen.append((await two.second.getattr("d/f")).mode)

    two.answer = answer
    before = two.tree.find("d/f").mode
    await two.first.setattr("d/f", Changes(mode=0o600))
    assert seen == [before]


@scenario
async def test_what_is_read_while_it_changes_is_not_leased(two: Two) -> None:
    await two.second.getattr("d/f")
    leased = []

    async def answer() -> None:
        leased.append((await two.second.getattr("d/f")).leased)

    two.answer = answer
    await two.first.setattr("d/f", Changes(mode=0o600))
    assert leased == [False]
    assert (await two.second.getattr("d/f")).leased


@scenario
async def test_a_new_name_is_told_with_its_directory(two: Two) -> None:
    await two.second.getattr("d")
    await two.first.mkdir("d/new", 0o755)
    assert two.told == [([two.id("d")], [(two.id("d"), "new")])]


@scenario
async def test_a_rename_tells_both_directories_and_both_nodes(two: Two) -> None:
    two.tree.put("e/g")
    for path in ("d", "e", "d/f", "e/g"):
        await two.second.getattr(path)
    ids = sorted(two.id(path) for path in ("d", "e", "d/f", "e/g"))
    names = sorted([(two.id("d"), "f"), (two.id("e"), "g")])
    await two.first.rename("d/f", "e/g", RenameMode.REPLACE)
    assert two.told == [(ids, names)]


@scenario
async def test_who_has_no_copy_is_not_told(two: Two) -> None:
    await two.second.getattr("d")
    await two.first.setattr("d/f", Changes(mode=0o600))
    assert two.told == []


@scenario
async def test_who_changes_keeps_its_own_copy(two: Two) -> None:
    await two.first.getattr("d/f")
    await two.second.getattr("d/f")
    await two.first.setattr("d/f", Changes(mode=0o600))
    assert two.hub.leases.count(1) == 1


@scenario
async def test_whatever_a_mount_does_it_has_no_more_leases_than_it_can_keep_copies(two: Two) -> None:
    two.hub.leases._held_max = 8
    for number in range(40):
        await two.second.mkdir(f"made{number}", 0o755)
        await (await two.second.open(f"d/made{number}", WRITE | CREATE, 0o644)).release()
        two.tree.put(f"d/f{number}")
        await (await two.second.open(f"d/f{number}", READ, 0)).release()
        await two.second.getattr(f"d/f{number}")
        assert two.hub.leases.count(two.holder.number) <= 9
    assert two.told


@scenario
async def test_a_mount_that_does_not_answer_is_cut_off_and_waited_out(two: Two) -> None:
    await two.second.getattr("d/f")
    two.answer = trio.sleep_forever
    began_s = trio.current_time()
    await two.first.setattr("d/f", Changes(mode=0o600))
    assert two.hung_up == 1
    assert trio.current_time() - began_s == LEASE_S
    assert not (await two.second.getattr("d/f")).leased


@scenario
async def test_a_mount_that_is_gone_is_waited_out_from_when_it_was_last_heard(two: Two) -> None:
    await two.second.getattr("d/f")
    two.hub.lost(two.holder)
    await trio.sleep(LEASE_S - 3)
    began_s = trio.current_time()
    await two.first.setattr("d/f", Changes(mode=0o600))
    assert trio.current_time() - began_s == pytest.approx(3)
    assert two.told == []


@scenario
async def test_a_mount_that_answers_with_an_error_is_cut_off_and_waited_out(two: Two) -> None:
    for number, kind in enumerate((Kind.UNREACHABLE, Kind.INVALID), start=1):
        holder = two.hub.join(two.holder.tell, two.holder.lapse, two.holder.hang_up)
        await two.hub.enter(holder, str(number))
        mount = LeasedFileSystem(two.tree, two.hub, holder)
        await mount.getattr("d/f")

        async def answer(kind: Kind = kind) -> None:
            raise PfsError(kind, "whatever it says")

        two.answer = answer
        began_s = trio.current_time()
        await two.first.setattr("d/f", Changes(mode=0o600))
        assert trio.current_time() - began_s == LEASE_S
        assert two.hung_up == number


@scenario
async def test_a_mount_that_has_said_good_bye_is_not_waited_for(two: Two) -> None:
    await two.second.getattr("d/f")
    two.hub.leave(two.holder)
    began_s = trio.current_time()
    await two.first.setattr("d/f", Changes(mode=0o600))
    assert trio.current_time() == began_s


@scenario
async def test_others_go_on_while_one_change_waits(two: Two) -> None:
    await two.second.getattr("d/f")
    two.answer = trio.sleep_forever
    async with trio.open_nursery() as nursery:
        nursery.start_soon(two.first.setattr, "d/f", Changes(mode=0o600))
        await trio.testing.wait_all_tasks_blocked()
        began_s = trio.current_time()
        await two.first.mkdir("d/other", 0o755)
        assert trio.current_time() == began_s
        nursery.cancel_scope.cancel()


@scenario
async def test_a_change_that_fails_or_is_given_up_leaves_nothing_locked(two: Two) -> None:
    await two.second.getattr("d/f")
    with pytest.raises(PfsError):
        await two.first.mkdir("d/f", 0o755)
    two.answer = trio.sleep_forever
    await two.second.getattr("d/f")
    with trio.move_on_after(1):
        await two.first.setattr("d/f", Changes(mode=0o600))
    assert (await two.second.getattr("d/f")).leased


@scenario
async def test_what_changed_behind_the_service_is_told_to_all(two: Two) -> None:
    await two.second.getattr("d/f")
    await two.hub.changed_outside([two.id("d/f")], [])
    assert two.told == [([two.id("d/f")], [])]


@scenario
async def test_who_keeps_no_copies_is_granted_none_and_tells_the_others(two: Two) -> None:
    nobody: Any = LeasedFileSystem(two.tree, two.hub, None)
    assert not (await nobody.getattr("d/f")).leased
    await two.second.getattr("d/f")
    await nobody.unlink("d/f")
    assert len(two.told) == 1


@scenario
async def test_what_comes_to_stand_at_a_path_while_its_change_waits_is_left_as_it_is(two: Two) -> None:
    anybody = LeasedFileSystem(two.tree, two.hub, None)
    two.tree.put("d/g", b"other")
    await two.second.getattr("d/f")
    before = two.tree.find("d/g").mode

    async def answer() -> None:
        two.answer = trio.lowlevel.checkpoint
        await anybody.rename("d/g", "d/f", RenameMode.REPLACE)
        assert (await two.second.getattr("d/f")).leased
        two.told.clear()

    two.answer = answer
    with pytest.raises(PfsError) as refused:
        await two.first.setattr("d/f", Changes(mode=0o600))
    assert (refused.value.kind, two.tree.find("d/f").mode, two.told) == (Kind.STALE, before, [])


@scenario
async def test_what_comes_to_stand_at_a_name_while_its_removal_waits_is_told_of_too(two: Two) -> None:
    anybody = LeasedFileSystem(two.tree, two.hub, None)
    two.tree.put("d/g", b"other")
    await two.second.getattr("d/f")
    replacing = two.id("d/g")

    async def answer() -> None:
        two.answer = trio.lowlevel.checkpoint
        await anybody.rename("d/g", "d/f", RenameMode.REPLACE)
        assert (await two.second.getattr("d/f")).leased
        two.told.clear()

    two.answer = answer
    await two.first.unlink("d/f")
    assert [nodes for nodes, _ in two.told if replacing in nodes] != []
