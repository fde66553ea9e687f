"""What a mount may ask: every operation, questions without a proper form, handles, and the end of a connection."""

import json
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pfs.api import Attr, Closing, Entry, NodeType
from pfs.errors import Kind, PfsError
from pfs.protocol.channel import Handler
from pfs.protocol.listing import unpack_contents, unpack_entries
from pfs.protocol.wire import (
    FRAME_BYTES_MAX,
    ID_MAX,
    Answer,
    decode_attr,
    decode_space,
    encode_frame,
)
from pfs.server import session as session_module
from pfs.server.session import CONTENTS_BYTES_MAX, LOOK_BYTES_MAX, PAGE_BYTES_MAX, READ_BYTES_MAX, FileSession
from pfs.tagged import Tagged
from tests.pfs.world import World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]
NEW = ["write", "create", "exclusive"]


@pytest.fixture
def session(world: World) -> FileSession:
    return FileSession(world.fs())


async def ask(session: FileSession, op: str, body: bytes = b"", **args: Any) -> dict[str, Any]:
    """Ask as a mount does; what comes back has to fit into a frame."""
    result, data = await session.handle(op, args, body)
    encode_frame(Answer(1, result, data))
    return {**result, "body": data}


async def opened(session: FileSession, path: str, *flags: str) -> int:
    return int((await ask(session, "open", path=path, flags=list(flags or ["read"]), mode=0o644))["handle"])


async def all_other_operations(session: FileSession) -> None:
    """What there is beyond the first, with the file `home/ann/d/y`, which stays."""
    for type_ in (NodeType.FIFO, NodeType.SOCKET, NodeType.FILE):
        made = decode_attr(await ask(session, "mknod", path="home/ann/d/z", type=type_.value, mode=0o600))
        assert (made.type, made.mode) == (type_, 0o600)
        await ask(session, "unlink", path="home/ann/d/z")
    assert decode_attr(await ask(session, "link", path="home/ann/d/y", target="home/ann/d/z")).nlink == 2
    await ask(session, "setxattr", b"\0value", path="home/ann/d/y", name="user.a\udcff", mode="create")
    assert (await ask(session, "listxattr", path="home/ann/d/z"))["names"] == ["user.a\udcff"]
    assert (await ask(session, "getxattr", path="home/ann/d/z", name="user.a\udcff"))["body"] == b"\0value"
    await ask(session, "removexattr", path="home/ann/d/y", name="user.a\udcff")
    handle = await opened(session, "home/ann/d/z", "write")
    await ask(session, "write", b"whole", handle=handle, offset=0)
    await ask(session, "unlink", path="home/ann/d/z")
    await ask(session, "fsyncdir", path="home/ann/d")
    xattr = {"handle": handle, "name": "user.b", "mode": "create"}
    assert (await ask(session, "fxattr", b"\0value", verb="set", **xattr))["body"] == b""
    assert (await ask(session, "fxattr", verb="list", **xattr))["body"] == b"user.b\0"
    assert (await ask(session, "fxattr", verb="get", **xattr))["body"] == b"\0value"
    assert (await ask(session, "fxattr", verb="remove", **xattr))["body"] == b""
    told = await ask(session, "contents", path="home/ann/d", names=["missing", "l", "y"], size_max=5)
    assert [(file.name, file.data, file.attr.nlink) for file in unpack_contents(told["body"])] == [("y", b"whole", 1)]
    node_id = decode_attr(await ask(session, "fgetattr", handle=handle)).node_id
    again = await ask(session, "reopen", path="home/ann/d/y", node_id=node_id, flags=["read"])
    assert (await ask(session, "read", handle=again["handle"], offset=0, size=9, wait=True))["body"] == b"whole"
    await ask(session, "release", handle=handle)
    await ask(session, "release", handle=again["handle"])


def test_every_operation_is_answered(run: Run, world: World, session: FileSession) -> None:
    async def main() -> None:
        made = await ask(session, "mkdir", path="home/ann/d", mode=0o750)
        assert decode_attr(made).mode == 0o750
        await ask(session, "symlink", path="home/ann/d/l", target="../x")
        assert (await ask(session, "readlink", path="home/ann/d/l"))["target"] == "../x"
        handle = await opened(session, "home/ann/d/x", *NEW)
        assert (await ask(session, "write", b"hello", handle=handle, offset=0))["size"] == 5
        assert (await ask(session, "read", handle=handle, offset=1, size=100, wait=True))["body"] == b"ello"
        assert decode_attr(await ask(session, "fsetattr", handle=handle, changes={"size": 2})).size == 2
        assert decode_attr(await ask(session, "fgetattr", handle=handle)).size == 2
        for closing in Closing:
            await ask(session, "flush", handle=handle, closing=closing.value)
        await ask(session, "fsync", handle=handle)
        await ask(session, "release", handle=handle)
        changed = await ask(session, "setattr", path="home/ann/d/x", changes={"mode": 0o600, "size": 1, "mtime_ns": 5})
        assert (decode_attr(changed).mode, decode_attr(changed).size, decode_attr(changed).mtime_ns) == (0o600, 1, 5)
        await ask(session, "rename", path="home/ann/d/x", target="home/ann/d/y", mode="no-replace")
        listed = unpack_entries((await ask(session, "listdir", path="home/ann/d", after=""))["body"])
        assert [entry.name for entry in listed] == ["l", "y"]
        assert decode_attr(await ask(session, "getattr", path="home/ann/d/y")).type is NodeType.FILE
        await all_other_operations(session)
        await ask(session, "unlink", path="home/ann/d/y")
        await ask(session, "unlink", path="home/ann/d/l")
        await ask(session, "rmdir", path="home/ann/d")
        space = await ask(session, "statfs", path="home/ann")
        assert decode_space({name: value for name, value in space.items() if name != "body"}).bytes_total > 0

    run(main)
    assert list((world.path / "home/ann").iterdir()) == []


WITH_PATH: dict[str, dict[str, Any]] = {
    "getattr": {},
    "listdir": {"after": ""},
    "contents": {"names": ["x"], "size_max": 10},
    "readlink": {},
    "mkdir": {"mode": 0o755},
    "symlink": {"target": "x"},
    "mknod": {"type": "fifo", "mode": 0o600},
    "link": {"target": "home/ann/new"},
    "unlink": {},
    "rmdir": {},
    "rename": {"target": "home/ann/new", "mode": "replace"},
    "setattr": {"changes": {"mode": 0o600}},
    "getxattr": {"name": "user.x"},
    "listxattr": {},
    "setxattr": {"name": "user.x", "mode": "either"},
    "removexattr": {"name": "user.x"},
    "statfs": {},
    "fsyncdir": {},
    "open": {"flags": ["write", "create"], "mode": 0o644},
    "reopen": {"node_id": 5, "flags": ["read"]},
}
NO_PATHS = {
    "with NUL": ("home/ann/a\0b", Kind.INVALID),
    "with a slash too many": ("home/ann//x", Kind.INVALID),
    "with a slash at its end": ("home/ann/x/", Kind.INVALID),
    "from a root": ("/home/ann/x", Kind.INVALID),
    "of a dot": ("home/ann/.", Kind.INVALID),
    "of dots": ("home/ann/../bob", Kind.INVALID),
    "of 256 bytes": ("home/ann/" + "x" * 256, Kind.NAME_TOO_LONG),
    "of 4096 bytes": ("home/ann/" + "/".join(["x" * 200] * 20) + "/" + "x" * 67, Kind.NAME_TOO_LONG),
}


@pytest.mark.parametrize("name", NO_PATHS)
def test_no_operation_takes_a_path(run: Run, world: World, session: FileSession, name: str) -> None:
    path, kind = NO_PATHS[name]

    async def main() -> None:
        for op, args in WITH_PATH.items():
            assert (op, await kind_of(session.handle(op, {"path": path, **args}, b""))) == (op, kind)
        for op in ("link", "rename"):
            args = {"path": "home/ann/x", "target": path, "mode": "replace"}
            assert (op, await kind_of(session.handle(op, args, b""))) == (op, kind)

    (world.path / "home/ann/x").touch()
    run(main)
    assert [each.name for each in (world.path / "home/ann").iterdir()] == ["x"]


WRONG: list[tuple[str, dict[str, Any]]] = [
    ("getattr", {}),
    ("getattr", {"path": 5}),
    ("getattr", {"path": None}),
    ("getattr", {"path": ["home"]}),
    ("getattr", {"path": "home/../x"}),
    ("getattr", {"path": "home/\ud800"}),
    ("listdir", {"path": ""}),
    ("mkdir", {"path": "home/ann/d"}),
    ("mkdir", {"path": "home/ann/d", "mode": "755"}),
    ("mkdir", {"path": "home/ann/d", "mode": -1}),
    ("mkdir", {"path": "home/ann/d", "mode": 1e999}),
    ("symlink", {"path": "home/ann/l", "target": 5}),
    ("symlink", {"path": "home/ann/l", "target": "a\0b"}),
    ("rename", {"path": "home/ann/a", "target": "home/ann/b", "mode": "swap"}),
    ("rename", {"path": "home/ann/a", "mode": "replace"}),
    ("setattr", {"path": "home/ann/a"}),
    ("setattr", {"path": "home/ann/a", "changes": {"size": -1}}),
    ("open", {"path": "home/ann/a", "mode": 0}),
    ("open", {"path": "home/ann/a", "flags": ["execute"], "mode": 0}),
    ("open", {"path": "home/ann/a", "flags": ["read"], "mode": True}),
    ("read", {"handle": "x", "offset": 0, "size": 1, "wait": True}),
    ("read", {"offset": 0, "size": 1, "wait": True}),
    ("changed", {"wait": True}),
    ("flush", {"handle": None, "closing": "last"}),
    ("mkdir", {"path": "home/ann/d", "mode": 0o755, "owner": {"uid": -1, "gid": 0}}),
    ("symlink", {"path": "home/ann/l", "target": "x", "owner": 5}),
    ("mknod", {"path": "home/ann/p", "mode": 0o644}),
    ("mknod", {"path": "home/ann/p", "mode": 0o644, "type": "device"}),
    ("mknod", {"path": "home/ann/p", "mode": 0o644, "type": "symlink"}),
    ("mknod", {"path": "home/ann/p", "mode": 0o10000, "type": "fifo"}),
    ("link", {"path": "home/ann/a"}),
    ("getxattr", {"path": "home/ann/a"}),
    ("getxattr", {"path": "home/ann/a", "name": "user."}),
    ("setxattr", {"path": "home/ann/a", "name": "user.a"}),
    ("setxattr", {"path": "home/ann/a", "name": "user.a", "mode": "maybe"}),
    ("removexattr", {"path": "home/ann/a", "name": 5}),
    ("contents", {"path": "home/ann", "size_max": 5}),
    ("contents", {"path": "home/ann", "names": [5], "size_max": 5}),
    ("contents", {"path": "home/ann", "names": ["../bob"], "size_max": 5}),
    ("contents", {"path": "home/ann", "names": [], "size_max": -1}),
    ("open", {"path": "home/ann/a", "flags": ["read"], "mode": 0, "owner": {"uid": 0}}),
    ("reopen", {"path": "home/ann/a", "flags": ["read"]}),
    ("reopen", {"path": "home/ann/a", "flags": ["read"], "node_id": 2**64}),
]


@pytest.mark.parametrize(("op", "args"), WRONG)
def test_a_question_without_a_proper_form_is_invalid(
    run: Run, session: FileSession, op: str, args: dict[str, Any]
) -> None:
    async def main() -> None:
        assert await kind_of(session.handle(op, args, b"")) is Kind.INVALID

    run(main)


@pytest.mark.parametrize(
    ("op", "args"),
    [
        ("read", {"offset": -1, "size": 1, "wait": True}),
        ("read", {"offset": 2**63, "size": 1, "wait": True}),
        ("read", {"offset": 0, "size": -1, "wait": True}),
        ("read", {"offset": 0, "size": 1}),
        ("read", {"offset": 0, "size": 1, "wait": 1}),
        ("changed", {}),
        ("changed", {"wait": 0}),
        ("write", {"offset": -1}),
        ("write", {}),
        ("write", {"offset": 1e999}),
        ("fsetattr", {"changes": {"size": -1}}),
        ("fsetattr", {"changes": {"size": 2**63}}),
        ("fsetattr", {"changes": {"uid": 2**32}}),
        ("fsetattr", {}),
        ("flush", {"closing": "now"}),
        ("flush", {}),
    ],
)
def test_wrong_numbers_for_an_open_file_are_invalid(
    run: Run, world: World, session: FileSession, op: str, args: dict[str, Any]
) -> None:
    async def main() -> None:
        handle = await opened(session, "home/ann/x", *NEW)
        assert await kind_of(session.handle(op, {"handle": handle, **args}, b"x")) is Kind.INVALID
        await session.end()

    run(main)
    assert (world.path / "home/ann/x").stat().st_size == 0


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
ARGS = st.dictionaries(
    st.sampled_from(
        [
            *("path", "target", "mode", "changes", "flags", "handle", "offset", "size", "wait", "closing", "after"),
            *("type", "name", "names", "owner", "node_id", "size_max", "text"),
        ]
    ),
    JSON | st.sampled_from(["home/ann/x", "job/log", ["write"], {"size": 0}, "last", "replace"]),
)
OPS = sorted(FileSession(None)._ops)  # type: ignore[arg-type]


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(st.tuples(st.sampled_from(OPS), ARGS), max_size=10))
def test_whatever_is_asked_nothing_but_our_error_comes_out(
    run: Run, world: World, questions: list[tuple[str, dict[str, Any]]]
) -> None:
    async def main() -> None:
        session = FileSession(world.fs())
        for op, args in questions:
            with trio.move_on_after(0.5):  # a stream may wait
                await kind_of(session.handle(op, json.loads(json.dumps(args)), b"body"))
        await session.end()

    run(main)


def test_a_small_text_is_told_with_its_attributes_to_who_wants_it(run: Run, world: World, session: FileSession) -> None:
    async def main() -> None:
        await opened(session, "home/ann/x", *NEW)
        for path in ("", "home/ann/x", "job/log", "public"):
            plain = await ask(session, "getattr", path=path)
            assert await ask(session, "getattr", path=path, text=True) == plain
        told = await ask(session, "getattr", path="job/state", text=True)
        assert (told["whole"], told["body"], told["size"]) == (True, b"one\n", 4)
        assert (await ask(session, "getattr", path="job/state"))["body"] == b""
        world.change(b"x" * (LOOK_BYTES_MAX + 1))
        told = await ask(session, "getattr", path="job/state", text=True)
        assert ("whole" in told, told["body"], told["size"]) == (False, b"", LOOK_BYTES_MAX + 1)

    run(main)


@pytest.mark.parametrize("path", ["home/ann/x", "README.txt", "job/log"])
def test_of_most_files_nobody_tells_that_they_changed(run: Run, session: FileSession, path: str) -> None:
    async def main() -> None:
        handle = await opened(session, path, *(NEW if path.startswith("home") else ["read"]))
        assert await kind_of(ask(session, "changed", handle=handle, wait=True)) is Kind.UNSUPPORTED

    run(main)


def test_an_operation_that_is_not_known_is_named(run: Run, session: FileSession) -> None:
    async def main() -> None:
        with pytest.raises(PfsError, match="'chown'") as caught:
            await session.handle("chown", {}, b"")
        assert caught.value.kind is Kind.UNSUPPORTED

    run(main)


def test_a_handle_is_good_until_it_is_released_and_for_its_connection_only(
    run: Run, world: World, session: FileSession
) -> None:
    async def main() -> None:
        handle = await opened(session, "home/ann/x", *NEW)
        other = FileSession(world.fs())
        await opened(other, "home/ann/x")
        for wrong in (handle + 1, 0, 2**62):
            assert await kind_of(ask(session, "fgetattr", handle=wrong)) is Kind.BAD_HANDLE
        assert await kind_of(ask(other, "fgetattr", handle=handle)) is Kind.BAD_HANDLE
        await ask(session, "release", handle=handle)
        for op, args in {"fgetattr": {}, "release": {}, "write": {"offset": 0}, "flush": {"closing": "last"}}.items():
            assert await kind_of(ask(session, op, handle=handle, **args)) is Kind.BAD_HANDLE
        await other.end()

    run(main)


def test_a_mount_holds_so_many_files_and_no_more(
    run: Run, session: FileSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session_module, "HANDLES_MAX", 2)

    async def main() -> None:
        first = await opened(session, "home/ann/x", *NEW)
        await opened(session, "README.txt")
        assert await kind_of(opened(session, "README.txt")) is Kind.TOO_MANY
        await ask(session, "release", handle=first)
        await opened(session, "README.txt")
        await session.end()

    run(main)


def test_others_are_heard_while_many_changes_are_made(run: Run, world: World, session: FileSession) -> None:
    async def main() -> None:
        steps = [{"verb": "mkdir", "path": f"home/ann/many{number:03}", "mode": 0o700} for number in range(100)]
        seen = []

        async def look() -> None:
            while "many099" not in (names := os.listdir(world.path / "home/ann")):
                seen.append(len(names))
                await trio.lowlevel.checkpoint()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(look)
            outcomes = (await ask(session, "batch", steps=steps))["outcomes"]
        assert len(outcomes) == 100
        assert all("attr" in each for each in outcomes)
        # how often, and not how far it was each time: who of two is heard first is drawn at random
        assert len(seen) > 3

    run(main)


def test_one_read_has_a_most(run: Run, world: World, session: FileSession) -> None:
    with (world.path / "home/ann/x").open("wb") as file:
        file.truncate(READ_BYTES_MAX + 1)

    async def main() -> None:
        handle = await opened(session, "home/ann/x")
        assert (
            len((await ask(session, "read", handle=handle, offset=0, size=2**40, wait=True))["body"]) == READ_BYTES_MAX
        )
        await session.end()

    run(main)


def test_a_stream_waits_or_says_that_it_would(run: Run, world: World, session: FileSession) -> None:
    async def main() -> None:
        handle = await opened(session, "job/log")
        assert await kind_of(ask(session, "read", handle=handle, offset=0, size=10, wait=False)) is Kind.WOULD_BLOCK
        got: list[bytes] = []

        async def read() -> None:
            got.append((await ask(session, "read", handle=handle, offset=0, size=10, wait=True))["body"])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await world.log.until(waiting=1)
            world.log.change(b"line\n")
        assert got == [b"line\n"]
        await session.end()

    run(main)


# ---- listings


class Long:
    """A file system that has one directory with these names."""

    def __init__(self, names: Sequence[str]) -> None:
        worst = Attr(
            NodeType.DIRECTORY,
            2**64 - 1,
            0o7777,
            2**63 - 1,
            2**31 - 1,
            *[-(2**63)] * 3,
            True,
            True,
            True,
            86_399.123456,
            *[ID_MAX] * 2,
            2**63 - 1,
            True,
        )
        self.entries = [Entry(name, worst) for name in names]

    async def listdir(self, path: str) -> Sequence[Entry]:
        return self.entries


async def pages(handle: Handler) -> list[list[str]]:
    found: list[list[str]] = []
    more = True
    while more:
        after = found[-1][-1] if found else ""
        result, page = await handle("listdir", {"path": "", "after": after}, b"")
        assert len(page) <= 10_000
        found.append([entry.name for entry in unpack_entries(page)])
        more = result["more"]
    return found


def test_a_long_listing_comes_in_pages(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PAGE_BYTES_MAX", 10_000)
    names = ["\U0001f600" * 60 + f"{number:05}" for number in range(500)]
    long: Any = Long(names[::-1])

    async def main() -> None:
        found = await pages(FileSession(long).handle)
        assert 10 < len(found) < 100
        assert [name for page in found for name in page] == names

    run(main)


def test_a_listing_that_the_mount_has_is_not_sent_again(run: Run) -> None:
    short: Any = Long(["b", "a"])
    short.entries = Tagged(short.entries, "tag")

    async def main() -> None:
        session = FileSession(short)
        told = await ask(session, "listdir", path="", after="")
        assert (told["more"], told["tag"]) == (False, "tag")
        assert [entry.name for entry in unpack_entries(told["body"])] == ["a", "b"]
        again = await ask(session, "listdir", path="", after="", known="tag")
        assert (again["same"], again["tag"], again["body"]) == (True, "tag", b"")
        for other in ({"known": "other"}, {}, {"known": None}, {"known": "tag", "after": "a"}):
            told = await ask(session, "listdir", **({"path": "", "after": ""} | other))
            assert "same" not in told
            assert told["body"]
        short.entries = list(short.entries)
        told = await ask(session, "listdir", path="", after="", known="tag")
        assert "same" not in told
        assert "tag" not in told

    run(main)


def test_a_listing_that_is_too_long_for_one_answer_has_no_tag(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_module, "PAGE_BYTES_MAX", 200)
    long: Any = Long([f"{number:05}" for number in range(5)])
    long.entries = Tagged(long.entries, "tag")

    async def main() -> None:
        session = FileSession(long)
        assert [len(page) for page in await pages(session.handle)] == [2, 2, 1]
        assert "tag" not in await ask(session, "listdir", path="", after="")

    run(main)


def test_contents_come_only_as_far_as_they_fit(
    run: Run, world: World, session: FileSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (world.path / "home/ann" / name).write_bytes(name.encode() * 100)
    monkeypatch.setattr(session_module, "CONTENTS_BYTES_MAX", 2 * 250)

    async def main() -> None:
        told = await ask(session, "contents", path="home/ann", names=["a", "b", "c"], size_max=100)
        assert [(file.name, file.data) for file in unpack_contents(told["body"])] == [
            ("a", b"a" * 100),
            ("b", b"b" * 100),
        ]

    run(main)


def test_what_comes_at_once_fits_into_a_message() -> None:
    assert max(PAGE_BYTES_MAX, CONTENTS_BYTES_MAX, READ_BYTES_MAX) + 1024 <= FRAME_BYTES_MAX


# ---- the end


def test_what_is_open_when_a_connection_goes_is_there_for_who_comes_back(
    run: Run, world: World, session: FileSession
) -> None:
    async def main() -> None:
        handle = await opened(session, "home/ann/x", *NEW)
        await ask(session, "write", b"12345", handle=handle, offset=0)
        node_id = (await ask(session, "fgetattr", handle=handle))["node_id"]
        await session.end()
        await world.fs().unlink("home/ann/x")
        back = FileSession(world.fs())
        found = await ask(back, "reopen", path="home/ann/x", node_id=node_id, flags=["write"])
        assert (await ask(back, "read", handle=found["handle"], offset=0, size=9, wait=True))["body"] == b"12345"
        assert found["attr"]["nlink"] == 0
        await ask(back, "release", handle=found["handle"])
        assert await kind_of(ask(back, "reopen", path="home/ann/x", node_id=node_id, flags=["write"])) is Kind.STALE
        await back.end()

    run(main)


def test_the_end_releases_all_and_counts_texts_that_were_not_closed_as_cut(
    run: Run, world: World, session: FileSession, open_files: Callable[[], set[str]]
) -> None:
    before = open_files()

    async def main() -> None:
        drop = await opened(session, "drops/a.yaml", *NEW)
        await ask(session, "write", b"half", handle=drop, offset=0)
        files = [await opened(session, f"home/ann/{number}", *NEW) for number in range(5)]
        await session.end()
        assert world.drops.closings == [("a.yaml", Closing.DYING)]
        assert world.drops.released == ["a.yaml"]
        assert open_files() == before
        assert await kind_of(ask(session, "fgetattr", handle=files[0])) is Kind.BAD_HANDLE
        await session.end()
        assert world.drops.released == ["a.yaml"]

    run(main)


def test_one_that_cannot_be_closed_does_not_keep_the_others_open(
    run: Run, world: World, session: FileSession, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        for name, text in (("a.yaml", b"refuse"), ("b.yaml", b"break"), ("c.yaml", b"fine")):
            handle = await opened(session, f"drops/{name}", *NEW)
            await ask(session, "write", text, handle=handle, offset=0)
        await session.end()

    run(main)
    assert world.drops.released == ["a.yaml", "b.yaml", "c.yaml"]
    assert [closing for _, closing in world.drops.closings] == [Closing.DYING] * 3
    assert "defect" in caplog.text


def test_the_end_comes_to_its_end_for_who_is_cancelled(run: Run, world: World, session: FileSession) -> None:
    async def main() -> None:
        await opened(session, "drops/a.yaml", *NEW)
        with trio.CancelScope() as scope:
            scope.cancel()
            await session.end()
        assert world.drops.released == ["a.yaml"]

    run(main)


def test_an_opening_that_nobody_waits_for_any_more_is_undone(
    run: Run, world: World, session: FileSession, open_files: Callable[[], set[str]]
) -> None:
    (world.path / "home/ann/x").touch()
    before = open_files()

    async def main() -> None:
        for steps in range(12):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(opened, session, "home/ann/x")
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
        left = len(session._files)
        assert len(open_files() - before) == left  # what is open has a handle, and the end releases it
        await session.end()
        assert open_files() == before

    run(main)


def test_an_opening_is_undone_when_its_asker_leaves_meanwhile(run: Run, world: World) -> None:
    class Slow:
        async def open(self, path: str, flags: object, mode: int, owner: object) -> object:
            with trio.CancelScope(shield=True):  # as a disk in another thread
                began.set()
                await go_on.wait()
            return await world.drops.create(world.fs().subject, path, None, 0)  # type: ignore[arg-type]

    async def main() -> None:
        nonlocal began, go_on
        began, go_on = trio.Event(), trio.Event()
        slow: Any = Slow()
        session = FileSession(slow)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(opened, session, "x")
            await began.wait()
            nursery.cancel_scope.cancel()
            go_on.set()
        assert world.drops.released == ["x"]
        await session.end()
        assert world.drops.released == ["x"]

    began, go_on = trio.Event(), trio.Event()
    run(main)
