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


def test_a_server_that_is_busy_holds_up_no_command(run, tmp_path):
    async def main():
        async with trio.open_nursery() as nursery:
            await nursery.start(listen, str(tmp_path), trio.sleep_forever)
            for _ in range(5000):
                knock(str(tmp_path))
            nursery.cancel_scope.cancel()

    run(main)


def test_after_each_knock_the_last_change_is_another(tmp_path):
    seen = [last_change(str(tmp_path))]
    for _ in range(20):
        knock(str(tmp_path))
        seen.append(last_change(str(tmp_path)))
        assert seen[-1] == last_change(str(tmp_path))
    assert all(one != other for one, other in itertools.pairwise(seen))
