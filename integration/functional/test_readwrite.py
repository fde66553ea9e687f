"""read(2), write(2) and their kin, on files beyond 4 GiB and with many hands at once."""

import errno
import os
import random
import threading
from pathlib import Path

from integration.functional.places import OK, Both, Case, cases, code_of, descriptor

GIB = 1 << 30


def io(root: Path, flags: int, *steps: tuple[object, ...]) -> object:
    """Make calls on one descriptor of `file`; tell what they return, and what the file then holds."""
    with descriptor(root / "file", flags) as fd:
        found = [getattr(os, str(name))(fd, *arguments) for name, *arguments in steps]
    return found


def read_directory(root: Path) -> object:
    with descriptor(root / "dir", os.O_RDONLY) as fd:
        return os.read(fd, 1)


@cases(
    Case("read to the end", OK, lambda root: io(root, os.O_RDONLY, ("read", 4), ("read", 100), ("read", 1))),
    Case("read nothing", OK, lambda root: io(root, os.O_RDONLY, ("read", 0))),
    Case("read behind the end", OK, lambda root: io(root, os.O_RDONLY, ("pread", 10, 1 << 40))),
    Case("write moves on", OK, lambda root: io(root, os.O_RDWR, ("write", b"ab"), ("read", 3), ("write", b"c"))),
    Case("write behind the end", OK, lambda root: io(root, os.O_RDWR, ("pwrite", b"x", 100), ("pread", 200, 0))),
    Case("write nothing behind the end", OK, lambda root: io(root, os.O_RDWR, ("pwrite", b"", 100))),
    Case("several pieces", OK, lambda root: io(root, os.O_RDWR, ("writev", [b"ab", b"", b"cde"]), ("pread", 20, 0))),
    Case("seek and write", OK, lambda root: io(root, os.O_RDWR, ("lseek", -3, 2), ("write", b"abcdef"))),
    Case("write to a descriptor for reading", errno.EBADF, lambda root: io(root, os.O_RDONLY, ("write", b"x"))),
    Case("read from one for writing", errno.EBADF, lambda root: io(root, os.O_WRONLY, ("read", 1))),
    Case("a negative offset", errno.EINVAL, lambda root: io(root, os.O_RDWR, ("pread", 1, -1))),
    Case("seek before the start", errno.EINVAL, lambda root: io(root, os.O_RDONLY, ("lseek", -1, 0))),
    Case("read a directory", errno.EISDIR, read_directory),
)
def test_read_and_write(both: Both, case: Case) -> None:
    both.check(case)


def test_a_file_beyond_4_gib_keeps_every_byte_where_it_belongs(both: Both) -> None:
    offsets = [0, GIB - 3, 2 * GIB - 1, 4 * GIB - 8, 4 * GIB, 9 * GIB + 17, (1 << 40) + 1]

    def call(root: Path) -> object:
        with descriptor(root / "f", os.O_RDWR | os.O_CREAT) as fd:
            for number, offset in enumerate(offsets):
                os.pwrite(fd, b"piece %d" % number, offset)
        with descriptor(root / "f", os.O_RDONLY) as fd:
            found = [os.pread(fd, 7, offset) for offset in offsets], os.fstat(fd).st_size
            room = os.fstat(fd).st_blocks * 512
        os.unlink(root / "f")
        return found, room < 1 << 20

    found = both.same(call)
    assert found == (([b"piece %d" % number for number in range(7)], offsets[-1] + 7), True)


def test_a_file_has_a_largest_size(both: Both) -> None:
    with descriptor(both.mount / "f", os.O_RDWR | os.O_CREAT) as fd:
        code = code_of(lambda: os.pwrite(fd, b"x", (1 << 63) - 2)) or code_of(lambda: os.fsync(fd))
        assert code == errno.EFBIG


def test_random_writes_are_what_they_are_on_a_local_disk(both: Both) -> None:
    def call(root: Path) -> object:
        chance, model = random.Random(7), bytearray()
        with descriptor(root / "f", os.O_RDWR | os.O_CREAT) as fd:
            for _ in range(300):
                offset, data = chance.randrange(300_000), chance.randbytes(chance.choice([1, 10, 4096, 70_000]))
                if len(model) < offset + len(data):
                    model += bytes(offset + len(data) - len(model))
                model[offset : offset + len(data)] = data
                os.pwrite(fd, data, offset)
                if chance.random() < 0.3:
                    start = chance.randrange(len(model))
                    assert os.pread(fd, 5000, start) == model[start : start + 5000]
        return (root / "f").read_bytes() == model

    assert both.same(call) is True


def test_overlapping_writes_of_two_descriptors_keep_their_order(both: Both) -> None:
    def call(root: Path) -> object:
        chance, model = random.Random(8), bytearray(20_000)
        fds = [os.open(root / "f", os.O_RDWR | os.O_CREAT) for _ in range(3)]
        os.pwrite(fds[0], model, 0)
        for _ in range(300):
            offset, data = chance.randrange(15_000), chance.randbytes(chance.randrange(1, 5000))
            model[offset : offset + len(data)] = data
            os.pwrite(chance.choice(fds), data, offset)
        for fd in fds:
            os.close(fd)
        return (root / "f").read_bytes() == model

    assert both.same(call) is True


def test_a_read_sees_each_write_whole_or_not_at_all(both: Both) -> None:
    path, over = both.mount / "f", threading.Event()
    path.write_bytes(b"a" * 4096)
    torn: list[bytes] = []

    def read() -> None:
        with descriptor(path, os.O_RDONLY) as fd:
            while not over.is_set():
                data = os.pread(fd, 4096, 0)
                if len(set(data)) != 1 or len(data) != 4096:
                    torn.append(data)

    reader = threading.Thread(target=read)
    reader.start()
    with descriptor(path, os.O_WRONLY) as fd:
        for number in range(300):
            os.pwrite(fd, bytes([97 + number % 26]) * 4096, 0)
    over.set()
    reader.join()
    assert torn == []


def test_bytes_are_copied_by_the_kernel(both: Both) -> None:
    def call(root: Path) -> object:
        data = random.Random(9).randbytes(300_000)
        (root / "a").write_bytes(data)
        with descriptor(root / "a", os.O_RDONLY) as a, descriptor(root / "b", os.O_RDWR | os.O_CREAT) as b:
            done = 0
            while done < len(data):
                done += os.copy_file_range(a, b, len(data) - done)
        with descriptor(root / "a", os.O_RDONLY) as a, descriptor(root / "c", os.O_RDWR | os.O_CREAT) as c:
            sent = 0
            while sent < len(data):
                sent += os.sendfile(c, a, sent, len(data) - sent)
        return (root / "b").read_bytes() == data, (root / "c").read_bytes() == data

    assert both.same(call) == (True, True)


def test_what_a_process_inherits_is_the_same_open_file(both: Both) -> None:
    def call(root: Path) -> object:
        with descriptor(root / "f", os.O_RDWR | os.O_CREAT) as fd:
            os.write(fd, b"parent ")
            child = os.fork()
            if child == 0:
                os.write(fd, b"child ")
                os._exit(0)
            os.waitpid(child, 0)
            os.write(fd, b"parent again")
        return (root / "f").read_bytes()

    assert both.same(call) == b"parent child parent again"
