"""truncate(2), ftruncate(2) and fallocate(2)."""

import errno
import os
from pathlib import Path

from integration.functional.places import OK, USER, Both, Case, acting_as, cases, code_of, descriptor, furnish, punch

TIB = 1 << 40


def size_after(root: Path, name: str, size: int) -> object:
    os.truncate(root / name, size)
    return os.stat(root / name).st_size


def cut(root: Path, flags: int, size: int) -> object:
    with descriptor(root / "file", flags) as fd:
        os.ftruncate(fd, size)
        return os.fstat(fd).st_size


@cases(
    Case("shorter", OK, lambda root: size_after(root, "file", 4)),
    Case("to nothing", OK, lambda root: size_after(root, "file", 0)),
    Case("longer", OK, lambda root: size_after(root, "file", 5000)),
    Case("to the same", OK, lambda root: size_after(root, "file", 10)),
    Case("beyond 4 gib", OK, lambda root: size_after(root, "file", (1 << 32) + 1)),
    Case("to a tebibyte and back", OK, lambda root: (size_after(root, "file", TIB), size_after(root, "file", 10))),
    Case("through a link", OK, lambda root: size_after(root, "link", 3)),
    Case("a descriptor", OK, lambda root: cut(root, os.O_RDWR, 3)),
    Case("a descriptor that appends", OK, lambda root: cut(root, os.O_WRONLY | os.O_APPEND, 3)),
    Case("what is not there", errno.ENOENT, lambda root: os.truncate(root / "none", 0)),
    Case("a link that leads nowhere", errno.ENOENT, lambda root: os.truncate(root / "dangling", 0)),
    Case("below a file", errno.ENOTDIR, lambda root: os.truncate(root / "file/x", 0)),
    Case("a directory", errno.EISDIR, lambda root: os.truncate(root / "dir", 0)),
    Case("a loop", errno.ELOOP, lambda root: os.truncate(root / "loop", 0)),
    Case("a name of 256 bytes", errno.ENAMETOOLONG, lambda root: os.truncate(root / ("x" * 256), 0)),
    Case("a negative size", errno.EINVAL, lambda root: os.truncate(root / "file", -1)),
    Case("a fifo", errno.EINVAL, lambda root: os.truncate(root / "fifo", 0)),
    Case("a descriptor for reading", errno.EINVAL, lambda root: cut(root, os.O_RDONLY, 0)),
)
def test_truncate(both: Both, case: Case) -> None:
    both.check(case)


@cases(Case("what others may only read", errno.EACCES, lambda root: os.truncate(root / "file", 0), USER))
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


def test_truncating_takes_set_id_bits_away_from_who_is_not_root(numeric: Both) -> None:
    numeric.do(furnish)
    numeric.do(lambda root: os.chown(root / "file", USER, USER))
    numeric.do(lambda root: os.chmod(root / "file", 0o6777))
    with acting_as(USER):
        numeric.do(lambda root: os.truncate(root / "file", 3))
    assert numeric.same(lambda root: oct(os.stat(root / "file").st_mode)) == "0o100777"


def test_what_was_cut_off_does_not_come_back(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"s" * 100_000)
        assert len((root / "f").read_bytes()) == 100_000
        os.truncate(root / "f", 5)
        os.truncate(root / "f", 50_000)
        return (root / "f").read_bytes() == b"s" * 5 + bytes(49_995)

    assert both.same(call) is True


def test_a_cut_is_seen_by_who_reads_at_that_moment(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"0123456789" * 1000)
        with open(root / "f", "rb", buffering=0) as reader, open(root / "f", "r+b", buffering=0) as writer:
            found = [len(reader.read(10_000))]
            writer.truncate(100)
            found.append(len(os.pread(reader.fileno(), 10_000, 0)))
            writer.seek(200)
            writer.write(b"x")
            found.append(len(os.pread(reader.fileno(), 10_000, 0)))
            return found

    assert both.same(call) == [10_000, 100, 201]


def test_room_is_not_to_be_reserved(both: Both) -> None:
    furnish(both.mount)
    with descriptor(both.mount / "file", os.O_RDWR) as fd:
        os.posix_fallocate(fd, 0, 20)  # the C library writes instead
        assert os.fstat(fd).st_size == 20
        assert os.pread(fd, 20, 0) == b"0123456789" + bytes(10)
    assert code_of(lambda: punch(both.mount / "file")) == errno.EOPNOTSUPP
