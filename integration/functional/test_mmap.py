"""mmap(2): shared and private, and what read(2) and write(2) see of it."""

import mmap
import os
import subprocess
import sys
from pathlib import Path

from integration.functional.places import Both, descriptor

PAGE = mmap.PAGESIZE


def test_a_private_map_reads_the_file_and_keeps_its_changes_to_itself(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x" * (3 * PAGE))
        with descriptor(root / "f", os.O_RDONLY) as fd, mmap.mmap(fd, 0, mmap.MAP_PRIVATE, 3) as view:
            view[PAGE : PAGE + 4] = b"mine"
            found = view[PAGE - 1 : PAGE + 5]
        return found, (root / "f").read_bytes() == b"x" * (3 * PAGE)

    assert both.same(call) == (b"xminex", True)


def test_what_is_written_through_a_shared_map_is_read(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x" * (3 * PAGE))
        with descriptor(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as view:
            view[PAGE : PAGE + 6] = b"shared"
            through = os.pread(fd, 6, PAGE)
            view.flush()
            other = (root / "f").read_bytes()[PAGE : PAGE + 7]
        return through, other, (root / "f").read_bytes()[PAGE : PAGE + 7]

    assert both.same(call) == (b"shared", b"sharedx", b"sharedx")


def test_what_is_written_by_calls_is_seen_in_a_shared_map(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x" * (3 * PAGE))
        found = []
        with descriptor(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as view:
            for number in range(20):
                os.pwrite(fd, b"%02d" % number, PAGE * (number % 3) + number)
                found.append(view[PAGE * (number % 3) + number : PAGE * (number % 3) + number + 2])
        return found

    assert both.same(call) == [b"%02d" % number for number in range(20)]


def test_what_is_in_a_shared_map_is_kept_when_it_is_unmapped_and_closed(both: Both) -> None:
    def call(root: Path) -> object:
        fd = os.open(root / "f", os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 10 * PAGE)
        view = mmap.mmap(fd, 10 * PAGE)
        os.close(fd)
        for page in range(10):
            view[page * PAGE] = 65 + page
        view.flush()
        view.close()
        data = (root / "f").read_bytes()
        return data[::PAGE], len(data)

    assert both.same(call) == (b"ABCDEFGHIJ", 10 * PAGE)


def test_two_processes_share_a_map(both: Both) -> None:
    program = (
        "import mmap,os,sys,time\n"
        "fd=os.open(sys.argv[1],os.O_RDWR)\n"
        "view=mmap.mmap(fd,0)\n"
        "end=time.monotonic()+50\n"
        "while view[0]!=1 and time.monotonic()<end: time.sleep(0.005)\n"
        "view[1]=2\n"
    )
    (both.mount / "f").write_bytes(bytes(PAGE))
    command = [sys.executable, "-c", program, str(both.mount / "f")]
    with (
        subprocess.Popen(command) as other,
        descriptor(both.mount / "f", os.O_RDWR) as fd,
        mmap.mmap(fd, 0) as view,
    ):
        view[0] = 1
        assert other.wait(timeout=60) == 0
        assert view[1] == 2


def test_a_map_of_a_file_that_is_removed_lives_on(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x" * (2 * PAGE))
        with descriptor(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as view:
            os.unlink(root / "f")
            view[0:4] = b"text"
            view.flush()
            return view[0:5], os.pread(fd, 5, 0), os.pread(fd, 1, PAGE + 1)

    assert both.same(call) == (b"textx", b"textx", b"x")


def test_behind_the_end_of_the_last_page_nothing_is_kept(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x" * PAGE)
        with descriptor(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, PAGE) as view:
            os.ftruncate(fd, 10)
            view[0:20] = b"0123456789behind end"
            view.flush()
        found = (root / "f").read_bytes()
        os.truncate(root / "f", 30)
        return found, (root / "f").read_bytes()

    assert both.same(call) == (b"0123456789", b"0123456789" + bytes(20))


def test_a_map_for_writing_needs_a_descriptor_for_both(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x" * PAGE)
        with descriptor(root / "f", os.O_RDONLY) as fd:
            return bytes(mmap.mmap(fd, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)[:1])

    assert both.same(call) == "EACCES"


def test_mmap_moves_mtime_at_the_latest_when_it_is_flushed(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "f").write_bytes(b"x" * PAGE)
        os.utime(root / "f", ns=(5, 7))
        with descriptor(root / "f", os.O_RDWR) as fd, mmap.mmap(fd, 0) as view:
            view[0] = 65
            view.flush()
        return os.stat(root / "f").st_mtime_ns > 7

    assert both.same(call) is True
