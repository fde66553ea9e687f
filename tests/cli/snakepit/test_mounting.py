"""What `pit mount` makes and takes away around a mount, which is a directory here."""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from ruamel.yaml import YAML

from cli.mount import command, point
from cli.mount.options import Options
from cli.snakepit import mounting
from pfs.errors import Kind, PfsError
from tests.cli.snakepit.pits import FILES, Tree


class Pit(Tree):
    """A pit whose token is known."""

    where = SimpleNamespace(endpoint="https://pit.example.org", ca=None)
    who = SimpleNamespace(name="tilman", token="pfs1.a.b")


class Mounts:
    """Mounts that are directories."""

    def __init__(self) -> None:
        self.config: dict[str, Any] = {}
        self.options = Options()
        self.at: str | None = None
        self.seen: list[str] = []

    def mount(self, where: str, options: Options, *, quiet: bool) -> int:
        assert options.config is not None
        assert stat.S_IMODE(os.stat(options.config).st_mode) == 0o600
        self.config = YAML(typ="safe", pure=True).load(Path(options.config))
        self.options, self.at = options, where
        for name in FILES:
            made = Path(where, "pit", name)
            made.parent.mkdir(parents=True, exist_ok=True)
            made.write_text("")
        return 0

    def unmount(self, where: Path) -> None:
        assert str(where) == self.at
        self.at = None

    def stay(self, _point: Path, folder: Path, *, shell: bool) -> None:
        self.seen = sorted(os.listdir(folder))
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
        mounting.mount(cast("Any", Pit(FILES)), text, mountpoint, shell=False)


@contextmanager
def nothing_left(tmp_path: Path) -> Iterator[None]:
    before = sorted(os.listdir(tmp_path))
    yield
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize(
    ("text", "seen", "flags"),
    [
        ("home", ["data", "notes.txt"], set()),
        ("user:me", ["data", "notes.txt"], set()),
        ("user:ann", ["x"], set()),
        ("group:a", ["x"], set()),
        ("job:150", ["src", "status"], {"ro"}),
        ("shared", ["imagenet"], {"ro"}),
    ],
)
def test_the_folder_of_an_entity_is_seen_and_nothing_is_left(
    text: str, seen: list[str], flags: set[str], mounts: Mounts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with nothing_left(tmp_path):
        mount(text)
    assert mounts.seen == seen
    assert mounts.options.flags == flags
    assert mounts.config["pit"]["token"] == "pfs1.a.b"
    assert mounts.at is None
    assert capsys.readouterr().out.startswith(str(tmp_path / "pit-mount-"))


def test_a_mount_point_is_as_it_was_afterwards(mounts: Mounts, tmp_path: Path) -> None:
    Path("m").mkdir(mode=0o700)
    with nothing_left(tmp_path):
        mount("home", "m")
    assert mounts.seen == ["data", "notes.txt"]
    assert stat.S_IMODE(os.lstat("m").st_mode) == 0o700
    assert stat.S_ISDIR(os.lstat("m").st_mode)


@pytest.mark.parametrize(("name", "kind"), [("full", Kind.NOT_EMPTY), ("file", Kind.NOT_DIR), ("no", Kind.NOT_FOUND)])
def test_what_is_no_empty_directory_is_no_mount_point(name: str, kind: Kind, mounts: Mounts) -> None:
    Path("full/x").mkdir(parents=True)
    Path("file").write_text("")
    with pytest.raises(PfsError) as refused:
        mounting.mount(cast("Any", Pit(FILES)), "home", name, shell=False)
    assert refused.value.kind is kind
    assert mounts.config == {}
