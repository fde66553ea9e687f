"""link(2)."""

import errno
import os
from pathlib import Path

from integration.functional.places import OK, USER, Both, Case, Places, acting_as, cases, code_of, descriptor, furnish


def case(name: str, code: int, source: str, target: str) -> Case:
    return Case(name, code, lambda root: os.link(root / source, root / target, follow_symlinks=False))


def followed(source: str, target: Path) -> None:
    """Link what a symbolic link leads to; Python says so to the system only where it names a directory."""
    with descriptor(target.parent, os.O_PATH) as fd:
        os.link(source, target.name, dst_dir_fd=fd, follow_symlinks=True)


@cases(
    case("a file", OK, "file", "new"),
    case("into a directory", OK, "file", "dir/new"),
    case("a symbolic link itself", OK, "link", "new"),
    case("a symbolic link that leads nowhere", OK, "dangling", "new"),
    case("a fifo", OK, "fifo", "new"),
    case("a socket", OK, "socket", "new"),
    Case(
        "what a symbolic link leads to",
        OK,
        lambda root: followed(str(root / "link"), root / "new"),
    ),
    case("a name of 255 bytes", OK, "file", "x" * 255),
    case("over a file", errno.EEXIST, "file", "other"),
    case("over itself", errno.EEXIST, "file", "file"),
    case("over a symbolic link", errno.EEXIST, "file", "dangling"),
    case("over a directory", errno.EEXIST, "file", "dir"),
    case("what is not there", errno.ENOENT, "none", "new"),
    case("to where no directory is", errno.ENOENT, "file", "none/new"),
    case("below a file", errno.ENOTDIR, "file", "other/new"),
    case("a directory", errno.EPERM, "dir", "new"),
    case("a name of 256 bytes", errno.ENAMETOOLONG, "file", "x" * 256),
    case("a loop on the way", errno.ELOOP, "file", "loop/new"),
)
def test_link(both: Both, case: Case) -> None:
    both.check(case)


def test_nobody_links_where_he_may_make_nothing(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: os.chown(root / "file", USER, USER))
    with acting_as(USER):
        assert numeric.same(lambda root: os.link(root / "file", root / "new")) == "EACCES"


def test_a_link_moves_ctime_and_leaves_mtime(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        os.utime(root / "file", ns=(5, 7))
        before = os.stat(root / "file").st_ctime_ns
        os.link(root / "file", root / "new")
        after = os.stat(root / "file")
        return after.st_ctime_ns >= before, after.st_mtime_ns, os.stat(root / "new") == after

    assert both.same(call) == (True, 7, True)


def test_a_hundred_names_are_one_file(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"one")
        for number in range(99):
            os.link(root / "f", root / f"l{number}")
        (root / "l7").write_bytes(b"through the seventh")
        numbers = {os.stat(root / name).st_ino for name in os.listdir(root)}
        counts = os.stat(root / "l98").st_nlink, (root / "l50").read_bytes(), len(numbers)
        for number in range(99):
            os.unlink(root / f"l{number}")
        return counts, os.stat(root / "f").st_nlink

    assert both.same(call) == ((100, b"through the seventh", 1), 1)


def test_an_open_file_can_be_given_a_name(both: Both) -> None:
    def call(root: Path) -> object:
        with open(root / "f", "w+b", buffering=0) as file:
            file.write(b"text")
            followed(f"/proc/self/fd/{file.fileno()}", root / "g")
            os.unlink(root / "f")
        return (root / "g").read_bytes(), os.listdir(root)

    assert both.same(call) == (b"text", ["g"])


def test_who_may_not_link_what_is_anothers(numeric: Both) -> None:
    protected = Path("/proc/sys/fs/protected_hardlinks").read_text().strip() == "1"
    numeric.do(furnish)
    numeric.do(lambda root: root.chmod(0o777))
    with acting_as(USER):
        found = numeric.same(lambda root: os.link(root / "private", root / "mine"))
    assert found == ("EPERM" if protected else None)


def test_between_file_systems_it_is_another_device(places: Places, both: Both) -> None:
    furnish(both.mount)
    assert code_of(lambda: os.link(both.mount / "file", both.plain / "x")) == errno.EXDEV
    assert code_of(lambda: os.link(both.mount / "file", both.mount.parents[2] / "jobs/x")) in {
        errno.EXDEV,
        errno.EACCES,
    }
