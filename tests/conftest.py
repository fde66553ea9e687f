"""What all tests share: `--rewrite` for golden scripts, `run` for async ones, hypothesis without a stopwatch."""

import gc
import os
from collections.abc import Awaitable, Callable
from typing import TypeVar

import hypothesis
import pytest
import trio

T = TypeVar("T")
TEST_SECONDS_MAX = 60

# the machine may be busy with other tests; time is no property of what is tested
hypothesis.settings.register_profile(
    "pfs",
    max_examples=20,
    deadline=None,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
    # a change is judged by the same examples each time; whoever works on it meets new ones
    derandomize="CI" in os.environ,
)
hypothesis.settings.load_profile("pfs")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rewrite", action="store_true", help="write what golden scripts now give into the scripts")


def pytest_collection_finish() -> None:
    """What was imported stays to the end: no collection has to walk over it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Run an async function to its end, which has to come within a minute."""

    def run(main: Callable[[], Awaitable[T]]) -> T:
        async def bounded() -> T:
            with trio.fail_after(TEST_SECONDS_MAX):
                return await main()

        return trio.run(bounded)

    return run
