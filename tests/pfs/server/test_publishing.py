"""Files that their owners publish, over HTTP on loopback: who may, what everybody gets, and how it is taken back."""

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from starlette.applications import Starlette

from pfs.accounts.store import Identity, KeyKind
from pfs.audit.log import AuditLog
from pfs.audit.record import record_in
from pfs.leasing.filesystem import LeasedTree
from pfs.leasing.hub import LeaseHub
from pfs.perm import Scope, Subject
from pfs.server import published as module
from pfs.server.published import Publication, Published
from pfs.server.publishing import Publishing
from pfs.server.routes import Gate
from pfs.sql import Database
from tests.pfs.served import NO_TLS, served
from tests.pfs.world import ADMIN, ANN, BOB, World, make_tables

HOME = "/pfs/dc1/home/ann"
PUBLISH = "/api/v1/publish/"
WHERE = "https://dc1.example.org:8470"
GONE = (404, "no file is published here (any more)")


class Site:
    def __init__(self, world: World, database: Database) -> None:
        self.audit = AuditLog(database)
        self.people = {"ann": replace(ANN, uid=200001), "bob": BOB, "root": ADMIN}
        self.folder = world.path / "server/published"
        hub, published = LeaseHub(), Published(str(self.folder), world.disk)
        gate = Gate(self._identify, lambda identity: LeasedTree(world.fs(identity.subject), hub), {})
        publishing = Publishing(
            gate, published, datacenter="dc1", user=self._user, endpoint=self._endpoint, about=self.audit.about
        )
        self.app = Starlette(routes=publishing.routes())

    async def _identify(self, token: str) -> Identity:
        who = self.people["ann" if token == "reader" else token]
        scopes = {"scopes": frozenset({Scope.READ})} if token == "reader" else {}
        return Identity(KeyKind.USER, replace(who, **scopes))

    async def _user(self, name: str) -> Subject | None:
        return self.people.get(name)

    async def _endpoint(self) -> str:
        return WHERE + "/"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Callable]:
        async with (
            served(self.app) as server,
            httpx.AsyncClient(base_url=server.url, verify=NO_TLS, trust_env=False) as client,
        ):

            async def ask(method: str, path: str = PUBLISH, who: str = "", **how: object) -> httpx.Response:
                headers = how.pop("headers", {}) | ({"authorization": f"Token {who}"} if who else {})
                return await client.request(method, path, headers=headers, **how)

            yield ask

    def recorded(self) -> list[str]:
        records = map(record_in, self.audit.lines_now())
        return [f"{each.who} {each.what} {each.on} {each.result}" for each in records]


@pytest.fixture
def site(world: World, tmp_path: Path) -> Iterator[Site]:
    database = Database(f"sqlite:///{tmp_path}/audit.sqlite")
    make_tables(database)
    (world.path / "server").mkdir(exist_ok=True)
    (world.path / "home/ann/model").write_bytes(b"weights")
    yield Site(world, database)
    database.close()


def link(answer: httpx.Response) -> str:
    """Return the path and query of the link that was given."""
    url = urlsplit(answer.json()["url"])
    assert answer.status_code == 200
    assert f"{url.scheme}://{url.netloc}" == WHERE
    return f"{url.path}?{url.query}"


def told(answer: httpx.Response) -> tuple[int, str]:
    said = answer.json()
    assert said["code"] == answer.status_code
    return said["code"], said["msg"]


def test_whoever_has_the_link_downloads_the_file_until_it_is_taken_back(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.serving() as ask:
            where = link(await ask("POST", who="ann", json={"path": f"{HOME}/model"}))
            assert where.startswith("/filepub/?uuid=")
            assert link(await ask("POST", who="ann", json={"path": f"{HOME}//model"})) == where
            for path in (where, where.replace("/?", "?")):
                answer = await ask("GET", path)
                assert (answer.status_code, answer.content) == (200, b"weights")
                assert answer.headers["content-disposition"] == "attachment"
                assert answer.headers["x-content-type-options"] == "nosniff"
            assert (await ask("GET", where, headers={"range": "bytes=1-2"})).content == b"ei"
            assert (await ask("HEAD", where)).headers["content-length"] == "7"
            listed = (await ask("GET", who="ann")).json()
            assert listed == {"code": 200, "msg": "OK", "files": [f"{HOME}/model"], "urls": [f"{WHERE}{where}"]}
            assert told(await ask("DELETE", who="ann", json={"path": f"{HOME}/model"})) == (200, "OK")
            assert told(await ask("GET", where)) == GONE
            assert (await ask("GET", who="ann")).json()["files"] == []
            again = await ask("DELETE", who="ann", json={"path": f"{HOME}/model"})
            assert told(again) == (404, "home/ann/model: this file is not published")
            assert link(await ask("POST", who="ann", json={"path": f"{HOME}/model"})) != where

    run(main)
    assert site.recorded() == [
        "ann file.publish home/ann/model done",
        "ann file.publish home/ann/model done",
        "ann file.unpublish home/ann/model done",
        "ann file.unpublish home/ann/model not-found",
        "ann file.publish home/ann/model done",
    ]


@pytest.mark.parametrize(
    ("who", "path", "status"),
    [
        ("bob", f"{HOME}/model", 403),
        ("root", f"{HOME}/model", 403),
        ("reader", f"{HOME}/model", 403),
        ("ann", f"{HOME}/none", 404),
        ("ann", f"{HOME}/folder", 409),
        ("ann", f"{HOME}/link", 409),
        ("ann", HOME, 403),
        ("ann", "/pfs/dc1/shared/x", 403),
        ("ann", "/pfs/dc1/README.txt", 403),
        ("ann", "/etc/passwd", 400),
        ("ann", 7, 400),
        ("ann", None, 400),
    ],
)
def test_one_publishes_files_of_ones_own_home_and_nothing_else(
    site: Site, run: Callable, world: World, who: str, path: object, status: int
) -> None:
    (world.path / "shared/x").write_bytes(b"x")
    (world.path / "home/ann/folder").mkdir()
    (world.path / "home/ann/link").symlink_to("model")

    async def main() -> None:
        async with site.serving() as ask:
            assert told(await ask("POST", who=who, json={"path": path}))[0] == status
            assert (await ask("GET", who=who)).json()["files"] == []

    run(main)
    assert not site.folder.exists()


def test_what_somebody_published_nobody_else_lists_or_takes_back(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.serving() as ask:
            where = link(await ask("POST", who="ann", json={"path": f"{HOME}/model"}))
            for who in ("bob", "root"):
                assert (await ask("GET", who=who)).json()["files"] == []
                assert told(await ask("DELETE", who=who, json={"path": f"{HOME}/model"}))[0] in (403, 404)
            assert told(await ask("DELETE", who="reader", json={"path": f"{HOME}/model"}))[0] == 403
            assert (await ask("GET", where)).status_code == 200

    run(main)


def test_a_link_is_to_the_file_that_stands_there_and_to_no_other(site: Site, run: Callable, home: Path) -> None:
    async def main() -> None:
        async with site.serving() as ask:
            where = link(await ask("POST", who="ann", json={"path": f"{HOME}/model"}))
            (home / "model").write_bytes(b"better")
            assert (await ask("GET", where)).content == b"better"
            (home / "model").unlink()
            assert told(await ask("GET", where)) == GONE
            (home / "model").symlink_to(home.parent.parent.parent / "secret")
            assert told(await ask("GET", where)) == GONE
            (home / "model").unlink()
            (home / "model").mkdir()
            assert told(await ask("GET", where)) == GONE

    run(main)


def test_an_account_that_is_gone_or_another_of_its_name_shows_nothing(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.serving() as ask:
            where = link(await ask("POST", who="ann", json={"path": f"{HOME}/model"}))
            ann = site.people.pop("ann")
            assert told(await ask("GET", where)) == GONE
            site.people["ann"] = replace(ann, uid=200009)
            assert told(await ask("GET", where)) == GONE
            assert (await ask("GET", who="ann")).json()["files"] == []
            site.people["ann"] = ann
            assert (await ask("GET", where)).status_code == 200

    run(main)


@pytest.mark.parametrize(
    "uuid", ["", "x", "0" * 32, "../published", "..%2f..%2fpfs.sqlite", "A" * 32, "0" * 31 + "%0a"]
)
def test_what_is_no_link_leads_nowhere(site: Site, run: Callable, uuid: str) -> None:
    async def main() -> None:
        async with site.serving() as ask:
            await ask("POST", who="ann", json={"path": f"{HOME}/model"})
            assert told(await ask("GET", f"/filepub/?uuid={uuid}")) == GONE
            assert told(await ask("GET", "/filepub")) == GONE

    run(main)


def test_one_publishes_so_many_files_and_no_more(site: Site, run: Callable, home: Path, monkeypatch) -> None:
    monkeypatch.setattr(module, "PUBLISHED_MAX", 1)
    (home / "other").write_bytes(b"")

    async def main() -> None:
        async with site.serving() as ask:
            for _ in range(2):
                link(await ask("POST", who="ann", json={"path": f"{HOME}/model"}))
            assert told(await ask("POST", who="ann", json={"path": f"{HOME}/other"}))[0] == 507

    run(main)


def test_what_was_published_twice_at_one_moment_is_taken_back_as_a_whole(site: Site, run: Callable, world) -> None:
    store, what = Published(str(site.folder), world.disk), Publication("ann", 1, "home/ann/\udcff")

    async def main() -> None:
        name = await store.add(what)
        (site.folder / ("f" * 32)).write_bytes((site.folder / name).read_bytes())
        assert await store.find("f" * 32) == await store.find(name) == what
        assert await store.take_back(what)
        assert os.listdir(site.folder) == []

    run(main)
    assert site.folder.stat().st_mode & 0o777 == 0o700
