"""Limits of homes at every door: what passes one is refused as such, and what was there stays."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from pfs.api import OpenFlags
from pfs.disk.domains import DiskDomain
from pfs.errors import Kind
from pfs.protocol.steps import Step, Verb, encode_steps
from pfs.quota import Amount, Limits
from pfs.server.session import FileSession
from tests.pfs.served import told, web
from tests.pfs.server.test_bulk import asking
from tests.pfs.world import World, kind_of

Run = Callable[[Callable[[], Awaitable[None]]], None]
HOME = "home/ann"
BYTES_MAX = 1000


@pytest.fixture(autouse=True)
def _limited(world: World, home: Path) -> None:
    (home / "f").write_bytes(b"x" * 900)
    world.disk.counts.limit({HOME: Limits(BYTES_MAX, 3)})
    trio.run(world.disk.counts.count, HOME)


def is_as_it_was(world: World, home: Path) -> bool:
    same = (home / "f").read_bytes() == b"x" * 900 and [path.name for path in home.iterdir()] == ["f"]
    return same and world.disk.counts.of(HOME).used == Amount(900, 1)


def test_over_a_channel(run: Run, world: World, home: Path) -> None:
    session = FileSession(world.fs())

    async def main() -> None:
        args = {"path": f"{HOME}/f", "flags": ["write"], "mode": 0}
        handle = (await session.handle("open", args, b""))[0]["handle"]
        new = {"path": f"{HOME}/new", "mode": 0o644, "changes": {}}
        for op, question, body in (
            ("write", {"handle": handle, "offset": 900}, b"y" * 101),
            ("fsetattr", {"handle": handle, "changes": {"size": 1001}}, b""),
            ("setattr", {"path": f"{HOME}/f", "changes": {"size": 1001}}, b""),
            ("make_file", new, b"y" * 101),
        ):
            assert await kind_of(session.handle(op, question, body)) is Kind.QUOTA, op
        steps = [
            Step(Verb.MAKE_FILE, f"{HOME}/large", mode=0o644, data=b"y" * 101),
            Step(Verb.MKDIR, f"{HOME}/d", mode=0o755),
            Step(Verb.SYMLINK, f"{HOME}/l", "f"),
            Step(Verb.MKDIR, f"{HOME}/e", mode=0o755),
            Step(Verb.UNLINK, f"{HOME}/l"),
            Step(Verb.RMDIR, f"{HOME}/d"),
        ]
        outcomes, _ = await session.handle("batch", *encode_steps(steps))
        assert [each.get("error", {}).get("kind") for each in outcomes["outcomes"]] == [
            "quota",
            None,
            None,
            "quota",
            None,
            None,
        ]
        await session.end()

    run(main)
    assert is_as_it_was(world, home)


def test_in_bulk(run: Run, world: World, home: Path, ann: DiskDomain) -> None:
    async def main() -> None:
        file = await ann.open("f", OpenFlags.WRITE, 0)
        async with asking(file) as (there, client):  # type: ignore[arg-type]
            refused = await client.put(f"{there.path}?offset=900", content=b"y" * 101)
            assert told(refused) == (507, "quota")
            assert is_as_it_was(world, home)
            fits = await client.put(f"{there.path}?offset=900", content=b"y" * 100)
            assert fits.status_code == 200
            assert (await client.put(f"{there.path}?offset=0", content=b"z" * BYTES_MAX)).status_code == 200
        await file.release()

    run(main)
    assert (home / "f").read_bytes() == b"z" * BYTES_MAX
    assert world.disk.counts.of(HOME).used == Amount(BYTES_MAX, 1)


def test_over_http(run: Run, world: World, home: Path) -> None:
    async def main() -> None:
        async with web(world) as there:
            for name in ("f", "new"):
                answer = await there.ask("PUT", f"{HOME}/{name}", content=b"y" * 101)
                assert told(answer) == (507, "quota")
                assert "900 of 1,000 bytes" in answer.json()["error"]["message"]
            assert is_as_it_was(world, home)
            assert (await there.ask("PUT", f"{HOME}/new", content=b"y" * 100)).status_code == 204
            assert (await there.ask("DELETE", f"{HOME}/f")).status_code == 204

    run(main)
    assert world.disk.counts.of(HOME).used == Amount(100, 1)
