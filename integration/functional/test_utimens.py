"""utimensat(2), and who moves which time."""

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path

from integration.functional.places import OK, USER, Both, Case, acting_as, cases, descriptor, furnish

SECOND = 10**9


def set_times(root: Path, name: str, atime_ns: int, mtime_ns: int, *, follow: bool = True) -> object:
    os.utime(root / name, ns=(atime_ns, mtime_ns), follow_symlinks=follow)
    found = os.stat(root / name, follow_symlinks=follow)
    return found.st_atime_ns, found.st_mtime_ns


@cases(
    Case("to the nanosecond", OK, lambda root: set_times(root, "file", 1_111_111_111_111_111_111, 999_999_999)),
    Case("of a directory", OK, lambda root: set_times(root, "dir", 5, 7)),
    Case("of a fifo", OK, lambda root: set_times(root, "fifo", 5, 7)),
    Case("through a link", OK, lambda root: (set_times(root, "link", 5, 7), os.stat(root / "file").st_mtime_ns)),
    Case("of a link itself", OK, lambda root: set_times(root, "link", 5, 7, follow=False)),
    Case("of a link that leads nowhere", OK, lambda root: set_times(root, "dangling", 5, 7, follow=False)),
    Case("before 1970", OK, lambda root: set_times(root, "file", -SECOND, -(2**31) * SECOND)),
    Case("after 2038", OK, lambda root: set_times(root, "file", 2**31 * SECOND, 2**33 * SECOND + 1)),
    Case("of what is not there", errno.ENOENT, lambda root: os.utime(root / "none")),
    Case("through a link that leads nowhere", errno.ENOENT, lambda root: os.utime(root / "dangling")),
    Case("below a file", errno.ENOTDIR, lambda root: os.utime(root / "file/x")),
    Case("of a loop", errno.ELOOP, lambda root: os.utime(root / "loop")),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: os.utime(root / ("x" * 256))),
)
def test_utimens(both: Both, case: Case) -> None:
    both.check(case)


@cases(
    Case("to now on what one may not write", errno.EACCES, lambda root: os.utime(root / "file"), USER),
    Case("to a time on another's", errno.EPERM, lambda root: os.utime(root / "file", ns=(5, 7)), USER),
)
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


def test_who_may_write_may_touch_but_not_set(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: os.chmod(root / "file", 0o666))
    with acting_as(USER):
        assert numeric.same(lambda root: os.utime(root / "file")) is None
        assert numeric.same(lambda root: os.utime(root / "file", ns=(5, 7))) == "EPERM"


def test_touch_sets_the_present_time(both: Both) -> None:
    furnish(both.mount)
    os.utime(both.mount / "file", ns=(5, 7))
    before = time.time_ns()
    os.utime(both.mount / "file")
    assert before - SECOND <= os.stat(both.mount / "file").st_mtime_ns <= time.time_ns() + SECOND


def test_one_time_is_set_and_the_other_left(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        os.utime(root / "file", ns=(5, 7))
        code = os.system(f"touch -c -a -d @100 '{root}/file'")
        first = os.stat(root / "file")
        code |= os.system(f"touch -c -m -d @200 '{root}/file'")
        second = os.stat(root / "file")
        return code, first.st_atime_ns, first.st_mtime_ns, second.st_atime_ns, second.st_mtime_ns

    assert both.same(call) == (0, 100 * SECOND, 7, 100 * SECOND, 200 * SECOND)


def test_times_are_set_by_descriptor_also_without_a_name(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        with descriptor(root / "file", os.O_RDWR) as fd:
            os.unlink(root / "file")
            os.utime(fd, ns=(5, 7))
            return os.fstat(fd).st_atime_ns, os.fstat(fd).st_mtime_ns

    assert both.same(call) == (5, 7)


def test_a_time_that_was_set_outlasts_the_closing_of_who_wrote_before(both: Both) -> None:
    def call(root: Path) -> object:
        with descriptor(root / "f", os.O_RDWR | os.O_CREAT) as fd:
            for number in range(50):
                os.write(fd, b"x" * 1000 * (number % 7 + 1))
            os.utime(fd, ns=(5, 7))
        return os.stat(root / "f").st_mtime_ns

    assert both.same(call) == 7


def test_changes_move_ctime(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        found, fd = [], os.open(root / "file", os.O_RDONLY)
        changes: list[Callable[[], object]] = [
            lambda: os.chmod(root / "file", 0o600),
            lambda: os.link(root / "file", root / "l"),
            lambda: os.unlink(root / "l"),
            lambda: os.rename(root / "file", root / "r"),
            lambda: os.rename(root / "r", root / "file"),
            lambda: os.truncate(root / "file", 3),
            lambda: os.utime(root / "file", ns=(5, 7)),
            lambda: os.setxattr(root / "file", "user.x", b"1"),
        ]
        for change in changes:
            before = os.stat(fd).st_ctime_ns
            time.sleep(0.012)  # file systems of this machine tell times apart by the kernel's tick
            change()
            found.append(os.stat(fd).st_ctime_ns > before)
        os.close(fd)
        return found

    assert both.same(call) == [True] * 8


def test_reading_leaves_the_time_of_access_to_the_server(both: Both) -> None:
    furnish(both.mount)
    os.utime(both.mount / "file", ns=(5 * SECOND, 7 * SECOND))
    (both.mount / "file").read_bytes()
    assert os.stat(both.mount / "file").st_mtime_ns == 7 * SECOND
