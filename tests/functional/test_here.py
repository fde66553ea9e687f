"""The suite without a kernel; and in a directory of this machine: it asks for what is so everywhere."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.attributes import *  # noqa: F403
from tests.functional.directories import *  # noqa: F403
from tests.functional.files import *  # noqa: F403
from tests.functional.inprocess import directory
from tests.functional.links import *  # noqa: F403
from tests.functional.names import *  # noqa: F403
from tests.functional.posix import Posix
from tests.functional.renames import *  # noqa: F403
from tests.functional.stack import Stack
from tests.functional.xattrs import *  # noqa: F403


@pytest.fixture(scope="module", params=["leased", "local"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack | Path]:
    """A server and a mount without a kernel, whose answers are kept or all asked for; or just a directory."""
    path = tmp_path_factory.mktemp("functional")
    if request.param == "local":
        yield path
        return
    with Stack(path, leased=request.param == "leased").running() as stack:
        yield stack


@pytest.fixture
def fs(place: Stack | Path, request: pytest.FixtureRequest) -> Iterator[Posix]:
    """An empty directory for one test."""
    with directory(place, request.function.__name__) as made:
        yield made
