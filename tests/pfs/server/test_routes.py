"""The tree over HTTP, on loopback: who may come in, where requests lead, and how refusals are told."""

import itertools
import logging
import os
import re
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest
import trio.testing

from pfs.api import Attr, NodeType, OpenFile, OpenFlags
from pfs.client.filesystem import open_filesystem
from pfs.errors import Kind
from pfs.perm import Subject
from pfs.protocol.wire import FILES_PATH
from pfs.server import routes
from pfs.server.crowd import Guest
from pfs.server.routes import STATUS_OF_KIND
from pfs.tree.virtual import File
from tests.pfs.served import DEFECT, datacenter, told, web
from tests.pfs.world import World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]


# ---- who comes in


def test_an_account_asks_for_so_much_at_once_and_no_more(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(routes, "ASKED_AT_ONCE_MAX", 2)
    (world.path / "home/ann/x").touch()

    async def main() -> None:
        async with web(world) as site:
            async with site.hear("job/log"), site.hear("job/log"):
                assert told(await site.ask("GET", "home/ann/x")) == (429, "too-many")
                other = {"authorization": "Bearer admin-token"}
                assert (await site.ask("GET", "home/ann/x", headers=other)).status_code == 200
            await world.log.until(opened=0)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert (await site.ask("GET", "home/ann/x")).status_code == 200

    run(main)


def test_an_account_has_so_many_channels_and_no_more(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes, "CHANNELS_MAX", 2)

    async def main() -> None:
        async with datacenter(world) as site:
            url, opened = site.url, []
            async with AsyncExitStack() as stack:
                for token in ("ann-token", "ann-token", "admin-token"):
                    opened.append(await stack.enter_async_context(open_filesystem(url, token)))
                assert await kind_of(enter(url, "ann-token")) is Kind.UNREACHABLE  # it tries again later
                assert [await kind_of(each.getattr("README.txt")) for each in opened] == [None] * 3
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert await kind_of(enter(url, "ann-token")) is None

    async def enter(url: str, token: str) -> None:
        async with open_filesystem(url, token) as filesystem:
            await filesystem.getattr("README.txt")

    run(main)


STRANGERS = ["", "Bearer wrong", "Bearer", "ann-token", "Basic ann-token", "Bearer node-key"]


def test_nobody_comes_in_without_a_users_token(run: Run, world: World) -> None:
    (world.path / "home/ann/x").touch()
    asked = (
        ("GET", "home/ann/x"),
        ("HEAD", "home/ann/x"),
        ("GET", ""),
        ("GET", "missing"),
        ("PUT", "home/ann/y"),
        ("PUT", "drops/y.yaml"),
        ("DELETE", "home/ann/x"),
        ("POST", "home/ann/d?op=mkdir"),
        ("POST", "home/ann/x?op=rename&to=home/ann/y"),
    )

    async def main() -> None:
        async with web(world, None) as site:
            for (method, path), shown in itertools.product(asked, STRANGERS):
                headers = {"authorization": shown} if shown else {}
                response = await site.ask(method, path, headers=headers, content=b"1" if method == "PUT" else None)
                assert (method, path, shown, response.status_code) == (method, path, shown, 401)
                assert response.headers["www-authenticate"] == "Bearer"
                if method != "HEAD":
                    assert told(response) == (401, "unauthenticated")

    run(main)
    assert os.listdir(world.path / "home/ann") == ["x"]
    assert world.drops.texts == {}


def test_only_a_request_with_a_good_key_proves_whose_its_connection_is(
    run: Run, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven: list[Guest] = []

    def note(guest: Guest) -> None:
        proven.append(guest)

    monkeypatch.setattr(Guest, "proves", note)
    keys = {"Bearer ann-token": True, "Bearer wrong": False, "Bearer node-key": False, "ann-token": False}

    async def main() -> None:
        async with web(world, token=None) as site:
            for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
                for key, good in keys.items():
                    await site.ask(method, "home/ann/x", headers={"authorization": key})
                    assert len(proven) == good
                    assert all(guest.crowd is not None for guest in proven)
                    proven.clear()

    run(main)


def test_a_token_may_be_shown_in_each_usual_way(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world, None) as site:
            for scheme in ("Bearer", "bearer", "Token", "BEARER "):
                headers = {"authorization": f"{scheme} ann-token"}
                assert (await site.ask("GET", "", headers=headers)).status_code == 200

    run(main)


def test_a_foreign_home_looks_like_none(run: Run, world: World) -> None:
    (world.path / "home/bob/x").touch()

    async def main() -> None:
        async with web(world) as site:
            for method, query in (("GET", ""), ("PUT", ""), ("DELETE", ""), ("POST", "?op=mkdir")):
                foreign = await site.ask(method, f"home/bob/x{query}")
                absent = await site.ask(method, f"home/nobody/x{query}")
                assert told(foreign) == (404, "not-found")
                assert foreign.json() == absent.json()

    run(main)
    assert (world.path / "home/bob/x").exists()


# ---- files


NOT_GIVEN = [
    ("home/ann/missing", 404, "not-found"),
    ("README.txt/x", 409, "not-dir"),
    ("home/ann/%2e%2e/bob", 400, "invalid"),
    ("home/ann/a%00b", 400, "invalid"),
    ("home//ann", 400, "invalid"),
    ("home/ann/" + "x" * 256, 400, "name-too-long"),
    ("home/ann/link", 400, "loop"),
    ("home/ann/link/x", 400, "loop"),
    ("home/ann/fifo", 409, "unsupported"),
]


def test_what_cannot_be_given_is_said(run: Run, world: World) -> None:
    (world.path / "home/ann/link").symlink_to("../bob")
    os.mkfifo(world.path / "home/ann/fifo")

    async def main() -> None:
        async with web(world) as site:
            for path, status, kind in NOT_GIVEN:
                assert (path, *told(await site.ask("GET", path))) == (path, status, kind)

    run(main)


def test_the_trees_own_links_are_followed(run: Run, world: World) -> None:
    (world.path / "shared/d").mkdir()
    for name in ("x", "d/y"):
        (world.path / "shared" / name).write_bytes(b"one\n")

    async def main() -> None:
        async with web(world) as site:
            for path in ("public/x", "public/d/y", "by/17/state", "shared/x"):
                assert (await site.ask("GET", path)).content == b"one\n"

    run(main)


# ---- directories


def test_a_directory_is_a_list(run: Run, world: World) -> None:
    (world.path / "home/ann/d").mkdir()
    (world.path / "home/ann/x").write_bytes(b"12345")
    (world.path / "home/ann" / os.fsdecode(b"caf\xe9")).write_bytes(b"1")

    async def main() -> None:
        async with web(world) as site:
            for path in ("home/ann", "home/ann/"):
                listing = (await site.ask("GET", path)).json()
                assert listing["path"] == "home/ann"
                assert [
                    (row["name"], row["type"], row["size"]) for row in listing["entries"] if row["name"] != "d"
                ] == [
                    ("caf\udce9", "file", 1),
                    ("x", "file", 5),
                ]
            assert next(row["name"] for row in (await site.ask("GET", "")).json()["entries"]) == "README.txt"
            assert (await site.ask("GET", "home/ann/caf%E9")).content == b"1"
            assert (await site.ask("DELETE", "home/ann/caf%E9")).status_code == 204

    run(main)
    assert sorted(os.listdir(world.path / "home/ann")) == ["d", "x"]


def test_directories_are_made_and_removed(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world) as site:
            made = await site.ask("POST", "home/ann/d?op=mkdir")
            assert (made.status_code, made.json()["type"]) == (201, "directory")
            assert told(await site.ask("POST", "home/ann/d?op=mkdir")) == (409, "exists")
            assert told(await site.ask("POST", "home/ann/d?op=rmdir")) == (400, "invalid")
            assert told(await site.ask("POST", "home/ann/e")) == (400, "invalid")
            assert told(await site.ask("POST", "public/d?op=mkdir")) == (403, "denied")
            (world.path / "home/ann/d/x").touch()
            assert told(await site.ask("DELETE", "home/ann/d")) == (409, "not-empty")
            for path in ("home/ann/d/x", "home/ann/d"):
                assert (await site.ask("DELETE", path)).status_code == 204
            assert told(await site.ask("DELETE", "home/ann/d")) == (404, "not-found")

    run(main)


def test_what_is_there_is_renamed(run: Run, world: World) -> None:
    (world.path / "home/ann/x").write_bytes(b"1")
    (world.path / "home/ann/z").write_bytes(b"2")

    async def main() -> None:
        async with web(world) as site:
            assert (await site.ask("POST", "home/ann/x?op=rename&to=home/ann/y")).status_code == 204
            assert (await site.ask("POST", "home/ann/y?op=rename&to=home/ann/z")).status_code == 204
            for to, said in (("", 400), ("home/ann/../z", 400), ("home/ann/no/z", 404), ("shared/z", 403)):
                assert (await site.ask("POST", f"home/ann/z?op=rename&to={to}")).status_code == said
            assert told(await site.ask("POST", "home/ann/x?op=rename&to=home/ann/y")) == (404, "not-found")

    run(main)
    assert os.listdir(world.path / "home/ann") == ["z"]
    assert (world.path / "home/ann/z").read_bytes() == b"1"


def test_what_is_the_servers_is_not_removed(run: Run, world: World) -> None:
    (world.path / "shared/x").touch()

    async def main() -> None:
        async with web(world, "admin-token") as site:
            for path in ("README.txt", "public", "home", "job", "job/log", "home/ann"):
                assert told(await site.ask("DELETE", path)) == (403, "forbidden")
            assert told(await site.ask("DELETE", "public/x")) == (403, "denied")
            assert told(await site.ask("DELETE", "")) == (400, "invalid")

    run(main)


def test_removing_a_link_removes_the_link(run: Run, world: World) -> None:
    (world.path / "home/ann/x").touch()
    (world.path / "home/ann/l").symlink_to("x")

    async def main() -> None:
        async with web(world) as site:
            assert (await site.ask("DELETE", "home/ann/l")).status_code == 204

    run(main)
    assert os.listdir(world.path / "home/ann") == ["x"]


# ---- uploads


NOT_PUT = [
    ("home/ann/missing/x", 404, "not-found"),
    ("home/ann/d", 409, "is-dir"),
    ("home/ann", 409, "is-dir"),
    ("home/ann/l/x", 400, "loop"),
    ("shared/x", 403, "denied"),
    ("public/x", 403, "denied"),
    ("home/bob/x", 404, "not-found"),
    ("README.txt", 403, "denied"),
    ("README.txt/x", 409, "not-dir"),
    ("new", 404, "not-found"),
    ("", 400, "invalid"),
    ("home/ann/" + "x" * 256, 400, "name-too-long"),
]


def test_what_cannot_be_put_leaves_nothing(run: Run, world: World) -> None:
    (world.path / "home/ann/d").mkdir()
    (world.path / "home/ann/l").symlink_to("../bob")
    before = sorted(world.path.rglob("*"))

    async def main() -> None:
        async with web(world) as site:
            for path, status, kind in NOT_PUT:
                assert (path, *told(await site.ask("PUT", path, content=b"12345"))) == (path, status, kind)

    run(main)
    assert sorted(world.path.rglob("*")) == before


def test_a_text_is_handed_in_and_answered_with_what_came_of_it(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world) as site:
            headers = {"idempotency-key": "k1"}
            response = await site.ask("PUT", "drops/x.yaml", content=b"command: true\n", headers=headers)
            assert (response.status_code, response.json()) == (201, {"path": "jobs/1"})
            assert response.headers["location"] == f"{FILES_PATH}/jobs/1"

    run(main)
    assert (world.drops.texts, world.drops.keys) == ({"x.yaml": b"command: true\n"}, ["k1"])


def test_commands_are_put(run: Run, world: World) -> None:
    async def main() -> None:
        async with web(world) as site:
            assert (await site.ask("PUT", "by/17/ctl", content=b"kill\n")).status_code == 204
            assert told(await site.ask("PUT", "job/ctl", content=b"dance\n")) == (400, "invalid")

    run(main)
    assert world.control.commands == [b"kill\n"]


# ---- what goes wrong


class Broken(File):
    """A defect."""

    async def attr(self, subject: Subject) -> Attr:
        return Attr(NodeType.FILE, 1, 0o444)

    async def open(self, subject: Subject, flags: OpenFlags) -> OpenFile:
        raise RuntimeError("the reason")


def test_a_defect_is_logged_and_told_without_its_reason(
    run: Run, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.root.nodes = {**world.root.nodes, "broken": Broken()}
    numbers: list[str] = []

    async def main() -> None:
        async with web(world) as site:
            for how in ({}, {"headers": {"authorization": f"Bearer {DEFECT}"}}):
                response = await site.ask("GET", "broken", **how)
                assert told(response) == (500, "internal")
                assert "reason" not in response.text
                numbers.append(re.findall(r"the number ([0-9a-f]{12}), ", response.text)[0])
            assert (await site.ask("GET", "README.txt")).status_code == 200

    run(main)
    defects = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.exc_info is not None for record in defects] == [True, True]
    assert all(number in record.getMessage() for number, record in zip(numbers, defects, strict=True))


def test_an_error_names_its_path_whatever_its_bytes(run: Run, world: World) -> None:
    (world.path / "home/ann" / os.fsdecode(b"caf\xe9")).symlink_to("x")

    async def main() -> None:
        async with web(world) as site:
            response = await site.ask("GET", "home/ann/caf%E9")
            assert told(response) == (400, "loop")
            assert response.json()["error"]["path"] == "home/ann/caf\udce9"

    run(main)


def test_every_kind_has_a_status() -> None:
    assert set(STATUS_OF_KIND) == set(Kind)
    assert all(400 <= status < 600 for status in STATUS_OF_KIND.values())
