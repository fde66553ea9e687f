"""Arrays: one text, many tasks, one that stands for all of them."""

import pytest

from jobd.life.life import State
from pfs.errors import PfsError
from tests.jobd.engine.drive import driving

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
            array = await drive.submit(ARRAY)
            node = await drive.attach()
            started = [task.task_id for task in await node.starts(4)]
            await node.runs(*started)
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
            array = await drive.submit("command: x\narray: 0-3%1\n")
            node = await drive.attach()
            (task,) = await node.starts()
            await node.runs(task.task_id)
            node.leaves()
            await drive.engine.kill(service.ann, array)
        async with driving(service) as drive:
            assert (await drive.life(array)).state is State.STOPPING
            node = await drive.attach(tasks=[task.task_id])
            await node.stops(task.task_id)
            await node.ends(task.task_id, code=143)
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
            assert {job.life.state for job in (await drive.engine.ledger.tasks(bad)).values()} == {State.CANCELLED}
            assert (await drive.life(good)).state in (State.PENDING, State.RUNNING)

    run(main)


def test_an_array_whose_tasks_ended_while_it_was_not_told_ends_after_a_crash(service, run, monkeypatch):
    async def main():
        async with driving(service) as drive:
            array = await drive.submit(ARRAY)
            tasks = await tasks_of(drive, array)
            real = service.store.record

            async def record(job_id, events, life, usage=None):
                if job_id == array:
                    raise PfsError("io", "the disk is full")
                await real(job_id, events, life, usage)

            monkeypatch.setattr(service.store, "record", record)
            for number in tasks.values():
                await drive.engine.kill(service.ann, number)
            await drive.quiet()
            assert not (await drive.life(array)).state.over
        monkeypatch.undo()
        async with driving(service) as drive:
            life = await drive.until(array, State.FAILED)
            assert life.reason == "4 of 4 tasks did not succeed"

    run(main)


def test_an_array_that_could_never_run_is_refused_whole(service, run):
    async def main():
        async with driving(service) as drive:
            await drive.attach(runtimes=["docker"])
            with pytest.raises(PfsError):
                await drive.submit("image: busybox\nresources: '[99:X]'\n" + ARRAY)
            assert await service.store.active() == []

    run(main)
