"""Who may ask for what over HTTP: every route with every kind of key, as a table to be read.

A route that is new has no row in the table, and fails here until somebody has said who may ask for it.
"""

import itertools
import json
import shutil
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from cli.server import serve
from cli.server.datacenter import Store, make_data_root
from jobd.engine.assign import Place
from jobd.engine.engine import Engine
from jobd.engine.workshop import DiskWorkshop
from jobd.files.events import line_of
from jobd.files.sources import Sources
from jobd.rest.desk import Desk
from jobd.store.history import History
from jobd.store.logs import LogStore
from jobd.store.secrets import Secrets
from jobd.store.trees import TreeStore
from pfs.accounts.store import Identity, KeyKind, Terms
from pfs.perm import Scope, Subject
from pfs.protocol.wire import FILES_PATH
from pfs.server.doors import Door, application
from pfs.server.mounts import Mounts
from pfs.server.openapi import OPENAPI_PATH, OPENAPI_V2_PATH, document
from pfs.server.routes import Gate
from pfs.tree.service import TreeFileSystem
from pfs.tree.top import top
from tests.golden import Step, check
from tests.jobd.conftest import migrated_database
from tests.pfs.served import NO_TLS, served

SCRIPT = Path(__file__).with_name("doors.txt")
URL = "http://127.0.0.1:8470"
METHODS = ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS")
# what is asked for at each route, by the path that the server knows it by: one's own, somebody else's, and nobody's
ASKED = {
    "/api/v1/fs/{path:path}": [
        *(f"{domain}/x?op=mkdir" for domain in ("home/ann", "home/mel", "groups/ml", "shared")),
        "server/pfs.sqlite",
    ],
    "/api/v1/tokens/{name}": ["0123456789ab"],
    "/api/v1/users/{name}": ["ann"],
    "/api/v1/trees/{id}": ["x"],
    "/api/v1/accounts/{name}": ["ann", "zed"],
    "/api/v1/groups/{name}": ["ml", "old"],
    "/api/v1/groups/{name}/members/{user}": ["ml/members/zed"],
    "/api/v1/jobs/{name}": ["x"],
    "/api/v1/trainingjobs/{name}": ["x"],
    "/api/v1/specs/{name}": ["x"],
    "/api/v1/file": [f"?path=/pfs/dc1/{domain}/x" for domain in ("home/ann", "home/mel", "groups/ml", "shared")],
    "/api/v1/pfs/storage/chunks": ["?path=/pfs/dc1/home/ann/x&offset=0&chunksize=1"],
    "/api/v1/pfs/chunks": ["?method=GetChunkMeta&path=/pfs/dc1/home/ann/x&offset=0&chunksize=1"],
    "/api/v1/pfs/files": ["?method=stat&path=/pfs/dc1/home/ann/x"],
    "/api/v1/filelist": ["?path=/pfs/dc1/home/ann"],
    "/api/v1/below/{path:path}": ["home/ann", "home/mel", "groups/ml", "server"],
    "/api/v1/contents/{path:path}": ["home/ann", "home/mel"],
    "/api/v1/sums/{path:path}": ["home/ann/x?offset=0&size=1&chunk=1", "home/mel/x?offset=0&size=1&chunk=1"],
}
NOT_ASKED = {("DELETE", "/api/v1/accounts/ann"), ("DELETE", "/api/v1/groups/ml")}  # who is asked for is needed
TAKEN = ["/api/v1/channel", "/api/v1/open/0123/1", "/api/v1/ranges/home/ann/x", "/api/v1/ranges/home/mel/x"]
ANYBODY = {"/health", "/api/v1/authority", "/api/v1/login", "/api/v1/register", "/api/v1/users/{name}"}
ANYBODY |= {"/api-token-auth", "/healthz", "/filepub"}
REST_TAKES = ("jobs", "trainingjobs", "registry", "publish")
TAKES = {
    ("PUT", "/api/v1/fs/{path:path}"),
    ("POST", "/api/v1/login"),
    ("POST", "/api/v1/register"),
    ("POST", "/api/v1/password"),
    ("POST", "/api/v1/tokens"),
    ("PUT", "/api/v1/accounts/{name}"),
    ("POST", "/api/v1/accounts/{name}"),
    ("PUT", "/api/v1/groups/{name}"),
    ("POST", "/api/v1/groups/{name}"),
    ("POST", "/api/v1/nodes/tokens"),
    ("POST", "/api/v1/nodes/join"),
    ("POST", "/api/v1/trees/contents"),
    ("PUT", "/api/v1/trees/{id}"),
    ("POST", "/api-token-auth"),
    ("POST", "/api/v1/specs/{name}"),
    ("POST", "/api/v1/restore"),
    *((method, f"/api/v1/{what}") for method in ("POST", "DELETE") for what in REST_TAKES),
    *((method, "/api/v1/pfs/files") for method in ("POST", "DELETE")),
    *((method, "/api/v1/pfs/storage/chunks") for method in ("POST", "PATCH")),
    ("POST", "/api/v1/file"),
    ("POST", "/api/v1/below/{path:path}"),
    ("POST", "/api/v1/contents/{path:path}"),
}
KINDS = (KeyKind.USER, KeyKind.NODE, KeyKind.JOB)  # of those who talk over channels
STRANGERS = ("nobody", "revoked")


class Site:
    """The doors of a server, with a file in each home."""

    port = 0

    def __init__(self, root: Path) -> None:
        make_data_root(str(root))
        shutil.copy(migrated_database(), root / "server/pfs.sqlite")
        self.store = Store(str(root), None, exclusive=False)
        self.store.jobs.set_now("endpoint", URL)
        self.store.jobs.set_now("datacenter", "dc1")
        for name in ("root", "ann", "mel", "bob"):
            self.store.add_user(name, admin=name == "root")
        self.root = root
        self.restore()
        for name in ("ann", "mel"):
            self.store.join_group("ml", name)
        (root / "groups/ml/x").write_text("text")
        tree = top(self.store.accounts, self.store.disk, b"", {}, 0)
        mounts = Mounts(lambda identity: TreeFileSystem(tree, self.store.disk, identity.subject), "")
        gate = Gate(self._identify, mounts.view, dict.fromkeys(KINDS, mounts.conversation))
        trees = TreeStore(self.store.disk, lambda: (), lambda: 1e9)
        self.routes = serve.routes(self.store, gate, trees, self._desk(trees))
        self.takers = serve.takers(gate, mounts)
        self.keys = self._keys()

    def restore(self) -> None:
        """Let everything be there again that somebody may have removed."""
        for domain in ("home/ann", "home/mel", "home/bob", "groups/ml"):
            if (self.root / domain).exists():
                (self.root / domain / "x").write_text("text")
        if not (self.root / "home/zed").exists():  # it goes with the account
            self.store.add_account("zed", admin=False)
        if "old" not in self.store.accounts.groups_now():
            self.store.add_group("old", "")

    def _desk(self, trees: TreeStore) -> Desk:
        """What is looked up of jobs, of which there are none."""
        store, place = self.store, Place("dc1")
        workshop = DiskWorkshop(store.disk, store.accounts.user, place, trees=trees, find_job=store.jobs.job)
        logs = LogStore(str(self.root / "jobs"))
        engine = Engine(store.jobs, logs, workshop, user=store.accounts.user, place=place, clock=time.time_ns)
        secrets = Secrets(store.database, store.private)
        history = History(str(self.root / "server/events"), line_of, time.time_ns)
        sources = Sources(engine, store.jobs, store.disk, workshop, secrets, store.accounts.audit, history)
        return Desk(sources, place.datacenter)

    async def _identify(self, key: str) -> Identity:
        """As the server does; of running jobs there is one, ann's."""
        if key == self.keys["job"]:
            return Identity(KeyKind.JOB, Subject("ann", job=17))
        return await self.store.accounts.identify(key)

    def _keys(self) -> dict[str, str]:
        make = self.store.accounts.make_key_now
        keys = {"nobody": "", "revoked": make(KeyKind.USER, "ann", URL)}
        self.store.accounts.revoke_now("ann", None)
        reader = Terms(scopes=frozenset({Scope.READ}))
        return keys | {
            "node": make(KeyKind.NODE, "root", URL),
            "join": self.store.join_token("root", 60)[0],
            "job": "pfs1.a.job",
            "reader": make(KeyKind.USER, "ann", URL, reader),
            **{name: make(KeyKind.USER, name, URL) for name in ("ann", "mel", "bob", "root")},
        }

    def asked(self) -> Iterator[tuple[str, str]]:
        """Yield everything that can be asked for."""
        for route in self.routes:
            for name in ASKED.get(route.path, [""]):
                methods = sorted((route.methods or set()) - {"HEAD"})  # which is GET without its end
                asked = ((method, route.path.partition("{")[0] + name) for method in methods)
                yield from (each for each in asked if each not in NOT_ASKED)
        yield from itertools.product(["GET", "PUT"], TAKEN)

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Callable[..., object]]:
        async with (
            served(application(self.routes), takers=self.takers) as server,
            httpx.AsyncClient(base_url=server.url, verify=NO_TLS, trust_env=False, timeout=20) as client,
        ):
            self.port = server.port

            async def ask(method: str, path: str, who: str) -> httpx.Response:
                key = self.keys[who]
                headers = {"authorization": f"Bearer {key}"} if key else {}
                takes = method == "PUT" or (method == "POST" and not path.startswith(FILES_PATH))
                takes = takes and "/members/" not in path
                content = b"{}" if takes else None
                return await client.request(method, path, headers=headers, content=content)

            yield ask


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path / "data")
    yield made
    made.store.close()


def test_who_may_ask_for_what(run, site: Site, request: pytest.FixtureRequest) -> None:
    async def main() -> str:
        rows = [["", "", *site.keys]]
        async with site.serving() as ask:
            for method, path in site.asked():
                cells = []
                for who in site.keys:
                    if method != "GET":
                        site.restore()
                    cells.append(str((await ask(method, path, who)).status_code))
                    if path not in ANYBODY and not path.startswith("/api/v1/users/") and who in STRANGERS:
                        assert cells[-1] == "401", (method, path, who)
                rows.append([method, path, *cells])
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def handler(step: Step) -> str:
        assert step.words == ("table",)
        return run(main)

    check(SCRIPT, handler, request.config.getoption("rewrite"))


def test_a_route_takes_the_methods_that_it_is_for_and_no_other(run, site: Site) -> None:
    allowed: dict[str, set[str]] = {}
    for route in site.routes:
        path = route.path.partition("{")[0] + ASKED.get(route.path, [""])[0]
        allowed.setdefault(path, set()).update(route.methods or ())
    allowed["/api/v1/trees/contents"].add("PUT")  # a tree that cannot be

    async def main() -> None:
        async with site.serving() as ask:
            for path, methods in allowed.items():
                for method in set(METHODS) - methods:
                    assert (await ask(method, path, "root")).status_code == 405, (method, path)

    run(main)


def test_every_route_is_a_door_that_says_what_it_takes(site: Site) -> None:
    for door in site.routes:
        assert isinstance(door, Door), door
        assert (door.kinds == ()) is (door.path in ANYBODY), door.path
        assert (door.body.bytes_max > 0) is ((door.method, door.path) in TAKES), door.path
        assert door.about
        assert door.tells


def test_a_door_takes_no_more_than_it_says(run, site: Site) -> None:
    """Said before anybody is asked who they are; what comes without its length is counted as it comes."""

    async def main() -> None:
        async with site.serving():
            for door in site.routes:
                path = door.path.partition("{")[0] + ASKED.get(door.path, [""])[0]
                announced = [f"content-length: {door.body.bytes_max + 1}"]
                if not door.body.bytes_max:
                    announced.append("transfer-encoding: chunked")
                for header in announced:
                    async with await trio.open_tcp_stream("127.0.0.1", site.port) as stream:
                        await stream.send_all(f"{door.method} {path} HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n".encode())
                        heard = b"".join([bytes(piece) async for piece in stream])
                    assert heard.startswith(b"HTTP/1.1 413 "), (path, header, heard)
                    assert b'"kind":"too-large"' in heard

    run(main)


def test_the_openapi_document_tells_of_every_door(run, site: Site) -> None:
    async def main() -> list[dict]:
        async with site.serving() as ask:
            return [(await ask("GET", path, "reader")).json() for path in (OPENAPI_PATH, OPENAPI_V2_PATH)]

    told, again = run(main)
    assert again == told
    assert {(method, path) for path, methods in told["paths"].items() for method in methods} == {
        (door.method.lower(), door.path_format) for door in site.routes
    }
    assert told == json.loads(json.dumps(document(site.routes)))


@pytest.mark.parametrize(
    ("method", "path", "status", "keys"),
    [
        ("GET", "/api/v1/jobs/1/2", 404, {"code", "msg", "kind"}),
        ("GET", "/api/v1/pservers/1", 404, {"code", "msg", "kind"}),
        ("GET", "/api/v2/submit", 404, {"code", "msg", "kind"}),
        ("GET", "/api/v2", 404, {"code", "msg", "kind"}),
        ("GET", "/api/v2/fs/home/ann/x", 404, {"code", "msg", "kind"}),
        ("PUT", "/api/v1/jobs", 405, {"code", "msg", "kind"}),
        ("GET", "/api/v1/jobs/x", 405, {"code", "msg", "kind"}),
        ("POST", "/api/v2/quota/", 405, {"code", "msg", "kind"}),
        ("DELETE", "/api/v2/openapi.json", 405, {"code", "msg", "kind"}),
        ("GET", "/api-token-auth/", 405, {"code", "msg", "kind"}),
        ("GET", "/certsgen/", 404, {"code", "msg", "kind"}),
        ("GET", "/certsdown/", 404, {"code", "msg", "kind"}),
        ("POST", "/notedash/", 404, {"code", "msg", "kind"}),
        ("GET", "/notestop", 404, {"code", "msg", "kind"}),
        ("GET", "/api/v1/pfs", 404, {"err", "results", "kind"}),
        ("GET", "/api/v1/pfs/files/x", 404, {"err", "results", "kind"}),
        ("POST", "/api/v2/pfs/storage", 404, {"err", "results", "kind"}),
        ("PUT", "/api/v1/pfs/files", 405, {"err", "results", "kind"}),
        ("POST", "/api/v2/pfs/chunks/", 405, {"err", "results", "kind"}),
        ("GET", "/api/v1/submit", 404, {"error"}),
        ("GET", "/api/v1/tokens/x", 405, {"error"}),
        ("DELETE", "/api/v1/openapi.json", 405, {"error"}),
    ],
)
def test_a_wrong_address_or_method_is_told_in_the_words_of_the_doors_that_are_nearest(
    run, site: Site, method: str, path: str, status: int, keys: set[str]
) -> None:
    async def main() -> httpx.Response:
        async with site.serving() as ask:
            return await ask(method, path, "ann")

    answer = run(main)
    said = answer.json()
    assert (answer.status_code, set(said), said.get("code", status)) == (status, keys, status)
    assert (status == 405) is ("allow" in answer.headers)


def test_what_is_not_known_is_nothing_to_anybody(run, site: Site) -> None:
    async def main() -> None:
        async with site.serving() as ask:
            for path in (
                "/",
                "/api",
                "/api/v1",
                "/api/v1/users",
                "/docs",
                "/openapi.json",
                "/metrics",
                "/debug",
                "/.git/HEAD",
            ):
                assert (await ask("GET", path, "root")).status_code == 404

    run(main)


def test_what_is_foreign_looks_as_if_it_were_not_there(run, site: Site) -> None:
    async def main() -> None:
        async with site.serving() as ask:
            # bob has a file there, and there are neither an eve nor a group hr
            asked = [("home", ("bob", "eve"), who) for who in ("reader", "ann", "job")] + [
                ("groups", ("ml", "hr"), "bob")
            ]
            for method, (kind, names, who) in itertools.product(("GET", "HEAD", "PUT", "DELETE", "POST"), asked):
                answers = set()
                for name in names:
                    for file in ("x", "y"):
                        response = await ask(method, f"/api/v1/fs/{kind}/{name}/{file}?op=mkdir", who)
                        answers.add((response.status_code, response.text.replace(name, "").replace(f"/{file}", "")))
                assert len(answers) == 1, (method, who, answers)
            name = site.store.accounts.keys_now("root")[0].name
            answers = {
                (await ask("DELETE", f"/api/v1/tokens/{each}", "ann")).text.replace(each, "") for each in (name, "0")
            }
            assert len(answers) == 1

    run(main)
