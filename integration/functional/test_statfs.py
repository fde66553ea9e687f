"""statfs(2)."""

import os
from pathlib import Path

from integration.functional.places import Both, Places, descriptor, furnish


def test_the_room_is_that_of_the_servers_disk(places: Places, both: Both) -> None:
    disk, found = os.statvfs(places.box.data), os.statvfs(both.mount)
    assert found.f_frsize * found.f_blocks == disk.f_frsize * disk.f_blocks
    used = disk.f_frsize * disk.f_bavail - found.f_frsize * found.f_bavail
    assert abs(used) < 1 << 30  # others write meanwhile
    assert found.f_bavail <= found.f_blocks
    assert 0 < found.f_favail <= found.f_files
    assert found.f_namemax == 255


def test_it_is_told_of_anything_there(both: Both) -> None:
    furnish(both.mount)
    whole = os.statvfs(both.mount).f_blocks
    for name in ("file", "dir", "link", "fifo"):
        assert os.statvfs(both.mount / name).f_blocks == whole
    with descriptor(both.mount / "file", os.O_RDONLY) as fd:
        assert os.statvfs(fd).f_blocks == whole


def test_what_is_not_there_has_no_room(both: Both) -> None:
    def call(root: Path) -> object:
        furnish(root)
        found = []
        for name in ("none", "dangling", "file/x", "loop", "x" * 256):
            try:
                os.statvfs(root / name)
            except OSError as error:
                found.append(error.errno)
        return found

    both.same(call)


def test_programs_find_a_file_system_of_its_own(both: Both) -> None:
    assert os.stat(both.mount).st_dev != os.stat(both.plain).st_dev
    assert os.statvfs(both.mount).f_flag & os.ST_NODEV
