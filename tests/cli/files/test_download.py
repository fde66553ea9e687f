"""Downloads of folders from a real server on loopback: what travels, what stays, and what is here in the end."""

import os
from pathlib import Path

import pytest

from cli.files import large, remote
from cli.files.copied import How
from cli.files.download import download
from pfs.errors import Kind, PfsError
from pfs.protocol.parcels import FILE, FOLDER, LINK, Row, pack_row
from tests.cli.files.site import Counted, Site, read, write

RESULTS = {"a": b"a", "sub/b": b"b" * 1000, "sub/deep/er/c": b"", "empty": None, "link": "sub/b", "z": b"z"}


@pytest.fixture
def there(home: Path) -> Path:
    write(home / "x", RESULTS, day=100)
    return home / "x"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "down/here"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of a few thousand bytes is a large one."""
    monkeypatch.setattr(large, "LARGE_BYTES", 3000)
    monkeypatch.setattr(large, "CHUNK_BYTES", 1000)


def test_a_folder_arrives_with_times_and_the_right_to_run(site: Site, run, there: Path, here: Path) -> None:
    (there / "a").chmod(0o755)
    seen: list[str] = []
    done = site.asking(run, lambda client: download(client, "home/ann/x", here, noted=seen.append))
    assert read(here) == read(there)
    assert (here / "a").stat().st_mode & 0o100
    assert (here / "sub/b").stat().st_mtime_ns == (there / "sub/b").stat().st_mtime_ns
    assert sorted(seen) == ["a", "sub/b", "sub/deep/er/c", "z"]
    assert (done.copied, done.failed, done.copied_bytes) == ({*seen, "link"}, [], 1002)


def test_what_is_here_does_not_come_again(site: Site, run, there: Path, here: Path) -> None:
    def work(client: Counted) -> None:
        download(client, "home/ann/x", here)
        assert client.asked == ["GET /api/v1/below/home/ann/x", "POST /api/v1/contents/home/ann/x"]
        client.asked.clear()
        again = download(client, "home/ann/x", here)
        assert client.asked == ["GET /api/v1/below/home/ann/x"]
        assert (again.copied, again.copied_bytes, again.same) == (set(), 0, 5)
        write(there, {"a": b"A"}, day=101)
        (there / "z").chmod(0o755)
        assert download(client, "home/ann/x", here).copied == {"a"}

    site.asking(run, work)
    assert (here / "a").read_bytes() == b"A"
    assert (here / "z").stat().st_mode & 0o100


def test_only_with_deletion_is_here_what_is_there_and_nothing_else(site: Site, run, there: Path, here: Path) -> None:
    write(here, {"mine": b"1", "sub/mine/2": b"2", "empty": b"a file"})
    done = site.asking(run, lambda client: download(client, "home/ann/x", here))
    assert [str(each) for each in done.failed] == [
        "empty: a file stands where a folder shall be copied to; remove one of them"
    ]
    assert read(here) == {**RESULTS, "mine": b"1", "sub": None, "sub/deep": None, "sub/deep/er": None} | {
        "sub/mine": None,
        "sub/mine/2": b"2",
        "empty": b"a file",
    }
    site.asking(run, lambda client: download(client, "home/ann/x", here, How(deletes=True)))
    assert read(here) == read(there)


def test_what_cannot_be_written_keeps_nothing_else_from_coming(site: Site, run, there: Path, here: Path) -> None:
    def block(path: str) -> None:
        if path == "a":
            os.rmdir(here / "sub/deep/er")

    done = site.asking(run, lambda client: download(client, "home/ann/x", here, noted=block))
    assert [str(each) for each in done.failed] == [f"{here}/sub/deep/er/c cannot be written: No such file or directory"]
    assert done.copied == {"a", "sub/b", "z", "link"}


def test_a_cut_way_costs_only_what_did_not_arrive(site: Site, run, there: Path, here: Path) -> None:
    def work(client: Counted) -> None:
        client.cuts = ["POST", "GET"]
        waits: list[float] = []
        done = download(client, "home/ann/x", here, sleep=waits.append)
        assert waits == [0.5, 1.0]
        assert done.copied == {"a", "sub/b", "sub/deep/er/c", "z", "link"}

    site.asking(run, work)
    assert read(here) == RESULTS | dict.fromkeys(("sub", "sub/deep", "sub/deep/er"))


@pytest.mark.parametrize(
    ("came", "comes"),
    [(b"", 12345), ("right", 12345 - 5000), ("torn", 12345 - 4000), ("all", 0), ("more", 0), (b"x" * 9000, 12345)],
)
def test_a_large_file_goes_on_where_it_was_cut(
    site: Site, run, home: Path, here: Path, small: None, came: bytes | str, comes: int
) -> None:
    data = os.urandom(12345)
    write(home / "x", {"large": data}, day=50)
    parts = {"right": data[:5000], "torn": data[:4100] + bytes(900), "all": data, "more": data + b"of another"}
    write(here, {".large.pfs-part": parts[came] if isinstance(came, str) else came})
    done = site.asking(run, lambda client: download(client, "home/ann/x", here))
    assert (done.copied_bytes, done.failed) == (comes, [])
    assert read(here) == {"large": data}
    assert (here / "large").stat().st_mtime_ns == (home / "x/large").stat().st_mtime_ns


def test_a_large_file_that_is_written_meanwhile_gets_no_name(
    site: Site, run, home: Path, here: Path, small: None
) -> None:
    write(home / "x", {"large": bytes(9000)}, day=50)

    def touch(done: int, size: int) -> None:
        os.utime(home / "x/large")

    done = site.asking(run, lambda client: download(client, "home/ann/x", here, progress=touch))
    assert "changes while it is read" in str(done.failed[0])
    assert not (here / "large").exists()


def test_texts_of_the_server_come_as_they_are_now(site: Site, run, world, here: Path) -> None:
    world.log.change(b"so far\n")
    site.asking(run, lambda client: download(client, "job", here, How(links=False)))
    assert (here / "log").read_bytes() == b"so far\n"
    assert (here / "state").read_bytes() == b"one\n"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("home/ann/missing", Kind.NOT_FOUND), ("home/ann/x/a", Kind.NOT_DIR), ("home/bob", Kind.NOT_FOUND)],
)
def test_what_is_no_folder_is_told_and_nothing_is_made(
    site: Site, run, there: Path, here: Path, path: str, kind: Kind
) -> None:
    with pytest.raises(BaseExceptionGroup) as caught:
        site.asking(run, lambda client: download(client, path, here))
    (error,) = caught.value.exceptions
    assert isinstance(error, PfsError)
    assert error.kind is kind
    assert not here.exists()


ROW = Row("", FOLDER, 0, 0, 0o755)


@pytest.mark.parametrize(
    "rows",
    [
        [Row("../out", FILE, 1, 0, 0o644)],
        [Row("/etc/x", FILE, 1, 0, 0o644)],
        [Row("a/b", FILE, 1, 0, 0o644)],
        [Row("a", LINK, 0, 0, 0o777, "/etc"), Row("a/b", FILE, 1, 0, 0o644)],
        [Row("a", FOLDER, 0, 0, 0o755), Row("a", LINK, 0, 0, 0o777, "/etc")],
    ],
)
def test_a_server_names_nothing_outside_of_the_folder(rows: list[Row], here: Path) -> None:
    class Hostile(Counted):
        def __init__(self) -> None:
            pass

        def answered(self, *_: object, **__: object):  # type: ignore[override]
            from contextlib import nullcontext

            return nullcontext(iter([b"".join(map(pack_row, [ROW, *rows]))]))

    with pytest.raises(PfsError) as caught:
        remote.below(Hostile(), "home/ann/x")
    assert caught.value.kind is Kind.INVALID
