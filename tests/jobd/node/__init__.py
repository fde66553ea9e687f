"""Tests of the node daemon, and what they share with the integration tests."""

import pytest

pytest.register_assert_rewrite("tests.jobd.node.conformance", "tests.jobd.node.server")
