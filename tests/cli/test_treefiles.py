"""`paddle pfs`: which bytes go where, and what is refused before anything does."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cli import treefiles
from pfs.errors import Kind, PfsError


class Tree:
    """One datacenter, of whose files only jobs/ and home/ann/d are directories."""

    def __init__(self) -> None:
        self.dc = ""
        self.done: list[tuple[object, ...]] = []
        self.text = b"text"

    def is_directory(self, path: str) -> bool:
        return path in ("", "jobs", "home/ann/d", "jobs/17")

    def list(self, path: str) -> list[dict[str, Any]]:
        return [
            {"name": "d", "type": "directory", "size": 0, "mtime_ns": 0},
            {"name": "a\x1b", "type": "file", "size": 12, "mtime_ns": 10**18},
        ]

    def put(self, path: str, data: bytes, key: str) -> str | None:
        self.done.append(("put", path, data))
        return "jobs/1" if path.startswith("jobs/") else None

    def write(self, path: str, data: Iterable[bytes]) -> None:
        self.done.append(("write", path, b"".join(data)))

    @contextmanager
    def stream(self, path: str) -> Iterator[Iterator[bytes]]:
        if path.endswith("missing"):
            raise PfsError(Kind.NOT_FOUND, "no such file")
        yield iter([self.text[:1], self.text[1:]])

    def rename(self, source: str, target: str) -> None:
        self.done.append(("rename", source, target))

    def remove(self, path: str) -> None:
        self.done.append(("remove", path))

    def mkdir(self, path: str) -> None:
        if path == "home/ann/d":
            raise PfsError(Kind.EXISTS, "there is one")
        self.done.append(("mkdir", path))


@pytest.fixture
def tree() -> Tree:
    return Tree()


@pytest.fixture
def connect(tree: Tree):
    @contextmanager
    def connected(dc: str) -> Iterator[Tree]:
        tree.dc = dc
        yield tree

    return connected


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TZ", "UTC")
    (tmp_path / "a.yaml").write_text("command: ls\n")
    (tmp_path / "folder").mkdir()


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/pfs/dc1/jobs/", "jobs/a.yaml"),
        ("/pfs/dc1/jobs", "jobs/a.yaml"),
        ("/pfs/dc1/jobs/b.yaml", "jobs/b.yaml"),
        ("/pfs/dc1/home/ann/d", "home/ann/d/a.yaml"),
        ("/pfs/dc1/home/ann/new/", "home/ann/new/a.yaml"),
        ("/pfs/dc1/home/ann/new", "home/ann/new"),
    ],
)
def test_a_file_is_sent_to_what_is_named_or_into_a_directory(tree: Tree, connect, capsys, target: str, path: str):
    treefiles.copy_all(connect, ["a.yaml"], target)
    assert (tree.dc, tree.done) == ("dc1", [("put", path, b"command: ls\n")])
    assert capsys.readouterr().out == ("/pfs/dc1/jobs/1\n" if path.startswith("jobs/") else "")


def test_a_large_file_is_sent_in_pieces(tree: Tree, connect):
    data = os.urandom(1 << 20) * 3
    Path("large").write_bytes(data)
    treefiles.copy_all(connect, ["large"], "/pfs/dc1/home/ann/large")
    assert tree.done == [("write", "home/ann/large", data)]


def test_stdin_is_what_dash_means_before_the_target(tree: Tree, connect, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"drain\n")))
    treefiles.copy_all(connect, ["-"], "/pfs/dc1/nodes/n0/ctl")
    assert tree.done == [("put", "nodes/n0/ctl", b"drain\n")]


@pytest.mark.parametrize(
    ("target", "written"), [("b", "b"), ("folder", "folder/f"), ("folder/", "folder/f"), ("folder/c", "folder/c")]
)
def test_a_file_is_fetched_to_what_is_named_or_into_a_directory(connect, target: str, written: str):
    treefiles.copy_all(connect, ["/pfs/dc1/home/ann/f"], target)
    assert Path(written).read_text() == "text"


def test_stdout_is_what_dash_means_as_the_target(connect, capfdbinary):
    treefiles.copy_all(connect, ["/pfs/dc1/jobs/17/log"], "-")
    assert capfdbinary.readouterr().out == b"text"


def test_what_cannot_be_fetched_leaves_what_was_there(connect):
    with pytest.raises(PfsError, match="no such file"):
        treefiles.copy_all(connect, ["/pfs/dc1/missing"], "a.yaml")
    assert Path("a.yaml").read_text() == "command: ls\n"


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda c: treefiles.copy_all(c, ["a.yaml"], "b"), "both of this machine"),
        (lambda c: treefiles.copy_all(c, ["/pfs/dc1/a"], "/pfs/dc1/b"), "both of a datacenter"),
        (lambda c: treefiles.copy_all(c, ["no"], "/pfs/dc1/jobs/"), "no cannot be read: No such file"),
        (lambda c: treefiles.copy_all(c, ["/pfs/dc1/f"], "no/f"), "no/f cannot be written: No such file"),
        (lambda c: treefiles.copy_all(c, ["-"], "/pfs/dc1/jobs/"), "say what the file is called"),
        (lambda c: treefiles.move(c, "/pfs/dc1/a", "/pfs/dc2/a"), "two datacenters"),
        (lambda c: treefiles.move(c, "a", "/pfs/dc2/a"), "a path of a datacenter begins with /pfs/<dc>/"),
        (lambda c: treefiles.remove_all(c, ["/pfs/dc1/jobs/17"], directories=False), "see paddle pfs rmdir"),
        (lambda c: treefiles.remove_all(c, ["/pfs/dc1/jobs/a.yaml"], directories=True), "paddle pfs rm removes it"),
        (lambda c: treefiles.list_all(c, ["/pfs/dc1/home/ann/no"]), "no such file or directory"),
        (lambda c: treefiles.list_all(c, ["/pfs/dc1/../x"]), "cannot be a file name"),
        (lambda c: treefiles.make_all(c, ["/pfs/dc1/home/ann/d"], parents=False), "there is one"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is(tree: Tree, connect, act, says: str):
    with pytest.raises(PfsError, match=says):
        act(connect)
    assert tree.done == []


def test_names_are_given_removed_and_made(tree: Tree, connect):
    treefiles.move(connect, "/pfs/dc1/jobs/a.yaml", "/pfs/dc1/jobs/b.yaml")
    treefiles.move(connect, "/pfs/dc1/home/ann/a", "/pfs/dc1/home/ann/d")
    treefiles.remove_all(connect, ["/pfs/dc1/jobs/b.yaml"], directories=False)
    treefiles.remove_all(connect, ["/pfs/dc1/jobs/17/"], directories=True)
    treefiles.make_all(connect, ["/pfs/dc1/home/ann/d/e/f"], parents=True)
    assert tree.done == [
        ("rename", "jobs/a.yaml", "jobs/b.yaml"),
        ("rename", "home/ann/a", "home/ann/d/a"),
        ("remove", "jobs/b.yaml"),
        ("remove", "jobs/17"),
        ("mkdir", "home/ann/d/e"),
        ("mkdir", "home/ann/d/e/f"),
    ]


def test_a_listing_tells_time_kind_size_and_path_and_moves_no_cursor(connect, capsys):
    treefiles.list_all(connect, ["/pfs/dc1/home/ann/d"])
    assert capsys.readouterr().out.splitlines() == [
        "1970-01-01 00:00:00  d           0  /pfs/dc1/home/ann/d/d",
        "2001-09-09 01:46:40  f          12  /pfs/dc1/home/ann/d/a?",
    ]
    treefiles.list_all(connect, ["/pfs/dc1/home/d", "/pfs/dc1/jobs"])
    headings = [line for line in capsys.readouterr().out.splitlines() if line.endswith(" :")]
    assert headings == ["/pfs/dc1/home/d :", "/pfs/dc1/jobs :"]
