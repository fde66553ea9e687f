"""What tests of submitting share: a server's shelf of trees, and a user without settings of git."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.repository import no_settings
from tests.cli.shelf import Shelf


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shelf]:
    """Give an empty shelf."""
    no_settings(monkeypatch)
    made = Shelf(tmp_path / "server")
    yield made
    made.disk.close()
