"""unlink(2), rmdir(2) and mkdir(2)."""

import errno
import os
import shutil
from pathlib import Path

from integration.functional.places import OK, USER, Both, Case, acting_as, cases, furnish


@cases(
    Case("a file", OK, lambda root: os.unlink(root / "file")),
    Case("a symbolic link", OK, lambda root: os.unlink(root / "dirlink")),
    Case("a link that leads nowhere", OK, lambda root: os.unlink(root / "dangling")),
    Case("a fifo", OK, lambda root: os.unlink(root / "fifo")),
    Case("a socket", OK, lambda root: os.unlink(root / "socket")),
    Case("through a link to a directory", OK, lambda root: os.unlink(root / "dirlink/inner")),
    Case("what is not there", errno.ENOENT, lambda root: os.unlink(root / "none")),
    Case("below nothing", errno.ENOENT, lambda root: os.unlink(root / "none/x")),
    Case("below a file", errno.ENOTDIR, lambda root: os.unlink(root / "file/x")),
    Case("a file with a slash", errno.ENOTDIR, lambda root: os.unlink(f"{root}/file/")),
    Case("a directory", errno.EISDIR, lambda root: os.unlink(root / "empty")),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: os.unlink(root / ("x" * 256))),
    Case("a loop on the way", errno.ELOOP, lambda root: os.unlink(root / "loop/x")),
)
def test_unlink(both: Both, case: Case) -> None:
    both.check(case)


@cases(
    Case("an empty directory", OK, lambda root: os.rmdir(root / "empty")),
    Case("with a slash", OK, lambda root: os.rmdir(f"{root}/empty/")),
    Case("one with something in it", errno.ENOTEMPTY, lambda root: os.rmdir(root / "dir")),
    Case("what is not there", errno.ENOENT, lambda root: os.rmdir(root / "none")),
    Case("a file", errno.ENOTDIR, lambda root: os.rmdir(root / "file")),
    Case("a link to a directory", errno.ENOTDIR, lambda root: os.rmdir(root / "dirlink")),
    Case("dot", errno.EINVAL, lambda root: os.rmdir(f"{root}/empty/.")),
    Case("dots", errno.ENOTEMPTY, lambda root: os.rmdir(f"{root}/empty/..")),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: os.rmdir(root / ("x" * 256))),
)
def test_rmdir(both: Both, case: Case) -> None:
    both.check(case)


@cases(
    Case("a directory", OK, lambda root: os.mkdir(root / "new", 0o750)),
    Case("with a slash", OK, lambda root: os.mkdir(f"{root}/new/")),
    Case("a name of 255 bytes", OK, lambda root: os.mkdir(root / ("x" * 255))),
    Case("where a file is", errno.EEXIST, lambda root: os.mkdir(root / "file")),
    Case("where a link to nowhere is", errno.EEXIST, lambda root: os.mkdir(root / "dangling")),
    Case("where a directory is", errno.EEXIST, lambda root: os.mkdir(root / "dir")),
    Case("dot", errno.EEXIST, lambda root: os.mkdir(f"{root}/.")),
    Case("below nothing", errno.ENOENT, lambda root: os.mkdir(root / "none/x")),
    Case("below a file", errno.ENOTDIR, lambda root: os.mkdir(root / "file/x")),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: os.mkdir(root / ("x" * 256))),
    Case("a loop on the way", errno.ELOOP, lambda root: os.mkdir(root / "loop/x")),
)
def test_mkdir(both: Both, case: Case) -> None:
    both.check(case)


@cases(
    Case("unlink where others may not", errno.EACCES, lambda root: os.unlink(root / "file"), USER),
    Case("rmdir where others may not", errno.EACCES, lambda root: os.rmdir(root / "empty"), USER),
    Case("mkdir where others may not", errno.EACCES, lambda root: os.mkdir(root / "new"), USER),
)
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


def test_in_a_sticky_directory_only_owners_remove(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: root.chmod(0o1777))
    numeric.do(lambda root: os.chown(root / "other", USER, USER))
    with acting_as(USER):
        assert numeric.same(lambda root: os.unlink(root / "file")) == "EPERM"
        assert numeric.same(lambda root: os.rmdir(root / "empty")) == "EPERM"
        assert numeric.same(lambda root: os.unlink(root / "other")) is None


def test_the_umask_is_taken_from_the_mode(both: Both) -> None:
    before = os.umask(0o027)
    try:
        both.do(lambda root: os.mkdir(root / "d", 0o777))
    finally:
        os.umask(before)
    assert both.same(lambda root: oct(os.stat(root / "d").st_mode)) == "0o40750"


def test_the_directory_of_a_process_can_be_removed(both: Both) -> None:
    def call(root: Path) -> object:
        before = os.open(".", os.O_RDONLY)
        try:
            (root / "d").mkdir()
            os.chdir(root / "d")
            os.rmdir(root / "d")
            found = []
            for attempt in (lambda: os.listdir("."), lambda: os.mkdir("x"), lambda: os.open("f", os.O_CREAT)):
                try:
                    found.append(attempt())
                except OSError as error:
                    found.append(error.errno)
            return found
        finally:
            os.fchdir(before)
            os.close(before)

    assert both.same(call) == [[], errno.ENOENT, errno.ENOENT]


def test_rm_of_a_tree_leaves_nothing(both: Both) -> None:
    def call(root: Path) -> object:
        for number in range(8):
            (root / f"t{number}").mkdir()
            furnish(root / f"t{number}")
        for number in range(8):
            shutil.rmtree(root / f"t{number}")
        return os.listdir(root)

    assert both.same(call) == []
