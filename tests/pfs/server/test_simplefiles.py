"""Whole files by REST v1, over HTTP on loopback: fetched, brought, listed; and whose a token is."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette

from pfs.leasing.filesystem import LeasedTree
from pfs.leasing.hub import LeaseHub
from pfs.server.doors import Body
from pfs.server.routes import Gate
from pfs.server.simplefiles import FILE_PATH, SimpleFiles
from tests.pfs.served import NO_TLS, identify, served
from tests.pfs.world import World

HOME = "/pfs/dc1/home/ann"
FILE, LIST = "/api/v1/file/", "/api/v1/filelist/"


class Site:
    def __init__(self, world: World) -> None:
        hub = LeaseHub()
        gate = Gate(identify, lambda identity: LeasedTree(world.fs(identity.subject), hub), {})
        self.doors = SimpleFiles(gate, "dc1").routes()

    @asynccontextmanager
    async def serving(self, token: str = "ann-token") -> AsyncIterator[httpx.AsyncClient]:
        headers = {"authorization": f"Token {token}"}
        async with (
            served(Starlette(routes=self.doors)) as server,
            httpx.AsyncClient(base_url=server.url, headers=headers, verify=NO_TLS, trust_env=False) as client,
        ):
            yield client


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


def told(answer: httpx.Response) -> tuple[int, str]:
    said = answer.json()
    assert said["code"] == answer.status_code
    return said["code"], said["msg"]


@pytest.mark.parametrize("size", [0, 5, 3_000_000])
def test_a_file_comes_back_as_it_was_brought(site: Site, run: Callable, home: Path, size: int) -> None:
    data = os.urandom(size)

    async def main() -> None:
        async with site.serving() as client:
            for content in (b"before", data):
                answer = await client.post(FILE, params={"path": f"{HOME}/a/b/x"}, files={"file": ("x", content)})
                assert told(answer) == (200, "OK")
            assert (await client.get(FILE, params={"path": f"{HOME}/a/b/x"})).content == data
            part = await client.get(FILE, params={"path": f"{HOME}/a/b/x"}, headers={"range": "bytes=1-2"})
            assert part.content == data[1:3]
            assert (await client.head(FILE, params={"path": f"{HOME}/a/b/x"})).headers["content-length"] == str(size)
            names = await client.get(LIST, params={"path": f"{HOME}/a", "dc": "dc1"})
            assert (told(names), names.json()["items"]) == ((200, "OK"), ["b"])

    run(main)
    assert (home / "a/b/x").read_bytes() == data
    assert os.listdir(home / "a/b") == ["x"]


def test_a_file_that_is_cut_changes_nothing(site: Site, run: Callable, home: Path) -> None:
    (home / "x").write_bytes(b"before")

    async def main() -> None:
        async with site.serving() as client:
            request = client.build_request("POST", FILE, params={"path": f"{HOME}/x"}, files={"file": ("x", b"after")})
            body = await request.aread()
            answer = await client.post(
                FILE,
                params={"path": f"{HOME}/x"},
                content=body[:-8],
                headers={"content-type": request.headers["content-type"]},
            )
            assert told(answer)[0] == 400
            assert "not whole" in told(answer)[1]

    run(main)
    assert (home / "x").read_bytes() == b"before"
    assert os.listdir(home) == ["x"]


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("", 400, "must specify path"),
        ("/etc/passwd", 400, "file path not valid: /etc/passwd"),
        ("/pfs/dc2/home/ann/x", 400, "file path not valid"),
        ("/pfs/dc1/home/ann/../bob/x", 400, "file path not valid"),
        ("/pfs/dc1/home/bob/x", 404, "no such file or directory"),
    ],
)
def test_a_path_that_is_none_or_not_ones_own_is_refused(
    site: Site, run: Callable, world: World, path: str, status: int, words: str
) -> None:
    (world.path / "home/bob/x").write_bytes(b"bob's")

    async def main() -> None:
        async with site.serving() as client:
            for answer in (
                await client.get(FILE, params={"path": path}),
                await client.post(FILE, params={"path": path}, files={"file": ("x", b"ann's")}),
                await client.get(LIST, params={"path": path}),
            ):
                assert told(answer)[0] == status
                assert words in told(answer)[1]

    run(main)
    assert (world.path / "home/bob/x").read_bytes() == b"bob's"


def test_a_folder_is_no_file_and_a_file_no_folder(site: Site, run: Callable, home: Path) -> None:
    (home / "x").write_bytes(b"text")

    async def main() -> None:
        async with site.serving() as client:
            assert told(await client.get(FILE, params={"path": HOME}))[0] == 409
            assert told(await client.get(LIST, params={"path": f"{HOME}/x"}))[0] == 409
            for path in (f"{HOME}/x/y", "/pfs/dc1/README.txt", "/pfs/dc1/shared/x", HOME):
                answer = await client.post(FILE, params={"path": path}, files={"file": ("x", b"")})
                assert told(answer)[0] in (403, 409), path

    run(main)
    assert (home / "x").read_bytes() == b"text"


def test_the_body_is_one_field_called_file(site: Site, run: Callable, home: Path) -> None:
    async def main() -> None:
        async with site.serving() as client:
            where = {"path": f"{HOME}/x"}
            for how in (
                {"content": b"bare"},
                {"json": {}},
                {"data": {"file": "x"}},
                {"files": {"other": ("x", b"x")}},
                {"files": [("file", ("x", b"x")), ("file", ("y", b"y"))]},
            ):
                assert told(await client.post(FILE, params=where, **how))[0] == 400, how

    run(main)
    assert os.listdir(home) == []


def test_names_are_of_this_datacenter(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.serving() as client:
            answer = await client.get(LIST, params={"path": HOME, "dc": "dc2"})
            assert told(answer) == (400, "no datacenter dc2; this is dc1")

    run(main)


def test_who_shows_a_token_is_told_whose_it_is(site: Site, run: Callable) -> None:
    async def main() -> None:
        async with site.serving("bob-token") as client:
            for path in ("/api/v1/token2user/", "/api/v2/token2user"):
                assert (await client.get(path)).json() == {"code": 200, "msg": "OK", "user": "bob"}
            for token in ("Token x", "Token", "Basic Ym9iOg=="):
                answer = await client.get("/api/v1/token2user/", headers={"authorization": token})
                assert told(answer)[0] == 401

    run(main)


def test_a_file_above_the_bound_of_its_door_is_refused_and_leaves_nothing(
    site: Site, run: Callable, home: Path
) -> None:
    (door,) = (door for door in site.doors if (door.method, door.path) == ("POST", FILE_PATH))
    door.body = Body(1000)

    async def main() -> None:
        async with site.serving() as client:
            answer = await client.post(FILE, params={"path": f"{HOME}/x"}, files={"file": ("x", bytes(1000))})
            assert told(answer)[0] == 413

    run(main)
    assert os.listdir(home) == []
