"""The option `--rewrite` of golden scripts, which the tests of both folders have; where scripts differ is told."""

from contextlib import suppress

import pytest

pytest.register_assert_rewrite("tests.golden")


def offer(parser: pytest.Parser) -> None:
    """Add the option, unless the other folder has done that."""
    with suppress(ValueError):
        parser.addoption("--rewrite", action="store_true", help="write what golden scripts now give into the scripts")
