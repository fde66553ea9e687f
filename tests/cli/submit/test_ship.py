"""Shipping a folder: what is sent, how often, and what becomes of it when the way is cut or a file changes."""

import os
from pathlib import Path

import pytest
import trio

from cli.submit import ship as module
from cli.submit.ship import ship
from cli.submit.treewalk import ChangingFileError, scan
from pfs.errors import Kind, PfsError
from tests.cli.repository import Repository
from tests.cli.shelf import Shelf


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    path.mkdir()
    return path


def no_sleep(_seconds: float) -> None:
    return None


def test_a_tree_arrives_whole_and_is_not_sent_again(shelf: Shelf, folder: Path) -> None:
    for name, data in (("a", b"1"), ("b", b"1"), ("sub/c", b"22"), ("empty", b"")):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    first = ship(shelf, folder)
    assert shelf.files(first.src) == {"a": b"1", "b": b"1", "sub/c": b"22", "empty": b""}
    assert (first.files, first.size_bytes, first.sent_bytes) == (4, 4, 3)
    assert shelf.asked == ["PUT", "POST", "PUT"]
    shelf.asked.clear()
    again = ship(shelf, folder)
    assert (again.src, again.sent_bytes, shelf.asked) == (first.src, 0, ["PUT"])
    (folder / "new").write_bytes(b"333")
    assert ship(shelf, folder).sent_bytes == 3


def test_many_files_go_in_one_request(shelf: Shelf, folder: Path) -> None:
    for number in range(1000):
        (folder / f"{number}").write_text(str(number))
    assert ship(shelf, folder).files == 1000
    assert shelf.asked == ["PUT", "POST", "PUT"]


def test_much_goes_in_several_requests(shelf: Shelf, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_BYTES", 1000)
    for number, size in enumerate((600, 600, 5000, 100)):
        (folder / str(number)).write_bytes(os.urandom(size))
    done = ship(shelf, folder)
    assert {name: len(data) for name, data in shelf.files(done.src).items()} == {
        "0": 600,
        "1": 600,
        "2": 5000,
        "3": 100,
    }
    assert 3 <= shelf.asked.count("POST") <= 4


def test_after_a_cut_only_the_rest_is_sent(shelf: Shelf, folder: Path) -> None:
    data = os.urandom(3_000_000)
    (folder / "large").write_bytes(data)
    (folder / "small").write_bytes(b"small")
    shelf.cuts = [1_000_000, 500_000]
    done = ship(shelf, folder, no_sleep)
    assert shelf.files(done.src) == {"large": data, "small": b"small"}
    assert done.sent_bytes < 3_000_000 + 2 * (module.PIECE_BYTES + module.READ_BYTES + 5)


def test_who_is_cut_off_again_and_again_gives_up_with_the_reason(shelf: Shelf, folder: Path) -> None:
    (folder / "x").write_bytes(b"x" * 100)
    shelf.cuts = [10] * 100
    slept: list[float] = []
    with pytest.raises(PfsError) as caught:
        ship(shelf, folder, slept.append)
    assert caught.value.kind is Kind.UNREACHABLE
    assert len(slept) == module.TRIES - 1
    assert slept == sorted(slept)


def test_a_server_that_is_not_there_is_told_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nobody:
        def call(self, *_: object) -> object:
            raise PfsError(Kind.UNREACHABLE, "no answer")

    slept: list[float] = []
    with pytest.raises(PfsError, match="no answer"):
        ship(Nobody(), folder, slept.append)
    assert slept == []


def test_a_file_that_changes_on_its_way_is_shipped_as_it_is_then(
    shelf: Shelf, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "x").write_bytes(b"1" * 10)
    real, changes = shelf.call, [b"2" * 10]

    def call(method: str, url: str, content: object) -> object:
        if method == "POST" and changes:
            (folder / "x").write_bytes(changes.pop())
        return real(method, url, content)

    monkeypatch.setattr(shelf, "call", call)
    assert shelf.files(ship(shelf, folder).src) == {"x": b"2" * 10}


def test_a_file_that_changes_whenever_it_is_sent_is_told_by_name(shelf: Shelf, folder: Path) -> None:
    (folder / "x").write_bytes(b"1" * 10_000)
    with pytest.raises(ChangingFileError, match="x changes while it is read"):
        ship(Shrinking(shelf, folder / "x"), folder)
    assert shelf.asked == ["PUT", "POST"] * module.CHANGES_MAX


class Shrinking:
    """A server during whose every request a file gets smaller."""

    def __init__(self, shelf: Shelf, path: Path) -> None:
        self._shelf = shelf
        self._path = path

    def call(self, method: str, url: str, content: object) -> object:
        if method == "POST":
            os.truncate(self._path, self._path.stat().st_size - 1)
        return self._shelf.call(method, url, content)  # type: ignore[arg-type]


def test_where_it_came_from_goes_along(shelf: Shelf, folder: Path) -> None:
    repository = Repository(folder)
    pushed = repository.commit(a="1\n")
    repository.track()
    repository.write(a="2\n")
    done = ship(shelf, folder)
    assert done.origin is not None
    assert (done.origin.remote, done.origin.hash) == ("origin", pushed)
    assert b"-1\n+2\n" in trio.run(shelf.trees.content, "ann", done.origin.patch)


def test_a_server_that_keeps_nothing_is_not_asked_for_ever(folder: Path) -> None:
    (folder / "x").write_bytes(b"x")

    class Forgetful:
        def call(self, method: str, url: str, content: object) -> object:
            if method == "PUT":
                return {"missing": dict.fromkeys(hashes, 0)}
            assert not isinstance(content, bytes)
            assert list(content)  # type: ignore[call-overload]
            return {"taken": 1}

    hashes = list(scan(folder).contents)
    with pytest.raises(PfsError, match="does not keep"):
        ship(Forgetful(), folder, no_sleep)
