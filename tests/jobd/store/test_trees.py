"""Shipped trees on the server's disk: what is missing, what arrives, what a cut leaves, whose they are, what goes."""

import hashlib
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from jobd.manifest import Manifest, Record, ShippedFile, encode_manifest, encode_record, tree_id
from jobd.store import trees as module
from jobd.store.trees import KEPT_S, Receiver, TreeStore, remove_trees_now
from pfs.disk.domains import Disk
from pfs.errors import Kind, PfsError

NOW_S = 1_700_000_000.0
A, B = b"first\n" * 1000, b"second"


class World:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.now_s = NOW_S
        self.awaited: set[tuple[str, str]] = set()
        (root / "server").mkdir()
        self.disk = Disk(str(root))
        self.trees = TreeStore(self.disk, lambda: self.awaited, lambda: self.now_s)

    async def put(self, *contents: bytes, user: str = "ann") -> tuple[str, dict[str, int]]:
        """Say that there is a tree with these contents; return its id and what is missing."""
        text = encode_manifest(manifest(*contents))
        return tree_id(text), await self.trees.put(user, tree_id(text), text)

    @asynccontextmanager
    async def receiving(self, user: str = "ann") -> AsyncIterator[Receiver]:
        receiver = self.trees.receive(user)
        try:
            yield receiver
        finally:
            await receiver.give_up()

    async def send(self, *contents: bytes, user: str = "ann") -> None:
        async with self.receiving(user) as receiver:
            await receiver.feed(b"".join(whole(data) for data in contents))
            await receiver.close()

    async def ship(self, *contents: bytes, user: str = "ann") -> str:
        id_, missing = await self.put(*contents, user=user)
        await self.send(*(data for data in contents if hash_of(data) in missing), user=user)
        return id_

    def blobs(self, user: str = "ann") -> set[str]:
        return {path.name for path in (self.root / "server/trees" / user / "blobs").rglob("*") if path.is_file()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.disk.close()


def hash_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def manifest(*contents: bytes) -> Manifest:
    return Manifest(tuple(ShippedFile(f"f{n}", 0o644, len(data), hash_of(data)) for n, data in enumerate(contents)))


def whole(data: bytes, came: int = 0, hash_: str | None = None) -> bytes:
    return encode_record(Record(hash_ or hash_of(data), came, len(data) - came, len(data))) + data[came:]


async def kind_of(work) -> Kind:
    with pytest.raises(PfsError) as caught:
        await work
    return caught.value.kind


def test_what_arrived_is_missing_no_more(world: World, run: Callable) -> None:
    async def main() -> None:
        id_, missing = await world.put(A, B, b"")
        assert missing == {hash_of(A): 0, hash_of(B): 0, hash_of(b""): 0}
        await world.send(A, b"")
        assert (await world.put(A, B, b""))[1] == {hash_of(B): 0}
        assert await kind_of(world.trees.whole("ann", id_)) is Kind.INVALID
        await world.send(B)
        assert (await world.put(A, B, b""))[1] == {}
        assert await world.trees.whole("ann", id_) == manifest(A, B, b"")
        assert await world.trees.content("ann", hash_of(A)) == A
        assert (await world.put(B, A))[1] == {}, "another tree of the same contents needs nothing"

    run(main)


@pytest.mark.parametrize("size", [1, 7, 64, 100_000])
def test_contents_come_in_pieces_of_any_size(world: World, run: Callable, size: int) -> None:
    async def main() -> None:
        data = whole(A[:700]) + whole(b"") + whole(B)
        async with world.receiving() as receiver:
            for start in range(0, len(data), size):
                await receiver.feed(data[start : start + size])
            await receiver.close()
            assert receiver.taken == 3
        assert world.blobs() == {hash_of(A[:700]), hash_of(b""), hash_of(B)}

    run(main)


def test_what_came_before_a_cut_stays_and_the_rest_is_enough(world: World, run: Callable) -> None:
    async def main() -> None:
        id_, _ = await world.put(A, B)
        async with world.receiving() as receiver:
            await receiver.feed(whole(B) + whole(A)[:1000])
            assert await kind_of(receiver.close()) is Kind.INVALID
        _, missing = await world.put(A, B)
        assert set(missing) == {hash_of(A)}
        came = missing[hash_of(A)]
        assert 800 < came < 1000
        async with world.receiving() as receiver:
            await receiver.feed(whole(A, came))
            await receiver.close()
        assert await world.trees.whole("ann", id_)
        assert await world.trees.content("ann", hash_of(A)) == A
        assert not list((world.root / "server/trees/ann/parts").iterdir())

    run(main)


def test_a_content_that_has_another_hash_is_refused_and_nothing_of_it_stays(world: World, run: Callable) -> None:
    async def main() -> None:
        await world.put(A)
        async with world.receiving() as receiver:
            assert await kind_of(receiver.feed(whole(A[:-1] + b"x", hash_=hash_of(A)))) is Kind.INVALID
        assert world.blobs() == set()
        assert (await world.put(A))[1] == {hash_of(A): 0}
        assert not list((world.root / "server/trees/ann/coming").iterdir())

    run(main)


def test_a_rest_that_does_not_follow_what_is_there_is_refused_and_what_is_there_stays(
    world: World, run: Callable
) -> None:
    async def main() -> None:
        async with world.receiving() as receiver:
            await receiver.feed(whole(A)[:1000])
        _, missing = await world.put(A)
        async with world.receiving() as receiver:
            assert await kind_of(receiver.feed(whole(A, missing[hash_of(A)] + 1))) is Kind.STALE
        assert (await world.put(A))[1] == missing

    run(main)


@pytest.mark.parametrize("line", [b"nonsense\n", b"x" * 1000, f"{'a' * 64} 5 5 7\n".encode()])
def test_what_is_no_record_is_refused(world: World, run: Callable, line: bytes) -> None:
    async def main() -> None:
        async with world.receiving() as receiver:
            assert await kind_of(receiver.feed(line)) is Kind.INVALID

    run(main)


def test_a_list_that_is_not_the_one_of_its_id_is_refused(world: World, run: Callable) -> None:
    async def main() -> None:
        text = encode_manifest(manifest(A))
        assert await kind_of(world.trees.put("ann", tree_id(text), text + b" ")) is Kind.INVALID
        assert await kind_of(world.trees.put("ann", "../../x", text)) is Kind.INVALID

    run(main)


def test_what_one_has_shipped_nobody_else_has(world: World, run: Callable) -> None:
    async def main() -> None:
        id_ = await world.ship(A)
        assert await kind_of(world.trees.whole("bob", id_)) is Kind.INVALID
        assert (await world.put(A, user="bob"))[1] == {hash_of(A): 0}

    run(main)


def test_a_content_that_the_disk_lost_is_asked_for_again(world: World, run: Callable) -> None:
    async def main() -> None:
        id_ = await world.ship(A)
        os.truncate(world.root / "server/trees/ann/blobs" / hash_of(A)[:2] / hash_of(A), 5)
        assert await kind_of(world.trees.whole("ann", id_)) is Kind.INVALID
        assert await world.ship(A) == id_
        assert await world.trees.whole("ann", id_)

    run(main)


def test_what_nobody_shipped_for_long_goes_but_not_what_a_job_waits_for(world: World, run: Callable) -> None:
    async def main() -> None:
        old, awaited = await world.ship(A, B), await world.ship(B, b"awaited")
        world.awaited = {("ann", awaited)}
        world.now_s += KEPT_S - 60
        young = await world.ship(b"young", B)
        await world.trees.sweep()
        assert await world.trees.whole("ann", old), "it is not old yet, and looking at it keeps it"
        world.now_s += KEPT_S - 30
        await world.ship(b"young", B)
        world.now_s += 60
        await world.trees.sweep()
        assert await kind_of(world.trees.whole("ann", old)) is Kind.INVALID
        assert await world.trees.whole("ann", awaited)
        assert await world.trees.whole("ann", young)
        assert world.blobs() == {hash_of(B), hash_of(b"awaited"), hash_of(b"young")}

    run(main)


def test_beyond_an_accounts_room_the_oldest_trees_make_way(world: World, run: Callable, monkeypatch) -> None:
    monkeypatch.setattr(module, "ACCOUNT_BYTES_MAX", 5000)

    async def main() -> None:
        first, second = await world.ship(b"1" * 2000), await world.ship(b"2" * 2000)
        assert await kind_of(world.ship(b"3" * 2000)) is Kind.QUOTA, "both may still be on their way to a job"
        world.now_s += 7200
        await world.trees.whole("ann", second)
        third = await world.ship(b"3" * 2000)
        assert await kind_of(world.trees.whole("ann", first)) is Kind.INVALID
        assert await world.trees.whole("ann", second)
        assert await world.trees.whole("ann", third)
        world.now_s += 7200
        world.awaited = {("ann", second), ("ann", third)}
        assert await kind_of(world.ship(b"4" * 2000)) is Kind.QUOTA
        assert await world.ship(b"4" * 2000, user="bob")

    run(main)


def test_what_was_on_its_way_when_the_server_ended_goes_at_the_next_start(world: World, run: Callable) -> None:
    async def main() -> None:
        await world.put(A)
        receiver = world.trees.receive("ann")
        await receiver.feed(whole(A)[:1000])
        again = TreeStore(world.disk, lambda: (), lambda: NOW_S)
        again.recover_now()
        assert not list((world.root / "server/trees/ann/coming").iterdir())
        await receiver.give_up()
        await world.ship(A)

    run(main)


def test_what_somebody_shipped_who_is_gone_is_nobodys(world, run):
    async def main():
        id_ = await world.ship(A)
        remove_trees_now(str(world.root), "ann", 200_002)
        remove_trees_now(str(world.root), "bob", 200_003)  # who shipped nothing
        assert list((world.root / "server/trees").iterdir()) == []
        again, missing = await world.put(A)
        assert (again, missing) == (id_, {hash_of(A): 0})

    run(main)


def test_who_has_the_name_of_somebody_who_shipped_much_has_all_the_room(world, run, monkeypatch):
    monkeypatch.setattr(module, "ACCOUNT_BYTES_MAX", len(A) + 1000)

    async def main():
        await world.ship(A)
        remove_trees_now(str(world.root), "ann", 200_002)
        await world.ship(bytes(len(A)))

    run(main)


def test_what_is_left_of_somebody_who_is_gone_is_swept(world, run, monkeypatch):
    async def main():
        await world.ship(A)
        await world.ship(A, user="bob")
        with monkeypatch.context() as cut:
            cut.setattr(module.shutil, "rmtree", lambda path: None)
            remove_trees_now(str(world.root), "ann", 200_002)
        await world.trees.sweep()
        assert [path.name for path in (world.root / "server/trees").iterdir()] == ["bob"]
        assert world.blobs("bob") == {hash_of(A)}

    run(main)
