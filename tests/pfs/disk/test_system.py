"""What Python lacks of the kernel: paths that stay beneath a directory, renames with flags, errors in our terms."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from pfs.disk.system import RENAME_EXCHANGE, RENAME_NOREPLACE, anew, open_beneath, rename_at, start_writing, translate
from pfs.errors import Kind


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[int]:
    """A directory with `d/x` in it, held open; beside it stands a secret."""
    (tmp_path / "secret").touch()
    (tmp_path / "folder/d").mkdir(parents=True)
    (tmp_path / "folder/d/x").write_bytes(b"12345")
    (tmp_path / "folder/link").symlink_to("d")
    (tmp_path / "folder/out").symlink_to("../secret")
    fd = os.open(tmp_path / "folder", os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def code_of(fd: int, path: str) -> int | None:
    try:
        os.close(open_beneath(fd, path, os.O_RDONLY))
    except OSError as error:
        return error.errno
    return None


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("", None),
        ("d", None),
        ("d/x", None),
        ("d/../d/x", None),
        ("missing", errno.ENOENT),
        ("d/x/y", errno.ENOTDIR),
        ("link", errno.ELOOP),
        ("link/x", errno.ELOOP),
        ("out", errno.ELOOP),
        ("..", errno.EXDEV),
        ("../secret", errno.EXDEV),
        ("d/../../secret", errno.EXDEV),
        ("/etc/passwd", errno.EXDEV),
        ("x" * 256, errno.ENAMETOOLONG),
        ("d/x\0y", errno.EINVAL),
    ],
)
def test_paths_stay_beneath_and_follow_no_link(folder: int, path: str, code: int | None) -> None:
    assert code_of(folder, path) == code


def test_a_descriptor_is_not_inherited(folder: int) -> None:
    fd = open_beneath(folder, "d/x", os.O_RDONLY)
    assert not os.get_inheritable(fd)
    assert os.read(fd, 10) == b"12345"
    os.close(fd)


def test_a_rename_leaves_exchanges_or_replaces(folder: int, tmp_path: Path) -> None:
    (tmp_path / "folder/y").write_bytes(b"y")
    with pytest.raises(FileExistsError):
        rename_at(folder, "y", folder, "d", RENAME_NOREPLACE)
    rename_at(folder, "y", folder, "d", RENAME_EXCHANGE)
    assert (tmp_path / "folder/y/x").exists()
    rename_at(folder, "link", folder, "d", 0)
    assert (tmp_path / "folder/d").is_symlink()


def test_a_descriptor_has_a_name_that_leads_to_it_whatever_is_renamed(folder: int, tmp_path: Path) -> None:
    fd = open_beneath(folder, "d/x", os.O_PATH)
    (tmp_path / "folder/d").rename(tmp_path / "folder/e")
    os.chmod(anew(fd), 0o604)
    assert stat.S_IMODE((tmp_path / "folder/e/x").stat().st_mode) == 0o604
    os.close(fd)


def test_errors_are_told_in_the_terms_of_the_tree() -> None:
    told = translate(FileNotFoundError(errno.ENOENT, "x", "/srv/data/x"))
    assert (told.kind, str(told)) == (Kind.NOT_FOUND, "No such file or directory")  # and not where, on the server


def test_an_error_that_is_not_known_is_io() -> None:
    assert translate(OSError(errno.ENOTTY, "x")).kind is Kind.IO
    assert translate(OSError("without a number")).kind is Kind.IO


def test_a_disk_that_was_told_to_begin_has_the_bytes(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb", buffering=0) as file:
        file.write(b"0123")
        start_writing(file.fileno(), 0, 4)
    assert (tmp_path / "file").read_bytes() == b"0123"
    start_writing(-1, 0, 4)  # who asks for fsync is told
