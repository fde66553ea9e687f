"""Whole folders over HTTP on loopback: what is listed, taken and given, and to whom."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from pfs.api import OpenFlags
from pfs.disk.whole import NewFile
from pfs.errors import Kind
from pfs.leasing.filesystem import LeasedTree
from pfs.leasing.hub import LeaseHub
from pfs.perm import Scope, Subject
from pfs.protocol.parcels import Parcel, Row, Unpacker, Verb, pack, unpack_row
from pfs.quota import Limits
from pfs.server.folders import FAILED_MAX
from tests.cli.files.site import Site, write
from tests.pfs.served import NO_TLS
from tests.pfs.world import ANN, World

BELOW, CONTENTS = "/api/v1/below/", "/api/v1/contents/"
Sent = Sequence[tuple[Parcel, bytes]]


class Asked:
    """Somebody who asks a server."""

    def __init__(self, site: Site, run: Callable[..., Any]) -> None:
        self._site = site
        self._run = run

    def __call__(self, method: str, path: str, who: str = "ann", **more: Any) -> httpx.Response:
        async def main() -> httpx.Response:
            headers = {"authorization": f"Bearer {who}-token"}
            async with (
                self._site.serving() as server,
                httpx.AsyncClient(base_url=server.url, headers=headers, verify=NO_TLS, trust_env=False) as client,
            ):
                return await client.request(method, path, **more)

        found: httpx.Response = self._run(main)
        return found

    def rows(self, path: str, who: str = "ann") -> list[Row]:
        answer = self("GET", BELOW + path, who)
        assert answer.status_code == 200, answer.text
        return [unpack_row(line) for line in answer.content.splitlines()]

    def take(self, path: str, parcels: Sent, who: str = "ann") -> dict[str, str]:
        """Send parcels; return what was refused, by path."""
        answer = self("POST", BELOW + path, who, content=b"".join(pack(*each) for each in parcels))
        told = answer.json()
        assert (answer.status_code, told["taken"], told["refused"]) == (200, len(parcels), len(told["failed"]))
        return {each["path"]: each["kind"] for each in told["failed"]}


@pytest.fixture
def asked(world: World, run) -> Asked:
    return Asked(Site(world), run)


def file(path: str, data: bytes = b"new", mode: int = 0o644, mtime_ns: int | None = None) -> tuple[Parcel, bytes]:
    return Parcel(Verb.FILE, path, len(data), mode, mtime_ns), data


def test_a_listing_has_all_that_is_below(asked: Asked, home: Path) -> None:
    name = os.fsdecode(b"caf\xe9 1%?#")
    write(home, {"d/e/f": b"123", f"d/{name}": b"", "d/l": "e/f"}, day=7)
    os.mkfifo(home / "d/p")
    rows = asked.rows("home/ann/d")
    assert [(row.path, row.kind, row.target) for row in rows] == [
        ("", "d", ""),
        (name, "f", ""),
        ("e", "d", ""),
        ("l", "l", "e/f"),
        ("p", "o", ""),
        ("e/f", "f", ""),
    ]
    assert rows[-1] == ("e/f", "f", 3, 7 * 86_400 * 10**9, (home / "d/e/f").stat().st_mode & 0o7777, "")
    assert [row.path for row in asked.rows("home/ann/d?deep=0")] == [""]
    assert [row[:3] for row in asked.rows("home/ann/d/e/f")] == [("", "f", 3)]


def test_texts_of_the_server_are_told_from_files(asked: Asked) -> None:
    assert {row.path: row.kind for row in asked.rows("job")} == {
        "": "d",
        "log": "t",
        "ctl": "t",
        "keep": "d",
        "state": "t",
        "spec.yaml": "t",
    }


def test_links_of_the_tree_are_followed_on_the_way(asked: Asked, world: World) -> None:
    write(world.path / "jobs/17/data", {"x": b"1"})
    assert [row.path for row in asked.rows("by/17/keep")] == ["", "x"]
    assert asked.take("by/17/keep", [file("y")]) == {"y": "denied"}  # a job's data are its own


@pytest.mark.parametrize("who", ["ann", "bob"])
def test_what_is_not_there_is_not_there_for_anybody(asked: Asked, who: str) -> None:
    path = "home/ann/missing" if who == "ann" else "home/ann"
    assert asked("GET", BELOW + path, who).status_code == 404
    assert asked("POST", CONTENTS + path, who, json={"names": ["x"]}).status_code == 404
    assert asked.take(path, [file("x/y"), (Parcel(Verb.LINK, "l", target="x"), b"")], who) == {
        "x/y": "not-found",
        "l": "not-found",
    }


def test_files_folders_and_links_come_in(asked: Asked, home: Path) -> None:
    write(home, {"a": b"old", "l": "a"})
    assert (
        asked.take(
            "home/ann",
            [
                (Parcel(Verb.FOLDER, "d/e"), b""),
                file("a", b"new", 0o755, 5),
                file("d/e/x", b"", 0o600),
                file("l", b"no link any more"),
                (Parcel(Verb.LINK, "d/l", target="../a"), b""),
                (Parcel(Verb.FOLDER, "d"), b""),
            ],
        )
        == {}
    )
    assert ((home / "a").read_bytes(), (home / "a").stat().st_mtime_ns) == (b"new", 5)
    assert [(home / path).stat().st_mode & 0o777 for path in ("a", "d/e/x")] == [0o755, 0o600]
    assert (home / "l").read_bytes() == b"no link any more"
    assert os.readlink(home / "d/l") == "../a"
    assert not list(home.rglob(".pfs-upload-*"))


def test_one_that_is_refused_keeps_no_other_from_being_taken(asked: Asked, home: Path) -> None:
    write(home, {"folder/x": b"", "out": "/etc", "file": b"", "other/x": b""})
    refused = {
        "folder": (file("folder"), Kind.IS_DIR),
        "out/passwd": (file("out/passwd"), Kind.LOOP),
        "missing/x": (file("missing/x"), Kind.NOT_FOUND),
        "../bob/x": (file("../bob/x"), Kind.INVALID),
        "/etc/x": (file("/etc/x"), Kind.INVALID),
        "a/../b": (file("a/../b"), Kind.INVALID),
        "n" * 256: (file("n" * 256), Kind.NAME_TOO_LONG),
        "file": ((Parcel(Verb.FOLDER, "file"), b""), Kind.EXISTS),
        "other": ((Parcel(Verb.LINK, "other", target="x"), b""), Kind.IS_DIR),
    }
    parcels = [parcel for parcel, _ in refused.values()]
    assert asked.take("home/ann", [*parcels, file("good")]) == {path: kind for path, (_, kind) in refused.items()}
    assert (home / "good").read_bytes() == b"new"
    assert sorted(os.listdir(home)) == ["file", "folder", "good", "other", "out"]
    assert os.listdir(home / "folder") == ["x"]


def test_what_is_to_go_goes_only_as_it_was_known(asked: Asked, home: Path) -> None:
    write(home, {"a": b"12", "b": b"12", "l": "a", "d/x": b"", "e": None}, day=1)
    when = (home / "a").stat().st_mtime_ns
    gone = [
        (Parcel(Verb.GONE, "a", 2, mtime_ns=when), b""),
        (Parcel(Verb.GONE, "b", 2, mtime_ns=when + 1), b""),
        (Parcel(Verb.GONE, "l"), b""),
        (Parcel(Verb.GONE, "never"), b""),
        (Parcel(Verb.GONE_FOLDER, "d"), b""),
        (Parcel(Verb.GONE_FOLDER, "e"), b""),
        (Parcel(Verb.GONE_FOLDER, "never"), b""),
    ]
    assert asked.take("home/ann", gone) == {"b": "stale"}
    assert sorted(os.listdir(home)) == ["b", "d"]


def test_a_part_gets_its_name_when_it_is_whole(asked: Asked, home: Path) -> None:
    write(home, {".x.pfs-part": b"12345", "y": b""})
    assert asked.take("home/ann", [(Parcel(Verb.PART, "x", 6, 0o755, 9, ".x.pfs-part"), b"")]) == {"x": "stale"}
    assert asked.take("home/ann", [(Parcel(Verb.PART, "x", 5, 0o755, 9, ".x.pfs-part"), b"")]) == {}
    assert ((home / "x").read_bytes(), (home / "x").stat().st_mtime_ns) == (b"12345", 9)
    assert asked.take("home/ann", [(Parcel(Verb.ATTRIBUTES, "y", 0, 0o700), b"")]) == {}
    assert (home / "y").stat().st_mode & 0o777 == 0o700


def test_the_servers_own_folders_take_no_parcels(asked: Asked, world: World) -> None:
    assert asked.take("drops", [file("x")]) == {"x": "unsupported"}
    assert asked.take("", [file("home/ann/x")]) == {}
    assert (world.path / "home/ann/x").exists()


def test_who_may_only_read_changes_nothing(world: World, run) -> None:
    reader = Subject("ann", scopes=frozenset({Scope.READ}))

    async def main() -> None:
        tree = LeasedTree(world.fs(reader), LeaseHub())
        with pytest.raises(Exception, match="may read this, not change it"):
            await tree.put_files("home/ann", [])

    run(main)


@pytest.mark.parametrize("body", [b"{}\n", b"\n", pack(*file("x"))[:-1], b'{"verb":"file","path":"x","size":9}\n'])
def test_a_stream_that_is_none_is_refused(asked: Asked, home: Path, body: bytes) -> None:
    answer = asked("POST", BELOW + "home/ann", content=body)
    assert (answer.status_code, answer.json()["error"]["kind"]) == (400, "invalid")
    assert os.listdir(home) == []


def test_of_very_many_that_are_refused_some_are_told_and_all_are_counted(asked: Asked) -> None:
    many = FAILED_MAX + 30
    answer = asked("POST", BELOW + "home/ann", content=b"".join(pack(*file(f"no/{n}")) for n in range(many))).json()
    assert (answer["taken"], answer["refused"], len(answer["failed"])) == (many, many, FAILED_MAX)


def test_who_is_at_the_limit_gets_no_more(asked: Asked, world: World, home: Path) -> None:
    write(home, {"old": bytes(100)})
    world.disk.counts.limit({"home/ann": Limits(size_bytes=150)})
    world.disk.counts.of("home/ann").see_all(world.disk._root_fd, ["home/ann"])
    assert asked.take("home/ann", [file("a", bytes(40)), file("b", bytes(40))]) == {"b": "quota"}
    assert sorted(os.listdir(home)) == ["a", "old"]


def test_who_holds_copies_is_told_before_files_are_replaced(world: World, run, home: Path) -> None:
    write(home, {"x": b"old"})

    async def main() -> None:
        hub, told = LeaseHub(), trio.Event()
        seen: list[bytes] = []

        async def tell(nodes: object, names: object) -> None:
            seen.append((home / "x").read_bytes())
            told.set()

        async def nothing() -> None:
            return None

        holder = hub.join(tell, nothing, nothing)
        await hub.enter(holder, "mount")
        world.disk.watch = lambda fd: True
        mount = LeasedTree(world.fs(ANN), hub, holder)
        attr, text = await mount.look("home/ann/x")
        assert (attr.leased, text) == (True, None)
        other = LeasedTree(world.fs(ANN), hub)
        assert await other.put_files("home/ann", [NewFile("x", b"new", 0o644), NewFile("y", b"", 0o644)]) == [
            None,
            None,
        ]
        assert told.is_set()
        assert seen == [b"old"]

    run(main)
    assert (home / "x").read_bytes() == b"new"


def test_a_file_that_is_open_while_it_is_replaced_stays_what_it_is(world: World, run, home: Path) -> None:
    write(home, {"x": b"old"})

    async def main() -> bytes:
        tree = LeasedTree(world.fs(ANN), LeaseHub())
        opened = await tree.open("home/ann/x", OpenFlags.READ, 0)
        try:
            await tree.put_files("home/ann", [NewFile("x", b"new", 0o644)])
            return await opened.read(0, 10)
        finally:
            await opened.release()

    assert run(main) == b"old"


def unpacked(answer: httpx.Response) -> dict[str, tuple[Parcel, bytes]]:
    assert answer.status_code == 200, answer.text
    unpacker = Unpacker()
    found = {parcel.path: (parcel, data) for parcel, data in unpacker.feed(answer.content)}
    unpacker.end()
    return found


def test_many_files_go_out_and_those_that_cannot_are_left_out(asked: Asked, home: Path) -> None:
    write(home, {"a": b"1", "d/b": b"22", "d/e/c": b"", "l": "a", "out": "/etc"}, day=3)
    names = ["a", "missing", "d/b", "d/missing", "d/e/c", "d", "l", "out/passwd", "no/x", "a/x"]
    found = unpacked(asked("POST", CONTENTS + "home/ann", json={"names": names}))
    assert {path: data for path, (_, data) in found.items()} == {"a": b"1", "d/b": b"22", "d/e/c": b""}
    assert found["a"][0].mtime_ns == 3 * 86_400 * 10**9


def test_more_files_than_fit_into_a_message_go_out(asked: Asked, home: Path) -> None:
    files = {f"{n}": os.urandom(700_000) for n in range(30)}
    write(home, files)
    found = unpacked(asked("POST", CONTENTS + "home/ann", json={"names": [*files, "missing"]}))
    assert {path: data for path, (_, data) in found.items()} == files


@pytest.mark.parametrize("names", [None, "a", [1], [""], ["../x"], ["/etc"], ["a//b"]])
def test_names_that_are_none_are_refused(asked: Asked, names: object) -> None:
    assert asked("POST", CONTENTS + "home/ann", json={"names": names}).status_code == 400
