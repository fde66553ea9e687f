"""The file system, call by call, on real mounts of a real server, held against a directory of this machine."""

import pytest

pytest.register_assert_rewrite(f"{__name__}.places")
