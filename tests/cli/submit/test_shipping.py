"""What somebody sees of a folder that is shipped."""

import io
import os
import time
from pathlib import Path

import pytest

from cli.submit.shipping import shipped
from tests.cli.shelf import Shelf


class Terminal(io.StringIO):
    """A terminal, as far as a bar is concerned."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("said", "size_bytes", "has_bar"),
    [(io.StringIO(), 5 << 20, False), (Terminal(), 1000, False), (Terminal(), 5 << 20, True)],
)
def test_on_a_terminal_a_bar_shows_how_much_of_a_folder_was_sent(
    said: io.StringIO, size_bytes: int, has_bar: bool, shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digits = tmp_path / "digits"
    digits.mkdir()
    (digits / "large").write_bytes(os.urandom(size_bytes))
    shelf.cuts = [size_bytes // 2]
    monkeypatch.setattr("sys.stderr", said)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    done = shipped(shelf, digits)
    bar, _, told = said.getvalue().rpartition("\n")[0].rpartition("\n")
    assert told.startswith("Shipped ")
    assert ("\r" in bar) == has_bar
    assert bar.endswith("100%") == has_bar
    assert shelf.files(done.src)["large"] == (digits / "large").read_bytes()
