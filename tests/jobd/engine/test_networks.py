"""Networks of gangs that span machines: there before a task starts, gone afterwards, whatever happens between."""

import trio

from jobd.life.life import State
from pfs.protocol.channel import ChannelClosed
from tests.jobd.engine.drive import driving

GANG = "image: busybox\ngroups: [{name: a, nodes: [n0], command: x}, {name: b, nodes: [n1], command: y}]\n"
WORKER = {"swarm": "s1", "swarmManager": False}
MANAGER = {"swarm": "s1", "swarmManager": True}


async def two(drive):
    first = await drive.attach("n0", runtimes=["docker"], attrs=WORKER)
    second = await drive.attach("n1", runtimes=["docker"], attrs=MANAGER)
    return first, second


async def dropped(node, network):
    await node.heard(lambda link: ("drop", network) in link.networks)


def test_a_network_is_made_before_the_first_task_and_dropped_after_the_last(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit(GANG)
            first, second = await two(drive)
            tasks = [(await node.starts())[0] for node in (first, second)]
            name = tasks[0].network
            assert second.link.networks == [("make", name)]
            assert [(task.network, task.overlay) for task in tasks] == [(name, True)] * 2
            assert tasks[0].hosts == ((f"a-{job}-0", ""), (f"a-{job}-1", ""))
            for node, task in zip((first, second), tasks, strict=True):
                await node.runs(task.task_id)
                await node.ends(task.task_id)
            await dropped(second, name)
            await drive.quiet()
            assert await service.store.networks() == []

    run(main)


def test_no_task_starts_while_no_manager_is_there_to_make_the_network(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit(GANG)
            first = await drive.attach("n0", runtimes=["docker"], attrs=WORKER)
            second = await drive.attach("n1", runtimes=["docker"], attrs=WORKER)
            await drive.until(job, State.STARTING)
            await drive.quiet()
            assert first.link.started == second.link.started == []
            manager = await drive.attach("n2", runtimes=["docker"], attrs=MANAGER)
            await first.starts()
            await second.starts()
            assert [what for what, _ in manager.link.networks] == ["make"]

    run(main)


def test_a_network_is_asked_for_again_where_its_manager_came_back_while_it_was_asked(service, run):
    async def main():
        async with driving(service) as drive:
            first = await drive.attach("n0", runtimes=["docker"], attrs=WORKER)
            second = await drive.attach("n1", runtimes=["docker"], attrs=WORKER)
            old = await drive.attach("n2", runtimes=["docker"], attrs=MANAGER)
            asked, gone = trio.Event(), trio.Event()

            async def make_network(network):
                asked.set()
                await gone.wait()
                raise ChannelClosed

            old.link.make_network = make_network
            await drive.submit(GANG)
            await asked.wait()
            new = await drive.attach("n2", runtimes=["docker"], attrs=MANAGER)
            await drive.quiet()
            gone.set()
            await first.starts()
            await second.starts()
            assert [what for what, _ in new.link.networks] == ["make"]

    run(main)


def test_a_task_that_a_crash_left_to_be_started_is_started_when_a_manager_comes(service, run):
    async def main():
        manager = {"runtimes": ["docker"], "attrs": MANAGER}
        worker = {"runtimes": ["docker"], "attrs": WORKER}
        async with driving(service) as drive:
            job = await drive.submit(GANG)
            await drive.attach("n2", **manager)
            first = await drive.attach("n0", **worker)
            await drive.attach("n1", **worker)
            (task,) = await first.starts()
            await first.runs(task.task_id)
            await drive.until(job, State.RUNNING)
        async with driving(service) as drive:
            await drive.attach("n0", [task.task_id], **worker)
            second = await drive.attach("n1", **worker)
            await drive.quiet()
            assert second.link.started == []
            await drive.attach("n2", **manager)
            await second.starts()

    run(main)


def test_a_network_left_by_a_crash_is_dropped_when_a_manager_comes(service, run):
    async def main():
        async with driving(service) as drive:
            job = await drive.submit(GANG)
            first, second = await two(drive)
            tasks = [(await node.starts())[0] for node in (first, second)]
            second.leaves()
            await first.runs(tasks[0].task_id)
            await first.ends(tasks[0].task_id, code=1)
            await drive.engine.give_up(service.admin, job)
            await drive.until(job, State.FAILED, State.NODE_LOST)
            await drive.quiet()
        async with driving(service) as drive:
            manager = await drive.attach("n1", runtimes=["docker"], attrs=MANAGER)
            await dropped(manager, tasks[0].network)
            await drive.quiet()
            assert await service.store.networks() == []

    run(main)


def test_a_gang_on_one_machine_has_a_network_that_its_node_makes(service, run):
    async def main():
        async with driving(service) as drive:
            await drive.submit("image: busybox\ngroups: [{name: a, count: 2, command: x}]\n")
            node = await drive.attach("n0", runtimes=["docker"], attrs=MANAGER)
            tasks = await node.starts(2)
            assert tasks[0].network is not None
            assert [(task.network, task.overlay) for task in tasks] == [(tasks[0].network, False)] * 2
            assert node.link.networks == []

    run(main)
