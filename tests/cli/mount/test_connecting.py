"""Which of several servers a mount has: those that are there, those that are away, and none that are not for us."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio
import trustme

from cli.config import Datacenter
from cli.mount import connecting
from cli.mount.options import Options
from fuseclient.kernel.identity import Ids
from pfs.api import Name
from pfs.client import connection
from pfs.client.filesystem import RemoteFileSystem
from pfs.errors import Kind, PfsError
from pfs.server.guard import Tls
from tests.pfs.served import datacenter, listening, machine
from tests.pfs.world import World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]
NOBODY = "http://127.0.0.1:9"
PLAIN = Options()
LIMIT_S = 10.0


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not wait long for anything."""
    monkeypatch.setattr(connection, "RETRY_FIRST_S", 0.002)
    monkeypatch.setattr(connection, "RETRY_MOST_S", 0.01)


def where(name: str, endpoint: str, token: str = "ann-token", ca: str | None = None) -> Datacenter:
    return Datacenter(name, "ann", token, endpoint, ca)


async def never(nodes: Collection[int], names: Collection[Name]) -> None:
    raise AssertionError("nothing is taken back here")


class Met:
    """What was found, and the lines that were told."""

    def __init__(self, trees: Mapping[str, RemoteFileSystem], told: list[str]) -> None:
        self.trees = trees
        self.told = told


@asynccontextmanager
async def met(*asked: Datacenter, options: Options = PLAIN) -> AsyncIterator[Met]:
    told: list[str] = []
    async with AsyncExitStack() as stack:
        yield Met(await connecting.connected({each.name: each for each in asked}, options, stack, told.append), told)


async def refusal(*asked: Datacenter, options: Options = PLAIN) -> tuple[PfsError, list[str]]:
    told: list[str] = []
    with pytest.raises(PfsError) as caught:
        async with AsyncExitStack() as stack:
            await connecting.connected({each.name: each for each in asked}, options, stack, told.append)
    return caught.value, told


def test_a_server_that_is_away_keeps_no_other_from_being_there_and_is_there_when_it_comes(
    run: Run, world: World
) -> None:
    async def main() -> None:
        async with datacenter(world) as there, machine(world) as server:
            late = await server.start()
            await server.kill()
            async with met(where("dc1", late), where("dc2", there.url)) as found:
                assert found.told == [
                    f"dc1 is away: no connection to the server at {late}: Connection refused; its folder is there, "
                    "and works as soon as the server answers"
                ]
                tree, came = found.trees["dc1"], trio.Event()
                assert await kind_of(tree.getattr("")) is Kind.TIMED_OUT
                await found.trees["dc2"].getattr("")
                tree.listen(never, lambda: None, came.set)
                await server.start()
                await came.wait()
                assert await tree.listdir("home/ann") == []

    run(main)


def test_one_that_says_nothing_is_waited_for_no_longer_than_the_others_bear(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "OTHERS_S", 0.05)

    async def main() -> None:
        async with (
            datacenter(world) as there,
            listening(silent) as url,
            met(where("dc1", url), where("dc2", there.url)) as found,
        ):
            assert list(found.trees) == ["dc1", "dc2"]
            assert found.told[0].startswith(f"dc1 is away: the server at {url} does not answer; its folder")
            with trio.fail_after(LIMIT_S):  # who waits does so for longer
                assert await kind_of(found.trees["dc1"].getattr("")) is Kind.TIMED_OUT

    async def silent(stream: trio.SocketStream) -> None:
        await trio.sleep_forever()

    run(main)


@pytest.fixture
def tls(tmp_path: Path) -> tuple[Tls, str]:
    """A server's certificate, and an authority that has not made it."""
    made = trustme.CA().issue_cert("127.0.0.1")
    for name, data in (("cert", made.cert_chain_pems[0]), ("key", made.private_key_pem)):
        data.write_to_path(str(tmp_path / name))
    trustme.CA().cert_pem.write_to_path(str(tmp_path / "other"))
    return Tls(str(tmp_path / "cert"), str(tmp_path / "key")), str(tmp_path / "other")


def test_those_that_no_waiting_would_open_are_left_out(run: Run, world: World, tls: tuple[Tls, str]) -> None:
    async def main() -> None:
        async with datacenter(world) as there, datacenter(world, tls=tls[0]) as strange:
            asked = [
                where("wrong-token", there.url, "pfs1.wrong"),
                where("wrong-ca", strange.url, ca=tls[1]),
                where("no-ca", strange.url, ca="/missing"),
                where("no-token", there.url, "\n"),
                where("dc2", there.url),
            ]
            async with met(*asked) as found:
                assert list(found.trees) == ["dc2"]
            told = dict(line.split(" is left out: ") for line in found.told)
            assert told["wrong-token"] == (
                f"the server at {there.url} does not accept the token; "
                "get another with `paddle login --dc wrong-token`, and mount again"
            )
            assert told["wrong-ca"].startswith(f"no connection to the server at {strange.url}: its certificate")
            assert told["no-ca"].startswith("the certificate authority /missing cannot be read")
            assert sorted(told) == sorted(each.name for each in asked[:-1])

    run(main)


def test_where_none_is_there_nothing_is_mounted_and_each_is_told(run: Run, world: World) -> None:
    async def main() -> None:
        async with datacenter(world) as there:
            error, told = await refusal(where("dc1", NOBODY), where("dc2", there.url, "pfs1.wrong"))
            assert (error.kind, error.message) == (Kind.UNREACHABLE, "none of these datacenters can be mounted")
            assert [line.split(": ")[0] for line in told] == ["dc1", "dc2"]
            assert "\n" not in "".join(told)
        error, told = await refusal(where("dc1", NOBODY))
        assert (error.message, told) == (f"no connection to the server at {NOBODY}: Connection refused", [])

    run(main)


def test_a_token_that_is_in_no_configuration_of_the_user_is_got_in_another_way(run: Run, world: World) -> None:
    async def main() -> None:
        async with datacenter(world) as there:
            error, _ = await refusal(where("pit", there.url, "pfs1.wrong"), options=Options(config="/tmp/config"))
            assert error.message == f"the server at {there.url} does not accept the token"

    run(main)


def test_where_only_the_server_can_say_whether_one_may_mount_so_it_has_to_be_there(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    numeric = Options(ids=Ids.NUMERIC)

    async def main() -> None:
        async with datacenter(world) as there:
            error, _ = await refusal(where("dc1", there.url), options=numeric)
            assert error.kind is Kind.DENIED
            assert error.message.endswith(f"ann is none at {there.url}; leave ids=numeric away")
            standing = RemoteFileSystem.standing
            monkeypatch.setattr(RemoteFileSystem, "standing", lambda tree: replace(standing(tree), admin=True))
            async with met(where("dc1", there.url), where("dc2", NOBODY), options=numeric) as found:
                assert list(found.trees) == ["dc1"]
                assert found.told[0].startswith("dc2 is left out: no connection")

    run(main)
