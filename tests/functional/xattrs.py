"""Extended attributes of users."""

import errno
import os

from tests.functional.posix import Posix, errno_of, put


def test_an_attribute_is_kept_byte_for_byte(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.mkdir("d")
    for name in ("f", "d"):
        for value in (b"value", b"", bytes(range(256)), b"shorter"):
            fs.setxattr(name, "user.x", value)
            assert fs.getxattr(name, "user.x") == value


def test_attributes_are_listed_and_removed(fs: Posix) -> None:
    put(fs, "f")
    assert fs.listxattr("f") == []
    for number in range(5):
        fs.setxattr("f", f"user.{number}", b"x")
    assert sorted(fs.listxattr("f")) == [f"user.{number}" for number in range(5)]
    fs.removexattr("f", "user.3")
    assert "user.3" not in fs.listxattr("f")
    assert errno_of(fs.getxattr, "f", "user.3") == errno.ENODATA


def test_an_attribute_that_is_not_there_is_no_data(fs: Posix) -> None:
    put(fs, "f")
    assert errno_of(fs.getxattr, "f", "user.none") == errno.ENODATA
    assert errno_of(fs.removexattr, "f", "user.none") == errno.ENODATA
    assert errno_of(fs.getxattr, "none", "user.none") == errno.ENOENT


def test_create_and_replace_say_what_must_be_there(fs: Posix) -> None:
    put(fs, "f")
    assert errno_of(fs.setxattr, "f", "user.x", b"1", os.XATTR_REPLACE) == errno.ENODATA
    fs.setxattr("f", "user.x", b"1", os.XATTR_CREATE)
    assert errno_of(fs.setxattr, "f", "user.x", b"2", os.XATTR_CREATE) == errno.EEXIST
    fs.setxattr("f", "user.x", b"3", os.XATTR_REPLACE)
    assert fs.getxattr("f", "user.x") == b"3"


def test_attributes_belong_to_the_file_not_to_its_name(fs: Posix) -> None:
    put(fs, "a")
    fs.setxattr("a", "user.x", b"1")
    fs.link("a", "b")
    fs.rename("a", "c")
    assert fs.getxattr("b", "user.x") == fs.getxattr("c", "user.x") == b"1"
    fs.setxattr("b", "user.x", b"2")
    assert fs.getxattr("c", "user.x") == b"2"


def test_an_open_file_has_its_attributes_also_without_a_name(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.setxattr("f", "user.x", b"1")
    fd = fs.open("f", os.O_RDWR)
    fs.unlink("f")
    assert fs.fgetxattr(fd, "user.x") == b"1"
    fs.fsetxattr(fd, "user.y", b"2")
    assert (fs.fgetxattr(fd, "user.y"), sorted(fs.flistxattr(fd))) == (b"2", ["user.x", "user.y"])
    fs.fremovexattr(fd, "user.x")
    assert fs.flistxattr(fd) == ["user.y"]
    assert errno_of(fs.fgetxattr, fd, "user.x") == errno.ENODATA
    fs.close(fd)


def test_the_name_of_an_attribute_begins_with_user(fs: Posix) -> None:
    put(fs, "f")
    assert errno_of(fs.setxattr, "f", "nothing.x", b"1") == errno.EOPNOTSUPP
    assert errno_of(fs.getxattr, "f", "nothing.x") == errno.EOPNOTSUPP


def test_setting_an_attribute_leaves_content_and_mtime(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.utime("f", 5, 7)
    fs.setxattr("f", "user.x", b"1")
    assert (fs.stat("f").mtime_ns, fs.stat("f").size) == (7, 4)
