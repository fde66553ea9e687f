"""A server's promises over restarts, cuts and ends: nobody trusts a copy of what has changed, and all changes are made.

The model is a world of one server process after another and of mounts that are cut off, deaf, and changed for others;
time is that of a machine that has nothing to do.
"""

import errno
import itertools
import json
import os
import tempfile
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
import trio.testing
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pfs.api import Name
from pfs.client.presence import Presence
from pfs.errors import Kind, PfsError
from pfs.leasing import hub as hub_module
from pfs.leasing.hub import HANG_UP_S, LEASE_S, NOBODY, Holder, LeaseHub
from pfs.leasing.promises import Promises

NODES = range(2)
MOUNTS = ("ann", "bob")
CHANGE_S = 2 * LEASE_S + 2 * HANG_UP_S  # a mount that is alive and deaf; and hanging up. Grace is waited for meanwhile
T = TypeVar("T")


def run(main: Callable[[], Awaitable[None]]) -> None:
    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


class Told:
    """A mount at a hub; it notes what it is told."""

    def __init__(self) -> None:
        self.nodes: list[int] = []
        self.lapsed = self.hung_up = 0
        self.answer: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint

    async def tell(self, nodes: Collection[int], names: Collection[Name]) -> None:
        self.nodes += sorted(nodes)
        await self.answer()

    async def lapse(self) -> None:
        self.lapsed += 1
        await self.answer()

    async def hang_up(self) -> None:
        self.hung_up += 1

    async def enter(self, hub: LeaseHub, name: str, *nodes: int) -> Holder:
        """Come in, and look at these nodes."""
        holder = hub.join(self.tell, self.lapse, self.hang_up)
        await hub.enter(holder, name)
        hub.leases.grant(holder.number, nodes, hub.leases.now)
        return holder


async def slowly() -> None:
    await trio.sleep(3)


async def change(hub: LeaseHub, *nodes: int) -> float:
    """Change something; return how long that took."""
    began_s = trio.current_time()
    async with hub.change(NOBODY, nodes):
        return trio.current_time() - began_s


def test_before_a_mount_has_entered_nothing_is_leased_to_it() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        holder = hub.join(told.tell, told.lapse, told.hang_up)
        assert hub.leases.grant(holder.number, [7], hub.leases.now) == set()

    run(main)


def test_a_mount_that_comes_in_again_is_not_waited_for_on_its_former_connection() -> None:
    async def main() -> None:
        hub, before, after = LeaseHub(), Told(), Told()
        hub.lost(await before.enter(hub, "ann", 7))
        await after.enter(hub, "ann", 8)
        assert before.hung_up == 1
        assert await change(hub, 7) == 0
        assert (before.nodes, after.nodes) == ([], [])

    run(main)


def test_who_is_silent_is_waited_for_until_it_trusts_nothing_and_who_is_deaf_for_as_long_once_more() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        told.answer = trio.sleep_forever
        await told.enter(hub, "ann", 7)
        await trio.sleep(4)
        assert await change(hub, 7) == pytest.approx(LEASE_S - 4)
        holder = await told.enter(hub, "bob", 7)

        async def live() -> None:
            while True:
                hub.heard(holder)
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(live)
            await trio.sleep(0.5)
            assert LEASE_S <= await change(hub, 7) <= 2 * LEASE_S
            nursery.cancel_scope.cancel()
        assert told.hung_up == 2

    run(main)


def test_two_changes_of_one_node_both_wait_for_who_has_it() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        told.answer = slowly
        await told.enter(hub, "ann", 7)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(change, hub, 7)
            await trio.sleep(1)
            assert await change(hub, 7) == 3
        assert await change(hub, 7) == 0

    run(main)


def test_who_gives_a_change_up_has_told_nobody() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        told.answer = slowly
        await told.enter(hub, "ann", 7)
        with trio.move_on_after(1):
            await change(hub, 7)
        assert await change(hub, 7) == 3

    run(main)


def test_all_that_a_lost_mount_has_is_waited_for_and_not_only_what_changes_first() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        hub.lost(await told.enter(hub, "ann", 7, 8))
        await trio.sleep(4)
        took: list[float] = []

        async def changes(node: int) -> None:
            took.append(await change(hub, node))

        async with trio.open_nursery() as nursery:
            for node in (7, 8):
                nursery.start_soon(changes, node)
                await trio.sleep(1)
        assert sorted(took) == [LEASE_S - 5, LEASE_S - 4]

    run(main)


def test_a_mount_that_comes_back_ends_the_waiting_for_it() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        hub.lost(await told.enter(hub, "ann", 7))

        async def come_back() -> None:
            await trio.sleep(2)
            await Told().enter(hub, "ann")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(come_back)
            assert await change(hub, 7) == 2

    run(main)


def test_when_anything_may_have_changed_all_are_hung_up_on_and_what_they_trust_is_waited_for() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        await told.enter(hub, "ann", 7)
        await hub.all_changed_outside()
        assert told.hung_up == 1
        assert await change(hub, 7) == LEASE_S

    run(main)


def test_who_was_not_heard_for_long_is_not_even_asked() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        await told.enter(hub, "ann", 7)
        await trio.sleep(LEASE_S)
        assert await change(hub, 7) == 0

    run(main)


def test_who_has_too_many_leases_gives_the_oldest_back_before_it_looks_at_more() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        hub.leases._held_max = 8
        holder = await told.enter(hub, "ann", *range(9))
        await hub.make_room(holder.number)
        assert told.nodes == [0, 1]
        assert hub.leases.count(holder.number) == 7
        await hub.make_room(holder.number)
        await hub.make_room(NOBODY)
        assert told.nodes == [0, 1]

    run(main)


def test_leases_that_are_asked_back_go_on_when_that_is_given_up() -> None:
    async def main() -> None:
        hub, told = LeaseHub(), Told()
        told.answer = trio.sleep_forever
        hub.leases._held_max = 8
        holder = await told.enter(hub, "ann", *range(9))
        with trio.move_on_after(1):
            await hub.make_room(holder.number)
        assert hub.leases.count(holder.number) == 9

    run(main)


# ---- one server after another


def test_the_note_is_as_long_as_the_mounts_of_an_account_may_be_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MOUNTS_MAX", 3)

    async def main() -> None:
        note = tmp_path / "note"
        hub = LeaseHub(Promises(str(note)))
        for number in range(3):
            hub.lost(await Told().enter(hub, f"mount{number}"))  # no bye: each may trust what it has
        with pytest.raises(PfsError) as caught:
            await Told().enter(hub, "mount3")
        assert caught.value.kind is Kind.TOO_MANY
        await Told().enter(hub, "mount1")  # one that comes back is none more
        assert json.loads(note.read_text())["mounts"] == ["mount0", "mount1", "mount2"]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.run)
            await trio.sleep(2 * LEASE_S)
            nursery.cancel_scope.cancel()
        assert json.loads(note.read_text())["mounts"] == ["mount1"]
        await Told().enter(hub, "mount3")

    run(main)


def test_who_cannot_be_noted_is_let_in_without_leases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        hub = LeaseHub(Promises(str(tmp_path / "note")))

        def refuse(self: Promises, mount: str) -> None:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))

        monkeypatch.setattr(Promises, "add", refuse)
        holder = hub.join(*[trio.sleep_forever] * 3)
        await hub.enter(holder, "ann")
        assert hub.leases.grant(holder.number, [1], hub.leases.now) == set()

    run(main)


def test_who_goes_without_having_said_hello_leaves_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        hub, told = LeaseHub(Promises(str(tmp_path / "note"))), Told()
        hub.lost(hub.join(told.tell, told.lapse, told.hang_up))
        assert hub._holders == {}

    run(main)


def test_after_a_kill_nothing_changes_before_all_mounts_are_back(tmp_path: Path) -> None:
    async def main() -> None:
        note = str(tmp_path / "mounts")
        await Told().enter(LeaseHub(Promises(note)), "ann", 7)
        hub = LeaseHub(Promises(note))
        took: list[float] = []

        async def changes() -> None:
            took.append(await change(hub, 7))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(changes)
            await trio.sleep(3)
            await Told().enter(hub, "bob")
            await trio.sleep(1)
            assert took == []
            await Told().enter(hub, "ann")
        assert took == [4]
        assert await change(hub, 7) == 0

    run(main)


def test_after_a_kill_a_mount_that_does_not_come_back_is_waited_out(tmp_path: Path) -> None:
    async def main() -> None:
        note = str(tmp_path / "mounts")
        await Told().enter(LeaseHub(Promises(note)), "ann", 7)
        hub = LeaseHub(Promises(note))
        assert await change(hub, 1 << 63) == 0  # the server's own are never leased
        assert await change(hub, 7) == LEASE_S
        assert LeaseHub(Promises(note)).in_grace is False

    run(main)


def test_a_deaf_mount_is_waited_for_while_those_of_an_earlier_server_are(tmp_path: Path) -> None:
    async def main() -> None:
        await Told().enter(LeaseHub(Promises(str(tmp_path / "note"))), "ann", 1)
        hub, deaf = LeaseHub(Promises(str(tmp_path / "note"))), Told()
        deaf.answer = trio.sleep_forever
        holder = await deaf.enter(hub, "bob", 1)

        async def show_life() -> None:
            while holder.there:
                hub.heard(holder)
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(show_life)
            assert LEASE_S < await change(hub, 1) <= CHANGE_S

    run(main)


def test_a_server_that_ends_properly_costs_the_next_one_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        note, ann, bob = str(tmp_path / "mounts"), Told(), Told()
        hub = LeaseHub(Promises(note))
        await ann.enter(hub, "ann", 7)
        await bob.enter(hub, "bob")
        await hub.end()
        assert (ann.lapsed, bob.lapsed) == (1, 0)  # who was promised nothing need not be asked
        assert await change(LeaseHub(Promises(note)), 7) == 0

    run(main)


@pytest.mark.parametrize("how", ["silent", "lost", "refusing"])
def test_a_server_that_ends_leaves_the_mounts_that_it_cannot_reach_to_the_next(tmp_path: Path, how: str) -> None:
    async def refuse() -> None:
        raise PfsError(Kind.UNSUPPORTED, "what is that?")

    async def main() -> None:
        note, told = str(tmp_path / "mounts"), Told()
        hub = LeaseHub(Promises(note))
        holder = await told.enter(hub, "ann", 7)
        if how == "lost":
            hub.lost(holder)
        told.answer = trio.sleep_forever if how == "silent" else refuse
        with trio.fail_after(HANG_UP_S + 1):
            await hub.end()
        assert await change(LeaseHub(Promises(note)), 7) == LEASE_S
        assert hub.leases.others(NOBODY)  # who still asks the one that ends waits for it there

    run(main)


def test_a_mount_that_is_gone_for_good_is_forgotten(tmp_path: Path) -> None:
    async def main() -> None:
        note = str(tmp_path / "mounts")
        hub = LeaseHub(Promises(note))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(hub.run)
            hub.lost(await Told().enter(hub, "ann", 7))
            hub.leave(await Told().enter(hub, "bob", 7))
            await Told().enter(hub, "cid", 7)
            await trio.sleep(3 * LEASE_S)
            nursery.cancel_scope.cancel()
        assert Promises(note).earlier == ["cid"]

    run(main)


# ---- the model


class Gone(Exception):
    """The connection has ended."""


class Server:
    """One server process."""

    def __init__(self, note: str) -> None:
        self.hub = LeaseHub(Promises(note))
        self.gone = trio.Event()
        self._scopes: set[trio.CancelScope] = set()

    async def serve(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Do something in the server; whoever waits for it loses the connection when the server goes."""
        if not self.gone.is_set():
            with trio.CancelScope() as scope:
                self._scopes.add(scope)
                try:
                    return await ask()
                finally:
                    self._scopes.discard(scope)
        raise Gone

    def kill(self) -> None:
        self.gone.set()
        for scope in self._scopes:
            scope.cancel()


class Mount:
    """A mount that looks at nodes, and does what `pfs.client.connection` and `fuseclient.cache.tree` do about it."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.presence = Presence()
        self.copies: dict[int, int] = {}
        self.broken: dict[int, set[int]] = {}  # of the questions under way, by number
        self.numbers = itertools.count()
        self.reachable = trio.Event()
        self.reachable.set()
        self.deaf = False
        self.number = NOBODY
        self.connection: tuple[Server, trio.Event] | None = None

    async def hop(self, server: Server, lost: trio.Event) -> None:
        """One message, on its way for a moment, or for as long as the network is cut."""
        await trio.sleep(0.01)
        await self.reachable.wait()
        if server.gone.is_set() or lost.is_set():
            raise Gone

    async def live(self) -> None:
        while True:
            server = await self.world.running()
            lost = trio.Event()
            holder = None
            try:
                holder = await self._come_in(server, lost)
                await self._stay(server, holder, lost)
            except Gone:
                pass
            finally:
                lost.set()
                self.presence.lost(trio.current_time())
                self.connection = None
                if holder is not None and self.reachable.is_set():
                    server.hub.lost(holder)
            await trio.sleep(0.5)

    async def _come_in(self, server: Server, lost: trio.Event) -> Holder:
        async def tell(nodes: Collection[int], names: Collection[Name]) -> None:
            await self._reached(server, lost)
            for node in nodes:
                self.copies.pop(node, None)
            for question in self.broken.values():
                question.update(nodes)
            await self._reached(server, lost)

        async def lapse() -> None:
            await self._reached(server, lost)
            self.presence.lost(trio.current_time())
            await self._reached(server, lost)

        async def hang_up() -> None:
            lost.set()

        with trio.move_on_after(10):
            await self.hop(server, lost)
            holder = server.hub.join(tell, lapse, hang_up)
            await server.serve(lambda: server.hub.enter(holder, self.name))
            await self.hop(server, lost)
            await self._show_life(server, holder, lost)
            self.connection, self.number = (server, lost), holder.number
            return holder
        raise Gone

    async def _reached(self, server: Server, lost: trio.Event) -> None:
        if self.deaf:
            await trio.sleep_forever()
        try:
            await self.hop(server, lost)
        except Gone:
            raise PfsError(Kind.UNREACHABLE) from None

    async def _show_life(self, server: Server, holder: Holder, lost: trio.Event) -> None:
        said_s = trio.current_time()
        await self.hop(server, lost)
        server.hub.heard(holder)
        await self.hop(server, lost)
        if self.presence.missed:
            self._forget()
        self.presence.heard(said_s)

    async def _stay(self, server: Server, holder: Holder, lost: trio.Event) -> None:
        while True:
            await trio.sleep(2.5)
            with trio.move_on_at(self.presence.trusted_until_s) as scope:
                await self._show_life(server, holder, lost)
            if scope.cancelled_caught:
                self.presence.silent(trio.current_time())
                with trio.move_on_after(7) as scope:
                    await self._show_life(server, holder, lost)
                if scope.cancelled_caught:
                    raise Gone

    def _forget(self) -> None:
        self.copies.clear()
        for question in self.broken.values():
            question.update(NODES)

    async def look(self, node: int) -> None:
        """Read a node at the server, and keep a copy if it is leased."""
        if self.connection is None:
            return
        server, lost = self.connection
        number = next(self.numbers)
        question = self.broken[number] = set()
        try:
            await self.hop(server, lost)
            since = server.hub.leases.now
            await trio.sleep(0.01)
            version = self.world.disk[node]
            await trio.sleep(0.01)
            leased = server.hub.leases.grant(self.number, [node], since) if not server.gone.is_set() else set()
            await self.hop(server, lost)
            if leased and node not in question:
                self.copies[node] = version
        except Gone:
            pass
        finally:
            del self.broken[number]

    def check(self) -> None:
        """What may be trusted is what is there."""
        if self.connection is not None and self.presence.trusted(trio.current_time()):
            for node, version in self.copies.items():
                assert version == self.world.disk[node], f"{self.name} trusts an old copy of {node}"


class World:
    """A disk, the server of the moment, and mounts."""

    def __init__(self, note: str, nursery: trio.Nursery) -> None:
        self._note = note
        self._nursery = nursery
        self._started = trio.Event()
        self._versions = itertools.count(1)
        self.server: Server | None = None
        self.disk = dict.fromkeys(NODES, 0)
        self.mounts = {name: Mount(self, name) for name in MOUNTS}
        self.start()

    async def running(self) -> Server:
        while self.server is None:
            await self._started.wait()
        return self.server

    def start(self) -> None:
        if self.server is None:
            self.server = Server(self._note)
            self._started.set()

    def kill(self) -> None:
        if self.server is not None:
            server, self.server = self.server, None
            self._started = trio.Event()
            server.kill()

    async def end(self) -> None:
        """End the server properly, and start it again."""
        if (server := self.server) is not None:
            await server.hub.end()
            if self.server is server:
                self.kill()
                self.start()

    async def change(self, node: int) -> None:
        """Change a node; it is acknowledged in time, or the server goes before."""
        if self.server is None:
            return
        server, began_s = self.server, trio.current_time()

        async def make() -> None:
            async with server.hub.change(NOBODY, [node]):
                self.disk[node] = next(self._versions)
                self.check()

        try:
            await server.serve(make)
        except Gone:
            return
        assert trio.current_time() - began_s <= CHANGE_S

    def check(self) -> None:
        for mount in self.mounts.values():
            mount.check()

    def do(self, what: str, name: str, node: int) -> None:
        mount = self.mounts[name]
        match what:
            case "look":
                self._nursery.start_soon(mount.look, node)
            case "change":
                self._nursery.start_soon(self.change, node)
            case "cut":
                mount.reachable = trio.Event()
            case "heal":
                mount.reachable.set()
            case "deafen":
                mount.deaf = not mount.deaf
            case "kill":
                self.kill()
            case "start":
                self.start()
            case "crash":
                self.kill()
                self.start()
            case "end":
                self._nursery.start_soon(self.end)


STEPS: st.SearchStrategy[list[tuple[Any, ...]]] = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.015, 0.1, 0.1, 0.5, 1.0, 3.0, 9.0]),
        st.sampled_from(
            ["look"] * 6 + ["change"] * 4 + ["cut"] * 2 + ["heal", "deafen", "kill", "start", "crash", "end", "end"]
        ),
        st.sampled_from(MOUNTS),
        st.sampled_from(NODES),
    ),
    min_size=10,
    max_size=40,
)


def after_a_cut(*whats: str) -> list[tuple[Any, ...]]:
    """Return what chance rarely finds: a mount that trusts its copy is cut off, and then this happens."""
    return [(0.2, "look", "ann", 0), (0.1, "cut", "ann", 0), *((0.7, what, "ann", 0) for what in whats)]


@given(STEPS)
@example(after_a_cut("change", "change"))
@example(after_a_cut("crash", "change"))
@example(after_a_cut("crash", "crash", "change"))
@example(after_a_cut("end", "look", "look", "look", "change"))
@settings(max_examples=10, deadline=None)
def test_nobody_trusts_what_has_changed_and_every_change_is_made_in_time(steps: list[tuple[Any, ...]]) -> None:
    async def main() -> None:
        async with trio.open_nursery() as nursery, trio.open_nursery() as asked:
            with tempfile.TemporaryDirectory() as directory:
                world = World(f"{directory}/mounts", asked)
                for mount in world.mounts.values():
                    nursery.start_soon(mount.live)
                await trio.sleep(0.2)
                for pause_s, what, name, node in steps:
                    world.do(what, name, node)
                    await trio.sleep(pause_s)
                    world.check()
                for mount in world.mounts.values():
                    mount.reachable.set()
                    mount.deaf = False
                await trio.sleep(2 * HANG_UP_S)  # a server may be ending
                world.start()
                await trio.sleep(CHANGE_S)
                for mount in world.mounts.values():
                    await mount.look(0)
                    assert mount.copies[0] == world.disk[0]  # and all is as it was
            nursery.cancel_scope.cancel()

    run(main)
