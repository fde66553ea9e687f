"""What a mount may find: the small datacenter of `tests.pfs`."""

from tests.pfs.conftest import world  # noqa: F401
