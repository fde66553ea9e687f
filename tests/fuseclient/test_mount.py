"""What is said when a machine cannot mount."""

import os
from pathlib import Path

import pytest

from fuseclient import mount
from pfs.errors import Kind, PfsError


def refusal() -> PfsError:
    with pytest.raises(PfsError) as caught:
        mount.check_machine()
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_machine_without_fuse_is_told_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mount, "DEVICE", str(tmp_path / "fuse"))
    assert refusal().kind is Kind.UNSUPPORTED
    assert "modprobe fuse" in str(refusal())


def test_a_device_that_cannot_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").mkdir()
    monkeypatch.setattr(mount, "DEVICE", str(tmp_path / "fuse"))
    assert refusal().kind is Kind.DENIED
    assert str(tmp_path / "fuse") in str(refusal())


def test_a_user_needs_the_helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fuse").touch()
    monkeypatch.setattr(mount, "DEVICE", str(tmp_path / "fuse"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "fuse3" in str(refusal())
    (tmp_path / "fusermount3").touch(mode=0o755)
    mount.check_machine()


def test_what_the_library_prints_is_collected() -> None:
    lines: list[str] = []
    with mount._stderr_into(lines):
        os.write(2, b"fuse: first\n\nfuse: second\n")
    assert lines == ["fuse: first", "fuse: second"]
