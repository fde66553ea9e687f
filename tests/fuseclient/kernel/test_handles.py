"""Open files, and directories whose entries keep their places while they are read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuseclient.kernel.handles import DirectoryHandle, FileHandle, Handles
from pfs.api import Attr, Entry, NodeType, OpenFlags
from pfs.errors import Kind, PfsError
from tests.memoryfs import MemoryFile, MemoryFileSystem

ATTR = Attr(NodeType.FILE, 1000, 0o644)


def file_handle(handles: Handles, number: int) -> FileHandle:
    fs = MemoryFileSystem()
    file = MemoryFile(fs, "f", fs.put("f"), OpenFlags.READ)
    handle = FileHandle(handles.next_number(), number, "dc1/f", file, OpenFlags.READ, ATTR, 1)
    handles.add_file(handle)
    return handle


def entries(*names: str) -> list[Entry]:
    return [Entry(name, ATTR) for name in names]


def test_files_are_found_by_number_and_by_inode() -> None:
    handles = Handles()
    first, other, second = (file_handle(handles, number) for number in (7, 8, 7))
    assert handles.file(first.fh) is first
    assert handles.files_of(7) == [first, second]
    assert (handles.is_open(8), handles.is_open(9)) == (True, False)
    assert list(handles.files()) == [first, other, second]


def test_what_was_closed_is_gone() -> None:
    handles = Handles()
    handle = file_handle(handles, 7)
    assert handles.pop_file(handle.fh) is handle
    assert (handles.files_of(7), len(handles)) == ([], 0)
    directory = handles.add_directory(7)
    handles.pop_directory(directory.fh)
    for find in (handles.file, handles.directory, handles.pop_file, handles.pop_directory):
        with pytest.raises(PfsError) as caught:
            find(directory.fh)
        assert caught.value.kind is Kind.BAD_HANDLE


def test_numbers_are_never_used_twice() -> None:
    handles, seen = Handles(), set()
    for _ in range(5):
        seen.add(handles.pop_file(file_handle(handles, 7).fh).fh)
        seen.add(handles.pop_directory(handles.add_directory(7).fh).fh)
    assert len(seen) == 10


def test_a_directory_is_read_on_where_it_was_left() -> None:
    directory = DirectoryHandle(1, 7)
    directory.fill(entries("a", "b", "c"), now_s=1, changes=0)
    first = directory.after(2, 2)
    rest = directory.after(first[-1][0], 2)
    assert [entry.name for _, entry in first + rest] == ["a", "b", "c"]
    assert directory.after(rest[-1][0], 2) == []


@given(st.lists(st.sets(st.sampled_from("abcdefgh")), min_size=1, max_size=6))
def test_a_name_keeps_its_offset_and_none_is_given_twice(listings: list[set[str]]) -> None:
    directory, offsets = DirectoryHandle(1, 7), dict[str, int]()
    for listing in listings:
        directory.fill(entries(*listing), now_s=1, changes=0)
        told = directory.after(2, 100)
        assert {entry.name for _, entry in told} == listing
        assert [offset for offset, _ in told] == sorted({offset for offset, _ in told})
        for offset, entry in told:
            assert offset > 2
            assert offsets.setdefault(entry.name, offset) == offset
    assert len(set(offsets.values())) == len(offsets)


@given(st.lists(st.sets(st.sampled_from("abcdefgh")), min_size=2, max_size=8), st.integers(1, 3))
def test_nothing_comes_twice_and_what_stays_is_not_left_out(listings: list[set[str]], count: int) -> None:
    directory, offset, told = DirectoryHandle(1, 7), 2, list[str]()
    for listing in [*listings, *[listings[-1]] * 8]:
        directory.fill(entries(*listing), now_s=1, changes=0)
        for each, entry in directory.after(offset, count):
            offset, told = each, [*told, entry.name]
    assert len(told) == len(set(told))
    assert set.intersection(*listings) <= set(told)


def test_names_that_change_are_doubtful_for_whoever_reads_that_directory() -> None:
    handles = Handles()
    reading, other, unread = handles.add_directory(7), handles.add_directory(8), handles.add_directory(7)
    for directory in (reading, other):
        directory.fill(entries("a", "b"), now_s=1, changes=0)
    handles.doubt(7, "a")
    assert (reading.doubtful, other.doubtful, unread.doubtful) == ({"a"}, set(), set())
    reading.fill(entries("b"), now_s=2, changes=1)
    assert (reading.doubtful, reading.taken_s, reading.changes) == (set(), 2, 1)
