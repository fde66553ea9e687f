"""Blocks in the background: a few at once, of all files together, and none after the end."""

from collections.abc import Awaitable, Callable, Sequence

import pytest
import trio
import trio.testing

from fuseclient.cache.blockfetch import AT_ONCE, WAITING_MAX, BlockFetcher


class Files:
    """Files of one mount whose blocks are fetched; a fetch ends when the test says so."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.places = trio.CapacityLimiter(AT_ONCE)
        self.begun: list[tuple[str, list[int]]] = []
        self.cancelled = 0
        self.gate = trio.Event()
        self.result: bool | Exception = True

    def file(self, name: str) -> BlockFetcher:
        async def fetch(numbers: Sequence[int]) -> bool:
            self.begun.append((name, list(numbers)))
            try:
                await self.gate.wait()
            except trio.Cancelled:
                self.cancelled += 1
                raise
            if isinstance(self.result, Exception):
                raise self.result
            return self.result

        return BlockFetcher(fetch, self.nursery, self.places)

    async def go_on(self) -> None:
        self.gate.set()
        await trio.testing.wait_all_tasks_blocked()


def scenario(test: Callable[[Files], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            async with trio.open_nursery() as nursery:
                await test(Files(nursery))

        trio.run(main)

    run.__name__ = test.__name__
    return run


@scenario
async def test_blocks_that_follow_one_another_are_fetched_together(files: Files) -> None:
    files.file("a").want([1, 2, 3, 7, 9, 10])
    await files.go_on()
    assert [numbers for _, numbers in files.begun] == [[1, 2, 3], [7], [9, 10]]


@scenario
async def test_a_few_are_under_way_at_once_of_all_files_together(files: Files) -> None:
    for name in "abcdef":
        file = files.file(name)
        for number in range(0, 10, 2):
            file.want([number])
    await trio.testing.wait_all_tasks_blocked()
    assert len(files.begun) == AT_ONCE
    await files.go_on()
    assert len(files.begun) == 30


@scenario
async def test_files_take_turns(files: Files) -> None:
    for name in "ab":
        files.file(name).want([0, 2, 4, 6, 8, 10])
    await files.go_on()
    assert {name for name, _ in files.begun[:4]} == {"a", "b"}


@scenario
async def test_when_a_file_is_closed_it_is_over(files: Files) -> None:
    file = files.file("a")
    for number in (0, 2, 4, 6):
        file.want([number])
    await trio.testing.wait_all_tasks_blocked()
    begun = len(files.begun)
    file.stop()
    await files.go_on()
    assert (len(files.begun), files.cancelled) == (begun, begun)


@scenario
async def test_after_a_stop_others_can_be_wanted(files: Files) -> None:
    file = files.file("a")
    file.want([0])
    await trio.testing.wait_all_tasks_blocked()
    file.stop()
    await trio.testing.wait_all_tasks_blocked()
    file.want([5])
    await files.go_on()
    assert files.begun[-1] == ("a", [5])


@pytest.mark.parametrize("result", [False, RuntimeError("a defect")])
def test_what_is_of_no_use_ends_it_and_nothing_else(result: bool | Exception, caplog: pytest.LogCaptureFixture) -> None:
    @scenario
    async def check(files: Files) -> None:
        files.result = result
        file = files.file("a")
        file.want([0, 2, 4, 6, 8])
        await files.go_on()
        assert len(files.begun) <= AT_ONCE
        files.result = True
        file.want([1])
        await files.go_on()
        assert files.begun[-1] == ("a", [1])

    check()
    assert len(caplog.records) == (result is not False)


@scenario
async def test_what_waits_is_bounded_and_the_latest_stays(files: Files) -> None:
    files.file("a").want(range(0, 4 * WAITING_MAX, 2))
    await files.go_on()
    assert len(files.begun) == WAITING_MAX
    assert files.begun[-1] == ("a", [4 * WAITING_MAX - 2])
