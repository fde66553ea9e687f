"""Arrays: one text, many tasks, one that stands for all of them."""

from dataclasses import replace

import pytest

from jobd.engine.arrays import Array, was_let_go
from jobd.life.life import State
from pfs.errors import PfsError
from tests.jobd.engine.drive import driving, refuse_events
from tests.jobd.engine.worlds import NOW_S, over, placed, started, waiting

ARRAY = "command: x\narray: 0-3\n"


async def tasks_of(drive, array):
    return {index: job.id for index, job in (await drive.engine.ledger.tasks(array)).items()}


def test_every_task_is_a_job_of_its_own_and_the_array_ends_with_the_last(service, run):
    async def main():
        async with driving(service) as drive:
            array = await drive.submit(ARRAY)
            node = await drive.attach()
            started = [task.task_id for task in await node.starts(4)]
            numbers = await tasks_of(drive, array)
            assert started == [f"{numbers[index]}.1.0.0" for index in range(4)]
            assert [task.env["PFS_TASK_ID"] for task in await node.starts(4)] == ["0", "1", "2", "3"]
            await node.runs(*started)
            await drive.until(array, State.RUNNING)
            await node.ends(*started)
            life = await drive.until(array, State.SUCCEEDED)
            assert (life.exit_code, life.processes) == (0, ())

    run(main)


def test_an_array_whose_tasks_fail_fails_and_says_how_many(service, run):
    async def main():
        async with driving(service) as drive:
            array, node, started = await drive.gang_runs(ARRAY, 4)
            await node.ends(*started[:2], code=3)
            await node.ends(*started[2:])
            life = await drive.until(array, State.FAILED)
            assert (life.exit_code, life.reason) == (3, "2 of 4 tasks did not succeed")

    run(main)


def test_no_more_tasks_run_at_once_than_the_array_wants(service, run):
    async def main():
        async with driving(service) as drive:
            await drive.submit("command: x\narray: 0-3%2\n")
            node = await drive.attach()
            started = await node.starts(2)
            await drive.quiet()
            assert len(node.link.started) == 2
            await node.runs(started[0].task_id)
            await node.ends(started[0].task_id)
            await node.starts(3)
            await drive.quiet()
            assert len(node.link.started) == 3

    run(main)


def test_a_kill_of_the_array_ends_all_tasks_and_is_kept_over_a_crash(service, run):
    async def main():
        async with driving(service) as drive:
            array, node, task = await drive.one_runs("command: x\narray: 0-3%1\n")
            node.leaves()
            await drive.engine.kill(service.ann, array)
        async with driving(service) as drive:
            assert (await drive.life(array)).state is State.STOPPING
            node = await drive.attach(tasks=[task])
            await node.stops(task)
            await node.ends(task, code=143)
            await drive.until(array, State.CANCELLED)
            states = {job.life.state for job in (await drive.engine.ledger.tasks(array)).values()}
            assert states == {State.CANCELLED}

    run(main)


def test_hold_release_and_priority_of_the_array_go_to_the_tasks_that_wait(service, run):
    async def main():
        async with driving(service) as drive:
            array = await drive.submit("command: x\narray: 0-1\nhold: true\n")
            node = await drive.attach()
            await drive.quiet()
            assert node.link.started == []
            await drive.engine.set_priority(service.ann, array, 7)
            tasks = await drive.engine.ledger.tasks(array)
            assert {job.life.priority for job in tasks.values()} == {7}
            assert {job.life.held_by for job in tasks.values()} == {"ann"}
            await drive.engine.release(service.ann, array)
            await node.starts(2)

    run(main)


def test_an_array_that_waits_for_a_job_starts_its_tasks_after_it_or_none(service, run):
    async def main():
        async with driving(service) as drive:
            first = await drive.submit()
            good = await drive.submit(f"command: x\narray: 0-1\ndepends_on: [{first}]\n", name="b")
            bad = await drive.submit(f"command: x\narray: 0-1\ndepends_on: ['afternotok:{first}']\n", name="c")
            node = await drive.attach()
            (task,) = await node.starts()
            await node.runs(task.task_id)
            await drive.quiet()
            assert len(node.link.started) == 1
            await node.ends(task.task_id)
            await node.starts(3)
            life = await drive.until(bad, State.CANCELLED)
            assert f"job {first}" in life.reason
            tasks = [job.life for job in (await drive.engine.ledger.tasks(bad)).values()]
            assert {(task.state, task.reason) for task in tasks} == {(State.CANCELLED, life.reason)}
            assert (await drive.life(good)).state in (State.PENDING, State.RUNNING)

    run(main)


def test_an_array_whose_tasks_ended_while_it_was_not_told_ends_after_a_crash(service, run, monkeypatch):
    async def main():
        async with driving(service) as drive:
            array = await drive.submit(ARRAY)
            tasks = await tasks_of(drive, array)
            refuse_events(service, monkeypatch, lambda job_id, _events: job_id == array)
            for number in tasks.values():
                await drive.engine.kill(service.ann, number)
            await drive.quiet()
            assert not (await drive.life(array)).state.over
        monkeypatch.undo()
        async with driving(service) as drive:
            life = await drive.until(array, State.FAILED)
            assert life.reason == "4 of 4 tasks did not succeed"

    run(main)


@pytest.mark.parametrize("is_running", [False, True])
def test_tasks_go_on_although_what_the_array_waited_for_was_removed_before_all_of_them_were_told(
    service, run, monkeypatch, is_running
):
    async def main():
        async with driving(service) as drive:
            first = await drive.submit()
            array = await drive.submit(f"command: x\narray: 0-1\ndepends_on: ['afterany:{first}']\n", name="b")
            tasks = await tasks_of(drive, array)
            refuse_events(service, monkeypatch, lambda job_id, _events: job_id == tasks[1])
            await drive.engine.kill(service.ann, first)
            await drive.until(tasks[0], State.WAITING)
            if is_running:
                node = await drive.attach()
                (task,) = await node.starts()
                await node.runs(task.task_id)
                await drive.until(array, State.RUNNING)
        monkeypatch.undo()
        await service.store.remove(first, service.now_ns)
        async with driving(service) as drive:
            await drive.until(tasks[1], State.WAITING)

    run(main)


def test_an_array_that_could_never_run_is_refused_whole(service, run):
    async def main():
        async with driving(service) as drive:
            await drive.attach(runtimes=["docker"])
            with pytest.raises(PfsError):
                await drive.submit("image: busybox\nresources: '[99:X]'\n" + ARRAY)
            assert await service.store.active() == []

    run(main)


@pytest.mark.parametrize("taken_up", [True, False])
def test_the_exit_code_of_an_array_is_that_of_the_first_that_failed_in_whatever_order_one_hears_of_it(taken_up):
    def task(number: int, code: int, after_s: float):
        ran = started(placed(waiting(number), "cmn0"))
        return ran, over(ran, code=code, at_s=NOW_S + after_s)

    tasks = [task(1, 0, 1), task(2, 2, 30), task(3, 3, 10), task(4, 4, 20)]
    array = Array.of(None, [after if taken_up else before for before, after in tasks])
    for _, after in tasks:
        array.ended(after)
    assert array.result == (3, "3 of 4 tasks did not succeed")


@pytest.mark.parametrize(
    ("array", "tasks", "let_go"),
    [
        (State.PENDING, (State.PENDING, State.PENDING), False),
        (State.PENDING, (State.PENDING, State.WAITING), True),
        (State.RUNNING, (State.PENDING,), True),  # the one that ran is over
    ],
)
def test_an_array_was_let_go_where_a_task_waits_for_nodes_or_ever_ran(array, tasks, let_go):
    life = waiting(1).life
    assert was_let_go(replace(life, state=array), [replace(life, state=state) for state in tasks]) is let_go
