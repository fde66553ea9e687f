"""Names that cannot be, and a client that means harm: what is refused, and that nobody else notices."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from pfs.errors import Kind
from pfs.path import NAME_BYTES_MAX, PATH_BYTES_MAX
from pfs.protocol import channel
from pfs.protocol.channel import ChannelClosed
from pfs.protocol.wire import Json
from pfs.server.session import LARGE_AT_ONCE, FileSession
from tests.pfs.protocol.test_channel import talk, timeless
from tests.pfs.world import World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]

BAD = ["", ".", "..", "a/", "/a", "a//b", "./a", "../bob/x", "x/../../bob", "a\0b", "\ud800", "a\udfff\ud800"]
LONG = ["x" * (NAME_BYTES_MAX + 1), "ä" * 128, "/".join(["d" * 99] * 41), "x" * 100_000, "\udcff" * 256]
HERE = "home/ann/"
ASKS: dict[str, Callable[[str], Json]] = {
    "getattr": lambda path: {"path": path},
    "listdir": lambda path: {"path": path, "after": ""},
    "readlink": lambda path: {"path": path},
    "mkdir": lambda path: {"path": path, "mode": 0o755},
    "symlink": lambda path: {"path": path, "target": "x"},
    "mknod": lambda path: {"path": path, "type": "fifo", "mode": 0o644},
    "make_file": lambda path: {"path": path, "mode": 0o644, "changes": {}},
    "link": lambda path: {"path": f"{HERE}mine", "target": path},
    "link from": lambda path: {"path": path, "target": f"{HERE}new"},
    "unlink": lambda path: {"path": path},
    "rmdir": lambda path: {"path": path},
    "rename": lambda path: {"path": f"{HERE}mine", "target": path, "mode": "replace"},
    "rename from": lambda path: {"path": path, "target": f"{HERE}new", "mode": "replace"},
    "rename over": lambda path: {"path": f"{HERE}mine", "target": path, "mode": "exchange"},
    "setattr": lambda path: {"path": path, "changes": {"mode": 0o600}},
    "getxattr": lambda path: {"path": path, "name": "user.x"},
    "listxattr": lambda path: {"path": path},
    "setxattr": lambda path: {"path": path, "name": "user.x", "mode": "either"},
    "removexattr": lambda path: {"path": path, "name": "user.x"},
    "statfs": lambda path: {"path": path},
    "fsyncdir": lambda path: {"path": path},
    "open": lambda path: {"path": path, "flags": ["write", "create"], "mode": 0o644},
    "reopen": lambda path: {"path": path, "node_id": 5, "flags": ["read"]},
    "contents": lambda path: {"path": path, "names": ["x"], "size_max": 100},
}


@pytest.fixture
def session(world: World) -> FileSession:
    (world.path / "home/ann/mine").write_text("mine")
    (world.path / "home/bob/x").write_text("his")
    return FileSession(world.fs())


@pytest.mark.parametrize("op", ASKS)
def test_what_cannot_be_a_name_is_refused_whatever_is_asked(
    run: Run, world: World, session: FileSession, op: str
) -> None:
    before = found(world.path)

    async def main() -> None:
        for name in BAD:
            if name == "" and op != "statfs":
                continue  # with the slash before it
            assert await kind_of(session.handle(op.split(maxsplit=1)[0], ASKS[op](HERE + name), b"")) is Kind.INVALID, (
                name
            )
        for name in LONG:
            met = await kind_of(session.handle(op.split(maxsplit=1)[0], ASKS[op](HERE + name), b""))
            assert met is Kind.NAME_TOO_LONG, name[:300]

    run(main)
    assert found(world.path) == before


def found(top: Path) -> list[str]:
    return sorted(str(path) for path in top.rglob("*"))


@pytest.mark.parametrize("name", [*BAD, *LONG])
def test_small_files_are_asked_for_by_their_names_alone(run: Run, session: FileSession, name: str) -> None:
    async def main() -> None:
        args = {"path": "home/ann", "names": ["mine", name], "size_max": 100}
        assert await kind_of(session.handle("contents", args, b"")) in (Kind.INVALID, Kind.NAME_TOO_LONG)

    run(main)


def test_the_longest_path_is_one_and_one_byte_more_is_none(run: Run, world: World, session: FileSession) -> None:
    async def main() -> None:
        path = "home/ann"
        while len(path) + 101 <= PATH_BYTES_MAX:
            path += "/" + "d" * 100
            await session.handle("mkdir", {"path": path, "mode": 0o755}, b"")
        last = path + "/" + "f" * (PATH_BYTES_MAX - len(path) - 1)
        result, _ = await session.handle("open", {"path": last, "flags": ["write", "create"], "mode": 0o644}, b"")
        await session.handle("release", {"handle": result["handle"]}, b"")
        assert (await session.handle("getattr", {"path": last}, b""))[0]["type"] == "file"
        assert await kind_of(session.handle("getattr", {"path": last + "f"}, b"")) is Kind.NAME_TOO_LONG

    run(main)


def test_an_operation_without_bytes_takes_none(run: Run, session: FileSession) -> None:
    """They would be kept for as long as it takes."""

    async def main() -> None:
        for op, args in ASKS.items():
            if op not in ("make_file", "setxattr"):
                met = await kind_of(session.handle(op.split()[0], args("home/ann/mine"), b"bytes"))
                assert met is Kind.INVALID, op

    run(main)


# ---- questions and answers without end


def test_who_asks_for_more_than_is_answered_is_not_listened_to_until_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "HELD_BYTES_MAX", 10_000)
    begun: list[int] = []
    go_on = trio.Event()

    async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        begun.append(len(body))
        await go_on.wait()
        return {}, b""

    async def main() -> None:
        async with talk(hold) as ends, trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(ends.channel.ask, "write", {}, bytes(5_000))
            await trio.testing.wait_all_tasks_blocked()
            assert len(begun) == 2
            go_on.set()
        assert len(begun) == 5

    timeless(main)


def test_who_asks_for_more_than_is_ever_answered_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "HELD_BYTES_MAX", 10_000)

    async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        await trio.sleep_forever()
        raise AssertionError

    async def main() -> None:
        async with talk(hold) as ends, trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ChannelClosed):
                    await ends.channel.ask("write", {}, bytes(5_000))

            for _ in range(5):
                nursery.start_soon(ask)

    timeless(main)


def test_large_arguments_weigh_more_than_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "HELD_BYTES_MAX", 10_000)
    begun: list[str] = []

    async def hold(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        begun.append(op)
        await trio.sleep_forever()
        raise AssertionError

    async def main() -> None:
        async with talk(hold) as ends, trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(ends.channel.ask, "getattr", {"x": [[]] * 200})
            await trio.testing.wait_all_tasks_blocked()
            assert len(begun) == 1
            nursery.cancel_scope.cancel()

    timeless(main)


def test_a_large_answer_is_not_made_before_earlier_ones_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "UNSENT_BYTES_MAX", 10_000)

    async def answer(op: str, args: Json, body: bytes) -> tuple[Json, bytes]:
        return {}, bytes(8_000)

    async def main() -> None:
        async with talk(answer) as ends, trio.open_nursery() as nursery:
            ends.far_line.stuck = True
            for _ in range(2):
                nursery.start_soon(ends.channel.ask, "read", {})
            await trio.testing.wait_all_tasks_blocked()
            drained = trio.Event()

            async def wait() -> None:
                await ends.far.drained()
                drained.set()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            assert not drained.is_set()
            nursery.cancel_scope.cancel()
        async with talk(answer) as ends:
            await ends.channel.ask("read", {})
            await ends.far.drained()

    timeless(main)


def test_only_a_few_large_answers_are_made_at_once_and_small_ones_do_not_wait(run: Run, world: World) -> None:
    (world.path / "home/ann/mine").write_bytes(bytes(100_000))
    held = trio.Event()
    waiting: list[None] = []

    async def drained() -> None:
        waiting.append(None)
        await held.wait()

    async def main() -> None:
        session = FileSession(world.fs(), drained)
        opening, _ = await session.handle("open", {"path": "home/ann/mine", "flags": ["read"], "mode": 0}, b"")
        read = {"handle": opening["handle"], "offset": 0, "wait": True}
        async with trio.open_nursery() as nursery:
            for _ in range(3 * LARGE_AT_ONCE):
                nursery.start_soon(session.handle, "read", {**read, "size": 100_000}, b"")
            await trio.testing.wait_all_tasks_blocked()
            assert len(waiting) == LARGE_AT_ONCE
            assert (await session.handle("read", {**read, "size": 4096}, b""))[1] == bytes(4096)
            held.set()
        assert len(waiting) == 3 * LARGE_AT_ONCE
        await session.end()

    run(main)
