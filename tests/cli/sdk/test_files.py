"""Single files that the SDK copies, to and from a real server on loopback: they travel as those of the commands do."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cli.files import large
from cli.sdk import files
from cli.sdk.way import asked
from pfs.errors import Kind, PfsError
from tests.cli.files.conftest import site  # noqa: F401
from tests.cli.files.site import DAY_NS, Counted, Site, read, write
from tests.pfs.conftest import home, world  # noqa: F401

With = Callable[[Callable[[Counted], None]], None]
LARGE = os.urandom(12345)


@pytest.fixture
def with_client(site: Site, run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> With:  # noqa: F811
    """Run what uses a client; a file of a few thousand bytes is a large one."""
    monkeypatch.setattr(large, "LARGE_BYTES", 3000)
    monkeypatch.setattr(large, "CHUNK_BYTES", 1000)
    return lambda work: site.asking(run, work)


def test_a_file_has_its_time_there_and_the_right_to_run_and_does_not_travel_again(
    with_client: With,
    home: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    write(tmp_path, {"train.py": b"pass\n"}, day=100)
    (tmp_path / "train.py").chmod(0o755)

    def work(client: Counted) -> None:
        asked(client, files.upload, tmp_path / "train.py", "home/ann/train.py")
        client.asked.clear()
        asked(client, files.upload, tmp_path / "train.py", "home/ann/train.py")
        assert client.asked == ["GET /api/v1/below/home/ann/train.py"]
        asked(client, files.download, "home/ann/train.py", tmp_path / "got")
        client.asked.clear()
        asked(client, files.download, "home/ann/train.py", tmp_path / "got")
        assert client.asked == ["GET /api/v1/below/home/ann/train.py"]

    with_client(work)
    for path in (home / "train.py", tmp_path / "got"):
        info = path.stat()
        assert (path.read_bytes(), info.st_mode & 0o777, info.st_mtime_ns) == (b"pass\n", 0o755, 100 * DAY_NS)


def test_a_large_file_goes_on_where_it_was_cut_in_both_directions(
    with_client: With,
    home: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    write(tmp_path, {"model": LARGE}, day=50)
    write(home, {".model.pfs-part": LARGE[:5000]})
    write(tmp_path, {".got.pfs-part": LARGE[:4000]})

    def work(client: Counted) -> None:
        asked(client, files.upload, tmp_path / "model", "home/ann/model")
        assert client.sent_bytes == 12345 - 5000
        client.came_bytes = 0
        asked(client, files.download, "home/ann/model", tmp_path / "got")
        assert 12345 - 4000 <= client.came_bytes < 12345

    with_client(work)
    assert read(home) == {"model": LARGE}
    assert (tmp_path / "got").read_bytes() == LARGE
    assert not (tmp_path / ".got.pfs-part").exists()


def test_what_a_pipe_gives_is_written(with_client: With, home: Path, tmp_path: Path) -> None:  # noqa: F811
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b"as it comes"))
    writer.start()
    with_client(lambda client: asked(client, files.upload, tmp_path / "pipe", "home/ann/piped"))
    writer.join()
    assert (home / "piped").read_bytes() == b"as it comes"


@pytest.mark.parametrize(
    ("path", "kind"),
    [("home/ann/folder", Kind.IS_DIR), ("home/ann/nowhere/x", Kind.NOT_FOUND), ("home/bob/x", Kind.NOT_FOUND)],
)
def test_what_the_server_does_not_take_is_told(
    with_client: With,
    home: Path,  # noqa: F811
    tmp_path: Path,
    path: str,
    kind: Kind,
) -> None:
    write(home, {"folder": None})
    write(tmp_path, {"here": b"x"})

    def work(client: Counted) -> None:
        with pytest.raises(PfsError) as caught:
            asked(client, files.upload, tmp_path / "here", path)
        assert caught.value.kind is kind

    with_client(work)
    assert read(home) == {"folder": None}


def test_a_file_that_cannot_be_written_here_is_told_by_the_name_that_it_was_to_have(
    with_client: With,
    home: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    write(home, {"there": b"x"})

    def work(client: Counted) -> None:
        with pytest.raises(PfsError, match="nowhere/x cannot be written: No such file"):
            asked(client, files.download, "home/ann/there", tmp_path / "nowhere/x")

    with_client(work)
