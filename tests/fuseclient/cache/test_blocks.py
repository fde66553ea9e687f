"""The block cache: what it gives is what was put, whatever happens to its folder."""

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuseclient.cache import blocks
from fuseclient.cache.blockindex import BLOCK_BYTES, Key
from fuseclient.cache.blocks import BlockCache
from pfs.errors import Kind, PfsError

PATIENCE_S = 60.0
PAGE = 4096
SMALL = 1000
LARGE_LIMIT = 100 * BLOCK_BYTES


def key(node_id: int = 1, size: int = SMALL, version: int = 1, datacenter: str = "dc1") -> Key:
    return Key(datacenter, node_id, size, version, version)


def content(number: int, size: int = SMALL) -> bytes:
    return bytes([number % 251 + 1]) * size


Open = Callable[..., BlockCache]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Open]:
    """Open a cache; all are closed at the end."""
    caches: list[BlockCache] = []

    def opened(limit_bytes: int = LARGE_LIMIT, folder: Path = tmp_path / "cache") -> BlockCache:
        caches.append(BlockCache(str(folder), limit_bytes))
        return caches[-1]

    yield opened
    for cache in caches:
        if cache._thread.is_alive():
            cache.close()


def put(cache: BlockCache, where: Key, number: int, data: bytes) -> None:
    cache.put(where, number, data)
    assert cache.flush(PATIENCE_S)


def files(tmp_path: Path, part: int = 0) -> list[Path]:
    return sorted(path for path in (tmp_path / "cache" / f"blocks-{part}").iterdir() if path.name != "lock")


def test_what_was_put_is_given_back(opened: Open) -> None:
    cache, large = opened(), key(size=2 * BLOCK_BYTES + 5)
    for number, size in ((0, BLOCK_BYTES), (2, 5)):
        put(cache, large, number, content(number, size))
    assert [cache.get(large, number) for number in range(4)] == [
        content(0, BLOCK_BYTES),
        None,
        content(2, 5),
        None,
    ]


def test_a_part_of_a_block_is_given(opened: Open) -> None:
    cache = opened()
    put(cache, key(size=10), 0, b"0123456789")
    assert cache.get(key(size=10), 0, 2, 5) == b"234"
    assert cache.get(key(size=10), 0, 8) == b"89"
    cache.close()
    assert opened().get(key(size=10), 0, 2, 5) == b"234"


def test_a_view_of_a_larger_piece_can_be_put(opened: Open) -> None:
    cache = opened()
    cache.put(key(size=3), 0, memoryview(b"aabbbcc")[2:5])
    assert cache.flush(PATIENCE_S)
    assert cache.get(key(size=3), 0) == b"bbb"


@pytest.mark.parametrize(
    "other",
    [
        key(node_id=2),
        key(datacenter="dc2"),
        key(size=SMALL + 1),
        key()._replace(mtime_ns=2),
        key()._replace(ctime_ns=2),
    ],
)
def test_another_file_or_version_has_blocks_of_its_own(opened: Open, other: Key) -> None:
    cache = opened()
    put(cache, key(), 0, content(1))
    assert cache.get(other, 0) is None


@pytest.mark.parametrize(("number", "size"), [(0, 99), (0, 101), (0, 0), (1, 100), (-1, 100)])
def test_what_cannot_be_the_block_is_not_kept(opened: Open, number: int, size: int) -> None:
    cache = opened()
    put(cache, key(size=100), number, bytes(size))
    assert cache.statistics().blocks == 0


def test_a_new_version_takes_the_place_of_the_former_one(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    put(cache, key(version=1), 0, content(1))
    put(cache, key(version=2), 0, content(2))
    assert (cache.get(key(version=1), 0), cache.get(key(version=2), 0)) == (None, content(2))
    assert cache.flush(PATIENCE_S)
    assert len(files(tmp_path)) == 1


def test_the_next_mount_finds_what_was_put(opened: Open) -> None:
    cache = opened()
    for node in range(10):
        cache.put(key(node), 0, content(node))
    cache.close()
    again = opened()
    assert [again.get(key(node), 0) for node in range(10)] == [content(node) for node in range(10)]
    assert again.statistics().hits == 10


def test_the_least_recently_used_goes_first(opened: Open, tmp_path: Path) -> None:
    cache = opened(3 * PAGE)
    for node in (1, 2, 3):
        put(cache, key(node), 0, content(node))
    cache.get(key(1), 0)
    put(cache, key(4), 0, content(4))
    assert [node for node in (1, 2, 3, 4) if cache.get(key(node), 0)] == [1, 3, 4]
    assert cache.flush(PATIENCE_S)
    assert len(files(tmp_path)) == 3
    assert cache.statistics().held_bytes == 3 * PAGE


@pytest.mark.parametrize("order", [(1, 2, 3, 4), (4, 3, 2, 1)])
def test_the_next_mount_goes_on_with_the_order(opened: Open, tmp_path: Path, order: tuple[int, ...]) -> None:
    cache = opened()
    for node in order:
        put(cache, key(node), 0, content(node))
    cache.close()
    for age, node in enumerate(order):
        os.utime(next(path for path in files(tmp_path) if path.name.startswith(f"dc1,{node},")), (age, age))
    cache = opened()
    assert cache.get(key(order[0]), 0) == content(order[0])
    cache.close()
    small = opened(2 * PAGE)
    assert [node for node in order if small.get(key(node), 0)] == [order[0], order[3]]


def test_a_block_that_is_put_twice_is_written_once(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    written, write = [], blocks._write

    def counted(folder: str, name: str, data: bytes | memoryview) -> None:
        written.append(name)
        for _ in range(2):
            cache.put(key(), 0, content(1))
            cache.put(key(2), 0, content(2))
        write(folder, name, data)

    monkeypatch.setattr(blocks, "_write", counted)
    cache = opened()
    put(cache, key(), 0, content(1))
    put(cache, key(), 0, content(1))
    assert len(written) == 2


def test_a_smaller_limit_holds_from_the_next_mount_on(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    for node in range(10):
        cache.put(key(node), 0, content(node))
    cache.close()
    again = opened(4 * PAGE)
    assert again.flush(PATIENCE_S)
    assert (again.statistics().blocks, len(files(tmp_path))) == (4, 4)


def test_a_block_larger_than_the_limit_is_not_kept(opened: Open, tmp_path: Path) -> None:
    cache = opened(SMALL - 1)
    put(cache, key(), 0, content(1))
    assert (cache.get(key(), 0), files(tmp_path), cache.statistics().unkept) == (None, [], 1)


def test_a_file_that_is_forgotten_is_gone_with_all_its_blocks(opened: Open, tmp_path: Path) -> None:
    cache, large = opened(), key(size=2 * BLOCK_BYTES)
    for number in (0, 1):
        put(cache, large, number, content(number, BLOCK_BYTES))
    put(cache, key(2), 0, content(2))
    cache.forget("dc1", 1)
    assert [cache.get(large, 0), cache.get(large, 1), cache.get(key(2), 0)] == [None, None, content(2)]
    assert cache.flush(PATIENCE_S)
    assert len(files(tmp_path)) == 1


def test_what_waits_to_be_written_is_forgotten_as_well(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()
    write = blocks._write

    def slowly(folder: str, name: str, data: bytes | memoryview) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        write(folder, name, data)

    monkeypatch.setattr(blocks, "_write", slowly)
    cache, large = opened(), key(size=2 * BLOCK_BYTES)
    for number in (0, 1):
        cache.put(large, number, content(number, BLOCK_BYTES))
    assert begun.wait(PATIENCE_S)
    cache.forget("dc1", 1)
    cache.put(large, 1, content(7, BLOCK_BYTES))
    go_on.set()
    assert cache.flush(PATIENCE_S)
    assert [cache.get(large, 0), cache.get(large, 1)] == [None, content(7, BLOCK_BYTES)]


def test_what_comes_faster_than_the_disk_takes_it_is_not_kept(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on, write = threading.Event(), threading.Event(), blocks._write

    def slowly(folder: str, name: str, data: bytes | memoryview) -> None:
        begun.set()
        assert go_on.wait(PATIENCE_S)
        write(folder, name, data)

    monkeypatch.setattr(blocks, "_write", slowly)
    monkeypatch.setattr(blocks, "QUEUE_BYTES_MAX", 3 * SMALL)
    cache = opened()
    cache.put(key(0), 0, content(0))
    assert begun.wait(PATIENCE_S)
    for node in range(1, 6):
        cache.put(key(node), 0, content(node))
    assert cache.statistics().unkept == 2
    cache.forget("dc1", 1)
    cache.put(key(6), 0, content(6))
    assert cache.statistics().unkept == 2
    go_on.set()
    assert cache.flush(PATIENCE_S)
    assert [node for node in range(7) if cache.get(key(node), 0)] == [0, 2, 3, 6]


def test_what_is_wanted_is_kept_however_fast_it_comes(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "KEPT_BYTES_AT_ONCE", 3 * SMALL)
    monkeypatch.setattr(blocks, "KEPT_BYTES_PER_S", 0)
    cache = opened()
    for node in range(10):
        cache.put(key(node), 0, content(node))
        cache.put(key(node + 10), 0, content(node), wanted=True)
    assert cache.flush(PATIENCE_S)
    assert [cache.get(key(node + 10), 0) for node in range(10)] == [content(node) for node in range(10)]
    assert sum(cache.holds(key(node), 0) for node in range(10)) == 3


def test_what_waits_to_be_written_is_given_too(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, go_on = opened(), threading.Event()

    def slowly(folder: str, name: str, data: bytes | memoryview) -> None:
        go_on.wait(PATIENCE_S)
        write(folder, name, data)

    write = blocks._write
    monkeypatch.setattr(blocks, "_write", slowly)
    monkeypatch.setattr(blocks, "QUEUE_BYTES_MAX", 8 * SMALL)
    for node in range(5):
        cache.put(key(node), 0, content(node))
    assert not cache.wait_for_room(0.0)
    assert all(cache.holds(key(node), 0) for node in range(5))
    assert not cache.holds(key(5), 0)
    assert cache.get(key(4), 0, 10, 20) == cache.get_at_once(key(4), 0, 10, 20) == content(4)[10:20]
    go_on.set()
    assert cache.wait_for_room(PATIENCE_S)


def test_what_the_system_has_in_memory_is_given_at_once(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    put(cache, key(), 0, content(1))
    assert cache.get_at_once(key(), 0, 10, 20) == content(1)[10:20]
    assert cache.get_at_once(key(2), 0, 10, 20) is None
    hits = cache.statistics().hits
    (file,) = files(tmp_path)
    file.write_bytes(content(1, 15))
    assert cache.get_at_once(key(), 0, 10, 20) is None
    file.unlink()
    assert cache.get_at_once(key(), 0, 10, 20) is None
    assert (cache.statistics().hits, cache.statistics().misses) == (hits, 0)


def test_what_is_not_verified_is_not_given_at_once(opened: Open) -> None:
    cache = opened()
    put(cache, key(), 0, content(1))
    cache.close()
    again = opened()
    assert again.get_at_once(key(), 0, 10, 20) is None
    assert again.get(key(), 0, 10, 20) == again.get_at_once(key(), 0, 10, 20) == content(1)[10:20]


def test_a_cache_that_takes_nothing_more_has_no_room(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(folder: str, name: str, data: bytes | memoryview) -> None:
        raise OSError(errno.EIO, "a bad disk")

    cache = opened()
    assert cache.wait_for_room(0.0)
    monkeypatch.setattr(blocks, "_write", fails)
    put(cache, key(), 0, content(1))
    assert not cache.wait_for_room(PATIENCE_S)


def test_what_was_written_makes_room_for_more(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "QUEUE_BYTES_MAX", 3 * SMALL)
    cache = opened()
    for node in range(10):
        put(cache, key(node), 0, content(node))
    assert (cache.statistics().blocks, cache.statistics().unkept) == (10, 0)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(content(2)),
        lambda path: path.write_bytes(content(1)[:-1] + b"\0"),
        lambda path: path.write_bytes(b""),
        lambda path: os.truncate(path, SMALL - 1),
        lambda path: os.truncate(path, SMALL + 1),
    ],
    ids=["other bytes", "one other byte", "empty", "shorter", "longer"],
)
def test_a_block_that_was_damaged_between_mounts_is_dropped(
    opened: Open, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    cache = opened()
    put(cache, key(), 0, content(1))
    cache.close()
    damage(files(tmp_path)[0])
    again = opened()
    assert again.get(key(), 0) is None
    assert again.flush(PATIENCE_S)
    assert files(tmp_path) == []
    put(again, key(), 0, content(1))
    assert again.get(key(), 0) == content(1)


def test_a_block_that_was_cut_during_the_mount_is_dropped(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = opened()
    for node in (1, 2):
        put(cache, key(node), 0, content(1))
    for path in files(tmp_path):
        os.truncate(path, SMALL - 1)
    with caplog.at_level(logging.WARNING):
        assert [cache.get(key(node), 0) for node in (1, 2)] == [None, None]
    assert cache.statistics().damaged == 2
    assert len(caplog.records) == 1


def test_a_mount_that_was_killed_while_writing_leaves_nothing(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    put(cache, key(), 0, content(1))
    cache.close()
    half = tmp_path / "cache" / "blocks-0" / "new.tmp"
    half.write_bytes(content(1)[:10])
    again = opened()
    assert not half.exists()
    assert (again.statistics().blocks, again.get(key(), 0)) == (1, content(1))


def test_files_that_are_none_of_ours_stay_and_do_not_count(opened: Open, tmp_path: Path) -> None:
    opened().close()
    foreign = tmp_path / "cache" / "blocks-0" / "notes.txt"
    foreign.write_text("mine")
    cache = opened(0)
    assert cache.flush(PATIENCE_S)
    assert (cache.statistics().blocks, foreign.read_text()) == (0, "mine")


def test_two_mounts_have_a_part_of_the_folder_each(opened: Open, tmp_path: Path) -> None:
    first, second = opened(), opened()
    put(first, key(), 0, content(1))
    put(second, key(), 0, content(1))
    assert [len(files(tmp_path, part)) for part in (0, 1)] == [1, 1]
    first.close()
    assert opened().get(key(), 0) == content(1)


def test_a_folder_that_vanished_costs_its_blocks_and_no_more(
    opened: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = opened()
    put(cache, key(1), 0, content(1))
    (tmp_path / "cache").rename(tmp_path / "gone")
    with caplog.at_level(logging.WARNING):
        for node in (1, 2, 3):
            assert cache.get(key(node), 0) is None
            put(cache, key(node), 0, content(1))
    told = cache.statistics()
    assert (told.blocks, told.unkept) == (0, 3)
    assert len(caplog.records) == 1


def test_a_full_disk_makes_the_cache_smaller(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    cache, write = opened(), blocks._write
    for node in range(16):
        put(cache, key(node), 0, content(node))

    def full(folder: str, name: str, data: bytes | memoryview) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(blocks, "_write", full)
    with caplog.at_level(logging.WARNING):
        for node in (20, 21):
            put(cache, key(node), 0, content(node))
    monkeypatch.setattr(blocks, "_write", write)
    assert cache.statistics().limit_bytes < 14 * PAGE
    assert len(files(tmp_path)) == cache.statistics().blocks < 14
    assert [cache.get(key(node), 0) for node in (0, 15)] == [None, content(15)]
    assert len(caplog.records) == 1
    put(cache, key(20), 0, content(20))
    assert cache.get(key(20), 0) == content(20)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(source: str, target: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "rename", fails)
    with pytest.raises(OSError, match="Input/output"):
        blocks._write(str(tmp_path), "name", b"data")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fails_ends_the_keeping(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache, tries = opened(), []

    def fails(folder: str, name: str, data: bytes | memoryview) -> None:
        tries.append(name)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    put(cache, key(1), 0, content(1))
    monkeypatch.setattr(blocks, "_write", fails)
    with caplog.at_level(logging.WARNING):
        for node in (2, 3):
            put(cache, key(node), 0, content(node))
    assert (len(tries), len(caplog.records)) == (1, 1)
    assert cache.get(key(1), 0) == content(1)


def test_a_defect_in_the_writing_is_logged_and_ends_the_keeping(
    opened: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(folder: str, name: str, data: bytes | memoryview) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(blocks, "_write", fails)
    cache = opened()
    for node in (1, 2):
        put(cache, key(node), 0, content(node))
    assert "a defect" in caplog.text
    assert [cache.get(key(node), 0) for node in (1, 2)] == [None, None]


def test_only_the_user_can_look_into_the_folder(opened: Open, tmp_path: Path) -> None:
    cache = opened()
    put(cache, key(), 0, content(1))
    modes = [path.stat().st_mode & 0o077 for path in (tmp_path / "cache", tmp_path / "cache" / "blocks-0")]
    assert modes == [0, 0]


def test_a_folder_that_others_may_write_to_is_refused(opened: Open, tmp_path: Path) -> None:
    opened().close()
    (tmp_path / "cache" / "blocks-0").chmod(0o777)
    with pytest.raises(PfsError) as refused:
        opened()
    assert refused.value.kind is Kind.DENIED


def test_a_folder_that_cannot_be_is_refused(opened: Open, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(PfsError) as refused:
        opened(folder=tmp_path / "file")
    assert refused.value.kind is Kind.IO


def test_statistics_tell_what_was_done(opened: Open) -> None:
    cache = opened()
    put(cache, key(), 0, content(1))
    cache.get(key(), 0)
    cache.get(key(), 0, 0, 10)
    cache.get(key(2), 0)
    told = cache.statistics()
    assert (told.hits, told.misses) == (2, 1)
    assert (told.blocks, told.held_bytes, told.limit_bytes) == (1, PAGE, LARGE_LIMIT)


def test_many_threads_get_what_was_put_or_nothing(opened: Open) -> None:
    cache, wrong = opened(20 * PAGE), []

    def use(seed: int) -> None:
        for turn in range(150):
            node = (seed * 7 + turn * 3) % 40
            data = cache.get(key(node), 0)
            if data not in (None, content(node)):
                wrong.append(node)
            cache.put(key(node), 0, content(node))
            if turn % 20 == 0:
                cache.forget("dc1", node)

    threads = [threading.Thread(target=use, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cache.flush(PATIENCE_S)
    told = cache.statistics()
    assert (wrong, told.damaged) == ([], 0)
    assert told.held_bytes <= 20 * PAGE
