"""`paddle`'s commands for files, as they are typed, against a real server on loopback."""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from cli import paddle, reaching
from cli.files import large
from cli.files.copied import How
from pfs.protocol.wire import BELOW_PATH as TREE_BELOW
from tests.cli.files.site import Counted, Site, read, write
from tests.cli.typed import typed

T = TypeVar("T")
HOME = "/pfs/dc1/home/ann"
Typed = tuple[int, str, str]


class Terminal:
    """Somebody who types commands, in a folder of their own."""

    def __init__(self, client: Counted) -> None:
        self.client = client

    def __call__(self, *words: str, stdin: bytes = b"") -> Typed:
        """Type a command; return its status, and what it writes to stdout and stderr."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            return typed(paddle.main, "paddle", *words)


@pytest.fixture
def terminal(
    site: Site, run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Terminal], T]], T]:
    """Give what lets somebody type."""
    monkeypatch.setenv("TZ", "UTC")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def typing(work: Callable[[Terminal], T]) -> T:
        def with_client(client: Counted) -> T:
            @contextmanager
            def connected(dc: str | None) -> Iterator[Counted]:
                yield client

            monkeypatch.setattr(reaching, "connected", connected)
            return work(Terminal(client))

        return site.asking(run, with_client)

    return typing


@pytest.mark.parametrize(
    ("target", "path"),
    [("d", "d/a.txt"), ("d/", "d/a.txt"), ("new", "new"), ("d/b.txt", "d/b.txt"), ("", "a.txt"), ("//d//", "d/a.txt")],
)
def test_a_file_is_sent_to_what_is_named_or_into_a_directory(terminal, home: Path, target: str, path: str) -> None:
    write(Path(), {"a.txt": b"text"}, day=100)
    Path("a.txt").chmod(0o755)
    (home / "d").mkdir()
    assert terminal(lambda type_: type_("cp", "a.txt", f"{HOME}/{target}")) == (0, "[INFO] Uploaded a.txt\n", "")
    there = home / path
    assert there.read_bytes() == b"text"
    assert there.stat().st_mtime_ns == Path("a.txt").stat().st_mtime_ns
    assert there.stat().st_mode & 0o100


def test_a_large_file_whose_copy_was_cut_goes_on_there_and_back(
    terminal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LARGE_BYTES", 3000)
    monkeypatch.setattr(large, "CHUNK_BYTES", 1000)
    data = os.urandom(12_000)
    write(Path(), {"up": data, ".down.pfs-part": data[:6000]}, day=100)
    write(home, {".up.pfs-part": data[:6000]})

    def work(type_: Terminal) -> None:
        assert type_("pfs", "cp", "up", HOME) == (0, "[INFO] Uploaded up\n", "")
        assert type_.client.sent_bytes == 6000
        before = type_.client.came_bytes
        assert type_("pfs", "cp", f"{HOME}/up", "down") == (0, f"[INFO] Downloaded {HOME}/up\n", "")
        assert 6000 <= type_.client.came_bytes - before < 7000  # and what is told of the file

    terminal(work)
    assert read(home) == {"up": data}
    assert read(Path()) == {"up": data, "down": data}
    assert Path("down").stat().st_mtime_ns == Path("up").stat().st_mtime_ns


@pytest.mark.parametrize(
    ("target", "path"), [("d", "d/a.txt"), ("d/", "d/a.txt"), ("new", "new"), ("d/b.txt", "d/b.txt"), (".", "a.txt")]
)
def test_a_file_is_fetched_to_what_is_named_or_into_a_directory(terminal, home: Path, target: str, path: str) -> None:
    write(home, {"a.txt": b"text"}, day=100)
    Path("d").mkdir()
    assert terminal(lambda type_: type_("cp", f"{HOME}/a.txt", target)) == (0, f"[INFO] Downloaded {HOME}/a.txt\n", "")
    assert Path(path).read_bytes() == b"text"
    assert Path(path).stat().st_mtime_ns == (home / "a.txt").stat().st_mtime_ns


@pytest.mark.parametrize("size", [5, 3000])
def test_what_is_there_unchanged_or_not_to_be_replaced_is_not_copied(
    terminal, home: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(large, "LARGE_BYTES", 3000)
    write(Path(), {"a": bytes(size)}, day=100)

    uploaded, downloaded = (0, "[INFO] Uploaded a\n", ""), (0, f"[INFO] Downloaded {HOME}/x\n", "")

    def work(type_: Terminal) -> None:
        def travelled(*words: str) -> int:
            return int(json.loads(type_("cp", *words, "--json")[1])["bytes"])

        assert type_("cp", "-v", "a", f"{HOME}/x") == uploaded
        assert travelled("a", f"{HOME}/x") == 0
        assert type_("cp", "a", f"{HOME}/x") == uploaded, "it is there, as who asks for that is told"
        assert type_("cp", "-vf", "a", f"{HOME}/x") == uploaded
        assert type_("cp", "-v", f"{HOME}/x", "b") == downloaded
        assert travelled(f"{HOME}/x", "b") == 0
        assert type_("cp", f"{HOME}/x", "b") == downloaded
        assert type_("cp", "-q", f"{HOME}/x", "b") == (0, "", "")
        write(Path(), {"a": b"other"}, day=101)
        assert type_("cp", "-vn", "a", f"{HOME}/x") == (0, "", "")
        assert type_("cp", "-vn", f"{HOME}/x", "a") == (0, "", "")
        assert type_("cp", "-fn", "a", f"{HOME}/x")[0] == 2

    terminal(work)
    assert (home / "x").read_bytes() == Path("b").read_bytes() == bytes(size)
    assert Path("a").read_bytes() == b"other"


FOLDER = {"x": b"1", "sub": None, "sub/y": b"2"}


@pytest.mark.parametrize("words", [["cp"], ["cp", "-r"], ["pfs", "cp"], ["pfs", "cp", "-R"]], ids=" ".join)
@pytest.mark.parametrize(
    ("source", "target", "path"),
    [
        ("dir", "new", "new"),
        ("dir/", "there", "there/dir"),
        ("dir/.", "there", "there"),
        ("./dir", "there/", "there/dir"),
    ],
)
def test_folders_are_copied_there_and_back_with_r_or_without(
    terminal, home: Path, source: str, target: str, path: str, words: list[str]
) -> None:
    write(Path("dir"), FOLDER, day=3)
    (home / "there").mkdir()

    def work(type_: Terminal) -> None:
        assert type_(*words, source, f"{HOME}/{target}") == (0, f"[INFO] Uploaded {source}\n", "")
        down = 0, f"[INFO] Downloaded {HOME}/{path}\n", ""
        assert type_(*words, f"{HOME}/{path}", "back") == down
        os.mkdir("into")
        assert type_(*words, f"{HOME}/{path}", "into") == down

    terminal(work)
    assert read(home / path) == read(Path("back")) == read(Path("into") / Path(path).name) == FOLDER


def test_what_goes_wrong_with_one_keeps_no_other_from_being_copied(terminal, home: Path) -> None:
    write(Path(), {"a": b"a", "c": b"c"})
    write(home, {"d/x.py": b"x", "d/y.py": b"y", "d/z": b"z", "d/.h.py": b""})

    def work(type_: Terminal) -> None:
        status, out, err = type_("cp", "a", "missing", "c", f"{HOME}/d")
        uploaded = "[INFO] Uploaded a\n[INFO] Uploaded c\n"
        assert (status, out, err) == (2, uploaded, "paddle: missing cannot be read: No such file or directory\n")
        downloaded = "".join(f"[INFO] Downloaded {HOME}/d/{name}\n" for name in ("x.py", "y.py", "z"))
        assert type_("cp", f"{HOME}/d/*.py", f"{HOME}/d/[z]", ".") == (0, downloaded, "")
        assert type_("cp", f"{HOME}/d/*.c", ".") == (1, "", f"paddle: {HOME}/d/*.c stands for no file\n")
        assert type_("cp", f"{HOME}/d/no", ".")[0] == 1

    terminal(work)
    assert (home / "d/c").read_bytes() == b"c"
    assert sorted(os.listdir()) == ["a", "c", "x.py", "y.py", "z"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("cp", "a", "b"), "both of this machine"),
        (("cp", "-", f"{HOME}/d/"), "say what the file is called there"),
        (("cp", "-", "a", f"{HOME}/d/"), "stdin is copied alone"),
        (("cp", "-chunksize", "3", "a", f"{HOME}/d"), "chunksize error"),
        (("cp", f"{HOME}/d", "-"), f"{HOME}/d is a directory; only a file is written to stdout"),
        (("cp", f"{HOME}/d/f", "no/f"), "no/f cannot be written: No such file"),
        (("cp", f"{HOME}/../x", "f"), "cannot be a file name"),
        (("sync", "a", "b"), "one of a and b has to be of a datacenter"),
        (("sync", "a", f"{HOME}/d"), "a is no directory of this machine"),
        (("sync", f"{HOME}/missing", "b"), "no such file or directory"),
        (("ls", f"{HOME}/no"), "no such file or directory"),
        (("ls", "a"), "a path of a datacenter begins with /pfs/<dc>/"),
        (("rm", f"{HOME}/d"), f"{HOME}/d: can't del directory; -r removes it"),
        (("rm", f"{HOME}/no"), "no such file or directory"),
        (("pfs", "rmdir", f"{HOME}/d/f"), "paddle pfs rm removes it"),
        (("pfs", "mv", f"{HOME}/d/f", "/pfs/dc2/home/ann/f"), "two datacenters"),
        (("pfs", "mv", f"{HOME}/d/f", f"{HOME}/d", f"{HOME}/d/f"), "dest should be a directory"),
        (("pfs", "mv", f"{HOME}/no", f"{HOME}/d/f2"), f"{HOME}/no: No such file"),
        (("mkdir", f"{HOME}/d/f"), "there is something else, no directory"),
        (("mkdir", "/pfs/dc1/home/bob/x"), "no such file or directory"),
        (("file", "get", f"{HOME}/d/f", "a"), "a: file already exist"),
        (("publish", "--remove"), "which file"),
    ],
)
def test_what_cannot_be_done_is_said_and_changes_nothing(terminal, home: Path, words, says: str) -> None:
    write(Path(), {"a": b"mine"})
    write(home, {"d/f": b"theirs"})
    status, out, err = terminal(lambda type_: type_(*words))
    assert status in (1, 2)
    assert (out, says in err, err.count("\n") <= 4) == ("", True, True), err
    assert (read(Path()), read(home)) == ({"a": b"mine"}, {"d": None, "d/f": b"theirs"})


def test_dash_is_stdin_and_stdout(terminal, world, home: Path) -> None:
    def work(type_: Terminal) -> None:
        assert type_("cp", "-", f"{HOME}/x", stdin=b"a line\n") == (0, "", "")
        assert type_("cp", f"{HOME}/x", "-") == (0, "a line\n", "")
        assert type_("cp", "-", "/pfs/dc1/job/ctl", stdin=b"kill\n") == (0, "", "")
        assert type_("cp", f"{HOME}/x", "/dev/null") == (0, "", "")

    terminal(work)
    assert not Path("/dev/null").is_file()


def test_what_is_sent_to_a_folder_of_the_server_it_makes_something_of(terminal, world) -> None:
    write(Path(), {"a.yaml": b"command: ls\n"})
    assert terminal(lambda type_: type_("cp", "a.yaml", "/pfs/dc1/drops/")) == (0, "/pfs/dc1/jobs/1\n", "")
    assert terminal(lambda type_: type_("cp", "-", "/pfs/dc1/drops/b", stdin=b"x")) == (0, "/pfs/dc1/jobs/2\n", "")
    assert world.drops.texts == {"a.yaml": b"command: ls\n", "b": b"x"}


def test_names_are_changed_removed_and_made(terminal, home: Path) -> None:
    write(home, {"a": b"a", "b": b"b", "d": None, "t/u/v": b"v", "t/w": b"w", "l": "a", "one": b"1"})

    def work(type_: Terminal) -> None:
        assert type_("pfs", "mv", "-v", f"{HOME}/a", f"{HOME}/b", f"{HOME}/d") == (
            0,
            f"{HOME}/a -> {HOME}/d/a\n{HOME}/b -> {HOME}/d/b\n",
            "",
        )
        assert type_("pfs", "mv", "-n", f"{HOME}/one", f"{HOME}/d/a") == (0, "", "")
        assert type_("pfs", "mv", f"{HOME}/d/a", f"{HOME}/d/c") == (0, "", "")
        status, out, err = type_("rm", "-rv", f"{HOME}/t", f"{HOME}/no", f"{HOME}/l")
        assert (status, err) == (1, f"paddle: {HOME}/no: no such file or directory\n")
        assert out.splitlines() == [f"{HOME}/t{each}" for each in ("/w", "/u/v", "/u", "")] + [f"{HOME}/l"]
        write(home, {"t/v": b"v"})
        assert type_("rm", "-r", f"{HOME}/t") == (0, f"{HOME}/t\n", "")
        write(home, {"t": b"t"})
        assert type_("rm", "-q", f"{HOME}/t") == (0, "", "")
        assert type_("mkdir", f"{HOME}/x/y/z", f"{HOME}/d") == (0, "", "")
        assert type_("pfs", "rmdir", f"{HOME}/x/y/z", f"{HOME}/x/y") == (0, "", "")

    terminal(work)
    assert sorted(read(home)) == ["d", "d/b", "d/c", "one", "x"]


def test_listings_go_down_where_that_is_asked_for(terminal, home: Path) -> None:
    write(home, {"d/e/f\x1b": b"12", "d/g": b"1"}, day=1)

    def work(type_: Terminal) -> None:
        status, out, _ = type_("ls", "-r", f"{HOME}/d")
        assert (status, [line[10:] for line in out.splitlines() if " f " in line]) == (
            0,
            [f" 00:00:00  f           2  {HOME}/d/e/f?", f" 00:00:00  f           1  {HOME}/d/g"],
        )
        assert out.startswith(f"{HOME}/d :\n")
        _, out, err = type_("ls", f"{HOME}/d/?", f"{HOME}/no", f"{HOME}/d/g")
        assert [line for line in out.splitlines() if line.endswith(" :")] == [f"{HOME}/d/? :", f"{HOME}/d/g :"]
        assert err.count("\n") == 1
        assert type_("ls", "-q", f"{HOME}/d")[1] == f"{HOME}/d/e\n{HOME}/d/g\n"
        assert type_("ls", "-q", f"{HOME}/d/g", f"{HOME}/d/?")[1] == f"{HOME}/d/g\n{HOME}/d/e/f?\n{HOME}/d/g\n"
        (row,) = json.loads(type_("ls", "--json", f"{HOME}/d/g")[1])
        assert row == {"path": f"{HOME}/d/g", "type": "file", "size": 1, "mtime_ns": 86_400 * 10**9}

    terminal(work)


def test_sync_goes_the_way_that_its_paths_say_and_deletes_only_when_told(terminal, home: Path) -> None:
    write(Path("data"), FOLDER, day=5)
    write(home / "data", {"old": b"o"})

    def work(type_: Terminal) -> None:
        up = "sync", "data", f"{HOME}/data"
        assert type_(*up) == (0, "3 copied, 0 unchanged, 0 removed; 2 bytes travelled\n".replace("3", "2"), "")
        assert type_(*up, "-delete")[1] == "0 copied, 2 unchanged, 1 removed; 0 bytes travelled\n"
        write(home / "data", {"sub/y": b"changed"}, day=6)
        told = json.loads(type_("pfs", "sync", f"{HOME}/data", "data", "--json")[1])
        assert told == {"files": 1, "copied": ["sub/y"], "bytes": 7, "same": 1, "removed": [], "failed": []}
        assert type_(*up, "-q") == (0, "", "")

    terminal(work)
    assert read(Path("data")) == read(home / "data") == {**FOLDER, "sub/y": b"changed"}


def test_clouds_are_copied_from_one_to_the_other(terminal, home: Path) -> None:
    write(home, {"a": b"a", **{f"dir/{name}": data for name, data in FOLDER.items()}}, day=9)

    def work(type_: Terminal) -> None:
        assert type_("cp", f"{HOME}/a", f"{HOME}/b") == (0, f"[INFO] Copied {HOME}/a\n", "")
        assert type_("cp", f"{HOME}/dir", "/pfs/dc2/home/ann/copy") == (0, f"[INFO] Copied {HOME}/dir\n", "")

    terminal(work)
    assert (home / "b").read_bytes() == b"a"
    assert read(home / "copy") == FOLDER
    assert os.listdir() == []


def test_file_is_as_paddlecloud_has_it(terminal, home: Path) -> None:
    write(Path("dir"), FOLDER, day=5)
    (home / "t").mkdir()

    def work(type_: Terminal) -> None:
        assert type_("file", "put", "dir", f"{HOME}/t/") == (0, "", "")
        assert type_("file", "put", "dir/", f"{HOME}/u") == (0, "", "")
        assert type_("file", "put", "dir/x", f"{HOME}/x") == (0, "", "")
        assert type_("file", "get", f"{HOME}/x", "y") == (0, "", "")
        assert type_("file", "get", f"{HOME}/x", "y")[0] == 1
        assert type_("file", "ls", f"{HOME}/t") == (0, "dir\n", "")
        assert type_("file", "ls", f"{HOME}/u", f"{HOME}/t/dir/x") == (0, "sub\nx\nx\n", "")
        assert json.loads(type_("file", "ls", "--json", f"{HOME}/t")[1])[0]["path"] == f"{HOME}/t/dir"

    terminal(work)
    assert read(home / "t/dir") == read(home / "u") == FOLDER
    assert Path("y").read_bytes() == b"1"


def test_what_was_copied_is_counted_for_programs_and_lines_for_people_are_left_out(
    terminal, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LARGE_BYTES", 3000)
    write(Path("dir"), {**FOLDER, "z": bytes(100)}, day=5)
    write(Path(), {"large": bytes(5000), "small": b"12345", "into": None}, day=5)

    def work(type_: Terminal) -> None:
        def copied(*words: str, stdin: bytes = b"") -> tuple[int, int]:
            status, out, err = type_(*words, "--json", stdin=stdin)
            told = json.loads(out)
            assert (status, err, sorted(told), told["made"]) == (0, "", ["bytes", "files", "made"], [])
            return told["files"], told["bytes"]

        assert copied("cp", "-v", "dir", "small", f"{HOME}/") == (4, 107)
        assert copied("cp", "-v", "dir", "small", f"{HOME}/") == (0, 0)
        assert copied("cp", "large", f"{HOME}/large") == (1, 5000)
        assert copied("cp", "-", f"{HOME}/words", stdin=b"words") == (1, 5)
        assert copied("cp", f"{HOME}/large", f"{HOME}/words", f"{HOME}/dir", "into/") == (5, 5107)
        assert copied("cp", f"{HOME}/small", f"{HOME}/again") == (1, 5)
        assert copied("file", "put", "dir/", f"{HOME}/put") == (3, 102)
        assert copied("file", "get", f"{HOME}/put", "got") == (3, 102)
        assert type_("cp", "-vfq", "dir", "small", f"{HOME}/") == (0, "", "")
        assert type_("file", "get", "-q", f"{HOME}/small", "one") == (0, "", "")
        assert json.loads(type_("sync", "-v", "dir", f"{HOME}/synced", "--json")[1])["files"] == 3
        assert type_("sync", "-vf", "dir", f"{HOME}/synced", "-q") == (0, "sub/y\nx\nz\n", "")
        status, out, err = type_("cp", "small", "missing", f"{HOME}/dir/", "--json")
        assert (status, json.loads(out)["files"], err.count("\n")) == (2, 1, 1)

    terminal(work)


def test_of_a_copy_that_was_stopped_nothing_is_counted(terminal, home: Path) -> None:
    write(Path("dir"), FOLDER, day=5)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def work(type_: Terminal) -> Typed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cli.files.copying.upload", stop)
            return type_("cp", "dir", f"{HOME}/new", "--json")

    assert terminal(work)[:2] == (130, "")


@pytest.mark.parametrize("words", [("cp", "-r", "dir", f"{HOME}/new"), ("sync", "dir", f"{HOME}/new")])
def test_who_stops_a_copy_is_told_how_it_goes_on(terminal, home: Path, monkeypatch, words) -> None:
    write(Path("dir"), FOLDER, day=5)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    def work(type_: Terminal) -> Typed:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("cli.files.copying.upload", stop)
            return type_(*words)

    assert terminal(work) == (130, "", "paddle: stopped; the same command goes on where this one was\n")


def test_links_are_copied_as_such_where_that_is_asked_for(terminal, home: Path) -> None:
    write(Path("dir"), {"x": b"1", "to": "x", "away": "nowhere"})

    def work(type_: Terminal) -> None:
        status, _, err = type_("cp", "-r", "dir", f"{HOME}/plain")
        assert (status, "away is left out: a symbolic link that leads nowhere" in err) == (0, True)
        assert type_("cp", "-r", "-preserve--links", "dir", f"{HOME}/links")[0] == 0

    terminal(work)
    assert read(home / "plain") == {"x": b"1", "to": b"1"}
    assert read(home / "links") == {"x": b"1", "to": "x", "away": "nowhere"}


def test_the_default_way_is_to_replace_and_to_delete_nothing() -> None:
    assert How() == How(deletes=False, recorded=False, links=True, always=False, keeps=False)


def test_what_the_server_is_asked_is_told_to_who_wants_to_know_but_never_a_token(terminal, home: Path) -> None:
    write(home, {"a": b"a"})
    asked = f"{TREE_BELOW}/home/ann/a"

    def work(type_: Terminal) -> None:
        status, out, err = type_("--debug", "ls", "-q", f"{HOME}/a")
        assert (status, out) == (0, f"{HOME}/a\n")
        assert re.fullmatch(rf"\[DEBUG\] GET {re.escape(asked)}\S*: 200 after \d+ ms\n", err), err
        status, _, err = type_("-debug", "ls", f"{HOME}/no")
        assert (status, ": 404 after " in err, "pfs1." in err) == (1, True, False)
        assert type_("ls", "-q", f"{HOME}/a") == (0, f"{HOME}/a\n", "")

    terminal(work)


def test_who_wants_errors_only_is_told_nothing_of_what_was_done(terminal, home: Path) -> None:
    write(Path("dir"), FOLDER, day=5)

    def work(type_: Terminal) -> None:
        assert type_("--only-show-errors", "cp", "-v", "dir", HOME) == (0, "", "")
        assert type_("--only-show-errors", "sync", "-vf", "dir", f"{HOME}/dir") == (0, "", "")
        told = json.loads(type_("--only-show-errors", "sync", "-f", "dir", f"{HOME}/dir", "--json")[1])
        assert told["files"] == 2
        status, out, err = type_("--only-show-errors", "rm", "-rv", f"{HOME}/dir", f"{HOME}/no")
        assert (status, out, err) == (1, "", f"paddle: {HOME}/no: no such file or directory\n")

    terminal(work)
    assert read(home) == {}
