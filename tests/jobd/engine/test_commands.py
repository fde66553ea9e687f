"""kill, hold, release, requeue, priority, extend, giving up: who may, when, and what comes of it."""

import trio
import trio.testing

from jobd.life.life import State
from pfs.errors import Kind
from tests.jobd.conftest import SECOND_NS
from tests.jobd.engine.drive import driving, refusal


def test_a_kill_that_was_acknowledged_is_kept_over_a_crash(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await drive.one_runs()
            node.leaves()
            await drive.engine.kill(service.ann, job)
        async with driving(service) as drive:
            node = await drive.attach(tasks=[task])
            await node.stops(task)
            await node.ends(task)
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


def test_a_job_killed_while_its_start_is_made_ready_is_not_started(service, run, monkeypatch):
    async def main():
        async with driving(service) as drive:
            making, let = trio.Event(), trio.Event()

            async def make(_job):
                making.set()
                await let.wait()

            monkeypatch.setattr(drive.engine._flow.workshop, "make", make)
            job, node = await drive.submit(), await drive.attach()
            await making.wait()
            await drive.engine.kill(service.ann, job)
            let.set()
            await node.stops(f"{job}.1.0.0")
            assert node.link.started == []

    run(main)


def test_a_job_held_in_the_moment_in_which_it_is_placed_waits_and_starts_once_it_is_released(service, run):
    async def main():
        async with driving(service) as drive, trio.open_nursery() as nursery:
            job = await drive.submit()
            async with drive.engine.ledger.get(job).lock:
                nursery.start_soon(drive.engine.hold, service.ann, job)
                await trio.testing.wait_all_tasks_blocked()
                node = await drive.attach()
                await trio.testing.wait_all_tasks_blocked()
            await drive.quiet()
            assert (await drive.life(job)).state is State.WAITING
            await drive.engine.release(service.ann, job)
            await drive.quiet()
            assert len(node.link.started) == 1

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
            assert await refusal(drive.engine.hold(service.ann, job)) is Kind.BUSY

    run(main)


def test_what_an_admin_holds_only_an_admin_releases(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            await drive.engine.hold(service.admin, job)
            assert await refusal(drive.engine.release(service.ann, job)) is Kind.DENIED
            await drive.engine.release(service.admin, job)
            assert (await drive.life(job)).held_by == ""

    run(main)


def test_a_job_that_nobody_holds_cannot_be_released(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            assert await refusal(drive.engine.release(service.ann, job)) is Kind.BUSY

    run(main)


def test_a_held_job_is_requeued_by_being_let_go_on(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            await drive.engine.hold(service.ann, job)
            node = await drive.attach()
            await drive.quiet()
            await drive.engine.requeue(service.ann, job)
            (task,) = await node.starts()
            assert task.task_id == f"{job}.1.0.0"  # nothing of it ran before
            await drive.quiet()
            assert "[daemon] Requeued by user ann" in await drive.texts(job)

    run(main)


def test_what_an_admin_holds_only_an_admin_requeues(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            await drive.engine.hold(service.admin, job)
            assert await refusal(drive.engine.requeue(service.ann, job)) is Kind.DENIED
            await drive.engine.requeue(service.admin, job)
            assert (await drive.life(job)).held_by == ""

    run(main)


def test_a_held_array_is_requeued_with_its_tasks(service, run):
    async def main():
        async with driving(service) as drive:
            array = await drive.submit("command: x\narray: 0-1\n")
            await drive.engine.hold(service.ann, array)
            await drive.engine.requeue(service.ann, array)
            tasks = await drive.engine.ledger.tasks(array)
            assert [each.life.held_by for each in (await drive.job(array), *tasks.values())] == ["", "", ""]
            assert await refusal(drive.engine.requeue(service.ann, array)) is Kind.BUSY

    run(main)


def test_a_requeued_job_runs_again_under_its_number(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit()
            assert await refusal(drive.engine.requeue(service.ann, job)) is Kind.BUSY
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
            assert await refusal(drive.engine.set_priority(service.ann, first, 51)) is Kind.DENIED
            await drive.engine.set_priority(service.admin, first, 51)
            assert [job.id for job in drive.engine.queue()] == [first, second]

    run(main)


def test_a_job_without_a_limit_cannot_be_extended(service, run):
    async def main():
        async with driving(service) as drive:
            assert await refusal(drive.engine.extend(service.ann, await drive.submit(), 60)) is Kind.INVALID

    run(main)


def test_only_an_admin_gives_up_a_node_and_only_one_that_is_away(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, _ = await drive.one_runs()
            for subject, kind in ((service.ann, Kind.DENIED), (service.admin, Kind.BUSY)):
                assert await refusal(drive.engine.give_up(subject, job)) is kind
            node.leaves()
            await drive.engine.give_up(service.admin, job)
            life = await drive.until(job, State.NODE_LOST)
            assert "root said that the node n0 will not come back" in life.reason

    run(main)


def test_a_signal_reaches_every_process_of_a_gang_that_runs(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, tasks = await drive.gang_runs("groups: [{name: w, count: 3, command: x}]\n", 3)
            await node.ends(tasks[0])
            await drive.engine.signal(service.ann, job, 10)
            assert sorted(node.link.signals) == [(tasks[1], 10), (tasks[2], 10)]
            node.leaves()
            assert await refusal(drive.engine.signal(service.ann, job, 10)) is Kind.BUSY

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
                assert await refusal(command) is Kind.NOT_FOUND
            service.now_ns += SECOND_NS
            assert (await drive.life(job)).state is State.WAITING

    run(main)
