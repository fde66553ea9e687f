"""The files of a log through kills, failures of power and full disks."""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobd.store.logfiles import DAEMON, PREPARE, LogFiles, Note
from jobd.store.logindex import RECORD_BYTES

TIME_NS = 1_700_000_000_000_000_000
PREFIX = re.compile(rb"\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\] \[(?:worker \d+|daemon|prepare)\] ")
CAP = 400

Op = Callable[[LogFiles], None]


def output(worker: int, attempt: int, *parts: bytes) -> Op:
    return lambda files: files.add_output(attempt, worker, [(TIME_NS, len(part)) for part in parts], b"".join(parts))


def note(source: int, text: str, attempt: int = 1) -> Op:
    return lambda files: files.add_notes([Note(source, text, TIME_NS, attempt)])


def opened(directory: Path, cap: int = CAP) -> LogFiles:
    directory.mkdir(exist_ok=True)
    files = LogFiles(str(directory / "1/logs"), cap)
    files.recover()
    return files


def text_of(files: LogFiles, worker: int | None = None) -> bytes:
    return files.read(worker, 0, 1 << 20)


def facts(files: LogFiles) -> dict[str, object]:
    """Return everything that a log knows of itself."""
    return {name: getattr(files, name) for name in LogFiles.__slots__ if name != "directory"}


BEGINNING = [note(DAEMON, "up"), output(0, 1, b"a\n", b"b"), output(1, 1, b"x\r", b"y\n"), output(PREPARE, 1, b"p")]
FILL = output(0, 1, b"z" * 200)
LAST = {
    "output": ([], output(0, 1, b"c\n", b"\xff\0d")),
    "first of a worker": ([], output(7, 1, b"new")),
    "first of an attempt": ([], output(0, 2, b"again\n")),
    "note": ([], note(0, "Worker 0 ended")),
    "at the cap": ([FILL], output(1, 1, b"q\n", b"r" * 200)),
    "first beyond the cap": ([FILL, output(1, 1, b"r" * 200)], output(0, 1, b"more")),
    "again beyond the cap": ([FILL, output(1, 1, b"r" * 200)], output(1, 1, b"more")),
    "end": ([], lambda files: files.add_end()),
}


@pytest.fixture
def in_memory() -> Iterator[Path]:
    """Give a directory where thousands of files are made and cut in no time."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.mark.parametrize("name", LAST)
def test_a_kill_at_any_byte_leaves_the_log_as_before_a_batch_or_as_after_and_able_to_go_on(
    name: str, in_memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, last = LAST[name]
    monkeypatch.setattr("jobd.store.logfiles.os.fsync", lambda fd: None)  # no kill undoes what was written
    files = opened(in_memory / "whole")
    for op in [*BEGINNING, *before]:
        op(files)
    shutil.copytree(in_memory / "whole", in_memory / "before")
    offsets = {worker: stream.offset for worker, stream in files.streams.items()}
    shown = text_of(files)
    with monkeypatch.context() as patch:
        writes = noted_writes(patch)
        last(files)
    complete, after = text_of(files), facts(files)
    assert sum(len(data) for _, _, data in writes) > 0

    for done in prefixes_of(writes, in_memory / "before"):
        restore(in_memory / "cut" / "1/logs", in_memory / "before" / "1/logs")
        for path, offset, data in done:
            with open(in_memory / "cut" / path, "r+b" if (in_memory / "cut" / path).exists() else "w+b") as file:
                os.pwrite(file.fileno(), data, offset)
        again = opened(in_memory / "cut")
        found = text_of(again)
        assert found.startswith(shown)
        assert complete.startswith(found)
        for worker, stream in again.streams.items():
            assert os.stat(again.path(worker)).st_size == stream.size_bytes
            assert stream.attempt == 2 or stream.offset >= offsets.get(worker, 0)
        if facts(again) != after and name != "at the cap":
            assert found == shown
            last(again)
            assert facts(again) == after
            assert text_of(again) == complete


def restore(directory: Path, source: Path) -> None:
    """Make one directory of files what the other is."""
    directory.mkdir(parents=True, exist_ok=True)
    for name in os.listdir(directory):
        if not (source / name).exists():
            (directory / name).unlink()
    for name in os.listdir(source):
        (directory / name).write_bytes((source / name).read_bytes())


def noted_writes(patch: pytest.MonkeyPatch) -> list[tuple[str, int, bytes]]:
    """Return what will have been written: the file below the root, where, and what."""
    real, writes = os.pwrite, []

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        writes.append((str(Path(*path.parts[-3:])), offset, bytes(data)))
        return real(fd, data, offset)

    patch.setattr("jobd.store.logfiles.os.pwrite", pwrite)
    return writes


def prefixes_of(writes: list[tuple[str, int, bytes]], root: Path) -> Iterator[list[tuple[str, int, bytes]]]:
    """Yield what a kill at each byte leaves of the writes; a record that is written over comes whole or not at all."""
    for number, (path, offset, data) in enumerate(writes):
        size = os.stat(root / path).st_size if (root / path).exists() else 0
        step = RECORD_BYTES if offset < size else 1
        for end in range(0, len(data), step):
            yield [*writes[:number], (path, offset, data[:end])]
    yield writes


def test_a_kill_at_the_cap_never_lets_through_more_after_the_marker(tmp_path: Path) -> None:
    files = opened(tmp_path)
    for op in [*BEGINNING, FILL, output(1, 1, b"r" * 200)]:
        op(files)
    marked = text_of(files)
    os.truncate(tmp_path / "1/logs/index", files.index_bytes - RECORD_BYTES)  # the record of what was dropped
    again = opened(tmp_path)
    output(1, 1, b"r")(again)
    assert text_of(again) == marked
    assert marked.count(b"is not kept") == 1


operation = st.one_of(
    st.builds(
        lambda worker, attempt, parts: ("output", worker, attempt, parts),
        st.sampled_from([0, 1, PREPARE]),
        st.integers(1, 2),
        st.lists(st.binary(min_size=1, max_size=9), min_size=1, max_size=4),
    ),
    st.builds(
        lambda text, attempt: ("note", DAEMON, attempt, text), st.text("abc", min_size=1, max_size=5), st.integers(1, 2)
    ),
)


@given(st.lists(operation, max_size=15), st.integers(100, 500), st.data())
def test_after_a_failure_of_power_what_is_there_is_a_beginning_of_what_was(operations, cap: int, data) -> None:
    """Then any file may have lost any end."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as directory:
        files = opened(Path(directory), cap)
        attempts: dict[int, int] = {}
        for kind, source, attempt, value in operations:
            if kind == "note":
                note(source, value, attempt)(files)
            else:
                attempts[source] = max(attempts.get(source, 0), attempt)
                output(source, attempts[source], *value)(files)
        whole = {source: text_of(files, source) for source in (None, *files.streams)}
        offsets = {source: stream.offset for source, stream in files.streams.items()}
        logs = Path(files.directory)
        for name in sorted(os.listdir(logs)):
            os.truncate(logs / name, data.draw(st.integers(0, os.stat(logs / name).st_size)))
        again = opened(Path(directory), cap)
        for source, text in whole.items():
            assert text.startswith(text_of(again, source))
            assert again.size(source) == len(text_of(again, source))
        for source, stream in again.streams.items():
            assert stream.offset <= offsets[source] or stream.attempt < attempts[source]
            # where all came after the cap was full there is not even a file
            kept = os.stat(again.path(source)).st_size if os.path.exists(again.path(source)) else 0
            assert kept == stream.size_bytes
        output(0, 3, b"on\n")(again)
        assert facts(again) == facts(opened(Path(directory), cap))


def test_a_disk_that_refuses_in_the_middle_of_a_batch_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened(tmp_path)
    output(0, 1, b"one\n")(files)
    before = facts(files), text_of(files), text_of(files, 0)
    for refused in ("worker-0.log", "index", "job.log"):
        with monkeypatch.context() as patch:
            patch.setattr("jobd.store.logfiles.os.pwrite", half_written_at(refused))
            with pytest.raises(OSError, match="No space"):
                output(0, 1, b"a longer one\n")(files)
        assert (facts(files), text_of(files), text_of(files, 0)) == before
        again = opened(tmp_path)
        assert (facts(again), text_of(again), text_of(again, 0)) == before
    output(0, 1, b"2\n")(files)
    assert text_of(files, 0) == b"one\n2\n"
    files.add_end()
    assert (tmp_path / "1/logs/worker-0.log").read_bytes() == b"one\n2\n"
    assert (tmp_path / "1/logs/job.log").read_bytes() == text_of(files)


def half_written_at(name: str) -> Callable[[int, memoryview, int], int]:
    """Return an os.pwrite for a disk that is full after half of what is written to the file `name`."""
    real, written = os.pwrite, set()

    def pwrite(fd: int, data: memoryview, offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{fd}").endswith(name):
            if name in written:
                raise OSError(errno.ENOSPC, "No space left on device")
            written.add(name)
            data = data[: len(data) // 2]
        return real(fd, data, offset)

    return pwrite


def test_an_attempt_begins_a_new_line_and_its_bytes_follow_those_of_the_last(tmp_path: Path) -> None:
    files = opened(tmp_path)
    output(0, 1, b"unended")(files)
    output(0, 2, b"again\n")(files)
    assert text_of(files, 0) == b"unendedagain\n"
    assert PREFIX.sub(b"", text_of(files)) == b"unended\nagain\n"
    assert files.streams[0].offset == 6


def test_lines_without_text_are_merged_a_little_at_a_time(tmp_path: Path) -> None:
    files = opened(tmp_path, cap=1 << 30)
    lines = b"\n" * 100_000
    output(0, 1, lines)(files)
    assert text_of(files, 0) == lines
    text = files.read(None, 0, 1 << 30)
    assert PREFIX.sub(b"", text) == lines
    assert len(text) == files.size_bytes
