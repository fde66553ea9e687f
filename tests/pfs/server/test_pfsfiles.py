"""Files in chunks over HTTP on loopback, asked for by a client that knows nothing but the protocol."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import trio
from starlette.applications import Starlette

from pfs.leasing.filesystem import LeasedTree
from pfs.leasing.hub import LeaseHub
from pfs.perm import Scope
from pfs.server import pfsfiles, reach
from pfs.server.doors import Body
from pfs.server.pfsfiles import CHUNK_BYTES_MAX, STORAGE_PATH, PfsFiles
from pfs.server.routes import Gate
from tests.pfs import served as served_tokens
from tests.pfs.served import NO_TLS, identify, served
from tests.pfs.world import ANN, World
from tests.restclient import RestClient, RestError

T = TypeVar("T")
HOME = "/pfs/dc1/home/ann"
CHUNK = 4096


class Site:
    """A server with the doors for files, and clients of it in threads."""

    def __init__(self, world: World) -> None:
        hub = LeaseHub()
        gate = Gate(identify, lambda identity: LeasedTree(world.fs(identity.subject), hub), {})
        self.doors = PfsFiles(gate, "dc1").routes()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        async with served(Starlette(routes=self.doors)) as server:
            yield server.url

    def asking(self, run: Callable[..., Any], work: Callable[[RestClient], T], who: str = "ann", **spelled: str) -> T:
        """Run `work` with a client."""

        async def main() -> T:
            async with self.serving() as url:
                client = RestClient(url, **spelled)
                client.show(f"{who}-token")
                try:
                    return await trio.to_thread.run_sync(work, client)
                finally:
                    client.close()

        result: T = run(main)
        return result


@pytest.fixture
def site(world: World) -> Site:
    return Site(world)


def of_chunk(name: str, size: int, data: bytes, offset: int = 0) -> dict[str, Any]:
    return {"files": {"chunk": (f"path={HOME}/{name}&offset={offset}&chunksize={size}", data)}}


def refused(work: Callable[[], object]) -> tuple[int, str]:
    with pytest.raises(RestError) as caught:
        work()
    return caught.value.status, caught.value.text


def test_an_upload_that_is_cut_goes_on_where_it_was(site: Site, run, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(os.urandom(10 * CHUNK + 17))

    def work(client: RestClient) -> None:
        def cut(offset: int) -> None:
            if offset == 4 * CHUNK:
                raise ConnectionError

        client.before_chunk = cut
        with pytest.raises(ConnectionError):
            client.upload(source, f"{HOME}/model", CHUNK)
        assert (home / "model").stat().st_size == source.stat().st_size
        assert client.sent == [n * CHUNK for n in range(4)]
        client.sent.clear()
        client.before_chunk = lambda offset: None
        client.upload(source, f"{HOME}/model", CHUNK)
        assert client.sent == [n * CHUNK for n in range(4, 11)]
        client.sent.clear()
        client.upload(source, f"{HOME}/model", CHUNK)
        assert client.sent == []

    site.asking(run, work)
    assert (home / "model").read_bytes() == source.read_bytes()


def test_a_chunk_that_is_cut_in_the_middle_is_sent_again(site: Site, run, home: Path, tmp_path: Path) -> None:
    source = tmp_path / "model"
    source.write_bytes(os.urandom(2 * CHUNK))

    def work(client: RestClient) -> None:
        client.touch(f"{HOME}/model", 2 * CHUNK)
        assert refused(lambda: client.put_chunk(f"{HOME}/model", 0, b"half", chunksize=CHUNK))[0] == 400
        client.sent.clear()
        client.upload(source, f"{HOME}/model", CHUNK)
        assert client.sent == [0, CHUNK]

    site.asking(run, work)
    assert (home / "model").read_bytes() == source.read_bytes()


def test_a_download_fetches_what_differs(site: Site, run, home: Path, tmp_path: Path) -> None:
    data = os.urandom(3 * CHUNK + 5)
    (home / "model").write_bytes(data)
    target = tmp_path / "model"

    def work(client: RestClient) -> None:
        assert client.download(f"{HOME}/model", target, CHUNK) == [0, CHUNK, 2 * CHUNK, 3 * CHUNK]
        assert target.read_bytes() == data
        target.write_bytes(data[:CHUNK] + b"x" + data[CHUNK + 1 :])
        assert client.download(f"{HOME}/model", target, CHUNK) == [CHUNK]
        assert target.read_bytes() == data
        assert client.download(f"{HOME}/model", target, CHUNK) == []

    site.asking(run, work)


@pytest.mark.parametrize("size", [1, pfsfiles.CHUNK_BYTES - 1, pfsfiles.CHUNK_BYTES, 2 * pfsfiles.CHUNK_BYTES + 9])
def test_a_chunk_of_many_pieces_arrives_and_leaves_whole(site: Site, run, home: Path, size: int) -> None:
    data = os.urandom(size)

    def work(client: RestClient) -> None:
        client.touch(f"{HOME}/x", size + 3)
        client.put_chunk(f"{HOME}/x", 3, data)
        assert client.chunk_meta(f"{HOME}/x", 3, size) == (hashlib.md5(data).hexdigest(), size)
        assert client.get_chunk(f"{HOME}/x", 3, size) == data

    site.asking(run, work)
    assert (home / "x").read_bytes() == bytes(3) + data


def test_a_chunk_may_be_patched_as_it_may_be_posted(site: Site, run, home: Path) -> None:
    (home / "f").write_bytes(b"1234")
    how = of_chunk("f", 2, b"xy", 1)
    assert site.asking(run, lambda client: client.files("PATCH", "storage/chunks", **how)) is None
    assert (home / "f").read_bytes() == b"1xy4"


def test_the_end_of_a_file_is_told_and_is_no_error(site: Site, run, home: Path) -> None:
    (home / "x").write_bytes(b"12345")
    (home / "empty").touch()

    def work(client: RestClient) -> None:
        assert client.chunk_meta(f"{HOME}/x", 4, 10) == (hashlib.md5(b"5").hexdigest(), 1)
        assert client.chunk_meta(f"{HOME}/x", 5, 10) is None
        assert client.chunk_meta(f"{HOME}/empty", 0, 10) is None
        assert client.get_chunk(f"{HOME}/x", 2, 100) == b"345"
        assert refused(lambda: client.get_chunk(f"{HOME}/x", 5, 10)) == (416, "this file reaches end")

    site.asking(run, work)


def test_touch_makes_a_file_of_a_size_and_leaves_one_that_has_it(site: Site, run, home: Path) -> None:
    (home / "same").write_bytes(b"12345")
    (home / "other").write_bytes(b"123456")

    def work(client: RestClient) -> None:
        for name in ("same", "other", "new"):
            client.touch(f"{HOME}/{name}", 5)

    site.asking(run, work)
    assert {name: (home / name).read_bytes() for name in ("same", "other", "new")} == {
        "same": b"12345",
        "other": bytes(5),
        "new": bytes(5),
    }


def test_what_is_there_is_listed(site: Site, run, home: Path) -> None:
    (home / "d/e").mkdir(parents=True)
    (home / "d/f").write_bytes(b"123")
    (home / "d/e/g").write_bytes(b"1")
    os.utime(home / "d/f", ns=(1, 1_500_000_000_123_456_789))

    def work(client: RestClient) -> None:
        assert [each["Path"] for each in client.ls(f"{HOME}/d")] == [f"{HOME}/d/e", f"{HOME}/d/f"]
        deep = [f"{HOME}/d/{name}" for name in ("e", "f", "e/g")]
        assert [each["Path"] for each in client.ls(f"{HOME}/d/", deep=True)] == deep
        found = {"Path": f"{HOME}/d/f", "ModTime": 1_500_000_000_123_456_789, "Size": 3, "IsDir": False}
        assert client.ls(f"{HOME}/d/f", f"{HOME}//d/f") == [found, found]
        assert client.stat(f"{HOME}/d/f") == found
        assert client.stat(f"{HOME}/d")["IsDir"]
        assert [each["Path"] for each in client.ls(f"{HOME}/*/?")] == [f"{HOME}/d/e/g", f"{HOME}/d/f"]
        assert client.ls(f"{HOME}/d/x*") == []
        query = {"method": "md5sum", "path": f"{HOME}/d/f"}
        summed = {"path": f"{HOME}/d/f", "checksum": hashlib.md5(b"123").hexdigest(), "len": 3}
        assert client.files("GET", params=query) == summed

    site.asking(run, work)


def test_a_pattern_that_is_a_name_means_itself(site: Site, run, home: Path) -> None:
    for name in ("a*", "ab", ".hidden"):
        (home / name).write_bytes(b"")

    def work(client: RestClient) -> None:
        assert [each["Path"] for each in client.ls(f"{HOME}/a*")] == [f"{HOME}/a*"]
        assert client.rm(f"{HOME}/a*") == [f"{HOME}/a*"]
        assert [each["Path"] for each in client.ls(f"{HOME}/*")] == [f"{HOME}/ab"]

    site.asking(run, work)


def test_folders_are_made_with_those_that_they_are_in(site: Site, run, home: Path) -> None:
    (home / "file").write_bytes(b"")

    def work(client: RestClient) -> None:
        for _ in range(2):
            assert client.mkdir(f"{HOME}/a/b/c", f"{HOME}/d") == [{"path": f"{HOME}/a/b/c"}, {"path": f"{HOME}/d"}]
        assert refused(lambda: client.mkdir(f"{HOME}/file"))[0] == 409
        assert "already exist" in refused(lambda: client.mkdir(f"{HOME}/file/x"))[1]

    site.asking(run, work)
    assert (home / "a/b/c").is_dir()


def test_what_is_removed_is_told_and_a_folder_only_when_that_is_said(site: Site, run, home: Path) -> None:
    (home / "d/e").mkdir(parents=True)
    (home / "d/e/f").write_bytes(b"")
    (home / "d/link").symlink_to("/etc/passwd")
    (home / "x").write_bytes(b"")

    def work(client: RestClient) -> None:
        status, told = refused(lambda: client.rm(f"{HOME}/d"))
        assert status == 409
        assert "can't del directory" in told
        assert client.rm(f"{HOME}/x") == [f"{HOME}/x"]
        gone = client.rm(f"{HOME}/d", deep=True)
        assert sorted(gone) == [f"{HOME}/d", f"{HOME}/d/e", f"{HOME}/d/e/f", f"{HOME}/d/link"]
        assert gone[-1] == f"{HOME}/d"
        assert refused(lambda: client.rm(f"{HOME}/d", deep=True))[0] == 404

    site.asking(run, work)
    assert not (home / "d").exists()


def test_everybody_reaches_what_is_theirs_and_nobody_changes_what_is_not(site: Site, run, world: World) -> None:
    (world.path / "shared/data").write_bytes(b"for all")
    (world.path / "home/ann/x").write_bytes(b"ann's")
    (world.path / "groups/ml/x").write_bytes(b"ml's")

    def work(client: RestClient) -> None:
        for path in ("shared/data", "public/data"):
            assert client.get_chunk(f"/pfs/dc1/{path}", 0, 100) == b"for all"
            assert client.chunk_meta(f"/pfs/dc1/{path}", 0, 100) is not None
            status, told = refused(lambda path=path: client.touch(f"/pfs/dc1/{path}", 1))
            assert status == 403
            assert "unauthorized" in told
        for path in ("home/ann/x", "groups/ml/x", "home/nobody/x"):
            assert refused(lambda path=path: client.get_chunk(f"/pfs/dc1/{path}", 0, 1)) == (
                404,
                "no such file or directory",
            )
            for change in (client.mkdir, client.rm, lambda path: client.touch(path, 1)):
                assert refused(lambda change=change, path=path: change(f"/pfs/dc1/{path}"))[0] == 404
        client.touch("/pfs/dc1/home/bob/mine", 3)

    site.asking(run, work, who="bob")
    assert (world.path / "home/ann/x").read_bytes() == b"ann's"
    assert (world.path / "home/bob/mine").read_bytes() == bytes(3)


def test_what_the_server_makes_is_read_and_never_changed(site: Site, run) -> None:
    def work(client: RestClient) -> None:
        assert client.get_chunk("/pfs/dc1/README.txt", 0, 5) != b""
        assert HOME in [each["Path"] for each in client.ls("/pfs/dc1/home/")]
        for path in ("", "/README.txt", "/home", "/home/ann", "/jobs", "/x"):
            for change in (client.mkdir, client.rm, lambda path: client.touch(path, 1)):
                assert refused(lambda change=change, path=path: change(f"/pfs/dc1{path}"))[0] in (400, 403, 404), path

    site.asking(run, work)


@pytest.mark.parametrize(
    "path", ["", "x", "/etc/passwd", "/pfs", "/pfs/dc2/home/ann/x", "/pfs/dc1/../x", "/pfs/dc1/a\0b"]
)
def test_a_path_is_one_of_this_datacenter(site: Site, run, path: str) -> None:
    def work(client: RestClient) -> None:
        for ask in (client.ls, client.stat, client.mkdir, client.rm):
            assert refused(lambda ask=ask: ask(path))[0] == 400
        assert refused(lambda: client.chunk_meta(path, 0, 1))[0] == 400
        assert refused(lambda: client.put_chunk(path, 0, b"x"))[0] == 400

    site.asking(run, work)


@pytest.mark.parametrize(
    ("method", "what", "how", "status", "told"),
    [
        ("GET", "files", {}, 405, "there is no method"),
        ("GET", "files", {"params": {"method": "rm", "path": HOME}}, 405, "ls, stat and md5sum"),
        ("GET", "files", {"params": {"method": "ls"}}, 400, "not enough arguments"),
        ("GET", "files", {"params": {"method": "stat"}}, 400, "not enough arguments"),
        ("GET", "files", {"params": {"method": "stat", "path": f"{HOME}/no"}}, 404, "no such file or directory"),
        ("GET", "files", {"params": {"method": "md5sum", "path": HOME}}, 409, "should be a file not a directory"),
        ("POST", "files", {"content": b"{"}, 400, "parse json error: the body is no JSON object"),
        ("DELETE", "files", {"content": b"[]"}, 400, "parse json error: the body is no JSON object"),
        ("POST", "files", {"content": b"[" * 50_000}, 400, "no JSON object"),
        ("POST", "files", {"json": {"method": "rm", "path": [HOME]}}, 405, "mkdir and touch"),
        ("POST", "files", {"json": {"method": "mkdir"}}, 400, "invalid arguments"),
        ("POST", "files", {"json": {"method": "mkdir", "path": [1]}}, 400, "no text"),
        ("POST", "files", {"json": {"method": "mkdir", "path": []}}, 400, "invalid arguments"),
        ("POST", "files", {"json": {"method": "touch", "path": f"{HOME}/x"}}, 400, "bad file size"),
        ("POST", "files", {"json": {"method": "touch", "path": f"{HOME}/x", "filesize": -1}}, 400, "bad file size"),
        ("POST", "files", {"json": {"method": "touch", "path": f"{HOME}/x", "filesize": 2**41}}, 400, "bad file size"),
        ("POST", "files", {"json": {"method": "touch", "path": f"{HOME}/a/x", "filesize": 1}}, 404, "no such file"),
        ("DELETE", "files", {"json": {"method": "ls", "path": [HOME]}}, 405, "but rm"),
        ("DELETE", "files", {"json": {"method": "rm", "path": [HOME], "r": "yes"}}, 400, "true or false"),
        ("GET", "chunks", {"params": {"path": f"{HOME}/f"}}, 405, "GetChunkMeta"),
        ("POST", "storage/chunks", {"content": b"x"}, 400, "multipart/form-data"),
        ("POST", "storage/chunks", {"files": {"other": ("x", b"x")}}, 400, "the field chunk"),
        ("POST", "storage/chunks", {"files": {"chunk": ("x", b"x")}}, 400, "offset"),
        (
            "POST",
            "storage/chunks",
            of_chunk("no", 1, b"x"),
            404,
            "no such",
        ),
        (
            "POST",
            "storage/chunks",
            of_chunk("f", 2, b"x"),
            400,
            "chunksize",
        ),
        ("POST", "storage/chunks", of_chunk("f", 1, b"xy"), 400, "more"),
        ("PATCH", "storage/chunks", of_chunk("f", 1, b"xy"), 400, "more"),
        ("POST", "storage/chunks", of_chunk("f", 1, b"x", 2**40), 400, "bad file size"),
    ],
)
def test_what_is_wrong_is_told_in_the_words_that_clients_know(
    site: Site, run, home: Path, method: str, what: str, how: dict, status: int, told: str
) -> None:
    (home / "f").write_bytes(b"12")
    found = site.asking(run, lambda client: refused(lambda: client.files(method, what, **how)))
    assert found[0] == status
    assert told in found[1]
    assert (home / "f").read_bytes() == b"12"


@pytest.mark.parametrize(
    ("offset", "size"), [("", "1"), ("-1", "1"), ("0", ""), ("0", "0"), ("0", str(CHUNK_BYTES_MAX + 1)), ("x", "1")]
)
def test_a_chunk_has_a_place_and_at_most_32_mib(site: Site, run, home: Path, offset: str, size: str) -> None:
    (home / "f").write_bytes(b"12")
    query = {"method": "GetChunkMeta", "path": f"{HOME}/f", "offset": offset, "chunksize": size}

    def work(client: RestClient) -> None:
        for what in ("chunks", "storage/chunks"):
            assert refused(lambda what=what: client.files("GET", what, params=query))[0] == 400

    site.asking(run, work)


def test_a_file_that_shrinks_while_it_is_sent_is_cut_and_not_filled_up(
    site: Site, run, home: Path, monkeypatch
) -> None:
    (home / "f").write_bytes(bytes(CHUNK))
    opened = pfsfiles._opened

    async def shrinks(*args: Any) -> Any:
        file = await opened(*args)
        os.truncate(home / "f", 10)
        return file

    monkeypatch.setattr(pfsfiles, "_opened", shrinks)

    def work(client: RestClient) -> None:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get_chunk(f"{HOME}/f", 0, CHUNK)

    site.asking(run, work)


def test_more_names_than_can_be_told_are_refused(site: Site, run, home: Path, monkeypatch) -> None:
    monkeypatch.setattr(reach, "FOUND_MAX", 3)
    for name in "abcd":
        (home / name).touch()
    assert site.asking(run, lambda client: refused(lambda: client.ls(HOME)))[0] == 413


def test_all_spellings_of_a_path_are_understood(site: Site, run, home: Path) -> None:
    (home / "f").write_bytes(b"12")
    for version, slash in (("v1", "/"), ("v1", ""), ("v2", "/"), ("v2", "")):
        stat = site.asking(run, lambda client: client.stat(f"{HOME}/f"), version=version, slash=slash)
        assert stat["Size"] == 2


def test_only_who_shows_a_token_is_told_anything(site: Site, run) -> None:
    async def main() -> None:
        async with site.serving() as url, httpx.AsyncClient(base_url=url, verify=NO_TLS, trust_env=False) as client:
            for door in site.doors:
                for headers in ({}, {"authorization": "Basic YW5uOng="}, {"authorization": "Token nobody"}):
                    answer = await client.request(door.method, door.path, headers=headers)
                    assert answer.status_code == 401
                    assert answer.json() == {
                        "err": answer.json()["err"],
                        "results": None,
                        "kind": "unauthenticated",
                    }
                    assert answer.json()["err"].startswith("what you request is unauthorized")

    run(main)


def test_a_body_above_the_bound_of_its_door_is_refused(site: Site, run, home: Path) -> None:
    (home / "f").write_bytes(b"")
    (door,) = (door for door in site.doors if (door.method, door.path) == ("POST", STORAGE_PATH))
    assert CHUNK_BYTES_MAX < door.body.bytes_max < 2 * CHUNK_BYTES_MAX
    door.body = Body(1000)
    found = site.asking(run, lambda client: refused(lambda: client.put_chunk(f"{HOME}/f", 0, bytes(1000))))
    assert found[0] == 413


def test_a_token_that_only_reads_changes_nothing(world: World, run, monkeypatch, home: Path) -> None:
    reader = replace(served_tokens.TOKENS["ann-token"], subject=replace(ANN, scopes=frozenset({Scope.READ})))
    monkeypatch.setitem(served_tokens.TOKENS, "reader-token", reader)
    (home / "f").write_bytes(b"12")

    def work(client: RestClient) -> None:
        assert client.get_chunk(f"{HOME}/f", 0, 2) == b"12"
        for change in (
            lambda: client.touch(f"{HOME}/f", 5),
            lambda: client.put_chunk(f"{HOME}/f", 0, b"x"),
            lambda: client.mkdir(f"{HOME}/d"),
            lambda: client.rm(f"{HOME}/f"),
        ):
            assert refused(change)[0] == 403

    Site(world).asking(run, work, who="reader")
    assert (home / "f").read_bytes() == b"12"
