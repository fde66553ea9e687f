"""What tests of `jobd` commands begin with: a data root in which nobody has an account."""

import shutil
from pathlib import Path

import pytest

from cli.server.datacenter import make_data_root
from tests.jobd.conftest import migrated_database


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A new data root with its database."""
    made = tmp_path / "data"
    make_data_root(str(made))
    shutil.copy(migrated_database(), made / "server/pfs.sqlite")
    return made
