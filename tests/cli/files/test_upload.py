"""Uploads of folders to a real server on loopback: what travels, what stays, and what is there in the end."""

import os
import time
from pathlib import Path

import pytest

from cli.files import large, remote
from cli.files.copied import How
from cli.files.record import RECORD
from cli.files.upload import upload
from pfs.errors import Kind, PfsError
from tests.cli.files.site import Counted, Site, read, write

PACKAGE = {"a": b"a", "src/b.py": b"b" * 1000, "src/deep/er/c": b"", "empty": None, "link": "src/b.py"}


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "here"
    write(folder, PACKAGE, day=100)
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few thousand bytes is a large one."""
    monkeypatch.setattr(large, "LARGE_BYTES", 3000)
    monkeypatch.setattr(large, "CHUNK_BYTES", 1000)


def test_a_folder_arrives_with_times_and_the_right_to_run(site: Site, run, home: Path, here: Path) -> None:
    (here / "a").chmod(0o755)
    seen: list[str] = []
    done = site.asking(run, lambda client: upload(client, here, "home/ann/new/x", noted=seen.append))
    there = home / "new/x"
    assert read(there) == read(here)
    assert (there / "a").stat().st_mode & 0o777 == 0o755
    assert (there / "src/b.py").stat().st_mtime_ns == (here / "src/b.py").stat().st_mtime_ns
    assert seen == ["a", "src/b.py", "src/deep/er/c"]
    assert (done.copied, done.failed, done.copied_bytes) == ({"a", "src/b.py", "src/deep/er/c", "link"}, [], 1001)


def test_what_is_there_is_not_sent_again(site: Site, run, home: Path, here: Path) -> None:
    def work(client: Counted) -> None:
        upload(client, here, "home/ann/x")
        assert client.asked == ["GET /api/v1/below/home/ann/x", "POST /api/v1/below/home/ann/x"]
        client.asked.clear()
        again = upload(client, here, "home/ann/x")
        assert client.asked == ["GET /api/v1/below/home/ann/x"]
        assert (again.copied, again.copied_bytes, again.same) == (set(), 0, 4)
        write(here, {"a": b"A"}, day=101)
        (here / "src/b.py").chmod(0o755)
        assert upload(client, here, "home/ann/x").copied == {"a"}

    site.asking(run, work)
    assert read(home / "x") == read(here)
    assert (home / "x/src/b.py").stat().st_mode & 0o777 == 0o755


def test_what_the_last_upload_brought_and_is_gone_here_goes_there(site: Site, run, home: Path, here: Path) -> None:
    there = home / "job"
    how = How(recorded=True)

    def work(client: Counted) -> None:
        upload(client, here, "home/ann/job", how)
        write(there, {"src/output": b"of the job", "a": b"changed by the job"}, day=200)
        for name in ("a", "src/b.py", "src/deep/er/c", "link"):
            (here / name).unlink()
        (here / "src/deep/er").rmdir()
        (here / "src/deep").rmdir()
        (here / "src").rmdir()
        done = upload(client, here, "home/ann/job", how)
        assert done.removed == {"src/b.py", "src/deep/er/c", "src/deep/er", "src/deep", "link"}
        assert done.failed == []

    site.asking(run, work)
    (there / RECORD).unlink()
    assert read(there) == {"a": b"changed by the job", "src": None, "src/output": b"of the job", "empty": None}


def test_a_record_is_true_whenever_an_upload_is_cut(
    site: Site, run, home: Path, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = How(recorded=True)
    monkeypatch.setattr(remote, "BODY_BYTES", 1)  # each is sent as it is read

    def work(client: Counted) -> None:
        def cut(path: str) -> None:
            if path == "b":  # src/b.py is still as the first upload brought it
                raise KeyboardInterrupt

        upload(client, here, "home/ann/job", how)
        write(here, {"src/b.py": b"B", "b": b"new"}, day=101)
        with pytest.raises(KeyboardInterrupt):
            upload(client, here, "home/ann/job", how, noted=cut)
        while not (home / "job/b").exists():  # it was on its way
            time.sleep(0.01)
        for name in ("b", "src/b.py", "a"):
            (here / name).unlink()
        upload(client, here, "home/ann/job", how)

    site.asking(run, work)
    (home / "job" / RECORD).unlink()
    assert read(home / "job") == read(here)


def test_without_a_word_nothing_is_removed(site: Site, run, home: Path, here: Path) -> None:
    write(home / "x", {"output": b"theirs", "d/e": b"theirs"})
    site.asking(run, lambda client: upload(client, here, "home/ann/x"))
    assert read(home / "x") == {**read(here), "output": b"theirs", "d": None, "d/e": b"theirs"}
    site.asking(run, lambda client: upload(client, here, "home/ann/x", How(deletes=True)))
    assert read(home / "x") == read(here)


def test_a_folder_is_not_taken_away_for_a_file_but_where_all_of_it_may_go(
    site: Site, run, home: Path, here: Path
) -> None:
    write(home / "x", {"a/inner": b"theirs", "src": b"a file"})
    done = site.asking(run, lambda client: upload(client, here, "home/ann/x"))
    assert sorted(str(each) for each in done.failed) == [
        "a: a folder stands where a file shall be copied to; remove one of them",
        "src: a file stands where a folder shall be copied to; remove one of them",
    ]
    assert (home / "x/a/inner").exists()
    assert (home / "x/link").is_symlink()  # the others were copied
    done = site.asking(run, lambda client: upload(client, here, "home/ann/x", How(deletes=True)))
    assert done.failed == []
    assert read(home / "x") == read(here)


def test_what_cannot_be_read_keeps_nothing_else_from_coming(site: Site, run, home: Path, here: Path) -> None:
    def vanish(path: str) -> None:
        if path == "a":
            (here / "src/b.py").unlink()

    done = site.asking(run, lambda client: upload(client, here, "home/ann/x", noted=vanish))
    assert [str(each) for each in done.failed] == [f"{here}/src/b.py cannot be read: No such file or directory"]
    assert done.copied == {"a", "src/deep/er/c", "link"}


def test_who_may_not_write_there_is_told_for_each_file(site: Site, run, here: Path) -> None:
    done = site.asking(run, lambda client: upload(client, here, "home/ann/x"), "bob-token")
    assert {each.kind for each in done.failed} == {Kind.NOT_FOUND}
    assert {"home/ann/x/a", "home/ann/x/src/b.py"} < {each.path for each in done.failed}


def test_a_cut_way_costs_only_what_did_not_arrive(site: Site, run, home: Path, here: Path) -> None:
    def work(client: Counted) -> None:
        client.cuts = ["POST", "GET"]
        waits: list[float] = []
        done = upload(client, here, "home/ann/x", sleep=waits.append)
        assert waits == [0.5, 1.0]
        assert done.copied == {"a", "src/b.py", "src/deep/er/c", "link"}

    site.asking(run, work)
    assert read(home / "x") == read(here)


def test_a_server_that_is_not_there_is_told_at_once(run, site: Site, here: Path) -> None:
    def work(client: Counted) -> None:
        client.cuts = ["GET"]
        with pytest.raises(PfsError, match="the way is cut"):
            upload(client, here, "home/ann/x", sleep=lambda _s: pytest.fail("it waits"))

    site.asking(run, work)


def test_large_files_travel_alone_and_get_their_name_when_they_are_whole(
    site: Site, run, home: Path, here: Path, small: None
) -> None:
    write(here, {"src/large": os.urandom(12345), "large.2": os.urandom(3000)}, day=50)
    (here / "large.2").chmod(0o755)

    def work(client: Counted) -> None:
        upload(client, here, "home/ann/x")
        below, ranges = "/api/v1/below/home/ann/x", "/api/v1/ranges/home/ann/x"
        parts = [f"PUT {ranges}/.large.2.pfs-part", f"PUT {ranges}/src/.large.pfs-part"]
        assert client.asked == [f"GET {below}", f"POST {below}", *parts, f"POST {below}"]

    site.asking(run, work)
    assert read(home / "x") == read(here)
    assert (home / "x/large.2").stat().st_mtime_ns == (here / "large.2").stat().st_mtime_ns
    assert (home / "x/large.2").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("came", "sent"),
    [(b"", 12345), ("right", 12345 - 5000), ("torn", 12345 - 4000), ("all", 0), ("more", 0), (b"x" * 9000, 12345)],
)
def test_a_large_file_goes_on_where_it_was_cut(
    site: Site, run, home: Path, here: Path, small: None, came: bytes | str, sent: int
) -> None:
    data = os.urandom(12345)
    write(here, {"large": data}, day=50)
    parts = {
        "right": data[:5000],
        "torn": data[:4100] + bytes(900),
        "all": data,
        "more": data + b"of another",
    }
    write(home / "x", {".large.pfs-part": parts[came] if isinstance(came, str) else came})
    done = site.asking(run, lambda client: upload(client, here, "home/ann/x", names=["large"]))
    assert done.copied_bytes == sent
    assert read(home / "x") == {"large": data}


def test_a_large_file_that_is_written_meanwhile_gets_no_name(
    site: Site, run, home: Path, here: Path, small: None
) -> None:
    write(here, {"large": bytes(9000)}, day=50)

    def touch(done: int, size: int) -> None:
        os.utime(here / "large")

    done = site.asking(run, lambda client: upload(client, here, "home/ann/x", names=["large"], progress=touch))
    assert "changes while it is read" in str(done.failed[0])
    assert not (home / "x/large").exists()
    assert done.copied == set()


def test_only_what_is_named_travels(site: Site, run, home: Path, here: Path) -> None:
    site.asking(run, lambda client: upload(client, here, "home/ann/x", names=["src/deep/er/c", "a"]))
    assert sorted(read(home / "x")) == ["a", "src", "src/deep", "src/deep/er", "src/deep/er/c"]


def test_links_are_followed_where_they_are_not_to_be_copied(site: Site, run, home: Path, here: Path) -> None:
    write(here, {"nowhere": "missing", "folder": "src"})
    done = site.asking(run, lambda client: upload(client, here, "home/ann/x", How(links=False)))
    assert read(home / "x")["link"] == b"b" * 1000
    assert [path for path, _ in sorted(done.left_out)] == ["folder", "nowhere"]
