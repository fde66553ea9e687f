"""getdents(2), seekdir(3): directories, also very large ones that change while they are listed."""

import contextlib
import ctypes
import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from integration.functional.places import OK, USER, Both, Case, Places, cases, furnish

MANY = 100_000
_libc = ctypes.CDLL(None, use_errno=True)
_libc.opendir.restype = _libc.readdir.restype = ctypes.c_void_p
_libc.telldir.restype = ctypes.c_long


class _Entry(ctypes.Structure):
    _fields_ = (
        ("ino", ctypes.c_ulong),
        ("offset", ctypes.c_long),
        ("length", ctypes.c_ushort),
        ("type", ctypes.c_ubyte),
        ("name", ctypes.c_char * 256),
    )


class Stream:
    """What opendir(3) gives, with positions."""

    def __init__(self, path: Path) -> None:
        self._dir = ctypes.c_void_p(_libc.opendir(os.fsencode(path)))

    def next(self) -> str | None:
        found = _libc.readdir(self._dir)
        return None if not found else os.fsdecode(ctypes.cast(found, ctypes.POINTER(_Entry)).contents.name)

    def rest(self) -> list[str]:
        return list(iter(self.next, None))

    def tell(self) -> int:
        return int(_libc.telldir(self._dir))

    def seek(self, place: int) -> None:
        _libc.seekdir(self._dir, ctypes.c_long(place))

    def rewind(self) -> None:
        _libc.rewinddir(self._dir)

    def close(self) -> None:
        _libc.closedir(self._dir)


@contextlib.contextmanager
def stream(path: Path) -> Iterator[Stream]:
    opened = Stream(path)
    try:
        yield opened
    finally:
        opened.close()


@cases(
    Case("all names", OK, lambda root: sorted(os.listdir(root))),
    Case("of an empty directory", OK, lambda root: os.listdir(root / "empty")),
    Case("through a link", OK, lambda root: os.listdir(root / "dirlink")),
    Case("with what they are", OK, lambda root: sorted((e.name, kind(e)) for e in os.scandir(root))),
    Case("of what is not there", errno.ENOENT, lambda root: os.listdir(root / "none")),
    Case("of a file", errno.ENOTDIR, lambda root: os.listdir(root / "file")),
    Case("of a loop", errno.ELOOP, lambda root: os.listdir(root / "loop")),
)
def test_readdir(both: Both, case: Case) -> None:
    both.check(case)


def closed_listing(root: Path) -> object:
    return os.listdir(root / "closed")


@cases(Case("where one may not", errno.EACCES, closed_listing, USER))
def test_rights_of_others(numeric: Both, case: Case) -> None:
    numeric.check(case)


def kind(entry: "os.DirEntry[str]") -> str:
    if entry.is_symlink():
        return "link"
    if entry.is_dir(follow_symlinks=False):
        return "directory"
    return "file" if entry.is_file(follow_symlinks=False) else "special"


def test_the_numbers_that_are_listed_are_those_that_stat_tells(both: Both) -> None:
    furnish(both.mount)
    for entry in os.scandir(both.mount):
        assert entry.inode() == os.lstat(both.mount / entry.name).st_ino


def test_dots_come_first_and_lead_here_and_up(both: Both) -> None:
    furnish(both.mount)
    with stream(both.mount / "dir") as listing:
        assert sorted(listing.rest()) == [".", "..", "inner"]


def test_one_can_go_back_to_a_place_in_a_listing(both: Both) -> None:
    for number in range(200):
        (both.mount / f"f{number}").touch()
    with stream(both.mount) as listing:
        first = [str(listing.next()) for _ in range(100)]
        place = listing.tell()
        rest = listing.rest()
        listing.seek(place)
        assert listing.rest() == rest
        listing.rewind()
        assert [listing.next() for _ in range(100)] == first
        assert Counter(first + rest) == Counter([".", "..", *(f"f{number}" for number in range(200))])


def test_rewinding_shows_what_was_made_since(both: Both) -> None:
    def call(root: Path) -> object:
        (root / "a").touch()
        with stream(root) as listing:
            found = [sorted(listing.rest())]
            (root / "b").touch()
            listing.rewind()
            found.append(sorted(listing.rest()))
            (root / "a").unlink()
            listing.rewind()
            found.append(sorted(listing.rest()))
            return found

    assert both.same(call) == [[".", "..", "a"], [".", "..", "a", "b"], [".", "..", "b"]]


def test_a_directory_of_100_000_names_that_changes_while_it_is_listed(places: Places, home: Path) -> None:
    """No name that stays is missed or told twice, however others come and go, on this side and on the server's disk."""
    big, disk = home / "big", places.box.data / "home/demo" / home.name / "big"
    disk.mkdir()
    for number in range(MANY):
        os.close(os.open(disk / f"stay{number:06}", os.O_CREAT | os.O_WRONLY, 0o644))
    for number in range(100):
        (big / f"go{number}").touch()
    over = threading.Event()

    def change() -> None:
        number = 0
        while not over.is_set():
            with contextlib.suppress(FileNotFoundError):
                (big / f"go{number}").unlink()
            (big / f"come{number}").touch()
            if number % 5 == 0:
                (disk / f"outside{number}").touch()
                (big / f"come{number}").rename(big / f"renamed{number}")
            number += 1
            over.wait(0.02)

    changer = threading.Thread(target=change)
    changer.start()
    try:
        told = Counter(entry.name for entry in os.scandir(big))
    finally:
        over.set()
        changer.join()
    assert [name for name, count in told.items() if count > 1] == []
    assert sum(name.startswith("stay") for name in told) == MANY
