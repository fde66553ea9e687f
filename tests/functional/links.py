"""Hard links, which are one file with several names, and symbolic ones."""

import errno
import os
import stat

from tests.functional.posix import Posix, errno_of, get, put


def test_two_names_are_one_file(fs: Posix) -> None:
    put(fs, "a", b"text")
    fs.link("a", "b")
    assert fs.stat("a") == fs.stat("b")
    assert fs.stat("a").nlink == 2
    put(fs, "b", b"through the other")
    assert get(fs, "a") == b"through the other"
    fs.chmod("a", 0o600)
    assert fs.stat("b").mode & 0o777 == 0o600


def test_each_name_counts(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.mkdir("d")
    for number in range(5):
        fs.link("f", f"d/{number}")
        assert fs.stat("f").nlink == number + 2
    for number in range(5):
        fs.unlink(f"d/{number}")
        assert fs.stat("f").nlink == 5 - number


def test_a_file_lives_until_its_last_name_goes(fs: Posix) -> None:
    put(fs, "a", b"text")
    fs.link("a", "b")
    fs.unlink("a")
    assert (get(fs, "b"), fs.stat("b").nlink) == (b"text", 1)
    fs.unlink("b")
    assert fs.listdir("") == []


def test_what_is_open_tells_how_many_names_are_left(fs: Posix) -> None:
    put(fs, "a", b"text")
    fs.link("a", "b")
    fd = fs.open("a", os.O_RDWR)
    assert fs.fstat(fd).nlink == 2
    fs.unlink("a")
    assert fs.fstat(fd).nlink == 1
    fs.pwrite(fd, b"T", 0)
    fs.unlink("b")
    assert (fs.fstat(fd).nlink, fs.pread(fd, 10, 0)) == (0, b"Text")
    fs.close(fd)


def test_a_link_is_not_made_over_anything(fs: Posix) -> None:
    put(fs, "a", b"a")
    put(fs, "b", b"b")
    assert errno_of(fs.link, "a", "b") == errno.EEXIST
    assert errno_of(fs.link, "a", "a") == errno.EEXIST
    assert (fs.stat("a").nlink, get(fs, "b")) == (1, b"b")


def test_a_directory_has_one_name(fs: Posix) -> None:
    fs.mkdir("d")
    assert errno_of(fs.link, "d", "e") == errno.EPERM


def test_replacing_one_name_leaves_the_others(fs: Posix) -> None:
    put(fs, "a", b"old")
    fs.link("a", "b")
    put(fs, "new", b"new")
    fs.rename("new", "a")
    assert (get(fs, "a"), get(fs, "b")) == (b"new", b"old")
    assert (fs.stat("a").nlink, fs.stat("b").nlink) == (1, 1)


def test_fifos_have_hard_links_too(fs: Posix) -> None:
    fs.mknod("p", stat.S_IFIFO | 0o600)
    fs.link("p", "q")
    assert fs.stat("p").nlink == 2
    assert fs.stat("p").ino == fs.stat("q").ino


def test_a_hard_link_to_a_symbolic_one_is_that_itself(fs: Posix) -> None:
    fs.symlink("nowhere", "l")
    fs.link("l", "m")
    assert (fs.readlink("m"), fs.lstat("l").nlink) == ("nowhere", 2)


def test_a_symbolic_link_says_where_it_leads_as_it_was_written(fs: Posix) -> None:
    targets = ["f", "../x//y/./z", "/etc/passwd", "nowhere at all", os.fsdecode(b"\xff"), "t" * 4095]
    for number, target in enumerate(targets):
        fs.symlink(target, f"l{number}")
        assert fs.readlink(f"l{number}") == target
        found = fs.lstat(f"l{number}")
        assert stat.S_ISLNK(found.mode)
        assert (found.size, stat.S_IMODE(found.mode)) == (len(os.fsencode(target)), 0o777)


def test_a_symbolic_link_is_followed_anywhere_in_a_path(fs: Posix) -> None:
    fs.mkdir("d")
    fs.mkdir("d/e")
    put(fs, "d/f", b"text")
    fs.symlink("d", "to_d")
    fs.symlink("../f", "d/e/up")
    assert get(fs, "to_d/f") == b"text"
    assert get(fs, "to_d/e/up") == b"text"
    assert sorted(fs.listdir("to_d")) == ["e", "f"]
    put(fs, "to_d/e/up", b"written through")
    assert get(fs, "d/f") == b"written through"


def test_a_symbolic_link_may_lead_nowhere(fs: Posix) -> None:
    fs.symlink("nowhere", "l")
    assert errno_of(fs.stat, "l") == errno.ENOENT
    assert errno_of(fs.open, "l", os.O_RDONLY) == errno.ENOENT
    assert fs.lstat("l").nlink == 1
    put(fs, "nowhere", b"now it does")
    assert get(fs, "l") == b"now it does"


def test_links_that_lead_round_in_a_circle_are_a_loop(fs: Posix) -> None:
    fs.symlink("b", "a")
    fs.symlink("a", "b")
    fs.symlink("self", "self")
    for path in ("a", "self", "a/x"):
        assert errno_of(fs.stat, path) == errno.ELOOP
        assert errno_of(fs.open, path, os.O_RDONLY) == errno.ELOOP


def test_forty_links_are_followed_and_no_more(fs: Posix) -> None:
    put(fs, "l0", b"text")
    for number in range(1, 42):
        fs.symlink(f"l{number - 1}", f"l{number}")
    assert get(fs, "l40") == b"text"
    assert errno_of(fs.stat, "l41") == errno.ELOOP


def test_removing_a_symbolic_link_leaves_what_it_leads_to(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.symlink("f", "l")
    fs.unlink("l")
    assert (fs.listdir(""), get(fs, "f")) == (["f"], b"text")


def test_only_symbolic_links_are_read_as_such(fs: Posix) -> None:
    put(fs, "f")
    fs.mkdir("d")
    assert errno_of(fs.readlink, "f") == errno.EINVAL
    assert errno_of(fs.readlink, "d") == errno.EINVAL
