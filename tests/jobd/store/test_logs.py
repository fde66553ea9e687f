import errno
import os
import re
import tempfile
from pathlib import Path

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from jobd.store.logs import DAEMON, LogStore
from pfs.errors import Kind, PfsError

TIME_NS = 1_700_000_000_000_000_000
PREFIX = re.compile(rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \[(?:worker \d+|daemon)\] ")


def pieces_of(data: bytes) -> list[tuple[int, int]]:
    return [(TIME_NS, len(line)) for line in data.splitlines(keepends=True)]


async def whole(store: LogStore, job_id: int = 1) -> bytes:
    log = await store.find(job_id)
    return await store.read(log, None, 0, 1 << 20)


def test_a_process_bytes_are_kept_unchanged_and_stamped_in_the_jobs_log(tmp_path, run):
    async def main():
        store = LogStore(str(tmp_path))
        data = b"one\n\xff\x00two\rthree\n"
        assert await store.append(1, 0, 0, [(TIME_NS, 4), (TIME_NS, len(data) - 4)], data) == len(data)
        assert (tmp_path / "1/logs/worker-0.log").read_bytes() == data
        assert PREFIX.sub(b"", await whole(store)) == data

    run(main)


def test_only_output_that_goes_on_where_the_log_stands_is_taken(tmp_path, run):
    async def main():
        store = LogStore(str(tmp_path))
        assert await store.append(1, 0, 0, pieces_of(b"abc\n"), b"abc\n") == 4
        assert await store.append(1, 0, 0, pieces_of(b"abc\n"), b"abc\n") == 4
        assert await store.append(1, 0, 9, pieces_of(b"xyz\n"), b"xyz\n") == 4
        assert await store.append(1, 0, 4, pieces_of(b"def\n"), b"def\n") == 8
        assert PREFIX.sub(b"", await whole(store)) == b"abc\ndef\n"

    run(main)


@pytest.mark.parametrize("pieces", [[], [(TIME_NS, 3)], [(TIME_NS, 5)], [(TIME_NS, 5), (TIME_NS, -1)]])
def test_pieces_that_are_not_the_bytes_are_refused(tmp_path, run, pieces):
    async def main():
        with pytest.raises(PfsError) as caught:
            await LogStore(str(tmp_path)).append(1, 0, 0, pieces, b"abc\n")
        assert caught.value.kind is Kind.INVALID

    run(main)


def test_a_line_of_the_service_stands_in_a_log_once_also_after_a_restart(tmp_path, run):
    async def main():
        for _ in range(2):
            store = LogStore(str(tmp_path))
            await store.note(1, DAEMON, "Pit daemon started", TIME_NS)
            await store.note(1, DAEMON, "Pit daemon started", TIME_NS + 5_000_000_000)
        assert (await whole(store)).count(b"Pit daemon started") == 1

    run(main)


def test_a_line_of_the_service_never_continues_what_a_process_left_unended(tmp_path, run):
    async def main():
        store = LogStore(str(tmp_path))
        await store.append(1, 0, 0, [(TIME_NS, 3)], b"abc")
        await store.note(1, 0, "Worker 0 ended with exit code 0", TIME_NS)
        text = await whole(store)
        assert [PREFIX.sub(b"", line) for line in text.splitlines()] == [b"abc", b"Worker 0 ended with exit code 0"]
        assert await whole(LogStore(str(tmp_path))) == text
        again = LogStore(str(tmp_path))
        (tmp_path / "1/logs/job.log").write_bytes(b"")
        await again.open(1)
        assert await whole(again) == text

    run(main)


def test_a_disk_that_refuses_in_the_middle_of_a_batch_leaves_nothing_of_it(tmp_path, run, monkeypatch):
    async def main():
        store = LogStore(str(tmp_path))
        await store.append(1, 0, 0, pieces_of(b"one\n"), b"one\n")
        before = await whole(store)
        for refused in ("worker-0.log", "index", "job.log"):
            monkeypatch.setattr("jobd.store.logs.os.write", half_written_at(refused))
            with pytest.raises(PfsError) as caught:
                await store.append(1, 0, 4, pieces_of(b"two\n"), b"two\n")
            assert caught.value.kind is Kind.NO_SPACE
            monkeypatch.undo()
            assert await whole(store) == before
        assert await store.append(1, 0, 4, pieces_of(b"two\n"), b"two\n") == 8
        assert PREFIX.sub(b"", await whole(store)) == b"one\ntwo\n"
        assert (tmp_path / "1/logs/job.log").read_bytes() == await whole(LogStore(str(tmp_path)))

    run(main)


def half_written_at(name: str):
    """Return an os.write for a disk that is full after half of what is written to the file `name`."""
    real, written = os.write, set()

    def write(fd: int, data: bytes) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(name):
            if name in written:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.add(name)
            data = data[: len(data) // 2]
        return real(fd, data)

    return write


def test_readers_are_woken_by_growth_and_by_the_end(tmp_path, run):
    async def main():
        store = LogStore(str(tmp_path))
        log = await store.open(1)
        for grow in (lambda: store.note(1, DAEMON, "x", TIME_NS), lambda: store.end(1)):
            grown = log.grown
            await grow()
            assert grown.is_set()
        assert log.over
        assert (await store.find(1)).over

    run(main)


def test_what_comes_after_the_end_is_left_out(tmp_path, run):
    async def main():
        store = LogStore(str(tmp_path))
        log = await store.open(1)
        await store.append(1, 0, 0, pieces_of(b"a\n"), b"a\n")
        async with trio.open_nursery() as nursery:
            await log.lock.acquire()
            nursery.start_soon(store.end, 1)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(store.append, 1, 0, 2, pieces_of(b"b\n"), b"b\n")
            await trio.testing.wait_all_tasks_blocked()
            log.lock.release()
        assert (tmp_path / "1/logs/worker-0.log").read_bytes() == b"a\n"

    run(main)


operation = st.one_of(
    st.tuples(
        st.just("worker"), st.integers(0, 2), st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=4)
    ),
    st.tuples(st.just("note"), st.just(DAEMON), st.text("abc", min_size=1, max_size=5)),
)


@given(st.lists(operation, max_size=12), st.data())
def test_a_crash_at_any_byte_of_any_file_loses_no_piece_that_was_read_and_repeats_none(operations, data):
    with tempfile.TemporaryDirectory() as directory:
        trio.run(_crash, Path(directory), operations, data)


async def _crash(root: Path, operations, data) -> None:
    """Cut each file as a kill between or within the three writes of the last batch could have left it."""
    before: dict[str, int] = {}
    logs = root / "1" / "logs"
    store = LogStore(str(root))
    await store.open(1)
    shown = b""
    for kind, source, value in operations:
        before = {name: os.stat(logs / name).st_size for name in os.listdir(logs)}
        shown = await whole(store)
        if kind == "note":
            await store.note(1, source, value, TIME_NS)
        else:
            batch = b"".join(value)
            offset = (await store.open(1)).offsets.get(source, 0)
            await store.append(1, source, offset, [(TIME_NS, len(piece)) for piece in value], batch)
    complete = await whole(store)
    offsets = dict((await store.open(1)).offsets)
    # writes go to a worker's file, then the index, then job.log: the first that is cut ends it
    order = [*(name for name in os.listdir(logs) if name.startswith("worker")), "index", "job.log"]
    intact = True
    for name in order:
        if not (logs / name).exists():
            continue
        size, least = os.stat(logs / name).st_size, before.get(name, 0)
        kept = data.draw(st.integers(least, size)) if intact else least
        intact = intact and kept == size
        os.truncate(logs / name, kept)

    again = LogStore(str(root))
    log = await again.open(1)
    recovered = await whole(again)
    assert recovered.startswith(shown)
    assert complete.startswith(recovered)
    for worker, offset in log.offsets.items():
        assert offset <= offsets[worker]
        assert os.stat(log.path(worker)).st_size == offset
    assert os.stat(log.path(None)).st_size == log.size_bytes == len(recovered) if recovered else True
