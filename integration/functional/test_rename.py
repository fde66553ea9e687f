"""rename(2) and renameat2(2)."""

import errno
import os
from pathlib import Path

from integration.functional.places import OK, USER, Both, Case, acting_as, cases, code_of, furnish
from tests.functional.posix import EXCHANGE, NO_REPLACE, Local

WHITEOUT = 4


def case(name: str, code: int, source: str, target: str, flags: int = 0, user: int | None = None) -> Case:
    return Case(name, code, lambda root: Local(root).rename(source, target, flags), user)


@cases(
    case("a file", OK, "file", "new"),
    case("a file over another", OK, "file", "other"),
    case("a file into a directory", OK, "file", "dir/new"),
    case("a file through a link to a directory", OK, "file", "dirlink/new"),
    case("a link itself", OK, "link", "new"),
    case("a file over a link", OK, "file", "link"),
    case("a link over a file", OK, "dangling", "file"),
    case("a fifo", OK, "fifo", "new"),
    case("a fifo over a file", OK, "fifo", "file"),
    case("a socket", OK, "socket", "dir/new"),
    case("a directory", OK, "dir", "new"),
    case("a directory over an empty one", OK, "dir", "empty"),
    case("a directory into another", OK, "dir", "empty/new"),
    case("onto itself", OK, "file", "file"),
    case("a directory onto itself", OK, "dir", "dir"),
    case("a directory with a slash", OK, "dir/", "new/"),
    case("to a name of 255 bytes", OK, "file", "x" * 255),
    case("noreplace to a free name", OK, "file", "new", NO_REPLACE),
    case("exchange of files", OK, "file", "other", EXCHANGE),
    case("exchange of a file and a directory", OK, "file", "dir", EXCHANGE),
    case("exchange of a link and a file below", OK, "link", "dir/inner", EXCHANGE),
    case("exchange with itself", OK, "file", "file", EXCHANGE),
    case("what is not there", errno.ENOENT, "none", "new"),
    case("to where no directory is", errno.ENOENT, "file", "none/new"),
    case("exchange with what is not there", errno.ENOENT, "file", "none", EXCHANGE),
    case("a file over a directory", errno.EISDIR, "file", "empty"),
    case("a directory over a file", errno.ENOTDIR, "dir", "file"),
    case("a directory over a link to one", errno.ENOTDIR, "empty", "dirlink"),
    case("below a file", errno.ENOTDIR, "file", "other/new"),
    case("a file as a directory", errno.ENOTDIR, "file/", "new"),
    case("over a directory with something in it", errno.ENOTEMPTY, "empty", "dir"),
    case("below itself", errno.EINVAL, "dir", "dir/new"),
    case("dot", errno.EBUSY, "dir/.", "new"),
    case("to dots", errno.EBUSY, "dir", "empty/.."),
    case("noreplace over a file", errno.EEXIST, "file", "other", NO_REPLACE),
    case("noreplace over a link to nowhere", errno.EEXIST, "file", "dangling", NO_REPLACE),
    case("noreplace over itself", errno.EEXIST, "file", "file", NO_REPLACE),
    case("noreplace and exchange", errno.EINVAL, "file", "other", NO_REPLACE | EXCHANGE),
    case("an unknown flag", errno.EINVAL, "file", "other", 1 << 8),
    case("exchange of a directory with what is in it", errno.EINVAL, "dir", "dir/inner", EXCHANGE),
    case("a name of 256 bytes", errno.ENAMETOOLONG, "file", "x" * 256),
    case("a loop on the way", errno.ELOOP, "file", "loop/new"),
)
def test_rename(both: Both, case: Case) -> None:
    both.check(case)


@cases(
    case("out of where others may not", errno.EACCES, "file", "dir/new", user=USER),
    case("over what others may not", errno.EACCES, "file", "other", user=USER),
)
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


def test_in_a_sticky_directory_only_owners_rename(numeric: Both) -> None:
    def make(root: Path) -> None:
        root.chmod(0o1777)
        (root / "roots").write_text("")
        (root / "theirs").write_text("")
        os.chown(root / "theirs", USER, USER)

    numeric.do(make)
    with acting_as(USER):
        assert numeric.same(lambda root: os.rename(root / "roots", root / "x")) == "EPERM"
        assert numeric.same(lambda root: os.rename(root / "theirs", root / "roots")) == "EPERM"
        assert numeric.same(lambda root: os.rename(root / "theirs", root / "y")) is None


def test_between_domains_it_is_another_device(both: Both) -> None:
    furnish(both.mount)
    shared = both.mount.parent.parent.parent / "jobs"
    assert code_of(lambda: os.rename(both.mount / "file", shared / "x")) in {errno.EXDEV, errno.EACCES}
    assert code_of(lambda: os.rename(both.mount / "file", both.plain / "x")) == errno.EXDEV
    assert (both.mount / "file").read_bytes() == b"0123456789"


def test_a_whiteout_is_no_device_that_could_be_made(both: Both) -> None:
    furnish(both.mount)
    assert code_of(lambda: Local(both.mount).rename("file", "new", WHITEOUT)) == errno.EINVAL
    assert (both.mount / "file").exists()


def test_the_directory_of_a_process_can_be_moved(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        before = os.open(".", os.O_RDONLY)
        try:
            os.chdir(root / "dir")
            os.rename(root / "dir", root / "moved")
            return Path(os.getcwd()).name, sorted(os.listdir(".")), Path("inner").read_bytes()
        finally:
            os.fchdir(before)
            os.close(before)

    assert both.same(call) == ("moved", ["inner"], b"inner")


def test_a_deep_tree_moves_in_one_step(both: Both) -> None:
    def call(root: Path) -> object:
        path = root / "a"
        for _ in range(40):
            path.mkdir()
            path /= "d"
        path.parent.joinpath("f").write_text("deep")
        (root / "b").mkdir()
        os.rename(root / "a", root / "b/c")
        return (root / "b/c" / "/".join("d" * 39) / "f").read_text(), sorted(os.listdir(root))

    assert both.same(call) == ("deep", ["b"])
