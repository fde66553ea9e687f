"""A mount and its server over a real connection: what is said beside the operations of the tree."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager

import pytest
import trio
from starlette.applications import Starlette

from pfs.accounts.store import KeyKind
from pfs.api import Changes, Name, OpenFlags, Standing
from pfs.client import connection
from pfs.client.filesystem import RemoteFileSystem, open_filesystem
from pfs.client.transfer import OPEN_PATH
from pfs.errors import Kind, PfsError
from pfs.leasing import hub
from pfs.leasing.hub import LEASE_S
from pfs.protocol.wire import CHANNEL_PATH
from pfs.server.mounts import Mounts
from pfs.server.routes import Gate
from tests.pfs.served import identify, served
from tests.pfs.world import World, kind_of

Run = Callable[[Callable[[], Awaitable[object]]], object]


@pytest.fixture
def watched(world: World) -> World:
    """A tree whose disk tells what others change."""
    world.disk.watch = lambda fd: True
    (world.path / "home/ann/f").write_text("text")
    return world


@asynccontextmanager
async def server(world: World) -> AsyncIterator[tuple[Mounts, Gate, str]]:
    mounts = Mounts(lambda identity: world.fs(identity.subject), "")
    gate = Gate(identify, mounts.view, {KeyKind.USER: mounts.conversation})
    takers = {CHANNEL_PATH: gate.channel, f"{OPEN_PATH}/": mounts.bulk.taker(gate.identity, gate.visits.during)}
    async with served(Starlette(routes=gate.routes()), takers=takers) as made:
        yield mounts, gate, made.url


@asynccontextmanager
async def two(world: World) -> AsyncIterator[tuple[RemoteFileSystem, RemoteFileSystem]]:
    async with (
        server(world) as (_, _, url),
        open_filesystem(url, "ann-token") as first,
        open_filesystem(url, "ann-token") as second,
    ):
        yield first, second


def test_a_mount_is_told_before_another_one_changes_something(run: Run, watched: World) -> None:
    async def main() -> None:
        async with two(watched) as (first, second):
            told: list[int] = []

            async def broken(nodes: Collection[int], names: Collection[Name]) -> None:
                told.extend(nodes)
                assert (watched.path / "home/ann/f").stat().st_mode & 0o777 == mode

            second.listen(broken, lambda: None, lambda: None)
            attr = await second.getattr("home/ann/f")
            mode = attr.mode
            assert attr.leased
            await first.setattr("home/ann/f", Changes(mode=0o600))
            assert told == [attr.node_id]

    run(main)


def test_who_comes_in_over_http_tells_mounts_too(run: Run, watched: World) -> None:
    async def main() -> None:
        async with server(watched) as (mounts, _, url), open_filesystem(url, "ann-token") as mount:
            told: list[Name] = []

            async def broken(nodes: Collection[int], names: Collection[Name]) -> None:
                told.extend(names)

            mount.listen(broken, lambda: None, lambda: None)
            parent = await mount.getattr("home/ann")
            view = mounts.view(await identify("ann-token"))
            await view.unlink("home/ann/f")
            assert told == [(parent.node_id, "f")]

    run(main)


def test_a_mount_that_ends_properly_is_not_waited_for(run: Run, watched: World) -> None:
    async def main() -> None:
        async with server(watched) as (_, _, url), open_filesystem(url, "ann-token") as first:
            async with open_filesystem(url, "ann-token") as second:
                assert (await second.getattr("home/ann/f")).leased
            with trio.fail_after(LEASE_S / 2):
                await first.setattr("home/ann/f", Changes(mode=0o600))

    run(main)


@pytest.mark.parametrize(("token", "admin"), [("admin-token", True), ("ann-token", False)])
def test_a_mount_knows_how_it_stands_with_its_server(run: Run, watched: World, token: str, admin: bool) -> None:
    async def main() -> None:
        lapsed, told = trio.Event(), list[Standing]()

        async def broken(nodes: Collection[int], names: Collection[Name]) -> None:
            raise AssertionError

        async with server(watched) as (_, gate, url), open_filesystem(url, token) as mount:
            standing = mount.standing()
            assert (standing.url, standing.connected, standing.admin) == (url, True, admin)
            mount.listen(broken, lambda: (told.append(mount.standing()), lapsed.set())[1], lambda: None)
            await gate.hang_up()
            await lapsed.wait()
            assert (told[0].connected, 0.0 <= told[0].since_s < 60.0) == (False, True)

    run(main)


def test_leases_lapse_when_the_server_goes(run: Run, watched: World) -> None:
    async def main() -> None:
        lapsed = trio.Event()

        async def broken(nodes: Collection[int], names: Collection[Name]) -> None:
            raise AssertionError

        async with server(watched) as (_, gate, url), open_filesystem(url, "ann-token") as mount:
            mount.listen(broken, lapsed.set, lambda: None)
            assert mount.trusted()
            await gate.hang_up()
            await lapsed.wait()

    run(main)


def test_large_pieces_travel_beside_the_channel(run: Run, watched: World, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    ask = connection.Connection.ask

    async def noting(self: connection.Connection, op: str, *arguments: object, **named: object) -> object:
        asked.append(op)
        return await ask(self, op, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(connection.Connection, "ask", noting)

    async def main() -> None:
        data = bytes(range(256)) * 8192
        async with two(watched) as (first, second):
            file = await first.open("home/ann/big", OpenFlags.WRITE | OpenFlags.CREATE, 0o644)
            assert await file.write(0, data) == len(data)
            await file.release()
            file = await second.open("home/ann/big", OpenFlags.READ, 0)
            assert await file.read(0, len(data)) == data
            assert await file.read(5, 10) == data[5:15]
            await file.release()
        assert "write" not in asked
        assert asked.count("read") == 1

    run(main)


@pytest.mark.parametrize("name", ["x" * 65, "", "two\nlines", "\ud800", 5, None])
def test_a_name_without_proper_form_is_not_noted_and_hello_is_said_once(run: Run, world: World, name: object) -> None:
    async def main() -> None:
        async with server(world) as (mounts, _, _):
            identity = await identify("ann-token")
            async with mounts.conversation(identity, lambda: None) as handle:  # type: ignore[arg-type,return-value]
                answer, _ = await handle("hello", {"mount": name}, b"")
                (holder,) = mounts.hub._holders.values()
                assert holder.name == answer["bulk"]
                assert await kind_of(handle("hello", {"mount": "another"}, b"")) is Kind.INVALID

    run(main)


def test_an_account_has_so_many_mounts_and_the_next_is_told(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub, "MOUNTS_MAX", 2)

    async def main() -> None:
        async with (
            server(world) as (_, _, url),
            open_filesystem(url, "ann-token"),
            open_filesystem(url, "ann-token"),
            open_filesystem(url, "admin-token"),
        ):
            with pytest.raises(PfsError, match=r"ann has 2 mounts of this server already") as caught:
                async with open_filesystem(url, "ann-token"):
                    pass
            assert caught.value.kind is Kind.TOO_MANY

    run(main)
