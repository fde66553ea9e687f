"""Who is cancelled while the SDK does what blocks waits for the thread, which ends at its next piece."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from anyio import to_thread

from cli.sdk import AsyncClient, Progress
from cli.sdk.way import Blocking
from tests.cli.sdk.faces import TOKEN, Datacenter, datacenter

Run = Callable[[Callable[[], Any]], Any]
Work = Callable[[], Awaitable[object]]
Cancels = Callable[[Work, list[Callable[[], object]]], Awaitable[None]]
FILES = 60
PIECES = 5_000  # of who is not stopped


async def of_asyncio(work: Work, stops: list[Callable[[], object]]) -> None:
    task = asyncio.ensure_future(work())
    stops.append(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task


async def of_trio(work: Work, stops: list[Callable[[], object]]) -> None:
    with trio.CancelScope() as scope:
        stops.append(scope.cancel)
        await work()
    assert scope.cancelled_caught


@pytest.fixture(params=[of_asyncio, of_trio])
def with_client(
    request: pytest.FixtureRequest, run: Run
) -> Callable[[Callable[[AsyncClient, Cancels], Awaitable[None]]], Datacenter]:
    """Run what uses a client, in a loop of its own where that is one of asyncio; return what the client has asked."""

    def within(main: Callable[[AsyncClient, Cancels], Awaitable[None]]) -> Datacenter:
        cloud = Datacenter()

        async def connected(url: str) -> None:
            async with AsyncClient(endpoint=url, token=TOKEN) as client:
                await main(client, request.param)

        async def work() -> None:
            async with datacenter(cloud) as url:
                if request.param is of_trio:
                    await connected(url)
                else:
                    await trio.to_thread.run_sync(lambda: asyncio.run(connected(url)))

        run(work)
        return cloud

    return within


def test_a_package_that_is_stopped_in_the_middle_is_not_submitted(with_client: Any, tmp_path: Path) -> None:
    told: list[Progress] = []
    heard_in: set[int] = set()
    for number in range(FILES):
        (tmp_path / f"f{number}").write_bytes(b"x")

    async def main(client: AsyncClient, cancels: Cancels) -> None:
        stops: list[Callable[[], object]] = []

        def hear(progress: Progress) -> None:
            heard_in.add(threading.get_ident())
            told.append(progress)
            if progress.size:
                stops[0]()

        await cancels(lambda: client.submit_package(tmp_path, entry="x", progress=hear), stops)
        count = len(told)
        assert 0 < len([each for each in told if each.size]) < FILES
        await client.jobs()
        assert len(told) == count
        assert heard_in == {threading.get_ident()}

    cloud = with_client(main)
    assert not [line for line in cloud.done if line.startswith("posted")]


@pytest.mark.parametrize("waits", [False, True], ids=["moves bytes", "waits for another try"])
def test_what_blocks_has_ended_when_who_was_cancelled_goes_on(with_client: Any, waits: bool) -> None:
    async def main(client: AsyncClient, cancels: Cancels) -> None:
        begun, ended = threading.Event(), threading.Event()
        stops: list[Callable[[], object]] = []

        def work(_: Blocking) -> None:
            begun.set()
            try:
                if waits:
                    client._way.rest(60)
                for _ in range(PIECES):
                    client._way.goes_on()
                    time.sleep(0.001)
            finally:
                ended.set()

        async def both() -> None:
            await client._way.aside(work)

        async def stopping() -> None:
            await to_thread.run_sync(begun.wait)
            stops[0]()

        if cancels is of_trio:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(stopping)
                await cancels(both, stops)
        else:
            other = asyncio.ensure_future(stopping())
            await cancels(both, stops)
            await other
        assert ended.is_set()

    with_client(main)


def test_what_goes_wrong_in_what_blocks_is_raised_as_it_is(with_client: Any) -> None:
    def work(_: Blocking) -> None:
        raise KeyError("of the program")

    async def main(client: AsyncClient, _: Cancels) -> None:
        with pytest.raises(KeyError, match="of the program"):
            await client._way.aside(work)

    with_client(main)
