"""What files hold: reading, writing, cutting, and how they are opened."""

import errno
import os
import random

from tests.functional.posix import Posix, errno_of, get, put

MAKE = os.O_RDWR | os.O_CREAT


def test_what_was_written_is_read(fs: Posix) -> None:
    data = random.Random(1).randbytes(1 << 20)
    put(fs, "f", data)
    assert get(fs, "f") == data
    assert fs.stat("f").size == len(data)


def test_a_part_is_read_and_at_the_end_nothing(fs: Posix) -> None:
    put(fs, "f", b"0123456789")
    fd = fs.open("f", os.O_RDONLY)
    assert [fs.pread(fd, 4, offset) for offset in (0, 3, 8, 10, 100)] == [b"0123", b"3456", b"89", b"", b""]
    fs.close(fd)


def test_a_part_is_overwritten_in_place(fs: Posix) -> None:
    put(fs, "f", b"0123456789")
    fd = fs.open("f", os.O_WRONLY)
    fs.pwrite(fd, b"xyz", 3)
    fs.close(fd)
    assert get(fs, "f") == b"012xyz6789"


def test_many_small_writes_in_any_order_are_one_file(fs: Posix) -> None:
    chance, data = random.Random(2), random.Random(3).randbytes(64 << 10)
    offsets = list(range(0, len(data), 1000))
    chance.shuffle(offsets)
    fd = fs.open("f", MAKE)
    for offset in offsets:
        fs.pwrite(fd, data[offset : offset + 1000], offset)
    assert fs.pread(fd, len(data), 0) == data
    fs.close(fd)
    assert get(fs, "f") == data


def test_what_was_never_written_reads_as_zeros(fs: Posix) -> None:
    fd = fs.open("f", MAKE)
    fs.pwrite(fd, b"end", 100_000)
    assert fs.pread(fd, 200_000, 0) == bytes(100_000) + b"end"
    fs.close(fd)
    assert get(fs, "f") == bytes(100_000) + b"end"


def test_a_file_may_be_larger_than_4_gib_and_takes_no_room_for_holes(fs: Posix) -> None:
    fd = fs.open("f", MAKE)
    fs.pwrite(fd, b"far", 5 << 30)
    fs.pwrite(fd, b"edge", (1 << 32) - 2)
    fs.close(fd)
    fd = fs.open("f", os.O_RDONLY)
    assert fs.fstat(fd).size == (5 << 30) + 3
    assert fs.fstat(fd).blocks * 512 < 1 << 20
    assert fs.pread(fd, 8, (1 << 32) - 4) == b"\0\0edge\0\0"
    assert fs.pread(fd, 8, 5 << 30) == b"far"
    fs.close(fd)
    fs.unlink("f")


def test_what_one_descriptor_writes_the_other_reads(fs: Posix) -> None:
    put(fs, "f", b"old")
    one, other = fs.open("f", os.O_RDWR), fs.open("f", os.O_RDONLY)
    assert fs.pread(other, 10, 0) == b"old"
    fs.pwrite(one, b"newer", 0)
    assert fs.pread(other, 10, 0) == b"newer"
    assert (fs.fstat(other).size, fs.stat("f").size) == (5, 5)
    fs.close(one)
    fs.close(other)


def test_size_is_told_while_it_is_written(fs: Posix) -> None:
    fd = fs.open("f", MAKE)
    for number in range(1, 6):
        fs.pwrite(fd, b"x" * 1000, 1000 * (number - 1))
        assert (fs.fstat(fd).size, fs.stat("f").size) == (1000 * number, 1000 * number)
    fs.close(fd)


def test_appending_goes_to_the_end_whoever_moved_it(fs: Posix) -> None:
    one, other = (fs.open("log", os.O_WRONLY | os.O_CREAT | os.O_APPEND) for _ in range(2))
    for number in range(10):
        fs.append(one if number % 2 else other, f"line {number}\n".encode())
    fs.close(one)
    fs.close(other)
    assert get(fs, "log") == b"".join(f"line {number}\n".encode() for number in range(10))


def test_appending_follows_a_cut(fs: Posix) -> None:
    put(fs, "log", b"0123456789")
    fd = fs.open("log", os.O_WRONLY | os.O_APPEND)
    fs.append(fd, b"a")
    fs.truncate("log", 3)
    fs.append(fd, b"b")
    fs.close(fd)
    assert get(fs, "log") == b"012b"


def test_o_excl_makes_only_what_is_not_there(fs: Posix) -> None:
    fd = fs.open("f", MAKE | os.O_EXCL)
    fs.close(fd)
    assert errno_of(fs.open, "f", MAKE | os.O_EXCL) == errno.EEXIST
    fs.mkdir("d")
    assert errno_of(fs.open, "d", MAKE | os.O_EXCL) == errno.EEXIST
    fs.symlink("nowhere", "l")
    assert errno_of(fs.open, "l", MAKE | os.O_EXCL) == errno.EEXIST
    assert errno_of(fs.stat, "nowhere") == errno.ENOENT


def test_o_creat_opens_what_is_there_as_it_is(fs: Posix) -> None:
    put(fs, "f", b"text", 0o600)
    fd = fs.open("f", MAKE, 0o777)
    assert fs.pread(fd, 10, 0) == b"text"
    assert fs.fstat(fd).mode & 0o777 == 0o600
    fs.close(fd)


def test_a_new_read_only_file_can_be_written_by_who_makes_it(fs: Posix) -> None:
    fd = fs.open("f", MAKE, 0o400)
    fs.pwrite(fd, b"text", 0)
    fs.close(fd)
    assert (get(fs, "f"), fs.stat("f").mode & 0o777) == (b"text", 0o400)


def test_o_trunc_empties_a_file_for_all_who_have_it_open(fs: Posix) -> None:
    put(fs, "f", b"old text")
    reader = fs.open("f", os.O_RDONLY)
    assert fs.pread(reader, 3, 0) == b"old"
    writer = fs.open("f", os.O_WRONLY | os.O_TRUNC)
    assert (fs.pread(reader, 10, 0), fs.fstat(reader).size) == (b"", 0)
    fs.pwrite(writer, b"new", 0)
    fs.close(writer)
    assert fs.pread(reader, 10, 0) == b"new"
    fs.close(reader)


def test_truncating_cuts_and_what_it_adds_is_zeros(fs: Posix) -> None:
    put(fs, "f", b"0123456789")
    fs.truncate("f", 4)
    assert get(fs, "f") == b"0123"
    fs.truncate("f", 8)
    assert (get(fs, "f"), fs.stat("f").size) == (b"0123\0\0\0\0", 8)
    fs.truncate("f", 0)
    assert get(fs, "f") == b""


def test_ftruncate_is_seen_at_once_by_reads_and_writes(fs: Posix) -> None:
    fd = fs.open("f", MAKE)
    fs.pwrite(fd, b"0123456789", 0)
    fs.ftruncate(fd, 5)
    fs.pwrite(fd, b"x", 7)
    assert (fs.pread(fd, 20, 0), fs.fstat(fd).size) == (b"01234\0\0x", 8)
    fs.close(fd)
    assert get(fs, "f") == b"01234\0\0x"


def test_ftruncate_needs_a_descriptor_for_writing(fs: Posix) -> None:
    put(fs, "f", b"text")
    fd = fs.open("f", os.O_RDONLY)
    assert errno_of(fs.ftruncate, fd, 0) == errno.EINVAL
    fs.close(fd)
    assert get(fs, "f") == b"text"


def test_only_files_are_truncated(fs: Posix) -> None:
    fs.mkdir("d")
    assert errno_of(fs.truncate, "d", 0) == errno.EISDIR


def test_a_descriptor_for_reading_does_not_write_nor_the_other_way_round(fs: Posix) -> None:
    put(fs, "f", b"text")
    reader, writer = fs.open("f", os.O_RDONLY), fs.open("f", os.O_WRONLY)
    assert errno_of(fs.pwrite, reader, b"x", 0) == errno.EBADF
    assert errno_of(fs.pread, writer, 1, 0) == errno.EBADF
    fs.close(reader)
    fs.close(writer)
    assert get(fs, "f") == b"text"


def test_a_directory_is_not_opened_for_writing(fs: Posix) -> None:
    fs.mkdir("d")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT):
        assert errno_of(fs.open, "d", flags) == errno.EISDIR


def test_o_nofollow_opens_no_link(fs: Posix) -> None:
    put(fs, "f", b"text")
    fs.symlink("f", "l")
    assert errno_of(fs.open, "l", os.O_RDONLY | os.O_NOFOLLOW) == errno.ELOOP
    assert get(fs, "l") == b"text"


def test_writing_nothing_changes_nothing(fs: Posix) -> None:
    put(fs, "f", b"text")
    before = fs.stat("f").mtime_ns
    fd = fs.open("f", os.O_RDWR)
    assert fs.pwrite(fd, b"", 100) == 0
    fs.close(fd)
    assert (fs.stat("f").size, fs.stat("f").mtime_ns) == (4, before)


def test_many_files_are_open_at_once(fs: Posix) -> None:
    fds = [fs.open(f"f{number}", MAKE) for number in range(25)]
    for number, fd in enumerate(fds):
        fs.pwrite(fd, str(number).encode(), 0)
    assert [fs.pread(fd, 10, 0) for fd in fds] == [str(number).encode() for number in range(25)]
    for fd in fds:
        fs.close(fd)
    assert get(fs, "f22") == b"22"


def test_one_file_is_open_many_times(fs: Posix) -> None:
    put(fs, "f", b"text")
    fds = [fs.open("f", os.O_RDWR) for _ in range(12)]
    for number, fd in enumerate(fds):
        fs.pwrite(fd, b"x", number)
        fs.close(fd)
    assert get(fs, "f") == b"x" * 12


def test_after_fsync_and_after_close_it_is_all_there(fs: Posix) -> None:
    fd = fs.open("f", MAKE)
    fs.pwrite(fd, b"one", 0)
    fs.fsync(fd)
    fs.pwrite(fd, b"two", 3)
    fs.close(fd)
    fd = fs.open("f", os.O_RDONLY)
    fs.fsync(fd)
    assert fs.pread(fd, 10, 0) == b"onetwo"
    fs.close(fd)


def test_cut_and_filled_again_shows_nothing_of_before(fs: Posix) -> None:
    put(fs, "f", b"s" * 300_000)
    assert get(fs, "f") == b"s" * 300_000
    fd = fs.open("f", os.O_RDWR)
    fs.ftruncate(fd, 10)
    fs.pwrite(fd, b"e", 299_999)
    fs.close(fd)
    assert get(fs, "f") == b"s" * 10 + bytes(299_989) + b"e"
