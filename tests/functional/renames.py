"""Renaming, and what becomes of what is open meanwhile."""

import errno
import os

from tests.functional.posix import EXCHANGE, NO_REPLACE, Posix, errno_of, get, put


def test_a_file_that_is_renamed_stays_what_it_is(fs: Posix) -> None:
    put(fs, "a", b"text")
    before = fs.stat("a")
    fs.rename("a", "b")
    after = fs.stat("b")
    assert (after.ino, after.size, after.mtime_ns, after.nlink) == (before.ino, 4, before.mtime_ns, 1)
    assert (get(fs, "b"), fs.listdir("")) == (b"text", ["b"])


def test_a_file_that_stands_in_the_way_is_replaced(fs: Posix) -> None:
    put(fs, "a", b"new")
    put(fs, "b", b"old text")
    number = fs.stat("a").ino
    fs.rename("a", "b")
    assert (fs.stat("b").ino, get(fs, "b"), fs.listdir("")) == (number, b"new", ["b"])


def test_a_file_moves_between_directories(fs: Posix) -> None:
    fs.mkdir("d")
    fs.mkdir("e")
    put(fs, "d/f", b"text")
    fs.rename("d/f", "e/g")
    assert (fs.listdir("d"), fs.listdir("e"), get(fs, "e/g")) == ([], ["g"], b"text")


def test_a_directory_moves_with_all_below_it(fs: Posix) -> None:
    for path in ("a", "a/b", "a/b/c", "d"):
        fs.mkdir(path)
    put(fs, "a/b/c/f", b"text")
    fs.rename("a/b", "d/x")
    assert get(fs, "d/x/c/f") == b"text"
    assert errno_of(fs.stat, "a/b/c/f") == errno.ENOENT
    assert fs.stat("d/x/..").ino == fs.stat("d").ino
    assert (fs.stat("a").nlink, fs.stat("d").nlink) == (2, 3)


def test_a_directory_replaces_an_empty_one_only(fs: Posix) -> None:
    for path in ("a", "empty", "full"):
        fs.mkdir(path)
    put(fs, "a/f")
    put(fs, "full/g")
    assert errno_of(fs.rename, "a", "full") == errno.ENOTEMPTY
    fs.rename("a", "empty")
    assert (fs.listdir("empty"), sorted(fs.listdir(""))) == (["f"], ["empty", "full"])


def test_directories_and_files_do_not_replace_one_another(fs: Posix) -> None:
    fs.mkdir("d")
    put(fs, "f")
    assert errno_of(fs.rename, "f", "d") == errno.EISDIR
    assert errno_of(fs.rename, "d", "f") == errno.ENOTDIR
    assert sorted(fs.listdir("")) == ["d", "f"]


def test_a_directory_cannot_be_moved_below_itself(fs: Posix) -> None:
    fs.mkdir("d")
    fs.mkdir("d/e")
    assert errno_of(fs.rename, "d", "d/e/f") == errno.EINVAL
    assert errno_of(fs.rename, "d", "d/x") == errno.EINVAL
    assert errno_of(fs.rename, "d/e", "d") == errno.ENOTEMPTY


def test_renaming_to_the_same_name_changes_nothing(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.rename("f", "f")
    assert (get(fs, "f"), fs.listdir("")) == (b"text", ["f"])


def test_renaming_one_name_of_a_file_over_another_leaves_both(fs: Posix) -> None:
    put(fs, "a", b"text")
    fs.link("a", "b")
    fs.rename("a", "b")
    assert sorted(fs.listdir("")) == ["a", "b"]
    assert fs.stat("a").nlink == 2


def test_noreplace_leaves_what_is_there(fs: Posix) -> None:
    put(fs, "a", b"a")
    put(fs, "b", b"b")
    fs.mkdir("d")
    fs.symlink("nowhere", "l")
    for name in ("b", "d", "l", "a"):
        assert errno_of(fs.rename, "a", name, NO_REPLACE) == errno.EEXIST
    fs.rename("a", "c", NO_REPLACE)
    assert (get(fs, "c"), get(fs, "b"), sorted(fs.listdir(""))) == (b"a", b"b", ["b", "c", "d", "l"])


def test_exchange_swaps_two_files(fs: Posix) -> None:
    put(fs, "a", b"a")
    put(fs, "b", b"bb")
    numbers = fs.stat("a").ino, fs.stat("b").ino
    fs.rename("a", "b", EXCHANGE)
    assert (get(fs, "a"), get(fs, "b")) == (b"bb", b"a")
    assert (fs.stat("b").ino, fs.stat("a").ino) == numbers
    assert (fs.stat("a").size, fs.stat("b").size) == (2, 1)


def test_exchange_swaps_a_file_and_a_directory_of_different_parents(fs: Posix) -> None:
    for path in ("x", "y", "y/d"):
        fs.mkdir(path)
    put(fs, "x/f", b"text")
    put(fs, "y/d/g", b"below")
    fs.rename("x/f", "y/d", EXCHANGE)
    assert (get(fs, "y/d"), get(fs, "x/f/g")) == (b"text", b"below")
    assert (fs.stat("x").nlink, fs.stat("y").nlink) == (3, 2)


def test_exchange_needs_both_names(fs: Posix) -> None:
    put(fs, "a", b"a")
    assert errno_of(fs.rename, "a", "none", EXCHANGE) == errno.ENOENT
    assert errno_of(fs.rename, "none", "a", EXCHANGE) == errno.ENOENT
    fs.mkdir("d")
    fs.mkdir("d/e")
    assert errno_of(fs.rename, "d", "d/e", EXCHANGE) == errno.EINVAL


def test_noreplace_and_exchange_contradict_one_another(fs: Posix) -> None:
    put(fs, "a")
    put(fs, "b")
    assert errno_of(fs.rename, "a", "b", NO_REPLACE | EXCHANGE) == errno.EINVAL
    assert errno_of(fs.rename, "a", "b", 1 << 10) == errno.EINVAL


def test_a_link_is_renamed_and_replaced_itself(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.symlink("f", "l")
    fs.rename("l", "m")
    assert (fs.readlink("m"), get(fs, "m")) == ("f", b"text")
    put(fs, "new", b"new")
    fs.rename("new", "m")
    assert (get(fs, "m"), get(fs, "f")) == (b"new", b"text")


def test_an_open_file_that_is_renamed_reads_and_writes_on(fs: Posix) -> None:
    fs.mkdir("d")
    put(fs, "f", b"text")
    fd = fs.open("f", os.O_RDWR)
    fs.rename("f", "d/g")
    assert fs.pread(fd, 10, 0) == b"text"
    fs.pwrite(fd, b"more", 4)
    assert fs.fstat(fd).nlink == 1
    fs.close(fd)
    assert get(fs, "d/g") == b"textmore"


def test_an_open_file_below_a_directory_that_is_renamed_reads_and_writes_on(fs: Posix) -> None:
    fs.mkdir("a")
    put(fs, "a/f", b"text")
    fd = fs.open("a/f", os.O_RDWR)
    fs.rename("a", "b")
    fs.pwrite(fd, b"T", 0)
    assert fs.pread(fd, 10, 0) == b"Text"
    fs.close(fd)
    assert get(fs, "b/f") == b"Text"


def test_an_open_file_that_is_replaced_lives_on(fs: Posix) -> None:
    put(fs, "f", b"old")
    put(fs, "new", b"new")
    fd = fs.open("f", os.O_RDWR)
    number = fs.fstat(fd).ino
    fs.rename("new", "f")
    assert (fs.pread(fd, 10, 0), fs.fstat(fd).nlink, fs.fstat(fd).ino) == (b"old", 0, number)
    fs.pwrite(fd, b"er text", 3)
    assert (fs.pread(fd, 20, 0), get(fs, "f")) == (b"older text", b"new")
    fs.close(fd)
    assert get(fs, "f") == b"new"


def test_an_open_file_that_is_removed_lives_on(fs: Posix) -> None:
    put(fs, "f", b"text")
    fd = fs.open("f", os.O_RDWR)
    fs.unlink("f")
    assert errno_of(fs.stat, "f") == errno.ENOENT
    assert (fs.pread(fd, 10, 0), fs.fstat(fd).nlink, fs.fstat(fd).size) == (b"text", 0, 4)
    fs.pwrite(fd, b"more", 4)
    fs.ftruncate(fd, 6)
    fs.fchmod(fd, 0o600)
    assert (fs.pread(fd, 10, 0), fs.fstat(fd).mode & 0o777) == (b"textmo", 0o600)
    fs.fsync(fd)
    fs.close(fd)
    assert fs.listdir("") == []


def test_a_removed_file_and_its_successor_are_two(fs: Posix) -> None:
    put(fs, "f", b"old")
    fd = fs.open("f", os.O_RDWR)
    fs.unlink("f")
    put(fs, "f", b"new text")
    assert fs.fstat(fd).ino != fs.stat("f").ino
    fs.pwrite(fd, b"x", 0)
    assert (fs.pread(fd, 10, 0), get(fs, "f")) == (b"xld", b"new text")
    fs.close(fd)


def test_a_file_that_was_made_and_removed_while_open_can_be_used(fs: Posix) -> None:
    fd = fs.open("f", os.O_RDWR | os.O_CREAT | os.O_EXCL)
    fs.unlink("f")
    fs.pwrite(fd, b"scratch", 0)
    assert fs.pread(fd, 10, 0) == b"scratch"
    assert fs.fstat(fd).size == 7
    fs.close(fd)


def test_a_directory_of_an_open_file_can_be_removed_when_it_is_empty(fs: Posix) -> None:
    fs.mkdir("d")
    put(fs, "d/f", b"text")
    fd = fs.open("d/f", os.O_RDONLY)
    fs.unlink("d/f")
    fs.rmdir("d")
    assert fs.pread(fd, 10, 0) == b"text"
    fs.close(fd)
