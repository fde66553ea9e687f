"""What all tests share: `run` for async ones, hypothesis without a stopwatch."""

import gc
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import hypothesis
import pytest
import sqlalchemy
import trio

from pfs import sql
from pfs.errors import PfsError
from pfs.protocol import wire
from tests import starting

gc.disable()  # until all is imported: nothing of that is garbage

T = TypeVar("T")
TEST_SECONDS_MAX = 300  # for what hangs, on a machine that does much else

# each test has a database of its own; the statements are the same in all of them, and are made into text once only
_known = sqlalchemy.create_engine("sqlite://")
_known.connect().close()
_known.dispose()
_create_engine = sql.create_engine


def _create_knowing_engine(url: str, **options: Any) -> sqlalchemy.Engine:
    engine = _create_engine(url, **options)
    if engine.dialect.name == _known.dialect.name:
        engine.dialect, engine._compiled_cache = _known.dialect, _known._compiled_cache
    return engine


sql.create_engine = _create_knowing_engine

# what no error may tell that leaves a server, in whatever test it does: tracebacks, paths of the server, SQL, keys
_LEAKS = re.compile(
    r'Traceback \(|File "|sqlite|sqlalchemy|\b(SELECT|INSERT|UPDATE|DELETE) [a-zA-Z]+ |\bpfs1\.[\w-]+\.[\w-]{20}|'
    + re.escape(f"{tempfile.gettempdir()}/")
)
_leaked: list[str] = []
_encode_error = wire.encode_error


def _encode_harmless_error(error: PfsError) -> wire.Json:
    if _LEAKS.search(error.message):
        _leaked.append(error.message)
    return _encode_error(error)


wire.encode_error = _encode_harmless_error  # before anybody imports it from there

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
    """Offer the option of golden scripts."""
    starting.offer_rewriting(parser)


def pytest_configure() -> None:
    """Let programs be interrupted."""
    starting.let_interrupt()


def pytest_collection_finish() -> None:
    """What was imported stays to the end: no collection has to walk over it again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _no_error_tells_too_much() -> Iterator[None]:
    yield
    told = _leaked[:]
    _leaked.clear()
    assert told == []


@pytest.fixture
def run() -> Callable[[Callable[[], Awaitable[T]]], T]:
    """Run an async function to its end, which has to come in time."""

    def run(main: Callable[[], Awaitable[T]]) -> T:
        async def bounded() -> T:
            with trio.fail_after(TEST_SECONDS_MAX):
                return await main()

        return trio.run(bounded)

    return run
