"""What `pit mount` makes and takes away around a mount, which is a directory here."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import click
import pytest
from ruamel.yaml import YAML

from cli.mount import command, point
from cli.mount.options import Options
from cli.snakepit import mounting
from pfs.errors import PfsError
from tests.cli.snakepit.pits import FILES, Tree


class Mounts:
    """Mounts that are directories."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.options = Options()
        self.at: str | None = None

    def mount(self, where: str, options: Options, *, quiet: bool) -> int:
        assert options.config is not None
        assert stat.S_IMODE(os.stat(options.config).st_mode) == 0o600
        self.config = YAML(typ="safe", pure=True).load(Path(options.config))
        self.options, self.at = options, where
        if os.listdir(where):
            self.at = None
            raise click.ClickException("it is not empty")
        return 0

    def unmount(self, where: Path) -> None:
        assert str(where) == self.at
        self.at = None

    def stay(self, where: Path, *, shell: bool) -> None:
        assert str(where) == self.at
        raise KeyboardInterrupt


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mounts:
    made = Mounts()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(command, "mount_command", made.mount)
    monkeypatch.setattr(point, "is_mounted", lambda where: where == made.at)
    monkeypatch.setattr(mounting, "_unmount", made.unmount)
    monkeypatch.setattr(mounting, "_stay", made.stay)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return made


def mount(text: str, mountpoint: str | None = None) -> None:
    with pytest.raises(KeyboardInterrupt):
        mounting.mount(cast("Any", Tree(FILES)), text, mountpoint, shell=False)


@contextmanager
def nothing_left(tmp_path: Path) -> Iterator[None]:
    before = sorted(os.listdir(tmp_path))
    yield
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("text", "folder", "flags"),
    [
        ("home", "home/tilman", set()),
        ("user:me", "home/tilman", set()),
        ("user:ann", "home/ann", set()),
        ("group:a", "groups/a", set()),
        ("job:150", "jobs/150", {"ro"}),
        ("150", "jobs/150", {"ro"}),
        ("shared", "shared", {"ro"}),
    ],
)
def test_the_folder_of_an_entity_is_mounted_and_nothing_is_left(
    text: str, folder: str, flags: set[str], mounts: Mounts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with nothing_left(tmp_path):
        mount(text)
    assert (mounts.options.subdir, mounts.options.flags) == (f"pit/{folder}", flags)
    assert mounts.config["pit"]["token"] == Tree(FILES).who.token
    assert mounts.at is None
    printed = Path(capsys.readouterr().out.strip())
    assert printed.name == folder.rpartition("/")[2]
    assert str(printed).startswith(str(tmp_path / "pit-mount-"))


def test_at_a_mount_point_nothing_is_printed_and_it_stays(
    mounts: Mounts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("m").mkdir(mode=0o700)
    with nothing_left(tmp_path):
        mount("home", "m")
    assert stat.S_IMODE(os.lstat("m").st_mode) == 0o700
    assert capsys.readouterr().out == ""


def test_what_cannot_be_mounted_leaves_nothing(mounts: Mounts, tmp_path: Path) -> None:
    Path("full/x").mkdir(parents=True)
    with nothing_left(tmp_path), pytest.raises(click.ClickException, match="not empty"):
        mounting.mount(cast("Any", Tree(FILES)), "home", "full", shell=False)


def test_where_it_cannot_be_unmounted_no_file_is_lost(
    mounts: Mounts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stay(where: Path, *, shell: bool) -> None:
        (where / "precious").write_text("kept")

    def refuse(_where: Path) -> None:
        raise click.ClickException("it is in use")

    monkeypatch.setattr(mounting, "_stay", stay)
    monkeypatch.setattr(mounting, "_unmount", refuse)
    with pytest.raises(click.ClickException):
        mounting.mount(cast("Any", Tree(FILES)), "home", None, shell=False)
    place = Path(capsys.readouterr().out.strip())
    assert (place / "precious").read_text() == "kept"
    assert os.listdir(place.parent) == ["tilman"]


def test_what_somebody_has_mounted_there_is_left_alone(mounts: Mounts, tmp_path: Path) -> None:
    Path("m").mkdir()
    mounts.at = os.path.realpath("m")
    theirs = point.state_file(mounts.at, "lock")
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.touch()

    def refuse(_where: str, _options: Options, *, quiet: bool) -> int:
        raise click.ClickException("pfs is mounted here already")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "mount_command", refuse)
        with pytest.raises(click.ClickException, match="already"):
            mounting.mount(cast("Any", Tree(FILES)), "home", "m", shell=False)
    assert mounts.at == os.path.realpath("m")
    assert theirs.exists()


def test_an_entity_that_is_not_there_is_told_before_anything_is_made(mounts: Mounts) -> None:
    for text, what in (("group:nobody", "Group"), ("job:9", "Job"), ("user:nobody", "User")):
        with pytest.raises(PfsError, match=f"{what} not found"):
            mounting.mount(cast("Any", Tree(FILES)), text, None, shell=False)
    assert mounts.config == {}
