"""Nodes that come, go, come back as others, and fall silent."""

import trio

from jobd.engine.fleet import NodeState
from jobd.life.life import State
from jobd.wire import CUT_OFF, Wanted
from tests.jobd.conftest import SECOND_NS
from tests.jobd.engine.drive import driving


async def run_one(drive, text="command: x\n"):
    job = await drive.submit(text)
    node = await drive.attach()
    (task,) = await node.starts()
    await node.runs(task.task_id)
    return job, node, task.task_id


def test_a_node_that_was_started_again_has_lost_what_ran_and_nothing_that_did_not(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await run_one(drive)
            node.leaves()
            again = await drive.attach(tasks=[task], boot_id="another")
            life = await drive.until(job, State.NODE_LOST)
            assert "started again" in life.reason
            assert again.standings[task].wanted is Wanted.FORGET

    run(main)


def test_a_gang_of_which_one_node_is_lost_ends_on_the_others(service, run):
    async def main():
        async with driving(service) as drive:
            text = "groups: [{name: a, nodes: [n0], command: x}, {name: b, nodes: [n1], command: y}]\n"
            job = await drive.submit(text)
            first, second = await drive.attach("n0"), await drive.attach("n1")
            tasks = [(await node.starts())[0].task_id for node in (first, second)]
            await first.runs(tasks[0])
            await second.runs(tasks[1])
            first.leaves()
            await drive.attach("n0", boot_id="another")
            await second.stops(tasks[1])
            await second.ends(tasks[1], code=143)
            life = await drive.until(job, State.NODE_LOST)
            assert life.exit_code == 125

    run(main)


def test_a_node_that_is_away_keeps_its_job_and_the_job_says_so(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await run_one(drive)
            node.leaves()
            service.now_ns += 70 * SECOND_NS
            await drive.quiet()
            assert (await drive.life(job)).state is State.RUNNING
            assert drive.engine.why(await drive.job(job)).startswith("its node n0 is UNKNOWN, not heard of since 2023-")
            node = await drive.attach(tasks=[task])
            assert node.standings[task].wanted is Wanted.RUN
            await node.ends(task)
            await drive.until(job, State.SUCCEEDED)

    run(main)


def test_a_silent_node_gets_no_new_work_until_it_is_heard_again(service, run):
    async def main():
        async with driving(service) as drive:
            node = await drive.attach()
            service.now_ns += 16 * SECOND_NS
            await drive.quiet()
            assert drive.engine.fleet.state(node.id) is NodeState.SUSPECT
            await drive.submit()
            await drive.quiet()
            assert node.link.started == []
            drive.engine.heard(node.id)
            assert drive.engine.fleet.state(node.id) is NodeState.ONLINE
            await node.starts()

    run(main)


def test_a_job_that_may_run_elsewhere_does_after_ninety_seconds_of_silence_and_no_other(service, run):
    async def main():
        async with driving(service) as drive:
            text = "command: x\nretry: {max: 1, on: [node]}\n"
            job, node, task = await run_one(drive, text)
            assert node.link.started[0].watchdog_s == 60.0
            node.leaves()
            service.now_ns += 80 * SECOND_NS
            other = await drive.attach("n1")
            await drive.quiet()
            assert other.link.started == []
            service.now_ns += 11 * SECOND_NS
            await drive.until(job, State.WAITING, State.STARTING, attempt=2)
            drive.engine.heard(other.id)
            (again,) = await other.starts()
            assert again.task_id == f"{job}.2.0.0"
            back = await drive.attach(tasks=[task])
            assert back.standings[task].wanted is Wanted.FORGET

    run(main)


def test_silence_from_before_the_server_was_started_does_not_count(service, run):
    async def main():
        async with driving(service) as drive:
            job, _, _ = await run_one(drive, "command: x\nretry: {max: 1, on: [node]}\n")
        service.now_ns += 1000 * SECOND_NS
        async with driving(service) as drive:
            await drive.quiet()
            assert (await drive.life(job)).state is State.RUNNING
            service.now_ns += 91 * SECOND_NS
            await drive.until(job, State.WAITING, attempt=2)

    run(main)


def test_a_job_given_up_while_its_node_comes_back_is_forgotten_there(service, run, monkeypatch):
    async def main():
        async with driving(service) as drive:
            job, node, task = await run_one(drive)
            node.leaves()
            real = drive.engine.logs.offset_of

            async def offset_of(*args):
                offset = await real(*args)
                await drive.engine.give_up(service.admin, job)
                return offset

            monkeypatch.setattr(drive.engine.logs, "offset_of", offset_of)
            back = await drive.attach(tasks=[task])
            assert back.standings[task].wanted is Wanted.FORGET

    run(main)


def test_a_start_that_broke_with_its_connection_is_asked_again_when_the_node_is_back(service, run):
    async def main():
        from pfs.protocol.channel import ChannelClosed

        async with driving(service) as drive:
            job = await drive.submit()
            node = await drive.attach()
            node.leaves()
            asked = trio.Event()

            class Broken(type(node.link)):
                async def start(self, task):
                    asked.set()
                    raise ChannelClosed

            broken = Broken()
            await drive.engine.attach(service.node(), broken, [])
            with trio.fail_after(20):
                await asked.wait()
            drive.engine.detach(node.id, broken)
            again = await drive.attach()
            (task,) = await again.starts()
            assert task.task_id == f"{job}.1.0.0"

    run(main)


def test_a_clock_that_is_ahead_moves_no_time_limit(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("command: x\nmax_duration: 100s\n")
            node = await drive.attach()
            (task,) = await node.starts()
            await drive.engine.running(node.id, task.task_id, service.now_ns + 3600 * SECOND_NS)
            assert (await drive.life(job)).started_at_ns == service.now_ns

    run(main)


def test_every_process_of_a_gang_has_an_offset_of_its_own(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit("groups: [{name: w, count: 2, command: x}]\n")
            node = await drive.attach()
            tasks = [task.task_id for task in await node.starts(2)]
            await node.runs(*tasks)
            await drive.engine.output(node.id, tasks[1], 0, [(service.now_ns, 6)], b"hello\n")
            assert "[worker 1] hello" in await drive.texts(job)
            back = await drive.attach(tasks=tasks)
            assert [back.standings[task].offset for task in tasks] == [0, 6]

    run(main)


def test_what_a_node_ended_for_want_of_contact_is_lost_and_starts_again(service, run):
    async def main():
        async with driving(service) as drive:
            job, node, task = await run_one(drive, "command: x\nretry: {max: 1, on: [node]}\n")
            await node.ends(task, code=0, reason=CUT_OFF)
            second = (await node.starts(2))[-1]
            assert second.task_id == f"{job}.2.0.0"
            assert second.watchdog_s == 60.0
            await node.runs(second.task_id)
            await node.ends(second.task_id)
            await drive.until(job, State.SUCCEEDED)

    run(main)
