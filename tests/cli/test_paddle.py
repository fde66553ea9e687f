"""`paddle`: what its short commands write to the tree."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from cli import paddle as program


class Tree:
    """Notes what is written."""

    def __init__(self) -> None:
        self.written: list[tuple[str, bytes]] = []

    def write(self, path: str, data: bytes) -> None:
        self.written.append((path, data))


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("kill digits", "kill\n"),
        ("share digits ml", "share ml\n"),
        ("share digits ml vision", "share ml vision\n"),
        ("unshare digits ml", "unshare ml\n"),
        ("unshare digits", "unshare\n"),
    ],
)
def test_what_a_job_is_told(monkeypatch: pytest.MonkeyPatch, command: str, written: str) -> None:
    tree = Tree()

    @contextmanager
    def connected(dc: str | None) -> Iterator[Tree]:
        yield tree

    monkeypatch.setattr(program, "connected", connected)
    assert CliRunner().invoke(program.paddle, command.split()).exit_code == 0
    assert tree.written == [("jobs/digits/ctl", written.encode())]


def test_somebody_is_named_to_share_with() -> None:
    assert CliRunner().invoke(program.paddle, ["share", "digits"]).exit_code == 2
