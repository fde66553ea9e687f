"""Names: what can be made and removed, and what stands in the way."""

import errno
import os
import stat
from collections.abc import Callable

from tests.functional.posix import Posix, errno_of, get, put

LONGEST = "界" * 85  # 255 bytes
MakeAt = Callable[[Posix, str], object]
MAKERS: list[MakeAt] = [
    put,
    lambda fs, path: fs.mkdir(path),
    lambda fs, path: fs.symlink("x", path),
    lambda fs, path: fs.mknod(path, stat.S_IFIFO | 0o600),
    lambda fs, path: fs.link("file", path),
    lambda fs, path: fs.rename("other", path),
]


def test_a_new_file_is_empty_and_has_one_name(fs: Posix) -> None:
    put(fs, "f")
    assert (fs.stat("f").size, fs.stat("f").nlink, get(fs, "f")) == (0, 1, b"")


def test_what_is_not_there_is_not_found(fs: Posix) -> None:
    for call in (fs.stat, fs.lstat, fs.unlink, fs.rmdir, fs.readlink, fs.listdir):
        assert errno_of(call, "none") == errno.ENOENT
    assert errno_of(fs.open, "none", os.O_RDWR) == errno.ENOENT
    assert errno_of(fs.rename, "none", "other") == errno.ENOENT
    assert errno_of(fs.link, "none", "other") == errno.ENOENT
    assert errno_of(fs.chmod, "none", 0o600) == errno.ENOENT
    assert errno_of(fs.truncate, "none", 0) == errno.ENOENT


def test_nothing_is_made_where_no_directory_is(fs: Posix) -> None:
    for name in ("file", "other"):
        put(fs, name)
    for make in MAKERS:
        assert errno_of(make, fs, "none/x") == errno.ENOENT


def test_nothing_stands_below_a_file(fs: Posix) -> None:
    for name in ("file", "other"):
        put(fs, name)
    for make in MAKERS:
        assert errno_of(make, fs, "file/x") == errno.ENOTDIR
    assert errno_of(fs.stat, "file/x") == errno.ENOTDIR
    assert errno_of(fs.unlink, "file/x") == errno.ENOTDIR
    assert errno_of(fs.rmdir, "file/x") == errno.ENOTDIR


def test_a_name_may_have_255_bytes(fs: Posix) -> None:
    for make in MAKERS:
        for name in ("file", "other"):
            put(fs, name)
        make(fs, LONGEST)
        assert LONGEST in fs.listdir("")
        assert fs.lstat(LONGEST)
        (fs.rmdir if stat.S_ISDIR(fs.lstat(LONGEST).mode) else fs.unlink)(LONGEST)


def test_no_name_has_256_bytes(fs: Posix) -> None:
    for name in ("file", "other"):
        put(fs, name)
    for make in MAKERS:
        assert errno_of(make, fs, LONGEST + "x") == errno.ENAMETOOLONG
    for call in (fs.stat, fs.unlink, fs.rmdir, fs.readlink, fs.listdir):
        assert errno_of(call, LONGEST + "x") == errno.ENAMETOOLONG
    assert sorted(fs.listdir("")) == ["file", "other"]


def test_a_name_may_be_any_bytes(fs: Posix) -> None:
    names = [os.fsdecode(b"\xff\xfe\n"), " ", "-rf *", "...", "\\", "a\tb", "é"]
    for name in names:
        put(fs, name, name.encode("utf-8", "surrogateescape"))
    assert sorted(fs.listdir("")) == sorted(names)
    assert [get(fs, name) for name in names] == [name.encode("utf-8", "surrogateescape") for name in names]


def test_names_differ_by_case_and_by_how_letters_are_put_together(fs: Posix) -> None:
    names = ["a", "A", "\u00e9", "e\u0301"]
    for name in names:
        put(fs, name, name.encode())
    assert [get(fs, name) for name in names] == [name.encode() for name in names]


def test_nothing_is_made_where_something_is(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.mkdir("d")
    fs.symlink("nowhere", "l")
    for name in ("f", "d", "l"):
        assert errno_of(fs.mkdir, name) == errno.EEXIST
        assert errno_of(fs.symlink, "x", name) == errno.EEXIST
        assert errno_of(fs.mknod, name, stat.S_IFIFO | 0o600) == errno.EEXIST
        assert errno_of(fs.mknod, name, stat.S_IFREG | 0o600) == errno.EEXIST
        assert errno_of(fs.link, "f", name) == errno.EEXIST
    assert get(fs, "f") == b"text"


def test_a_directory_with_something_in_it_is_not_removed(fs: Posix) -> None:
    fs.mkdir("d")
    put(fs, "d/f")
    assert errno_of(fs.rmdir, "d") == errno.ENOTEMPTY
    fs.unlink("d/f")
    fs.rmdir("d")
    assert fs.listdir("") == []


def test_rmdir_is_for_directories_and_unlink_for_the_others(fs: Posix) -> None:
    put(fs, "f")
    fs.mkdir("d")
    fs.symlink("d", "l")
    assert errno_of(fs.rmdir, "f") == errno.ENOTDIR
    assert errno_of(fs.rmdir, "l") == errno.ENOTDIR
    assert errno_of(fs.unlink, "d") == errno.EISDIR
    fs.unlink("l")
    assert sorted(fs.listdir("")) == ["d", "f"]


def test_what_is_removed_is_gone_and_can_be_made_anew(fs: Posix) -> None:
    for text in (b"one", b"another", b""):
        put(fs, "f", text)
        assert get(fs, "f") == text
        fs.unlink("f")
        assert errno_of(fs.stat, "f") == errno.ENOENT
        assert errno_of(fs.unlink, "f") == errno.ENOENT
    fs.mkdir("f")
    assert stat.S_ISDIR(fs.stat("f").mode)


def test_directories_may_be_deep(fs: Posix) -> None:
    paths = ["/".join("d" * depth) for depth in range(1, 21)]
    for path in paths:
        fs.mkdir(path)
    put(fs, paths[-1] + "/f", b"deep")
    assert get(fs, paths[-1] + "/f") == b"deep"
    fs.unlink(paths[-1] + "/f")
    for path in reversed(paths):
        fs.rmdir(path)
    assert fs.listdir("") == []


def test_fifos_and_sockets_are_told_as_such(fs: Posix) -> None:
    fs.mknod("fifo", stat.S_IFIFO | 0o640)
    fs.mknod("socket", stat.S_IFSOCK | 0o600)
    assert stat.filemode(fs.stat("fifo").mode) == "prw-r-----"
    assert stat.filemode(fs.lstat("socket").mode) == "srw-------"
    assert (fs.stat("fifo").size, fs.stat("fifo").rdev) == (0, 0)
    fs.rename("fifo", "other")
    fs.unlink("other")
    fs.unlink("socket")
    assert fs.listdir("") == []


def test_a_file_can_be_made_without_being_opened(fs: Posix) -> None:
    fs.mknod("f", stat.S_IFREG | 0o640)
    assert stat.filemode(fs.stat("f").mode) == "-rw-r-----"
    assert get(fs, "f") == b""


def test_dots_are_no_names_to_make_or_remove(fs: Posix) -> None:
    fs.mkdir("d")
    fs.mkdir("d/e")
    assert fs.stat("d/e/..").ino == fs.stat("d").ino
    assert fs.stat("d/.").ino == fs.stat("d").ino
    assert sorted(fs.listdir("d/e/../..")) == ["d"]
