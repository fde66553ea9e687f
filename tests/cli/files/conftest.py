"""What tests of copying share."""

import pytest

from tests.cli.files.site import Site
from tests.pfs.conftest import home, world  # noqa: F401
from tests.pfs.world import World


@pytest.fixture
def site(world: World) -> Site:  # noqa: F811
    return Site(world)
