"""setxattr(2), getxattr(2), listxattr(2), removexattr(2)."""

import errno
import os
from pathlib import Path

import pytest

from integration.functional.places import OK, USER, Both, Case, acting_as, cases, code_of, descriptor, furnish


def put(root: Path, path: str, name: str, value: bytes = b"value", flags: int = 0) -> object:
    os.setxattr(root / path, name, value, flags)
    return os.getxattr(root / path, name), sorted(os.listxattr(root / path))


@cases(
    Case("of a file", OK, lambda root: put(root, "file", "user.x")),
    Case("of a directory", OK, lambda root: put(root, "dir", "user.x")),
    Case("through a link", OK, lambda root: put(root, "link", "user.x")),
    Case("without a value", OK, lambda root: put(root, "file", "user.x", b"")),
    Case("of three kibibytes", OK, lambda root: put(root, "file", "user.x", b"v" * 3072)),
    Case("with any bytes", OK, lambda root: put(root, "file", "user.\xe9 \n", bytes(range(256)))),
    Case("a new one", OK, lambda root: put(root, "file", "user.x", flags=os.XATTR_CREATE)),
    Case("a long name", OK, lambda root: put(root, "file", "user." + "x" * 250)),
    Case("none", OK, lambda root: os.listxattr(root / "file")),
    Case("one that is to be replaced", errno.ENODATA, lambda root: put(root, "file", "user.x", b"", os.XATTR_REPLACE)),
    Case(
        "one that is there",
        errno.EEXIST,
        lambda root: (put(root, "file", "user.x"), put(root, "file", "user.x", b"", os.XATTR_CREATE)),
    ),
    Case("get what is not there", errno.ENODATA, lambda root: os.getxattr(root / "file", "user.none")),
    Case("remove what is not there", errno.ENODATA, lambda root: os.removexattr(root / "file", "user.none")),
    Case("of what is not there", errno.ENOENT, lambda root: os.getxattr(root / "none", "user.x")),
    Case("below a file", errno.ENOTDIR, lambda root: os.getxattr(root / "file/x", "user.x")),
    Case("of an unknown kind", errno.EOPNOTSUPP, lambda root: put(root, "file", "nobody.x")),
    Case("without a kind", errno.EOPNOTSUPP, lambda root: put(root, "file", "x")),
    Case("of a fifo", errno.EPERM, lambda root: put(root, "fifo", "user.x")),
    Case(
        "of a link itself", errno.EPERM, lambda root: os.setxattr(root / "link", "user.x", b"", follow_symlinks=False)
    ),
    Case("a name of 256 bytes", errno.ERANGE, lambda root: put(root, "file", "user." + "x" * 251)),
    Case("more than the kernel takes", errno.E2BIG, lambda root: put(root, "file", "user.x", b"v" * 65_537)),
)
def test_xattr(both: Both, case: Case) -> None:
    both.check(case)


@cases(
    Case("setting on another's", errno.EACCES, lambda root: put(root, "file", "user.x"), USER),
    Case("reading where one may not", errno.EACCES, lambda root: os.getxattr(root / "private", "user.x"), USER),
)
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


@pytest.mark.parametrize("kind", ["trusted", "security", "system"])
def test_only_those_of_users_are_kept(both: Both, kind: str) -> None:
    furnish(both.mount)
    assert code_of(lambda: os.setxattr(both.mount / "file", f"{kind}.x", b"1")) == errno.EOPNOTSUPP
    assert code_of(lambda: os.getxattr(both.mount / "file", f"{kind}.x")) == errno.EOPNOTSUPP


def test_lists_of_access_rights_are_not_kept(both: Both) -> None:
    furnish(both.mount)
    for name in ("system.posix_acl_access", "system.posix_acl_default"):
        assert code_of(lambda: os.getxattr(both.mount / "dir", name)) in {errno.EOPNOTSUPP, errno.ENODATA}  # noqa: B023
        assert code_of(lambda: os.setxattr(both.mount / "dir", name, b"\2\0\0\0")) == errno.EOPNOTSUPP  # noqa: B023


def test_an_open_file_has_its_attributes_also_without_a_name(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        os.setxattr(root / "file", "user.a", b"1")
        with descriptor(root / "file", os.O_RDWR) as fd:
            os.unlink(root / "file")
            os.setxattr(fd, "user.b", b"2")
            os.removexattr(fd, "user.a")
            return os.getxattr(fd, "user.b"), os.listxattr(fd), code_of(lambda: os.getxattr(fd, "user.a"))

    assert both.same(call) == (b"2", ["user.b"], errno.ENODATA)


def test_attributes_move_ctime_only(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        os.utime(root / "file", ns=(5, 7))
        before = os.stat(root / "file")
        os.setxattr(root / "file", "user.x", b"1")
        after = os.stat(root / "file")
        return after.st_mtime_ns, after.st_ctime_ns >= before.st_ctime_ns, after.st_size

    assert both.same(call) == (7, True, 10)


def test_the_owner_sets_them_without_being_allowed_to_read(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: os.chown(root / "file", USER, USER))
    numeric.do(lambda root: os.chmod(root / "file", 0o200))
    with acting_as(USER):
        assert numeric.same(lambda root: os.setxattr(root / "file", "user.x", b"1")) is None
        assert numeric.same(lambda root: os.getxattr(root / "file", "user.x")) == "EACCES"
