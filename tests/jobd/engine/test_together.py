"""Trainers of PaddleCloud begin together: their tasks run, and their programs wait for the last of them."""

import pytest

from jobd.life.life import State
from pfs.errors import Kind, PfsError
from tests.jobd.engine.drive import Drive, Node, driving

TEXT = "entry: x\nimage: paddle\nparallelism: 2\npservers: 1\n"
TRAINERS = ["1.1.0.0", "1.1.0.1"]
PSERVER = "1.1.1.0"


async def trainers_start(drive: Drive, text: str = TEXT) -> Node:
    """Submit a job, and return the node of which its trainers were asked for."""
    assert await drive.submit(text) == 1
    node = await drive.attach(runtimes=["docker"])
    assert [task.task_id for task in await node.starts()] == [PSERVER]
    await node.runs(PSERVER)
    await node.starts(3)
    return node


def test_they_are_let_go_when_all_of_them_run(service, run):
    async def main():
        async with driving(service) as drive:
            node = await trainers_start(drive)
            assert {task.task_id: task.held for task in node.link.started} == {
                PSERVER: False,
                **dict.fromkeys(TRAINERS, True),
            }
            await node.runs(TRAINERS[1])
            await drive.quiet()
            assert node.link.let_go_tasks == []
            await node.runs(TRAINERS[0])
            await drive.quiet()
            assert sorted(node.link.let_go_tasks) == TRAINERS

    run(main)


def test_a_node_that_comes_back_is_told_again(service, run):
    async def main():
        async with driving(service) as drive:
            node = await trainers_start(drive)
            node.leaves()
            node = await drive.attach(runtimes=["docker"], tasks=[PSERVER, *TRAINERS])
            for times in (1, 2):
                await node.runs(*TRAINERS)
                await drive.quiet()
                assert sorted(node.link.let_go_tasks) == TRAINERS, times
                node.leaves()
                node = await drive.attach(runtimes=["docker"], tasks=[PSERVER, *TRAINERS])

    run(main)


def test_one_that_failed_holds_nobody_up_where_the_others_go_on(service, run):
    async def main():
        async with driving(service) as drive:
            node = await trainers_start(drive, TEXT + "on_error: continue\n")
            await node.runs(TRAINERS[0])
            await node.ends(TRAINERS[1], code=1)
            await drive.quiet()
            assert node.link.let_go_tasks == [TRAINERS[0]]

    run(main)


@pytest.mark.parametrize(
    "text",
    [
        TEXT + "faulttolerant: true\n",
        TEXT + "min_instance: 1\nmax_instance: 3\n",
        "command: x\nimage: y\nresources: '2:[]'\n",
    ],
)
def test_no_other_job_waits(service, run, text):
    async def main():
        async with driving(service) as drive:
            await drive.submit(text)
            node = await drive.attach(runtimes=["docker"])
            tasks = await node.starts(1)
            await node.runs(*(task.task_id for task in tasks))
            await drive.quiet()
            await node.runs(*(task.task_id for task in node.link.started))
            await drive.quiet()
            assert not any(task.held for task in node.link.started)
            assert node.link.let_go_tasks == []

    run(main)


def test_a_node_that_cannot_is_asked_again_until_the_job_is_over(service, run, monkeypatch):
    monkeypatch.setattr("jobd.engine.tasks.AGAIN_S", 0.001)

    async def main():
        async with driving(service) as drive:
            node = await trainers_start(drive)
            refused = [PfsError(Kind.NOT_FOUND, "the node has no such task")] * 3
            let_go = node.link.let_go

            async def at_last(task_id: str) -> None:
                if refused:
                    raise refused.pop()
                await let_go(task_id)

            monkeypatch.setattr(node.link, "let_go", at_last)
            await node.runs(*TRAINERS)
            await node.heard(lambda link: len(link.let_go_tasks) == 2)
            await node.ends(*TRAINERS)
            await node.stops(PSERVER)
            await node.ends(PSERVER, code=143)
            assert (await drive.until(1, State.SUCCEEDED)).exit_code == 0

    run(main)
