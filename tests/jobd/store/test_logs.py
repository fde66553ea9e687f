"""The store of logs: what is taken, what is read, and who is woken."""

import os
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from jobd.store.logs import DAEMON, PREPARE, READERS_AT_ONCE, SHORT_BYTES_MAX, LogStore, Note
from pfs.errors import Kind, PfsError

TIME_NS = 1_700_000_000_000_000_000
PREFIX = re.compile(rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \[(?:worker \d+|daemon|prepare)\] ")
MARKER = b"The log has reached its 1KiB; what comes after it is not kept"

Run = Callable[[Callable[[], Awaitable[None]]], None]


async def add(
    store: LogStore, data: bytes, *, offset: int = 0, worker: int = 0, attempt: int = 1, job_id: int = 1
) -> int:
    pieces = [(TIME_NS, len(line)) for line in data.splitlines(keepends=True)]
    return await store.append(job_id, attempt, worker, offset, pieces=pieces, data=data)


async def whole(store: LogStore, worker: int | None = None, job_id: int = 1) -> bytes:
    log = await store.find(job_id)
    return await store.read(log, worker, 0, 1 << 20)


def test_a_process_bytes_are_kept_unchanged_and_stamped_in_the_jobs_log(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        data = b"one\n\xff\x00two\rthree\n"
        pieces = [(TIME_NS, 4), (TIME_NS, len(data) - 4)]
        assert await store.append(1, 1, 0, 0, pieces=pieces, data=data) == len(data)
        assert (tmp_path / "1/logs/worker-0.log").read_bytes() == data
        assert PREFIX.sub(b"", await whole(store)) == data

    run(main)


def test_only_output_that_goes_on_where_the_log_stands_is_taken(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        assert await add(store, b"abc\n") == 4
        assert await add(store, b"abc\n") == 4
        assert await add(store, b"xyz\n", offset=9) == 4
        assert await add(store, b"def\n", offset=4) == 8
        assert await add(store, b"", offset=8) == 8
        assert PREFIX.sub(b"", await whole(store)) == b"abc\ndef\n"

    run(main)


def test_each_attempt_of_each_process_is_counted_by_itself_also_after_a_restart(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        assert await add(store, b"one\n") == 4
        assert await add(store, b"other process\n", worker=1) == 14
        assert await store.offset_of(1, 2, 0) == 0
        assert await add(store, b"two\n", attempt=2) == 4
        for each in (store, LogStore(str(tmp_path))):
            assert [await each.offset_of(1, 2, worker) for worker in (0, 1, 2)] == [4, 0, 0]
            assert await each.offset_of(1, 1, 1) == 14
            assert await whole(each, 0) == b"one\ntwo\n"

    run(main)


def test_what_a_past_attempt_still_says_counts_as_taken_and_is_not_kept(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        await add(store, b"one\n", attempt=2)
        before = await whole(store)
        assert await add(store, b"late\n", offset=7, attempt=1) == 12
        assert await whole(store) == before

    run(main)


def test_the_output_of_preparing_has_a_file_of_its_own(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        await add(store, b"Cloning\n", worker=PREPARE)
        await store.notes(1, [Note(PREPARE, "Copied", TIME_NS, 1)])
        for each in (store, LogStore(str(tmp_path))):
            assert await whole(each, PREPARE) == b"Cloning\n"
            assert [line.split(b"] ", 1)[1] for line in (await whole(each)).splitlines()] == [
                b"[prepare] Cloning",
                b"[prepare] Copied",
            ]
        await store.end(1)
        assert await whole(LogStore(str(tmp_path)), PREPARE) == b"Cloning\n"

    run(main)


@pytest.mark.parametrize("pieces", [[], [(TIME_NS, 3)], [(TIME_NS, 5)], [(TIME_NS, 5), (TIME_NS, -1)]])
def test_pieces_that_are_not_the_bytes_are_refused(tmp_path: Path, run: Run, pieces: list[tuple[int, int]]) -> None:
    async def main() -> None:
        with pytest.raises(PfsError) as caught:
            await LogStore(str(tmp_path)).append(1, 1, 0, 0, pieces=pieces, data=b"abc\n")
        assert caught.value.kind is Kind.INVALID

    run(main)


def test_a_line_of_the_service_stands_in_a_log_once_for_each_attempt_also_after_a_restart(
    tmp_path: Path, run: Run
) -> None:
    async def main() -> None:
        for _ in range(2):
            store = LogStore(str(tmp_path))
            for attempt in (1, 2):
                await store.notes(1, [Note(DAEMON, "Pit daemon started", TIME_NS, attempt)])
                await store.notes(1, [Note(DAEMON, "Pit daemon started", TIME_NS + 5_000_000_000, attempt)])
        assert (await whole(store)).count(b"Pit daemon started") == 2

    run(main)


def test_a_line_of_the_service_never_continues_what_a_process_left_unended(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        await add(store, b"abc")
        await store.notes(1, [Note(0, "Worker 0 ended with exit code 0", TIME_NS, 1)])
        text = await whole(store)
        assert [PREFIX.sub(b"", line) for line in text.splitlines()] == [b"abc", b"Worker 0 ended with exit code 0"]
        assert await whole(LogStore(str(tmp_path))) == text

    run(main)


# ---- the cap


def test_beyond_the_cap_all_is_taken_and_dropped_and_that_is_said_once(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path), bytes_max=1024)
        assert await add(store, b"x" * 899 + b"\n") == 900
        assert await add(store, b"kept\n" + b"y" * 200 + b"\n", offset=900) == 1106
        assert await add(store, b"z\n", offset=1106) == 1108
        assert await add(store, b"other\n", worker=1) == 6
        assert await add(store, b"again\n", attempt=2) == 6
        await store.notes(1, [Note(DAEMON, "Stopped", TIME_NS, 1)])
        assert await whole(store, 0) == b"x" * 899 + b"\nkept\n"
        assert await whole(store, 1) == b""
        lines = [line.split(b"] ", 1)[1] for line in (await whole(store)).splitlines()]
        assert lines[1:] == [b"[worker 0] kept", b"[daemon] " + MARKER, b"[daemon] Stopped"]

    run(main)


def test_what_was_dropped_is_known_after_a_restart(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path), bytes_max=1024)
        await add(store, b"x" * 2000)
        for number in range(3):
            await add(store, b"more", offset=2000 + 4 * number)
            await add(store, b"m", worker=1, offset=number)
        text = await whole(store)
        again = LogStore(str(tmp_path), bytes_max=1024)
        assert await again.offset_of(1, 1, 0) == 2012
        assert await again.offset_of(1, 1, 1) == 3
        assert await add(again, b"on", offset=2012) == 2014
        assert await whole(again) == text
        assert await LogStore(str(tmp_path), bytes_max=1024).offset_of(1, 1, 0) == 2014

    run(main)


def test_the_index_does_not_grow_with_what_is_dropped(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path), bytes_max=1024)
        await add(store, b"x" * 2000)
        size = (tmp_path / "1/logs/index").stat().st_size
        for number in range(100):
            await add(store, b"x", offset=2000 + number)
        assert (tmp_path / "1/logs/index").stat().st_size == size

    run(main)


# ---- readers


@pytest.mark.parametrize("worker", [None, 0])
def test_who_waits_is_woken_by_more_and_by_the_end(tmp_path: Path, run: Run, worker: int | None) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        log = await store.open(1)
        found: list[bool] = []

        async def follow() -> None:
            offset = 0
            while True:
                found.append(await log.more(worker, offset))
                offset = log.size(worker)
                if not found[-1]:
                    return

        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            assert found == []
            await add(store, b"a\n")
            await trio.testing.wait_all_tasks_blocked()
            assert found == [True, True]
            await store.end(1)
        assert found == [True, True, False, False]
        assert (await store.find(1)).over
        assert await (await store.find(1)).more(worker, 0)
        assert not await (await store.find(1)).more(worker, log.size(worker))

    run(main)


def test_while_hundreds_read_what_woke_them_others_have_their_turn(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        reads = 0

        async def at_once(work: Callable[[], None]) -> None:
            nonlocal reads
            reads += 1
            work()

        store = LogStore(str(tmp_path), at_once)
        log = await store.open(1)

        async def follow() -> None:
            await log.more(0, 0)
            assert await store.read(log, 0, 0, 1 << 16) == b"a\n"

        async with trio.open_nursery() as nursery:
            for _ in range(300):
                nursery.start_soon(follow)
            await trio.testing.wait_all_tasks_blocked()
            await add(store, b"a\n")
            reads = 0
            while reads < 300:
                before = reads
                await trio.lowlevel.checkpoint()
                assert reads - before <= 2 * READERS_AT_ONCE

    run(main)


def test_who_waits_for_a_process_is_not_woken_by_another(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        log = await store.open(1)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(log.more, 0, 0)
            await trio.testing.wait_all_tasks_blocked()
            await add(store, b"a\n", worker=1)
            await store.notes(1, [Note(0, "Worker 0 started", TIME_NS, 1)])
            with trio.move_on_after(0):
                await trio.testing.wait_all_tasks_blocked()
            assert nursery.child_tasks
            await add(store, b"a\n")

    run(main)


def test_what_comes_after_the_end_counts_as_taken_and_is_not_kept(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        log = await store.open(1)
        await add(store, b"a\n")
        async with trio.open_nursery() as nursery:
            await log.lock.acquire()
            nursery.start_soon(store.end, 1)
            await trio.testing.wait_all_tasks_blocked()

            async def late() -> None:
                assert await add(store, b"b\n", offset=2) == 4

            nursery.start_soon(late)
            await trio.testing.wait_all_tasks_blocked()
            log.lock.release()
        before = await whole(store)
        for each in (store, LogStore(str(tmp_path))):
            assert await add(each, b"b\n", offset=2) == 4
            await each.notes(1, [Note(DAEMON, "late", TIME_NS, 1)])
            await each.end(1)
            assert await whole(each) == before
            assert await whole(each, 0) == b"a\n"

    run(main)


@pytest.mark.parametrize("more", [False, True])
def test_a_log_that_was_saved_waits_for_the_disk_at_its_end_only_where_more_came_since(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, more: bool
) -> None:
    saved: list[str] = []
    real = os.fsync

    def fsync(fd: int) -> None:
        saved.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name)
        real(fd)

    monkeypatch.setattr("jobd.store.logfiles.os.fsync", fsync)

    async def main() -> None:
        store = LogStore(str(tmp_path))
        await add(store, b"a\n")
        for _ in range(2):
            await store.save(1)
            assert sorted(saved) == ["job.log", "logs", "worker-0.log"]
        saved.clear()
        if more:
            await add(store, b"b\n", offset=2)
        await store.end(1)
        assert sorted(saved) == (["job.log", "logs", "worker-0.log"] if more else [])
        assert (await LogStore(str(tmp_path)).open(1)).over

    run(main)


def test_two_who_open_a_log_at_once_get_the_same_one(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        await add(LogStore(str(tmp_path)), b"abc\n")
        store = LogStore(str(tmp_path))
        async with trio.open_nursery() as nursery:

            async def go_on(worker: int, offset: int) -> None:
                assert await add(store, b"def\n", worker=worker, offset=offset) == offset + 4

            nursery.start_soon(go_on, 0, 4)
            nursery.start_soon(go_on, 1, 0)
        assert await whole(store, 0) == b"abc\ndef\n"
        assert await whole(store, 1) == b"def\n"
        assert await whole(LogStore(str(tmp_path))) == await whole(store)

    run(main)


def test_a_disk_that_refuses_is_told_and_asked_again(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path / "jobs"))
        for _ in range(2):
            with pytest.raises(PfsError) as caught:
                await add(store, b"abc\n")
            assert caught.value.kind is Kind.NOT_FOUND
        (tmp_path / "jobs").mkdir()
        assert await add(store, b"abc\n") == 4

    run(main)


def test_a_log_that_was_removed_is_not_found(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        await add(store, b"abc\n")
        await store.end(1)
        log = await store.find(1)
        (tmp_path / "1/logs/job.log").unlink()
        with pytest.raises(PfsError) as caught:
            await store.read(log, None, 0, 10)
        assert caught.value.kind is Kind.NOT_FOUND

    run(main)


def test_lines_of_one_moment_are_written_together_each_once(tmp_path: Path, run: Run) -> None:
    async def main() -> None:
        store = LogStore(str(tmp_path))
        lines = [Note(DAEMON, "It failed", TIME_NS, 1), Note(0, "Worker 0 ended", TIME_NS, 1)]
        await store.notes(1, [*lines, lines[0]])
        await LogStore(str(tmp_path)).notes(1, [*lines, Note(DAEMON, "It failed", TIME_NS, 2)])
        text = (await whole(LogStore(str(tmp_path)))).decode()
        assert [line.split("] ", 1)[1] for line in text.splitlines()] == [
            "[daemon] It failed",
            "[worker 0] Worker 0 ended",
            "[daemon] It failed",
        ]

    run(main)


def test_what_is_short_is_done_at_once_where_it_may_be_and_what_waits_for_the_disk_is_not(
    tmp_path: Path, run: Run
) -> None:
    async def main() -> None:
        done: list[int] = []

        async def at_once(work: Callable[[], None]) -> None:
            done.append(1)
            work()

        store = LogStore(str(tmp_path), at_once)
        await store.notes(1, [Note(DAEMON, "Pit daemon started", TIME_NS, 1)])
        await add(store, b"abc\n")
        assert await store.read(await store.open(1), 0, 0, 1 << 20) == b"abc\n"
        short = len(done)
        await add(store, b"x" * SHORT_BYTES_MAX + b"\n", offset=4)
        assert len(await store.read(await store.open(1), 0, 0, 1 << 20)) == SHORT_BYTES_MAX + 5
        await store.save(1)
        assert short == len(done) == 4
        await store.end(1)
        assert len(done) == 5, "what was saved is only noted to be over"
        assert await whole(LogStore(str(tmp_path)), 0) == b"abc\n" + b"x" * SHORT_BYTES_MAX + b"\n"

    run(main)
