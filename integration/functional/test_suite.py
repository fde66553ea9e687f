"""The suite of `tests.functional` on a real mount; and without a kernel where nothing can be leased."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.functional.places import Places
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


@pytest.fixture(scope="module", params=["mount", "unleased"])
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack | Path]:
    if request.param == "unleased":
        with Stack(tmp_path_factory.mktemp("functional"), leased=False).running() as stack:
            yield stack
        return
    places: Places = request.getfixturevalue("places")
    yield places.squashed


@pytest.fixture
def fs(place: Stack | Path, request: pytest.FixtureRequest) -> Iterator[Posix]:
    """An empty directory for one test."""
    with directory(place, request.node.name.replace("[", "-").rstrip("]")) as made:
        yield made
