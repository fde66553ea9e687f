"""The fake runtime keeps the promises of the real ones."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from jobd.node.runtime import Runtime
from tests.jobd.node.attaching import ATTACH_CHECKS, BESIDE
from tests.jobd.node.conformance import CHECKS, PROGRAMS, Bench
from tests.jobd.node.fake import FakeMachine, FakeRuntime


@pytest.mark.parametrize("check", [*CHECKS, *ATTACH_CHECKS], ids=lambda check: check.__name__)
def test_promise(check: Callable[[Bench], Awaitable[None]], tmp_path: Path) -> None:
    home, shared = tmp_path / "home", tmp_path / "shared"
    home.mkdir()
    shared.mkdir()

    async def main() -> None:
        with trio.fail_after(20):
            async with trio.open_nursery() as nursery:
                machine = FakeMachine(nursery, PROGRAMS, beside=BESIDE)

                @asynccontextmanager
                async def open_runtime() -> AsyncIterator[Runtime]:
                    yield FakeRuntime(machine)

                await check(Bench(open_runtime, home, shared, uid=200001, image=None))
                nursery.cancel_scope.cancel()

    trio.run(main)
