"""chmod(2), chown(2) and their kin."""

import errno
import os
import stat
from pathlib import Path

import pytest

from integration.functional.places import OK, TEAM, USER, Both, Case, acting_as, cases, code_of, descriptor, furnish


def chmod(root: Path, name: str, mode: int) -> object:
    os.chmod(root / name, mode)
    return stat.filemode(os.stat(root / name).st_mode)


@cases(
    Case("a file", OK, lambda root: chmod(root, "file", 0o640)),
    Case("a file nobody may use", OK, lambda root: chmod(root, "file", 0)),
    Case("a directory", OK, lambda root: chmod(root, "dir", 0o711)),
    Case("through a link", OK, lambda root: chmod(root, "link", 0o600)),
    Case("a fifo", OK, lambda root: chmod(root, "fifo", 0o600)),
    Case("a socket", OK, lambda root: chmod(root, "socket", 0o600)),
    Case("what is not there", errno.ENOENT, lambda root: chmod(root, "none", 0o600)),
    Case("a link that leads nowhere", errno.ENOENT, lambda root: chmod(root, "dangling", 0o600)),
    Case("below a file", errno.ENOTDIR, lambda root: chmod(root, "file/x", 0o600)),
    Case("a loop", errno.ELOOP, lambda root: chmod(root, "loop", 0o600)),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: chmod(root, "x" * 256, 0o600)),
)
def test_chmod(both: Both, case: Case) -> None:
    both.check(case)


def test_all_twelve_bits_are_kept(numeric: Both) -> None:
    numeric.do(furnish)
    for mode in (0o4755, 0o2755, 0o1777, 0o6711, 0o7777, 0o3770):
        for name in ("file", "dir"):
            assert numeric.same(lambda root: chmod(root, name, mode)) == (  # noqa: B023
                stat.filemode((stat.S_IFDIR if name == "dir" else stat.S_IFREG) | mode)
            )


@cases(
    Case("chmod of another's", errno.EPERM, lambda root: os.chmod(root / "file", 0o600), USER),
    Case("chown of another's", errno.EPERM, lambda root: os.chown(root / "file", USER, USER), USER),
    Case("changing nothing of another's", OK, lambda root: os.chown(root / "file", -1, -1), USER),
    Case("chmod as root", OK, lambda root: os.chmod(root / "file", 0o600)),
    Case("chown as root", OK, lambda root: os.chown(root / "file", USER, TEAM)),
    Case("chown of a link itself", OK, lambda root: os.lchown(root / "dangling", USER, TEAM)),
    Case("chown through a link", OK, lambda root: os.chown(root / "link", USER, TEAM)),
    Case("chown of a directory", OK, lambda root: os.chown(root / "dir", USER, TEAM)),
    Case("chown of a fifo", OK, lambda root: os.chown(root / "fifo", USER, -1)),
    Case("chown of what is not there", errno.ENOENT, lambda root: os.chown(root / "none", 0, 0)),
    Case("chown below a file", errno.ENOTDIR, lambda root: os.chown(root / "file/x", 0, 0)),
    Case("chown of a loop", errno.ELOOP, lambda root: os.chown(root / "loop", 0, 0)),
    Case("a very high number", OK, lambda root: os.chown(root / "file", 2**32 - 2, 2**32 - 2)),
)
def test_owners(numeric: Both, case: Case) -> None:
    numeric.check(case)


def test_an_owner_gives_a_file_to_groups_of_his_only(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: os.chown(root / "file", USER, USER))
    with acting_as(USER, [TEAM]):
        assert numeric.same(lambda root: os.chown(root / "file", -1, TEAM)) is None
        assert numeric.same(lambda root: os.chown(root / "file", -1, 7777)) == "EPERM"
        assert numeric.same(lambda root: os.chown(root / "file", 7777, -1)) == "EPERM"
    assert numeric.same(lambda root: (os.stat(root / "file").st_uid, os.stat(root / "file").st_gid)) == (USER, TEAM)


def test_giving_a_program_away_takes_its_set_id_bits(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: os.chown(root / "file", USER, USER))
    numeric.do(lambda root: os.chmod(root / "file", 0o6755))
    with acting_as(USER, [TEAM]):
        assert numeric.same(lambda root: os.chown(root / "file", -1, TEAM)) is None
    assert numeric.same(lambda root: stat.filemode(os.stat(root / "file").st_mode)) == "-rwxr-xr-x"


def test_writing_takes_set_id_bits_from_who_is_not_root(numeric: Both) -> None:
    def write(root: Path) -> None:
        with descriptor(root / "file", os.O_WRONLY) as fd:
            os.write(fd, b"x")

    numeric.do(furnish)
    numeric.do(lambda root: os.chmod(root / "file", 0o6777))
    with acting_as(USER):
        numeric.do(write)
    assert numeric.same(lambda root: stat.filemode(os.stat(root / "file").st_mode)) == "-rwxrwxrwx"


def test_set_group_id_is_not_for_who_is_not_in_the_group(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: os.chown(root / "file", USER, 7777))
    with acting_as(USER):
        assert numeric.same(lambda root: chmod(root, "file", 0o2755)) == "-rwxr-xr-x"


def test_who_has_a_file_open_keeps_it_when_its_mode_changes(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        with descriptor(root / "file", os.O_RDWR) as fd:
            os.fchmod(fd, 0)
            os.pwrite(fd, b"X", 0)
            return os.pread(fd, 20, 0), stat.filemode(os.fstat(fd).st_mode)

    assert both.same(call) == (b"X123456789", "----------")


@pytest.mark.parametrize("name", ["file", "dir", "fifo"])
def test_where_all_is_ones_own_nothing_can_be_given_away(home: Path, name: str) -> None:
    furnish(home)
    assert (os.stat(home / name).st_uid, os.stat(home / name).st_gid) == (os.getuid(), os.getgid())
    assert code_of(lambda: os.chown(home / name, os.getuid(), os.getgid())) == OK
    assert code_of(lambda: os.chown(home / name, USER, -1)) == errno.EPERM
    assert code_of(lambda: os.chown(home / name, -1, TEAM)) == errno.EPERM


def test_where_all_is_ones_own_set_id_bits_are_not_kept(home: Path) -> None:
    furnish(home)
    for mode in (0o4755, 0o2755, 0o1755):
        assert chmod(home, "file", mode) == "-rwxr-xr-x"
