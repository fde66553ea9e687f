"""The door for shipped trees: who may come in, what is taken, and what becomes of a request that ends early."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio
from starlette.applications import Starlette

from cli.server import treeroutes as module
from cli.server.treeroutes import CONTENTS_PATH, TREES_PATH, tree_routes
from jobd.manifest import MANIFEST_BYTES_MAX, Manifest, Record, ShippedFile, encode_manifest, encode_record, tree_id
from jobd.store.trees import TreeStore
from pfs.accounts.store import Identity, KeyKind
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError
from pfs.perm import Subject
from pfs.server.doors import Body, Door
from pfs.server.routes import Gate
from tests.jobd.store.test_trees import hash_of
from tests.pfs.served import NO_TLS, served

DATA = b"data" * 1000
TEXT = encode_manifest(Manifest((ShippedFile("x", 0o644, len(DATA), hash_of(DATA)),)))
TREE = f"{TREES_PATH}/{tree_id(TEXT)}"
WHOLE = encode_record(Record(hash_of(DATA), 0, len(DATA), len(DATA))) + DATA


Ask = Callable[..., Awaitable[httpx.Response]]


class Site:
    port = 0

    def __init__(self, root: Path) -> None:
        (root / "server").mkdir()
        self.disk = Disk(str(root))
        gate = Gate(self._identify, self._no_files, {})
        self.app = Starlette(routes=tree_routes(gate, TreeStore(self.disk, lambda: (), lambda: 1e9)))

    async def _identify(self, token: str) -> Identity:
        if token not in ("ann", "bob", "node"):
            raise PfsError(Kind.UNAUTHENTICATED, "nobody's token")
        return Identity(KeyKind.NODE if token == "node" else KeyKind.USER, Subject(token))

    def _no_files(self, _identity: Identity) -> None:
        raise AssertionError

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Ask]:
        """Serve; give what asks."""
        async with (
            served(self.app) as server,
            httpx.AsyncClient(base_url=server.url, verify=NO_TLS, trust_env=False) as client,
        ):
            self.port = server.port

            async def ask(method: str, path: str, content: bytes, token: str = "ann") -> httpx.Response:
                return await client.request(method, path, content=content, headers={"authorization": f"Bearer {token}"})

            yield ask

    async def begin(self, token: str = "ann") -> trio.SocketStream:
        """Begin to send contents, and fall silent."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        head = (
            f"POST {CONTENTS_PATH} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 9999\r\n\r\n"
        )
        await stream.send_all(head.encode() + WHOLE[:100])
        return stream


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.disk.close()


def told(response: httpx.Response) -> tuple[int, str]:
    return response.status_code, response.json()["error"]["kind"]


def test_a_tree_is_listed_sent_and_listed_again(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.open() as ask:
            first = await ask("PUT", TREE, TEXT)
            assert (first.status_code, first.json()) == (200, {"missing": {hash_of(DATA): 0}})
            assert (await ask("POST", CONTENTS_PATH, WHOLE)).json() == {"taken": 1}
            assert (await ask("PUT", TREE, TEXT)).json() == {"missing": {}}
            assert (await ask("PUT", TREE, TEXT, token="bob")).json() == {"missing": {hash_of(DATA): 0}}

    run(main)


def test_only_users_ship(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.open() as ask:
            for token in ("nobody", "node"):
                assert told(await ask("PUT", TREE, TEXT, token=token)) == (401, "unauthenticated")
                assert told(await ask("POST", CONTENTS_PATH, WHOLE, token=token)) == (401, "unauthenticated")

    run(main)


def test_what_is_no_list_or_too_long_a_one_is_refused(site: Site, run: Callable) -> None:
    (door,) = (each for each in site.app.routes if isinstance(each, Door) and each.method == "PUT")
    assert door.body.bytes_max == MANIFEST_BYTES_MAX

    async def main() -> None:
        async with site.open() as ask:
            assert told(await ask("PUT", TREE, TEXT + b"x")) == (400, "invalid")
            assert told(await ask("PUT", f"{TREES_PATH}/x", TEXT)) == (400, "invalid")
            door.body = Body(10)
            assert told(await ask("PUT", TREE, TEXT)) == (413, "too-large")

    run(main)


def test_contents_that_end_early_or_are_others_are_refused(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.open() as ask:
            assert told(await ask("POST", CONTENTS_PATH, WHOLE[:1000])) == (400, "invalid")
            came = (await ask("PUT", TREE, TEXT)).json()["missing"][hash_of(DATA)]
            assert came == 1000 - (len(WHOLE) - len(DATA))
            assert told(await ask("POST", CONTENTS_PATH, WHOLE[:-1] + b"x")) == (400, "invalid")

    run(main)


def test_an_account_has_so_many_requests_at_once_and_others_are_not_held_up(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.open() as ask, AsyncExitStack() as begun:
            streams = [await begun.enter_async_context(await site.begin()) for _ in range(module.SHIPPING_MAX)]
            with trio.fail_after(20):
                while (refusal := await ask("PUT", TREE, TEXT)).status_code == 200:
                    pass
            assert told(refusal) == (429, "too-many")
            assert (await ask("POST", CONTENTS_PATH, WHOLE, token="bob")).status_code == 200
            await streams[0].aclose()
            with trio.fail_after(20):
                while (await ask("PUT", TREE, TEXT)).status_code != 200:
                    pass

    run(main)
