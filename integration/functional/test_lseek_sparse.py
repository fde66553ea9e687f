"""lseek(2), also for holes."""

import errno
import os
from pathlib import Path

from integration.functional.places import OK, Both, Case, cases, descriptor

MIB = 1 << 20


def sought(root: Path, *steps: tuple[int, int]) -> object:
    with descriptor(root / "file", os.O_RDWR) as fd:
        return [os.lseek(fd, *step) for step in steps]


@cases(
    Case("from the start", OK, lambda root: sought(root, (0, 0), (7, 0), (1 << 40, 0))),
    Case("from where one is", OK, lambda root: sought(root, (5, 1), (2, 1), (-7, 1))),
    Case("from the end", OK, lambda root: sought(root, (0, 2), (-10, 2), (90, 2))),
    Case("before the start", errno.EINVAL, lambda root: sought(root, (-1, 0))),
    Case("before the start from the end", errno.EINVAL, lambda root: sought(root, (-11, 2))),
    Case("in no known way", errno.EINVAL, lambda root: sought(root, (0, 17))),
    Case("for data behind the end", errno.ENXIO, lambda root: sought(root, (10, os.SEEK_DATA))),
    Case("for a hole behind the end", errno.ENXIO, lambda root: sought(root, (11, os.SEEK_HOLE))),
    Case("for data and the hole at the end", OK, lambda root: sought(root, (3, os.SEEK_DATA), (3, os.SEEK_HOLE))),
)
def test_lseek(both: Both, case: Case) -> None:
    both.check(case)


def test_the_end_is_where_others_have_moved_it(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x" * 10)
        with descriptor(root / "f", os.O_RDONLY) as fd, descriptor(root / "f", os.O_WRONLY) as writer:
            found = [os.lseek(fd, 0, os.SEEK_END)]
            os.pwrite(writer, b"y", 99)
            found.append(os.lseek(fd, 0, os.SEEK_END))
            os.ftruncate(writer, 5)
            found.append(os.lseek(fd, 0, os.SEEK_END))
            return found

    assert both.same(call) == [10, 100, 5]


def test_a_file_with_holes_takes_little_room_and_all_of_it_counts_as_data(both: Both) -> None:
    with descriptor(both.mount / "f", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"end", 64 * MIB)
    with descriptor(both.mount / "f", os.O_RDONLY) as fd:
        assert os.fstat(fd).st_blocks * 512 < MIB
        assert os.lseek(fd, 0, os.SEEK_DATA) == 0
        assert os.lseek(fd, 0, os.SEEK_HOLE) == 64 * MIB + 3
        assert os.pread(fd, 100, 32 * MIB) == bytes(100)


def test_holes_of_a_file_that_is_copied_may_stay_holes(both: Both) -> None:
    with descriptor(both.mount / "a", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"end", 8 * MIB)
    assert os.system(f"cp --sparse=always '{both.mount}/a' '{both.mount}/b'") == 0
    assert (both.mount / "b").stat().st_blocks * 512 < MIB
    assert (both.mount / "b").read_bytes() == bytes(8 * MIB) + b"end"


def test_directories_have_places_of_their_own(both: Both) -> None:
    def call(root: Path) -> object:
        with descriptor(root, os.O_RDONLY) as fd:
            return os.lseek(fd, 0, os.SEEK_SET)

    assert both.same(call) == 0
    assert Path(both.mount).is_dir()
