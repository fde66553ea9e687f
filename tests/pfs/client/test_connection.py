"""A mount's connection: what it does when the server goes, falls silent, ends, and comes back."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

import pytest
import trio

from pfs.api import Name, NodeType
from pfs.client import connection, presence
from pfs.client.filesystem import RemoteFileSystem, open_filesystem
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Channel, Handler
from pfs.protocol.wire import Json
from tests.pfs.served import Conversation, Identity, answering, datacenter, machine
from tests.pfs.world import World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]
LIMIT_S = 20


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for anything."""
    monkeypatch.setattr(connection, "RETRY_FIRST_S", 0.002)
    monkeypatch.setattr(connection, "RETRY_MOST_S", 0.01)
    monkeypatch.setattr(connection, "ALIVE_EVERY_S", 0.02)


async def never(nodes: Collection[int], names: Collection[Name]) -> None:
    raise AssertionError("nothing is taken back here")


class Noted:
    """What a mount is told about its leases; and whether they were trusted at that time."""

    def __init__(self, mount: RemoteFileSystem) -> None:
        self.said: list[tuple[str, bool]] = []
        self.changed = trio.Event()

        def note(what: str) -> Callable[[], None]:
            def told() -> None:
                self.said.append((what, mount.trusted()))
                self.changed.set()
                self.changed = trio.Event()

            return told

        mount.listen(never, note("lapsed"), note("returned"))

    async def until(self, what: str) -> None:
        while (what, False) not in self.said:
            await self.changed.wait()


def test_leases_end_with_the_connection_and_all_is_forgotten_before_there_are_new_ones(run: Run, world: World) -> None:
    async def main() -> None:
        async with machine(world) as server, open_filesystem(await server.start(), "ann-token") as mount:
            noted = Noted(mount)
            assert mount.trusted()
            await server.kill()
            await noted.until("lapsed")
            assert not mount.trusted()
            await server.start()
            await mount.look_out()
            assert mount.trusted()
            assert ("returned", False) in noted.said
            assert {trusted for _, trusted in noted.said} == {False}

    run(main)


def test_a_server_that_stays_gone_is_away(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presence, "PATIENCE_S", 0.05)

    async def main() -> None:
        async with machine(world) as server, open_filesystem(await server.start(), "ann-token") as mount:
            noted = Noted(mount)
            await server.kill()
            await noted.until("lapsed")
            with trio.fail_after(LIMIT_S):
                await mount.look_out()
            assert mount.is_away()
            await server.start()
            await mount.getattr("")
            assert not mount.is_away()

    run(main)


def test_a_thousand_questions_do_not_each_wait_for_a_server_that_is_away(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "DEADLINE_S", 0.2)

    async def main() -> None:
        async with machine(world) as server, open_filesystem(await server.start(), "ann-token") as mount:
            await server.kill()
            with trio.fail_after(LIMIT_S):  # a tenth of what they would wait
                for _ in range(1000):
                    assert await kind_of(mount.getattr("")) is Kind.TIMED_OUT
            await server.start()
            await mount.look_out()
            await mount.getattr("")

    run(main)


def test_a_server_that_was_not_there_at_first_is_there_when_it_comes(run: Run, world: World) -> None:
    async def main() -> None:
        async with machine(world) as server:
            url = await server.start()
            await server.kill()
            async with open_filesystem(url, "ann-token", patient=True) as mount:
                noted = Noted(mount)
                with pytest.raises(PfsError, match="Connection refused"):
                    await mount.begun()
                with trio.fail_after(LIMIT_S):  # who waits does so for longer
                    assert await kind_of(mount.getattr("")) is Kind.TIMED_OUT
                assert (mount.standing().connected, mount.is_away()) == (False, True)
                await server.start()
                await noted.until("returned")
                await mount.look_out()
                assert (await mount.getattr("home/ann")).type is NodeType.DIRECTORY
                assert mount.standing().connected

    run(main)


def test_a_server_that_was_given_up_is_not_looked_for(run: Run, world: World) -> None:
    async def main() -> None:
        async with datacenter(world) as server, open_filesystem(server.url, "no-token", patient=True) as mount:
            with pytest.raises(PfsError, match="does not accept the token"):
                await mount.begun()
            mount.give_up()
            await trio.testing.wait_all_tasks_blocked()
            asked = server.began
            await trio.sleep(5 * connection.RETRY_MOST_S)
            assert server.began == asked

    run(main)


def test_after_the_machine_has_slept_nothing_is_trusted(run: Run, world: World) -> None:
    async def main() -> None:
        async with datacenter(world) as server, open_filesystem(server.url, "ann-token") as mount:
            noted = Noted(mount)
            link = mount._connection
            awake = link._now_s
            link._now_s = lambda: awake() + 3600  # type: ignore[method-assign]
            assert not mount.trusted()
            assert not mount.is_away()  # so it is asked
            with trio.fail_after(LIMIT_S):
                await noted.until("returned")
                await mount.look_out()
            assert mount.trusted()

    run(main)


class Silent:
    """A server that says nothing any more to who connected first, as one behind a cut network."""

    def __init__(self) -> None:
        self.names: list[object] = []
        self.quiet = False

    @asynccontextmanager
    async def __call__(self, identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        number = len(self.names)

        async def handle(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
            if op == "hello":
                self.names.append(args["mount"])
            if self.quiet and number == 0:
                await trio.sleep_forever()
            return {}, b""

        yield handle


def silent(monkeypatch: pytest.MonkeyPatch) -> Silent:
    """Return such a server, and let it be found out soon."""
    monkeypatch.setattr("tests.pfs.served.greeting", lambda conversation: conversation)
    monkeypatch.setattr(presence, "TRUST_S", 0.2)
    monkeypatch.setattr(connection, "SILENCE_MAX_S", 0.1)
    return Silent()


def test_a_silent_server_is_dialled_again_under_the_same_name(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation: Conversation = silent(monkeypatch)
    assert isinstance(conversation, Silent)

    async def main() -> None:
        async with datacenter(world, conversation) as server, open_filesystem(server.url, "ann-token") as mount:
            noted = Noted(mount)
            conversation.quiet = True
            with trio.fail_after(LIMIT_S):
                await noted.until("lapsed")
                await noted.until("returned")
                await mount.look_out()
            assert len(conversation.names) == 2
            assert len(set(conversation.names)) == 1
            assert mount.trusted()

    run(main)


def test_a_server_that_is_silent_from_the_greeting_on_is_left(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    conversation = silent(monkeypatch)
    conversation.quiet = True
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT_S", 0.3)

    async def main() -> None:
        async with datacenter(world, conversation) as server:
            with trio.fail_after(LIMIT_S), pytest.raises(Exception, match="does not answer"):
                async with open_filesystem(server.url, "ann-token"):
                    raise AssertionError

    run(main)


def test_when_the_server_takes_all_leases_back_nothing_is_trusted_when_it_hears_of_that(run: Run, world: World) -> None:
    channels: list[Callable[[], Channel]] = []

    @asynccontextmanager
    async def conversation(identity: Identity, channel: Callable[[], Channel]) -> AsyncIterator[Handler]:
        channels.append(channel)
        async with answering(nothing)(identity, channel) as handler:
            yield handler

    async def nothing(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        return {}, b""

    async def main() -> None:
        async with datacenter(world, conversation) as server, open_filesystem(server.url, "ann-token") as mount:
            noted = Noted(mount)
            await channels[0]().ask("lapse", {})
            assert noted.said[0] == ("lapsed", False)

    run(main)
