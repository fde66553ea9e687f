"""kill, hold, release, requeue, priority, extend, giving up: who may, when, and what comes of it."""

import pytest

from jobd.life.life import State
from pfs.errors import Kind, PfsError
from tests.jobd.conftest import SECOND_NS
from tests.jobd.engine.drive import driving


def test_a_kill_that_was_acknowledged_is_kept_over_a_crash(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            node = await drive.attach()
            (task,) = await node.starts()
            await node.runs(task.task_id)
            node.leaves()
            await drive.engine.kill(service.ann, job)
        async with driving(service) as drive:
            node = await drive.attach(tasks=[task.task_id])
            await node.stops(task.task_id)
            await node.ends(task.task_id)
            life = await drive.until(job, State.CANCELLED)
            assert life.reason == "killed by ann"

    run(main)


def test_a_job_killed_while_its_start_is_on_its_way_is_stopped_after_it(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            node = await drive.attach()
            await drive.until(job, State.STARTING)
            await drive.engine.kill(service.ann, job)
            await node.stops(f"{job}.1.0.0")
            await node.ends(f"{job}.1.0.0", code=143)
            await drive.until(job, State.CANCELLED)

    run(main)


def test_a_held_job_waits_until_it_is_released_and_says_who_holds_it(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("command: x\nhold: true\n")
            node = await drive.attach()
            await drive.quiet()
            assert node.link.started == []
            assert "held by ann" in drive.engine.why(await drive.job(job))
            await drive.engine.release(service.ann, job)
            await node.starts()
            with pytest.raises(PfsError) as caught:
                await drive.engine.hold(service.ann, job)
            assert caught.value.kind is Kind.BUSY

    run(main)


def test_what_an_admin_holds_only_an_admin_releases(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            await drive.engine.hold(service.admin, job)
            with pytest.raises(PfsError) as caught:
                await drive.engine.release(service.ann, job)
            assert caught.value.kind is Kind.DENIED
            await drive.engine.release(service.admin, job)
            assert (await drive.life(job)).held_by == ""

    run(main)


def test_a_job_that_nobody_holds_cannot_be_released(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            with pytest.raises(PfsError) as caught:
                await drive.engine.release(service.ann, job)
            assert caught.value.kind is Kind.BUSY

    run(main)


def test_a_requeued_job_runs_again_under_its_number(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            with pytest.raises(PfsError) as caught:
                await drive.engine.requeue(service.ann, job)
            assert caught.value.kind is Kind.BUSY
            node = await drive.attach()
            (first,) = await node.starts()
            await node.runs(first.task_id)
            await drive.engine.requeue(service.ann, job)
            await node.stops(first.task_id)
            await node.ends(first.task_id, code=143)
            second = (await node.starts(2))[1]
            assert second.task_id == f"{job}.2.0.0"
            await node.runs(second.task_id)
            await node.ends(second.task_id)
            assert (await drive.until(job, State.SUCCEEDED)).attempt == 2

    run(main)


def test_a_higher_priority_goes_first_and_the_highest_are_for_admins(service, run):
    async def main():
        async with driving(service) as drive:
            first, second = await drive.submit(name="a"), await drive.submit(name="b")
            await drive.engine.set_priority(service.ann, first, 10)
            await drive.quiet()
            assert [job.id for job in drive.engine.queue()] == [second, first]
            with pytest.raises(PfsError) as caught:
                await drive.engine.set_priority(service.ann, first, 51)
            assert caught.value.kind is Kind.DENIED
            await drive.engine.set_priority(service.admin, first, 51)
            assert [job.id for job in drive.engine.queue()] == [first, second]

    run(main)


def test_a_job_without_a_limit_cannot_be_extended(service, run):
    async def main():
        async with driving(service) as drive:
            with pytest.raises(PfsError) as caught:
                await drive.engine.extend(service.ann, await drive.submit(), 60)
            assert caught.value.kind is Kind.INVALID

    run(main)


def test_only_an_admin_gives_up_a_node_and_only_one_that_is_away(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            node = await drive.attach()
            (task,) = await node.starts()
            await node.runs(task.task_id)
            for subject, kind in ((service.ann, Kind.DENIED), (service.admin, Kind.BUSY)):
                with pytest.raises(PfsError) as caught:
                    await drive.engine.give_up(subject, job)
                assert caught.value.kind is kind
            node.leaves()
            await drive.engine.give_up(service.admin, job)
            life = await drive.until(job, State.NODE_LOST)
            assert "root said that the node n0 will not come back" in life.reason

    run(main)


def test_a_signal_reaches_every_process_of_a_gang_that_runs(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("groups: [{name: w, count: 3, command: x}]\n")
            node = await drive.attach()
            tasks = [task.task_id for task in await node.starts(3)]
            await node.runs(*tasks)
            await node.ends(tasks[0])
            await drive.engine.signal(service.ann, job, 10)
            assert sorted(node.link.signals) == [(tasks[1], 10), (tasks[2], 10)]
            node.leaves()
            with pytest.raises(PfsError) as caught:
                await drive.engine.signal(service.ann, job, 10)
            assert caught.value.kind is Kind.BUSY

    run(main)


def test_nobody_commands_somebody_elses_job(service, run):
    async def main():
        async with driving(service) as drive:
            job, engine = await drive.submit("command: x\nmax_duration: 9s\n"), drive.engine
            for command in (
                engine.kill(service.bob, job),
                engine.hold(service.bob, job),
                engine.requeue(service.bob, job),
                engine.set_priority(service.bob, job, 1),
                engine.extend(service.bob, job, 1),
            ):
                with pytest.raises(PfsError) as caught:
                    await command
                assert caught.value.kind is Kind.NOT_FOUND
            service.now_ns += SECOND_NS
            assert (await drive.life(job)).state is State.WAITING

    run(main)
