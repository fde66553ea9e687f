"""Directories, also such as change while they are listed."""

import errno
import stat

from tests.functional.posix import Posix, errno_of, get, put


def test_a_new_directory_is_empty(fs: Posix) -> None:
    fs.mkdir("d")
    assert fs.listdir("d") == []
    assert stat.S_ISDIR(fs.stat("d").mode)


def test_each_name_is_listed_once(fs: Posix) -> None:
    names = {f"f{number:03}" for number in range(50)}
    for name in sorted(names):
        put(fs, name)
    found = fs.listdir("")
    assert len(found) == 50
    assert set(found) == names


def test_all_kinds_are_listed_also_with_a_dot_in_front(fs: Posix) -> None:
    put(fs, ".hidden")
    fs.mkdir("d")
    fs.symlink("x", "l")
    fs.mknod("p", stat.S_IFIFO | 0o600)
    assert sorted(fs.listdir("")) == [".hidden", "d", "l", "p"]


def test_only_directories_are_listed(fs: Posix) -> None:
    put(fs, "f")
    assert errno_of(fs.listdir, "f") == errno.ENOTDIR


def test_what_stays_is_told_once_while_others_are_removed(fs: Posix) -> None:
    names = [f"f{number:03}" for number in range(30)]
    for name in names:
        put(fs, name)
    found, removed = [], set[str]()
    for index, name in enumerate(fs.scan("")):
        found.append(name)
        victim = names[(index * 7) % 30]
        if victim not in removed:
            removed.add(victim)
            fs.unlink(victim)
    assert len(found) == len(set(found))
    assert set(names) - removed <= set(found)


def test_removing_each_name_as_it_is_told_empties_a_directory(fs: Posix) -> None:
    for number in range(25):
        put(fs, f"f{number}")
    for name in fs.scan(""):
        fs.unlink(name)
    assert fs.listdir("") == []


def test_what_stays_is_told_once_while_others_are_made(fs: Posix) -> None:
    names = {f"f{number:03}" for number in range(25)}
    for name in names:
        put(fs, name)
    found = []
    for name in fs.scan(""):
        found.append(name)
        if len(found) < 30:
            put(fs, f"new{len(found)}")
    assert len(found) == len(set(found))
    assert names <= set(found)


def test_what_stays_is_told_once_while_others_are_renamed(fs: Posix) -> None:
    stay, move = {f"s{number:03}" for number in range(30)}, {f"m{number:03}" for number in range(30)}
    for name in stay | move:
        put(fs, name)
    found, left = [], sorted(move)
    for name in fs.scan(""):
        found.append(name)
        if left:
            source = left.pop()
            fs.rename(source, f"to-{source}")
    assert stay <= set(found)
    assert [name for name in found if name in stay] == list(dict.fromkeys(name for name in found if name in stay))


def test_a_directory_that_is_removed_while_it_is_listed_ends(fs: Posix) -> None:
    fs.mkdir("d")
    for number in range(50):
        put(fs, f"d/f{number}")
    listing = fs.scan("d")
    next(listing)
    for number in range(50):
        fs.unlink(f"d/f{number}")
    fs.rmdir("d")
    assert len(list(listing)) < 50
    assert errno_of(fs.listdir, "d") == errno.ENOENT


def test_a_listing_tells_of_what_was_made_before_it(fs: Posix) -> None:
    fs.mkdir("d")
    for number in range(8):
        put(fs, f"d/f{number}")
        assert len(fs.listdir("d")) == number + 1
    for number in range(8):
        fs.unlink(f"d/f{number}")
        assert len(fs.listdir("d")) == 7 - number


def test_two_listings_do_not_disturb_one_another(fs: Posix) -> None:
    names = {f"f{number}" for number in range(50)}
    for name in names:
        put(fs, name)
    one, other = fs.scan(""), fs.scan("")
    found = [(next(one), next(other)) for _ in range(50)]
    assert {name for name, _ in found} == {name for _, name in found} == names


def test_a_directory_can_be_synced_to_disk(fs: Posix) -> None:
    fs.mkdir("d")
    put(fs, "d/f", b"text")
    fs.fsyncdir("d")
    fs.fsyncdir("")
    assert get(fs, "d/f") == b"text"


def test_a_directory_that_took_the_place_of_a_file_is_one(fs: Posix) -> None:
    for _ in range(3):
        put(fs, "x", b"text")
        assert get(fs, "x") == b"text"
        fs.unlink("x")
        fs.mkdir("x")
        assert fs.listdir("x") == []
        fs.rmdir("x")
