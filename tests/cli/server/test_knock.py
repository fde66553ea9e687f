"""A command knocks, and the server hears it."""

import itertools
import os

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from cli.server.knock import MARK, NAME, knock, last_change, listen


@pytest.mark.parametrize("depth", [0, 60])
def test_a_server_hears_each_moment_in_which_something_was_changed(run, tmp_path, depth):
    folder = tmp_path.joinpath(*["deep"] * depth)
    folder.mkdir(parents=True, exist_ok=True)

    async def main():
        heard = trio.Event()

        async def hear():
            nonlocal heard
            heard.set()
            heard = trio.Event()

        async with trio.open_nursery() as nursery:
            await nursery.start(listen, str(folder), hear)
            for _ in range(3):
                now = heard
                knock(str(folder))
                await now.wait()
            await wait_all_tasks_blocked()
            assert not heard.is_set()
            nursery.cancel_scope.cancel()

    run(main)


def test_where_no_server_runs_a_knock_is_nothing(run, tmp_path):
    knock(str(tmp_path))
    assert os.listdir(tmp_path) == [MARK]

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(listen, str(tmp_path), trio.lowlevel.checkpoint)
            nursery.cancel_scope.cancel()

    run(main)
    assert set(os.listdir(tmp_path)) == {MARK, NAME}
    knock(str(tmp_path))  # of a server that was killed
    run(main)


def test_a_server_that_is_busy_holds_up_nobody_for_long(run, tmp_path):
    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(listen, str(tmp_path), trio.sleep_forever)
            assert not await trio.to_thread.run_sync(knock, str(tmp_path), 0.1)
            for _ in range(5000):
                assert not knock(str(tmp_path))
            nursery.cancel_scope.cancel()

    run(main)


def test_who_waits_goes_on_when_the_server_has_taken_it_up(run, tmp_path):
    said = []

    async def take_up():
        await trio.sleep(0.05)
        said.append("taken up")

    async def ask():
        assert await trio.to_thread.run_sync(knock, str(tmp_path), 60.0)
        said.append("done")

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(listen, str(tmp_path), take_up)
            await ask()
            assert said == ["taken up", "done"]
            async with trio.open_nursery() as several:
                for _ in range(10):
                    several.start_soon(ask)
            nursery.cancel_scope.cancel()

    run(main)


def test_knocks_of_one_moment_are_one(run, tmp_path):
    times = 0
    first, go_on = trio.Event(), trio.Event()

    async def take_up():
        nonlocal times
        times += 1
        first.set()
        await go_on.wait()

    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(listen, str(tmp_path), take_up)
            knock(str(tmp_path))
            await first.wait()
            for _ in range(20):
                knock(str(tmp_path))
            await wait_all_tasks_blocked()
            go_on.set()
            assert await trio.to_thread.run_sync(knock, str(tmp_path), 60.0)
            assert times <= 3  # the first, the twenty, and perhaps the last by itself
            nursery.cancel_scope.cancel()

    run(main)


def test_after_each_knock_the_last_change_is_another(tmp_path):
    seen = [last_change(str(tmp_path))]
    for _ in range(20):
        knock(str(tmp_path))
        seen.append(last_change(str(tmp_path)))
        assert seen[-1] == last_change(str(tmp_path))
    assert all(one != other for one, other in itertools.pairwise(seen))
